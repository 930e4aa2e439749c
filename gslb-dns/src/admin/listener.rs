//! Connections of the admin listener: few, and none that is silent for long, so that whoever reaches it cannot use up
//! the files that answers and probes need.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Takes a connection when one of a few places is free.
pub(super) struct FewConnections {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence_max: Duration,
}

/// A connection with its place, closed when nothing has moved on it for too long.
pub(super) struct Placed {
    stream: TcpStream,
    silence_max: Duration,
    end: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl FewConnections {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with_limits(listener, CONNECTIONS_MAX, SILENCE_MAX)
    }

    fn with_limits(listener: TcpListener, places: usize, silence_max: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), silence_max }
    }
}

impl Listener for FewConnections {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // The semaphore is never closed, so that there is always a place in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let silence_max = self.silence_max;
        (Placed { stream, silence_max, end: Box::pin(sleep(silence_max)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Placed {
    /// What `moved` came to, or an error when nothing has moved for too long.
    fn in_time<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            let end = Instant::now() + self.silence_max;
            self.end.as_mut().reset(end);
            return moved;
        }
        self.end.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Placed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, room);
        this.in_time(context, read)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, octets);
        this.in_time(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        spans: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, spans);
        this.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Operators and a few scrapers: far fewer than this.
const CONNECTIONS_MAX: usize = 64;
/// Longer than a kept connection of a scraper is worth.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as StdStream;

    use axum::Router;
    use axum::routing::get;
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn silent_connections_keep_others_out_for_a_short_time_only() {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("bound");
        let address = listener.local_addr().expect("bound");
        let few = FewConnections::with_limits(listener, 2, Duration::from_millis(200));
        let router = Router::new().route("/", get(async || "ok"));
        runtime.spawn(async move { axum::serve(few, router).await });
        let mut silent: Vec<StdStream> = (0..2).map(|_| StdStream::connect(address).expect("connected")).collect();
        silent[1].write_all(b"GET / HT").expect("sent");
        let mut other = StdStream::connect(address).expect("connected");
        other.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        other.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        other.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(matches!(silent[0].read(&mut [0; 16]), Ok(0) | Err(_)));
    }
}
