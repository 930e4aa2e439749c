//! Answering over TCP (RFC 7766, RFC 9210): pipelined queries, answers in their order, and limits so that nobody keeps
//! others out. What takes long on one connection holds up no other.
//!
//! Threads of its own, so that neither a flood of connections delays a probe nor the other way round. Each has a runtime
//! of its own: a connection stays where it is, and shares nothing on the way of a query. (A multi-thread runtime of one
//! thread: measured beside a current-thread one it finds more queries at once and takes a quarter less CPU for each.)

mod connection;

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant as StdInstant};

use arc_swap::ArcSwap;
use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::Live;
use super::counters::Counters;
use super::seats::Seats;
use super::slow::SlowPath;
use connection::Connection;

/// What the connections of one thread share.
pub(super) struct Lane {
    /// What answers are made from.
    pub(super) live: Arc<ArcSwap<Live>>,
    /// Written by the one thread.
    pub(super) counters: Arc<Counters>,
    /// Answers what the engine leaves to the edge.
    pub(super) slow: Arc<SlowPath>,
}

/// The threads that answer over TCP.
pub(super) struct TcpThreads {
    /// Says when to stop; open while a connection is.
    stop: watch::Sender<bool>,
    runtimes: Vec<Runtime>,
}

/// One thread, as the others see it.
#[derive(Clone)]
struct Desk {
    lane: Arc<Lane>,
    handle: Handle,
}

/// What takes the connections of one listener.
struct Acceptor {
    listener: TcpListener,
    seats: Arc<Seats>,
    desks: Arc<[Desk]>,
    next: Arc<AtomicUsize>,
    is_stopping: watch::Receiver<bool>,
}

impl TcpThreads {
    /// Starts a thread for each of `lanes`, which must not be empty, and takes connections from `listeners`.
    pub(super) fn start(listeners: Vec<StdListener>, seats: Arc<Seats>, lanes: Vec<Lane>) -> io::Result<Self> {
        let mut started = Self { stop: watch::Sender::new(false), runtimes: Vec::new() };
        let desks = lanes.into_iter().map(|lane| started.open_desk(lane)).collect::<io::Result<Arc<[Desk]>>>()?;
        let Some(first) = desks.first() else { return Ok(started) };
        first.handle.spawn(Arc::clone(&seats).keep_time());
        let next = Arc::new(AtomicUsize::new(0));
        for (listener, desk) in listeners.into_iter().zip(desks.iter().cycle()) {
            limit_kernel(&listener, seats.answer_wait());
            let _context = desk.handle.enter();
            let (seats, desks, next) = (Arc::clone(&seats), Arc::clone(&desks), Arc::clone(&next));
            let listener = TcpListener::from_std(listener)?;
            let is_stopping = started.stop.subscribe();
            desk.handle.spawn(Acceptor { listener, seats, desks, next, is_stopping }.run());
        }
        Ok(started)
    }

    fn open_desk(&mut self, lane: Lane) -> io::Result<Desk> {
        let mut builder = runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("gslb-tcp").enable_all().build()?;
        let desk = Desk { lane: Arc::new(lane), handle: runtime.handle().clone() };
        self.runtimes.push(runtime);
        Ok(desk)
    }

    /// Asks all connections to end after what has come already.
    pub(super) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends once all connections have, or after `most`.
    pub(super) fn finish_stop(self, most: Duration) {
        self.begin_stop();
        let Self { stop, runtimes } = self;
        if let Some(runtime) = runtimes.first() {
            // Each connection holds a receiver.
            let _ = runtime.block_on(async { timeout(most, stop.closed()).await });
        }
        runtimes.into_iter().for_each(|runtime| runtime.shutdown_timeout(most));
    }
}

impl Acceptor {
    async fn run(mut self) {
        let mut last_warning: Option<StdInstant> = None;
        loop {
            let mut is_stopping = self.is_stopping.clone();
            let desk = self.next_desk();
            let accepted = tokio::select! {
                biased;
                // A sender that is gone has stopped too.
                _ = is_stopping.wait_for(|stop| *stop) => break,
                accepted = accept(&self.listener, &desk) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.seat(&desk, stream, peer),
                Err(error) => self.recover(&error, &mut last_warning).await,
            }
        }
        // Who has connected already gets an answer still.
        let (end, desk) = (Instant::now() + LAST_WAIT, self.next_desk());
        while let Ok(Ok((stream, peer))) = timeout_at(end, accept(&self.listener, &desk)).await {
            self.seat(&desk, stream, peer);
        }
        self.seats.end_all();
    }

    fn next_desk(&mut self) -> Desk {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.desks[next % self.desks.len()].clone()
    }

    fn seat(&self, desk: &Desk, stream: TcpStream, peer: SocketAddr) {
        // Answers are sent whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let (socket, writer) = stream.into_split();
        let seat = self.seats.take(peer.ip(), writer);
        let connection = Connection::new(Arc::clone(&desk.lane), seat, socket, peer.ip());
        // Open as long as the connection is.
        let is_stopping = self.is_stopping.clone();
        desk.handle.spawn(async move {
            if let Err(error) = connection.run().await {
                debug!(%peer, %error, "TCP connection broke");
            }
            drop(is_stopping);
        });
    }

    /// Files run out, or the client is gone already: others must not be kept waiting for long.
    async fn recover(&self, error: &io::Error, last_warning: &mut Option<StdInstant>) {
        let out_of_files = [Errno::EMFILE, Errno::ENFILE].map(|errno| errno as i32);
        if error.raw_os_error().is_some_and(|code| out_of_files.contains(&code)) {
            self.seats.count_refused();
        }
        if last_warning.is_none_or(|last| last.elapsed() > WARNING_PAUSE) {
            *last_warning = Some(StdInstant::now());
            warn!(%error, "cannot accept a TCP connection");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

/// The next connection, which the runtime of `desk` watches over.
async fn accept(listener: &TcpListener, desk: &Desk) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        let _context = desk.handle.enter();
        listener.poll_accept(context)
    })
    .await
}

/// Accepted connections inherit it: what one may fill in the kernel does not grow with its appetite, and the kernel does
/// not keep for longer what the client does not take in `answer_wait`, be the connection closed here or not. (Otherwise a
/// client that says again and again that it has no room would be asked for ever.)
fn limit_kernel(listener: &StdListener, answer_wait: Duration) {
    let socket = SockRef::from(listener);
    // Best effort: without it the kernel has limits of its own.
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_tcp_user_timeout(Some(answer_wait.max(ANSWER_WAIT_MIN)));
}

/// Octets of answers that the kernel may hold for a client; it doubles this for its own needs.
const SEND_BUFFER: usize = 128 << 10;
/// Octets of queries that it may hold: more than a thousand.
const RECEIVE_BUFFER: usize = 64 << 10;
/// In less, a segment lost on the way is not sent again.
const ANSWER_WAIT_MIN: Duration = Duration::from_secs(1);
/// What the kernel has already may take the runtime a moment to hear of.
const LAST_WAIT: Duration = Duration::from_millis(20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const WARNING_PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
