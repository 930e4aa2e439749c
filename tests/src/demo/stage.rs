//! The world of the demo and what can be done to it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use super::command::Command;
use crate::harness::http::Request;
use crate::harness::process::build_programs;
use crate::harness::world::{REGIONS, World};

/// The world of the demo.
#[derive(Debug)]
pub(super) struct Stage {
    /// Everything that runs.
    pub(super) world: World,
}

impl Stage {
    /// Builds and starts everything; `say` hears how it goes.
    pub(super) fn start(say: impl Fn(&str)) -> Result<Self, String> {
        say("bringing the programs up to date (cargo build) …");
        build_programs()?;
        let has_ipv6 = has_ipv6();
        if !has_ipv6 {
            say("this machine has no ::1: gslb-dns answers at IPv4 only");
        }
        check_ports(has_ipv6)?;
        let mut world = World::shipped(has_ipv6)?;
        say("starting 6 origin servers, 6 region-proxies and gslb-dns …");
        world.start_regions()?;
        world.start_node()?;
        world.wait_until_serving(Duration::from_secs(20))?;
        Ok(Self { world })
    }

    /// Does what is not an expectation; gives what is to be printed.
    pub(super) fn act(&mut self, command: &Command) -> Result<String, String> {
        let world = &mut self.world;
        match command {
            Command::Down(region) => world.kill_proxies(region).map(|()| format!("{region}: both proxies killed")),
            Command::Freeze(region) => world.freeze_proxies(region).map(|()| format!("{region}: both proxies frozen")),
            Command::Up(region) => {
                world.thaw_proxies(region)?;
                world.start_proxies(region)?;
                Ok(format!("{region}: both proxies run"))
            }
            Command::Drain(region, is_on) => {
                world.drain_proxies(region, *is_on)?;
                Ok(format!("{region}: both proxies {}", if *is_on { "drain" } else { "drain no more" }))
            }
            Command::Explain(name, client) => {
                let path = format!("/explain?name={name}&client={client}&format=text");
                Request::get(&path).send(world.admin()).map(|response| response.body)
            }
            _ => Ok(String::new()),
        }
    }
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Fails with every address of the demo that somebody else has.
fn check_ports(has_ipv6: bool) -> Result<(), String> {
    let mut addresses: Vec<SocketAddr> =
        vec![SocketAddr::from(([127, 0, 0, 1], 5300)), SocketAddr::from(([127, 0, 0, 1], 5380))];
    if has_ipv6 {
        addresses.push(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 5300)));
    }
    for (_, number) in REGIONS {
        let of_region = [(10, 8080), (11, 8081), (12, 8081), (21, 9000), (22, 9000)];
        addresses.extend(of_region.map(|(host, port)| SocketAddr::from(([127, 0, number, host], port))));
    }
    let is_dns = |address: &SocketAddr| address.port() == 5300;
    let taken = |address: &SocketAddr| {
        let udp = if is_dns(address) { UdpSocket::bind(address).err() } else { None };
        let error = TcpListener::bind(address).err().or(udp)?;
        Some(format!("  {address}: {error}"))
    };
    let taken: Vec<String> = addresses.iter().filter_map(taken).collect();
    if taken.is_empty() {
        return Ok(());
    }
    let list = taken.join("\n");
    Err(format!("these addresses cannot be had; does another demo run? (`ss -lntup` shows who listens)\n{list}"))
}
