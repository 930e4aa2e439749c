//! What changes in the fields of a head on its way through.

use httparse::Header;

/// Changes to the fields of one head: fields that go, values that are replaced, lines that come.
///
/// A thread keeps one, and [`clear`](Self::clear)s it for each head: once it has grown, nothing is allocated. Of two changes
/// of one field the later one counts. Octets that may stand in no field value become spaces (RFC 9110, section 5.5), so
/// that none can end its line.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    changes: Vec<Change>,
    values: Vec<u8>,
    lines: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    field: usize,
    to: To,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Nothing,
    Value { from: usize, until: usize },
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate<'e> {
    /// It stays as it is.
    Unchanged,
    /// It is left out.
    LeftOut,
    /// It gets this value.
    Value(&'e [u8]),
}

impl Edits {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all changes and keeps the space.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.values.clear();
        self.lines.clear();
    }

    /// Whether all stays as it is.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.lines.is_empty()
    }

    /// Leaves out the field with this index.
    pub fn leave_out(&mut self, field: usize) {
        self.changes.push(Change { field, to: To::Nothing });
    }

    /// Gives the field with this index the value that `parts` make together.
    pub fn replace(&mut self, field: usize, parts: &[&[u8]]) {
        self.replace_with(field, |out| parts.iter().for_each(|part| out.extend_from_slice(part)));
    }

    /// Gives the field with this index the value that `write` appends to what it is given.
    pub fn replace_with(&mut self, field: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.values.len();
        write(&mut self.values);
        make_harmless(&mut self.values[from..]);
        self.changes.push(Change { field, to: To::Value { from, until: self.values.len() } });
    }

    /// Adds a field after all others, with the value that `parts` make together. `name` is a token.
    pub fn append(&mut self, name: &str, parts: &[&[u8]]) {
        self.append_with(name, |out| parts.iter().for_each(|part| out.extend_from_slice(part)));
    }

    /// Adds a field after all others, with the value that `write` appends to what it is given. `name` is a token.
    pub fn append_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        let from = self.lines.len();
        write(&mut self.lines);
        make_harmless(&mut self.lines[from..]);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// What becomes of the field with this index.
    pub fn fate(&self, field: usize) -> Fate<'_> {
        match self.changes.iter().rev().find(|change| change.field == field).map(|change| change.to) {
            None => Fate::Unchanged,
            Some(To::Nothing) => Fate::LeftOut,
            Some(To::Value { from, until }) => Fate::Value(&self.values[from..until]),
        }
    }

    /// The added fields, each with its line end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Octets of all that is written.
    pub fn len(&self) -> usize {
        self.values.len() + self.lines.len()
    }

    /// Appends the field lines of the changed head to `out`: `fields` without those that go or that `is_skipped` names
    /// by index, then the lines that come. The empty line that ends a head is the caller's.
    pub fn write(&self, fields: &[Header<'_>], is_skipped: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        for (at, field) in fields.iter().enumerate().filter(|(at, _)| !is_skipped(*at)) {
            let value = match self.fate(at) {
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
}

fn make_harmless(value: &mut [u8]) {
    let is_content = |octet: u8| octet == b'\t' || octet >= b' ' && octet != 0x7f;
    for octet in value.iter_mut().filter(|octet| !is_content(**octet)) {
        *octet = b' ';
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(edits: &Edits, fields: &[Header<'_>]) -> String {
        let mut out = Vec::new();
        edits.write(fields, |_| false, &mut out);
        String::from_utf8(out).expect("text")
    }

    const FIELDS: [Header<'_>; 3] = [
        Header { name: "Host", value: b"www.example.com" },
        Header { name: "Cookie", value: b"a=b" },
        Header { name: "Accept", value: b"*/*" },
    ];

    #[test]
    fn without_edits_all_fields_stay() {
        assert_eq!(written(&Edits::new(), &FIELDS), "Host: www.example.com\r\nCookie: a=b\r\nAccept: */*\r\n");
    }

    #[test]
    fn fields_go_change_and_come() {
        let mut edits = Edits::new();
        edits.leave_out(1);
        edits.replace(2, &[b"text/html"]);
        edits.append("Via", &[b"1.1 seoul-1"]);
        assert_eq!(written(&edits, &FIELDS), "Host: www.example.com\r\nAccept: text/html\r\nVia: 1.1 seoul-1\r\n");
    }

    #[test]
    fn what_was_said_last_of_a_field_holds() {
        let mut edits = Edits::new();
        edits.replace(1, &[b"one"]);
        edits.leave_out(1);
        assert_eq!(edits.fate(1), Fate::LeftOut);
        edits.replace(1, &[b"two"]);
        assert_eq!(edits.fate(1), Fate::Value(b"two"));
    }

    #[test]
    fn a_cleared_one_changes_nothing() {
        let mut edits = Edits::new();
        edits.leave_out(0);
        edits.append("Via", &[b"1.1 p"]);
        edits.clear();
        assert!(edits.is_empty() && edits.lines().is_empty());
        assert_eq!(edits.fate(0), Fate::Unchanged);
    }

    proptest! {
        #[test]
        fn no_value_ends_its_line(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut edits = Edits::new();
            edits.append("A", &[&value]);
            edits.replace(1, &[&value]);
            let mut out = Vec::new();
            edits.write(&FIELDS, |_| false, &mut out);
            prop_assert_eq!(out.iter().filter(|octet| **octet == b'\n').count(), FIELDS.len() + 1);
        }
    }
}
