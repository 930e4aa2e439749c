//! Who gets which region: real sockets, the real database, `dig`.

use std::net::IpAddr;

use gslb_tests::harness::dns::DnsClient;
use gslb_tests::harness::tools::{dig, dig_short};
use gslb_tests::harness::world::World;
use hickory_proto::rr::{RData, RecordType};
use ipnet::IpNet;

type Held = Result<(), String>;

const CLIENTS: [(&str, &str, &str); 6] = [
    ("KR", "1.208.0.0/24", "seoul"),
    ("JP", "133.11.0.0/24", "seoul"),
    ("DE", "91.0.0.0/24", "frankfurt"),
    ("GB", "2.24.0.0/24", "frankfurt"),
    ("US", "12.0.0.0/24", "virginia"),
    ("BR", "200.160.0.0/24", "virginia"),
];

#[test]
fn nearest_region_is_answered_with_a_scope_that_holds_for_every_address_in_it() -> Held {
    let world = World::start(|settings| settings)?;
    for (country, subnet, region) in CLIENTS {
        let answered = dig_short(world.server(), &["www.gslb.test", "A", &format!("+subnet={subnet}")])?;
        assert_eq!(answered, [world.vip(region)], "{country} {subnet}");
        let text = dig(world.server(), &["www.gslb.test", "A", &format!("+subnet={subnet}")])?;
        let scope = text.lines().find_map(|line| line.strip_prefix(&format!("; CLIENT-SUBNET: {subnet}/")));
        let scope: u8 = scope.and_then(|scope| scope.trim().parse().ok()).ok_or("no scope in the answer")?;
        let subnet: IpNet = subnet.parse().map_err(|_| "a network")?;
        let scoped = IpNet::new(subnet.addr(), scope).map_err(|error| error.to_string())?.trunc();
        for address in inside(scoped) {
            let answer = world.dns().ask_for("www.gslb.test", address)?;
            assert_eq!((answer.address()?, answer.scope()), (world.vip(region), Some(scope)), "{address} in {scoped}");
        }
    }
    Ok(())
}

/// The first and last address of `net` and some between.
fn inside(net: IpNet) -> Vec<IpAddr> {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (net.network(), net.broadcast()) else { return Vec::new() };
    let (first, last) = (u32::from(first), u32::from(last));
    let mut chance = fastrand::Rng::with_seed(7);
    let between = (0..60).map(move |_| chance.u32(first..=last));
    [first, last].into_iter().chain(between).map(|bits| IpAddr::from(bits.to_be_bytes())).collect()
}

#[test]
fn client_subnet_is_echoed_if_and_only_if_it_was_sent() -> Held {
    let world = World::start(|settings| settings)?;
    let without = dig(world.server(), &["www.gslb.test", "A", "+nosubnet"])?;
    assert!(without.contains("EDNS: version: 0") && !without.contains("CLIENT-SUBNET"), "{without}");
    let none = dig(world.server(), &["www.gslb.test", "A", "+noedns"])?;
    assert!(!none.contains("EDNS"), "{none}");
    let private = dig(world.server(), &["www.gslb.test", "A", "+subnet=0.0.0.0/0"])?;
    assert!(private.contains("CLIENT-SUBNET: 0.0.0.0/0/0"), "{private}");
    let six = dig(world.server(), &["www.gslb.test", "AAAA", "+subnet=2001:2d8::/56"])?;
    assert!(six.contains("CLIENT-SUBNET: 2001:2d8::/56/") && six.contains("2001:db8:1::10"), "{six}");
    Ok(())
}

#[test]
fn without_client_subnet_the_address_of_the_resolver_decides() -> Held {
    let mut world = World::new(|settings| settings)?;
    let number = world.number();
    let placed = [(101, "KR", "seoul"), (102, "DE", "frankfurt"), (103, "US", "virginia")];
    let lines: String =
        placed.iter().map(|(net, country, _)| format!("127.{number}.{net}.0/24,{country},,,\n")).collect();
    world.write("overrides.csv", lines)?;
    world.start_regions()?;
    world.start_node()?;
    world.wait_until_serving(std::time::Duration::from_secs(20))?;
    for (net, country, region) in placed {
        let local = format!("127.{number}.{net}.9");
        let answered = dig_short(world.server(), &["-b", &local, "www.gslb.test", "A", "+nosubnet"])?;
        assert_eq!(answered, [world.vip(region)], "a resolver in {country}");
        // A subnet that is sent wins over it; one of length 0 asks for the resolver's own place not to be used either.
        let told = dig_short(world.server(), &["-b", &local, "www.gslb.test", "A", "+subnet=91.0.0.0/24"])?;
        assert_eq!(told, [world.vip("frankfurt")], "a German client behind a resolver in {country}");
    }
    Ok(())
}

#[test]
fn addresses_of_both_families_and_https_hints_come_from_one_region() -> Held {
    let world = World::start(|settings| settings)?;
    for (country, subnet, region) in CLIENTS {
        let subnet: IpNet = subnet.parse().map_err(|_| "a network")?;
        let ask = |rtype| world.dns().ask("www.gslb.test", rtype, Some(subnet));
        let (four, six) = (ask(RecordType::A)?.address()?, ask(RecordType::AAAA)?.address()?);
        let answers = ask(RecordType::HTTPS)?.message.answers;
        let hints = match answers.first().map(|record| &record.data) {
            Some(RData::HTTPS(https)) if answers.len() == 1 => https.to_string(),
            other => return Err(format!("expected one HTTPS record, got {other:?}")),
        };
        assert_eq!(four, world.vip(region), "{country}");
        assert!(hints.contains(&four.to_string()) && hints.contains(&six.to_string()), "{hints} for {four} {six}");
    }
    Ok(())
}

#[test]
fn dig_asks_again_by_tcp_when_an_answer_is_truncated() -> Held {
    let mut world = World::new(|settings| settings)?;
    let long = "x".repeat(200);
    let lines: String = (0..12).map(|at| format!("big TXT \"{at} {long}\"\n")).collect();
    world.write("gslb.test.zone", world.read("gslb.test.zone")? + &lines)?;
    world.start_node()?;
    let text = dig(world.server(), &["big.gslb.test", "TXT"])?;
    assert!(text.contains("Truncated, retrying in TCP mode"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(&long)).count(), 12);
    let client = world.dns();
    let (udp, tcp) =
        (client.ask("big.gslb.test", RecordType::TXT, None)?, client.ask_tcp("big.gslb.test", RecordType::TXT, None)?);
    assert!(udp.message.metadata.truncation && udp.bytes.len() <= 1232);
    assert!(!tcp.message.metadata.truncation && tcp.message.answers.len() == 12);
    Ok(())
}

#[test]
fn node_answers_at_ipv6_by_udp_and_tcp() -> Held {
    let port = std::net::UdpSocket::bind("[::1]:0").and_then(|socket| socket.local_addr());
    let port = port.map_err(|error| format!("this machine has no ::1, which this test needs: {error}"))?.port();
    let listen = format!("listen = [\"127.0.0.1:5300\", \"[::1]:{port}\"]");
    let world = World::start(|settings| settings.replace("listen = [\"127.0.0.1:5300\"]", &listen))?;
    let client = DnsClient::new((IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port).into());
    let subnet: IpNet = "1.208.0.0/24".parse().map_err(|_| "a network")?;
    for answer in [
        client.ask("www.gslb.test", RecordType::A, Some(subnet))?,
        client.ask_tcp("www.gslb.test", RecordType::A, Some(subnet))?,
    ] {
        assert_eq!(answer.address()?, world.vip("seoul"));
    }
    Ok(())
}
