//! Any octets at all as a query, from anybody, in worlds of every kind.
//!
//! ```text
//! octet 0       which world            octet 2 …     the resolver: 4 or 16 octets
//! octet 1       bit 0: IPv6            the rest      the query
//! ```
//! The engine must not panic; what it answers by UDP and TCP must be what the naive reference answers, which holds it to
//! the id, the question, the limits and every record; and hickory must be able to read it.
#![no_main]

use std::net::IpAddr;
use std::sync::OnceLock;

use gslb_dns::answer::{Snapshot, Transport};
use gslb_tests::reference::world::World;
use gslb_tests::reference::{ask, compare, hex};
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use shared::snapshot::View;

struct Site {
    world: World,
    view: View,
    snapshot: Snapshot,
}

fn sites() -> &'static [Site] {
    static SITES: OnceLock<Vec<Site>> = OnceLock::new();
    SITES.get_or_init(|| {
        let site = |seed| {
            let world = World::random(seed);
            let view = world.random_view(&mut fastrand::Rng::with_seed(seed));
            let snapshot = world.snapshot(view.clone());
            Site { world, view, snapshot }
        };
        (0..WORLDS).map(site).collect()
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((peer, site, packet)) = parse(input) else { return };
    if let Err(what) = compare(&site.snapshot, &site.world.reference(&site.view), peer, packet) {
        panic!("{}\n{peer} asks {}\n{what}", site.world, hex(packet));
    }
    if let Some(answer) = ask(&site.snapshot, peer, Transport::Udp, packet) {
        check(packet, &answer);
    }
});

fn parse(input: &[u8]) -> Option<(IpAddr, &'static Site, &[u8])> {
    let (&[world, family], rest) = input.split_first_chunk()?;
    let site = sites().get(usize::from(world) % WORLDS as usize)?;
    if family & 1 == 0 {
        let (address, packet) = rest.split_first_chunk::<4>()?;
        Some((IpAddr::from(*address), site, packet))
    } else {
        let (address, packet) = rest.split_first_chunk::<16>()?;
        Some((IpAddr::from(*address), site, packet))
    }
}

/// What must hold whatever the reference says.
fn check(query: &[u8], answer: &[u8]) {
    assert_eq!(query[..2], answer[..2], "the id is repeated");
    assert!(answer[2] & 0x80 != 0, "QR is set");
    match Message::from_vec(answer) {
        Ok(message) => assert!(message.queries.len() <= 1),
        // hickory knows no client subnet without an address (FAMILY 0), which RFC 7871 allows.
        Err(error) => assert!(query.windows(6).any(|option| option == [0, 8, 0, 4, 0, 0]), "{error}: {}", hex(answer)),
    }
}

const WORLDS: u64 = 16;
