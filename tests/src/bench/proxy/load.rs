//! The generator: clients that each ask again as soon as they are answered.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::ClientConfig;

use super::case::{Ask, Work};
use super::client::{Client, Progress};
use crate::bench::Stop;
use crate::bench::histogram::Histogram;

/// What a drive came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests with a whole and right answer; of downloads, MiB.
    pub answered: u64,
    /// From a request to the end of its answer; where each has a connection of its own, from before that.
    pub latency: Histogram,
    /// How long it took.
    pub span: Duration,
}

/// Clients of a proxy.
#[derive(Debug)]
pub struct Load {
    proxy: SocketAddrV4,
    tls: Option<Arc<ClientConfig>>,
    work: Work,
    epoll: Epoll,
    clients: Vec<Client>,
    room: Vec<u8>,
    sources: Sources,
    clock: Instant,
    stop: Stop,
}

/// Addresses that clients connect from, one after the other: ports of one would run out.
#[derive(Clone, Debug, Default)]
pub struct Sources(u8);

impl Load {
    /// Connects all clients and has each ask once.
    pub fn open(proxy: SocketAddrV4, tls: Option<Arc<ClientConfig>>, work: Work, stop: &Stop) -> Result<Self, String> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let room = vec![0; ROOM];
        let (clients, sources, clock) = (Vec::new(), Sources::default(), Instant::now());
        let mut load = Self { proxy, tls, work, epoll, clients, room, sources, clock, stop: stop.clone() };
        for at in 0..work.connections {
            let now = load.now();
            let failed = |error| format!("connecting to {proxy}: {error}");
            let source = load.sources.next_address();
            let client = Client::open(proxy, source, load.tls.as_ref(), work, at).map_err(failed)?;
            load.clients.push(client);
            load.begin(at, now)?;
        }
        Ok(load)
    }

    /// Lets them ask for `span`. Fails at the first wrong answer, and when none comes for three seconds.
    pub fn drive(&mut self, span: Duration) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        let mut events = [EpollEvent::empty(); EVENTS];
        let started = Instant::now();
        let mut heard = started;
        // A download counts by what it weighs.
        let weight = if let Ask::Download(octets) = self.work.ask { octets >> 20 } else { 1 };
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::from(SLICE)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(format!("epoll: {error}")),
            };
            // One look at the clock serves a batch, which takes well below a millisecond.
            let now = self.now();
            for event in &events[..count] {
                let at = event.data() as usize;
                let asked_at = self.clients[at].asked_at;
                match self.clients[at].go_on(&mut self.room)? {
                    Progress::Pending => continue,
                    Progress::Answered => {
                        self.clients[at].ask(now).map_err(|error| format!("asking: {error}"))?;
                    }
                    Progress::LastAnswered => {
                        outcome.answered += weight;
                        outcome.latency.add(now.saturating_sub(asked_at));
                        // Mostly the end has come with the answer.
                        if self.clients[at].go_on(&mut self.room)? == Progress::Ended {
                            self.renew(at, now)?;
                        }
                        continue;
                    }
                    Progress::Ended => {
                        self.renew(at, now)?;
                        continue;
                    }
                }
                outcome.answered += weight;
                outcome.latency.add(now.saturating_sub(asked_at));
            }
            let at = Instant::now();
            if count > 0 {
                heard = at;
            } else if at - heard > PATIENCE {
                return Err(format!("no answer within {PATIENCE:?}"));
            }
            outcome.span = at - started;
            if outcome.span >= span {
                return Ok(outcome);
            }
            self.stop.check()?;
        }
    }

    /// A connection of its own for the next request.
    fn renew(&mut self, at: usize, now: u64) -> Result<(), String> {
        let source = self.sources.next_address();
        let reopened = self.clients[at].reopen(self.proxy, source, self.tls.as_ref());
        reopened.map_err(|error| format!("connecting to {}: {error}", self.proxy))?;
        self.begin(at, now)
    }

    fn begin(&mut self, at: usize, now: u64) -> Result<(), String> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let added = self.epoll.add(self.clients[at].channel(), EpollEvent::new(flags, at as u64));
        added.map_err(|error| format!("epoll: {error}"))?;
        self.clients[at].ask(now).map_err(|error| format!("asking: {error}"))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Outcome {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64().max(1e-9)
    }
}

impl Sources {
    /// The next one of 200 loopback addresses.
    pub fn next_address(&mut self) -> Ipv4Addr {
        self.0 = (self.0 + 1) % 200;
        Ipv4Addr::new(127, 0, 1, 1 + self.0)
    }
}

/// Octets read at once.
const ROOM: usize = 1 << 20;
/// Events taken at once.
const EVENTS: usize = 256;
/// How long is waited for events before the signals are looked at.
const SLICE: u8 = 100;
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::super::case::{Case, Maker};
    use super::super::origins::Origins;
    use super::*;

    #[test]
    fn every_kind_of_work_is_done_without_a_proxy() {
        let origins = Origins::start().expect("started");
        for case in Case::ALL {
            let (Maker::Own(work), false) = (case.maker(), case.name().starts_with("tls")) else { continue };
            let address = match work.ask {
                Ask::Page(_) => origins.http[0],
                Ask::Echo(_) => origins.echo,
                Ask::Download(_) => origins.download,
            };
            let mut load = Load::open(address, None, work, &Stop::default()).expect("connected");
            let outcome = load.drive(Duration::from_millis(300)).expect("right answers");
            assert!(outcome.answered > 20, "{}: {}", case.name(), outcome.answered);
            assert!(outcome.latency.quantile(0.5).is_some());
        }
    }
}
