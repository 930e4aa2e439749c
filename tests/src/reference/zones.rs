//! Random zone files: their text, and the same as hickory's records.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use gslb_dns::zone::Zone;
use hickory_proto::dnssec::rdata::{DNSSECRData, DS};
use hickory_proto::dnssec::{Algorithm, DigestType};
use hickory_proto::rr::rdata::svcb::{Alpn, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX, NS, NULL, PTR, SOA, SRV, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use shared::name::OwnerName;
use shared::problem::Problem;

/// The lines of one zone file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) apex: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    text: String,
    record: Record,
}

impl File {
    /// What every zone needs, and random records at and below `apex`, which ends in a dot.
    pub(super) fn random(rng: &mut Rng, apex: &str) -> Self {
        let apex_name = name(apex);
        let server = below("m", &apex_name);
        let soa = SOA::new(server.clone(), below("r", &apex_name), rng.u32(..), 2, 3, 4, rng.u32(0..200));
        let soa_text = format!("m r {} 2 3 4 {}", soa.serial, soa.minimum);
        let mut lines = vec![
            line(rng, &apex_name, 90, &soa_text, RData::SOA(soa)),
            line(rng, &apex_name, TTL_NS, "M", RData::NS(NS(server.clone()))),
            line(rng, &server, 300, "192.0.2.9", RData::A(A::new(192, 0, 2, 9))),
        ];
        for _ in 0..rng.usize(0..30) {
            let owner = owner(rng, &apex_name);
            let target = match rng.bool() {
                true => lines[rng.usize(..lines.len())].record.name.clone(),
                false => target(rng, &apex_name),
            };
            add_records(rng, &apex_name, &owner, &target, &mut lines);
        }
        if rng.u8(..) < 16 {
            add_long_chain(rng, &apex_name, &mut lines);
        }
        Self { apex: apex.trim_end_matches('.').to_owned(), lines }
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// Its records.
    pub(super) fn records(&self) -> Vec<Record> {
        self.lines.iter().map(|line| line.record.clone()).collect()
    }

    /// Loads the zone; what the loader complains of is taken out first.
    pub(super) fn load(&mut self) -> Zone {
        let apex = OwnerName::parse(&self.apex).expect("names of zones here are host names");
        loop {
            match Zone::parse(&apex, &self.apex, &self.text()) {
                Ok(zone) => return zone,
                Err(problems) => self.mend(&problems),
            }
        }
    }

    /// Takes out the lines that `problems` name. The first three stay: what is wrong with them is the fault of a DNAME
    /// above the name server, or of a CNAME at its name.
    pub(super) fn mend(&mut self, problems: &[Problem]) {
        let of_file = problems.iter().filter(|problem| problem.file == self.apex);
        let bad: BTreeSet<usize> = of_file.filter_map(|problem| problem.line).collect();
        let is_frame_bad = bad.first().is_some_and(|&line| line <= FRAME_LEN);
        let frame: Vec<Name> = self.lines[..FRAME_LEN].iter().map(|line| line.record.name.clone()).collect();
        let spoils_frame = |record: &Record| {
            let rtype = record.record_type();
            frame.contains(&record.name) && (rtype == RecordType::CNAME || u16::from(rtype) == DNAME)
        };
        let len = self.lines.len();
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            at <= FRAME_LEN || !(bad.contains(&at) || is_frame_bad && spoils_frame(&line.record))
        });
        assert!(bad.is_empty() || self.lines.len() < len, "cannot be mended: {problems:?}\n{}", self.text());
    }
}

/// Adds one RRset, or a part of one.
fn add_records(rng: &mut Rng, apex: &Name, owner: &Name, target: &Name, lines: &mut Vec<Line>) {
    let (kind, number) = (rng.u8(0..32), rng.u8(0..6));
    // Aliases bear nothing beside or below them: most get names of their own.
    let owner = match kind {
        10..16 if number > 0 => &below(["e", "f", "g", "h"][rng.usize(..4)], owner),
        24..28 if number > 0 => &below(["n", "o", "p"][rng.usize(..3)], if number > 1 { apex } else { owner }),
        _ => owner,
    };
    let target = match kind {
        24..28 if number > 3 => &below(["n", "o", "p"][rng.usize(..3)], apex),
        _ => target,
    };
    let target_text = spelled(target);
    let mut add = |ttl, text: String, data| lines.push(line(rng, owner, ttl, &text, data));
    match kind {
        0..6 => add(300, format!("192.0.2.{number}"), RData::A(A::new(192, 0, 2, number))),
        6 | 7 => {
            let address = AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number));
            add(310, address.to_string(), RData::AAAA(address));
        }
        8 | 9 => {
            let strings: Vec<String> = (0..=number).map(|at| "t".repeat(usize::from(at) * 41)).collect();
            let text: Vec<String> = strings.iter().map(|string| format!("\"{string}\"")).collect();
            add(200, text.join(" "), RData::TXT(TXT::new(strings)));
        }
        10..16 => add(100, target_text, RData::CNAME(CNAME(target.clone()))),
        16..19 => {
            add(TTL_NS, target_text, RData::NS(NS(target.clone())));
            add_glue(rng, target, number, lines);
        }
        19 => {
            // More name servers than one datagram holds the addresses of.
            for at in 0..30_u8 {
                let server = below(&format!("ns{at}"), target);
                lines.push(line(rng, owner, TTL_NS, &spelled(&server), RData::NS(NS(server.clone()))));
                add_glue(rng, &server, at, lines);
            }
        }
        20 => add(500, format!("{number} {target_text}"), RData::MX(MX::new(u16::from(number), target.clone()))),
        21 => {
            let data = SRV::new(1, u16::from(number), 443, target.clone());
            add(510, format!("1 {number} 443 {target_text}"), RData::SRV(data));
        }
        22 => add(520, target_text, RData::PTR(PTR(target.clone()))),
        23 => {
            let data = DS::new(u16::from(number), Algorithm::ECDSAP256SHA256, DigestType::SHA256, vec![0xAB]);
            add(600, format!("{number} 13 2 AB"), RData::DNSSEC(DNSSECRData::DS(data)));
        }
        24..28 => add(700, target_text, unknown(RecordType::from(DNAME), wire(target))),
        28 => add(800, format!("\\# 2 01{number:02x}"), unknown(RecordType::from(65_280), vec![1, number])),
        29 => {
            let parameters = vec![(SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h2".to_owned()])))];
            let data = HTTPS(SVCB::new(1, target.clone(), parameters));
            add(900, format!("1 {target_text} alpn=h2"), RData::HTTPS(data));
        }
        _ => {
            let count = [3, 28, 29, 31, 74, 120][usize::from(number)];
            for at in 0..count {
                add(300, format!("198.51.100.{at}"), RData::A(A::new(198, 51, 100, at)));
            }
        }
    }
}

/// The address of a name server, which is left out now and then, and taken out again where it is not ours to give.
fn add_glue(rng: &mut Rng, server: &Name, number: u8, lines: &mut Vec<Line>) {
    if rng.u8(0..8) > 0 {
        lines.push(line(rng, server, 300, &format!("192.0.2.{number}"), RData::A(A::new(192, 0, 2, number))));
    }
}

/// Aliases as long as anybody follows, and some more.
fn add_long_chain(rng: &mut Rng, apex: &Name, lines: &mut Vec<Line>) {
    let len = rng.usize(14..20);
    for at in 0..len {
        let next = below(&format!("l{}", at + 1), apex);
        let data = RData::CNAME(CNAME(next.clone()));
        lines.push(line(rng, &below(&format!("l{at}"), apex), 100, &spelled(&next), data));
    }
    let end = below(&format!("l{len}"), apex);
    lines.push(line(rng, &end, 300, "192.0.2.1", RData::A(A::new(192, 0, 2, 1))));
}

fn line(rng: &mut Rng, owner: &Name, ttl: u32, text: &str, data: RData) -> Line {
    let record = Record::from_rdata(owner.clone(), ttl, data);
    let rtype = match u16::from(record.record_type()) {
        DNAME => "DNAME".to_owned(),
        65_280 => "TYPE65280".to_owned(),
        _ => record.record_type().to_string(),
    };
    let mut owner = spelled(owner);
    if rng.u8(0..8) == 0 {
        owner.make_ascii_uppercase();
    }
    Line { text: format!("{owner} {ttl} IN {rtype} {text}"), record }
}

/// Names of up to four labels below `apex`, few enough to meet.
pub(super) fn owner(rng: &mut Rng, apex: &Name) -> Name {
    let count = *rng.choice(&[0, 1, 1, 1, 1, 1, 2, 2, 2, 3, 4]).unwrap_or(&1);
    let labels: Vec<&[u8]> = (0..count).map(|_| label(rng)).collect();
    Name::from_labels(labels.into_iter().chain(apex.iter())).unwrap_or_else(|_| apex.clone())
}

/// One label: mostly of a few that meet often, seldom an odd one.
pub(super) fn label(rng: &mut Rng) -> &'static [u8] {
    const USUAL: [&[u8]; 8] = [b"a", b"a", b"b", b"c", b"d", b"m", b"s", b"*"];
    const ODD: [&[u8]; 5] = [b"a.b", b"\x00\xFF", b"\\\"", b"**", &[b'x'; 63]];
    if rng.u8(0..24) == 0 { ODD[rng.usize(..ODD.len())] } else { USUAL[rng.usize(..USUAL.len())] }
}

/// Where a record leads: mostly to a name of the same zone.
fn target(rng: &mut Rng, apex: &Name) -> Name {
    match rng.u8(0..16) {
        0 => name("out.example."),
        1 => owner(rng, &name("z.test.")),
        2 => owner(rng, &name("other.example.")),
        3 => apex.clone(),
        4 => Name::from_labels([[b'y'; 63]; 3].iter().map(|label| &label[..]).chain(apex.iter()))
            .unwrap_or_else(|_| apex.clone()),
        _ => owner(rng, apex),
    }
}

pub(super) fn below(label: &str, above: &Name) -> Name {
    above.prepend_label(label).unwrap_or_else(|_| above.clone())
}

/// The name as a master file has it, with `\DDD` for whatever is odd (RFC 1035, section 5.1).
pub(super) fn spelled(name: &Name) -> String {
    let mut text = String::new();
    for label in name.iter() {
        for &octet in label {
            if octet.is_ascii_alphanumeric() || b"*-_".contains(&octet) {
                text.push(char::from(octet));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\{octet:03}");
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

fn unknown(code: RecordType, data: Vec<u8>) -> RData {
    RData::Unknown { code, rdata: NULL::with(data) }
}

pub(super) fn wire(name: &Name) -> Vec<u8> {
    let labels = name.iter().flat_map(|label| std::iter::once(label.len() as u8).chain(label.iter().copied()));
    labels.chain([0]).collect()
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("names here are written right")
}

const DNAME: u16 = 39;
const TTL_NS: u32 = 400;
/// SOA, NS and the address of the name server.
const FRAME_LEN: usize = 3;
