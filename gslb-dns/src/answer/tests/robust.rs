//! Any octets at all.

use proptest::prelude::*;

use super::packet::{Ask, ask};
use super::world::sample;
use crate::answer::{Outcome, Peer, Snapshot, Transport, Turn, answer};
use crate::wire::Rtype;

/// Answers `packet` and checks what must hold whatever it is.
fn check(snapshot: &Snapshot, packet: &[u8], transport: Transport, out: &mut [u8]) {
    let peer = Peer { address: "198.51.100.7".parse().expect("an address"), transport };
    let Outcome::Sent { len, .. } = answer(snapshot, &Turn::unlimited(0), &peer, packet, out) else { return };
    assert!((12..=65535).contains(&len) && (transport == Transport::Tcp || len <= 1232));
    assert_eq!(out[..2], packet[..2]);
    assert_eq!(out[2] & 0x80, 0x80);
}

fn seeds() -> Vec<Ask> {
    vec![
        ask("www.gslb.test", Rtype::A).ecs("198.51.100.0/24"),
        ask("a.b.alias.gslb.test", Rtype::HTTPS).ecs("2001:db8:a::/56").option(10, &[7; 8]),
        ask("x.wild.gslb.test", Rtype::MX).edns(512),
        ask("x.y.kid.gslb.test", Rtype::AAAA),
        ask("x.old.gslb.test", Rtype::ANY).edns(4096),
        ask("gone.gslb.test", Rtype::TXT).tcp(),
    ]
}

#[test]
fn a_hundred_thousand_mutations_are_survived_and_then_a_right_answer_given() {
    let snapshot = sample().snapshot();
    let seeds: Vec<Vec<u8>> = seeds().iter().map(Ask::packet).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) as usize % below.max(1)
    };
    let mut out = vec![0; 65535];
    for at in 0..100_000 {
        let mut packet = seeds[next(seeds.len())].clone();
        for _ in 0..=next(4) {
            let place = next(packet.len());
            match next(5) {
                0 => packet[place] = next(256) as u8,
                1 => packet[place] ^= 1 << next(8),
                2 => packet.truncate(place.max(1)),
                3 => packet.insert(place, next(256) as u8),
                _ => packet.extend_from_within(place..),
            }
        }
        packet.resize(packet.len().max(2), 0);
        check(&snapshot, &packet, if at % 2 == 0 { Transport::Udp } else { Transport::Tcp }, &mut out);
    }
    let reply = ask("www.gslb.test", Rtype::A).ecs("198.51.100.0/24").of(&snapshot);
    assert_eq!(reply.answers().len(), 2);
}

proptest! {
    #[test]
    fn any_octets_are_safe(packet in prop::collection::vec(any::<u8>(), 2..600), room in 0_usize..1300) {
        let snapshot = SNAPSHOT.with(Clone::clone);
        let mut out = vec![0; 65535];
        for transport in [Transport::Udp, Transport::Tcp] {
            check(&snapshot, &packet, transport, &mut out);
            check(&snapshot, &packet, transport, &mut out[..room]);
        }
    }

    #[test]
    fn any_body_behind_a_query_header_is_safe(body in prop::collection::vec(any::<u8>(), 0..80), counts in any::<[bool; 3]>()) {
        let snapshot = SNAPSHOT.with(Clone::clone);
        let [answers, authorities, additionals] = counts.map(u8::from);
        let mut packet = vec![0, 7, 0, 0, 0, 1, 0, answers, 0, authorities, 0, additionals];
        packet.extend(body);
        check(&snapshot, &packet, Transport::Udp, &mut [0; 1232]);
    }

    #[test]
    fn any_room_is_enough_or_the_query_is_dropped(seed in 0_usize..6, room in 0_usize..400) {
        let snapshot = SNAPSHOT.with(Clone::clone);
        let packet = seeds()[seed].packet();
        check(&snapshot, &packet, Transport::Tcp, &mut vec![0; room]);
    }
}

thread_local! {
    static SNAPSHOT: Snapshot = sample().snapshot();
}
