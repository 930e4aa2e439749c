//! What the rules follow from: the settings, how servers stand, and who is at their addresses. Pure.
//!
//! ```text
//! mode         health        weight   gets
//! ready        up            > 0      new flows and those that it has
//! ready        up            0        those that it has
//! drain        up            any      those that it has
//! ready        unknown, but  > 0      new flows and those that it has: else none would be taken after every start
//!              has answered
//! any          unknown       any      those that it has
//! maintenance  any           any      nothing
//! any          down          any      nothing
//! ```
//! A backup gets new flows while no other server does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use shared::name::ServerName;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

use crate::balance::{Health, Mode};
use crate::config::{L4, L4Mode};
use crate::l4::{Backend, Fate, Mac, Name};
use crate::standing::Standing;

/// A server as it is now.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: ServerName,
    /// Where it serves.
    pub address: SocketAddr,
    /// How it stands.
    pub standing: Standing,
    /// Whether it serves only when the others cannot.
    pub is_backup: bool,
    /// Whether its last check went well.
    pub has_answered: bool,
}

/// What each server is called by flow maps and marks; the same in every process, so that one that was killed can be
/// followed by another without a flow being lost.
#[derive(Debug, Default)]
pub struct Numbers(BTreeMap<(Name, ServerName, SocketAddr), NonZeroU32>);

impl Numbers {
    /// The number of `server` of `l4`.
    pub fn of(&mut self, l4: &Name, server: &Known) -> NonZeroU32 {
        let key = (l4.clone(), server.name.clone(), server.address);
        if let Some(number) = self.0.get(&key) {
            return *number;
        }
        // Keys that are not secret: nothing hangs on it but that two differ.
        let mut hasher = SipHasher13::new();
        (l4.as_str(), server.name.as_str(), server.address).hash(&mut hasher);
        let mut number = Self::FIRST.saturating_add(hasher.finish() as u32 & Self::MASK);
        while self.0.values().any(|taken| *taken == number) {
            let next = (number.get() - Self::FIRST.get()).wrapping_add(1) & Self::MASK;
            number = Self::FIRST.saturating_add(next);
        }
        self.0.insert(key, number);
        number
    }

    /// Forgets all but these servers.
    pub fn keep(&mut self, of: &BTreeSet<(Name, ServerName, SocketAddr)>) {
        self.0.retain(|key, _| of.contains(key));
    }

    /// Whether `number`, that of a routing table, may be one of these.
    pub fn is_one(number: u32) -> bool {
        number.wrapping_sub(Self::FIRST.get()) <= Self::MASK
    }

    const FIRST: NonZeroU32 = NonZeroU32::new(0x5200_0000).expect("it is not zero");
    const MASK: u32 = 0x00ff_ffff;
}

/// What each of `servers` gets.
pub fn fates(servers: &[Known]) -> Vec<Fate> {
    let own = |server: &Known| match (server.standing.health, server.standing.mode) {
        (Health::Down, _) | (_, Mode::Maintenance) => Fate::Gone,
        (health, Mode::Ready) if server.standing.weight > 0 && (health == Health::Up || server.has_answered) => {
            Fate::Open
        }
        _ => Fate::Draining,
    };
    let has_open = servers.iter().any(|server| !server.is_backup && own(server) == Fate::Open);
    let fate = |server| match own(server) {
        Fate::Open if server.is_backup && has_open => Fate::Draining,
        fate => fate,
    };
    servers.iter().map(fate).collect()
}

/// The servers of `l4`, as the rules want them; `macs` are known where its interface leads.
pub fn backends(l4: &L4, servers: &[Known], macs: &BTreeMap<IpAddr, Mac>, numbers: &mut Numbers) -> Vec<Backend> {
    let backend = |(server, fate): (&Known, Fate)| Backend {
        name: server.name.clone(),
        address: server.address,
        number: numbers.of(&l4.name, server),
        weight: if fate == Fate::Open { server.standing.weight } else { 0 },
        fate,
        mac: macs.get(&server.address.ip()).copied().filter(|_| l4.mode == L4Mode::Dsr),
    };
    servers.iter().zip(fates(servers)).map(backend).collect()
}

/// Why `backend` of `l4` gets no new flows although it is open; `None`: it gets them.
pub fn hindrance(l4: &L4, backend: &Backend) -> Option<String> {
    let (address, is_tunnel) = (backend.address.ip(), l4.mode == L4Mode::Tunnel);
    if !is_tunnel && !l4.vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4()) {
        return Some(format!("{address} is not of the family of a VIP"));
    }
    let interface = l4.interface.as_ref().map_or("", |interface| interface.as_str());
    (l4.mode == L4Mode::Dsr && backend.mac.is_none())
        .then(|| format!("{address} does not answer on {interface}: no MAC is known: expected it on that link"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, health: Health, mode: Mode, weight: u16) -> Known {
        let standing = Standing { health, mode, weight, connections: None };
        let address = SocketAddr::from(([192, 0, 2, 11], 80));
        Known {
            name: ServerName::parse(name).expect("a name"),
            address,
            standing,
            is_backup: false,
            has_answered: false,
        }
    }

    #[test]
    fn what_a_server_gets_follows_from_how_it_stands() {
        for (health, mode, weight, fate) in [
            (Health::Up, Mode::Ready, 1, Fate::Open),
            (Health::Up, Mode::Ready, 0, Fate::Draining),
            (Health::Up, Mode::Drain, 1, Fate::Draining),
            (Health::Unknown, Mode::Ready, 1, Fate::Draining),
            (Health::Up, Mode::Maintenance, 1, Fate::Gone),
            (Health::Down, Mode::Ready, 1, Fate::Gone),
            (Health::Down, Mode::Drain, 1, Fate::Gone),
        ] {
            assert_eq!(fates(&[known("a", health, mode, weight)]), [fate], "{health:?} {mode:?} {weight}");
        }
    }

    #[test]
    fn one_that_has_answered_once_takes_new_flows_before_it_is_up() {
        let mut server = known("a", Health::Unknown, Mode::Ready, 1);
        server.has_answered = true;
        assert_eq!(fates(&[server.clone()]), [Fate::Open]);
        server.standing.health = Health::Down;
        assert_eq!(fates(&[server]), [Fate::Gone]);
    }

    #[test]
    fn a_server_whose_address_nobody_answers_for_is_left_out_by_dsr_and_the_reason_is_said() {
        let text = "region = \"r\"\nproxy = \"p\"\nstatus = \"127.0.0.1:0\"\nservices.s.servers.a = \"192.0.2.11:80\"\n\
                    [l4.web]\nmode = \"dsr\"\nservice = \"s\"\nvips = [\"192.0.2.10\"]\nports = [80]\n\
                    protocols = [\"tcp\"]\ninterface = \"eth0\"\n";
        let config = crate::config::Config::parse("p.toml".as_ref(), text, &|_| Err(String::new())).expect("right");
        let server = known("a", Health::Up, Mode::Ready, 1);
        let of = |macs: &BTreeMap<IpAddr, Mac>| {
            let backends = backends(&config.l4[0], std::slice::from_ref(&server), macs, &mut Numbers::default());
            hindrance(&config.l4[0], &backends[0])
        };
        let why = "192.0.2.11 does not answer on eth0: no MAC is known: expected it on that link";
        assert_eq!(of(&BTreeMap::new()).as_deref(), Some(why));
        assert_eq!(of(&BTreeMap::from([(server.address.ip(), Mac([2; 6]))])), None);
    }

    #[test]
    fn a_backup_gets_new_flows_while_no_other_does() {
        let mut servers = [known("a", Health::Up, Mode::Ready, 1), known("b", Health::Up, Mode::Ready, 1)];
        servers[1].is_backup = true;
        assert_eq!(fates(&servers), [Fate::Open, Fate::Draining]);
        servers[0].standing.health = Health::Down;
        assert_eq!(fates(&servers), [Fate::Gone, Fate::Open]);
    }

    #[test]
    fn a_number_is_the_same_in_every_process_and_no_other_has_it() {
        let l4 = Name::parse("web").expect("a name");
        let (mut one, mut other) = (Numbers::default(), Numbers::default());
        let servers: Vec<Known> =
            (0..1000).map(|number| known(&format!("s{number}"), Health::Up, Mode::Ready, 1)).collect();
        let all: BTreeSet<_> = servers.iter().map(|server| one.of(&l4, server)).collect();
        assert_eq!(all.len(), servers.len());
        assert!(all.iter().all(|number| Numbers::is_one(number.get())));
        assert_eq!(one.of(&l4, &servers[7]), other.of(&l4, &servers[7]));
    }
}
