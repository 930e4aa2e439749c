//! How it goes with the proxies beside this one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::name::ProxyName;
use tokio::sync::{Notify, watch};

/// The proxies beside this one, for all that has something to tell them.
#[derive(Debug, Default)]
pub struct Peering {
    /// Grows each time that there is something to be told at once.
    news: watch::Sender<u64>,
    peers: Mutex<Vec<Arc<Peer>>>,
    /// Connections that were turned away: from where no proxy is, or for which there was no place.
    pub strangers: AtomicU64,
}

impl Peering {
    /// Has what is new be told at once.
    pub fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes with each [`Self::tell`].
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// All of them, by name.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).clone()
    }

    /// That of this name.
    pub(super) fn peer(&self, name: &ProxyName) -> Option<Arc<Peer>> {
        lock(&self.peers).iter().find(|peer| peer.name == *name).cloned()
    }

    /// From now on they are these.
    pub(super) fn set(&self, others: &BTreeMap<ProxyName, SocketAddr>) {
        let peer = |(name, address): (&ProxyName, &SocketAddr)| Arc::new(Peer::new(name.clone(), *address));
        *lock(&self.peers) = others.iter().map(peer).collect();
    }

    /// How it goes with each.
    pub fn reports(&self) -> Vec<PeerReport> {
        self.peers().iter().map(|peer| peer.report()).collect()
    }
}

/// One proxy beside this one.
#[derive(Debug)]
pub struct Peer {
    /// Its name.
    pub name: ProxyName,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Whether it is told what is learned here.
    pub told: Side,
    /// Whether it tells what it learns.
    pub heard: Side,
    /// Wakes who waits to tell it something.
    pub(super) is_there: Notify,
    /// Whether all that it knew has been heard, or it is known not to be there.
    pub(super) first: watch::Sender<bool>,
    /// The last of [`Peering::news`] up to which it was told all.
    pub(super) told_up_to: watch::Sender<u64>,
}

/// One direction of what two proxies tell each other.
#[derive(Debug)]
pub struct Side {
    state: Mutex<State>,
    /// What operators said of servers.
    pub words: AtomicU64,
    /// Which client has which server.
    pub clients: AtomicU64,
}

#[derive(Clone, Debug)]
struct State {
    /// Connections.
    open: usize,
    since: Timestamp,
    /// Why there is none.
    why: String,
}

/// How it goes with a proxy beside this one.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerReport {
    /// Its name.
    pub proxy: ProxyName,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Whether it is told what is learned here.
    pub told: SideReport,
    /// Whether it tells what it learns.
    pub heard: SideReport,
}

/// How it goes in one direction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SideReport {
    /// Whether there is a connection.
    pub is_open: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// Why there is none; empty where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What operators said of servers, so often since the start.
    pub words: u64,
    /// Which client has which server, so often since the start.
    pub clients: u64,
}

impl Peer {
    fn new(name: ProxyName, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            told: Side::new(),
            heard: Side::new(),
            is_there: Notify::new(),
            first: watch::Sender::new(false),
            told_up_to: watch::Sender::new(0),
        }
    }

    /// How it goes with it.
    pub fn report(&self) -> PeerReport {
        let (told, heard) = (self.told.report(), self.heard.report());
        PeerReport { proxy: self.name.clone(), address: self.address, told, heard }
    }
}

impl Side {
    fn new() -> Self {
        let state = State { open: 0, since: Timestamp::now(), why: "no connection yet".to_owned() };
        Self { state: Mutex::new(state), words: AtomicU64::new(0), clients: AtomicU64::new(0) }
    }

    /// There is a connection more; whether it is the only one.
    pub(super) fn open(&self) -> bool {
        let mut state = lock(&self.state);
        state.open += 1;
        if state.open == 1 {
            (state.since, state.why) = (Timestamp::now(), String::new());
        }
        state.open == 1
    }

    /// There is one less; whether there is none left.
    pub(super) fn close(&self, why: &str) -> bool {
        let mut state = lock(&self.state);
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            (state.since, state.why) = (Timestamp::now(), why.to_owned());
        }
        state.open == 0
    }

    /// There is none still, and it is known why; whether that is another reason than before.
    pub(super) fn fail(&self, why: &str) -> bool {
        let mut state = lock(&self.state);
        let is_new = state.why != why;
        state.why = why.to_owned();
        is_new
    }

    /// How it goes.
    pub fn report(&self) -> SideReport {
        let State { open, since, why } = lock(&self.state).clone();
        let [words, clients] = [&self.words, &self.clients].map(|count| count.load(Ordering::Relaxed));
        SideReport { is_open: open > 0, since, why, words, clients }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
