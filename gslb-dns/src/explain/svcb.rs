//! The data of HTTPS and SVCB records as in a master file (RFC 9460, section 2.1).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::Name;

/// `data`, the octets of a record, as text; `None` when they are malformed.
pub(super) fn presented(data: &[u8]) -> Option<String> {
    let (priority, rest) = data.split_first_chunk()?;
    let (target, mut rest) = Name::split_from(rest)?;
    let mut text = format!("{} {}", u16::from_be_bytes(*priority), Name::from_wire(target));
    while !rest.is_empty() {
        let (key, after) = rest.split_first_chunk()?;
        let (len, after) = after.split_first_chunk()?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let key = u16::from_be_bytes(*key);
        // Writing to a text does not fail.
        let _ = write!(text, " {}", key_name(key));
        if let Some(value) = presented_value(key, value)? {
            let _ = write!(text, "={value}");
        }
        rest = after;
    }
    Some(text)
}

/// Keys whose values are not read here stand by number, which every reader takes (RFC 9460, section 2.1).
fn key_name(key: u16) -> String {
    let name = match key {
        MANDATORY => "mandatory",
        ALPN => "alpn",
        NO_DEFAULT_ALPN => "no-default-alpn",
        PORT => "port",
        IPV4_HINT => "ipv4hint",
        IPV6_HINT => "ipv6hint",
        _ => return format!("key{key}"),
    };
    name.to_owned()
}

/// `Some(None)`: the key stands without a value.
fn presented_value(key: u16, value: &[u8]) -> Option<Option<String>> {
    let text = match key {
        MANDATORY => list(value, |key: [u8; 2]| key_name(u16::from_be_bytes(key)))?,
        ALPN => character_string(&protocol_list(value)?),
        PORT => u16::from_be_bytes(value.try_into().ok()?).to_string(),
        IPV4_HINT => list(value, |address: [u8; 4]| Ipv4Addr::from(address).to_string())?,
        IPV6_HINT => list(value, |address: [u8; 16]| Ipv6Addr::from(address).to_string())?,
        _ if value.is_empty() => return Some(None),
        _ => character_string(value),
    };
    Some(Some(text))
}

/// A value of items of one length, with commas between them.
fn list<const N: usize>(value: &[u8], show: impl Fn([u8; N]) -> String) -> Option<String> {
    let (items, rest) = value.as_chunks();
    let is_whole = rest.is_empty() && !items.is_empty();
    is_whole.then(|| items.iter().map(|&item| show(item)).collect::<Vec<_>>().join(","))
}

/// Protocol ids with commas between them; within one a comma and a backslash are escaped (RFC 9460, appendix A.1).
fn protocol_list(mut value: &[u8]) -> Option<Vec<u8>> {
    let mut ids = Vec::new();
    while let Some((&len, after)) = value.split_first() {
        let (id, rest) = after.split_at_checked(usize::from(len))?;
        let escaped = id.iter().flat_map(|&octet| match octet {
            b',' | b'\\' => vec![b'\\', octet],
            _ => vec![octet],
        });
        ids.push(escaped.collect::<Vec<u8>>());
        value = rest;
    }
    (!ids.is_empty()).then(|| ids.join(&b','))
}

/// Quoted only where it must be (RFC 1035, section 5.1).
pub(super) fn character_string(octets: &[u8]) -> String {
    let mut text = String::new();
    for &octet in octets {
        // Writing to a text does not fail.
        let _ = match octet {
            b'"' | b'\\' => write!(text, "\\{}", char::from(octet)),
            b' '..=b'~' => write!(text, "{}", char::from(octet)),
            _ => write!(text, "\\{octet:03}"),
        };
    }
    if text.is_empty() || text.contains([' ', ';', '(', ')']) { format!("\"{text}\"") } else { text }
}

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn param(key: u16, value: &[u8]) -> Vec<u8> {
        [&key.to_be_bytes(), &(value.len() as u16).to_be_bytes(), value].concat()
    }

    #[test]
    fn parameters_are_written_as_zone_files_have_them() {
        let hints = [[127, 0, 2, 10], [127, 0, 2, 11]].concat();
        let address = "2001:db8::1".parse::<Ipv6Addr>().expect("valid").octets();
        let data = [
            vec![0, 1, 0],
            param(MANDATORY, &[0, 1, 0, 3]),
            param(ALPN, b"\x02h2\x08http/1.1"),
            param(NO_DEFAULT_ALPN, b""),
            param(PORT, &8443_u16.to_be_bytes()),
            param(IPV4_HINT, &hints),
            param(IPV6_HINT, &address),
            param(667, b"hello \xd2\"qoo"),
        ];
        assert_eq!(
            presented(&data.concat()).as_deref(),
            Some(
                "1 . mandatory=alpn,port alpn=h2,http/1.1 no-default-alpn port=8443 ipv4hint=127.0.2.10,127.0.2.11 \
                 ipv6hint=2001:db8::1 key667=\"hello \\210\\\"qoo\""
            )
        );
        assert_eq!(presented(b"\0\0\x03foo\x07example\0").as_deref(), Some("0 foo.example."));
    }

    #[test]
    fn commas_and_backslashes_in_protocol_ids_are_escaped_twice() {
        let data = [vec![0, 16, 0], param(ALPN, b"\x08f\\oo,bar\x02h2")].concat();
        assert_eq!(presented(&data).as_deref(), Some(r"16 . alpn=f\\\\oo\\,bar,h2"));
    }

    proptest! {
        #[test]
        fn any_octets_are_safe_and_the_text_is_one_line(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = presented(&data).unwrap_or_default();
            prop_assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text}");
        }
    }
}
