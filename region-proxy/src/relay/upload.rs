//! A request on its way to a server.

use std::io;
use std::task::{Context, Poll, ready};

use super::body::{Body, Outbox};
use super::client::Client;
use crate::clock::Tick;
use crate::http1::Refusal;
use crate::stream::Stream;

/// The head of a request, as it is for the server, and its body.
#[derive(Debug)]
pub(super) struct Upload {
    /// At first the head and what came with it of the body.
    out: Outbox,
    body: Body,
    /// Whether `out` still holds all that was read of the request, so that it can be sent again.
    is_replayable: bool,
    is_waiting_for_client: bool,
    /// Octets of data that may still come.
    room: u64,
    /// When something of it was last sent.
    pub(super) progress: Tick,
}

/// Why a request cannot be sent to its end.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The server takes no more.
    Server(io::Error),
    /// The client's connection ended within the body.
    ClientGone(io::Error),
    /// The body is malformed.
    ClientBroken(Refusal),
    /// The body is larger than it may be.
    TooLarge,
}

impl Upload {
    /// `head` with what is there of the body, of which `body` is still to come: at most `room` octets of data.
    pub(super) fn new(head: Vec<u8>, body: Body, room: u64) -> Self {
        let (is_replayable, is_waiting_for_client) = (true, false);
        Self { out: Outbox::new(head), body, is_replayable, is_waiting_for_client, room, progress: Tick::now() }
    }

    /// Whether the whole request was sent.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_done() && self.out.is_empty()
    }

    /// Whether nothing was sent.
    pub(super) fn is_unsent(&self) -> bool {
        self.is_replayable && self.out.sent() == 0
    }

    /// Whether it can be sent once more: nothing was read beyond what is still held.
    pub(super) fn is_replayable(&self) -> bool {
        self.is_replayable
    }

    /// Whether it is held whole, body and all.
    pub(super) fn is_held(&self) -> bool {
        self.is_replayable && self.body.is_done()
    }

    /// Whether the server waits for the client.
    pub(super) fn is_waiting_for_client(&self) -> bool {
        self.is_waiting_for_client && !self.body.is_done()
    }

    /// Begins again, for another connection.
    pub(super) fn rewind(&mut self) {
        self.out.rewind();
        self.progress = Tick::now();
    }

    /// Octets that the server took, of the present attempt.
    pub(super) fn octets(&self) -> u64 {
        self.out.passed()
    }

    /// Its memory, for others.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        self.out.take_bytes()
    }

    /// Sends until the server takes no more or the client has no more.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        server: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            if !self.out.is_empty() {
                let before = self.out.sent();
                let flushed = self.out.poll_flush(cx, server);
                if self.out.sent() != before {
                    self.progress = Tick::now();
                }
                ready!(flushed).map_err(UploadError::Server)?;
            }
            if self.body.is_done() {
                return Poll::Ready(Ok(()));
            }
            self.is_waiting_for_client = true;
            ready!(self.poll_pass(cx, client, server))?;
            self.is_waiting_for_client = false;
            self.progress = Tick::now();
        }
    }

    /// Passes one part of the body on.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        server: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        let worker = std::rc::Rc::clone(&client.worker);
        let mut buffer = worker.buffers.read.borrow_mut();
        let count = ready!(client.poll_body(cx, &mut buffer)).map_err(UploadError::ClientGone)?;
        if count == 0 {
            return Poll::Ready(Err(UploadError::ClientGone(io::ErrorKind::UnexpectedEof.into())));
        }
        let (mut before, mut after) = (worker.buffers.take(), worker.buffers.take());
        let bytes = &mut buffer[..count];
        let part = self.body.take(bytes, &mut before, &mut after).map_err(UploadError::ClientBroken)?;
        client.unread.extend(&bytes[part.consumed..], &worker.buffers);
        self.is_replayable = false;
        self.room = self.room.checked_sub(part.data.len() as u64).ok_or(UploadError::TooLarge)?;
        let sent = self.out.send(cx, server, [&before, &bytes[part.data], &after]);
        worker.buffers.give_back(before);
        worker.buffers.give_back(after);
        Poll::Ready(sent.map_err(UploadError::Server))
    }
}
