//! Laws of the rules, and the rules of a table of cases as they are written down in `golden/`.
//!
//! `GOLDEN=renew cargo test -p region-proxy --lib l4::` writes them down anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::*;

/// A service with the servers app-1 to app-3 of each family, as settings of few words make it.
fn service(way: Way, balance: Balance) -> Service {
    let port = |port| Ports { first: port, last: port };
    let backend = |(at, address): (usize, &str)| Backend {
        name: ServerName::parse(&format!("app-{}", at + 1)).expect("a name"),
        address: address.parse().expect("an address"),
        number: NonZeroU32::new(at as u32 + 101).expect("not 0"),
        weight: [1, 1, 2][at % 3],
        fate: Fate::Open,
        mac: Some(Mac([2, 0, 0, 0, 0, at as u8 + 0x11])),
    };
    let addresses = [
        "192.0.2.21:8080",
        "192.0.2.22:8080",
        "192.0.2.23:8080",
        "[2001:db8::21]:8080",
        "[2001:db8::22]:8080",
        "[2001:db8::23]:8080",
    ];
    Service {
        name: Name::parse("web").expect("a name"),
        way,
        vips: ["192.0.2.10", "2001:db8::10"].map(|vip| vip.parse().expect("an address")).to_vec(),
        ports: vec![port(80)],
        protocols: vec![Protocol::Tcp],
        balance,
        backends: addresses.into_iter().enumerate().map(backend).collect(),
    }
}

fn interface() -> Interface {
    // There is one in each namespace.
    Interface::parse("lo").expect("a name")
}

const FLOWS: Flows = Flows { most: 65_536, idle: Duration::from_secs(300) };

/// Each way with its name.
fn ways() -> [(&'static str, Way); 4] {
    let pool = |first: &str, last: &str| Pool {
        first: first.parse().expect("an address"),
        last: last.parse().expect("an address"),
    };
    let pools = vec![pool("192.0.2.200", "192.0.2.203"), pool("2001:db8::200", "2001:db8::200")];
    [
        ("nat", Way::Nat { interface: None }),
        ("one-arm", Way::OneArm { interface: Some(interface()), pools }),
        ("dsr", Way::Dsr { interface: interface(), mac: Mac([2, 0, 0, 0, 0, 2]), flows: FLOWS }),
        ("tunnel", Way::Tunnel { interface: Some(interface()), mtu: 1450, flows: FLOWS }),
    ]
}

const BALANCES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("source", Balance::Source),
    ("maglev", Balance::Maglev),
];

fn plan(services: Vec<Service>) -> Plan {
    Plan { services, present: BTreeSet::new() }
}

/// Every case with the name of its file.
fn cases() -> Vec<(String, Plan)> {
    let mut cases = Vec::new();
    for (way_name, way) in ways() {
        for (balance_name, balance) in BALANCES {
            cases.push((format!("{way_name}-{balance_name}"), plan(vec![service(way.clone(), balance)])));
        }
        let mut changed = service(way.clone(), Balance::RoundRobin);
        changed.ports = vec![Ports { first: 53, last: 53 }, Ports { first: 8000, last: 8099 }];
        changed.protocols = vec![Protocol::Tcp, Protocol::Udp];
        changed.backends[0].fate = Fate::Draining;
        changed.backends[4].fate = Fate::Gone;
        cases.push((format!("{way_name}-ranges-drained-gone"), plan(vec![changed.clone()])));
        changed.vips.pop();
        changed.backends.iter_mut().for_each(|backend| backend.fate = Fate::Gone);
        cases.push((format!("{way_name}-nobody"), plan(vec![changed])));
    }
    cases
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/l4/golden").join(format!("{name}.nft"))
}

#[test]
fn the_rules_of_each_case_are_as_they_are_written_down() {
    let is_renewed = env::var_os("GOLDEN").is_some_and(|wish| wish == "renew");
    for (name, plan) in cases() {
        let (path, text) = (golden(&name), rules(&plan));
        if is_renewed {
            fs::write(&path, &text).expect("a file that can be written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "{}: not as it was: look at it after GOLDEN=renew", path.display());
    }
}
