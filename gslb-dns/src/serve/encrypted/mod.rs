//! Encrypted transports: what they share. Over TLS the loop of TCP answers; HTTPS and QUIC are served by libraries, within
//! the same limits.

pub(super) mod https;
mod quic;
mod requests;
mod respond;
mod sockets;

use std::sync::Arc;
use std::{fmt, io};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;
use tracing::info;

use super::Live;
use super::seats::Seats;
use super::tcp::{Front, Lane, TcpThreads};
use crate::answer::Transport;
use crate::settings::TcpSettings;
use quic::Endpoint;

pub use sockets::EncryptedAddresses;
pub(super) use sockets::EncryptedSockets;

/// Starts `threads` threads that answer at `sockets`, each with its own of `lanes`; none where there are no sockets.
pub(super) fn start(
    sockets: EncryptedSockets,
    live: &Arc<ArcSwap<Live>>,
    seats: &Arc<Seats>,
    settings: &TcpSettings,
    threads: usize,
    lanes: impl Fn(Transport) -> Vec<Lane>,
) -> io::Result<Option<TcpThreads>> {
    let addresses = sockets.addresses()?;
    let EncryptedAddresses { dot, doh, doq } = &addresses;
    if addresses == EncryptedAddresses::default() {
        return Ok(None);
    }
    let tls = Tls::new(Arc::clone(live)).map_err(io::Error::other)?;
    // Not those of plain TCP: a flood of handshakes must not delay who needs none.
    let started = TcpThreads::open("gslb-tls", threads)?;
    if !sockets.dot.is_empty() {
        info!(addresses = ?dot, "answers over TLS");
        let front = Front::Tls(TlsAcceptor::from(tls.for_dot().map_err(io::Error::other)?));
        started.serve(&front, sockets.dot, seats, lanes(Transport::Tls))?;
    }
    if !sockets.doh.is_empty() {
        info!(addresses = ?doh, "answers over HTTPS");
        let front = Front::Https(TlsAcceptor::from(tls.for_doh().map_err(io::Error::other)?));
        started.serve(&front, sockets.doh, seats, lanes(Transport::Https))?;
    }
    if !sockets.doq.is_empty() {
        info!(addresses = ?doq, "answers over QUIC");
        let config = quic::config(tls.for_doq().map_err(io::Error::other)?, settings)?;
        let lanes: Vec<Arc<Lane>> = lanes(Transport::Quic).into_iter().map(Arc::new).collect();
        for (at, (socket, lane)) in sockets.doq.into_iter().zip(lanes.iter().cycle()).enumerate() {
            // What a lane counts is written by its own thread.
            let at = at % lanes.len();
            let (config, seats, lane) = (config.clone(), Arc::clone(seats), Arc::clone(lane));
            let message = settings.message;
            started
                .spawn(at, |is_stopping| Ok(Endpoint::open(socket, config, seats, lane, message)?.run(is_stopping)))?;
        }
    }
    Ok(Some(started))
}

/// What is agreed with clients, whatever the transport.
struct Tls {
    shown: Arc<Shown>,
    /// One for all, so that a session may go on at another address.
    ticketer: Arc<dyn ProducesTickets>,
}

impl Tls {
    /// Shows the certificate of what is in `live` when a handshake begins. Fails when the system gives no random numbers.
    fn new(live: Arc<ArcSwap<Live>>) -> Result<Self, Error> {
        Ok(Self { shown: Arc::new(Shown { live }), ticketer: Ticketer::new()? })
    }

    /// For DNS over TLS (RFC 7858).
    fn for_dot(&self) -> Result<Arc<ServerConfig>, Error> {
        self.config(b"dot", &[&TLS13, &TLS12]).map(Arc::new)
    }

    /// For DNS over HTTPS (RFC 8484), by HTTP/2 alone.
    fn for_doh(&self) -> Result<Arc<ServerConfig>, Error> {
        self.config(b"h2", &[&TLS13, &TLS12]).map(Arc::new)
    }

    /// For DNS over QUIC (RFC 9250). Without early data, which could be sent again by who has recorded it.
    fn for_doq(&self) -> Result<Arc<ServerConfig>, Error> {
        self.config(b"doq", &[&TLS13]).map(Arc::new)
    }

    fn config(&self, alpn: &[u8], versions: &[&'static SupportedProtocolVersion]) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_protocol_versions(versions)?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![alpn.to_vec()];
        config.ticketer = Arc::clone(&self.ticketer);
        // Tickets hold what is to be remembered.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// The certificate that serves at the moment.
struct Shown {
    live: Arc<ArcSwap<Live>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live.load();
        live.world.certificate.as_ref().map(|certificate| Arc::clone(certificate.key()))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

#[cfg(test)]
mod tests;
