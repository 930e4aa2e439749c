//! All records of a zone in one row, as its secondaries get them.

use std::borrow::Borrow;

use shared::topology::{MemberSet, Policy, ServiceId, Topology};

use super::overlay::deepest;
use super::rdata::Layout;
use super::steered::{Offer, SteeredName};
use super::{Zone, wire_name};
use crate::wire::{CLASS_IN, Name, Rtype};

/// All records of a zone: immutable, and nothing but octets.
#[derive(Debug, Eq, PartialEq)]
pub struct Content {
    apex: Name,
    /// The SOA record.
    soa: Box<[u8]>,
    /// All other records, uncompressed, in the order of their octets: those of an owner and type stand together.
    records: Box<[u8]>,
}

/// One record, uncompressed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ContentRecord<'a> {
    octets: &'a [u8],
    owner_len: usize,
}

/// Records that stand in a row.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(&'a [u8]);

/// Puts content together.
pub(super) struct Collector {
    octets: Vec<u8>,
    /// Where each record starts and ends.
    spans: Vec<(u32, u32)>,
    soa: Vec<u8>,
}

impl Content {
    /// All that the zone at `at` of `zones` says, steered names included, as a server answers that knows neither clients
    /// nor health: with what all regions in the first tier give (of the first one, where they are `ordered`), and the
    /// normal TTL.
    ///
    /// Of a zone that is signed here the same, with signatures, comes out of [`ZoneSet::build_signed`].
    ///
    /// [`ZoneSet::build_signed`]: super::ZoneSet::build_signed
    pub fn of<Z: Borrow<Zone>>(zones: &[Z], at: usize, topology: &Topology) -> Self {
        let zone = zones[at].borrow();
        let mut collector = Collector::new();
        for (owner, node) in &*zone.nodes {
            for rrset in node {
                rrset.rdatas().for_each(|rdata| collector.add(owner, rrset.rtype, rrset.ttl, rdata));
            }
        }
        for (service, id) in topology.services.iter().zip(0..) {
            let name = wire_name(&service.name);
            if deepest(zones, name.as_wire()) != Some(at) {
                continue;
            }
            let steered = SteeredName::new(ServiceId(id), service, topology.steering(service).policy);
            for (rtype, rdatas) in default_rrsets(&steered, topology) {
                rdatas.iter().for_each(|rdata| collector.add(name.as_wire(), rtype, service.ttl, rdata));
            }
        }
        collector.finish(zone.apex.clone())
    }

    /// The zone `apex`, in lower case, made of `records`: owner in lower case, type, TTL, data. One of them is its SOA.
    pub fn collect<'a>(apex: Name, records: impl IntoIterator<Item = (&'a [u8], Rtype, u32, &'a [u8])>) -> Self {
        let mut collector = Collector::new();
        records.into_iter().for_each(|(owner, rtype, ttl, rdata)| collector.add(owner, rtype, ttl, rdata));
        collector.finish(apex)
    }

    /// The zone's name, in lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The serial in its SOA record.
    pub fn serial(&self) -> u32 {
        // Behind it come four numbers.
        self.soa.last_chunk::<20>().map_or(0, |&[a, b, c, d, ..]| u32::from_be_bytes([a, b, c, d]))
    }

    /// The octets of its SOA record.
    pub fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// The octets of all other records.
    pub fn rest(&self) -> &[u8] {
        &self.records
    }

    /// Octets of all records.
    pub fn len(&self) -> usize {
        self.soa.len() + self.records.len()
    }

    /// Never: there is an SOA record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Collector {
    pub(super) fn new() -> Self {
        Self { octets: Vec::new(), spans: Vec::new(), soa: Vec::new() }
    }

    /// Adds a record; `owner` is in lower case.
    pub(super) fn add(&mut self, owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8]) {
        let start = self.octets.len();
        let out = if rtype == Rtype::SOA { &mut self.soa } else { &mut self.octets };
        out.extend_from_slice(owner);
        out.extend_from_slice(&rtype.0.to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(rdata);
        if rtype != Rtype::SOA {
            self.spans.push((start as u32, self.octets.len() as u32));
        }
    }

    /// The content of the zone `apex`.
    pub(super) fn finish(mut self, apex: Name) -> Content {
        let record = |(start, end): (u32, u32)| &self.octets[start as usize..end as usize];
        self.spans.sort_unstable_by_key(|&span| record(span));
        let mut records = Vec::with_capacity(self.octets.len());
        self.spans.iter().for_each(|&span| records.extend_from_slice(record(span)));
        Content { apex, soa: self.soa.into(), records: records.into() }
    }
}

impl<'a> Records<'a> {
    /// Those that `octets` are made of.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = ContentRecord<'a>;

    fn next(&mut self) -> Option<ContentRecord<'a>> {
        let (owner, rest) = Name::split_from(self.0)?;
        let &[.., high, low] = rest.first_chunk::<FIXED_LEN>()?;
        let len = owner.len() + FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
        let (octets, rest) = self.0.split_at_checked(len)?;
        let owner_len = owner.len();
        self.0 = rest;
        Some(ContentRecord { octets, owner_len })
    }
}

impl<'a> ContentRecord<'a> {
    /// All octets.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The owner, in lower case.
    pub fn owner(&self) -> &'a [u8] {
        &self.octets[..self.owner_len]
    }

    /// Type, class and TTL.
    pub fn type_class_ttl(&self) -> &'a [u8] {
        &self.octets[self.owner_len..self.owner_len + FIXED_LEN - 2]
    }

    /// The data, as pieces: octets to copy, names that may be compressed in a message (RFC 3597, section 4), and octets to
    /// copy again.
    pub fn rdata(&self) -> (&'a [u8], [&'a [u8]; 2], &'a [u8]) {
        let rdata = &self.octets[self.owner_len + FIXED_LEN..];
        let [high, low, ..] = *self.type_class_ttl() else { return (rdata, [&[], &[]], &[]) };
        let layout = Layout::of(Rtype(u16::from_be_bytes([high, low])));
        match layout.split(rdata).filter(|_| layout.is_compressible) {
            Some(parts) => (parts.head, parts.names, parts.rest),
            None => (rdata, [&[], &[]], &[]),
        }
    }
}

/// What a steered name answers where nobody decides: the data of each of its types that has some.
pub(super) fn default_rrsets(steered: &SteeredName, topology: &Topology) -> Vec<(Rtype, Vec<Vec<u8>>)> {
    let steering = &topology.steerings[steered.steering.0 as usize];
    let first_tier = steering.members.iter().map(|member| member.tier).min();
    let members = steering.member_ids().filter(|&member| Some(steering.member(member).tier) == first_tier);
    // Where the order is written, the second is there for when the first is not.
    let count = if steering.policy == Policy::Ordered { 1 } else { usize::MAX };
    let members: MemberSet = members.take(count).collect();
    let offers = Offer::ALL.into_iter().filter(|&offer| steered.offers(offer));
    let rrsets = offers.map(|offer| (offer.rtype(), steered.rdatas(offer, members)));
    rrsets.filter(|(_, rdatas)| !rdatas.is_empty()).collect()
}

/// Type, class, TTL and length of the data.
const FIXED_LEN: usize = 10;

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
    use shared::name::OwnerName;

    use super::*;

    fn content(text: &str) -> Content {
        let zone = Zone::parse(&OwnerName::parse("example.com").expect("a name"), "z", text).expect("no mistakes");
        Content::of(&[zone], 0, &Topology::default())
    }

    const START: &str = "$TTL 300\n@ SOA ns1 m 7 4h 1h 2w 5m\n@ NS ns1\nns1 A 192.0.2.53\n";

    #[test]
    fn every_record_is_in_it_once_and_reads_back() {
        let content = content(&format!("{START}b.a TXT x \"y z\"\n@ MX 5 Mail\nkid NS ns.kid\nns.kid A 192.0.2.9\n"));
        assert_eq!((content.serial(), content.apex().to_string()), (7, "example.com.".to_owned()));
        let shown = |octets: &[u8]| {
            Records::new(octets)
                .map(|record| {
                    let mut decoder = BinDecoder::new(record.octets());
                    Record::read(&mut decoder).expect("readable").to_string()
                })
                .collect::<Vec<_>>()
        };
        assert!(shown(content.soa())[0].starts_with("example.com. 300 IN SOA ns1.example.com."));
        let mut found = shown(content.rest());
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "b.a.example.com. 300 IN TXT xy z",
                "example.com. 300 IN MX 5 Mail.example.com.",
                "example.com. 300 IN NS ns1.example.com.",
                "kid.example.com. 300 IN NS ns.kid.example.com.",
                "ns.kid.example.com. 300 IN A 192.0.2.9",
                "ns1.example.com. 300 IN A 192.0.2.53",
            ]
        );
    }

    #[test]
    fn order_of_the_file_is_no_difference() {
        let lines = ["a A 192.0.2.1\n", "a A 192.0.2.2\n", "b TXT x\n"];
        let forth = content(&format!("{START}{}", lines.concat()));
        let back = content(&format!("{START}{}{}{}", lines[2], lines[1], lines[0]));
        assert_eq!(forth, back);
    }
}
