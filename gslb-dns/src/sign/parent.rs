//! The DS at the parent, as far as key files tell of it: an operator has confirmed it, it is asked for, or it is gone.
//!
//! Files cannot prove what the parent gives, nor that a node has begun to sign; they hold what operators have said. The first
//! DS may come once no cache has unsigned records, counted from the time in the files from which on the first key signs:
//! `keys start` moves that where nodes have begun later.

use super::keyset::{all_in_use, awaiting_ds};
use super::roll::{Timing, going};
use super::times::{KeyTimes, ZoneKey};

/// What is known of the DS of a zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParentDs {
    /// It cannot be there: nothing has asked for it, or it has been gone for so long that no cache has it.
    Absent,
    /// CDS and CDNSKEY ask for that of this key, or the parent may have had it before.
    Asked {
        /// Whose.
        tag: u16,
    },
    /// Nothing is said of it, as in files of BIND without times of CDS, but this key has signed for so long that the parent
    /// may have been given it by hand.
    Unsaid {
        /// Whose.
        tag: u16,
        /// Since when it signs, in seconds since 1970.
        since: u64,
    },
    /// An operator has seen it.
    Confirmed {
        /// Whose.
        tag: u16,
        /// When, in seconds since 1970.
        since: u64,
    },
    /// An operator has seen that it is gone, but caches may have it until then.
    Cached {
        /// From when on they have not, in seconds since 1970.
        until: u64,
    },
}

/// Why the word of an operator on the DS or the begin of signing is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSaid {
    /// There is no key in use.
    #[error("no key is in use")]
    NoKey,
    /// The parent has the DS of this key: signing began long ago.
    #[error("the DS of key {0} is at the parent, by what was confirmed: the zone has been signed for long")]
    Confirmed(u16),
    /// A roll-over is under way, whose times say more than that.
    #[error("a roll-over to key {0} is under way: see `gslb-dns keys list`")]
    UnderWay(u16),
}

/// What `keys` tell of the DS at the parent, whose TTL there is `parent_ds_ttl`.
pub fn parent_ds(keys: &[ZoneKey], parent_ds_ttl: u32, now: u64) -> ParentDs {
    let entries = || keys.iter().filter(|key| key.role.is_entry_point());
    let confirmed = entries().filter(|key| key.has_ds(now)).max_by_key(|key| key.times.ds_publish);
    if let Some((key, since)) = confirmed.and_then(|key| Some((key, key.times.ds_publish?))) {
        return ParentDs::Confirmed { tag: key.tag(), since };
    }
    if let Some(key) = entries().find(|key| key.standing(now).is_synced) {
        return ParentDs::Asked { tag: key.tag() };
    }
    // A DS should wait for caches to forget unsigned records; most need no longer than it lives itself.
    let unsaid = |key: &ZoneKey| {
        let KeyTimes { activate, sync_publish, sync_delete, .. } = key.times;
        let is_used = key.standing(now).duty.is_some() && key.standing(now).is_published;
        let is_silent = sync_publish.or(sync_delete).is_none();
        activate.filter(|&since| is_used && is_silent && since + u64::from(parent_ds_ttl) <= now)
    };
    if let Some((key, since)) = entries().find_map(|key| Some((key, unsaid(key)?))) {
        return ParentDs::Unsaid { tag: key.tag(), since };
    }
    // Where an operator has said that it is gone, the files say until when.
    let cached = |key: &ZoneKey| {
        key.times.sync_delete.map(|gone| key.times.ds_cached_until.unwrap_or(gone + u64::from(parent_ds_ttl)))
    };
    match entries().filter_map(cached).max().filter(|&until| until > now) {
        Some(until) => ParentDs::Cached { until },
        None => ParentDs::Absent,
    }
}

/// Takes an operator's word that no server of the parent gives a DS any more: nothing asks for it from now on.
///
/// That ends a roll-over, since there is no DS left to change: the old keys go when no cache has theirs and all have the new
/// ones. Gives new times by the key's place in the list, those of old keys first.
pub fn withdraw(keys: &[ZoneKey], timing: &Timing, now: u64) -> Result<Vec<(usize, KeyTimes)>, NotSaid> {
    let in_use = all_in_use(keys, now).map(|at| &keys[at]).filter(|key| key.role.is_entry_point());
    let newest =
        awaiting_ds(keys).or_else(|| in_use.clone().max_by_key(|key| key.times.created)).ok_or(NotSaid::NoKey)?;
    let until = now + u64::from(timing.parent_ds_ttl);
    let mut changed = match in_use.count() {
        0 | 1 => Vec::new(),
        _ => going(keys, newest, timing, until.max(newest.times.sync_publish.unwrap_or_default())),
    };
    let with_ds = keys.iter().enumerate().filter(|(_, key)| key.role.is_entry_point() && !key.is_over(now));
    let (new, old): (Vec<_>, Vec<_>) = with_ds.partition(|(_, key)| std::ptr::eq(*key, newest));
    for (at, key) in old.into_iter().chain(new) {
        let known = changed.iter().position(|(changed, _)| *changed == at).map(|known| changed.remove(known).1);
        changed.push((at, without_ds(known.unwrap_or(key.times), until, now)));
    }
    Ok(changed)
}

/// The times of a key whose DS is gone from the parent, and from caches at `until`.
fn without_ds(times: KeyTimes, until: u64, now: u64) -> KeyTimes {
    // A key without times was in use from the beginning, and stays so.
    let begun = |time: Option<u64>| time.or(times.are_unknown().then_some(0));
    KeyTimes {
        publish: begun(times.publish),
        activate: begun(times.activate),
        // One that would have come later comes no more.
        sync_publish: times.sync_publish.filter(|&at| at <= now),
        sync_delete: Some(now),
        ds_publish: None,
        ds_cached_until: Some(until),
        ..times
    }
}

/// Takes an operator's word that all nodes sign from now on, and none did before: the DS waits for as long as caches may have
/// unsigned records.
///
/// Gives new times by the key's place in the list.
pub fn start(keys: &[ZoneKey], timing: &Timing, now: u64) -> Result<Vec<(usize, KeyTimes)>, NotSaid> {
    if let ParentDs::Confirmed { tag, .. } = parent_ds(keys, timing.parent_ds_ttl, now) {
        return Err(NotSaid::Confirmed(tag));
    }
    let of: Vec<usize> = all_in_use(keys, now).collect();
    let mut entries = of.iter().map(|&at| &keys[at]).filter(|key| key.role.is_entry_point());
    match (entries.next(), entries.next()) {
        (None, _) => Err(NotSaid::NoKey),
        (_, Some(key)) => Err(NotSaid::UnderWay(key.tag())),
        // Of an algorithm whose signatures caches do not have yet.
        (Some(key), None) if key.times.publish > Some(now) => Err(NotSaid::UnderWay(key.tag())),
        (Some(_), None) => Ok(of.into_iter().map(|at| (at, first(&keys[at], timing, now))).collect()),
    }
}

fn first(key: &ZoneKey, timing: &Timing, now: u64) -> KeyTimes {
    KeyTimes { created: key.times.created, ..KeyTimes::first(key.role, timing, now) }
}

/// From when on the first key of a zone signs by its files, where its DS is not confirmed yet.
pub fn first_signs_from(keys: &[ZoneKey], now: u64) -> Option<u64> {
    let key = awaiting_ds(keys)?;
    let is_first = all_in_use(keys, now).filter(|&at| keys[at].role.is_entry_point()).count() == 1;
    key.times.activate.filter(|_| is_first)
}

impl ZoneKey {
    /// Whether an operator has seen its DS at the parent, and it may be there.
    pub fn has_ds(&self, now: u64) -> bool {
        self.times.ds_publish.is_some() && !self.is_over(now)
    }

    fn is_over(&self, now: u64) -> bool {
        self.times.delete.is_some_and(|at| at <= now)
    }
}
