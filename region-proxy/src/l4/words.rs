//! How rules say things.

use std::fmt::Display;
use std::net::IpAddr;

use super::{Balance, Interface, Kind, Object, Protocol, Service};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Whether `address` is one.
    pub(super) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// As in `ip saddr`.
    pub(super) fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// As in names of chains.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// What is the same in all packets of a flow from a client, and of no other flow but by chance, as one number.
    pub(super) fn flow(self) -> String {
        let ip = self.ip();
        format!("jhash {ip} saddr . {ip} daddr . meta l4proto . th sport . th dport {FLOW}")
    }

    /// The same of the flow that an ICMP error is about, from the packet of the server's that is in it.
    pub(super) fn flow_of_error(self) -> String {
        let Inner { server, client, protocol, server_port, client_port } = self.inner();
        format!("jhash {client} . {server} . {protocol} . {client_port} . {server_port} {FLOW}")
    }

    /// The slot of `size` that the hash of a packet leads to.
    pub(super) fn slot(self, balance: Balance, size: usize) -> String {
        let ip = self.ip();
        match balance {
            Balance::Source => format!("jhash {ip} saddr {}", slot(size)),
            _ => format!("jhash {ip} saddr . th sport {}", slot(size)),
        }
    }

    /// The same of the flow that an ICMP error is about.
    pub(super) fn slot_of_error(self, balance: Balance, size: usize) -> String {
        let Inner { client, client_port, .. } = self.inner();
        match balance {
            Balance::Source => format!("jhash {client} {}", slot(size)),
            _ => format!("jhash {client} . {client_port} {}", slot(size)),
        }
    }

    /// A packet that is an ICMP error about a packet from one of the ports of `service`.
    pub(super) fn error(self, service: &Service) -> String {
        let Inner { protocol, server_port, .. } = self.inner();
        let about = match self {
            // An inner header of 20 octets: ports are elsewhere behind a longer one.
            Self::V4 => "icmp type { destination-unreachable, time-exceeded, parameter-problem } @th,64,8 0x45",
            Self::V6 => "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
        };
        let numbers = service.protocols.iter().map(|protocol| match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        });
        let to = self.to_vips(service);
        format!("{to} {about} {protocol} {} {server_port} {}", set(numbers), set(&service.ports))
    }

    /// A packet to one of the VIPs of `service`.
    pub(super) fn to_vips(self, service: &Service) -> String {
        format!("{} daddr {}", self.ip(), self.vips(service))
    }

    /// The VIPs of `service`.
    pub(super) fn vips(self, service: &Service) -> String {
        one_of(service.vips.iter().filter(|vip| self.has(**vip)))
    }

    /// Where the parts of the packet are that an ICMP error is about (RFC 792; RFC 4443, section 3): both headers have 8
    /// octets before it.
    fn inner(self) -> Inner {
        match self {
            Self::V4 => Inner {
                server: "@th,160,32",
                client: "@th,192,32",
                protocol: "@th,136,8",
                server_port: "@th,224,16",
                client_port: "@th,240,16",
            },
            Self::V6 => Inner {
                server: "@th,128,128",
                client: "@th,256,128",
                protocol: "@th,112,8",
                server_port: "@th,384,16",
                client_port: "@th,400,16",
            },
        }
    }
}

struct Inner {
    server: &'static str,
    client: &'static str,
    protocol: &'static str,
    server_port: &'static str,
    client_port: &'static str,
}

impl Object {
    /// How many elements a map of flows takes; `None` for anything else.
    pub(super) fn map_size(&self) -> Option<u32> {
        self.name.rsplit('.').next().filter(|_| self.kind == Kind::Map)?.parse().ok()
    }
}

/// A packet of one of the flows of `service`, once its address is settled.
pub(super) fn to_ports(service: &Service) -> String {
    format!("{} th dport {}", protocols(service), one_of(&service.ports))
}

/// Packets of `family` to `service`: each VIP, protocol and port by itself as far as that is not too much, since while rules
/// are exchanged a set may seem to be empty for a moment.
pub(super) fn to_each(service: &Service, family: Family) -> Vec<String> {
    let vips: Vec<_> = service.vips.iter().filter(|vip| family.has(**vip)).collect();
    if vips.len() * service.protocols.len() * service.ports.len() > EACH_MAX {
        return vec![format!("{} {}", family.to_vips(service), to_ports(service))];
    }
    let mut all = Vec::new();
    for vip in vips {
        for protocol in service.protocols.iter().map(|protocol| protocol.as_str()) {
            let to = |ports| format!("{} daddr {vip} meta l4proto {protocol} th dport {ports}", family.ip());
            all.extend(service.ports.iter().map(to));
        }
    }
    all
}

/// A packet of one of the protocols of `service`.
pub(super) fn protocols(service: &Service) -> String {
    format!("meta l4proto {}", one_of(service.protocols.iter().map(|protocol| protocol.as_str())))
}

/// A packet that comes in by `interface`, and a space; nothing without one.
pub(super) fn comes_in(interface: Option<&Interface>) -> String {
    interface.map(|interface| format!("iifname \"{interface}\" ")).unwrap_or_default()
}

/// While rules are exchanged the kernel may find none of the elements of a set for a packet that is under way: its sender
/// sends it again, and nobody takes its server for gone.
pub(super) const LAST: &str = "drop";

/// So many rules are looked through for a packet that none is for.
const EACH_MAX: usize = 32;

/// One of `items`; a single one by itself, since while rules are exchanged a set may seem to be empty for a moment.
pub(super) fn one_of(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if let [only] = items.as_slice() { only.clone() } else { set(items) }
}

/// Each of `items`.
pub(super) fn set(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

/// What each of `values` is by its number, from 0, on lines that can be read.
pub(super) fn numbered(values: impl IntoIterator<Item = impl Display>) -> String {
    let mut text = "{ ".to_owned();
    let mut line_start = 0;
    for (number, value) in values.into_iter().enumerate() {
        if number > 0 {
            text += ",";
            if text.len() - line_start > LINE_LEN {
                line_start = text.len();
                text += "\n\t\t\t";
            } else {
                text += " ";
            }
        }
        text += &format!("{number} : {value}");
    }
    text + " }"
}

/// A TCP segment that opens a flow.
pub(super) const SYN: &str = "tcp flags & (syn | ack) == syn";

/// The end of a packet that nobody serves: whoever sent it hears at once, and it does not come to what else listens here.
pub(super) const REFUSE: [&str; 2] = ["meta l4proto tcp reject with tcp reset", "reject"];

/// Any, but the same in all proxies of a pair. It is another than that of slots: flows that share a slot must not share a key.
const FLOW: &str = "mod 4294967295 seed 0x666c6f77";

fn slot(size: usize) -> String {
    format!("mod {size} seed 0x736c6f74")
}

const LINE_LEN: usize = 100;
