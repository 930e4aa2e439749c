//! The PROXY protocol, versions 1 and 2: what a proxy in front says of a connection, before the connection's own octets.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`. A listener either expects it on every connection or on none: who may say
//! it can say anything. Nothing is believed before it is whole, and its length is bounded.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod crc32c;

/// What the header of a connection says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Both ends; `None`: those of the socket hold (`LOCAL`, `UNKNOWN`, or an address family that is not IP).
    pub ends: Option<Ends>,
    /// Octets of the header; the connection's own come after them.
    pub len: usize,
}

/// Both ends of the connection that a client made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ends {
    /// Where the client connected from.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// Why a connection is closed without an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHeader {
    /// It begins with something else.
    #[error("no PROXY header: expected one of version 1 or 2")]
    Missing,
    /// A header of version 1 that breaks its grammar.
    #[error("malformed PROXY header of version 1")]
    MalformedV1,
    /// A header of version 2 with a version, command, family or length that cannot be.
    #[error("malformed PROXY header of version 2")]
    MalformedV2,
    /// A header of version 2 that is longer than [`LEN_MAX`].
    #[error("PROXY header of {0} octets: expected at most {LEN_MAX}")]
    TooLong(usize),
    /// A header of version 2 whose checksum is another one.
    #[error("PROXY header with a wrong checksum")]
    WrongChecksum,
}

/// The longest header that is read: addresses and some kilobytes of TLVs, such as a certificate's names.
pub const LEN_MAX: usize = 4096;

/// Reads the header that `bytes` begin with; `None` when it may still become one with more of them.
///
/// TLVs are skipped; of these only the checksum is looked at.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return read_v2(bytes, rest);
    }
    if let Some(rest) = bytes.strip_prefix(V1_START) {
        return read_v1(rest);
    }
    let may_become_one = SIGNATURE.starts_with(bytes) || V1_START.starts_with(bytes);
    if may_become_one { Ok(None) } else { Err(BadHeader::Missing) }
}

/// Appends a header of version 1; `None` for a connection of the proxy itself.
pub fn write_v1(ends: Option<Ends>, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match ends.map(Ends::of_one_family) {
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
        Some(Ends { source, destination }) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
    };
}

/// Appends a header of version 2, with its checksum; `None` for a connection of the proxy itself (`LOCAL`).
pub fn write_v2(ends: Option<Ends>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(SIGNATURE);
    let ends = ends.map(Ends::of_one_family);
    let (command, family, addresses_len) = match ends {
        None => (LOCAL, 0, 0),
        Some(ends) if ends.source.is_ipv4() => (PROXY, TCP4, TCP4_LEN),
        Some(_) => (PROXY, TCP6, TCP6_LEN),
    };
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&((addresses_len + TLV_HEAD_LEN + CRC_LEN) as u16).to_be_bytes());
    if let Some(Ends { source, destination }) = ends {
        for address in [source.ip(), destination.ip()] {
            match address {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
        }
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
    out.extend_from_slice(&[TLV_CRC32C, 0, CRC_LEN as u8]);
    let checksum_at = out.len();
    out.extend_from_slice(&[0; CRC_LEN]);
    let checksum = crc32c::of(&[&out[start..]]);
    out[checksum_at..].copy_from_slice(&checksum.to_be_bytes());
}

impl Ends {
    /// IPv4 where both are, mapped into IPv6 or not; else both as IPv6.
    fn of_one_family(self) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let v6 = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(v6) => SocketAddr::new(v6.into(), address.port()),
        };
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() && destination.is_ipv4() {
            Self { source, destination }
        } else {
            Self { source: v6(source), destination: v6(destination) }
        }
    }
}

/// `PROXY TCP4 source destination port port`, each after one space; addresses and ports without needless zeros.
fn read_v1(rest: &[u8]) -> Result<Option<Header>, BadHeader> {
    let most = V1_LEN_MAX - V1_START.len();
    let within = &rest[..rest.len().min(most)];
    let Some(newline) = within.iter().position(|octet| *octet == b'\n') else {
        return if rest.len() < most { Ok(None) } else { Err(BadHeader::MalformedV1) };
    };
    let len = V1_START.len() + newline + 1;
    let line = within[..newline].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
    let line = line.ok_or(BadHeader::MalformedV1)?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Some(Header { ends: None, len }));
    }
    let ends = read_line(line).ok_or(BadHeader::MalformedV1)?;
    Ok(Some(Header { ends: Some(ends), len }))
}

fn read_line(line: &str) -> Option<Ends> {
    let mut words = line.split(' ');
    let is_v4 = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        let v4 = || word.parse::<Ipv4Addr>().ok().map(IpAddr::from);
        let v6 = || word.parse::<Ipv6Addr>().ok().map(IpAddr::from);
        if is_v4 { v4() } else { v6() }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let is_plain = word.bytes().all(|octet| octet.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        if is_plain { word.parse().ok() } else { None }
    };
    let (source_port, destination_port) = (port()?, port()?);
    let ends = Ends {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    words.next().is_none().then_some(ends)
}

/// `bytes` from the signature on, of which `rest` comes after it.
fn read_v2(bytes: &[u8], rest: &[u8]) -> Result<Option<Header>, BadHeader> {
    // What is there already is judged: a wrong version must not wait for more.
    if rest.first().is_some_and(|command| !matches!(*command, LOCAL | PROXY)) {
        return Err(BadHeader::MalformedV2);
    }
    let &[command, family, high, low, ..] = rest else { return Ok(None) };
    let len = V2_HEAD_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > LEN_MAX {
        return Err(BadHeader::TooLong(len));
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let body = &header[V2_HEAD_LEN..];
    let addresses_len = match family {
        UNSPECIFIED => 0,
        TCP4 | UDP4 => TCP4_LEN,
        TCP6 | UDP6 => TCP6_LEN,
        UNIX_STREAM | UNIX_DATAGRAM => UNIX_LEN,
        _ if command == LOCAL => return Ok(Some(Header { ends: None, len })),
        _ => return Err(BadHeader::MalformedV2),
    };
    // A LOCAL connection may say anything of addresses, which are skipped (section 2.2).
    let Some((addresses, tlvs)) = body.split_at_checked(addresses_len) else {
        return if command == LOCAL { Ok(Some(Header { ends: None, len })) } else { Err(BadHeader::MalformedV2) };
    };
    check_tlvs(header, len - tlvs.len())?;
    let ends = if command == PROXY { read_addresses(family, addresses) } else { None };
    Ok(Some(Header { ends, len }))
}

fn read_addresses(family: u8, octets: &[u8]) -> Option<Ends> {
    let port = |at: usize| Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?));
    let (source, destination, ports_at): (IpAddr, IpAddr, usize) = match family {
        TCP4 => {
            let v4 = |at: usize| Some(Ipv4Addr::from(*octets.get(at..)?.first_chunk::<4>()?));
            (v4(0)?.into(), v4(4)?.into(), 8)
        }
        TCP6 => {
            let v6 = |at: usize| Some(Ipv6Addr::from(*octets.get(at..)?.first_chunk::<16>()?));
            (v6(0)?.into(), v6(16)?.into(), 32)
        }
        // Datagrams and Unix sockets are no ends of the connections that are served here.
        _ => return None,
    };
    Some(Ends {
        source: SocketAddr::new(source, port(ports_at)?),
        destination: SocketAddr::new(destination, port(ports_at + 2)?),
    })
}

/// Walks over the TLVs, which start at `start` of `header`. Fails when they do not end where it does, or when a checksum among
/// them is wrong.
fn check_tlvs(header: &[u8], start: usize) -> Result<(), BadHeader> {
    let mut at = start;
    while at < header.len() {
        let Some(&[kind, high, low]) = header[at..].first_chunk() else { return Err(BadHeader::MalformedV2) };
        let value_at = at + TLV_HEAD_LEN;
        let end = value_at + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value_at..end).ok_or(BadHeader::MalformedV2)?;
        if kind == TLV_CRC32C {
            let said =
                *value.first_chunk::<CRC_LEN>().filter(|_| value.len() == CRC_LEN).ok_or(BadHeader::MalformedV2)?;
            // It is that of the header with zeros in its own place.
            let own = crc32c::of(&[&header[..value_at], &[0; CRC_LEN], &header[end..]]);
            if u32::from_be_bytes(said) != own {
                return Err(BadHeader::WrongChecksum);
            }
        }
        at = end;
    }
    Ok(())
}

const V1_START: &[u8] = b"PROXY ";
/// With CRLF, for the longest addresses of `UNKNOWN`.
const V1_LEN_MAX: usize = 107;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_LEN: usize = 16;

/// Version 2 with each command.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Address family and transport.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

/// Octets of both addresses with ports.
const TCP4_LEN: usize = 12;
const TCP6_LEN: usize = 36;
const UNIX_LEN: usize = 216;

const TLV_HEAD_LEN: usize = 3;
const TLV_CRC32C: u8 = 0x03;
const CRC_LEN: usize = 4;

#[cfg(test)]
mod tests;
