//! Keys: a name, an algorithm, and a secret that is never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use aws_lc_rs::hmac;
use data_encoding::BASE64;

use crate::wire::Name;

/// What MACs are made with (RFC 8945, section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// hmac-sha256, which everybody has.
    Sha256,
    /// hmac-sha384.
    Sha384,
    /// hmac-sha512.
    Sha512,
}

/// A key that we share with somebody.
#[derive(Clone)]
pub struct Key {
    /// In lower case.
    name: Name,
    algorithm: Algorithm,
    secret: hmac::Key,
}

/// All keys, by name.
#[derive(Clone, Debug, Default)]
pub struct KeySet(BTreeMap<Box<[u8]>, Key>);

/// Why a text is no secret of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSecret {
    /// Not base64.
    #[error("not base64: expected one line, such as `openssl rand -base64 32` prints")]
    NotBase64,
    /// Too short to be safe (RFC 8945, section 8).
    #[error("only {len} octets long: expected at least {SECRET_LEN_MIN}, such as `openssl rand -base64 32` prints")]
    TooShort {
        /// Octets.
        len: usize,
    },
}

impl Algorithm {
    /// All, and their names in settings.
    pub const ALL: [(&'static str, Self); 3] =
        [("hmac-sha256", Self::Sha256), ("hmac-sha384", Self::Sha384), ("hmac-sha512", Self::Sha512)];

    /// The one by `name`, in lower case.
    pub fn of_name(name: &Name) -> Option<Self> {
        Self::ALL.into_iter().map(|(_, algorithm)| algorithm).find(|algorithm| algorithm.name() == name)
    }

    /// The name in messages.
    pub fn name(self) -> &'static Name {
        static NAMES: LazyLock<[Name; 3]> = LazyLock::new(|| {
            Algorithm::ALL.map(|(text, _)| Name::parse(text, &Name::root()).unwrap_or_else(|_| Name::root()))
        });
        &NAMES[self as usize]
    }

    /// Octets of a MAC.
    pub fn mac_len(self) -> usize {
        self.hmac().digest_algorithm().output_len()
    }

    /// Octets of MACs that may be sent, whole or shortened (RFC 8945, section 5.2.2.1).
    pub(super) fn mac_lens(self) -> RangeInclusive<usize> {
        (self.mac_len() / 2).max(10)..=self.mac_len()
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl Key {
    /// The key `name` with the secret in `text`: base64, on one line.
    pub fn parse(name: &Name, algorithm: Algorithm, text: &str) -> Result<Self, BadSecret> {
        let secret = BASE64.decode(text.trim().as_bytes()).map_err(|_| BadSecret::NotBase64)?;
        if secret.len() < SECRET_LEN_MIN {
            return Err(BadSecret::TooShort { len: secret.len() });
        }
        let secret = hmac::Key::new(algorithm.hmac(), &secret);
        Ok(Self { name: name.folded(), algorithm, secret })
    }

    /// The name, in lower case.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn context(&self) -> hmac::Context {
        hmac::Context::with_key(&self.secret)
    }
}

impl fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.name, self.algorithm)
    }
}

impl KeySet {
    /// The key `name`, in lower case.
    pub fn find(&self, name: &Name) -> Option<&Key> {
        self.0.get(name.as_wire())
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<T: IntoIterator<Item = Key>>(keys: T) -> Self {
        Self(keys.into_iter().map(|key| (key.name.as_wire().into(), key)).collect())
    }
}

/// 128 bits: shorter ones can be guessed (RFC 8945, section 8).
const SECRET_LEN_MIN: usize = 16;
