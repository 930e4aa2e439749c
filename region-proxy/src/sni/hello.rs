//! The first message of a TLS client, which says in the clear whom it wants: read without decrypting anything.
//!
//! ```text
//! TLSPlaintext  type = 22, version, length, fragment     as many as the client likes (RFC 8446, section 5.1)
//! Handshake     type = 1, length (24 bits), ClientHello  (section 4)
//! ClientHello   version, random, session id, cipher suites, compression methods, extensions (section 4.1.2)
//! server_name   list of: type = 0, host name             (RFC 6066, section 3)
//! ```

use std::borrow::Cow;

/// What the first octets of a connection say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hello {
    /// More of them are needed.
    Partial,
    /// They ask for this name, in lower case.
    Named(Box<str>),
    /// They ask for none: a ClientHello without, or no TLS at all.
    Nameless,
}

/// Why a connection cannot be passed on: servers might read another name in it, or wait for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHello {
    /// It breaks its grammar.
    #[error("malformed ClientHello")]
    Malformed,
    /// Not whole within [`LEN_MAX`] octets.
    #[error("ClientHello of more than {LEN_MAX} octets")]
    TooLong,
}

/// The longest ClientHello that is read, with its framing: with large keys and tickets they take two to three kilobytes.
pub const LEN_MAX: usize = 16 * 1024;

/// Reads the ClientHello that `bytes` begin with.
pub fn read(bytes: &[u8]) -> Result<Hello, BadHello> {
    let is_tls = |bytes: &[u8]| bytes.iter().zip([HANDSHAKE, VERSION_MAJOR]).all(|(found, right)| *found == right);
    if !is_tls(bytes) {
        return Ok(Hello::Nameless);
    }
    match message(bytes)? {
        Some(message) => {
            let name = name(&mut Reader(&message)).ok_or(BadHello::Malformed)?;
            Ok(name.map_or(Hello::Nameless, Hello::Named))
        }
        None if bytes.len() >= LEN_MAX => Err(BadHello::TooLong),
        None => Ok(Hello::Partial),
    }
}

/// The first handshake message of `bytes`, put together from its records; `None` while it is not whole.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, BadHello> {
    let mut records = Reader(bytes);
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        let Some(head) = records.take(RECORD_HEAD_LEN) else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if head[0] != HANDSHAKE || head[1] != VERSION_MAJOR || !(1..=RECORD_LEN_MAX).contains(&len) {
            return Err(BadHello::Malformed);
        }
        // A fragment that is still coming in can tell already that the message is none of these.
        let fragment = records.take(len).ok_or(records.0);
        let (Ok(piece) | Err(piece)) = fragment;
        if joined.is_empty() {
            joined = Cow::Borrowed(piece);
        } else {
            joined.to_mut().extend_from_slice(piece);
        }
        let whole = whole_len(&joined)?;
        if let Some(whole) = whole.filter(|whole| joined.len() >= *whole) {
            return Ok(Some(match joined {
                Cow::Borrowed(message) => Cow::Borrowed(&message[HEAD_LEN..whole]),
                Cow::Owned(message) => Cow::Owned(message[HEAD_LEN..whole].to_vec()),
            }));
        }
        if fragment.is_err() {
            return Ok(None);
        }
    }
}

/// How long the message is that `start` begins, with its head; `None` while that is not there.
fn whole_len(start: &[u8]) -> Result<Option<usize>, BadHello> {
    if start.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(BadHello::Malformed);
    }
    let Some(&[_, high, middle, low]) = start.get(..HEAD_LEN) else { return Ok(None) };
    let whole = HEAD_LEN + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
    if whole > LEN_MAX { Err(BadHello::TooLong) } else { Ok(Some(whole)) }
}

/// The name in a ClientHello; outer `None` where it breaks its grammar.
fn name(hello: &mut Reader<'_>) -> Option<Option<Box<str>>> {
    hello.take(VERSION_LEN + RANDOM_LEN)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    if hello.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Reader(hello.vector(2)?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.take(2)?;
        let content = extensions.vector(2)?;
        if kind == SERVER_NAME {
            // RFC 8446, section 4.2: each kind at most once.
            if found.is_some() {
                return None;
            }
            found = Some(host_name(content)?);
        }
    }
    hello.0.is_empty().then_some(found)
}

/// The one host name of the extension.
fn host_name(content: &[u8]) -> Option<Box<str>> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.vector(2)?);
    let (kind, name) = (list.take(1)?, list.vector(2)?);
    let is_name = |name: &[u8]| (1..=NAME_LEN_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    if kind != HOST_NAME || !is_name(name) || !list.0.is_empty() || !outer.0.is_empty() {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase().into_boxed_str())
}

/// What is left to read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// What comes behind its length, which has so many octets.
    fn vector(&mut self, len_octets: usize) -> Option<&'b [u8]> {
        let len = self.take(len_octets)?.iter().fold(0, |len, octet| len << 8 | usize::from(*octet));
        self.take(len)
    }
}

const HANDSHAKE: u8 = 22;
const VERSION_MAJOR: u8 = 3;
const RECORD_HEAD_LEN: usize = 5;
const RECORD_LEN_MAX: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const HEAD_LEN: usize = 4;
const VERSION_LEN: usize = 2;
const RANDOM_LEN: usize = 32;
const SERVER_NAME: &[u8] = &[0, 0];
const HOST_NAME: &[u8] = &[0];
/// A DNS name in text, with its final dot.
const NAME_LEN_MAX: usize = 254;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(len_octets: usize, content: &[u8]) -> Vec<u8> {
        let len = (content.len() as u32).to_be_bytes();
        [&len[4 - len_octets..], content].concat()
    }

    fn extension(names: &[(u8, &[u8])]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|(kind, name)| [vec![*kind], vector(2, name)].concat()).collect();
        [&[0, 0][..], &vector(2, &vector(2, &list))].concat()
    }

    /// A handshake message with these extensions.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let start = [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), &vector(2, &[0x13, 1]), &vector(1, &[0])].concat();
        let other = [&[0, 43][..], &vector(2, &[2, 3, 4])].concat();
        [&[1][..], &vector(3, &[start, vector(2, &[&other, extensions].concat())].concat())].concat()
    }

    /// The same in records of at most `len` octets.
    fn records(message: &[u8], len: usize) -> Vec<u8> {
        message.chunks(len).flat_map(|fragment| [&[22, 3, 1][..], &vector(2, fragment)].concat()).collect()
    }

    fn named(name: &str) -> Result<Hello, BadHello> {
        Ok(Hello::Named(name.into()))
    }

    #[test]
    fn the_name_is_found_however_the_message_is_cut() {
        let message = hello(&extension(&[(0, b"Www.Example.com")]));
        for len in [1, 2, 3, 4, 5, 50, 1000] {
            let bytes = records(&message, len);
            assert_eq!(read(&bytes), named("www.example.com"), "{len}");
            for cut in 1..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Ok(Hello::Partial), "{len}, {cut}");
            }
            // What follows is not looked at.
            assert_eq!(read(&[&bytes[..], b"rest"].concat()), named("www.example.com"));
        }
    }

    #[test]
    fn what_asks_for_no_name_has_none() {
        assert_eq!(read(&records(&hello(&[]), 100)), Ok(Hello::Nameless));
        for other in [&b"SSH-2.0-x\r\n"[..], b"\x16\x02\x00", b"\x80\x2e\x01\x03\x01", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(read(other), Ok(Hello::Nameless), "{}", other.escape_ascii());
        }
        assert_eq!(read(b""), Ok(Hello::Partial));
    }

    #[test]
    fn what_servers_might_read_in_another_way_is_refused() {
        let one = extension(&[(0, b"a.test")]);
        for (why, extensions) in [
            ("two extensions", [one.clone(), one.clone()].concat()),
            ("two names", extension(&[(0, b"a.test"), (0, b"b.test")])),
            ("another kind", extension(&[(1, b"a.test")])),
            ("no name", extension(&[])),
            ("an empty name", extension(&[(0, b"")])),
            ("a zero", extension(&[(0, b"a.test\0b.test")])),
            ("a blank", extension(&[(0, b"a .test")])),
            ("not ASCII", extension(&[(0, "é.test".as_bytes())])),
            ("too long", extension(&[(0, &[b'a'; 255])])),
            ("cut", one[..one.len() - 1].to_vec()),
        ] {
            assert_eq!(read(&records(&hello(&extensions), 1000)), Err(BadHello::Malformed), "{why}");
        }
        for (why, bytes) in [
            ("an empty record", &b"\x16\x03\x01\x00\x00"[..]),
            ("a long record", b"\x16\x03\x01\x40\x01"),
            ("another message", b"\x16\x03\x01\x00\x04\x02"),
            ("an alert between", b"\x16\x03\x01\x00\x01\x01\x15\x03\x01\x00\x02"),
        ] {
            assert_eq!(read(bytes), Err(BadHello::Malformed), "{why}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        assert_eq!(read(b"\x16\x03\x01\x10\x00\x01\x00\x50\x00"), Err(BadHello::TooLong));
        let slow = records(&vec![1; 1][..], 1).repeat(1);
        assert_eq!(read(&slow), Ok(Hello::Partial));
        let long = hello(&[&[0, 21][..], &vector(2, &vec![0; 12_000])].concat());
        assert_eq!(read(&records(&long, 1)[..LEN_MAX]), Err(BadHello::TooLong));
    }

    proptest! {
        #[test]
        fn any_octets_are_a_hello_or_none(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&octets);
            let _ = read(&[&[22, 3, 1][..], &octets].concat());
        }

        #[test]
        fn any_damaged_hello_is_one_or_none(at in 0..120_usize, octet: u8, len in 1..60_usize) {
            let mut bytes = records(&hello(&extension(&[(0, b"www.example.com")])), len);
            if let Some(place) = bytes.get_mut(at) {
                *place = octet;
            }
            let _ = read(&bytes);
        }
    }
}
