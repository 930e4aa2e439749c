//! `gslb-dns proxies`: tells the proxies of a region themselves that they shall drain. All nodes see it in their status, and a
//! pair whose `track` has `drain` lets go of its VIPs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::{StatusCode, Url};
use shared::name::{ProxyName, RegionName};
use shared::topology::{Proxy, Region, Topology};
use tokio::runtime;

use super::{ConfigArg, Failure, local, output, remote};
use crate::probe::describe;

/// What proxies are told.
#[derive(Debug, Subcommand)]
pub(super) enum ProxiesCommand {
    /// Drain: they serve on, but want no new clients.
    Drain(ProxiesArgs),
    /// Drain no more.
    Undrain(ProxiesArgs),
}

#[derive(Args, Debug)]
pub(super) struct ProxiesArgs {
    /// The region.
    region: RegionName,
    /// Only these of its proxies; all where none is named.
    proxies: Vec<ProxyName>,
    /// A file with the token of the proxies: what they have as `admin_token_file`.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    #[command(flatten)]
    config: ConfigArg,
}

/// Tells them, each of them whatever the others answer; fails when one has not done it.
pub(super) fn run(command: &ProxiesCommand) -> Result<(), Failure> {
    let (args, word) = match command {
        ProxiesCommand::Drain(args) => (args, "drain"),
        ProxiesCommand::Undrain(args) => (args, "undrain"),
    };
    let world = local::read(&args.config.config)?;
    let told = chosen(&world.settings.topology, &args.region, &args.proxies)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Impossible(error.to_string()))?;
    let mut failures = Vec::new();
    for proxy in told {
        let (name, url) = (&proxy.name, place(proxy, word)?);
        let request = remote::with_token(remote::client(url.as_str())?.post(url), Some(&args.token_file))?;
        match runtime.block_on(async { request.send().await }) {
            Ok(answer) if answer.status().is_success() => output::print(&format!("{name}: {word}\n"))?,
            Ok(answer) => failures.push(format!("{name}: {}", refused(answer.status()))),
            Err(error) => failures.push(format!("{name}: {}", describe(&error))),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Impossible(failures.join("\n"))) }
}

/// The proxies of `region` with these names; all where there are none.
fn chosen<'t>(topology: &'t Topology, region: &RegionName, names: &[ProxyName]) -> Result<Vec<&'t Proxy>, Failure> {
    let Some(found) = topology.find_region(region).map(|id| topology.region(id)) else {
        let known: Vec<&str> = topology.regions.iter().map(|region| region.name.as_str()).collect();
        let known = known.join(", ");
        return Err(Failure::Mistakes(format!("{region} is not a region: expected one of {known}")));
    };
    if names.is_empty() {
        return Ok(found.proxies.iter().collect());
    }
    names.iter().map(|name| named(found, name)).collect()
}

fn named<'t>(region: &'t Region, name: &ProxyName) -> Result<&'t Proxy, Failure> {
    region.proxies.iter().find(|proxy| proxy.name == *name).ok_or_else(|| {
        let known: Vec<&str> = region.proxies.iter().map(|proxy| proxy.name.as_str()).collect();
        let known = known.join(", ");
        Failure::Mistakes(format!("{name} is not a proxy of {}: expected one of {known}", region.name))
    })
}

/// Beside the status.
fn place(proxy: &Proxy, word: &str) -> Result<Url, Failure> {
    let url = Url::parse(&proxy.status_url).and_then(|url| url.join(word));
    url.map_err(|error| Failure::Mistakes(format!("{}: {}: {error}", proxy.name, proxy.status_url)))
}

fn refused(status: StatusCode) -> String {
    match status {
        StatusCode::UNAUTHORIZED => "the token is wrong: expected what the proxy has as admin_token_file".to_owned(),
        StatusCode::FORBIDDEN => "it has no admin_token_file, without which nobody may tell it to".to_owned(),
        status => format!("HTTP status {}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::load;
    use crate::serve::sample::Site;

    fn topology(site: &Site) -> Topology {
        let world = load(&site.config(), None).world.expect("no mistakes");
        (*world.settings.topology).clone()
    }

    #[test]
    fn proxies_of_the_region_are_told_beside_their_status() {
        let site = Site::new();
        let topology = topology(&site);
        let seoul = RegionName::parse("seoul").expect("a name");
        let told = chosen(&topology, &seoul, &[]).expect("a region");
        assert_eq!(told.len(), 1);
        let url = place(told[0], "drain").expect("a URL");
        assert_eq!(url.as_str(), told[0].status_url.replace("/status", "/drain"));
    }

    #[test]
    fn unknown_names_are_answered_with_those_that_are_known() {
        let site = Site::new();
        let topology = topology(&site);
        let told = |region: &str, proxies: &[&str]| {
            let proxies: Vec<_> = proxies.iter().map(|name| ProxyName::parse(name).expect("a name")).collect();
            let told = chosen(&topology, &RegionName::parse(region).expect("a name"), &proxies);
            told.map(|told| told.len()).map_err(|failure| failure.to_string())
        };
        assert_eq!(told("seoul", &["seoul-1"]), Ok(1));
        let wrong = "mars is not a region: expected one of seoul, virginia";
        assert_eq!(told("mars", &[]), Err(wrong.to_owned()));
        let wrong = "virginia-1 is not a proxy of seoul: expected one of seoul-1";
        assert_eq!(told("seoul", &["virginia-1"]), Err(wrong.to_owned()));
    }
}
