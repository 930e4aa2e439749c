//! Client connections: accepted up to a bound, served by hyper, finished in order when the proxy stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::body::Body;
use crate::config::{Config, Limits};
use crate::live::Proxy;
use crate::live::throttle::Throttle;
use crate::upstream::KEEPALIVE;

/// The connections that may be open at one time, and the word to stop.
#[derive(Clone, Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    connections_max: u32,
    limits: fn(&Config) -> Limits,
    stop: watch::Receiver<bool>,
}

impl Gate {
    /// Lets `connections_max` connections in until `stop` says true; `limits` says what binds each of them.
    pub fn new(connections_max: usize, limits: fn(&Config) -> Limits, stop: watch::Receiver<bool>) -> Self {
        let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
        Self { permits: Arc::new(Semaphore::new(connections_max as usize)), connections_max, limits, stop }
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

/// Whether other processes may listen on the same address (`SO_REUSEPORT`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// As the proxies of a region share its VIP on one machine.
    Shared,
    /// As what speaks for one process must.
    Alone,
}

/// Listens on `address`; an IPv6 address takes IPv6 only.
pub fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves the connections of `listener` until the gate stops, each request by `answer`.
///
/// What waits in the kernel's queue at that moment is still served. At the bound the next connection waits for a place,
/// and the others behind it in the queue.
pub async fn serve<A, F>(listener: TcpListener, gate: Gate, proxy: Arc<Proxy>, answer: A)
where
    A: Fn(Arc<Proxy>, SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut stop = gate.stop.clone();
    let refusals = Throttle::default();
    let start = |stream, peer, permit| {
        let limits = (gate.limits)(&proxy.live.load().config);
        let connection =
            connection(stream, peer, gate.stop.clone(), permit, limits, Arc::clone(&proxy), answer.clone());
        tokio::spawn(connection);
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = accept(&listener, &gate) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => start(stream, peer, permit),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of files or memory: what is open now must end first.
                if let Some(left_out) = refusals.pass(Instant::now()) {
                    tracing::error!(%error, left_out, "cannot accept connections");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok(permit) = Arc::clone(&gate.permits).try_acquire_owned() else { return };
        let Ok((stream, peer)) = listener.accept() else { return };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            start(stream, peer, permit);
        }
    }
}

/// The next connection, once there is a place for it: none is held while nobody comes, as another listener may need it.
async fn accept(listener: &TcpListener, gate: &Gate) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let (stream, peer) = listener.accept().await?;
    let permit = Arc::clone(&gate.permits).acquire_owned().await.map_err(io::Error::other)?;
    Ok((stream, peer, permit))
}

async fn connection<A, F>(
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
    limits: Limits,
    proxy: Arc<Proxy>,
    answer: A,
) where
    A: Fn(Arc<Proxy>, SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    if let Err(error) = prepare(&stream, limits.client_stall) {
        tracing::debug!(%peer, %error, "connection lost");
        return;
    }
    let stopping = stop.clone();
    let service = service_fn(move |request| {
        let (answer, stopping) = (answer(Arc::clone(&proxy), peer, request), stopping.clone());
        async move {
            let mut response = answer.await;
            if *stopping.borrow() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_head)
        .max_buf_size(limits.head_octets)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = last_words(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, cause = crate::upstream::cause(&error), "connection ended");
    }
}

/// Waits for the word to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the proxy.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for the word to stop, and a moment more: a request that was sent before is read and answered.
async fn last_words(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(LAST_WORDS).await;
}

fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    // Cuts a client that reads nothing of its answer, which no time limit above the socket sees.
    socket.set_tcp_user_timeout(Some(stall))
}

/// Longer than the kernel takes to hand over what a client has sent already.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Connections that the kernel completes for us before they are accepted.
const BACKLOG: i32 = 4096;
