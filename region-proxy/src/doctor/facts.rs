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
    /// What tells it from others, in the words of `ip`; empty where nothing must.
    pub(super) rest: String,
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
        let mut listeners = Vec::new();
        for (protocol, state) in [(Protocol::Tcp, LISTENS), (Protocol::Udp, UNCONNECTED)] {
            for family in ["", "6"] {
                // Without IPv6 there is none of that.
                let text = std::fs::read_to_string(format!("/proc/net/{}{family}", protocol.as_str()));
                let found = text.unwrap_or_default();
                listeners.extend(found.lines().filter_map(|line| Some((protocol, listener(line, state)?))));
            }
        }
        Ok(Self { links, defaults, settings, listeners })
    }
}

fn ip(order: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(order).output();
    let output = output.map_err(|error| format!("cannot run ip: {error}: expected the package iproute2"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("ip {}: {}", order.join(" "), String::from_utf8_lossy(&output.stderr).trim_end())),
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
    let gateway = |route: RouteText| Gateway {
        address: route.gateway,
        interface: route.dev,
        advmss: route.metrics.iter().find_map(|metrics| metrics.get("advmss")?.as_u64()).map(|size| size as u32),
        rest: {
            let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
            let is_onlink = route.flags.iter().any(|flag| flag == "onlink");
            metric + if is_onlink { " onlink" } else { "" }
        },
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

/// A line such as `0: 0A00020A:0050 00000000:0000 0A …`.
fn listener(line: &str, state: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, found) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of eight digits is a number in the order of this machine.
    let groups = address.as_bytes().chunks(8).map(|digits| {
        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(number.to_ne_bytes())
    });
    let octets: Vec<u8> = groups.collect::<Option<Vec<_>>>()?.concat();
    let ip = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).to_canonical(),
    };
    (found == state).then_some(SocketAddr::new(ip, port))
}

const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

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
            rest: String::new(),
        };
        assert_eq!(gateways(text), Ok(vec![expected.clone()]));
        let text = text.replace("\"flags\":[]", "\"metric\":100,\"flags\":[\"onlink\"]");
        let expected = Gateway { rest: " metric 100 onlink".to_owned(), ..expected };
        assert_eq!(gateways(&text), Ok(vec![expected]));
        assert_eq!(gateways(""), Ok(Vec::new()));
        assert!(links("Error").is_err());
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn listeners_are_found_in_the_kernels_lists() {
        let line = "   0: 0A0200C0:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(listener(line, LISTENS), "192.0.2.10:80".parse().ok());
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), LISTENS), None);
        let line = "   0: B80D0120000000000000000010000000:0050 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(listener(line, LISTENS), "[2001:db8::10]:80".parse().ok());
        assert_eq!(listener("  sl  local_address rem_address   st", LISTENS), None);
    }
}
