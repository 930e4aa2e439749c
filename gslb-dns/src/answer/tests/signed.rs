//! Signed answers: each validates, and says what the unsigned answer says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use proptest::prelude::*;
use shared::name::OwnerName;
use shared::topology::{LastResort, Policy};

use super::naive::{self, lines, qname};
use super::packet::{Ask, Reply, ask};
use super::validate::{Verdict, signing, validate};
use super::world::{World, ZONE, add_service, region, sample};
use crate::answer::Snapshot;
use crate::wire::Rtype;
use crate::zone::{CHAIN_MAX, Denial, Signing, Zone, ZoneSet};

impl Ask {
    /// With DO set.
    pub(super) fn signed(self) -> Self {
        let mut ask = if self.opt.is_some() { self } else { self.edns(1232) };
        if let Some(opt) = &mut ask.opt {
            opt.flags |= 0x8000;
        }
        ask
    }
}

/// Records without signatures, and those that only prove something.
fn plain(records: &[Record]) -> Vec<Record> {
    records.iter().filter(|record| record.record_type() != RecordType::RRSIG).cloned().collect()
}

/// The answer to `ask` with signatures: it validates, and says what the one without says.
fn check(snapshot: &Snapshot, zones: &[(&str, bool)], ask: &Ask) -> Result<Reply, TestCaseError> {
    let unsigned = ask.of(snapshot);
    let signed = ask.clone().signed().of(snapshot);
    let qtype = match unsigned.message.answers.first() {
        Some(first) if ask.qtype == Rtype::ANY => first.record_type(),
        _ => RecordType::from(ask.qtype.0),
    };
    let mut qname = Name::from_ascii(&ask.name).expect("a name");
    qname.set_fqdn(true);
    let what = format!(
        "{} {} {:#?}",
        ask.name,
        ask.qtype,
        [unsigned.answers(), unsigned.authorities(), signed.answers(), signed.authorities()]
    );
    let code = signed.message.metadata.response_code;
    if code != ResponseCode::Refused {
        let verdict = validate(&signed.message, &qname, qtype, zones);
        prop_assert!(verdict.is_ok(), "{verdict:?} {what}");
        let is_compact_name_error = verdict == Ok(Verdict::NameError) && code == ResponseCode::NoError;
        let code = if is_compact_name_error { ResponseCode::NXDomain } else { code };
        prop_assert_eq!(code, unsigned.message.metadata.response_code, "{}", what);
    }
    let [sets, expected] = [&signed, &unsigned].map(|reply| naive::set(&plain(&reply.message.answers)));
    prop_assert_eq!(sets, expected, "{}", what);
    prop_assert_eq!(signed.message.metadata.authoritative, unsigned.message.metadata.authoritative, "{}", what);
    // A chain that leads to the zone's own name leaves DS to be asked of the zone above.
    let is_left = ask.qtype == Rtype::DS && !signed.message.answers.is_empty();
    let is_soa = |record: &Record| record.record_type() == RecordType::SOA;
    let is_negative = |reply: &Reply| reply.message.authorities.iter().any(is_soa);
    prop_assert!(is_left || is_negative(&signed) == is_negative(&unsigned), "{}", what);
    prop_assert!(!signed.message.metadata.authentic_data);
    Ok(signed)
}

fn denial() -> impl Strategy<Value = Denial> {
    prop::sample::select(vec![Denial::Nsec, Denial::Nsec3, Denial::Compact])
}

fn qtype() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![1_u16, 1, 2, 5, 6, 15, 16, 28, 39, 43, 65, 255, 999])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_answer_validates_as_what_the_unsigned_one_says(
        lines in lines(),
        has_child: bool,
        are_signed in prop::sample::select(vec![[true, true], [true, true], [true, false], [false, true]]),
        denials in (denial(), denial()),
        steered in prop::option::of(prop::sample::select(vec!["a.z.test", "b.z.test", "b.a.z.test", "c.b.z.test", "z.test"])),
        questions in prop::collection::vec((qname(), qtype()), 24),
    ) {
        let zones = [("z.test.", denials.0), ("a.z.test.", denials.1)];
        let signings: Vec<Option<Signing>> =
            zones.iter().zip(are_signed).map(|((apex, denial), is_signed)| is_signed.then(|| signing(apex, *denial))).collect();
        let (snapshot, _) = naive::build_signed(&lines, has_child, steered, &signings);
        let served = if has_child { 2 } else { 1 };
        let zones: Vec<_> = zones.iter().zip(are_signed).map(|((apex, _), is_signed)| (*apex, is_signed)).take(served).collect();
        for (qname, qtype) in &questions {
            check(&snapshot, &zones, &ask(qname, Rtype(*qtype)).tcp())?;
        }
    }
}

#[test]
fn a_dname_that_leads_back_to_its_owner_is_told_once_to_who_asks_for_it() {
    let lines = [naive::make_line("c.z.test.", DNAME_LINE, "z.test.", 0)];
    let signings = [Some(signing("z.test.", Denial::Nsec)), None];
    let (snapshot, _) = naive::build_signed(&lines, false, None, &signings);
    let asked = ask("c.c.z.test", Rtype::DNAME).tcp();
    let reply = check(&snapshot, &[("z.test.", true)], &asked).expect("it validates");
    assert_eq!(plain(&reply.message.answers).len(), 2, "the DNAME and the CNAME made from it: {:?}", reply.answers());
}

/// The kind of a line that is a DNAME.
const DNAME_LINE: u8 = 12;

/// The sample with its zone signed by `denial`; asked of its services and of some names beside them.
fn check_sample(world: &World, denial: Denial) {
    let snapshot = world.signed_snapshot(&[Some(signing("gslb.test.", denial))]);
    let services = world.topology.services.iter().map(|service| service.name.to_string());
    let others =
        ["cdn", "far", "x.alias", "text", "nothing", "kid", "x.kid", "bare", "x.old", "down", "mail", "x.wild"];
    for name in services.chain(others.map(|name| format!("{name}.gslb.test"))) {
        for qtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS, Rtype::TXT, Rtype::CNAME, Rtype::MX, Rtype::DS, Rtype::ANY] {
            for subnet in ["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"] {
                let ask = ask(&name, qtype).tcp().ecs(subnet);
                check(&snapshot, &[("gslb.test.", true)], &ask).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

const DENIALS: [Denial; 3] = [Denial::Nsec, Denial::Nsec3, Denial::Compact];

#[test]
fn steered_answers_validate_whoever_serves() {
    const DOWN: [&[&str]; 4] = [&[], &["seoul"], &["frankfurt", "virginia"], &["frankfurt", "seoul", "virginia"]];
    for denial in DENIALS {
        for down in DOWN {
            let services = ["all.gslb.test", "four.gslb.test", "half.gslb.test", "none.gslb.test", "www.gslb.test"];
            let world = services.into_iter().fold(sample(), |world, service| world.down(service, down));
            check_sample(&world, denial);
        }
    }
}

#[test]
fn steered_texts_and_aliases_validate() {
    let mut world = sample();
    let texts = ["a", "b", "a"].map(|text| vec![text.to_owned(), "c".to_owned()]);
    // The zone's own TXT records at www would stand beside them.
    world.topology.services[0].txt = texts.into();
    add_service(&mut world.topology, "go.gslb.test", Policy::Nearest);
    add_service(&mut world.topology, "to.gslb.test", Policy::Nearest);
    for service in &mut world.topology.services[6..] {
        service.vips.iter_mut().for_each(Vec::clear);
        service.https = None;
        let target = |name: &str| OwnerName::parse(name).expect("a name");
        service.cname = vec![target("mail.gslb.test"), target("eu.example.net"), target("us.example.net")];
        service.last_resort = LastResort::None;
    }
    let zone = format!("{ZONE}via CNAME go\n");
    let world = world.zone("gslb.test", &zone).down("to.gslb.test", &["frankfurt", "seoul", "virginia"]);
    DENIALS.into_iter().for_each(|denial| check_sample(&world, denial));
}

#[test]
fn sets_of_many_members_are_signed_when_first_asked_for() {
    let mut world = sample();
    let more = |at: u8| region(&format!("r{at}"), 0.0, f64::from(at), &[&format!("192.0.2.{}", 100 + at)]);
    world.topology.regions.iter_mut().for_each(|region| region.vips.retain(std::net::IpAddr::is_ipv4));
    world.topology.regions.extend((0..5).map(more));
    world.topology.services.clear();
    world.topology.steerings.clear();
    add_service(&mut world.topology, "all.gslb.test", Policy::All);
    add_service(&mut world.topology, "www.gslb.test", Policy::Nearest);
    for down in [&["seoul"][..], &["seoul", "r1"], &["seoul", "r1", "r2", "r3", "r4"]] {
        let world = World {
            standings: Vec::new(),
            topology: world.topology.clone(),
            zones: world.zones.clone(),
            overrides: String::new(),
        };
        let world = world.down("all.gslb.test", down);
        let signing = signing("gslb.test.", Denial::Nsec);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = {
            let (count, sign) = (Arc::clone(&count), Arc::clone(&signing.sign));
            move |owner: &[u8], rtype, ttl, rdatas: &[&[u8]]| {
                count.fetch_add(1, Ordering::Relaxed);
                sign(owner, rtype, ttl, rdatas)
            }
        };
        let snapshot = world.signed_snapshot(&[Some(Signing { sign: Arc::new(counted), ..signing })]);
        let ahead = count.load(Ordering::Relaxed);
        let asked = ask("all.gslb.test", Rtype::A).tcp();
        for _ in 0..3 {
            check(&snapshot, &[("gslb.test.", true)], &asked).unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(count.load(Ordering::Relaxed), ahead + 1);
    }
}

#[test]
fn failover_signs_nothing() {
    let signing = signing("gslb.test.", Denial::Nsec);
    let is_built = Arc::new(AtomicBool::new(false));
    let sign = {
        let (is_built, sign) = (Arc::clone(&is_built), Arc::clone(&signing.sign));
        move |owner: &[u8], rtype, ttl, rdatas: &[&[u8]]| {
            assert!(!is_built.load(Ordering::Relaxed), "a query signs {rtype}");
            sign(owner, rtype, ttl, rdatas)
        }
    };
    let world = sample();
    let snapshot = world.signed_snapshot(&[Some(Signing { sign: Arc::new(sign), ..signing })]);
    is_built.store(true, Ordering::Relaxed);
    let services = ["all.gslb.test", "none.gslb.test", "www.gslb.test"];
    for down in [&["seoul"][..], &["frankfurt", "virginia"], &["frankfurt", "seoul", "virginia"]] {
        let fallen = services.into_iter().fold(sample(), |world, service| world.down(service, down));
        let snapshot = Snapshot::new(Arc::clone(snapshot.zones()), Arc::clone(snapshot.geo()), fallen.view());
        for name in services {
            for qtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS, Rtype::MX] {
                assert_eq!(ask(name, qtype).signed().of(&snapshot).rcode(), "NOERROR");
            }
        }
    }
}

/// The answer to `ask` by the sample zone, signed by `denial`.
fn signed_sample(denial: Denial, ask: Ask) -> Reply {
    ask.signed().of(&sample().signed_snapshot(&[Some(signing("gslb.test.", denial))]))
}

fn types(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.record_type().to_string()).collect()
}

#[test]
fn longest_chain_of_wildcards_is_proved_to_its_end() {
    for denial in DENIALS {
        for end in ["data.end TXT x", "*.end TXT x", "*.other TXT x"] {
            let chain: String = (0..CHAIN_MAX - 1).map(|at| format!("*.w{at} CNAME x.w{}\n", at + 1)).collect();
            let lines = format!("{chain}*.w{} CNAME data.end\n{end}\n", CHAIN_MAX - 1);
            let world = sample().zone("gslb.test", &format!("{ZONE}{lines}"));
            let snapshot = world.signed_snapshot(&[Some(signing("gslb.test.", denial))]);
            for qtype in [Rtype::TXT, Rtype::A] {
                let reply = check(&snapshot, &[("gslb.test.", true)], &ask("y.w0.gslb.test", qtype).tcp());
                let reply = reply.unwrap_or_else(|error| panic!("{error}"));
                assert!(plain(&reply.message.answers).len() >= CHAIN_MAX);
            }
        }
    }
}

#[test]
fn one_record_proves_both_that_name_and_wildcard_do_not_exist() {
    // RFC 4035, section 3.1.3.2: nothing lies between notes and old but what is asked.
    let reply = signed_sample(Denial::Nsec, ask("nothing.notes.gslb.test", Rtype::A).tcp());
    assert_eq!(types(&reply.message.authorities), ["SOA", "RRSIG", "NSEC", "RRSIG"]);
}

#[test]
fn denial_lives_no_longer_than_the_negative_answer() {
    // RFC 9077, section 3.
    for denial in DENIALS {
        let reply = signed_sample(denial, ask("nothing.gslb.test", Rtype::A).tcp());
        assert!(reply.message.authorities.iter().all(|record| record.ttl == 300));
    }
}

#[test]
fn records_of_dnssec_itself_are_answered_where_they_are_owned() {
    let nsec = signed_sample(Denial::Nsec, ask("mail.gslb.test", Rtype::NSEC));
    assert_eq!(types(&nsec.message.answers), ["NSEC", "RRSIG"]);
    for denial in DENIALS {
        // RFC 8482, section 7.
        let rrsig = signed_sample(denial, ask("mail.gslb.test", Rtype::RRSIG));
        assert_eq!(types(&rrsig.message.answers), ["RRSIG"]);
        // RFC 5155, section 7.2.8: the names of NSEC3 records are none.
        let name_error = signed_sample(denial, ask("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.gslb.test", Rtype::NSEC3));
        assert_eq!(name_error.rcode(), if denial == Denial::Compact { "NOERROR" } else { "NXDOMAIN" });
    }
    let parameters = signed_sample(Denial::Nsec3, ask("gslb.test", Rtype::NSEC3PARAM));
    assert_eq!(parameters.answers()[0], "gslb.test. 3600 IN NSEC3PARAM 1 0 0 -");
}

#[test]
fn signed_answer_over_the_limit_sets_tc() {
    // RFC 4035, section 3.1: a part of the proof would be none.
    let reply = signed_sample(Denial::Nsec3, ask("nothing.gslb.test", Rtype::A).edns(512));
    assert!(reply.message.metadata.truncation && reply.message.authorities.is_empty());
    // RFC 4035, section 3.1.1: what is only of use is left out.
    let addresses: String = (1..10).map(|at| format!("ns1 AAAA 2001:db8:53::{at}\n")).collect();
    let world = sample().zone("gslb.test", &format!("{ZONE}{addresses}"));
    let snapshot = world.signed_snapshot(&[Some(signing("gslb.test.", Denial::Nsec))]);
    let reply = ask("gslb.test", Rtype::NS).edns(512).signed().of(&snapshot);
    assert!(!reply.message.metadata.truncation);
    assert_eq!((types(&reply.message.answers).len(), reply.additionals().len()), (3, 0));
}

#[test]
fn signatures_come_to_those_who_ask_for_them_only() {
    let snapshot = sample().signed_snapshot(&[Some(signing("gslb.test.", Denial::Nsec))]);
    for name in ["mail.gslb.test", "nothing.gslb.test", "www.gslb.test", "kid.gslb.test"] {
        let reply = ask(name, Rtype::A).edns(1232).of(&snapshot);
        let plain = ask(name, Rtype::A).edns(1232).of(&sample().snapshot());
        assert_eq!(reply.octets, plain.octets);
    }
}

#[test]
fn zone_with_records_of_signing_is_refused() {
    let zone = format!("{ZONE}mail NSEC \\# 4 00000140\n");
    let zone = Zone::parse(&OwnerName::parse("gslb.test").expect("a name"), "z", &zone).expect("a zone");
    let signing = Some(signing("gslb.test.", Denial::Nsec));
    let problems = ZoneSet::build_signed(vec![(zone, signing)], &sample().topology).expect_err("a problem");
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(
        text[0].ends_with("mail.gslb.test.: NSEC records are made here, for the zone is signed: remove them"),
        "{text:?}"
    );
}
