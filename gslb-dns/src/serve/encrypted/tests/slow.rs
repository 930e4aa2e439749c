//! What the engine leaves to the edge, over encrypted transports.

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigVerifier, TSigner};

use super::*;
use crate::reload::unix_secs;
use crate::serve::sample::query;

/// A node whose zone may be transferred by who has a key.
fn shop() -> Shop {
    let site = Site::new();
    site.write_secret("xfr.key", &data_encoding::BASE64.encode(SECRET));
    let secondaries = "file = \"example.com.zone\"\nsecondaries = [{ address = \"127.0.0.1:9\", key = \"xfr\" }]\n";
    let keys = "\n[tsig_keys.xfr]\nsecret_file = \"xfr.key\"\n";
    site.write("topology.toml", &(site.settings().replace("file = \"example.com.zone\"\n", secondaries) + keys));
    Shop::open_at(site, "")
}

/// A padded query, signed with `secret`, and what verifies its answer.
fn signed(name: &str, rtype: RecordType, secret: &[u8]) -> (Vec<u8>, TSigVerifier) {
    let mut message = Message::from_vec(&query(0, name, rtype)).expect("readable");
    if rtype == RecordType::IXFR {
        let name = Name::from_ascii(name).expect("a name");
        let soa = SOA::new(name.clone(), name.clone(), 0, 0, 0, 0, 0);
        message.authorities.push(Record::from_rdata(name, 0, RData::SOA(soa)));
    }
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 20]));
    message.set_edns(edns);
    let key = TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, Name::from_ascii("xfr.").expect("a name"), 300);
    let verifier = message.finalize(&key.expect("a key"), unix_secs()).expect("signed").expect("a verifier");
    (message.to_vec().expect("encoded"), verifier)
}

/// RFC 7830, section 4, and RFC 8467, section 4.1.
#[test]
fn signed_answers_are_padded_before_they_are_signed() {
    let shop = shop();
    let mut stream = dot::connect(&shop);
    for (name, rtype, expected) in [
        ("www.example.com", RecordType::A, ResponseCode::NoError),
        ("example.com", RecordType::AXFR, ResponseCode::NoError),
        ("example.net", RecordType::AXFR, ResponseCode::NotAuth),
    ] {
        let (query, mut verifier) = signed(name, rtype, SECRET);
        let answer = dot::exchange(&mut stream, &query);
        assert_eq!(answer.len(), 468, "{name} {rtype}");
        verifier.verify(&answer).expect("a right signature");
        assert_eq!(Message::from_vec(&answer).expect("readable").response_code, expected);
    }
    let (query, _) = signed("www.example.com", RecordType::A, b"another secret of some length...");
    let refused = dot::exchange(&mut stream, &query);
    assert_eq!(Message::from_vec(&refused).expect("readable").response_code, ResponseCode::NotAuth);
    assert_eq!(refused.len(), 468);
    drop(stream);
    shop.node.stop();
}

/// RFC 9103, section 7.2.
#[test]
fn zones_are_transferred_over_tls_1_3_and_no_older_version() {
    let shop = shop();
    for (version, expected) in
        [(&rustls::version::TLS13, ResponseCode::NoError), (&rustls::version::TLS12, ResponseCode::Refused)]
    {
        let mut stream = dot::connect_by(&shop, version);
        for rtype in [RecordType::AXFR, RecordType::IXFR] {
            let (query, mut verifier) = signed("example.com", rtype, SECRET);
            let answer = verifier.verify(&dot::exchange(&mut stream, &query)).expect("a right signature");
            assert_eq!(answer.response_code, expected, "{rtype}");
            let is_explained = answer.edns.as_ref().and_then(|edns| edns.option(EdnsCode::from(15))).is_some();
            assert_eq!(is_explained, expected == ResponseCode::Refused);
        }
        let answer = dot::exchange(&mut stream, &query(0, "www.example.com", RecordType::A));
        assert_eq!(crate::serve::sample::data(&answer), ["198.51.100.1"], "other questions are answered");
    }
    shop.node.stop();
}

#[test]
fn zones_are_not_transferred_over_https() {
    let shop = shop();
    let (query, mut verifier) = signed("example.com", RecordType::IXFR, SECRET);
    let answer = https::Client::connect(&shop).post(&query).content;
    assert_eq!(verifier.verify(&answer).expect("a right signature").response_code, ResponseCode::Refused);
    shop.node.stop();
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
