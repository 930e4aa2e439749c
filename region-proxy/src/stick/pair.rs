//! Cookie pairs inside field values, as octets (RFC 6265, sections 4.2.1 and 5.2).
//!
//! A pair ends at the next semicolon, also inside quotes: so do user agents and most servers read it. White space
//! around names and values is no part of them, nor are quotes around a whole value.

use std::ops::Range;

/// One part of a value between semicolons.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pair<'v> {
    /// All of it, with white space, without semicolons.
    pub(super) whole: Range<usize>,
    /// What stands before its first `=`; `None` without one.
    pub(super) name: Option<&'v [u8]>,
    /// What stands after it; empty without one.
    pub(super) value: Range<usize>,
}

/// The pair that starts a `Set-Cookie` value, before its attributes.
pub(super) fn first(value: &[u8]) -> Pair<'_> {
    pair(value, 0)
}

/// All parts of a `Cookie` value, in their order.
pub(super) fn all(value: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let pair = pair(value, next?);
        next = (pair.whole.end < value.len()).then_some(pair.whole.end + 1);
        Some(pair)
    })
}

fn pair(value: &[u8], from: usize) -> Pair<'_> {
    let until = position(value, from..value.len(), b';').unwrap_or(value.len());
    let Some(equal) = position(value, from..until, b'=') else {
        return Pair { whole: from..until, name: None, value: until..until };
    };
    let name = &value[trim(value, from..equal)];
    let text = trim(value, equal + 1..until);
    let is_quoted = text.len() >= 2 && value[text.start] == b'"' && value[text.end - 1] == b'"';
    let text = if is_quoted { text.start + 1..text.end - 1 } else { text };
    Pair { whole: from..until, name: Some(name), value: text }
}

fn position(value: &[u8], range: Range<usize>, wanted: u8) -> Option<usize> {
    value[range.clone()].iter().position(|octet| *octet == wanted).map(|at| range.start + at)
}

fn trim(value: &[u8], range: Range<usize>) -> Range<usize> {
    let is_text = |octet: &u8| !matches!(octet, b' ' | b'\t');
    let text = &value[range.clone()];
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    range.start + start..range.start + end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &[u8]) -> Vec<(&[u8], &[u8])> {
        all(value).filter_map(|pair| Some((pair.name?, &value[pair.value]))).collect()
    }

    #[test]
    fn names_and_values_are_without_white_space_and_quotes() {
        let expected: [(&[u8], &[u8]); 4] = [(b"a", b"b"), (b"c", b"d e"), (b"f", b""), (b"g", b"=h=")];
        assert_eq!(read(b"a=b; c = \"d e\" ;\tf=;g==h="), expected);
    }

    #[test]
    fn a_part_without_an_equals_sign_is_no_cookie() {
        assert_eq!(read(b"a; ;;b=c;"), [(&b"b"[..], &b"c"[..])]);
        assert_eq!(all(b"").count(), 1);
    }

    #[test]
    fn a_semicolon_ends_a_value_inside_quotes_too() {
        assert_eq!(read(b"a=\"x; b=y\""), [(&b"a"[..], &b"\"x"[..]), (&b"b"[..], &b"y\""[..])]);
        assert_eq!(read(b"a=\""), [(&b"a"[..], &b"\""[..])]);
    }

    proptest! {
        #[test]
        fn the_parts_of_any_octets_are_all_of_them(value in proptest::collection::vec(prop_oneof![Just(b';'), Just(b'='), Just(b'"'), Just(b' '), any::<u8>()], 0..60)) {
            let parts: Vec<_> = all(&value).map(|pair| value[pair.whole].to_vec()).collect();
            prop_assert_eq!(parts.join(&b';'), value);
        }
    }
}
