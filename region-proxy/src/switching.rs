//! The L4 services in the kernel: rules, ways into tunnels and settings, kept as the proxy's settings and servers say.
//!
//! ```text
//! settings, health, drains, neighbours ─► plan ─► crate::l4 ─► nft, netlink, sysctl
//! ```
//! One thread does it, and waits for nothing but the kernel. What is in the kernel goes on without it: it stays when this
//! process is killed, and when it hands over; it goes when it stops.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Config;
use crate::live::Proxy;
use crate::takeover::Arrival;

pub mod bell;
pub mod figures;
mod flows;
mod keeper;
mod look;
mod needs;
pub mod nft;
pub mod plan;
pub mod report;
mod sysctl;
mod tunnel;

use keeper::Keeper;
use nft::NftError;

pub use tunnel::SERVER_MAC;

/// Why L4 services cannot run.
#[derive(Debug, thiserror::Error)]
pub enum L4Error {
    /// The rules cannot be put into the kernel.
    #[error("{0}")]
    Nft(#[from] NftError),
    /// Another process runs some.
    #[error("another region-proxy runs [l4] on this machine: expected one process for all of them")]
    Taken,
    /// Something that they need cannot be had.
    #[error("{what}: {error}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the system says.
        error: io::Error,
    },
}

/// The running L4 services.
#[derive(Debug)]
pub struct Switching {
    thread: Option<JoinHandle<()>>,
    word: UnixStream,
}

impl Switching {
    /// Runs the L4 services of `proxy`; `None` where its settings have none, after removing what a process that was killed
    /// has left.
    ///
    /// By itself ([`Arrival::Fresh`]) it returns when the kernel does as it should, and fails where it never would. In the
    /// place of another ([`Arrival::Successor`]) it goes on once that has let go.
    pub fn start(proxy: &Arc<Proxy>, arrival: Arrival) -> Result<Option<Self>, L4Error> {
        if proxy.live.load().config.l4.is_empty() {
            if arrival == Arrival::Fresh {
                keeper::clean();
            }
            return Ok(None);
        }
        let system = |error| L4Error::Kernel { what: "cannot start".to_owned(), error };
        let (word, heard) = UnixStream::pair().map_err(system)?;
        if arrival == Arrival::Successor {
            // The one before serves on where this one could not.
            preflight(&proxy.live.load().config)?;
        }
        let mut keeper = Keeper::new(Arc::clone(proxy), heard).map_err(system)?;
        if arrival == Arrival::Fresh {
            keeper.lock()?;
            keeper.begin()?;
        }
        let run = move || keeper.run();
        let thread = std::thread::Builder::new().name("l4".to_owned()).spawn(run).map_err(system)?;
        Ok(Some(Self { thread: Some(thread), word }))
    }

    /// Removes everything from the kernel, and puts back what was set there.
    pub fn stop(mut self) {
        self.end(Word::Stop);
    }

    /// Leaves all as it is to another process, which runs L4 services too.
    pub fn hand_over(mut self) {
        self.end(Word::HandOver);
    }

    fn end(&mut self, word: Word) {
        // A thread that ended does not hear it.
        let _ = self.word.write_all(&[word as u8]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Switching {
    /// Whoever forgets it has failed to start.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(Word::Stop);
        }
    }
}

/// How the thread is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Stop = b's' as isize,
    HandOver = b'h' as isize,
}

/// Whether `next` can have its L4 services on this machine: what a reload asks before it changes anything.
pub fn preflight(next: &Config) -> Result<(), L4Error> {
    keeper::preflight(next)
}

/// What happens within this time is one change.
const COALESCE: Duration = Duration::from_millis(20);
