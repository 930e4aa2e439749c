//! RRSIG data of RRsets (RFC 4034, section 3).

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::canonical::canonical;
use super::key::SigningKey;
use super::signatures::{Fingerprint, Signatures, expiration, inception, key_of};
use crate::wire::{CLASS_IN, Name, Rtype, label_count};

/// Signs the RRsets of one zone with the keys that sign at one moment.
#[derive(Clone, Debug)]
pub struct Signer {
    apex: Name,
    keys: Vec<ActiveKey>,
    lifetime: Lifetime,
}

/// A key that signs.
#[derive(Clone, Debug)]
pub struct ActiveKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// What it signs.
    pub duty: Duty,
}

/// What a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Every RRset: a CSK.
    All,
    /// DNSKEY, CDS and CDNSKEY: a KSK.
    Keys,
    /// All but DNSKEY, CDS and CDNSKEY: a ZSK, or a CSK whose DNSKEY is not published.
    Rest,
}

/// From when to when signatures hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// When they are made, in seconds since 1970.
    pub now: u64,
    /// How long after `now` they hold at most, in seconds; each expires up to a sixteenth of it earlier, by its content,
    /// so that not all become due at once.
    pub validity_secs: u32,
}

impl Lifetime {
    /// Until when a signature over `fingerprint` holds.
    fn expiration(&self, fingerprint: &Fingerprint) -> u64 {
        let [high, low, ..] = fingerprint.0;
        let share = u64::from(u16::from_be_bytes([high, low]));
        let jitter = (u64::from(self.validity_secs) / JITTER_DIVISOR * share) >> 16;
        self.now + u64::from(self.validity_secs) - jitter
    }

    /// Signatures that expire before this are made anew when a zone is built: more than a quarter of the validity, so that
    /// those which become due soon go along with those that are.
    fn good_until(&self) -> u64 {
        self.now + u64::from(self.validity_secs) * 5 / 16
    }

    /// When signatures of which the first expires at `expiration` must be renewed: with a quarter of the validity left.
    pub fn renewal(&self, expiration: u64) -> u64 {
        expiration.saturating_sub(u64::from(self.validity_secs) / 4)
    }
}

impl Signer {
    /// A signer of the zone `apex`. Keys of one algorithm must cover both duties, or what comes out does not validate.
    pub fn new(apex: &Name, keys: Vec<ActiveKey>, lifetime: Lifetime) -> Self {
        Self { apex: apex.folded(), keys, lifetime }
    }

    /// The keys, as given.
    pub fn keys(&self) -> &[ActiveKey] {
        &self.keys
    }

    /// From when to when what it signs holds.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The RRSIG data to send with an RRset, one for each key whose duty it is; `owner` is in wire form and lower case,
    /// `rdatas` are uncompressed, in any order.
    pub fn sign(&self, owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> Vec<Box<[u8]>> {
        self.sign_reusing(|_| None, owner, rtype, ttl, rdatas, |_, _| {})
    }

    /// The same, but takes those signatures that `recall` knows and that are good for a while yet; `keep` gets each that is
    /// given out, for the next build.
    pub fn sign_reusing(
        &self,
        recall: impl Fn(&Fingerprint) -> Option<Box<[u8]>>,
        owner: &[u8],
        rtype: Rtype,
        ttl: u32,
        rdatas: &[&[u8]],
        mut keep: impl FnMut(Fingerprint, &[u8]),
    ) -> Vec<Box<[u8]>> {
        let mut rrsigs = Vec::new();
        for draft in self.drafts(owner, rtype, ttl, rdatas) {
            let fingerprint = draft.fingerprint();
            let good = recall(&fingerprint).filter(|rrsig| self.is_good(rrsig));
            let Some(rrsig) = good.or_else(|| draft.sign(&self.lifetime, &fingerprint)) else { continue };
            keep(fingerprint, &rrsig);
            rrsigs.push(rrsig);
        }
        rrsigs
    }

    /// Whether all signatures of an RRset are in `known` and good for a while yet: then [`Signer::sign_reusing`] signs
    /// nothing.
    pub fn knows(&self, known: &Signatures, owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> bool {
        let mut drafts = self.drafts(owner, rtype, ttl, rdatas);
        drafts.all(|draft| known.find(&draft.fingerprint()).is_some_and(|rrsig| self.is_good(rrsig)))
    }

    /// What has the size of the signatures of an RRset of this type and is none: for finding out what has to be signed.
    pub fn placeholders(&self, rtype: Rtype) -> Vec<Box<[u8]>> {
        let len = RRSIG_HEAD_LEN + self.apex.as_wire().len() + SIGNATURE_LEN;
        self.on_duty(rtype).map(|_| vec![0; len].into()).collect()
    }

    /// About how many signatures have to be made for `rrsets` RRsets, most of which were signed when `known` was made: those
    /// of these keys that are not good for a while, and all of a key that has not signed yet.
    pub fn unknown(&self, known: &Signatures, rrsets: usize) -> usize {
        let mut made = vec![(0, 0); self.keys.len()];
        for rrsig in known.iter() {
            let of = |key: &ActiveKey| Some((key.key.public().algorithm().number(), key.key.public().tag()));
            if let Some(at) = self.keys.iter().position(|key| of(key) == key_of(rrsig)) {
                let (all, good) = &mut made[at];
                *all += 1;
                *good += usize::from(self.is_good(rrsig));
            }
        }
        let missing = |(key, (all, good)): (&ActiveKey, (usize, usize))| match (key.duty, all) {
            (Duty::Keys, _) => 0,
            (_, 0) => rrsets,
            (_, all) => rrsets.saturating_sub(all).max(all - good),
        };
        self.keys.iter().zip(made).map(missing).sum()
    }

    fn is_good(&self, rrsig: &[u8]) -> bool {
        let now = self.lifetime.now;
        // One from the future was made by a clock that was set back since.
        expiration(rrsig, now) >= self.lifetime.good_until() && inception(rrsig, now) <= now
    }

    fn drafts(&self, owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> impl Iterator<Item = Draft<'_>> {
        let records = records(owner, rtype, ttl, &canonical(rtype, rdatas));
        let owner = owner.to_vec();
        self.on_duty(rtype).map(move |active| Draft::new(&self.apex, active, &owner, rtype, ttl, &records))
    }

    /// How many signatures an RRset of this type gets.
    pub fn signature_count(&self, rtype: Rtype) -> usize {
        self.on_duty(rtype).count()
    }

    /// The keys that sign RRsets of this type.
    fn on_duty(&self, rtype: Rtype) -> impl Iterator<Item = &ActiveKey> {
        let is_of_keys = matches!(rtype, Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY);
        let others = if is_of_keys { Duty::Rest } else { Duty::Keys };
        self.keys.iter().filter(move |active| active.duty != others)
    }
}

/// What is signed, before its times are known.
struct Draft<'a> {
    key: &'a SigningKey,
    /// RRSIG data without the signature, both times zero, and the records after it.
    octets: Vec<u8>,
    head_len: usize,
}

impl<'a> Draft<'a> {
    fn new(apex: &Name, active: &'a ActiveKey, owner: &[u8], rtype: Rtype, ttl: u32, records: &[u8]) -> Self {
        let public = active.key.public();
        let mut octets = Vec::with_capacity(RRSIG_HEAD_LEN + apex.as_wire().len() + records.len());
        octets.extend(rtype.0.to_be_bytes());
        octets.extend([public.algorithm().number(), labels(owner)]);
        octets.extend(ttl.to_be_bytes());
        octets.extend([0; 8]);
        octets.extend(public.tag().to_be_bytes());
        octets.extend(apex.as_wire());
        let head_len = octets.len();
        octets.extend(records);
        Self { key: &active.key, octets, head_len }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut context = Context::new(&SHA256);
        context.update(&self.octets);
        // Several keys may have one key tag.
        context.update(self.key.public().dnskey());
        let digest = context.finish();
        Fingerprint(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    fn sign(mut self, lifetime: &Lifetime, fingerprint: &Fingerprint) -> Option<Box<[u8]>> {
        let expiration = lifetime.expiration(fingerprint) as u32;
        let inception = lifetime.now.saturating_sub(CLOCK_SKEW_SECS) as u32;
        self.octets[8..12].copy_from_slice(&expiration.to_be_bytes());
        self.octets[12..16].copy_from_slice(&inception.to_be_bytes());
        let signature = self.key.sign(&self.octets)?;
        self.octets.truncate(self.head_len);
        self.octets.extend(signature);
        Some(self.octets.into())
    }
}

/// The records of an RRset as they are signed (RFC 4034, section 3.1.8.1).
fn records(owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[Vec<u8>]) -> Vec<u8> {
    let mut records = Vec::new();
    for rdata in rdatas {
        records.extend(owner.to_ascii_lowercase());
        records.extend(rtype.0.to_be_bytes());
        records.extend(CLASS_IN.to_be_bytes());
        records.extend(ttl.to_be_bytes());
        records.extend((rdata.len() as u16).to_be_bytes());
        records.extend(rdata);
    }
    records
}

/// Labels of `owner`, neither the root nor a leading `*` counted (RFC 4034, section 3.1.3).
fn labels(owner: &[u8]) -> u8 {
    let is_wildcard = owner.starts_with(b"\x01*");
    (label_count(owner) - usize::from(is_wildcard)) as u8
}

/// RRSIG data before the signer's name.
const RRSIG_HEAD_LEN: usize = 18;
/// Octets of a signature, of either algorithm.
const SIGNATURE_LEN: usize = 64;
/// How far the clocks of validators may be behind ours.
const CLOCK_SKEW_SECS: u64 = 3600;
/// Of the validity, what expirations are spread over.
const JITTER_DIVISOR: u64 = 16;
