//! Signatures that were made before, by what they sign.

use std::fmt;

/// Names what was signed and with which key: owner, type, TTL, data and key, but not when.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub(super) [u8; Fingerprint::LEN]);

/// RRSIG data by [`Fingerprint`]: what the next build of a zone need not sign again.
#[derive(Clone, Default)]
pub struct Signatures {
    by_fingerprint: hashbrown::HashMap<Fingerprint, Box<[u8]>, foldhash::fast::RandomState>,
}

impl Fingerprint {
    const LEN: usize = 16;

    /// A number below `shards`, evenly spread: which of several tables it belongs to.
    pub fn shard(&self, shards: usize) -> usize {
        usize::from(self.0[0]) % shards.max(1)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Signatures {
    /// The RRSIG data for it, however old.
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<&[u8]> {
        self.by_fingerprint.get(fingerprint).map(|rrsig| &**rrsig)
    }

    /// Keeps `rrsig`, in place of what was there.
    pub fn insert(&mut self, fingerprint: Fingerprint, rrsig: &[u8]) {
        self.by_fingerprint.insert(fingerprint, rrsig.into());
    }

    /// Takes in all of `other`.
    pub fn merge(&mut self, other: Self) {
        self.by_fingerprint.extend(other.by_fingerprint);
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.by_fingerprint.values().map(|rrsig| &**rrsig)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_fingerprint.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_fingerprint.is_empty()
    }

    /// How many are in `other` too, to the octet.
    #[cfg(test)]
    pub(crate) fn same(&self, other: &Self) -> usize {
        self.by_fingerprint.iter().filter(|(fingerprint, rrsig)| other.find(fingerprint) == Some(&***rrsig)).count()
    }

    /// When the first of them expires, in seconds since 1970; `now` tells which 2^32 seconds are meant. `None`: there is
    /// none.
    pub fn earliest_expiration(&self, now: u64) -> Option<u64> {
        self.by_fingerprint.values().map(|rrsig| expiration(rrsig, now)).min()
    }
}

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signatures({})", self.len())
    }
}

/// When `rrsig` expires: serial number arithmetic around `now` (RFC 4034, section 3.1.5).
pub(super) fn expiration(rrsig: &[u8], now: u64) -> u64 {
    time_at(rrsig, 8, now)
}

/// From when on it holds.
pub(super) fn inception(rrsig: &[u8], now: u64) -> u64 {
    time_at(rrsig, 12, now)
}

/// The algorithm and the tag of the key that made it (RFC 4034, section 3.1).
pub(super) fn key_of(rrsig: &[u8]) -> Option<(u8, u16)> {
    Some((*rrsig.get(2)?, u16::from_be_bytes(rrsig.get(16..18)?.try_into().ok()?)))
}

fn time_at(rrsig: &[u8], at: usize, now: u64) -> u64 {
    let written = rrsig.get(at..at + 4).and_then(|octets| octets.try_into().ok()).map_or(0, u32::from_be_bytes);
    let ahead = written.wrapping_sub(now as u32) as i32;
    now.saturating_add_signed(i64::from(ahead))
}
