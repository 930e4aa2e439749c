//! What the times of a key make of it at one moment.

use std::sync::Arc;

use super::key::{Role, SigningKey};
use super::signer::Duty;

/// When a key does what, in seconds since 1970: the timing metadata of BIND's key files, under BIND's names.
///
/// A time that is missing never comes; but a key without any is in use from the beginning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyTimes {
    /// When it was made.
    pub created: Option<u64>,
    /// From when on its DNSKEY is published.
    pub publish: Option<u64>,
    /// From when on it signs.
    pub activate: Option<u64>,
    /// From when on it signs no more.
    pub inactive: Option<u64>,
    /// From when on its DNSKEY is published no more.
    pub delete: Option<u64>,
    /// From when on CDS and CDNSKEY ask the parent for its DS, and the DS may be there.
    pub sync_publish: Option<u64>,
    /// From when on they do not any more.
    pub sync_delete: Option<u64>,
    /// When an operator saw its DS, and no other, on all servers of the parent.
    pub ds_publish: Option<u64>,
    /// Until when caches may have a DS that an operator saw to be gone from the parent. BIND knows no such time.
    pub ds_cached_until: Option<u64>,
}

/// A key of a zone: what it is for, and when.
#[derive(Clone, Debug)]
pub struct ZoneKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// What it is for.
    pub role: Role,
    /// When.
    pub times: KeyTimes,
}

/// What a key does at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// In one word.
    pub state: KeyState,
    /// Whether its DNSKEY is in the zone.
    pub is_published: bool,
    /// What it signs.
    pub duty: Option<Duty>,
    /// Whether the parent should have its DS: it is in CDS and CDNSKEY.
    pub is_synced: bool,
}

/// A key's way through its life, from first to last (RFC 7583, section 3.1).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum KeyState {
    /// Neither published nor signing yet.
    Waiting,
    /// Published and not signing yet, or signing and not published yet.
    Introduced,
    /// Published and signing.
    Active,
    /// No more signing, or no more published.
    Retired,
    /// Out of use: its files may be deleted.
    Removed,
}

impl KeyTimes {
    /// Whether it is in use from the beginning.
    pub(super) fn are_unknown(&self) -> bool {
        *self == Self { ds_publish: self.ds_publish, sync_publish: self.sync_publish, ..Self::default() }
    }

    /// All that are known and after `now`, with what happens then; unsorted.
    pub(super) fn after(&self, now: u64) -> impl Iterator<Item = (u64, Change)> {
        let times = [
            (self.publish, Change::Published),
            (self.activate, Change::Signs),
            (self.sync_publish, Change::Synced),
            (self.sync_delete, Change::NoMoreSynced),
            (self.inactive, Change::SignsNoMore),
            (self.delete, Change::NoMorePublished),
        ];
        times.into_iter().filter_map(move |(time, change)| Some((time.filter(|&time| time > now)?, change)))
    }
}

/// What happens to a key at one of its times; of several at once the first listed tells most.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// Its DNSKEY is published.
    Published,
    /// It signs.
    Signs,
    /// CDS and CDNSKEY ask for its DS.
    Synced,
    /// They do not any more.
    NoMoreSynced,
    /// It stops signing.
    SignsNoMore,
    /// Its DNSKEY goes.
    NoMorePublished,
}

impl Change {
    /// As commands and status have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "its DNSKEY is published",
            Self::Signs => "it begins to sign",
            Self::Synced => "CDS and CDNSKEY ask for its DS, which may be put at the parent from then on",
            Self::NoMoreSynced => "CDS and CDNSKEY ask no more for its DS",
            Self::SignsNoMore => "it stops signing",
            Self::NoMorePublished => "its DNSKEY is published no more",
        }
    }
}

impl KeyState {
    /// As commands and status have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Introduced => "introduced",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Removed => "removed",
        }
    }
}

impl ZoneKey {
    /// What it does at `now`.
    pub fn standing(&self, now: u64) -> Standing {
        let times = &self.times;
        let is_over = |time: Option<u64>| time.is_some_and(|time| time <= now);
        let has_begun = |time: Option<u64>| is_over(time) || times.are_unknown();
        let is_published = has_begun(times.publish) && !is_over(times.delete);
        let is_signing = has_begun(times.activate) && !is_over(times.inactive);
        let state = match (is_published, is_signing, is_over(times.delete) || is_over(times.inactive)) {
            (true, true, _) => KeyState::Active,
            (false, false, false) => KeyState::Waiting,
            (_, _, false) => KeyState::Introduced,
            (false, false, true) => KeyState::Removed,
            (_, _, true) => KeyState::Retired,
        };
        let duty = match (self.role, is_published) {
            (Role::Csk, true) => Some(Duty::All),
            (Role::Ksk, true) => Some(Duty::Keys),
            (Role::Ksk, false) => None,
            (Role::Csk, false) | (Role::Zsk, _) => Some(Duty::Rest),
        };
        let is_synced = self.role.is_entry_point()
            && is_published
            && (is_over(times.sync_publish) || times.are_unknown())
            && !is_over(times.sync_delete);
        Standing { state, is_published, duty: duty.filter(|_| is_signing), is_synced }
    }

    /// Its key tag.
    pub fn tag(&self) -> u16 {
        self.key.public().tag()
    }
}
