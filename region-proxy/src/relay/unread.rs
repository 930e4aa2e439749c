//! What was read of a client and belongs to no message that is under way.

use crate::worker::Buffers;

/// Octets that came too soon, as those of pipelined requests, or are too few, as of a head that is not whole.
///
/// Taking requests off the front moves nothing: a thousand of them cost no more than their octets.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// How many at the front are done with.
    done: usize,
}

impl Unread {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them.
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Adds what was read after them.
    pub(super) fn extend(&mut self, more: &[u8], buffers: &Buffers) {
        if more.is_empty() {
            return;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
        if self.done > 0 {
            // No more than one message that is not whole: else nothing would be read yet.
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// All of them, to be changed in place.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.done..]
    }

    /// Notes that the first `count` are done with. Memory is given back when none is left.
    pub(super) fn consume(&mut self, count: usize, buffers: &Buffers) {
        self.done += count;
        if self.done >= self.bytes.len() {
            self.done = 0;
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// The octets alone.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.drain(..self.done);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_off_the_front_without_moving_those_behind() {
        let (mut unread, buffers) = (Unread::default(), Buffers::default());
        unread.extend(b"onetwothree", &buffers);
        let last = unread.as_slice()[10..].as_ptr();
        for text in [&b"one"[..], b"two"] {
            assert!(unread.as_slice().starts_with(text));
            unread.consume(3, &buffers);
        }
        assert_eq!(unread.as_slice()[4..].as_ptr(), last);
        unread.extend(b"four", &buffers);
        assert_eq!(unread.as_slice(), b"threefour");
    }

    #[test]
    fn nothing_unread_holds_no_memory() {
        let (mut unread, buffers) = (Unread::default(), Buffers::default());
        unread.extend(b"one", &buffers);
        unread.consume(3, &buffers);
        assert!(unread.is_empty() && unread.into_bytes().capacity() == 0);
    }
}
