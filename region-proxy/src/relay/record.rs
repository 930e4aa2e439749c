//! What is known of one request when it has ended: its times, its octets, its server, and why it ended as it did.
//!
//! Whatever carries a request holds one, tells it each step by a small call, and at its end has it [told](super::tell). It is
//! plain data: nothing is allocated but for the words of a failure and for the access log, where that is on.

use std::time::Duration;

use crate::access::Captured;
use crate::clock::Tick;
use crate::http1::{Reason, Version};
use crate::plan::Failure;

/// One request, from its first octet to the last of its answer.
#[derive(Debug)]
pub struct Record {
    began: Tick,
    /// Its head was whole.
    admitted: Option<Tick>,
    /// It was given to the last of its servers.
    assigned: Option<Tick>,
    connected: Option<Tick>,
    /// The head of the response was passed on.
    answered: Option<Tick>,
    /// What its client speaks; `None`: no request that can be read.
    pub version: Option<Protocol>,
    /// Of the answer; 0 when there was none.
    pub status: u16,
    /// Octets that its last server got.
    pub octets_up: u64,
    /// Octets that its client got, head and all.
    pub octets_down: u64,
    /// The index of its last server.
    pub server: Option<usize>,
    /// Attempts beyond the first.
    pub retries: u16,
    /// Whether one of them was at another server.
    pub is_redispatched: bool,
    /// Whether its last connection had served a request before.
    pub is_reused: bool,
    /// How many waited before it, when it had to wait itself.
    pub queued_behind: Option<u32>,
    /// Whether it waited for one server that it sticks to.
    pub is_queued_for_server: bool,
    by: By,
    during: Option<During>,
    /// Why it failed.
    pub cause: Option<Cause>,
    /// What was wrong with it, where it was refused for what it says.
    pub refusal: Option<Reason>,
    /// The same with what is known besides; empty where that is nothing.
    pub detail: String,
    /// What its cookie was like, and what its client was told: HAProxy's letters.
    pub cookie: [char; 2],
    /// What the access log shows of its texts, where it is on.
    pub text: Option<Captured>,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// As logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
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
}

impl Cause {
    /// All, in their order.
    pub const ALL: [Self; 18] = [
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
        }
    }

    /// Whether it is its server's fault.
    pub fn is_of_server(self) -> bool {
        use Cause::{BadResponse, BodyLate, BrokenOff, Closed, ConnectLate, NoConnection, ResponseLate};
        matches!(self, NoConnection | ConnectLate | Closed | BadResponse | ResponseLate | BrokenOff | BodyLate)
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

/// How long each part of a request took, as HAProxy's log has it; `None` for what it never came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// TR: to read its head.
    pub request: Option<Duration>,
    /// Tw: until it had its last server, waiting in queues.
    pub queue: Option<Duration>,
    /// Tc: to connect to that; none over a connection that was kept.
    pub connect: Option<Duration>,
    /// Tr: until the head of the response was passed on.
    pub response: Option<Duration>,
    /// Ta: all of it.
    pub total: Duration,
    /// Since its last server got it.
    pub served: Option<Duration>,
}

impl Record {
    /// A request whose first octet came at `began`, which by default is now.
    pub fn new(began: Option<Tick>) -> Self {
        Self {
            began: began.unwrap_or_else(Tick::now),
            admitted: None,
            assigned: None,
            connected: None,
            answered: None,
            version: None,
            status: 0,
            octets_up: 0,
            octets_down: 0,
            server: None,
            retries: 0,
            is_redispatched: false,
            is_reused: false,
            queued_behind: None,
            is_queued_for_server: false,
            by: By::Nobody,
            during: None,
            cause: None,
            refusal: None,
            detail: String::new(),
            cookie: ['-', '-'],
            text: None,
        }
    }

    /// When its first octet came.
    pub fn began(&self) -> Tick {
        self.began
    }

    /// Its head is whole.
    pub fn admit(&mut self, version: Protocol) {
        self.admitted = Some(Tick::now());
        self.version = Some(version);
    }

    /// It waits for a server with room, behind so many others; `is_for_server`: for the one that it sticks to.
    pub fn queue(&mut self, behind: usize, is_for_server: bool) {
        self.is_queued_for_server = is_for_server;
        self.forget_end();
        self.queued_behind = Some(behind.try_into().unwrap_or(u32::MAX));
        self.during = Some(During::Queue);
    }

    /// It is given to `server`, for the first time or for one attempt more.
    pub fn assign(&mut self, server: usize) {
        self.forget_end();
        if let Some(before) = self.server {
            self.retries = self.retries.saturating_add(1);
            self.is_redispatched |= before != server;
        }
        (self.server, self.during) = (Some(server), Some(During::Connect));
        (self.assigned, self.connected) = (Some(Tick::now()), None);
    }

    /// Its server is connected to; `is_reused`: was already.
    pub fn connect(&mut self, is_reused: bool) {
        self.is_reused = is_reused;
        self.connected = if is_reused { self.assigned } else { Some(Tick::now()) };
        self.during = Some(During::Head);
    }

    /// Its client has got the head of the response.
    pub fn answer(&mut self, status: u16) {
        self.status = status;
        self.answered = Some(Tick::now());
        self.during = Some(During::Data);
    }

    /// It ends before its time, unless another attempt follows; what was said first counts.
    pub fn end(&mut self, by: By, cause: Cause, detail: impl Into<String>) {
        if self.by == By::Nobody {
            (self.by, self.cause) = (by, Some(cause));
            self.detail = detail.into();
        }
    }

    /// It is refused for what it says; `text` is that in words.
    pub fn refuse(&mut self, reason: Reason, text: String) {
        self.refusal = Some(reason);
        self.end(By::Proxy, Cause::Refused, text);
    }

    /// It ends while its client is to take what is left.
    pub fn end_last(&mut self, by: By, cause: Cause, detail: impl Into<String>) {
        self.during = Some(During::Last);
        self.end(by, cause, detail);
    }

    /// The proxy answers it itself, as it should.
    pub fn answer_here(&mut self, status: u16) {
        self.status = status;
        if self.by == By::Nobody {
            self.by = By::Here;
        }
    }

    /// Another attempt follows.
    fn forget_end(&mut self) {
        (self.by, self.cause) = (By::Nobody, None);
        self.detail.clear();
    }

    /// HAProxy's termination state: who ended it, during what, and two letters of its cookie.
    pub fn termination(&self) -> [char; 4] {
        let by = match self.by {
            By::Nobody => return ['-', '-', self.cookie[0], self.cookie[1]],
            By::Client => 'C',
            By::ClientLate => 'c',
            By::Server => 'S',
            By::ServerLate => 's',
            By::Proxy => 'P',
            By::Here => 'L',
        };
        let during = match self.during {
            // None was there to connect to.
            None if self.cause == Some(Cause::NoServer) => 'C',
            None | Some(During::Request) => 'R',
            Some(During::Queue) => 'Q',
            Some(During::Connect) => 'C',
            Some(During::Head) => 'H',
            Some(During::Data) => 'D',
            Some(During::Last) => 'L',
        };
        [by, during, self.cookie[0], self.cookie[1]]
    }

    /// Whether its server answered it.
    pub fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Whether all went as it should: no failure, no retry, no answer that says otherwise.
    pub fn is_normal(&self) -> bool {
        matches!(self.by, By::Nobody | By::Here) && self.retries == 0 && (100..500).contains(&self.status)
    }

    /// Its times, if it ends `now`.
    pub fn times(&self, now: Tick) -> Times {
        let span = |from: Option<Tick>, to: Option<Tick>| Some(to?.since(from?));
        Times {
            request: span(Some(self.began), self.admitted),
            queue: span(self.admitted, self.assigned),
            connect: span(self.assigned, self.connected),
            response: span(self.connected, self.answered),
            total: now.since(self.began),
            served: span(self.assigned, Some(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(record: &Record) -> String {
        record.termination().iter().collect()
    }

    fn connected() -> Record {
        let mut record = Record::new(None);
        record.admit(Protocol::Http11);
        record.assign(0);
        record.connect(false);
        record
    }

    #[test]
    fn the_letters_say_who_ended_it_and_during_what() {
        let mut record = Record::new(None);
        record.end(By::Proxy, Cause::Refused, "");
        assert_eq!(letters(&record), "PR--");
        let mut record = Record::new(None);
        record.admit(Protocol::Http11);
        record.queue(3, false);
        record.end(By::ServerLate, Cause::QueueLate, "");
        assert_eq!(letters(&record), "sQ--");
        let mut record = connected();
        record.end(By::Server, Cause::Closed, "");
        assert_eq!(letters(&record), "SH--");
        let mut record = connected();
        record.answer(200);
        assert_eq!(letters(&record), "----");
        record.end(By::Client, Cause::ClientGone, "");
        assert_eq!(letters(&record), "CD--");
    }

    #[test]
    fn what_is_said_first_of_an_end_counts() {
        let mut record = connected();
        record.end(By::ServerLate, Cause::ResponseLate, "no response within 30s");
        record.end(By::Client, Cause::ClientGone, "");
        record.answer_here(504);
        assert_eq!((letters(&record).as_str(), record.cause, record.status), ("sH--", Some(Cause::ResponseLate), 504));
    }

    #[test]
    fn only_another_server_is_a_redispatch() {
        let mut record = connected();
        record.assign(0);
        assert_eq!((record.retries, record.is_redispatched), (1, false));
        record.assign(1);
        assert_eq!((record.retries, record.is_redispatched), (2, true));
    }

    #[test]
    fn what_it_never_came_to_took_no_time() {
        let times = Record::new(None).times(Tick::now());
        assert_eq!((times.request, times.queue, times.connect, times.response), (None, None, None, None));
        let mut record = connected();
        record.answer(200);
        let times = record.times(Tick::now());
        assert!(
            times.request.is_some() && times.queue.is_some() && times.connect.is_some() && times.response.is_some()
        );
    }
}
