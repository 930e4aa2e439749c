//! Signed answers: each validates, and says what the unsigned answer says.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use proptest::prelude::*;

use super::naive::{self, lines, qname};
use super::packet::{Ask, Reply, ask};
use super::validate::{Verdict, signing, validate};
use crate::answer::Snapshot;
use crate::wire::Rtype;
use crate::zone::{Denial, Signing};

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
    let qname = Name::from_ascii(&ask.name).expect("a name");
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
