//! Messages as octets, and what `http1` makes of them: the table in cases.txt, and laws about any octets.

mod hyper;
mod laws;
mod table;

use proptest::prelude::*;
use table::{body_verdict, cases, verdict};

#[test]
fn each_case_gets_its_verdict() {
    let cases = cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = verdict(case.section, &case.octets);
        if found != case.verdict {
            let (found, expected) = (found.escape_ascii(), case.verdict.escape_ascii());
            wrong.push(format!("[{}] {}: {found}, expected {expected}", case.section, case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_two_cases_are_the_same() {
    let cases = cases();
    for (index, case) in cases.iter().enumerate() {
        let twin = cases[..index]
            .iter()
            .find(|twin| twin.section == case.section && (twin.name == case.name || twin.octets == case.octets));
        assert!(twin.is_none(), "{}", case.name);
    }
}

#[test]
fn the_laws_hold_for_each_case() {
    for case in cases() {
        if case.section == "chunked bodies" {
            laws::check_body(&case.octets, 3);
        } else if case.section == "requests" {
            laws::check_request(&case.octets);
            hyper::check_requests(&case.octets);
        } else {
            laws::check_response(&case.octets);
            hyper::check_response(&case.octets);
        }
    }
}

#[test]
fn no_split_changes_what_becomes_of_a_case() {
    for case in cases().iter().filter(|case| case.octets.len() < 1000) {
        for at in 0..case.octets.len() {
            let (front, back) = case.octets.split_at(at);
            if case.section == "chunked bodies" {
                assert_eq!(body_verdict(&[front, back]), case.verdict, "{}: split at {at}", case.name);
            } else {
                let of_front = verdict(case.section, front);
                let is_fine = of_front == b"more" || of_front == case.verdict;
                assert!(is_fine, "{}: the first {at} octets: {}", case.name, of_front.escape_ascii());
            }
        }
    }
}

/// Octets that a failed test can print.
#[derive(Clone)]
struct Octets(Vec<u8>);

impl std::fmt::Debug for Octets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Octets of the table with a few changes.
fn altered(section: &'static str) -> impl Strategy<Value = Octets> {
    let originals: Vec<Vec<u8>> = cases()
        .into_iter()
        .filter(|case| case.section.starts_with(section) && case.octets.len() < 500)
        .map(|case| case.octets)
        .collect();
    let piece = prop_oneof![
        3 => proptest::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..3),
    ];
    let change = (any::<proptest::sample::Index>(), 0..4_usize, piece);
    (proptest::sample::select(originals), proptest::collection::vec(change, 0..4)).prop_map(|(mut octets, changes)| {
        for (at, removed, piece) in changes {
            let at = at.index(octets.len() + 1);
            let end = octets.len().min(at + removed);
            octets.splice(at..end, piece);
        }
        Octets(octets)
    })
}

/// What may change the meaning of a message.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b":",
    b",",
    b";",
    b"%",
    b"0",
    b"5",
    b"-",
    b"a",
    b"\xff",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content_Length: 5\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n",
    b"Host: a\r\n",
    b"\r\n0\r\n\r\n",
    b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
    b"http://a",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_for_any_octets(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        laws::check_request(&octets);
        laws::check_response(&octets);
        laws::check_body(&octets, 7);
    }

    #[test]
    fn the_laws_hold_for_altered_requests(octets in altered("requests")) {
        laws::check_request(&octets.0);
    }

    #[test]
    fn the_laws_hold_for_altered_responses(octets in altered("responses")) {
        laws::check_response(&octets.0);
    }

    #[test]
    fn the_laws_hold_for_altered_bodies(octets in altered("chunked"), piece_len in 1..9_usize) {
        laws::check_body(&octets.0, piece_len);
    }

    #[test]
    fn hyper_finds_the_same_requests(first in altered("requests"), body in altered("chunked"), has_body: bool, next in altered("requests")) {
        let body = if has_body { body.0 } else { Vec::new() };
        hyper::check_requests(&[first.0, body, next.0].concat());
    }

    #[test]
    fn hyper_finds_the_same_response(first in altered("responses"), body in altered("chunked")) {
        hyper::check_response(&[first.0, body.0].concat());
    }
}
