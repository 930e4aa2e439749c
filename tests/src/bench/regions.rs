//! The three regions that every server is told to steer to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A region: where it is, what it answers with, and whose it is.
#[derive(Debug)]
pub struct Region {
    /// Its name.
    pub name: &'static str,
    /// The answer to A.
    pub vip4: Ipv4Addr,
    /// The answer to AAAA.
    pub vip6: Ipv6Addr,
    /// Latitude and longitude in degrees.
    pub coordinates: (f64, f64),
    /// The continents whose clients it serves first.
    pub continents: &'static [&'static str],
    /// The country in which its test clients are taken to be.
    pub country: &'static str,
    /// The second octet of its test clients: 127.N.0.0/16.
    pub clients: u8,
}

/// All of them. The last one serves whoever is nowhere.
pub static REGIONS: [Region; 3] = [
    Region {
        name: "seoul",
        vip4: Ipv4Addr::new(198, 51, 100, 1),
        vip6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        coordinates: (37.57, 126.98),
        continents: &["AS", "OC"],
        country: "KR",
        clients: 1,
    },
    Region {
        name: "frankfurt",
        vip4: Ipv4Addr::new(198, 51, 100, 65),
        vip6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1),
        coordinates: (50.11, 8.68),
        continents: &["EU", "AF"],
        country: "DE",
        clients: 2,
    },
    Region {
        name: "virginia",
        vip4: Ipv4Addr::new(198, 51, 100, 129),
        vip6: Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1),
        coordinates: (39.04, -77.49),
        continents: &["NA", "SA", "AN"],
        country: "US",
        clients: 3,
    },
];

impl Region {
    /// What it answers with: the IPv6 or the IPv4 address.
    pub fn vip(&self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { self.vip6.into() } else { self.vip4.into() }
    }

    /// The region of a continent; `None`: it is none of the seven codes.
    pub fn of_continent(code: &str) -> Option<&'static Self> {
        REGIONS.iter().find(|region| region.continents.contains(&code))
    }

    /// It and the others, in the order in which its clients are sent to them.
    pub fn order(&self) -> Vec<&'static str> {
        let others = REGIONS.iter().rev().map(|region| region.name).filter(|name| *name != self.name);
        [self.name].into_iter().chain(others).collect()
    }
}
