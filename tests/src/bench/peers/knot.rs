//! Knot DNS with mod-geoip on the database: one worker for UDP, one for TCP.

use super::Site;
use crate::bench::regions::REGIONS;
use crate::bench::zone::{STEERED, master_file, steered_records};

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    site.make_folder("run")?;
    site.make_folder("db")?;
    site.write("zone", &(master_file(site.hosts) + &steered_records()))?;
    let mut places = format!("{STEERED}:\n");
    for region in &REGIONS {
        for continent in region.continents {
            places += &format!("- geo: \"{continent}\"\n  A: {}\n  AAAA: {}\n", region.vip4, region.vip6);
        }
    }
    site.write("places.conf", &places)?;
    let address = format!("127.0.0.1@{}", site.port);
    site.write("knot.conf", &site.fill(include_str!("knot.conf"), &[("@address@", &address)]))?;
    Ok(["-c", &site.path("knot.conf"), "-s", &site.path("run/knot.sock")].map(str::to_owned).to_vec())
}
