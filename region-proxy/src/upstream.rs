//! Connections to servers: made within a time limit, kept while idle, used again last in, first out.

pub mod links;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::time::timeout;

use crate::clock::Tick;
use crate::plan::Failure;
use crate::socket::Socket;
use crate::stream::Stream;

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
    pub fn kept(&self, server: u32, idle_max: Duration, care: Care) -> Option<Stream> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.get_mut(server as usize)?;
        let oldest = Tick::now();
        while let Some(Idle { socket, since }) = pool.pop() {
            let is_quiet = || match care {
                Care::Usual => socket.is_quiet(),
                Care::Utmost => socket.is_surely_quiet(),
            };
            if oldest.since(since) <= idle_max && is_quiet() {
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
    pub fn sweep(&self, idle_max: Duration) {
        let now = Tick::now();
        for pool in self.0.borrow_mut().iter_mut() {
            pool.retain(|idle| now.since(idle.since) <= idle_max && idle.socket.is_quiet());
        }
    }
}

/// A new connection to `address` within `limit`.
pub async fn connect(address: SocketAddr, limit: Duration) -> Result<Stream, (Failure, String)> {
    let connecting = async {
        let socket = Socket::connect(address).await?;
        SockRef::from(&socket.fd()?).set_tcp_keepalive(&KEEPALIVE)?;
        Ok::<_, std::io::Error>(socket)
    };
    match timeout(limit, connecting).await {
        Ok(Ok(socket)) => Ok(Stream::Plain(socket)),
        Ok(Err(error)) => Err((Failure::NoConnection, format!("connect: {error}"))),
        Err(_) => Err((Failure::ConnectLate, format!("no connection within {limit:?}"))),
    }
}

/// Finds peers that vanished without a word while a long answer is on its way.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
