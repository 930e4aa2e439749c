//! Texts of strangers, made harmless: nothing in a line can end it, or look like another part of it.

/// Appends `text` as it stands between the quotes of JSON (RFC 8259, section 7).
///
/// Control octets are escaped, and so is what is not UTF-8: each such octet becomes the character of the same number.
pub(super) fn json(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(|octet| is_special(*octet)) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                octet @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', octet]),
                octet => unicode(out, octet),
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        chunk.invalid().iter().for_each(|octet| unicode(out, *octet));
    }
}

fn is_special(octet: u8) -> bool {
    octet < b' ' || matches!(octet, b'"' | b'\\' | 0x7F)
}

fn unicode(out: &mut Vec<u8>, octet: u8) {
    out.extend_from_slice(b"\\u00");
    hexadecimal(out, octet);
}

/// Appends `text` as HAProxy writes it (its manual, section 8.6): `#` and two digits for what is not printable, `"`, `#`,
/// and in values of fields also `{`, `|` and `}`.
pub(super) fn httplog(out: &mut Vec<u8>, text: &[u8], is_field: bool) {
    for octet in text {
        match octet {
            b'"' | b'#' => sharp(out, *octet),
            b'{' | b'|' | b'}' if is_field => sharp(out, *octet),
            b' '..=b'~' => out.push(*octet),
            octet => sharp(out, *octet),
        }
    }
}

fn sharp(out: &mut Vec<u8>, octet: u8) {
    out.push(b'#');
    hexadecimal(out, octet);
}

fn hexadecimal(out: &mut Vec<u8>, octet: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
}

/// Appends `number` in decimal digits.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_octets_make_a_text_of_json_without_control_octets(text: Vec<u8>) {
            let mut out = b"\"".to_vec();
            json(&mut out, &text);
            out.push(b'"');
            prop_assert!(out.iter().all(|octet| *octet >= b' ' && *octet != 0x7F));
            let read: String = serde_json::from_slice(&out).expect("a text");
            if let Ok(text) = std::str::from_utf8(&text) {
                prop_assert_eq!(read, text);
            }
        }

        #[test]
        fn any_octets_are_printable_in_httplog_and_end_no_part(text: Vec<u8>) {
            let mut out = Vec::new();
            httplog(&mut out, &text, true);
            let is_harmless = |octet: &u8| matches!(octet, b' '..=b'~') && !b"\"{|}".contains(octet);
            prop_assert!(out.iter().all(is_harmless));
        }

        #[test]
        fn numbers_are_written_as_they_are(value: u64) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }

    #[test]
    fn haproxys_escapes_are_its_own() {
        let mut out = Vec::new();
        httplog(&mut out, b"a\r\n{|}#\"", false);
        assert_eq!(out, b"a#0D#0A{|}#23#22");
    }
}
