//! The chunked transfer coding, read (RFC 9112, section 7.1).

use std::ops::Range;

use super::fields::{LENGTH_MAX, is_field_content, is_tchar};
use super::refusal::{Reason, Refusal};
use super::trailers::Trailers;

/// A chunked body while it comes in. Holds no data of it, and allocates only when there are trailers.
///
/// Extensions are checked and left out. The octets around the data are limited by the data, so that nobody makes this program
/// read much for little.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// Octets of data that are still to come in this chunk; while its size is read, what was read of that.
    left: u64,
    /// Octets of this size line.
    line_len: usize,
    /// Octets around the data beyond what is usual.
    overhead: usize,
    limits: ChunkLimits,
    trailers: Trailers,
}

/// How much there may be around the data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChunkLimits {
    /// Octets of size lines beyond 16 and twice the data of each, all chunks taken together.
    pub overhead: usize,
    /// Octets of all trailers.
    pub trailers: usize,
}

impl ChunkLimits {
    /// A usual chunk needs neither.
    pub const DEFAULT: Self = Self { overhead: 16 * 1024, trailers: 8 * 1024 };
}

/// What [`Chunked::step`] did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// Octets that are done with; what follows is for the next step.
    pub consumed: usize,
    /// Which of them are data; may be empty.
    pub data: Range<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before the first digit of a size.
    Size,
    /// After so many digits.
    Digits(u8),
    Extension(Extension),
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112, section 7.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Extension {
    /// White space, after which only a semicolon may come.
    Before,
    NameStart,
    Name,
    AfterName,
    ValueStart,
    Value,
    Quoted,
    /// After a backslash.
    Escaped,
    AfterQuoted,
}

impl Chunked {
    /// A body of which nothing has come yet.
    pub fn new(limits: ChunkLimits) -> Self {
        let trailers = Trailers::new(limits.trailers);
        Self { state: State::Size, left: 0, line_len: 0, overhead: 0, limits, trailers }
    }

    /// Whether the last chunk and the trailers have come: what follows belongs to the next message.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the next octet is data.
    pub fn is_within_data(&self) -> bool {
        self.state == State::Data
    }

    /// The trailers that may be passed on, each as `name: value` and CRLF; whole once [`Chunked::is_done`].
    ///
    /// Those that frame, route, authorise or modify a message are left out (RFC 9110, section 6.5.1).
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_bytes()
    }

    /// Goes on with `bytes`: up to the end of the data of one chunk, of `bytes`, or of the body.
    ///
    /// Consumes at least one octet of what is not empty until the body is done, and none of what follows it.
    ///
    /// # Errors
    /// What is not by the grammar, as soon as it is seen; after that the body is of no use.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Refusal> {
        let mut at = 0;
        while let Some(&octet) = bytes.get(at) {
            match self.state {
                State::Done => break,
                State::Data => return Ok(self.data(at, bytes.len())),
                State::Trailers => {
                    at += self.trailers.read(&bytes[at..])?;
                    if self.trailers.are_whole() {
                        self.state = State::Done;
                    }
                }
                _ => {
                    self.state = self.framing(octet)?;
                    at += 1;
                }
            }
        }
        Ok(Step { consumed: at, data: at..at })
    }

    fn data(&mut self, at: usize, len: usize) -> Step {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(len - at);
        self.left -= taken as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        Step { consumed: at + taken, data: at..at + taken }
    }

    /// The state after `octet`, which is part of a size line or of the end of a chunk.
    fn framing(&mut self, octet: u8) -> Result<State, Reason> {
        match (self.state, octet) {
            (State::DataCr, b'\r') => return Ok(State::DataLf),
            (State::DataLf, b'\n') => return Ok(State::Size),
            (State::DataCr | State::DataLf, _) => return Err(Reason::ChunkEnd),
            _ => self.line_len += 1,
        }
        if self.overhead + self.line_len > self.limits.overhead {
            return Err(Reason::ChunkOverhead);
        }
        match (self.state, octet) {
            (State::Size, _) if octet.is_ascii_hexdigit() => {
                (self.left, self.line_len) = (0, 1);
                self.digit(0, octet)
            }
            (State::Digits(count), _) if octet.is_ascii_hexdigit() => self.digit(count, octet),
            (State::Digits(_), b'\r') => Ok(State::SizeEnd),
            (State::Digits(_), b';') => Ok(State::Extension(Extension::NameStart)),
            (State::Digits(_), b' ' | b'\t') => Ok(State::Extension(Extension::Before)),
            (State::Extension(Extension::Name | Extension::Value | Extension::AfterQuoted), b'\r') => {
                Ok(State::SizeEnd)
            }
            (State::Extension(extension), _) => {
                extension.next(octet).map(State::Extension).ok_or(Reason::ChunkExtension)
            }
            (State::SizeEnd, b'\n') => Ok(self.end_size_line()),
            _ => Err(Reason::ChunkSize),
        }
    }

    fn digit(&mut self, count: u8, octet: u8) -> Result<State, Reason> {
        let digit = char::from(octet).to_digit(16).ok_or(Reason::ChunkSize)?;
        // Sixteen digits fill 64 bits; leading zeros count.
        if count == 16 {
            return Err(Reason::ChunkTooLarge);
        }
        self.left = self.left << 4 | u64::from(digit);
        if self.left > LENGTH_MAX { Err(Reason::ChunkTooLarge) } else { Ok(State::Digits(count + 1)) }
    }

    fn end_size_line(&mut self) -> State {
        let usual = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(16);
        self.overhead = (self.overhead + self.line_len).saturating_sub(usual);
        self.line_len = 0;
        if self.left == 0 { State::Trailers } else { State::Data }
    }
}

impl Extension {
    /// `None` when `octet` cannot come next.
    fn next(self, octet: u8) -> Option<Self> {
        let is_space = matches!(octet, b' ' | b'\t');
        match (self, octet) {
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted, b'"') => Some(Self::AfterQuoted),
            (Self::Quoted | Self::Escaped, _) => is_field_content(octet).then_some(Self::Quoted),
            (Self::Before | Self::Name | Self::AfterName | Self::Value | Self::AfterQuoted, b';') => {
                Some(Self::NameStart)
            }
            (Self::Name | Self::AfterName, b'=') => Some(Self::ValueStart),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::Before | Self::Value | Self::AfterQuoted, _) if is_space => Some(Self::Before),
            (Self::Name | Self::AfterName, _) if is_space => Some(Self::AfterName),
            (Self::NameStart | Self::ValueStart, _) if is_space => Some(self),
            (Self::NameStart | Self::Name, _) if is_tchar(octet) => Some(Self::Name),
            (Self::ValueStart | Self::Value, _) if is_tchar(octet) => Some(Self::Value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_with_the_data_of_a_chunk_or_with_the_body() {
        let mut body = Chunked::new(ChunkLimits::DEFAULT);
        let octets = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\nGET";
        assert_eq!(body.step(octets), Ok(Step { consumed: 5, data: 3..5 }));
        assert_eq!(body.step(&octets[5..]), Ok(Step { consumed: 6, data: 5..6 }));
        assert_eq!(body.step(&octets[11..]), Ok(Step { consumed: 7, data: 7..7 }));
        assert!(body.is_done());
        assert_eq!(body.step(b"GET"), Ok(Step { consumed: 0, data: 0..0 }));
    }

    #[test]
    fn short_chunks_and_extensions_in_proportion_are_fine_without_end() {
        let mut body = Chunked::new(ChunkLimits::DEFAULT);
        for _ in 0..10_000 {
            assert!(body.step(b"1\r\nx").is_ok() && body.step(b"\r\n").is_ok());
            assert!(body.step(b"40;signature=0123456789abcdef0123456789abcdef0123456789abcdef\r\n").is_ok());
            assert!(body.step(&[b'x'; 64]).is_ok() && body.step(b"\r\n").is_ok());
        }
    }
}
