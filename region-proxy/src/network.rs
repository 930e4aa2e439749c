//! Networks: which addresses belong together.

use std::net::IpAddr;

/// All addresses that begin with the same bits. An IPv4 address that is mapped into IPv6 is the IPv4 address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    /// Its lowest address.
    start: IpAddr,
    /// How many bits all have in common.
    length: u8,
}

/// Not a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoNetwork {
    /// Neither an address nor an address with a length.
    #[error("not a network: expected an address, or one with a length, such as \"192.0.2.0/24\" or \"2001:db8::/32\"")]
    Form,
    /// There are bits beyond the length.
    #[error("not the start of a network: expected {0}")]
    BitsBeyond(Network),
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or an address alone, which is a network of one.
    pub fn parse(text: &str) -> Result<Self, NoNetwork> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork::Form)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        let length = match length {
            Some(length) => Some(length).filter(is_number).and_then(|length| length.parse().ok()),
            None => Some(most),
        };
        let length = length.filter(|length| *length <= most).ok_or(NoNetwork::Form)?;
        let network = Self { start: first(address, length), length };
        if network.start == address { Ok(network) } else { Err(NoNetwork::BitsBeyond(network)) }
    }

    /// Whether `address` belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.start.is_ipv4() && first(address, self.length) == self.start
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.start, self.length)
    }
}

/// How much of an address tells clients apart, in bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefixes {
    /// Of 32.
    pub ipv4: u8,
    /// Of 128.
    pub ipv6: u8,
}

impl Default for Prefixes {
    /// One IPv4 address; one IPv6 network of a client, which changes its address in it by itself (RFC 8981).
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

impl Prefixes {
    /// What is left of `address`: the same for all addresses of one prefix.
    pub fn of(self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        first(address, if address.is_ipv4() { self.ipv4 } else { self.ipv6 })
    }
}

/// `address` with all bits beyond the first `length` taken away.
fn first(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(address) => {
            IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).expect("a network").contains(address.parse().expect("an address"))
    }

    #[test]
    fn a_network_has_the_addresses_of_its_prefix_and_family() {
        assert!(contains("192.0.2.0/24", "192.0.2.255"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "a", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/+1", "192.0.2/24", "/8"] {
            assert_eq!(Network::parse(text), Err(NoNetwork::Form), "{text}");
        }
        let error = Network::parse("192.0.2.1/24").expect_err("not its start");
        assert_eq!(error.to_string(), "not the start of a network: expected 192.0.2.0/24");
    }

    #[test]
    fn addresses_of_one_prefix_are_alike() {
        let of = |text: &str, ipv4, ipv6| Prefixes { ipv4, ipv6 }.of(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1", 24, 64), of("192.0.2.200", 24, 64));
        assert_ne!(of("192.0.2.1", 32, 64), of("192.0.2.200", 32, 64));
        assert_eq!(of("192.0.2.1", 0, 0), of("198.51.100.1", 0, 0));
        assert_eq!(of("192.0.2.1", 32, 64), of("::ffff:192.0.2.1", 32, 64));
        assert_eq!(of("2001:db8::1", 32, 64), of("2001:db8::2", 32, 64));
        assert_ne!(of("2001:db8::1", 32, 128), of("2001:db8::2", 32, 128));
    }

    proptest! {
        #[test]
        fn any_text_is_a_network_that_is_read_again_or_refused(text in "[0-9a-f.:/]{0,20}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
