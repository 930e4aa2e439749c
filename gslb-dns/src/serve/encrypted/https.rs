//! DNS over HTTPS (RFC 8484), by HTTP/2.

mod exchange;

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::requests::Requests;
use crate::serve::seats::{Ending, Seat};
use crate::serve::tcp::Lane;
use exchange::exchange;

/// Shakes hands and answers until the client or somebody else ends it. The time for the handshake is that for a query.
pub(in crate::serve) async fn serve(
    acceptor: TlsAcceptor,
    lane: Arc<Lane>,
    seat: Seat,
    socket: TcpStream,
    peer: IpAddr,
) -> io::Result<()> {
    let mut ended = pin!(seat.ended());
    let stream = tokio::select! {
        _ = &mut ended => return Ok(()),
        stream = acceptor.accept(socket) => stream?,
    };
    let requests = Requests::new(seat);
    let service = service_fn(|request| {
        let (lane, requests) = (Arc::clone(&lane), Arc::clone(&requests));
        async move { Ok::<_, io::Error>(exchange(&lane, &requests, peer, request).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(u32::from(u16::MAX))
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(usize::from(u16::MAX));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ending = tokio::select! {
        result = &mut connection => return result.map_err(io::Error::other),
        ending = &mut ended => ending,
    };
    connection.as_mut().graceful_shutdown();
    let most = if ending == Ending::Lost { LOST_MAX } else { STOP_MAX };
    // Who does not end in time is cut.
    timeout(most, connection).await.unwrap_or(Ok(())).map_err(io::Error::other)
}

/// Requests of one connection at once: as few as HTTP/2 recommends (RFC 9113, section 6.5.2).
const STREAMS_MAX: u32 = 100;
/// Octets of the fields of a request: a query in its path takes a third more than its own, and few have 200.
const HEADERS_MAX: u32 = 16 << 10;
/// Octets of queries that may be under way on one connection.
const WINDOW: u32 = 128 << 10;
/// Others wait for its place.
const LOST_MAX: Duration = Duration::from_millis(200);
/// Answers that are ready are taken in far less.
const STOP_MAX: Duration = Duration::from_secs(1);
