//! Each rule of RFC 8945, with hickory as the other side.

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name as HickoryName, RecordType, TSigVerifier, TSigner};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn name(text: &str) -> Name {
    Name::parse(text, &Name::root()).expect("a name")
}

fn key(text: &str, algorithm: Algorithm) -> Key {
    Key::parse(&name(text), algorithm, &data_encoding::BASE64.encode(SECRET)).expect("a key")
}

fn keys(algorithm: Algorithm) -> KeySet {
    [key("Xfr.example.com", algorithm)].into_iter().collect()
}

fn signer(key: &str, algorithm: Algorithm, secret: &[u8]) -> TSigner {
    let algorithm = match algorithm {
        Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
        Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
        Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
    };
    TSigner::new(secret.to_vec(), algorithm, HickoryName::from_ascii(key).expect("a name"), 300).expect("supported")
}

fn asked() -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.add_query(Query::query(HickoryName::from_ascii("example.com.").expect("a name"), RecordType::AXFR));
    message
}

fn signed_by(signer: &TSigner, time: u64) -> (Vec<u8>, TSigVerifier) {
    let mut message = asked();
    let verifier = message.finalize(signer, time).expect("signed").expect("a verifier");
    (message.to_vec().expect("encoded"), verifier)
}

/// A query signed by the right key at `time`.
fn signed(time: u64) -> Vec<u8> {
    signed_by(&signer("xfr.example.com.", Algorithm::Sha256, SECRET), time).0
}

fn error_of(message: &[u8], keys: &KeySet) -> Option<TsigError> {
    let request = Request::split(message).expect("well formed").expect("signed");
    request.verify(keys, NOW).err().map(|rejection| rejection.error)
}

/// An answer without records.
fn answer() -> Vec<u8> {
    let mut answer = asked().to_vec().expect("encoded");
    answer[2] |= 0x80;
    answer
}

/// The octets of the MAC in the record that ends `message`, which is 12 before the end.
fn with_mac_len(message: &[u8], len: usize) -> Vec<u8> {
    let LastTsig { start, owner, rdata } = LastTsig::find(message).expect("well formed").expect("signed");
    let fields = Fields::parse(rdata).expect("whole");
    let mut mac = fields.mac.to_vec();
    mac.resize(len, 0);
    let mut shortened = message[..start].to_vec();
    shortened[11] -= 1;
    Fields { mac: &mac, ..fields }.append_to(&mut shortened, &owner);
    shortened
}

#[test]
fn message_signed_by_each_algorithm_is_taken_and_comes_out_unsigned() {
    for (_, algorithm) in Algorithm::ALL {
        let (message, _) = signed_by(&signer("XFR.example.com.", algorithm, SECRET), NOW);
        let request = Request::split(&message).expect("well formed").expect("signed");
        assert_eq!(request.message(), asked().to_vec().expect("encoded"));
        let session = request.verify(&keys(algorithm), NOW).expect("right");
        assert_eq!(session.key().name(), &name("xfr.example.com"));
    }
    assert!(Request::split(&asked().to_vec().expect("encoded")).expect("well formed").is_none());
}

/// RFC 8945, section 5.3.1.
#[test]
fn every_message_of_a_transfer_is_bound_to_the_one_before() {
    for (_, algorithm) in Algorithm::ALL {
        let (message, mut verifier) = signed_by(&signer("xfr.example.com.", algorithm, SECRET), NOW);
        let request = Request::split(&message).expect("well formed").expect("signed");
        let mut session = request.verify(&keys(algorithm), NOW).expect("right");
        let answers: Vec<Vec<u8>> = (0..3)
            .map(|_| {
                let (mut answer, len) = (answer(), answer().len());
                session.sign(&mut answer, NOW + 1);
                assert_eq!(answer.len() - len, session.record_len());
                answer
            })
            .collect();
        for answer in &answers {
            verifier.verify(answer).expect("hickory finds it right");
        }
        let (_, mut other) = signed_by(&signer("xfr.example.com.", algorithm, SECRET), NOW);
        assert!(other.verify(&answers[1]).is_err(), "the second is no first");
    }
}

/// RFC 8945, section 5.2.1.
#[test]
fn unknown_key_or_algorithm_is_badkey_and_the_answer_unsigned() {
    let (other, _) = signed_by(&signer("other.", Algorithm::Sha256, SECRET), NOW);
    assert_eq!(error_of(&other, &keys(Algorithm::Sha256)), Some(TsigError::BadKey));
    assert_eq!(error_of(&signed(NOW), &keys(Algorithm::Sha512)), Some(TsigError::BadKey));
    let request = Request::split(&other).expect("well formed").expect("signed");
    let (mut answer, rejection) = (answer(), request.verify(&KeySet::default(), NOW).expect_err("no key"));
    rejection.append_to(&mut answer, NOW);
    let record = LastTsig::find(&answer).expect("well formed").expect("there is one");
    let fields = Fields::parse(record.rdata).expect("whole");
    assert_eq!((fields.mac.len(), fields.error, fields.original_id), (0, 17, 4711));
    assert_eq!(record.owner, name("other"));
}

/// RFC 8945, section 5.2.2.
#[test]
fn wrong_secret_or_changed_message_is_badsig_and_the_answer_unsigned() {
    let (other, _) = signed_by(&signer("xfr.example.com.", Algorithm::Sha256, b"another secret of some length.."), NOW);
    assert_eq!(error_of(&other, &keys(Algorithm::Sha256)), Some(TsigError::BadSig));
    let mut changed = signed(NOW);
    changed[3] ^= 0x10;
    assert_eq!(error_of(&changed, &keys(Algorithm::Sha256)), Some(TsigError::BadSig));
    let no_mac = with_mac_len(&signed(NOW), 0);
    assert_eq!(error_of(&no_mac, &keys(Algorithm::Sha256)), Some(TsigError::BadSig));
    let request = Request::split(&changed).expect("well formed").expect("signed");
    let (mut answer, rejection) = (answer(), request.verify(&keys(Algorithm::Sha256), NOW).expect_err("wrong"));
    rejection.append_to(&mut answer, NOW);
    let record = LastTsig::find(&answer).expect("well formed").expect("there is one");
    let fields = Fields::parse(record.rdata).expect("whole");
    assert_eq!((fields.mac.len(), fields.error), (0, 16));
}

/// A proxy may have given the message another id (RFC 8945, section 4.2).
#[test]
fn id_of_the_message_is_not_what_is_signed() {
    let mut message = signed(NOW);
    message[..2].copy_from_slice(&[9, 9]);
    assert_eq!(error_of(&message, &keys(Algorithm::Sha256)), None);
    let request = Request::split(&message).expect("well formed").expect("signed");
    assert_eq!(request.message()[..2], [9, 9]);
    // The answer is signed with the id that it has: the proxy gives it back its own, and the client undoes that.
    let mut session = request.verify(&keys(Algorithm::Sha256), NOW).expect("right");
    let mut answer = answer();
    answer[..2].copy_from_slice(&[9, 9]);
    session.sign(&mut answer, NOW);
    let fields = Request::split(&answer).expect("well formed").expect("signed").fields.original_id;
    assert_eq!(fields, 0x0909);
}

/// RFC 8945, section 5.2.3.
#[test]
fn time_outside_the_fudge_is_badtime_and_the_answer_signed_with_our_time() {
    for (time, is_right) in [(NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false)] {
        let expected = (!is_right).then_some(TsigError::BadTime);
        assert_eq!(error_of(&signed(time), &keys(Algorithm::Sha256)), expected, "{time}");
    }
    let (message, mut verifier) = signed_by(&signer("xfr.example.com.", Algorithm::Sha256, SECRET), NOW - 1000);
    let request = Request::split(&message).expect("well formed").expect("signed");
    let (mut answer, rejection) = (answer(), request.verify(&keys(Algorithm::Sha256), NOW).expect_err("late"));
    rejection.append_to(&mut answer, NOW);
    let record = LastTsig::find(&answer).expect("well formed").expect("there is one");
    let fields = Fields::parse(record.rdata).expect("whole");
    assert_eq!((fields.error, fields.time_signed, fields.other), (18, NOW - 1000, &NOW.to_be_bytes()[2..]));
    verifier.verify(&answer).expect("hickory finds the signature right");
}

/// RFC 8945, sections 5.2.2.1 and 5.2.4.
#[test]
fn shortened_macs_are_badtrunc_and_those_of_no_length_that_may_be_formerr() {
    let message = signed(NOW);
    for len in [16, 31] {
        assert_eq!(error_of(&with_mac_len(&message, len), &keys(Algorithm::Sha256)), Some(TsigError::BadTrunc));
    }
    for len in [1, 9, 15, 33] {
        assert_eq!(Request::split(&with_mac_len(&message, len)).expect_err("of no length"), Rcode::FORMERR);
    }
}

/// RFC 8945, section 5.1.
#[test]
fn record_that_is_not_last_is_formerr() {
    let message = signed(NOW);
    let record = LastTsig::find(&message).expect("well formed").expect("signed").start;
    let mut twice = [&message, &message[record..]].concat();
    twice[11] += 1;
    assert_eq!(Request::split(&twice).expect_err("two of them"), Rcode::FORMERR);
    let mut moved = message.clone();
    moved[9..12].copy_from_slice(&[1, 0, 0]);
    assert_eq!(Request::split(&moved).expect_err("in another section"), Rcode::FORMERR);
}

#[test]
fn answer_to_what_we_signed_is_taken_with_the_right_signature_alone() {
    let mut ours = Session::begin(key("xfr.example.com", Algorithm::Sha256));
    let mut message = asked().to_vec().expect("encoded");
    ours.sign(&mut message, NOW);
    let request = Request::split(&message).expect("well formed").expect("signed");
    let mut theirs = request.verify(&keys(Algorithm::Sha256), NOW).expect("right");
    let mut right = answer();
    theirs.sign(&mut right, NOW);
    assert!(ours.accepts(&right, NOW));
    assert!(!ours.accepts(&right, NOW + 1000));
    assert!(!ours.accepts(&answer(), NOW));
    right[3] ^= 1;
    assert!(!ours.accepts(&right, NOW));
}

#[test]
fn secrets_are_base64_long_enough_and_never_shown() {
    let parse = |text: &str| Key::parse(&name("k"), Algorithm::Sha256, text);
    assert_eq!(parse("what?").err(), Some(BadSecret::NotBase64));
    assert_eq!(parse("AAAA").err(), Some(BadSecret::TooShort { len: 3 }));
    let shown = format!("{:?}", parse(" MDEyMzQ1Njc4OWFiY2RlZg==\n").expect("right"));
    assert_eq!(shown, "Key(k. Sha256)");
}

proptest! {
    #[test]
    fn any_octets_are_safe(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Some(request)) = Request::split(&octets) {
            prop_assert!(request.verify(&keys(Algorithm::Sha256), NOW).is_err());
        }
    }

    #[test]
    fn damaged_messages_are_safe_and_never_right(at in 0_usize..120, flip in 1_u8..) {
        let mut message = signed(NOW);
        let at = at % message.len();
        message[at] ^= flip;
        if let Ok(Some(request)) = Request::split(&message)
            && let Ok(_) = request.verify(&keys(Algorithm::Sha256), NOW)
        {
            // The id is not signed; letters of names have no case; what the key and the algorithm are called is known.
            prop_assert!(at < 2 || flip == 0x20, "octet {at}");
        }
    }
}
