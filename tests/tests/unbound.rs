//! A real resolver in front: unbound with a stub zone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gslb_tests::harness::dns::DnsClient;
use gslb_tests::harness::resolver::Resolver;
use gslb_tests::harness::within;
use gslb_tests::harness::world::{SERVICES, World};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

type Held = Result<(), String>;

/// Every name of the sample zone that it answers for itself, with a type that it has.
const NAMES: [(&str, RecordType); 25] = [
    ("gslb.test", RecordType::SOA),
    ("gslb.test", RecordType::NS),
    ("gslb.test", RecordType::MX),
    ("gslb.test", RecordType::TXT),
    ("gslb.test", RecordType::CAA),
    ("ns1.gslb.test", RecordType::A),
    ("ns1.gslb.test", RecordType::AAAA),
    ("ns2.gslb.test", RecordType::A),
    ("ns2.gslb.test", RecordType::AAAA),
    ("_dmarc.gslb.test", RecordType::TXT),
    ("mail.gslb.test", RecordType::A),
    ("mail.gslb.test", RecordType::AAAA),
    ("www.gslb.test", RecordType::TXT),
    ("www.gslb.test", RecordType::HTTPS),
    ("_https._tcp.gslb.test", RecordType::SRV),
    ("notes.gslb.test", RecordType::TXT),
    ("six.gslb.test", RecordType::AAAA),
    ("cdn.gslb.test", RecordType::A),
    ("assets.gslb.test", RecordType::AAAA),
    ("blog.gslb.test", RecordType::CNAME),
    ("any.dev.gslb.test", RecordType::A),
    ("some.other.dev.gslb.test", RecordType::AAAA),
    ("any.dev.gslb.test", RecordType::TXT),
    ("x.dev.gslb.test", RecordType::TXT),
    ("a.b.ent.gslb.test", RecordType::A),
];

#[test]
fn unbound_resolves_every_name_and_follows_a_failover_once_the_ttl_is_over() -> Held {
    let mut world = World::new(|settings| settings.replace("ttl = 20\n", "ttl = 3\n"))?;
    // The resolver asks for itself, and it is in Korea.
    world.write("overrides.csv", format!("127.{}.0.0/16,KR,,,\n", world.number()))?;
    world.start_regions()?;
    world.start_node()?;
    world.wait_until_serving(Duration::from_secs(20))?;
    let unbound = start_unbound(&world)?;
    let resolver = unbound.dns();
    for (name, rtype) in NAMES {
        let answer = resolver.ask(name, rtype, None)?;
        let is_there = answer.rcode() == ResponseCode::NoError && !answer.message.answers.is_empty();
        assert!(is_there, "{name} {rtype}: {}", answer.message);
    }
    for name in SERVICES {
        for rtype in [RecordType::A, RecordType::AAAA] {
            let answer = resolver.ask(name, rtype, None)?;
            assert!(!answer.addresses().is_empty(), "{name} {rtype}: {}", answer.message);
        }
    }
    for (name, rcode) in [("nothing.gslb.test", ResponseCode::NXDomain), ("ent.gslb.test", ResponseCode::NoError)] {
        let answer = resolver.ask(name, RecordType::A, None)?;
        assert!(answer.rcode() == rcode && answer.message.answers.is_empty(), "{name}: {}", answer.message);
    }
    follows_a_failover(&mut world, resolver)
}

fn follows_a_failover(world: &mut World, resolver: DnsClient) -> Held {
    let answered = || resolver.ask("www.gslb.test", RecordType::A, None)?.address();
    assert_eq!(answered()?, world.vip("seoul"));
    world.kill_proxies("seoul")?;
    let killed = Instant::now();
    // Down within 1.5 s; the answer cached just before that lives for another 3 s, counted in whole seconds.
    let (frankfurt, limit) = (world.vip("frankfurt"), Duration::from_millis(1500 + 3000 + 1000));
    let moved = || answered().and_then(|address| if address == frankfurt { Ok(()) } else { Err(address.to_string()) });
    within(limit, moved)?;
    println!("unbound answers with the new region {:?} after the old one was killed", killed.elapsed());
    Ok(())
}

fn start_unbound(world: &World) -> Result<Resolver, String> {
    let address = SocketAddr::from(([127, world.number(), 0, 53], 5353));
    let stub = format!("{}@{}", world.server().ip(), world.server().port());
    let lines = format!(
        r#"    module-config: "iterator"
    domain-insecure: "test"
stub-zone:
    name: "gslb.test"
    stub-addr: {stub}"#
    );
    Resolver::unbound(&world.path(""), address, &lines)
}
