//! Names of fields that programs behind a gateway cannot tell apart.

/// Whether `name` reads as `wanted` does, whatever the case of letters, and with `_` for `-` (RFC 3875, section 4.1.18:
/// `HTTP_X_FORWARDED_FOR` is made of both `X-Forwarded-For` and `X_Forwarded_For`).
///
/// What is removed or set by the one name would come through by the other.
pub fn reads_as(name: &str, wanted: &str) -> bool {
    let plain = |octet: u8| if octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    name.len() == wanted.len() && name.bytes().map(plain).eq(wanted.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_underscores_make_no_difference() {
        for name in ["X-Forwarded-For", "x-forwarded-for", "X_Forwarded_For", "X-Forwarded_FOR"] {
            assert!(reads_as(name, "X-Forwarded-For"), "{name}");
        }
        for name in ["X-Forwarded-Fo", "X-Forwarded-Fox", "XX-Forwarded-For", "X.Forwarded-For"] {
            assert!(!reads_as(name, "X-Forwarded-For"), "{name}");
        }
    }
}
