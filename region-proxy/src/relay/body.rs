//! The bodies that pass through: read in one framing, written in another, never held whole.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::task::{Context, Poll, ready};

use crate::http1::{ChunkLimits, Chunked, Framing, LAST_CHUNK, Refusal, write_chunk_head, write_last_chunk};
use crate::stream::Stream;

/// A body on its way: what is still to come of it, and how it goes on.
#[derive(Debug)]
pub(super) struct Body {
    incoming: Incoming,
    goes_in_chunks: bool,
}

#[derive(Debug)]
enum Incoming {
    /// So many octets.
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Ended,
}

/// What a body took of the octets that it was given.
#[derive(Debug)]
pub(super) struct Part {
    /// How many; those behind belong to the next message.
    pub(super) consumed: usize,
    /// Where its data now stands among them.
    pub(super) data: Range<usize>,
}

/// The connection ended before the body did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short;

impl Body {
    /// A body of which nothing has come, read as `incoming` and written as `outgoing`.
    pub(super) fn new(incoming: Framing, outgoing: Framing) -> Self {
        let incoming = match incoming {
            Framing::Empty | Framing::Length(0) => Incoming::Ended,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked(Box::new(Chunked::new(ChunkLimits::DEFAULT))),
            Framing::UntilClose => Incoming::UntilClose,
        };
        Self { incoming, goes_in_chunks: outgoing == Framing::Chunked }
    }

    /// Whether all of it has come.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.incoming, Incoming::Ended)
    }

    /// How many octets are still to come, where they pass through unchanged.
    pub(super) fn plain_left(&mut self) -> Option<&mut u64> {
        match &mut self.incoming {
            Incoming::Length(left) if !self.goes_in_chunks => Some(left),
            _ => None,
        }
    }

    /// Notes that nothing is left, after [`Self::plain_left`] was counted down to 0.
    pub(super) fn settle(&mut self) {
        if matches!(self.incoming, Incoming::Length(0)) {
            self.incoming = Incoming::Ended;
        }
    }

    /// Takes what of `bytes` belongs to it: the data is moved together, and what must be written around it is appended
    /// to `before` and `after`.
    pub(super) fn take(
        &mut self,
        bytes: &mut [u8],
        before: &mut Vec<u8>,
        after: &mut Vec<u8>,
    ) -> Result<Part, Refusal> {
        let part = match &mut self.incoming {
            Incoming::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Part { consumed: count, data: 0..count }
            }
            Incoming::Chunked(chunked) => take_chunks(chunked, bytes)?,
            Incoming::UntilClose => Part { consumed: bytes.len(), data: 0..bytes.len() },
            Incoming::Ended => Part { consumed: 0, data: 0..0 },
        };
        if self.goes_in_chunks && !part.data.is_empty() {
            write_chunk_head(before, part.data.len());
            after.extend_from_slice(b"\r\n");
        }
        match &self.incoming {
            Incoming::Chunked(chunked) if chunked.is_done() => {
                if self.goes_in_chunks {
                    write_last_chunk(after, chunked.trailers());
                }
                self.incoming = Incoming::Ended;
            }
            _ => self.settle(),
        }
        Ok(part)
    }

    /// The connection that it came on has ended.
    pub(super) fn end(&mut self, after: &mut Vec<u8>) -> Result<(), Short> {
        match self.incoming {
            Incoming::UntilClose => {
                if self.goes_in_chunks {
                    after.extend_from_slice(LAST_CHUNK);
                }
                self.incoming = Incoming::Ended;
                Ok(())
            }
            Incoming::Ended => Ok(()),
            Incoming::Length(_) | Incoming::Chunked(_) => Err(Short),
        }
    }
}

/// Moves the data of all chunks in `bytes` together, to where the first of it stands.
fn take_chunks(chunked: &mut Chunked, bytes: &mut [u8]) -> Result<Part, Refusal> {
    let (mut consumed, mut data) = (0, 0..0);
    while consumed < bytes.len() && !chunked.is_done() {
        let step = chunked.step(&bytes[consumed..])?;
        let found = consumed + step.data.start..consumed + step.data.end;
        consumed += step.consumed;
        if data.is_empty() {
            data = found;
        } else if !found.is_empty() {
            let len = found.len();
            bytes.copy_within(found, data.end);
            data.end += len;
        }
    }
    Ok(Part { consumed, data })
}

/// Octets that a socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// All that the socket took, from the beginning.
    passed: u64,
}

impl Outbox {
    /// `bytes`, of which nothing is sent.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0, passed: 0 }
    }

    /// Whether the socket has taken all.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// How many of the octets that it holds were sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// All that the socket took, from the beginning.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Sends all again that it holds.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.passed = 0;
    }

    /// Its memory, for others.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        self.sent = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Sends what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut Stream) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let count = ready!(socket.poll_write(cx, &[IoSlice::new(&self.bytes[self.sent..])]))?;
            self.sent += count;
            self.passed += count as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends `parts` in one system call; what the socket does not take at once waits here. To be called when empty.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, socket: &mut Stream, parts: [&[u8]; 3]) -> io::Result<()> {
        self.forget_sent();
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(());
        }
        let mut gone = match socket.poll_write(cx, &parts.map(IoSlice::new)) {
            Poll::Ready(count) => count?,
            Poll::Pending => 0,
        };
        self.passed += gone as u64;
        for part in parts {
            let skipped = gone.min(part.len());
            gone -= skipped;
            self.bytes.extend_from_slice(&part[skipped..]);
        }
        Ok(())
    }

    /// Sends `bytes`, behind which the connection ends at once. To be called when empty.
    pub(super) fn send_last(&mut self, cx: &mut Context<'_>, socket: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        self.forget_sent();
        if bytes.is_empty() {
            return Ok(());
        }
        let gone = match socket.poll_write_last(cx, bytes) {
            Poll::Ready(count) => count?,
            Poll::Pending => 0,
        };
        self.passed += gone as u64;
        self.bytes.extend_from_slice(&bytes[gone..]);
        Ok(())
    }

    fn forget_sent(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(incoming: Framing, outgoing: Framing, text: &str, step: usize) -> (String, usize, bool) {
        let mut body = Body::new(incoming, outgoing);
        let (mut out, mut consumed) = (Vec::new(), 0);
        let mut bytes = text.as_bytes().to_vec();
        while consumed < bytes.len() && !body.is_done() {
            let end = bytes.len().min(consumed + step);
            let mut after = Vec::new();
            let piece = &mut bytes[consumed..end];
            let part = body.take(piece, &mut out, &mut after).expect("a body");
            out.extend_from_slice(&piece[part.data]);
            out.extend_from_slice(&after);
            consumed += part.consumed;
        }
        (String::from_utf8(out).expect("text"), consumed, body.is_done())
    }

    #[test]
    fn a_body_of_known_length_takes_no_octet_more() {
        for step in 1..8 {
            let passed = pass(Framing::Length(4), Framing::Length(4), "goodevil", step);
            assert_eq!(passed, ("good".to_owned(), 4, true));
        }
    }

    #[test]
    fn chunks_come_together_in_one_and_end_with_their_trailers() {
        let text = "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        let (passed, consumed, is_done) = pass(Framing::Chunked, Framing::Chunked, text, 1000);
        assert_eq!(passed, "7\r\nabcdefg\r\n0\r\nX-Sum: 1\r\n\r\n");
        assert_eq!((consumed, is_done), (text.len() - 4, true));
    }

    #[test]
    fn chunks_cut_anywhere_carry_the_same_data() {
        let text = "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
        for step in 1..text.len() {
            let passed = pass(Framing::Chunked, Framing::UntilClose, text, step);
            assert_eq!(passed, ("abcdefg".to_owned(), text.len(), true), "{step}");
        }
    }

    #[test]
    fn only_a_body_until_the_close_may_end_with_its_connection() {
        let mut after = Vec::new();
        assert!(Body::new(Framing::Length(1), Framing::Length(1)).end(&mut after).is_err());
        assert!(Body::new(Framing::Chunked, Framing::Chunked).end(&mut after).is_err());
        assert!(Body::new(Framing::UntilClose, Framing::Chunked).end(&mut after).is_ok());
        assert_eq!(after, LAST_CHUNK);
    }
}
