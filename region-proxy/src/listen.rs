//! Where clients connect: each serving thread has listeners of its own on the same addresses.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::config::Entry;
use crate::guests::Guest;
use crate::live::throttle::Throttle;
use crate::relay::{self, Peer};
use crate::socket::{Socket, Then};
use crate::tcp;
use crate::upstream::KEEPALIVE;
use crate::worker::Worker;

/// How far a listener, or the whole proxy, is with its end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// It takes connections.
    #[default]
    Serving,
    /// Another takes them, at the very same sockets; what is connected goes on until it is done, and what is idle until
    /// it is used once more.
    HandedOver,
    /// Nobody takes them; what is under way goes on until it is done, and what is idle is closed.
    Stopping,
    /// Nobody takes them, and the time for what is under way is over.
    Cut,
}

/// The connections that may be open at one time, and the word to stop.
#[derive(Clone, Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    connections_max: u32,
    newcomers: Arc<AtomicUsize>,
    stop: watch::Receiver<Phase>,
}

impl Gate {
    /// Lets `connections_max` connections in until `stop` has come to [`Phase::Stopping`].
    pub fn new(connections_max: usize, stop: watch::Receiver<Phase>) -> Self {
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let permits = Arc::new(Semaphore::new(connections_max as usize));
        Self { permits, connections_max, newcomers: Arc::default(), stop }
    }

    /// The word to stop.
    pub fn stop(&self) -> watch::Receiver<Phase> {
        self.stop.clone()
    }

    /// Whether a newcomer waits for a place: then each thread closes an idle connection at every tick.
    pub fn is_wanted(&self) -> bool {
        self.newcomers.load(Ordering::Relaxed) > 0
    }

    /// A place for a connection that was just accepted: a free one, that of an idle connection, or the next that ends.
    async fn enter(&self, worker: &Worker) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = Newcomer::new(&self.newcomers);
        worker.proxy.tally.wait(worker.number);
        worker.deadlines.dismiss_one();
        let mut stop = self.stop();
        tokio::select! {
            biased;
            permit = Arc::clone(&self.permits).acquire_owned() => permit.ok(),
            () = over(&mut stop) => None,
        }
    }

    /// Waits at most `limit` for all connections to end; returns how many did not.
    ///
    /// To be called once all its listeners have ended: until then they would wait for places behind this.
    pub async fn finish(&self, limit: Duration) -> usize {
        let all = self.permits.acquire_many(self.connections_max);
        match tokio::time::timeout(limit, all).await {
            Ok(_) => 0,
            Err(_) => self.connections_max as usize - self.permits.available_permits(),
        }
    }
}

/// The place of a connection: among all, and among those of its client.
#[derive(Debug)]
pub struct Permit {
    _place: OwnedSemaphorePermit,
    /// Where it counts as one of its client's, once that is known.
    pub guest: Option<Guest>,
}

/// Counts as waiting until dropped.
struct Newcomer<'g>(&'g AtomicUsize);

impl<'g> Newcomer<'g> {
    fn new(count: &'g AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Newcomer<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where clients connect.
#[derive(Debug)]
pub struct Listener {
    /// What accepts them.
    pub fd: OwnedFd,
    /// What they speak there.
    pub entry: Entry,
    /// The word to take no more of them.
    pub stop: watch::Receiver<Phase>,
}

/// Whether others may listen on the same address (`SO_REUSEPORT`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// As the threads of a proxy do, and the proxies of a region that share its VIP on one machine.
    Shared,
    /// As what speaks for one process must.
    Alone,
}

/// Whether an address is on this machine when it is listened on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It must be: a mistake in the settings is noticed.
    Now,
    /// Perhaps only later: a VIP that another machine holds (`IP_FREEBIND`).
    AtTimes,
}

/// Listens on `address`; an IPv6 address takes IPv6 only.
///
/// Its connections send at once, and find out when their client is gone.
pub fn bind(address: SocketAddr, sharing: Sharing, presence: Presence) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    match presence {
        Presence::Now => {}
        Presence::AtTimes if address.is_ipv6() => socket.set_freebind_v6(true)?,
        Presence::AtTimes => socket.set_freebind_v4(true)?,
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Shared)?;
    set_up(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Gives a socket the options that its connections inherit, which saves system calls for each.
pub fn set_up(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// Has what clients of HTTP send first acknowledged by the response, which saves a packet for each of their connections; of
/// others it is acknowledged at once. For sockets that listen already.
///
/// A client may hold back the rest of what it sends until then (Nagle's algorithm, RFC 9293, section 3.7.4): whoever waits
/// for more calls [`Socket::acknowledge`]. TLS would have to do so too often, and servers behind plain TCP may be slow.
pub fn hold_acknowledgements(socket: &socket2::Socket, entry: Entry) -> io::Result<()> {
    socket.set_tcp_quickack(entry != Entry::Http)
}

/// Serves the connections of `listener` until it is told to stop; `ended` is dropped then.
///
/// What waits in the kernel's queue at that moment is still served, here or by whom it was handed over to. At the bound
/// the next connection waits for a place, and the others behind it in the queue.
pub async fn serve(worker: Rc<Worker>, listener: Listener, gate: Gate, _ended: mpsc::Sender<()>) {
    let Listener { fd: listener, entry, mut stop } = listener;
    let own = rustix::net::getsockname(&listener).and_then(SocketAddr::try_from);
    let own = Own { address: own.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))), entry };
    let (mut listener, refusals) = (Socket::new(listener), Throttle::default());
    let (mut word, mut stall) = (stop.clone(), None);
    let mut stopping = std::pin::pin!(stopped(&mut word));
    // With a newcomer always waiting the word itself would not be looked for.
    while *stop.borrow() == Phase::Serving {
        set_stall(&listener, &worker, &mut stall);
        let accepted = poll_fn(|cx| match listener.poll_take(cx, accept) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => stopping.as_mut().poll(cx).map(|()| None),
        });
        let Some(accepted) = accepted.await else { break };
        match accepted {
            Ok(accepted) => begin(&worker, &gate, own, accepted).await,
            Err(error) => {
                // Out of files or memory: what is open now must end first.
                if let Some(left_out) = refusals.pass(Instant::now()) {
                    tracing::error!(%error, left_out, "cannot accept connections");
                }
                worker.deadlines.dismiss_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    if *stop.borrow_and_update() == Phase::HandedOver {
        return;
    }
    for _ in 0..BACKLOG {
        let Ok(Ok((accepted, _))) = listener.fd().map(accept) else { return };
        begin(&worker, &gate, own, accepted).await;
    }
}

type Accepted = (OwnedFd, Option<SocketAddrAny>);

fn accept(listener: BorrowedFd<'_>) -> rustix::io::Result<(Option<Accepted>, Then)> {
    match rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(accepted) => Ok((Some(accepted), Then::Unknown)),
        Err(Errno::CONNABORTED) => Ok((None, Then::Unknown)),
        Err(error) => Err(error),
    }
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug)]
struct Own {
    address: SocketAddr,
    entry: Entry,
}

/// Serves a connection to `own` once there is a place for it.
async fn begin(worker: &Rc<Worker>, gate: &Gate, own: Own, accepted: Option<Accepted>) {
    let Some((fd, Some(peer))) = accepted else { return };
    let Ok(address) = SocketAddr::try_from(peer) else { return };
    let current = worker.current();
    let introduced = &current.live.config.proxy_protocol;
    let is_unintroduced = introduced.listen.contains(&own.address);
    if is_unintroduced && !introduced.from.is_empty() && !introduced.from.iter().any(|from| from.contains(address.ip()))
    {
        tracing::debug!(peer = %address, "connection refused: not one that may send a PROXY header");
        worker.proxy.tally.turn_away(worker.number);
        return;
    }
    let guest = if is_unintroduced { Ok(None) } else { Guest::enter(worker, address.ip(), &current.live.config) };
    let Ok(guest) = guest else { return };
    if let Some(place) = gate.enter(worker).await {
        let permit = Permit { _place: place, guest };
        let is_secure = own.entry == Entry::Https;
        let peer = Peer { address, destination: own.address, is_secure, is_http2: false, tls: None };
        let (worker, socket) = (Rc::clone(worker), Socket::new(fd));
        match own.entry {
            Entry::Http => {
                tokio::task::spawn_local(relay::connection(worker, socket, peer, is_unintroduced, permit));
            }
            Entry::Https => {
                // Never absent where there is such a listener.
                let Some(front) = worker.proxy.tls.front.load_full() else { return };
                let config = Arc::clone(&front.config);
                let serving = relay::secure_connection(worker, socket, peer, is_unintroduced, config, permit);
                tokio::task::spawn_local(serving);
            }
            Entry::Tcp(at) => {
                tokio::task::spawn_local(tcp::connection(worker, socket, peer, at, is_unintroduced, permit));
            }
        }
    }
}

/// Has the kernel cut clients that take nothing of what is sent to them, which a time limit on writing does not see.
fn set_stall(listener: &Socket, worker: &Worker, set: &mut Option<Duration>) {
    let stall = worker.current().live.config.limits.client_stall;
    if *set != Some(stall)
        && let Ok(listener) = listener.fd()
        && SockRef::from(&listener).set_tcp_user_timeout(Some(stall)).is_ok()
    {
        *set = Some(stall);
    }
}

/// Waits for the word to take no more connections.
pub async fn stopped(stop: &mut watch::Receiver<Phase>) {
    // An error means that the sender is gone, and with it the proxy.
    let _ = stop.wait_for(|phase| *phase != Phase::Serving).await;
}

/// Waits for the word to close what is idle.
pub async fn over(stop: &mut watch::Receiver<Phase>) {
    let _ = stop.wait_for(|phase| matches!(phase, Phase::Stopping | Phase::Cut)).await;
}

/// Waits for the word to end what is under way.
pub async fn cut(stop: &mut watch::Receiver<Phase>) {
    let _ = stop.wait_for(|phase| *phase == Phase::Cut).await;
}

/// Connections that the kernel completes for us before they are accepted.
const BACKLOG: i32 = 4096;
