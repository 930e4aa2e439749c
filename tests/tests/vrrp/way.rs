//! The ways in which two routers on hosts a and b may speak of their VIPs.

use std::net::IpAddr;

use region_proxy::config::VipMac;
use region_proxy::vrrp::packet::ChecksumForm;

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    pub(crate) family: Family,
    /// What proxies send; the same as others for IPv6.
    pub(crate) checksum: ChecksumForm,
    pub(crate) to: To,
    pub(crate) mac: VipMac,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Whom routers tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum To {
    /// All routers of the link.
    Group,
    /// The other one alone.
    Peer,
}

impl Way {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let forms = [
            (Family::V4, ChecksumForm::Message),
            (Family::V4, ChecksumForm::PseudoHeader),
            (Family::V6, ChecksumForm::Message),
        ];
        let links =
            [To::Group, To::Peer].into_iter().flat_map(|to| [VipMac::Own, VipMac::Virtual].map(|mac| (to, mac)));
        links.flat_map(|(to, mac)| forms.map(|(family, checksum)| Self { family, checksum, to, mac })).collect()
    }

    /// As proxies speak by default.
    pub(crate) fn plain(family: Family) -> Self {
        Self { family, checksum: ChecksumForm::Message, to: To::Group, mac: VipMac::Own }
    }

    /// The VIP that clients know.
    pub(crate) fn vip(self) -> IpAddr {
        let vip = if self.family == Family::V4 { "192.0.2.10" } else { "2001:db8::10" };
        vip.parse().expect("an address")
    }

    /// All VIPs, in order.
    pub(crate) fn vips(self) -> &'static [&'static str] {
        if self.family == Family::V4 { &["192.0.2.10"] } else { &["fe80::10", "2001:db8::10"] }
    }

    /// The Ethernet address that is the same on both hosts.
    pub(crate) fn virtual_mac(self) -> &'static str {
        if self.family == Family::V4 { "00:00:5e:00:01:33" } else { "00:00:5e:00:02:33" }
    }

    /// The address from which the router on `host` speaks.
    pub(crate) fn address(self, host: &str) -> &'static str {
        match (self.family, host) {
            (Family::V4, "a") => "192.0.2.2",
            (Family::V4, _) => "192.0.2.3",
            (Family::V6, "a") => "fe80::2",
            (Family::V6, _) => "fe80::3",
        }
    }

    /// What the proxy on `host` is told.
    pub(crate) fn proxy(self, host: &str, priority: u8, interval: &str) -> String {
        let mut told = format!("priority = {priority}\ninterval = \"{interval}\"\nvips = {:?}\n", self.vips());
        if self.family == Family::V4 && self.checksum == ChecksumForm::PseudoHeader {
            told += "checksum = \"pseudo_header\"\n";
        }
        if self.to == To::Peer {
            told += &format!("peers = [{:?}]\n", self.address(other(host)));
        }
        if self.mac == VipMac::Virtual {
            told += "mac = \"virtual\"\n";
        }
        told
    }

    /// What the keepalived on `host` is told, with adverts every 200 ms.
    pub(crate) fn keepalived(self, host: &str, priority: u8) -> String {
        let vips: String = self.vips().iter().map(|vip| format!(" {vip}\n")).collect();
        let mut told = format!("priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n{vips} }}\n");
        if self.to == To::Peer {
            let (own, peer) = (self.address(host), self.address(other(host)));
            told += &format!(" unicast_ttl 255\n unicast_src_ip {own}\n unicast_peer {{\n {peer}\n }}\n");
        }
        if self.mac == VipMac::Virtual {
            told += " use_vmac vrrp51\n";
        }
        told
    }
}

fn other(host: &str) -> &'static str {
    if host == "a" { "b" } else { "a" }
}
