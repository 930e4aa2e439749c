//! Answering over UDP: one thread for each socket, many datagrams a system call.

use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::{debug, error, warn};

use super::Live;
use super::cores;
use super::counters::{Counters, Drop};
use super::mmsg::{Batch, Datagram, Sender, Wait};
use super::slow::{Full, Mailbox};
use super::turns::Turns;
use crate::answer::{Outcome, Peer, Transport, Turn, answer};

/// One socket and all it takes to answer there.
pub(super) struct UdpWorker {
    pub(super) socket: Arc<UdpSocket>,
    /// The core to stay on; `None`: any.
    pub(super) core: Option<usize>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) counters: Arc<Counters>,
    pub(super) turns: Turns,
    /// Takes what the engine leaves to the edge.
    pub(super) slow: Mailbox,
    pub(super) is_stopping: Arc<AtomicBool>,
}

impl UdpWorker {
    /// Answers until it is told to stop; what is queued at that moment is answered too, unless that takes too long.
    ///
    /// The engine never panics; should it all the same, the other queries of the batch are lost and the thread goes on.
    pub(super) fn run(&self) {
        if let Some(core) = self.core
            && let Err(error) = cores::stay_on(core)
        {
            debug!(core, %error, "cannot stay on one core");
        }
        while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            self.counters.count_panic();
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            error!(what, "a query broke the engine: a bug, please report it");
        }
    }

    fn serve(&self) {
        let mut batch = Batch::new();
        let mut turns = self.turns.clone();
        let mut last_warning: Option<Instant> = None;
        let mut stop_by: Option<Instant> = None;
        loop {
            // Asked before the socket is read: what came before the stop is surely read then.
            let is_stopping = self.is_stopping.load(Ordering::Acquire);
            if is_stopping && Instant::now() > *stop_by.get_or_insert_with(|| Instant::now() + LAST_ANSWERS_MAX) {
                return;
            }
            let wait = if is_stopping { Wait::No } else { Wait::ForOne };
            match batch.receive(&self.socket, wait) {
                Ok(0) if is_stopping => return,
                Ok(0) => continue,
                Ok(_) => {}
                Err(_) if is_stopping => return,
                Err(error) => {
                    if last_warning.is_none_or(|last| last.elapsed() > WARNING_PAUSE) {
                        last_warning = Some(Instant::now());
                        warn!(%error, "cannot receive over UDP");
                    }
                    thread::sleep(ERROR_PAUSE);
                    continue;
                }
            }
            let (live, turn) = (self.live.load(), turns.next());
            batch.answer_each(|datagram| self.answer(&live, &turn, datagram));
            self.counters.count_not_sent(batch.send(&self.socket));
        }
    }

    fn answer(&self, live: &Live, turn: &Turn<'_>, datagram: Datagram<'_>) -> Option<usize> {
        if datagram.is_cut {
            self.counters.count_unread(Drop::TooLong);
            return None;
        }
        let peer = Peer { address: datagram.peer, transport: Transport::Udp };
        let outcome = answer(&live.snapshot, turn, &peer, datagram.query, datagram.answer);
        if outcome == Outcome::Slow {
            return self.set_aside(&peer, datagram.query, &datagram.sender);
        }
        self.counters.count(&outcome, &live.region_slots)
    }

    #[cold]
    fn set_aside(&self, peer: &Peer, query: &[u8], sender: &Sender<'_>) -> Option<usize> {
        // Before somebody else answers it.
        self.counters.count_set_aside();
        if let Err(Full) = self.slow.put(&self.socket, peer.address, query, sender.address()) {
            self.counters.count_busy();
        }
        None
    }
}

/// A socket that fails (the interface is gone, say) must not turn the thread into a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Clients that never stop to ask must not hold up a stop; what one socket can queue is answered in far less.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);
const WARNING_PAUSE: Duration = Duration::from_secs(10);
