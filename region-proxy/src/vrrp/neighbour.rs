//! Ethernet frames that ask for a neighbour on the link, and what answers look like: ARP and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV6, ICMPV6, Mac, ethernet, ipv6};
use super::packet::{HOP_LIMIT, Path, pseudo_header};

/// Asks everyone on the link for `neighbour`, from `source` at `mac`; `None`: these two are of different families.
///
/// For IPv4 an ARP request (RFC 826), for IPv6 a neighbour solicitation (RFC 4861, section 4.3).
pub fn question(neighbour: IpAddr, source: IpAddr, mac: Mac) -> Option<Vec<u8>> {
    match (neighbour, source) {
        (IpAddr::V4(neighbour), IpAddr::V4(source)) => {
            let head = [0, 1, 8, 0, 6, 4, 0, 1];
            let message = [&head[..], &mac.0, &source.octets(), &[0; 6], &neighbour.octets()].concat();
            Some(ethernet(Mac([0xff; 6]), mac, ETHERTYPE_ARP, &message))
        }
        (IpAddr::V6(neighbour), IpAddr::V6(source)) => {
            let [.., a, b, c] = neighbour.octets();
            // Where those listen who may have an address with this end (RFC 4291, section 2.7.1).
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let mut message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &neighbour.octets(), &[1, 1], &mac.0].concat();
            let path = Path::V6 { source, destination: group };
            let checksum = pseudo_header(path, ICMPV6, message.len()).with(&message).checksum();
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            let packet = ipv6(source, group, ICMPV6, 0, &message);
            Some(ethernet(Mac([0x33, 0x33, 0xff, a, b, c]), mac, ETHERTYPE_IPV6, &packet))
        }
        _ => None,
    }
}

/// Who says in `frame` where it is; `None`: it is something else.
///
/// Who is not on the link cannot send one (RFC 4861, section 7.1.2: the hop limit).
pub fn answer(frame: &[u8]) -> Option<IpAddr> {
    let ethertype = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let message = frame.get(14..)?;
    match ethertype {
        ETHERTYPE_ARP if message.starts_with(&[0, 1, 8, 0, 6, 4, 0, 2]) => {
            let sender: [u8; 4] = message.get(14..18)?.try_into().ok()?;
            Some(sender.into())
        }
        ETHERTYPE_IPV6 if *message.get(6..8)? == [ICMPV6, HOP_LIMIT] && *message.get(40)? == ADVERTISEMENT => {
            let target: [u8; 16] = message.get(48..64)?.try_into().ok()?;
            Some(target.into())
        }
        _ => None,
    }
}

/// The types of neighbour discovery (RFC 4861, section 4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::vrrp::frame::announcement;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_arp_request_names_who_asks_and_who_is_sought() {
        let frame = question(ip("192.0.2.1"), ip("192.0.2.2"), MAC).expect("one family");
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[20..32], [0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 2]);
        assert_eq!(frame[38..], [192, 0, 2, 1]);
    }

    #[test]
    fn a_solicitation_goes_to_the_group_of_its_target_with_a_right_checksum() {
        let frame = question(ip("2001:db8::1:2:3"), ip("fe80::2"), MAC).expect("one family");
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 2, 0, 3]);
        let group: Ipv6Addr = "ff02::1:ff02:3".parse().expect("an address");
        assert_eq!(frame[38..54], group.octets());
        let path = Path::V6 { source: "fe80::2".parse().expect("an address"), destination: group };
        assert_eq!(pseudo_header(path, ICMPV6, frame.len() - 54).with(&frame[54..]).checksum(), 0);
    }

    #[test]
    fn families_do_not_ask_each_other() {
        assert_eq!(question(ip("192.0.2.1"), ip("fe80::2"), MAC), None);
    }

    #[test]
    fn answers_tell_who_answers_and_questions_do_not() {
        let mut reply = question(ip("192.0.2.2"), ip("192.0.2.1"), MAC).expect("one family");
        assert_eq!(answer(&reply), None);
        reply[21] = 2;
        assert_eq!(answer(&reply), Some(ip("192.0.2.1")));
        let mut advertisement = announcement(ip("fe80::1"), MAC);
        assert_eq!(answer(&advertisement), Some(ip("fe80::1")));
        advertisement[21] = 64;
        assert_eq!(answer(&advertisement), None, "it came from beyond the link");
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_is_none(mut frame in vec(any::<u8>(), 0..100), is_v4 in any::<bool>()) {
            if let Some(kind) = frame.get_mut(12..14) {
                kind.copy_from_slice(&(if is_v4 { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 }).to_be_bytes());
            }
            answer(&frame);
        }
    }
}
