//! PowerDNS with its geoip backend: one receiver, one distributor, its caches as they are by default.

use super::Site;
use crate::bench::regions::REGIONS;
use crate::bench::zone::{SOA, STATIC, STATIC_ADDRESS, STEERED, ZONE};

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    let soa = SOA.replace(". ", " ");
    let mut zone = format!("domains:\n- domain: {ZONE}\n  ttl: 60\n  records:\n    {ZONE}:\n      - soa: {soa}\n");
    zone += &format!("      - ns: ns1.{ZONE}\n    ns1.{ZONE}:\n      - a: 127.0.0.1\n");
    zone += &format!("    {STATIC}:\n      - a: {STATIC_ADDRESS}\n");
    for region in &REGIONS {
        for continent in region.continents {
            let (name, vip4, vip6) = (continent.to_lowercase(), region.vip4, region.vip6);
            zone += &format!("    {name}.geo.{ZONE}:\n      - a: {vip4}\n      - aaaa: {vip6}\n");
        }
    }
    zone += &format!("  services:\n    {STEERED}: '%cn.geo.{ZONE}'\n");
    site.write("zone.yaml", &zone)?;
    site.write("pdns.conf", &site.fill(include_str!("pdns.conf"), &[]))?;
    let config_dir = format!("--config-dir={}", site.path(""));
    Ok([&config_dir, "--guardian=no", "--daemon=no", "--disable-syslog"].map(str::to_owned).to_vec())
}
