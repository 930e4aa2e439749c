//! The engine against a naive reference: hickory's records, walked one by one as RFC 1034 (section 4.3.2) says.

use std::collections::BTreeSet;
use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSSECRData, DS};
use hickory_proto::dnssec::{Algorithm, DigestType};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, NULL, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use shared::name::OwnerName;
use shared::problem::Problem;
use shared::topology::{Policy, Topology};

use super::packet::{Ask, Reply, ask};
use super::world::{World, add_service, region};
use crate::answer::{Outcome, Snapshot, Transport};
use crate::geo::{GeoData, GeoSources, GeoTables};
use crate::wire::Rtype;
use crate::zone::{Signing, Zone, ZoneSet};

/// One zone of the reference: its name and a list of records.
#[derive(Clone, Debug)]
pub(super) struct NaiveZone {
    apex: Name,
    records: Vec<Record>,
}

/// What the reference finds.
struct Walk<'a> {
    zones: &'a [NaiveZone],
    qtype: RecordType,
    message: Message,
}

/// Composes the answer of the reference.
fn naive(zones: &[NaiveZone], qname: &Name, qtype: RecordType) -> Message {
    let mut walk = Walk { zones, qtype, message: Message::new(0x1234, MessageType::Response, OpCode::Query) };
    let Some(zone) = zone_of(zones, qname, qtype) else {
        walk.message.metadata.response_code = ResponseCode::Refused;
        return walk.message;
    };
    walk.message.metadata.authoritative = true;
    walk.step(zone, qname.clone(), &mut Vec::new());
    walk.message
}

/// The deepest zone that holds `qname`, but for DS the one above its apex.
fn zone_of<'a>(zones: &'a [NaiveZone], qname: &Name, qtype: RecordType) -> Option<&'a NaiveZone> {
    let mut holding: Vec<_> = zones.iter().filter(|zone| zone.apex.zone_of(qname)).collect();
    holding.sort_by_key(|zone| depth(&zone.apex));
    let deepest = holding.pop()?;
    match holding.pop() {
        Some(parent) if qtype == RecordType::DS && deepest.apex == *qname => Some(parent),
        _ => Some(deepest),
    }
}

impl NaiveZone {
    fn at<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.name == *name)
    }

    fn of<'a>(&'a self, name: &'a Name, rtype: RecordType) -> Vec<Record> {
        self.at(name).filter(|record| record.record_type() == rtype).cloned().collect()
    }

    /// Whether a record stands at or below `name`.
    fn exists(&self, name: &Name) -> bool {
        self.records.iter().any(|record| name.zone_of(&record.name))
    }

    /// `name` and the names above it, from the apex down.
    fn path(&self, name: &Name) -> Vec<Name> {
        (depth(&self.apex)..=depth(name)).map(|labels| name.trim_to(labels)).collect()
    }
}

impl Walk<'_> {
    fn step(&mut self, zone: &NaiveZone, name: Name, seen: &mut Vec<Name>) {
        for above in zone.path(&name).iter().skip(1) {
            let is_parent_side = self.qtype == RecordType::DS && *above == name;
            if !zone.of(above, RecordType::NS).is_empty() && !is_parent_side {
                return self.refer(zone, above, self.message.answers.is_empty());
            }
        }
        let path = zone.path(&name);
        if let Some((owner, [dname, ..])) = path[..path.len() - 1]
            .iter()
            .map(|above| (above, zone.of(above, RecordType::DNAME)))
            .find_map(|(above, found)| (!found.is_empty()).then(|| (above.clone(), [found[0].clone()])))
        {
            if seen.is_empty()
                && !self.message.answers.contains(&dname)
                && let Some(target) = self.redirect(&name, &owner, &dname)
                && ![RecordType::CNAME, RecordType::DNAME].contains(&self.qtype)
                && let Some(next) = zone_of(self.zones, &target, self.qtype)
            {
                self.step(next, target, seen);
            }
            return;
        }
        // The name of another zone that is served here exists, whatever this one says.
        let is_other_apex = self.zones.iter().any(|other| other.apex == name);
        if zone.exists(&name) || is_other_apex {
            return self.take(zone, &name.clone(), name, seen);
        }
        let encloser = path.iter().rev().find(|above| zone.exists(above)).expect("the apex exists");
        let wildcard = Name::from_ascii("*").expect("a name").append_domain(encloser).expect("a short name");
        if zone.exists(&wildcard) {
            return self.take(zone, &wildcard, name, seen);
        }
        self.message.metadata.response_code = ResponseCode::NXDomain;
        self.negative(zone);
    }

    /// Answers for `name` by the records at `source`.
    fn take(&mut self, zone: &NaiveZone, source: &Name, name: Name, seen: &mut Vec<Name>) {
        let renamed = |mut record: Record| {
            record.name = name.clone();
            record
        };
        let cname = zone.of(source, RecordType::CNAME);
        if let (Some(record), false) = (cname.first(), self.qtype == RecordType::CNAME) {
            if seen.contains(source) || seen.len() > 16 {
                return;
            }
            self.message.add_answer(renamed(record.clone()));
            seen.push(source.clone());
            let RData::CNAME(CNAME(target)) = &record.data else { unreachable!("a CNAME record") };
            let next = zone_of(self.zones, target, RecordType::A);
            if next.is_some_and(|next| next.apex == zone.apex) {
                self.step(zone, target.clone(), seen);
            }
            return;
        }
        let found = zone.of(source, self.qtype);
        if found.is_empty() {
            return self.negative(zone);
        }
        // At the end of a chain nobody needs them.
        if self.qtype == RecordType::NS && *source == zone.apex && seen.is_empty() {
            self.glue(zone, &found);
        }
        self.message.add_answers(found.into_iter().map(renamed));
    }

    fn refer(&mut self, zone: &NaiveZone, cut: &Name, is_whole_answer: bool) {
        let ns = zone.of(cut, RecordType::NS);
        self.message.metadata.authoritative = !is_whole_answer;
        self.glue(zone, &ns);
        self.message.add_authorities(ns);
    }

    fn glue(&mut self, zone: &NaiveZone, ns: &[Record]) {
        for record in ns {
            let RData::NS(NS(target)) = &record.data else { continue };
            for rtype in [RecordType::A, RecordType::AAAA] {
                self.message.add_additionals(zone.of(target, rtype));
            }
        }
    }

    /// Where `dname` leads `name` to, unless that is too long.
    fn redirect(&mut self, name: &Name, owner: &Name, dname: &Record) -> Option<Name> {
        let RData::Unknown { rdata, .. } = &dname.data else { unreachable!("a DNAME record") };
        let labels: Vec<&[u8]> = name.iter().take(depth(name) - depth(owner)).collect();
        let target = Name::from_labels(labels)
            .expect("labels")
            .append_domain(&wire_to_name(&rdata.anything))
            .expect("a short name");
        self.message.add_answer(dname.clone());
        self.message.add_answer(Record::from_rdata(name.clone(), dname.ttl, RData::CNAME(CNAME(target.clone()))));
        Some(target)
    }

    fn negative(&mut self, zone: &NaiveZone) {
        for mut soa in zone.of(&zone.apex, RecordType::SOA) {
            let RData::SOA(data) = &soa.data else { continue };
            soa.ttl = soa.ttl.min(data.minimum);
            self.message.add_authority(soa);
        }
    }
}

/// How many labels there are; hickory does not count an asterisk.
fn depth(name: &Name) -> usize {
    name.iter().count()
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn wire_to_name(wire: &[u8]) -> Name {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let [len @ 1..=63, after @ ..] = rest {
        let (label, next) = after.split_at(usize::from(*len));
        labels.push(label);
        rest = next;
    }
    Name::from_labels(labels).expect("labels")
}

/// One line of a zone file, and the same as a hickory record.
#[derive(Clone, Debug)]
pub(super) struct Line {
    text: String,
    record: Record,
}

fn line(owner: &str, ttl: u32, rtype: RecordType, text: &str, data: RData) -> Line {
    Line { text: format!("{owner} {ttl} IN {rtype} {text}"), record: Record::from_rdata(name(owner), ttl, data) }
}

fn soa_line(apex: &str) -> Line {
    let soa = SOA::new(name(&format!("m.{apex}")), name(&format!("r.{apex}")), 1, 2, 3, 4, 60);
    line(apex, 90, RecordType::SOA, &format!("m.{apex} r.{apex} 1 2 3 4 60"), RData::SOA(soa))
}

/// One record of `owner`: what it is by `kind`, where it leads by `target`.
pub(super) fn make_line(owner: &str, kind: u8, target: &str, number: u8) -> Line {
    let target_name = name(target);
    let wire = |name: &Name| {
        let labels = name.iter().flat_map(|label| [&[label.len() as u8], label].concat());
        labels.chain([0]).collect::<Vec<u8>>()
    };
    match kind {
        0..3 => line(owner, 300, RecordType::A, &format!("192.0.2.{number}"), RData::A(A::new(192, 0, 2, number))),
        3 => {
            let address = AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number));
            line(owner, 300, RecordType::AAAA, &address.to_string(), RData::AAAA(address))
        }
        4 => line(owner, 200, RecordType::TXT, &format!("t{number}"), RData::TXT(TXT::new(vec![format!("t{number}")]))),
        5..8 => line(owner, 100, RecordType::CNAME, target, RData::CNAME(CNAME(target_name))),
        8 | 9 => line(owner, 400, RecordType::NS, target, RData::NS(NS(target_name))),
        10 => line(
            owner,
            500,
            RecordType::MX,
            &format!("{number} {target}"),
            RData::MX(MX::new(u16::from(number), target_name)),
        ),
        11 => {
            let data = DS::new(u16::from(number), Algorithm::ECDSAP256SHA256, DigestType::SHA256, vec![0xAB]);
            line(owner, 600, RecordType::DS, &format!("{number} 13 2 AB"), RData::DNSSEC(DNSSECRData::DS(data)))
        }
        _ => {
            let data = RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(wire(&target_name)) };
            line(owner, 700, RecordType::DNAME, target, data)
        }
    }
}

/// Names of up to three labels below z.test, few enough to meet.
fn owner() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "a", "b", "c", "*"]);
    prop::collection::vec(label, 0..4).prop_map(|labels| [&labels[..], &["z.test."]].concat().join("."))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![6 => owner(), 1 => Just("out.example.".to_owned())]
}

pub(super) fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (owner(), 0_u8..13, target(), 0_u8..4);
    prop::collection::vec(line, 0..24).prop_map(|lines| {
        lines.iter().map(|(owner, kind, target, number)| make_line(owner, *kind, target, *number)).collect()
    })
}

/// The lines of one zone file.
#[derive(Clone, Debug)]
struct File {
    apex: String,
    lines: Vec<Line>,
}

impl File {
    /// Those of `lines` that lie in the zone, behind what every zone needs.
    fn new(apex: &str, lines: &[Line]) -> Self {
        let server = format!("m.{apex}");
        let frame = [soa_line(apex), make_line(apex, 8, &server, 0), make_line(&server, 0, "", 9)];
        let apex_name = name(apex);
        let inside = lines.iter().filter(|line| apex_name.zone_of(&line.record.name)).cloned();
        Self { apex: apex.to_owned(), lines: frame.into_iter().chain(inside).collect() }
    }

    /// Loads the zone; lines that the checks complain of are taken out first.
    fn load(&mut self) -> Zone {
        loop {
            let text: String = self.lines.iter().map(|line| format!("{}\n", line.text)).collect();
            match Zone::parse(&OwnerName::parse(&self.apex).expect("a name"), &self.apex, &text) {
                Ok(zone) => return zone,
                Err(problems) => self.mend(&problems),
            }
        }
    }

    fn mend(&mut self, problems: &[Problem]) {
        let of_file = problems.iter().filter(|problem| problem.file == self.apex);
        let bad: BTreeSet<usize> = of_file.map(|problem| problem.line.expect("a line")).collect();
        let is_frame_only = !bad.is_empty() && bad.iter().all(|&line| line <= 3);
        let apex = name(&self.apex);
        let len = self.lines.len();
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            // A DNAME at the apex is reported where the names below it stand.
            let is_apex_dname = line.record.name == apex && line.record.record_type() == RecordType::DNAME;
            at <= 3 || !(bad.contains(&at) || is_frame_only && is_apex_dname)
        });
        assert!(bad.is_empty() || self.lines.len() < len, "{problems:?}");
    }

    fn reference(self) -> NaiveZone {
        NaiveZone { apex: name(&self.apex), records: self.lines.into_iter().map(|line| line.record).collect() }
    }
}

/// A snapshot of random zones and the reference for it. A steered name has one region with one VIP, so that its
/// answer is the same for everybody and the reference can hold it as a record.
fn build(lines: &[Line], has_child: bool, steered: Option<&str>) -> (Snapshot, Vec<NaiveZone>) {
    build_signed(lines, has_child, steered, &[None, None])
}

/// The same, the zones signed as `signings` say.
pub(super) fn build_signed(
    lines: &[Line],
    has_child: bool,
    steered: Option<&str>,
    signings: &[Option<Signing>],
) -> (Snapshot, Vec<NaiveZone>) {
    let apexes = if has_child { &["z.test.", "a.z.test."][..] } else { &["z.test."] };
    let mut files: Vec<File> = apexes.iter().map(|apex| File::new(apex, lines)).collect();
    let mut topology = Topology { regions: vec![region("only", 0.0, 0.0, &["192.0.2.99"])], ..Topology::default() };
    if let Some(steered) = steered {
        add_service(&mut topology, steered, Policy::Ordered);
        topology.services[0].https = None;
    }
    let set = loop {
        let zones = files.iter_mut().map(File::load).zip(signings.iter().cloned()).collect();
        match ZoneSet::build_signed(zones, &topology) {
            Ok(set) => break set,
            Err(problems) => files.iter_mut().for_each(|file| file.mend(&problems)),
        }
    };
    let mut reference: Vec<NaiveZone> = files.into_iter().map(File::reference).collect();
    if let Some(steered) = steered {
        let owner = name(&format!("{steered}."));
        let home = reference.iter_mut().filter(|zone| zone.apex.zone_of(&owner)).max_by_key(|zone| depth(&zone.apex));
        let record = Record::from_rdata(owner, 30, RData::A(A::new(192, 0, 2, 99)));
        home.expect("a zone").records.push(record);
    }
    let geo = GeoTables::build(&GeoData::parse(GeoSources::default()).expect("places"), &topology);
    let world = World { topology, zones: Vec::new(), overrides: String::new(), standings: Vec::new() };
    (Snapshot::new(Arc::new(set), Arc::new(geo), world.view()), reference)
}

/// Records as a set, in lower case.
pub(super) fn set(records: &[Record]) -> BTreeSet<String> {
    let text = |record: &Record| {
        let data = match &record.data {
            RData::Unknown { rdata, .. } => format!("{:?}", rdata.anything),
            data => data.to_string(),
        };
        format!("{} {} {} {data}", record.name, record.ttl, record.record_type()).to_lowercase()
    };
    records.iter().map(text).collect()
}

/// A message as sets of records, in lower case.
type Sets = (ResponseCode, bool, [BTreeSet<String>; 3]);

fn sets(message: &Message) -> Sets {
    let sections = [&message.answers, &message.authorities, &message.additionals].map(|records| set(records));
    (message.metadata.response_code, message.metadata.authoritative, sections)
}

pub(super) fn qname() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "A", "b", "c", "d", "*", "m"]);
    let apex = prop::sample::select(vec!["z.test.", "z.test.", "Z.tEst.", "z.test.", "test."]);
    (prop::collection::vec(label, 0..5), apex).prop_map(|(labels, apex)| [&labels[..], &[apex]].concat().join("."))
}

fn qtype() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![1_u16, 1, 2, 5, 6, 15, 16, 28, 39, 43, 65, 255, 999])
}

fn check(snapshot: &Snapshot, reference: &[NaiveZone], ask: &Ask) -> Result<(), TestCaseError> {
    let reply = ask.of(snapshot);
    prop_assert_eq!(&reply.octets[12..12 + ask.name.len() + 1], &ask.packet()[12..12 + ask.name.len() + 1]);
    let qtype = match reply.message.answers.first() {
        // Any one RRset will do for ANY.
        Some(first) if ask.qtype == Rtype::ANY => match first.record_type() {
            // The CNAME made from a DNAME answers, and nothing behind it is asked for.
            rtype if u16::from(rtype) == Rtype::DNAME.0 && reply.message.answers.len() > 1 => RecordType::CNAME,
            rtype => rtype,
        },
        _ => RecordType::from(ask.qtype.0),
    };
    let expected = naive(reference, &name(&ask.name), qtype);
    if ask.qtype == Rtype::ANY && reply.message.answers.is_empty() {
        // Nothing to compare but the code: a name without data, or none.
        prop_assert_eq!(reply.message.metadata.response_code, expected.metadata.response_code);
        return Ok(());
    }
    prop_assert_eq!(sets(&reply.message), sets(&expected), "{} {}", ask.name, ask.qtype);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn engine_agrees_with_the_naive_reference(
        lines in lines(),
        has_child: bool,
        steered in prop::option::of(prop::sample::select(vec!["a.z.test", "b.z.test", "b.a.z.test", "c.b.z.test", "z.test"])),
        questions in prop::collection::vec((qname(), qtype()), 24),
    ) {
        let (snapshot, reference) = build(&lines, has_child, steered);
        for (qname, qtype) in &questions {
            check(&snapshot, &reference, &ask(qname, Rtype(*qtype)).tcp())?;
        }
    }

    #[test]
    fn udp_and_tcp_give_the_same_octets_unless_truncated(
        lines in lines(),
        questions in prop::collection::vec((qname(), qtype()), 12),
        payload in prop::option::of(any::<u16>()),
    ) {
        let (snapshot, _) = build(&lines, false, None);
        for (qname, qtype) in &questions {
            let ask = ask(qname, Rtype(*qtype));
            let ask = if let Some(payload) = payload { ask.edns(payload) } else { ask };
            let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(|transport| Ask { transport, ..ask.clone() }.of(&snapshot));
            let Reply { outcome: Outcome::Sent { is_truncated, .. }, .. } = udp else { unreachable!("an answer") };
            if !is_truncated && udp.message.additionals.len() == tcp.message.additionals.len() {
                prop_assert_eq!(udp.octets, tcp.octets);
            } else {
                prop_assert!(udp.octets.len() < tcp.octets.len());
            }
        }
    }
}
