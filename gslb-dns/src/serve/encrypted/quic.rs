//! DNS over QUIC (RFC 9250).

mod stream;

use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::requests::Requests;
use crate::serve::seats::{Ending, Seat, Seats};
use crate::serve::tcp::Lane;
use crate::settings::TcpSettings;
use stream::{Code, answer};

/// What is spoken with clients, with `tls` and the times of `settings`.
pub(super) fn config(tls: Arc<rustls::ServerConfig>, settings: &TcpSettings) -> io::Result<ServerConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::try_from(settings.idle).map_err(io::Error::other)?))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(2 * WINDOW))
        .send_window(u64::from(4 * WINDOW))
        .datagram_receive_buffer_size(None);
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_COUNT_MAX)
        .incoming_buffer_size(u64::from(WINDOW))
        .incoming_buffer_size_total(INCOMING_MAX);
    Ok(config)
}

/// One socket and all its connections.
pub(super) struct Endpoint {
    quic: quinn::Endpoint,
    front: Front,
}

/// What the connections of one socket share.
#[derive(Clone)]
struct Front {
    seats: Arc<Seats>,
    lane: Arc<Lane>,
    /// Time for a handshake, and for a query with its answer.
    message: Duration,
}

/// By what right a handshake goes on.
enum Entry {
    /// That of a client that has shown its address.
    Seat(Seat),
    /// One of those that anybody may have.
    Unproved(OwnedSemaphorePermit),
}

impl Endpoint {
    /// One on `socket`, run by the thread that this is called on.
    pub(super) fn open(
        socket: UdpSocket,
        config: ServerConfig,
        seats: Arc<Seats>,
        lane: Arc<Lane>,
        message: Duration,
    ) -> io::Result<Self> {
        let quic = quinn::Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
        Ok(Self { quic, front: Front { seats, lane, message } })
    }

    /// Takes connections until `is_stopping`, and ends when they have ended. Nobody waits for the handshake of another.
    pub(super) async fn run(self, mut is_stopping: watch::Receiver<bool>) {
        let unproved = Arc::new(Semaphore::new(UNPROVED_MAX));
        loop {
            let incoming = tokio::select! {
                biased;
                // A sender that is gone has stopped too.
                _ = is_stopping.wait_for(|stop| *stop) => break,
                incoming = self.quic.accept() => incoming,
            };
            match incoming {
                Some(incoming) => self.take(incoming, &unproved),
                None => break,
            }
        }
        // Who has connected already gets an answer still.
        let end = Instant::now() + LAST_WAIT;
        while let Ok(Some(incoming)) = timeout_at(end, self.quic.accept()).await {
            self.take(incoming, &unproved);
        }
        self.quic.set_server_config(None);
        self.front.seats.end_all();
        // Its clients hear of the end.
        let _ = timeout(STOP_MAX, self.quic.wait_idle()).await;
    }

    /// Begins a handshake.
    ///
    /// ```text
    /// the address is shown to be the client's    in a seat, so that each client has its share and a newcomer gets in
    /// it is not, and few such are under way      without one: nobody loses a seat to a forged address
    /// it is not, and many are                    a Retry packet, which the client answers by showing it (RFC 9000, 8.1.2)
    /// ```
    fn take(&self, incoming: Incoming, unproved: &Arc<Semaphore>) {
        let front = self.front.clone();
        if incoming.remote_address_validated() {
            let seat = front.seats.take_watching(incoming.remote_address().ip());
            tokio::spawn(front.serve(incoming, Entry::Seat(seat)));
        } else if let Ok(permit) = Arc::clone(unproved).try_acquire_owned() {
            tokio::spawn(front.serve(incoming, Entry::Unproved(permit)));
        } else {
            // It may, since it is not validated.
            let _ = incoming.retry();
        }
    }
}

impl Front {
    async fn serve(self, incoming: Incoming, entry: Entry) {
        let peer = incoming.remote_address();
        if let Err(error) = self.serve_connection(incoming, entry).await {
            debug!(%peer, %error, "connection broke");
        }
    }

    async fn serve_connection(self, incoming: Incoming, entry: Entry) -> io::Result<()> {
        let connecting = timeout(self.message, incoming.accept()?);
        let (connection, seat) = match entry {
            Entry::Seat(seat) => tokio::select! {
                _ = seat.ended() => return Ok(()),
                connected = connecting => (connected??, seat),
            },
            Entry::Unproved(permit) => {
                let connection = connecting.await??;
                drop(permit);
                // Only now the address is known to be the client's.
                let seat = self.seats.take_watching(connection.remote_address().ip());
                (connection, seat)
            }
        };
        let mut ended = pin!(seat.ended());
        let (requests, mut open) = (Requests::new(seat), JoinSet::new());
        let ending = loop {
            tokio::select! {
                accepted = connection.accept_bi() => {
                    let (lane, connection, request) = (Arc::clone(&self.lane), connection.clone(), requests.begin());
                    let unix_secs = requests.unix_secs();
                    open.spawn(answer(lane, connection, accepted?, request, unix_secs, self.message));
                }
                Some(_) = open.join_next() => {}
                ending = &mut ended => break ending,
            }
        };
        let most = if ending == Ending::Lost { LOST_MAX } else { STOP_MAX };
        let _ = timeout(most, async { while open.join_next().await.is_some() {} }).await;
        connection.close(Code::NoError.into(), b"");
        Ok(())
    }
}

/// Queries of one connection at once.
const STREAMS_MAX: u32 = 100;
/// Octets: the longest query fits.
const WINDOW: u32 = 66 << 10;
/// Handshakes at once with clients that have not shown their address, each of which takes some KiB and, unless its client is
/// silent, its way there and back: some thousand in a second, all of which save the way of a Retry packet.
const UNPROVED_MAX: usize = 100;
/// Connections that may wait to be taken, which they are at once.
const INCOMING_COUNT_MAX: usize = 1000;
/// Octets that may wait of connections that are not taken yet.
const INCOMING_MAX: u64 = 4 << 20;
/// What the kernel has already may take the runtime a moment to hear of.
const LAST_WAIT: Duration = Duration::from_millis(20);
/// Others wait for its place.
const LOST_MAX: Duration = Duration::from_millis(200);
/// Answers that are ready are taken in far less.
const STOP_MAX: Duration = Duration::from_secs(1);
