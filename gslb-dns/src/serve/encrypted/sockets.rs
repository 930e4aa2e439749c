//! The sockets of encrypted transports.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::serve::{BindError, bind};
use crate::settings::TlsSettings;

/// All of them, in the order of the settings.
#[derive(Debug, Default)]
pub(in crate::serve) struct EncryptedSockets {
    pub(super) dot: Vec<TcpListener>,
    pub(super) doh: Vec<TcpListener>,
    pub(super) doq: Vec<UdpSocket>,
}

/// Where encrypted transports are answered, in the order of the settings; ports that were left open are known here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EncryptedAddresses {
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over HTTPS.
    pub doh: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
}

impl EncryptedSockets {
    /// Binds those of `settings`; what cannot be had goes to `errors`.
    pub(in crate::serve) fn bind(settings: Option<&TlsSettings>, errors: &mut Vec<BindError>) -> Self {
        let Some(TlsSettings { dot, doh, doq, .. }) = settings else { return Self::default() };
        Self {
            dot: bind_all("server.tls.dot", dot, bind::bind_tcp, errors),
            doh: bind_all("server.tls.doh", doh, bind::bind_tcp, errors),
            doq: bind_all("server.tls.doq", doq, bind::bind_quic, errors),
        }
    }

    /// Where they are.
    pub(in crate::serve) fn addresses(&self) -> io::Result<EncryptedAddresses> {
        let of_tcp =
            |listeners: &[TcpListener]| listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        let doq = self.doq.iter().map(UdpSocket::local_addr).collect::<io::Result<_>>()?;
        Ok(EncryptedAddresses { dot: of_tcp(&self.dot)?, doh: of_tcp(&self.doh)?, doq })
    }
}

fn bind_all<S>(
    key: &'static str,
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<S>,
    errors: &mut Vec<BindError>,
) -> Vec<S> {
    let mut bind =
        |&address: &SocketAddr| bind(address).map_err(|error| errors.push(BindError { key, address, error })).ok();
    addresses.iter().filter_map(&mut bind).collect()
}
