//! The records of an answer, by the algorithm of RFC 1034, section 4.3.2.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, NS};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::asked::{Asked, Question};
use super::steer::{self, Asker};
use super::{Expected, NXDOMAIN, REFUSED, Reference, ReferenceZone, YXDOMAIN};

/// Fills the sections, the code and AA of `expected`.
pub(super) fn walk(
    reference: &Reference<'_>,
    asked: &Asked,
    question: &Question,
    peer: IpAddr,
    any: Option<RecordType>,
    expected: &mut Expected,
) {
    let Some(zone) = zone_of(reference.zones, &question.name, question.rtype) else {
        expected.rcode = REFUSED;
        return;
    };
    expected.flags |= AA;
    if let (true, Some(opt)) = (asked.opt.as_ref().is_some_and(|opt| opt.wants_zone_version), &mut expected.opt) {
        opt.zone_version = Some(zone.version());
    }
    let asker = Asker::new(asked, peer);
    let mut walk =
        Walk { reference, asker, qtype: question.rtype, any, followed: Vec::new(), redirections: 0, expected };
    walk.step(zone, question.name.clone());
}

struct Walk<'a> {
    reference: &'a Reference<'a>,
    asker: Asker<'a>,
    qtype: RecordType,
    any: Option<RecordType>,
    /// Owner names of the CNAMEs that were followed, wildcards as they stand in the zone.
    followed: Vec<Name>,
    /// DNAMEs that were followed.
    redirections: usize,
    expected: &'a mut Expected,
}

/// The deepest zone that holds `name`; for DS at the name of a zone that which holds the name above, if there is one.
fn zone_of<'a>(zones: &'a [ReferenceZone], name: &Name, rtype: RecordType) -> Option<&'a ReferenceZone> {
    let deepest =
        |name: &Name| zones.iter().filter(|zone| zone.apex.zone_of(name)).max_by_key(|zone| zone.apex.iter().count());
    let home = deepest(name)?;
    let is_parent_side = rtype == RecordType::DS && home.apex == *name && !name.is_root();
    Some(if is_parent_side { deepest(&name.base_name()).unwrap_or(home) } else { home })
}

impl ReferenceZone {
    fn of(&self, name: &Name, rtype: RecordType) -> Vec<Record> {
        let is_meant = |record: &&Record| record.record_type() == rtype && record.name == *name;
        self.records.iter().filter(is_meant).cloned().collect()
    }

    /// Labels of its name, the type of version, and its serial (RFC 9660, section 2).
    fn version(&self) -> Vec<u8> {
        let soa = self.of(&self.apex, RecordType::SOA).pop();
        let serial = soa.map_or(0, |soa| if let RData::SOA(soa) = soa.data { soa.serial } else { 0 });
        [&[self.apex.iter().count() as u8, 0][..], &serial.to_be_bytes()].concat()
    }

    /// Whether anything stands at or below `name`, so that empty non-terminals exist too (RFC 4592, section 2.2.2).
    fn exists(&self, name: &Name) -> bool {
        let owners = self.records.iter().map(|record| &record.name);
        owners.chain(self.services.iter().map(|(owner, _)| owner)).any(|owner| name.zone_of(owner))
    }

    /// The names from the one below the apex down to `name`.
    fn below_apex(&self, name: &Name) -> Vec<Name> {
        (self.apex.iter().count() + 1..=name.iter().count()).map(|labels| name.trim_to(labels)).collect()
    }
}

impl Walk<'_> {
    /// Answers for `name`, which lies in `zone`.
    fn step(&mut self, zone: &ReferenceZone, name: Name) {
        let path = zone.below_apex(&name);
        for cut in &path {
            let is_parent_side = self.qtype == RecordType::DS && *cut == name;
            if !zone.of(cut, RecordType::NS).is_empty() && !is_parent_side {
                return self.refer(zone, cut);
            }
        }
        // The name of another zone that is served here exists, whatever this one says.
        if self.reference.zones.iter().any(|other| other.apex == name) {
            return self.take(zone, &name.clone(), name);
        }
        let above = std::iter::once(&zone.apex).chain(&path).filter(|above| **above != name);
        let redirected = above.clone().find_map(|above| zone.of(above, RecordType::DNAME).pop());
        if let Some(dname) = redirected {
            return self.redirect(&dname, &name);
        }
        if zone.exists(&name) {
            return self.take(zone, &name.clone(), name);
        }
        let Some(encloser) = above.rev().find(|above| zone.exists(above)) else { return };
        match encloser.prepend_label("*") {
            Ok(wildcard) if zone.exists(&wildcard) => self.take(zone, &wildcard, name),
            _ => {
                self.expected.rcode = NXDOMAIN;
                self.deny(zone, u32::MAX);
            }
        }
    }

    /// Answers for `name` by what stands at `source`: the name itself, or a wildcard.
    fn take(&mut self, zone: &ReferenceZone, source: &Name, name: Name) {
        let renamed = |record: &Record| Record::from_rdata(name.clone(), record.ttl, record.data.clone());
        let cname = zone.of(source, RecordType::CNAME).pop();
        let service = zone.services.iter().find(|(owner, _)| owner == source).map(|&(_, service)| service);
        let offers = service.map(|service| steer::offers(self.reference.view, service)).unwrap_or_default();
        let qtype = match (self.qtype, &cname, offers.first()) {
            // An alias answers whatever is asked (RFC 1034, section 3.6.2).
            (_, None, Some(&RecordType::CNAME)) => RecordType::CNAME,
            (RecordType::ANY, Some(_), _) => RecordType::CNAME,
            (RecordType::ANY, None, Some(&offer)) => offer,
            (RecordType::ANY, None, None) => self.any.unwrap_or(RecordType::ANY),
            (qtype, ..) => qtype,
        };
        if let Some(cname) = cname.filter(|_| qtype != RecordType::CNAME) {
            return self.follow(zone, &cname, source, name);
        }
        if let Some(service) = service.filter(|_| offers.contains(&qtype)) {
            return self.steer(zone, service, qtype, &name);
        }
        let found = zone.of(source, qtype);
        if found.is_empty() {
            return self.deny(zone, u32::MAX);
        }
        if qtype == RecordType::NS && *source == zone.apex && self.followed.is_empty() {
            self.expected.optional.extend(addresses(zone, &found, |_| true));
        }
        self.expected.answers.extend(found.iter().map(renamed));
    }

    /// Adds the CNAME of `name` and goes on with its target, as long as that lies in the same zone: the engine leaves the
    /// rest to the resolver, as RFC 1034 allows.
    fn follow(&mut self, zone: &ReferenceZone, cname: &Record, source: &Name, name: Name) {
        let RData::CNAME(CNAME(target)) = &cname.data else { return };
        if self.followed.contains(source) {
            return;
        }
        self.expected.answers.push(Record::from_rdata(name.clone(), cname.ttl, cname.data.clone()));
        self.followed.push(source.clone());
        let home = zone_of(self.reference.zones, target, RecordType::A);
        if self.followed.len() < CNAMES_MAX && home.is_some_and(|home| home.apex == zone.apex) {
            self.step(zone, target.clone());
        }
    }

    /// Adds `dname` and the CNAME made from it, and goes on with the new name, wherever that is served here (RFC 6672,
    /// section 3.2). What a CNAME leads below a DNAME is left to the resolver.
    fn redirect(&mut self, dname: &Record, name: &Name) {
        let is_circle = self.expected.answers.contains(dname);
        if !self.followed.is_empty() || is_circle || self.redirections == DNAMES_MAX {
            return;
        }
        self.redirections += 1;
        self.expected.answers.push(dname.clone());
        let RData::Unknown { rdata, .. } = &dname.data else { return };
        let kept = name.iter().take(name.iter().count() - dname.name.iter().count());
        let target = Name::from_labels(kept.chain(labels_of(&rdata.anything)));
        let Ok(target) = target else {
            self.expected.rcode = YXDOMAIN;
            return;
        };
        let cname = RData::CNAME(CNAME(target.clone()));
        self.expected.answers.push(Record::from_rdata(name.clone(), dname.ttl, cname));
        let is_asked_for = [RecordType::CNAME, RecordType::DNAME, RecordType::ANY].contains(&self.qtype);
        if let Some(home) = zone_of(self.reference.zones, &target, self.qtype).filter(|_| !is_asked_for) {
            self.step(home, target);
        }
    }

    fn steer(&mut self, zone: &ReferenceZone, service: shared::topology::ServiceId, qtype: RecordType, name: &Name) {
        let chosen = steer::choose(self.reference, service, &self.asker);
        if let (Some(opt), Some(subnet)) = (&mut self.expected.opt, self.asker.subnet) {
            opt.subnet = Some(subnet.repeated(chosen.scope_len));
        }
        if let (Some(why), Some(opt)) = (chosen.complaint(), &mut self.expected.opt) {
            // Other Error, with a text.
            opt.error = Some([&[0, 0], why.as_bytes()].concat());
        }
        let records = steer::records(self.reference.view, service, &chosen, qtype, name);
        if records.is_empty() {
            return self.deny(zone, self.reference.view.topology.service(service).ttl_degraded);
        }
        self.expected.answers.extend(records);
    }

    /// A referral (RFC 1034, section 4.2.1); it is authoritative only for the aliases that led to it.
    fn refer(&mut self, zone: &ReferenceZone, cut: &Name) {
        if self.expected.answers.is_empty() {
            self.expected.flags &= !AA;
        }
        let ns = zone.of(cut, RecordType::NS);
        // In the delegated domain nobody else knows them (RFC 9471).
        self.expected.additionals.extend(addresses(zone, &ns, |target| cut.zone_of(target)));
        self.expected.optional.extend(addresses(zone, &ns, |target| !cut.zone_of(target)));
        self.expected.authorities.extend(ns);
    }

    /// The SOA record of a negative answer (RFC 2308, sections 3 and 5), with a TTL of at most `ttl_max`.
    fn deny(&mut self, zone: &ReferenceZone, ttl_max: u32) {
        for mut soa in zone.of(&zone.apex, RecordType::SOA) {
            let RData::SOA(data) = &soa.data else { continue };
            soa.ttl = soa.ttl.min(data.minimum).min(ttl_max);
            self.expected.authorities.push(soa);
        }
    }
}

/// The addresses in `zone` of those name servers that are `wanted`.
fn addresses(zone: &ReferenceZone, ns: &[Record], is_wanted: impl Fn(&Name) -> bool) -> Vec<Record> {
    let target = |record: &Record| if let RData::NS(NS(target)) = &record.data { Some(target.clone()) } else { None };
    let targets = ns.iter().filter_map(target).filter(|target| is_wanted(target));
    targets.flat_map(|target| [RecordType::A, RecordType::AAAA].map(|rtype| zone.of(&target, rtype)).concat()).collect()
}

/// The labels of an uncompressed name.
fn labels_of(wire: &[u8]) -> Vec<&[u8]> {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let [len @ 1..=63, after @ ..] = rest {
        let (label, next) = after.split_at(usize::from(*len));
        labels.push(label);
        rest = next;
    }
    labels
}

const AA: u16 = 0x0400;
/// CNAMEs in one answer: the one asked for and 16 more.
const CNAMES_MAX: usize = 17;
const DNAMES_MAX: usize = 8;
