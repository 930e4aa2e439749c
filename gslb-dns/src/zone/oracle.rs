//! The served table against the rules of RFC 1034, section 4.3.2, read off a sorted map of all records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shared::name::OwnerName;
use shared::topology::Topology;

use super::rdata::suffixes;
use super::{Found, Zone, ZoneSet};
use crate::wire::{Name, Rcode, Rtype, is_at_or_below};

/// Types by owner name; empty non-terminals have none.
type Records = BTreeMap<Vec<u8>, BTreeSet<Rtype>>;

/// What is to be found.
#[derive(Debug, PartialEq)]
enum Expected {
    Outside,
    /// The code, AA, and how many octets the records take; `None`: some.
    Static(Rcode, bool, Option<usize>),
    /// Octets of the DNAME's owner.
    Redirected(usize),
}

fn wire(text: &str) -> Vec<u8> {
    Name::parse(text, &Name::root()).expect("a name").as_wire().to_vec()
}

fn expected(records: &Records, qname: &[u8], qtype: Rtype) -> Expected {
    let apex = wire(APEX);
    if !is_at_or_below(qname, &apex) {
        return Expected::Outside;
    }
    let has = |name: &[u8], rtype| records.get(name).is_some_and(|types| types.contains(&rtype));
    let below_apex = || suffixes(qname).take_while(|name| name.len() > apex.len());
    if let Some(cut) = below_apex().filter(|name| has(name, Rtype::NS)).last() {
        return Expected::Static(Rcode::NOERROR, cut == qname && qtype == Rtype::DS, None);
    }
    let (closest, types) = suffixes(qname).find_map(|name| Some((name, records.get(name)?))).expect("the apex");
    let types = if closest == qname {
        types
    } else if types.contains(&Rtype::DNAME) {
        return Expected::Redirected(closest.len());
    } else if let Some(types) = records.get(&[b"\x01*", closest].concat()) {
        types
    } else {
        return Expected::Static(Rcode::NXDOMAIN, true, None);
    };
    // One record whose data is as long as the type says; NODATA has the SOA.
    let len = types.contains(&qtype).then_some(match qtype {
        Rtype::A => 12 + 4,
        Rtype::AAAA => 12 + 16,
        _ => 12 + 3,
    });
    Expected::Static(Rcode::NOERROR, true, len.filter(|_| !matches!(qtype, Rtype::NS | Rtype::DNAME)))
}

fn found(set: &ZoneSet, qname: &[u8], qtype: Rtype) -> Expected {
    match set.find(qname, qtype) {
        Found::Static(tail) => Expected::Static(tail.rcode(), tail.is_authoritative(), Some(tail.len())),
        Found::Redirected(dname) => Expected::Redirected(dname.owner_len),
        Found::Outside | Found::Steered { .. } | Found::Signed(_) => Expected::Outside,
    }
}

/// Reads the zone of those `lines` that fit what stands before them.
fn zone_of(lines: &[(String, &'static str)]) -> (ZoneSet, Records) {
    let apex = OwnerName::parse(APEX).expect("a name");
    let mut text = START.to_owned();
    let mut records = Records::from([
        (wire(APEX), BTreeSet::from([Rtype::SOA, Rtype::NS])),
        (wire("ns.z.test"), BTreeSet::from([Rtype::A])),
    ]);
    for (owner, record) in lines {
        let longer = format!("{text}{owner} {record}\n");
        if Zone::parse(&apex, "z", &longer).is_ok() {
            text = longer;
            let (rtype, _) = record.split_once(' ').expect("a type");
            let rtype = super::rdata::parse_type(rtype).expect("a type");
            records.entry(wire(owner)).or_default().insert(rtype);
        }
    }
    for owner in records.keys().cloned().collect::<Vec<_>>() {
        suffixes(&owner).take_while(|name| is_at_or_below(name, &wire(APEX))).for_each(|name| {
            records.entry(name.to_vec()).or_default();
        });
    }
    let zone = Zone::parse(&apex, "z", &text).expect("a zone");
    (ZoneSet::build(vec![zone], &Topology::default()).expect("zones"), records)
}

fn owner(labels_max: usize) -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "c", "a-label-that-is-longer", "*"]);
    prop::collection::vec(label, 0..=labels_max).prop_map(|labels| [&labels[..], &[APEX]].concat().join("."))
}

fn lines() -> impl Strategy<Value = Vec<(String, &'static str)>> {
    let kinds = vec!["A 192.0.2.1", "A 192.0.2.1", "AAAA 2001:db8::1", "TXT ab", "NS ns.z.test.", "DNAME z.test."];
    (1..9_usize).prop_flat_map(move |labels_max| {
        prop::collection::vec((owner(labels_max), prop::sample::select(kinds.clone())), 0..24)
    })
}

proptest! {
    #[test]
    fn table_finds_what_the_rules_say(lines in lines(), asked in prop::collection::vec(owner(10), 16)) {
        let (set, records) = zone_of(&lines);
        let outside = ["test", "y.test", "zz.test", "a.z.tes", "."].map(|name| if name == "." { vec![0] } else { wire(name) });
        let asked = asked.iter().map(|name| wire(name)).chain(records.keys().cloned()).chain(outside);
        for qname in asked {
            for qtype in [Rtype::A, Rtype::AAAA, Rtype::TXT, Rtype::NS, Rtype::DS, Rtype(999)] {
                let mut found = found(&set, &qname, qtype);
                let expected = expected(&records, &qname, qtype);
                if let (Expected::Static(_, _, len), Expected::Static(_, _, None)) = (&mut found, &expected) {
                    prop_assert!(len.take() > Some(0), "every such answer has records");
                }
                prop_assert_eq!(found, expected, "{} {}", Name::from_wire(&qname), qtype);
            }
        }
    }
}

const APEX: &str = "z.test";
const START: &str =
    "$TTL 1h\n$ORIGIN .\nz.test SOA ns.z.test m.z.test 7 1d 1h 2w 5m\nz.test NS ns.z.test\nns.z.test A 192.0.2.53\n";
