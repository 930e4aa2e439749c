//! Changing a zone record by record.
//!
//! What comes out may be no zone that can be served: [`Zone::problems`] says so.

use std::hash::Hasher as _;
use std::sync::Arc;

use shared::problem::{Problem, Problems};
use siphasher::sip::SipHasher13;

use super::rdata::folded;
use super::{FilePlace, Map, Rdata, Record, Rrset, Zone, check};
use crate::wire::{Name, Rtype, is_at_or_below, parent};

/// One record by itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ZoneRecord {
    /// In lower case.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL, in seconds.
    pub ttl: u32,
    /// Its data, uncompressed.
    pub rdata: Box<[u8]>,
}

impl ZoneRecord {
    /// Whether owner, type and data are the same; names in the data may differ in case (RFC 4343).
    pub fn is_same_but_ttl(&self, other: &Self) -> bool {
        self.owner == other.owner && self.rtype == other.rtype && is_same_rdata(self.rtype, &self.rdata, &other.rdata)
    }
}

impl Zone {
    /// Whether a zone may hold `owner`, in lower case: it is the zone's name or lies below.
    pub fn may_hold(&self, owner: &Name) -> bool {
        is_at_or_below(owner.as_wire(), self.apex.as_wire())
    }

    /// The types of all RRsets of `owner`, in lower case; none for an empty non-terminal (RFC 8499, section 7).
    pub fn types_of(&self, owner: &Name) -> impl Iterator<Item = Rtype> {
        self.nodes.get(owner.as_wire()).into_iter().flatten().map(|rrset| rrset.rtype)
    }

    /// Whether `owner`, in lower case, has an RRset of this type.
    pub fn has_rrset(&self, owner: &Name, rtype: Rtype) -> bool {
        self.rrset(owner.as_wire(), rtype).is_some()
    }

    /// Whether it holds `record`, whatever the TTL.
    pub fn has_but_ttl(&self, record: &ZoneRecord) -> bool {
        let rrset = self.rrset(record.owner.as_wire(), record.rtype);
        rrset.is_some_and(|rrset| rrset.rdatas().any(|rdata| is_same_rdata(record.rtype, rdata, &record.rdata)))
    }

    /// The records of one RRset, in order; none where it does not exist.
    pub fn rrset_of(&self, owner: &Name, rtype: Rtype) -> Vec<ZoneRecord> {
        let rrset = self.rrset(owner.as_wire(), rtype);
        rrset.into_iter().flat_map(|rrset| records_of(owner, rrset)).collect()
    }

    /// All records of `owner`, in lower case.
    pub fn records_of(&self, owner: &Name) -> Vec<ZoneRecord> {
        let node = self.nodes.get(owner.as_wire());
        node.into_iter().flatten().flat_map(|rrset| records_of(owner, rrset)).collect()
    }

    /// Adds `record`, or gives the one that is the same its TTL and spelling. The TTL becomes that of the whole RRset,
    /// since all of its records have one (RFC 2181, section 5.2).
    pub fn put(&mut self, record: ZoneRecord) {
        let ZoneRecord { owner, rtype, ttl, rdata } = record;
        self.add_node(owner.as_wire());
        let Some(node) = self.nodes_mut().get_mut(owner.as_wire()) else { return };
        let record = Record { rdata: Rdata::new(&rdata), place: FilePlace::NOWHERE };
        let Some(rrset) = node.iter_mut().find(|rrset| rrset.rtype == rtype) else {
            node.push(Rrset { rtype, ttl, records: vec![record] });
            return;
        };
        rrset.ttl = ttl;
        match rrset.records.iter_mut().find(|known| is_same_rdata(rtype, known.rdata.octets(), &rdata)) {
            Some(known) => known.rdata = record.rdata,
            None => rrset.records.push(record),
        }
    }

    /// Removes one record; whether it was there. Names that are not needed any more stay until [`Zone::prune`].
    pub fn remove(&mut self, owner: &Name, rtype: Rtype, rdata: &[u8]) -> bool {
        let Some(node) = self.nodes_mut().get_mut(owner.as_wire()) else { return false };
        let Some(at) = node.iter().position(|rrset| rrset.rtype == rtype) else { return false };
        let records = &mut node[at].records;
        let Some(found) = records.iter().position(|known| is_same_rdata(rtype, known.rdata.octets(), rdata)) else {
            return false;
        };
        records.remove(found);
        if records.is_empty() {
            node.remove(at);
        }
        true
    }

    /// Removes the RRsets of `owner` for which `is_meant` holds. Names stay until [`Zone::prune`].
    pub fn remove_rrsets(&mut self, owner: &Name, is_meant: impl Fn(Rtype) -> bool) {
        if let Some(node) = self.nodes_mut().get_mut(owner.as_wire()) {
            node.retain(|rrset| !is_meant(rrset.rtype));
        }
    }

    /// Removes names without records that no name with records lies below.
    pub fn prune(&mut self) {
        let mut needed: Map<Box<[u8]>, ()> = Map::default();
        for owner in self.nodes.iter().filter(|(_, node)| !node.is_empty()).map(|(owner, _)| owner) {
            let mut name = &**owner;
            while let Some(above) = parent(name).filter(|_| name.len() > self.apex.as_wire().len()) {
                if needed.insert(above.into(), ()).is_some() {
                    break;
                }
                name = above;
            }
        }
        let apex = self.apex.as_wire();
        Arc::make_mut(&mut self.nodes)
            .retain(|owner, node| !node.is_empty() || **owner == *apex || needed.contains_key(owner));
    }

    /// Every mistake in what the records say together; those that changes made have no line.
    pub fn problems(&self) -> Vec<Problem> {
        let problems = Problems::new(&self.file, "");
        check::check(self, &problems);
        problems.into_vec().into_iter().map(|problem| Problem { line: None, ..problem }).collect()
    }

    /// A hash of all records but for the serial, whatever their order: the same in every process and on every machine.
    pub fn digest(&self) -> u64 {
        let records = self.nodes.iter().flat_map(|(owner, node)| node.iter().map(move |rrset| (owner, rrset)));
        let digest = |owner: &[u8], rrset: &Rrset, rdata: &[u8]| {
            let mut hasher = SipHasher13::new();
            hasher.write(owner);
            hasher.write(&rrset.rtype.0.to_be_bytes());
            hasher.write(&rrset.ttl.to_be_bytes());
            match serial_at(rrset.rtype, rdata) {
                Some(at) => [&rdata[..at], &rdata[at + 4..]].into_iter().for_each(|octets| hasher.write(octets)),
                None => hasher.write(rdata),
            }
            hasher.finish()
        };
        records
            .flat_map(|(owner, rrset)| rrset.rdatas().map(move |rdata| digest(owner, rrset, rdata)))
            .fold(0, u64::wrapping_add)
    }

    /// Writes `serial` into the SOA record.
    pub fn set_serial(&mut self, serial: u32) {
        let apex = self.apex.clone();
        if let Some(mut soa) = self.rrset_of(&apex, Rtype::SOA).pop() {
            soa.set_serial(serial);
            self.remove_rrsets(&apex, |rtype| rtype == Rtype::SOA);
            self.put(soa);
        }
    }

    /// The name of its file, for problems.
    pub fn file(&self) -> &str {
        &self.file
    }
}

impl ZoneRecord {
    /// The serial of a SOA record; `None` for others.
    pub fn serial(&self) -> Option<u32> {
        let at = serial_at(self.rtype, &self.rdata)?;
        self.rdata.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
    }

    /// Writes `serial` into a SOA record; others stay as they are.
    pub fn set_serial(&mut self, serial: u32) {
        if let Some(at) = serial_at(self.rtype, &self.rdata) {
            self.rdata[at..at + 4].copy_from_slice(&serial.to_be_bytes());
        }
    }
}

/// Whether the same data is in both; names in it may differ in case.
fn is_same_rdata(rtype: Rtype, a: &[u8], b: &[u8]) -> bool {
    a == b || (a.eq_ignore_ascii_case(b) && folded(rtype, a) == folded(rtype, b))
}

/// Where the serial of a SOA record stands.
fn serial_at(rtype: Rtype, rdata: &[u8]) -> Option<usize> {
    (rtype == Rtype::SOA).then(|| rdata.len().checked_sub(20))?
}

fn records_of<'a>(owner: &'a Name, rrset: &'a Rrset) -> impl Iterator<Item = ZoneRecord> + use<'a> {
    let record =
        |rdata: &[u8]| ZoneRecord { owner: owner.clone(), rtype: rrset.rtype, ttl: rrset.ttl, rdata: rdata.into() };
    rrset.rdatas().map(record)
}
