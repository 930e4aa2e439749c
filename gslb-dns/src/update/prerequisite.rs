//! What must hold before anything is changed (RFC 2136, sections 2.4 and 3.2).

use std::collections::HashMap;

use super::{Class, Given, Refusal};
use crate::wire::{Name, Rtype};
use crate::zone::{Zone, ZoneRecord};

/// Whether all of `prerequisites` hold in `zone`.
///
/// ```text
/// class  type  data   holds when                                     else
/// ANY    ANY   empty  the name has records                           NXDOMAIN
/// ANY    type  empty  the RRset exists                               NXRRSET
/// NONE   ANY   empty  the name has no records                        YXDOMAIN
/// NONE   type  empty  the RRset does not exist                       YXRRSET
/// IN     type  data   the RRset has these records and no others      NXRRSET
/// ```
/// Steered names have only the records of the zone file, and empty non-terminals have none (section 2.4.4).
pub(super) fn check(zone: &Zone, prerequisites: &[Given]) -> Result<(), Refusal> {
    let mut expected: HashMap<(&Name, Rtype), Vec<ZoneRecord>> = HashMap::new();
    for Given { owner, rtype, class, ttl, len, rdata } in prerequisites {
        if *ttl != 0 {
            return Err(Refusal::Malformed("a prerequisite with a TTL"));
        }
        if !zone.may_hold(owner) {
            return Err(Refusal::Outside(owner.clone()));
        }
        match class {
            Class::Any | Class::None if *len > 0 => return Err(Refusal::Malformed("a prerequisite with data")),
            Class::Any | Class::None => exists(zone, owner, *rtype, *class == Class::Any)?,
            Class::In => {
                let rdata = rdata.clone().filter(|_| *rtype != Rtype::ANY);
                let rdata = rdata.ok_or(Refusal::Malformed("a prerequisite with broken data"))?;
                let record = ZoneRecord { owner: owner.clone(), rtype: *rtype, ttl: 0, rdata };
                let records = expected.entry((owner, *rtype)).or_default();
                if !records.iter().any(|known| known.is_same_but_ttl(&record)) {
                    records.push(record);
                }
            }
            Class::Other => return Err(Refusal::Malformed("a prerequisite of another class")),
        }
    }
    for ((owner, rtype), records) in expected {
        let found = zone.rrset_of(owner, rtype);
        let is_expected = |record: &ZoneRecord| records.iter().any(|known| known.is_same_but_ttl(record));
        if found.len() != records.len() || !found.iter().all(is_expected) {
            return Err(Refusal::OtherRrset(owner.clone(), rtype));
        }
    }
    Ok(())
}

fn exists(zone: &Zone, owner: &Name, rtype: Rtype, is_meant_to: bool) -> Result<(), Refusal> {
    let (of_name, name) = (rtype == Rtype::ANY, || owner.clone());
    let found = if of_name { zone.types_of(owner).next().is_some() } else { zone.has_rrset(owner, rtype) };
    match (is_meant_to, of_name) {
        _ if found == is_meant_to => Ok(()),
        (true, true) => Err(Refusal::NameNotInUse(name())),
        (true, false) => Err(Refusal::OtherRrset(name(), rtype)),
        (false, true) => Err(Refusal::NameInUse(name())),
        (false, false) => Err(Refusal::RrsetExists(name(), rtype)),
    }
}
