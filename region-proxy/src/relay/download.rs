//! A response on its way to a client.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::body::{Body, Outbox};
use super::client::Client;
use super::exchange::{Asked, Wish};
use crate::clock::Tick;
use crate::http1::{Persistence, is_worth_reading};
use crate::local::Flight;
use crate::pipe::{self, Pipe};
use crate::stick::Told;
use crate::stream::Stream;

mod head;

/// A response from its first octet to its last.
#[derive(Debug)]
pub(super) struct Download {
    asked: Asked,
    phase: Phase,
    /// The beginning of a head that is not whole.
    head: Vec<u8>,
    out: Outbox,
    pipe: Option<Pipe>,
    /// Octets that the client took from the pipe.
    spliced: u64,
    /// Of the final response; 0 before it.
    status: u16,
    told: Option<Told>,
    /// What the access log shows of its fields.
    shown: Vec<u8>,
    /// Whether there was no pipe to be had.
    is_copied: bool,
    /// Whether the client's windows are closed.
    lacks_room: bool,
    has_begun: bool,
    has_continued: bool,
    is_answered: bool,
    /// Interim responses so far.
    interims: u8,
    /// Whether the client finds its end by that of the connection alone.
    ends_by_close: bool,
    /// Whether the client's connection may be used again.
    keeps_client: bool,
    /// Whether the server's connection may.
    keeps_server: bool,
    /// When something of it last came or went.
    pub(super) progress: Tick,
}

#[derive(Debug)]
enum Phase {
    Head,
    Body(Body),
    Done(Outcome),
}

/// How a response ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// All of it was passed on.
    Whole,
    /// Both sides speak another protocol from here on.
    Switched,
}

/// What a response is passed on by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing<'x> {
    /// The request that it answers.
    pub(super) flight: &'x Flight,
    /// Which server it would have had.
    pub(super) wish: &'x Wish,
    /// How much of the request was sent.
    pub(super) sent: Sent,
}

/// How much of a request was sent when its response came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sent {
    /// All.
    Whole,
    /// Some; the rest follows if the server stays.
    Partly,
    /// Some; the rest will not be read.
    Cut,
}

/// Why a response cannot be passed on to its end.
#[derive(Debug)]
pub(super) enum DownloadError {
    /// The server's connection broke, or ended too soon.
    Server(io::Error),
    /// What the server says is no response to this request.
    Bad(String),
    /// The client takes no more.
    Client(io::Error),
}

impl Download {
    /// The response to a request of which `asked` is known.
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            asked,
            phase: Phase::Head,
            head: Vec::new(),
            out: Outbox::default(),
            pipe: None,
            spliced: 0,
            status: 0,
            told: None,
            shown: Vec::new(),
            is_copied: false,
            lacks_room: false,
            has_begun: false,
            has_continued: false,
            is_answered: false,
            interims: 0,
            ends_by_close: false,
            keeps_client: asked.persistence == Persistence::KeepAlive,
            keeps_server: true,
            progress: Tick::now(),
        }
    }

    /// Whether an octet of it has come: then the request is not sent again.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether something of the final response was sent to the client.
    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether the end of the client's connection would look like that of the response.
    pub(super) fn ends_by_close(&self) -> bool {
        self.ends_by_close
    }

    /// Whether all of it was passed on.
    pub(super) fn is_done(&self) -> bool {
        self.has_all() && self.out.is_empty()
    }

    /// The status of the final response; 0 before it.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// What it told the client of its cookie, where there is one.
    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// What the access log shows of its fields; empty where that is nothing.
    pub(super) fn shown(&self) -> &[u8] {
        &self.shown
    }

    /// Octets that the client took.
    pub(super) fn octets(&self) -> u64 {
        self.out.passed() + self.spliced
    }

    /// Whether the server has no more of it.
    pub(super) fn has_all(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    /// Whether it waits for the client to take what it has.
    pub(super) fn is_waiting_for_client(&self) -> bool {
        self.lacks_room || !self.out.is_empty() || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    /// Whether the client was told to expect another response.
    pub(super) fn keeps_client(&self) -> bool {
        self.keeps_client
    }

    /// Whether the server will take another request on its connection.
    pub(super) fn keeps_server(&self) -> bool {
        self.keeps_server
    }

    /// Whether the client, which waits for status 100, has got no word to send its body.
    pub(super) fn holds_body_back(&self) -> bool {
        self.asked.expects_continue && !self.has_continued
    }

    /// What is left to send when the protocol changes: octets of the new one that came with the head.
    pub(super) fn into_out(self) -> Outbox {
        self.out
    }

    /// Passes on until the server has no more or the client takes no more.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        server: &mut Stream,
        passing: Passing<'_>,
    ) -> Poll<Result<Outcome, DownloadError>> {
        loop {
            if !self.out.is_empty() {
                let before = self.out.sent();
                let flushed = self.out.poll_flush(cx, &mut client.socket);
                if self.out.sent() != before {
                    self.progress = Tick::now();
                }
                ready!(flushed).map_err(DownloadError::Client)?;
            }
            if let Phase::Done(outcome) = self.phase {
                return Poll::Ready(Ok(outcome));
            }
            if self.is_for_splice(client, server) {
                ready!(self.poll_splice(cx, client, server))?;
            } else {
                ready!(self.poll_pass(cx, client, server, passing))?;
            }
            self.progress = Tick::now();
        }
    }

    /// Passes on what one read gives.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        server: &mut Stream,
        passing: Passing<'_>,
    ) -> Poll<Result<(), DownloadError>> {
        let worker = Rc::clone(&client.worker);
        let mut buffer = worker.buffers.read.borrow_mut();
        let Poll::Ready(room) = client.socket.poll_room(cx) else {
            self.lacks_room = true;
            return Poll::Pending;
        };
        if std::mem::take(&mut self.lacks_room) {
            // So far it was not the server that had to go on.
            self.progress = Tick::now();
        }
        let room = room.max(ROOM_MIN).min(buffer.len());
        // TLS needs room for whole records.
        let room = if server.plain().is_some() { &mut buffer[..room] } else { &mut buffer[..] };
        let count = ready!(server.poll_read(cx, room)).map_err(DownloadError::Server)?;
        if count == 0 {
            return Poll::Ready(self.end(cx, client));
        }
        self.has_begun = true;
        let mut scratch = worker.buffers.scratch.borrow_mut();
        scratch.clear();
        if self.head.is_empty() {
            return Poll::Ready(self.take(cx, client, &mut buffer[..count], &mut scratch, passing));
        }
        let mut bytes = std::mem::take(&mut self.head);
        let seen = bytes.len();
        bytes.extend_from_slice(&buffer[..count]);
        if !is_worth_reading(&bytes, seen, super::admit::limits(&passing.flight.live().config)) {
            self.head = bytes;
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(self.take(cx, client, &mut bytes, &mut scratch, passing))
    }

    /// Passes `bytes` on: heads into `scratch`, then the body, in one system call.
    fn take(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        bytes: &mut [u8],
        scratch: &mut Vec<u8>,
        passing: Passing<'_>,
    ) -> Result<(), DownloadError> {
        let mut at = 0;
        while matches!(self.phase, Phase::Head) {
            match self.take_head(&client.worker, &bytes[at..], scratch, passing)? {
                Some(len) => at += len,
                None => {
                    self.head.extend_from_slice(&bytes[at..]);
                    return self.send(cx, client, [scratch, &[], &[]]);
                }
            }
        }
        self.take_body(cx, client, &mut bytes[at..], scratch, passing.sent)
    }

    /// Passes `rest` on behind the head in `scratch`, if that has just come.
    fn take_body(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        rest: &mut [u8],
        scratch: &mut Vec<u8>,
        request: Sent,
    ) -> Result<(), DownloadError> {
        let worker = Rc::clone(&client.worker);
        let mut after = worker.buffers.take();
        let (data, is_done) = match &mut self.phase {
            Phase::Body(body) => {
                let part = body.take(rest, scratch, &mut after);
                let part = part.map_err(|error| DownloadError::Bad(error.to_string()))?;
                if part.consumed < rest.len() {
                    // More than it may send: what that is belongs to nobody.
                    self.keeps_server = false;
                }
                (part.data, body.is_done())
            }
            // What comes after 101 is of the new protocol.
            _ => (0..rest.len(), false),
        };
        self.is_answered = true;
        let sent = if data.len() <= GATHERED_MAX {
            scratch.extend_from_slice(&rest[data]);
            scratch.extend_from_slice(&after);
            // Then the end of the connection follows at once, and may go with it.
            let is_last = is_done && !self.keeps_client && request == Sent::Whole;
            if is_last { self.send_last(cx, client, scratch) } else { self.send(cx, client, [scratch, &[], &[]]) }
        } else {
            self.send(cx, client, [scratch, &rest[data], &after])
        };
        worker.buffers.give_back(after);
        if is_done {
            self.phase = Phase::Done(Outcome::Whole);
        }
        sent
    }

    /// The server's connection has ended.
    fn end(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Result<(), DownloadError> {
        self.keeps_server = false;
        let mut after = Vec::new();
        let is_whole = match &mut self.phase {
            Phase::Body(body) => body.end(&mut after).is_ok(),
            _ => false,
        };
        if !is_whole {
            return Err(DownloadError::Server(io::ErrorKind::UnexpectedEof.into()));
        }
        self.phase = Phase::Done(Outcome::Whole);
        self.send(cx, client, [&after, &[], &[]])
    }

    fn send(&mut self, cx: &mut Context<'_>, client: &mut Client, parts: [&[u8]; 3]) -> Result<(), DownloadError> {
        self.out.send(cx, &mut client.socket, parts).map_err(DownloadError::Client)
    }

    fn send_last(&mut self, cx: &mut Context<'_>, client: &mut Client, bytes: &[u8]) -> Result<(), DownloadError> {
        self.out.send_last(cx, &mut client.socket, bytes).map_err(DownloadError::Client)
    }

    /// Whether the rest of the body goes through a pipe, which it has then.
    fn is_for_splice(&mut self, client: &mut Client, server: &mut Stream) -> bool {
        if self.pipe.is_some() {
            return true;
        }
        let Phase::Body(body) = &mut self.phase else { return false };
        let is_large = body.plain_left().is_some_and(|left| *left > SPLICE_MIN);
        if !is_large || self.is_copied || client.socket.plain().is_none() || server.plain().is_none() {
            return false;
        }
        // Out of files or memory: the longer way does without.
        self.pipe = client.worker.pipes.take().ok();
        self.is_copied = self.pipe.is_none();
        self.pipe.is_some()
    }

    /// Passes a part of the body on without reading it.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        server: &mut Stream,
    ) -> Poll<Result<(), DownloadError>> {
        let Phase::Body(body) = &mut self.phase else { return Poll::Ready(Ok(())) };
        let (Some(pipe), Some(left)) = (&mut self.pipe, body.plain_left()) else { return Poll::Ready(Ok(())) };
        let (Some(client_socket), Some(server)) = (client.socket.plain(), server.plain()) else {
            return Poll::Ready(Ok(()));
        };
        if pipe.is_empty() {
            let count = ready!(pipe.poll_fill(cx, server, *left)).map_err(DownloadError::Server)?;
            if count == 0 {
                return Poll::Ready(Err(DownloadError::Server(io::ErrorKind::UnexpectedEof.into())));
            }
            *left -= count as u64;
        }
        let more = if *left > 0 { pipe::Then::More } else { pipe::Then::Nothing };
        let before = pipe.len();
        let drained = pipe.poll_drain(cx, client_socket, more);
        if pipe.len() != before {
            self.progress = Tick::now();
            self.spliced += (before - pipe.len()) as u64;
        }
        ready!(drained).map_err(DownloadError::Client)?;
        if *left == 0 {
            body.settle();
            client.worker.pipes.give_back(self.pipe.take());
            self.phase = Phase::Done(Outcome::Whole);
        }
        Poll::Ready(Ok(()))
    }
}

/// With less at a time, a client with a small window would cost a system call for each piece.
const ROOM_MIN: usize = 16 * 1024;

/// Moving so few octets behind the head costs less than telling the kernel of several parts.
const GATHERED_MAX: usize = 4096;

/// Bodies of which more than this is still to come pass through a pipe.
const SPLICE_MIN: u64 = 32 * 1024;
