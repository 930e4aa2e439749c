//! What changes in a head on its way through.

use std::ops::Range;

use httparse::Header;

use super::fields::{is_field_content, is_tchar};

/// Fields to leave out, to give another value, and to add. Kept by the thread and cleared for each head, so that it does not
/// allocate once it has grown.
///
/// A field that got a value here is written even if Connection names it. Of two changes of one field the later one counts.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    changes: Vec<Change>,
    values: Vec<u8>,
    lines: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Change {
    field: usize,
    /// Where in `values` it stands; `None`: the field is left out.
    value: Option<Range<usize>>,
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate<'e> {
    Unchanged,
    LeftOut,
    Value(&'e [u8]),
}

impl Edits {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all changes back and keeps the memory.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.values.clear();
        self.lines.clear();
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.lines.is_empty()
    }

    /// Leaves out the field with this index.
    pub fn leave_out(&mut self, field: usize) {
        self.changes.push(Change { field, value: None });
    }

    /// Gives the field with this index the value that `parts` make together.
    ///
    /// Octets that may stand in no field value become spaces (RFC 9110, section 5.5).
    pub fn replace(&mut self, field: usize, parts: &[&[u8]]) {
        self.replace_with(field, |value| parts.iter().for_each(|part| value.extend_from_slice(part)));
    }

    /// The same with the value that `write` appends to what it is given.
    pub fn replace_with(&mut self, field: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.values.len();
        write(&mut self.values);
        clean(&mut self.values[start..]);
        self.changes.push(Change { field, value: Some(start..self.values.len()) });
    }

    /// Adds a field after all others, with the value that `parts` make together. `name` is a token.
    ///
    /// Octets that may stand in no field value become spaces (RFC 9110, section 5.5).
    pub fn append(&mut self, name: &str, parts: &[&[u8]]) {
        self.append_with(name, |value| parts.iter().for_each(|part| value.extend_from_slice(part)));
    }

    /// The same with the value that `write` appends to what it is given.
    pub fn append_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(!name.is_empty() && name.bytes().all(is_tchar), "{name}");
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        let start = self.lines.len();
        write(&mut self.lines);
        clean(&mut self.lines[start..]);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Appends the field lines of the changed head to `out`: `fields` without those that go or that `is_skipped` names
    /// by index, then the lines that come. The empty line that ends a head is the caller's.
    pub fn write(&self, fields: &[Header<'_>], is_skipped: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        for (index, field) in fields.iter().enumerate().filter(|(index, _)| !is_skipped(*index)) {
            let value = match self.fate(index) {
                Fate::Unchanged => field.value,
                Fate::LeftOut => continue,
                Fate::Value(value) => value,
            };
            out.extend_from_slice(field.name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.lines);
    }

    pub(super) fn fate(&self, field: usize) -> Fate<'_> {
        match self.changes.iter().rfind(|change| change.field == field) {
            None => Fate::Unchanged,
            Some(Change { value: None, .. }) => Fate::LeftOut,
            Some(Change { value: Some(value), .. }) => Fate::Value(&self.values[value.clone()]),
        }
    }

    /// The added fields, each with its line end.
    #[cfg(test)]
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Octets of all that is written.
    pub(super) fn len(&self) -> usize {
        self.values.len() + self.lines.len()
    }
}

fn clean(value: &mut [u8]) {
    for octet in value.iter_mut().filter(|octet| !is_field_content(**octet)) {
        *octet = b' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_field_counts() {
        let mut edits = Edits::new();
        edits.replace(1, &[b"one"]);
        edits.leave_out(1);
        assert_eq!(edits.fate(1), Fate::LeftOut);
        edits.replace(1, &[b"two", b" and ", b"three"]);
        assert_eq!(edits.fate(1), Fate::Value(b"two and three"));
        assert_eq!(edits.fate(0), Fate::Unchanged);
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut edits = Edits::new();
        edits.replace(0, &[b"a\r\nHost: evil"]);
        edits.append("X", &[b"b\n\0\x7f\t\xff"]);
        assert_eq!(edits.fate(0), Fate::Value(b"a  Host: evil"));
        assert_eq!(edits.lines(), b"X: b   \t\xff\r\n");
    }

    #[test]
    fn nothing_is_left_of_the_head_before() {
        let mut edits = Edits::new();
        edits.leave_out(0);
        edits.append("X", &[b"y"]);
        edits.clear();
        assert!(edits.is_empty());
        assert_eq!((edits.fate(0), edits.lines(), edits.len()), (Fate::Unchanged, &b""[..], 0));
    }
}
