//! Answering over TCP (RFC 7766): pipelined queries, answers in their order, and limits so that nobody keeps others out.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, error, warn};

use super::Live;
use super::clock::unix_secs;
use super::counters::Counters;
use super::seats::{Seat, SeatLimits, Seats, TcpCounters};
use crate::answer::{Peer, Transport, Turn, answer};

/// What connections may use.
#[derive(Clone, Debug)]
pub(super) struct TcpLimits {
    /// How many there may be.
    pub(super) seats: SeatLimits,
    /// Time between two queries.
    pub(super) idle: Duration,
    /// Time for one query to arrive whole, counted from the connection's start or from its first octet, and for an
    /// answer to be taken.
    pub(super) message: Duration,
}

/// What all connections share.
pub(super) struct TcpFront {
    live: Arc<ArcSwap<Live>>,
    counters: Arc<Counters>,
    tcp_counters: Arc<TcpCounters>,
    limits: TcpLimits,
    seats: Arc<Seats>,
}

impl Default for TcpLimits {
    fn default() -> Self {
        let total = CONNECTIONS_MAX.min(open_files_max().map_or(usize::MAX, |most| most / 2));
        let seats = SeatLimits { total, per_client: CONNECTIONS_PER_CLIENT_MAX };
        Self { seats, idle: Duration::from_secs(10), message: Duration::from_secs(5) }
    }
}

impl TcpFront {
    pub(super) fn new(
        live: Arc<ArcSwap<Live>>,
        counters: Arc<Counters>,
        tcp_counters: Arc<TcpCounters>,
        limits: TcpLimits,
    ) -> Self {
        let seats = Arc::new(Seats::new(limits.seats, Arc::clone(&tcp_counters)));
        Self { live, counters, tcp_counters, limits, seats }
    }

    /// Takes connections until `is_stopping`.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, mut is_stopping: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut is_stopping) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &is_stopping),
                // Files run out, or the client is gone already. Others must not be kept waiting for long.
                Err(error) => {
                    warn!(%error, "cannot accept a TCP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who has connected already gets an answer still.
        let end = Instant::now() + LAST_WAIT;
        while let Ok(Ok((stream, peer))) = timeout_at(end, listener.accept()).await {
            self.admit(stream, peer, &is_stopping);
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, is_stopping: &watch::Receiver<bool>) {
        if let Some(seat) = self.seats.take(peer.ip()) {
            tokio::spawn(serve(Arc::clone(self), seat, stream, peer, is_stopping.clone()));
        }
    }
}

async fn serve(
    front: Arc<TcpFront>,
    seat: Seat,
    stream: TcpStream,
    peer: SocketAddr,
    is_stopping: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let mut connection =
        Connection { front: &front, seat: &seat, stream, peer: peer.ip(), unread: Vec::new(), unsent: Vec::new() };
    match connection.run(is_stopping).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            front.tcp_counters.timed_out.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => debug!(%peer, %error, "TCP connection broke"),
    }
}

struct Connection<'a> {
    front: &'a TcpFront,
    seat: &'a Seat,
    stream: TcpStream,
    peer: IpAddr,
    /// Octets received and not yet answered: less than one message after each [`Connection::answer_and_send`].
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection<'_> {
    async fn run(&mut self, mut is_stopping: watch::Receiver<bool>) -> io::Result<()> {
        let mut deadline = Instant::now() + self.front.limits.message;
        loop {
            let room = self.room_wanted();
            self.unread.reserve(room);
            let was_between = self.unread.is_empty();
            let read = tokio::select! {
                biased;
                () = stopped(&mut is_stopping) => return self.finish().await,
                () = self.seat.evicted() => return self.finish().await,
                read = timeout_at(deadline, self.stream.read_buf(&mut self.unread)) => read,
            };
            let Ok(read) = read else { return Err(io::ErrorKind::TimedOut.into()) };
            if read? == 0 {
                return Ok(());
            }
            self.seat.set_idle(false);
            let answered = self.answer_and_send().await?;
            self.seat.set_idle(self.unread.is_empty());
            let limits = &self.front.limits;
            // A message that has begun must be complete in time; its further octets buy no more of it.
            match (self.unread.is_empty(), answered > 0 || was_between) {
                (true, _) => deadline = Instant::now() + limits.idle,
                (false, true) => deadline = Instant::now() + limits.message,
                (false, false) => {}
            }
        }
    }

    /// Answers what has come already, then ends: what comes from here on is not waited for.
    async fn finish(&mut self) -> io::Result<()> {
        for _ in 0..LAST_READS_MAX {
            self.unread.reserve(READ_LEN);
            match timeout(LAST_WAIT, self.stream.read_buf(&mut self.unread)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => self.answer_and_send().await?,
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            };
        }
        self.stream.shutdown().await
    }

    /// Answers every whole message in the order of arrival; gives their number. What is unsent is sent before it grows
    /// beyond [`UNSENT_MAX`] by more than one answer: who does not read gets nothing more answered.
    async fn answer_and_send(&mut self) -> io::Result<usize> {
        let (mut at, mut answered) = (0, 0);
        while let Some(len) = message_len(&self.unread[at..]) {
            let Some(query) = self.unread.get(at + 2..at + 2 + len) else { break };
            answer_into(self.front, self.peer, query, &mut self.unsent);
            at += 2 + len;
            answered += 1;
            if self.unsent.len() >= UNSENT_MAX {
                self.send().await?;
            }
        }
        self.unread.drain(..at);
        if self.unread.is_empty() && self.unread.capacity() > READ_LEN {
            // An idle connection holds little.
            self.unread = Vec::new();
        }
        self.send().await?;
        Ok(answered)
    }

    async fn send(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match timeout(self.front.limits.message, self.stream.write_all(&self.unsent)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        self.unsent.clear();
        self.unsent.shrink_to(READ_LEN);
        Ok(())
    }

    /// Octets that the message that has begun still lacks, or a first helping.
    fn room_wanted(&self) -> usize {
        let lacking = message_len(&self.unread).map_or(0, |len| (2 + len).saturating_sub(self.unread.len()));
        lacking.max(READ_LEN.saturating_sub(self.unread.len())).max(2)
    }
}

/// Waits for the stop; a sender that is gone has stopped too.
async fn stopped(is_stopping: &mut watch::Receiver<bool>) {
    let _ = is_stopping.wait_for(|stop| *stop).await;
}

/// The length in front of a message, once it is there.
fn message_len(octets: &[u8]) -> Option<usize> {
    octets.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length)))
}

/// Appends the answer to `query`, with its length in front; nothing where there is no answer.
fn answer_into(front: &TcpFront, address: IpAddr, query: &[u8], unsent: &mut Vec<u8>) {
    let live = front.live.load();
    let (turn, peer) = (Turn::unlimited(unix_secs()), Peer { address, transport: Transport::Tcp });
    ROOM.with_borrow_mut(|room| {
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&live.snapshot, &turn, &peer, query, room)));
        let Ok(outcome) = outcome else {
            front.counters.count_panic();
            error!(%address, "a query broke the engine: a bug, please report it");
            return;
        };
        let len = front.counters.count(&outcome, &live.region_slots).unwrap_or_default();
        let answer = room.get(..len).unwrap_or_default();
        if let (1.., Ok(length)) = (len, u16::try_from(answer.len())) {
            unsent.extend_from_slice(&length.to_be_bytes());
            unsent.extend_from_slice(answer);
        }
    });
}

thread_local! {
    /// Where answers are written before they are copied to their connection: as long as a message can be.
    static ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(u16::MAX)]);
}

/// How many files the process may have open, where the system says.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Far more than resolvers open; each costs a few KiB.
const CONNECTIONS_MAX: usize = 10_000;
/// A busy resolver opens a handful; many may share an address.
const CONNECTIONS_PER_CLIENT_MAX: usize = 100;
/// What is read at once, and kept by an idle connection at most.
const READ_LEN: usize = 2048;
/// Octets of answers that may wait for a client to read.
const UNSENT_MAX: usize = 64 << 10;
/// A client that never stops to send must not keep a connection that is to end.
const LAST_READS_MAX: usize = 64;
/// What the kernel has already may take the runtime a moment to hear of.
const LAST_WAIT: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
