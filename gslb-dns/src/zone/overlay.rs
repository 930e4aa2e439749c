//! Steered names laid over the zones.

use std::borrow::Borrow;

use shared::name::OwnerName;
use shared::problem::Problem;
use shared::topology::{Service, ServiceId, Topology};

use super::rdata::suffixes;
use super::steered::SteeredName;
use super::{Map, Rrset, Zone, wire_name};
use crate::wire::{Rtype, is_at_or_below};

/// The steered names of one zone, in lower case, with their positions among all of them.
pub(super) type SteeredNames = Map<Box<[u8]>, u32>;

/// All steered names, and for each zone those in it.
pub(super) struct Overlay {
    pub(super) steered: Vec<SteeredName>,
    pub(super) names: Vec<SteeredNames>,
}

/// Makes a node in its zone for every service; each lies in one.
pub(super) fn lay_over(zones: &mut [Zone], topology: &Topology) -> Overlay {
    let mut overlay = Overlay { steered: Vec::new(), names: zones.iter().map(|_| SteeredNames::default()).collect() };
    for (at, service) in topology.services.iter().enumerate() {
        let name = wire_name(&service.name);
        let name = name.as_wire();
        if let Some(home) = deepest(zones, name) {
            zones[home].add_node(name);
            overlay.names[home].insert(name.into(), overlay.steered.len() as u32);
        }
        overlay.steered.push(SteeredName::new(ServiceId(at as u32), service, topology.steering(service).policy));
    }
    overlay
}

/// The zone that holds `name`: the one with the longest name.
pub(super) fn deepest<Z: Borrow<Zone>>(zones: &[Z], name: &[u8]) -> Option<usize> {
    let apex = |at: usize| zones[at].borrow().apex.as_wire();
    (0..zones.len()).filter(|&at| is_at_or_below(name, apex(at))).max_by_key(|&at| apex(at).len())
}

/// What does not go together between the steered name `service` and `zones`.
pub(super) fn problems_of(service: &OwnerName, zones: &[Zone]) -> Vec<Problem> {
    let key = format!("services.\"{service}\"");
    let problem = |file: &str, line, what: String| Problem { file: file.to_owned(), line, key: key.clone(), what };
    let name = wire_name(service);
    let name = name.as_wire();
    let Some(zone) = deepest(zones, name).map(|home| &zones[home]) else {
        let what = "the name lies in no zone: expected one at or below the name of a zone";
        return vec![problem("", None, what.to_owned())];
    };
    let at_record = |rrset: &Rrset, what: String| problem(&zone.file, Some(rrset.line()), what);
    let mut found = Vec::new();
    if let Some(delegation) = zone.cut_of(name).and_then(|cut| zone.rrset(cut, Rtype::NS)) {
        let what = "the steered name is delegated to other servers here: remove the one or the other";
        found.push(at_record(delegation, what.to_owned()));
    }
    let dnames = suffixes(name).skip(1).take_while(|above| above.len() >= zone.apex.as_wire().len());
    for redirection in dnames.filter_map(|above| zone.rrset(above, Rtype::DNAME)) {
        let what = "the steered name lies below this DNAME: remove the one or the other";
        found.push(at_record(redirection, what.to_owned()));
    }
    for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS, Rtype::CNAME] {
        if let Some(rrset) = zone.rrset(name, rtype) {
            found.push(at_record(rrset, format!("{rtype} records stand here, but the name is steered: remove them")));
        }
    }
    found
}

/// Protocol ids of `service` that do not fit their field.
pub(super) fn problem_of_alpn(service: &Service) -> Option<Problem> {
    let mut ids = service.https.iter().flat_map(|https| &https.alpn);
    let key = format!("services.\"{}\"", service.name);
    let what = "https.alpn: expected protocol ids of 1 to 255 octets".to_owned();
    ids.any(|id| id.is_empty() || id.len() > 255).then(|| Problem { file: String::new(), line: None, key, what })
}
