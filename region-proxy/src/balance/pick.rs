//! One server of a tier, by each policy.

use std::time::Duration;

use shared::moment::Moment;

use super::slot::{Slot, Tier};
use super::{Balancer, Policy, hash};

/// Which servers may be picked.
pub(super) struct Candidates<'a> {
    pub(super) tier: Tier,
    pub(super) tried: &'a [usize],
}

impl Candidates<'_> {
    /// Whether the server at `index` is one of them, full or not.
    pub(super) fn has(&self, index: usize, slot: &Slot) -> bool {
        slot.tier == Some(self.tier) && !self.tried.contains(&index)
    }

    fn open(&self, index: usize, slot: &Slot) -> bool {
        self.has(index, slot) && slot.has_room()
    }
}

impl Balancer {
    /// One of `candidates` that is not full.
    pub(super) fn pick(
        &mut self,
        candidates: &Candidates<'_>,
        hash: Option<u64>,
        now: Moment,
        chance: u64,
    ) -> Option<usize> {
        match (self.rules.policy, hash) {
            (Policy::RoundRobin, _) | (Policy::Hash, None) => self.by_turn(candidates, now),
            (Policy::LeastConnections, _) => self.least_loaded(candidates, now),
            (Policy::First, _) => self.slots.iter().enumerate().position(|(index, slot)| candidates.open(index, slot)),
            (Policy::RandomOfTwo, _) => {
                let weight = |slot: &Slot| slot.weight(self.rules.slow_start, now);
                self.better_of_two(candidates, now, chance, |one, other| {
                    !other.is_less_loaded(weight(other), one, weight(one))
                })
            }
            (Policy::Ewma, _) => {
                let cost = |slot: &Slot| {
                    let cost = slot.latency.cost(slot.in_flight(), now, self.rules.decay);
                    cost / f64::from(slot.weight(self.rules.slow_start, now))
                };
                self.better_of_two(candidates, now, chance, |one, other| cost(one) <= cost(other))
            }
            (Policy::Hash, Some(hash)) => self.by_bounded_hash(candidates, hash, now),
        }
    }

    /// Smooth weighted round robin: in each turn all get their weight as credit, and the richest pays for all.
    pub(super) fn by_turn(&mut self, candidates: &Candidates<'_>, now: Moment) -> Option<usize> {
        let slow_start = self.rules.slow_start;
        let (mut total, mut best): (i64, Option<(usize, i64)>) = (0, None);
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(index, slot)| candidates.open(*index, slot)) {
            let weight = i64::from(slot.weight(slow_start, now));
            total += weight;
            slot.credit += weight;
            if best.is_none_or(|(_, credit)| slot.credit > credit) {
                best = Some((index, slot.credit));
            }
        }
        let (best, _) = best?;
        self.slots[best].credit -= total;
        Some(best)
    }

    fn least_loaded(&mut self, candidates: &Candidates<'_>, now: Moment) -> Option<usize> {
        let weight = |slot: &Slot| slot.weight(self.rules.slow_start, now);
        let count = self.slots.len();
        let mut best: Option<usize> = None;
        // From where the last turn ended, so that equals take turns.
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let slot = &self.slots[index];
            let is_better =
                |best: usize| slot.is_less_loaded(weight(slot), &self.slots[best], weight(&self.slots[best]));
            if candidates.open(index, slot) && best.is_none_or(is_better) {
                best = Some(index);
            }
        }
        self.turn = best? + 1;
        best
    }

    /// The better of two different ones, each by chance and weight; the only one where there is but one.
    fn better_of_two(
        &self,
        candidates: &Candidates<'_>,
        now: Moment,
        chance: u64,
        is_first_better: impl Fn(&Slot, &Slot) -> bool,
    ) -> Option<usize> {
        let one = self.by_chance(candidates, None, now, chance as u32)?;
        let other = self.by_chance(candidates, Some(one), now, (chance >> 32) as u32);
        match other {
            Some(other) if !is_first_better(&self.slots[one], &self.slots[other]) => Some(other),
            _ => Some(one),
        }
    }

    fn by_chance(&self, candidates: &Candidates<'_>, but: Option<usize>, now: Moment, chance: u32) -> Option<usize> {
        let weights = || {
            let open = self
                .slots
                .iter()
                .enumerate()
                .filter(move |(index, slot)| Some(*index) != but && candidates.open(*index, slot));
            open.map(|(index, slot)| (index, u64::from(slot.weight(self.rules.slow_start, now))))
        };
        let total: u64 = weights().map(|(_, weight)| weight).sum();
        let mut left = (u64::from(chance) * total) >> 32;
        for (index, weight) in weights() {
            if left < weight {
                return Some(index);
            }
            left -= weight;
        }
        None
    }

    /// The first in the order of `hash` that would have no more than its share and the bound allow.
    fn by_bounded_hash(&self, candidates: &Candidates<'_>, hash: u64, now: Moment) -> Option<usize> {
        let open = || self.slots.iter().enumerate().filter(|(index, slot)| candidates.open(*index, slot));
        let weight = |slot: &Slot| slot.weight(self.rules.slow_start, now);
        let Some(percent) = self.rules.bound_percent else {
            return best_by_hash(open(), weight, hash);
        };
        let (requests, weights) = open().fold((1, 0), |(requests, weights), (_, slot)| {
            (requests + u64::from(slot.in_flight()), weights + u64::from(weight(slot)))
        });
        // With at least 100 per cent, all bounds together hold all requests and the new one: some server is below its own.
        let is_below = |slot: &Slot| {
            let bound = u128::from(requests * u64::from(percent.max(100))) * u128::from(weight(slot));
            u128::from(slot.in_flight()) * 100 * u128::from(weights) < bound
        };
        best_by_hash(open().filter(|(_, slot)| is_below(slot)), weight, hash)
    }
}

/// The candidate that `hash` leads to, full or not.
pub(super) fn by_hash(
    slots: &[Slot],
    slow_start: Duration,
    candidates: &Candidates<'_>,
    hash: u64,
    now: Moment,
) -> Option<usize> {
    let all = slots.iter().enumerate().filter(|(index, slot)| candidates.has(*index, slot));
    best_by_hash(all, |slot| slot.weight(slow_start, now), hash)
}

/// Weighted rendezvous: each server draws a number from the hash and its name, and the best draw for its weight wins.
///
/// So a server that goes gives only its own keys away, one that comes takes only the keys that are its own then, and
/// nothing must be kept.
fn best_by_hash<'s>(
    slots: impl Iterator<Item = (usize, &'s Slot)>,
    weight: impl Fn(&Slot) -> u32,
    hash: u64,
) -> Option<usize> {
    let draws = slots.map(|(index, slot)| (index, hash::draw(hash, slot.server.hash) / f64::from(weight(slot))));
    draws.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
}
