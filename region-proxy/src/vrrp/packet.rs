//! Advertisements, as they are on the wire (RFC 9568, section 5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::time::Duration;

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;

/// The TTL or hop limit of every advertisement: who is not on the link cannot send one (RFC 9568, section 5.1.1.3).
pub const HOP_LIMIT: u8 = 255;

/// Where IPv4 advertisements go (section 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Where IPv6 advertisements go (section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// The longest advertisement, in octets: 255 IPv6 addresses.
pub const SIZE_MAX: usize = HEAD + 255 * 16;

/// The number of a virtual router, 1 to 255: those with the same one on a link, for the same family, share their VIPs.
///
/// Source: RFC 9568, section 5.2.3.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouterId(NonZeroU8);

impl RouterId {
    /// `None` for 0.
    pub fn from_number(number: u8) -> Option<Self> {
        NonZeroU8::new(number).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time between two advertisements, in hundredths of a second: 10 ms to 40.95 s.
///
/// Source: RFC 9568, section 5.2.7.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Interval(u16);

impl Interval {
    /// The longest.
    pub const MAX: Self = Self(0xfff);

    /// `None` for 0 and beyond [`Self::MAX`].
    pub fn from_centis(centis: u16) -> Option<Self> {
        (1..=Self::MAX.0).contains(&centis).then_some(Self(centis))
    }

    /// `None` for what is not whole hundredths of a second from 1 to 4095.
    pub fn from_duration(span: Duration) -> Option<Self> {
        let ms = span.as_millis();
        let centis = u16::try_from(ms / 10).ok().filter(|_| ms.is_multiple_of(10))?;
        Self::from_centis(centis)
    }

    /// Hundredths of a second.
    pub fn centis(self) -> u16 {
        self.0
    }

    /// The span.
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 10)
    }
}

/// What the checksum of an IPv4 advertisement covers; that of an IPv6 one always covers the pseudo-header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ChecksumForm {
    /// The message alone, as RFC 9568 (section 5.2.8) says.
    #[default]
    Message,
    /// The IPv4 pseudo-header too, as RFC 5798 was read by many, keepalived among them.
    PseudoHeader,
}

/// One advertisement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    /// The virtual router that it speaks of.
    pub router: RouterId,
    /// That of its sender: 255 owns the addresses; 0 gives up.
    pub priority: u8,
    /// When the next comes at the latest.
    pub interval: Interval,
    /// The VIPs: at least one, all of one family, at most 255.
    pub addresses: Vec<IpAddr>,
}

/// From where to where a message went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// By IPv4.
    V4 {
        /// Who sent it.
        source: Ipv4Addr,
        /// The group, or a unicast peer.
        destination: Ipv4Addr,
    },
    /// By IPv6.
    V6 {
        /// Who sent it.
        source: Ipv6Addr,
        /// The group, or a unicast peer.
        destination: Ipv6Addr,
    },
}

impl Path {
    /// Who sent it.
    pub fn source(&self) -> IpAddr {
        match *self {
            Self::V4 { source, .. } => source.into(),
            Self::V6 { source, .. } => source.into(),
        }
    }
}

/// Why a packet is no advertisement that counts (RFC 9568, section 7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not all of it is there, or more than that.
    #[error("its length does not fit")]
    Length,
    /// A router may have forwarded it.
    #[error("its TTL or hop limit is {0}, not 255")]
    HopLimit(u8),
    /// Such as VRRPv2.
    #[error("its version is {0}, not 3")]
    Version(u8),
    /// Not an advertisement.
    #[error("its type is {0}, not 1")]
    Type(u8),
    /// Damaged, or of a third form.
    #[error("its checksum is wrong")]
    Checksum,
    /// Virtual routers are numbered from 1.
    #[error("its virtual router id is 0")]
    RouterId,
    /// It would never be waited for.
    #[error("its interval is 0")]
    Interval,
    /// It speaks of nothing.
    #[error("it has no address")]
    NoAddress,
}

impl Refusal {
    /// Its place among the counters.
    pub fn index(self) -> usize {
        match self {
            Self::Length => 0,
            Self::HopLimit(_) => 1,
            Self::Version(_) => 2,
            Self::Type(_) => 3,
            Self::Checksum => 4,
            Self::RouterId => 5,
            Self::Interval => 6,
            Self::NoAddress => 7,
        }
    }

    /// What metrics call those at each index.
    pub const NAMES: [&str; 8] =
        ["length", "hop_limit", "version", "type", "checksum", "router_id", "interval", "no_address"];
}

/// Reads `message`, which came over `path` with this TTL or hop limit. Either form of the checksum is right.
pub fn read(message: &[u8], path: Path, hop_limit: u8) -> Result<Advertisement, Refusal> {
    if hop_limit != HOP_LIMIT {
        return Err(Refusal::HopLimit(hop_limit));
    }
    let &[version_type, router, priority, count, high, low, _, _] = message.first_chunk().ok_or(Refusal::Length)?;
    match (version_type >> 4, version_type & 0xf) {
        (3, 1) => {}
        (3, kind) => return Err(Refusal::Type(kind)),
        (version, _) => return Err(Refusal::Version(version)),
    }
    if count == 0 {
        return Err(Refusal::NoAddress);
    }
    let octets = &message[HEAD..];
    if octets.len() != usize::from(count) * address_len(path) {
        return Err(Refusal::Length);
    }
    if !is_checksum_right(message, path) {
        return Err(Refusal::Checksum);
    }
    Ok(Advertisement {
        router: RouterId::from_number(router).ok_or(Refusal::RouterId)?,
        priority,
        // The four bits before are reserved and ignored (section 5.2.6).
        interval: Interval::from_centis(u16::from_be_bytes([high & 0xf, low])).ok_or(Refusal::Interval)?,
        addresses: octets.chunks_exact(address_len(path)).filter_map(address).collect(),
    })
}

/// Writes `advertisement` for `path`; addresses of the other family and beyond the 255th are left out.
pub fn write(advertisement: &Advertisement, path: Path, form: ChecksumForm) -> Vec<u8> {
    let [high, low] = advertisement.interval.centis().to_be_bytes();
    let mut message = vec![VERSION_TYPE, advertisement.router.number(), advertisement.priority, 0, high, low, 0, 0];
    let mut count = 0;
    for address in advertisement.addresses.iter().filter(|address| address.is_ipv4() == is_v4(path)).take(255) {
        count += 1;
        match address {
            IpAddr::V4(address) => message.extend(address.octets()),
            IpAddr::V6(address) => message.extend(address.octets()),
        }
    }
    message[3] = count;
    let sum = match form {
        ChecksumForm::Message if is_v4(path) => Sum::default(),
        _ => pseudo_header(path, PROTOCOL, message.len()),
    };
    let checksum = sum.with(&message).checksum();
    message[6..8].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The message in an IPv4 packet, with its path and TTL; `None` for what is not a whole IPv4 packet of VRRP.
///
/// Fragments are none: an advertisement that is cut has no place on a link.
pub fn in_ipv4(packet: &[u8]) -> Option<(&[u8], Path, u8)> {
    let head = packet.first_chunk::<20>()?;
    let (head_len, total) = (usize::from(head[0] & 0xf) * 4, usize::from(u16::from_be_bytes([head[2], head[3]])));
    let is_fragment = u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0;
    if head[0] >> 4 != 4 || head_len < 20 || head[9] != PROTOCOL || is_fragment {
        return None;
    }
    let quad = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
    let path = Path::V4 { source: quad(12), destination: quad(16) };
    Some((packet.get(head_len..total)?, path, head[8]))
}

fn is_checksum_right(message: &[u8], path: Path) -> bool {
    let with_pseudo_header = pseudo_header(path, PROTOCOL, message.len()).with(message).checksum() == 0;
    with_pseudo_header || is_v4(path) && Sum::default().with(message).checksum() == 0
}

fn is_v4(path: Path) -> bool {
    matches!(path, Path::V4 { .. })
}

fn address_len(path: Path) -> usize {
    if is_v4(path) { 4 } else { 16 }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// A sum of 16-bit words in one's complement (RFC 1071).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u32);

impl Sum {
    /// With `octets` added, at most 64 KiB; an odd last one is the high half of its word.
    pub(super) fn with(self, octets: &[u8]) -> Self {
        let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
        Self(words.fold(self.0, |sum, word| {
            let sum = sum + word;
            (sum & 0xffff) + (sum >> 16)
        }))
    }

    /// What goes into a checksum field that was 0; over a whole message that has it: 0.
    pub(super) fn checksum(self) -> u16 {
        !(self.0 as u16)
    }
}

/// The sum of the pseudo-header: RFC 9293, section 3.1, for IPv4; RFC 8200, section 8.1, for IPv6.
pub(super) fn pseudo_header(path: Path, protocol: u8, len: usize) -> Sum {
    let sum = match path {
        Path::V4 { source, destination } => Sum::default().with(&source.octets()).with(&destination.octets()),
        Path::V6 { source, destination } => Sum::default().with(&source.octets()).with(&destination.octets()),
    };
    sum.with(&[0, protocol]).with(&(len as u16).to_be_bytes())
}

/// Octets before the addresses.
const HEAD: usize = 8;

/// Version 3, type 1: advertisement.
const VERSION_TYPE: u8 = 0x31;

#[cfg(test)]
mod tests;
