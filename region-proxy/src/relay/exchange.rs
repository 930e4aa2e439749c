//! One request and its response: a server is chosen, connected to or a connection to it used again, and another one is
//! tried when that fails before anything came back.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::answer::Answer;
use super::client::{After, Client};
use super::download::{Download, Outcome, Passing, Sent};
use super::record::{By, Cause, Record};
use super::tunnel::Tunnel;
use super::upload::{Upload, UploadError};
use crate::balance::{Choice, Sticky};
use crate::clock::Tick;
use crate::config::ServerProtocol;
use crate::http1::{Persistence, Version};
use crate::local::{Call, Flight};
use crate::plan::{self, Connection, Failure};
use crate::stick;
use crate::stream::Stream;
use crate::upstream::{self, Care, Target};
use crate::worker::Worker;

mod failure;
mod report;

/// What must be known of a request once its head was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The response has no body.
    pub(super) is_head: bool,
    /// It may reach a server twice without harm.
    pub(super) is_idempotent: bool,
    /// Another protocol was asked for.
    pub(super) is_upgrade: bool,
    /// The client waits for status 100.
    pub(super) expects_continue: bool,
    /// What the client speaks.
    pub(super) version: Version,
    /// Whether the client keeps its connection.
    pub(super) persistence: Persistence,
    /// The largest body that it may have, in octets of data.
    pub(super) body_max: u64,
}

/// Which server a request would have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The one that it sticks to.
    pub(super) sticky: Sticky,
    /// The one that this leads to.
    pub(super) hash: Option<u64>,
    /// What its cookie asked for.
    pub(super) cookie: stick::Asked,
    /// The index of the route that it took.
    pub(super) route: Option<usize>,
}

/// A request under way.
pub(super) struct Exchange {
    worker: Rc<Worker>,
    flight: Flight,
    asked: Asked,
    upload: Upload,
    download: Download,
    stage: Stage,
    wish: Wish,
    /// The servers that it failed on.
    tried: Vec<usize>,
    /// The answer when no other is left.
    last_answer: Option<plan::Answer>,
    is_answer_noted: bool,
    /// Why the rest of the request cannot be sent, where the response may still come.
    cut: Option<String>,
    /// Whether a server has sent it back unseen.
    was_refused: bool,
    record: Record,
    /// When it was last looked whether the client is still there.
    looked: Tick,
}

enum Stage {
    /// A server must be chosen.
    Choosing,
    /// All servers are full.
    Waiting(Tick),
    /// The chosen one is connected to.
    Connecting(Connecting),
    /// It has the request.
    Relaying(Stream, Connection),
    /// No longer HTTP.
    Tunnelling(Stream, Box<Tunnel>),
    /// The proxy answers itself.
    Answering { answer: Answer, sent: usize, since: Tick },
}

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, (Failure, String)>>>>;

/// An attempt that came to nothing.
struct Failed {
    failure: Failure,
    cause: String,
}

impl Exchange {
    /// A request for the service of `flight`.
    pub(super) fn new(
        worker: Rc<Worker>,
        flight: Flight,
        asked: Asked,
        wish: Wish,
        upload: Upload,
        record: Record,
    ) -> Self {
        let download = Download::new(asked);
        Self {
            worker,
            flight,
            asked,
            upload,
            download,
            stage: Stage::Choosing,
            wish,
            tried: Vec::new(),
            last_answer: None,
            is_answer_noted: false,
            cut: None,
            was_refused: false,
            record,
            looked: Tick::now(),
        }
    }

    /// Goes on with it, up to what follows on the connection of `client`; tells of it then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<After> {
        let after = match self.worker.is_cut() {
            true => self.stop(),
            false => ready!(self.poll_after(cx, client)),
        };
        self.report(client);
        Poll::Ready(after)
    }

    fn poll_after(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<After> {
        loop {
            match &mut self.stage {
                Stage::Choosing => self.choose(),
                Stage::Waiting(since) => {
                    let since = *since;
                    if let Some(after) = ready!(self.poll_call(cx, client, since)) {
                        return Poll::Ready(after);
                    }
                }
                Stage::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(socket)) => self.begin_new(socket),
                    Poll::Ready(Err((failure, cause))) => self.fail(Failed { failure, cause }),
                    Poll::Pending => return self.poll_client(cx, client, Tick::NEVER),
                },
                Stage::Relaying(..) => match ready!(self.poll_relay(cx, client)) {
                    Ok(Some(after)) => return Poll::Ready(after),
                    Ok(None) => {}
                    Err(failed) => self.fail(failed),
                },
                Stage::Tunnelling(server, tunnel) => {
                    ready!(tunnel.poll(cx, client, server));
                    return Poll::Ready(After::Close);
                }
                Stage::Answering { answer, sent, since } => {
                    if ready!(client.poll_send(cx, answer, sent, *since)).is_ok() {
                        return Poll::Ready(answer.after);
                    }
                    self.record.end_last(By::Client, Cause::ClientGone, "");
                    return Poll::Ready(After::Close);
                }
            }
        }
    }

    fn choose(&mut self) {
        match self.flight.choose(self.wish.sticky, self.wish.hash, &self.tried) {
            Choice::Server(_) => self.reach(),
            Choice::Wait(server) => {
                self.record.queue(self.flight.waiting(), server.is_some());
                match self.flight.wait(server, &self.tried) {
                    true => self.stage = Stage::Waiting(Tick::now()),
                    false => {
                        self.answer_no_server(Cause::QueueFull, "all servers are busy, and too many requests wait")
                    }
                }
            }
            Choice::Nobody => match self.last_answer {
                Some(answer) => self.give_up(answer),
                None => self.answer_no_server(Cause::NoServer, "no server is up"),
            },
        }
    }

    /// Waits for its turn; `None`: the stage has changed.
    fn poll_call(&mut self, cx: &mut Context<'_>, client: &Client, since: Tick) -> Poll<Option<After>> {
        match self.flight.poll_call(cx.waker()) {
            // No server is to work for nobody.
            Poll::Ready(Call::Server(_)) if client.socket.is_gone() => {
                return Poll::Ready(Some(self.leave_client(client)));
            }
            Poll::Ready(Call::Server(_)) => self.reach(),
            Poll::Ready(Call::Again) => self.stage = Stage::Choosing,
            Poll::Pending => {
                let end = since.after(self.flight.service().config.balance.queue_time);
                if Tick::now() < end {
                    return self.poll_client(cx, client, end).map(Some);
                }
                self.answer_no_server(Cause::QueueLate, "all servers were busy for too long");
            }
        }
        Poll::Ready(None)
    }

    /// Has the server that was chosen get the request.
    fn reach(&mut self) {
        let (Some(index), Some(server)) = (self.flight.server_index(), self.flight.server()) else {
            return self.answer_no_server(Cause::NoServer, "no server is up");
        };
        self.record.assign(index);
        if self.speaks_http2() {
            return match self.worker.links.lane(server.number) {
                Some(lane) => self.begin(Stream::Lane(lane), Connection::Kept),
                None => self.connect(),
            };
        }
        let (number, can_repeat) = (server.number, self.asked.is_idempotent && self.upload.is_held());
        let care = if can_repeat { Care::Usual } else { Care::Utmost };
        let room = &self.worker.buffers.read;
        match self.worker.pools.kept(number, self.flight.live().config.limits.upstream_idle, care, room) {
            Some(socket) => self.begin(socket, Connection::Kept),
            None => self.connect(),
        }
    }

    fn connect(&mut self) {
        let Some(server) = self.flight.server() else {
            return self.answer_no_server(Cause::NoServer, "no server is up");
        };
        let target = Target::of(server, self.flight.service().config.protocol);
        let limit = self.flight.live().config.limits.connect;
        self.stage = Stage::Connecting(Box::pin(upstream::connect(Rc::clone(&self.worker), target, limit)));
    }

    /// Whether its servers speak HTTP/2.
    fn speaks_http2(&self) -> bool {
        self.flight.service().config.protocol == ServerProtocol::Http2
    }

    /// Has the request sent on a connection that was just made, or on a stream of it.
    fn begin_new(&mut self, socket: Stream) {
        let number = self.flight.server().map_or(0, |server| server.number);
        let socket = match self.speaks_http2() {
            true => self.worker.links.start(&self.worker, number, socket).map(Stream::Lane),
            false => Some(socket),
        };
        match socket {
            Some(socket) => self.begin(socket, Connection::New),
            None => {
                let cause = "the connection takes no stream".to_owned();
                self.fail(Failed { failure: Failure::NoConnection, cause });
            }
        }
    }

    fn begin(&mut self, socket: Stream, connection: Connection) {
        let is_reused = connection == Connection::Kept;
        self.record.connect(is_reused);
        if let Some(server) = self.flight.server() {
            server.tally.connect(self.flight.thread(), is_reused);
        }
        self.upload.rewind();
        self.download = Download::new(self.asked);
        self.stage = Stage::Relaying(socket, connection);
    }

    /// Passes both ways; `None`: the stage has changed.
    fn poll_relay(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<Option<After>, Failed>> {
        let Stage::Relaying(server, _) = &mut self.stage else { return Poll::Ready(Ok(None)) };
        if self.cut.is_none()
            && !self.upload.is_done()
            && let Poll::Ready(Err(error)) = self.upload.poll(cx, client, server)
        {
            match error {
                // The server may have said why it takes no more.
                UploadError::Server(error) => self.cut = Some(error.to_string()),
                error => return Poll::Ready(self.blame_client(error)),
            }
        }
        let Stage::Relaying(server, _) = &mut self.stage else { return Poll::Ready(Ok(None)) };
        let down = match self.download.is_done() {
            true => Poll::Ready(Ok(Outcome::Whole)),
            false => {
                let sent = match &self.cut {
                    Some(_) => Sent::Cut,
                    None if self.upload.is_done() => Sent::Whole,
                    None => Sent::Partly,
                };
                let passing = Passing { flight: &self.flight, wish: &self.wish, sent };
                self.download.poll(cx, client, server, passing)
            }
        };
        if self.download.is_answered() && !self.is_answer_noted {
            self.is_answer_noted = true;
            self.flight.answered(self.download.status());
            self.record.answer(self.download.status());
        }
        match down {
            Poll::Pending => self.poll_limits(cx, client),
            Poll::Ready(Ok(Outcome::Switched)) => Poll::Ready(Ok(self.switch(client))),
            Poll::Ready(Ok(Outcome::Whole)) if self.is_upload_over() => Poll::Ready(Ok(Some(self.finish()))),
            // The server has answered and reads on.
            Poll::Ready(Ok(Outcome::Whole)) => self.poll_limits(cx, client),
            Poll::Ready(Err(error)) => Poll::Ready(self.blame(error)),
        }
    }

    /// Whether nothing more of the request will be sent: all was, or nobody wants the rest.
    fn is_upload_over(&self) -> bool {
        let is_unwanted = !self.download.keeps_server() || self.download.holds_body_back();
        self.upload.is_done() || self.cut.is_some() || is_unwanted
    }

    /// The response was passed on: keeps what can be used again.
    fn finish(&mut self) -> After {
        let is_sent = self.upload.is_done();
        if let Stage::Relaying(socket, _) = std::mem::replace(&mut self.stage, Stage::Choosing)
            && is_sent
            && self.download.keeps_server()
            // A connection that was introduced as one client's is for no other.
            && self.flight.service().config.send_proxy.is_none()
            && let Some(server) = self.flight.server()
        {
            self.worker.pools.keep(server.number, socket);
        }
        match (is_sent, self.download.keeps_client()) {
            (true, true) => After::Next,
            (true, false) => After::Close,
            _ => After::Linger,
        }
    }

    /// Status 101 was passed on.
    fn switch(&mut self, client: &mut Client) -> Option<After> {
        let Stage::Relaying(socket, _) = std::mem::replace(&mut self.stage, Stage::Choosing) else { return None };
        let download = std::mem::replace(&mut self.download, Download::new(self.asked));
        let limit = self.flight.live().config.limits.tunnel;
        self.record.octets_up = self.upload.octets();
        let tunnel = Tunnel::new(download.into_out(), std::mem::take(&mut client.unread).into_bytes(), limit);
        self.stage = Stage::Tunnelling(socket, Box::new(tunnel));
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.buffers.give_back(self.upload.take_bytes());
    }
}
