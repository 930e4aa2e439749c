//! The words that a record is told in.

use crate::http1::Version;
use crate::plan::Failure;

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// Whatever it is: it passes as it is.
    Tcp,
}

impl Protocol {
    /// As logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
            Self::Tcp => "TCP",
        }
    }
}

impl From<Version> for Protocol {
    fn from(version: Version) -> Self {
        match version {
            Version::V10 => Self::Http10,
            Version::V11 => Self::Http11,
        }
    }
}

/// Who ended a request before its time: the first letter of HAProxy's termination state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// Nobody: it was answered to its end.
    Nobody,
    /// Its client went away or broke the rules.
    Client,
    /// Its client took too long.
    ClientLate,
    /// Its server went away, or there is none.
    Server,
    /// Its server took too long.
    ServerLate,
    /// The proxy refused it.
    Proxy,
    /// The proxy answered it itself, as it should.
    Here,
    /// The proxy stopped.
    Operator,
}

/// What a request was about when it ended: the second letter of HAProxy's termination state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum During {
    /// Its head was read.
    Request,
    /// It waited for a server with room.
    Queue,
    /// Its server was connected to.
    Connect,
    /// The head of the response was waited for.
    Head,
    /// The response was passed on.
    Data,
    /// The server had sent all, and the client was to take the rest.
    Last,
}

/// Why a request, or one attempt of it, failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Cause {
    /// It is malformed, ambiguous, too long, or asks for what is not done here.
    Refused,
    /// No service is meant for its host.
    NoService,
    /// No server is up.
    NoServer,
    /// Too many wait for a server already.
    QueueFull,
    /// It waited too long for a server.
    QueueLate,
    /// The server could not be connected to.
    NoConnection,
    /// Nor in time.
    ConnectLate,
    /// The server closed or broke its connection before the head of the response.
    Closed,
    /// What the server sent is no response to it.
    BadResponse,
    /// The head of the response did not come in time.
    ResponseLate,
    /// The response ended too soon.
    BrokenOff,
    /// The response paused for too long.
    BodyLate,
    /// The client took or sent no more.
    ClientGone,
    /// The client paused for too long.
    ClientLate,
    /// The body of the request is malformed.
    ClientBroken,
    /// The body of the request is larger than it may be.
    TooLarge,
    /// Its client asks too often.
    TooMany,
    /// There is more to do than time for it.
    Overloaded,
    /// The proxy stopped, and would not wait longer.
    Stopped,
}

impl Cause {
    /// All, in their order.
    pub const ALL: [Self; 19] = [
        Self::Refused,
        Self::NoService,
        Self::NoServer,
        Self::QueueFull,
        Self::QueueLate,
        Self::NoConnection,
        Self::ConnectLate,
        Self::Closed,
        Self::BadResponse,
        Self::ResponseLate,
        Self::BrokenOff,
        Self::BodyLate,
        Self::ClientGone,
        Self::ClientLate,
        Self::ClientBroken,
        Self::TooLarge,
        Self::TooMany,
        Self::Overloaded,
        Self::Stopped,
    ];

    /// Its word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoService => "no_service",
            Self::NoServer => "no_server",
            Self::QueueFull => "queue_full",
            Self::QueueLate => "queue_timeout",
            Self::NoConnection => "connect",
            Self::ConnectLate => "connect_timeout",
            Self::Closed => "closed",
            Self::BadResponse => "bad_response",
            Self::ResponseLate => "response_timeout",
            Self::BrokenOff => "broken_off",
            Self::BodyLate => "body_timeout",
            Self::ClientGone => "client_gone",
            Self::ClientLate => "client_timeout",
            Self::ClientBroken => "client_body",
            Self::TooLarge => "body_too_large",
            Self::TooMany => "rate_limit",
            Self::Overloaded => "overload",
            Self::Stopped => "stop",
        }
    }

    /// Whether it is its server's fault.
    pub fn is_of_server(self) -> bool {
        use Cause::{BadResponse, BodyLate, BrokenOff, Closed, ConnectLate, NoConnection, ResponseLate};
        matches!(self, NoConnection | ConnectLate | Closed | BadResponse | ResponseLate | BrokenOff | BodyLate)
    }
}

impl From<Failure> for By {
    /// Whose fault it is.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoConnection | Failure::Unsent(_) | Failure::Broken(_) => Self::Server,
            Failure::ConnectLate | Failure::ResponseLate => Self::ServerLate,
            Failure::ClientLate => Self::ClientLate,
            Failure::BadResponse | Failure::ClientBroken | Failure::ClientTooLarge => Self::Proxy,
        }
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoConnection => Self::NoConnection,
            Failure::ConnectLate => Self::ConnectLate,
            Failure::Unsent(_) | Failure::Broken(_) => Self::Closed,
            Failure::BadResponse => Self::BadResponse,
            Failure::ResponseLate => Self::ResponseLate,
            Failure::ClientLate => Self::ClientLate,
            Failure::ClientBroken => Self::ClientBroken,
            Failure::ClientTooLarge => Self::TooLarge,
        }
    }
}
