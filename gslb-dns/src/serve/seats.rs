//! Who holds how many TCP connections, and who gives one up for a newcomer.
//!
//! A connection on which nothing is under way is worth less than a new one: at a limit the longest idle one is closed
//! (RFC 7766, section 6.2.3), and a newcomer is refused only where all others are at work.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What happened to connections.
#[derive(Debug, Default)]
pub(crate) struct TcpCounters {
    /// Connections that are open.
    pub(crate) open: AtomicU64,
    /// Connections ever taken.
    pub(crate) accepted: AtomicU64,
    /// Refused: as many as there may be in all were at work.
    pub(crate) refused_total: AtomicU64,
    /// Refused: as many as one client may have were at work.
    pub(crate) refused_client: AtomicU64,
    /// Closed while idle, for a newcomer.
    pub(crate) evicted: AtomicU64,
    /// Closed by us because the client was too slow or silent.
    pub(crate) timed_out: AtomicU64,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatLimits {
    /// In all.
    pub(super) total: usize,
    /// Of one client: an IPv4 address, or an IPv6 /64.
    pub(super) per_client: usize,
}

/// All connections that are counted.
pub(super) struct Seats {
    limits: SeatLimits,
    counters: Arc<TcpCounters>,
    taken: Mutex<Taken>,
    /// Numbers the moments at which connections became idle.
    turn: AtomicU64,
}

#[derive(Default)]
struct Taken {
    next_id: u64,
    entries: HashMap<u64, Entry>,
    clients: HashMap<IpAddr, usize>,
}

struct Entry {
    client: IpAddr,
    status: Arc<Status>,
}

struct Status {
    /// The turn at which it became idle; [`AT_WORK`] while it is not.
    idle_since: AtomicU64,
    evicted: Notify,
}

/// The right to one open connection, until it is dropped or taken away.
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: u64,
    status: Arc<Status>,
}

impl Seats {
    pub(super) fn new(limits: SeatLimits, counters: Arc<TcpCounters>) -> Self {
        Self { limits, counters, taken: Mutex::default(), turn: AtomicU64::new(0) }
    }

    /// A seat for `peer`, idle at first; `None` when it must be refused.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let client = client_of(peer);
        let mut taken = self.lock();
        let is_client_full = taken.clients.get(&client).is_some_and(|&count| count >= self.limits.per_client);
        if is_client_full || taken.entries.len() >= self.limits.total {
            let only = is_client_full.then_some(client);
            let refused = if is_client_full { &self.counters.refused_client } else { &self.counters.refused_total };
            let Some(victim) = taken.longest_idle(only) else {
                refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            if let Some(entry) = taken.remove(victim) {
                entry.status.evicted.notify_one();
                self.counters.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        let status = Arc::new(Status { idle_since: AtomicU64::new(self.next_turn()), evicted: Notify::new() });
        let id = taken.add(Entry { client, status: Arc::clone(&status) });
        self.counters.open.fetch_add(1, Ordering::Relaxed);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Seat { seats: Arc::clone(self), id, status })
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Notes whether nothing is under way on the connection.
    pub(super) fn set_idle(&self, is_idle: bool) {
        let turn = if is_idle { self.seats.next_turn() } else { AT_WORK };
        self.status.idle_since.store(turn, Ordering::Relaxed);
    }

    /// Waits until the seat is taken away.
    pub(super) async fn evicted(&self) {
        self.status.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.seats.lock().remove(self.id);
    }
}

impl Taken {
    fn add(&mut self, entry: Entry) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        *self.clients.entry(entry.client).or_default() += 1;
        self.entries.insert(id, entry);
        id
    }

    /// `None` when it has been removed before.
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(count) = self.clients.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry)
    }

    /// The connection that has been idle for the longest time, of one client or of all.
    fn longest_idle(&self, only: Option<IpAddr>) -> Option<u64> {
        let wanted = self.entries.iter().filter(|(_, entry)| only.is_none_or(|client| client == entry.client));
        let idle = wanted.map(|(id, entry)| (entry.status.idle_since.load(Ordering::Relaxed), *id));
        idle.filter(|(since, _)| *since != AT_WORK).min().map(|(_, id)| id)
    }
}

/// Whose connections count together: hosts have a whole IPv6 /64.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

const AT_WORK: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Arc<Seats> {
        Arc::new(Seats::new(SeatLimits { total: 3, per_client: 2 }, Arc::default()))
    }

    fn client(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn is_evicted(seat: &Seat) -> bool {
        !seat.seats.lock().entries.contains_key(&seat.id)
    }

    #[test]
    fn newcomer_takes_the_seat_that_was_idle_for_the_longest_time() {
        let seats = seats();
        let first = seats.take(client("192.0.2.1")).expect("free");
        let second = seats.take(client("192.0.2.1")).expect("free");
        first.set_idle(true);
        let third = seats.take(client("192.0.2.1"));
        assert!(third.is_some() && is_evicted(&second) && !is_evicted(&first));
    }

    #[test]
    fn client_at_its_limit_costs_nobody_else_a_seat() {
        let seats = seats();
        let other = seats.take(client("192.0.2.9")).expect("free");
        let held: Vec<Seat> = (0..2).filter_map(|_| seats.take(client("192.0.2.1"))).collect();
        assert!(seats.take(client("192.0.2.1")).is_some());
        assert!(!is_evicted(&other) && is_evicted(&held[0]));
    }

    #[test]
    fn who_is_at_work_is_never_evicted() {
        let seats = seats();
        let held: Vec<Seat> =
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|peer| seats.take(client(peer)).expect("free")).into();
        held.iter().for_each(|seat| seat.set_idle(false));
        assert!(seats.take(client("192.0.2.4")).is_none());
        held[1].set_idle(true);
        assert!(seats.take(client("192.0.2.4")).is_some() && is_evicted(&held[1]));
        assert_eq!(seats.counters.refused_total.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn seats_that_are_given_back_leave_no_trace() {
        let seats = seats();
        for _ in 0..10 {
            drop((0..5).map(|_| seats.take(client("2001:db8::1"))).collect::<Vec<_>>());
        }
        assert!(seats.lock().entries.is_empty() && seats.lock().clients.is_empty());
        assert_eq!(seats.counters.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn ipv6_clients_count_by_their_network() {
        let client = |text: &str| client_of(client(text));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    }
}
