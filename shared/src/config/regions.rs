//! The table `[regions]`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::name::{ProxyName, RegionName};
use crate::place::Coordinates;
use crate::settings::{Table, Value};
use crate::topology::{Proxy, Region};

use super::status_url::parse_status_url;

/// All regions, sorted by name. What could not be read of one is a stand-in, and reported.
pub(super) fn read_regions(root: &Table<'_>) -> Vec<Region> {
    let Some(outer) = root.table("regions") else { return Vec::new() };
    let mut regions = Vec::new();
    for (key, value) in outer.entries() {
        let Some(table) = value.table() else { continue };
        match RegionName::parse(key) {
            Ok(name) => regions.push(read_region(&table, name)),
            Err(error) => {
                value.problem(error);
                // Read all the same, for the mistakes inside.
                read_region(&table, RegionName::parse("unnamed").expect("a label"));
            }
        }
    }
    if regions.len() > REGIONS_MAX {
        root.problem("regions", format_args!("{} regions: expected at most {REGIONS_MAX}", regions.len()));
        regions.truncate(REGIONS_MAX);
    }
    regions.sort_by(|a, b| a.name.cmp(&b.name));
    regions
}

/// The addresses in the list `value`; mistakes are reported and left out.
pub(super) fn read_vips(value: &Value<'_>) -> Vec<IpAddr> {
    let items = value.items("a list of addresses");
    match items.as_ref().map(Vec::len) {
        Some(0) => value.problem("empty: expected at least one address"),
        Some(count) if count > VIPS_MAX => {
            value.problem(format_args!("{count} addresses: expected at most {VIPS_MAX}"));
        }
        _ => {}
    }
    let mut vips = Vec::new();
    for item in items.unwrap_or_default().into_iter().take(VIPS_MAX) {
        let Some(vip) = item.parsed(parse_vip) else { continue };
        match vips.contains(&vip) {
            true => item.problem(format_args!("{vip} is listed twice")),
            false => vips.push(vip),
        }
    }
    vips
}

fn read_region(table: &Table<'_>, name: RegionName) -> Region {
    let vips = table.required("vips", "a list of addresses that clients connect to");
    let proxies = table.required("proxies", "a table of proxies, each with the URL of its status");
    let proxies =
        proxies.and_then(|value| value.table()).map(|proxies| read_proxies(table, &proxies)).unwrap_or_default();
    // With no proxy that could be read, that is the mistake.
    let proxies_max = if proxies.is_empty() { i64::from(u32::MAX) } else { proxies.len() as i64 };
    let min_proxies = table.value("min_proxies").and_then(|value| value.integer(1..=proxies_max));
    let bias_km = table.value("bias_km").and_then(|value| value.integer(-BIAS_KM_MAX..=BIAS_KM_MAX));
    Region {
        name,
        coordinates: read_coordinates(table),
        bias_km: bias_km.unwrap_or_default() as i32,
        vips: vips.map(|value| read_vips(&value)).unwrap_or_default(),
        min_proxies: min_proxies.unwrap_or(1) as u32,
        proxies,
    }
}

fn read_coordinates(table: &Table<'_>) -> Option<Coordinates> {
    let expected = "its place as [latitude, longitude] in degrees, such as [37.57, 126.98]";
    let value = table.required("coordinates", expected)?;
    let items = value.items(expected)?;
    let [latitude, longitude] = items.as_slice() else {
        value.problem(format_args!("{} numbers: expected {expected}", items.len()));
        return None;
    };
    let (latitude, longitude) = (latitude.number(), longitude.number());
    Coordinates::from_degrees(latitude?, longitude?).map_err(|error| value.problem(error)).ok()
}

fn read_proxies(region: &Table<'_>, table: &Table<'_>) -> Vec<Proxy> {
    let entries = table.entries();
    if entries.is_empty() {
        region.problem("proxies", "empty: expected at least one proxy with the URL of its status");
    }
    let mut urls: BTreeSet<String> = BTreeSet::new();
    let mut proxies = Vec::new();
    for (key, value) in entries {
        let name = ProxyName::parse(key).map_err(|error| value.problem(error)).ok();
        let url = value.parsed(parse_status_url).unwrap_or_default();
        if !url.is_empty() && !urls.insert(url.clone()) {
            value.problem(format_args!("{url:?} is the URL of another proxy too: expected one for each"));
        }
        proxies.extend(name.map(|name| Proxy { name, status_url: url }));
    }
    proxies.sort_by(|a, b| a.name.cmp(&b.name));
    proxies
}

fn parse_vip(text: &str) -> Result<IpAddr, String> {
    let vip: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IPv4 or IPv6 address"))?;
    let is_broadcast = matches!(vip, IpAddr::V4(v4) if v4.is_broadcast());
    if vip.is_unspecified() || vip.is_multicast() || is_broadcast {
        return Err(format!("{vip} is no address to connect to: expected a unicast address"));
    }
    match vip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{vip} is an IPv4-mapped address: expected {}", vip.to_canonical()))
        }
        _ => Ok(vip),
    }
}

/// As many as a [`crate::topology::RegionId`] can tell apart.
const REGIONS_MAX: usize = 1 << 16;
/// With policy `all`, 64 regions of 16 addresses still fit one DNS message over TCP.
const VIPS_MAX: usize = 16;
/// Half way around the Earth: more could change no order.
const BIAS_KM_MAX: i64 = 20_040;
