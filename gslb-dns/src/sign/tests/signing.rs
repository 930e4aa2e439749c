use proptest::prelude::*;

use super::reader::{is_signed, rrsig};
use super::*;
use crate::wire::Rtype;

const NOW: u64 = 1_800_000_000;
const DAY: u32 = 86_400;
const LIFETIME: Lifetime = Lifetime { now: NOW, validity_secs: 14 * DAY };
/// Owner, type, data.
type Set<'a> = (&'a [u8], Rtype, &'a [&'a [u8]]);

const WWW: &[u8] = b"\x03www\x07example\x03com\0";

fn csk(algorithm: Algorithm) -> Signer {
    Signer::new(&name("Example.com."), vec![active(algorithm, Role::Csk)], LIFETIME)
}

fn at(signer: &Signer, now: u64) -> Signer {
    Signer::new(&name("example.com."), signer.keys().to_vec(), Lifetime { now, ..LIFETIME })
}

fn dnskey(signer: &Signer, at: usize) -> &[u8] {
    signer.keys()[at].key.public().dnskey()
}

/// Signs `sets` A records of different names, with what is `known`.
fn signed(signer: &Signer, known: &Signatures, sets: u8) -> Signatures {
    let mut kept = Signatures::default();
    for host in 0..sets {
        let recall = |fingerprint: &Fingerprint| known.find(fingerprint).map(Box::from);
        signer.sign_reusing(recall, WWW, Rtype::A, 60, &[&[192, 0, 2, host]], |fingerprint, rrsig| {
            kept.insert(fingerprint, rrsig);
        });
    }
    kept
}

#[test]
fn rrsets_of_all_kinds_verify_with_the_second_reader() {
    let sets: &[Set<'_>] = &[
        (WWW, Rtype::A, &[&[192, 0, 2, 9], &[192, 0, 2, 10], &[10, 0, 0, 1]]),
        (WWW, Rtype::MX, &[b"\0\x0a\x04Mail\x07Example\x03com\0", b"\0\x05\0"]),
        (WWW, Rtype::SRV, &[b"\0\x01\0\x02\0\x03\x04Mail\x07Example\x03com\0"]),
        (WWW, Rtype::NS, &[b"\x01b\0", b"\x01a\x01z\0"]),
        (WWW, Rtype::TXT, &[b"\x02bb", b"\x01c", b"\x01b\x01A"]),
        (WWW, Rtype::SOA, &[b"\x01M\0\x01R\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05"]),
        (b"\x01*\x07example\x03com\0", Rtype::AAAA, &[&[1; 16]]),
        (b"\x07example\x03com\0", Rtype(65280), &[b"Opaque"]),
    ];
    for algorithm in [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519] {
        let signer = csk(algorithm);
        for &(owner, rtype, rdatas) in sets {
            let rrsigs = signer.sign(owner, rtype, 300, rdatas);
            let [signature] = &*rrsigs else { panic!("{rtype}: {} signatures of one key", rrsigs.len()) };
            assert!(is_signed(dnskey(&signer, 0), signature, owner, rtype, 300, rdatas), "{rtype}");
            assert!(!is_signed(dnskey(&csk(algorithm), 0), signature, owner, rtype, 300, rdatas));
        }
    }
}

#[test]
fn fields_are_those_of_rfc_4034() {
    let signer = csk(Algorithm::EcdsaP256Sha256);
    let read = |owner: &[u8]| rrsig(&signer.sign(owner, Rtype::A, 77, &[&[192, 0, 2, 1]])[0]);
    let input = read(WWW).input().clone();
    assert_eq!((input.num_labels, input.original_ttl), (3, 77));
    assert_eq!(input.sig_inception.get(), NOW as u32 - 3600);
    assert_eq!(input.key_tag, signer.keys()[0].key.public().tag());
    assert_eq!(input.signer_name.to_string(), "example.com.");
    let expires = u64::from(input.sig_expiration.get());
    assert!((NOW + 13 * u64::from(DAY)..=NOW + 14 * u64::from(DAY)).contains(&expires));
    assert_eq!(read(b"\x01*\x03www\x07example\x03com\0").input().num_labels, 3, "a leading * is not counted");
    assert_eq!(read(b"\x03www\x01*\x07example\x03com\0").input().num_labels, 4, "one within is");
}

#[test]
fn order_case_and_repetition_of_the_data_change_nothing() {
    let signer = csk(Algorithm::Ed25519);
    let one = signer.sign(WWW, Rtype::NS, 60, &[b"\x01a\0", b"\x01b\0"]);
    let other = signer.sign(b"\x03WWW\x07example\x03com\0", Rtype::NS, 60, &[b"\x01B\0", b"\x01a\0", b"\x01b\0"]);
    assert_eq!(one, other);
}

#[test]
fn each_key_signs_what_its_duty_is() {
    let keys = [Role::Ksk, Role::Zsk, Role::Csk].map(|role| active(Algorithm::EcdsaP256Sha256, role));
    let tags = keys.each_ref().map(|active| active.key.public().tag());
    let signer = Signer::new(&name("example.com."), keys.to_vec(), LIFETIME);
    let signers = |rtype| -> Vec<u16> {
        signer.sign(WWW, rtype, 60, &[b"xxxx"]).iter().map(|signature| rrsig(signature).input().key_tag).collect()
    };
    for rtype in [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY] {
        assert_eq!(signers(rtype), [tags[0], tags[2]], "{rtype}");
    }
    for rtype in [Rtype::A, Rtype::SOA, Rtype::DS, Rtype::NSEC] {
        assert_eq!(signers(rtype), [tags[1], tags[2]], "{rtype}");
    }
}

#[test]
fn signature_with_much_validity_left_is_used_again() {
    let signer = csk(Algorithm::EcdsaP256Sha256);
    let first = signed(&signer, &Signatures::default(), 20);
    for (days, is_reused) in [(0, true), (8, true), (11, false), (20, false)] {
        let later = at(&signer, NOW + days * u64::from(DAY));
        let second = signed(&later, &first, 20);
        let reused = first.same(&second);
        assert_eq!(reused, if is_reused { 20 } else { 0 }, "after {days} days");
    }
}

/// RFC 4034, section 3.1.5: nobody takes a signature before its inception.
#[test]
fn signature_from_before_the_clock_was_set_back_is_made_anew() {
    let signer = csk(Algorithm::EcdsaP256Sha256);
    let first = signed(&at(&signer, NOW + u64::from(DAY)), &Signatures::default(), 5);
    assert_eq!(first.same(&signed(&signer, &first, 5)), 0);
}

#[test]
fn change_of_anything_but_the_time_asks_for_a_new_signature() {
    let signer = csk(Algorithm::Ed25519);
    let mut known = Signatures::default();
    let mut sign = |signer: &Signer, owner: &[u8], rtype, ttl, rdatas: &[&[u8]]| {
        let before = known.clone();
        let recall = |fingerprint: &Fingerprint| before.find(fingerprint).map(Box::from);
        signer.sign_reusing(recall, owner, rtype, ttl, rdatas, |fingerprint, rrsig| known.insert(fingerprint, rrsig));
        known.len() - before.len()
    };
    assert_eq!(sign(&signer, WWW, Rtype::A, 60, &[b"1111"]), 1);
    assert_eq!(sign(&signer, WWW, Rtype::A, 60, &[b"1111"]), 0);
    assert_eq!(sign(&signer, WWW, Rtype::A, 61, &[b"1111"]), 1, "TTL");
    assert_eq!(sign(&signer, WWW, Rtype::TXT, 60, &[b"1111"]), 1, "type");
    assert_eq!(sign(&signer, &WWW[4..], Rtype::A, 60, &[b"1111"]), 1, "owner");
    assert_eq!(sign(&signer, WWW, Rtype::A, 60, &[b"1111", b"1112"]), 1, "data");
    assert_eq!(sign(&csk(Algorithm::Ed25519), WWW, Rtype::A, 60, &[b"1111"]), 1, "key");
}

#[test]
fn expirations_are_spread_and_none_comes_before_renewal() {
    let signer = csk(Algorithm::Ed25519);
    let known = signed(&signer, &Signatures::default(), 100);
    let earliest = known.earliest_expiration(NOW).expect("there are signatures");
    assert!(earliest < NOW + u64::from(DAY) * 27 / 2, "the first of a hundred expires half a day before the last");
    assert_eq!(earliest, known.earliest_expiration(NOW + 5_000_000).expect("the same whenever one looks"));
    // Renewed at that time, all hold for more than a quarter of the validity, and most are left alone.
    let renewal = LIFETIME.renewal(earliest);
    let renewed = signed(&at(&signer, renewal), &known, 100);
    let earliest = renewed.earliest_expiration(renewal).expect("there are signatures");
    assert!(LIFETIME.renewal(earliest) > renewal + 3600, "not again within the hour");
}

#[test]
fn expirations_beyond_the_year_2106_are_understood() {
    let now = u64::from(u32::MAX) + 5;
    let known = signed(&at(&csk(Algorithm::Ed25519), now), &Signatures::default(), 3);
    assert!(known.earliest_expiration(now).is_some_and(|earliest| earliest > now));
}

proptest! {
    #[test]
    fn any_data_is_signed(rtype in 0..300_u16, rdatas in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
        let rdatas: Vec<&[u8]> = rdatas.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(csk(Algorithm::Ed25519).sign(WWW, Rtype(rtype), 1, &rdatas).len(), 1);
    }
}
