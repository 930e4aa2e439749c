//! What a balancer keeps of one server.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use shared::moment::Moment;

use super::ewma::Ewma;
use super::{Drained, Health, Mode, Server};

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) server: Server,
    pub(super) health: Health,
    pub(super) mode: Mode,
    pub(super) tier: Option<Tier>,
    /// Since when its weight grows; `None`: it has all of it.
    pub(super) grows_since: Option<Moment>,
    /// Shared with the balancers before and after it, where the server is the same.
    pub(super) in_flight: Rc<Cell<u32>>,
    /// What round robin owes it.
    pub(super) credit: i64,
    pub(super) latency: Ewma,
}

/// From first to last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Tier {
    Up,
    Unknown,
    BackupUp,
    BackupUnknown,
}

impl Slot {
    pub(super) fn new(server: Server) -> Self {
        let mut slot = Self {
            server,
            health: Health::Unknown,
            mode: Mode::Ready,
            tier: None,
            grows_since: None,
            in_flight: Rc::default(),
            credit: 0,
            latency: Ewma::default(),
        };
        slot.settle();
        slot
    }

    /// Finds its tier anew.
    pub(super) fn settle(&mut self) {
        let is_open = self.mode == Mode::Ready && self.server.weight > 0;
        self.tier = match (self.health, self.server.is_backup) {
            _ if !is_open => None,
            (Health::Down, _) => None,
            (Health::Up, false) => Some(Tier::Up),
            (Health::Unknown, false) => Some(Tier::Unknown),
            (Health::Up, true) => Some(Tier::BackupUp),
            (Health::Unknown, true) => Some(Tier::BackupUnknown),
        };
        if self.tier.is_none() {
            self.credit = 0;
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(super) fn count_one(&self) {
        self.in_flight.set(self.in_flight() + 1);
    }

    pub(super) fn has_room(&self) -> bool {
        self.server.in_flight_max.is_none_or(|most| self.in_flight() < most)
    }

    /// Whether clients that it has may stay.
    pub(super) fn holds_clients(&self, drained: Drained) -> bool {
        let is_wanted = match self.mode {
            Mode::Ready => true,
            Mode::Drain => drained == Drained::KeepsClients,
            Mode::Maintenance => false,
        };
        is_wanted && self.health != Health::Down
    }

    /// Its weight at `now`, in parts of [`WEIGHT_UNIT`]; at least one of them.
    pub(super) fn weight(&self, slow_start: Duration, now: Moment) -> u32 {
        let whole = u32::from(self.server.weight) * WEIGHT_UNIT;
        let Some(since) = self.grows_since else { return whole };
        let passed = now.since(since);
        if passed >= slow_start {
            return whole;
        }
        let part = f64::from(whole) * passed.as_secs_f64() / slow_start.as_secs_f64();
        (part as u32).max(1)
    }

    /// How loaded it would be with one request more, in relation to its weight: compared without division.
    pub(super) fn is_less_loaded(&self, weight: u32, other: &Self, other_weight: u32) -> bool {
        (u64::from(self.in_flight()) + 1) * u64::from(other_weight)
            < (u64::from(other.in_flight()) + 1) * u64::from(weight)
    }
}

/// The part of `most` requests at one time that is the thread numbered `thread`'s of `threads`; at least one.
///
/// The parts of all threads are `most` in sum, where `most` is not below `threads`.
pub fn share(most: u32, threads: u32, thread: u32) -> u32 {
    let threads = threads.max(1);
    (most / threads + u32::from(thread < most % threads)).max(1)
}

/// A weight of 1 in the units of [`Slot::weight`], so that a small weight can grow too.
const WEIGHT_UNIT: u32 = 256;
