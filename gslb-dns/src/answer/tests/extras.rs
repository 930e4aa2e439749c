//! What a node says of itself and of its zones, and why an answer is what it is.

use std::sync::Arc;
use std::time::Duration;

use super::packet::{Ask, NOW_SECS, Reply, ask};
use super::world::{ZONE, sample, to_alias};
use crate::answer::{Identity, Snapshot, Turn};
use crate::wire::Rtype;

const NSID: u16 = 3;
const KEEPALIVE: u16 = 11;
const ERROR: u16 = 15;
const ZONEVERSION: u16 = 19;
const CHAOS: u16 = 3;

fn identified() -> Snapshot {
    let text = |text: &str| Some(text.into());
    let identity = Identity { nsid: text("node1"), version: text("gslb-dns 1"), hostname: text("n.example.net") };
    sample().snapshot().with_identity(Arc::new(identity))
}

fn mail() -> Ask {
    ask("mail.gslb.test", Rtype::A)
}

/// RFC 5001, section 2.2: in the answer if and only if asked for, and whatever the question says in it is passed over.
#[test]
fn nsid_is_given_to_who_asks() {
    let snapshot = identified();
    assert_eq!(mail().option(NSID, b"").of(&snapshot).option(NSID).as_deref(), Some(&b"node1"[..]));
    assert_eq!(mail().option(NSID, b"node9").of(&snapshot).options(), [(NSID, b"node1".to_vec())]);
    assert_eq!(mail().edns(1232).of(&snapshot).options(), []);
    assert_eq!(mail().option(NSID, b"").of(&sample().snapshot()).options(), []);
    // Errors and refusals come from somewhere too.
    let refused = ask("example.com", Rtype::A).option(NSID, b"").of(&snapshot);
    assert_eq!(refused.option(NSID).as_deref(), Some(&b"node1"[..]));
    let with_subnet = ask("www.gslb.test", Rtype::A).ecs("198.51.100.0/24").option(NSID, b"").of(&snapshot);
    assert_eq!(with_subnet.options().iter().map(|(code, _)| *code).collect::<Vec<_>>(), [8, NSID]);
}

/// RFC 5001, section 2.4: what is asked for is sent, though it cost the records.
#[test]
fn room_for_what_is_asked_is_kept() {
    let names = (1..400).map(|count| format!("big TXT \"{}\"\n", "x".repeat(count % 250)));
    let records: Vec<String> = names.collect();
    let identity = Identity { nsid: Some("n".repeat(128).into()), ..Identity::default() };
    for count in 1..20 {
        let world = sample().zone("gslb.test", &format!("{ZONE}{}", records[200..200 + count].concat()));
        let snapshot = world.snapshot().with_identity(Arc::new(identity.clone()));
        for payload in [512, 1232] {
            let ask = ask("big.gslb.test", Rtype::TXT).edns(payload).option(NSID, b"").option(ZONEVERSION, b"");
            let reply = ask.of(&snapshot);
            assert!(reply.octets.len() <= usize::from(payload));
            assert_eq!(
                (reply.option(NSID).map(|nsid| nsid.len()), reply.option(ZONEVERSION).is_some()),
                (Some(128), true)
            );
        }
    }
    let label = "x".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}.gslb.test", "y".repeat(51));
    let snapshot = sample().snapshot().with_identity(Arc::new(identity));
    let reply = ask(&longest, Rtype::A).edns(512).ecs("2001:db8::/128").option(NSID, b"").of(&snapshot);
    assert!(reply.octets.len() <= 512 && reply.option(NSID).is_some());
}

/// RFC 4892, section 2; BIND's names beside those of the RFC.
#[test]
fn chaos_names_are_answered_when_configured_and_refused_otherwise() {
    let chaos = |name: &str, qtype| Ask { class: CHAOS, ..ask(name, qtype) };
    for (name, text) in [
        ("version.bind", "gslb-dns 1"),
        ("VERSION.SERVER", "gslb-dns 1"),
        ("hostname.bind", "n.example.net"),
        ("id.server", "n.example.net"),
    ] {
        for qtype in [Rtype::TXT, Rtype::ANY] {
            let reply = chaos(name, qtype).of(&identified());
            assert_eq!(reply.answers(), [format!("{name}. 0 CH TXT {text}")]);
            assert!(reply.message.metadata.authoritative);
        }
        assert_eq!(chaos(name, Rtype::TXT).of(&sample().snapshot()).rcode(), "REFUSED");
        assert_eq!(chaos(name, Rtype::A).of(&identified()).rcode(), "REFUSED");
        // In class IN it is a name like any other.
        assert_eq!(ask(name, Rtype::TXT).of(&identified()).rcode(), "REFUSED");
    }
    assert_eq!(chaos("authors.bind", Rtype::TXT).of(&identified()).rcode(), "REFUSED");
    assert_eq!(chaos("www.gslb.test", Rtype::TXT).of(&identified()).rcode(), "REFUSED");
}

fn over_tcp(ask: &Ask, idle: Duration) -> Reply {
    let turn = Turn::unlimited(NOW_SECS).on_connection(idle);
    Reply::at(&turn, &ask.packet(), &ask.peer(), &identified()).expect("an answer")
}

/// RFC 7828, sections 3.1 and 3.3: in units of 100 ms, to who asks, and never over UDP.
#[test]
fn idle_time_of_a_connection_is_told_to_who_asks() {
    let tcp = mail().tcp().option(KEEPALIVE, b"");
    for (millis, tenths) in [(10_000, 100_u16), (250, 2), (100_000_000, u16::MAX)] {
        let told = over_tcp(&tcp, Duration::from_millis(millis)).option(KEEPALIVE);
        assert_eq!(told, Some(tenths.to_be_bytes().to_vec()));
    }
    assert_eq!(over_tcp(&mail().tcp().edns(1232), Duration::from_secs(10)).options(), []);
    assert_eq!(mail().option(KEEPALIVE, b"").of(&identified()).options(), []);
}

/// RFC 9660, sections 2 and 3.2: of the zone that answers, however it answers.
#[test]
fn version_of_the_zone_is_told_to_who_asks() {
    let child = "@ 60 SOA ns m 9 1 1 1 30\n@ 60 NS ns\nns 60 A 192.0.2.54\n";
    let snapshot = sample().zone("kid.gslb.test", child).snapshot();
    let told = |name: &str, qtype| ask(name, qtype).option(ZONEVERSION, b"").of(&snapshot).option(ZONEVERSION);
    let version = |labels, serial| Some(vec![labels, 0, 0, 0, 0, serial]);
    for name in ["mail.gslb.test", "nothing.gslb.test", "www.gslb.test", "x.bare.gslb.test", "x.old.gslb.test"] {
        assert_eq!(told(name, Rtype::A), version(2, 7), "{name}");
    }
    assert_eq!(told("ns.kid.gslb.test", Rtype::A), version(3, 9));
    assert_eq!((told("kid.gslb.test", Rtype::SOA), told("kid.gslb.test", Rtype::DS)), (version(3, 9), version(2, 7)));
    assert_eq!(told("example.com", Rtype::A), None);
    assert_eq!(mail().edns(1232).of(&snapshot).options(), []);
}

fn code(reply: &Reply) -> Option<u16> {
    reply.option(ERROR).map(|data| u16::from_be_bytes([data[0], data[1]]))
}

/// RFC 8914, sections 4.19 and 4.21.
#[test]
fn refusals_say_why() {
    let snapshot = sample().snapshot();
    assert_eq!(code(&ask("example.com", Rtype::A).edns(1232).of(&snapshot)), Some(20));
    assert_eq!(code(&Ask { class: 4, ..mail() }.edns(1232).of(&snapshot)), Some(20));
    assert_eq!(code(&mail().edns(1232).of(&snapshot)), None);
    assert_eq!(code(&ask("nothing.gslb.test", Rtype::A).edns(1232).of(&snapshot)), None);
    let without_edns = ask("example.com", Rtype::A).of(&snapshot);
    assert!(without_edns.message.edns.is_none() && without_edns.octets.len() == 12 + 17);
}

/// RFC 8914, section 4.1: Other Error with a text, for no other code says that nobody is fit to serve a client.
#[test]
fn answers_of_nobody_and_of_the_last_resort_say_so() {
    let regions = ["seoul", "frankfurt", "virginia"];
    let none = sample().down("none.gslb.test", &regions).snapshot();
    let last = sample().down("www.gslb.test", &regions).snapshot();
    for (name, snapshot, text) in [
        ("none.gslb.test", &none, "no region may serve this client"),
        ("www.gslb.test", &last, "no region is fit to serve, the last resort answers"),
        ("far.gslb.test", &last, "no region is fit to serve, the last resort answers"),
    ] {
        let reply = ask(name, Rtype::A).ecs("198.51.100.0/24").of(snapshot);
        assert_eq!(reply.option(ERROR), Some([&[0, 0], text.as_bytes()].concat()), "{name}");
        assert_eq!(ask(name, Rtype::A).of(snapshot).options(), []);
    }
    assert_eq!(code(&ask("www.gslb.test", Rtype::A).edns(1232).of(&none)), None);
}

/// RFC 8914, section 3: a reason must not cost the records.
#[test]
fn reason_is_left_out_where_it_does_not_fit() {
    let mut world = sample().down("www.gslb.test", &["seoul", "frankfurt", "virginia"]);
    let len = |count: u8| 12 + 19 + 16 * usize::from(count) + 11;
    for count in 20..30 {
        let vips = (0..count).map(|at| [192, 0, 2, at].into());
        world.topology.services[5].vips[1] = vips.collect();
        let reply = ask("www.gslb.test", Rtype::A).from("198.51.100.7").edns(512).of(&world.snapshot());
        assert_eq!(reply.answers().len(), usize::from(count));
        assert_eq!(code(&reply), (len(count) + 4 + 2 + 50 <= 512).then_some(0), "{count}");
    }
}

#[test]
fn alias_of_nobody_says_so_too() {
    let mut world = sample().down("none.gslb.test", &["seoul", "frankfurt", "virginia"]);
    to_alias(&mut world.topology.services[3]);
    assert_eq!(code(&ask("none.gslb.test", Rtype::MX).edns(1232).of(&world.snapshot())), Some(0));
}
