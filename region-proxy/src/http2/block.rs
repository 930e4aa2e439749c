//! The fields of one header block, read.

use std::ops::Range;

/// Fields that were read: their octets lie one after the other. Kept by the thread and emptied for each block.
#[derive(Debug)]
pub struct Block {
    text: Vec<u8>,
    fields: Vec<Span>,
    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113, section 6.5.2).
    size: usize,
    limit: usize,
    is_too_large: bool,
    /// Of the decoder, for one field.
    pub(super) literal: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    name_len: usize,
    end: usize,
}

/// A field was left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLarge;

impl Block {
    /// For blocks of at most `limit` octets, each field counted with 32 more.
    pub fn new(limit: usize) -> Self {
        Self { text: Vec::new(), fields: Vec::new(), size: 0, limit, is_too_large: false, literal: Vec::new() }
    }

    /// From the next block on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether fields were left out, as they were too many or too long.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// The fields, as names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|span| (&self.text[span.name()], &self.text[span.value()]))
    }

    /// Octets of names and values.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.size = 0;
        self.is_too_large = false;
    }

    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLarge> {
        self.size += name.len() + value.len() + 32;
        if self.size > self.limit || self.fields.len() == FIELDS_MAX {
            self.is_too_large = true;
            return Err(TooLarge);
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.fields.push(Span { start, name_len: name.len(), end: self.text.len() });
        Ok(())
    }

    /// Makes one field of all of the name `name`, in the place of the first, with `between` between their values.
    pub(super) fn join(&mut self, name: &[u8], between: &[u8]) {
        let is_named = |text: &[u8], span: &Span| text[span.name()] == *name;
        if self.fields.iter().filter(|span| is_named(&self.text, span)).count() < 2 {
            return;
        }
        let start = self.text.len();
        self.text.extend_from_slice(name);
        for index in 0..self.fields.len() {
            if is_named(&self.text, &self.fields[index]) {
                if self.text.len() > start + name.len() {
                    self.text.extend_from_slice(between);
                }
                self.text.extend_from_within(self.fields[index].value());
            }
        }
        let joined = Span { start, name_len: name.len(), end: self.text.len() };
        let mut is_first = true;
        let text = &self.text;
        self.fields.retain_mut(|span| {
            if !is_named(text, span) {
                return true;
            }
            *span = joined;
            std::mem::replace(&mut is_first, false)
        });
    }
}

impl Span {
    fn name(self) -> Range<usize> {
        self.start..self.start + self.name_len
    }

    fn value(self) -> Range<usize> {
        self.start + self.name_len..self.end
    }
}

/// As many fields as settings may let a head have, and the pseudo-header fields.
const FIELDS_MAX: usize = 261;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_name_become_one_where_the_first_stood() {
        let mut block = Block::new(1000);
        for (name, value) in [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")] {
            block.push(name.as_bytes(), value.as_bytes()).expect("room");
        }
        block.join(b"cookie", b"; ");
        let expected: [(&[u8], &[u8]); 2] = [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")];
        assert_eq!(block.iter().collect::<Vec<_>>(), expected);
    }
}
