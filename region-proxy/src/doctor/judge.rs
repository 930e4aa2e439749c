//! What a server must have for each mode. Pure.
//!
//! ```text
//! nat      its answers come back through the proxy: that is its default gateway
//! one-arm  nothing
//! dsr      the VIP on lo; IPv4: no ARP for it
//! tunnel   the same; the tunnel's end; IPv4: packets are taken from it though answers go elsewhere; small segments
//! all      a program listens
//! ```

use std::net::IpAddr;

use super::facts::{Facts, Gateway, Link};
use crate::config::L4Mode;
use crate::l4::{Mac, Protocol};
use crate::switching::SERVER_MAC;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) mode: L4Mode,
    pub(super) vip: IpAddr,
    /// Where packets for the VIP come in.
    pub(super) interface: Option<String>,
    /// The address of the proxy.
    pub(super) gateway: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
    /// The id of the VXLAN.
    pub(super) id: Option<u32>,
    pub(super) tunnel_port: u16,
}

/// One thing that must be so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    /// What must be so.
    pub(super) what: String,
    /// `None`: it is.
    pub(super) wrong: Option<Wrong>,
}

/// Something is not as it must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    /// How it is.
    pub(super) why: String,
    /// The commands that mend it, in their order.
    pub(super) mend: Vec<String>,
}

impl Finding {
    /// Whether it is as it must be.
    pub(super) fn is_ok(&self) -> bool {
        self.wrong.is_none()
    }

    fn of(what: impl Into<String>, wrong: Option<(String, Vec<String>)>) -> Self {
        Self { what: what.into(), wrong: wrong.map(|(why, mend)| Wrong { why, mend }) }
    }
}

/// Everything that must be so, as it is.
pub(super) fn judge(question: &Question, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(question.mode, L4Mode::Dsr | L4Mode::Tunnel) {
        findings.push(vip_on_lo(question, facts));
        if question.vip.is_ipv4() {
            findings.push(arp(question, facts, "arp_ignore", 1, "ARP for the VIP is not answered"));
            findings.push(arp(question, facts, "arp_announce", 2, "the VIP is not told of in ARP"));
        }
    }
    match question.mode {
        L4Mode::Tunnel => findings.extend(tunnel(question, facts)),
        L4Mode::Nat => findings.push(gateway(question, facts)),
        L4Mode::OneArm | L4Mode::Dsr => {}
    }
    findings.extend(question.port.map(|port| listener(question, facts, port)));
    findings
}

fn vip_on_lo(question: &Question, facts: &Facts) -> Finding {
    let vip = question.vip;
    let len = if vip.is_ipv4() { 32 } else { 128 };
    let found = facts.link("lo").and_then(|lo| prefix_of(lo, vip));
    let elsewhere =
        facts.links.iter().filter(|link| link.name != "lo").find_map(|link| Some((link, prefix_of(link, vip)?)));
    let add = format!("ip addr add {vip}/{len} dev lo");
    let wrong = match (found, elsewhere) {
        (_, Some((link, other))) => {
            let mut mend = vec![format!("ip addr del {vip}/{other} dev {}", link.name)];
            mend.extend(found.is_none().then_some(add));
            Some((format!("it is on {}, where its neighbours find it", link.name), mend))
        }
        (None, None) => Some(("it is nowhere here".to_owned(), vec![add])),
        (Some(other), None) if other != len => {
            let why = format!("it is there with the prefix length {other}, which takes others' addresses too");
            Some((why, vec![format!("ip addr del {vip}/{other} dev lo"), add]))
        }
        _ => None,
    };
    Finding::of(format!("the VIP is on lo, as {vip}/{len}"), wrong)
}

fn prefix_of(link: &Link, vip: IpAddr) -> Option<u8> {
    link.addresses.iter().find(|(address, _)| *address == vip).map(|(_, len)| *len)
}

/// The kernel goes by the larger of what holds for all interfaces and for one.
fn arp(question: &Question, facts: &Facts, key: &str, least: u32, what: &str) -> Finding {
    let (value, _) = setting(facts, question.interface.as_deref(), key);
    let wrong =
        (value < least).then(|| (format!("it is {value}"), vec![format!("sysctl -w net.ipv4.conf.all.{key}={least}")]));
    Finding::of(format!("{what}: net.ipv4.conf.all.{key} is {least}"), wrong)
}

/// The value that counts on `interface`, and that of all.
fn setting(facts: &Facts, interface: Option<&str>, key: &str) -> (u32, u32) {
    let of = |name: &str| facts.settings.get(&format!("{name}/{key}")).copied().unwrap_or_default();
    let all = of("all");
    (interface.map_or(all, |name| all.max(of(name))), all)
}

fn tunnel(question: &Question, facts: &Facts) -> Vec<Finding> {
    let Question { vip, id, tunnel_port, .. } = question;
    let is_it =
        |link: &&Link| link.vxlan.is_some_and(|(found, port)| id.is_none_or(|id| id == found) && port == *tunnel_port);
    let mac = Mac(SERVER_MAC.0).to_string();
    let shown = id.map_or_else(|| "ID".to_owned(), |id| id.to_string());
    let Some(link) = facts.links.iter().find(is_it) else {
        let is_taken = facts.link("rp-vx").is_some();
        let mut mend: Vec<_> = is_taken.then(|| "ip link del rp-vx".to_owned()).into_iter().collect();
        mend.extend([
            format!("ip link add rp-vx type vxlan id {shown} dstport {tunnel_port} nolearning"),
            format!("ip link set rp-vx address {mac} up"),
        ]);
        let what = format!("the tunnel ends here: a VXLAN with id {shown} and port {tunnel_port}");
        let why = if is_taken { "rp-vx is another" } else { "there is none" };
        return vec![Finding::of(what, Some((why.to_owned(), mend)))];
    };
    let name = &link.name;
    let is_right = link.is_up && link.mac == mac;
    let state = format!("its address is {}{}", link.mac, if link.is_up { "" } else { ", and it is down" });
    let mend = vec![format!("ip link set {name} address {mac} up")];
    let end = Finding::of(
        format!("the tunnel ends here: {name} is up and has the address {mac}"),
        (!is_right).then_some((state, mend)),
    );
    let mut findings = vec![end];
    if vip.is_ipv4() {
        findings.push(source_check(facts, name));
    }
    findings.push(segments(question, facts));
    findings
}

/// The way back to a client is not the way that its packets come.
fn source_check(facts: &Facts, name: &str) -> Finding {
    let (value, all) = setting(facts, Some(name), "rp_filter");
    let mut mend = vec![format!("sysctl -w net.ipv4.conf.{name}.rp_filter=0")];
    if all == 1 {
        mend.push("sysctl -w net.ipv4.conf.all.rp_filter=0".to_owned());
    }
    let wrong = (value == 1).then(|| ("it is 1: packets of clients are dropped".to_owned(), mend));
    Finding::of(format!("packets may come by {name}: net.ipv4.conf.{name}.rp_filter is not 1"), wrong)
}

/// What clients send must fit into the tunnel; they go by the size that the answer to their first packet asks for.
fn segments(question: &Question, facts: &Facts) -> Finding {
    let mtu = |gateway: &Gateway| facts.link(&gateway.interface).map(|link| link.mtu);
    let headers = if question.vip.is_ipv4() { 40 } else { 60 };
    let gateway = facts.defaults.first();
    let outside = gateway.and_then(mtu).unwrap_or(ETHERNET_MTU).min(ETHERNET_MTU);
    let most = outside.saturating_sub(TUNNEL_OVERHEAD + headers);
    let family = if question.vip.is_ipv4() { "-4" } else { "-6" };
    let wrong = match gateway {
        Some(gateway) if gateway.advmss.is_some_and(|found| found <= most) => None,
        Some(gateway) => {
            let mend = format!("ip {family} route change default {}", changed(gateway, most));
            let found = gateway.advmss.map_or_else(|| "it says nothing".to_owned(), |found| format!("it says {found}"));
            Some((found, vec![mend]))
        }
        None => {
            let way = format!("ip {family} route add default via GATEWAY advmss {most}");
            Some((format!("there is no default route: expected one, as by `{way}`"), Vec::new()))
        }
    };
    Finding::of(format!("clients send segments that fit into the tunnel: the default route has advmss {most}"), wrong)
}

/// The words for `ip` that make `gateway` ask for segments of `most` octets.
fn changed(gateway: &Gateway, most: u32) -> String {
    let metric = metric(gateway);
    if !gateway.hops.is_empty() {
        return format!("advmss {most}{metric} {}", gateway.hops.join(" "));
    }
    let via = gateway.address.map_or_else(String::new, |address| format!("via {address} "));
    let onlink = if gateway.is_onlink { " onlink" } else { "" };
    format!("{via}dev {} advmss {most}{metric}{onlink}", gateway.interface)
}

/// Routes that differ in this alone are not the same.
fn metric(gateway: &Gateway) -> String {
    gateway.metric.map_or_else(String::new, |metric| format!(" metric {metric}"))
}

fn gateway(question: &Question, facts: &Facts) -> Finding {
    let Some(wanted) = question.gateway else {
        let why = "not known which address that is: expected --gateway ADDRESS".to_owned();
        return Finding::of("answers go through the proxy: the default gateway", Some((why, Vec::new())));
    };
    let family = if wanted.is_ipv4() { "-4" } else { "-6" };
    let found: Vec<String> = facts.defaults.iter().filter_map(|route| route.address).map(|it| it.to_string()).collect();
    let is_right = facts.defaults.first().and_then(|route| route.address) == Some(wanted);
    let why = if found.is_empty() { "there is none".to_owned() } else { format!("it is {}", found.join(", ")) };
    let metric = facts.defaults.first().map_or_else(String::new, metric);
    let mend = vec![format!("ip {family} route replace default via {wanted}{metric}")];
    Finding::of(
        format!("answers go through the proxy: the default gateway is {wanted}"),
        (!is_right).then_some((why, mend)),
    )
}

fn listener(question: &Question, facts: &Facts, port: u16) -> Finding {
    let is_direct = matches!(question.mode, L4Mode::Dsr | L4Mode::Tunnel);
    let takes = |ip: IpAddr| match ip.is_unspecified() {
        true => ip.is_ipv6() == question.vip.is_ipv6(),
        false if is_direct => ip == question.vip,
        false => !ip.is_loopback() && ip.is_ipv4() == question.vip.is_ipv4(),
    };
    let protocol = question.protocol;
    let at_port = facts.listeners.iter().filter(|(found, listener)| *found == protocol && listener.port() == port);
    let at_port: Vec<_> = at_port.map(|(_, listener)| listener).collect();
    let place = if is_direct { question.vip.to_string() } else { "this machine".to_owned() };
    let found: Vec<String> = at_port.iter().map(|listener| listener.to_string()).collect();
    let why = match (found.is_empty(), is_direct) {
        (true, _) => "none does".to_owned(),
        (_, true) => format!("it listens at {} alone: expected it at the VIP or at all addresses", found.join(", ")),
        (_, false) => format!("it listens at {} alone", found.join(", ")),
    };
    let is_ok = at_port.iter().any(|listener| takes(listener.ip()));
    Finding::of(
        format!("a program listens at {} port {port} of {place}", protocol.as_str()),
        (!is_ok).then_some((why, Vec::new())),
    )
}

/// An outer IPv4 header, UDP, VXLAN and Ethernet.
const TUNNEL_OVERHEAD: u32 = 50;

/// Of links whose packets are longer, few ends of a tunnel are.
const ETHERNET_MTU: u32 = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn question(mode: L4Mode) -> Question {
        let (vip, gateway) = (ip("192.0.2.10"), Some(ip("192.0.2.2")));
        Question {
            mode,
            vip,
            interface: None,
            gateway,
            port: Some(80),
            protocol: Protocol::Tcp,
            id: Some(100),
            tunnel_port: 4789,
        }
    }

    fn link(name: &str, addresses: &[(&str, u8)]) -> Link {
        let addresses = addresses.iter().map(|(address, len)| (ip(address), *len)).collect();
        Link { name: name.to_owned(), is_up: true, mtu: 1500, addresses, ..Link::default() }
    }

    /// A server that is right for every mode.
    fn right() -> Facts {
        let tunnel = Link { mac: Mac(SERVER_MAC.0).to_string(), vxlan: Some((100, 4789)), ..link("rp-vx", &[]) };
        let settings = [("all/arp_ignore", 1), ("all/arp_announce", 2), ("all/rp_filter", 0), ("rp-vx/rp_filter", 2)];
        let gateway = Gateway {
            address: Some(ip("192.0.2.2")),
            interface: "eth0".to_owned(),
            advmss: Some(1410),
            metric: None,
            is_onlink: false,
            hops: Vec::new(),
        };
        Facts {
            links: vec![
                link("lo", &[("127.0.0.1", 8), ("192.0.2.10", 32)]),
                link("eth0", &[("192.0.2.21", 24)]),
                tunnel,
            ],
            defaults: vec![gateway],
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
            listeners: vec![(Protocol::Tcp, "0.0.0.0:80".parse().expect("an address"))],
        }
    }

    /// What is wrong, with its commands.
    fn wrong(mode: L4Mode, change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = right();
        change(&mut facts);
        let findings = judge(&question(mode), &facts).into_iter().filter_map(|finding| finding.wrong);
        findings.flat_map(|wrong| [vec![wrong.why], wrong.mend].concat()).collect()
    }

    #[test]
    fn a_server_that_has_all_is_well() {
        for mode in [L4Mode::Nat, L4Mode::OneArm, L4Mode::Dsr, L4Mode::Tunnel] {
            assert_eq!(wrong(mode, |_| {}), Vec::<String>::new(), "{mode:?}");
        }
    }

    #[test]
    fn the_vip_is_on_lo_alone() {
        let nowhere = wrong(L4Mode::Dsr, |facts| facts.links[0].addresses.clear());
        assert_eq!(nowhere, ["it is nowhere here", "ip addr add 192.0.2.10/32 dev lo"]);
        let both = wrong(L4Mode::Dsr, |facts| facts.links[1].addresses.push((ip("192.0.2.10"), 24)));
        assert_eq!(both[1..], ["ip addr del 192.0.2.10/24 dev eth0"]);
        let wide = wrong(L4Mode::Tunnel, |facts| facts.links[0].addresses[1].1 = 24);
        assert_eq!(wide[1..], ["ip addr del 192.0.2.10/24 dev lo", "ip addr add 192.0.2.10/32 dev lo"]);
    }

    #[test]
    fn nobody_hears_of_the_vip_by_arp() {
        let found = wrong(L4Mode::Dsr, |facts| {
            facts.settings.insert("all/arp_ignore".to_owned(), 0);
            facts.settings.insert("all/arp_announce".to_owned(), 1);
        });
        let expected = [
            "it is 0",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            "it is 1",
            "sysctl -w net.ipv4.conf.all.arp_announce=2",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_tunnel_ends_as_the_proxy_sends() {
        let none = wrong(L4Mode::Tunnel, |facts| drop(facts.links.pop()));
        assert_eq!(none[1], "ip link add rp-vx type vxlan id 100 dstport 4789 nolearning");
        let other = wrong(L4Mode::Tunnel, |facts| facts.links[2].mac = "02:00:00:00:00:09".to_owned());
        assert_eq!(other[1..], ["ip link set rp-vx address 02:52:50:00:00:01 up"]);
        let strict = wrong(L4Mode::Tunnel, |facts| *facts.settings.entry("all/rp_filter".to_owned()).or_default() = 1);
        assert_eq!(strict, Vec::<String>::new(), "2 is more than 1, and loose");
        let strict =
            wrong(L4Mode::Tunnel, |facts| *facts.settings.entry("rp-vx/rp_filter".to_owned()).or_default() = 1);
        assert_eq!(strict[1..], ["sysctl -w net.ipv4.conf.rp-vx.rp_filter=0"]);
        let long = wrong(L4Mode::Tunnel, |facts| facts.defaults[0].advmss = None);
        assert_eq!(long, ["it says nothing", "ip -4 route change default via 192.0.2.2 dev eth0 advmss 1410"]);
        let long = wrong(L4Mode::Tunnel, |facts| {
            let gateway = &mut facts.defaults[0];
            (gateway.advmss, gateway.metric, gateway.is_onlink) = (Some(1460), Some(100), true);
        });
        assert!(long[1].ends_with("dev eth0 advmss 1410 metric 100 onlink"), "{long:?}");
        let hops = ["nexthop via 192.0.2.1 dev eth0", "nexthop via 192.0.2.2 dev eth1"].map(str::to_owned);
        let long = wrong(L4Mode::Tunnel, |facts| {
            (facts.defaults[0].advmss, facts.defaults[0].hops) = (None, hops.to_vec());
        });
        assert_eq!(long[1], format!("ip -4 route change default advmss 1410 {}", hops.join(" ")));
        let other = wrong(L4Mode::Tunnel, |facts| facts.links[2].vxlan = Some((7, 4789)));
        assert_eq!(other[..2], ["rp-vx is another", "ip link del rp-vx"]);
    }

    #[test]
    fn answers_by_nat_go_through_the_proxy() {
        let other = wrong(L4Mode::Nat, |facts| facts.defaults[0].address = Some(ip("192.0.2.1")));
        assert_eq!(other, ["it is 192.0.2.1", "ip -4 route replace default via 192.0.2.2"]);
        assert_eq!(wrong(L4Mode::Nat, |facts| facts.defaults.clear())[0], "there is none");
        let other = wrong(L4Mode::Nat, |facts| {
            (facts.defaults[0].address, facts.defaults[0].metric) = (Some(ip("192.0.2.1")), Some(100));
        });
        assert_eq!(other[1], "ip -4 route replace default via 192.0.2.2 metric 100");
    }

    #[test]
    fn a_program_listens_where_packets_are_sent() {
        let elsewhere = |facts: &mut Facts| facts.listeners[0].1 = "192.0.2.21:80".parse().expect("an address");
        let expected = "it listens at 192.0.2.21:80 alone: expected it at the VIP or at all addresses";
        assert_eq!(wrong(L4Mode::Dsr, elsewhere), [expected]);
        assert_eq!(wrong(L4Mode::OneArm, elsewhere), Vec::<String>::new());
        assert_eq!(wrong(L4Mode::OneArm, |facts| facts.listeners.clear()), ["none does"]);
        assert_eq!(wrong(L4Mode::OneArm, |facts| facts.listeners[0].0 = Protocol::Udp), ["none does"]);
    }
}
