//! What the kernel has counted of L4 services, read when somebody asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::L4;
use crate::l4::Protocol;
use crate::l4::listing::{Listing, Traffic};
use crate::live::Proxy;
use crate::netlink::conntrack::{Connection, Conntrack};

use super::nft;
use super::report::{Figures, L4Report};

/// What was read last, so that however many ask, the kernel is asked but now and then.
#[derive(Debug, Default)]
pub struct Last(Mutex<Option<(Instant, Counted)>>);

/// All that the kernel has counted at one time.
#[derive(Clone, Debug, Default)]
struct Counted {
    listing: Option<Listing>,
    /// Connections that are translated, by service and address of the server; `None`: cannot be read.
    connections: Option<BTreeMap<(String, SocketAddr), u64>>,
}

/// What is told of the L4 services of `proxy`, with their figures; it may wait for the kernel, for as long as nft does.
pub fn report(proxy: &Proxy) -> L4Report {
    let mut report = (*proxy.l4.load()).clone();
    if report.services.is_empty() {
        return report;
    }
    let counted = proxy.l4.last.read(&proxy.live.load().config.l4);
    for service in &mut report.services {
        let Some(l4) = proxy.live.load().config.l4.iter().find(|l4| l4.name.as_str() == service.name).cloned() else {
            continue;
        };
        for server in &mut service.servers {
            let traffic = counted.listing.as_ref().and_then(|listing| listing.backend(&l4.name, &server.server));
            let flows = counted.flows(&l4, server.number, &server.address);
            server.figures = figures(traffic, flows);
        }
        let flows = service.servers.iter().map(|server| server.figures.flows).sum();
        let traffic = counted.listing.as_ref().and_then(|listing| listing.service(&l4.name));
        service.figures = figures(traffic, flows);
    }
    report
}

impl Last {
    fn read(&self, services: &[L4]) -> Counted {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counted)) = &*last
            && at.elapsed() < FRESH
        {
            return counted.clone();
        }
        let counted = Counted::read(services);
        *last = Some((Instant::now(), counted.clone()));
        counted
    }
}

impl Counted {
    fn read(services: &[L4]) -> Self {
        let listed = nft::ask(&["-j", Listing::REQUEST]);
        let listing = listed.map_err(|error| error.to_string());
        let listing = listing.and_then(|text| Listing::parse(&text).map_err(|error| error.to_string()));
        let listing = listing.map_err(|error| tracing::warn!(error, "l4: cannot read what was counted")).ok();
        Self { listing, connections: connections(services).ok() }
    }

    fn flows(&self, l4: &L4, number: u32, address: &str) -> Option<u64> {
        if l4.mode.is_tracked() {
            let address: SocketAddr = address.parse().ok()?;
            let port = if l4.keeps_port() { 0 } else { address.port() };
            let key = (l4.name.to_string(), SocketAddr::new(address.ip(), port));
            return Some(self.connections.as_ref()?.get(&key).copied().unwrap_or_default());
        }
        let mut flows = self.listing.as_ref()?.flows(&l4.name);
        Some(flows.find(|(of, _)| *of == number).map_or(0, |(_, count)| count))
    }
}

fn connections(services: &[L4]) -> std::io::Result<BTreeMap<(String, SocketAddr), u64>> {
    let tracked: Vec<&L4> = services.iter().filter(|l4| l4.mode.is_tracked()).collect();
    let mut counts = BTreeMap::new();
    if tracked.is_empty() {
        return Ok(counts);
    }
    let mut conntrack = Conntrack::open()?;
    for is_v4 in [true, false] {
        conntrack.each(is_v4, |connection| {
            if let Some(l4) = tracked.iter().find(|l4| takes(l4, &connection)) {
                *counts.entry((l4.name.to_string(), server(l4, &connection))).or_default() += 1;
            }
        })?;
    }
    Ok(counts)
}

fn takes(l4: &L4, connection: &Connection) -> bool {
    let protocol = match connection.protocol {
        6 => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    l4.takes(connection.vip, protocol)
}

/// Where the server is: at no port where packets keep the port of the VIP.
fn server(l4: &L4, connection: &Connection) -> SocketAddr {
    match l4.keeps_port() {
        true => SocketAddr::new(connection.server.ip(), 0),
        false => connection.server,
    }
}

fn figures(traffic: Option<Traffic>, flows: Option<u64>) -> Figures {
    Figures { packets: traffic.map(|it| it.packets), bytes: traffic.map(|it| it.bytes), flows }
}

/// The figures of a table are told to everybody who asks within this time.
const FRESH: Duration = Duration::from_secs(1);
