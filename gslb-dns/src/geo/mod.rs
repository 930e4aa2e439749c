//! Where clients are: the databases and the operator's overrides, and what they make of the topology.
//!
//! ```text
//! mmdb, ASN mmdb, overrides.csv, countries.csv ──► GeoData ──┐
//!                                                  Topology ─┴─► GeoTables ── locate(address, depth) ─► Leaf ─► Order
//! ```
//! [`GeoData`] answers where an address is, for whoever wants to explain. [`GeoTables`] answers in which order the regions
//! come for an address, for every query: in some 30 ns, without an allocation.
//!
//! IPv4 addresses in IPv6 form (`::ffff:192.0.2.1`) are IPv4 addresses here, everywhere. Copies of the IPv4 part that a
//! database has elsewhere in IPv6 (6to4, Teredo) are not read: addresses there have no place.

mod coded;
mod compile;
mod countries;
mod lines;
mod mmdb;
mod nested;
mod numbering;
mod overrides;
mod packed;
mod partition;
mod record;
mod room;
mod table;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use shared::place::Place;
use shared::problem::Problem;

use coded::CodedRuns;
use countries::Countries;
use mmdb::Places;
use overrides::Overrides;
pub(crate) use room::for_octets as room_for;
pub use table::{ClassId, Depth, GeoTables, Leaf};

/// The files that say where clients are; each may be absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct GeoSources<'a> {
    /// Countries or cities of networks, as mmdb.
    pub database: Option<Source<'a>>,
    /// Autonomous systems of networks, as mmdb.
    pub asn_database: Option<Source<'a>>,
    /// What wins over the database: RFC 8805, with latitude and longitude as sixth and seventh column.
    pub overrides: Option<Source<'a>>,
    /// Country, latitude, longitude and continent, comma-separated: where the database knows no more than the country.
    pub countries: Option<Source<'a>>,
}

/// What is in a file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, for problems.
    pub file: &'a str,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Where networks are, of all sources.
#[derive(Debug, Default)]
pub struct GeoData {
    database: Places,
    /// Numbers of autonomous systems; 0 where none is known.
    asns: CodedRuns,
    overrides: Overrides,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Located {
    /// The place.
    pub place: Place,
    /// The largest network around the address that has this place throughout, from the same origin.
    pub network: IpNet,
    /// What says so.
    pub from: Origin,
}

/// What says where an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A line of the overrides.
    Override {
        /// Its number in the file, from 1.
        line: usize,
    },
    /// The database.
    Database,
    /// Nothing: no more than the autonomous system is known.
    Nothing,
}

impl GeoData {
    /// Reads all sources whole.
    ///
    /// Fails with every mistake of the text files, and with the first one of each database: a file that is damaged, not
    /// mmdb, or without any field that is known here.
    pub fn parse(sources: GeoSources<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let countries = sources.countries.map(|source| Countries::parse(source, &mut problems)).unwrap_or_default();
        let overrides = sources.overrides.map(|source| Overrides::parse(source, &countries, &mut problems));
        let database = sources.database.map(|source| mmdb::read_places(source, &countries)).transpose();
        let asns = sources.asn_database.map(mmdb::read_asns).transpose();
        match (database, asns) {
            (Ok(database), Ok(asns)) if problems.is_empty() => Ok(Self {
                database: database.unwrap_or_default(),
                asns: asns.unwrap_or_default(),
                overrides: overrides.unwrap_or_default(),
            }),
            (database, asns) => {
                problems.extend(database.err().into_iter().chain(asns.err()));
                Err(problems)
            }
        }
    }

    /// Where `address` is.
    pub fn place(&self, address: IpAddr) -> Located {
        let address = address.to_canonical();
        let (record, record_len) = self.database.runs.locate(address);
        let (asn, asn_len) = self.asns.locate(address);
        let (line, line_len) = self.overrides.runs.locate(address);
        let from = match self.overrides.entry(line) {
            Some(entry) => Origin::Override { line: entry.line },
            None if record != 0 => Origin::Database,
            None => Origin::Nothing,
        };
        let len = record_len.max(asn_len).max(line_len);
        // A run's prefix is never longer than the address, so the fallback is never taken.
        let network = IpNet::new(address, len).map_or(IpNet::from(address), |network| network.trunc());
        Located { place: self.combine(record, asn, line), network, from }
    }

    /// Whether the database, or the overrides where there is no database, tell the coordinates of anybody: without them
    /// nobody is nearer to one region than to another.
    pub fn knows_coordinates(&self) -> bool {
        let is_known = |place: Place| place.coordinates.is_some();
        // Without a database there is only the unknown place.
        let has_database = self.database.places.len() > 1;
        let is_overridden = !has_database && self.overrides.places().any(is_known);
        is_overridden || self.database.places.iter().any(|place| is_known(place.unpack()))
    }

    /// Octets held.
    pub fn size(&self) -> usize {
        let places = size_of_val(self.database.places.as_slice());
        places + self.database.runs.size() + self.asns.size() + self.overrides.runs.size()
    }

    /// The place that values of the three sources make together.
    fn combine(&self, record: u32, asn: u32, line: u32) -> Place {
        let record = self.database.places[record as usize].unpack();
        let place = self.overrides.entry(line).map_or(record, |entry| entry.place);
        Place { asn: if asn != 0 { Some(asn) } else { record.asn }, ..place }
    }
}
