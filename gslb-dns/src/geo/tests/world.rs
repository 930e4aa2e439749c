//! Builders: databases, topologies and whole random worlds of few addresses, where everything overlaps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use shared::name::RegionName;
use shared::place::{Coordinates, Country};
use shared::topology::{
    Clients, Fence, FenceStrength, Member, MemberId, Policy, Region, RegionId, Rule, Steering, Topology,
};

use crate::geo::{GeoData, GeoSources, GeoTables, Source};

/// A value in a record.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Field {
    Text(String),
    Double(f64),
    Number(u32),
    Map(BTreeMap<String, Field>),
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

pub(super) fn map<const N: usize>(fields: [(&str, Field); N]) -> Field {
    Field::Map(fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect())
}

pub(super) fn mmdb(networks: &[(IpNet, Field)]) -> Vec<u8> {
    let mut database = Database::default();
    database.metadata.binary_format_major_version = 2;
    database.metadata.ip_version = IpVersion::V6;
    let mut sorted: Vec<_> = networks.iter().collect();
    sorted.sort_by_key(|(network, _)| network.prefix_len());
    for (network, field) in sorted {
        let value = database.insert_value(field).expect("fields are plain");
        let (address, len) = match network {
            IpNet::V4(net) => (Ipv6Addr::from(u128::from(u32::from(net.network()))), net.prefix_len() + 96),
            IpNet::V6(net) => (net.network(), net.prefix_len()),
        };
        database.insert_node(IpAddrWithMask::new(address.into(), len), value);
    }
    database.write_to(Vec::new()).expect("a vector takes all")
}

pub(super) fn source(bytes: &[u8]) -> Option<Source<'_>> {
    Some(Source { file: "some.file", bytes })
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().expect("network")
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// Seoul, Frankfurt and Virginia, and a region without a place.
pub(super) fn topology(steerings: Vec<Steering>) -> Topology {
    let places = [("frankfurt", 50.11, 8.68), ("seoul", 37.57, 126.98), ("virginia", 39.04, -77.49)];
    let region = |name: &str, coordinates| Region {
        name: RegionName::parse(name).expect("name"),
        coordinates,
        bias_km: 0,
        vips: vec![ip("192.0.2.1")],
        min_proxies: 1,
        proxies: Vec::new(),
    };
    let known = places.map(|(name, lat, lon)| region(name, Coordinates::from_degrees(lat, lon).ok()));
    let regions = known.into_iter().chain([region("zion", None)]).collect();
    Topology { regions, steerings, ..Topology::default() }
}

pub(super) fn steering(policy: Policy, prefer: Vec<Rule>, keep_within: Vec<Fence>) -> Steering {
    let member = |region| Member { region: RegionId(region), tier: 0, weight: 100 };
    Steering { policy, members: (0..4).map(member).collect(), prefer, keep_within }
}

/// A random world.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) records: Vec<(IpNet, Field)>,
    pub(super) asns: Vec<(IpNet, u32)>,
    pub(super) overrides: Vec<(IpNet, String)>,
    pub(super) topology: Topology,
    pub(super) addresses: Vec<IpAddr>,
}

impl World {
    pub(super) fn data(&self) -> GeoData {
        let records = mmdb(&self.records);
        let asn = |&(network, asn): &(IpNet, u32)| (network, map([("autonomous_system_number", Field::Number(asn))]));
        let asns = mmdb(&self.asns.iter().map(asn).collect::<Vec<_>>());
        let overrides: String = self.overrides.iter().map(|(network, rest)| format!("{network},{rest}\n")).collect();
        let sources = GeoSources {
            database: source(&records).filter(|_| !self.records.is_empty()),
            asn_database: source(&asns).filter(|_| !self.asns.is_empty()),
            overrides: source(overrides.as_bytes()),
            countries: source(COUNTRIES.as_bytes()),
        };
        GeoData::parse(sources).expect("all sources are sound")
    }

    pub(super) fn tables(&self) -> GeoTables {
        GeoTables::build(&self.data(), &self.topology)
    }

    /// Where anything may change: the ends of all networks and the addresses that follow them, beside some others.
    pub(super) fn cuts(&self) -> Vec<IpAddr> {
        let rules = self.topology.steerings.iter().flat_map(|steering| {
            let fences = steering.keep_within.iter().map(|fence| &fence.rule);
            steering.prefer.iter().chain(fences).flat_map(|rule| &rule.clients.networks)
        });
        let records = self.records.iter().map(|(network, _)| network);
        let asns = self.asns.iter().map(|(network, _)| network);
        let overrides = self.overrides.iter().map(|(network, _)| network);
        let networks = records.chain(asns).chain(overrides).chain(rules);
        let ends = networks.flat_map(|network| match network {
            IpNet::V4(net) => {
                let last = u32::from(net.broadcast());
                [net.network().into(), Ipv4Addr::from(last).into(), Ipv4Addr::from(last.wrapping_add(1)).into()]
            }
            IpNet::V6(net) => {
                let last = u128::from(net.broadcast());
                [net.network().into(), Ipv6Addr::from(last).into(), Ipv6Addr::from(last.wrapping_add(1)).into()]
            }
        });
        ends.chain(self.addresses.iter().copied()).chain([ip("0.0.0.0"), ip("::")]).collect()
    }
}

pub(super) const COUNTRIES: &str = "country,latitude,longitude,continent\nKR,36,128,AS\nDE,51,10,EU\nUS,38,-92,NA\n";

/// Worlds whose networks are all in 10.0.0.0/14 and 2001:db8::/44.
pub(super) fn worlds() -> impl Strategy<Value = World> {
    let code = prop::sample::select(vec!["KR,,,", "DE,,,", "US,,,", "BR,,,", "", "KR,,,,50.0,9.0", ",,,,38.0,-77.0"]);
    (
        vec((networks(), records()), 0..12),
        vec((networks(), 1_u32..5), 0..6),
        vec((networks(), code.prop_map(str::to_owned)), 0..6),
        vec(steerings(), 1..4),
        vec(networks().prop_map(|network| network.addr()), 8),
    )
        .prop_map(|(records, asns, overrides, steerings, addresses)| World {
            records: distinct(records),
            asns: distinct(asns),
            overrides: distinct(overrides),
            topology: topology(steerings),
            addresses,
        })
}

fn distinct<T>(networks: Vec<(IpNet, T)>) -> Vec<(IpNet, T)> {
    let by_network: BTreeMap<IpNet, T> =
        networks.into_iter().map(|(network, value)| (network.trunc(), value)).collect();
    by_network.into_iter().collect()
}

/// Networks with addresses that may lie anywhere in them.
fn networks() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u16>(), 14_u8..=32).prop_map(|(low, len)| {
        IpNet::from(Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | u32::from(low)), len).expect("length"))
    });
    let v6 = (any::<u16>(), 0_u128..16, 0_u128..16, 44_u8..=128).prop_map(|(subnet, high, low, len)| {
        let address = 0x2001_0db8 << 96 | u128::from(subnet) << 64 | high << 60 | low;
        IpNet::from(Ipv6Net::new(Ipv6Addr::from(address), len).expect("length"))
    });
    prop_oneof![v4, v6]
}

fn records() -> impl Strategy<Value = Field> {
    let country = prop::sample::select(vec!["KR", "DE", "US", "BR"]);
    let spot = (-80_i32..80, -170_i32..170).prop_map(|(lat, lon)| (f64::from(lat), f64::from(lon)));
    (country, option::of(spot), any::<bool>()).prop_map(|(country, spot, is_flat)| match (spot, is_flat) {
        (None, true) => map([("country_code", country.into())]),
        (None, false) => map([("country", map([("iso_code", country.into())]))]),
        (Some((lat, lon)), true) => map([
            ("country_code", country.into()),
            ("latitude", Field::Text(lat.to_string())),
            ("longitude", Field::Double(lon)),
        ]),
        (Some((lat, lon)), false) => map([
            ("country", map([("iso_code", country.into())])),
            ("location", map([("latitude", Field::Double(lat)), ("longitude", Field::Double(lon))])),
        ]),
    })
}

fn steerings() -> impl Strategy<Value = Steering> {
    let policy = prop::sample::select(vec![Policy::Nearest, Policy::Nearest, Policy::Ordered, Policy::Weighted]);
    let strength = prop::sample::select(vec![FenceStrength::Hard, FenceStrength::Soft]);
    let fence = (rules(), strength).prop_map(|(rule, strength)| Fence { rule, strength });
    (policy, vec(rules(), 0..3), vec(fence, 0..2))
        .prop_map(|(policy, prefer, keep_within)| steering(policy, prefer, keep_within))
}

fn rules() -> impl Strategy<Value = Rule> {
    let countries = vec(prop::sample::select(vec!["KR", "BR"]).prop_filter_map("code", Country::parse), 0..2);
    let clients = (vec(networks(), 0..3), vec(1_u32..5, 0..2), countries);
    (clients, vec(0_u8..4, 1)).prop_map(|((networks, asns, countries), regions)| Rule {
        clients: Clients { networks, asns, countries, continents: Vec::new() },
        regions: regions.into_iter().map(MemberId).collect(),
    })
}
