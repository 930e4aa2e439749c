//! What one client may take: so many requests a second and so many connections, told in a table of fixed size.
//!
//! A client is all addresses of one prefix. Each thread has a table of its own and knows only what comes to it.

use std::hash::Hasher;
use std::net::IpAddr;
use std::time::Duration;

use shared::moment::Moment;
use siphasher::sip::SipHasher13;

use crate::network::{Network, Prefixes};

/// The bounds on each client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// How much of an address is one client.
    pub prefixes: Prefixes,
    /// How often it may ask; `None`: as often as it can.
    pub requests: Option<Rate>,
    /// Connections that it may have open; `None`: any number.
    pub connections: Option<u32>,
    /// Clients that are known at one time; the quietest makes room for one more.
    pub table: usize,
    /// Who is not bound by any of this.
    pub exempt: Vec<Network>,
}

/// How often a client may ask: `burst` requests at once, and one more for each part of a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Requests in a second, in the long run; not 0.
    pub per_sec: u32,
    /// Requests that may come together; not 0.
    pub burst: u32,
}

impl Rules {
    /// Whether `address` is bound by them.
    pub fn bind(&self, address: IpAddr) -> bool {
        !self.exempt.iter().any(|network| network.contains(address))
    }
}

impl Default for Rules {
    /// Nobody is bound.
    fn default() -> Self {
        Self { prefixes: Prefixes::default(), requests: None, connections: None, table: 16_384, exempt: Vec::new() }
    }
}

impl Rate {
    /// What one request takes, in microseconds.
    fn step(self) -> u64 {
        1_000_000 / u64::from(self.per_sec.max(1))
    }

    /// How far ahead of the clock its requests may be, in microseconds.
    fn ahead_max(self) -> u64 {
        self.step() * u64::from(self.burst.max(1) - 1)
    }
}

/// The clients of one thread.
#[derive(Debug)]
pub struct Clients {
    slots: Box<[Slot]>,
    /// What no client can guess: which of them share a row.
    secret: (u64, u64),
    /// Tells the places of this table from those of others.
    number: u32,
    /// How many it was made for.
    most: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Its prefix, an IPv4 one as it is mapped into IPv6.
    client: u128,
    /// Up to when its requests are paid for, in microseconds: beyond now it has asked faster than its rate.
    paid: u64,
    connections: u32,
    is_taken: bool,
}

/// Where the connections of a client are counted, to be given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    table: u32,
    slot: u32,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// It is one of those its client may have.
    Counted(Place),
    /// It is not counted: there are too many clients with connections to know them all.
    Uncounted,
    /// Its client has as many as it may.
    Refused,
}

impl Clients {
    /// Nobody, with room for at least `most`; `secret` is any that clients cannot guess, and `number` unlike that of the
    /// table before.
    pub fn new(most: usize, secret: (u64, u64), number: u32) -> Self {
        let rows = most.div_ceil(ROW).next_power_of_two();
        Self { slots: vec![Slot::default(); rows * ROW].into_boxed_slice(), secret, number, most }
    }

    /// Whether it was made for `most`.
    pub fn is_for(&self, most: usize) -> bool {
        self.most == most
    }

    /// A request of `address`.
    ///
    /// # Errors
    /// How long its client must wait before it may ask again; this request costs it nothing.
    pub fn request(&mut self, address: IpAddr, rules: &Rules, now: Moment) -> Result<(), Duration> {
        let Some(rate) = rules.requests else { return Ok(()) };
        let now = micros(now);
        let Some(slot) = self.find(rules.prefixes.of(address), now) else { return Ok(()) };
        let slot = &mut self.slots[slot];
        let paid = slot.paid.max(now);
        let ahead = paid - now;
        if ahead > rate.ahead_max() {
            return Err(Duration::from_micros(ahead - rate.ahead_max()));
        }
        slot.paid = paid + rate.step();
        Ok(())
    }

    /// A new connection of `address`.
    pub fn connect(&mut self, address: IpAddr, rules: &Rules, now: Moment) -> Entry {
        let Some(most) = rules.connections else { return Entry::Uncounted };
        let Some(at) = self.find(rules.prefixes.of(address), micros(now)) else { return Entry::Uncounted };
        let slot = &mut self.slots[at];
        if slot.connections >= most {
            return Entry::Refused;
        }
        slot.connections += 1;
        Entry::Counted(Place { table: self.number, slot: at as u32 })
    }

    /// A connection that was counted at `place` has ended; one of another table is not known here.
    pub fn disconnect(&mut self, place: Place) {
        if place.table == self.number
            && let Some(slot) = self.slots.get_mut(place.slot as usize)
        {
            slot.connections = slot.connections.saturating_sub(1);
        }
    }

    /// The slot of `client`: its own, a free one, or that of the quietest which has no connection.
    fn find(&mut self, client: IpAddr, now: u64) -> Option<usize> {
        let client = match client {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u128(client);
        let first = (hasher.finish() as usize & (self.slots.len() / ROW - 1)) * ROW;
        let row = &mut self.slots[first..first + ROW];
        if let Some(at) = row.iter().position(|slot| slot.is_taken && slot.client == client) {
            return Some(first + at);
        }
        let is_free = |slot: &Slot| slot.connections == 0;
        let quietest = row.iter().enumerate().filter(|(_, slot)| is_free(slot)).min_by_key(|(_, slot)| slot.paid);
        let at = quietest.map(|(at, _)| at)?;
        row[at] = Slot { client, paid: now, connections: 0, is_taken: true };
        Some(first + at)
    }
}

fn micros(now: Moment) -> u64 {
    u64::try_from(now.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
}

/// Clients that share one row of the table: each is looked for in one row alone.
const ROW: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(per_sec: u32, burst: u32, connections: u32) -> Rules {
        Rules {
            prefixes: Prefixes::default(),
            requests: Some(Rate { per_sec, burst }),
            connections: Some(connections),
            table: 64,
            exempt: Vec::new(),
        }
    }

    fn clients() -> Clients {
        Clients::new(64, (1, 2), 0)
    }

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_burst_passes_and_then_no_more_than_the_rate() {
        let (mut clients, rules, one) = (clients(), rules(10, 5, 1), ip("192.0.2.1"));
        let passed = |clients: &mut Clients, span: std::ops::Range<u64>| {
            span.filter(|millis| clients.request(one, &rules, at(*millis)).is_ok()).count()
        };
        assert_eq!(passed(&mut clients, 1000..1001), 1);
        assert_eq!((0..9).filter(|_| clients.request(one, &rules, at(1000)).is_ok()).count(), 4);
        assert_eq!(passed(&mut clients, 1001..3001), 20);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_back_and_is_let_in_then() {
        let (mut clients, rules, one) = (clients(), rules(2, 1, 1), ip("192.0.2.1"));
        assert_eq!(clients.request(one, &rules, at(0)), Ok(()));
        for _ in 0..100 {
            assert_eq!(clients.request(one, &rules, at(100)), Err(Duration::from_millis(400)));
        }
        assert_eq!(clients.request(one, &rules, at(500)), Ok(()));
    }

    #[test]
    fn addresses_of_one_prefix_share_and_others_do_not() {
        let (mut clients, rules) = (clients(), rules(1, 1, 1));
        assert!(clients.request(ip("2001:db8::1"), &rules, at(0)).is_ok());
        assert!(clients.request(ip("2001:db8::2"), &rules, at(0)).is_err());
        assert!(clients.request(ip("2001:db8:1::1"), &rules, at(0)).is_ok());
        assert!(clients.request(ip("192.0.2.1"), &rules, at(0)).is_ok());
        assert!(clients.request(ip("::ffff:192.0.2.1"), &rules, at(0)).is_err());
    }

    #[test]
    fn connections_are_bounded_until_one_ends() {
        let (mut clients, rules, one) = (clients(), rules(1, 1, 2), ip("192.0.2.1"));
        let Entry::Counted(place) = clients.connect(one, &rules, at(0)) else { panic!("refused") };
        assert!(matches!(clients.connect(one, &rules, at(0)), Entry::Counted(_)));
        assert_eq!(clients.connect(one, &rules, at(0)), Entry::Refused);
        clients.disconnect(Place { table: 7, ..place });
        assert_eq!(clients.connect(one, &rules, at(0)), Entry::Refused);
        clients.disconnect(place);
        assert!(matches!(clients.connect(one, &rules, at(0)), Entry::Counted(_)));
    }

    #[test]
    fn a_crowd_of_strangers_moves_nobody_who_is_connected() {
        let (mut clients, rules, one) = (clients(), rules(1, 1, 1), ip("192.0.2.1"));
        assert!(matches!(clients.connect(one, &rules, at(0)), Entry::Counted(_)));
        for stranger in 0..10_000_u32 {
            let _ = clients.request(IpAddr::V4((0x0a00_0000 + stranger).into()), &rules, at(1));
        }
        assert_eq!(clients.connect(one, &rules, at(2)), Entry::Refused);
        assert_eq!(clients.slots.len(), 64);
    }

    #[test]
    fn with_more_connected_clients_than_it_knows_a_table_refuses_nobody() {
        let (mut clients, rules) = (clients(), rules(1, 1, 1));
        let entries = (0..1000_u32).map(|one| clients.connect(IpAddr::V4(one.into()), &rules, at(0)));
        assert!(!entries.collect::<Vec<_>>().contains(&Entry::Refused));
    }
}
