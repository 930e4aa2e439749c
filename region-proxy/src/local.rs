//! What one thread knows of what all serve: its own balancers, and the requests that wait for a server.
//!
//! No thread writes to what another reads: each looks at the settings and at the health of servers when it is told that
//! one of them changed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::balance::budget::Budget;
use crate::balance::{Ask, Balancer, Choice, Outcome, Sticky, Ticket, share};
use crate::clock::Tick;
use crate::live::{Live, Server, Service};
use crate::standing::Standing;
use shared::moment::Moment;

/// One thread's view of the present settings. A request keeps the one that it began with to its end.
#[derive(Debug)]
pub struct Local {
    /// The settings and what runs by them.
    pub live: Arc<Live>,
    thread: usize,
    pools: Vec<Rc<Pool>>,
}

/// One thread's view of a service, for as long as its settings do not change.
#[derive(Debug)]
struct Pool {
    service: Arc<Service>,
    balancer: RefCell<Balancer>,
    budget: RefCell<Budget>,
    waiting: RefCell<HashMap<Ticket, Turn>>,
    kin: Rc<Kin>,
}

/// The pools of one service on one thread, over changes of its settings, oldest first: as long as requests run by an
/// earlier one, a place that one of them leaves may be the one that another waits for.
#[derive(Debug, Default)]
struct Kin(RefCell<Vec<Weak<Pool>>>);

/// A request that waits.
#[derive(Debug, Default)]
struct Turn {
    /// What it may do now.
    call: Option<Call>,
    waker: Option<Waker>,
}

/// Why a request waits no longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// This server has a place, which it holds already.
    Server(usize),
    /// The server that it waited for is gone: it chooses again.
    Again,
}

impl Local {
    /// The view of the thread numbered `thread`; what `before` knows of servers that stay is taken over, and all of a
    /// service whose settings stay.
    pub fn new(live: Arc<Live>, thread: usize, before: Option<&Self>) -> Self {
        let pool = |service: &Arc<Service>| {
            let index = before.and_then(|before| before.live.find(&service.name));
            let old = index.and_then(|index| before.and_then(|before| before.pools.get(index)));
            match old {
                Some(old) if Arc::ptr_eq(&old.service, service) => Rc::clone(old),
                _ => Pool::new(service, live.threads(), thread, old.map(AsRef::as_ref)),
            }
        };
        let pools = live.services().map(pool).collect();
        let local = Self { live, thread, pools };
        local.look();
        local
    }

    /// Takes note of how all servers stand.
    pub fn look(&self) {
        let (threads, thread) = (self.live.threads() as u32, self.thread as u32);
        let now = Tick::now().moment();
        for pool in &self.pools {
            pool.kin.each(|pool| pool.look(threads, thread, now));
        }
    }
}

impl Pool {
    fn new(service: &Arc<Service>, threads: usize, thread: usize, old: Option<&Self>) -> Rc<Self> {
        let mut balancer = service.config.balancer(threads as u32, thread as u32);
        if let Some(old) = old {
            let same = |index: usize| {
                let server: &Arc<Server> = service.servers.get(index)?;
                old.service.servers.iter().position(|old| Arc::ptr_eq(old, server))
            };
            balancer.inherit(&old.balancer.borrow(), same);
        }
        let pool = Rc::new(Self {
            service: Arc::clone(service),
            balancer: RefCell::new(balancer),
            budget: RefCell::new(Budget::new(service.config.balance.retries, Tick::now().moment())),
            waiting: RefCell::default(),
            kin: old.map(|old| Rc::clone(&old.kin)).unwrap_or_default(),
        });
        pool.kin.join(&pool);
        pool
    }

    /// Takes note of how its servers stand.
    fn look(&self, threads: u32, thread: u32, now: Moment) {
        let mut balancer = self.balancer.borrow_mut();
        for (index, server) in self.service.servers.iter().enumerate() {
            let Standing { health, mode, weight, connections } = server.standing();
            balancer.set_standing(index, health, mode, now);
            balancer.set_weight(index, weight);
            balancer.set_in_flight_max(index, connections.map(|most| share(most, threads, thread)));
        }
        drop(balancer);
        self.call();
    }

    /// Calls those who need not wait any longer.
    fn call(&self) {
        let mut balancer = self.balancer.borrow_mut();
        if balancer.waiting() == 0 {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        let mut call = |ticket, call| {
            if let Some(turn) = waiting.get_mut(&ticket) {
                turn.call = Some(call);
                turn.waker.iter().for_each(Waker::wake_by_ref);
            }
        };
        while let Some(ticket) = balancer.next_orphan() {
            call(ticket, Call::Again);
        }
        while let Some((ticket, server)) = balancer.next_waiting() {
            call(ticket, Call::Server(server));
        }
    }
}

impl Kin {
    fn join(&self, pool: &Rc<Pool>) {
        let mut pools = self.0.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Rc::downgrade(pool));
    }

    fn each(&self, then: impl Fn(&Pool)) {
        self.0.borrow().iter().filter_map(Weak::upgrade).for_each(|pool| then(&pool));
    }
}

/// One request in flight; counted until dropped.
#[derive(Debug)]
pub struct Flight {
    local: Rc<Local>,
    service: usize,
    server: Option<usize>,
    /// Who the stick table of the service remembers.
    client: Option<IpAddr>,
    ticket: Option<Ticket>,
    since: Tick,
    outcome: Outcome,
    /// Whether what was answered speaks against its server.
    is_faulty: bool,
}

impl Flight {
    /// A request for the service at the index `service` of `local`; `None` where there is none.
    pub fn new(local: Rc<Local>, service: usize) -> Option<Self> {
        let pool = local.pools.get(service)?;
        pool.service.begin(local.thread);
        pool.budget.borrow_mut().request();
        let (since, outcome) = (Tick::now(), Outcome::Unused);
        Some(Self { local, service, server: None, client: None, ticket: None, since, outcome, is_faulty: false })
    }

    /// Has the stick table of its service say which server `client` has, and remember which one it gets.
    pub fn remember(&mut self, client: IpAddr) {
        self.client = Some(client);
    }

    /// Leaves the server that it is with and chooses one for the next attempt, where it counts from now on.
    ///
    /// `tried` are those that it failed on already.
    pub fn choose(&mut self, sticky: Sticky, hash: Option<u64>, tried: &[usize]) -> Choice {
        self.leave();
        let had = self.client.and_then(|client| self.service().stuck.as_ref()?.find(client));
        let ask = Ask { sticky: had.map_or(sticky, Sticky::Server), hash, tried };
        let choice = self.pool().balancer.borrow_mut().choose(&ask, Tick::now().moment(), fastrand::u64(..));
        if let Choice::Server(server) = choice {
            self.begin(server);
            if had != Some(server) {
                self.note_server(server);
            }
        }
        choice
    }

    /// Whether one retry more is affordable; counts it then.
    pub fn may_retry(&self) -> bool {
        self.pool().budget.borrow_mut().retry(Tick::now().moment())
    }

    /// Queues up for `server`, or for any that was not tried; `false` when as many wait already as may.
    pub fn wait(&mut self, server: Option<usize>, tried: &[usize]) -> bool {
        let ticket = self.pool().balancer.borrow_mut().join(server, tried);
        if let Some(ticket) = ticket {
            self.pool().waiting.borrow_mut().insert(ticket, Turn::default());
            self.service().tally().join(self.local.thread);
            self.since = Tick::now();
        }
        self.ticket = ticket;
        ticket.is_some()
    }

    /// How many of this thread wait for a server of its service.
    pub fn waiting(&self) -> usize {
        self.pool().balancer.borrow().waiting()
    }

    /// The number of its thread.
    pub fn thread(&self) -> usize {
        self.local.thread
    }

    /// Whether it was called; when it was, it waits no longer.
    pub fn poll_call(&mut self, waker: &Waker) -> Poll<Call> {
        let Some(ticket) = self.ticket else { return Poll::Ready(Call::Again) };
        let mut waiting = self.local.pools[self.service].waiting.borrow_mut();
        let Some(turn) = waiting.get_mut(&ticket) else { return Poll::Ready(Call::Again) };
        let Some(call) = turn.call else {
            turn.waker = Some(waker.clone());
            return Poll::Pending;
        };
        waiting.remove(&ticket);
        drop(waiting);
        self.ticket = None;
        self.note_wait();
        if let Call::Server(server) = call {
            self.begin(server);
            self.note_server(server);
        }
        Poll::Ready(call)
    }

    /// The server has answered with `status`.
    pub fn answered(&mut self, status: u16) {
        self.outcome = Outcome::Answered(Tick::now().since(self.since));
        // As in HAProxy's `observe layer7`: the others of these say what a server is not, rather than that it fails.
        self.is_faulty = status >= 500 && !matches!(status, 501 | 505);
    }

    /// The server has failed, or has broken off what it had begun to answer.
    pub fn failed(&mut self) {
        self.outcome = Outcome::Failed(Tick::now().since(self.since));
    }

    /// The settings by which it runs.
    pub fn live(&self) -> &Live {
        &self.local.live
    }

    /// Its service.
    pub fn service(&self) -> &Service {
        &self.pool().service
    }

    /// The index of the server that it is with.
    pub fn server_index(&self) -> Option<usize> {
        self.server
    }

    /// The server that it is with.
    pub fn server(&self) -> Option<&Server> {
        self.service().servers.get(self.server?).map(AsRef::as_ref)
    }

    fn pool(&self) -> &Pool {
        &self.local.pools[self.service]
    }

    /// It is with `server`, where it counts already.
    fn begin(&mut self, server: usize) {
        (self.server, self.since, self.outcome) = (Some(server), Tick::now(), Outcome::Unused);
        self.service().servers[server].tally.begin(self.local.thread);
    }

    /// Has its client be with `server` from now on, where that is remembered.
    fn note_server(&self, server: usize) {
        if let (Some(client), Some(stuck)) = (self.client, &self.service().stuck) {
            stuck.keep(client, server);
        }
    }

    /// Counts its end at `server`, and what that tells of it.
    fn note(&self, server: usize) {
        let (service, thread) = (self.service(), self.local.thread);
        let server = &service.servers[server];
        server.tally.end(thread);
        let Some(observe) = service.config.observe else { return };
        match self.outcome {
            Outcome::Answered(_) => server.seen.note(thread, !(self.is_faulty && observe.counts_statuses)),
            Outcome::Failed(_) => server.seen.note(thread, false),
            Outcome::Unused => {}
        }
    }

    fn note_wait(&self) {
        self.service().tally().leave(self.local.thread, Tick::now().since(self.since));
    }

    /// Ends its time with its server, and its waiting.
    pub fn leave(&mut self) {
        let called = self.ticket.take().map(|ticket| {
            self.note_wait();
            let turn = self.pool().waiting.borrow_mut().remove(&ticket);
            self.pool().balancer.borrow_mut().leave(ticket);
            turn.and_then(|turn| turn.call)
        });
        // A place that it was called to and never took.
        if let Some(Some(Call::Server(server))) = called {
            self.begin(server);
        }
        if let Some(server) = self.server.take() {
            self.note(server);
            self.pool().balancer.borrow_mut().end(server, self.outcome, Tick::now().moment());
            self.pool().kin.each(Pool::call);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.leave();
        self.service().end(self.local.thread);
    }
}

#[cfg(test)]
mod tests;
