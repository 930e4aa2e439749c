//! Steered names as answers need them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::topology::{MemberId, MemberSet, Policy, Service, ServiceId, SteeringId};

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
    /// Whether several members may answer together.
    pub(super) answers_with_several: bool,
}

/// The VIPs of one member by family, in the order of the settings.
#[derive(Debug, Default)]
struct Vips {
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
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
    /// What `service`, whose id is `id` and whose regions are chosen by `policy`, answers with.
    pub(super) fn new(id: ServiceId, service: &Service, policy: Policy) -> Self {
        let members: Box<[Vips]> = service.vips.iter().map(|vips| Vips::new(vips)).collect();
        let has_v4 = members.iter().any(|vips| !vips.v4.is_empty());
        let has_v6 = members.iter().any(|vips| !vips.v6.is_empty());
        let https = service.https.as_ref().map(|https| https_head(&https.alpn, https.port));
        let offers = [has_v4, has_v6, https.is_some()];
        Self {
            service: id,
            steering: service.steering,
            empty_ttl_max: service.ttl_degraded,
            members,
            https,
            offers,
            answers_with_several: policy == Policy::All,
        }
    }

    /// How many members there are.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Gives the IPv4 VIPs of `members`, those that regions share once.
    pub fn each_v4(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let is_new = |vip: &_| is_alone || !before(members, member).any(|earlier| self.v4(earlier).contains(vip));
            self.v4(member).iter().filter(|vip| is_new(vip)).for_each(|vip| each(&vip.octets()));
        }
    }

    /// The same for IPv6.
    pub fn each_v6(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let is_new = |vip: &_| is_alone || !before(members, member).any(|earlier| self.v6(earlier).contains(vip));
            self.v6(member).iter().filter(|vip| is_new(vip)).for_each(|vip| each(&vip.octets()));
        }
    }

    /// The data of the records that `members` answer with, as answers have them.
    pub(super) fn rdatas(&self, offer: Offer, members: MemberSet) -> Vec<Vec<u8>> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.each_v4(members, |vip| v4.push(vip.to_vec()));
        self.each_v6(members, |vip| v6.push(vip.to_vec()));
        match offer {
            Offer::A => v4,
            Offer::Aaaa => v6,
            Offer::Https => {
                let mut rdata = self.https_head().to_vec();
                for (key, hints) in [(KEY_IPV4HINT, v4.concat()), (KEY_IPV6HINT, v6.concat())] {
                    if !hints.is_empty() {
                        rdata.extend(key.to_be_bytes());
                        rdata.extend((hints.len() as u16).to_be_bytes());
                        rdata.extend(hints);
                    }
                }
                vec![rdata]
            }
        }
    }

    /// Whether queries for the type of `offer` are answered by region; otherwise there is no such data, whoever asks.
    pub fn offers(&self, offer: Offer) -> bool {
        self.offers[offer as usize]
    }

    /// The IPv4 VIPs of `member`, in the order of the settings, each once.
    pub fn v4(&self, member: MemberId) -> &[Ipv4Addr] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v4)
    }

    /// The IPv6 VIPs of `member`.
    pub fn v6(&self, member: MemberId) -> &[Ipv6Addr] {
        self.members.get(usize::from(member.0)).map_or(&[], |vips| &vips.v6)
    }

    /// The data of its HTTPS record up to the address hints: priority 1, target ".", protocols and port.
    pub fn https_head(&self) -> &[u8] {
        self.https.as_deref().unwrap_or_default()
    }
}

impl Vips {
    fn new(vips: &[IpAddr]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for vip in vips {
            match vip {
                IpAddr::V4(address) if !v4.contains(address) => v4.push(*address),
                IpAddr::V6(address) if !v6.contains(address) => v6.push(*address),
                _ => {}
            }
        }
        Self { v4: v4.into(), v6: v6.into() }
    }
}

fn before(members: MemberSet, member: MemberId) -> impl Iterator<Item = MemberId> {
    members.iter().take_while(move |&earlier| earlier != member)
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

/// The parameters that hold addresses (RFC 9460, section 14.3.2).
pub(crate) const KEY_IPV4HINT: u16 = 4;
pub(crate) const KEY_IPV6HINT: u16 = 6;
