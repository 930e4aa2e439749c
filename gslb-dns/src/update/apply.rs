//! The changes of an update: their form, who may make them, and what they do (RFC 2136, sections 2.5 and 3.4).

use std::collections::HashSet;

use super::{Access, Class, Delta, Given, Keys, Refusal};
use crate::wire::{Name, Rtype};
use crate::zone::{TTL_MAX, Zone, ZoneRecord, is_meta, is_newer};

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(ZoneRecord),
    DeleteName(Name),
    DeleteRrset(Name, Rtype),
    DeleteRecord(ZoneRecord),
}

/// The changes that `given` stand for (RFC 2136, section 3.4.1).
///
/// ```text
/// class  type  TTL  data   change
/// IN     type       data   add the record
/// ANY    type  0    empty  delete the RRset
/// ANY    ANY   0    empty  delete all RRsets of the name
/// NONE   type  0    data   delete the record
/// ```
pub(super) fn prescan(zone: &Zone, given: &[Given]) -> Result<Vec<Change>, Refusal> {
    given.iter().map(|given| Change::read(zone, given)).collect()
}

/// The zone after `changes` of `zone`, in their order; `None` where they change nothing.
///
/// The serial becomes the next one (RFC 1982), unless the changes set a later one (RFC 2136, section 3.6).
pub(super) fn apply(zone: &Zone, changes: &[Change]) -> Option<(Zone, Delta)> {
    let mut next = zone.clone();
    let mut touched = Vec::new();
    let mut seen = HashSet::new();
    for change in changes {
        change.make(&mut next);
        if seen.insert(change.owner()) {
            touched.push(change.owner().clone());
        }
    }
    if Delta::between(zone, &next, &touched).is_empty() {
        return None;
    }
    next.prune();
    if !is_newer(next.serial(), zone.serial()) {
        next.set_serial(zone.serial().wrapping_add(1));
    }
    if !seen.contains(zone.apex()) {
        touched.push(zone.apex().clone());
    }
    let delta = Delta::between(zone, &next, &touched);
    Some((next, delta))
}

/// Adds `record` as section 3.4.2.2 has it.
///
/// ```text
/// the name has a CNAME, the record is another type        nothing
/// the record is a CNAME, the name has other data          nothing (RRSIG and NSEC do not count, RFC 4034)
/// SOA, and there is none, or it has a later serial        nothing
/// SOA, CNAME, DNAME                                       takes the place of the one that is there
/// the same record stands there                            gets the new TTL, and all of its RRset with it
/// ```
pub(super) fn add(zone: &mut Zone, record: ZoneRecord) {
    let is_signing_data = |rtype| matches!(rtype, Rtype::RRSIG | Rtype::NSEC);
    let owner = &record.owner;
    let conflicts = |other: Rtype| match (record.rtype, other) {
        (Rtype::CNAME, other) => other != Rtype::CNAME && !is_signing_data(other),
        (_, Rtype::CNAME) => !is_signing_data(record.rtype),
        _ => false,
    };
    if zone.types_of(owner).any(conflicts) {
        return;
    }
    if record.rtype == Rtype::SOA {
        let (there, given) = (zone.serial(), record.serial().unwrap_or_default());
        if owner != zone.apex() || !(there == given || is_newer(given, there)) {
            return;
        }
    }
    if matches!(record.rtype, Rtype::SOA | Rtype::CNAME | Rtype::DNAME) {
        let rtype = record.rtype;
        zone.remove_rrsets(&record.owner, |known| known == rtype);
    }
    zone.put(record);
}

impl Change {
    fn read(zone: &Zone, given: &Given) -> Result<Self, Refusal> {
        let Given { owner, rtype, class, ttl, len, rdata } = given;
        let (owner, rtype) = (owner.clone(), *rtype);
        if !zone.may_hold(&owner) {
            return Err(Refusal::Outside(owner));
        }
        let is_any = rtype == Rtype::ANY;
        match class {
            Class::Other => return Err(Refusal::Malformed("a change of another class")),
            Class::Any if is_any => {}
            _ if is_meta(rtype) => return Err(Refusal::Malformed("a change of a type that no zone has")),
            _ => {}
        }
        if *class == Class::In && *ttl > TTL_MAX {
            return Err(Refusal::Malformed("a record with a TTL above 2^31 - 1"));
        }
        if *class != Class::In && *ttl != 0 {
            return Err(Refusal::Malformed("a deletion with a TTL"));
        }
        if *class == Class::Any {
            return match *len {
                0 if is_any => Ok(Self::DeleteName(owner)),
                0 => Ok(Self::DeleteRrset(owner, rtype)),
                _ => Err(Refusal::Malformed("a deletion of an RRset with data")),
            };
        }
        let rdata = rdata.clone().ok_or(Refusal::Malformed("a record with broken data"))?;
        let record = ZoneRecord { owner, rtype, ttl: *ttl, rdata };
        Ok(if *class == Class::In { Self::Add(record) } else { Self::DeleteRecord(record) })
    }

    fn owner(&self) -> &Name {
        match self {
            Self::Add(record) | Self::DeleteRecord(record) => &record.owner,
            Self::DeleteName(owner) | Self::DeleteRrset(owner, _) => owner,
        }
    }

    /// Whether it may be made (RFC 2136, section 3.3). Who deletes a name must be allowed every type that it has.
    pub(super) fn permit(&self, zone: &Zone, access: &Access<'_>) -> Result<(), Refusal> {
        let owner = self.owner();
        let rtype = match self {
            Self::Add(record) | Self::DeleteRecord(record) => record.rtype,
            Self::DeleteRrset(_, rtype) => *rtype,
            Self::DeleteName(_) => {
                if !access.policy.allows_name(access.key, owner, zone.apex()) {
                    return Err(Refusal::NotAllowed(owner.clone(), Rtype::ANY));
                }
                let is_kept = |rtype| owner == zone.apex() && matches!(rtype, Rtype::SOA | Rtype::NS);
                let mut types = zone.types_of(owner).filter(|&rtype| !is_kept(rtype));
                return types.try_for_each(|rtype| permit_type(owner, rtype, zone, access));
            }
        };
        permit_type(owner, rtype, zone, access)
    }

    fn make(&self, zone: &mut Zone) {
        let is_apex = self.owner() == zone.apex();
        match self {
            Self::Add(record) => add(zone, record.clone()),
            // SOA and NS of the zone's name stay (section 3.4.2.3).
            Self::DeleteName(owner) => {
                zone.remove_rrsets(owner, |rtype| !is_apex || !matches!(rtype, Rtype::SOA | Rtype::NS));
            }
            Self::DeleteRrset(_, Rtype::SOA | Rtype::NS) if is_apex => {}
            Self::DeleteRrset(owner, rtype) => zone.remove_rrsets(owner, |known| known == *rtype),
            // The SOA stays, and so does the last NS of the zone's name (section 3.4.2.4).
            Self::DeleteRecord(record) if record.rtype == Rtype::SOA => {}
            Self::DeleteRecord(ZoneRecord { owner, rtype: Rtype::NS, .. })
                if is_apex && zone.rrset_of(owner, Rtype::NS).len() < 2 => {}
            Self::DeleteRecord(record) => {
                zone.remove(&record.owner, record.rtype, &record.rdata);
            }
        }
    }
}

fn permit_type(owner: &Name, rtype: Rtype, zone: &Zone, access: &Access<'_>) -> Result<(), Refusal> {
    if is_maintained(rtype, access.keys) {
        return Err(Refusal::Maintained(rtype));
    }
    match access.policy.allows(access.key, owner, rtype, zone.apex()) {
        true => Ok(()),
        false => Err(Refusal::NotAllowed(owner.clone(), rtype)),
    }
}

/// What DNSSEC makes of a zone, and is nobody's to change.
fn is_maintained(rtype: Rtype, keys: Keys) -> bool {
    match rtype {
        // NSEC3 and NSEC3PARAM
        Rtype::RRSIG | Rtype::NSEC | Rtype(50 | 51) => true,
        Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY => keys != Keys::Foreign,
        Rtype::CSYNC => keys == Keys::OursWithCsync,
        _ => false,
    }
}
