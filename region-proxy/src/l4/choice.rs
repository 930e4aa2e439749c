//! Who gets new flows: the slots of a service and what leads to one of them.

use super::words::Family;
use super::{Backend, Balance, Fate, Service, Way, maglev, turns};

/// The servers of a service for one family, by what they get.
#[derive(Debug)]
pub(super) struct Servers<'p> {
    /// Those that can be reached, whatever their fate: a number of slots.
    count: usize,
    /// Those that keep what they have, by name.
    pub(super) kept: Vec<&'p Backend>,
    /// Those of them that get new flows.
    pub(super) open: Vec<&'p Backend>,
}

/// Slots, each with its server, and what leads to one of them.
#[derive(Debug)]
pub(super) struct Slots<'p> {
    /// An expression that is the number of a slot.
    pub(super) by: String,
    /// Never empty.
    pub(super) servers: Vec<&'p Backend>,
}

impl<'p> Servers<'p> {
    /// Those of `service` that get packets to its VIPs of `family`.
    pub(super) fn of(service: &'p Service, family: Family) -> Self {
        let is_tunnel = matches!(service.way, Way::Tunnel { .. });
        let is_dsr = matches!(service.way, Way::Dsr { .. });
        let mut all: Vec<&Backend> =
            service.backends.iter().filter(|backend| is_tunnel || family.has(backend.address.ip())).collect();
        // In whatever order they come, all machines have the same tables.
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let is_kept = |backend: &&&Backend| backend.fate != Fate::Gone && (!is_dsr || backend.mac.is_some());
        let kept: Vec<&Backend> = all.iter().filter(is_kept).copied().collect();
        let open = kept.iter().filter(|backend| backend.fate == Fate::Open && backend.weight > 0).copied().collect();
        Self { count: all.len(), kept, open }
    }

    /// Those that get no new flows.
    pub(super) fn draining(&self) -> impl Iterator<Item = &'p Backend> {
        self.kept.iter().filter(|kept| !self.open.iter().any(|open| open.name == kept.name)).copied()
    }

    /// The slots for packets of new flows; `None`: nobody takes any.
    pub(super) fn slots(&self, balance: Balance, family: Family) -> Option<Slots<'p>> {
        let (by, servers) = match balance {
            Balance::RoundRobin => {
                let servers = self.in_turn();
                (format!("numgen inc mod {}", servers.len()), servers)
            }
            Balance::Random => {
                let servers = self.in_turn();
                (format!("numgen random mod {}", servers.len()), servers)
            }
            Balance::Source | Balance::Maglev => {
                let servers = self.hashed();
                (family.slot(balance, servers.len()), servers)
            }
        };
        (!servers.is_empty()).then_some(Slots { by, servers })
    }

    /// The server of each slot that a hash leads to.
    pub(super) fn hashed(&self) -> Vec<&'p Backend> {
        let servers: Vec<(&str, u16)> =
            self.open.iter().map(|backend| (backend.name.as_str(), backend.weight)).collect();
        maglev::table(&servers, maglev::size(self.count)).into_iter().map(|server| self.open[server]).collect()
    }

    fn in_turn(&self) -> Vec<&'p Backend> {
        let weights: Vec<u16> = self.open.iter().map(|backend| backend.weight).collect();
        turns::turns(&weights).into_iter().map(|server| self.open[server]).collect()
    }
}
