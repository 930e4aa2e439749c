//! Octets both ways, until both sides have ended.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use shared::settings::show_duration;

use super::Client;
use super::reach::Reached;
use crate::clock::{Tick, Waiting};
use crate::local::Flight;
use crate::pipe::{self, Pipe};
use crate::relay::record::{By, Cause, Record};
use crate::stream::Stream;
use crate::worker::Worker;

/// A connection that has its server.
pub(super) struct Pass {
    server: Stream,
    up: Way,
    down: Way,
    limits: Limits,
    flight: Flight,
}

/// How long nothing may pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// While both sides may send.
    pub(super) idle: Duration,
    /// Once one of them has ended.
    pub(super) half_closed: Duration,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// Both sides said so.
    Whole,
    /// This one broke off.
    Broken(Side),
    /// Nothing passed for too long.
    Idle,
    /// The proxy stopped.
    Cut,
}

/// Who is at an end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Client,
    Server,
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// What the target has not taken, from `sent` on.
    held: Vec<u8>,
    sent: usize,
    /// Whether much came at a time, so that the kernel moves what comes.
    is_bulk: bool,
    /// There while something is in it.
    pipe: Option<Pipe>,
    state: State,
    progress: Tick,
    /// How many the target was to get.
    octets: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// The source has ended, and the target was told, or will be once it has all.
    Ended,
    /// The target takes no more.
    Dead,
}

/// Which side broke off.
enum Broken {
    Source,
    Target,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(3600), half_closed: Duration::from_secs(60) }
    }
}

impl Pass {
    /// Between the client and what was `reached` for it.
    pub(super) fn new(reached: Reached, limits: Limits) -> Self {
        let Reached { flight, server, to_server } = reached;
        Self { server, up: Way::new(to_server), down: Way::new(Vec::new()), limits, flight }
    }

    /// Passes octets until the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<End> {
        let (worker, now) = (&*client.worker, Tick::now());
        let down = self.down.poll(cx, worker, now, &mut self.server, &mut client.stream);
        let up = self.up.poll(cx, worker, now, &mut client.stream, &mut self.server);
        let end = match (self.up.state, self.down.state) {
            _ if down.is_err() => Some(End::Broken(Side::Server)),
            _ if up.is_err() => Some(End::Broken(Side::Client)),
            (State::Ended, State::Ended) if self.up.is_empty() && self.down.is_empty() => Some(End::Whole),
            (State::Dead, State::Dead) => Some(End::Broken(Side::Client)),
            (State::Dead, State::Ended) if self.down.is_empty() => Some(End::Broken(Side::Server)),
            (State::Ended, State::Dead) if self.up.is_empty() => Some(End::Broken(Side::Client)),
            _ => None,
        };
        if let Some(end) = end {
            return Poll::Ready(end);
        }
        let since = self.up.progress.max(self.down.progress);
        let limit = self.limit();
        if now.since(since) >= limit {
            return Poll::Ready(End::Idle);
        }
        worker.deadlines.arm(client.place, since.after(limit), Waiting::Busy, cx.waker());
        Poll::Pending
    }

    /// Octets that the server was sent, and the client.
    pub(super) fn octets(&self) -> [u64; 2] {
        [self.up.octets, self.down.octets]
    }

    /// What counts it.
    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// How long nothing may pass now.
    fn limit(&self) -> Duration {
        let is_open = self.up.state == State::Open && self.down.state == State::Open;
        if is_open { self.limits.idle } else { self.limits.half_closed }
    }

    /// Says how it ended.
    pub(super) fn note(&self, end: End, record: &mut Record) {
        [record.octets_up, record.octets_down] = self.octets();
        match end {
            End::Whole | End::Cut => {}
            End::Broken(Side::Client) => record.end(By::Client, Cause::ClientGone, "the client broke off"),
            End::Broken(Side::Server) => record.end(By::Server, Cause::BrokenOff, "the server broke off"),
            End::Idle => {
                let text = format!("nothing passed for {}", show_duration(self.limit()));
                record.end(By::ClientLate, Cause::ClientLate, text);
            }
        }
    }

    /// Has the server's side see that this was no end in order.
    pub(super) fn reset_server(&mut self, end: End) {
        self.server.reset_on_close();
        let (service, server) = (self.flight.service(), self.flight.server());
        let server = server.map(|server| server.name.as_str());
        tracing::debug!(service = %service.name, server, ?end, "connection cut");
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(server) = self.flight.server() {
            server.tally.pass(self.flight.thread(), self.up.octets, self.down.octets);
        }
    }
}

impl Way {
    /// `first` is to be sent before all else.
    fn new(first: Vec<u8>) -> Self {
        let octets = first.len() as u64;
        Self { held: first, sent: 0, is_bulk: false, pipe: None, state: State::Open, progress: Tick::now(), octets }
    }

    /// Whether the target has all that was read.
    fn is_empty(&self) -> bool {
        self.sent == self.held.len() && self.pipe.as_ref().is_none_or(Pipe::is_empty)
    }

    /// Passes on what is there; fails when the source breaks off. A target that takes no more may have said something
    /// before, which comes the other way.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        now: Tick,
        source: &mut Stream,
        target: &mut Stream,
    ) -> Result<(), Broken> {
        for _ in 0..ROUNDS_MAX {
            if self.state == State::Dead || self.state == State::Ended && self.is_empty() {
                return Ok(());
            }
            match self.poll_round(cx, worker, source, target) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => self.progress = now,
                Poll::Ready(Err(Broken::Source)) => return Err(Broken::Source),
                Poll::Ready(Err(Broken::Target)) => {
                    (self.held, self.sent, self.pipe, self.state) = (Vec::new(), 0, None, State::Dead);
                }
            }
        }
        // There is more, but others have waited.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_round(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        source: &mut Stream,
        target: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        let is_ended = self.state == State::Ended;
        if !self.is_empty() {
            ready!(self.poll_flush(cx, target)).map_err(|_| Broken::Target)?;
            if self.is_empty() {
                worker.pipes.give_back(self.pipe.take());
                if is_ended {
                    target.end_writing();
                }
            }
            return Poll::Ready(Ok(()));
        }
        // Without a pipe all is copied.
        let pipe = if self.is_bulk { worker.pipes.take().ok() } else { None };
        let count = match pipe {
            Some(pipe) => ready!(self.poll_fill(cx, worker, source, pipe)),
            None => ready!(self.poll_copy(cx, worker, source, target)),
        };
        let count = count?;
        self.octets += count as u64;
        if count == 0 {
            self.state = State::Ended;
            if self.is_empty() {
                target.end_writing();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, as far as the target takes it.
    fn poll_flush(&mut self, cx: &mut Context<'_>, target: &mut Stream) -> Poll<io::Result<()>> {
        if self.sent < self.held.len() {
            self.sent += ready!(target.poll_write(cx, &[IoSlice::new(&self.held[self.sent..])]))?;
            if self.sent == self.held.len() {
                (self.held, self.sent) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        match (&mut self.pipe, target.plain()) {
            (Some(pipe), Some(target)) => pipe.poll_drain(cx, target, pipe::Then::Nothing),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Reads once and writes that, as most messages are small.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        source: &mut Stream,
        target: &mut Stream,
    ) -> Poll<Result<usize, Broken>> {
        let mut buffer = worker.buffers.read.borrow_mut();
        let count = ready!(source.poll_read(cx, &mut buffer)).map_err(|_| Broken::Source)?;
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        let taken = match target.poll_write(cx, &[IoSlice::new(&buffer[..count])]) {
            Poll::Ready(taken) => taken.map_err(|_| Broken::Target)?,
            Poll::Pending => 0,
        };
        self.held.extend_from_slice(&buffer[taken..count]);
        self.is_bulk = count >= SPLICE_MIN && source.plain().is_some() && target.plain().is_some();
        Poll::Ready(Ok(count))
    }

    /// Has the kernel move what comes, for as long as that is much.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        source: &mut Stream,
        mut pipe: Pipe,
    ) -> Poll<Result<usize, Broken>> {
        let Some(source) = source.plain() else { return Poll::Ready(Err(Broken::Source)) };
        let filled = pipe.poll_fill(cx, source, u64::MAX);
        if let Poll::Ready(Ok(count)) = filled {
            self.is_bulk = count >= SPLICE_LESS;
        }
        // One that waits for octets holds no pipe.
        if pipe.is_empty() {
            worker.pipes.give_back(Some(pipe))
        } else {
            self.pipe = Some(pipe)
        }
        filled.map_err(|_| Broken::Source)
    }
}

/// With less at a time, each octet is copied again.
const SPLICE_LESS: usize = 16 * 1024;

/// From so many octets in one read on, a copy costs more than the system calls that save it.
const SPLICE_MIN: usize = 32 * 1024;

/// Reads and writes before others have their turn.
const ROUNDS_MAX: usize = 32;
