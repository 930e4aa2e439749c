//! What changes in a head on its way through.

use std::ops::Range;

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
        let start = self.values.len();
        parts.iter().for_each(|part| push(&mut self.values, part));
        self.changes.push(Change { field, value: Some(start..self.values.len()) });
    }

    /// Adds a field after all others, with the value that `parts` make together. `name` is a token.
    ///
    /// Octets that may stand in no field value become spaces (RFC 9110, section 5.5).
    pub fn append(&mut self, name: &str, parts: &[&[u8]]) {
        debug_assert!(!name.is_empty() && name.bytes().all(super::fields::is_token), "{name}");
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        parts.iter().for_each(|part| push(&mut self.lines, part));
        self.lines.extend_from_slice(b"\r\n");
    }

    pub(super) fn fate(&self, field: usize) -> Fate<'_> {
        match self.changes.iter().rfind(|change| change.field == field) {
            None => Fate::Unchanged,
            Some(Change { value: None, .. }) => Fate::LeftOut,
            Some(Change { value: Some(value), .. }) => Fate::Value(&self.values[value.clone()]),
        }
    }

    /// The added fields, each with its line end.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Octets of all that is written.
    pub(super) fn len(&self) -> usize {
        self.values.len() + self.lines.len()
    }
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    let start = out.len();
    out.extend_from_slice(part);
    for octet in out[start..].iter_mut().filter(|octet| !super::fields::is_field_content(**octet)) {
        *octet = b' ';
    }
}
