//! The stick table of a service at run time: shared by all threads, and by the links to the proxies beside this one.
//!
//! It is in many parts, each behind a lock that is held for as long as one client is looked up. Services without a table
//! have none of it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::moment::Moment;
use shared::name::ServerName;

use crate::clock::Tick;
use crate::config::ServiceConfig;
use crate::live::Server;
use crate::stick::Stick;
use crate::stick::table::{Bounds, Counts, Entry, Learned, Links, NameId, Names, Shard};

/// Which client of a service has which server. It outlives changes of the settings.
#[derive(Debug)]
pub struct StickTable {
    shards: Vec<Mutex<Shard>>,
    /// Spreads clients in a way that none of them can foresee.
    hasher: RandomState,
    names: Mutex<Names>,
    links: AtomicU8,
    /// Which part is swept next.
    swept: AtomicUsize,
}

/// A client's server by name, for those who do not share the numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The client, or what its addresses have in common.
    pub client: IpAddr,
    /// Its server.
    pub server: ServerName,
    /// How long ago its last use was.
    pub age: Duration,
    /// How often its server has changed.
    pub changes: u32,
}

impl StickTable {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            names: Mutex::default(),
            links: AtomicU8::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// Takes over what a proxy beside this one says; `false` where it does not count.
    pub fn learn(&self, theirs: &Named, bounds: Bounds) -> bool {
        let mut names = lock(&self.names);
        let Some(server) = names.add(&theirs.server) else { return false };
        let now = now();
        let entry = Entry { client: theirs.client, server, used: now.before(theirs.age), changes: theirs.changes };
        let is_first = |ours| names.of(ours).is_none_or(|ours| theirs.server < *ours);
        self.shard(theirs.client).learn(entry, share(bounds), now, is_first) == Learned::Taken
    }

    /// Has `link` be told of all that is there, and from now on of what changes; nothing where it is told already.
    pub fn join(&self, link: Links) {
        if self.links.fetch_or(link, Ordering::Relaxed) & link == 0 {
            self.each(|shard| shard.owe_all(link));
        }
    }

    /// Has `link` be told of nothing any more.
    pub fn leave(&self, link: Links) {
        if self.links.fetch_and(!link, Ordering::Relaxed) & link != 0 {
            self.each(|shard| shard.owe_nothing(link));
        }
    }

    /// Up to `most` of what `link` is still to be told; it counts as told.
    pub fn take_owed(&self, link: Links, most: usize) -> Vec<Named> {
        let mut entries = Vec::new();
        for shard in &self.shards {
            let left = most.saturating_sub(entries.len());
            if left == 0 {
                break;
            }
            lock(shard).take_owed(link, left, &mut entries);
        }
        self.named(&entries)
    }

    /// Up to `most` of what it remembers.
    pub fn entries(&self, lifetime: Duration, most: usize) -> Vec<Named> {
        let (now, mut entries) = (now(), Vec::new());
        for shard in &self.shards {
            let left = most.saturating_sub(entries.len());
            entries.extend(lock(shard).entries(lifetime, now).take(left));
        }
        self.named(&entries)
    }

    /// Forgets `client`, or all; returns how many that were.
    pub fn clear(&self, client: Option<IpAddr>) -> usize {
        match client {
            Some(client) => self.shard(client).clear(Some(client)),
            None => self.shards.iter().map(|shard| lock(shard).clear(None)).sum(),
        }
    }

    /// Forgets what is too old in some of its parts; in all of them after eight such calls.
    pub fn sweep(&self, bounds: Bounds) {
        let now = now();
        for _ in 0..SHARDS / 8 {
            let at = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
            lock(&self.shards[at]).sweep(share(bounds), now);
        }
    }

    /// What it counts.
    pub fn counts(&self) -> Counts {
        self.shards.iter().map(|shard| lock(shard).counts()).fold(Counts::default(), |all, one| Counts {
            entries: all.entries + one.entries,
            owed: all.owed + one.owed,
            evicted: all.evicted + one.evicted,
            expired: all.expired + one.expired,
        })
    }

    fn named(&self, entries: &[Entry]) -> Vec<Named> {
        let (names, now) = (lock(&self.names), now());
        let named = entries.iter().filter_map(|entry| {
            let Entry { client, server, used, changes } = *entry;
            Some(Named { client, server: names.of(server)?.clone(), age: now.since(used), changes })
        });
        named.collect()
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(client) as usize % SHARDS])
    }

    fn each(&self, then: impl Fn(&mut Shard)) {
        self.shards.iter().for_each(|shard| then(&mut lock(shard)));
    }
}

/// The stick table of a service, as its present servers see it.
#[derive(Debug)]
pub struct Stuck {
    /// What is remembered.
    pub table: Arc<StickTable>,
    /// How much of it.
    pub bounds: Bounds,
    /// The number of each server in the table, in the order of the service.
    ids: Vec<Option<NameId>>,
    /// The way back.
    servers: Vec<Option<usize>>,
}

impl Stuck {
    /// That of `config` with `servers`, which goes on with what was remembered `before`; `None`: it needs none.
    pub fn of(config: &ServiceConfig, servers: &[Arc<Server>], before: Option<&Self>) -> Option<Self> {
        let Some(Stick::Table(_, bounds)) = config.stick else { return None };
        let table = before.map_or_else(|| Arc::new(StickTable::new()), |before| Arc::clone(&before.table));
        let mut names = lock(&table.names);
        let ids: Vec<_> = servers.iter().map(|server| names.add(&server.name)).collect();
        drop(names);
        let mut back = Vec::new();
        for (at, id) in ids.iter().enumerate().filter_map(|(at, id)| Some((at, id.as_ref()?.index()))) {
            back.resize(back.len().max(id + 1), None);
            back[id] = Some(at);
        }
        Some(Self { table, bounds, ids, servers: back })
    }

    /// The index of the server that `client` has, which is a use.
    pub fn find(&self, client: IpAddr) -> Option<usize> {
        let links = self.table.links.load(Ordering::Relaxed);
        let id = self.table.shard(client).find(client, self.bounds.lifetime, now(), links)?;
        self.servers.get(id.index()).copied().flatten()
    }

    /// Has `client` be with the server at the index `server`.
    pub fn keep(&self, client: IpAddr, server: usize) {
        if let Some(id) = self.ids.get(server).copied().flatten() {
            let links = self.table.links.load(Ordering::Relaxed);
            self.table.shard(client).keep(client, id, share(self.bounds), now(), links);
        }
    }
}

/// The bounds of one part.
fn share(bounds: Bounds) -> Bounds {
    Bounds { entries: bounds.entries.div_ceil(SHARDS), ..bounds }
}

/// Far enough from the start of the clock that nothing which another proxy remembers is from before it.
fn now() -> Moment {
    Tick::now().moment() + AGE_MAX
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads wait for each other once in many times as many requests.
const SHARDS: usize = 64;

/// Longer than any lifetime.
const AGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
