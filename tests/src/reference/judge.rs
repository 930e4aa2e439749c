//! Whether the octets of an answer are what was expected.

use hickory_proto::op::Message;
use hickory_proto::rr::{Record, RecordType};

use super::asked::{Cursor, OPT, RawRecord};
use super::{Expected, ExpectedOpt, hex};

/// An answer taken apart.
struct Parts<'a> {
    header: [u16; 6],
    question: &'a [u8],
    /// Where each record starts, but OPT; and where the last one ends.
    starts: Vec<usize>,
    opt: Option<RawRecord<'a>>,
}

/// Judges the answers that one query got by UDP and by TCP; fails with what is wrong.
pub fn judge(expected: &Expected, udp: &[u8], tcp: &[u8]) -> Result<(), String> {
    let whole = Parts::of(tcp).ok_or_else(|| format!("TCP: cannot be taken apart: {}", hex(tcp)))?;
    let everything = [&expected.additionals[..], &expected.optional].concat();
    judge_one(expected, &everything, false, tcp, &whole).map_err(|what| format!("TCP: {what}"))?;
    let is_told = |opt: &ExpectedOpt| opt.error.is_none() || whole.opt.is_some_and(|opt| has_option(opt.data, ERROR));
    if !expected.opt.as_ref().is_none_or(is_told) {
        return Err(format!("TCP: no error: {}", hex(tcp)));
    }
    let limit = expected.opt.as_ref().map_or(512, |opt| opt.udp_payload.clamp(512, 1232));
    if udp.len() > usize::from(limit) {
        return Err(format!("UDP: {} octets, more than {limit}", udp.len()));
    }
    if tcp.len() <= usize::from(limit) {
        return if udp == tcp { Ok(()) } else { Err(format!("UDP and TCP differ:\n{}\n{}", hex(udp), hex(tcp))) };
    }
    let parts = Parts::of(udp).ok_or_else(|| format!("UDP: cannot be taken apart: {}", hex(udp)))?;
    // What nobody needs comes last, and is left out first: the error before it.
    let error_len = expected.opt.as_ref().and_then(|opt| opt.error.as_ref()).map_or(0, |error| 4 + error.len());
    let has_error = parts.opt.is_some_and(|opt| has_option(opt.data, ERROR));
    let len_without_error = udp.len() - if has_error { error_len } else { 0 };
    same(
        "whether there is an error",
        &(error_len > 0 && len_without_error + error_len <= usize::from(limit)),
        &has_error,
    )
    .map_err(|what| format!("UDP: {what}"))?;
    let required_count = expected.answers.len() + expected.authorities.len() + expected.additionals.len();
    let opt_len = tcp.len() - whole.starts[whole.starts.len() - 1] - error_len;
    let required_len = whole.starts[required_count.min(whole.starts.len() - 1)] + opt_len;
    let judged = if required_len <= usize::from(limit) {
        judge_one(expected, &expected.additionals, false, udp, &parts)
    } else {
        let (question, opt) = (expected.question.clone(), expected.opt.clone());
        let truncated = Expected { question, opt, answers: Vec::new(), authorities: Vec::new(), ..expected.clone() };
        judge_one(&truncated, &[], true, udp, &parts)
    };
    judged.map_err(|what| format!("UDP, {limit} octets at most, {required_len} needed: {what}"))
}

/// The type of the first record in the answer section.
pub fn first_answer_type(answer: &[u8]) -> Option<RecordType> {
    let parts = Parts::of(answer)?;
    let mut cursor = Cursor { message: answer, at: *parts.starts.first()? };
    (parts.header[3] > 0).then(|| cursor.record().map(|record| RecordType::from(record.rtype)))?
}

fn judge_one(
    expected: &Expected,
    additionals: &[Record],
    is_truncated: bool,
    octets: &[u8],
    parts: &Parts<'_>,
) -> Result<(), String> {
    let [id, flags, ..] = parts.header;
    let truncation = if is_truncated { 0x0200 } else { 0 };
    same("id", &expected.id, &id)?;
    same(
        "flags and code",
        &format!("{:04x}", expected.flags | truncation | expected.rcode & 0xF),
        &format!("{flags:04x}"),
    )?;
    same("question", &hex(&expected.question), &hex(parts.question))?;
    judge_opt(expected, parts.opt)?;
    let message = parts.without_opt(octets);
    let message = Message::from_vec(&message).map_err(|error| format!("hickory: {error}: {}", hex(octets)))?;
    same_set("answers", &expected.answers, &message.answers)?;
    same_set("authorities", &expected.authorities, &message.authorities)?;
    same_set("additionals", additionals, &message.additionals)
}

fn judge_opt(expected: &Expected, opt: Option<RawRecord<'_>>) -> Result<(), String> {
    let (Some(expected_opt), Some(opt)) = (&expected.opt, opt) else {
        return same("whether there is an OPT record", &expected.opt.is_some(), &opt.is_some());
    };
    let ExpectedOpt { is_dnssec_ok, subnet, zone_version, error, .. } = expected_opt;
    let ttl = u32::from(expected.rcode >> 4) << 24 | if *is_dnssec_ok { 0x8000 } else { 0 };
    // Whether the error may be left out has been judged.
    let error = error.as_ref().filter(|_| has_option(opt.data, ERROR));
    let expected_options = [(SUBNET, subnet.as_ref()), (ZONE_VERSION, zone_version.as_ref()), (ERROR, error)];
    let encoded = |(code, data): (u8, &Vec<u8>)| [&[0, code, 0, data.len() as u8], &data[..]].concat();
    let expected_options = expected_options.into_iter().filter_map(|(code, data)| Some(encoded((code, data?))));
    same("payload", &1232, &opt.class)?;
    same("code, version and flags in OPT", &format!("{ttl:08x}"), &format!("{:08x}", opt.ttl))?;
    same("options", &hex(&expected_options.collect::<Vec<_>>().concat()), &hex(opt.data))
}

/// Whether the option `code` is among `options`.
fn has_option(options: &[u8], code: u8) -> bool {
    let mut cursor = Cursor { message: options, at: 0 };
    while let (Some(found), Some(len)) = (cursor.word(), cursor.word()) {
        if found == u16::from(code) {
            return true;
        }
        if cursor.octets(usize::from(len)).is_none() {
            return false;
        }
    }
    false
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

/// Compares as multisets, names in any case.
fn same_set(section: &str, expected: &[Record], got: &[Record]) -> Result<(), String> {
    let is_same = |a: &Record, b: &Record| a == b && a.ttl == b.ttl && a.dns_class == b.dns_class;
    let mut left: Vec<&Record> = expected.iter().collect();
    for record in got {
        match left.iter().position(|other| is_same(other, record)) {
            Some(at) => _ = left.swap_remove(at),
            None => return Err(format!("{section}: too much: {record}\n{}", listed(expected, got))),
        }
    }
    match left.first() {
        Some(record) => Err(format!("{section}: missing: {record}\n{}", listed(expected, got))),
        None => Ok(()),
    }
}

fn listed(expected: &[Record], got: &[Record]) -> String {
    let lines = |records: &[Record]| records.iter().map(|record| format!("    {record}\n")).collect::<String>();
    format!("  expected:\n{}  got:\n{}", lines(expected), lines(got))
}

const SUBNET: u8 = 8;
const ERROR: u8 = 15;
const ZONE_VERSION: u8 = 19;

impl<'a> Parts<'a> {
    fn of(octets: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor { message: octets, at: 0 };
        let mut header = [0; 6];
        for word in &mut header {
            *word = cursor.word()?;
        }
        let [_, _, questions, counts @ ..] = header;
        if questions > 1 {
            return None;
        }
        let start = cursor.at;
        if questions == 1 {
            cursor.question()?;
        }
        let question = &octets[start..cursor.at];
        let (mut starts, mut opt) = (vec![cursor.at], None);
        for _ in 0..counts.iter().map(|&count| u32::from(count)).sum::<u32>() {
            let record = cursor.record()?;
            // OPT comes last.
            if opt.is_some() {
                return None;
            }
            if record.rtype == OPT && record.is_root {
                opt = Some(record);
            } else {
                starts.push(cursor.at);
            }
        }
        (cursor.at == octets.len()).then_some(Self { header, question, starts, opt })
    }

    /// The message without OPT: hickory refuses some subnets that RFC 7871 has.
    fn without_opt(&self, octets: &[u8]) -> Vec<u8> {
        let mut message = octets[..self.starts[self.starts.len() - 1]].to_vec();
        let additionals = self.header[5] - u16::from(self.opt.is_some());
        message[10..12].copy_from_slice(&additionals.to_be_bytes());
        message
    }
}
