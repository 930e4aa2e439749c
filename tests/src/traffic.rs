//! Traffic between hosts of a [`Net`](crate::net::Net): servers that say who they are and whom they see, and clients that notice everything.
//!
//! A request is any octets up to a line feed, over TCP, or one datagram, over UDP. The answer is one line: the server's name, the
//! peer's address as it sees it, and how many octets the request had.

mod client;
mod server;

pub use client::{Flow, Flows, Seen, Stream, Traffic};
pub use server::Server;

use std::net::{IpAddr, SocketAddr};

/// What a server says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Who it is.
    pub server: String,
    /// Whom it sees.
    pub peer: IpAddr,
    /// How long the request was.
    pub octets: usize,
}

/// By which protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Answer {
    /// As a line.
    fn write(server: &str, peer: SocketAddr, octets: usize) -> String {
        format!("{server} {} {octets}\n", peer.ip().to_canonical())
    }

    /// `None` unless `line` is one.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.trim_end().split(' ');
        let (server, peer, octets) = (words.next()?, words.next()?, words.next()?);
        Some(Self { server: server.to_owned(), peer: peer.parse().ok()?, octets: octets.parse().ok()? })
    }
}
