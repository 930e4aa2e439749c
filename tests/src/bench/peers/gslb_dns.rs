//! Our own: one thread, regions that are probed and well, and for each continent its region first.

use super::Site;
use crate::bench::regions::REGIONS;
use crate::bench::zone::{ZONE, master_file};
use crate::harness::process::program;

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    prepare_with(site, "")
}

/// With response rate limiting that never bites: what its bookkeeping costs.
pub(super) fn prepare_limited(site: &Site<'_>) -> Result<Vec<String>, String> {
    prepare_with(site, "[server.rate_limit]\nresponses_per_second = 1000000\nexempt = []\n")
}

/// With DNS cookies.
pub(super) fn prepare_with_cookies(site: &Site<'_>) -> Result<Vec<String>, String> {
    prepare_with(site, "[server.cookies]\n")
}

/// `protection`: tables of settings.
fn prepare_with(site: &Site<'_>, protection: &str) -> Result<Vec<String>, String> {
    let (mut regions, mut prefer) = (String::new(), String::new());
    for region in &REGIONS {
        let ((latitude, longitude), name) = (region.coordinates, region.name);
        regions += &format!("[regions.{name}]\ncoordinates = [{latitude}, {longitude}]\n");
        regions += &format!("vips = [\"{}\", \"{}\"]\n", region.vip4, region.vip6);
        regions += &format!("proxies = {{ proxy = \"http://{}/{name}\" }}\n\n", site.status);
        let (continents, order) = (region.continents, region.order());
        prefer += &format!("  {{ clients = {{ continents = {continents:?} }}, regions = {order:?} }},\n");
    }
    let nowhere = format!("{:?}", REGIONS[REGIONS.len() - 1].order());
    let signing = if site.is_signed { "dnssec = { keys = \"keys\" }" } else { "" };
    let more = [
        ("@protection@", protection),
        ("@signing@", signing),
        ("@regions@", &regions),
        ("@prefer@", &prefer),
        ("@nowhere@", &nowhere),
    ];
    site.write("zone", &master_file(site.hosts))?;
    site.write("topology.toml", &site.fill(include_str!("gslb-dns.toml"), &more))?;
    if site.is_signed {
        let arguments = ["keys", "new", ZONE, "--config", &site.path("topology.toml")];
        site.run(&program("gslb-dns")?, &arguments)?;
    }
    Ok(["serve", "--config", &site.path("topology.toml"), "--log-filter", "warn"].map(str::to_owned).to_vec())
}
