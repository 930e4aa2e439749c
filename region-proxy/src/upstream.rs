//! Connections to servers: made within a time limit, kept while idle, used again last in, first out.

pub mod alone;
pub mod links;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::timeout;

use crate::clock::Tick;
use crate::config::ServerProtocol;
use crate::live::Server;
use crate::plan::Failure;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::tls::back::{Equipment, Equipped};
use crate::tls::failure;
use crate::tls::session::Session;
use crate::worker::Worker;

/// The idle connections of one thread, by the numbers of their servers.
#[derive(Debug, Default)]
pub struct Pools(RefCell<Vec<Vec<Idle>>>);

/// How sure it must be that a kept connection is still there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Care {
    /// As far as the event queue has told: a request that finds it closed can be sent again.
    Usual,
    /// As far as the kernel knows at this moment, which costs a system call: for what must not be sent twice.
    Utmost,
}

#[derive(Debug)]
struct Idle {
    socket: Stream,
    since: Tick,
}

impl Pools {
    /// The connection to the server numbered `server` that was used last, is idle for no longer than `idle_max` and on
    /// which nothing came since: neither its end nor octets that nobody asked for.
    ///
    /// `room` is memory to look at what came in.
    pub fn kept(&self, server: u32, idle_max: Duration, care: Care, room: &RefCell<Box<[u8]>>) -> Option<Stream> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.get_mut(server as usize)?;
        let oldest = Tick::now();
        while let Some(Idle { mut socket, since }) = pool.pop() {
            if oldest.since(since) <= idle_max && socket.is_quiet(care, room) {
                return Some(socket);
            }
        }
        None
    }

    /// Keeps a connection that can take another request: all of the last response was read.
    ///
    /// A stream is for one request.
    pub fn keep(&self, server: u32, socket: Stream) {
        if matches!(socket, Stream::Lane(_)) {
            return;
        }
        let mut pools = self.0.borrow_mut();
        if pools.len() <= server as usize {
            pools.resize_with(server as usize + 1, Vec::new);
        }
        pools[server as usize].push(Idle { socket, since: Tick::now() });
    }

    /// How many idle connections there are to the server numbered `server`.
    pub fn idle(&self, server: u32) -> usize {
        self.0.borrow().get(server as usize).map_or(0, Vec::len)
    }

    /// Closes the connections that were idle for longer than `idle_max` or ended by their server.
    pub fn sweep(&self, idle_max: Duration, room: &RefCell<Box<[u8]>>) {
        let now = Tick::now();
        for pool in self.0.borrow_mut().iter_mut() {
            pool.retain_mut(|idle| now.since(idle.since) <= idle_max && idle.socket.is_quiet(Care::Usual, room));
        }
    }
}

/// What is connected to.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    tls: Option<Option<Arc<Equipped>>>,
    /// Whether what it speaks begins with words of its own.
    speaks_first: bool,
}

impl Target {
    /// `server`, which speaks `protocol`.
    pub fn of(server: &Server, protocol: ServerProtocol) -> Self {
        let speaks_first = protocol == ServerProtocol::Http2;
        Self { address: server.address, tls: server.tls.as_ref().map(Equipment::load), speaks_first }
    }

    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }
}

/// Why there is no connection, and the same in words.
pub type Failed = (Failure, String);

/// A new connection to `target` for requests, within `limit`; its TLS handshake may take as long again.
pub async fn connect(worker: Rc<Worker>, target: Target, limit: Duration) -> Result<Stream, Failed> {
    let speaks_first = target.speaks_first;
    let stream = reach(&worker, target, limit, &[]).await?;
    match stream.has_early() && !speaks_first {
        false => Ok(stream),
        true => Err((Failure::NoConnection, "it sent octets before any request".to_owned())),
    }
}

/// The same for whatever a client says; over TLS, `preface` goes before the handshake.
pub async fn reach(worker: &Worker, target: Target, limit: Duration, preface: &[u8]) -> Result<Stream, Failed> {
    let connecting = async {
        let socket = Socket::connect(target.address).await?;
        SockRef::from(&socket.fd()?).set_tcp_keepalive(&KEEPALIVE)?;
        Ok::<_, std::io::Error>(socket)
    };
    let stream = match timeout(limit, connecting).await {
        Ok(Ok(socket)) => Stream::Plain(socket),
        Ok(Err(error)) => return Err((Failure::NoConnection, format!("connect: {error}"))),
        Err(_) => return Err((Failure::ConnectLate, format!("no connection within {limit:?}"))),
    };
    match target.tls {
        None => Ok(stream),
        Some(None) => Err((Failure::NoConnection, "TLS: its files were never readable".to_owned())),
        Some(Some(equipped)) => match timeout(limit, greet(worker, stream, &equipped, preface)).await {
            Ok(greeted) => greeted.map_err(|error| (Failure::NoConnection, format!("TLS: {}", failure::of_io(&error)))),
            Err(_) => Err((Failure::ConnectLate, format!("TLS: no handshake within {limit:?}"))),
        },
    }
}

/// Goes through the handshake.
async fn greet(worker: &Worker, mut stream: Stream, equipped: &Equipped, preface: &[u8]) -> io::Result<Stream> {
    let mut sent = 0;
    while sent < preface.len() {
        sent += poll_fn(|cx| stream.poll_write(cx, &[IoSlice::new(&preface[sent..])])).await?;
    }
    let connection = UnbufferedClientConnection::new(Arc::clone(&equipped.config), equipped.name());
    let connection = connection.map_err(io::Error::other)?;
    stream.secure_to_server(Session::new(connection, Rc::clone(&worker.tls_scratch), Vec::new()));
    let greeted = poll_fn(|cx| -> Poll<io::Result<()>> {
        // The buffer is everybody's between two waits.
        let mut buffer = worker.buffers.read.borrow_mut();
        let count = ready!(stream.poll_handshake(cx, &mut buffer))?;
        stream.keep_early(&buffer[..count]);
        Poll::Ready(Ok(()))
    });
    greeted.await?;
    let agreed = stream.session_to_server().and_then(|session| session.connection().alpn_protocol());
    match equipped.takes(agreed) {
        true => Ok(stream),
        false => Err(io::Error::other("it does not speak HTTP/2 over TLS, as `protocol` wants it (ALPN)")),
    }
}

/// Finds peers that vanished without a word while a long answer is on its way.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
