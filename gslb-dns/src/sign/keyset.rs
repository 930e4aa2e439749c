//! All keys of a zone at one moment: the records at its apex, who signs, and what comes next.

use super::key::{Algorithm, Role, SigningKey};
use super::signer::{ActiveKey, Duty, Lifetime, Signer};
use super::times::{Change, KeyState, ZoneKey};
use crate::wire::Name;

/// The records that keys put at the apex of their zone, sorted; a set may be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyRecords {
    /// DNSKEY data.
    pub dnskey: Vec<Box<[u8]>>,
    /// CDS data (RFC 7344).
    pub cds: Vec<Box<[u8]>>,
    /// CDNSKEY data.
    pub cdnskey: Vec<Box<[u8]>>,
}

/// What CDS and CDNSKEY ask of the parent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sync {
    /// The DS records of the keys whose time has come (RFC 7344).
    #[default]
    Publish,
    /// Nothing: there are no such records.
    Absent,
    /// To delete all DS records (RFC 8078, section 4), so that the zone may be served unsigned.
    Delete,
}

/// Why keys cannot sign a zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// There is none at all.
    #[error("there is no key")]
    Absent,
    /// None that may sign DNSKEY is both published and active.
    #[error("no CSK or KSK is published and active")]
    NoEntryPoint,
    /// None signs the records.
    #[error("no CSK or ZSK is published and active")]
    NoZoneKey,
    /// One algorithm signs DNSKEY and another the records, which validators refuse (RFC 4035, section 2.2).
    #[error("keys of algorithm {} do not sign both DNSKEY and the other records", .0.as_str())]
    Split(Algorithm),
}

/// Keys that cannot sign a zone as they are; so they go on as they were.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// The moment as of which they go on, in seconds since 1970: the start of the last time in which they could sign.
    pub as_of: u64,
    /// Why they cannot sign as they are.
    pub why: Unusable,
}

/// What comes next for the keys of a zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Nothing, until an operator begins a roll-over.
    Nothing,
    /// At `at`, in seconds since 1970, by itself.
    Change {
        /// When.
        at: u64,
        /// Whose.
        tag: u16,
        /// What.
        change: Change,
    },
    /// The DS of this key must come to the parent, and an operator must confirm that it has; nothing goes on before.
    AwaitDs {
        /// Whose.
        tag: u16,
    },
    /// No DS is asked for: the zone may become unsigned, or an operator asks for one again.
    Withdrawn {
        /// Until when caches may have the DS of before, in seconds since 1970.
        until: u64,
    },
}

impl KeyRecords {
    /// What `keys` of the zone `apex` have there at `now`.
    pub fn new(apex: &Name, keys: &[ZoneKey], sync: Sync, now: u64) -> Self {
        let mut records = Self::default();
        for key in keys {
            let (standing, public) = (key.standing(now), key.key.public());
            if standing.is_published {
                records.dnskey.push(public.dnskey().into());
            }
            if standing.is_synced && sync == Sync::Publish {
                records.cds.push(public.ds(apex));
                records.cdnskey.push(public.dnskey().into());
            }
        }
        if sync == Sync::Delete {
            records.cds = vec![CDS_DELETE.into()];
            records.cdnskey = vec![CDNSKEY_DELETE.into()];
        }
        for set in [&mut records.dnskey, &mut records.cds, &mut records.cdnskey] {
            set.sort_unstable();
            set.dedup();
        }
        records
    }
}

/// A signer of the zone `apex` with those of `keys` that sign at `as_of`, which is `lifetime.now` but where they are
/// [`Held`].
pub fn signer(apex: &Name, keys: &[ZoneKey], as_of: u64, lifetime: Lifetime) -> Result<Signer, Unusable> {
    active(keys, as_of).map(|active| Signer::new(apex, active, lifetime))
}

/// How `keys` go on where they cannot sign at `now`; `None`: they can. Follows from their times alone, so that nodes with
/// the same files go on alike. Fails where they never can.
pub fn hold(keys: &[ZoneKey], now: u64) -> Result<Option<Held>, Unusable> {
    let Err(why) = active(keys, now) else { return Ok(None) };
    let (mut before, mut later): (Vec<u64>, Vec<u64>) = changes(keys, 0).chain([0]).partition(|&at| at <= now);
    before.sort_unstable_by(|one, other| other.cmp(one));
    // A clock that was set back may be before all of them.
    later.sort_unstable();
    let as_of = before.into_iter().chain(later).find(|&at| active(keys, at).is_ok()).ok_or(why)?;
    Ok(Some(Held { as_of, why }))
}

/// From when on after `now` keys that can sign then cannot any more, by their times, in seconds since 1970, and why.
pub fn unusable_from(keys: &[ZoneKey], now: u64) -> Option<(u64, Unusable)> {
    let mut later: Vec<u64> = changes(keys, now).collect();
    later.sort_unstable();
    later.into_iter().find_map(|at| Some((at, active(keys, at).err()?)))
}

/// Those of `keys` that sign at `now`.
fn active(keys: &[ZoneKey], now: u64) -> Result<Vec<ActiveKey>, Unusable> {
    if keys.is_empty() {
        return Err(Unusable::Absent);
    }
    let standings = keys.iter().map(|key| (key, key.standing(now)));
    let active = standings.filter_map(|(key, standing)| {
        Some((ActiveKey { key: key.key.clone(), duty: standing.duty? }, standing.is_published))
    });
    let (active, is_published): (Vec<_>, Vec<_>) = active.unzip();
    let has = |without: Duty| {
        active.iter().zip(&is_published).any(|(active, &is_published)| is_published && active.duty != without)
    };
    match (has(Duty::Rest), has(Duty::Keys)) {
        (false, _) => return Err(Unusable::NoEntryPoint),
        (_, false) => return Err(Unusable::NoZoneKey),
        (true, true) => {}
    }
    let algorithm_of = |key: &SigningKey| key.public().algorithm();
    let signs = |algorithm, without: Duty| {
        let of_it = active.iter().zip(&is_published).filter(|(active, _)| algorithm_of(&active.key) == algorithm);
        of_it.into_iter().any(|(active, &is_published)| is_published && active.duty != without)
    };
    let published = keys.iter().filter(|key| key.standing(now).is_published).map(|key| algorithm_of(&key.key));
    match published.clone().find(|&of| !(signs(of, Duty::Rest) && signs(of, Duty::Keys))) {
        Some(split) => Err(Unusable::Split(split)),
        None => Ok(active),
    }
}

/// When `keys` change what they publish or sign the next time after `now`.
pub fn next_change(keys: &[ZoneKey], now: u64) -> Option<u64> {
    changes(keys, now).min()
}

/// When `keys` change after `now`; unsorted.
fn changes(keys: &[ZoneKey], now: u64) -> impl Iterator<Item = u64> {
    keys.iter().flat_map(move |key| key.times.after(now)).map(|(at, _)| at)
}

/// What comes next after `now`: an operator's part first, where it is due.
pub fn next(keys: &[ZoneKey], now: u64) -> Next {
    if let Some(key) = awaiting_ds(keys).filter(|key| key.standing(now).is_synced) {
        return Next::AwaitDs { tag: key.tag() };
    }
    if let Some(until) = withdrawn(keys, now) {
        return Next::Withdrawn { until };
    }
    upcoming(keys, now).first().map_or(Next::Nothing, |&(at, tag, change)| Next::Change { at, tag, change })
}

/// All that happens by itself after `now`: when, to the key of which tag, and what; in order.
pub fn upcoming(keys: &[ZoneKey], now: u64) -> Vec<(u64, u16, Change)> {
    let changes = keys.iter().flat_map(|key| key.times.after(now).map(|(at, change)| (at, key.tag(), change)));
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|&(at, _, change)| (at, change));
    changes
}

/// The key whose DS an operator has yet to confirm, though there are times that say when it may be at the parent.
pub(super) fn awaiting_ds(keys: &[ZoneKey]) -> Option<&ZoneKey> {
    let awaits = |key: &&ZoneKey| {
        let times = &key.times;
        let is_leaving = times.delete.is_some() || times.inactive.is_some() || times.sync_delete.is_some();
        key.role.is_entry_point() && times.sync_publish.is_some() && times.ds_publish.is_none() && !is_leaving
    };
    keys.iter().filter(awaits).max_by_key(|key| key.times.created)
}

/// Until when caches may have the DS of a zone that an operator saw to be gone from the parent, where no key in use asks for
/// one again.
pub fn withdrawn(keys: &[ZoneKey], now: u64) -> Option<u64> {
    let entries = all_in_use(keys, now).map(|at| &keys[at]).filter(|key| key.role.is_entry_point());
    let until = entries.map(|key| key.times.sync_delete.and(key.times.ds_cached_until));
    until.reduce(|one, other| Some(one?.max(other?)))?
}

/// The keys of `role` that are in use and not on their way out.
pub(super) fn in_use(keys: &[ZoneKey], role: Role, now: u64) -> impl Iterator<Item = usize> {
    all_in_use(keys, now).filter(move |&at| keys[at].role == role)
}

/// The keys that are in use and not on their way out.
pub(super) fn all_in_use(keys: &[ZoneKey], now: u64) -> impl Iterator<Item = usize> + Clone {
    let is_in_use = move |key: &ZoneKey| {
        let is_leaving = key.times.inactive.is_some() || key.times.delete.is_some();
        !is_leaving && key.standing(now).state < KeyState::Retired
    };
    keys.iter().enumerate().filter(move |(_, key)| is_in_use(key)).map(|(at, _)| at)
}

/// `0 0 0 00` and `0 3 0 AA==` (RFC 8078, section 4).
const CDS_DELETE: [u8; 5] = [0; 5];
const CDNSKEY_DELETE: [u8; 5] = [0, 0, 3, 0, 0];
