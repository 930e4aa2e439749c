//! What is so on this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use serde::Deserialize;

use crate::l4::Protocol;

/// All that is judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Interfaces, `lo` among them.
    pub(super) links: Vec<Link>,
    /// Default routes of the family of the VIP.
    pub(super) defaults: Vec<Gateway>,
    /// Settings of the kernel by the last parts of their keys, such as `eth0/arp_ignore`; IPv4 alone.
    pub(super) settings: BTreeMap<String, u32>,
    /// Where programs listen.
    pub(super) listeners: Vec<(Protocol, SocketAddr)>,
}

/// One interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Link {
    /// Its name.
    pub(super) name: String,
    /// Whether it is up.
    pub(super) is_up: bool,
    /// Its Ethernet address, as `ip` prints it.
    pub(super) mac: String,
    /// The longest packet that it takes.
    pub(super) mtu: u32,
    /// Addresses with the lengths of their prefixes.
    pub(super) addresses: Vec<(IpAddr, u8)>,
    /// Its id and port where it is a VXLAN.
    pub(super) vxlan: Option<(u32, u16)>,
}

/// One default route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Gateway {
    /// Where it leads.
    pub(super) address: Option<IpAddr>,
    /// By which interface.
    pub(super) interface: String,
    /// The size of TCP segments that it asks for.
    pub(super) advmss: Option<u32>,
    /// What tells it from others; `None`: nothing must.
    pub(super) metric: Option<u32>,
    /// Whether its gateway counts as a neighbour by its word alone.
    pub(super) is_onlink: bool,
    /// All its ways in the words of `ip`, where it has several.
    pub(super) hops: Vec<String>,
}

impl Facts {
    /// The interface of this name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Those of this network namespace.
    pub(super) fn read(vip: IpAddr) -> Result<Self, String> {
        let links = links(&ip(&["-j", "-d", "addr", "show"])?)?;
        let family = if vip.is_ipv4() { "-4" } else { "-6" };
        let defaults = gateways(&ip(&["-j", family, "route", "show", "default"])?)?;
        let mut settings = BTreeMap::new();
        for name in links.iter().map(|link| link.name.as_str()).chain(["all"]) {
            for key in ["arp_ignore", "arp_announce", "rp_filter"] {
                let path = format!("/proc/sys/net/ipv4/conf/{name}/{key}");
                let value = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                settings.extend(value.map(|value| (format!("{name}/{key}"), value)));
            }
        }
        let listening = run("ss", &["-H", "-l", "-n", "-t", "-u"])?;
        let listeners = listening.lines().flat_map(listeners).collect();
        Ok(Self { links, defaults, settings, listeners })
    }
}

fn ip(order: &[&str]) -> Result<String, String> {
    run("ip", order)
}

fn run(program: &str, order: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(order).output();
    let output = output.map_err(|error| format!("cannot run {program}: {error}: expected the package iproute2"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{program} {}: {}", order.join(" "), String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}

#[derive(Deserialize)]
struct LinkText {
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    address: String,
    #[serde(default)]
    addr_info: Vec<AddressText>,
    #[serde(default)]
    linkinfo: Info,
}

#[derive(Deserialize)]
struct AddressText {
    local: Option<IpAddr>,
    prefixlen: u8,
}

#[derive(Default, Deserialize)]
struct Info {
    #[serde(default)]
    info_kind: String,
    #[serde(default)]
    info_data: serde_json::Value,
}

#[derive(Deserialize)]
struct RouteText {
    gateway: Option<IpAddr>,
    #[serde(default)]
    dev: String,
    metric: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    metrics: Vec<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    nexthops: Vec<HopText>,
}

#[derive(Deserialize)]
struct HopText {
    gateway: Option<IpAddr>,
    #[serde(default)]
    dev: String,
    weight: Option<u32>,
}

fn links(text: &str) -> Result<Vec<Link>, String> {
    let found: Vec<LinkText> = read(text)?;
    let link = |link: LinkText| {
        let number = |key: &str| link.linkinfo.info_data.get(key).and_then(serde_json::Value::as_u64);
        let vxlan = number("id").zip(number("port")).filter(|_| link.linkinfo.info_kind == "vxlan");
        Link {
            vxlan: vxlan.map(|(id, port)| (id as u32, port as u16)),
            name: link.ifname,
            is_up: link.flags.iter().any(|flag| flag == "UP"),
            mac: link.address,
            mtu: link.mtu,
            addresses: link.addr_info.iter().filter_map(|info| Some((info.local?, info.prefixlen))).collect(),
        }
    };
    Ok(found.into_iter().map(link).collect())
}

fn gateways(text: &str) -> Result<Vec<Gateway>, String> {
    let found: Vec<RouteText> = read(text)?;
    let hop = |hop: &HopText| {
        let via = hop.gateway.map(|address| format!(" via {address}")).unwrap_or_default();
        let weight = hop.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        format!("nexthop{via} dev {}{weight}", hop.dev)
    };
    let gateway = |route: RouteText| {
        let first = route.nexthops.first();
        Gateway {
            address: route.gateway.or_else(|| first?.gateway),
            interface: first.map_or(route.dev, |first| first.dev.clone()),
            advmss: route.metrics.iter().find_map(|metrics| metrics.get("advmss")?.as_u64()).map(|size| size as u32),
            metric: route.metric,
            is_onlink: route.flags.iter().any(|flag| flag == "onlink"),
            hops: route.nexthops.iter().map(hop).collect(),
        }
    };
    Ok(found.into_iter().map(gateway).collect())
}

/// What `ip` prints; nothing where there is nothing.
fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<Vec<T>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| format!("what ip prints cannot be read: {error}"))
}

/// What a line such as `tcp LISTEN 0 128 192.0.2.10:80 0.0.0.0:*` tells of; `*` is both families.
fn listeners(line: &str) -> Vec<(Protocol, SocketAddr)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [netid, _, _, _, local, ..] = words[..] else { return Vec::new() };
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.as_str() == netid);
    let (Some(protocol), Some((address, port))) = (protocol, local.rsplit_once(':')) else { return Vec::new() };
    let Ok(port) = port.parse() else { return Vec::new() };
    // Some are bound to an interface besides.
    let address = address.split('%').next().unwrap_or_default().trim_matches(['[', ']']);
    let addresses = match address {
        "*" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        address => address.parse::<IpAddr>().map(|address| address.to_canonical()).into_iter().collect(),
    };
    addresses.into_iter().map(|address| (protocol, SocketAddr::new(address, port))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_and_routes_are_read_as_ip_prints_them() {
        let text = r#"[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"address":"00:00:00:00:00:00",
            "addr_info":[{"family":"inet","local":"192.0.2.10","prefixlen":32}]},{},
            {"ifname":"rp-vx","flags":["UP"],"mtu":1450,"address":"02:52:50:00:00:01",
             "linkinfo":{"info_kind":"vxlan","info_data":{"id":100,"port":4789}},"addr_info":[{"prefixlen":64}]}]"#;
        let found = links(&text.replace("{},", "")).expect("links");
        assert_eq!(found[0].addresses, [("192.0.2.10".parse().expect("an address"), 32)]);
        assert_eq!((found[1].vxlan, found[1].is_up, found[1].mtu), (Some((100, 4789)), true, 1450));
        let text = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[],"metrics":[{"advmss":1410}]}]"#;
        let expected = Gateway {
            address: Some("192.0.2.1".parse().expect("an address")),
            interface: "eth0".to_owned(),
            advmss: Some(1410),
            metric: None,
            is_onlink: false,
            hops: Vec::new(),
        };
        assert_eq!(gateways(text), Ok(vec![expected.clone()]));
        let text = text.replace("\"flags\":[]", "\"metric\":100,\"flags\":[\"onlink\"]");
        let expected = Gateway { metric: Some(100), is_onlink: true, ..expected };
        assert_eq!(gateways(&text), Ok(vec![expected.clone()]));
        let text = r#"[{"dst":"default","nexthops":[{"gateway":"192.0.2.1","dev":"eth0","weight":1,"flags":[]},
            {"gateway":"192.0.2.2","dev":"eth1","weight":2,"flags":[]}]}]"#;
        let found = gateways(text).expect("routes");
        assert_eq!((found[0].address, found[0].interface.as_str()), (expected.address, "eth0"));
        assert_eq!(
            found[0].hops,
            ["nexthop via 192.0.2.1 dev eth0 weight 1", "nexthop via 192.0.2.2 dev eth1 weight 2"]
        );
        assert_eq!(gateways(""), Ok(Vec::new()));
        assert!(links("Error").is_err());
    }

    #[test]
    fn listeners_are_found_in_what_ss_prints() {
        let of = |local: &str, netid: &str| {
            let found = listeners(&format!("{netid}   LISTEN 0      128    {local}      0.0.0.0:*    "));
            found.iter().map(|(protocol, at)| format!("{} {at}", protocol.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(of("192.0.2.10:80", "tcp"), ["tcp 192.0.2.10:80"]);
        assert_eq!(of("*:80", "tcp"), ["tcp 0.0.0.0:80", "tcp [::]:80"]);
        assert_eq!(of("[::]:80", "udp"), ["udp [::]:80"], "it takes IPv6 alone");
        assert_eq!(of("[::ffff:192.0.2.10]:80", "tcp"), ["tcp 192.0.2.10:80"]);
        assert_eq!(of("127.0.0.53%lo:53", "udp"), ["udp 127.0.0.53:53"]);
        assert_eq!(of("[fe80::1]%eth0:546", "udp"), ["udp [fe80::1]:546"]);
        assert_eq!(of("/run/x", "u_str"), [""; 0]);
        assert_eq!(listeners("").len(), 0);
    }
}
