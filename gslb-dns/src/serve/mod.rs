//! Running a node: sockets, threads and tasks around the engine and the state.
//!
//! ```text
//! start: load ─► bind ─► drop privileges ─► restore ─► first probe round ─► answer
//! stop:  answer what is queued ─► end connections ─► save
//! ```

mod bind;
mod clock;
mod cores;
mod counters;
mod encrypted;
mod files;
mod flood;
mod mmsg;
mod notifier;
mod refusals;
mod report;
pub(crate) mod rights;
mod seats;
mod slow;
mod start;
mod systemd;
mod tcp;
mod turns;
mod udp;
mod updates;
mod writer;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use shared::problem::Problem;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::answer::Snapshot;
use crate::reload::World;
use counters::RegionSlots;

pub use bind::PrivilegeError;
pub use clock::Clock;
pub(crate) use counters::{CounterBook, RCODES, Totals};
pub use encrypted::EncryptedAddresses;
pub(crate) use notifier::{NotifyBook, NotifyEntry, NotifyStanding};
pub(crate) use seats::TcpCounters;
pub(crate) use systemd::tell_systemd;
use tcp::TcpThreads;
pub(crate) use updates::{JournalBook, JournalEntry};
pub(crate) use writer::{Command, Look};

/// What every answer is made from; swapped whole.
#[derive(Debug)]
pub struct Live {
    /// What the engine needs.
    pub snapshot: Snapshot,
    /// The files behind it.
    pub world: Arc<World>,
    /// Where its regions are counted.
    region_slots: RegionSlots,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Mistakes in the files.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// Addresses that cannot be had.
    #[error("{}", lines(.0))]
    Bind(Vec<BindError>),
    /// Privileges were to be dropped.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// Threads, timers or the HTTP client cannot be had.
    #[error("cannot start: {0}")]
    System(String),
}

/// Why there is no listening at an address.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen at {address}: {error}")]
pub struct BindError {
    /// The key in the settings.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub error: io::Error,
}

/// A node that runs. It goes on until [`Node::stop`].
pub struct Node {
    runtime: Runtime,
    addresses: Vec<SocketAddr>,
    encrypted_addresses: EncryptedAddresses,
    admin_address: Option<SocketAddr>,
    live: Arc<ArcSwap<Live>>,
    commands: mpsc::Sender<Command>,
    reload: mpsc::Sender<()>,
    workers: Vec<JoinHandle<()>>,
    writer: JoinHandle<()>,
    udp_stop: Arc<AtomicBool>,
    connections: Vec<TcpThreads>,
}

impl Node {
    /// Starts a node with the settings at `config`; comes back when it answers: the first probe round is over, or has
    /// taken as long as one may.
    pub fn start(config: &Path) -> Result<Self, StartError> {
        start::start(config)
    }

    /// Where it answers, by UDP and TCP, in the order of the settings; ports that were left open are known here.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it answers over TLS, HTTPS and QUIC.
    pub fn encrypted_addresses(&self) -> &EncryptedAddresses {
        &self.encrypted_addresses
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What serves now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Reads all files again, even when none has changed.
    pub fn reload(&self) {
        // One request that waits already is as good.
        let _ = self.reload.try_send(());
    }

    /// Answers what is queued, saves the state and ends.
    pub fn stop(self) {
        let Self { runtime, commands, workers, writer, udp_stop, connections, .. } = self;
        udp_stop.store(true, Ordering::Release);
        connections.iter().for_each(TcpThreads::begin_stop);
        for worker in workers {
            // Its panics were caught and logged.
            let _ = worker.join();
        }
        connections.into_iter().for_each(|threads| threads.finish_stop(STOP_MAX));
        runtime.block_on(async {
            let (done, is_done) = oneshot::channel();
            // A writer that is gone has nothing to save.
            let _ = commands.send(Command::Stop(done)).await;
            let _ = is_done.await;
        });
        let _ = writer.join();
        runtime.shutdown_timeout(STOP_MAX);
    }
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A client that keeps a connection busy must not hold up a stop.
const STOP_MAX: Duration = Duration::from_secs(2);
