//! Steered names as answers need them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::topology::{MemberId, MemberSet, Service, ServiceId, SteeringId};

use crate::wire::Rtype;

/// A steered name: what its members answer with.
#[derive(Debug)]
pub struct SteeredName {
    /// The service.
    pub service: ServiceId,
    /// How its regions are ordered.
    pub steering: SteeringId,
    /// Longest life of an empty answer, in seconds.
    pub empty_ttl_max: u32,
    members: Box<[Vips]>,
    /// The data of its HTTPS record up to the address hints.
    https: Option<Box<[u8]>>,
    offers: [bool; 3],
}

/// The VIPs of one member by family.
#[derive(Debug)]
struct Vips {
    v4: Addresses<Ipv4Addr>,
    v6: Addresses<Ipv6Addr>,
}

/// Addresses of one member, in the order of the settings, each once.
#[derive(Debug)]
struct Addresses<A> {
    list: Box<[A]>,
    /// For each the members of lower id that have it too; empty where there is none for any.
    earlier: Box<[MemberSet]>,
}

/// A type that steered names answer by the client's region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// A records.
    A,
    /// AAAA records.
    Aaaa,
    /// One HTTPS record with address hints (RFC 9460).
    Https,
}

impl Offer {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::A, Self::Aaaa, Self::Https];

    /// The offer that answers `qtype`.
    pub fn of(qtype: Rtype) -> Option<Self> {
        Self::ALL.into_iter().find(|offer| offer.rtype() == qtype)
    }

    /// The record type.
    pub fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Https => Rtype::HTTPS,
        }
    }
}

impl SteeredName {
    /// What `service`, whose id is `id`, answers with.
    pub(super) fn new(id: ServiceId, service: &Service) -> Self {
        let members = vips_of_members(&service.vips);
        let has_v4 = members.iter().any(|vips| !vips.v4.list.is_empty());
        let has_v6 = members.iter().any(|vips| !vips.v6.list.is_empty());
        let https = service.https.as_ref().map(|https| https_head(&https.alpn, https.port));
        let offers = [has_v4, has_v6, https.is_some()];
        Self { service: id, steering: service.steering, empty_ttl_max: service.ttl_degraded, members, https, offers }
    }

    /// Whether queries for the type of `offer` are answered by region; otherwise there is no such data, whoever asks.
    pub fn offers(&self, offer: Offer) -> bool {
        self.offers[offer as usize]
    }

    /// The IPv4 VIPs of `member`, in the order of the settings, each once.
    pub fn v4(&self, member: MemberId) -> &[Ipv4Addr] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v4.list)
    }

    /// The IPv6 VIPs of `member`.
    pub fn v6(&self, member: MemberId) -> &[Ipv6Addr] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v6.list)
    }

    /// For each of the IPv4 VIPs of `member` the members of lower id that have it too; empty where there is none for any.
    ///
    /// So VIPs that several have are given once without comparing addresses for a query.
    pub fn v4_earlier(&self, member: MemberId) -> &[MemberSet] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v4.earlier)
    }

    /// The same for IPv6.
    pub fn v6_earlier(&self, member: MemberId) -> &[MemberSet] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v6.earlier)
    }

    /// The data of its HTTPS record up to the address hints: priority 1, target ".", protocols and port.
    pub fn https_head(&self) -> &[u8] {
        self.https.as_deref().unwrap_or_default()
    }
}

impl<A> Addresses<A> {
    fn new(addresses: Vec<(A, MemberSet)>) -> Self {
        let is_shared = addresses.iter().any(|(_, earlier)| !earlier.is_empty());
        let (list, earlier): (Vec<A>, Vec<MemberSet>) = addresses.into_iter().unzip();
        Self { list: list.into(), earlier: if is_shared { earlier.into() } else { Box::default() } }
    }
}

/// What members that have `vips` answer with.
fn vips_of_members(vips: &[Vec<IpAddr>]) -> Box<[Vips]> {
    let mut owners: HashMap<IpAddr, MemberSet> = HashMap::new();
    let mut claim = |member: MemberId, vips: &[IpAddr]| {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for &vip in vips {
            let owned = owners.entry(vip).or_default();
            let earlier = *owned;
            if earlier.contains(member) {
                continue;
            }
            *owned = earlier.with(member);
            match vip {
                IpAddr::V4(address) => v4.push((address, earlier)),
                IpAddr::V6(address) => v6.push((address, earlier)),
            }
        }
        Vips { v4: Addresses::new(v4), v6: Addresses::new(v6) }
    };
    vips.iter().enumerate().map(|(at, vips)| claim(MemberId(at as u8), vips)).collect()
}

/// Parameters stand in the order of their keys (RFC 9460, section 2.2): alpn 1, port 3; the hints 4 and 6 follow.
fn https_head(alpn: &[String], port: Option<u16>) -> Box<[u8]> {
    let mut head = vec![0, 1, 0];
    if !alpn.is_empty() {
        let ids: Vec<u8> = alpn.iter().flat_map(|id| [&[id.len() as u8], id.as_bytes()].concat()).collect();
        head.extend([0, 1]);
        head.extend((ids.len() as u16).to_be_bytes());
        head.extend(ids);
    }
    if let Some(port) = port {
        head.extend([0, 3, 0, 2]);
        head.extend(port.to_be_bytes());
    }
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(vips: &[&[&str]]) -> Box<[Vips]> {
        let vips = vips.iter().map(|vips| vips.iter().map(|vip| vip.parse().expect("an address")).collect());
        vips_of_members(&vips.collect::<Vec<Vec<IpAddr>>>())
    }

    fn set(ids: &[u8]) -> MemberSet {
        ids.iter().map(|&id| MemberId(id)).collect()
    }

    #[test]
    fn each_address_knows_the_members_before_that_have_it_too() {
        let members = members(&[
            &["192.0.2.1", "192.0.2.2", "192.0.2.1"],
            &["2001:db8::1", "192.0.2.2", "192.0.2.3"],
            &["192.0.2.2", "192.0.2.4", "2001:db8::1"],
        ]);
        let v4 = [&members[0].v4.earlier, &members[1].v4.earlier, &members[2].v4.earlier];
        assert_eq!(v4.map(|earlier| &**earlier), [&[][..], &[set(&[0]), set(&[])], &[set(&[0, 1]), set(&[])]]);
        let v6 = [&members[0].v6.earlier, &members[1].v6.earlier, &members[2].v6.earlier];
        assert_eq!(v6.map(|earlier| &**earlier), [&[][..], &[], &[set(&[1])]]);
        assert_eq!(members[0].v4.list.len(), 2, "each once");
    }
}
