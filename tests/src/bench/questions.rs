//! What is asked, and what must come back.

use std::net::{IpAddr, Ipv4Addr};

use super::answer::{HEADER, skip_name};
use super::geodb::GeoDatabase;
use super::regions::Region;
use super::zone::{Host, STATIC, STATIC_ADDRESS, STEERED, ZONE, random_label};

/// Questions of one length, as they go over the wire; their ids are 0 and are set when they are sent.
///
/// One length, because the kernel cuts a burst into datagrams of equal length.
#[derive(Debug, Default)]
pub struct Questions {
    wire: Vec<u8>,
    len: usize,
    expected: Vec<Expected>,
}

/// The right answer to a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// NXDOMAIN.
    NoSuchName,
    /// This address, A or AAAA.
    Address(IpAddr),
    /// The VIP of the region whose client asks, A.
    NearestA,
    /// The same, AAAA.
    NearestAaaa,
}

/// What a question says in its OPT record.
#[derive(Clone, Copy, Debug)]
pub enum Edns {
    /// The payload size only.
    Plain,
    /// The /24 of a client (RFC 7871).
    Subnet(Ipv4Addr),
    /// A client cookie (RFC 7873).
    Cookie([u8; 8]),
}

impl Expected {
    /// What it comes to for a client of `region`; `None`: no address at all.
    pub fn address(self, region: &Region) -> Option<IpAddr> {
        match self {
            Self::NoSuchName => None,
            Self::Address(address) => Some(address),
            Self::NearestA => Some(region.vip(false)),
            Self::NearestAaaa => Some(region.vip(true)),
        }
    }
}

impl Questions {
    /// One name, again and again.
    pub fn fixed() -> Result<Self, String> {
        Self::collect([(STATIC.to_owned(), Edns::Plain, Expected::Address(STATIC_ADDRESS.into()))])
    }

    /// The same with a client cookie.
    pub fn with_cookie() -> Result<Self, String> {
        let cookie = Edns::Cookie(*b"a cookie");
        Self::collect([(STATIC.to_owned(), cookie, Expected::Address(STATIC_ADDRESS.into()))])
    }

    /// 100,000 names that do not exist.
    pub fn absent() -> Result<Self, String> {
        let mut chance = fastrand::Rng::with_seed(SEED);
        let name = move |_| format!("{}.{ZONE}", random_label(&mut chance, 12));
        Self::collect((0..100_000).map(name).map(|name| (name, Edns::Plain, Expected::NoSuchName)))
    }

    /// The steered name; the right answer depends on who asks. Every fifth asks for AAAA.
    pub fn by_source() -> Result<Self, String> {
        let expected = |at| if at % 5 == 4 { Expected::NearestAaaa } else { Expected::NearestA };
        Self::collect((0..10).map(|at| (STEERED.to_owned(), Edns::Plain, expected(at))))
    }

    /// The steered name on behalf of 50,000 random /24 whose region is known. Every fifth asks for AAAA.
    pub fn by_subnet(geo: &GeoDatabase) -> Result<Self, String> {
        let mut chance = fastrand::Rng::with_seed(SEED);
        let question = |at: usize| loop {
            let client = Ipv4Addr::from(chance.u32(0x0100_0000..0xE000_0000) & 0xFFFF_FF00);
            if let Some(region) = geo.region_of(client) {
                let expected = Expected::Address(region.vip(at % 5 == 4));
                return (STEERED.to_owned(), Edns::Subnet(client), expected);
            }
        };
        Self::collect((0..50_000).map(question))
    }

    /// Every host of the big zone once, in another order than that of the zone.
    pub fn hosts(hosts: &[Host]) -> Result<Self, String> {
        let mut shuffled: Vec<&Host> = hosts.iter().collect();
        fastrand::Rng::with_seed(SEED).shuffle(&mut shuffled);
        let question =
            |(label, address): &Host| (format!("{label}.{ZONE}"), Edns::Plain, Expected::Address((*address).into()));
        Self::collect(shuffled.into_iter().map(question))
    }

    /// The same with DO set (RFC 4035, section 3.2.1): signatures are wanted with the answers.
    pub fn with_do(mut self) -> Self {
        for query in self.wire.chunks_exact_mut(self.len) {
            if let Some(flags) = opt_flags(query) {
                query[flags] |= DO;
            }
        }
        self
    }

    /// Fails when they are of different lengths, or none.
    pub fn collect(questions: impl IntoIterator<Item = (String, Edns, Expected)>) -> Result<Self, String> {
        let mut all = Self::default();
        for (name, edns, expected) in questions {
            let start = all.wire.len();
            push_query(&mut all.wire, &name, expected.is_ipv6(), edns)?;
            let len = all.wire.len() - start;
            if all.len != 0 && all.len != len {
                return Err(format!("{name}: its question has {len} octets, and others {}", all.len));
            }
            all.len = len;
            all.expected.push(expected);
        }
        if all.expected.is_empty() { Err("no question at all".to_owned()) } else { Ok(all) }
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.expected.len()
    }

    /// Octets of each.
    pub fn len_each(&self) -> usize {
        self.len
    }

    /// The octets of one; empty beyond the last.
    pub fn wire(&self, at: usize) -> &[u8] {
        self.wire.get(at * self.len..(at + 1) * self.len).unwrap_or_default()
    }

    /// The right answer to one.
    pub fn expected(&self, at: usize) -> Expected {
        self.expected.get(at).copied().unwrap_or(Expected::NoSuchName)
    }
}

impl Expected {
    fn is_ipv6(self) -> bool {
        matches!(self, Self::Address(IpAddr::V6(_)) | Self::NearestAaaa)
    }
}

/// A query as an iterative resolver sends it: no recursion desired, EDNS with 1,232 octets.
fn push_query(wire: &mut Vec<u8>, name: &str, is_ipv6: bool, edns: Edns) -> Result<(), String> {
    wire.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len));
        wire.push(len.ok_or_else(|| format!("{name}: {label:?} is no label"))?);
        wire.extend(label.as_bytes());
    }
    wire.extend([0, 0, if is_ipv6 { 28 } else { 1 }, 0, 1]);
    wire.extend([0, 0, 41]);
    wire.extend(1232_u16.to_be_bytes());
    wire.extend([0; 4]);
    match edns {
        Edns::Plain => wire.extend([0, 0]),
        Edns::Subnet(client) => {
            wire.extend([0, 11, 0, 8, 0, 7, 0, 1, 24, 0]);
            wire.extend(&client.octets()[..3]);
        }
        Edns::Cookie(cookie) => {
            wire.extend([0, 12, 0, 10, 0, 8]);
            wire.extend(cookie);
        }
    }
    Ok(())
}

/// Whether a query wants signatures.
pub fn has_do(query: &[u8]) -> bool {
    opt_flags(query).is_some_and(|flags| query[flags] & DO != 0)
}

/// Where the flags of the OPT record of a query are, which follows its question.
fn opt_flags(query: &[u8]) -> Option<usize> {
    let flags = skip_name(query, HEADER)? + 4 + 7;
    (flags < query.len()).then_some(flags)
}

const SEED: u64 = 20_260;
/// In the upper octet of the flags of an OPT record.
const DO: u8 = 0x80;
