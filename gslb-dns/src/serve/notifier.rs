//! Telling secondaries that a zone has changed, until they say that they have heard it (RFC 1996).
//!
//! One task for each secondary of a zone: it waits for another serial than the last, sends, and waits for the answer.
//! What it has come to is shown in `/status`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use crate::reload::unix_secs;
use crate::reload::{Secondary, World};
use crate::transfer::{NotAcknowledged, notification, pause_after, read_acknowledgement};
use crate::tsig::Session;
use crate::wire::Name;
use crate::zone::Content;

/// Keeps all secondaries told.
pub(super) struct Notifier {
    /// What serves; changes when the files do, or a zone is updated.
    served: watch::Receiver<Arc<World>>,
    /// The addresses that secondaries know us by.
    listen: Vec<SocketAddr>,
    book: Arc<NotifyBook>,
    tasks: BTreeMap<(Apex, SocketAddr), (Secondary, JoinHandle<()>)>,
}

/// The octets of the name of a zone.
type Apex = Box<[u8]>;

/// How it stands with each secondary of each zone, to show.
#[derive(Debug, Default)]
pub(crate) struct NotifyBook(Mutex<BTreeMap<(String, SocketAddr), NotifyStanding>>);

/// A zone, the address of a secondary, and how it stands with that.
pub(crate) type NotifyEntry = ((String, SocketAddr), NotifyStanding);

/// How it stands with one secondary of one zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotifyStanding {
    /// The serial that it was told last.
    pub(crate) notified: Option<u32>,
    /// The last serial that it has acknowledged.
    pub(crate) acknowledged: Option<u32>,
    /// When.
    pub(crate) acknowledged_at: Option<Timestamp>,
    /// Tries since then without an answer, or with one that says no.
    pub(crate) failures: u32,
    /// Why the last one failed.
    pub(crate) failure: Option<String>,
    /// All tries.
    pub(crate) sent: u64,
    /// All tries that failed.
    pub(crate) failed: u64,
}

/// One secondary of one zone.
struct Task {
    apex: Name,
    secondary: Secondary,
    served: watch::Receiver<Arc<World>>,
    listen: Vec<SocketAddr>,
    book: Arc<NotifyBook>,
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Answer(#[from] NotAcknowledged),
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silence,
    #[error("the key {0} is gone")]
    NoKey(Name),
}

impl NotifyBook {
    /// All standings, by zone and address.
    pub(crate) fn standings(&self) -> Vec<NotifyEntry> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(key, standing)| (key.clone(), standing.clone())).collect()
    }

    fn note<T>(&self, key: &(String, SocketAddr), change: impl FnOnce(&mut NotifyStanding) -> T) -> T {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(book.entry(key.clone()).or_default())
    }

    fn forget(&self, key: &(String, SocketAddr)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Notifier {
    pub(super) fn new(served: watch::Receiver<Arc<World>>, listen: Vec<SocketAddr>, book: Arc<NotifyBook>) -> Self {
        Self { served, listen, book, tasks: BTreeMap::new() }
    }

    /// Runs as long as something serves.
    pub(super) async fn run(mut self) {
        loop {
            let world = Arc::clone(&self.served.borrow_and_update());
            self.follow(&world);
            if self.served.changed().await.is_err() {
                self.tasks.values().for_each(|(_, task)| task.abort());
                return;
            }
        }
    }

    /// Has a task for each secondary in `world`, and no others.
    fn follow(&mut self, world: &World) {
        let mut before = std::mem::take(&mut self.tasks);
        for transfer in &world.transfers {
            let apex = transfer.zone.content().apex();
            for secondary in transfer.secondaries.iter() {
                let key = (apex.as_wire().into(), secondary.address);
                let task = match before.remove(&key) {
                    // One may have ended with a world that had no such zone, and was gone before this one came.
                    Some(task) if task.0 == *secondary && !task.1.is_finished() => task,
                    other => {
                        other.into_iter().for_each(|(_, task)| task.abort());
                        (secondary.clone(), self.start(apex, secondary))
                    }
                };
                self.tasks.insert(key, task);
            }
        }
        for ((apex, address), (_, task)) in before {
            task.abort();
            self.book.forget(&(Name::from_wire(&apex).to_string(), address));
        }
    }

    fn start(&self, apex: &Name, secondary: &Secondary) -> JoinHandle<()> {
        let (served, listen) = (self.served.clone(), self.listen.clone());
        let task =
            Task { apex: apex.clone(), secondary: secondary.clone(), served, listen, book: Arc::clone(&self.book) };
        tokio::spawn(task.run())
    }
}

impl Task {
    async fn run(mut self) {
        let key = (self.apex.to_string(), self.secondary.address);
        self.book.note(&key, |_| ());
        loop {
            let world = Arc::clone(&self.served.borrow_and_update());
            let content = world.transfer_zone(self.apex.as_wire()).map(|transfer| Arc::clone(transfer.zone.content()));
            let Some(content) = content else { return };
            let serial = content.serial();
            let acknowledged = self.book.note(&key, |standing| standing.acknowledged);
            let mut pause = None;
            if acknowledged != Some(serial) {
                let tried = self.try_once(&world, &content).await;
                pause = self.note(&key, serial, tried.as_ref().err());
            }
            tokio::select! {
                changed = self.served.changed() => if changed.is_err() { return },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Notes how a try ended; gives how long to wait before the next one.
    fn note(&self, key: &(String, SocketAddr), serial: u32, error: Option<&TryError>) -> Option<Duration> {
        let (zone, secondary) = key;
        let failures = self.book.note(key, |standing| {
            standing.sent += 1;
            standing.notified = Some(serial);
            standing.failure = error.map(ToString::to_string);
            standing.failures = if error.is_some() { standing.failures.saturating_add(1) } else { 0 };
            standing.failed += u64::from(error.is_some());
            if error.is_none() {
                standing.acknowledged = Some(serial);
                standing.acknowledged_at = Some(Timestamp::now());
            }
            standing.failures
        });
        match error {
            None => info!(%zone, %secondary, serial, "the secondary knows of the new zone"),
            // Once, until it is back.
            Some(error) if failures == 1 => warn!(%zone, %secondary, serial, %error, "cannot notify the secondary"),
            Some(error) => debug!(%zone, %secondary, serial, %error, failures, "cannot notify the secondary"),
        }
        (failures > 0).then(|| pause_after(failures))
    }

    async fn try_once(&self, world: &World, content: &Content) -> Result<(), TryError> {
        let address = self.secondary.address;
        let socket = UdpSocket::bind(self.source()).await?;
        socket.connect(address).await?;
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let id = u16::from_be_bytes(id);
        let mut session = match &self.secondary.key {
            None => None,
            Some(name) => {
                let key = world.tsig_keys.find(name).ok_or_else(|| TryError::NoKey(name.clone()))?;
                Some(Session::begin(key.clone()))
            }
        };
        socket.send(&notification(content, id, session.as_mut(), unix_secs())).await?;
        let (end, mut answer) = (Instant::now() + ANSWER_MAX, [0; 1232]);
        loop {
            let received = timeout_at(end, socket.recv(&mut answer)).await.map_err(|_| TryError::Silence)??;
            let judged = read_acknowledgement(&answer[..received], id, &self.apex, session.as_ref(), unix_secs());
            match judged {
                // A late answer to a try before.
                Err(NotAcknowledged::Foreign) => {}
                judged => return judged.map(drop).map_err(TryError::from),
            }
        }
    }

    /// Where to send from: secondaries know the addresses that we listen at.
    fn source(&self) -> SocketAddr {
        let is_v4 = self.secondary.address.is_ipv4();
        // A secondary on this machine is reached from any address of it, one elsewhere not from a loopback one.
        let is_fit = |ip: &IpAddr| {
            ip.is_ipv4() == is_v4
                && !ip.is_unspecified()
                && (self.secondary.address.ip().is_loopback() || !ip.is_loopback())
        };
        let any = if is_v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        SocketAddr::new(self.listen.iter().map(SocketAddr::ip).find(is_fit).unwrap_or(any), 0)
    }
}

/// Far more than an honest secondary takes.
const ANSWER_MAX: Duration = Duration::from_secs(3);
