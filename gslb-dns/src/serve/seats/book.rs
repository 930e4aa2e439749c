//! Which TCP connections there are, and which of them goes when there are too many. Pure: time is an argument.
//!
//! The engine answers at once, so that a connection that is open waits for its client: for a query, for the rest of
//! one, or for room to send. Whoever has waited for the longest time is missed least, which gives the rules:
//! ```text
//! what is full           who goes (longest: has waited for its client for the longest time)
//! one client's share     the longest of that client
//! all connections        1. the longest of the heaviest network, if it has waited for a while
//!                        2. else the longest of all, if it has waited for a while
//!                        3. else, all being busy, the longest of the heaviest network
//!                        4. else, no network being heavy, the longest of all
//! octets held            the connection that holds most
//! ```
//! So a newcomer always gets in; and a flood, however busy, costs those who are busy and few nothing: it pays itself.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Time in ticks; how long one is, is the caller's affair.
pub(super) type Tick = u64;

/// One connection, as long as it is in the book.
pub(super) type Id = u64;

/// What a book keeps to.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct BookLimits {
    /// Connections in all.
    pub(in crate::serve) total: usize,
    /// Connections of one client.
    pub(in crate::serve) per_client: usize,
    /// Octets that all connections hold.
    pub(in crate::serve) octets: usize,
    /// How long one may wait for a query; at least 1.
    pub(super) idle: Tick,
    /// How long one may wait for the rest of a query, or for room to send; at least 1.
    pub(super) message: Tick,
    /// Who has waited for this long is not busy.
    pub(super) patience: Tick,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::serve) enum Awaited {
    /// The next query; nothing is under way.
    Query,
    /// The rest of a query, or the first one.
    RestOfQuery,
    /// The client to take what was sent.
    Room,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Wait {
    pub(super) awaited: Awaited,
    /// Never goes back.
    pub(super) since: Tick,
}

/// A connection, which knows for itself what it waits for: so that a query changes nothing in the book.
pub(super) trait Line {
    /// What it waits for now.
    fn wait(&self) -> Wait;
}

/// The book of all connections.
pub(super) struct Book<L> {
    limits: BookLimits,
    next_id: Id,
    entries: HashMap<Id, Entry<L>>,
    /// The connections of each group by the time since when they wait, as last looked at: never too late.
    orders: HashMap<Group, BTreeSet<(Tick, Id)>>,
    /// Networks by the number of their connections.
    networks: BTreeSet<(usize, IpAddr)>,
    /// When to look whether a connection has waited for too long: never too late.
    checks: BTreeSet<(Tick, Id)>,
    /// Connections by the octets that they hold, if any; of two alike the older one comes last.
    holders: BTreeSet<(usize, Reverse<Id>)>,
    held: usize,
}

struct Entry<L> {
    line: L,
    client: IpAddr,
    since: Tick,
    check_at: Tick,
    held: usize,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Group {
    All,
    Network(IpAddr),
    Client(IpAddr),
}

impl<L: Line> Book<L> {
    pub(super) fn new(limits: BookLimits) -> Self {
        Self {
            limits,
            next_id: 0,
            entries: HashMap::new(),
            orders: HashMap::new(),
            networks: BTreeSet::new(),
            checks: BTreeSet::new(),
            holders: BTreeSet::new(),
            held: 0,
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Octets that all hold.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// All connections, in no order.
    pub(super) fn lines(&self) -> impl Iterator<Item = &L> {
        self.entries.values().map(|entry| &entry.line)
    }

    /// Enters a connection of `peer`; gives the one that has to go for it. Costs O(log n), and as much again for each
    /// connection used since it was last looked at.
    pub(super) fn join(&mut self, peer: IpAddr, now: Tick, line: L) -> (Id, Option<L>) {
        let client = client_of(peer);
        let victim = self.victim(client, now).and_then(|id| self.remove(id));
        let id = self.next_id;
        self.next_id += 1;
        let since = line.wait().since;
        for group in groups(client) {
            self.orders.entry(group).or_default().insert((since, id));
        }
        self.resize(network_of(client), 1);
        let check_at = now + self.limits.idle.min(self.limits.message);
        self.checks.insert((check_at, id));
        self.entries.insert(id, Entry { line, client, since, check_at, held: 0 });
        (id, victim)
    }

    /// Strikes a connection out; nothing to do for one that had to go before.
    pub(super) fn leave(&mut self, id: Id) {
        self.remove(id);
    }

    /// Notes that connection `id` holds `octets`; gives those that have to go for it, which may be itself.
    pub(super) fn hold(&mut self, id: Id, octets: usize) -> Vec<L> {
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        let before = std::mem::replace(&mut entry.held, octets);
        self.holders.remove(&(before, Reverse(id)));
        if octets > 0 {
            self.holders.insert((octets, Reverse(id)));
        }
        self.held = self.held - before + octets;
        let mut gone = Vec::new();
        while self.held > self.limits.octets {
            let Some(&(_, Reverse(most))) = self.holders.last() else { break };
            gone.extend(self.remove(most));
        }
        gone
    }

    /// Strikes out those that have waited for too long; gives them, and what they waited for.
    pub(super) fn expire(&mut self, now: Tick) -> Vec<(L, Awaited)> {
        let mut gone = Vec::new();
        while let Some(&(at, id)) = self.checks.first()
            && at <= now
        {
            let Some(entry) = self.entries.get_mut(&id) else { break };
            let wait = entry.line.wait();
            let due = wait.since + self.limits.of(wait.awaited);
            if due <= now {
                gone.extend(self.remove(id).map(|line| (line, wait.awaited)));
                continue;
            }
            // What begins after this look is due no earlier than that.
            entry.check_at = due.min(now + self.limits.idle.min(self.limits.message));
            self.checks.remove(&(at, id));
            self.checks.insert((entry.check_at, id));
        }
        gone
    }

    fn victim(&mut self, client: IpAddr, now: Tick) -> Option<Id> {
        let of_client = self.orders.get(&Group::Client(client)).map_or(0, BTreeSet::len);
        if of_client >= self.limits.per_client {
            return self.longest(Group::Client(client)).map(|(_, id)| id);
        }
        if self.entries.len() < self.limits.total {
            return None;
        }
        let heavy = self.networks.last().filter(|(count, _)| *count > self.limits.light()).map(|(_, network)| *network);
        let heavy = heavy.and_then(|network| self.longest(Group::Network(network)));
        let is_patient = |(since, _): &(Tick, Id)| now.saturating_sub(*since) >= self.limits.patience;
        if let Some((_, id)) = heavy.filter(is_patient) {
            return Some(id);
        }
        let patience = self.limits.patience;
        let (since, of_all) = self.longest(Group::All)?;
        let is_busy = now.saturating_sub(since) < patience;
        heavy.filter(|_| is_busy).map(|(_, id)| id).or(Some(of_all))
    }

    /// Who has waited for the longest time, and since when. Who was used since the last look is put where it belongs.
    fn longest(&mut self, group: Group) -> Option<(Tick, Id)> {
        loop {
            let (noted, id) = *self.orders.get(&group)?.first()?;
            let entry = self.entries.get_mut(&id)?;
            let since = entry.line.wait().since;
            if since <= noted {
                return Some((noted, id));
            }
            entry.since = since;
            let client = entry.client;
            for group in groups(client) {
                if let Some(order) = self.orders.get_mut(&group) {
                    order.remove(&(noted, id));
                    order.insert((since, id));
                }
            }
        }
    }

    fn remove(&mut self, id: Id) -> Option<L> {
        let Entry { line, client, since, check_at, held } = self.entries.remove(&id)?;
        for group in groups(client) {
            if let Some(order) = self.orders.get_mut(&group) {
                order.remove(&(since, id));
                if order.is_empty() {
                    self.orders.remove(&group);
                }
            }
        }
        self.resize(network_of(client), -1);
        self.checks.remove(&(check_at, id));
        self.holders.remove(&(held, Reverse(id)));
        self.held -= held;
        Some(line)
    }

    /// Notes that `network`, whose order is up to date, has grown by `by`.
    fn resize(&mut self, network: IpAddr, by: isize) {
        let count = self.orders.get(&Group::Network(network)).map_or(0, BTreeSet::len);
        if let Some(before) = count.checked_add_signed(-by) {
            self.networks.remove(&(before, network));
        }
        if count > 0 {
            self.networks.insert((count, network));
        }
    }
}

impl BookLimits {
    /// Connections up to which a network is never heavy: so that among many small ones size does not count.
    fn light(&self) -> usize {
        (self.total / LIGHT_PART).clamp(1, LIGHT_MAX)
    }

    fn of(&self, awaited: Awaited) -> Tick {
        match awaited {
            Awaited::Query => self.idle,
            Awaited::RestOfQuery | Awaited::Room => self.message,
        }
    }
}

/// The groups to which a connection of `client` belongs.
fn groups(client: IpAddr) -> [Group; 3] {
    [Group::All, Group::Network(network_of(client)), Group::Client(client)]
}

/// Whose connections count together: an IPv4 address, or an IPv6 /56, since that is what one customer gets at least.
fn client_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - 56))).into(),
    }
}

/// Who shares the blame for a flood: an IPv4 /24, or an IPv6 /48.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - 48))).into(),
    }
}

/// A network is light with up to this part of all connections, ...
const LIGHT_PART: usize = 64;
/// ... and no more than this many: what a few busy resolvers side by side have open.
const LIGHT_MAX: usize = 16;

#[cfg(test)]
mod tests;
