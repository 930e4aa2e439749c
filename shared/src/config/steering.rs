//! What orders the regions of a service: policy, tiers, weights, and rules for some clients.

use ipnet::IpNet;

use crate::place::{Continent, Country};
use crate::settings::{Table, Value};
use crate::topology::{Clients, Fence, FenceStrength, MEMBERS_MAX, Member, MemberId, Policy, Rule, Steering};

use super::names::{Members, Regions};

/// The steering that the table of a service asks for. What could not be read is a stand-in, and reported.
pub(super) fn read_steering(table: &Table<'_>, regions: Regions<'_>) -> Steering {
    let policies =
        [Policy::Nearest, Policy::Weighted, Policy::Ordered, Policy::All].map(|policy| (policy.as_str(), policy));
    let policy = table.value("policy").and_then(|value| value.choice(&policies)).unwrap_or(Policy::Nearest);
    let mut members = read_members(table, regions);
    for (member, weight) in read_weights(table, Members { regions, list: &members }) {
        members[usize::from(member.0)].weight = weight;
    }
    if policy == Policy::Weighted && !members.is_empty() && members.iter().all(|member| member.weight == 0) {
        table.problem("weights", "all are 0: expected at least one above, for policy \"weighted\"");
    }
    let known = Members { regions, list: &members };
    let prefer = table.table_list("prefer").iter().map(|rule| read_rule(rule, known)).collect();
    let keep_within = table.table_list("keep_within").iter().map(|fence| read_fence(fence, known)).collect();
    Steering { policy, members, prefer, keep_within }
}

/// Regions by tier: from `regions` (one tier), from `tiers`, or all there are.
fn read_members(table: &Table<'_>, regions: Regions<'_>) -> Vec<Member> {
    let (one, many) = (table.value("regions"), table.value("tiers"));
    let listed = match (&one, &many) {
        (None, None) => return all_members(table, regions),
        (Some(_), Some(tiers)) => {
            tiers.problem("given beside `regions`: expected one of the two");
            Vec::new()
        }
        (Some(list), None) => read_tier(list, 0),
        (None, Some(tiers)) => read_tiers(tiers),
    };
    let mut members: Vec<Member> = Vec::new();
    for (tier, item) in &listed {
        let Some(name) = item.text() else { continue };
        match regions.find(name) {
            Ok(region) if members.iter().any(|member| member.region == region) => {
                item.problem(format_args!("{name:?} is listed twice"));
            }
            Ok(region) => members.push(Member { region, tier: *tier, weight: WEIGHT_DEFAULT }),
            Err(what) => item.problem(what),
        }
    }
    cap_members(table, if one.is_some() { "regions" } else { "tiers" }, members)
}

fn read_tiers<'a>(value: &Value<'a>) -> Vec<(u8, Value<'a>)> {
    let tiers = value.items("a list of tiers, each a list of regions").unwrap_or_default();
    if tiers.is_empty() {
        value.problem("empty: expected at least one tier");
    }
    if tiers.len() > TIERS_MAX {
        value.problem(format_args!("{} tiers: expected at most {TIERS_MAX}", tiers.len()));
    }
    tiers.iter().take(TIERS_MAX).enumerate().flat_map(|(at, tier)| read_tier(tier, at as u8)).collect()
}

fn read_tier<'a>(value: &Value<'a>, tier: u8) -> Vec<(u8, Value<'a>)> {
    let Some(items) = value.items("a list of regions") else { return Vec::new() };
    if items.is_empty() {
        value.problem("empty: expected at least one region");
    }
    items.into_iter().map(|item| (tier, item)).collect()
}

fn all_members(table: &Table<'_>, regions: Regions<'_>) -> Vec<Member> {
    let ids = regions.names().filter_map(|name| regions.find(name.as_str()).ok());
    let members: Vec<Member> = ids.map(|region| Member { region, tier: 0, weight: WEIGHT_DEFAULT }).collect();
    if members.is_empty() {
        table.problem("regions", "there is no region to choose from: expected at least one under [regions]");
    }
    cap_members(table, "regions", members)
}

fn cap_members(table: &Table<'_>, key: &str, mut members: Vec<Member>) -> Vec<Member> {
    if members.len() > MEMBERS_MAX {
        table.problem(key, format_args!("{} regions: expected at most {MEMBERS_MAX} in one service", members.len()));
        members.truncate(MEMBERS_MAX);
    }
    members
}

fn read_weights(table: &Table<'_>, members: Members<'_>) -> Vec<(MemberId, u32)> {
    let Some(weights) = table.table("weights") else { return Vec::new() };
    let read = |(name, value): (&str, Value<'_>)| {
        let weight = value.integer(0..=WEIGHT_MAX);
        let member = members.find(name).map_err(|what| value.problem(what)).ok();
        Some((member?, weight? as u32))
    };
    weights.entries().into_iter().filter_map(read).collect()
}

fn read_fence(table: &Table<'_>, members: Members<'_>) -> Fence {
    let strengths = [("hard", FenceStrength::Hard), ("soft", FenceStrength::Soft)];
    let strength = table.value("fence").and_then(|value| value.choice(&strengths)).unwrap_or(FenceStrength::Hard);
    Fence { rule: read_rule(table, members), strength }
}

fn read_rule(table: &Table<'_>, members: Members<'_>) -> Rule {
    let clients = table.required("clients", "a table with networks, asns, countries or continents");
    let clients = clients.and_then(|value| value.table()).map(|clients| read_clients(table, &clients));
    let regions = table.required("regions", "a list of regions of this service").map(|value| members.listed(&value));
    Rule { clients: clients.unwrap_or_default(), regions: regions.unwrap_or_default() }
}

fn read_clients(rule: &Table<'_>, table: &Table<'_>) -> Clients {
    let keys = ["networks", "asns", "countries", "continents"];
    let lists = keys.map(|key| table.value(key));
    let is_given = |list: &Value<'_>| list.items("a list").is_none_or(|items| !items.is_empty());
    if !lists.iter().flatten().any(is_given) {
        rule.problem("clients", format_args!("selects nobody: expected at least one of {}", keys.join(", ")));
    }
    let [networks, asns, countries, continents] = lists;
    Clients {
        networks: each(networks, |item| item.parsed(parse_network)),
        asns: each(asns, |item| item.integer(1..=i64::from(u32::MAX)).map(|asn| asn as u32)),
        countries: each(countries, |item| item.parsed(parse_country)),
        continents: each(continents, |item| item.parsed_as("one of AF, AN, AS, EU, NA, OC, SA", Continent::parse)),
    }
}

/// What `read` makes of each item of the list `value`.
fn each<'a, T>(value: Option<Value<'a>>, read: impl Fn(&Value<'a>) -> Option<T>) -> Vec<T> {
    let items = value.and_then(|value| value.items("a list")).unwrap_or_default();
    items.iter().filter_map(read).collect()
}

/// The network that `text` is in CIDR notation: no bits beyond its length, and IPv4 as IPv4.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let network: IpNet = text.parse().map_err(|_| NetworkError::NotCidr { text: text.to_owned() })?;
    if network != network.trunc() {
        return Err(NetworkError::HostBits { given: network, right: network.trunc() });
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(NetworkError::Mapped { given: network }),
        _ => Ok(network),
    }
}

/// Why a text is not a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It is none.
    #[error("{text:?} is not a network: expected an address and a prefix length, such as 192.0.2.0/24")]
    NotCidr {
        /// As it was given.
        text: String,
    },
    /// It is an address rather than a network.
    #[error("{given} has bits set beyond its prefix length: expected {right}")]
    HostBits {
        /// As it was given.
        given: IpNet,
        /// The network that it is in.
        right: IpNet,
    },
    /// Addresses are compared as IPv4 where they are IPv4.
    #[error("{given} is IPv4-mapped and matches nobody: expected the IPv4 network")]
    Mapped {
        /// As it was given.
        given: IpNet,
    },
}

fn parse_country(text: &str) -> Result<Country, CountryError> {
    match Country::parse(text) {
        Some(country) if country.as_str() == "UK" => Err(CountryError::NotGb),
        Some(country) => Ok(country),
        None => Err(CountryError::NotACode { text: text.to_owned() }),
    }
}

/// Why a text is not a country.
#[derive(Debug, thiserror::Error)]
enum CountryError {
    #[error("{text:?} is not a country code: expected two letters (ISO 3166-1), such as KR")]
    NotACode { text: String },
    #[error("no database knows UK: expected GB, the code of the United Kingdom")]
    NotGb,
}

const WEIGHT_DEFAULT: u32 = 100;
const WEIGHT_MAX: i64 = 1000;
/// As many as a tier number can tell apart.
const TIERS_MAX: usize = 255;
