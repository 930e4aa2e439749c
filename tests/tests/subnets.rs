//! Clients of one resolver that keeps answers by client subnet (RFC 7871): unbound with its subnet cache.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use gslb_tests::harness::globe::{Globe, REGIONS, region_at};
use gslb_tests::harness::http::Request;
use gslb_tests::harness::resolver::Resolver;
use gslb_tests::harness::within;
use hickory_proto::rr::RecordType;
use ipnet::{IpNet, Ipv4Net};

type Held = Result<(), String>;

/// Who asks on behalf of the clients of a region.
#[derive(Clone, Copy, Debug)]
enum Clients {
    /// They ask the resolver themselves, from neighbouring /24s of this machine.
    Here(Ipv4Net),
    /// A forwarder, which tells the resolver their network.
    Forwarded(IpNet),
}

#[test]
fn subnet_cache_of_unbound_gives_each_of_8_networks_its_own_region_and_never_anothers() -> Held {
    let globe = start_globe()?;
    let unbound = start_unbound(&globe)?;
    ask_at_once(&globe, &unbound, Some)?;
    let before = queries_received(&globe)?;
    let start = Instant::now();
    ask_at_once(&globe, &unbound, Some)?;
    let (asked, upstream) = (ROUNDS * 2 * REGIONS.len() as u64, queries_received(&globe)? - before);
    // Two names for two sets of networks, kept for `TTL` seconds.
    let most = 2 * 2 * REGIONS.len() as u64 * (2 + start.elapsed().as_secs() / TTL);
    assert!(upstream <= most, "of {asked} queries {upstream} reached the node: they are not kept");

    // The clients of one region move, nobody else.
    globe.take_down("mumbai")?;
    let others = |region| (region != "mumbai").then_some(region);
    within(Duration::from_secs(TTL + 1), || ask_at_once(&globe, &unbound, others)).map(drop)
}

/// Clients of all regions ask at the same time; each answer must be that of `expected`, where `None` is any but the own
/// region.
fn ask_at_once(
    globe: &Globe,
    unbound: &Resolver,
    expected: impl Fn(&'static str) -> Option<&'static str> + Sync,
) -> Held {
    let expected = &expected;
    thread::scope(|scope| {
        let clients = [here, forwarded].into_iter().flat_map(|of| (0..REGIONS.len()).map(move |at| (at, of)));
        let threads: Vec<_> = clients
            .map(|(at, of)| (REGIONS[at].0, of(globe, at)))
            .map(|(region, clients)| scope.spawn(move || ask(unbound, region, clients, expected(region))))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client panicked".to_owned())?)
    })
}

fn ask(unbound: &Resolver, own: &'static str, clients: Clients, expected: Option<&'static str>) -> Held {
    let mut chance = fastrand::Rng::with_seed(11);
    for _ in 0..ROUNDS {
        let name = ["www.gslb.test", "api.gslb.test"][chance.usize(0..2)];
        let rtype = if chance.bool() { RecordType::A } else { RecordType::AAAA };
        let address = match clients {
            Clients::Here(net) => {
                let client = u32::from(net.network()) | chance.u32(1..255);
                unbound.dns().from(IpAddr::from(client.to_be_bytes())).ask(name, rtype, None)?
            }
            Clients::Forwarded(net) => unbound.dns().ask(name, rtype, Some(net))?,
        };
        let address = address.address().map_err(|why| format!("{name} {rtype} for {clients:?}: {why}"))?;
        let region = region_at(address);
        let holds = expected.map_or(region.is_some_and(|region| region != own), |expected| region == Some(expected));
        if !holds {
            return Err(format!("{name} {rtype} for {clients:?} is {address} of {region:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

fn here(globe: &Globe, at: usize) -> Clients {
    Clients::Here(Ipv4Net::new_assert([127, globe.number(), 64 + at as u8, 0].into(), 24))
}

/// Neighbours too: /24s of IPv4 and /56s of IPv6, by turns.
fn forwarded(_: &Globe, at: usize) -> Clients {
    let net = match at % 2 {
        0 => IpNet::new_assert([203, 0, 112 + at as u8, 0].into(), 24),
        _ => IpNet::new_assert([0x2001, 0xDB8, 0xFF, (at as u16) << 8, 0, 0, 0, 0].into(), 56),
    };
    Clients::Forwarded(net)
}

fn start_globe() -> Result<Globe, String> {
    let services = ["www.gslb.test", "api.gslb.test"];
    let mut globe = Globe::new(5300, &services)?;
    let mut places = String::new();
    for (at, (_, latitude, longitude)) in REGIONS.iter().enumerate() {
        for clients in [here(&globe, at), forwarded(&globe, at)] {
            let net = match clients {
                Clients::Here(net) => net.into(),
                Clients::Forwarded(net) => net,
            };
            places += &format!("{net},,,,,{latitude},{longitude}\n");
        }
    }
    globe.write("overrides.csv", places)?;
    globe.write("gslb.test.zone", ZONE)?;
    let mut settings = globe.settings() + "[[zones]]\nname = \"gslb.test\"\nfile = \"gslb.test.zone\"\n";
    for service in services {
        settings += &format!("[services.\"{service}\"]\nttl = {TTL}\nttl_degraded = {TTL}\n");
    }
    globe.write("topology.toml", settings)?;
    globe.start_node()?;
    Ok(globe)
}

fn start_unbound(globe: &Globe) -> Result<Resolver, String> {
    let node = globe.servers()[0];
    let lines = format!(
        r#"    module-config: "subnetcache validator iterator"
    send-client-subnet: {ip}
    max-client-subnet-ipv4: 24
    max-client-subnet-ipv6: 56
    domain-insecure: "test"
stub-zone:
    name: "gslb.test"
    stub-addr: {ip}@{port}"#,
        ip = node.ip(),
        port = node.port()
    );
    Resolver::unbound(&globe.path(""), SocketAddr::from(([127, globe.number(), 0, 53], 5353)), &lines)
}

/// Queries that the node has received over UDP.
fn queries_received(globe: &Globe) -> Result<u64, String> {
    let metrics = Request::get("/metrics").send(globe.admin())?.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("gslb_queries_total{transport=\"udp\"}"));
    line.and_then(|count| count.trim().parse().ok()).ok_or_else(|| format!("no count of queries in {metrics}"))
}

/// Questions of each network.
const ROUNDS: u64 = 100;
const TTL: u64 = 2;
const ZONE: &str = "$TTL 3600
@ SOA ns1 hostmaster 1 14400 3600 1209600 300
@ NS ns1
@ NS ns2
ns1 A 192.0.2.53
ns2 A 198.51.100.53
";
