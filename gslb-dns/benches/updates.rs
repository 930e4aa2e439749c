//! How long an update of a small zone takes beside a large one: `cargo bench -p gslb-dns --bench updates`.
//!
//! Of an update this is all but the journal: the zone is changed, what serves is put together anew.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use divan::Bencher;
use gslb_dns::reload::{World, load};
use gslb_dns::update::{Access, Keys, NamePattern, Policy, Rule, Update};
use gslb_dns::wire::{Name, Rtype};

fn main() {
    divan::main();
}

/// Names in the large zone; the small one has a handful.
const HOSTS: [usize; 2] = [0, 200_000];

#[divan::bench(args = HOSTS, sample_count = 10, sample_size = 1)]
fn update_of_a_small_zone(bencher: Bencher<'_, '_>, hosts: usize) {
    let world = world(hosts);
    let policy = policy();
    let access = Access { policy: &policy, key: &name("key."), keys: Keys::Foreign };
    let at = world.zones.position_of(&name("small.test.")).expect("it is there");
    bencher.bench_local(|| {
        let update = Update::parse(&message()).expect("an update");
        let (next, _) = update.apply(&world.kept[at], &access).expect("accepted").expect("a change");
        world.with_zones([(at, Arc::new(next))]).expect("they go together")
    });
}

fn world(hosts: usize) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
    let head = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n";
    let mut large = head.to_owned();
    for at in 0..hosts {
        let _ = writeln!(large, "host{at} A 192.0.2.{}", at % 256);
    }
    write("large", &large);
    write("small", head);
    write(
        "topology.toml",
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\
         [[zones]]\nname = \"large.test\"\nfile = \"large\"\n\
         [[zones]]\nname = \"small.test\"\nfile = \"small\"\njournal = \"journal\"\n\
         [regions.a]\ncoordinates = [1, 1]\nvips = [\"192.0.2.1\"]\nproxies = { a-1 = \"http://192.0.2.2/status\" }\n\
         [services.\"www.large.test\"]\n",
    );
    load(&folder.path().join("topology.toml"), None).world.expect("no mistakes")
}

fn policy() -> Policy {
    let names = vec![NamePattern::parse("*").expect("a pattern")];
    Policy { rules: vec![Rule { key: name("key."), names, types: vec![Rtype::ANY] }] }
}

fn name(text: &str) -> Name {
    Name::parse(text, &Name::root()).expect("a name")
}

/// Adds a TXT record of the small zone (RFC 2136, section 2.5.1).
fn message() -> Vec<u8> {
    let mut out = vec![0, 1, 0x28, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    out.extend_from_slice(name("small.test.").as_wire());
    out.extend([0, 6, 0, 1]);
    out.extend_from_slice(name("_acme-challenge.small.test.").as_wire());
    out.extend([0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b'x']);
    out
}
