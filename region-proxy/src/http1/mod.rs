//! HTTP/1.1 and 1.0 messages as octets: heads read in place and written anew, bodies delimited.
//!
//! ```text
//! octets ─► read_request  ─► Request   ─┐            ┌─► write_request  ─► scratch ─► server
//! octets ─► read_response ─► Response  ─┴─► Edits ───┴─► write_response ─► scratch ─► client
//! octets ─► Chunked ─► ranges of data, trailers         write_chunk, write_last_chunk
//! ```
//! Nothing here knows a socket or a clock, and nothing allocates on the common path: what is read are slices of the
//! buffer, what is written goes into a vector that the thread keeps. The grammar is `httparse`'s; what it tolerates and
//! RFC 9112 does not is refused here: line ends of LF alone, several empty lines before a head, targets that are no
//! URI, status codes that are none. Of two framings neither is believed, and none is ever copied: what is written has
//! the framing that was read.

mod chunked;
mod edits;
mod fields;
mod refusal;
mod request;
mod response;
mod target;
mod trailers;
mod write;

pub use chunked::{ChunkLimits, Chunked, Step};
pub use edits::Edits;
pub use fields::{Options, is_field_value, is_lower_token, is_named, is_token, list};
pub use httparse::Header;
pub use refusal::{BadResponse, Reason, Refusal};
pub use request::{HTTP2_PREFACE, Parts, Request, compose_request, is_worth_reading, read_request};
pub use response::{Asked, Response, read_response};
pub use target::{Authority, Scheme, Target};
pub use write::{Hop, LAST_CHUNK, write_chunk, write_chunk_head, write_last_chunk, write_request, write_response};

/// A version of HTTP/1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// HTTP/1.0.
    V10,
    /// HTTP/1.1.
    V11,
}

/// Where the body of a message ends (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many octets, which may be 0: `Content-Length` said so.
    Length(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// Where the connection ends; only in responses.
    UntilClose,
}

impl Framing {
    /// How a body that came in this framing is sent to a client of `version`.
    ///
    /// HTTP/1.0 knows no chunks; its body ends with the connection, which must then be closed. To HTTP/1.1 a body of
    /// unknown length goes in chunks, so that the connection lives on.
    pub fn for_client(self, version: Version) -> Self {
        match (self, version) {
            (Self::Chunked | Self::UntilClose, Version::V10) => Self::UntilClose,
            (Self::Chunked | Self::UntilClose, Version::V11) => Self::Chunked,
            (Self::Empty | Self::Length(_), _) => self,
        }
    }
}

/// Whether the peer that sent a message keeps the connection open after the exchange (RFC 9112, section 9.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Persistence {
    /// Another message may follow.
    KeepAlive,
    /// None will.
    Close,
}

/// How long a head may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Octets of the head with its empty line; beyond them 431.
    pub head: usize,
    /// Octets of the request target; beyond them 414. Less than `head`, or it is never reached.
    pub target: usize,
}

impl HeadLimits {
    /// What no usual client reaches; 8,000 octets of target are what RFC 9110, section 4.1, asks for at least.
    pub const DEFAULT: Self = Self { head: 16 * 1024, target: 8 * 1024 };
}
