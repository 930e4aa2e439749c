//! The zone that every server serves: a plain master file, small or with many hosts.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::regions::REGIONS;

/// Its name.
pub const ZONE: &str = "gslb.test";
/// The steered name.
pub const STEERED: &str = "www.gslb.test";
/// The name of the scenario `static`.
pub const STATIC: &str = "static.gslb.test";
/// Its address.
pub const STATIC_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// SOA rdata, in the form of a master file.
pub const SOA: &str = "ns1.gslb.test. hostmaster.gslb.test. 1 7200 1800 259200 60";
/// Hosts of the big zone.
pub const HOSTS: usize = 200_000;

/// Which of the zones.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Size {
    /// A handful of names.
    Small,
    /// The same, signed by one key of algorithm 13.
    Signed,
    /// [`HOSTS`] more.
    Big,
}

/// A host of the big zone: its label and address.
pub type Host = (String, Ipv4Addr);

/// The hosts of the big zone, the same at every run, in no order.
pub fn hosts() -> Vec<Host> {
    let mut chance = fastrand::Rng::with_seed(SEED);
    let mut labels = std::collections::HashSet::new();
    let mut hosts = Vec::with_capacity(HOSTS);
    while hosts.len() < HOSTS {
        let label = random_label(&mut chance, 10);
        if labels.insert(label.clone()) {
            let number = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
            hosts.push((label, Ipv4Addr::from((10 << 24) | number)));
        }
    }
    hosts
}

/// Letters and digits by chance.
pub fn random_label(chance: &mut fastrand::Rng, len: usize) -> String {
    (0..len).map(|_| char::from(*chance.choice(LETTERS).unwrap_or(&b'x'))).collect()
}

/// The master file without the steered name.
pub fn master_file(hosts: &[Host]) -> String {
    let mut text = format!("$ORIGIN {ZONE}.\n$TTL 3600\n@ 3600 IN SOA {SOA}\n@ 3600 IN NS ns1.{ZONE}.\n");
    text += &format!("ns1 3600 IN A 127.0.0.1\nstatic 300 IN A {STATIC_ADDRESS}\n");
    for (label, address) in hosts {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{label} 300 IN A {address}");
    }
    text
}

/// The steered name as plain records, for servers that want it in the zone as well: the region of whoever is nowhere.
pub fn steered_records() -> String {
    let [.., last] = &REGIONS;
    format!("www 60 IN A {}\nwww 60 IN AAAA {}\n", last.vip4, last.vip6)
}

const SEED: u64 = 20_261;
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
