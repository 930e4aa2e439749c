//! NSD: one server process, no limits that would bite. It knows nothing of places.

use super::Site;
use crate::bench::zone::master_file;

pub(super) fn prepare(site: &Site<'_>) -> Result<Vec<String>, String> {
    site.make_folder("db")?;
    site.write("zone", &master_file(site.hosts))?;
    site.write("nsd.conf", &site.fill(include_str!("nsd.conf"), &[]))?;
    Ok(["-d", "-c", &site.path("nsd.conf")].map(str::to_owned).to_vec())
}
