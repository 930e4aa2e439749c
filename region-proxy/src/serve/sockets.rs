//! The sockets at which clients and `gslb-dns` connect: bound here, or taken over from who had them before.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::Socket;
use tokio::sync::{mpsc, watch};

use super::ServeError;
use super::inherited::Inherited;
use crate::config::{Config, Entry};
use crate::listen::{self, Listener, Phase, Presence, Sharing};

/// All listening sockets, and the threads that serve clients at them.
#[derive(Debug)]
pub struct Sockets {
    status: (SocketAddr, Socket),
    bound: Vec<Bound>,
    /// How each thread is given listeners.
    threads: Vec<mpsc::UnboundedSender<Listener>>,
}

/// One address at which clients connect.
///
/// There is a socket for each thread, which the kernel spreads connections over. Each has a queue of its own, so none is
/// ever closed while its address is served.
#[derive(Debug)]
struct Bound {
    /// As the settings have it; port 0 there is another one here.
    asked: SocketAddr,
    address: SocketAddr,
    entry: Entry,
    sockets: Vec<Socket>,
    stop: watch::Sender<Phase>,
}

/// Addresses of new settings, bound and not served yet.
#[derive(Debug)]
pub struct Change {
    fresh: Vec<(Bound, Vec<Listener>)>,
    /// What becomes of those that are served.
    fates: Vec<Phase>,
}

impl Sockets {
    /// Those of `config` for `threads` threads; what `inherited` has of them is taken from there.
    pub fn open(config: &Config, threads: usize, inherited: &mut Inherited) -> Result<Self, ServeError> {
        let status = match inherited.take(config.status).pop() {
            Some(socket) => socket,
            None => bind(config.status, Sharing::Alone, Presence::Now)?,
        };
        let presence = presence(config);
        let open = |(asked, entry)| Bound::open(asked, entry, inherited.take(asked), threads, presence(asked.ip()));
        let bound = config.entrances().map(open).collect::<Result<_, _>>()?;
        Ok(Self { status: (config.status, status), bound, threads: Vec::with_capacity(threads) })
    }

    /// The socket for `gslb-dns` and operators.
    pub fn status(&self) -> io::Result<Socket> {
        self.status.1.try_clone()
    }

    /// Where clients connect, and what they speak there.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, Entry)> {
        self.bound.iter().map(|bound| (bound.address, bound.entry))
    }

    /// Has `threads` serve clients.
    pub fn start(&mut self, threads: Vec<mpsc::UnboundedSender<Listener>>) -> Result<(), ServeError> {
        self.threads = threads;
        for bound in &self.bound {
            self.serve(bound.listeners(self.threads.len())?);
        }
        Ok(())
    }

    /// Binds what `config` has and this has not. Nothing changes yet.
    pub fn prepare(&self, config: &Config) -> Result<Change, ServeError> {
        let mut fates = vec![Phase::Stopping; self.bound.len()];
        let mut fresh = Vec::new();
        let presence = presence(config);
        for (asked, entry) in config.entrances() {
            let is_same = |&(index, bound): &(usize, &Bound)| bound.asked == asked && fates[index] == Phase::Stopping;
            let found = self.bound.iter().enumerate().find(is_same);
            let sockets = match found {
                Some((index, bound)) if bound.entry == entry => {
                    fates[index] = Phase::Serving;
                    continue;
                }
                // What waits there speaks the other protocol, but the address is ours all the time.
                Some((index, bound)) => {
                    fates[index] = Phase::HandedOver;
                    bound.sockets.iter().map(Socket::try_clone).collect::<io::Result<_>>()?
                }
                None => Vec::new(),
            };
            let bound = Bound::open(asked, entry, sockets, self.threads.len(), presence(asked.ip()))?;
            let listeners = bound.listeners(self.threads.len())?;
            fresh.push((bound, listeners));
        }
        Ok(Change { fresh, fates })
    }

    /// Serves what was prepared, and lets go of what is not wanted any more.
    pub fn commit(&mut self, change: Change) {
        let before = std::mem::take(&mut self.bound).into_iter().zip(change.fates);
        let (kept, gone): (Vec<_>, Vec<_>) = before.partition(|(_, fate)| *fate == Phase::Serving);
        self.bound = kept.into_iter().map(|(bound, _)| bound).collect();
        for (bound, listeners) in change.fresh {
            tracing::info!(address = %bound.address, speaks = ?bound.entry, "listening");
            self.serve(listeners);
            self.bound.push(bound);
        }
        for (bound, fate) in gone {
            tracing::info!(address = %bound.address, speaks = ?bound.entry, "not listening any more");
            bound.end(fate);
        }
    }

    /// All of them with the addresses in the settings, to be handed over.
    pub fn copies(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let clients = self.bound.iter().flat_map(|bound| bound.sockets.iter().map(|socket| (bound.asked, socket)));
        // In the order of `open`, by which addresses that leave the port to the system are found again.
        let all = [(self.status.0, &self.status.1)].into_iter().chain(clients);
        all.map(|(asked, socket)| Ok((asked, socket.try_clone()?.into()))).collect()
    }

    /// Has no more clients taken: those of all addresses but `left` are another's now.
    pub fn hand_over(self, left: &[SocketAddr]) {
        for bound in self.bound {
            let is_left = left.contains(&bound.asked);
            bound.end(if is_left { Phase::Stopping } else { Phase::HandedOver });
        }
    }

    /// Has no more clients taken.
    pub fn stop(self) {
        self.bound.into_iter().for_each(|bound| bound.end(Phase::Stopping));
    }

    fn serve(&self, listeners: Vec<Listener>) {
        for (listener, thread) in listeners.into_iter().zip(self.threads.iter().cycle()) {
            // A thread that could not start has said so.
            let _ = thread.send(listener);
        }
    }
}

impl Bound {
    /// Serves `asked` at `sockets`, which are bound there, or at new ones; where there are fewer than `threads`, at more
    /// beside them, if the system lets them be bound.
    fn open(
        asked: SocketAddr,
        entry: Entry,
        mut sockets: Vec<Socket>,
        threads: usize,
        presence: Presence,
    ) -> Result<Self, ServeError> {
        let is_ours = sockets.is_empty();
        if is_ours {
            sockets.push(bind(asked, Sharing::Shared, presence)?);
        }
        let address = local(&sockets[0])?;
        let may_grow = is_ours || sockets[0].reuse_port().unwrap_or(false);
        while may_grow && sockets.len() < threads {
            match bind(address, Sharing::Shared, presence) {
                Ok(socket) => sockets.push(socket),
                // Bound by root, perhaps, whom this process was once: then threads share what there is.
                Err(_) if !is_ours => break,
                Err(error) => return Err(error),
            }
        }
        for socket in &sockets {
            listen::hold_acknowledgements(socket, entry)?;
        }
        Ok(Self { asked, address, entry, sockets, stop: watch::Sender::new(Phase::Serving) })
    }

    /// What each of `threads` threads, in turn, is to accept from: at least one for each, and every socket.
    fn listeners(&self, threads: usize) -> io::Result<Vec<Listener>> {
        let count = threads.max(self.sockets.len());
        let sockets = self.sockets.iter().cycle().take(count);
        let listener = |socket: &Socket| {
            let fd = socket.try_clone()?.into();
            Ok(Listener { fd, entry: self.entry, stop: self.stop.subscribe() })
        };
        sockets.map(listener).collect()
    }

    /// Its queue is nobody's but the threads' from now on.
    fn end(self, phase: Phase) {
        drop(self.sockets);
        self.stop.send_replace(phase);
    }
}

/// Whether an address must be on this machine: VIPs may be on another now.
fn presence(config: &Config) -> impl Fn(IpAddr) -> Presence {
    let vips = config.held_vips();
    move |address| if vips.contains(&address) { Presence::AtTimes } else { Presence::Now }
}

fn bind(address: SocketAddr, sharing: Sharing, presence: Presence) -> Result<Socket, ServeError> {
    listen::bind(address, sharing, presence).map_err(|error| ServeError::Listen { address, error })
}

/// The address that a socket is bound to.
pub fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}
