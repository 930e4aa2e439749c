//! Ethernet frames that a virtual router sends: advertisements to the group, gratuitous ARP, unsolicited neighbour
//! advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL, Path, RouterId, Sum, pseudo_header};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// That of a virtual router, the same whoever holds it (RFC 9568, section 7.3).
    pub fn virtual_of(router: RouterId, is_v4: bool) -> Self {
        Self([0, 0, 0x5e, 0, if is_v4 { 1 } else { 2 }, router.number()])
    }
}

/// `message`, an advertisement for the group from `source`, in a frame from `mac`.
pub fn to_group(message: &[u8], source: IpAddr, mac: Mac) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => {
            let packet = ipv4(source, GROUP_V4, message);
            ethernet(Mac([1, 0, 0x5e, 0, 0, 0x12]), mac, ETHERTYPE_IPV4, &packet)
        }
        IpAddr::V6(source) => {
            let packet = ipv6(source, GROUP_V6, PROTOCOL, TRAFFIC_CLASS, message);
            ethernet(Mac([0x33, 0x33, 0, 0, 0, 0x12]), mac, ETHERTYPE_IPV6, &packet)
        }
    }
}

/// Where a group's message goes from `source`.
pub fn group_path(source: IpAddr) -> Path {
    match source {
        IpAddr::V4(source) => Path::V4 { source, destination: GROUP_V4 },
        IpAddr::V6(source) => Path::V6 { source, destination: GROUP_V6 },
    }
}

/// Tells everyone on the link that `vip` is at `mac`: what makes them send there from now on.
///
/// For IPv4 an ARP announcement (RFC 5227, section 3), for IPv6 an unsolicited neighbour advertisement that overrides
/// what was known (RFC 9568, section 6.4.2; RFC 4861, section 7.2.6).
pub fn announcement(vip: IpAddr, mac: Mac) -> Vec<u8> {
    match vip {
        IpAddr::V4(vip) => ethernet(Mac([0xff; 6]), mac, ETHERTYPE_ARP, &arp(vip, mac)),
        IpAddr::V6(vip) => {
            let message = neighbour_advertisement(vip, mac);
            let packet = ipv6(vip, ALL_NODES, ICMPV6, 0, &message);
            ethernet(Mac([0x33, 0x33, 0, 0, 0, 1]), mac, ETHERTYPE_IPV6, &packet)
        }
    }
}

pub(super) fn ethernet(destination: Mac, source: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &kind.to_be_bytes(), payload].concat()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + message.len() as u16).to_be_bytes();
    // Not to be fragmented, and so without an identification (RFC 6864, section 4.1).
    let mut head = vec![0x45, TRAFFIC_CLASS, high, low, 0, 0, 0x40, 0, HOP_LIMIT, PROTOCOL, 0, 0];
    head.extend(source.octets());
    head.extend(destination.octets());
    let checksum = Sum::default().with(&head).checksum();
    head[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&head, message].concat()
}

pub(super) fn ipv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    traffic_class: u8,
    message: &[u8],
) -> Vec<u8> {
    let [high, low] = (message.len() as u16).to_be_bytes();
    let head = [0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, high, low, protocol, HOP_LIMIT];
    [&head[..], &source.octets(), &destination.octets(), message].concat()
}

/// A request for the address that the sender has: caches on the link take it over.
fn arp(vip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &mac.0, &vip.octets(), &[0; 6], &vip.octets()].concat()
}

fn neighbour_advertisement(vip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    // Type 136; router and override, not solicited; then the option with the link-layer address of the target.
    let head = [136, 0, 0, 0, 0xa0, 0, 0, 0];
    let mut message = [&head[..], &vip.octets(), &[2, 1], &mac.0].concat();
    let path = Path::V6 { source: vip, destination: ALL_NODES };
    let checksum = pseudo_header(path, ICMPV6, message.len()).with(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub(super) const ICMPV6: u8 = 58;

/// Network control: it goes before the rest where links are full.
const TRAFFIC_CLASS: u8 = 0xc0;

const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::packet::{self, ChecksumForm, in_ipv4};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn router() -> RouterId {
        RouterId::from_number(51).expect("it is not 0")
    }

    #[test]
    fn a_virtual_mac_tells_family_and_router() {
        assert_eq!(Mac::virtual_of(router(), true), Mac([0, 0, 0x5e, 0, 1, 51]));
        assert_eq!(Mac::virtual_of(router(), false), Mac([0, 0, 0x5e, 0, 2, 51]));
    }

    #[test]
    fn an_advertisement_in_a_frame_is_read_as_it_was_written() {
        let interval = packet::Interval::from_centis(20).expect("it is in range");
        for (source, vip) in [("192.0.2.2", "192.0.2.1"), ("fe80::2", "fe80::1")] {
            let source: IpAddr = source.parse().expect("an address");
            let addresses = vec![vip.parse().expect("an address")];
            let sent = packet::Advertisement { router: router(), priority: 9, interval, addresses };
            let path = group_path(source);
            let frame = to_group(&packet::write(&sent, path, ChecksumForm::Message), source, MAC);
            assert_eq!(frame[6..12], MAC.0);
            let got = match source {
                IpAddr::V4(_) => in_ipv4(&frame[14..]).expect("a packet of VRRP"),
                IpAddr::V6(_) => (&frame[54..], path, frame[21]),
            };
            assert_eq!((got.1, packet::read(got.0, got.1, got.2)), (path, Ok(sent)));
        }
    }

    #[test]
    fn the_checksum_of_an_ipv4_head_is_right() {
        let packet = ipv4(Ipv4Addr::new(192, 0, 2, 2), GROUP_V4, &[1, 2, 3]);
        assert_eq!(Sum::default().with(&packet[..20]).checksum(), 0);
    }

    #[test]
    fn an_arp_announcement_names_the_vip_as_sender_and_target() {
        let frame = announcement(IpAddr::from([192, 0, 2, 1]), MAC);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[22..32], [2, 0, 0, 0, 0, 1, 192, 0, 2, 1]);
        assert_eq!(frame[38..], [192, 0, 2, 1]);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_and_its_checksum_is_right() {
        let vip: Ipv6Addr = "2001:db8::10".parse().expect("an address");
        let frame = announcement(vip.into(), MAC);
        let message = &frame[54..];
        assert_eq!((frame[20], frame[21], message[0], message[4]), (ICMPV6, 255, 136, 0xa0));
        assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0, 1]);
        let path = Path::V6 { source: vip, destination: ALL_NODES };
        assert_eq!(pseudo_header(path, ICMPV6, message.len()).with(message).checksum(), 0);
    }
}
