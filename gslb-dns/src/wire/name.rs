//! Domain names as octets: labels with their lengths, ended by the root label.

use std::fmt;

use super::NAME_LEN_MAX;

/// An absolute domain name, uncompressed, in the case it was written.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Name(Box<[u8]>);

/// Why a text is not a domain name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameFault {
    /// Two dots in a row, a leading dot, or nothing at all.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label above 63 octets.
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// A name above 255 octets.
    #[error("longer than 255 octets")]
    TooLong,
    /// A backslash that neither `\DDD` (0 to 255) nor another character follows.
    #[error("a backslash must be followed by three digits up to 255 or by one other character")]
    BadEscape,
    /// A character outside printable ASCII.
    #[error(
        "only printable ASCII may stand unescaped: write other octets as \\DDD, international names in A-label form"
    )]
    NotAscii,
}

impl Name {
    /// The root.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads the master file form (RFC 1035, section 5.1): `\X` and `\DDD` escapes; without a final dot `origin` follows.
    pub fn parse(text: &str, origin: &Self) -> Result<Self, NameFault> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut rest = text.as_bytes();
        let is_absolute = loop {
            let length_at = wire.len();
            wire.push(0);
            let is_dot_found = read_label(&mut rest, &mut wire)?;
            match wire.len() - length_at - 1 {
                0 => return Err(NameFault::EmptyLabel),
                label_len @ 1..=63 => wire[length_at] = label_len as u8,
                _ => return Err(NameFault::LabelTooLong),
            }
            if rest.is_empty() {
                break is_dot_found;
            }
        };
        if is_absolute {
            wire.push(0)
        } else {
            wire.extend_from_slice(&origin.0)
        }
        if wire.len() > NAME_LEN_MAX { Err(NameFault::TooLong) } else { Ok(Self(wire.into())) }
    }

    /// The name that starts `octets`, and what follows it. `None` unless it is whole, valid and uncompressed.
    pub fn split_from(octets: &[u8]) -> Option<(&[u8], &[u8])> {
        let mut at = 0;
        loop {
            let label_len = usize::from(*octets.get(at)?);
            at += 1 + label_len;
            if label_len > 63 || at > NAME_LEN_MAX {
                return None;
            }
            if label_len == 0 {
                return Some(octets.split_at(at));
            }
        }
    }

    /// The name that starts at `at` in `message`, which may be compressed: pointers lead backwards, and a part is read
    /// only once (RFC 1035, section 4.1.4). `None` unless it is whole and valid.
    pub fn read(message: &[u8], at: usize) -> Option<Self> {
        let (mut wire, mut at, mut before) = (Vec::new(), at, at);
        loop {
            match usize::from(*message.get(at)?) {
                0 => break,
                label_len @ 1..=63 => {
                    wire.extend_from_slice(message.get(at..=at + label_len)?);
                    at += 1 + label_len;
                }
                high @ 0xC0.. => {
                    let target = (high & 0x3F) << 8 | usize::from(*message.get(at + 1)?);
                    if target >= before {
                        return None;
                    }
                    (at, before) = (target, target);
                }
                _ => return None,
            }
            if wire.len() >= NAME_LEN_MAX {
                return None;
            }
        }
        wire.push(0);
        Some(Self(wire.into()))
    }

    /// Takes octets that [`Name::split_from`] gave.
    pub(crate) fn from_wire(wire: &[u8]) -> Self {
        debug_assert!(Self::split_from(wire).is_some_and(|(_, rest)| rest.is_empty()));
        Self(wire.into())
    }

    /// The octets, root label included.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The same in lower case, as tables are keyed and names compared (RFC 4343).
    pub fn folded(&self) -> Self {
        // Length octets are below 64, so they are no letters.
        Self(self.0.to_ascii_lowercase().into())
    }
}

/// Moves one label of `rest` to `wire`; whether a dot ended it.
fn read_label(rest: &mut &[u8], wire: &mut Vec<u8>) -> Result<bool, NameFault> {
    while let Some((&octet, after)) = rest.split_first() {
        *rest = after;
        match octet {
            b'.' => return Ok(true),
            b'\\' => wire.push(read_escape(rest)?),
            b'!'..=b'~' => wire.push(octet),
            _ => return Err(NameFault::NotAscii),
        }
    }
    Ok(false)
}

/// What a backslash before `rest` stands for.
pub(crate) fn read_escape(rest: &mut &[u8]) -> Result<u8, NameFault> {
    match **rest {
        [a, b, c, ref after @ ..] if [a, b, c].iter().all(u8::is_ascii_digit) => {
            *rest = after;
            let value = [a, b, c].iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0'));
            u8::try_from(value).map_err(|_| NameFault::BadEscape)
        }
        [octet, ref after @ ..] if !octet.is_ascii_digit() && octet.is_ascii() => {
            *rest = after;
            Ok(octet)
        }
        _ => Err(NameFault::BadEscape),
    }
}

impl fmt::Display for Name {
    /// The master file form, with the final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = self.as_wire();
        if name.len() == 1 {
            return f.write_str(".");
        }
        while let (&[label_len, ref rest @ ..], Some(next)) = (name, parent(name)) {
            for &octet in &rest[..usize::from(label_len)] {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => write!(f, "\\{}", char::from(octet))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
            name = next;
        }
        Ok(())
    }
}

/// `name` without its first label; `None` for the root.
pub fn parent(name: &[u8]) -> Option<&[u8]> {
    match *name {
        [label_len, ref rest @ ..] if label_len > 0 => rest.get(usize::from(label_len)..),
        _ => None,
    }
}

/// Whether `name` is `ancestor` or below it. Both in lower case.
pub fn is_at_or_below(name: &[u8], ancestor: &[u8]) -> bool {
    let mut name = Some(name);
    while let Some(suffix) = name.filter(|suffix| suffix.len() >= ancestor.len()) {
        if suffix.len() == ancestor.len() {
            return suffix == ancestor;
        }
        name = parent(suffix);
    }
    false
}

/// How many labels `name` has, the root label not counted.
pub fn label_count(name: &[u8]) -> usize {
    std::iter::successors(parent(name), |name| parent(name)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text, &Name::root()).expect("a name")
    }

    #[test]
    fn relative_names_get_the_origin() {
        let origin = name("Example.com.");
        assert_eq!(Name::parse("www", &origin), Ok(name("www.Example.com.")));
        assert_eq!(Name::parse("www.", &origin), Ok(name("www")));
        assert_eq!(Name::parse(".", &origin), Ok(Name::root()));
    }

    #[test]
    fn escapes_are_decimal() {
        assert_eq!(name(r"a\.b\065.c").as_wire(), b"\x04a.bA\x01c\x00");
        assert_eq!(name(r"a\.b\007").to_string(), r"a\.b\007.");
    }

    #[test]
    fn bad_names_are_told_apart() {
        let fault = |text: &str| Name::parse(text, &Name::root()).expect_err("no name");
        assert_eq!(fault(""), NameFault::EmptyLabel);
        assert_eq!(fault("a..b"), NameFault::EmptyLabel);
        assert_eq!(fault(&"x".repeat(64)), NameFault::LabelTooLong);
        assert_eq!(fault(&"abc.".repeat(64)), NameFault::TooLong);
        assert_eq!(fault(r"a\256"), NameFault::BadEscape);
        assert_eq!(fault(r"a\"), NameFault::BadEscape);
        assert_eq!(fault("é"), NameFault::NotAscii);
    }

    #[test]
    fn ancestors_are_found_at_label_borders_only() {
        let (www, apex) = (name("www.example.com"), name("example.com"));
        assert!(is_at_or_below(www.as_wire(), apex.as_wire()));
        assert!(is_at_or_below(apex.as_wire(), Name::root().as_wire()));
        assert!(!is_at_or_below(apex.as_wire(), www.as_wire()));
        assert!(!is_at_or_below(name("wexample.com").as_wire(), apex.as_wire()));
        assert_eq!((label_count(www.as_wire()), label_count(&[0])), (3, 0));
    }

    #[test]
    fn compressed_names_are_read_and_loops_are_not() {
        let message = b"\x03com\0\x07example\xC0\0\x03www\xC0\x05\xC0\x15\x01a\xC0\x17\xC0\x20";
        assert_eq!(Name::read(message, 15), Some(name("www.example.com")));
        assert_eq!(Name::read(message, 0), Some(name("com")));
        // 21: to itself; 23: through itself; 27: forwards; 60: past the end.
        assert_eq!([21, 23, 27, 60].map(|at| Name::read(message, at)), [None, None, None, None]);
    }

    proptest! {
        #[test]
        fn compressed_names_in_any_octets_are_safe(octets in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..300) {
            if let Some(name) = Name::read(&octets, at) {
                prop_assert!(Name::split_from(name.as_wire()).is_some_and(|(_, rest)| rest.is_empty()));
            }
        }

        #[test]
        fn printed_names_read_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut wire = Vec::new();
            for label in labels {
                wire.push(label.len() as u8);
                wire.extend(label);
            }
            wire.push(0);
            let name = Name::from_wire(&wire);
            prop_assert_eq!(Name::parse(&name.to_string(), &Name::root()), Ok(name));
        }

        #[test]
        fn any_text_is_safe(text in ".*") {
            if let Ok(name) = Name::parse(&text, &Name::root()) {
                prop_assert!(Name::split_from(name.as_wire()).is_some_and(|(_, rest)| rest.is_empty()));
            }
        }
    }
}
