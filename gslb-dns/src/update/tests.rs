//! The rules of RFC 2136, section by section; random updates against a naive model.

mod journals;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use shared::name::OwnerName;

use super::journal::{self, Entry};
use super::*;
use crate::zone::ZoneRecord;

const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;

const ZONE: &str = "\
$TTL 300
@ SOA ns1 hostmaster 7 3600 600 86400 60
@ NS ns1
@ NS ns.example.net.
@ MX 10 mail
ns1 A 192.0.2.53
mail A 192.0.2.25
mail TXT \"x\"
web CNAME mail
deep.er.down TXT \"x\"
";

/// A record as it stands in a message.
type Row = (&'static str, Rtype, u16, u32, Vec<u8>);

fn zone() -> Zone {
    parse(ZONE)
}

fn parse(text: &str) -> Zone {
    Zone::parse(&OwnerName::parse("example.com").expect("a name"), "z", text).expect("a zone")
}

fn name(text: &str) -> Name {
    let apex = Name::parse("example.com.", &Name::root()).expect("a name");
    if text == "@" { apex } else { Name::parse(text, &apex).expect("a name") }
}

fn a(last: u8) -> Vec<u8> {
    vec![192, 0, 2, last]
}

fn txt(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn wire(text: &str) -> Vec<u8> {
    name(text).as_wire().to_vec()
}

fn soa(serial: u32) -> Vec<u8> {
    let numbers: Vec<u8> = [serial, 1, 2, 3, 4].into_iter().flat_map(u32::to_be_bytes).collect();
    [wire("ns1"), wire("hostmaster"), numbers].concat()
}

fn message(prerequisites: &[Row], changes: &[Row]) -> Vec<u8> {
    let mut out = vec![0, 1, 0x28, 0, 0, 1, 0, prerequisites.len() as u8, 0, changes.len() as u8, 0, 0];
    out.extend(wire("@"));
    out.extend([0, 6, 0, 1]);
    for (owner, rtype, class, ttl, rdata) in prerequisites.iter().chain(changes) {
        out.extend(wire(owner));
        out.extend(rtype.0.to_be_bytes());
        out.extend(class.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        out.extend((rdata.len() as u16).to_be_bytes());
        out.extend(rdata);
    }
    out
}

/// A key that may do everything.
fn open() -> Policy {
    let names = ["*", "@"].map(|text| NamePattern::parse(text).expect("a pattern")).to_vec();
    Policy { rules: vec![Rule { key: name("key."), names, types: vec![Rtype::ANY] }] }
}

fn run_as(
    policy: &Policy,
    keys: Keys,
    prerequisites: &[Row],
    changes: &[Row],
) -> Result<Option<(Zone, Delta)>, Refusal> {
    let update = Update::parse(&message(prerequisites, changes))?;
    update.apply(&zone(), &Access { policy, key: &name("key."), keys })
}

fn run(prerequisites: &[Row], changes: &[Row]) -> Result<Option<(Zone, Delta)>, Refusal> {
    run_as(&open(), Keys::Foreign, prerequisites, changes)
}

fn rcode(prerequisites: &[Row], changes: &[Row]) -> &'static str {
    run(prerequisites, changes).map_or_else(|refusal| refusal.rcode().as_str(), |_| "NOERROR")
}

/// The zone after `changes`, which are accepted.
fn after(changes: &[Row]) -> Zone {
    run(&[], changes).expect("accepted").map_or_else(zone, |(zone, _)| zone)
}

fn rdatas(zone: &Zone, owner: &str, rtype: Rtype) -> Vec<Vec<u8>> {
    zone.rrset_of(&name(owner), rtype).into_iter().map(|record| record.rdata.into()).collect()
}

fn types(zone: &Zone, owner: &str) -> Vec<Rtype> {
    let mut types: Vec<Rtype> = zone.types_of(&name(owner)).collect();
    types.sort();
    types
}

/// RFC 2136, section 3.1.
#[test]
fn zone_section_must_name_one_zone_by_its_soa() {
    let code = |message: &[u8]| Update::parse(message).expect_err("refused").rcode();
    let mut other_type = message(&[], &[]);
    other_type[26] = 1;
    let mut other_class = message(&[], &[]);
    other_class[28] = 3;
    let mut none = message(&[], &[]);
    none[5] = 0;
    none.truncate(12);
    assert_eq!([&other_type, &none].map(|message| code(message)), [Rcode::FORMERR; 2]);
    assert_eq!(code(&other_class), Rcode::NOTAUTH);
    assert_eq!(code(&message(&[], &[])[..20]), Rcode::FORMERR);
}

/// RFC 2136, sections 2.4.1 and 3.2.
#[test]
fn rrset_that_should_exist_is_nxrrset_without_one() {
    assert_eq!(rcode(&[("mail", Rtype::A, ANY, 0, vec![])], &[]), "NOERROR");
    assert_eq!(rcode(&[("mail", Rtype::AAAA, ANY, 0, vec![])], &[]), "NXRRSET");
    assert_eq!(rcode(&[("MAIL", Rtype::A, ANY, 0, vec![])], &[]), "NOERROR");
}

/// RFC 2136, section 2.4.2: all records of the RRset, in any order, whatever their TTL.
#[test]
fn rrset_that_should_have_a_value_must_have_it_whole() {
    let ns = |target: &str| ("@", Rtype::NS, IN, 0, wire(target));
    assert_eq!(rcode(&[ns("ns.example.net."), ns("NS1")], &[]), "NOERROR");
    assert_eq!(rcode(&[ns("ns1")], &[]), "NXRRSET");
    assert_eq!(rcode(&[ns("ns1"), ns("ns.example.net."), ns("ns3")], &[]), "NXRRSET");
    assert_eq!(rcode(&[ns("ns1"), ns("ns3")], &[]), "NXRRSET");
    assert_eq!(rcode(&[("none", Rtype::A, IN, 0, a(1))], &[]), "NXRRSET");
}

/// RFC 2136, section 2.4.3.
#[test]
fn rrset_that_should_not_exist_is_yxrrset_with_one() {
    assert_eq!(rcode(&[("mail", Rtype::A, NONE, 0, vec![])], &[]), "YXRRSET");
    assert_eq!(rcode(&[("mail", Rtype::AAAA, NONE, 0, vec![])], &[]), "NOERROR");
}

/// RFC 2136, sections 2.4.4 and 2.4.5: empty non-terminals are not in use.
#[test]
fn names_in_use_are_those_with_records() {
    let used = |owner| rcode(&[(owner, Rtype::ANY, ANY, 0, vec![])], &[]);
    let unused = |owner| rcode(&[(owner, Rtype::ANY, NONE, 0, vec![])], &[]);
    assert_eq!(["mail", "er.down", "none"].map(used), ["NOERROR", "NXDOMAIN", "NXDOMAIN"]);
    assert_eq!(["mail", "er.down", "none"].map(unused), ["YXDOMAIN", "NOERROR", "NOERROR"]);
}

/// RFC 2136, section 3.2.
#[test]
fn prerequisites_of_another_form_are_formerr_and_outside_notzone() {
    let cases: [(Row, &str); 6] = [
        (("mail", Rtype::A, ANY, 1, vec![]), "FORMERR"),
        (("mail", Rtype::A, ANY, 0, a(1)), "FORMERR"),
        (("mail", Rtype::A, NONE, 0, a(1)), "FORMERR"),
        (("mail", Rtype::A, IN, 0, vec![1]), "FORMERR"),
        (("mail", Rtype::A, 3, 0, vec![]), "FORMERR"),
        (("mail.example.net.", Rtype::A, ANY, 0, vec![]), "NOTZONE"),
    ];
    for (row, expected) in cases {
        assert_eq!(rcode(std::slice::from_ref(&row), &[]), expected, "{row:?}");
    }
}

/// RFC 2136, section 3.2: an update without its prerequisites changes nothing.
#[test]
fn changes_wait_for_prerequisites() {
    let change = [("new", Rtype::A, IN, 60, a(1))];
    assert_eq!(rcode(&[("mail", Rtype::A, NONE, 0, vec![])], &change), "YXRRSET");
}

/// RFC 2136, section 3.4.1.
#[test]
fn changes_of_another_form_are_formerr_and_outside_notzone() {
    let cases: [(Row, &str); 10] = [
        (("new", Rtype::A, IN, 60, vec![1, 2]), "FORMERR"),
        (("new", Rtype::A, IN, 60, vec![]), "FORMERR"),
        (("new", Rtype::A, IN, 1 << 31, a(1)), "FORMERR"),
        (("new", Rtype::ANY, IN, 60, vec![]), "FORMERR"),
        (("new", Rtype::AXFR, ANY, 0, vec![]), "FORMERR"),
        (("new", Rtype::A, ANY, 60, vec![]), "FORMERR"),
        (("new", Rtype::A, ANY, 0, a(1)), "FORMERR"),
        (("new", Rtype::ANY, NONE, 0, vec![]), "FORMERR"),
        (("new", Rtype::A, 4, 0, a(1)), "FORMERR"),
        (("new.example.net.", Rtype::A, IN, 60, a(1)), "NOTZONE"),
    ];
    for (row, expected) in cases {
        let good = ("good", Rtype::A, IN, 60, a(1));
        assert_eq!(rcode(&[], &[good, row.clone()]), expected, "{row:?}");
    }
}

/// RFC 2136, section 2.5.1; RFC 2181, section 5.2: the RRset gets the TTL of what is added.
#[test]
fn added_record_joins_its_rrset() {
    let zone = after(&[("Mail", Rtype::A, IN, 60, a(26)), ("New.name", Rtype::TXT, IN, 60, txt("y"))]);
    assert_eq!(rdatas(&zone, "mail", Rtype::A), [a(25), a(26)]);
    assert!(zone.rrset_of(&name("mail"), Rtype::A).iter().all(|record| record.ttl == 60));
    assert_eq!(rdatas(&zone, "new.name", Rtype::TXT), [txt("y")]);
}

/// RFC 2136, section 3.4.2.2.
#[test]
fn added_record_that_is_there_changes_at_most_the_ttl() {
    assert!(run(&[], &[("mail", Rtype::A, IN, 300, a(25))]).expect("accepted").is_none());
    let (zone, delta) = run(&[], &[("mail", Rtype::A, IN, 60, a(25))]).expect("accepted").expect("a change");
    assert_eq!((rdatas(&zone, "mail", Rtype::A), delta.to), (vec![a(25)], 8));
}

/// RFC 2136, section 3.4.2.2.
#[test]
fn cname_and_other_data_never_meet_and_the_later_is_ignored() {
    let zone = after(&[("mail", Rtype::CNAME, IN, 60, wire("x")), ("web", Rtype::A, IN, 60, a(1))]);
    assert_eq!((types(&zone, "mail"), types(&zone, "web")), (vec![Rtype::A, Rtype::TXT], vec![Rtype::CNAME]));
}

/// RFC 2136, section 3.4.2.2.
#[test]
fn cname_takes_the_place_of_the_one_that_is_there() {
    let zone = after(&[("web", Rtype::CNAME, IN, 60, wire("x"))]);
    assert_eq!(rdatas(&zone, "web", Rtype::CNAME), [wire("x")]);
}

/// RFC 2136, section 2.5.2.
#[test]
fn rrset_is_deleted_whole_and_no_other() {
    let zone = after(&[("mail", Rtype::TXT, ANY, 0, vec![])]);
    assert_eq!(types(&zone, "mail"), [Rtype::A]);
}

/// RFC 2136, section 2.5.3.
#[test]
fn name_is_deleted_with_the_empty_names_above_it() {
    let zone = after(&[("deep.er.down", Rtype::ANY, ANY, 0, vec![])]);
    let set = crate::zone::ZoneSet::build(vec![zone], &Default::default()).expect("zones");
    for owner in ["deep.er.down", "er.down", "down"] {
        let crate::zone::Found::Static(tail) = set.find(&wire(owner), Rtype::TXT) else { panic!("static") };
        assert_eq!(tail.rcode(), Rcode::NXDOMAIN, "{owner}");
    }
}

/// RFC 2136, section 3.4.2.3.
#[test]
fn soa_and_ns_of_the_apex_outlive_all_deletions() {
    let zone = after(&[("@", Rtype::ANY, ANY, 0, vec![])]);
    assert_eq!(types(&zone, "@"), [Rtype::NS, Rtype::SOA]);
    let zone = after(&[
        ("@", Rtype::NS, ANY, 0, vec![]),
        ("@", Rtype::SOA, ANY, 0, vec![]),
        ("@", Rtype::SOA, NONE, 0, soa(7)),
    ]);
    assert_eq!(types(&zone, "@"), [Rtype::NS, Rtype::SOA, Rtype::MX]);
}

/// RFC 2136, section 3.4.2.4.
#[test]
fn last_ns_of_the_apex_stays() {
    let delete = |target: &str| ("@", Rtype::NS, NONE, 0, wire(target));
    let zone = after(&[delete("ns1"), delete("ns.example.net.")]);
    assert_eq!(rdatas(&zone, "@", Rtype::NS), [wire("ns.example.net.")]);
}

/// RFC 2136, section 2.5.4.
#[test]
fn record_is_deleted_by_its_data_in_any_case_of_names() {
    let zone = after(&[("web", Rtype::CNAME, NONE, 0, wire("MAIL")), ("mail", Rtype::A, NONE, 0, a(99))]);
    assert_eq!((types(&zone, "web"), rdatas(&zone, "mail", Rtype::A)), (vec![], vec![a(25)]));
}

/// RFC 2136, section 3.4.2: one after the other, each sees what those before did.
#[test]
fn changes_are_made_in_their_order() {
    let zone = after(&[("web", Rtype::ANY, ANY, 0, vec![]), ("web", Rtype::A, IN, 60, a(1))]);
    assert_eq!(types(&zone, "web"), [Rtype::A]);
    let unchanged = [("new", Rtype::A, IN, 60, a(1)), ("new", Rtype::A, ANY, 0, vec![])];
    assert!(run(&[], &unchanged).expect("accepted").is_none());
}

/// RFC 2136, sections 3.4.2.2 and 3.6; RFC 1982.
#[test]
fn serial_is_the_next_one_unless_the_update_sets_a_later() {
    let serial = |changes: &[Row]| after(changes).serial();
    let change = || ("new", Rtype::A, IN, 60, a(1));
    let soa = |number| ("@", Rtype::SOA, IN, 300, soa(number));
    assert_eq!(serial(&[change()]), 8);
    assert_eq!(serial(&[soa(20)]), 20);
    assert_eq!(serial(&[change(), soa(20)]), 20);
    assert_eq!(serial(&[change(), soa(6)]), 8);
    // Too far away to be later, or to be compared at all.
    assert_eq!([8 + (1 << 31), 7 + (1 << 31)].map(|number| serial(&[change(), soa(number)])), [8, 8]);
    // With the serial that it has, only the rest counts as a change.
    assert_eq!(serial(&[soa(7)]), 8);
    assert_eq!(serial(&[]), 7);
}

#[test]
fn delta_has_both_soa_records_first() {
    let (_, delta) = run(&[], &[("mail", Rtype::TXT, ANY, 0, vec![])]).expect("accepted").expect("a change");
    let types = |records: &[ZoneRecord]| records.iter().map(|record| record.rtype).collect::<Vec<_>>();
    assert_eq!((types(&delta.removed), types(&delta.added)), (vec![Rtype::SOA, Rtype::TXT], vec![Rtype::SOA]));
    assert_eq!((delta.from, delta.to), (7, 8));
}

/// RFC 2136, section 3.3.
#[test]
fn key_changes_only_what_its_rules_cover() {
    let names = vec![NamePattern::parse("_acme-challenge.*").expect("a pattern")];
    let rules = vec![Rule { key: name("key."), names, types: vec![Rtype::TXT] }];
    let policy = Policy { rules };
    let code = |row: Row| {
        run_as(&policy, Keys::Foreign, &[], &[row]).map_or_else(|refusal| refusal.rcode().as_str(), |_| "NOERROR")
    };
    assert_eq!(code(("_acme-challenge", Rtype::TXT, IN, 60, txt("x"))), "NOERROR");
    assert_eq!(code(("_acme-challenge.www", Rtype::TXT, IN, 60, txt("x"))), "NOERROR");
    assert_eq!(code(("_acme-challenge", Rtype::TXT, ANY, 0, vec![])), "NOERROR");
    assert_eq!(code(("_acme-challenge", Rtype::ANY, ANY, 0, vec![])), "NOERROR");
    assert_eq!(code(("_acme-challenge", Rtype::A, IN, 60, a(1))), "REFUSED");
    assert_eq!(code(("mail", Rtype::TXT, IN, 60, txt("x"))), "REFUSED");
    assert_eq!(code(("mail", Rtype::TXT, NONE, 0, txt("x"))), "REFUSED");
    assert_eq!(code(("mail", Rtype::ANY, ANY, 0, vec![])), "REFUSED");
}

#[test]
fn name_is_deleted_only_by_who_may_change_all_that_it_has() {
    let names = vec![NamePattern::parse("mail").expect("a pattern")];
    let policy = |types| Policy { rules: vec![Rule { key: name("key."), names: names.clone(), types }] };
    let delete = || ("mail", Rtype::ANY, ANY, 0, vec![]);
    let refusal = run_as(&policy(vec![Rtype::TXT]), Keys::Foreign, &[], &[delete()]).expect_err("refused");
    assert_eq!(refusal, Refusal::NotAllowed(name("mail"), Rtype::A));
}

#[test]
fn key_without_rules_does_not_learn_what_holds() {
    let policy = Policy::default();
    let refusal = run_as(&policy, Keys::Foreign, &[("mail", Rtype::A, NONE, 0, vec![])], &[]).expect_err("refused");
    assert_eq!(refusal, Refusal::UnknownKey);
}

/// RFC 3007, section 3.
#[test]
fn what_signing_makes_is_nobodys_to_change() {
    let refused = |keys, rtype| {
        let row = ("new", rtype, ANY, 0, vec![]);
        run_as(&open(), keys, &[], &[row]).is_err_and(|refusal| refusal == Refusal::Maintained(rtype))
    };
    assert!([Rtype::RRSIG, Rtype::NSEC, Rtype(50), Rtype(51)].into_iter().all(|rtype| refused(Keys::Foreign, rtype)));
    let keys = [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY];
    assert!(keys.into_iter().all(|rtype| refused(Keys::Ours, rtype) && !refused(Keys::Foreign, rtype)));
    assert!(keys.into_iter().chain([Rtype::CSYNC]).all(|rtype| refused(Keys::OursWithCsync, rtype)));
    assert!(!refused(Keys::Ours, Rtype::CSYNC));
}

#[test]
fn update_that_leaves_no_zone_is_refused() {
    let cases: [&[Row]; 4] = [
        &[("ns1", Rtype::A, ANY, 0, vec![])],
        &[("mail", Rtype::ANY, ANY, 0, vec![]), ("mail", Rtype::CNAME, IN, 60, wire("x"))],
        &[("down", Rtype::DNAME, IN, 60, wire("x"))],
        &[("down", Rtype::NS, IN, 60, wire("ns1"))],
    ];
    for changes in cases {
        assert_eq!(rcode(&[], changes), "REFUSED", "{changes:?}");
    }
}

/// What is in a zone, by the simplest means.
type Model = BTreeMap<(Vec<u8>, u16), (u32, BTreeSet<Vec<u8>>)>;

fn model_of(zone: &Zone) -> Model {
    let mut model = Model::new();
    for owner in OWNERS.iter().chain(&["ns1", "mail", "web", "deep.er.down"]) {
        for record in zone.records_of(&name(owner)).into_iter().filter(|record| record.rtype != Rtype::SOA) {
            let set = model.entry((wire(owner), record.rtype.0)).or_insert((record.ttl, BTreeSet::new()));
            set.1.insert(record.rdata.into());
        }
    }
    model
}

/// RFC 2136, section 3.4.2.7, word for word.
fn apply_naively(model: &mut Model, (owner, rtype, class, ttl, rdata): &Row) {
    let (apex, owner, number) = (wire("@"), wire(owner), rtype.0);
    let types: Vec<u16> = model.keys().filter(|(name, _)| *name == owner).map(|(_, rtype)| *rtype).collect();
    let key = (owner.clone(), number);
    match *class {
        IN if number == 5 && types.iter().any(|rtype| *rtype != 5) => {}
        IN if number != 5 && types.contains(&5) => {}
        IN => {
            let set = model.entry(key).or_insert((*ttl, BTreeSet::new()));
            set.0 = *ttl;
            if number == 5 {
                set.1.clear();
            }
            set.1.insert(rdata.clone());
        }
        ANY if *rtype == Rtype::ANY => {
            model.retain(|(name, rtype), _| *name != owner || (owner == apex && *rtype == 2))
        }
        ANY if owner == apex && number == 2 => {}
        ANY => {
            model.remove(&key);
        }
        _ if owner == apex && number == 2 && model[&key].1.len() == 1 => {}
        _ => {
            if let Some(set) = model.get_mut(&key) {
                set.1.remove(rdata);
                if set.1.is_empty() {
                    model.remove(&key);
                }
            }
        }
    }
}

const OWNERS: [&str; 5] = ["@", "a", "b.a", "c.b.a", "d"];

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let data = |rtype: Rtype, at: u8| match rtype {
        Rtype::A => a(at),
        Rtype::NS => wire(["x.example.net.", "y.example.net.", "z.example.net."][usize::from(at)]),
        Rtype::CNAME => wire(["a", "d", "x"][usize::from(at)]),
        _ => txt(["p", "q", "r"][usize::from(at)]),
    };
    let row =
        (0..OWNERS.len(), 0..4_usize, 0..4_u8, 0..3_u8, 0..2_u32).prop_map(move |(owner, rtype, kind, at, ttl)| {
            // Delegations would make most zones wrong.
            let last = if owner == 0 { Rtype::NS } else { Rtype::CNAME };
            let rtype = [Rtype::A, Rtype::TXT, Rtype::TXT, last][rtype];
            match kind {
                0 => (OWNERS[owner], rtype, ANY, 0, vec![]),
                1 if at == 0 => (OWNERS[owner], Rtype::ANY, ANY, 0, vec![]),
                1 => (OWNERS[owner], rtype, NONE, 0, data(rtype, at)),
                _ => (OWNERS[owner], rtype, IN, 60 + ttl, data(rtype, at)),
            }
        });
    prop::collection::vec(row, 1..12)
}

/// The zones and entries that `updates` lead to, one after the other.
fn history(updates: &[Vec<Row>]) -> (Vec<Zone>, Vec<Entry>) {
    let (policy, key) = (open(), name("key."));
    let access = Access { policy: &policy, key: &key, keys: Keys::Foreign };
    let (mut zones, mut entries) = (vec![zone()], Vec::new());
    for rows in updates {
        let update = Update::parse(&message(&[], rows)).expect("an update");
        let last = zones.last().expect("there is one");
        if let Some((next, delta)) = update.apply(last, &access).expect("accepted") {
            entries.push(Entry { delta, digest: next.digest() });
            zones.push(next);
        }
    }
    (zones, entries)
}

proptest! {
    #[test]
    fn random_updates_do_what_the_naive_model_does(updates in prop::collection::vec(rows(), 1..6)) {
        let mut model = model_of(&zone());
        let (policy, key) = (open(), name("key."));
        let access = Access { policy: &policy, key: &key, keys: Keys::Foreign };
        let mut last = zone();
        for rows in &updates {
            rows.iter().for_each(|row| apply_naively(&mut model, row));
            let update = Update::parse(&message(&[], rows)).expect("an update");
            let before = last.serial();
            if let Some((next, delta)) = update.apply(&last, &access).expect("accepted") {
                prop_assert_eq!((delta.from, delta.to, next.serial()), (before, before + 1, before + 1));
                prop_assert_ne!(next.digest(), last.digest());
                last = next;
            }
            prop_assert_eq!(model_of(&last), model.clone());
        }
    }

    #[test]
    fn any_octets_are_no_update_that_panics(octets in prop::collection::vec(any::<u8>(), 0..80), cut in 12_usize..120) {
        let whole = message(&[("mail", Rtype::A, ANY, 0, vec![])], &[("new", Rtype::TXT, IN, 60, txt("x"))]);
        let _ = Update::parse(&octets);
        let _ = Update::parse(&[&whole[..cut.min(whole.len())], &octets].concat());
    }

}
