//! Roll-overs (RFC 6781, section 4; RFC 7583, section 3), planned as times in key files: all that happens later follows
//! from these times and the clock, so nodes that share the files go through it together.
//!
//! ```text
//! ZSK, pre-publication        KSK, double signature          CSK, double signature
//! roll      new published     roll   new published, signs    roll   new published, signs all
//! + p + k   new signs, old    + p + k       CDS: new, no     + p + max(k, z)   CDS: new, no
//!           stops                           longer old                         longer old
//! + p + z   old removed       confirm + d   old removed      confirm + d       old removed
//!
//! CSK of another algorithm (RFC 6781, section 4.1.4)
//! roll      new signs         + p + z       new published    + p + k           CDS: new, no longer old
//! confirm + d   old published no more      + p + k  old stops
//! ```
//! From a CSK to KSK and ZSK and back all keys of the one kind go to all of the other as a CSK does to another one; to another
//! algorithm, as a CSK does to one of another algorithm, where a KSK begins to sign when it is published.
//!
//! p: until all nodes and secondaries serve a change; k: TTL of DNSKEY; z: longest TTL in the zone; d: TTL of the DS at the
//! parent, counted from when an operator confirms that all servers of the parent give the new DS.

use super::key::{Algorithm, Role};
use super::keyset::{all_in_use, awaiting_ds, in_use};
use super::times::{KeyTimes, ZoneKey};

/// How long what was published before may be seen, in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// TTL of DNSKEY, CDS and CDNSKEY.
    pub dnskey_ttl: u32,
    /// The longest TTL in the zone.
    pub max_ttl: u32,
    /// From a change until every node and secondary serves it.
    pub propagation: u32,
    /// TTL of the DS records at the parent.
    pub parent_ds_ttl: u32,
}

/// What a roll-over does to the files of keys: first there are new ones, then the old ones get their times to go. Planned
/// again after only a part of it was done, it is the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The algorithm of new keys.
    pub algorithm: Algorithm,
    /// The keys to be made: what for, and their times.
    pub new: Vec<(Role, KeyTimes)>,
    /// New times of keys that there are, by their place in the list.
    pub changed: Vec<(usize, KeyTimes)>,
}

/// Which keys a zone has (RFC 6781, section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// One that signs everything.
    Csk,
    /// One that signs the keys, and one that signs all else.
    KskAndZsk,
}

/// Why a roll-over cannot begin or go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// No key of the role is in use.
    #[error("no {} is in use: make one with `gslb-dns keys new`", .0.as_str())]
    NoKey(Role),
    /// The keys of this role roll already.
    #[error("a roll-over to key {0} is under way: see `gslb-dns keys list`")]
    UnderWay(u16),
    /// The zone has keys of this kind and algorithm.
    #[error("its keys are so already: roll each of them by --role")]
    NothingToChange(Scheme),
    /// The KSK or the ZSK alone cannot change the algorithm.
    #[error(
        "KSK and ZSK must be of one algorithm: roll both with --to ksk+zsk --algorithm {}, or to a CSK with --to csk",
        .0.number()
    )]
    OtherAlgorithm(Algorithm),
    /// The DS of the key that would be replaced was never confirmed.
    #[error("the DS of key {0} has not been confirmed yet")]
    Unconfirmed(u16),
    /// A crash left a roll-over with its new key and without its end.
    #[error("the roll-over to key {0} was begun and broken off: run the `gslb-dns keys roll` again that began it")]
    BrokenOff(u16),
    /// Signatures of an algorithm that was replaced still go out; with those of two more, some validators take none for good.
    #[error(
        "key {tag}, which was replaced, signs until {until} seconds since 1970, for caches that have its DNSKEY still"
    )]
    StillSigning {
        /// The key that leaves.
        tag: u16,
        /// When it stops.
        until: u64,
    },
    /// No DS is awaited.
    #[error("no key waits for its DS at the parent: see `gslb-dns keys list`")]
    NothingToConfirm,
    /// The DS may not be at the parent yet.
    #[error("the DS must not be at the parent before {from} seconds since 1970: until then caches lack the new key")]
    TooEarly {
        /// From when on it may.
        from: u64,
    },
}

impl Scheme {
    /// The keys of a zone that has them so, in the order in which they are made.
    fn roles(self) -> &'static [Role] {
        match self {
            Self::Csk => &[Role::Csk],
            Self::KskAndZsk => &[Role::Zsk, Role::Ksk],
        }
    }

    /// That of keys with this role.
    fn of(role: Role) -> Self {
        if role == Role::Csk { Self::Csk } else { Self::KskAndZsk }
    }
}

impl Timing {
    /// Until everybody has the DNSKEY set of now.
    fn keys_known(&self, now: u64) -> u64 {
        now + u64::from(self.propagation) + u64::from(self.dnskey_ttl)
    }

    /// Until nobody has records of before, nor their signatures.
    fn records_known(&self, now: u64) -> u64 {
        now + u64::from(self.propagation) + u64::from(self.max_ttl)
    }
}

impl KeyTimes {
    /// Those of the first key of a zone: its DS may come to the parent once no cache has unsigned records.
    pub fn first(role: Role, timing: &Timing, now: u64) -> Self {
        let sync_publish = timing.keys_known(now).max(timing.records_known(now));
        Self {
            created: Some(now),
            publish: Some(now),
            activate: Some(now),
            sync_publish: role.is_entry_point().then_some(sync_publish),
            ..Self::default()
        }
    }
}

/// Begins to roll the keys of `role` over to a new one of `algorithm`, or goes on with what was broken off.
pub fn begin(keys: &[ZoneKey], role: Role, algorithm: Algorithm, timing: &Timing, now: u64) -> Result<Plan, Refused> {
    let old: Vec<usize> = in_use(keys, role, now).collect();
    let first = old.first().ok_or(Refused::NoKey(role))?;
    let algorithm_of = |at: usize| keys[at].key.public().algorithm();
    let is_strange = |at: usize| match Scheme::of(keys[at].role) == Scheme::of(role) {
        true => role != Role::Csk && algorithm_of(at) != algorithm_of(*first),
        false => true,
    };
    if all_in_use(keys, now).any(is_strange) {
        return Err(under_way(keys, all_in_use(keys, now)));
    }
    let newest = newest(keys, old.iter().copied());
    if let Some(new) = newest.filter(|_| old.len() > 1) {
        let left: Vec<usize> = old.iter().copied().filter(|&at| keys[at].is_left_by(new)).collect();
        match (role.is_entry_point(), left.is_empty()) {
            (_, false) => {
                let changed = leaving(keys, left, &new.times, timing, now);
                return Ok(Plan { algorithm: new.key.public().algorithm(), new: Vec::new(), changed });
            }
            (true, true) => return Err(Refused::UnderWay(new.tag())),
            (false, true) => {}
        }
    }
    // One that is not active yet.
    let is_later = |time: Option<u64>| time.is_some_and(|at| at > now);
    if let Some(key) = newest.filter(|key| is_later(key.times.activate) || is_later(key.times.publish)) {
        return Err(Refused::UnderWay(key.tag()));
    }
    let is_other = keys[*first].key.public().algorithm() != algorithm;
    if is_other && role != Role::Csk {
        return Err(Refused::OtherAlgorithm(algorithm));
    }
    refuse_unconfirmed(keys, role)?;
    refuse_still_signing(keys, now)?;
    let new = match (role, is_other) {
        (Role::Zsk, _) => {
            let created = KeyTimes { created: Some(now), publish: Some(now), ..KeyTimes::default() };
            KeyTimes { activate: Some(timing.keys_known(now)), ..created }
        }
        (Role::Ksk, _) => double_signature(now, timing.keys_known(now)),
        (Role::Csk, true) => of_other_algorithm(role, timing, now, timing.records_known(now)),
        (Role::Csk, false) => double_signature(now, timing.keys_known(now).max(timing.records_known(now))),
    };
    Ok(Plan { algorithm, changed: leaving(keys, old, &new, timing, now), new: vec![(role, new)] })
}

/// Begins to roll all keys over to those of `scheme` and `algorithm`, or goes on with what was broken off.
pub fn begin_all(
    keys: &[ZoneKey],
    scheme: Scheme,
    algorithm: Algorithm,
    timing: &Timing,
    now: u64,
) -> Result<Plan, Refused> {
    let is_new = |key: &ZoneKey| Scheme::of(key.role) == scheme && key.key.public().algorithm() == algorithm;
    let (made, old): (Vec<usize>, Vec<usize>) = all_in_use(keys, now).partition(|&at| is_new(&keys[at]));
    let Some(&first) = old.first() else {
        let role = scheme.roles()[0];
        return Err(if made.is_empty() { Refused::NoKey(role) } else { Refused::NothingToChange(scheme) });
    };
    if made.is_empty() {
        refuse_still_signing(keys, now)?;
    }
    if scheme == Scheme::Csk && keys[first].role == Role::Csk {
        return begin(keys, Role::Csk, algorithm, timing, now);
    }
    let kind = |at: usize| (Scheme::of(keys[at].role), keys[at].key.public().algorithm());
    if old.iter().any(|&at| kind(at) != kind(first)) {
        return Err(under_way(keys, old.into_iter()));
    }
    let place_of = |role| made.iter().copied().find(|&at| keys[at].role == role);
    let made = |role| place_of(role).map(|at| &keys[at]);
    let entry = scheme.roles().iter().find_map(|&role| made(role).filter(|_| role.is_entry_point()));
    // Nobody but the new entry point may be waiting for its DS.
    match (awaiting_ds(keys), entry) {
        (Some(key), None) => return Err(Refused::Unconfirmed(key.tag())),
        (Some(key), Some(entry)) if !std::ptr::eq(key, entry) => return Err(Refused::UnderWay(key.tag())),
        (None, Some(entry)) => return Err(Refused::UnderWay(entry.tag())),
        (Some(_) | None, _) => {}
    }
    let is_other = keys[first].key.public().algorithm() != algorithm;
    let publish = timing.records_known(now);
    let times = |role| match (is_other, role) {
        (true, _) => of_other_algorithm(role, timing, now, publish),
        (false, Role::Zsk) => KeyTimes { sync_publish: None, ..double_signature(now, 0) },
        (false, _) => double_signature(now, timing.keys_known(now).max(timing.records_known(now))),
    };
    let missing = scheme.roles().iter().filter(|&&role| made(role).is_none());
    let new: Vec<_> = missing.map(|&role| (role, times(role))).collect();
    let made_entry = new.iter().find(|(role, _)| role.is_entry_point()).map(|(_, times)| *times);
    let entry_times = made_entry.or_else(|| entry.map(|key| key.times)).unwrap_or_default();
    let left = old.into_iter().filter(|&at| keys[at].role.is_entry_point() && keys[at].times.sync_delete.is_none());
    let mut changed = leaving(keys, left.collect(), &entry_times, timing, now);
    // KSK and ZSK of an algorithm must be published at once, also where the one was made later.
    if let Some(at) = place_of(Role::Zsk).filter(|_| is_other) {
        let times = KeyTimes { publish: entry_times.publish, ..keys[at].times };
        if times != keys[at].times {
            changed.insert(0, (at, times));
        }
    }
    match (new.is_empty() && changed.is_empty(), entry) {
        (true, Some(entry)) => Err(Refused::UnderWay(entry.tag())),
        _ => Ok(Plan { algorithm, new, changed }),
    }
}

/// Of keys with different tasks or algorithms some are still to go.
fn under_way(keys: &[ZoneKey], of: impl Iterator<Item = usize>) -> Refused {
    newest(keys, of).map_or(Refused::NothingToConfirm, |key| Refused::UnderWay(key.tag()))
}

/// Before the parent has a DS of the old key there is nothing that would have to be replaced with care.
fn refuse_unconfirmed(keys: &[ZoneKey], role: Role) -> Result<(), Refused> {
    match awaiting_ds(keys).filter(|key| key.role == role) {
        Some(key) => Err(Refused::Unconfirmed(key.tag())),
        None => Ok(()),
    }
}

/// Before the signatures of an algorithm that was replaced are gone, those of another one are too many: PowerDNS Recursor
/// looks at two of an RRset.
fn refuse_still_signing(keys: &[ZoneKey], now: u64) -> Result<(), Refused> {
    let until = |key: &ZoneKey| {
        let is_gone = key.times.delete.is_some_and(|delete| delete <= now);
        key.times.inactive.filter(|&inactive| is_gone && inactive > now)
    };
    match keys.iter().find_map(|key| Some((key.tag(), until(key)?))) {
        Some((tag, until)) => Err(Refused::StillSigning { tag, until }),
        None => Ok(()),
    }
}

fn newest(keys: &[ZoneKey], of: impl Iterator<Item = usize>) -> Option<&ZoneKey> {
    of.map(|at| &keys[at]).max_by_key(|key| key.times.created)
}

/// The new key of a roll-over of which only a part is in the files, since what wrote them broke off. The zone is signed well
/// meanwhile, but the roll-over does not go on before the command that began it is given again.
pub fn broken_off(keys: &[ZoneKey], now: u64) -> Option<u16> {
    let of = |role| newest(keys, in_use(keys, role, now));
    let is_left = |new: &ZoneKey| {
        let is_alike = |key: &ZoneKey| key.role.is_entry_point() == new.role.is_entry_point();
        all_in_use(keys, now).any(|at| is_alike(&keys[at]) && keys[at].is_left_by(new))
    };
    let has_no_ksk = |zsk: &ZoneKey| {
        of(Role::Ksk).is_none() && of(Role::Csk).is_some_and(|csk| zsk.times.created > csk.times.created)
    };
    let is_half = |zsk: &&ZoneKey| has_no_ksk(zsk) || is_left(zsk);
    let halves = [awaiting_ds(keys).filter(|new| is_left(new)), of(Role::Zsk).filter(is_half)];
    halves.into_iter().flatten().map(ZoneKey::tag).next()
}

impl ZoneKey {
    /// Whether a roll-over to `new`, which its files show to have begun, has yet to give this one its times to go.
    fn is_left_by(&self, new: &Self) -> bool {
        let has_begun = match new.role {
            // A spare one that signs from the beginning replaces none.
            Role::Zsk => new.times.activate > new.times.created,
            _ => new.times.sync_publish > new.times.created && new.times.ds_publish.is_none(),
        };
        let is_unchanged = if new.role == Role::Zsk { self.times.inactive } else { self.times.sync_delete }.is_none();
        has_begun && is_unchanged && new.times.created > self.times.created
    }
}

/// The times of the keys at `old`, once those of the key that replaces them are `new`.
fn leaving(keys: &[ZoneKey], old: Vec<usize>, new: &KeyTimes, timing: &Timing, now: u64) -> Vec<(usize, KeyTimes)> {
    let leaving = |at: usize| {
        let times = keys[at].times;
        let times = match (keys[at].role, new.activate) {
            (Role::Zsk, Some(activate)) => {
                let inactive = activate.max(now);
                KeyTimes { inactive: Some(inactive), delete: Some(timing.records_known(inactive)), ..times }
            }
            _ => KeyTimes { sync_delete: new.sync_publish, ds_cached_until: None, ..times },
        };
        // A key without times was in use from the beginning, and stays so.
        let begun = |time: Option<u64>| time.or(keys[at].times.are_unknown().then_some(0));
        let (publish, activate) = (begun(times.publish), begun(times.activate));
        (at, KeyTimes { publish, activate, sync_publish: begun(times.sync_publish), ..times })
    };
    old.into_iter().map(leaving).collect()
}

fn double_signature(now: u64, sync_publish: u64) -> KeyTimes {
    let (created, sync_publish) = (Some(now), Some(sync_publish));
    KeyTimes { created, publish: created, activate: created, sync_publish, ..KeyTimes::default() }
}

/// First there are signatures of the new algorithm, then keys: whoever has the keys must find all signed by them (RFC 6781,
/// section 4.1.4).
fn of_other_algorithm(role: Role, timing: &Timing, now: u64, publish: u64) -> KeyTimes {
    let activate = if role == Role::Ksk { publish } else { now };
    let sync_publish = role.is_entry_point().then(|| timing.keys_known(publish));
    let created = KeyTimes { created: Some(now), ..KeyTimes::default() };
    KeyTimes { publish: Some(publish), activate: Some(activate), sync_publish, ..created }
}

/// Takes an operator's word that all servers of the parent give the DS of the new key, and no other: the old ones may go.
///
/// Gives new times by the key's place in the list, those of old keys first. Fails before the DS may be there: that word would
/// be wrong, and the old keys would go while the parent leads to them.
pub fn confirm(keys: &[ZoneKey], timing: &Timing, now: u64) -> Result<Vec<(usize, KeyTimes)>, Refused> {
    let new = awaiting_ds(keys).ok_or(Refused::NothingToConfirm)?;
    if let Some(tag) = broken_off(keys, now) {
        return Err(Refused::BrokenOff(tag));
    }
    if let Some(from) = new.times.sync_publish.filter(|&from| from > now) {
        return Err(Refused::TooEarly { from });
    }
    let old = going(keys, new, timing, now + u64::from(timing.parent_ds_ttl));
    let confirmed = keys.iter().enumerate().filter(|(_, key)| std::ptr::eq(*key, new));
    let confirmed = confirmed.map(|(at, key)| (at, KeyTimes { ds_publish: Some(now), ..key.times }));
    Ok(old.into_iter().chain(confirmed).collect())
}

/// The times of the keys that `new` replaces, once no cache has a DS of theirs from `gone` on.
pub(super) fn going(keys: &[ZoneKey], new: &ZoneKey, timing: &Timing, gone: u64) -> Vec<(usize, KeyTimes)> {
    let algorithm = new.key.public().algorithm();
    let is_other = |key: &ZoneKey| key.key.public().algorithm() != algorithm;
    let is_old = |key: &ZoneKey| match key.role {
        // One that retires already goes by its own times.
        Role::Zsk => key.times.delete.is_none() && (new.role == Role::Csk || is_other(key)),
        _ => key.times.sync_delete.is_some() && key.times.delete.is_none() && !std::ptr::eq(key, new),
    };
    let old = keys.iter().enumerate().filter(|(_, key)| is_old(key)).map(|(at, key)| {
        let inactive = if is_other(key) { timing.keys_known(gone) } else { gone };
        (at, KeyTimes { delete: Some(gone), inactive: Some(inactive), ..key.times })
    });
    old.collect()
}
