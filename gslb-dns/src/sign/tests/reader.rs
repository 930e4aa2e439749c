//! The second reader: hickory-proto takes records off the wire and verifies what we signed.

use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::dnssec::{DigestType, Verifier as _};
use hickory_proto::rr::{DNSClass, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

use crate::wire::{Name, Rtype};

/// A record as a resolver gets it.
pub(crate) fn record(owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8]) -> Record {
    let mut wire = owner.to_vec();
    wire.extend(rtype.0.to_be_bytes());
    wire.extend([0, 1]);
    wire.extend(ttl.to_be_bytes());
    wire.extend((rdata.len() as u16).to_be_bytes());
    wire.extend(rdata);
    Record::read(&mut BinDecoder::new(&wire)).expect("a record")
}

pub(crate) fn rrsig(rdata: &[u8]) -> RRSIG {
    match record(b"\0", Rtype::RRSIG, 0, rdata).data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => rrsig,
        other => panic!("{other:?} is no RRSIG"),
    }
}

pub(crate) fn dnskey(rdata: &[u8]) -> DNSKEY {
    match record(b"\0", Rtype::DNSKEY, 0, rdata).data {
        RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)) => dnskey,
        other => panic!("{other:?} is no DNSKEY"),
    }
}

/// Whether the RRSIG data `signature`, made by the DNSKEY data `key`, holds for the RRset.
pub(crate) fn is_signed(key: &[u8], signature: &[u8], owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> bool {
    let records: Vec<_> = rdatas.iter().map(|rdata| record(owner, rtype, ttl, rdata)).collect();
    let owner = &record(owner, Rtype::A, 0, &[192, 0, 2, 1]).name;
    dnskey(key).verify_rrsig(owner, DNSClass::IN, &rrsig(signature), records.iter()).is_ok()
}

/// The SHA-256 digest of the DNSKEY data `key` at `apex`.
pub(crate) fn digest(key: &[u8], apex: &Name) -> Vec<u8> {
    let apex = record(apex.as_wire(), Rtype::A, 0, &[192, 0, 2, 1]).name;
    dnskey(key).to_digest(&apex, DigestType::SHA256).expect("a digest").as_ref().to_vec()
}
