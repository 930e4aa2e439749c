//! Worlds and queries that are measured: always the same.

mod site;

use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use gslb_dns::answer::{Outcome, Peer, Snapshot, Transport, Turn, answer};
use gslb_dns::geo::{GeoData, GeoSources, GeoTables, Source};
use gslb_dns::zone::{Zone, ZoneSet};
use shared::config::parse_topology;
use shared::moment::Moment;
use shared::name::{OwnerName, ProxyName, RegionName};
use shared::published::{ServiceStatus, Status};
use shared::state::{Event, State};
use shared::topology::Topology;

pub(crate) use site::zone_text;
use site::{host, settings};

/// One kind of query: its name, and some of the kind.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) queries: Vec<Query>,
}

/// The octets of a query, and who sends it how.
pub(crate) struct Query {
    peer: Peer,
    packet: Vec<u8>,
}

/// What is made once for all kinds.
pub(crate) struct World {
    pub(crate) topology: Arc<Topology>,
    pub(crate) geo: Arc<GeoTables>,
}

impl World {
    /// Eight regions, `services` services, the places of the shipped country database.
    pub(crate) fn new(services: usize) -> Self {
        let text = settings(services, "http://198.51.100.1:8081");
        let topology = parse_topology("topology.toml", &text).expect("settings here are right");
        let geo = Arc::new(GeoTables::build(&places(), &topology));
        Self { topology: Arc::new(topology), geo }
    }

    /// The small zone, with `hosts` more names.
    pub(crate) fn zones(&self, hosts: usize) -> Arc<ZoneSet> {
        let zone = load(&zone_text(hosts));
        Arc::new(ZoneSet::build(vec![zone], &self.topology).expect("the zone goes with the settings"))
    }

    /// Every region serves every service.
    pub(crate) fn state(&self) -> State {
        let mut state = State::new(Arc::clone(&self.topology), Moment::START);
        for _ in 0..self.topology.probe.rise {
            for region in &self.topology.regions {
                self.probe(&mut state, &region.name, true);
            }
        }
        assert!(state.is_settled(), "every region has a verdict");
        state
    }

    /// Tells `state` how the proxy of `region` answers.
    pub(crate) fn probe(&self, state: &mut State, region: &RegionName, is_up: bool) {
        let changed = state.apply(self.probed(region, is_up), Moment::START);
        black_box(changed.expect("a probe is never refused"));
    }

    /// The event that the proxy of `region` answers, or does not.
    pub(crate) fn probed(&self, region: &RegionName, is_up: bool) -> Event {
        let proxy = ProxyName::parse("p").expect("a name");
        let up = ServiceStatus { servers_up: 2, servers_total: 2, ..ServiceStatus::default() };
        let status = Status {
            region: region.clone(),
            proxy: proxy.clone(),
            holds_vip: true,
            is_draining: false,
            services: self.topology.services.iter().map(|service| (service.name.clone(), up)).collect(),
            virtual_routers: Vec::new(),
        };
        let failure = shared::state::ProbeFailure::Unreachable("connection refused".to_owned());
        Event::Probed { region: region.clone(), proxy, outcome: if is_up { Ok(status) } else { Err(failure) } }
    }

    /// Everything that answers need, with every region serving.
    pub(crate) fn snapshot(&self, zones: Arc<ZoneSet>) -> Snapshot {
        Snapshot::new(zones, Arc::clone(&self.geo), self.state().view())
    }
}

/// Every kind of query to [`World::zones`], `count` of each; those of a steered name come from all over the world.
pub(crate) fn kinds(count: usize) -> Vec<Kind> {
    let deep = format!("{}nothing.bench.test", "a.b.c.d.e.f.".repeat(5));
    let table = [
        ("static", "mail.bench.test", A, Opt::Plain),
        ("static-without-edns", "mail.bench.test", A, Opt::None),
        ("nxdomain", "nothing.bench.test", A, Opt::Plain),
        ("nxdomain-deep", &deep, A, Opt::Plain),
        ("referral", "host.kid.bench.test", A, Opt::Plain),
        ("wildcard", "anything.wild.bench.test", A, Opt::Plain),
        ("steered-by-resolver", "near.bench.test", A, Opt::Plain),
        ("steered-by-ecs", "near.bench.test", A, Opt::Subnet),
        ("steered-https", "near.bench.test", HTTPS, Opt::Subnet),
        ("all-of-eight-regions", "all.bench.test", A, Opt::Subnet),
        ("tcp", "near.bench.test", A, Opt::Subnet),
    ];
    let kind = |(kind, name, rtype, opt)| {
        let mut rng = Rng::with_seed(7);
        let transport = if kind == "tcp" { Transport::Tcp } else { Transport::Udp };
        Kind { name: kind, queries: (0..count).map(|_| Query::new(&mut rng, name, rtype, opt, transport)).collect() }
    };
    table.map(kind).into()
}

/// Static queries for `count` of the `hosts` names of [`World::zones`], in random order.
pub(crate) fn hosts(hosts: usize, count: usize) -> Kind {
    let mut rng = Rng::with_seed(8);
    let queries = (0..count).map(|_| {
        let name = format!("{}.bench.test", host(rng.usize(..hosts)));
        Query::new(&mut rng, &name, A, Opt::Plain, Transport::Udp)
    });
    Kind { name: "static-of-many-names", queries: queries.collect() }
}

/// Answers all of `queries` and gives the octets sent.
#[inline(never)]
pub(crate) fn answer_all(snapshot: &Snapshot, queries: &[Query], out: &mut [u8]) -> usize {
    let mut sent = 0;
    for query in queries {
        if let Outcome::Sent { len, .. } =
            answer(snapshot, &Turn::unlimited(0), &query.peer, black_box(&query.packet), out)
        {
            sent += len;
        }
    }
    sent
}

/// The OPT record of a query.
#[derive(Clone, Copy)]
enum Opt {
    None,
    Plain,
    /// With the /24 of a random client.
    Subnet,
}

impl Query {
    fn new(rng: &mut Rng, name: &str, rtype: u16, opt: Opt, transport: Transport) -> Self {
        let mut packet = Vec::new();
        let words = |words: &[u16], packet: &mut Vec<u8>| {
            packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        };
        words(&[rng.u16(..), 0x0100, 1, 0, 0, u16::from(!matches!(opt, Opt::None))], &mut packet);
        for label in name.split('.') {
            packet.push(label.len() as u8);
            packet.extend(label.as_bytes());
        }
        packet.push(0);
        words(&[rtype, 1], &mut packet);
        if !matches!(opt, Opt::None) {
            packet.push(0);
            let options_len = if matches!(opt, Opt::Subnet) { 11 } else { 0 };
            words(&[41, 1232, 0, 0, options_len], &mut packet);
        }
        if matches!(opt, Opt::Subnet) {
            words(&[8, 7, 1, 0x1800], &mut packet);
            packet.extend(&random_v4(rng)[..3]);
        }
        Self { peer: Peer { address: IpAddr::from(random_v4(rng)), transport }, packet }
    }
}

/// An address among those that are routed.
pub(crate) fn random_v4(rng: &mut Rng) -> [u8; 4] {
    [rng.u8(1..224), rng.u8(..), rng.u8(..), rng.u8(..)]
}

/// The places of the shipped country database.
pub(crate) fn places() -> GeoData {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../geo");
    let read = |file: &str| std::fs::read(folder.join(file)).expect("a file of the repository");
    let (database, countries) = (read("geo-whois-asn-country.mmdb"), read("countries.csv"));
    let sources = GeoSources {
        database: Some(Source { file: "database", bytes: &database }),
        countries: Some(Source { file: "countries.csv", bytes: &countries }),
        ..GeoSources::default()
    };
    GeoData::parse(sources).expect("the shipped files are right")
}

/// The zone that `text` gives.
pub(crate) fn load(text: &str) -> Zone {
    Zone::parse(&OwnerName::parse("bench.test").expect("a name"), "bench.zone", text).expect("the zone here is right")
}

const A: u16 = 1;
const HTTPS: u16 = 65;
