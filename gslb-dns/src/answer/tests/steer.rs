//! Answers that depend on who asks.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::prelude::*;
use shared::snapshot::Verdict;
use shared::topology::Policy;

use super::packet::{Reply, ask};
use super::world::{World, ZONE, add_service, sample, to_alias};
use crate::answer::{Decided, Outcome, Snapshot, answer};
use crate::wire::Rtype;

const KOREAN: &str = "198.51.100.0/24";
const GERMAN: &str = "203.0.113.0/24";

fn www(subnet: &str) -> Reply {
    ask("www.gslb.test", Rtype::A).ecs(subnet).of(&sample().snapshot())
}

fn decided(reply: &Reply) -> Option<Decided> {
    let Outcome::Sent { steered, .. } = reply.outcome else { return None };
    steered
}

#[test]
fn nearest_region_answers_in_the_order_of_its_vips() {
    assert_eq!(www(KOREAN).answers(), ["www.gslb.test. 30 IN A 192.0.2.10", "www.gslb.test. 30 IN A 192.0.2.11"]);
    assert_eq!(www(GERMAN).answers(), ["www.gslb.test. 30 IN A 192.0.2.20"]);
}

#[test]
fn without_subnet_the_resolver_decides() {
    let snapshot = sample().snapshot();
    let first = |peer| ask("www.gslb.test", Rtype::AAAA).from(peer).of(&snapshot).answers().remove(0);
    assert!(first("198.51.100.7").ends_with("2001:db8::10"));
    assert!(first("::ffff:198.51.100.7").ends_with("2001:db8::10"));
    assert!(first("203.0.113.7").ends_with("2001:db8::20"));
    assert!(first("2001:db8:b::1").ends_with("2001:db8::30"));
}

/// RFC 7871, section 7.1.2.
#[test]
fn source_0_is_answered_by_the_resolver_with_scope_0() {
    let snapshot = sample().snapshot();
    for option in [&[0, 1, 0, 0][..], &[0, 2, 0, 0]] {
        let reply = ask("www.gslb.test", Rtype::A).from("198.51.100.7").option(8, option).of(&snapshot);
        assert!(reply.answers()[0].ends_with("192.0.2.10"));
        assert!(reply.octets.ends_with(option) && reply.scope() == Some(0));
    }
    // hickory cannot read family 0, which `dig +subnet=0` sends.
    let ask = ask("www.gslb.test", Rtype::A).from("198.51.100.7").option(8, &[0, 0, 0, 0]);
    let mut out = [0; 1232];
    let Outcome::Sent { len, .. } =
        answer(&snapshot, &crate::answer::Turn::unlimited(0), &ask.peer(), &ask.packet(), &mut out)
    else {
        panic!("dropped")
    };
    assert!(out[..len].ends_with(&[0, 8, 0, 4, 0, 0, 0, 0]) && out[7] == 2);
}

/// RFC 7871, section 7.2.2.
#[test]
fn subnet_is_repeated_if_and_only_if_asked() {
    let reply = www(KOREAN);
    assert_eq!(reply.octets[reply.octets.len() - 11..], [0, 8, 0, 7, 0, 1, 24, 24, 198, 51, 100]);
    let snapshot = sample().snapshot();
    assert_eq!(ask("www.gslb.test", Rtype::A).edns(1232).of(&snapshot).scope(), None);
}

/// RFC 7871, section 7.2.1.
#[test]
fn scope_is_the_leaf_whatever_the_source() {
    for subnet in [KOREAN, "198.51.100.77/32"] {
        assert_eq!(www(subnet).scope(), Some(24));
    }
    let v6 = ask("www.gslb.test", Rtype::A).ecs("2001:db8:a::/56").of(&sample().snapshot());
    assert_eq!(v6.scope(), Some(48));
    assert!(v6.answers()[0].ends_with("192.0.2.10"));
}

#[test]
fn scope_is_the_block_while_clients_are_split() {
    let world = sample().standing("www.gslb.test", "seoul", Verdict::Ramping, 50);
    let scope = |subnet| ask("www.gslb.test", Rtype::A).ecs(subnet).of(&world.snapshot()).scope();
    assert_eq!((scope("198.51.100.77/32"), scope("2001:db8:a::/48")), (Some(24), Some(56)));
    let half = ask("half.gslb.test", Rtype::A).ecs(GERMAN).of(&sample().snapshot());
    assert_eq!(half.scope(), Some(24));
}

#[test]
fn scope_is_0_for_what_is_the_same_for_everybody() {
    let snapshot = sample().snapshot();
    let cases = [
        ("mail.gslb.test", Rtype::A),
        ("nothing.gslb.test", Rtype::A),
        ("www.gslb.test", Rtype::MX),
        ("kid.gslb.test", Rtype::A),
        ("one.gslb.test", Rtype::A),
        ("four.gslb.test", Rtype::AAAA),
        ("blog.gslb.test", Rtype::A),
        ("example.com", Rtype::A),
    ];
    for (name, qtype) in cases {
        assert_eq!(ask(name, qtype).ecs(KOREAN).of(&snapshot).scope(), Some(0), "{name}");
    }
}

#[test]
fn other_types_at_a_steered_name_stay() {
    let snapshot = sample().snapshot();
    assert_eq!(ask("www.gslb.test", Rtype::TXT).of(&snapshot).answers(), ["www.gslb.test. 3600 IN TXT steered"]);
    assert_eq!(ask("www.gslb.test", Rtype::MX).of(&snapshot).authorities().len(), 1);
    assert_eq!(ask("www.gslb.test", Rtype::ANY).ecs(KOREAN).of(&snapshot).answers().len(), 2);
}

#[test]
fn types_that_a_service_does_not_offer_are_nodata() {
    for qtype in [Rtype::AAAA, Rtype::HTTPS] {
        let reply = ask("four.gslb.test", qtype).of(&sample().snapshot());
        assert_eq!((reply.rcode(), reply.answers().len(), reply.authorities().len()), ("NOERROR", 0, 1));
    }
}

/// RFC 9460, sections 2.2 and 7.
#[test]
fn https_record_has_protocols_port_and_hints() {
    let reply = ask("www.gslb.test", Rtype::HTTPS).ecs(KOREAN).of(&sample().snapshot());
    let answers = reply.answers();
    let hints = "ipv4hint=192.0.2.10,192.0.2.11, ipv6hint=2001:db8::10,";
    assert_eq!(answers, [format!("www.gslb.test. 30 IN HTTPS 1 . alpn=h2,http/1.1, port=8443 {hints}")]);
}

#[test]
fn policy_all_gives_everybody_who_is_admitted() {
    let world = sample().down("all.gslb.test", &["frankfurt"]);
    let reply = ask("all.gslb.test", Rtype::A).of(&world.snapshot());
    let ends: Vec<_> = reply.answers().iter().map(|text| text.rsplit(' ').next().map(str::to_owned)).collect();
    assert_eq!(ends, ["192.0.2.10", "192.0.2.11", "192.0.2.30"].map(|end| Some(end.to_owned())));
    let https = ask("all.gslb.test", Rtype::HTTPS).of(&world.snapshot()).answers();
    assert!(https[0].contains("192.0.2.11,192.0.2.30") && https[0].contains("2001:db8::10,2001:db8::30"), "{https:?}");
}

/// The sample with TXT records of www and all, and a service `files` that gives CNAMEs.
fn with_records() -> World {
    let mut world = sample().zone("gslb.test", &ZONE.replace("www TXT", "other TXT"));
    for at in [0, 5] {
        let long = "l".repeat(300);
        world.topology.services[at].txt =
            ["frankfurt", "seoul", "virginia"].map(|region| vec![format!("of {region}"), long.clone()]).into();
    }
    add_service(&mut world.topology, "files.gslb.test", Policy::Nearest);
    let mut files = world.topology.services.pop().expect("just added");
    to_alias(&mut files);
    world.topology.services.insert(1, files);
    world.zones[0].1 += "link CNAME files\nlonger CNAME link\n*.any CNAME files\n";
    world
}

#[test]
fn txt_is_of_the_region_and_in_strings_of_at_most_255_octets() {
    let snapshot = with_records().snapshot();
    let reply = ask("www.gslb.test", Rtype::TXT).ecs(KOREAN).of(&snapshot);
    let long = "l".repeat(300);
    assert_eq!(
        reply.answers(),
        ["www.gslb.test. 30 IN TXT of seoul".to_owned(), format!("www.gslb.test. 30 IN TXT {long}")]
    );
    assert!(reply.octets.windows(3).any(|octets| octets == [255, b'l', b'l']) && reply.scope() == Some(24));
    let alias = ask("cdn.gslb.test", Rtype::TXT).ecs(GERMAN).of(&snapshot);
    assert_eq!(alias.answers()[1], "www.gslb.test. 30 IN TXT of frankfurt");
}

#[test]
fn txt_that_regions_share_is_given_once() {
    let reply = ask("all.gslb.test", Rtype::TXT).tcp().of(&with_records().snapshot());
    assert_eq!(reply.answers().len(), 4);
}

/// RFC 1034, section 3.6.2: whoever asks for another type gets the CNAME.
#[test]
fn steered_cname_answers_every_type_and_is_not_followed() {
    let snapshot = with_records().snapshot();
    for qtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS, Rtype::TXT, Rtype::MX, Rtype::CNAME, Rtype::DS, Rtype::ANY] {
        let reply = ask("files.gslb.test", qtype).ecs(KOREAN).of(&snapshot);
        assert_eq!(reply.answers(), ["files.gslb.test. 30 IN CNAME 1.cdn.example.net."], "{qtype}");
        assert_eq!((reply.rcode(), reply.scope(), reply.authorities().len()), ("NOERROR", Some(24), 0));
    }
    let german = ask("files.gslb.test", Rtype::A).ecs(GERMAN).of(&snapshot);
    assert_eq!(german.answers(), ["files.gslb.test. 30 IN CNAME 0.cdn.example.net."]);
    assert_eq!(ask("x.files.gslb.test", Rtype::A).of(&snapshot).rcode(), "NXDOMAIN");
}

#[test]
fn steered_cname_fails_over_and_may_be_empty() {
    let mut world = with_records().down("files.gslb.test", &["seoul"]);
    let reply = ask("files.gslb.test", Rtype::A).ecs(KOREAN).of(&world.snapshot());
    assert_eq!(reply.answers(), ["files.gslb.test. 5 IN CNAME 0.cdn.example.net."]);
    world = world.down("files.gslb.test", &["frankfurt", "virginia"]);
    world.topology.services[1].last_resort = shared::topology::LastResort::None;
    let reply = ask("files.gslb.test", Rtype::A).ecs(KOREAN).of(&world.snapshot());
    assert!(reply.answers().is_empty() && reply.authorities()[0].starts_with("gslb.test. 5 IN SOA "));
}

#[test]
fn cnames_of_the_zone_lead_to_a_steered_one() {
    let snapshot = with_records().snapshot();
    let reply = |name: &str, qtype| ask(name, qtype).ecs(KOREAN).of(&snapshot);
    let last = "files.gslb.test. 30 IN CNAME 1.cdn.example.net.";
    let link = "link.gslb.test. 3600 IN CNAME files.gslb.test.";
    assert_eq!(reply("link.gslb.test", Rtype::A).answers(), [link, last]);
    assert_eq!(reply("longer.gslb.test", Rtype::MX).answers()[1..], [link, last]);
    assert_eq!(reply("x.any.gslb.test", Rtype::TXT).answers()[1..], [last]);
    for qtype in [Rtype::CNAME, Rtype::ANY] {
        assert_eq!(reply("link.gslb.test", qtype).answers(), [link]);
        assert_eq!(reply("link.gslb.test", qtype).scope(), Some(0));
    }
}

#[test]
fn service_at_the_name_of_its_zone_is_steered_like_any_other() {
    let mut world = sample();
    add_service(&mut world.topology, "gslb.test", Policy::Nearest);
    let apex = world.topology.services.pop().expect("just added");
    world.topology.services.insert(2, apex);
    let snapshot = world.snapshot();
    let reply = |qtype| ask("gslb.test", qtype).ecs(KOREAN).of(&snapshot);
    assert_eq!(reply(Rtype::A).answers()[1], "gslb.test. 30 IN A 192.0.2.11");
    assert_eq!(reply(Rtype::AAAA).answers(), ["gslb.test. 30 IN AAAA 2001:db8::10"]);
    assert!(reply(Rtype::HTTPS).answers()[0].contains("ipv4hint=192.0.2.10,192.0.2.11"));
    for (qtype, count) in [(Rtype::SOA, 1), (Rtype::NS, 2), (Rtype::MX, 1)] {
        assert_eq!((reply(qtype).answers().len(), reply(qtype).scope()), (count, Some(0)), "{qtype}");
    }
}

#[test]
fn address_that_regions_share_is_given_once() {
    let mut world = sample();
    let shared_vip: IpAddr = Ipv4Addr::new(192, 0, 2, 10).into();
    world.topology.services[0].vips[2].push(shared_vip);
    assert_eq!(ask("all.gslb.test", Rtype::A).of(&world.snapshot()).answers().len(), 4);
}

#[test]
fn ttl_is_short_while_degraded() {
    let world = sample().down("www.gslb.test", &["virginia"]);
    let reply = ask("www.gslb.test", Rtype::A).ecs(GERMAN).of(&world.snapshot());
    assert_eq!(reply.answers(), ["www.gslb.test. 5 IN A 192.0.2.20"]);
}

#[test]
fn failover_goes_to_the_next_and_the_outcome_says_so() {
    let world = sample().down("www.gslb.test", &["seoul"]);
    let reply = ask("www.gslb.test", Rtype::A).ecs(KOREAN).of(&world.snapshot());
    let region =
        decided(&reply).and_then(|decided| decided.region).map(|id| world.topology.region(id).name.to_string());
    assert_eq!(region.as_deref(), Some("frankfurt"));
    assert_eq!(reply.answers(), ["www.gslb.test. 5 IN A 192.0.2.20"]);
}

#[test]
fn last_resort_answers_and_the_outcome_says_so() {
    let world = sample().down("www.gslb.test", &["seoul", "frankfurt", "virginia"]);
    let reply = ask("www.gslb.test", Rtype::A).ecs(KOREAN).of(&world.snapshot());
    assert!(decided(&reply).is_some_and(|decided| decided.is_last_resort && decided.region.is_some()));
    assert_eq!(reply.answers().len(), 2);
}

/// RFC 2308, sections 2.2 and 5.
#[test]
fn empty_answer_is_short_lived_nodata_with_the_scope_of_the_decision() {
    let world = sample().down("none.gslb.test", &["seoul", "frankfurt", "virginia"]);
    let reply = ask("none.gslb.test", Rtype::A).ecs(KOREAN).of(&world.snapshot());
    assert_eq!((reply.rcode(), reply.answers().len(), reply.scope()), ("NOERROR", 0, Some(24)));
    assert!(reply.authorities()[0].starts_with("gslb.test. 5 IN SOA "));
    assert!(decided(&reply).is_some_and(|decided| decided.region.is_none()));
}

#[test]
fn empty_answer_behind_a_chain_is_short_lived_too() {
    let zone = format!("{}some CNAME none\n", super::world::ZONE);
    let world = sample().zone("gslb.test", &zone).down("none.gslb.test", &["seoul", "frankfurt", "virginia"]);
    let reply = ask("some.gslb.test", Rtype::A).of(&world.snapshot());
    assert_eq!(reply.answers(), ["some.gslb.test. 3600 IN CNAME none.gslb.test."]);
    assert!(reply.authorities()[0].starts_with("gslb.test. 5 IN SOA "));
}

#[test]
fn cname_leads_to_the_steered_answer() {
    let snapshot = sample().snapshot();
    let reply = |name: &str, qtype| ask(name, qtype).ecs(KOREAN).of(&snapshot);
    assert_eq!(
        reply("far.gslb.test", Rtype::A).answers(),
        [
            "far.gslb.test. 3600 IN CNAME cdn.gslb.test.",
            "cdn.gslb.test. 3600 IN CNAME www.gslb.test.",
            "www.gslb.test. 30 IN A 192.0.2.10",
            "www.gslb.test. 30 IN A 192.0.2.11",
        ]
    );
    assert_eq!(reply("far.gslb.test", Rtype::A).scope(), Some(24));
    assert_eq!(reply("cdn.gslb.test", Rtype::TXT).answers().len(), 2);
    assert_eq!(reply("cdn.gslb.test", Rtype::MX).authorities().len(), 1);
    assert_eq!(
        reply("some.thing.alias.gslb.test", Rtype::AAAA).answers(),
        ["some.thing.alias.gslb.test. 3600 IN CNAME www.gslb.test.", "www.gslb.test. 30 IN AAAA 2001:db8::10",]
    );
}

/// Networks of all lengths around a few addresses, so that leaves of all lengths arise.
fn overrides() -> impl Strategy<Value = String> {
    let places = prop::sample::select(vec!["37.5,127.0", "52.5,13.4", "40.7,-74.0"]);
    let v4 = (any::<u8>(), prop::sample::select(vec![0_u8, 1, 2, 128]), 4_u8..=28).prop_map(|(last, middle, len)| {
        let address = IpAddr::from(Ipv4Addr::new(10, middle, last, last));
        IpNet::new(address, len).expect("a length").trunc().to_string()
    });
    let v6 = (any::<u16>(), 16_u8..=60).prop_map(|(word, len)| {
        let address = IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, word, 0, 0, 0, 0));
        IpNet::new(address, len).expect("a length").trunc().to_string()
    });
    let network = prop_oneof![3 => v4, 2 => v6];
    prop::collection::hash_map(network, places, 0..8)
        .prop_map(|lines| lines.iter().map(|(network, place)| format!("{network},,,,,{place}\n")).collect())
}

fn client() -> impl Strategy<Value = IpAddr> {
    let v4 = (prop::sample::select(vec![0_u8, 1, 2, 128]), any::<u8>(), any::<u8>())
        .prop_map(|(middle, low, last)| Ipv4Addr::new(10, middle, low, last).into());
    let v6 = (any::<u16>(), any::<u64>()).prop_map(|(word, low)| {
        Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(word) << 64 | u128::from(low)).into()
    });
    prop_oneof![3 => v4, 2 => v6]
}

/// What a resolver caches: the scope as a network, and the answer.
fn cached(snapshot: &Snapshot, service: &str, client: IpAddr) -> (IpNet, Vec<String>) {
    let len = if client.is_ipv4() { 32 } else { 128 };
    let reply = ask(service, Rtype::A).ecs(&format!("{client}/{len}")).of(snapshot);
    let scope = reply.scope().expect("a scope");
    (IpNet::new(client, scope).expect("a scope of the family").trunc(), reply.answers())
}

/// An address of `network` chosen by `pick`.
fn inside(network: IpNet, pick: u128) -> IpAddr {
    match network {
        IpNet::V4(v4) => Ipv4Addr::from(u32::from(v4.network()) | pick as u32 & u32::from(v4.hostmask())).into(),
        IpNet::V6(v6) => Ipv6Addr::from(u128::from(v6.network()) | pick & u128::from(v6.hostmask())).into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answer_holds_in_its_whole_scope_and_scopes_never_overlap(
        overrides in overrides(),
        clients in prop::collection::vec(client(), 12),
        picks in prop::collection::vec(any::<u128>(), 4),
        share in prop::option::of(0_u8..=100),
    ) {
        let mut world = sample();
        world.overrides = overrides;
        for service in ["www.gslb.test", "all.gslb.test"] {
            if let Some(share) = share {
                world = world.standing(service, "seoul", Verdict::Ramping, share);
            }
        }
        let snapshot = world.snapshot();
        for service in ["www.gslb.test", "all.gslb.test", "half.gslb.test", "one.gslb.test"] {
            let mut scopes: HashSet<IpNet> = HashSet::new();
            for &client in &clients {
                let (scope, answer) = cached(&snapshot, service, client);
                scopes.insert(scope);
                for &pick in &picks {
                    let (other_scope, other_answer) = cached(&snapshot, service, inside(scope, pick));
                    prop_assert_eq!(&answer, &other_answer, "{} {}", scope, inside(scope, pick));
                    prop_assert_eq!(scope, other_scope);
                }
            }
            for a in &scopes {
                prop_assert!(scopes.iter().all(|b| a == b || !a.contains(b)), "{:?}", scopes);
            }
        }
    }

    #[test]
    fn a_aaaa_and_https_come_from_one_region(
        overrides in overrides(),
        client in client(),
        share in 0_u8..=100,
        service in prop::sample::select(vec!["www.gslb.test", "half.gslb.test", "one.gslb.test", "cdn.gslb.test"]),
    ) {
        let mut world = sample().standing("www.gslb.test", "frankfurt", Verdict::Ramping, share);
        world.overrides = overrides;
        let snapshot = world.snapshot();
        let len = if client.is_ipv4() { 24 } else { 56 };
        let subnet = IpNet::new(client, len).expect("a length").trunc().to_string();
        let text = |qtype| ask(service, qtype).ecs(&subnet).of(&snapshot).answers().concat();
        let region = ["10", "20", "30"].into_iter().find(|end| text(Rtype::A).contains(&format!("192.0.2.{end}"))).expect("a region");
        let is_of = |text: &str, end| text.contains(&format!("2001:db8::{end}"));
        let is_v4_of = |text: &str, end| text.contains(&format!("192.0.2.{end}"));
        let https = text(Rtype::HTTPS);
        prop_assert!(is_of(&text(Rtype::AAAA), region) && is_of(&https, region) && is_v4_of(&https, region));
        for other in ["10", "20", "30"].into_iter().filter(|&other| other != region) {
            prop_assert!(!is_of(&https, other) && !is_v4_of(&https, other));
        }
    }
}
