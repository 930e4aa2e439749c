//! Whether what is expected is so: seen by dig and curl where this machine has them, else by the clients built in.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::command::Expectation;
use super::watch::Watches;
use crate::harness::dns::subnet_of;
use crate::harness::http::Request;
use crate::harness::tools;
use crate::harness::world::World;

/// What looks at the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eyes {
    has_dig: bool,
    has_curl: bool,
}

/// What a client is told.
struct Told {
    address: IpAddr,
    ttl: u32,
    scope: u8,
}

impl Eyes {
    pub(super) fn new() -> Self {
        Self { has_dig: tools::find("dig").is_some(), has_curl: tools::find("curl").is_some() }
    }

    /// In words.
    pub(super) fn describe(self) -> String {
        let name = |is_there, tool: &'static str| if is_there { tool } else { "a built-in client" };
        format!("DNS answers are checked by {}, pages by {}", name(self.has_dig, "dig"), name(self.has_curl, "curl"))
    }

    /// Fails with what is so in place of `expected`.
    pub(super) fn check(self, world: &World, watches: &Watches, expected: &Expectation) -> Result<String, String> {
        match expected {
            Expectation::Answer { name, client, regions } => {
                let told = self.ask(world, name, *client)?;
                let region = world.region_at(told.address).unwrap_or("no region");
                claim(regions.iter().any(|wanted| wanted == region), format!("{region} ({})", told.address))
            }
            Expectation::Ttl { name, client, secs } => {
                let ttl = self.ask(world, name, *client)?.ttl;
                claim(ttl == *secs, format!("ttl {ttl}"))
            }
            Expectation::Scope { name, client } => self.check_scope(world, name, *client),
            Expectation::Page { name, client, region } => {
                let told = self.ask(world, name, *client)?;
                let page = self.page(name, told.address)?;
                claim(page.starts_with(&format!("{region}-")), page.lines().next().unwrap_or_default().to_owned())
            }
            Expectation::Verdict { region, name, verdict } => {
                let (is, share) = world.verdict(name, region)?;
                claim(is == *verdict, format!("{is}, {share} %"))
            }
            Expectation::Share { region, name, percent } => {
                let (verdict, is) = world.verdict(name, region)?;
                claim(is == *percent, format!("{is} %, {verdict}"))
            }
            Expectation::Explained { name, client } => {
                let told = self.ask(world, name, *client)?;
                let explained = world.explain(name, *client)?["answer"]["records"][0]["data"].clone();
                claim(
                    explained == told.address.to_string(),
                    format!("explained {explained}, answered {}", told.address),
                )
            }
            Expectation::AllAnswered => {
                let (asked, unanswered) = watches.count();
                claim(unanswered.is_empty() && asked > 0, format!("{asked} asked, unanswered: {unanswered:?}"))
            }
        }
    }

    /// The first and the last address of the scope, and one in the middle, are told the same.
    fn check_scope(self, world: &World, name: &str, client: IpAddr) -> Result<String, String> {
        let told = self.ask(world, name, client)?;
        let net = IpNet::new(client, told.scope).map_err(|error| error.to_string())?.trunc();
        for other in [net.network(), middle(net), net.broadcast()] {
            let also = self.ask(world, name, other)?;
            if (also.address, also.scope) != (told.address, told.scope) {
                return Err(format!(
                    "{client}: {} for {net}, but {other} is told {}/{}",
                    told.address, also.address, also.scope
                ));
            }
        }
        Ok(format!("{} for all of {net}", told.address))
    }

    fn ask(self, world: &World, name: &str, client: IpAddr) -> Result<Told, String> {
        if self.has_dig {
            let subnet = format!("+subnet={}", subnet_of(client)?);
            return read_dig(&tools::dig(world.server(), &[name, "A", &subnet])?);
        }
        let answer = world.dns().ask_for(name, client)?;
        let (address, ttl) = (answer.address()?, answer.ttl().unwrap_or_default());
        Ok(Told { address, ttl, scope: answer.scope().ok_or("no client subnet in the answer")? })
    }

    fn page(self, name: &str, vip: IpAddr) -> Result<String, String> {
        let address = SocketAddr::new(vip, 8080);
        if self.has_curl {
            return tools::curl(&format!("http://{name}:8080/"), name, address);
        }
        let response = Request { host: name, ..Request::get("/") }.send(address)?;
        if response.status == 200 { Ok(response.body) } else { Err(format!("status {}", response.status)) }
    }
}

fn claim(is_so: bool, seen: String) -> Result<String, String> {
    if is_so { Ok(seen) } else { Err(seen) }
}

/// The address, TTL and scope in what `dig` prints.
fn read_dig(text: &str) -> Result<Told, String> {
    let last_part = |line: &str| line.rsplit('/').next().and_then(|scope| scope.trim().parse().ok());
    let scope = text.lines().find(|line| line.starts_with("; CLIENT-SUBNET:")).and_then(last_part);
    let record = |line: &str| {
        let mut words = line.split_whitespace();
        let ttl = words.nth(1)?.parse().ok()?;
        let address = words.nth(2).and_then(|word| IpAddr::from_str(word).ok())?;
        Some((address, ttl))
    };
    let mut records = text.lines().filter(|line| !line.starts_with(';')).filter_map(record);
    match (records.next(), scope) {
        (Some((address, ttl)), Some(scope)) => Ok(Told { address, ttl, scope }),
        _ => Err(format!("no address or no scope in the answer:\n{text}")),
    }
}

fn middle(net: IpNet) -> IpAddr {
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            IpAddr::V4((first + (last - first) / 2).into())
        }
        (first, _) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dig_prints_is_read() {
        let text = ";; OPT PSEUDOSECTION:\n; CLIENT-SUBNET: 1.208.0.0/24/13\n;; ANSWER SECTION:\n\
            www.gslb.test.\t\t20\tIN\tA\t127.0.1.10\n";
        let told = read_dig(text).expect("an answer");
        assert_eq!((told.address, told.ttl, told.scope), (IpAddr::from([127, 0, 1, 10]), 20, 13));
    }
}
