//! One request and its response: a server is chosen, connected to or a connection to it used again, and another one is
//! tried when that fails before anything came back.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::answer::{Answer, Saying};
use super::client::{After, Client};
use super::download::{Download, DownloadError, Outcome, Passing, Sent};
use super::tunnel::Tunnel;
use super::upload::{Upload, UploadError};
use crate::balance::{Choice, Sticky};
use crate::clock::{Tick, Waiting};
use crate::http1::{Persistence, Version};
use crate::local::{Call, Flight};
use crate::plan::{self, Connection, Failure, Next};
use crate::stick;
use crate::stream::Stream;
use crate::upstream;
use crate::worker::Worker;

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
    pub(super) fn new(worker: Rc<Worker>, flight: Flight, asked: Asked, wish: Wish, upload: Upload) -> Self {
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
        }
    }

    /// Goes on with it, up to what follows on the connection of `client`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<After> {
        loop {
            match &mut self.stage {
                Stage::Choosing => self.choose(),
                Stage::Waiting(since) => {
                    let since = *since;
                    ready!(self.poll_call(cx, client, since));
                }
                Stage::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(socket) => self.begin(socket, Connection::New),
                    Err((failure, cause)) => self.fail(Failed { failure, cause }),
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
                    let is_sent = ready!(client.poll_send(cx, &answer.octets, sent, *since)).is_ok();
                    return Poll::Ready(if is_sent { answer.after } else { After::Close });
                }
            }
        }
    }

    fn choose(&mut self) {
        match self.flight.choose(self.wish.sticky, self.wish.hash, &self.tried) {
            Choice::Server(_) => self.reach(),
            Choice::Wait(server) if self.flight.wait(server, &self.tried) => self.stage = Stage::Waiting(Tick::now()),
            Choice::Wait(_) => self.answer_no_server("all servers are busy, and too many requests wait"),
            Choice::Nobody => match self.last_answer {
                Some(answer) => self.give_up(answer),
                None => self.answer_no_server("no server is up"),
            },
        }
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, client: &Client, since: Tick) -> Poll<()> {
        match self.flight.poll_call(cx.waker()) {
            Poll::Ready(Call::Server(_)) => self.reach(),
            Poll::Ready(Call::Again) => self.stage = Stage::Choosing,
            Poll::Pending => {
                let end = since.after(self.flight.service().config.balance.queue_time);
                if Tick::now() < end {
                    self.worker.deadlines.arm(client.place, end, Waiting::Busy, cx.waker());
                    return Poll::Pending;
                }
                self.answer_no_server("all servers were busy for too long");
            }
        }
        Poll::Ready(())
    }

    /// Has the server that was chosen get the request.
    fn reach(&mut self) {
        let Some(number) = self.flight.server().map(|server| server.number) else {
            return self.answer_no_server("no server is up");
        };
        match self.worker.pools.kept(number, self.flight.live().config.limits.upstream_idle) {
            Some(socket) => self.begin(socket, Connection::Kept),
            None => self.connect(),
        }
    }

    fn connect(&mut self) {
        let Some(server) = self.flight.server() else { return self.answer_no_server("no server is up") };
        let limit = self.flight.live().config.limits.connect;
        self.stage = Stage::Connecting(Box::pin(upstream::connect(server.address, limit)));
    }

    fn begin(&mut self, socket: Stream, connection: Connection) {
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
                let passing = Passing { flight: &self.flight, cookie: &self.wish.cookie, sent };
                self.download.poll(cx, client, server, passing)
            }
        };
        if self.download.is_answered() && !self.is_answer_noted {
            self.is_answer_noted = true;
            self.flight.answered();
        }
        match down {
            Poll::Pending => self.poll_limits(cx, client),
            Poll::Ready(Ok(Outcome::Switched)) => Poll::Ready(Ok(self.switch(client))),
            Poll::Ready(Ok(Outcome::Whole)) if self.is_upload_over() => Poll::Ready(Ok(Some(self.finish(client)))),
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
    fn finish(&mut self, client: &Client) -> After {
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
            (true, false) if client.unread.is_empty() => After::Close,
            _ => After::Linger,
        }
    }

    /// Status 101 was passed on.
    fn switch(&mut self, client: &mut Client) -> Option<After> {
        let Stage::Relaying(socket, _) = std::mem::replace(&mut self.stage, Stage::Choosing) else { return None };
        let download = std::mem::replace(&mut self.download, Download::new(self.asked));
        let limit = self.flight.live().config.limits.tunnel;
        let tunnel = Tunnel::new(download.into_out(), std::mem::take(&mut client.unread), limit);
        self.stage = Stage::Tunnelling(socket, Box::new(tunnel));
        None
    }

    /// What follows when the client does not send its body as it should.
    fn blame_client(&mut self, error: UploadError) -> Result<Option<After>, Failed> {
        let cause = match error {
            UploadError::Server(error) | UploadError::ClientGone(error) => error.to_string(),
            UploadError::ClientBroken(refusal) => refusal.to_string(),
        };
        if self.download.is_answered() {
            Ok(Some(After::Close))
        } else {
            Err(Failed { failure: Failure::ClientBroken, cause })
        }
    }

    /// What follows when the response cannot be passed on.
    fn blame(&mut self, error: DownloadError) -> Result<Option<After>, Failed> {
        let is_answered = self.download.is_answered();
        let (cause, is_bad) = match error {
            DownloadError::Client(error) => {
                tracing::debug!(cause = %error, "client gone");
                return Ok(Some(After::Close));
            }
            DownloadError::Server(error) => (self.cut.take().unwrap_or_else(|| error.to_string()), false),
            DownloadError::Bad(cause) => (cause, true),
        };
        if is_answered {
            self.log_broken_off(&cause);
            return Ok(Some(After::Close));
        }
        let Stage::Relaying(_, connection) = self.stage else { return Ok(Some(After::Close)) };
        // A server that has begun to answer has acted on the request: it is not for another connection.
        let failure = match self.download.has_begun() || is_bad {
            true => Failure::Broken(Connection::New),
            false if self.upload.is_unsent() => Failure::Unsent(connection),
            false => Failure::Broken(connection),
        };
        Err(Failed { failure, cause })
    }

    /// Looks at the time limits, and has itself woken at the next.
    fn poll_limits(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Result<Option<After>, Failed>> {
        let limits = &self.flight.live().config.limits;
        let now = Tick::now();
        let mut next = Tick::NEVER;
        let mut is_late = |since: Tick, limit: Duration| {
            next = next.min(since.after(limit));
            now.since(since) >= limit
        };
        if !self.download.is_answered() {
            let limit = limits.response_head;
            if is_late(self.upload.progress.max(self.download.progress), limit) {
                return Poll::Ready(Err(self.late(limit)));
            }
        } else {
            let limit = if self.download.is_waiting_for_client() { limits.client_stall } else { limits.body_stall };
            if !self.download.is_done() && is_late(self.download.progress, limit) {
                self.log_broken_off(&format!("nothing of the body passed for {limit:?}"));
                return Poll::Ready(Ok(Some(After::Close)));
            }
            if !self.is_upload_over() && is_late(self.upload.progress, limits.body_stall) {
                if self.download.is_done() {
                    return Poll::Ready(Ok(Some(After::Close)));
                }
                self.cut = Some("the client sends no more".to_owned());
            }
        }
        self.worker.deadlines.arm(client.place, next, Waiting::Busy, cx.waker());
        Poll::Pending
    }

    fn late(&self, limit: Duration) -> Failed {
        if self.upload.is_waiting_for_client() {
            Failed { failure: Failure::ClientLate, cause: format!("client sent nothing for {limit:?}") }
        } else {
            Failed { failure: Failure::ResponseLate, cause: format!("no response within {limit:?}") }
        }
    }

    /// Follows the plan after a failed attempt.
    fn fail(&mut self, failed: Failed) {
        let retries_left = self.flight.live().config.retries.saturating_sub(self.tried.len() as u32);
        let can_repeat = self.asked.is_idempotent && self.upload.is_held();
        let next = plan::next(failed.failure, retries_left, can_repeat);
        self.log_failed(&failed, next);
        if !failed.failure.is_of_client() {
            self.flight.failed();
        }
        self.cut = None;
        match next {
            Next::NewConnection if self.upload.is_replayable() => self.connect(),
            Next::AnotherServer(answer) if self.upload.is_replayable() && self.flight.may_retry() => {
                self.tried.extend(self.flight.server_index());
                (self.last_answer, self.stage) = (Some(answer), Stage::Choosing);
            }
            Next::Answer(answer) | Next::AnotherServer(answer) => self.give_up(answer),
            Next::NewConnection => self.give_up(plan::Answer::BadGateway),
        }
    }

    fn give_up(&mut self, answer: plan::Answer) {
        let (status, text) = match answer {
            plan::Answer::BadGateway => (502, "the server failed"),
            plan::Answer::GatewayTimeout => (504, "the server did not answer in time"),
            plan::Answer::RequestTimeout => (408, "the rest of the request did not come in time"),
            plan::Answer::BadRequest => (400, "the body of the request is broken"),
        };
        self.answer(status, text, None);
    }

    fn answer_no_server(&mut self, why: &str) {
        let service = self.flight.service();
        if let Some(left_out) = service.refusals.pass(Instant::now()) {
            tracing::warn!(service = %service.name, left_out, "request failed: {why}");
        }
        // The soonest that its checks can bring a server back.
        let soonest = service.config.check.interval.saturating_mul(service.config.check.rise);
        let secs = soonest.as_secs() + u64::from(soonest.subsec_nanos() > 0);
        self.answer(503, why, Some(secs));
    }

    fn answer(&mut self, status: u16, text: &str, retry_secs: Option<u64>) {
        let is_persistent = self.asked.persistence == Persistence::KeepAlive && !self.worker.is_stopping();
        let after = match (self.upload.is_held() || self.upload.is_done(), is_persistent) {
            (true, true) if self.asked.version == Version::V11 => After::Next,
            (true, _) => After::Close,
            (false, _) => After::Linger,
        };
        let answer = Answer::new(Saying { status, text, retry_secs, is_head: self.asked.is_head, after });
        self.stage = Stage::Answering { answer, sent: 0, since: Tick::now() };
    }

    /// One line a second for a server, whatever happens; what clients do is told only to those who ask for it.
    fn log_failed(&self, failed: &Failed, next: Next) {
        let (service, cause) = (self.flight.service().name.as_str(), failed.cause.as_str());
        let Some(server) = self.flight.server() else { return };
        if failed.failure.is_of_client() {
            tracing::debug!(service, server = %server.name, cause, ?next, "request failed");
        } else if let Some(left_out) = server.failures.pass(Instant::now()) {
            tracing::warn!(service, server = %server.name, cause, ?next, left_out, "request failed");
        }
    }

    fn log_broken_off(&self, cause: &str) {
        let Some(server) = self.flight.server() else { return };
        let Some(left_out) = server.failures.pass(Instant::now()) else { return };
        let (service, server) = (self.flight.service().name.as_str(), server.name.as_str());
        tracing::warn!(service, server, cause, left_out, "response broke off");
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.buffers.give_back(self.upload.take_bytes());
    }
}
