//! The table of which client has which server: bounded, forgetful, and the same in two proxies that tell each other.
//!
//! ```text
//! find    the client's server; a use                    learn   what a proxy beside this one says
//! keep    it is this one from now on; a use             owed    what the proxies beside are still to be told
//! ```
//! Of two that differ the one counts that was used later, by ages, for no two clocks agree. Where both were used at about
//! the same time, the one that was changed more often counts, and then the one whose server's name comes first: so both
//! sides decide alike. What was learned is owed to nobody, so nothing goes in circles.
//!
//! A place holds one client. Where all are taken, the one of the next few that was not used for longest makes room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use shared::moment::Moment;
use shared::name::ServerName;

/// How much is remembered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// How long a client is remembered after its last use.
    pub lifetime: Duration,
    /// Clients at one time.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(30 * 60), entries: 100_000 }
    }
}

/// A server of the table: its number in [`Names`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NameId(u16);

/// The names of the servers that clients have or had; they never change their number.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<ServerName>);

impl Names {
    /// The number of `name`, which it gets where it has none; `None` where there are too many.
    pub fn add(&mut self, name: &ServerName) -> Option<NameId> {
        let at = self.0.iter().position(|known| known == name);
        let at = at.or_else(|| {
            (self.0.len() < NAMES_MAX).then(|| {
                self.0.push(name.clone());
                self.0.len() - 1
            })
        })?;
        u16::try_from(at).ok().map(NameId)
    }

    /// The name with this number.
    pub fn of(&self, id: NameId) -> Option<&ServerName> {
        self.0.get(usize::from(id.0))
    }
}

impl NameId {
    /// From 0, each of its own.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// A client's server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The client, or what its addresses have in common.
    pub client: IpAddr,
    /// Its server.
    pub server: NameId,
    /// Its last use.
    pub used: Moment,
    /// How often its server has changed.
    pub changes: u32,
}

/// The proxies beside this one that are to be told, one bit each.
pub type Links = u8;

/// What came of something learned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Learned {
    /// It counts now.
    Taken,
    /// What was here counts.
    Older,
    /// It is too old to be of use, or older than all that it could take the place of.
    Forgotten,
}

/// What a table or a part of it counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Clients that it holds.
    pub entries: u64,
    /// Clients that it holds and the proxies beside are still to be told of.
    pub owed: u64,
    /// Clients that made room for others before their time.
    pub evicted: u64,
    /// Clients that were forgotten in time.
    pub expired: u64,
}

/// One part of a table; a client is always in the same.
#[derive(Debug, Default)]
pub struct Shard {
    places: HashMap<IpAddr, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Each slot that owes something, once; others may be among them.
    owing: Vec<u32>,
    /// Where the next is looked for that makes room.
    hand: usize,
    evicted: u64,
    expired: u64,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    is_taken: bool,
    /// Who is to be told of it.
    owed: Links,
    /// Whether it is in the list of those that owe.
    is_listed: bool,
    /// The last use that somebody was to be told of.
    told: Moment,
}

impl Shard {
    /// The server of `client`, which uses it `now`; `links` are to hear of it, but not of each time.
    pub fn find(&mut self, client: IpAddr, lifetime: Duration, now: Moment, links: Links) -> Option<NameId> {
        let place = self.living(client, lifetime, now)?;
        self.touch(place, lifetime, now, links);
        Some(self.slots[place as usize].entry.server)
    }

    /// Has `client` be with `server`, which it uses `now`; `links` are to hear of it.
    pub fn keep(&mut self, client: IpAddr, server: NameId, bounds: Bounds, now: Moment, links: Links) {
        let entry = Entry { client, server, used: now, changes: 1 };
        let Some(place) = self.living(client, bounds.lifetime, now) else {
            if let Some(place) = self.make_room(bounds, now, now) {
                self.put(place, entry);
                self.owe(place, links);
            }
            return;
        };
        let slot = &mut self.slots[place as usize];
        if slot.entry.server == server {
            return self.touch(place, bounds.lifetime, now, links);
        }
        slot.entry = Entry { changes: slot.entry.changes.saturating_add(1), ..entry };
        slot.told = now;
        self.owe(place, links);
    }

    /// Takes over what a proxy beside this one says, where it is newer; `is_first` is whether its server's name comes before
    /// that of the other.
    pub fn learn(
        &mut self,
        theirs: Entry,
        bounds: Bounds,
        now: Moment,
        is_first: impl FnOnce(NameId) -> bool,
    ) -> Learned {
        if now.since(theirs.used) >= bounds.lifetime {
            return Learned::Forgotten;
        }
        let theirs = Entry { used: theirs.used.min(now), ..theirs };
        let Some(place) = self.living(theirs.client, bounds.lifetime, now) else {
            let Some(place) = self.make_room(bounds, now, theirs.used) else { return Learned::Forgotten };
            self.put(place, theirs);
            return Learned::Taken;
        };
        let ours = &mut self.slots[place as usize].entry;
        let is_newer = ours.server != theirs.server && is_newer(&theirs, ours, is_first);
        if ours.server == theirs.server || is_newer {
            let (used, changes) = (ours.used.max(theirs.used), ours.changes.max(theirs.changes));
            *ours = Entry { server: theirs.server, used, changes, ..*ours };
        }
        if is_newer { Learned::Taken } else { Learned::Older }
    }

    /// Has all of it be told to `link`.
    pub fn owe_all(&mut self, link: Links) {
        for place in 0..self.slots.len() as u32 {
            if self.slots[place as usize].is_taken {
                self.owe(place, link);
            }
        }
    }

    /// Has nothing of it be told to `link` any more.
    pub fn owe_nothing(&mut self, link: Links) {
        self.slots.iter_mut().for_each(|slot| slot.owed &= !link);
    }

    /// Puts up to `most` of what `link` is still to be told into `out`, and owes it no longer.
    pub fn take_owed(&mut self, link: Links, most: usize, out: &mut Vec<Entry>) {
        let (mut count, mut others) = (0, Vec::new());
        while count < most
            && let Some(place) = self.owing.pop()
        {
            let slot = &mut self.slots[place as usize];
            if slot.is_taken && slot.owed & link != 0 {
                slot.owed &= !link;
                out.push(slot.entry);
                count += 1;
            }
            match slot.is_taken && slot.owed != 0 {
                true => others.push(place),
                false => slot.is_listed = false,
            }
        }
        self.owing.append(&mut others);
    }

    /// Forgets what was not used for too long, and what is beyond the bound where that has become less.
    pub fn sweep(&mut self, bounds: Bounds, now: Moment) {
        for place in 0..self.slots.len() as u32 {
            let slot = &self.slots[place as usize];
            if slot.is_taken && now.since(slot.entry.used) >= bounds.lifetime {
                self.drop_at(place);
                self.expired += 1;
            }
        }
        while self.places.len() > bounds.entries
            && let Some(place) = self.oldest()
        {
            self.drop_at(place);
            self.evicted += 1;
        }
    }

    /// Forgets `client`, or all; returns how many that were.
    pub fn clear(&mut self, client: Option<IpAddr>) -> usize {
        let places = match client {
            Some(client) => self.places.get(&client).copied().into_iter().collect(),
            None => self.places.values().copied().collect::<Vec<_>>(),
        };
        places.iter().for_each(|place| self.drop_at(*place));
        places.len()
    }

    /// All clients that are still remembered.
    pub fn entries(&self, lifetime: Duration, now: Moment) -> impl Iterator<Item = Entry> {
        let entries = self.slots.iter().filter(|slot| slot.is_taken).map(|slot| slot.entry);
        entries.filter(move |entry| now.since(entry.used) < lifetime)
    }

    /// What it counts.
    pub fn counts(&self) -> Counts {
        Counts {
            entries: self.places.len() as u64,
            owed: self.owing.len() as u64,
            evicted: self.evicted,
            expired: self.expired,
        }
    }

    /// Where `client` is; it is forgotten where its time is over.
    fn living(&mut self, client: IpAddr, lifetime: Duration, now: Moment) -> Option<u32> {
        let place = *self.places.get(&client)?;
        if now.since(self.slots[place as usize].entry.used) < lifetime {
            return Some(place);
        }
        self.drop_at(place);
        self.expired += 1;
        None
    }

    fn touch(&mut self, place: u32, lifetime: Duration, now: Moment, links: Links) {
        let slot = &mut self.slots[place as usize];
        slot.entry.used = slot.entry.used.max(now);
        if now.since(slot.told) >= (lifetime / TOLD_IN_LIFETIME).max(TOLD_AFTER_MIN) {
            slot.told = now;
            self.owe(place, links);
        }
    }

    fn owe(&mut self, place: u32, links: Links) {
        let slot = &mut self.slots[place as usize];
        slot.owed |= links;
        if slot.owed != 0 && !slot.is_listed {
            slot.is_listed = true;
            self.owing.push(place);
        }
    }

    /// An empty place for something used at `used`; `None` where all that could make room for it was used later.
    fn make_room(&mut self, bounds: Bounds, now: Moment, used: Moment) -> Option<u32> {
        if self.places.len() < bounds.entries {
            let place = self.free.pop().unwrap_or_else(|| {
                let nothing = Entry { client: NOBODY, server: NameId(0), used: now, changes: 0 };
                self.slots.push(Slot { entry: nothing, is_taken: false, owed: 0, is_listed: false, told: now });
                self.slots.len() as u32 - 1
            });
            return Some(place);
        }
        let place = self.oldest()?;
        if self.slots[place as usize].entry.used > used {
            return None;
        }
        self.drop_at(place);
        self.evicted += 1;
        self.free.pop()
    }

    fn put(&mut self, place: u32, entry: Entry) {
        self.places.insert(entry.client, place);
        let slot = &mut self.slots[place as usize];
        (slot.entry, slot.is_taken, slot.owed, slot.told) = (entry, true, 0, entry.used);
    }

    fn drop_at(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        (slot.is_taken, slot.owed) = (false, 0);
        self.places.remove(&slot.entry.client);
        self.free.push(place);
    }

    /// Of the next few that are taken the one that was not used for longest.
    fn oldest(&mut self) -> Option<u32> {
        let count = self.slots.len();
        let from = self.hand;
        let round = (0..count).map(|step| (from + step) % count);
        let mut few = round.filter(|place| self.slots[*place].is_taken).take(LOOKED_AT);
        let (mut best, mut last) = (few.next()?, from);
        for place in few {
            last = place;
            if self.slots[place].entry.used < self.slots[best].entry.used {
                best = place;
            }
        }
        self.hand = last + 1;
        u32::try_from(best).ok()
    }
}

/// Whether `theirs` counts rather than `ours`, whose server is another.
fn is_newer(theirs: &Entry, ours: &Entry, is_first: impl FnOnce(NameId) -> bool) -> bool {
    if theirs.used.since(ours.used) > SAME_TIME {
        return true;
    }
    if ours.used.since(theirs.used) > SAME_TIME {
        return false;
    }
    match theirs.changes.cmp(&ours.changes) {
        std::cmp::Ordering::Equal => is_first(ours.server),
        order => order.is_gt(),
    }
}

/// Uses within this are of the same time: ages come late by as long as they are under way.
const SAME_TIME: Duration = Duration::from_secs(1);

/// A client that goes on is told of so often in its lifetime, but not more often than this.
const TOLD_IN_LIFETIME: u32 = 16;
const TOLD_AFTER_MIN: Duration = Duration::from_secs(1);

/// So many are looked at for one that makes room: with 8 it is of the older half all but once in 256 times.
const LOOKED_AT: usize = 8;

/// More servers than a service has, with those that it had.
const NAMES_MAX: usize = 16_384;

const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests;
