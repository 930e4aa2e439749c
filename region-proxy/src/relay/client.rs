//! A client's connection between two requests.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ProtocolVersion;

use super::admit::{self, Admission};
use super::answer::{Answer, Own};
use super::exchange::Exchange;
use super::record::{By, Cause, Record};
use super::tell::{Teller, tell};
use super::unread::Unread;
use crate::clock::{Tick, Waiting};
use crate::config::ProxyHeader;
use crate::guests::Guest;
use crate::http1::{HTTP2_PREFACE, is_worth_reading};
use crate::listen::Permit;
use crate::proxy_protocol::{self, Ends};
use crate::stream::Stream;
use crate::worker::Worker;

/// What a client's connection holds while it waits: no buffer but for octets that came too soon or are too few.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) socket: Stream,
    pub(super) peer: Peer,
    /// Whether it must begin with a PROXY header.
    pub(super) is_unintroduced: bool,
    /// What was read and belongs to no message that is under way.
    pub(super) unread: Unread,
    /// How many of these were looked at in vain.
    seen: usize,
    /// When the first of them came, where they are of a request.
    began: Option<Tick>,
    /// Requests that it has sent so far.
    requests: u32,
    /// `None`: that of the connection that it is a stream of.
    permit: Option<Permit>,
    /// Its place among the deadlines of its thread.
    pub(super) place: u32,
}

/// Both ends of a client's connection: as the socket says, or a PROXY header.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Where the client is.
    pub address: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// Whether it speaks TLS to this proxy.
    pub is_secure: bool,
    /// Whether it speaks HTTP/2.
    pub is_http2: bool,
    /// What TLS the connection has that its stream is in.
    pub tls: Option<ProtocolVersion>,
}

impl Peer {
    /// Appends the PROXY header that tells a server of this.
    pub fn introduce(self, version: ProxyHeader, out: &mut Vec<u8>) {
        let ends = Some(Ends { source: self.address, destination: self.destination });
        match version {
            ProxyHeader::V1 => proxy_protocol::write_v1(ends, out),
            ProxyHeader::V2 => proxy_protocol::write_v2(ends, out),
        }
    }
}

/// What comes next on a connection.
pub(super) enum Next {
    /// A request to forward.
    Exchange(Box<Exchange>),
    /// A request that the proxy answers itself.
    Answer(Box<Own>),
    /// A connection of HTTP/2, of which the first octets are unread.
    Http2,
    /// Nothing.
    Closed,
}

/// What follows on a connection after a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum After {
    /// The next request.
    Next,
    /// Its end.
    Close,
    /// Its end, once the client had time to read the answer: it may still be sending.
    Linger,
    /// Its end, in a way that no client takes for that of the answer.
    Reset,
}

impl Client {
    /// A connection that was just accepted; with `is_unintroduced` it begins with a PROXY header.
    pub(super) fn new(
        worker: Rc<Worker>,
        socket: Stream,
        peer: Peer,
        is_unintroduced: bool,
        permit: Option<Permit>,
    ) -> Self {
        let place = worker.deadlines.take();
        if !matches!(socket, Stream::Lane(_)) {
            worker.proxy.tally.accept(worker.number);
        }
        let unread = Unread::default();
        Self { worker, socket, peer, is_unintroduced, unread, seen: 0, began: None, requests: 0, permit, place }
    }

    /// Waits for the next request, for as long as the settings allow since `since`, or since its first octet.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, since: &mut Tick) -> Poll<Next> {
        loop {
            if let Some(next) = self.admit_unread() {
                return Poll::Ready(next);
            }
            let worker = Rc::clone(&self.worker);
            let mut buffer = worker.buffers.read.borrow_mut();
            let count = match self.socket.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.note_abort();
                    return Poll::Ready(Next::Closed);
                }
                Poll::Ready(Ok(count)) => count,
                Poll::Pending => return self.poll_patience(cx, *since),
            };
            if self.unread.is_empty() && self.requests > 0 {
                *since = Tick::now();
            }
            if self.unread.is_empty() && !self.is_unintroduced {
                if let Some(next) = self.admit(&mut buffer[..count]) {
                    return Poll::Ready(next);
                }
            } else {
                self.unread.extend(&buffer[..count], &worker.buffers);
            }
        }
    }

    /// Waits for more of a request's body.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.socket.poll_read(cx, buffer);
        if read.is_pending() && self.requests == 1 {
            self.socket.acknowledge();
        }
        read
    }

    /// Whether the client has sent more than was read of it.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.socket.has_unread()
    }

    /// What is next by the octets that are there already.
    fn admit_unread(&mut self) -> Option<Next> {
        if self.unread.as_slice().len() == self.seen {
            return None;
        }
        if self.is_unintroduced && !self.meet()? {
            return Some(Next::Closed);
        }
        if self.unread.is_empty() {
            return None;
        }
        let limits = admit::limits(&self.worker.current().live.config);
        if !is_worth_reading(self.unread.as_slice(), self.seen, limits) {
            self.seen = self.unread.as_slice().len();
            self.began.get_or_insert_with(Tick::now);
            return None;
        }
        if self.requests == 0 && self.begins_http2(self.unread.as_slice()) {
            return Some(Next::Http2);
        }
        let record = Record::new(self.began.take());
        match admit::admit(&self.worker, self.peer, record, self.unread.as_mut_slice(), self.requests) {
            Admission::Partial(record) => {
                self.began = Some(record.began());
                self.seen = self.unread.as_slice().len();
                None
            }
            Admission::Next(next, consumed) => {
                (self.seen, self.requests) = (0, self.requests.saturating_add(1));
                self.unread.consume(consumed, &self.worker.buffers);
                Some(next)
            }
        }
    }

    /// Reads the PROXY header; `None` while it is not whole, `false` when it is none.
    pub(super) fn meet(&mut self) -> Option<bool> {
        match proxy_protocol::read(self.unread.as_slice()) {
            Ok(Some(header)) => {
                if let Some(ends) = header.ends {
                    (self.peer.address, self.peer.destination) = (ends.source, ends.destination);
                }
                self.unread.consume(header.len, &self.worker.buffers);
                (self.is_unintroduced, self.seen) = (false, 0);
                if self.unread.is_empty() {
                    self.socket.acknowledge();
                }
                let current = self.worker.current();
                let guest = Guest::enter(&self.worker, self.peer.address.ip(), &current.live.config);
                let is_welcome = guest.is_ok();
                if let Some(permit) = &mut self.permit {
                    permit.guest = guest.unwrap_or_default();
                }
                Some(is_welcome)
            }
            Ok(None) => {
                self.seen = self.unread.as_slice().len();
                None
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer.address, %error, "connection refused");
                let mut record = Record::new(self.began.take());
                record.end(By::Proxy, Cause::Refused, error.to_string());
                tell(&mut record, self.teller(), None);
                Some(false)
            }
        }
    }

    /// What is next by `bytes`, with nothing unread before them; what it does not need of them is unread then.
    fn admit(&mut self, bytes: &mut [u8]) -> Option<Next> {
        if self.requests == 0 && self.begins_http2(bytes) {
            self.unread.extend(bytes, &self.worker.buffers);
            return Some(Next::Http2);
        }
        let record = Record::new(self.began.take());
        let (next, consumed) = match admit::admit(&self.worker, self.peer, record, bytes, self.requests) {
            Admission::Partial(record) => {
                self.began = Some(record.began());
                (None, 0)
            }
            Admission::Next(next, consumed) => (Some(next), consumed),
        };
        self.seen = if next.is_none() { bytes.len() } else { 0 };
        self.requests = self.requests.saturating_add(next.is_some().into());
        self.unread.extend(&bytes[consumed..], &self.worker.buffers);
        next
    }

    /// Whether it knows beforehand that HTTP/2 is spoken here (RFC 9113, section 3.3).
    fn begins_http2(&self, bytes: &[u8]) -> bool {
        let count = bytes.len().min(HTTP2_PREFACE.len());
        // So much is also enough for the other reader to refuse it.
        count >= "PRI * HTTP/2.0".len()
            && bytes[..count] == HTTP2_PREFACE[..count]
            && !self.peer.is_secure
            && self.worker.current().live.config.http2.cleartext
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>, since: Tick) -> Poll<Next> {
        let limits = self.worker.current().live.config.limits;
        let is_idle = self.requests > 0 && self.unread.is_empty();
        let limit = if is_idle { limits.keep_alive } else { limits.request_head };
        if self.worker.is_over() || self.worker.deadlines.is_dismissed(self.place) {
            return Poll::Ready(Next::Closed);
        }
        if Tick::now().since(since) >= limit {
            return Poll::Ready(if self.unread.is_empty() {
                Next::Closed
            } else {
                Next::Answer(Box::new(self.late()))
            });
        }
        if self.requests == 0 && !self.unread.is_empty() {
            self.socket.acknowledge();
        }
        self.worker.deadlines.arm(self.place, since.after(limit), Waiting::Idle, cx.waker());
        Poll::Pending
    }

    /// The answer to a client that sends its head too slowly.
    fn late(&mut self) -> Own {
        let (text, mut record) = ("no whole request head within the time limit", Record::new(self.began.take()));
        record.end(By::ClientLate, Cause::ClientLate, text);
        Own::new(Answer::late(text), record)
    }

    /// Tells of a request of which there is only the beginning.
    fn note_abort(&mut self) {
        if self.began.is_some() {
            let mut record = Record::new(self.began.take());
            record.end(By::Client, Cause::ClientGone, "gone before the end of the request head");
            tell(&mut record, self.teller(), None);
        }
    }

    /// Tells of the requests of this client.
    pub(super) fn teller(&self) -> Teller<'_> {
        let tls = self.socket.session().and_then(|session| session.connection().protocol_version()).or(self.peer.tls);
        Teller { worker: &self.worker, address: self.peer.address, tls }
    }

    /// Sends `answer` from `sent` on, as long as the client takes some within the time limit that began at `since`.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        answer: &Answer,
        sent: &mut usize,
        since: Tick,
    ) -> Poll<Result<(), ()>> {
        while *sent < answer.octets.len() {
            let rest = &answer.octets[*sent..];
            let written = match answer.after {
                After::Next => self.socket.poll_write(cx, &[IoSlice::new(rest)]),
                _ => self.socket.poll_write_last(cx, rest),
            };
            match written {
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {
                    let limit = self.worker.current().live.config.limits.client_stall;
                    return self.poll_limit(cx, since.after(limit)).map(Err);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets what the client still sends, so that it can read the answer before its connection is reset.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>, since: Tick, left: &mut usize) -> Poll<()> {
        let worker = Rc::clone(&self.worker);
        let mut buffer = worker.buffers.read.borrow_mut();
        while *left > 0 {
            match self.socket.poll_discard(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => *left = left.saturating_sub(count),
                Poll::Pending if worker.is_over() => return Poll::Ready(()),
                Poll::Pending => return self.poll_limit(cx, since.after(LINGER)),
            }
        }
        Poll::Ready(())
    }

    /// Ready at `at`.
    fn poll_limit(&mut self, cx: &mut Context<'_>, at: Tick) -> Poll<()> {
        if Tick::now() >= at {
            return Poll::Ready(());
        }
        self.worker.deadlines.arm(self.place, at, Waiting::Busy, cx.waker());
        Poll::Pending
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.deadlines.give_back(self.place);
        if !matches!(self.socket, Stream::Lane(_)) {
            self.worker.proxy.tally.close(self.worker.number);
        }
    }
}

/// Enough for the answer to go round the world.
const LINGER: Duration = Duration::from_secs(2);

/// Whoever sends on and on is cut all the same.
pub(super) const LINGER_OCTETS: usize = 16 << 20;
