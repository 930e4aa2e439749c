//! Connections to servers: made within a time limit, kept while idle, used again last in, first out.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::Upload;
use crate::config::Limits;
use crate::plan::{Connection, Failure};

/// The idle connections to one server.
#[derive(Debug)]
pub struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// A connection that no other request uses.
#[derive(Debug)]
pub struct Lease {
    sender: SendRequest<Upload>,
    connection: Connection,
}

/// A request that got no response, why, and what is left of it.
#[derive(Debug)]
pub struct Failed {
    /// What happened, for the plan.
    pub failure: Failure,
    /// What happened, for the log.
    pub cause: String,
    /// The request, where it was not sent.
    pub request: Option<Request<Upload>>,
}

impl Pool {
    /// No connection yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// The connection used last that is still open and idle for no longer than `idle_max`.
    pub fn kept(&self, idle_max: Duration) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && since.elapsed() <= idle_max {
                return Some(Lease { sender, connection: Connection::Kept });
            }
        }
        None
    }

    /// A new connection.
    pub async fn connect(&self, limits: &Limits) -> Result<Lease, (Failure, String)> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
            let handshake = http1::Builder::new().max_buf_size(limits.head_octets).handshake(TokioIo::new(stream));
            handshake.await.map_err(io::Error::other)
        };
        let (sender, connection) = match timeout(limits.connect, connecting).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Err((Failure::NoConnection, format!("connect: {error}"))),
            Err(_) => return Err((Failure::ConnectLate, format!("no connection within {:?}", limits.connect))),
        };
        tokio::spawn(async move {
            // Its errors reach the request in flight; an idle connection may end as it likes.
            let _ = connection.await;
        });
        Ok(Lease { sender, connection: Connection::New })
    }

    /// Closes the connections that were idle for longer than `idle_max`.
    pub fn sweep(&self, idle_max: Duration) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() <= idle_max);
    }

    fn put(&self, sender: SendRequest<Upload>) {
        let idle = Idle { sender, since: Instant::now() };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }
}

impl Lease {
    /// Where the connection came from.
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// Sends `request` and waits for the head of the response, `limit` long without any progress.
    ///
    /// While the body is sent the limit starts again with each part. The connection goes back to the pool of `server`
    /// once both bodies ended well.
    pub async fn send(
        mut self,
        server: &Arc<crate::live::Server>,
        request: Request<Upload>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let progress = request.body().progress();
        let mut sending = std::pin::pin!(self.sender.try_send_request(request));
        let mut frames = progress.frames();
        let sent = loop {
            if let Ok(sent) = timeout(limit, sending.as_mut()).await {
                break sent;
            }
            if frames == progress.frames() {
                return Err(if progress.is_waiting_for_client() {
                    Failed::without_request(Failure::ClientLate, format!("client sent nothing for {limit:?}"))
                } else {
                    Failed::without_request(Failure::ResponseLate, format!("no response within {limit:?}"))
                });
            }
            frames = progress.frames();
        };
        match sent {
            Ok(response) => {
                keep(Arc::clone(server), self.sender);
                Ok(response)
            }
            Err(mut error) => {
                let request = error.take_message();
                let cause = cause(error.error());
                let failure = match &request {
                    Some(_) => Failure::Unsent(self.connection),
                    None if error.error().is_user() && progress.is_waiting_for_client() => Failure::ClientLate,
                    None if error.error().is_user() => Failure::ClientBroken,
                    None => Failure::Broken(self.connection),
                };
                Err(Failed { failure, cause, request })
            }
        }
    }
}

impl Failed {
    fn without_request(failure: Failure, cause: String) -> Self {
        Self { failure, cause, request: None }
    }
}

/// `error` with what caused it.
pub fn cause(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Puts the connection back once it can take another request; drops it when it never can.
fn keep(server: Arc<crate::live::Server>, mut sender: SendRequest<Upload>) {
    if sender.is_ready() {
        server.pool.put(sender);
        return;
    }
    tokio::spawn(async move {
        if sender.ready().await.is_ok() {
            server.pool.put(sender);
        }
    });
}

/// Finds peers that vanished without a word while a long answer is on its way.
pub const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
