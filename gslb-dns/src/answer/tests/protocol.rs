//! Headers, EDNS, limits and what is refused.

use super::packet::{Ask, Reply, ask};
use super::world::{ZONE, sample};
use crate::answer::{Outcome, Turn, answer};
use crate::wire::{DropReason, OPCODE_NOTIFY, OPCODE_UPDATE, Rtype};

fn www() -> Ask {
    ask("www.gslb.test", Rtype::A)
}

fn to(packet: &[u8]) -> Option<Reply> {
    Reply::to(packet, &www().peer(), &sample().snapshot())
}

/// RFC 1035, section 4.1.1: what has QR set is no query; RFC 8906, section 3: anything else that can be is answered.
#[test]
fn responses_and_scraps_are_dropped() {
    let snapshot = sample().snapshot();
    let response = Ask { flags: 0x8000, ..www() }.packet();
    let (turn, mut out) = (Turn::unlimited(0), [0; 1232]);
    assert_eq!(answer(&snapshot, &turn, &www().peer(), &response, &mut out), Outcome::Dropped(DropReason::Response));
    assert_eq!(answer(&snapshot, &turn, &www().peer(), &response[..11], &mut out), Outcome::Dropped(DropReason::Short));
    assert_eq!(
        answer(&snapshot, &turn, &www().peer(), &www().packet(), &mut out[..20]),
        Outcome::Dropped(DropReason::NoRoom)
    );
}

/// RFC 1035, section 4.1.1 (RD repeated, RA clear, Z zero); RFC 4035, section 3.1.6 (AD and CD clear); RFC 8906, section
/// 3.1.3 (unknown flags change nothing).
#[test]
fn id_opcode_and_rd_are_repeated_and_other_flags_cleared() {
    let reply = Ask { flags: 0x07FF, ..www() }.of(&sample().snapshot());
    assert_eq!(reply.octets[..4], [0x12, 0x34, 0x85, 0x00]);
}

/// RFC 8906, section 3.1.4.
#[test]
fn other_opcodes_get_notimp_and_nothing_else() {
    for opcode in (1..16_u16).filter(|opcode| ![4, 5].contains(opcode)) {
        let reply = Ask { flags: opcode << 11, ..www() }.edns(1232).of(&sample().snapshot());
        assert_eq!((reply.rcode(), reply.octets.len()), ("NOTIMP", 12));
    }
}

/// RFC 9619, section 4.
#[test]
fn question_count_other_than_one_is_formerr() {
    for count in [0, 2] {
        let mut packet = www().packet();
        packet[5] = count;
        let reply = to(&packet).expect("an answer");
        assert_eq!((reply.rcode(), reply.octets.len()), ("FORMERR", 12));
    }
}

/// RFC 1035, sections 4.1.1 and 4.1.2.
#[test]
fn broken_questions_and_records_are_formerr() {
    let good = www().edns(1232).packet();
    let pointer = [&good[..12], &[0xC0, 0x0C, 0, 1, 0, 1]].concat();
    let label = [&good[..12], &[0x40, 0, 0, 1, 0, 1]].concat();
    let long = [&good[..12], &[63; 64 * 4], &[0, 0, 1, 0, 1]].concat();
    let trailing = [&good[..], &[0]].concat();
    for packet in [&pointer, &label, &long, &trailing, &good[..good.len() - 1], &good[..14]] {
        assert_eq!(to(packet).expect("an answer").rcode(), "FORMERR", "{packet:?}");
    }
}

/// RFC 6891, section 6.1.1.
#[test]
fn second_opt_is_formerr() {
    let mut packet = www().edns(1232).packet();
    packet.extend_from_slice(&packet.clone()[packet.len() - 11..]);
    packet[11] = 2;
    assert_eq!(to(&packet).expect("an answer").rcode(), "FORMERR");
}

/// RFC 6891, sections 6.1.1 and 6.1.2.
#[test]
fn opt_with_an_owner_or_in_another_section_is_formerr() {
    let good = www().edns(1232).packet();
    let (question, opt) = good.split_at(good.len() - 11);
    assert_eq!(to(&[question, &[1, b'x'], opt].concat()).expect("an answer").rcode(), "FORMERR");
    let mut moved = good.clone();
    moved[9..12].copy_from_slice(&[1, 0, 0]);
    assert_eq!(to(&moved).expect("an answer").rcode(), "FORMERR");
}

/// RFC 6891, section 6.1.3; RFC 8906, sections 3.2.1 and 3.2.2.
#[test]
fn unknown_edns_version_is_badvers_with_our_version() {
    let mut ask = www().edns(1232).option(8, &[9, 9, 9]);
    ask.opt.as_mut().expect("EDNS").version = 1;
    let reply = ask.of(&sample().snapshot());
    let edns = reply.message.edns.as_ref().expect("OPT");
    assert_eq!((reply.rcode(), edns.rcode_high(), edns.version()), ("BADVERS", 1, 0));
    assert!(reply.answers().is_empty());
}

/// RFC 6891, section 6.1.3: whatever else the version may allow.
#[test]
fn unknown_edns_version_is_badvers_without_a_question_too() {
    let opt = |version| [&[0; 4][..], &[0, 0, 0, 0, 0, 0, 0, 1], &[0, 0, 41, 4, 208, 0, version, 0, 0, 0, 0]].concat();
    assert_eq!(to(&opt(1)).expect("an answer").rcode(), "BADVERS");
    assert_eq!(to(&opt(0)).expect("an answer").rcode(), "FORMERR");
}

#[test]
fn message_signed_by_a_key_is_left_to_the_edge_and_tsig_stands_last() {
    let tsig = [&[1, b'k', 0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 1, 0][..]].concat();
    let mut packet = [www().packet(), tsig.clone()].concat();
    packet[11] = 1;
    assert_eq!(outcome(&packet), Outcome::Slow);
    packet.extend(&tsig);
    packet[11] = 2;
    assert_eq!(to(&packet).expect("an answer").rcode(), "FORMERR");
}

#[test]
fn other_classes_are_refused() {
    for class in [3, 4, 254, 255] {
        assert_eq!(Ask { class, ..www() }.of(&sample().snapshot()).rcode(), "REFUSED");
        assert_eq!(Ask { class, qtype: Rtype::AXFR, ..www() }.of(&sample().snapshot()).rcode(), "REFUSED");
    }
}

#[test]
fn transfers_updates_and_notifications_are_left_to_the_edge() {
    for qtype in [Rtype::AXFR, Rtype::IXFR] {
        assert_eq!(outcome(&ask("gslb.test", qtype).packet()), Outcome::Slow);
    }
    for opcode in [OPCODE_NOTIFY, OPCODE_UPDATE] {
        let mut packet = www().packet();
        packet[2] = opcode << 3;
        assert_eq!(outcome(&packet), Outcome::Slow);
        // Whatever the rest is.
        assert_eq!(outcome(&packet[..12]), Outcome::Slow);
    }
}

fn outcome(packet: &[u8]) -> Outcome {
    answer(&sample().snapshot(), &Turn::unlimited(0), &www().peer(), packet, &mut [0; 1232])
}

/// RFC 6891, sections 6.1.1 and 7; RFC 8906, section 3.2.
#[test]
fn opt_is_in_the_reply_if_and_only_if_in_the_query() {
    for name in ["www.gslb.test", "nothing.gslb.test", "kid.gslb.test", "example.com"] {
        let snapshot = sample().snapshot();
        assert!(ask(name, Rtype::A).of(&snapshot).message.edns.is_none());
        let reply = ask(name, Rtype::A).edns(4096).of(&snapshot);
        assert_eq!(reply.message.edns.as_ref().map(|edns| edns.max_payload()), Some(1232), "{name}");
    }
}

/// RFC 6891, sections 6.1.2 and 6.1.4; RFC 8906, sections 3.2.3 and 3.2.4; RFC 3225, section 3 (DO repeated).
#[test]
fn unknown_options_are_passed_over_and_unknown_flags_cleared() {
    let mut ask = www().option(65001, b"what").option(3, b"").option(10, &[1; 8]);
    ask.opt.as_mut().expect("EDNS").flags = 0xFFFF;
    let reply = ask.of(&sample().snapshot());
    let edns = reply.message.edns.as_ref().expect("OPT");
    assert_eq!((reply.rcode(), u16::from(*edns.flags())), ("NOERROR", 0x8000));
    assert!(edns.options().as_ref().is_empty());
}

/// RFC 7873, section 5.2.2, where cookies are known; RFC 6891, section 6.1.2, where they are an option like others.
#[test]
fn cookie_of_another_length_is_passed_over_where_cookies_are_off() {
    for len in [0, 1, 7, 9, 15, 41] {
        let reply = www().ecs("198.51.100.0/24").option(10, &vec![1; len]).of(&sample().snapshot());
        assert_eq!((reply.rcode(), reply.answers().len(), reply.scope()), ("NOERROR", 2, Some(24)), "{len}");
    }
}

/// RFC 6891, sections 6.1.2 and 7.
#[test]
fn option_that_runs_over_is_formerr_with_opt() {
    let mut ask = www().option(65001, b"what");
    ask.opt.as_mut().expect("EDNS").options[3] = 9;
    let reply = ask.of(&sample().snapshot());
    assert_eq!(reply.rcode(), "FORMERR");
    assert!(reply.message.edns.is_some() && reply.message.queries.len() == 1);
}

/// RFC 7871, sections 6 and 7.1.2.
#[test]
fn malformed_subnet_is_formerr_with_opt() {
    let one = [0, 1, 24, 0, 192, 0, 2];
    for data in [&[][..], &[0, 3, 0, 0], &[0, 1, 24, 0, 192, 0], &[0, 1, 23, 0, 192, 0, 3], &[0, 1, 24, 24, 192, 0, 2]]
    {
        let reply = www().option(8, data).of(&sample().snapshot());
        assert!(reply.rcode() == "FORMERR" && reply.message.edns.is_some(), "{data:?}");
    }
    assert_eq!(www().option(8, &one).option(8, &one).of(&sample().snapshot()).rcode(), "FORMERR");
}

/// `count` TXT records of about 110 octets each at big.gslb.test.
fn big(count: usize) -> crate::answer::Snapshot {
    let records: String = (0..count).map(|at| format!("big TXT \"{at:0100}\"\n")).collect();
    sample().zone("gslb.test", &format!("{ZONE}{records}")).snapshot()
}

/// RFC 1035, section 4.2.1; RFC 2181, section 9; RFC 6891, sections 6.2.3 to 6.2.5 and 7; RFC 8906, section 3.2.5; RFC
/// 9715, section 3.1.
#[test]
fn udp_answer_over_the_limit_is_question_opt_and_tc() {
    let big_txt = || ask("big.gslb.test", Rtype::TXT);
    for (ask, limit) in
        [(big_txt(), 512), (big_txt().edns(512), 512), (big_txt().edns(0), 512), (big_txt().edns(65535), 1232)]
    {
        let has_opt = ask.opt.is_some();
        let lens: Vec<(usize, bool)> = (1..14)
            .map(|count| {
                let reply = ask.of(&big(count));
                assert_eq!(reply.message.metadata.truncation, reply.answers().is_empty());
                assert_eq!(reply.message.edns.is_some(), has_opt);
                (reply.octets.len(), reply.message.metadata.truncation)
            })
            .collect();
        assert!(lens.iter().all(|&(len, _)| len <= limit));
        let fitting = lens.iter().filter(|(_, is_truncated)| !is_truncated).count();
        assert!(limit - lens[fitting - 1].0 < 115, "the limit of {limit} is used: {lens:?}");
    }
}

/// RFC 7766, section 5; RFC 8906, section 3.2.7.
#[test]
fn tcp_answer_is_whole() {
    let reply = ask("big.gslb.test", Rtype::TXT).tcp().of(&big(100));
    assert!(!reply.message.metadata.truncation && reply.answers().len() == 100);
}

/// RFC 9471, sections 3.1 and 3.2.
#[test]
fn referral_without_its_own_glue_is_truncated_and_without_others_is_not() {
    let servers: String = (0..12)
        .map(|at| format!("sub NS n{at}.sub\nn{at}.sub A 192.0.2.{at}\nn{at}.sub AAAA 2001:db8::{at}\n"))
        .collect();
    let others: String = (0..12).map(|at| format!("off NS n{at}.sub\n")).collect();
    let snapshot = sample().zone("gslb.test", &format!("{ZONE}{servers}{others}")).snapshot();
    let own = ask("x.sub.gslb.test", Rtype::A).of(&snapshot);
    assert!(own.message.metadata.truncation && own.authorities().is_empty());
    let other = ask("x.off.gslb.test", Rtype::A).of(&snapshot);
    assert!(!other.message.metadata.truncation);
    assert_eq!((other.authorities().len(), other.additionals().len()), (12, 0));
    let whole = ask("x.off.gslb.test", Rtype::A).tcp().of(&snapshot);
    assert_eq!((whole.authorities().len(), whole.additionals().len()), (12, 24));
}

/// RFC 1035, section 2.3.4.
#[test]
fn longest_name_is_answered() {
    let label = "x".repeat(63);
    let name = format!("{label}.{label}.{label}.{}.gslb.test", "y".repeat(51));
    let reply = ask(&name, Rtype::A).edns(512).ecs("2001:db8::/128").of(&sample().snapshot());
    assert_eq!(reply.rcode(), "NXDOMAIN");
}

/// RFC 9824, section 3.5.
#[test]
fn type_that_is_only_in_bitmaps_is_formerr() {
    for name in ["www.gslb.test", "nothing.gslb.test", "example.com"] {
        assert_eq!(ask(name, Rtype::NXNAME).of(&sample().snapshot()).rcode(), "FORMERR", "{name}");
    }
}
