//! A second reader of signed answers: hickory verifies every signature, and proofs are read as RFC 4035 (section 5.4) and
//! RFC 5155 (section 8) say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::dnssec::{Algorithm, Nsec3HashAlgorithm, PublicKeyBuf, Verifier as _};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder, NameEncoding};

use crate::wire::{self, Rtype};
use crate::zone::{Denial, Signing};

/// Signs the zone `apex` in the way of `denial`, with a key that is the same for all tests.
pub(super) fn signing(apex: &str, denial: Denial) -> Signing {
    let apex = wire::Name::parse(apex, &wire::Name::root()).expect("a name").folded();
    let sign = move |owner: &[u8], rtype, ttl, rdatas: &[&[u8]]| vec![sign(apex.as_wire(), owner, rtype, ttl, rdatas)];
    Signing { denial, sign: Arc::new(sign), is_transferred: false }
}

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed is a key"));

static DNSKEY: LazyLock<DNSKEY> = LazyLock::new(|| {
    let public = PublicKeyBuf::new(KEY.public_key().as_ref().to_vec(), Algorithm::ED25519);
    DNSKEY::new(true, true, false, public)
});

/// RRSIG data by RFC 4034, section 3.1.
fn sign(apex: &[u8], owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> Box<[u8]> {
    let is_wildcard = owner.starts_with(b"\x01*");
    let labels = wire::label_count(owner) - usize::from(is_wildcard);
    let mut rrsig = rtype.0.to_be_bytes().to_vec();
    rrsig.extend([u8::from(Algorithm::ED25519), labels as u8]);
    rrsig.extend(ttl.to_be_bytes());
    rrsig.extend(u32::MAX.to_be_bytes());
    rrsig.extend([0; 4]);
    rrsig.extend([1, 2]);
    rrsig.extend(apex);
    let mut data = rrsig.clone();
    let lower = |rdata: &[u8]| if rtype == Rtype::MX { rdata.to_ascii_lowercase() } else { rdata.to_vec() };
    for rdata in rdatas.iter().map(|rdata| lower(rdata)).collect::<BTreeSet<_>>() {
        data.extend(owner);
        data.extend(rtype.0.to_be_bytes());
        data.extend([0, 1]);
        data.extend(ttl.to_be_bytes());
        data.extend((rdata.len() as u16).to_be_bytes());
        data.extend(&rdata);
    }
    rrsig.extend(KEY.sign(&data).as_ref());
    rrsig.into()
}

/// What an answer says, once everything in it is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// There is data, or others must go on.
    Data,
    /// There is no such data at the last name.
    Nodata,
    /// The last name does not exist.
    NameError,
    /// Others are responsible.
    Referral,
}

/// A signed answer that is read.
struct Reading<'a> {
    message: &'a Message,
    /// The names of all zones, and whether each is signed.
    zones: Vec<(Name, bool)>,
    nsecs: Vec<Nsec>,
    nsec3s: Vec<Nsec3>,
}

#[derive(Debug)]
struct Nsec {
    owner: Name,
    next: Name,
    types: BTreeSet<RecordType>,
}

#[derive(Debug)]
struct Nsec3 {
    owner: Vec<u8>,
    next: Vec<u8>,
    types: BTreeSet<RecordType>,
}

/// Reads `message`, the answer to `qname` and `qtype` of `zones`, of which some are signed; fails with what a resolver would
/// not accept.
pub(super) fn validate(
    message: &Message,
    qname: &Name,
    qtype: RecordType,
    zones: &[(&str, bool)],
) -> Result<Verdict, String> {
    let zones = zones.iter().map(|&(apex, is_signed)| (Name::from_ascii(apex).expect("a name"), is_signed)).collect();
    let mut reading = Reading { message, zones, nsecs: Vec::new(), nsec3s: Vec::new() };
    let expanded = reading.verify()?;
    for (name, labels) in expanded {
        reading.no_closer(&name, labels).map_err(|what| format!("{name} by a wildcard: {what}"))?;
    }
    reading.conclude(qname, qtype)
}

impl Reading<'_> {
    /// Verifies each RRset; gives those that a wildcard answers for, with the labels of the name above that.
    fn verify(&mut self) -> Result<Vec<(Name, usize)>, String> {
        let mut expanded = Vec::new();
        for (section, records) in [&self.message.answers, &self.message.authorities].into_iter().enumerate() {
            let mut rrsets: BTreeMap<(Name, RecordType), Vec<&Record>> = BTreeMap::new();
            for record in records.iter().filter(|record| record.record_type() != RecordType::RRSIG) {
                let rrset = rrsets.entry((record.name.to_lowercase(), record.record_type())).or_default();
                if rrset.iter().any(|known| known.data == record.data) {
                    return Err(format!("{record} comes twice"));
                }
                rrset.push(record);
            }
            for ((owner, rtype), rrset) in &rrsets {
                let Some(labels) = self.verify_rrset(section, records, owner, *rtype, rrset)? else { continue };
                if labels < owner.iter().count() - usize::from(owner.is_wildcard()) {
                    expanded.push((owner.clone(), labels));
                }
                for record in rrset {
                    self.note(owner, record);
                }
            }
            let is_idle = |record: &&Record| {
                let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return false };
                !rrsets.contains_key(&(record.name.to_lowercase(), rrsig.input().type_covered))
            };
            let asks_rrsig = self.message.queries.iter().any(|query| query.query_type() == RecordType::RRSIG);
            if let Some(idle) = records.iter().find(is_idle).filter(|_| !asks_rrsig) {
                return Err(format!("{idle} signs nothing"));
            }
        }
        Ok(expanded)
    }

    /// Whether the zone that answers for `name` and `rtype` is signed.
    fn is_signed(&self, name: &Name, rtype: RecordType) -> bool {
        let holds = |(apex, _): &&(Name, bool)| apex.zone_of(name) && !(rtype == RecordType::DS && apex == name);
        let deepest = self.zones.iter().filter(holds).max_by_key(|(apex, _)| apex.iter().count());
        deepest.is_some_and(|(_, is_signed)| *is_signed)
    }

    /// The labels that the signature counts; `None` where none is due.
    fn verify_rrset(
        &self,
        section: usize,
        records: &[Record],
        owner: &Name,
        rtype: RecordType,
        rrset: &[&Record],
    ) -> Result<Option<usize>, String> {
        let signatures: Vec<(&Record, &RRSIG)> = records
            .iter()
            .filter(|record| record.name.to_lowercase() == *owner)
            .filter_map(|record| match &record.data {
                RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) if rrsig.input().type_covered == rtype => {
                    Some((record, rrsig))
                }
                _ => None,
            })
            .collect();
        if signatures.is_empty() {
            let is_synthesised = rtype == RecordType::CNAME && self.dname_above(owner).is_some();
            let is_delegation =
                section == 1 && rtype == RecordType::NS && self.zones.iter().all(|(apex, _)| apex != owner);
            let is_fine = is_synthesised || is_delegation || !self.is_signed(owner, rtype);
            return if is_fine { Ok(None) } else { Err(format!("{owner} {rtype} is not signed")) };
        }
        let mut labels = None;
        for (record, rrsig) in signatures {
            let input = rrsig.input();
            DNSKEY
                .verify(&signed_data(owner, rrsig, rrset), rrsig.sig())
                .map_err(|error| format!("{owner} {rtype}: {error}"))?;
            if !self.zones.contains(&(input.signer_name.clone(), true)) || !input.signer_name.zone_of(owner) {
                return Err(format!("{owner} {rtype} is signed by {}", input.signer_name));
            }
            if rrset.iter().any(|data| data.ttl != record.ttl || data.ttl > input.original_ttl) {
                return Err(format!("{owner} {rtype} has other TTLs than its signature"));
            }
            labels = Some(usize::from(input.num_labels));
        }
        Ok(labels)
    }

    fn note(&mut self, owner: &Name, record: &Record) {
        match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => self.nsecs.push(Nsec {
                owner: owner.clone(),
                next: nsec.next_domain_name().clone(),
                types: nsec.type_bit_maps().collect(),
            }),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => self.nsec3s.push(Nsec3 {
                owner: base32(owner.iter().next().expect("a label")),
                next: nsec3.next_hashed_owner_name().to_vec(),
                types: nsec3.type_bit_maps().collect(),
            }),
            _ => {}
        }
    }

    /// Where the DNAME above `name` leads it.
    fn dname_above(&self, name: &Name) -> Option<Name> {
        self.message.answers.iter().find_map(|record| {
            let is_above = record.name.zone_of(name) && record.name.to_lowercase() != *name;
            let RData::Unknown { code, rdata } = &record.data else { return None };
            if !is_above || u16::from(*code) != Rtype::DNAME.0 {
                return None;
            }
            let kept = name.iter().count() - record.name.iter().count();
            let labels = name.iter().take(kept).map(<[u8]>::to_vec).chain(labels_of(&rdata.anything));
            Name::from_labels(labels).ok()
        })
    }

    /// Follows the answer to its end, and asks for the proof that it is one.
    fn conclude(&self, qname: &Name, qtype: RecordType) -> Result<Verdict, String> {
        let answers = &self.message.answers;
        let mut name = qname.to_lowercase();
        for _ in 0..=answers.len() {
            let mut own = answers.iter().filter(|record| record.name.to_lowercase() == name);
            if own.clone().any(|record| record.record_type() == qtype || qtype == RecordType::ANY) {
                return Ok(Verdict::Data);
            }
            let cname = own.find_map(|record| match &record.data {
                RData::CNAME(CNAME(target)) => Some(target.to_lowercase()),
                _ => None,
            });
            match (cname, self.dname_above(&name)) {
                (Some(target), made) if made.as_ref().is_none_or(|made| *made == target) => name = target,
                (Some(target), _) => return Err(format!("the CNAME made from a DNAME leads to {target}")),
                (None, _) => break,
            }
        }
        let has = |rtype| self.message.authorities.iter().any(|record| record.record_type() == rtype);
        let is_name_error = self.message.metadata.response_code == ResponseCode::NXDomain;
        if !self.is_signed(&name, qtype) {
            Ok(Verdict::Data)
        } else if has(RecordType::SOA) && is_name_error {
            self.name_error(&name).map(|()| Verdict::NameError).map_err(|what| format!("{name}: {what}"))
        } else if has(RecordType::SOA) {
            self.nodata(&name, qtype).map_err(|what| format!("{name} {qtype}: {what}"))
        } else if has(RecordType::NS) {
            self.referral().map(|()| Verdict::Referral)
        } else if answers.is_empty() {
            Err("nothing is said".to_owned())
        } else {
            Ok(Verdict::Data)
        }
    }

    fn referral(&self) -> Result<(), String> {
        let ns = self.message.authorities.iter().find(|record| record.record_type() == RecordType::NS).expect("NS");
        let cut = ns.name.to_lowercase();
        let has_ds = self.message.authorities.iter().any(|record| record.record_type() == RecordType::DS);
        let is_insecure = |types: &BTreeSet<RecordType>| {
            types.contains(&RecordType::NS) && !types.contains(&RecordType::DS) && !types.contains(&RecordType::SOA)
        };
        let is_proved = self.nsecs.iter().any(|nsec| nsec.owner == cut && is_insecure(&nsec.types))
            || self.nsec3s.iter().any(|nsec3| nsec3.owner == hash(&cut) && is_insecure(&nsec3.types));
        if has_ds || is_proved { Ok(()) } else { Err(format!("{cut}: neither DS nor the proof that there is none")) }
    }

    /// RFC 4035, section 5.4, and RFC 5155, sections 8.5 to 8.7.
    fn nodata(&self, name: &Name, qtype: RecordType) -> Result<Verdict, String> {
        let lacks = |types: &BTreeSet<RecordType>| {
            let is_parent_side = types.contains(&RecordType::NS) && !types.contains(&RecordType::SOA);
            let is_child_side = types.contains(&RecordType::SOA) && qtype == RecordType::DS && !name.is_root();
            let is_right_side = if qtype == RecordType::DS { !is_child_side } else { !is_parent_side };
            !types.contains(&qtype) && !types.contains(&RecordType::CNAME) && is_right_side
        };
        if let Some(own) = self.nsecs.iter().find(|nsec| nsec.owner == *name) {
            let is_nothing = own.types.contains(&RecordType::Unknown(Rtype::NXNAME.0));
            let verdict = if is_nothing { Verdict::NameError } else { Verdict::Nodata };
            return if lacks(&own.types) { Ok(verdict) } else { Err(format!("{own:?} has the type")) };
        }
        let is_empty = |name: &Name| self.nsecs.iter().any(|nsec| nsec.covers(name) && name.zone_of(&nsec.next));
        if is_empty(name) {
            return Ok(Verdict::Nodata);
        }
        if let Some(own) = self.nsec3s.iter().find(|nsec3| nsec3.owner == hash(name)) {
            return if lacks(&own.types) { Ok(Verdict::Nodata) } else { Err(format!("{own:?} has the type")) };
        }
        let encloser = self.encloser(name)?;
        let wildcard = wildcard_below(&encloser);
        let types = match self.nsecs.iter().find(|nsec| nsec.owner == wildcard) {
            Some(nsec) => Some(&nsec.types),
            None => self.nsec3s.iter().find(|nsec3| nsec3.owner == hash(&wildcard)).map(|nsec3| &nsec3.types),
        };
        match types {
            Some(types) if lacks(types) => Ok(Verdict::Nodata),
            Some(types) => Err(format!("{wildcard} has {types:?}")),
            None if is_empty(&wildcard) => Ok(Verdict::Nodata),
            None => Err(format!("nothing says what {wildcard} has")),
        }
    }

    fn name_error(&self, name: &Name) -> Result<(), String> {
        let wildcard = wildcard_below(&self.encloser(name)?);
        let is_covered = self.nsecs.iter().any(|nsec| nsec.covers(&wildcard))
            || self.nsec3s.iter().any(|nsec3| nsec3.covers(&hash(&wildcard)));
        if is_covered { Ok(()) } else { Err(format!("nothing says that {wildcard} does not exist")) }
    }

    /// The closest encloser of `name`, which is proved not to exist.
    fn encloser(&self, name: &Name) -> Result<Name, String> {
        if let Some(nsec) = self.nsecs.iter().find(|nsec| nsec.covers(name)) {
            if name.zone_of(&nsec.next) {
                return Err(format!("{nsec:?} says that there are names below it"));
            }
            let common =
                |other: &Name| (0..=name.iter().count()).rev().find(|&labels| trim(name, labels).zone_of(other));
            let labels = common(&nsec.owner).max(common(&nsec.next)).unwrap_or_default();
            return Ok(trim(name, labels));
        }
        let labels = name.iter().count();
        let exists = |name: &Name| {
            let own = self.nsec3s.iter().find(|nsec3| nsec3.owner == hash(name));
            own.is_some_and(|own| !own.is_other_side())
        };
        let encloser = (0..labels).rev().map(|labels| trim(name, labels)).find(exists);
        let encloser = encloser.ok_or_else(|| format!("no closest encloser of {name}"))?;
        let closer = trim(name, encloser.iter().count() + 1);
        let is_covered = self.nsec3s.iter().any(|nsec3| nsec3.covers(&hash(&closer)));
        if is_covered { Ok(encloser) } else { Err(format!("nothing says that {closer} does not exist")) }
    }

    /// RFC 4035, section 5.3.4, and RFC 5155, section 8.8: no name is closer to `name` than the one of `labels` labels.
    fn no_closer(&self, name: &Name, labels: usize) -> Result<(), String> {
        let closer = trim(name, labels + 1);
        let is_between = |nsec: &Nsec| nsec.covers(name) && !closer.zone_of(&nsec.owner) && !closer.zone_of(&nsec.next);
        let is_covered =
            self.nsecs.iter().any(is_between) || self.nsec3s.iter().any(|nsec3| nsec3.covers(&hash(&closer)));
        if is_covered { Ok(()) } else { Err(format!("nothing says that {closer} does not exist")) }
    }
}

impl Nsec {
    fn covers(&self, name: &Name) -> bool {
        let is_last = self.next <= self.owner;
        let is_between = self.owner < *name && (is_last || *name < self.next);
        let is_below = self.owner.zone_of(name) && self.owner != *name;
        // RFC 6840, section 4.1: who delegates or redirects says nothing of names below.
        let is_cut = self.types.contains(&RecordType::NS) && !self.types.contains(&RecordType::SOA);
        let is_dname = self.types.contains(&RecordType::from(Rtype::DNAME.0));
        is_between && !(is_below && (is_cut || is_dname))
    }
}

impl Nsec3 {
    fn covers(&self, hash: &[u8]) -> bool {
        let (owner, next) = (self.owner.as_slice(), self.next.as_slice());
        if owner < next { owner < hash && hash < next } else { hash > owner || hash < next }
    }

    fn is_other_side(&self) -> bool {
        let is_cut = self.types.contains(&RecordType::NS) && !self.types.contains(&RecordType::SOA);
        is_cut || self.types.contains(&RecordType::from(Rtype::DNAME.0))
    }
}

/// What `rrsig` signs (RFC 4034, section 3.1.8.1). hickory's own function sorts NS and other names by their labels, and not
/// as octets, as section 6.3 has it.
fn signed_data(owner: &Name, rrsig: &RRSIG, rrset: &[&Record]) -> Vec<u8> {
    let input = rrsig.input();
    let encoded = |emit: &dyn Fn(&mut BinEncoder<'_>)| {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_canonical_form(true);
        encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
        emit(&mut encoder);
        octets
    };
    let mut signed = encoded(&|encoder| input.emit(encoder).expect("room"));
    let labels = owner.iter().count();
    let signer = match usize::from(input.num_labels) {
        expanded if expanded < labels && !owner.is_wildcard() => wildcard_below(&trim(owner, expanded)),
        expanded if expanded + 1 < labels => wildcard_below(&trim(owner, expanded)),
        _ => owner.clone(),
    };
    let rdatas = rrset.iter().map(|record| encoded(&|encoder| record.data.emit(encoder).expect("room")));
    for rdata in rdatas.collect::<BTreeSet<_>>() {
        signed.extend(encoded(&|encoder| signer.emit(encoder).expect("room")));
        signed.extend(u16::from(input.type_covered).to_be_bytes());
        signed.extend([0, 1]);
        signed.extend(input.original_ttl.to_be_bytes());
        signed.extend((rdata.len() as u16).to_be_bytes());
        signed.extend(rdata);
    }
    signed
}

/// The last `labels` labels; hickory's own function does not count an asterisk.
fn trim(name: &Name, labels: usize) -> Name {
    let skipped = name.iter().count().saturating_sub(labels);
    Name::from_labels(name.iter().skip(skipped).map(<[u8]>::to_vec)).expect("labels of a name")
}

fn wildcard_below(name: &Name) -> Name {
    Name::from_labels([&b"*"[..]].into_iter().chain(name.iter())).expect("a short name")
}

fn hash(name: &Name) -> Vec<u8> {
    Nsec3HashAlgorithm::SHA1.hash(&[], name, 0).expect("a hash").as_ref().to_vec()
}

fn base32(label: &[u8]) -> Vec<u8> {
    let digit = |&octet: &u8| u64::from(char::from(octet).to_digit(32).expect("a digit"));
    let octets =
        |eight: &[u8]| eight.iter().fold(0, |bits, octet| bits << 5 | digit(octet)).to_be_bytes()[3..].to_vec();
    label.chunks(8).flat_map(octets).collect()
}

fn labels_of(wire: &[u8]) -> Vec<Vec<u8>> {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let [len @ 1..=63, after @ ..] = rest {
        let (label, next) = after.split_at(usize::from(*len));
        labels.push(label.to_ascii_lowercase());
        rest = next;
    }
    labels
}
