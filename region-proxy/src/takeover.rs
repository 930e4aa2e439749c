//! Who holds the VIPs: VRRP at the sockets, on a thread of its own.
//!
//! ```text
//! packets, interfaces, what is tracked, time ─► crate::vrrp ─► packets, addresses, announcements
//! ```
//! The thread has real-time priority where that is allowed, waits for nothing but the kernel, and never for the log or for
//! who reads its reports. A watchdog process beside it removes the VIPs when it dies.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

mod gateways;
mod house;
mod macvlan;
mod notes;
pub mod report;
mod router;
mod sweep;
mod tracking;
pub mod watchdog;
mod wire;

use crate::config::VirtualRouter;
use crate::live::Proxy;
use crate::netlink;
use house::{Change, Ears, House};
use notes::Notes;
use sweep::ROLE;
use watchdog::Watchdog;

pub use sweep::{Lock, Traces};

/// The virtual routers of a proxy: none, or those that a thread runs.
#[derive(Debug)]
pub struct Takeover {
    surroundings: Surroundings,
    running: Option<Running>,
}

/// What they belong to.
struct Surroundings {
    proxy: Arc<Proxy>,
    /// Whether clients can connect.
    listens: Arc<dyn Fn() -> bool + Send + Sync>,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    log: JoinHandle<()>,
    words: UnixStream,
    changes: Sender<Change>,
    settings: Vec<VirtualRouter>,
    traces: Traces,
}

/// Other settings for them, which can be had.
#[derive(Debug)]
pub struct Prepared(Step);

#[derive(Debug)]
enum Step {
    Stay,
    Begin(Box<Ready>),
    Change(Vec<VirtualRouter>, Lock),
    End,
}

/// Why virtual routers cannot run by other settings.
#[derive(Debug, thiserror::Error)]
pub enum CannotShare {
    /// This process may not do what it takes.
    #[error("this process lacks CAP_NET_ADMIN or CAP_NET_RAW: expected a restart with both, and without `user`")]
    Rights,
    /// One of them runs already.
    #[error(
        "another process of this machine runs a virtual router with the same interface and id: expected its end first"
    )]
    Taken,
    /// Something else.
    #[error("virtual routers cannot be started: {0}")]
    System(#[from] io::Error),
}

impl Takeover {
    /// Those of `proxy`, of which none runs before [`Self::start`]. `listens` says whether clients can connect.
    pub fn new(proxy: Arc<Proxy>, listens: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { surroundings: Surroundings { proxy, listens: Arc::new(listens) }, running: None }
    }

    /// Runs those of the settings.
    pub fn start(&mut self, arrival: Arrival) -> io::Result<()> {
        let settings = self.surroundings.proxy.live.load().config.vrrp.clone();
        if !settings.is_empty() {
            self.running = Some(self.ready(arrival, settings, Lock::default())?.start()?);
        }
        Ok(())
    }

    /// Whether they can run by `next`; nothing changes before [`Self::commit`].
    pub fn prepare(&self, next: &[VirtualRouter]) -> Result<Prepared, CannotShare> {
        let Some(running) = &self.running else {
            if next.is_empty() {
                return Ok(Prepared(Step::Stay));
            }
            let needed = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
            if !capabilities(None).map_err(io::Error::from)?.effective.contains(needed) {
                return Err(CannotShare::Rights);
            }
            let ready = self.ready(Arrival::Fresh, next.to_vec(), lock(&Traces::of(next).routers)?)?;
            return Ok(Prepared(Step::Begin(Box::new(ready))));
        };
        if next.is_empty() {
            return Ok(Prepared(Step::End));
        }
        if next == running.settings {
            return Ok(Prepared(Step::Stay));
        }
        let mut names = Traces::of(next).routers;
        names.retain(|name| !running.traces.routers.contains(name));
        Ok(Prepared(Step::Change(next.to_vec(), lock(&names)?)))
    }

    /// Has them run as prepared; returns once they do.
    pub async fn commit(&mut self, prepared: Prepared) {
        match prepared.0 {
            Step::Stay => {}
            Step::Begin(ready) => match ready.start() {
                Ok(running) => self.running = Some(running),
                Err(error) => tracing::error!(%error, "vrrp: cannot be started"),
            },
            Step::Change(settings, lock) => {
                if let Some(running) = &mut self.running {
                    running.change(settings, lock).await;
                }
            }
            Step::End => {
                if let Some(running) = self.running.take() {
                    // A thread that panicked has let go by its watchdog.
                    let _ = spawn_blocking(move || running.end(Word::Stop)).await;
                }
                self.surroundings.proxy.vrrp.publish(Vec::new());
            }
        }
    }

    /// Lets go of all VIPs, so that others take them at once; returns once they are off this machine.
    pub fn stop(&mut self) {
        self.running.take().into_iter().for_each(|running| running.end(Word::Stop));
    }

    /// Leaves them to another process of this machine, an [`Arrival::Successor`] that runs `theirs`; lets go where these
    /// are not the same, since nobody would take off what that one does not know of.
    pub fn hand_over(&mut self, theirs: &Traces) {
        if let Some(running) = self.running.take() {
            let word = if *theirs == running.traces { Word::HandOver } else { Word::Stop };
            running.end(word);
        }
    }

    fn ready(&self, arrival: Arrival, settings: Vec<VirtualRouter>, lock: Lock) -> io::Result<Ready> {
        let (words, heard) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        let (changes, changed) = mpsc::channel();
        let (notes, log) = Notes::start()?;
        let ears = Ears { words: heard, changes: changed };
        let Surroundings { proxy, listens } = &self.surroundings;
        let traces = Traces::of(&settings);
        let house = House::new(Arc::clone(proxy), arrival, Arc::clone(listens), settings.clone(), lock, ears, notes)?;
        Ok(Ready { house, log, words, changes, settings, traces })
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// All that the thread needs.
struct Ready {
    house: House,
    log: JoinHandle<()>,
    words: UnixStream,
    changes: Sender<Change>,
    settings: Vec<VirtualRouter>,
    traces: Traces,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Ready {
    fn start(self) -> io::Result<Running> {
        let Self { house, log, words, changes, settings, traces } = self;
        let thread = std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || house.run())?;
        Ok(Running { thread, log, words, changes, settings, traces })
    }
}

impl Running {
    async fn change(&mut self, settings: Vec<VirtualRouter>, lock: Lock) {
        let traces = Traces::of(&settings);
        let watchdog = Watchdog::start(&traces);
        if let Err(error) = &watchdog {
            tracing::error!(%error, "vrrp: no watchdog: VIPs would stay when this process is killed");
        }
        (self.settings, self.traces) = (settings.clone(), traces);
        let (done, past) = oneshot::channel();
        let change = Change { settings, lock, watchdog: watchdog.ok(), done };
        // A thread that ended does not hear it.
        if self.changes.send(change).is_ok() {
            let _ = self.words.write_all(&[Word::Change as u8]);
        }
        match timeout(CHANGE_LIMIT, past).await {
            // Its end takes a moment that nobody else has to wait for.
            Ok(Ok(Some(past))) => drop(spawn_blocking(move || past.dismiss())),
            Ok(Ok(None)) => {}
            Ok(Err(_)) => {
                tracing::error!("vrrp: the new settings are not in force: expected a restart, since its thread ended")
            }
            Err(_) => tracing::error!("vrrp: the new settings are not in force yet"),
        }
    }

    fn end(mut self, word: Word) {
        // A thread that ended does not hear it.
        let _ = self.words.write_all(&[word as u8]);
        let _ = self.thread.join();
        let _ = self.log.join();
    }
}

fn lock(names: &[String]) -> Result<Lock, CannotShare> {
    Lock::take(names, ROLE).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => CannotShare::Taken,
        _ => error.into(),
    })
}

/// What the thread is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    /// Let go and end.
    Stop = b's' as isize,
    /// Leave all as it is and end.
    HandOver = b'h' as isize,
    /// Take the next [`Change`].
    Change = b'c' as isize,
}

/// How this process came to run the virtual routers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// By itself: VIPs that are here were left by one that was killed.
    Fresh,
    /// In the place of a running one: VIPs that are here are held.
    Successor,
}

/// Far longer than a change takes.
const CHANGE_LIMIT: Duration = Duration::from_secs(2);
