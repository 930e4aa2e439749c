//! The ways into tunnels: interfaces, routes in tables of their own, and rules that lead packets with a mark there.
//!
//! ```text
//! 1: from all fwmark NUMBER lookup NUMBER      VIP dev rp-vx4789 encap ip id ID dst SERVER
//! 2: from all lookup local                     moved here from 0: the VIP is an address of this machine too
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::plan::Numbers;
use crate::config::{Tunnel, TunnelKind};
use crate::l4;
use crate::netlink::{Encapsulation, Netlink, Route, Rule};
use crate::vrrp::frame::Mac;

/// All that is to be there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Ways {
    /// Interfaces by name, with what is said inside which MTU.
    devices: BTreeMap<String, (Encapsulation, u32)>,
    /// With the interface of each.
    routes: BTreeSet<(String, Route)>,
}

impl Ways {
    /// Adds those of a service.
    pub(super) fn add(&mut self, tunnel: &Tunnel, mtu: u16, service: &l4::Service) {
        let (name, kind, id) = device(tunnel.kind);
        let device = self.devices.entry(name.clone()).or_insert((kind, mtu.into()));
        device.1 = device.1.min(mtu.into());
        for backend in service.backends.iter().filter(|backend| backend.fate != l4::Fate::Gone) {
            for vip in &service.vips {
                let (table, server) = (backend.number.get(), backend.address.ip());
                let route = Route { table, vip: *vip, server, local: Some(tunnel.local), id };
                self.routes.insert((name.clone(), route));
            }
        }
    }

    /// Whether the kernel can have the interfaces that are not there yet; makes none of them.
    pub(super) fn probe(&self, netlink: &mut Netlink) -> io::Result<()> {
        for (name, (kind, mtu)) in &self.devices {
            if netlink.link(name)?.is_some() {
                continue;
            }
            netlink.add_tunnel(PROBE, *kind, *mtu).map_err(|error| cannot_make(name, *kind, &error))?;
            if let Some(link) = netlink.link(PROBE)? {
                netlink.remove_link(link.index)?;
            }
        }
        Ok(())
    }

    /// Has all of it; the first step, before packets are marked.
    pub(super) fn open(&self, netlink: &mut Netlink) -> io::Result<()> {
        for (name, (kind, mtu)) in &self.devices {
            netlink.add_tunnel(name, *kind, *mtu).map_err(|error| cannot_make(name, *kind, &error))?;
            let link = netlink.link(name)?.ok_or(io::ErrorKind::NotFound)?;
            netlink.set_mtu(link.index, *mtu)?;
            netlink.set_up(link.index, true)?;
            let routes = self.routes.iter().filter(|(device, _)| device == name);
            for (_, route) in routes {
                if matches!(kind, Encapsulation::Vxlan { .. }) {
                    netlink.set_neighbour(link.index, route.vip, SERVER_MAC)?;
                }
                netlink.set_route(link.index, *route)?;
            }
        }
        for is_v4 in [true, false] {
            if !self.has(is_v4) {
                continue;
            }
            let present = netlink.rules(is_v4)?;
            for rule in self.rules(is_v4).into_iter().filter(|rule| !present.contains(rule)) {
                netlink.add_rule(is_v4, rule)?;
            }
            move_local(netlink, is_v4, &present, LOCAL_FIRST, LOCAL_LATER)?;
        }
        Ok(())
    }

    /// Takes away what was made and is not among it; the last step, when no packet is marked for it.
    pub(super) fn tidy(&self, netlink: &mut Netlink) -> io::Result<()> {
        for is_v4 in [true, false] {
            let (present, wanted) = (netlink.rules(is_v4)?, self.rules(is_v4));
            if !self.has(is_v4) && present.contains(&LOCAL_LATER) {
                move_local(netlink, is_v4, &present, LOCAL_LATER, LOCAL_FIRST)?;
            }
            let is_own = |rule: &&Rule| rule.preference == PREFERENCE && Numbers::is_one(rule.table);
            for rule in present.iter().filter(is_own).filter(|rule| !wanted.contains(rule)) {
                netlink.remove_rule(is_v4, *rule)?;
            }
            let wanted: BTreeSet<_> = self.routes.iter().map(|(_, route)| (route.table, route.vip)).collect();
            for (table, vip) in netlink.routes(is_v4, Numbers::is_one)? {
                if !wanted.contains(&(table, vip)) {
                    netlink.remove_route(table, vip)?;
                }
            }
        }
        for name in netlink.link_names()? {
            if is_own_device(&name)
                && !self.devices.contains_key(&name)
                && let Some(link) = netlink.link(&name)?
            {
                netlink.remove_link(link.index)?;
            }
        }
        Ok(())
    }

    fn has(&self, is_v4: bool) -> bool {
        self.routes.iter().any(|(_, route)| route.vip.is_ipv4() == is_v4)
    }

    fn rules(&self, is_v4: bool) -> BTreeSet<Rule> {
        let routes = self.routes.iter().filter(|(_, route)| route.vip.is_ipv4() == is_v4);
        routes
            .map(|(_, Route { table, .. })| Rule { preference: PREFERENCE, mark: Some(*table), table: *table })
            .collect()
    }
}

/// Octets that a tunnel puts around each packet.
pub(super) fn overhead(tunnel: &Tunnel) -> u32 {
    let ip = if tunnel.local.is_ipv4() { 20 } else { 40 };
    match tunnel.kind {
        TunnelKind::Vxlan { .. } => ip + 8 + 8 + 14,
        TunnelKind::Ipip => ip,
    }
}

/// The link that `address` of this machine is on, with its MTU.
pub(super) fn mtu_at(netlink: &mut Netlink, address: IpAddr) -> io::Result<Option<u32>> {
    for name in netlink.link_names()? {
        let Some(link) = netlink.link(&name)? else { continue };
        if netlink.addresses(link.index, address.is_ipv4())?.contains(&address) {
            return Ok(Some(link.mtu));
        }
    }
    Ok(None)
}

fn device(kind: TunnelKind) -> (String, Encapsulation, u32) {
    match kind {
        TunnelKind::Vxlan { id, port } => (format!("{VXLAN}{port}"), Encapsulation::Vxlan { port }, id),
        TunnelKind::Ipip => (IPIP.to_owned(), Encapsulation::IpIp, 0),
    }
}

fn is_own_device(name: &str) -> bool {
    let port = name.strip_prefix(VXLAN);
    [IPIP, PROBE].contains(&name)
        || port.is_some_and(|port| !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit()))
}

/// Never without one: packets for this machine arrive at all times.
fn move_local(netlink: &mut Netlink, is_v4: bool, present: &[Rule], from: Rule, to: Rule) -> io::Result<()> {
    if !present.contains(&from) {
        // Somebody else has moved it: expected to be behind where this would put it.
        return Ok(());
    }
    netlink.add_rule(is_v4, to)?;
    netlink.remove_rule(is_v4, from)
}

fn cannot_make(name: &str, kind: Encapsulation, error: &io::Error) -> io::Error {
    let what = match (kind, error.raw_os_error()) {
        (Encapsulation::IpIp, Some(nix::libc::EOPNOTSUPP)) => {
            "this kernel has no IP in IP (module ipip): expected `kind = \"vxlan\"` in the tunnel".to_owned()
        }
        (Encapsulation::Vxlan { .. }, Some(nix::libc::EOPNOTSUPP)) => {
            "this kernel has no VXLAN: expected the module vxlan".to_owned()
        }
        (Encapsulation::Vxlan { port }, Some(nix::libc::EADDRINUSE)) => {
            format!("UDP port {port} is in use by another tunnel: expected another `port` here and on the servers")
        }
        (_, Some(nix::libc::EPERM)) => "not allowed: expected to be started as root or with CAP_NET_ADMIN".to_owned(),
        _ => error.to_string(),
    };
    io::Error::other(format!("cannot make the interface {name}: {what}"))
}

/// That of the VXLAN interface of every server: only one is at the other end of each tunnel.
pub const SERVER_MAC: Mac = Mac([0x02, 0x52, 0x50, 0, 0, 1]);

const VXLAN: &str = "rp-vx";
const IPIP: &str = "rp-ipip";
const PROBE: &str = "rp-probe";
const PREFERENCE: u32 = 1;
const LOCAL_FIRST: Rule = Rule { preference: 0, mark: None, table: Rule::LOCAL_TABLE };
const LOCAL_LATER: Rule = Rule { preference: 2, ..LOCAL_FIRST };
