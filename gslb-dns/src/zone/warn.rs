//! What is allowed in a zone, but seldom meant.

use std::collections::{HashMap, HashSet};

use shared::name::OwnerName;
use shared::problem::Problem;

use super::delegation::complaints;
use super::overlay::deepest;
use super::rdata::{Layout, suffixes, target_of};
use super::{FilePlace, Record, Rrset, Zone, ZoneSet, is_newer, wire_name};
use crate::wire::{Name, Rtype, is_at_or_below};

/// What an operator should look at in `zones` with the steered names `services`, though it is served as it stands;
/// `last` is what was served before.
pub fn warnings<'a>(
    zones: &[Zone],
    services: impl IntoIterator<Item = &'a OwnerName>,
    last: Option<&ZoneSet>,
) -> Vec<Problem> {
    let steered: HashSet<Name> = services.into_iter().map(wire_name).collect();
    let mut found = Vec::new();
    for (at, zone) in zones.iter().enumerate() {
        let mut look = Look { zones, at, zone, steered: &steered, found: Vec::new() };
        look.serial(last);
        look.apex();
        look.found.extend(complaints(zones, at).into_iter().map(|(owner, place, what)| {
            let (file, key) = (zone.file.clone(), Name::from_wire(&owner).to_string());
            Problem { file, line: place.map(|place| place.line as usize), key, what }
        }));
        look.targets();
        look.loops();
        look.found.sort_by(|a, b| (a.line, &a.what).cmp(&(b.line, &b.what)));
        found.append(&mut look.found);
    }
    found
}

struct Look<'a> {
    zones: &'a [Zone],
    at: usize,
    zone: &'a Zone,
    steered: &'a HashSet<Name>,
    found: Vec<Problem>,
}

impl<'a> Look<'a> {
    fn warn(&mut self, owner: &[u8], place: Option<&FilePlace>, what: String) {
        let (file, key) = (self.zone.file.clone(), Name::from_wire(owner).to_string());
        self.found.push(Problem { file, line: place.and_then(|place| place.line()), key, what });
    }

    fn serial(&mut self, last: Option<&ZoneSet>) {
        let zone = self.zone;
        let Some((before, content)) = last.and_then(|last| last.version_of(&zone.apex)) else { return };
        let serial = zone.serial();
        let what = if serial == before && content != zone.content_hash() {
            format!(
                "the zone (serial {serial}) has changed, but the serial has not: raise it, since secondaries and checks go \
                 by it"
            )
        } else if serial != before && !is_newer(serial, before) {
            format!(
                "the serial has fallen from {before} to {serial}: raise it above {before}, since secondaries keep what they \
                 have of a newer one"
            )
        } else {
            return;
        };
        let soa = zone.rrset(zone.apex.as_wire(), Rtype::SOA);
        self.warn(zone.apex.as_wire(), soa.and_then(|soa| soa.place()), what);
    }

    /// What registrars and their tests ask of a zone (such as RIPE-203 and Zonemaster).
    fn apex(&mut self) {
        let zone = self.zone;
        let apex = zone.apex.as_wire();
        if let Some(ns) = zone.rrset(apex, Rtype::NS).filter(|ns| ns.records.len() < 2) {
            let what =
                "only one name server: expected at least two, on two machines, or one failure takes all names away";
            self.warn(apex, ns.place(), what.to_owned());
        }
        let Some(soa) = zone.rrset(apex, Rtype::SOA) else { return };
        let Some(rdata) = soa.first() else { return };
        for what in unusual_timers(rdata) {
            self.warn(apex, soa.place(), what);
        }
        let rname = Layout::of(Rtype::SOA).split(rdata).map(|parts| Name::from_wire(parts.names[1]));
        if let Some(rname) = rname.filter(|rname| rname.as_wire().contains(&b'@')) {
            let what = format!("the SOA has {rname} for a mailbox: expected a dot where the address has its @");
            self.warn(apex, soa.place(), what);
        }
        let mname = Layout::of(Rtype::SOA).split(rdata).map(|parts| Name::from_wire(parts.names[0]));
        if let Some(mname) = mname.filter(|mname| self.is_missing(&mname.folded())) {
            let what = format!("the SOA names {mname} as the primary, which does not exist: expected a name server");
            self.warn(apex, soa.place(), what);
        }
    }

    /// Names that mail and services are sent to; those of name servers are checked as mistakes.
    fn targets(&mut self) {
        let zone = self.zone;
        let is_wanted = |rrset: &&Rrset| matches!(rrset.rtype, Rtype::MX | Rtype::SRV);
        for (owner, node) in &*zone.nodes {
            for rrset in node.iter().filter(is_wanted) {
                for Record { rdata, place } in &rrset.records {
                    let target = target_of(rrset.rtype, rdata.octets());
                    if let Some(target) = target.filter(|target| self.lacks_address(&target.folded())) {
                        let what =
                            format!("{} leads to {target}, which has no address: expected A or AAAA", rrset.rtype);
                        self.warn(owner, Some(place), what);
                    }
                }
            }
        }
    }

    /// Each loop of CNAMEs once.
    fn loops(&mut self) {
        let zone = self.zone;
        // Where each name was first come across: the number of the walk.
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        for (walk, start) in zone.nodes.keys().enumerate() {
            let mut at: &[u8] = start;
            while let Some(cname) = zone.rrset(at, Rtype::CNAME) {
                let first = *seen.entry(at).or_insert(walk);
                let target = cname.first().and_then(|rdata| target_of(Rtype::CNAME, rdata));
                let next = target.and_then(|target| self.source(&target.folded()));
                match next.filter(|_| first == walk) {
                    Some(next) if seen.get(next) == Some(&walk) => {
                        let what = "CNAMEs lead from here back to here: no client gets an answer";
                        let cname = zone.rrset(next, Rtype::CNAME);
                        self.warn(next, cname.and_then(|cname| cname.place()), what.to_owned());
                        break;
                    }
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
    }

    /// Whether this zone alone says what is at `name`.
    fn is_ours(&self, name: &Name) -> bool {
        let name = name.as_wire();
        let apex = self.zone.apex.as_wire();
        let has_dname = |above: &[u8]| self.zone.rrset(above, Rtype::DNAME).is_some();
        is_at_or_below(name, apex)
            && deepest(self.zones, name) == Some(self.at)
            && self.zone.cut_of(name).is_none()
            && !suffixes(name).skip(1).take_while(|above| above.len() >= apex.len()).any(has_dname)
    }

    /// The owner name, a wildcard's it may be, whose records answer for `name`.
    fn source(&self, name: &Name) -> Option<&'a [u8]> {
        let nodes = &self.zone.nodes;
        if let Some((owner, _)) = nodes.get_key_value(name.as_wire()) {
            return Some(owner);
        }
        let encloser = suffixes(name.as_wire()).skip(1).find(|above| nodes.contains_key(*above))?;
        nodes.get_key_value(&*[b"\x01*", encloser].concat()).map(|(owner, _)| &**owner)
    }

    fn is_steered(&self, name: &[u8]) -> bool {
        self.steered.contains(&Name::from_wire(name))
    }

    fn is_missing(&self, name: &Name) -> bool {
        self.is_ours(name) && self.source(name).is_none() && !self.is_steered(name.as_wire())
    }

    fn lacks_address(&self, target: &Name) -> bool {
        let has_address = |owner: &[u8]| {
            // What a CNAME leads to is another matter, and itself a mistake.
            let types = [Rtype::A, Rtype::AAAA, Rtype::CNAME];
            self.is_steered(owner) || types.iter().any(|&rtype| self.zone.rrset(owner, rtype).is_some())
        };
        self.is_ours(target) && !has_address(target.as_wire()) && !self.source(target).is_some_and(has_address)
    }
}

/// Timers of the SOA record `rdata` that registrars' tests complain of.
fn unusual_timers(rdata: &[u8]) -> Vec<String> {
    let numbers = rdata.last_chunk::<16>().map(|octets| octets.as_chunks::<4>().0);
    let Some(&[refresh, retry, expire, minimum]) = numbers else { return Vec::new() };
    let [refresh, retry, expire, minimum] = [refresh, retry, expire, minimum].map(u32::from_be_bytes);
    let rules = [
        ("refresh", refresh, refresh >= REFRESH_MIN, format!("{REFRESH_MIN} or more")),
        ("retry", retry, retry >= RETRY_MIN && retry < refresh, format!("{RETRY_MIN} or more, and less than refresh")),
        (
            "expire",
            expire,
            expire >= EXPIRE_MIN && expire > refresh,
            format!("{EXPIRE_MIN} or more, and more than refresh"),
        ),
        (
            "minimum",
            minimum,
            (MINIMUM_LEAST..=MINIMUM_MOST).contains(&minimum),
            format!("{MINIMUM_LEAST} to {MINIMUM_MOST}"),
        ),
    ];
    let unusual = rules.into_iter().filter(|(_, _, is_usual, _)| !is_usual);
    unusual.map(|(timer, secs, _, usual)| format!("SOA {timer} is {secs}: registrars' tests expect {usual}")).collect()
}

const REFRESH_MIN: u32 = 14_400;
const RETRY_MIN: u32 = 3600;
const EXPIRE_MIN: u32 = 604_800;
/// How long "no such name" is kept: long enough to spare servers, at most a day.
const MINIMUM_LEAST: u32 = 300;
const MINIMUM_MOST: u32 = 86_400;

#[cfg(test)]
mod tests {
    use shared::topology::Topology;

    use super::*;

    const START: &str = "$TTL 1h\n@ SOA ns1 m 7 4h 1h 2w 5m\n@ NS ns1\n@ NS ns2.example.net.\nns1 A 192.0.2.53\n";

    fn zone(text: &str) -> Zone {
        Zone::parse(&OwnerName::parse("example.com").expect("a name"), "z", text).expect("no mistakes")
    }

    fn found(text: &str, last: Option<&str>) -> Vec<String> {
        let services = [OwnerName::parse("www.example.com").expect("a name")];
        let last = last.map(|text| ZoneSet::build(vec![zone(text)], &Topology::default()).expect("zones"));
        warnings(&[zone(text)], &services, last.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn usual_zones_give_no_warning() {
        let lines = "@ MX 1 mail\n@ MX 2 www\n@ MX 3 x.w\n@ MX 4 out.net.\n@ MX 5 a.kid\n@ MX 6 a.old\nn MX 0 .\n\
                     mail A 192.0.2.1\n*.w AAAA 2001:db8::1\nkid NS ns1\nold DNAME w\na CNAME b\nb CNAME www\n\
                     c CNAME b\n*.x CNAME y.z\ny.z CNAME a\n_s._tcp SRV 1 1 1 www\n";
        assert!(found(&format!("{START}{lines}"), None).is_empty(), "{:#?}", found(&format!("{START}{lines}"), None));
    }

    #[test]
    fn zone_with_one_name_server_is_warned_of() {
        let text = START.replace("@ NS ns2.example.net.\n", "") + "ns1 AAAA 2001:db8::53\n";
        assert_eq!(found(&text, None).len(), 1);
        assert!(found(&text, None)[0].starts_with("z:3: example.com.: only one name server"));
    }

    #[test]
    fn timers_outside_what_registrars_accept_are_warned_of() {
        let timers = |timers: &str| found(&START.replace("4h 1h 2w 5m", timers), None);
        for (unusual, named) in [
            ("14399 1h 2w 5m", "refresh is 14399"),
            ("4h 3599 2w 5m", "retry is 3599"),
            ("4h 4h 2w 5m", "retry is 14400"),
            ("4h 1h 604799 5m", "expire is 604799"),
            ("8d 1h 7d 5m", "expire is 604800"),
            ("4h 1h 2w 299", "minimum is 299"),
            ("4h 1h 2w 86401", "minimum is 86401"),
        ] {
            assert_eq!(timers(unusual).len(), 1, "{unusual}");
            assert!(timers(unusual)[0].starts_with(&format!("z:2: example.com.: SOA {named}: ")), "{unusual}");
        }
    }

    /// RFC 1035, section 3.3.13, and section 8.
    #[test]
    fn mailbox_with_an_at_sign_is_warned_of() {
        let found = found(&START.replace("ns1 m 7", "ns1 m@example.com. 7"), None);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("z:2: example.com.: the SOA has m\\@example.com. for a mailbox"), "{found:?}");
    }

    #[test]
    fn primary_that_does_not_exist_is_warned_of() {
        let found = found(&START.replace("SOA ns1", "SOA ns9"), None);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("z:2: example.com.: the SOA names ns9.example.com."));
    }

    #[test]
    fn targets_without_address_are_warned_of() {
        let found = found(&format!("{START}@ MX 1 gone\n_s._tcp SRV 1 1 1 Text\ntext TXT x\n"), None);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("z:6: example.com.: MX leads to gone.example.com."), "{found:?}");
        assert!(found[1].starts_with("z:7: _s._tcp.example.com.: SRV leads to Text.example.com."), "{found:?}");
    }

    #[test]
    fn each_loop_of_cnames_is_warned_of_once() {
        let found = found(&format!("{START}a CNAME B\nb CNAME a\nc CNAME a\nd CNAME d\n*.w CNAME x.w\n"), None);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found.iter().all(|warning| warning.contains("lead from here back to here")), "{found:#?}");
    }

    #[test]
    fn change_under_the_same_serial_is_warned_of() {
        let changed = format!("{START}new TXT x\n");
        assert!(found(&changed, Some(START))[0].starts_with("z:2: example.com.: the zone (serial 7) has changed"));
        assert!(found(&changed, None).is_empty());
        assert!(found(&changed.replace(" 7 ", " 8 "), Some(START)).is_empty());
        let moved = START.replace("@ NS ns1\n", "").replace("ns1 A", "; a comment\n@ NS ns1\nns1 A");
        assert!(found(&moved, Some(START)).is_empty());
    }
}
