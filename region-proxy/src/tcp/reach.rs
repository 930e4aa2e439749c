//! From a service to a connection to one of its servers.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::Client;
use crate::balance::{Choice, Policy, Sticky, hash};
use crate::clock::{Tick, Waiting};
use crate::config::ServerProtocol;
use crate::local::{Call, Flight};
use crate::plan::{self, Failure, Next};
use crate::relay::record::{By, Cause};
use crate::stick::Stick;
use crate::stream::Stream;
use crate::upstream::{self, Failed, Target};

/// A connection that needs a server.
pub(super) struct Reach {
    flight: Flight,
    sticky: Sticky,
    hash: Option<u64>,
    /// The servers that it failed on.
    tried: Vec<usize>,
    /// Why it did on the last of them.
    last: Option<Cause>,
    step: Step,
    /// What was read of the client already.
    first: Vec<u8>,
}

/// Both ends of what begins now.
pub(super) struct Reached {
    /// Counts it until dropped.
    pub(super) flight: Flight,
    /// The server's side.
    pub(super) server: Stream,
    /// What the server gets first.
    pub(super) to_server: Vec<u8>,
}

enum Step {
    Choosing,
    /// All servers are full.
    Waiting(Tick),
    Connecting(Connecting),
}

type Connecting = Pin<Box<dyn Future<Output = Result<Stream, Failed>>>>;

impl Reach {
    /// For `client`, of which `first` was read, and the service of `flight`.
    pub(super) fn new(client: &Client, mut flight: Flight, first: Vec<u8>) -> Self {
        let (service, address) = (&flight.service().config, client.peer.address.ip());
        let sticky = match &service.stick {
            Some(Stick::Source(prefixes)) => Sticky::Hash(hash::of_address(prefixes.of(address))),
            // Cookies are of requests, and the table is asked when a server is chosen.
            Some(Stick::Cookie(_) | Stick::Table(..)) | None => Sticky::Nothing,
        };
        let is_hashed = service.balance.rules.policy == Policy::Hash;
        let hash = if is_hashed { service.balance.hash.request(address, "", &[]) } else { None };
        if let Some(Stick::Table(prefixes, _)) = service.stick {
            flight.remember(prefixes.of(address));
        }
        Self { flight, sticky, hash, tried: Vec::new(), last: None, step: Step::Choosing, first }
    }

    /// Goes on until a server is connected to; `None` when there is none, which was logged.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Option<Stream>> {
        loop {
            let step = match &mut self.step {
                Step::Choosing => self.choose(client),
                Step::Waiting(since) => {
                    let since = *since;
                    ready!(self.poll_call(cx, client, since))
                }
                Step::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                    Poll::Ready(Ok(server)) => {
                        client.note(|record| record.connect(false));
                        return Poll::Ready(Some(server));
                    }
                    Poll::Ready(Err((failure, cause))) => self.fail(client, failure, &cause),
                    Poll::Pending => {
                        // It has a limit of its own; this is for who cuts it.
                        client.worker.deadlines.arm(client.place, Tick::NEVER, Waiting::Busy, cx.waker());
                        return Poll::Pending;
                    }
                },
            };
            match step {
                Some(step) => self.step = step,
                None => return Poll::Ready(None),
            }
        }
    }

    fn choose(&mut self, client: &mut Client) -> Option<Step> {
        match self.flight.choose(self.sticky, self.hash, &self.tried) {
            Choice::Server(_) => self.connect(client),
            Choice::Wait(server) => {
                client.note(|record| record.queue(self.flight.waiting(), server.is_some()));
                match self.flight.wait(server, &self.tried) {
                    true => Some(Step::Waiting(Tick::now())),
                    false => {
                        let why = "all servers are busy, and too many connections wait";
                        self.refuse(client, Cause::QueueFull, why)
                    }
                }
            }
            Choice::Nobody if self.tried.is_empty() => self.refuse(client, Cause::NoServer, "no server is up"),
            // Why was told with each.
            Choice::Nobody => self.give_up(self.last?),
        }
    }

    fn poll_call(&mut self, cx: &mut Context<'_>, client: &mut Client, since: Tick) -> Poll<Option<Step>> {
        let called = match self.flight.poll_call(cx.waker()) {
            Poll::Ready(called) => called,
            Poll::Pending => {
                let end = since.after(self.flight.service().config.balance.queue_time);
                if Tick::now() < end {
                    client.worker.deadlines.arm(client.place, end, Waiting::Busy, cx.waker());
                    return Poll::Pending;
                }
                let why = "all servers were busy for too long";
                return Poll::Ready(self.refuse(client, Cause::QueueLate, why));
            }
        };
        Poll::Ready(match called {
            Call::Server(_) => self.connect(client),
            Call::Again => Some(Step::Choosing),
        })
    }

    fn connect(&mut self, client: &mut Client) -> Option<Step> {
        let (Some(index), Some(server)) = (self.flight.server_index(), self.flight.server()) else {
            return self.refuse(client, Cause::NoServer, "no server is up");
        };
        client.note(|record| record.assign(index));
        let (target, limit) = (Target::of(server, ServerProtocol::default()), self.flight.live().config.limits.connect);
        // TLS begins behind the PROXY header, which is for who takes the connection.
        let preface = if target.is_secure() { self.introduction(client) } else { Vec::new() };
        let worker = Rc::clone(&client.worker);
        let connecting = async move { upstream::reach(&worker, target, limit, &preface).await };
        Some(Step::Connecting(Box::pin(connecting)))
    }

    fn introduction(&self, client: &Client) -> Vec<u8> {
        let mut header = Vec::new();
        if let Some(version) = self.flight.service().config.send_proxy {
            client.peer.introduce(version, &mut header);
        }
        header
    }

    /// What counts it.
    pub(super) fn flight(&self) -> &Flight {
        &self.flight
    }

    /// What begins with `server`, to which it came.
    pub(super) fn reached(mut self, client: &Client, mut server: Stream) -> Reached {
        self.flight.answered(0);
        if let Some(server) = self.flight.server() {
            server.tally.connect(self.flight.thread(), false);
        }
        let mut to_server = if server.plain().is_some() { self.introduction(client) } else { Vec::new() };
        to_server.append(&mut self.first);
        Reached { flight: self.flight, server, to_server }
    }

    /// Nothing has passed yet, so that any other server will do.
    fn fail(&mut self, client: &mut Client, failure: Failure, cause: &str) -> Option<Step> {
        let retries_left = self.flight.live().config.retries.saturating_sub(self.tried.len() as u32);
        let next = plan::next(failure, retries_left, true);
        let is_again = matches!(next, Next::AnotherServer(_)) && self.flight.may_retry();
        if let Some(server) = self.flight.server()
            && let Some(left_out) = server.failures.pass(Instant::now())
        {
            let (service, server) = (self.flight.service().name.as_str(), server.name.as_str());
            tracing::warn!(service, server, cause, is_again, left_out, "connection failed");
        }
        let (by, what) = (By::from(failure), Cause::from(failure));
        client.note(|record| record.end(by, what, cause));
        if let Some(server) = self.flight.server() {
            server.tally.fail(self.flight.thread(), what);
        }
        self.flight.failed();
        self.tried.extend(self.flight.server_index());
        self.last = Some(what);
        if is_again { Some(Step::Choosing) } else { self.give_up(what) }
    }

    /// Nothing more is tried, for `cause`.
    fn give_up(&self, cause: Cause) -> Option<Step> {
        self.flight.service().tally().answer(self.flight.thread(), 0, Some(cause), self.tried.len() > 1);
        None
    }

    fn refuse(&self, client: &mut Client, cause: Cause, why: &str) -> Option<Step> {
        let by = if cause == Cause::QueueLate { By::ServerLate } else { By::Server };
        client.note(|record| record.end(by, cause, why));
        let service = self.flight.service();
        if let Some(left_out) = service.refusals.pass(Instant::now()) {
            tracing::warn!(service = %service.name, left_out, "connection refused: {why}");
        }
        self.give_up(cause)
    }
}
