//! Connections that the kernel translates (ctnetlink): who has which, and their end.
//!
//! No library that is kept speaks this; the few attributes that are needed are written and read here.
//! Source: linux/netfilter/nfnetlink_conntrack.h.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

/// One connection whose addresses are translated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Where the client sends to.
    pub vip: SocketAddr,
    /// Where that goes.
    pub server: SocketAddr,
    /// 6 for TCP, 17 for UDP.
    pub protocol: u8,
    /// What names it: the tuple of its first direction as it came.
    tuple: Vec<u8>,
}

/// Reads and ends connections.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Gives each translated connection of one family to `each`.
    pub fn each(&mut self, is_v4: bool, mut each: impl FnMut(Connection)) -> io::Result<()> {
        self.send(GET, NLM_F_DUMP, is_v4, &[])?;
        loop {
            let (octets, _) = self.socket.recv_from_full()?;
            let mut rest = octets.as_slice();
            while let Some((kind, body, left)) = message(rest) {
                rest = left;
                match kind {
                    DONE => return Ok(()),
                    ERROR => return error(body),
                    _ => body.get(NFGENMSG_LEN..).and_then(read).into_iter().for_each(&mut each),
                }
            }
        }
    }

    /// Ends `connection`: its next packet begins another. Fine where it has ended.
    pub fn end(&mut self, connection: &Connection) -> io::Result<()> {
        let mut attribute = Vec::new();
        write(&mut attribute, TUPLE_ORIG | NESTED, &connection.tuple);
        self.send(DELETE, NLM_F_ACK, connection.vip.is_ipv4(), &attribute)?;
        loop {
            let (octets, _) = self.socket.recv_from_full()?;
            let mut rest = octets.as_slice();
            while let Some((kind, body, left)) = message(rest) {
                rest = left;
                if kind == ERROR {
                    return match error(body) {
                        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
                        ended => ended,
                    };
                }
            }
        }
    }

    fn send(&mut self, order: u16, flags: u16, is_v4: bool, attributes: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = HEADER_LEN + NFGENMSG_LEN + attributes.len();
        let mut octets = Vec::with_capacity(len);
        octets.extend((len as u32).to_ne_bytes());
        octets.extend((SUBSYSTEM << 8 | order).to_ne_bytes());
        octets.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        octets.extend(self.sequence.to_ne_bytes());
        octets.extend([0; 4]);
        let family = if is_v4 { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
        octets.extend([family as u8, 0, 0, 0]);
        octets.extend(attributes);
        self.socket.send_to(&octets, &NetlinkAddr::new(0, 0), 0).map(drop)
    }
}

/// The types of all messages in `octets`.
pub(super) fn kinds(octets: &[u8]) -> impl Iterator<Item = u16> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let (kind, _, left) = message(rest)?;
        rest = left;
        Some(kind)
    })
}

/// The type and body of the first message, and what follows it.
fn message(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(octets.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(octets.get(4..6)?.try_into().ok()?);
    let body = octets.get(HEADER_LEN..len)?;
    Some((kind, body, octets.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

fn error(body: &[u8]) -> io::Result<()> {
    match body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The attributes in `octets`, without the flags of their types.
fn attributes(octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn write(octets: &mut Vec<u8>, kind: u16, value: &[u8]) {
    octets.extend(((value.len() + 4) as u16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
}

/// One that is translated; `None` for all others.
fn read(octets: &[u8]) -> Option<Connection> {
    let status = u32::from_be_bytes(find(octets, STATUS)?.try_into().ok()?);
    if status & STATUS_DST_NAT == 0 {
        return None;
    }
    let (there, back) = (find(octets, TUPLE_ORIG)?, find(octets, TUPLE_REPLY)?);
    let protocol = *find(find(there, TUPLE_PROTO)?, PROTO_NUM)?.first()?;
    let vip = end_point(there, [V4_DST, V6_DST], DST_PORT)?;
    let server = end_point(back, [V4_SRC, V6_SRC], SRC_PORT)?;
    Some(Connection { vip, server, protocol, tuple: there.to_vec() })
}

fn end_point(tuple: &[u8], [v4, v6]: [u16; 2], port: u16) -> Option<SocketAddr> {
    let addresses = find(tuple, TUPLE_IP)?;
    let address = match (find(addresses, v4), find(addresses, v6)) {
        (Some(octets), _) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        (None, octets) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets?).ok()?)),
    };
    let port = find(find(tuple, TUPLE_PROTO)?, port)?;
    Some(SocketAddr::new(address, u16::from_be_bytes(port.try_into().ok()?)))
}

const HEADER_LEN: usize = 16;
const NFGENMSG_LEN: usize = 4;
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const STATUS_DST_NAT: u32 = 1 << 5;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const V4_SRC: u16 = 1;
const V4_DST: u16 = 2;
const V6_SRC: u16 = 3;
const V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(kind: u16, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut inner = Vec::new();
        parts.iter().for_each(|(kind, value)| write(&mut inner, *kind, value));
        let mut octets = Vec::new();
        write(&mut octets, kind | NESTED, &inner);
        octets
    }

    fn tuple(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        let [from, to] = ports.map(u16::to_be_bytes);
        let ip = nested(TUPLE_IP, &[(V4_SRC, &source), (V4_DST, &destination)]);
        let proto = nested(TUPLE_PROTO, &[(PROTO_NUM, &[6]), (SRC_PORT, &from), (DST_PORT, &to)]);
        [ip, proto].concat()
    }

    fn entry(status: u32) -> Vec<u8> {
        let mut octets = Vec::new();
        write(&mut octets, TUPLE_ORIG | NESTED, &tuple([192, 0, 2, 9], [192, 0, 2, 10], [4000, 80]));
        write(&mut octets, TUPLE_REPLY | NESTED, &tuple([10, 0, 0, 11], [192, 0, 2, 9], [8080, 4000]));
        write(&mut octets, STATUS, &status.to_be_bytes());
        octets
    }

    #[test]
    fn a_translated_connection_is_between_a_vip_and_a_server() {
        let connection = read(&entry(STATUS_DST_NAT)).expect("one");
        assert_eq!(connection.vip, "192.0.2.10:80".parse().expect("an address"));
        assert_eq!(connection.server, "10.0.0.11:8080".parse().expect("an address"));
        assert_eq!(connection.protocol, 6);
        assert_eq!(read(&entry(0)), None);
    }

    proptest! {
        #[test]
        fn any_octets_are_safe_to_read(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&octets);
            let _ = message(&octets);
        }
    }
}
