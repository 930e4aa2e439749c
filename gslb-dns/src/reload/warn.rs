//! What is allowed in the settings, but seldom meant.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use shared::problem::Problem;
use shared::topology::{Policy, RegionId, Service, Steering, Topology};

use crate::geo::GeoData;
use crate::open_files;
use crate::secret_file::Exposed;
use crate::settings::{GeoSettings, KeyLines, ServerSettings, Settings, service_key};

/// What an operator should look at in `settings`, whose keys stand at `lines`.
pub(super) fn of_settings(settings: &Settings, lines: &KeyLines, geo: &GeoData) -> Vec<Problem> {
    let topology = &settings.topology;
    let mut found: Vec<Problem> = unsteered(topology, &settings.geo, lines, geo).into_iter().collect();
    found.extend(shared_vips(topology, lines));
    for service in topology.services.iter().filter(|service| service.ttl == 0) {
        let key = format!("{}.ttl", service_key(&service.name));
        let what = "0 seconds: resolvers ask for every client, and some keep an answer for as long as they like: expected \
                    at least 1, usually 20 to 60";
        found.push(lines.problem(&key, &[&key], what));
    }
    for service in topology.services.iter().filter(|service| service.ttl > TTL_USUAL_MAX) {
        let key = format!("{}.ttl", service_key(&service.name));
        let what =
            format!("{} seconds is more than a week: clients would stay with a dead region for as long", service.ttl);
        found.push(lines.problem(&key, &[&key], what));
    }
    found
}

/// The same in the files that stand beside the zones, of which some are `exposed`; relative paths start at `folder`.
pub(super) fn of_files(
    server: &ServerSettings,
    folder: &Path,
    exposed: &[(&str, PathBuf, Exposed)],
    lines: &KeyLines,
) -> Vec<Problem> {
    let warn = |(key, path, exposed): &(&str, PathBuf, Exposed)| {
        lines.problem(key, &[key, "server.cookies"], format!("{} {exposed}", path.display()))
    };
    let mut found: Vec<Problem> = exposed.iter().map(warn).collect();
    let state_folder = server.state_file.as_ref().map(|path| folder.join(path));
    let state_folder = state_folder.as_deref().and_then(Path::parent).filter(|folder| *folder != Path::new(""));
    if let Some(missing) = state_folder.filter(|folder| !folder.is_dir()) {
        let what = format!("there is no folder {}: verdicts would not survive a restart; create it", missing.display());
        found.push(lines.problem("server.state_file", &["server.state_file"], what));
    }
    found.extend(open_files::most().and_then(|files| too_many_connections(server, files, lines)));
    found
}

/// More connections than this process may have of `files`.
fn too_many_connections(server: &ServerSettings, files: u64, lines: &KeyLines) -> Option<Problem> {
    let (asked, most) = (server.tcp.connections, open_files::connections(files));
    let key = "server.tcp.connections";
    let what = || {
        format!(
            "{asked} connections, but a process may open {files} files here, so that there are {most} at most: raise \
             that limit (LimitNOFILE in systemd, ulimit -Hn) or lower this one"
        )
    };
    (asked > most).then(|| lines.problem(key, &[key, "server.tcp", "server"], what()))
}

/// Services by nearness where nobody is known to be near anything.
fn unsteered(topology: &Topology, geo: &GeoSettings, lines: &KeyLines, data: &GeoData) -> Option<Problem> {
    let is_by_distance = |service: &&Service| measures(topology.steering(service));
    let services: Vec<&str> =
        topology.services.iter().filter(is_by_distance).map(|service| service.name.as_str()).collect();
    if services.is_empty() || data.knows_coordinates() {
        return None;
    }
    let (key, why) = match (&geo.database, &geo.countries) {
        (None, _) => (
            "geo.database",
            "no database tells where clients are: set geo.database, and geo.countries = \"…/countries.csv\" where it \
             knows no more than countries",
        ),
        (Some(_), None) => (
            "geo.countries",
            "the database tells countries, and nothing where these are: set geo.countries = \"…/countries.csv\"",
        ),
        (Some(_), Some(_)) => (
            "geo.countries",
            "the database tells no coordinates and no country that this file has: expected the countries of the database",
        ),
    };
    let shown = services.iter().take(SERVICES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    let more = services.len().saturating_sub(SERVICES_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what =
        format!("`nearest` finds nobody near anything, and orders regions by weight and name ({shown}{more}): {why}");
    Some(lines.problem(key, &[key, "geo.database", "geo", "services"], what))
}

/// Whether distance decides anything: two regions in one tier.
fn measures(steering: &Steering) -> bool {
    let mut tiers: Vec<u8> = steering.members.iter().map(|member| member.tier).collect();
    tiers.sort_unstable();
    steering.policy == Policy::Nearest && tiers.windows(2).any(|pair| pair[0] == pair[1])
}

/// Addresses that two regions have: a failover from the one to the other would move nobody.
fn shared_vips(topology: &Topology, lines: &KeyLines) -> Vec<Problem> {
    let mut owners: HashMap<IpAddr, RegionId> = HashMap::new();
    let mut found = Vec::new();
    let mut claim = |vip: IpAddr, region: RegionId, key: String| {
        let owner = *owners.entry(vip).or_insert(region);
        if owner != region {
            let (owner, region) = (&topology.region(owner).name, &topology.region(region).name);
            let what = format!("{vip} of {region} is a VIP of {owner} too: a failover between them moves nobody");
            found.push(lines.problem(&key, &[&key], what));
        }
    };
    for (at, region) in topology.regions.iter().enumerate() {
        for &vip in &region.vips {
            claim(vip, RegionId(at as u16), format!("regions.{}.vips", region.name));
        }
    }
    for service in &topology.services {
        for (member, vips) in topology.steering(service).members.iter().zip(&service.vips) {
            // Those of the region have had their turn.
            if *vips != topology.region(member.region).vips {
                vips.iter().for_each(|&vip| claim(vip, member.region, format!("{}.vips", service_key(&service.name))));
            }
        }
    }
    found
}

/// A week, in seconds.
const TTL_USUAL_MAX: u32 = 604_800;
const SERVICES_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Outline;

    #[test]
    fn more_connections_than_files_are_pointed_at() {
        let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[server.tcp]\nconnections = 5000\n\
                    [[zones]]\nname = \"example.com\"\nfile = \"zone\"\n\
                    [regions.seoul]\ncoordinates = [37.57, 126.98]\nvips = [\"192.0.2.1\"]\n\
                    proxies = { seoul-1 = \"http://192.0.2.11:8081/status\" }\n[services.\"www.example.com\"]\n";
        let (Outline { lines, .. }, settings) = Settings::parse_with_outline("t", text);
        let server = settings.expect("no mistakes").server;
        let warning = too_many_connections(&server, 4096, &lines).expect("3072 is the most").to_string();
        assert!(warning.starts_with("t:4: server.tcp.connections: 5000") && warning.contains("3072"), "{warning}");
        assert_eq!(too_many_connections(&server, 524_288, &lines), None);
    }
}
