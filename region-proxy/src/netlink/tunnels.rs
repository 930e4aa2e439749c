//! Interfaces that put packets into others, and the routes that say where these go.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoIpTunnel, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwEnCapType,
    RouteLwTunnelEncap, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{Netlink, family, unless};

/// How a packet is put into another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Encapsulation {
    /// RFC 7348, to this UDP port.
    Vxlan {
        /// Of the server.
        port: u16,
    },
    /// RFC 2003.
    IpIp,
}

/// The way of one VIP to one server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Route {
    /// The table that it is in.
    pub table: u32,
    /// Where packets are for.
    pub vip: IpAddr,
    /// Where they are sent, of the same family.
    pub server: IpAddr,
    /// From where; `None`: the kernel chooses.
    pub local: Option<IpAddr>,
    /// The VXLAN id.
    pub id: u32,
}

impl Netlink {
    /// Makes an interface `name` that puts packets into others as their routes say; it is down. Fine where it is there.
    pub fn add_tunnel(&mut self, name: &str, kind: Encapsulation, mtu: u32) -> io::Result<()> {
        let (kind, data) = match kind {
            Encapsulation::Vxlan { port } => {
                let data = vec![InfoVxlan::CollectMetadata(true), InfoVxlan::Port(port), InfoVxlan::Learning(false)];
                (InfoKind::Vxlan, InfoData::Vxlan(data))
            }
            Encapsulation::IpIp => (InfoKind::IpIp, InfoData::IpTunnel(vec![InfoIpTunnel::CollectMetadata])),
        };
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
        ];
        unless(self.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL), nix::libc::EEXIST)
    }

    /// Sets the longest packet that the interface numbered `index` takes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.ask(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// The names of all interfaces.
    pub fn link_names(&mut self) -> io::Result<Vec<String>> {
        let found = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let name = |message| {
            let RouteNetlinkMessage::NewLink(link) = message else { return None };
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
        };
        Ok(found.into_iter().filter_map(name).collect())
    }

    /// Has `route` over the interface numbered `index`, in the place of any other to the same VIP in its table.
    pub fn set_route(&mut self, index: u32, route: Route) -> io::Result<()> {
        let mut message = destination(route.table, route.vip);
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if route.vip.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(index));
        let kind = if route.server.is_ipv4() { RouteLwEnCapType::Ip } else { RouteLwEnCapType::Ip6 };
        message.attributes.extend([RouteAttribute::EncapType(kind), RouteAttribute::Encap(encapsulation(route))]);
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// The VIPs of one family that have a route in a table that `is_own`, with that.
    pub fn routes(&mut self, is_v4: bool, is_own: impl Fn(u32) -> bool) -> io::Result<Vec<(u32, IpAddr)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(is_v4);
        let found = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        let read = |message| if let RouteNetlinkMessage::NewRoute(route) = message { read(&route) } else { None };
        Ok(found.into_iter().filter_map(read).filter(|(table, _)| is_own(*table)).collect())
    }

    /// Takes the route to `vip` out of `table`; fine where there is none.
    pub fn remove_route(&mut self, table: u32, vip: IpAddr) -> io::Result<()> {
        let removed = self.ask(RouteNetlinkMessage::DelRoute(destination(table, vip)), 0);
        unless(removed, nix::libc::ESRCH)
    }
}

fn destination(table: u32, vip: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(vip.is_ipv4());
    message.header.destination_prefix_length = if vip.is_ipv4() { 32 } else { 128 };
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    // Whatever it is like.
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![RouteAttribute::Destination(vip.into()), RouteAttribute::Table(table)];
    message
}

/// Addresses of a server of either family; with IPv6 a checksum, since receivers want one (RFC 6935).
fn encapsulation(route: Route) -> Vec<RouteLwTunnelEncap> {
    match route.server {
        IpAddr::V4(server) => {
            let mut parts = vec![RouteIpTunnel::Id(route.id.into()), RouteIpTunnel::Destination(server)];
            if let Some(IpAddr::V4(local)) = route.local {
                parts.push(RouteIpTunnel::Source(local));
            }
            parts.into_iter().map(RouteLwTunnelEncap::Ip).collect()
        }
        IpAddr::V6(server) => {
            let mut parts = vec![RouteIp6Tunnel::Id(route.id.into()), RouteIp6Tunnel::Destination(server)];
            if let Some(IpAddr::V6(local)) = route.local {
                parts.push(RouteIp6Tunnel::Source(local));
            }
            parts.push(RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum));
            parts.into_iter().map(RouteLwTunnelEncap::Ip6).collect()
        }
    }
}

fn read(route: &RouteMessage) -> Option<(u32, IpAddr)> {
    let mut table = u32::from(route.header.table);
    let mut vip = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => vip = Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => vip = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    Some((table, vip?))
}
