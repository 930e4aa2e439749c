//! Transfers as a secondary takes them, with hickory as the reader.

use std::collections::BTreeSet;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use proptest::prelude::*;

use super::*;
use crate::tsig::{Algorithm, Key, Session};
use crate::wire::{CLASS_IN, Name, Rtype};

const NOW: u64 = 1_800_000_000;

fn name(text: &str) -> Name {
    Name::parse(text, &Name::root()).expect("a name")
}

/// A zone with `serial` and a TXT record of each number.
fn content(serial: u32, numbers: impl IntoIterator<Item = u16>) -> Content {
    let apex = name("example.com");
    let (ns, mailbox) = (name("NS1.example.com"), name("m.example.com"));
    let soa = [ns.as_wire(), mailbox.as_wire(), &serial.to_be_bytes(), &[0; 16]].concat();
    let texts: Vec<(Name, Vec<u8>)> = numbers
        .into_iter()
        .map(|number| (name(&format!("n{}.example.com", number / 2)), format!("\x08{number:08}").into_bytes()))
        .collect();
    let texts = texts.iter().map(|(owner, text)| (owner.as_wire(), Rtype::TXT, 300, &text[..]));
    let own = [(apex.as_wire(), Rtype::SOA, 300, &soa[..]), (apex.as_wire(), Rtype::NS, 300, ns.as_wire())];
    Content::collect(apex.clone(), own.into_iter().chain(texts))
}

fn question(rtype: Rtype) -> Vec<u8> {
    [name("example.com").as_wire(), &rtype.0.to_be_bytes(), &CLASS_IN.to_be_bytes()].concat()
}

fn transfer(zone: &Transferable, asked: Asked) -> Transfer {
    let rtype = if asked == Asked::Whole { Rtype::AXFR } else { Rtype::IXFR };
    Transfer::new(zone, asked, 7, &question(rtype), Opt::Absent, None)
}

/// The messages of a transfer.
fn messages(mut transfer: Transfer) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| transfer.next(NOW)).collect()
}

/// The records in `messages`, in their order.
fn records(messages: &[Vec<u8>]) -> Vec<Record> {
    messages.iter().flat_map(|message| Message::from_vec(message).expect("readable").answers).collect()
}

fn serial_of(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

/// What a secondary has: the serial and the records but for the SOA.
type Copy = (u32, BTreeSet<String>);

/// What a secondary that has `old` makes of `records`; fails where RFC 1995 or RFC 5936 forbids them.
fn take(old: Option<&Copy>, records: &[Record]) -> Result<Copy, String> {
    let (first, rest) = records.split_first().ok_or("empty")?;
    let serial = serial_of(first).ok_or("does not begin with the SOA record")?;
    let Some((last, middle)) = rest.split_last() else {
        return old.cloned().ok_or("nothing to keep".to_owned());
    };
    if last != first {
        return Err("does not end with the SOA record that it began with".to_owned());
    }
    let insert = |copy: &mut BTreeSet<String>, record: &Record| {
        if copy.insert(record.to_string()) { Ok(()) } else { Err(format!("twice: {record}")) }
    };
    if middle.first().and_then(serial_of).is_none() {
        let mut copy = BTreeSet::new();
        middle.iter().try_for_each(|record| insert(&mut copy, record))?;
        return Ok((serial, copy));
    }
    let (mut at, mut copy) = old.cloned().ok_or("changes of nothing")?;
    let mut is_adding = true;
    for record in middle {
        match serial_of(record) {
            Some(before) if is_adding => {
                if before != at {
                    return Err(format!("from {before}, but the copy is at {at}"));
                }
                is_adding = false;
            }
            Some(after) => (at, is_adding) = (after, true),
            None if is_adding => insert(&mut copy, record)?,
            None if copy.remove(&record.to_string()) => {}
            None => return Err(format!("was not there: {record}")),
        }
    }
    if at == serial { Ok((at, copy)) } else { Err(format!("ends at {at}, not {serial}")) }
}

fn copy_of(zone: &Transferable) -> Copy {
    take(None, &records(&messages(transfer(zone, Asked::Whole)))).expect("a whole zone")
}

/// RFC 5936, section 2.2.
#[test]
fn whole_zone_begins_and_ends_with_its_soa_and_has_each_record_once() {
    let zone = Transferable::new(content(1, 0..5000));
    let messages = messages(transfer(&zone, Asked::Whole));
    let records = records(&messages);
    assert_eq!((serial_of(&records[0]), &records[0]), (Some(1), &records[records.len() - 1]));
    assert_eq!(records.len(), 5000 + 1 + 2);
    assert_eq!(copy_of(&zone).1.len(), 5001);
    assert!(records.iter().any(|record| record.data.to_string() == "NS1.example.com."), "the case stays");
}

/// RFC 5936, sections 2.2 and 2.2.1.
#[test]
fn messages_are_full_and_the_first_one_has_the_question() {
    let messages = messages(transfer(&Transferable::new(content(1, 0..5000)), Asked::Whole));
    assert!(messages.len() > 3);
    let (last, others) = messages.split_last().expect("some");
    assert!(others.iter().all(|message| (16_000..=16 << 10).contains(&message.len())), "full");
    assert!(last.len() <= 16 << 10);
    for (at, message) in messages.iter().enumerate() {
        let message = Message::from_vec(message).expect("readable");
        assert_eq!((message.id, message.queries.len()), (7, usize::from(at == 0)));
        assert!(message.authoritative && !message.truncation);
    }
    // Names are compressed: about 13 octets less for each record.
    let plain: usize = records(&messages).iter().map(|record| record.to_string().len()).sum();
    assert!(messages.iter().map(Vec::len).sum::<usize>() < plain);
}

/// RFC 5936, section 2.2.5.
#[test]
fn opt_record_is_in_the_first_message_where_the_query_had_one() {
    let zone = Transferable::new(content(1, 0..2000));
    let messages = messages(Transfer::new(&zone, Asked::Whole, 7, &question(Rtype::AXFR), Opt::Plain, None));
    let has_opt = |message: &Vec<u8>| Message::from_vec(message).expect("readable").edns.is_some();
    assert!(has_opt(&messages[0]) && !has_opt(&messages[1]));
}

/// RFC 1995, sections 2 and 4.
#[test]
fn who_has_the_last_serial_or_a_later_one_gets_the_soa_alone() {
    let zone = Transferable::new(content(5, 0..10));
    for serial in [5, 6, 5_u32.wrapping_add(1 << 31) - 1] {
        let records = records(&messages(transfer(&zone, Asked::Since(serial))));
        assert_eq!((records.len(), serial_of(&records[0])), (1, Some(5)), "{serial}");
    }
}

/// RFC 1995, section 4.
#[test]
fn changes_since_a_known_serial_are_sent_one_after_the_other() {
    let first = Transferable::new(content(1, 0..100));
    let second = first.next(content(2, 0..99));
    let third = second.next(content(4, 1..101));
    assert_eq!(third.history().len(), 2);
    let whole = records(&messages(transfer(&third, Asked::Whole))).len();
    for before in [&first, &second] {
        let records = records(&messages(transfer(&third, Asked::Since(before.content().serial()))));
        assert!(records.len() < whole / 4);
        assert_eq!(take(Some(&copy_of(before)), &records), Ok(copy_of(&third)));
    }
    // Nobody ever had this one.
    let unknown = records(&messages(transfer(&third, Asked::Since(3))));
    assert_eq!((unknown.len(), take(None, &unknown)), (whole, Ok(copy_of(&third))));
}

/// RFC 1995, section 4: what would be more than the zone is sent as the zone.
#[test]
fn changes_longer_than_the_zone_are_sent_as_the_zone() {
    let zone = Transferable::new(content(1, 0..100)).next(content(2, 200..300));
    let records = records(&messages(transfer(&zone, Asked::Since(1))));
    assert_eq!(serial_of(&records[1]), None);
    assert_eq!(take(None, &records), Ok(copy_of(&zone)));
}

#[test]
fn past_ends_where_the_serial_does_not_grow() {
    let zone = Transferable::new(content(1, 0..100)).next(content(2, 0..99));
    assert_eq!(zone.next(content(2, 0..99)).history().len(), 1, "nothing has changed");
    assert!(zone.next(content(2, 0..98)).history().is_empty());
    assert!(zone.next(content(1, 0..98)).history().is_empty());
}

#[test]
fn history_takes_no_more_room_than_it_may() {
    let mut zone = Transferable::new(content(0, 0..10_000));
    for serial in 1..40 {
        zone = zone.next(content(serial, (0..10_000).filter(|number| (u32::from(*number) + serial) % 2 == 0)));
    }
    let deltas = zone.history().since(39 - zone.history().len() as u32).expect("the oldest");
    assert!(deltas.iter().map(|delta| delta.len()).sum::<usize>() <= History::OCTETS_MAX);
    assert!((2..39).contains(&zone.history().len()));
}

/// RFC 1995, section 2.
#[test]
fn datagram_has_all_or_the_soa_alone() {
    let zone = Transferable::new(content(1, 0..1000)).next(content(2, 0..999));
    let small = transfer(&zone, Asked::Since(1)).into_datagram(512, NOW).expect("a message");
    assert_eq!(take(Some(&copy_of(&Transferable::new(content(1, 0..1000)))), &records(&[small])), Ok(copy_of(&zone)));
    for asked in [Asked::Since(0), Asked::Whole] {
        let large = transfer(&zone, asked).into_datagram(512, NOW).expect("a message");
        let message = Message::from_vec(&large).expect("readable");
        assert_eq!((message.answers.len(), message.queries.len(), message.truncation), (1, 1, false));
        assert_eq!(serial_of(&message.answers[0]), Some(2));
        assert!(large.len() <= 512);
    }
}

/// What stands in a datagram must not be longer than the client takes, whatever stands behind the records.
#[test]
fn datagram_is_never_longer_than_the_client_takes() {
    let zone = Transferable::new(content(1, 0..40)).next(content(2, 0..60));
    for opt in [Opt::Absent, Opt::Plain] {
        for session in [None, Some(Session::begin(key()))] {
            let mut kinds = BTreeSet::new();
            for limit in 40..=1300 {
                let question = question(Rtype::IXFR);
                let transfer = Transfer::new(&zone, Asked::Since(1), 7, &question, opt, session.clone());
                let message = transfer.into_datagram(limit, NOW).expect("a message");
                let read = Message::from_vec(&message).expect("readable");
                let bare_len =
                    12 + 17 + 11 * usize::from(opt == Opt::Plain) + session.as_ref().map_or(0, Session::record_len);
                assert!(message.len() <= limit.max(bare_len), "{} of {limit}", message.len());
                assert_eq!(read.truncation, read.answers.is_empty());
                kinds.insert(read.answers.len());
            }
            assert_eq!(kinds, BTreeSet::from([0, 1, 24]));
        }
    }
}

fn key() -> Key {
    Key::parse(&name("xfr"), Algorithm::Sha256, "MDEyMzQ1Njc4OWFiY2RlZg==").expect("a key")
}

/// RFC 1996, sections 3.7 and 4.7.
#[test]
fn notification_has_the_new_soa_and_only_a_fitting_answer_acknowledges_it() {
    let content = content(9, 0..3);
    let message = notification(&content, 77, None, NOW);
    let read = Message::from_vec(&message).expect("readable");
    assert_eq!((read.id, u8::from(read.op_code), read.authoritative), (77, 4, true));
    assert_eq!(serial_of(&read.answers[0]), Some(9));
    let judge = |answer: &[u8]| read_acknowledgement(answer, 77, content.apex(), None, NOW);
    let mut answer = message[..12 + 17].to_vec();
    answer[2] |= 0x80;
    answer[7] = 0;
    assert_eq!(judge(&answer), Ok(Acknowledgement));
    for (at, octet) in [(0, 9), (1, 9), (2, 0x24), (14, b'y')] {
        let mut other = answer.clone();
        other[at] = octet;
        assert_eq!(judge(&other), Err(NotAcknowledged::Foreign), "{at}");
    }
    answer[3] = 9;
    assert_eq!(judge(&answer), Err(NotAcknowledged::Refused { rcode: 9 }));
    assert_eq!(judge(&answer[..11]), Err(NotAcknowledged::Foreign));
}

/// RFC 8945, section 5.4.
#[test]
fn signed_notification_is_acknowledged_by_a_signed_answer_alone() {
    let content = content(9, 0..3);
    let mut session = Session::begin(key());
    let message = notification(&content, 77, Some(&mut session), NOW);
    let keys = [key()].into_iter().collect();
    let request = crate::tsig::Request::split(&message).expect("well formed").expect("signed");
    let mut secondary = request.verify(&keys, NOW).expect("right");
    let mut answer = request.message()[..12 + 17].to_vec();
    answer[2] |= 0x80;
    answer[7] = 0;
    let judge = |answer: &[u8]| read_acknowledgement(answer, 77, content.apex(), Some(&session), NOW);
    assert_eq!(judge(&answer), Err(NotAcknowledged::BadSignature));
    secondary.sign(&mut answer, NOW);
    assert_eq!(judge(&answer), Ok(Acknowledgement));
}

#[test]
fn pauses_grow_and_end_at_ten_minutes() {
    let secs: Vec<u64> = [1, 2, 3, 9, 10, 1000].map(|failures| pause_after(failures).as_secs()).into();
    assert_eq!(secs, [2, 4, 8, 512, 600, 600]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to a zone, a secondary that asks now and then ends with the same.
    #[test]
    fn secondary_that_follows_has_the_same_zone(
        states in prop::collection::vec(prop::collection::btree_set(0_u16..400, 100..300), 2..6),
        asks in prop::collection::vec(any::<bool>(), 6),
        start in any::<u32>(),
    ) {
        let mut zone: Option<Transferable> = None;
        let mut copy: Option<Copy> = None;
        let last = states.len() - 1;
        for (at, numbers) in states.into_iter().enumerate() {
            let next = content(start.wrapping_add(at as u32), numbers);
            let now = match &zone {
                Some(zone) => zone.next(next),
                None => Transferable::new(next),
            };
            if at == last || asks[at] {
                let asked = copy.as_ref().map_or(Asked::Whole, |(serial, _)| Asked::Since(*serial));
                let taken = take(copy.as_ref(), &records(&messages(transfer(&now, asked))));
                copy = Some(taken.map_err(TestCaseError::fail)?);
                prop_assert_eq!(copy.as_ref(), Some(&copy_of(&now)));
            }
            zone = Some(now);
        }
    }
}
