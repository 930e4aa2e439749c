//! Steered names laid over the zones.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;

use shared::problem::Problem;
use shared::topology::{Service, ServiceId, ServiceOutline, Topology};

use super::rdata::{suffixes, target_of};
use super::steered::SteeredName;
use super::{Map, Record, Rrset, Zone, wire_name};
use crate::wire::{Name, Rtype, is_at_or_below};

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

/// Gives `zones` the names of the services of `topology`, without records, so that these are laid over copies of them without
/// a change, and the copies go on to share what they hold.
pub fn add_steered_names(zones: &mut [Arc<Zone>], topology: &Topology) {
    for service in &topology.services {
        let name = wire_name(&service.name);
        let home = deepest(zones, name.as_wire()).map(|home| &mut zones[home]);
        if let Some(home) = home.filter(|home| !home.nodes.contains_key(name.as_wire())) {
            Arc::make_mut(home).add_node(name.as_wire());
        }
    }
}

/// The zone that holds `name`: the one with the longest name.
pub(super) fn deepest<Z: Borrow<Zone>>(zones: &[Z], name: &[u8]) -> Option<usize> {
    let apex = |at: usize| zones[at].borrow().apex.as_wire();
    (0..zones.len()).filter(|&at| is_at_or_below(name, apex(at))).max_by_key(|&at| apex(at).len())
}

/// What does not go together between the steered name `service` and `zones`.
pub(super) fn problems_of(service: &ServiceOutline, zones: &[Zone]) -> Vec<Problem> {
    let key = format!("services.\"{}\"", service.name);
    let problem = |file: &str, line, what: String| Problem { file: file.to_owned(), line, key: key.clone(), what };
    let name = wire_name(&service.name);
    let name = name.as_wire();
    let Some(zone) = deepest(zones, name).map(|home| &zones[home]) else {
        let what = "the name lies in no zone: expected one at or below the name of a zone";
        return vec![problem("", None, what.to_owned())];
    };
    let at_record = |rrset: &Rrset, what: String| problem(&zone.file, rrset.line(), what);
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
    if service.has_cname && zone.apex.as_wire() == name {
        let what = "a CNAME cannot stand at the name of a zone, which has SOA and NS records: expected `vips`, or another \
                    name";
        found.push(Problem { key: format!("{key}.cname"), ..problem("", None, what.to_owned()) });
        return found;
    }
    for rrset in zone.nodes.get(name).into_iter().flatten() {
        let rtype = rrset.rtype;
        let is_steered = matches!(rtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::CNAME);
        // Where it is delegated, that has been said.
        if is_steered || rtype == Rtype::TXT && service.has_txt {
            found.push(at_record(rrset, format!("{rtype} records stand here, but the name is steered: remove them")));
        } else if service.has_cname && rtype != Rtype::NS {
            let what = "records stand here, but the service has a `cname`: a name with a CNAME has no other data";
            found.push(at_record(rrset, format!("{rtype} {what}")));
        }
    }
    found
}

/// Records that lead to a steered CNAME, where addresses must be (RFC 2181, section 10.3).
pub(super) fn leading_to_aliases(services: &[ServiceOutline], zones: &[Zone]) -> Vec<Problem> {
    let aliases = services.iter().filter(|service| service.has_cname);
    let aliases: HashSet<Name> = aliases.map(|service| wire_name(&service.name)).collect();
    let mut found = Vec::new();
    for zone in zones.iter().filter(|_| !aliases.is_empty()) {
        for (owner, rrset) in zone.nodes.iter().flat_map(|(owner, node)| node.iter().map(move |rrset| (owner, rrset))) {
            // That a name server of the zone has no address of its own is a mistake already.
            if !matches!(rrset.rtype, Rtype::MX | Rtype::SRV) {
                continue;
            }
            for Record { rdata, place } in &rrset.records {
                let target = target_of(rrset.rtype, rdata.octets()).filter(|target| aliases.contains(&target.folded()));
                if let Some(target) = target {
                    let what =
                        format!("{} leads to {target}, which is a CNAME: expected a name with addresses", rrset.rtype);
                    let (file, key) = (zone.file.clone(), Name::from_wire(owner).to_string());
                    found.push(Problem { file, line: Some(place.line as usize), key, what });
                }
            }
        }
    }
    // The tables give them in an order that differs from process to process.
    found.sort_by(|a, b| (&a.file, a.line, &a.what).cmp(&(&b.file, b.line, &b.what)));
    found
}

/// Protocol ids of `service` that do not fit their field.
pub(super) fn problem_of_alpn(service: &Service) -> Option<Problem> {
    let mut ids = service.https.iter().flat_map(|https| &https.alpn);
    let key = format!("services.\"{}\"", service.name);
    let what = "https.alpn: expected protocol ids of 1 to 255 octets".to_owned();
    ids.any(|id| id.is_empty() || id.len() > 255).then(|| Problem { file: String::new(), line: None, key, what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::load;
    use crate::serve::sample::Site;

    #[test]
    fn zones_that_are_kept_are_put_together_without_a_copy_of_their_records() {
        let site = Site::new();
        let journal = "file = \"example.com.zone\"\njournal = \"journal\"";
        site.write("topology.toml", &site.settings().replace("file = \"example.com.zone\"", journal));
        let world = load(&site.config(), None).world.expect("no mistakes");
        let mut copies: Vec<Zone> = world.kept.iter().map(|zone| Zone::clone(zone)).collect();
        let overlay = lay_over(&mut copies, &world.settings.topology);
        assert!(!overlay.steered.is_empty() && Arc::ptr_eq(&copies[0].nodes, &world.kept[0].nodes));
    }
}
