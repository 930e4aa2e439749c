//! The L4 load balancer without its kernel: services and their servers become the text of one transaction of nftables.
//!
//! ```text
//! Plan ─► table (who gets which slot: wrr, maglev) ─► rules ─► `nft -f -`
//! `nft -j list …` ─► listing: what is there, what was counted
//! ```
//! Pure: the edge says what is so ([`Plan`]) and has the text applied.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use shared::name::ServerName;

mod choice;
mod draft;
pub mod listing;
mod maglev;
mod nat;
mod straight;
mod turns;
mod words;

use draft::Draft;
use straight::Exit;
use words::Family;

/// Everything that the rules follow from.
///
/// The same plan gives the same text, so who keeps the last text knows whether there is anything to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// What is balanced; no two have an address, port and protocol in common, nor a name.
    pub services: Vec<Service>,
    /// What of ours the kernel has already, so that what is needed no more can be deleted: [`Plan::objects`] of the plan
    /// applied last, or what was
    /// [listed](listing::Listing::objects) at the start.
    pub present: BTreeSet<Object>,
}

/// One L4 service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// NAME of `[l4.NAME]`.
    pub name: Name,
    /// How packets come to servers.
    pub way: Way,
    /// Where clients send them; IPv4 and IPv6 as they come.
    pub vips: Vec<IpAddr>,
    /// To which ports; none has a port in common with another.
    pub ports: Vec<Ports>,
    /// By which protocols.
    pub protocols: Vec<Protocol>,
    /// How a server is chosen.
    pub balance: Balance,
    /// All servers in the settings, whatever their fate, so that Maglev tables keep their size.
    ///
    /// By [`Way::Tunnel`] each gets the packets of all VIPs; else those of its own family.
    pub backends: Vec<Backend>,
}

/// How packets come to servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// The destination is rewritten; answers come back through this machine, which is a bridge or router.
    Nat {
        /// Where clients' packets come in; `None`: anywhere.
        interface: Option<Interface>,
    },
    /// The source is rewritten too, so that answers come back from servers beside this machine.
    OneArm {
        /// Where clients' packets come in; `None`: anywhere.
        interface: Option<Interface>,
        /// What servers see: one pool for each family of the VIPs.
        pools: Vec<Pool>,
    },
    /// The Ethernet address is rewritten; servers have the VIP too, and answer clients straight.
    Dsr {
        /// Where packets come in and go out; it must exist when the rules are applied.
        interface: Interface,
        /// Its Ethernet address.
        mac: Mac,
        /// What is remembered of flows.
        flows: Flows,
    },
    /// The packet is marked with the number of its server, and routed by that into a tunnel.
    Tunnel {
        /// Where clients' packets come in; `None`: anywhere.
        interface: Option<Interface>,
        /// The MTU of the tunnel, by which TCP segments of connections that are answered through this machine are clamped.
        mtu: u16,
        /// What is remembered of flows.
        flows: Flows,
    },
}

/// How a server is chosen for a new flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Balance {
    /// One after the other, each as often as its weight says, evenly mixed.
    RoundRobin,
    /// By chance and weight.
    Random,
    /// By the client's address.
    Source,
    /// By the client's address and port.
    #[default]
    Maglev,
}

/// One server of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Backend {
    /// Its name in its service.
    pub name: ServerName,
    /// Where it serves. The port is written into packets by NAT alone, where the service has exactly one port.
    pub address: SocketAddr,
    /// What flow maps, and the marks of tunnels, call it: its own in its service, and in all tunnels of this machine.
    ///
    /// It keeps it while it is in the settings; nobody else gets it within [`Flows::idle`] after that.
    pub number: NonZeroU32,
    /// Its share of new flows: 0 to 256.
    pub weight: u16,
    /// What it gets.
    pub fate: Fate,
    /// Its Ethernet address, for [`Way::Dsr`]; `None`: not known yet, so that it gets nothing.
    pub mac: Option<Mac>,
}

/// What a server gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// New flows and those that it has.
    Open,
    /// Those that it has.
    Draining,
    /// Nothing: flows that it had go to others.
    Gone,
}

/// What is remembered of flows whose servers answer clients straight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flows {
    /// So many; beyond them a flow goes where its hash says.
    pub most: u32,
    /// How long a silent one is.
    pub idle: Duration,
}

/// Addresses that servers see in place of clients': from the first to the last, of one family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pool {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// What flows are made of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The name of an L4 service: letters, digits, `-` and `_`, at most 24.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

/// The name of an Ethernet interface that can be written into rules: letters, digits and `.-_@`, at most 15.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Interface(String);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mac(pub [u8; 6]);

/// Something of ours in the kernel that has a name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// In which of our tables it is.
    pub table: TableFamily,
    /// What it is.
    pub kind: Kind,
    /// Its name there.
    pub name: String,
}

/// Our tables, each named `region_proxy`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TableFamily {
    /// Of IPv4 and IPv6: NAT, one-arm, tunnels.
    Inet,
    /// Of an interface: DSR.
    Netdev,
}

/// What has a name in a table, in the order in which it can be deleted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A chain of rules.
    Chain,
    /// A map, as of flows.
    Map,
    /// A counter.
    Counter,
}

impl Plan {
    /// What the kernel has of ours once [`rules`] were applied.
    pub fn objects(&self) -> BTreeSet<Object> {
        self.drafts().iter().filter(|draft| !draft.is_empty()).flat_map(Draft::objects).collect()
    }

    fn drafts(&self) -> [Draft; 2] {
        let [mut inet, mut netdev] = [Draft::new(TableFamily::Inet), Draft::new(TableFamily::Netdev)];
        for service in &self.services {
            let families = Family::ALL.into_iter().filter(|family| service.vips.iter().any(|vip| family.has(*vip)));
            match &service.way {
                Way::Nat { interface } => {
                    count(service, &mut inet);
                    families.for_each(|family| nat::draft(service, family, interface.as_ref(), &[], &mut inet));
                }
                Way::OneArm { interface, pools } => {
                    count(service, &mut inet);
                    families.for_each(|family| nat::draft(service, family, interface.as_ref(), pools, &mut inet));
                }
                Way::Dsr { interface, mac, flows } => {
                    count(service, &mut netdev);
                    netdev.flows(straight::flow_map(service, *flows), flows.most);
                    let exit = Exit::Link(interface, *mac);
                    families.for_each(|family| straight::draft(service, family, exit, *flows, &mut netdev));
                }
                Way::Tunnel { interface, mtu, flows } => {
                    count(service, &mut inet);
                    inet.flows(straight::flow_map(service, *flows), flows.most);
                    let exit = Exit::Mark { interface: interface.as_ref(), mtu: *mtu };
                    families.for_each(|family| straight::draft(service, family, exit, *flows, &mut inet));
                }
            }
        }
        [inet, netdev]
    }
}

fn count(service: &Service, draft: &mut Draft) {
    draft.counter(format!("l4.{}", service.name));
    for backend in &service.backends {
        draft.counter(format!("l4.{}.{}", service.name, backend.name));
    }
}

/// The text of one transaction that makes the kernel do as `plan` says, whatever it did before.
///
/// Chains are replaced; flow maps, counters and connection tracking stay, so that no flow that is under way moves but those
/// of servers that are [`Fate::Gone`]. Other tables are not touched. It fails as a whole where an interface of
/// [`Way::Dsr`] does not exist.
pub fn rules(plan: &Plan) -> String {
    plan.drafts().iter().map(|draft| draft.text(&plan.present)).collect()
}

/// The text that removes all that [`rules`] ever made, and does nothing where there is nothing.
pub fn removal() -> String {
    [TableFamily::Inet, TableFamily::Netdev].map(draft::removal).concat()
}

/// What each of our tables is called.
pub const TABLE: &str = "region_proxy";

impl Name {
    /// The longest.
    pub const LEN_MAX: usize = 24;

    /// `None` unless `text` is a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        ((1..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(is_allowed)).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Interface {
    /// The longest that the kernel takes.
    pub const LEN_MAX: usize = 15;

    /// `None` unless `text` is such a name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b".-_@".contains(&octet);
        ((1..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(is_allowed)).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ports {
    /// Whether `port` is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether it is one port alone.
    pub fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether both have a port in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Balance {
    /// As settings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::Source => "source",
            Self::Maglev => "maglev",
        }
    }
}

impl Protocol {
    /// As settings and rules name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl TableFamily {
    /// As nft names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for Ports {
    /// As rules have them: `80`, `8000-8099`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one() {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests;
