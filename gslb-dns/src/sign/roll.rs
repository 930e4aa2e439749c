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
//! p: until all nodes and secondaries serve a change; k: TTL of DNSKEY; z: longest TTL in the zone; d: TTL of the DS at the
//! parent, counted from when an operator confirms that all servers of the parent give the new DS.

use super::key::{Algorithm, Role};
use super::keyset::{awaiting_ds, in_use};
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

/// What a roll-over does to the files of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The times of the key to be made.
    pub new: KeyTimes,
    /// New times of keys that there are, by their place in the list.
    pub changed: Vec<(usize, KeyTimes)>,
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
    /// Only a CSK may change its algorithm.
    #[error("only a CSK can roll to another algorithm")]
    OtherAlgorithm,
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

/// Begins to roll the keys of `role` over to a new one of `algorithm`.
pub fn begin(keys: &[ZoneKey], role: Role, algorithm: Algorithm, timing: &Timing, now: u64) -> Result<Plan, Refused> {
    let old: Vec<usize> = in_use(keys, role, now).collect();
    let first = old.first().ok_or(Refused::NoKey(role))?;
    // One that is not active yet, or whose predecessor is there still.
    let is_new =
        |key: &&ZoneKey| key.times.activate.is_some_and(|at| at > now) || key.times.publish.is_some_and(|at| at > now);
    let newest = old.iter().map(|&at| &keys[at]).max_by_key(|key| key.times.created);
    if let Some(key) = newest.filter(|key| is_new(key) || (role.is_entry_point() && old.len() > 1)) {
        return Err(Refused::UnderWay(key.tag()));
    }
    let is_other = keys[*first].key.public().algorithm() != algorithm;
    if is_other && role != Role::Csk {
        return Err(Refused::OtherAlgorithm);
    }
    let created = KeyTimes { created: Some(now), ..KeyTimes::default() };
    let new = match role {
        Role::Zsk => KeyTimes { publish: Some(now), activate: Some(timing.keys_known(now)), ..created },
        Role::Ksk => double_signature(created, now, timing.keys_known(now)),
        Role::Csk if is_other => {
            let publish = timing.records_known(now);
            let sync_publish = Some(timing.keys_known(publish));
            KeyTimes { publish: Some(publish), activate: Some(now), sync_publish, ..created }
        }
        Role::Csk => double_signature(created, now, timing.keys_known(now).max(timing.records_known(now))),
    };
    let leaving = |at: usize| {
        let times = keys[at].times;
        let times = match (role, new.activate) {
            (Role::Zsk, Some(activate)) => {
                KeyTimes { inactive: Some(activate), delete: Some(timing.records_known(activate)), ..times }
            }
            _ => KeyTimes { sync_delete: new.sync_publish, ..times },
        };
        // A key without times was in use from the beginning, and stays so.
        let begun = |time: Option<u64>| time.or(keys[at].times.are_unknown().then_some(0));
        let (publish, activate) = (begun(times.publish), begun(times.activate));
        (at, KeyTimes { publish, activate, sync_publish: begun(times.sync_publish), ..times })
    };
    Ok(Plan { new, changed: old.into_iter().map(leaving).collect() })
}

fn double_signature(created: KeyTimes, now: u64, sync_publish: u64) -> KeyTimes {
    KeyTimes { publish: Some(now), activate: Some(now), sync_publish: Some(sync_publish), ..created }
}

/// Takes an operator's word that all servers of the parent give the DS of the new key, and no other: the old ones may go.
///
/// Gives new times by the key's place in the list, those of old keys first. Fails before the DS may be there: that word would
/// be wrong, and the old keys would go while the parent leads to them.
pub fn confirm(keys: &[ZoneKey], timing: &Timing, now: u64) -> Result<Vec<(usize, KeyTimes)>, Refused> {
    let new = awaiting_ds(keys).ok_or(Refused::NothingToConfirm)?;
    if let Some(from) = new.times.sync_publish.filter(|&from| from > now) {
        return Err(Refused::TooEarly { from });
    }
    let gone = now + u64::from(timing.parent_ds_ttl);
    let algorithm = new.key.public().algorithm();
    let is_old = |key: &ZoneKey| key.role == new.role && key.times.sync_delete.is_some() && key.times.delete.is_none();
    let old = keys.iter().enumerate().filter(|(_, key)| is_old(key)).map(|(at, key)| {
        let is_other = key.key.public().algorithm() != algorithm;
        let inactive = if is_other { timing.keys_known(gone) } else { gone };
        (at, KeyTimes { delete: Some(gone), inactive: Some(inactive), ..key.times })
    });
    let confirmed = keys.iter().enumerate().filter(|(_, key)| std::ptr::eq(*key, new));
    let confirmed = confirmed.map(|(at, key)| (at, KeyTimes { ds_publish: Some(now), ..key.times }));
    Ok(old.chain(confirmed).collect())
}
