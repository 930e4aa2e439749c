//! Where clients and regions are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A point on the Earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coordinates {
    latitude: f64,
    longitude: f64,
}

/// A latitude outside −90 ..= 90 or a longitude outside −180 ..= 180.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("({latitude}, {longitude}) is no place on Earth: expected latitude -90 to 90, longitude -180 to 180")]
pub struct NotOnEarth {
    latitude: f64,
    longitude: f64,
}

impl Coordinates {
    /// Fails outside latitude −90 ..= 90 and longitude −180 ..= 180, and for what is no number.
    pub fn from_degrees(latitude: f64, longitude: f64) -> Result<Self, NotOnEarth> {
        let is_valid = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        if is_valid { Ok(Self { latitude, longitude }) } else { Err(NotOnEarth { latitude, longitude }) }
    }

    /// Degrees north of the equator.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich.
    pub fn longitude(self) -> f64 {
        self.longitude
    }

    /// Great-circle distance in kilometres, rounded to 10: so that nodes agree whatever their maths library.
    pub fn distance_km(self, other: Self) -> u32 {
        let (lat_a, lat_b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_lat = ((lat_b - lat_a) / 2.0).sin();
        let half_lon = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let haversine = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
        let km = 2.0 * EARTH_RADIUS_KM * haversine.sqrt().min(1.0).asin();
        (km / BUCKET_KM).round() as u32 * BUCKET_KM as u32
    }
}

/// An ISO 3166-1 alpha-2 country code, upper case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// `None` unless `code` is two letters; any case.
    pub fn parse(code: &str) -> Option<Self> {
        let bytes: [u8; 2] = code.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphabetic).then(|| Self(bytes.map(|b| b.to_ascii_uppercase())))
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

/// A continent, by the two-letter codes that GeoIP databases use.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Continent {
    /// Africa.
    Af,
    /// Antarctica.
    An,
    /// Asia.
    As,
    /// Europe.
    Eu,
    /// North America.
    Na,
    /// Oceania.
    Oc,
    /// South America.
    Sa,
}

impl Continent {
    /// `None` unless `code` is one of AF, AN, AS, EU, NA, OC, SA; any case.
    pub fn parse(code: &str) -> Option<Self> {
        let all = [Self::Af, Self::An, Self::As, Self::Eu, Self::Na, Self::Oc, Self::Sa];
        all.into_iter().find(|continent| continent.as_str().eq_ignore_ascii_case(code))
    }

    /// The two letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Af => "AF",
            Self::An => "AN",
            Self::As => "AS",
            Self::Eu => "EU",
            Self::Na => "NA",
            Self::Oc => "OC",
            Self::Sa => "SA",
        }
    }
}

/// Where a client is, as far as the data tells; every part may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Place {
    /// The point to measure distances from.
    pub coordinates: Option<Coordinates>,
    /// The country.
    pub country: Option<Country>,
    /// The continent.
    pub continent: Option<Continent>,
    /// The autonomous system that announces the client's network.
    pub asn: Option<u32>,
}

/// The block of addresses whose clients always move together: /24 for IPv4, /56 for IPv6.
///
/// Shares (ramp, shed, weight) split clients by a hash of it, so it is also the ECS scope of split answers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientBlock(u64);

impl ClientBlock {
    /// Prefix length of an IPv4 block.
    pub const V4_LEN: u8 = 24;
    /// Prefix length of an IPv6 block.
    pub const V6_LEN: u8 = 56;

    /// The block that holds `address`. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4) >> (32 - Self::V4_LEN))),
            // A set top bit keeps the families apart: an IPv4 block needs 24 bits, an IPv6 block 56.
            IpAddr::V6(v6) => Self((u128::from(v6) >> (128 - Self::V6_LEN)) as u64 | 1 << 63),
        }
    }

    /// The block whose [`ClientBlock::as_u64`] this is.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The addresses in it.
    pub fn network(self) -> IpNet {
        let (address, len) = if self.0 >> 63 == 0 {
            (Ipv4Addr::from_bits((self.0 as u32) << (32 - Self::V4_LEN)).into(), Self::V4_LEN)
        } else {
            let bits = u128::from(self.0 & !(1 << 63)) << (128 - Self::V6_LEN);
            (Ipv6Addr::from_bits(bits).into(), Self::V6_LEN)
        };
        IpNet::new_assert(address, len)
    }

    /// A number that is the same on every node.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

const EARTH_RADIUS_KM: f64 = 6371.0;
const BUCKET_KM: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latitude: f64, longitude: f64) -> Coordinates {
        Coordinates::from_degrees(latitude, longitude).expect("on Earth")
    }

    #[test]
    fn distance_is_known_symmetric_and_in_tens() {
        let (seoul, frankfurt) = (at(37.57, 126.98), at(50.11, 8.68));
        assert_eq!(seoul.distance_km(frankfurt), 8550);
        assert_eq!(frankfurt.distance_km(seoul), 8550);
        assert_eq!(seoul.distance_km(seoul), 0);
        assert_eq!(at(0.0, 0.0).distance_km(at(0.0, 180.0)), 20020);
    }

    #[test]
    fn coordinates_off_the_earth_are_refused() {
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0)] {
            assert!(Coordinates::from_degrees(latitude, longitude).is_err());
        }
    }

    #[test]
    fn block_holds_its_24_or_56_bits() {
        let block = |text: &str| ClientBlock::of(text.parse().expect("address"));
        assert_eq!(block("192.0.2.1"), block("192.0.2.255"));
        assert_eq!(block("192.0.2.1"), block("::ffff:192.0.2.9"));
        assert_ne!(block("192.0.2.1"), block("192.0.3.1"));
        assert_eq!(block("2001:db8:0:aa00::1"), block("2001:db8:0:aaff::1"));
        assert_ne!(block("2001:db8:0:aa00::1"), block("2001:db8:0:ab00::1"));
        assert_ne!(block("0.0.1.0"), block("::"));
    }

    #[test]
    fn block_is_told_by_its_number_and_holds_its_network() {
        for (address, network) in [("192.0.2.1", "192.0.2.0/24"), ("2001:db8:0:aaff::1", "2001:db8:0:aa00::/56")] {
            let block = ClientBlock::of(address.parse().expect("address"));
            assert_eq!(ClientBlock::from_u64(block.as_u64()), block);
            assert_eq!(block.network().to_string(), network);
        }
    }
}
