//! Steered names as answers need them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shared::topology::{MemberId, MemberSet, Policy, Service, ServiceId, SteeringId};

use super::wire_name;
use crate::wire::{Name, Rtype};

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
    /// The data of the TXT records of each member; empty: it has none.
    txt: Box<[Texts]>,
    /// The name that each member leads to; empty: it is no alias.
    cname: Box<[Name]>,
    offers: [bool; Offer::ALL.len()],
    /// Whether several members may answer together.
    pub(super) answers_with_several: bool,
}

/// The data of the TXT records of one member, each with its character-strings.
type Texts = Box<[Box<[u8]>]>;

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
    /// TXT records.
    Txt,
    /// One CNAME record, which answers every type (RFC 1034, section 3.6.2).
    Cname,
}

impl Offer {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::A, Self::Aaaa, Self::Https, Self::Txt, Self::Cname];

    /// The one whose records are of type `rtype`.
    pub fn of(rtype: Rtype) -> Option<Self> {
        Self::ALL.into_iter().find(|offer| offer.rtype() == rtype)
    }

    /// The record type.
    pub fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Https => Rtype::HTTPS,
            Self::Txt => Rtype::TXT,
            Self::Cname => Rtype::CNAME,
        }
    }
}

impl SteeredName {
    /// What `service`, whose id is `id` and whose regions are chosen by `policy`, answers with.
    pub(super) fn new(id: ServiceId, service: &Service, policy: Policy) -> Self {
        let members = vips_of_members(&service.vips);
        let has_v4 = members.iter().any(|vips| !vips.v4.list.is_empty());
        let has_v6 = members.iter().any(|vips| !vips.v6.list.is_empty());
        let https = service.https.as_ref().map(|https| https_head(&https.alpn, https.port));
        let txt: Box<[Texts]> =
            service.txt.iter().map(|texts| texts.iter().map(|text| text_data(text)).collect()).collect();
        let cname: Box<[Name]> = service.cname.iter().map(wire_name).collect();
        let offers = [has_v4, has_v6, https.is_some(), !txt.is_empty(), !cname.is_empty()];
        let answers_with_several = policy == Policy::All;
        let (steering, empty_ttl_max) = (service.steering, service.ttl_degraded);
        Self { service: id, steering, empty_ttl_max, members, https, txt, cname, offers, answers_with_several }
    }

    /// How many members there are.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Gives the IPv4 VIPs of `members`, those that regions share once. Costs as much as there are VIPs.
    pub fn each_v4(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let earlier = if is_alone { &[] } else { self.v4_earlier(member) };
            for (at, vip) in self.v4(member).iter().enumerate() {
                if earlier.get(at).is_none_or(|earlier| !earlier.intersects(members)) {
                    each(&vip.octets());
                }
            }
        }
    }

    /// The same for IPv6.
    pub fn each_v6(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        let is_alone = members.len() == 1;
        for member in members.iter() {
            let earlier = if is_alone { &[] } else { self.v6_earlier(member) };
            for (at, vip) in self.v6(member).iter().enumerate() {
                if earlier.get(at).is_none_or(|earlier| !earlier.intersects(members)) {
                    each(&vip.octets());
                }
            }
        }
    }

    /// The same for the data of TXT records.
    pub fn each_txt(&self, members: MemberSet, mut each: impl FnMut(&[u8])) {
        for member in members.iter() {
            let is_new = |data: &_| !before(members, member).any(|earlier| self.txt(earlier).contains(data));
            self.txt(member).iter().filter(|data| is_new(data)).for_each(|data| each(data));
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
            Offer::Txt => {
                let mut texts = Vec::new();
                self.each_txt(members, |data| texts.push(data.to_vec()));
                texts
            }
            Offer::Cname => {
                let target = members.iter().find_map(|member| self.cname(member));
                target.map(|target| target.as_wire().to_vec()).into_iter().collect()
            }
        }
    }

    /// What answers `qtype`; `None`: nothing that depends on who asks. Of an alias that is its CNAME, whatever is asked.
    pub fn offer(&self, qtype: Rtype) -> Option<Offer> {
        if self.offers(Offer::Cname) {
            return Some(Offer::Cname);
        }
        Offer::of(qtype).filter(|&offer| self.offers(offer))
    }

    /// Whether there is data of the type of `offer`, by region; otherwise that of the zone answers, whoever asks.
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

    /// The data of the TXT records of `member`, in the order of the settings, each once.
    pub fn txt(&self, member: MemberId) -> &[Box<[u8]>] {
        self.txt.get(usize::from(member.0)).map_or(&[], |texts| texts)
    }

    /// The name that `member` leads to, where this is an alias.
    pub fn cname(&self, member: MemberId) -> Option<&Name> {
        self.cname.get(usize::from(member.0))
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

fn before(members: MemberSet, member: MemberId) -> impl Iterator<Item = MemberId> {
    members.iter().take_while(move |&earlier| earlier != member)
}

/// `text` as character-strings of at most 255 octets, one at least (RFC 1035, section 3.3.14).
fn text_data(text: &str) -> Box<[u8]> {
    if text.is_empty() {
        return Box::new([0]);
    }
    text.as_bytes().chunks(255).flat_map(|string| [&[string.len() as u8], string].concat()).collect()
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
