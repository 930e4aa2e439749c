//! Which server takes the next request.
//!
//! A [`Balancer`] is one thread's view of one pool: it counts what this thread has under way, and nothing in it is
//! shared. Health, drains and weights are told to it when they change; time and chance are arguments.
//! ```text
//! choose ─► Server      the request is counted there until `end`
//!        ├► Wait        all that may take it are full: `join` the queue, until `next_waiting` names it or `leave`
//!        └► Nobody      no server may take it
//! ```
//! Servers are asked in tiers; one of a later tier is taken only when none of an earlier one is left untried:
//! ```text
//! up · not decided yet · backup, up · backup, not decided yet
//! ```
//! A server that is down, in maintenance or drained, or whose weight is 0, is in no tier. What sticks to a server goes
//! there unless it is down or in maintenance; to a drained one by [`Rules::drained`].

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::moment::Moment;

pub mod budget;
pub mod ewma;
pub mod hash;
mod pick;
mod queue;
mod slot;

use queue::Queue;
use slot::{Slot, Tier};

pub use slot::share;

/// How a service chooses among its servers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Policy {
    /// One after the other, each as often as its weight says, evenly mixed.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight for its weight; equals take turns.
    LeastConnections,
    /// Of two chosen by weight and chance, the one with fewer requests in flight for its weight.
    RandomOfTwo,
    /// The first that is not full.
    First,
    /// Of two chosen by weight and chance, the one whose answers come sooner, given what it has in flight.
    Ewma,
    /// The one that the hash of the request leads to.
    Hash,
}

/// What is known of a server's health.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Its checks succeed.
    Up,
    /// Not decided yet.
    Unknown,
    /// Its checks fail.
    Down,
}

/// What an operator wants of a server, from most to least.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To serve.
    #[default]
    Ready,
    /// To take no new clients.
    Drain,
    /// To be left alone.
    Maintenance,
}

/// What a balancer must know of a server to begin with.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// What hashes lead to it by: [`hash::of`] its name, so that all proxies agree.
    pub hash: u64,
    /// Its share: 0 to 256.
    pub weight: u16,
    /// Whether it serves only when the others cannot.
    pub is_backup: bool,
    /// Requests that this thread may have there at one time: its [`share`] of all.
    pub in_flight_max: Option<u32>,
}

/// How a pool is balanced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// How a server is chosen for a request that sticks to none.
    pub policy: Policy,
    /// By [`Policy::Hash`] no server gets more than this many per cent of its share, but the next one; at least 100.
    pub bound_percent: Option<u32>,
    /// How long the weight of a server that came up takes to grow to what it is.
    pub slow_start: Duration,
    /// How long ago a response time has lost most of its meaning, for [`Policy::Ewma`].
    pub decay: Duration,
    /// What a drained server does with clients that it has.
    pub drained: Drained,
    /// Requests that may wait at one time.
    pub waiting_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            policy: Policy::RoundRobin,
            bound_percent: Some(125),
            slow_start: Duration::ZERO,
            decay: Duration::from_secs(10),
            drained: Drained::KeepsClients,
            waiting_max: 1000,
        }
    }
}

/// What a drained server does with clients that it has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Drained {
    /// They stay until they go by themselves.
    #[default]
    KeepsClients,
    /// They move at their next request.
    MovesClients,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What it sticks to.
    pub sticky: Sticky,
    /// What it hashes to; with [`Policy::Hash`] one without is served by turn.
    pub hash: Option<u64>,
    /// Servers that it failed on already.
    pub tried: &'a [usize],
}

/// What a request sticks to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sticky {
    /// Nothing.
    Nothing,
    /// The server that it had.
    Server(usize),
    /// The server that this hash leads to, however loaded it is.
    Hash(u64),
}

/// Who takes a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// This server, where it counts from now on.
    Server(usize),
    /// All that may take it are full: it waits for this one, or for any.
    Wait(Option<usize>),
    /// No server may.
    Nobody,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// With a response, whose head came after this time.
    Answered(Duration),
    /// Without one, or with one that says that the server cannot serve, after this time.
    Failed(Duration),
    /// Without anything that tells of the server.
    Unused,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ticket(u64);

/// One thread's balancing of one pool.
#[derive(Debug)]
pub struct Balancer {
    rules: Rules,
    slots: Vec<Slot>,
    turn: usize,
    queue: Queue,
}

impl Balancer {
    /// Nothing known of any server.
    pub fn new(rules: Rules, servers: &[Server]) -> Self {
        let slots = servers.iter().map(|server| Slot::new(*server)).collect();
        Self { rules, slots, turn: 0, queue: Queue::new(rules.waiting_max) }
    }

    /// Goes on as if `turns` requests had come: of threads that begin together, each with another number, not all send their
    /// first requests to the same server.
    pub fn skip(&mut self, turns: u32) {
        let turns = turns as usize % self.slots.len().max(1);
        self.turn = turns;
        let Some(tier) = self.next_tier(None, &[]) else { return };
        for _ in 0..turns {
            self.by_turn(&pick::Candidates { tier, tried: &[] }, Moment::START);
        }
    }

    /// Takes over what `before` knows of the servers: `same` gives the index there of a server here.
    ///
    /// What is in flight is counted together from now on, by whichever of the two it ends.
    pub fn inherit(&mut self, before: &Self, same: impl Fn(usize) -> Option<usize>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(old) = same(index).and_then(|index| before.slots.get(index)) {
                (slot.health, slot.mode) = (old.health, old.mode);
                (slot.grows_since, slot.latency) = (old.grows_since, old.latency);
                slot.in_flight = Rc::clone(&old.in_flight);
                slot.settle();
            } else {
                // One that was not there: what is told of it next is its way up, which may be slow.
                slot.health = Health::Down;
                slot.settle();
            }
        }
    }

    /// What is known of `server` now. One that comes up after it could not serve starts slowly.
    pub fn set_standing(&mut self, server: usize, health: Health, mode: Mode, now: Moment) {
        let Some(slot) = self.slots.get_mut(server) else { return };
        let is_able = |health, mode| health != Health::Down && mode != Mode::Maintenance;
        if is_able(health, mode) && !is_able(slot.health, slot.mode) && !self.rules.slow_start.is_zero() {
            slot.grows_since = Some(now);
        }
        (slot.health, slot.mode) = (health, mode);
        slot.settle();
    }

    /// Gives `server` another weight.
    pub fn set_weight(&mut self, server: usize, weight: u16) {
        if let Some(slot) = self.slots.get_mut(server) {
            slot.server.weight = weight;
            slot.settle();
        }
    }

    /// Gives `server` another bound on the requests that this thread may have there at one time: its [`share`] of all.
    pub fn set_in_flight_max(&mut self, server: usize, most: Option<u32>) {
        if let Some(slot) = self.slots.get_mut(server) {
            slot.server.in_flight_max = most;
        }
    }

    /// Who takes the request that asks for `ask`; `chance` is any number.
    pub fn choose(&mut self, ask: &Ask<'_>, now: Moment, chance: u64) -> Choice {
        if let Some(server) = self.sticky_server(ask, now) {
            return if self.slots[server].has_room() { self.take(server) } else { Choice::Wait(Some(server)) };
        }
        let mut after = None;
        while let Some(tier) = self.next_tier(after, ask.tried) {
            let candidates = pick::Candidates { tier, tried: ask.tried };
            if let Some(server) = self.pick(&candidates, ask.hash, now, chance) {
                return self.take(server);
            }
            if self.slots.iter().enumerate().any(|(index, slot)| candidates.has(index, slot)) {
                return Choice::Wait(None);
            }
            after = Some(tier);
        }
        Choice::Nobody
    }

    /// A request that was counted at `server` has ended.
    ///
    /// A place is free then: [`next_waiting`](Self::next_waiting) says for whom.
    pub fn end(&mut self, server: usize, outcome: Outcome, now: Moment) {
        let Some(slot) = self.slots.get_mut(server) else { return };
        slot.in_flight.set(slot.in_flight().saturating_sub(1));
        match outcome {
            Outcome::Answered(time) => slot.latency.observe(time, now, self.rules.decay),
            Outcome::Failed(time) => slot.latency.observe(time.max(FAILURE_COST), now, self.rules.decay),
            Outcome::Unused => {}
        }
    }

    /// Waits for `server`, or for any that was not tried; `None` when as many wait already as may.
    pub fn join(&mut self, server: Option<usize>, tried: &[usize]) -> Option<Ticket> {
        self.queue.join(server, tried)
    }

    /// Ends the waiting of `ticket`: the client is gone, or has waited for too long. `false` when it did not wait.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        self.queue.leave(ticket)
    }

    /// The one that has waited longest of those for whom there is a place now, and the server where it counts from now on.
    ///
    /// To be asked after each [`end`](Self::end) and change of standing until there is none.
    pub fn next_waiting(&mut self) -> Option<(Ticket, usize)> {
        if self.queue.is_empty() {
            return None;
        }
        let open = self.slots.iter().filter_map(|slot| slot.tier).min();
        let slots = &self.slots;
        let (ticket, server) = self.queue.take(|server, tried| match server {
            Some(server) => Some(server).filter(|server| slots.get(*server).is_some_and(Slot::has_room)),
            None => slots.iter().enumerate().position(|(index, slot)| {
                slot.tier.is_some() && slot.tier == open && slot.has_room() && !tried.contains(&index)
            }),
        })?;
        self.slots[server].count_one();
        Some((ticket, server))
    }

    /// Those that wait for a server to which nothing may stick any more: each must choose again.
    pub fn next_orphan(&mut self) -> Option<Ticket> {
        let (slots, drained) = (&self.slots, self.rules.drained);
        let is_lost = |server: usize| slots.get(server).is_none_or(|slot| !slot.holds_clients(drained));
        self.queue.take(|server, _| server.filter(|server| is_lost(*server))).map(|(ticket, _)| ticket)
    }

    /// Requests that this thread has at `server`.
    pub fn in_flight(&self, server: usize) -> u32 {
        self.slots.get(server).map_or(0, Slot::in_flight)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The server that the request sticks to, where it may stay.
    fn sticky_server(&mut self, ask: &Ask<'_>, now: Moment) -> Option<usize> {
        let server = match ask.sticky {
            Sticky::Nothing => return None,
            Sticky::Server(server) => server,
            Sticky::Hash(hash) => {
                let tier = self.next_tier(None, ask.tried)?;
                let candidates = pick::Candidates { tier, tried: ask.tried };
                return pick::by_hash(&self.slots, self.rules.slow_start, &candidates, hash, now);
            }
        };
        let slot = self.slots.get(server)?;
        (slot.holds_clients(self.rules.drained) && !ask.tried.contains(&server)).then_some(server)
    }

    /// The first tier after `after` with a server that was not tried.
    fn next_tier(&self, after: Option<Tier>, tried: &[usize]) -> Option<Tier> {
        let untried = self.slots.iter().enumerate().filter(|(index, _)| !tried.contains(index));
        untried.filter_map(|(_, slot)| slot.tier).filter(|tier| after.is_none_or(|after| *tier > after)).min()
    }

    fn take(&mut self, server: usize) -> Choice {
        self.slots[server].count_one();
        Choice::Server(server)
    }
}

/// What a failure counts as at least: a server that fails fast must not look fast.
const FAILURE_COST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
