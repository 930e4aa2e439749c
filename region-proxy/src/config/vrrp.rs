//! `[vrrp.NAME]`: the VIPs that this proxy holds in turn with others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::ServiceConfig;
use crate::vrrp::machine::{Preempt, Rules};
use crate::vrrp::packet::{ChecksumForm, Interval, RouterId};
use crate::vrrp::track::Loss;

/// One virtual router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualRouter {
    /// What log, status and metrics call it.
    pub name: String,
    /// Where its VIPs are.
    pub interface: String,
    /// Its number, the same on all proxies that share its VIPs.
    pub id: RouterId,
    /// 1 to 255.
    pub priority: u8,
    /// At least one, all of one family.
    pub vips: Vec<IpAddr>,
    /// When it advertises and takes over.
    pub rules: Rules,
    /// Those that are told and heard one by one; empty: the group.
    pub peers: Vec<IpAddr>,
    /// What the checksum of its IPv4 advertisements covers.
    pub checksum: ChecksumForm,
    /// At which Ethernet address its VIPs are.
    pub mac: VipMac,
    /// The routers with the same word here rise and fall together.
    pub group: Option<String>,
    /// What else its priority hangs on.
    pub track: Track,
}

/// At which Ethernet address VIPs are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum VipMac {
    /// That of the interface.
    #[default]
    Own,
    /// The same on each proxy (RFC 9568, section 7.3), on an interface of its own upon that one.
    Virtual,
}

/// What costs priority when it fails.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Track {
    /// Interfaces that must have a carrier.
    pub interfaces: BTreeMap<String, Loss>,
    /// Neighbours on the link of the VIPs, of their family, that must answer.
    pub gateways: BTreeMap<IpAddr, Loss>,
    /// Services that must have servers.
    pub services: BTreeMap<OwnerName, TrackedService>,
    /// The price of being drained by an operator.
    pub drain: Option<Loss>,
}

/// A service that must have servers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TrackedService {
    /// So many must be up.
    pub servers_min: u32,
    /// The price of fewer.
    pub loss: Loss,
}

impl VirtualRouter {
    /// Whether its VIPs are IPv4.
    pub fn is_v4(&self) -> bool {
        self.vips.first().is_some_and(IpAddr::is_ipv4)
    }

    /// The interface of its own that has the virtual MAC, where it has one.
    pub fn macvlan(&self) -> Option<String> {
        let family = if self.is_v4() { 4 } else { 6 };
        (self.mac == VipMac::Virtual).then(|| format!("vrrp{family}.{}", self.id))
    }
}

/// Reads all `[vrrp.NAME]`.
pub(super) fn vrrp(root: &Table<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Vec<VirtualRouter> {
    let mut routers: Vec<VirtualRouter> = Vec::new();
    for (name, table) in root.tables("vrrp") {
        let Some(router) = virtual_router(name, &table, services) else { continue };
        let is_twin = |other: &&VirtualRouter| other.is_v4() == router.is_v4() && other.interface == router.interface;
        if let Some(twin) = routers.iter().filter(is_twin).find(|other| other.id == router.id) {
            let what = format_args!("{} is that of {} on {} already", router.id, twin.name, router.interface);
            table.problem("id", format_args!("{what}: expected another"));
        }
        let is_like = |other: &&VirtualRouter| other.macvlan().is_some_and(|name| router.macvlan() == Some(name));
        if let Some(like) = routers.iter().find(is_like).filter(|like| like.interface != router.interface) {
            let what = format_args!("{} is that of {} too, which has the same virtual MAC", router.id, like.name);
            table.problem("id", format_args!("{what}: expected another"));
        }
        for vip in &router.vips {
            if let Some(other) = routers.iter().find(|other| other.vips.contains(vip)) {
                table.problem("vips", format_args!("{vip} is a VIP of {} already", other.name));
            }
        }
        routers.push(router);
    }
    if root.value("vips").is_some()
        && let Some(first) = routers.first()
    {
        let what = format_args!("[vrrp.{}] says which addresses are VIPs: expected one of both", first.name);
        root.problem("vips", what);
    }
    routers
}

fn virtual_router(
    name: &str,
    table: &Table<'_>,
    services: &BTreeMap<OwnerName, ServiceConfig>,
) -> Option<VirtualRouter> {
    let interface = table.required("interface", "the name of an Ethernet interface");
    let interface = interface.and_then(|value| value.parsed_as(INTERFACE, interface_name));
    let id = table.required("id", "a whole number from 1 to 255, the same on all that share the VIPs");
    let id = id.and_then(|value| RouterId::from_number(value.integer(1..=255)? as u8));
    let priority = table.required("priority", "a whole number from 1 to 255: the highest holds the VIPs");
    let priority = priority.and_then(|value| value.integer(1..=255)).map(|priority| priority as u8);
    let vips = table.required("vips", "a list of IP addresses").and_then(|value| one_family(&value));
    let is_v4 = vips.as_ref().and_then(|vips| vips.first()).is_some_and(IpAddr::is_ipv4);
    let interval = table.value("interval").and_then(|value| interval(&value));
    let preempt = table.value("preempt").and_then(|value| preempt(&value));
    let peers =
        table.value("peers").map(|value| peers(&value, vips.as_deref().unwrap_or_default())).unwrap_or_default();
    let checksum = table.value("checksum");
    if let Some(value) = &checksum
        && !is_v4
        && vips.is_some()
    {
        value.problem("there is only one form for IPv6: expected this key beside IPv4 addresses alone");
    }
    let forms = [("rfc9568", ChecksumForm::Message), ("pseudo_header", ChecksumForm::PseudoHeader)];
    let macs = [("own", VipMac::Own), ("virtual", VipMac::Virtual)];
    let router = VirtualRouter {
        name: name.to_owned(),
        mac: table.value("mac").and_then(|value| value.choice(&macs)).unwrap_or_default(),
        checksum: checksum.and_then(|value| value.choice(&forms)).unwrap_or_default(),
        group: table.value("group").and_then(|value| Some(super::not_empty(&value, "a word")?.to_owned())),
        track: table
            .table("track")
            .map(|table| track(&table, vips.as_deref().unwrap_or_default(), services))
            .unwrap_or_default(),
        rules: Rules { interval: interval.or(Interval::from_centis(20))?, preempt: preempt.unwrap_or(AT_ONCE) },
        peers,
        interface: interface?,
        id: id?,
        priority: priority?,
        vips: vips?,
    };
    Some(router)
}

/// Names as the kernel takes them.
fn interface_name(text: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    (1..=15).contains(&text.len()).then_some(text).filter(|text| text.chars().all(is_allowed)).map(str::to_owned)
}

fn one_family(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    let vips = super::vips(value);
    let Some(&first) = vips.first() else {
        value.problem("empty: expected at least one address");
        return None;
    };
    if vips.len() > 255 {
        value.problem(format_args!("{} addresses: expected at most 255", vips.len()));
    }
    if let Some(other) = vips.iter().find(|vip| vip.is_ipv4() != first.is_ipv4()) {
        value.problem(format_args!("{first} and {other}: expected IPv4 or IPv6 alone, and a virtual router for each"));
    } else if let IpAddr::V6(first) = first
        && !is_link_local(first)
    {
        value.problem(format_args!("{first} is first: expected a link-local address there, such as \"fe80::10\""));
    }
    Some(vips)
}

fn interval(value: &Value<'_>) -> Option<Interval> {
    let span = value.duration(Duration::from_millis(10)..=Interval::MAX.duration())?;
    let interval = Interval::from_duration(span);
    if interval.is_none() {
        value.problem("not whole hundredths of a second: expected such as \"200ms\"");
    }
    interval
}

fn preempt(value: &Value<'_>) -> Option<Preempt> {
    if value.is_text() {
        return value.duration(Duration::ZERO..=Duration::from_secs(86_400)).map(Preempt::After);
    }
    value.flag().map(|preempts| if preempts { AT_ONCE } else { Preempt::Never })
}

fn peers(value: &Value<'_>, vips: &[IpAddr]) -> Vec<IpAddr> {
    let peers = super::vips(value);
    for peer in &peers {
        if vips.contains(peer) {
            value.problem(format_args!("{peer} is a VIP: expected the peer's own address"));
        } else if vips.iter().any(|vip| vip.is_ipv4() != peer.is_ipv4()) {
            value.problem(format_args!("{peer} is not of the family of the VIPs"));
        }
    }
    peers
}

fn track(table: &Table<'_>, vips: &[IpAddr], services: &BTreeMap<OwnerName, ServiceConfig>) -> Track {
    let mut track = Track { drain: table.value("drain").and_then(|value| loss(&value)), ..Track::default() };
    for (name, value) in table.table("interfaces").map(|table| table.entries()).unwrap_or_default() {
        match interface_name(name) {
            Some(name) => track.interfaces.extend(loss(&value).map(|loss| (name, loss))),
            None => value.problem(format_args!("{name:?} is not {INTERFACE}")),
        }
    }
    for (name, value) in table.table("gateways").map(|table| table.entries()).unwrap_or_default() {
        match gateway(name, vips) {
            Ok(address) => track.gateways.extend(loss(&value).map(|loss| (address, loss))),
            Err(what) => value.problem(what),
        }
    }
    for (name, table) in table.tables("services") {
        let known = OwnerName::parse(name).ok().filter(|name| services.contains_key(name));
        if known.is_none() {
            let known: Vec<&str> = services.keys().map(OwnerName::as_str).collect();
            table.problem("", format_args!("not a service: expected one of {}", known.join(", ")));
        }
        let servers_min = table.value("servers_min").and_then(|value| value.integer(1..=10_000)).unwrap_or(1) as u32;
        let loss = table.required("loss", LOSS).and_then(|value| loss(&value));
        track.services.extend(known.zip(loss).map(|(name, loss)| (name, TrackedService { servers_min, loss })));
    }
    track
}

/// The address `text` of a gateway beside `vips`; else what is wrong with it.
fn gateway(text: &str, vips: &[IpAddr]) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    if vips.contains(&address) {
        return Err(format!("{address} is a VIP: expected an address that others have"));
    }
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(format!("{address} is no neighbour on a link"));
    }
    match vips.iter().any(|vip| vip.is_ipv4() != address.is_ipv4()) {
        true => Err(format!("{address} is not of the family of the VIPs")),
        false => Ok(address),
    }
}

fn loss(value: &Value<'_>) -> Option<Loss> {
    if value.is_text() {
        return value.choice(&[("let_go", Loss::LetGo)]);
    }
    value.integer(1..=254).map(|lost| Loss::Priority(lost as u8))
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

const AT_ONCE: Preempt = Preempt::After(Duration::ZERO);

const INTERFACE: &str = "the name of an interface: 1 to 15 characters without spaces, / and :";

const LOSS: &str = "what fewer servers cost: a number from 1 to 254 of the priority, or \"let_go\"";

#[cfg(test)]
mod tests {
    use crate::config::{Config, VipMac};

    const TEXT: &str = "region = \"seoul\"\nproxy = \"seoul-1\"\nlisten = [\"192.0.2.10:80\"]\nstatus = \"127.0.0.1:81\"\n\
                        [services.\"www.example.com\".servers]\na = \"192.0.2.21:80\"\n";

    fn parse(vrrp: &str) -> Result<Config, Vec<String>> {
        let text = format!("{TEXT}{vrrp}");
        Config::parse("p.toml".as_ref(), &text, &|_| Err("no file".to_owned()))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn problems(vrrp: &str) -> Vec<String> {
        parse(vrrp).expect_err("there is a mistake")
    }

    const RIGHT: &str = "[vrrp.web]\ninterface = \"eth0\"\nid = 51\npriority = 250\nvips = [\"192.0.2.10\"]\n";

    #[test]
    fn little_has_to_be_said() {
        let config = parse(RIGHT).expect("it is right");
        let router = &config.vrrp[0];
        assert_eq!((router.id.number(), router.rules.interval.centis(), router.mac), (51, 20, VipMac::Own));
        assert_eq!(config.held_vips(), router.vips);
    }

    #[test]
    fn everything_can_be_said() {
        let all = "interval = \"30ms\"\npreempt = \"10s\"\npeers = [\"192.0.2.3\"]\nchecksum = \"pseudo_header\"\n\
                   mac = \"virtual\"\ngroup = \"web\"\n\
                   track = { interfaces = { eth1 = 50 }, gateways = { \"192.0.2.1\" = \"let_go\" }, drain = \"let_go\", services = { \"www.example.com\" = { servers_min = 2, loss = 9 } } }\n";
        let config = parse(&format!("{RIGHT}{all}")).expect("it is right");
        let track = &config.vrrp[0].track;
        assert_eq!((track.services.len(), track.gateways.len()), (1, 1));
    }

    #[test]
    fn mistakes_name_their_line_and_what_would_be_right() {
        assert_eq!(
            problems("[vrrp.web]\npreempt = 3\n"),
            [
                "p.toml:7: vrrp.web.interface: missing: expected the name of an Ethernet interface",
                "p.toml:7: vrrp.web.id: missing: expected a whole number from 1 to 255, the same on all that share the VIPs",
                "p.toml:7: vrrp.web.priority: missing: expected a whole number from 1 to 255: the highest holds the VIPs",
                "p.toml:7: vrrp.web.vips: missing: expected a list of IP addresses",
                "p.toml:8: vrrp.web.preempt: 3 is not true or false",
            ]
        );
        for (key, problem) in [
            ("interval = \"205ms\"", "vrrp.web.interval: not whole hundredths of a second: expected such as \"200ms\""),
            ("peers = [\"192.0.2.10\"]", "vrrp.web.peers: 192.0.2.10 is a VIP: expected the peer's own address"),
            ("peers = [\"fe80::2\"]", "vrrp.web.peers: fe80::2 is not of the family of the VIPs"),
            ("track = { gateways = { gw = 9 } }", "vrrp.web.track.gateways.gw: \"gw\" is not an IP address"),
            (
                "track = { gateways = { \"192.0.2.10\" = 9 } }",
                "vrrp.web.track.gateways.\"192.0.2.10\": 192.0.2.10 is a VIP: expected an address that others have",
            ),
            (
                "track = { gateways = { \"fe80::1\" = 9 } }",
                "vrrp.web.track.gateways.\"fe80::1\": fe80::1 is not of the family of the VIPs",
            ),
            ("track = { drain = 255 }", "vrrp.web.track.drain: 255 is not a whole number from 1 to 254"),
        ] {
            assert_eq!(problems(&format!("{RIGHT}{key}\n")), [format!("p.toml:12: {problem}")]);
        }
    }

    #[test]
    fn the_example_names_every_key_and_is_right() {
        let example = include_str!("../../example.toml").lines();
        let block = example.skip_while(|line| *line != "#   [vrrp.web]").take_while(|line| line.starts_with('#'));
        let lines: Vec<&str> = block.filter_map(|line| line.strip_prefix("#   ")).collect();
        let text = lines
            .join("\n")
            .replace("www.gslb.test", "www.example.com")
            .replace("peers = []", "peers = [\"192.0.2.3\"]");
        let config = parse(&text).expect("it is right");
        assert_eq!(config.vrrp.len(), 1);
        let known = problems(&format!("{text}\nzzz = 1\n"));
        let known = known[0].split_once("expected one of ").expect("an unknown key").1;
        let is_named = |key: &str| lines.iter().any(|line| line.starts_with(&format!("{key} = ")));
        assert!(known.split(", ").all(is_named), "{known}");
    }

    #[test]
    fn what_another_key_takes_away_is_a_mistake() {
        for (line, key) in [("user = \"gslb\"", "user"), ("vips = [\"192.0.2.10\"]", "vips")] {
            let text = format!("{line}\n{TEXT}{RIGHT}");
            let problems = Config::parse("p.toml".as_ref(), &text, &|_| Err("no file".to_owned())).expect_err(key);
            let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(found.len() == 1 && found[0].starts_with(&format!("p.toml:1: {key}: ")), "{found:?}");
        }
    }

    #[test]
    fn an_ipv6_router_begins_with_a_link_local_vip_and_has_no_ipv4_one() {
        let with = |vips: &str| RIGHT.replace("\"192.0.2.10\"", vips);
        assert!(parse(&with("\"fe80::10\", \"2001:db8::10\"")).is_ok());
        let found = problems(&with("\"2001:db8::10\""));
        assert_eq!(
            found,
            [
                "p.toml:11: vrrp.web.vips: 2001:db8::10 is first: expected a link-local address there, such as \"fe80::10\""
            ]
        );
        assert!(problems(&with("\"192.0.2.10\", \"fe80::10\""))[0].contains("expected IPv4 or IPv6 alone"));
    }

    #[test]
    fn two_routers_share_neither_number_nor_vip() {
        let other = RIGHT.replace("vrrp.web", "vrrp.app");
        let found = problems(&format!("{RIGHT}{other}"));
        assert_eq!(
            found,
            [
                "p.toml:14: vrrp.app.id: 51 is that of web on eth0 already: expected another",
                "p.toml:16: vrrp.app.vips: 192.0.2.10 is a VIP of web already",
            ]
        );
    }
}
