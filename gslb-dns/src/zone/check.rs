//! What the records of a zone must be together.

use std::collections::HashSet;

use shared::problem::Problems;

use super::master::{self, TTL_MAX};
use super::rdata::{folded, target_of};
use super::{FilePlace, Rdata, Record, Rrset, Zone, is_wildcard};
use crate::wire::{Name, Rtype, is_at_or_below, parent};

/// Adds `record` to the RRsets of its owner.
pub(super) fn add_record(node: &mut Vec<Rrset>, record: master::Record, problems: &Problems) {
    let master::Record { owner, rtype, ttl, rdata, place } = record;
    let Some(rrset) = node.iter_mut().find(|rrset| rrset.rtype == rtype) else {
        // Most names have one set: room for more of them would be most of what a zone takes while it is loaded.
        node.reserve_exact(1);
        node.push(Rrset { rtype, ttl, records: vec![Record { rdata: Rdata::new(&rdata), place }] });
        return;
    };
    let problem = |what: &str| problems.add(Some(place.offset as usize), &owner.to_string(), what);
    let first_line = rrset.line_word();
    // Names in it may differ in case, nothing else may; only what is alike so far is worth folding.
    let is_same = |known: &[u8]| known.eq_ignore_ascii_case(&rdata) && folded(rtype, known) == folded(rtype, &rdata);
    // A set of more records is too long for a message and refused; comparing all of them would take for ever.
    if rrset.records.len() <= RRSET_LEN_MAX / RECORD_LEN_MIN && rrset.rdatas().any(is_same) {
        problem(&format!("the same {rtype} record stands in the file already: remove one"));
    } else if matches!(rtype, Rtype::SOA | Rtype::CNAME | Rtype::DNAME) {
        problem(&format!("a second {rtype} record: {first_line} has the only one that may be"));
    } else if rrset.ttl != ttl {
        let first_ttl = rrset.ttl;
        problem(&format!(
            "TTL is {ttl}, but {first_line} gives this {rtype} RRset {first_ttl}: all its records need one TTL"
        ));
    }
    rrset.records.push(Record { rdata: Rdata::new(&rdata), place });
}

/// Reports every mistake in what the records of `zone` say together. Where some could not be read, what may only seem
/// to be missing is no mistake.
pub(super) fn check(zone: &Zone, problems: &Problems) {
    let check = Check { zone, problems, glue: glue_names(zone) };
    check.apex();
    for (owner, node) in &*zone.nodes {
        check.node(owner, node);
        for rrset in node {
            check.rrset(owner, rrset);
        }
    }
}

/// The names of all name servers.
fn glue_names(zone: &Zone) -> HashSet<Name> {
    let rrsets = zone.nodes.values().flatten().filter(|rrset| rrset.rtype == Rtype::NS);
    rrsets
        .flat_map(|rrset| rrset.rdatas().filter_map(|rdata| target_of(Rtype::NS, rdata)))
        .map(|name| name.folded())
        .collect()
}

struct Check<'a> {
    zone: &'a Zone,
    problems: &'a Problems,
    glue: HashSet<Name>,
}

impl Check<'_> {
    /// Reports a mistake in `rrset` as a whole, where its first record stands.
    fn problem(&self, owner: &[u8], rrset: &Rrset, what: impl std::fmt::Display) {
        if let Some(&place) = rrset.place() {
            self.problem_at(place, owner, what);
        }
    }

    fn problem_at(&self, place: FilePlace, owner: &[u8], what: impl std::fmt::Display) {
        self.problems.add(Some(place.offset as usize), &Name::from_wire(owner).to_string(), what);
    }

    fn apex(&self) {
        let apex = self.zone.apex.as_wire();
        for (rtype, what) in [(Rtype::SOA, "one SOA record"), (Rtype::NS, "at least one NS record")] {
            if self.zone.is_whole && self.zone.rrset(apex, rtype).is_none() {
                self.problems.add(
                    None,
                    &self.zone.apex.to_string(),
                    format_args!("missing: expected {what} at the zone's name"),
                );
            }
        }
        if let Some(soa) = self.zone.rrset(apex, Rtype::SOA) {
            let minimum =
                soa.first().and_then(|rdata| rdata.last_chunk()).map_or(0, |&octets| u32::from_be_bytes(octets));
            if minimum > TTL_MAX {
                self.problem(
                    apex,
                    soa,
                    format_args!("the minimum (negative) TTL is {minimum}: expected at most {TTL_MAX}"),
                );
            }
        }
    }

    /// What may stand beside what, and where.
    fn node(&self, owner: &[u8], node: &[Rrset]) {
        let has = |rtype| node.iter().any(|rrset| rrset.rtype == rtype);
        let is_signing_data = |rtype| matches!(rtype, Rtype::RRSIG | Rtype::NSEC);
        let is_apex = owner == self.zone.apex.as_wire();
        let other = node.iter().find(|rrset| rrset.rtype != Rtype::CNAME && !is_signing_data(rrset.rtype));
        if let (Some(cname), Some(other)) = (node.iter().find(|rrset| rrset.rtype == Rtype::CNAME), other) {
            let what =
                format!("CNAME beside {} in {}: a name with a CNAME has no other data", other.rtype, other.line_word());
            self.problem(owner, cname, what);
        }
        for rrset in node {
            let misplaced = match rrset.rtype {
                Rtype::SOA if !is_apex => Some("SOA below the zone's name: a zone has one SOA, at its name"),
                Rtype::DS if is_apex => Some("DS at the zone's name: it belongs into the parent zone"),
                Rtype::DS if self.zone.is_whole && !has(Rtype::NS) => Some("DS without NS: it belongs to a delegation"),
                Rtype::NS | Rtype::DNAME if is_wildcard(owner) => Some("a wildcard can be no delegation and no DNAME"),
                Rtype::DNAME if has(Rtype::NS) && !is_apex => {
                    Some("DNAME beside NS: a name is delegated or redirected")
                }
                _ => self.misplaced_below(owner, rrset),
            };
            if let Some(what) = misplaced {
                self.problem(owner, rrset, what);
            }
        }
    }

    /// Why `rrset` must not stand below the names above it.
    fn misplaced_below(&self, owner: &[u8], rrset: &Rrset) -> Option<&'static str> {
        let is_address = matches!(rrset.rtype, Rtype::A | Rtype::AAAA);
        let above = parent(owner).filter(|_| owner != self.zone.apex.as_wire())?;
        let has_dname = |name: &[u8]| self.zone.rrset(name, Rtype::DNAME).is_some();
        if self.zone.names_up_to_apex(above).any(has_dname) || has_dname(self.zone.apex.as_wire()) {
            return Some("below a DNAME: it redirects every name below it");
        }
        let cut = self.zone.cut_of(owner)?;
        let is_glue = is_address && self.glue.contains(&Name::from_wire(owner));
        match rrset.rtype {
            _ if is_glue => None,
            Rtype::NS | Rtype::DS | Rtype::RRSIG | Rtype::NSEC if cut.len() == owner.len() => None,
            Rtype::A | Rtype::AAAA if !self.zone.is_whole => None,
            Rtype::A | Rtype::AAAA => {
                Some("an address below a delegation that no NS record leads to: it would never be served")
            }
            _ => Some("below a delegation: only addresses of name servers (glue) may stand there"),
        }
    }

    /// Where the records of one set lead, and whether they fit a message.
    fn rrset(&self, owner: &[u8], rrset: &Rrset) {
        let octets: usize = rrset.rdatas().map(|rdata| rdata.len() + RECORD_LEN_MIN).sum();
        if octets > RRSET_LEN_MAX {
            self.problem(
                owner,
                rrset,
                format_args!("the {} RRset takes {octets} octets: expected at most {RRSET_LEN_MAX}", rrset.rtype),
            );
        }
        if !matches!(rrset.rtype, Rtype::NS | Rtype::MX | Rtype::SRV) {
            return;
        }
        for Record { rdata, place } in &rrset.records {
            if let Some(target) = target_of(rrset.rtype, rdata.octets()) {
                self.target(owner, rrset.rtype, &target, *place);
            }
        }
    }

    fn target(&self, owner: &[u8], rtype: Rtype, target: &Name, place: FilePlace) {
        let folded = target.folded();
        if !is_at_or_below(folded.as_wire(), self.zone.apex.as_wire()) {
            return;
        }
        if self.zone.rrset(folded.as_wire(), Rtype::CNAME).is_some() {
            let what = format!("{rtype} leads to {target}, which is a CNAME: expected a name with addresses");
            self.problem_at(place, owner, what);
        } else if rtype == Rtype::NS && self.needs_address(owner, folded.as_wire()) {
            let what = format!("NS leads to {target}, which has no address in this zone: expected A or AAAA");
            self.problem_at(place, owner, what);
        }
    }

    /// Whether the name server `target` has no address though this zone must give one.
    fn needs_address(&self, owner: &[u8], target: &[u8]) -> bool {
        let has_address = [Rtype::A, Rtype::AAAA].iter().any(|&rtype| self.zone.rrset(target, rtype).is_some());
        // Below another delegation the address is that zone's to give.
        let is_elsewhere = self.zone.cut_of(target).is_some_and(|cut| self.zone.cut_of(owner) != Some(cut));
        self.zone.is_whole && !has_address && !is_elsewhere
    }
}

/// Leaves room in the longest message for a question, a chain of CNAMEs and an OPT record.
const RRSET_LEN_MAX: usize = 60_000;
/// Octets of a record without data, its owner name compressed.
const RECORD_LEN_MIN: usize = 12;
