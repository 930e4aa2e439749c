//! Who holds the VIPs: VRRP at the sockets, on a thread of its own.
//!
//! ```text
//! packets, interfaces, what is tracked, time ─► crate::vrrp ─► packets, addresses, announcements
//! ```
//! The thread has real-time priority where that is allowed, waits for nothing but the kernel, and never for the log or for
//! who reads its reports. A watchdog process beside it removes the VIPs when it dies.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

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

use crate::live::Proxy;
use crate::netlink;
use house::House;
use notes::Notes;

pub use sweep::{Lock, Traces};

/// The running virtual routers.
#[derive(Debug)]
pub struct Takeover {
    thread: JoinHandle<()>,
    log: JoinHandle<()>,
    stop: UnixStream,
    traces: Traces,
}

impl Takeover {
    /// Runs the virtual routers of `proxy`; `None` where its settings have none. `listens` says whether clients can connect.
    pub fn start(
        proxy: Arc<Proxy>,
        arrival: Arrival,
        listens: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Option<Self>> {
        let settings = proxy.live.load().config.vrrp.clone();
        if settings.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = UnixStream::pair()?;
        stopped.set_nonblocking(true)?;
        let (notes, log) = Notes::start()?;
        let traces = Traces::of(&settings);
        let house = House::new(proxy, arrival, Box::new(listens), settings, stopped, notes)?;
        let thread = std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || house.run())?;
        Ok(Some(Self { thread, log, stop, traces }))
    }

    /// Lets go of all VIPs, so that others take them at once; returns once they are off this machine.
    pub fn stop(self) {
        self.end(Word::Stop);
    }

    /// Leaves them to another process of this machine, an [`Arrival::Successor`] that runs `theirs`; lets go where these
    /// are not the same, since nobody would take off what that one does not know of.
    pub fn hand_over(self, theirs: &Traces) {
        let word = if *theirs == self.traces { Word::HandOver } else { Word::Stop };
        self.end(word);
    }

    fn end(mut self, word: Word) {
        // A thread that ended does not hear it.
        let _ = self.stop.write_all(&[word as u8]);
        let _ = self.thread.join();
        let _ = self.log.join();
    }
}

/// How the thread is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Stop = b's' as isize,
    HandOver = b'h' as isize,
}

/// How this process came to run the virtual routers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// By itself: VIPs that are here were left by one that was killed.
    Fresh,
    /// In the place of a running one: VIPs that are here are held.
    Successor,
}
