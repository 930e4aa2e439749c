//! What is known of one request when it has ended: its times, its octets, its server, and why it ended as it did.
//!
//! Whatever carries a request holds one, tells it each step by a small call, and at its end has it [told](super::tell). It is
//! plain data: nothing is allocated but for the words of a failure and for the access log, where that is on.

use std::net::IpAddr;
use std::time::Duration;

use crate::access::Captured;
use crate::clock::Tick;
use crate::http1::Reason;

mod words;

pub use words::{By, Cause, During, Protocol};

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
    /// Its client for the access log, where that is another than who connected, by the word of a trusted peer.
    pub client: Option<Box<IpAddr>>,
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
            client: None,
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

    /// A connection that begins now and passes as it is.
    pub fn of_connection() -> Self {
        Self { version: Some(Protocol::Tcp), ..Self::new(None) }
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

    /// Its octets pass as they are, both ways.
    pub fn pass(&mut self) {
        self.during = Some(During::Data);
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

    /// It is cut since the proxy stops and waits no longer.
    pub fn cut(&mut self) {
        self.end(By::Operator, Cause::Stopped, "cut: the proxy stopped, and its time limit for that had passed");
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
            By::Operator => 'K',
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
        let is_answered = self.version == Some(Protocol::Tcp) || (100..500).contains(&self.status);
        matches!(self.by, By::Nobody | By::Here) && self.retries == 0 && is_answered
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
