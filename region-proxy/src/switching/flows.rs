//! Connections of servers that are gone: the kernel would go on sending packets there.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::l4::{Fate, Protocol, Service, Way};
use crate::netlink::conntrack::{Connection, Conntrack};

/// A server that may have flows: which service has it, and where it is.
pub(super) type Holder = (String, SocketAddr);

/// Those of `services` whose flows the kernel keeps.
pub(super) fn holders(services: &[Service]) -> BTreeSet<Holder> {
    let of = |service: &Service| {
        let name = service.name.to_string();
        let held = service.backends.iter().filter(|backend| backend.fate != Fate::Gone);
        held.map(|backend| (name.clone(), backend.address)).collect::<Vec<_>>()
    };
    services.iter().filter(|service| is_tracked(service)).flat_map(of).collect()
}

/// Ends the connections to VIPs of `services` that none of their servers has any more.
pub(super) fn end_others(services: &[Service]) -> io::Result<()> {
    let tracked: Vec<&Service> = services.iter().filter(|service| is_tracked(service)).collect();
    if tracked.is_empty() {
        return Ok(());
    }
    let (mut conntrack, mut count) = (Conntrack::open()?, 0);
    for is_v4 in [true, false] {
        if !tracked.iter().any(|service| service.vips.iter().any(|vip| vip.is_ipv4() == is_v4)) {
            continue;
        }
        let mut lost = Vec::new();
        conntrack.each(is_v4, |connection| {
            if tracked.iter().any(|service| is_lost(service, &connection)) {
                lost.push(connection);
            }
        })?;
        for connection in &lost {
            conntrack.end(connection)?;
        }
        count += lost.len();
    }
    if count > 0 {
        tracing::info!(count, "l4: ended the connections of servers that are gone");
    }
    Ok(())
}

/// Whether it is one of `service` and its server is gone.
fn is_lost(service: &Service, connection: &Connection) -> bool {
    let protocols = service.protocols.iter().map(|protocol| match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    });
    let is_of = service.vips.contains(&connection.vip.ip())
        && service.ports.iter().any(|ports| ports.contains(connection.vip.port()))
        && protocols.into_iter().any(|protocol| protocol == connection.protocol);
    is_of && !has(service, connection.server.ip())
}

fn has(service: &Service, server: IpAddr) -> bool {
    service.backends.iter().any(|backend| backend.fate != Fate::Gone && backend.address.ip() == server)
}

fn is_tracked(service: &Service) -> bool {
    matches!(service.way, Way::Nat { .. } | Way::OneArm { .. })
}
