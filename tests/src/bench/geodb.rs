//! One geo database for all servers: the shipped countries, in the layout that gdnsd, Knot and PowerDNS read.
//!
//! 127.1.0.0/16, 127.2.0.0/16 and 127.3.0.0/16 are added as test clients of the three regions. `database_type` says
//! GeoLite2-City only because some servers open nothing else; no data of MaxMind is in it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use maxminddb_writer::Database;
use maxminddb_writer::metadata::IpVersion;
use maxminddb_writer::paths::IpAddrWithMask;
use serde::{Deserialize, Serialize};

use super::regions::{REGIONS, Region};
use crate::harness::process::repository;

/// The database: the file that servers read, and where its IPv4 networks are.
#[derive(Debug)]
pub struct GeoDatabase {
    /// The file.
    pub path: PathBuf,
    /// IPv4 networks of at most 24 bits whose region is known, in the order of addresses.
    pub networks: Vec<(Ipv4Addr, u8, &'static Region)>,
}

/// A record as the shipped database has it.
#[derive(Deserialize)]
struct Shipped<'a> {
    country_code: Option<&'a str>,
}

/// A record as servers want it.
#[derive(Serialize)]
struct Record<'a> {
    continent: Code<'a>,
    country: IsoCode<'a>,
    location: Location,
}

#[derive(Serialize)]
struct Code<'a> {
    code: &'a str,
}

#[derive(Serialize)]
struct IsoCode<'a> {
    iso_code: &'a str,
}

/// PowerDNS takes no place without a radius.
#[derive(Serialize)]
struct Location {
    accuracy_radius: u16,
    latitude: f64,
    longitude: f64,
}

impl GeoDatabase {
    /// Reads what is shipped in `geo/` and writes the database to `folder`.
    pub fn build(folder: &Path) -> Result<Self, String> {
        let continents = continents()?;
        let mut database = Database::default();
        database.metadata.binary_format_major_version = 2;
        database.metadata.ip_version = IpVersion::V6;
        // libmaxminddb opens no database without these.
        database.metadata.build_epoch = BUILT;
        database.metadata.languages = vec!["en".to_owned()];
        database.metadata.description.insert("en".to_owned(), "countries, for the benchmark of gslb-dns".to_owned());
        database.metadata.database_type = "GeoLite2-City".to_owned();
        let mut networks = Vec::new();
        for (country, of_country) in networks_by_country()? {
            let Some(continent) = continents.get(&country) else { continue };
            let Some(region) = Region::of_continent(continent) else { continue };
            insert(&mut database, &country, continent, region, &of_country)?;
            networks.extend(of_country.iter().filter_map(|&(address, len)| match address {
                IpAddr::V4(address) if len <= 24 => Some((address, len, region)),
                _ => None,
            }));
        }
        for region in &REGIONS {
            let clients = IpAddr::from([127, region.clients, 0, 0]);
            insert(&mut database, region.country, region.continents[0], region, &[(clients, 16)])?;
        }
        networks.sort_by_key(|&(address, ..)| address);
        let path = folder.join("geo.mmdb");
        let bytes = database.write_to(Vec::new()).map_err(|error| format!("geo.mmdb: {error}"))?;
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, networks })
    }

    /// The region of an IPv4 address, where all of its /24 has the same; `None`: not known.
    pub fn region_of(&self, address: Ipv4Addr) -> Option<&'static Region> {
        let after = self.networks.partition_point(|(start, ..)| *start <= address);
        let (start, len, region) = self.networks.get(after.checked_sub(1)?)?;
        let same = u32::from(*start) ^ u32::from(address);
        (same.leading_zeros() >= u32::from(*len)).then_some(*region)
    }
}

/// One record for all `networks` of a country.
fn insert(
    database: &mut Database,
    country: &str,
    continent: &str,
    region: &Region,
    networks: &[(IpAddr, u8)],
) -> Result<(), String> {
    let (latitude, longitude) = region.coordinates;
    let location = Location { accuracy_radius: 100, latitude, longitude };
    let record = Record { continent: Code { code: continent }, country: IsoCode { iso_code: country }, location };
    let data = database.insert_value(record).map_err(|error| format!("geo.mmdb: {country}: {error}"))?;
    for &(address, len) in networks {
        // A tree of both families has IPv4 under ::/96.
        let (address, len) = match address {
            IpAddr::V4(address) => (Ipv6Addr::from(u128::from(u32::from(address))), len + 96),
            IpAddr::V6(address) => (address, len),
        };
        database.insert_node(IpAddrWithMask::new(address.into(), len), data);
    }
    Ok(())
}

/// The networks of the shipped database.
fn networks_by_country() -> Result<BTreeMap<String, Vec<(IpAddr, u8)>>, String> {
    let path = repository().join("geo/geo-whois-asn-country.mmdb");
    let unreadable = |error: MaxMindDbError| format!("{}: {error}", path.display());
    let reader = Reader::open_readfile(&path).map_err(unreadable)?;
    let mut networks: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for found in reader.networks(WithinOptions::default()).map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        let network = found.network().map_err(unreadable)?;
        let record = found.decode::<Shipped<'_>>().map_err(unreadable)?;
        if let Some(country) = record.and_then(|record| record.country_code) {
            networks.entry(country.to_owned()).or_default().push((network.ip(), network.prefix()));
        }
    }
    Ok(networks)
}

/// The continent of each country, as shipped.
fn continents() -> Result<HashMap<String, String>, String> {
    let path = repository().join("geo/countries.csv");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.filter_map(|line| Some((line.split(',').next()?, line.split(',').nth(3)?)));
    Ok(fields.map(|(country, continent)| (country.to_owned(), continent.trim().to_owned())).collect())
}

/// 2026-06-17, as the shipped database, in seconds since 1970.
const BUILT: u64 = 1_781_654_400;
