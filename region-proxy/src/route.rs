//! From the host of a request to the name of a service.

use std::borrow::Cow;

/// `host`, which has no port, in the form that services are named: lower case, without final dot.
///
/// Allocates only for upper case. An IPv6 address keeps its brackets.
pub fn host(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let has_upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_compared_without_case_and_final_dot() {
        for text in ["www.example.com", "WWW.Example.com", "www.example.com.", "www.EXAMPLE.com"] {
            assert_eq!(host(text), "www.example.com", "{text}");
        }
        assert_eq!(host("[2001:DB8::1]"), "[2001:db8::1]");
    }
}
