//! Keys: what a cookie calls a server by.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24Of128};

/// A server's name in cookies: 1 to 32 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key(Box<str>);

/// Not a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a key: expected 1 to {} letters, digits, \"-\", \"_\" or \".\"", Key::LEN_MAX)]
pub struct NoKey;

impl Key {
    /// The longest key, in octets.
    pub const LEN_MAX: usize = 32;

    /// Reads a key that an operator gave.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        if Self::is_key(text.as_bytes()) { Ok(Self(text.into())) } else { Err(NoKey) }
    }

    /// The key of `server` in `service`: twelve characters that stay the same for as long as names and secret do.
    ///
    /// It says nothing of an address. Who knows the secret, or that there is none, may find names by trying them.
    pub fn derive(secret: &Secret, service: &str, server: &str) -> Self {
        let mut hasher = SipHasher24::new_with_key(&secret.0);
        // No name holds a slash, so that no two pairs are the same text.
        for part in [service, "/", server] {
            hasher.write(part.as_bytes());
        }
        let hash = hasher.finish();
        let digit = |at: u32| char::from(DIGITS[(hash >> (5 * at)) as usize % DIGITS.len()]);
        Self((0..DERIVED_LEN).map(digit).collect::<String>().into())
    }

    /// Whether `octets` are a key.
    pub fn is_key(octets: &[u8]) -> bool {
        let is_allowed = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.".contains(octet);
        (1..=Self::LEN_MAX).contains(&octets.len()) && octets.iter().all(is_allowed)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Base 32 in lower case, without the letters that look like digits (as in Crockford's).
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Sixty bits: a thousand servers have two of one key once in 10^12 times, and then settings are refused.
const DERIVED_LEN: u32 = 12;

/// What keys are derived with; the same in all proxies whose clients may come to another.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// For operators who gave none: known to all.
    pub const PUBLIC: Self = Self(*b"gslb sticky keys");

    /// That of a text of any length.
    pub fn from_text(text: &str) -> Self {
        let mut hasher = SipHasher24Of128::new_with_key(&Self::PUBLIC.0);
        hasher.write(text.as_bytes());
        Self(hasher.finish128().as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The keys of a service's servers, by index.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keys {
    by_server: Box<[Key]>,
    /// Indices, in the order of their keys.
    sorted: Box<[usize]>,
}

/// Two servers have one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("servers {one} and {other} have the same key")]
pub struct SameKey {
    /// Index of the one.
    pub one: usize,
    /// Index of the other.
    pub other: usize,
}

impl Keys {
    /// Fails when two servers have one key.
    pub fn from_keys(by_server: Vec<Key>) -> Result<Self, SameKey> {
        let mut sorted: Vec<usize> = (0..by_server.len()).collect();
        sorted.sort_by(|one, other| by_server[*one].cmp(&by_server[*other]));
        match sorted.windows(2).find(|pair| by_server[pair[0]] == by_server[pair[1]]) {
            Some(pair) => Err(SameKey { one: pair[0], other: pair[1] }),
            None => Ok(Self { by_server: by_server.into(), sorted: sorted.into() }),
        }
    }

    /// The server that `key` names.
    pub fn server(&self, key: &[u8]) -> Option<usize> {
        let found = self.sorted.binary_search_by(|server| self.by_server[*server].0.as_bytes().cmp(key));
        Some(self.sorted[found.ok()?])
    }

    /// The key of `server`; `None` when there is no such server.
    pub fn of(&self, server: usize) -> Option<&Key> {
        self.by_server.get(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> Result<Keys, SameKey> {
        Keys::from_keys(texts.iter().map(|text| Key::parse(text).expect("a key")).collect())
    }

    #[test]
    fn a_derived_key_is_stable_and_differs_by_service_server_and_secret() {
        let of = |service, server| Key::derive(&Secret::PUBLIC, service, server);
        let key = of("www.example.com", "app-1");
        assert_eq!(key.as_str(), "bacz0yet24ke");
        assert!(Key::is_key(key.as_str().as_bytes()));
        assert_ne!(key, of("www.example.com", "app-2"));
        assert_ne!(key, of("api.example.com", "app-1"));
        assert_ne!(key, Key::derive(&Secret::from_text("s"), "www.example.com", "app-1"));
    }

    #[test]
    fn each_key_names_its_server() {
        let keys = keys(&["b", "c", "a"]).expect("no two alike");
        assert_eq!(
            ["a", "b", "c", "d", ""].map(|key| keys.server(key.as_bytes())),
            [Some(2), Some(0), Some(1), None, None]
        );
        assert_eq!(keys.of(1).map(Key::as_str), Some("c"));
        assert_eq!(keys.of(3), None);
    }

    #[test]
    fn one_key_for_two_servers_is_refused() {
        assert_eq!(keys(&["a", "b", "a"]), Err(SameKey { one: 0, other: 2 }));
    }

    #[test]
    fn what_would_break_a_cookie_is_no_key() {
        for text in ["", "a~b", "a|b", "a;b", "a b", "a=b", "\"a\"", "é", &"x".repeat(33)] {
            assert_eq!(Key::parse(text), Err(NoKey), "{text}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::PUBLIC), "Secret(…)");
    }
}
