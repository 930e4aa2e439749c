//! Hashes of requests and servers: the same in every proxy and after every restart.

use std::hash::Hasher;
use std::net::IpAddr;

use httparse::Header;
use siphasher::sip::SipHasher13;

use crate::network::Prefixes;

/// What of a request is hashed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashOf {
    /// The client's address, in these prefixes.
    Source(Prefixes),
    /// Path and query.
    Uri,
    /// The path without its query.
    Path,
    /// The first field of this name.
    Header(Box<str>),
}

impl HashOf {
    /// The hash of a request of `client` for `path_and_query`; `None` when it has no such field.
    pub fn request(&self, client: IpAddr, path_and_query: &str, fields: &[Header<'_>]) -> Option<u64> {
        Some(match self {
            Self::Source(prefixes) => of_address(prefixes.of(client)),
            Self::Uri => of(path_and_query.as_bytes()),
            Self::Path => of(path_and_query.split('?').next().unwrap_or_default().as_bytes()),
            Self::Header(name) => of(fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?.value),
        })
    }
}

/// The hash of any octets.
pub fn of(octets: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(KEY);
    hasher.write(octets);
    hasher.finish()
}

/// The hash of an address.
pub fn of_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => of(&address.octets()),
        IpAddr::V6(address) => of(&address.octets()),
    }
}

/// What the server hashed as `server` draws for `request`: exponentially distributed, the less the better.
pub(super) fn draw(request: u64, server: u64) -> f64 {
    // The finalizer of splitmix64: each bit of the sum moves half of all bits.
    let mut mixed = request.wrapping_add(server);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // 53 bits, above zero and not above one.
    -(((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64).ln()
}

/// No secret: proxies must agree. Bounded load is what keeps clients from crowding one server.
const KEY: &[u8; 16] = b"gslb balance key";

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn requests_that_agree_in_what_is_hashed_have_one_hash() {
        let user = [Header { name: "X-User", value: b"7" }];
        let header = HashOf::Header("x-user".into());
        assert_eq!(header.request(CLIENT, "/a", &user), header.request(CLIENT, "/b", &user));
        assert_eq!(header.request(CLIENT, "/a", &[]), None);
        assert_eq!(HashOf::Path.request(CLIENT, "/a?b", &[]), HashOf::Path.request(CLIENT, "/a?c", &[]));
        assert_ne!(HashOf::Uri.request(CLIENT, "/a?b", &[]), HashOf::Uri.request(CLIENT, "/a?c", &[]));
        let network = HashOf::Source(Prefixes { ipv4: 24, ipv6: 64 });
        let neighbour = IpAddr::from([192, 0, 2, 9]);
        assert_eq!(network.request(CLIENT, "/", &[]), network.request(neighbour, "/x", &user));
    }

    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(of(b"app-1"), 2_143_454_015_020_568_022);
    }
}
