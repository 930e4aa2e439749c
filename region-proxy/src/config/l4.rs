//! `[l4.NAME]`: what the kernel passes on by itself, as the rules of [`crate::l4`] tell it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shared::name::{OwnerName, ServerName};
use shared::settings::{Table, Value};

use super::{ServiceConfig, known};
use crate::l4::{Backend, Balance, Flows, Interface, Mac, Name, Pool, Ports, Protocol, Service, Way};

/// One L4 service: flows to its VIPs go to the servers of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct L4 {
    /// What log, status, metrics and rules call it.
    pub name: Name,
    /// How packets come to servers.
    pub mode: Mode,
    /// Whose servers they are.
    pub service: OwnerName,
    /// Where clients send them; never empty.
    pub vips: Vec<IpAddr>,
    /// To which ports; never empty, and none twice.
    pub ports: Vec<Ports>,
    /// By which protocols; never empty.
    pub protocols: Vec<Protocol>,
    /// How a server is chosen.
    pub balance: Balance,
    /// Where clients' packets come in; always there by [`Mode::Dsr`].
    pub interface: Option<Interface>,
    /// What servers see by [`Mode::OneArm`], one pool a family; else empty.
    pub snat: Vec<Pool>,
    /// What is remembered of flows by [`Mode::Dsr`] and [`Mode::Tunnel`].
    pub flows: Flows,
    /// The tunnel by [`Mode::Tunnel`]; else `None`.
    pub tunnel: Option<Tunnel>,
}

/// How packets come to servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// With another destination, through this machine both ways.
    Nat,
    /// With another source besides.
    OneArm,
    /// With another Ethernet address; answers go straight to clients.
    Dsr,
    /// Inside other packets; answers go straight to clients.
    Tunnel,
}

impl Mode {
    /// Whether the kernel tracks its flows as connections that it translates.
    pub fn is_tracked(self) -> bool {
        matches!(self, Self::Nat | Self::OneArm)
    }
}

/// The packets around packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tunnel {
    /// What they are.
    pub kind: TunnelKind,
    /// Where they come from: of the family of all servers.
    pub local: IpAddr,
}

/// What packets around packets are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan {
        /// Its network identifier: 1 to 2^24 - 1.
        id: u32,
        /// The UDP port of servers.
        port: u16,
    },
    /// IP in IP (RFC 2003), where the kernel has it.
    Ipip,
}

impl L4 {
    /// How its part of the rules comes about, with `backends` as they are now.
    ///
    /// `mac` is that of its interface, without which there is nothing to do by [`Mode::Dsr`]: `None`. `mtu` is that of its
    /// tunnel, and counts by [`Mode::Tunnel`] alone.
    pub fn plan(&self, backends: Vec<Backend>, mac: Option<Mac>, mtu: u16) -> Option<Service> {
        let (interface, flows) = (self.interface.clone(), self.flows);
        let way = match self.mode {
            Mode::Nat => Way::Nat { interface },
            Mode::OneArm => Way::OneArm { interface, pools: self.snat.clone() },
            Mode::Dsr => Way::Dsr { interface: interface?, mac: mac?, flows },
            Mode::Tunnel => Way::Tunnel { interface, mtu, flows },
        };
        Some(Service {
            name: self.name.clone(),
            way,
            vips: self.vips.clone(),
            ports: self.ports.clone(),
            protocols: self.protocols.clone(),
            balance: self.balance,
            backends,
        })
    }

    /// Whether a packet to `address` is one of its flows.
    pub fn takes(&self, address: SocketAddr, protocol: Protocol) -> bool {
        let has_port = self.ports.iter().any(|ports| ports.contains(address.port()));
        let is_here =
            |vip: &IpAddr| *vip == address.ip() || address.ip().is_unspecified() && vip.is_ipv4() == address.is_ipv4();
        has_port && self.protocols.contains(&protocol) && self.vips.iter().any(is_here)
    }

    /// Whether packets come to servers at the port of the VIP: there are several, or their destination is not rewritten.
    pub fn keeps_port(&self) -> bool {
        !self.mode.is_tracked() || !matches!(self.ports[..], [ports] if ports.is_one())
    }

    /// An address and protocol whose flows both would take, with the ports of one.
    fn clash(&self, other: &Self) -> Option<(IpAddr, Ports, Protocol)> {
        let vip = self.vips.iter().find(|vip| other.vips.contains(vip))?;
        let protocol = self.protocols.iter().find(|protocol| other.protocols.contains(protocol))?;
        let is_shared = |ports: &&Ports| other.ports.iter().any(|others| others.overlaps(**ports));
        Some((*vip, *self.ports.iter().find(is_shared)?, *protocol))
    }
}

/// Reads all `[l4.NAME]`, which lead to some of `services`, beside listeners on `own`.
pub(super) fn l4(root: &Table<'_>, own: &[SocketAddr], services: &BTreeMap<OwnerName, ServiceConfig>) -> Vec<L4> {
    let mut all: Vec<L4> = Vec::new();
    for (name, table) in root.tables("l4") {
        let Some(one) = one(name, &table, services) else { continue };
        for address in own.iter().filter(|address| one.takes(**address, Protocol::Tcp)) {
            table.problem("ports", format_args!("{address} is listened on by the proxy: expected it in one of both"));
        }
        for other in &all {
            if let Some((vip, ports, protocol)) = one.clash(other) {
                let what = format_args!("{ports} of {vip} by {}", protocol.as_str());
                table.problem("ports", format_args!("{what}: [l4.{}] has it already", other.name));
            }
        }
        all.push(one);
    }
    all
}

/// `None` only after a problem was reported.
fn one(name: &str, table: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<L4> {
    let name = Name::parse(name).or_else(|| {
        table.problem(
            "",
            format_args!("{name:?} is not a name: expected 1 to {} letters, digits, - and _", Name::LEN_MAX),
        );
        None
    });
    let mode = table.required("mode", MODES).and_then(|value| mode(&value));
    let service = table.required("service", "the name of a service").and_then(|value| known(&value, services));
    let vips = table.required("vips", "a list of IP addresses").and_then(|value| vips(&value));
    let ports = table.required("ports", PORTS).and_then(|value| list(&value, PORTS, ports));
    let protocols = table.required("protocols", PROTOCOLS).and_then(|value| list(&value, PROTOCOLS, protocol));
    let balances = [
        ("maglev", Balance::Maglev),
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("source", Balance::Source),
    ];
    let balance = table.value("balance").and_then(|value| value.choice(&balances)).unwrap_or_default();
    let interface = table.value("interface").and_then(|value| value.parsed_as(INTERFACE, Interface::parse));
    let snat = table.value("snat").and_then(|value| list(&value, POOLS, pool)).unwrap_or_default();
    let flows = Flows {
        most: table.value("flows").and_then(|value| value.integer(1024..=4_194_304)).map_or(65_536, |most| most as u32),
        idle: table
            .value("flow_idle")
            .and_then(|value| value.duration(Duration::from_secs(1)..=Duration::from_secs(86_400)))
            .unwrap_or(Duration::from_secs(300)),
    };
    let tunnel = table.table("tunnel").and_then(|table| tunnel(&table));
    let one = L4 {
        name: name?,
        mode: mode?,
        service: service?,
        vips: vips?,
        ports: ports?,
        protocols: protocols?,
        balance,
        interface,
        snat,
        flows,
        tunnel,
    };
    check_mode(table, &one);
    let service = services.get(&one.service)?;
    check_families(table, &one, service);
    check_addresses(table, &one, service);
    Some(one)
}

/// What `one` must and must not say by its mode.
fn check_mode(table: &Table<'_>, one: &L4) {
    let keys: [(&str, &[Mode], &[Mode], &str); 5] = [
        ("interface", &ALL, &[Mode::Dsr], "the name of the interface where clients' packets come in"),
        ("snat", &[Mode::OneArm], &[Mode::OneArm], POOLS),
        ("tunnel", &[Mode::Tunnel], &[Mode::Tunnel], TUNNEL),
        ("flows", &[Mode::Dsr, Mode::Tunnel], &[], ""),
        ("flow_idle", &[Mode::Dsr, Mode::Tunnel], &[], ""),
    ];
    for (key, may, must, expected) in keys {
        match table.value(key).is_some() {
            true if !may.contains(&one.mode) => {
                table.problem(key, format_args!("of no use in this mode: expected none"))
            }
            false if must.contains(&one.mode) => table.problem(key, format_args!("missing: expected {expected}")),
            _ => {}
        }
    }
    let families = [("IPv4", true), ("IPv6", false)];
    for (family, is_v4) in families.iter().filter(|_| one.mode == Mode::OneArm && !one.snat.is_empty()) {
        let pools = one.snat.iter().filter(|pool| pool.first.is_ipv4() == *is_v4).count();
        if pools != usize::from(one.vips.iter().any(|vip| vip.is_ipv4() == *is_v4)) {
            table.problem("snat", format_args!("{pools} of {family}: expected one for each family of `vips`"));
        }
    }
}

/// Whether there are servers for each family of its VIPs.
fn check_families(table: &Table<'_>, one: &L4, service: &ServiceConfig) {
    let has = |is_v4: bool| service.servers.values().any(|server| server.address.is_ipv4() == is_v4);
    if let Some(tunnel) = one.tunnel {
        for (name, server) in &service.servers {
            if server.address.is_ipv4() != tunnel.local.is_ipv4() {
                let what = format_args!("{name} of {} is not of the family of {}", one.service, tunnel.local);
                table.problem("tunnel", format_args!("{what}: expected servers of the family of `local` alone"));
            }
        }
        return;
    }
    for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
        if one.vips.iter().any(|vip| vip.is_ipv4() == is_v4) && !has(is_v4) {
            let what = format_args!("{} has no server with an {family} address", one.service);
            table.problem("vips", format_args!("{what}: expected one, or no such VIP"));
        }
    }
}

/// Whether its servers can be told apart: only where a flow gets the port of its server too they may share an address.
fn check_addresses(table: &Table<'_>, one: &L4, service: &ServiceConfig) {
    if !one.keeps_port() {
        return;
    }
    let mut seen: BTreeMap<IpAddr, &ServerName> = BTreeMap::new();
    for (name, server) in &service.servers {
        if let Some(other) = seen.insert(server.address.ip(), name) {
            let what = format_args!("{other} and {name} of {} have one address", one.service);
            table.problem("service", format_args!("{what}, and flows keep their port: expected one each"));
        }
    }
}

fn mode(value: &Value<'_>) -> Option<Mode> {
    value.choice(&[("nat", Mode::Nat), ("one-arm", Mode::OneArm), ("dsr", Mode::Dsr), ("tunnel", Mode::Tunnel)])
}

fn vips(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    let vips = super::vips(value);
    if vips.is_empty() && value.is_list() && value.items("").is_some_and(|items| items.is_empty()) {
        value.problem("empty: expected at least one address");
    }
    if vips.len() > VIPS_MAX {
        value.problem(format_args!("{} addresses: expected at most {VIPS_MAX}", vips.len()));
    }
    Some(vips).filter(|vips| !vips.is_empty())
}

/// The items of `value`, each as `read` has it; at least one, and none that has something in common with another.
fn list<T: Alike>(value: &Value<'_>, expected: &str, read: fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let items = value.items(expected)?;
    if items.is_empty() {
        value.problem(format_args!("empty: expected {expected}"));
    }
    if items.len() > ITEMS_MAX {
        value.problem(format_args!("{} items: expected at most {ITEMS_MAX}", items.len()));
    }
    let mut all: Vec<T> = Vec::with_capacity(items.len());
    for item in items {
        match read(&item) {
            Some(one) if all.iter().any(|other| one.is_like(other)) => item.problem("is there already"),
            Some(one) => all.push(one),
            None => {}
        }
    }
    Some(all).filter(|all| !all.is_empty())
}

/// What cannot stand beside its like in one list.
trait Alike {
    fn is_like(&self, other: &Self) -> bool;
}

impl Alike for Ports {
    fn is_like(&self, other: &Self) -> bool {
        self.overlaps(*other)
    }
}

impl Alike for Protocol {
    fn is_like(&self, other: &Self) -> bool {
        self == other
    }
}

impl Alike for Pool {
    fn is_like(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

fn ports(value: &Value<'_>) -> Option<Ports> {
    if !value.is_text() {
        return value.integer(1..=65_535).map(|port| Ports { first: port as u16, last: port as u16 });
    }
    let range = |text: &str| {
        let (first, last) = text.split_once('-')?;
        let ports = Ports { first: port(first)?, last: port(last)? };
        (ports.first < ports.last).then_some(ports)
    };
    value.parsed_as("a range of ports, such as \"8000-8099\"", range)
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

fn protocol(value: &Value<'_>) -> Option<Protocol> {
    value.choice(&[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)])
}

fn pool(value: &Value<'_>) -> Option<Pool> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let pool = Pool { first: first.parse().ok()?, last: last.parse().ok()? };
        let is_fit = |address: IpAddr| !address.is_unspecified() && !address.is_multicast();
        let is_range = pool.first.is_ipv4() == pool.last.is_ipv4() && pool.first <= pool.last;
        (is_range && is_fit(pool.first) && is_fit(pool.last)).then_some(pool)
    };
    value.parsed_as("an address or a range of them, such as \"192.0.2.200-192.0.2.203\"", range)
}

fn tunnel(table: &Table<'_>) -> Option<Tunnel> {
    let is_ipip = table.required("kind", "\"vxlan\" or \"ipip\"");
    let is_ipip = is_ipip.and_then(|value| value.choice(&[("vxlan", false), ("ipip", true)]));
    let (id, port) = (table.value("id"), table.value("port"));
    for (key, value) in [("id", &id), ("port", &port)] {
        if value.is_some() && is_ipip == Some(true) {
            table.problem(key, "of VXLAN alone: expected none");
        }
    }
    if id.is_none() && is_ipip == Some(false) {
        table.problem("id", "missing: expected the number of the VXLAN, 1 to 16777215");
    }
    let id = id.and_then(|value| value.integer(1..=0xff_ffff));
    let port = port.and_then(|value| value.integer(1..=65_535)).map_or(VXLAN_PORT, |port| port as u16);
    let local = table.required("local", "the address of this machine that servers see around packets");
    let local = local.and_then(|value| value.parsed_as("an IP address", |text| text.parse().ok()));
    let kind = match is_ipip? {
        true => TunnelKind::Ipip,
        false => TunnelKind::Vxlan { id: id? as u32, port },
    };
    Some(Tunnel { kind, local: local? })
}

const ALL: [Mode; 4] = [Mode::Nat, Mode::OneArm, Mode::Dsr, Mode::Tunnel];

/// Each is in a rule, and in a route of each tunnel.
const VIPS_MAX: usize = 64;

const ITEMS_MAX: usize = 64;

/// RFC 7348, section 5.
const VXLAN_PORT: u16 = 4789;

const MODES: &str = "\"nat\", \"one-arm\", \"dsr\" or \"tunnel\"";
const PORTS: &str = "a list of ports and ranges of them, such as [80, \"8000-8099\"]";
const PROTOCOLS: &str = "a list of \"tcp\" and \"udp\"";
const INTERFACE: &str = "the name of an interface: 1 to 15 letters, digits and .-_@";
const POOLS: &str = "a list of addresses that servers see, such as [\"192.0.2.200-192.0.2.203\"]";
const TUNNEL: &str = "a table such as { kind = \"vxlan\", id = 100, local = \"192.0.2.2\" }";

#[cfg(test)]
mod tests;
