//! Keys, and the records that are made of them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use data_encoding::HEXUPPER;

use crate::wire::Name;

/// How a key signs (RFC 8624, section 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256, number 13 (RFC 6605): the default.
    EcdsaP256Sha256,
    /// Ed25519, number 15 (RFC 8080).
    Ed25519,
}

/// What a key is for (RFC 6781, section 3.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Signs everything, and the parent's DS names it.
    Csk,
    /// Signs DNSKEY, CDS and CDNSKEY, and the parent's DS names it.
    Ksk,
    /// Signs everything else.
    Zsk,
}

/// The public half of a key, as DNSKEY records have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    /// DNSKEY data: flags, protocol, algorithm, key.
    dnskey: Box<[u8]>,
    algorithm: Algorithm,
}

/// A key that can sign. What is secret in it never shows.
pub struct SigningKey {
    public: PublicKey,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why octets are no key, or not one that can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadKey {
    /// Neither 13 nor 15.
    #[error("algorithm {0} is not supported: expected 13 (ECDSAP256SHA256) or 15 (ED25519)")]
    Algorithm(u8),
    /// DNSKEY data of another length, flags or protocol than a zone key of its algorithm has.
    #[error("this is no DNSKEY of a zone: expected flags 256 or 257, protocol 3 and a key of its algorithm's length")]
    Dnskey,
    /// Not a private key, or one that does not belong to the public one.
    #[error("the private key is none of algorithm {algorithm}, or does not belong to the public key")]
    Private {
        /// The algorithm it should be of.
        algorithm: u8,
    },
}

impl Algorithm {
    /// Its number in the registry.
    pub fn number(self) -> u8 {
        match self {
            Self::EcdsaP256Sha256 => 13,
            Self::Ed25519 => 15,
        }
    }

    /// Its mnemonic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ECDSAP256SHA256",
            Self::Ed25519 => "ED25519",
        }
    }

    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::EcdsaP256Sha256, Self::Ed25519].into_iter().find(|algorithm| algorithm.number() == number)
    }

    /// Octets of a public key.
    fn public_len(self) -> usize {
        match self {
            Self::EcdsaP256Sha256 => 64,
            Self::Ed25519 => 32,
        }
    }
}

impl Role {
    /// As commands and status have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csk => "csk",
            Self::Ksk => "ksk",
            Self::Zsk => "zsk",
        }
    }

    /// Whether the parent's DS names such keys.
    pub fn is_entry_point(self) -> bool {
        self != Self::Zsk
    }

    /// The flags of its DNSKEY (RFC 4034, section 2.1.1).
    pub(super) fn flags(self) -> u16 {
        if self.is_entry_point() { 257 } else { 256 }
    }
}

impl PublicKey {
    /// Takes DNSKEY data (RFC 4034, section 2). Revoked keys are refused.
    pub fn from_dnskey(dnskey: &[u8]) -> Result<Self, BadKey> {
        let [high, low, protocol, number, key @ ..] = dnskey else { return Err(BadKey::Dnskey) };
        let algorithm = Algorithm::from_number(*number).ok_or(BadKey::Algorithm(*number))?;
        let is_zone_key = matches!(u16::from_be_bytes([*high, *low]), 256 | 257) && *protocol == 3;
        let is_sound = is_zone_key && key.len() == algorithm.public_len();
        if is_sound { Ok(Self { dnskey: dnskey.into(), algorithm }) } else { Err(BadKey::Dnskey) }
    }

    /// DNSKEY data.
    pub fn dnskey(&self) -> &[u8] {
        &self.dnskey
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether its flags say that the parent's DS names it.
    pub fn is_entry_point(&self) -> bool {
        self.dnskey[1] & 1 == 1
    }

    /// Its key tag (RFC 4034, appendix B): many keys have the same, so it names none for sure.
    pub fn tag(&self) -> u16 {
        let sum: u32 = (0..).zip(&*self.dnskey).map(|(at, &octet)| u32::from(octet) << (8 * (1 - at % 2))).sum();
        (sum + (sum >> 16)) as u16
    }

    /// DS and CDS data with a SHA-256 digest (RFC 4509) for the zone `apex`.
    pub fn ds(&self, apex: &Name) -> Box<[u8]> {
        let signed = [apex.folded().as_wire(), &self.dnskey].concat();
        let head = [&self.tag().to_be_bytes()[..], &[self.algorithm.number(), DIGEST_SHA256]].concat();
        [&head, digest(&SHA256, &signed).as_ref()].concat().into()
    }

    /// The DS record as it stands in the parent's master file, after the owner name.
    pub fn ds_text(&self, apex: &Name) -> String {
        let ds = self.ds(apex);
        format!("{} {} {DIGEST_SHA256} {}", self.tag(), self.algorithm.number(), HEXUPPER.encode(&ds[4..]))
    }

    /// The key alone, without what a DNSKEY says before it.
    pub(super) fn key(&self) -> &[u8] {
        &self.dnskey[DNSKEY_HEAD_LEN..]
    }
}

impl SigningKey {
    /// A new one from the system's chance. Fails when the system gives none.
    pub fn generate(algorithm: Algorithm, role: Role) -> Result<Self, BadKey> {
        let refused = || BadKey::Private { algorithm: algorithm.number() };
        let pair = match algorithm {
            Algorithm::EcdsaP256Sha256 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| refused())?)
            }
            Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| refused())?),
        };
        Ok(Self::new(pair, algorithm, role))
    }

    /// Takes the private half as BIND's files have it: the scalar of ECDSA, the seed of Ed25519, 32 octets each.
    pub fn from_secret(public: PublicKey, secret: &[u8]) -> Result<Self, BadKey> {
        let refused = || BadKey::Private { algorithm: public.algorithm.number() };
        let pair = match public.algorithm {
            Algorithm::EcdsaP256Sha256 => {
                let point = [&[POINT_UNCOMPRESSED], public.key()].concat();
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, secret, &point);
                Pair::Ecdsa(pair.map_err(|_| refused())?)
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(secret, public.key());
                Pair::Ed25519(pair.map_err(|_| refused())?)
            }
        };
        Ok(Self { public, pair })
    }

    /// Takes the private half as PKCS#8 has it (RFC 5958): of either algorithm, with or without the public half.
    pub fn from_pkcs8(pkcs8: &[u8], role: Role) -> Result<Self, BadKey> {
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
        if let Ok(pair) = ecdsa {
            return Ok(Self::new(Pair::Ecdsa(pair), Algorithm::EcdsaP256Sha256, role));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| BadKey::Private { algorithm: 13 })?;
        Ok(Self::new(Pair::Ed25519(pair), Algorithm::Ed25519, role))
    }

    fn new(pair: Pair, algorithm: Algorithm, role: Role) -> Self {
        let key = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref().get(1..).unwrap_or_default(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        };
        let [high, low] = role.flags().to_be_bytes();
        let dnskey = [&[high, low, PROTOCOL, algorithm.number()], key].concat().into();
        Self { public: PublicKey { dnskey, algorithm }, pair }
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private half as [`SigningKey::from_secret`] takes it: for key files and nothing else.
    pub fn secret(&self) -> Option<Vec<u8>> {
        match &self.pair {
            Pair::Ecdsa(pair) => Some(pair.private_key().as_be_bytes().ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.seed().ok()?.as_be_bytes().ok()?.as_ref().to_vec()),
        }
    }

    /// The signature of `message` as RRSIG has it (RFC 6605, section 4; RFC 8080, section 4); `None` when the library
    /// fails, as for want of memory.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message),
            Pair::Ed25519(pair) => pair.try_sign(message),
        };
        signature.ok().map(|signature| signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.public.algorithm.as_str(), self.public.tag())
    }
}

/// Octets of a DNSKEY before the key.
const DNSKEY_HEAD_LEN: usize = 4;
/// The protocol of every DNSKEY (RFC 4034, section 2.1.2).
const PROTOCOL: u8 = 3;
const DIGEST_SHA256: u8 = 2;
/// What begins a point whose two coordinates follow (SEC 1, section 2.3.3).
const POINT_UNCOMPRESSED: u8 = 4;
