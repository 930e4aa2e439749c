//! What to do when a server fails a request.
//!
//! ```text
//! no connection: refused, unreachable     another server, while `retries` last        else 502
//! no connection: too slow                 another server, while `retries` last        else 504
//! new connection closed, nothing sent     another server, while `retries` last        else 502
//! kept connection closed, nothing sent    a new connection to the same server
//! kept connection broke after sending     replayable: a new connection to the same    else 502
//! new connection broke after sending      replayable: another server, as above        else 502
//! the response has begun, or is none      502: the server has acted on it
//! no head of the response in time         504
//! the client stopped sending its body     408
//! the client's body is broken             400
//! the client's body is too large          413
//! ```
//! Nothing is retried once an octet of the response has come. A request can be replayed when its method is idempotent
//! (RFC 9110, section 9.2.2) and all of it is still held; one of which nothing was sent can be sent again if it is held.

use std::fmt;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The server could not be connected to.
    NoConnection,
    /// The server could not be connected to in time.
    ConnectLate,
    /// The connection closed before anything of the request was sent.
    Unsent(Connection),
    /// The connection broke before the first octet of the response.
    Broken(Connection),
    /// It broke in the head of the response, or what came is no response.
    BadResponse,
    /// No head of the response in time.
    ResponseLate,
    /// The client stopped sending its body.
    ClientLate,
    /// The client's body broke off or is malformed.
    ClientBroken,
    /// The client's body is larger than it may be.
    ClientTooLarge,
}

impl Failure {
    /// Whether it is the client's and says nothing of the server.
    pub fn is_of_client(self) -> bool {
        matches!(self, Self::ClientLate | Self::ClientBroken | Self::ClientTooLarge)
    }
}

/// Where a connection to a server came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connection {
    /// It had served a request before.
    Kept,
    /// It was made for this request.
    New,
}

/// What follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Try a server that was not tried yet; when there is none, give the answer.
    AnotherServer(Answer),
    /// Try the same server again over a new connection.
    NewConnection,
    /// Give up and answer.
    Answer(Answer),
}

/// The answer when the proxy gives up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// 502.
    BadGateway,
    /// 504.
    GatewayTimeout,
    /// 408.
    RequestTimeout,
    /// 400.
    BadRequest,
    /// 413.
    ContentTooLarge,
}

impl Answer {
    /// Its status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::BadGateway => 502,
            Self::GatewayTimeout => 504,
        }
    }
}

impl fmt::Display for Next {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherServer(answer) => write!(f, "another server, or else {}", answer.status()),
            Self::NewConnection => f.write_str("a new connection to it"),
            Self::Answer(answer) => write!(f, "answer {}", answer.status()),
        }
    }
}

/// What follows from `failure` with `retries_left` further servers allowed.
pub fn next(failure: Failure, retries_left: u32, is_replayable: bool) -> Next {
    let another = |answer| if retries_left > 0 { Next::AnotherServer(answer) } else { Next::Answer(answer) };
    match failure {
        Failure::NoConnection | Failure::Unsent(Connection::New) => another(Answer::BadGateway),
        Failure::ConnectLate => another(Answer::GatewayTimeout),
        Failure::Unsent(Connection::Kept) => Next::NewConnection,
        Failure::Broken(Connection::Kept) if is_replayable => Next::NewConnection,
        Failure::Broken(Connection::New) if is_replayable => another(Answer::BadGateway),
        Failure::Broken(_) | Failure::BadResponse => Next::Answer(Answer::BadGateway),
        Failure::ResponseLate => Next::Answer(Answer::GatewayTimeout),
        Failure::ClientLate => Next::Answer(Answer::RequestTimeout),
        Failure::ClientBroken => Next::Answer(Answer::BadRequest),
        Failure::ClientTooLarge => Next::Answer(Answer::ContentTooLarge),
    }
}

/// Whether a request of `method` may reach a server twice without harm.
///
/// Source: RFC 9110, section 9.2.2. Of methods that are not known there that is not known.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: [Failure; 11] = [
        Failure::NoConnection,
        Failure::ConnectLate,
        Failure::Unsent(Connection::Kept),
        Failure::Unsent(Connection::New),
        Failure::Broken(Connection::Kept),
        Failure::Broken(Connection::New),
        Failure::BadResponse,
        Failure::ResponseLate,
        Failure::ClientLate,
        Failure::ClientBroken,
        Failure::ClientTooLarge,
    ];

    #[test]
    fn the_log_says_what_follows_as_clients_would_see_it() {
        let first = next(Failure::ConnectLate, 1, true).to_string();
        assert_eq!(first, "another server, or else 504");
        assert_eq!(next(Failure::ConnectLate, 0, true).to_string(), "answer 504");
    }

    #[test]
    fn no_other_server_without_retries_left() {
        for failure in FAILURES {
            for is_replayable in [true, false] {
                assert!(!matches!(next(failure, 0, is_replayable), Next::AnotherServer(_)), "{failure:?}");
            }
        }
    }

    #[test]
    fn a_request_that_was_sent_reaches_no_other_server_unless_replayable() {
        let broken = Failure::Broken(Connection::New);
        assert_eq!(next(broken, 9, false), Next::Answer(Answer::BadGateway));
        assert_eq!(next(broken, 9, true), Next::AnotherServer(Answer::BadGateway));
        for failure in [Failure::BadResponse, Failure::ResponseLate, Failure::ClientLate] {
            assert!(matches!(next(failure, 9, true), Next::Answer(_)), "{failure:?}");
        }
    }

    #[test]
    fn what_a_server_may_have_acted_on_is_sent_again_only_when_replayable() {
        let broken = Failure::Broken(Connection::Kept);
        assert_eq!(next(broken, 9, false), Next::Answer(Answer::BadGateway));
        assert_eq!(next(broken, 0, true), Next::NewConnection);
        assert!(is_idempotent("GET") && is_idempotent("PUT"));
        assert!(!is_idempotent("POST") && !is_idempotent("PATCH") && !is_idempotent("get"));
    }

    #[test]
    fn a_new_connection_never_leads_to_another_new_one() {
        for failure in [Failure::Unsent(Connection::New), Failure::Broken(Connection::New), Failure::NoConnection] {
            assert_ne!(next(failure, 9, true), Next::NewConnection);
        }
    }
}
