//! What a line says beside what is in the record of its request.

use std::net::{IpAddr, SocketAddr};

use crate::relay::record::Times;

/// The surroundings of a request at its end.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// When its first octet came, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Where its client is; the port is that of who connected.
    pub client: SocketAddr,
    /// Who connected, where that is a trusted peer of the client's.
    pub peer: Option<IpAddr>,
    /// The TLS version, as `1.3`, that its client speaks to the proxy.
    pub tls: Option<&'static str>,
    /// The name of the proxy.
    pub proxy: &'l str,
    /// The name of its service.
    pub service: Option<&'l str>,
    /// The name of its server.
    pub server: Option<&'l str>,
    /// Its times.
    pub times: Times,
    /// The client connections that are open, its own among them.
    pub clients: u64,
    /// The requests that its service has in hand, itself among them.
    pub service_in_flight: u64,
    /// Those of its server.
    pub server_in_flight: u64,
}
