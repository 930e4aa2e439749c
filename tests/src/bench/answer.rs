//! Whether an answer is the right one.

use std::net::IpAddr;

use super::questions::{Expected, has_do};
use super::regions::Region;

/// Whether the header of `answer` is as expected: a response, not truncated, with the right rcode. Costs a few
/// comparisons, so it is asked of every answer.
pub fn is_head_right(answer: &[u8], expected: Expected) -> bool {
    let rcode = if expected == Expected::NoSuchName { 3 } else { 0 };
    matches!(answer, [_, _, flags, codes, ..] if flags & 0x82 == 0x80 && codes & 0x0F == rcode)
}

/// Whether all of `answer` is as expected: its header, the question of `query`, and exactly the address that `expected`
/// comes to for a client of `region`, as an answer to that name; with one signature if `query` has DO set, else none.
pub fn is_right(answer: &[u8], query: &[u8], expected: Expected, region: &Region) -> bool {
    is_head_right(answer, expected) && is_same_question(answer, query) && {
        let wanted =
            Found { addresses: expected.address(region).into_iter().collect(), signatures: usize::from(has_do(query)) };
        found(answer).is_some_and(|found| found == wanted)
    }
}

/// What the answer section holds.
#[derive(Debug, Default, Eq, PartialEq)]
struct Found {
    addresses: Vec<IpAddr>,
    /// RRSIG records.
    signatures: usize,
}

/// Whether the questions of both messages are the same; letters may differ in case.
fn is_same_question(answer: &[u8], query: &[u8]) -> bool {
    let question = |message| skip_name(message, HEADER).and_then(|end| message.get(HEADER..end + 4));
    match (question(answer), question(query)) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

/// The answer section; `None`: it cannot be read.
fn found(message: &[u8]) -> Option<Found> {
    let count = u16_at(message, 6)?;
    let mut at = skip_name(message, HEADER)? + 4;
    let mut found = Found::default();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let (rtype, len) = (u16_at(message, at)?, usize::from(u16_at(message, at + 8)?));
        let data = message.get(at + 10..at + 10 + len)?;
        match rtype {
            1 => found.addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            28 => found.addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            46 => found.signatures += 1,
            _ => {}
        }
        at += 10 + len;
    }
    Some(found)
}

/// Where the name at `at` ends.
pub(super) fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xC0 == 0xC0 => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Octets of the header of a message.
pub(super) const HEADER: usize = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::questions::Questions;
    use super::super::reflector::reflect;
    use super::super::regions::REGIONS;
    use super::super::zone::STATIC_ADDRESS;
    use super::*;

    const RIGHT: Expected = Expected::Address(IpAddr::V4(STATIC_ADDRESS));

    fn exchange() -> (Vec<u8>, Vec<u8>) {
        let query = Questions::fixed().expect("a question").wire(0).to_vec();
        let mut answer = [0; 512];
        let len = reflect(&query, &mut answer).expect("an answer");
        (query, answer[..len].to_vec())
    }

    #[test]
    fn the_right_answer_is_right() {
        let (query, answer) = exchange();
        assert!(is_right(&answer, &query, RIGHT, &REGIONS[0]));
    }

    #[test]
    fn a_signature_is_missed_where_it_is_wanted() {
        let (query, answer) = exchange();
        let signed = Questions::fixed().expect("a question").with_do();
        assert_eq!((has_do(&query), has_do(signed.wire(0))), (false, true));
        assert!(!is_right(&answer, signed.wire(0), RIGHT, &REGIONS[0]));
    }

    #[test]
    fn another_address_rcode_name_or_kind_of_message_is_wrong() {
        let (query, answer) = exchange();
        let other = Expected::Address(IpAddr::from([192, 0, 2, 11]));
        assert!(!is_right(&answer, &query, other, &REGIONS[0]));
        assert!(!is_right(&answer, &query, Expected::NearestA, &REGIONS[0]));
        assert!(!is_right(&answer, &query, Expected::NoSuchName, &REGIONS[0]));
        assert!(!is_right(&query, &query, RIGHT, &REGIONS[0]), "a query is no response");
        for (at, bits) in [(2, 0x02), (3, 0x02), (13, 0x01)] {
            let mut spoilt = answer.clone();
            spoilt[at] ^= bits;
            assert!(!is_right(&spoilt, &query, RIGHT, &REGIONS[0]), "octet {at}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_safe_to_check(answer in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (query, _) = exchange();
            is_right(&answer, &query, RIGHT, &REGIONS[0]);
        }

        #[test]
        fn a_cut_answer_is_wrong(len in 0_usize..60) {
            let (query, answer) = exchange();
            let end = query.len() - 11 + 16;
            prop_assert!(!is_right(&answer[..len.min(end - 1)], &query, RIGHT, &REGIONS[0]));
        }
    }
}
