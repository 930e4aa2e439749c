//! Answering over TCP (RFC 7766, RFC 9210) and TLS (RFC 7858): pipelined queries, answers in their order save those
//! that take long, and limits so that nobody keeps others out. HTTPS begins here too. What takes long holds up nothing else,
//! neither on its own connection (RFC 7766, section 6.2.1.1) nor on another.
//!
//! Threads of its own, so that neither a flood of connections delays a probe nor the other way round. Each has a runtime
//! of its own: a connection stays where it is, and shares nothing on the way of a query. (A multi-thread runtime of one
//! thread: measured beside a current-thread one it finds more queries at once and takes a quarter less CPU for each.)

mod aside;
mod connection;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
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
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::Live;
use super::counters::Counters;
use super::encrypted::https;
use super::seats::{Awaited, Seat, Seats};
use super::slow::SlowPath;
use crate::answer::Transport;
use connection::Connection;
use stream::{Socket, TlsStream};

/// What the connections of one thread share that come by one transport.
pub(super) struct Lane {
    pub(super) transport: Transport,
    /// What answers are made from.
    pub(super) live: Arc<ArcSwap<Live>>,
    /// Written by the one thread.
    pub(super) counters: Arc<Counters>,
    /// Answers what the engine leaves to the edge.
    pub(super) slow: Arc<SlowPath>,
}

/// What is spoken on the connections of a listener.
#[derive(Clone)]
pub(super) enum Front {
    /// DNS as it is.
    Tcp,
    /// DNS over TLS.
    Tls(TlsAcceptor),
    /// DNS over HTTPS.
    Https(TlsAcceptor),
}

/// Threads that answer over connections.
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
    front: Front,
    listener: TcpListener,
    seats: Arc<Seats>,
    desks: Arc<[Desk]>,
    next: Arc<AtomicUsize>,
    is_stopping: watch::Receiver<bool>,
}

impl TcpThreads {
    /// Starts a thread for each of `lanes`, which must not be empty, and takes connections from `listeners`. Time passes
    /// for all `seats` from then on.
    pub(super) fn start(listeners: Vec<StdListener>, seats: Arc<Seats>, lanes: Vec<Lane>) -> io::Result<Self> {
        let started = Self::open("gslb-tcp", lanes.len())?;
        started.serve(&Front::Tcp, listeners, &seats, lanes)?;
        if let Some(first) = started.runtimes.first() {
            first.spawn(seats.keep_time());
        }
        Ok(started)
    }

    /// Starts `count` threads of that name, which have nothing to do yet.
    pub(super) fn open(name: &str, count: usize) -> io::Result<Self> {
        let open = |_| runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
        Ok(Self { stop: watch::Sender::new(false), runtimes: (0..count).map(open).collect::<io::Result<_>>()? })
    }

    /// Speaks `front` with who connects to `listeners`. There is one of `lanes` for each thread.
    pub(super) fn serve(
        &self,
        front: &Front,
        listeners: Vec<StdListener>,
        seats: &Arc<Seats>,
        lanes: Vec<Lane>,
    ) -> io::Result<()> {
        let desk = |(lane, runtime): (Lane, &Runtime)| Desk { lane: Arc::new(lane), handle: runtime.handle().clone() };
        let desks: Arc<[Desk]> = lanes.into_iter().zip(&self.runtimes).map(desk).collect();
        let next = Arc::new(AtomicUsize::new(0));
        for (listener, desk) in listeners.into_iter().zip(desks.iter().cycle()) {
            limit_kernel(&listener, seats.answer_wait());
            let _context = desk.handle.enter();
            let (front, seats) = (front.clone(), Arc::clone(seats));
            let (desks, next) = (Arc::clone(&desks), Arc::clone(&next));
            let listener = TcpListener::from_std(listener)?;
            let is_stopping = self.stop.subscribe();
            desk.handle.spawn(Acceptor { front, listener, seats, desks, next, is_stopping }.run());
        }
        Ok(())
    }

    /// Runs what `task` makes on thread `at`, counted from the first over and over; what it is given says when to stop,
    /// and keeps the node from ending before it is dropped.
    pub(super) fn spawn<F>(
        &self,
        at: usize,
        task: impl FnOnce(watch::Receiver<bool>) -> io::Result<F>,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(runtime) = self.runtimes.iter().cycle().nth(at) else { return Ok(()) };
        let _context = runtime.enter();
        runtime.spawn(task(self.stop.subscribe())?);
        Ok(())
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
        let (lane, peer_ip) = (Arc::clone(&desk.lane), peer.ip());
        // Open as long as the connection is.
        let is_stopping = self.is_stopping.clone();
        match &self.front {
            Front::Tcp => {
                let (seat, socket) = self.split(stream, peer_ip);
                desk.handle.spawn(async move {
                    report(peer, Connection::new(lane, seat, socket, peer_ip).run().await);
                    drop(is_stopping);
                })
            }
            Front::Https(acceptor) => {
                let (acceptor, seat) = (acceptor.clone(), self.seats.take_watching(peer_ip));
                desk.handle.spawn(async move {
                    report(peer, https::serve(acceptor, lane, seat, stream, peer_ip).await);
                    drop(is_stopping);
                })
            }
            Front::Tls(acceptor) => {
                let acceptor = acceptor.clone();
                let (seat, socket) = self.split(stream, peer_ip);
                desk.handle.spawn(async move {
                    report(peer, serve_tls(acceptor, lane, seat, socket, peer_ip).await);
                    drop(is_stopping);
                })
            }
        };
    }

    /// A seat for a connection that is read here.
    fn split(&self, stream: TcpStream, peer: IpAddr) -> (Seat, Socket) {
        let (socket, writer) = stream.into_split();
        (self.seats.take(peer, writer), Socket(socket))
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

/// Shakes hands and answers. The time for both together is that for a first query; the seat ends who takes longer.
async fn serve_tls(acceptor: TlsAcceptor, lane: Arc<Lane>, seat: Seat, socket: Socket, peer: IpAddr) -> io::Result<()> {
    let (socket, session) = acceptor.accept(socket).await?.into_inner();
    seat.wait_for(Awaited::RestOfQuery);
    Connection::new(lane, seat, TlsStream::new(socket, session), peer).run().await
}

fn report(peer: SocketAddr, end: io::Result<()>) {
    if let Err(error) = end {
        debug!(%peer, %error, "connection broke");
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
