//! Why a message is refused.

/// A request that is answered with `status`, after which its connection is closed: where the next one begins is unknown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What is wrong.
    pub reason: Reason,
}

/// A response that no client may get: the request is answered 502 and the server's connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct BadResponse {
    /// What is wrong.
    pub reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { status: reason.status(), reason }
    }
}

impl From<Reason> for BadResponse {
    fn from(reason: Reason) -> Self {
        Self { reason }
    }
}

/// What is wrong with a message, and where that is said.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Reason {
    /// More than the one empty line that is tolerated before a request, or one before a response.
    #[error("empty lines before the start line, expected at most one before a request (RFC 9112, section 2.2)")]
    EmptyLines,
    /// CR or LF without the other.
    #[error("bare CR or LF, expected lines that end in CRLF (RFC 9112, section 2.2)")]
    LineEnd,
    /// The start line does not begin with a method.
    #[error("no method, expected a token and a space (RFC 9112, section 3.1)")]
    Method,
    /// The target is none of the four forms, or not one for this method.
    #[error(
        "not a request target: expected a path, an http URI, host:port for CONNECT, * for OPTIONS (RFC 9112, section 3.2)"
    )]
    Target,
    /// The target is longer than the limit.
    #[error("request target is too long (RFC 9112, section 3)")]
    TargetTooLong,
    /// Not a version at all.
    #[error("not a version: expected HTTP/1.1 or HTTP/1.0 (RFC 9112, section 2.3)")]
    VersionInvalid,
    /// Another version than 1.0 and 1.1.
    #[error("version is not supported: expected HTTP/1.1 or HTTP/1.0 (RFC 9110, section 15.6.6)")]
    VersionUnknown,
    /// The client speaks HTTP/2 without having been told that the server does.
    #[error("HTTP/2 connection preface (RFC 9113, section 3.4)")]
    Http2Preface,
    /// The status is no number of three digits from 100 to 599.
    #[error("not a status line: expected a version and a status from 100 to 599 (RFC 9112, section 4)")]
    Status,
    /// 101 as an answer to a request that asked for no other protocol.
    #[error("status 101, for which the request did not ask (RFC 9110, section 7.8)")]
    SwitchUnasked,
    /// White space within a field name or between it and the colon.
    #[error("white space in or after a field name (RFC 9112, section 5.1)")]
    SpaceInName,
    /// A field line that begins with white space: the value of the one before goes on.
    #[error("field line begins with white space: line folding is obsolete (RFC 9112, section 5.2)")]
    Folding,
    /// A field line without a name that is a token and a colon.
    #[error("not a field line: expected a token and a colon (RFC 9112, section 5)")]
    FieldName,
    /// NUL or another control octet in a field value.
    #[error("control octet in a field value (RFC 9110, section 5.5)")]
    FieldValue,
    /// More field lines than the limit.
    #[error("too many field lines (RFC 6585, section 5)")]
    TooManyFields,
    /// The head is longer than the limit.
    #[error("head is too long (RFC 6585, section 5)")]
    HeadTooLong,
    /// Connection has more options than the limit.
    #[error("too many options in Connection (RFC 9110, section 7.6.1)")]
    TooManyOptions,
    /// HTTP/1.1 without Host.
    #[error("no Host, expected exactly one (RFC 9112, section 3.2)")]
    HostMissing,
    /// More than one Host, of which another reader might believe another.
    #[error("more than one Host, expected exactly one (RFC 9112, section 3.2)")]
    HostRepeated,
    /// Host is no host with an optional port.
    #[error("Host is not a name or address with an optional port (RFC 9112, section 3.2)")]
    HostInvalid,
    /// Host says another authority than the target.
    #[error("Host differs from the authority of the target (RFC 9112, section 3.2)")]
    HostMismatch,
    /// More than one Content-Length, or a list of them, even if all are equal.
    #[error("more than one Content-Length, expected at most one (RFC 9112, section 6.3)")]
    LengthRepeated,
    /// Content-Length is no number, or above 2^63 − 1.
    #[error("Content-Length is not a number of octets (RFC 9110, section 8.6)")]
    LengthInvalid,
    /// Both framings at once.
    #[error("Content-Length and Transfer-Encoding in one message (RFC 9112, section 6.1)")]
    LengthAndCoding,
    /// Transfer-Encoding in HTTP/1.0, which knows none.
    #[error("Transfer-Encoding in HTTP/1.0 (RFC 9112, section 6.1)")]
    CodingInVersion10,
    /// Transfer-Encoding does not end in one `chunked`, so where the body ends is unknown.
    #[error("Transfer-Encoding does not end in one chunked (RFC 9112, section 6.3)")]
    CodingInvalid,
    /// A coding under `chunked`.
    #[error("transfer coding is not supported: expected chunked alone (RFC 9112, section 6.1)")]
    CodingUnknown,
    /// A chunk does not begin with its size.
    #[error("not a chunk size: expected hexadecimal digits and CRLF (RFC 9112, section 7.1)")]
    ChunkSize,
    /// A chunk size above 2^63 − 1.
    #[error("chunk size is too large (RFC 9112, section 7.1)")]
    ChunkTooLarge,
    /// A chunk extension that is none.
    #[error("not a chunk extension: expected ;name=value (RFC 9112, section 7.1.1)")]
    ChunkExtension,
    /// Far more octets around the data than data.
    #[error("chunk extensions are too long (RFC 9112, section 7.1.1)")]
    ChunkOverhead,
    /// The data of a chunk is not followed by CRLF.
    #[error("chunk data goes beyond its size, expected CRLF (RFC 9112, section 7.1)")]
    ChunkEnd,
    /// The trailers are longer than the limit.
    #[error("trailers are too long (RFC 9112, section 7.1.2)")]
    TrailersTooLong,
}

impl Reason {
    /// The status of the answer to a request that is refused for this.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooManyFields | Self::TooManyOptions | Self::HeadTooLong | Self::TrailersTooLong => 431,
            Self::CodingUnknown => 501,
            Self::VersionUnknown | Self::Http2Preface => 505,
            _ => 400,
        }
    }
}
