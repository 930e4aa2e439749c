//! Cookies in answers, and answers that are limited.

use std::num::NonZeroU32;

use proptest::prelude::*;
use shared::moment::Moment;

use super::packet::{Ask, NOW_SECS, Reply, ask};
use super::world::{ZONE, sample};
use crate::answer::{Outcome, Snapshot, Turn};
use crate::cookie::{Secret, Secrets, Standing};
use crate::limit::{Limiter, Limits};
use crate::wire::Rtype;

const CLIENT: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn with_cookies(snapshot: Snapshot) -> Snapshot {
    snapshot.with_cookies(Some(Secrets { current: Secret::new([9; 16]), also_accepted: None }))
}

fn www() -> Ask {
    ask("www.gslb.test", Rtype::A)
}

/// The cookie of the answer.
fn cookie(reply: &Reply) -> Option<[u8; 24]> {
    reply.option(10)?.try_into().ok()
}

fn standing(reply: &Reply) -> Standing {
    let Outcome::Sent { cookie, .. } = reply.outcome else { panic!("dropped") };
    cookie
}

/// One answer a second for each account of a network, no second of patience.
fn limiter(slip: u8) -> Limiter {
    let (responses_per_second, responses_per_second_in_all) = (NonZeroU32::MIN, None);
    let limits =
        Limits { responses_per_second, responses_per_second_in_all, slip, exempt: Vec::new(), buckets: 1 << 16 };
    Limiter::new(&limits, [3; 16])
}

fn limited(ask: &Ask, limiter: &Limiter, snapshot: &Snapshot) -> Option<Reply> {
    let turn = Turn { unix_secs: NOW_SECS, gate: Some(limiter.at(Moment::START)), idle: None };
    Reply::at(&turn, &ask.packet(), &ask.peer(), snapshot)
}

#[test]
fn every_kind_of_answer_carries_the_cookie_and_what_it_would_carry_without() {
    let snapshot = with_cookies(sample().snapshot());
    let badvers = {
        let mut ask = www().edns(1232);
        ask.opt.as_mut().expect("EDNS").version = 1;
        ask
    };
    for (query, rcode) in [
        (www().ecs("198.51.100.0/24"), "NOERROR"),
        (www().tcp(), "NOERROR"),
        (ask("nothing.gslb.test", Rtype::A), "NXDOMAIN"),
        (ask("www.gslb.test", Rtype::MX), "NOERROR"),
        (ask("x.kid.gslb.test", Rtype::A), "NOERROR"),
        (ask("example.com", Rtype::A), "REFUSED"),
        (badvers, "BADVERS"),
    ] {
        let plain = if query.opt.is_some() { query.clone() } else { query.clone().edns(1232) }.of(&snapshot);
        let reply = query.option(10, &CLIENT).of(&snapshot);
        assert_eq!((reply.rcode(), standing(&reply)), (rcode, Standing::New));
        assert_eq!(cookie(&reply).expect("a cookie")[..8], CLIENT);
        assert_eq!((reply.answers(), reply.authorities()), (plain.answers(), plain.authorities()));
        assert_eq!((reply.scope(), standing(&plain), cookie(&plain)), (plain.scope(), Standing::Absent, None));
    }
}

#[test]
fn answer_that_only_the_cookie_makes_too_long_is_truncated_and_carries_it() {
    let records: String = (0..4).map(|at| format!("big TXT \"{at:0100}\"\n")).collect();
    let snapshot = with_cookies(sample().zone("gslb.test", &format!("{ZONE}{records}")).snapshot());
    let query = |payload| ask("big.gslb.test", Rtype::TXT).edns(payload);
    let len = query(1232).of(&snapshot).octets.len() as u16;
    assert!(len > 512 - 28 && !query(512).of(&snapshot).message.metadata.truncation, "{len}");
    let reply = query(512).option(10, &CLIENT).of(&snapshot);
    assert!(reply.message.metadata.truncation && cookie(&reply).is_some());
}

#[test]
fn cookie_of_the_answer_is_valid_in_the_next_query_and_for_nobody_else() {
    let snapshot = with_cookies(sample().snapshot());
    let learned = cookie(&www().option(10, &CLIENT).of(&snapshot)).expect("a cookie");
    let again = www().option(10, &learned).of(&snapshot);
    assert_eq!((standing(&again), cookie(&again)), (Standing::Valid, Some(learned)));
    let other = www().from("203.0.113.10").option(10, &learned).of(&snapshot);
    assert_eq!((other.rcode(), standing(&other)), ("NOERROR", Standing::Bad));
    assert_ne!(cookie(&other), Some(learned));
}

#[test]
fn of_several_cookies_the_first_counts() {
    let snapshot = with_cookies(sample().snapshot());
    let reply = www().option(10, &CLIENT).option(10, &[7; 3]).of(&snapshot);
    assert_eq!((reply.rcode(), cookie(&reply).expect("a cookie")[..8].to_vec()), ("NOERROR", CLIENT.to_vec()));
}

#[test]
fn cookie_of_a_wrong_length_is_formerr() {
    let snapshot = with_cookies(sample().snapshot());
    for len in [0, 7, 9, 15, 41] {
        let reply = www().option(10, &vec![1; len]).of(&snapshot);
        assert!(reply.rcode() == "FORMERR" && reply.message.edns.is_some() && cookie(&reply).is_none(), "{len}");
    }
    let reply = www().option(10, &CLIENT).option(8, &[1]).of(&snapshot);
    assert!(reply.rcode() == "FORMERR" && cookie(&reply).is_some(), "broken behind the cookie");
}

#[test]
fn query_for_a_cookie_alone_gets_one_where_there_are_any() {
    let (with, without) = (with_cookies(sample().snapshot()), sample().snapshot());
    let whole = www().option(10, &CLIENT).packet();
    let question_len = www().packet().len() - 12;
    let mut packet = [&whole[..12], &whole[12 + question_len..]].concat();
    packet[5] = 0;
    let reply = Reply::to(&packet, &www().peer(), &with).expect("an answer");
    assert!(reply.rcode() == "NOERROR" && reply.message.queries.is_empty() && cookie(&reply).is_some());
    assert_eq!(Reply::to(&packet, &www().peer(), &without).expect("an answer").rcode(), "FORMERR");
    // One that is no longer good: the client is told so, and gets another.
    let whole = www().option(10, &[7; 24]).packet();
    let mut packet = [&whole[..12], &whole[12 + question_len..]].concat();
    packet[5] = 0;
    let reply = Reply::to(&packet, &www().peer(), &with).expect("an answer");
    assert!(reply.rcode() == "BADCOOKIE" && cookie(&reply).is_some());
}

#[test]
fn limited_client_without_a_cookie_gets_question_and_tc() {
    let (snapshot, limiter) = (with_cookies(sample().snapshot()), limiter(1));
    let query = www().ecs("198.51.100.0/24");
    assert!(!limited(&query, &limiter, &snapshot).expect("an answer").answers().is_empty());
    let reply = limited(&query, &limiter, &snapshot).expect("an answer");
    assert!(reply.message.metadata.truncation && reply.message.queries.len() == 1 && reply.message.edns.is_some());
    assert!(reply.answers().is_empty() && reply.octets.len() <= query.packet().len());
    assert!(matches!(reply.outcome, Outcome::Sent { is_limited: true, is_truncated: true, steered: None, .. }));
    let plain = limited(&www(), &limiter, &snapshot).expect("an answer");
    assert_eq!(plain.octets.len(), www().packet().len(), "no more than was asked");
}

#[test]
fn limited_client_with_half_a_cookie_gets_badcookie_and_passes_with_what_is_in_it() {
    let (snapshot, limiter) = (with_cookies(sample().snapshot()), limiter(1));
    let first = limited(&www(), &limiter, &snapshot).expect("an answer");
    assert_eq!(first.answers().len(), 1);
    for brought in [CLIENT.to_vec(), [CLIENT.to_vec(), vec![5; 16]].concat(), [CLIENT.to_vec(), vec![5; 9]].concat()] {
        let reply = limited(&www().option(10, &brought), &limiter, &snapshot).expect("an answer");
        assert!(reply.rcode() == "BADCOOKIE" && !reply.message.metadata.truncation && reply.answers().is_empty());
        let learned = cookie(&reply).expect("a cookie");
        for _ in 0..10 {
            let reply = limited(&www().option(10, &learned), &limiter, &snapshot).expect("an answer");
            assert_eq!((reply.rcode(), reply.answers().len(), standing(&reply)), ("NOERROR", 1, Standing::Valid));
        }
    }
}

#[test]
fn client_whose_cookies_we_do_not_take_gets_tc() {
    let (snapshot, limiter) = (sample().snapshot(), limiter(1));
    limited(&www(), &limiter, &snapshot);
    let reply = limited(&www().option(10, &CLIENT), &limiter, &snapshot).expect("an answer");
    assert!(reply.rcode() == "NOERROR" && reply.message.metadata.truncation);
}

#[test]
fn without_slip_limited_answers_are_dropped() {
    let (snapshot, limiter) = (with_cookies(sample().snapshot()), limiter(0));
    assert!(limited(&www(), &limiter, &snapshot).is_some());
    assert!(limited(&www(), &limiter, &snapshot).is_none());
    assert!(limited(&www().option(10, &CLIENT), &limiter, &snapshot).is_none());
}

#[test]
fn half_a_cookie_buys_no_more_answers_than_slip_gives() {
    let (snapshot, limiter) = (with_cookies(sample().snapshot()), limiter(3));
    limited(&www(), &limiter, &snapshot).expect("an answer");
    let sent = |query: &Ask| (0..30).filter_map(|_| limited(query, &limiter, &snapshot)).collect::<Vec<_>>();
    let (with, without) = (sent(&www().option(10, &CLIENT)), sent(&www()));
    assert_eq!((with.len(), without.len()), (10, 10));
    assert!(with.iter().all(|reply| reply.rcode() == "BADCOOKIE" && cookie(reply).is_some()));
}

#[test]
fn tcp_is_never_limited() {
    let (snapshot, limiter) = (sample().snapshot(), limiter(0));
    for _ in 0..10 {
        assert!(limited(&www().tcp(), &limiter, &snapshot).is_some());
    }
}

#[test]
fn names_made_up_share_one_account_and_names_that_exist_have_their_own() {
    let snapshot = sample().snapshot();
    for (names, are_one) in [
        (["r1.gslb.test", "r2.x.gslb.test"], true),
        (["r1.wild.gslb.test", "r2.wild.gslb.test"], true),
        (["r1.alias.gslb.test", "r2.alias.gslb.test"], true),
        (["r1.kid.gslb.test", "r2.kid.gslb.test"], true),
        (["r1.old.gslb.test", "r2.old.gslb.test"], true),
        (["r1.example.com", "r2.example.org"], true),
        (["www.gslb.test", "all.gslb.test"], false),
        (["mail.gslb.test", "ns1.gslb.test"], false),
        (["x.kid.gslb.test", "x.bare.gslb.test"], false),
    ] {
        let limiter = limiter(0);
        let [first, second] = names.map(|name| limited(&ask(name, Rtype::A), &limiter, &snapshot).is_some());
        assert!(first && second != are_one, "{names:?}");
    }
}

proptest! {
    #[test]
    fn limited_answer_is_never_longer_than_the_query_by_more_than_its_cookie(
        name in prop::sample::select(vec!["www.gslb.test", "x.gslb.test", "x.kid.gslb.test", "x.old.gslb.test", "a.test"]),
        options in prop::collection::vec((prop::sample::select(vec![8_u16, 10, 11]), prop::collection::vec(any::<u8>(), 0..45)), 0..4),
    ) {
        let (snapshot, limiter) = (with_cookies(sample().snapshot()), limiter(1));
        let query = options.iter().fold(ask(name, Rtype::A).edns(1232), |ask, (code, data)| ask.option(*code, data));
        limited(&query, &limiter, &snapshot);
        let reply = limited(&query, &limiter, &snapshot).expect("an answer");
        prop_assert!(reply.answers().is_empty() && reply.authorities().is_empty() && reply.additionals().is_empty());
        let growth = reply.octets.len() as i64 - query.packet().len() as i64;
        prop_assert!(growth <= 16, "{} octets more", growth);
    }
}
