//! gdnsd with its geoip plugin: one thread for UDP, one for TCP.

use std::fs;

use super::Site;
use crate::bench::regions::REGIONS;
use crate::bench::zone::{ZONE, master_file};

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    for folder in ["run", "state", "geoip"] {
        site.make_folder(folder)?;
    }
    // It takes databases from a folder of its own only.
    fs::copy(site.geo, site.folder.join("geoip/geo.mmdb")).map_err(|error| format!("geo.mmdb: {error}"))?;
    site.write(&format!("zones/{ZONE}"), &(master_file(site.hosts) + "www 60 DYNA geoip!www\n"))?;
    let (mut places, mut vips) = (String::new(), String::new());
    for region in &REGIONS {
        let order = region.order().join(", ");
        for continent in region.continents {
            places += &format!("      {continent} => [{order}]\n");
        }
        let (name, vip4, vip6) = (region.name, region.vip4, region.vip6);
        vips += &format!("    {name} => {{ addrs_v4 => [\"{vip4}\"], addrs_v6 => [\"{vip6}\"] }}\n");
    }
    let names = REGIONS.each_ref().map(|region| region.name).join(", ");
    let nowhere = REGIONS[REGIONS.len() - 1].order().join(", ");
    let more = [("@regions@", names.as_str()), ("@places@", &places), ("@vips@", &vips), ("@nowhere@", &nowhere)];
    site.write("config", &site.fill(include_str!("gdnsd.conf"), &more))?;
    Ok(["-c", &site.path(""), "start"].map(str::to_owned).to_vec())
}
