//! The table `[services]`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::name::{OwnerName, RegionName};
use crate::settings::Table;
use crate::topology::{
    Failback, FailbackMode, FlapSettings, HttpsSettings, LastResort, Member, Region, Service, Steering, SteeringId,
};

use super::names::{Members, Regions};
use super::records::{read_cname, read_txt};
use super::regions::read_vips;
use super::steering::read_steering;

/// All services, sorted by name, and the distinct steerings that they refer to.
pub(super) fn read_services(root: &Table<'_>, regions: &[Region]) -> (Vec<Service>, Vec<Steering>) {
    let mut named = BTreeMap::new();
    let Some(outer) = root.table("services") else { return Default::default() };
    for (key, value) in outer.entries() {
        let Some(table) = value.table() else { continue };
        let name = OwnerName::parse(key).map_err(|error| value.problem(error)).ok();
        // Read even when the name is wrong, for the mistakes inside.
        let read = read_service(&table, Regions(regions));
        let Some(name) = name else { continue };
        if read.1.cname.contains(&name) {
            table.problem("cname", "leads back to the service itself: expected another name");
        }
        if named.insert(name.clone(), read).is_some() {
            value.problem(format_args!("{name} is given twice (case and a final dot do not tell names apart)"));
        }
    }
    number_steerings(named)
}

/// A service without its name, and how it is steered.
type Unnamed = (Steering, Terms);

/// What a [`Service`] says beside its name and steering.
struct Terms {
    vips: Vec<Vec<IpAddr>>,
    txt: Vec<Vec<String>>,
    cname: Vec<OwnerName>,
    min_servers: u32,
    last_resort: LastResort,
    ttl: u32,
    ttl_degraded: u32,
    failback: Failback,
    https: Option<HttpsSettings>,
}

fn number_steerings(named: BTreeMap<OwnerName, Unnamed>) -> (Vec<Service>, Vec<Steering>) {
    let mut steerings = Vec::new();
    let mut ids = HashMap::new();
    let services = named.into_iter().map(|(name, (steering, terms))| {
        let id = *ids.entry(steering).or_insert_with_key(|steering| {
            steerings.push(steering.clone());
            SteeringId(steerings.len() as u32 - 1)
        });
        let Terms { vips, txt, cname, min_servers, last_resort, ttl, ttl_degraded, failback, https } = terms;
        Service { name, steering: id, vips, txt, cname, min_servers, last_resort, ttl, ttl_degraded, failback, https }
    });
    let services = services.collect();
    (services, steerings)
}

fn read_service(table: &Table<'_>, regions: Regions<'_>) -> Unnamed {
    let steering = read_steering(table, regions);
    let members = Members { regions, list: &steering.members };
    let (ttl, ttl_degraded) = read_ttls(table);
    let min_servers = table.value("min_servers").and_then(|value| value.integer(0..=SERVERS_MAX));
    let cname = read_cname(table, members, steering.policy);
    let is_alias = table.value("cname").is_some();
    let terms = Terms {
        vips: if is_alias { vec![Vec::new(); members.list.len()] } else { read_service_vips(table, members) },
        txt: if is_alias { Vec::new() } else { read_txt(table, members, steering.policy) },
        cname,
        // Where a CNAME sends them, clients need no origin server of ours.
        min_servers: min_servers.unwrap_or(if is_alias { 0 } else { 1 }) as u32,
        last_resort: read_last_resort(table, members),
        ttl,
        ttl_degraded,
        failback: read_failback(table),
        https: if is_alias { None } else { read_https(table) },
    };
    (steering, terms)
}

/// The VIPs of each member: those given for this service, else the region's.
fn read_service_vips(table: &Table<'_>, members: Members<'_>) -> Vec<Vec<IpAddr>> {
    let of_region = |member: &Member| members.regions.0[usize::from(member.region.0)].vips.clone();
    let mut vips: Vec<Vec<IpAddr>> = members.list.iter().map(of_region).collect();
    for (name, value) in table.table("vips").map(|table| table.entries()).unwrap_or_default() {
        let own = read_vips(&value);
        match members.find(name) {
            Ok(member) => vips[usize::from(member.0)] = own,
            Err(what) => value.problem(what),
        }
    }
    check_families(table, members, &vips);
    vips
}

/// Reports each region that lacks an address family which another region of the service has: its clients would lose
/// their address when they fail over to it.
fn check_families(table: &Table<'_>, members: Members<'_>, vips: &[Vec<IpAddr>]) {
    // A region without any address has been reported already.
    let given = || members.list.iter().zip(vips).filter(|(_, vips)| !vips.is_empty());
    // Where regions differ both ways it is one slip, and told once for each region.
    let mut told: Vec<&RegionName> = Vec::new();
    for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
        let is_of_family = |vip: &IpAddr| vip.is_ipv4() == is_v4;
        let Some((holder, _)) = given().find(|(_, vips)| vips.iter().any(is_of_family)) else { continue };
        for (member, _) in given().filter(|(_, vips)| !vips.iter().any(is_of_family)) {
            let (lacking, holder) = (members.name_of(member), members.name_of(holder));
            if told.contains(&holder) {
                continue;
            }
            told.push(lacking);
            let what = "expected the same address families in every region of a service";
            table.problem("vips", format_args!("{lacking} has no {family} address but {holder} has one: {what}"));
        }
    }
}

/// `ttl` and `ttl_degraded`.
fn read_ttls(table: &Table<'_>) -> (u32, u32) {
    let seconds = |key| table.value(key).and_then(|value| value.integer(0..=TTL_MAX)).map(|secs| secs as u32);
    let ttl = seconds("ttl").unwrap_or(TTL_DEFAULT);
    let degraded = seconds("ttl_degraded");
    if degraded.is_some_and(|degraded| degraded > ttl) {
        table.problem("ttl_degraded", format_args!("longer than the TTL: expected 0 to {ttl}"));
    }
    (ttl, degraded.unwrap_or(ttl.min(TTL_DEGRADED_DEFAULT)))
}

fn read_last_resort(table: &Table<'_>, members: Members<'_>) -> LastResort {
    let Some(value) = table.value("last_resort") else { return LastResort::All };
    if value.is_list() {
        return LastResort::Regions(members.listed(&value));
    }
    let word = |word: &str| match word {
        "all" => Some(LastResort::All),
        "none" => Some(LastResort::None),
        _ => None,
    };
    value.parsed_as("\"all\", \"none\" or a list of regions", word).unwrap_or(LastResort::All)
}

fn read_failback(table: &Table<'_>) -> Failback {
    let flap = read_flap(table);
    let default = Failback { mode: FailbackMode::Auto, delay: DELAY_DEFAULT, ramp_step_percent: STEP_MAX as u8, flap };
    let Some(table) = table.table("failback") else { return default };
    let modes = [("auto", FailbackMode::Auto), ("manual", FailbackMode::Manual)];
    let delay = table.value("delay").and_then(|value| value.duration(Duration::ZERO..=SPAN_MAX));
    let step = table.value("ramp_step_percent").and_then(|value| value.integer(1..=STEP_MAX));
    Failback {
        mode: table.value("mode").and_then(|value| value.choice(&modes)).unwrap_or(default.mode),
        delay: delay.unwrap_or(default.delay),
        ramp_step_percent: step.map_or(default.ramp_step_percent, |step| step as u8),
        flap: default.flap,
    }
}

fn read_flap(table: &Table<'_>) -> FlapSettings {
    let default = FlapSettings { half_life: Duration::from_secs(600), suppress: 2500, reuse: 1000 };
    let Some(table) = table.table("flap") else { return default };
    // A penalty never decays to below 0, so a `reuse` of 0 would hold a region back for ever.
    let penalty = |key| table.value(key).and_then(|value| value.integer(1..=PENALTY_MAX)).map(|penalty| penalty as u32);
    let half_life = table.value("half_life").and_then(|value| value.duration(Duration::from_millis(1)..=SPAN_MAX));
    let suppress = penalty("suppress").unwrap_or(default.suppress);
    let reuse = penalty("reuse");
    if reuse.is_some_and(|reuse| reuse > suppress) {
        table.problem("reuse", format_args!("above `suppress`: expected 1 to {suppress}"));
    }
    let reuse = reuse.unwrap_or(default.reuse.min(suppress));
    FlapSettings { half_life: half_life.unwrap_or(default.half_life), suppress, reuse }
}

fn read_https(table: &Table<'_>) -> Option<HttpsSettings> {
    let table = table.table("https")?;
    let mut alpn: Vec<String> = Vec::new();
    let ids = table.value("alpn").and_then(|value| {
        let ids = value.items("a list of protocol ids, such as [\"h2\", \"http/1.1\"]")?;
        if ids.len() > ALPN_MAX {
            value.problem(format_args!("{} protocol ids: expected at most {ALPN_MAX}", ids.len()));
        }
        Some(ids)
    });
    for item in ids.unwrap_or_default().into_iter().take(ALPN_MAX) {
        let is_id = |id: &str| (1..=255).contains(&id.len()).then(|| id.to_owned());
        let Some(id) = item.parsed_as("a protocol id of 1 to 255 octets", is_id) else { continue };
        match alpn.contains(&id) {
            true => item.problem(format_args!("{id:?} is listed twice")),
            false => alpn.push(id),
        }
    }
    let port = table.value("port").and_then(|value| value.integer(1..=65535)).map(|port| port as u16);
    Some(HttpsSettings { alpn, port })
}

/// RFC 2181, section 8: 31 bits.
const TTL_MAX: i64 = (1 << 31) - 1;
const TTL_DEFAULT: u32 = 30;
const TTL_DEGRADED_DEFAULT: u32 = 10;
const SERVERS_MAX: i64 = 1_000_000;
const DELAY_DEFAULT: Duration = Duration::from_secs(60);
/// What waits longer than 30 days waits for an operator.
const SPAN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Points: a region's share never jumps by more than a quarter.
const STEP_MAX: i64 = 25;
/// A thousand falls in a row.
const PENALTY_MAX: i64 = 1_000_000;
/// Keeps an HTTPS record far below the size of a message.
const ALPN_MAX: usize = 16;
