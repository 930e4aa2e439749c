//! GeoIP and autonomous system databases in the mmdb format: read once, whole, into runs of addresses.
//!
//! Reading every network at load makes a damaged file a [`Problem`] and not a surprise at a query. What is kept is
//! smaller than the file and answers for both families alike.

use std::net::{IpAddr, Ipv4Addr};

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use shared::place::Place;
use shared::problem::Problem;

use super::Source;
use super::coded::{CodedRuns, Coder};
use super::countries::Countries;
use super::numbering::Numbering;
use super::packed::PackedPlace;
use super::partition::Bits;
use super::record::Record;
use super::room;

/// The places of a database. Place 0 is the unknown one.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) places: Vec<PackedPlace>,
    /// Positions in `places`.
    pub(super) runs: CodedRuns,
}

impl Default for Places {
    fn default() -> Self {
        Self { places: vec![PackedPlace::default()], runs: CodedRuns::default() }
    }
}

/// Reads a database of countries or cities; what it does not know of a country comes from `countries`.
pub(super) fn read_places(source: Source<'_>, countries: &Countries) -> Result<Places, Problem> {
    let mut places = Numbering::default();
    places.number(PackedPlace::default());
    let runs = read(source, |record| Ok(places.number(PackedPlace::of(&record.place(countries)?))))?;
    let mut places = places.into_values();
    room::fit(&mut places);
    let is_known = |place: Place| place.country.is_some() || place.coordinates.is_some() || place.continent.is_some();
    if !places.iter().any(|place| is_known(place.unpack())) {
        let wanted =
            "country_code, country.iso_code, latitude and longitude, or location.latitude and location.longitude";
        return Err(problem(source, format!("says nowhere where a network is: expected records with {wanted}")));
    }
    Ok(Places { places, runs })
}

/// Reads a database of autonomous systems: runs of their numbers, 0 where there is none.
pub(super) fn read_asns(source: Source<'_>) -> Result<CodedRuns, Problem> {
    let mut is_any_known = false;
    let runs = read(source, |record| {
        let asn = record.asn()?.unwrap_or(0);
        is_any_known |= asn != 0;
        Ok(asn)
    })?;
    if !is_any_known {
        let what = "knows no autonomous system: expected records with autonomous_system_number or asn";
        return Err(problem(source, what.to_owned()));
    }
    Ok(runs)
}

/// Walks all networks in order; `value_of` is asked once for each distinct record.
fn read<F>(source: Source<'_>, value_of: F) -> Result<CodedRuns, Problem>
where
    F: FnMut(&Record<'_>) -> Result<u32, String>,
{
    let unreadable = |error: MaxMindDbError| {
        problem(
            source,
            format!("is no sound mmdb database: {error}: it was cut short, or is another kind of file: fetch it again"),
        )
    };
    let reader = Reader::from_source(source.bytes).map_err(unreadable)?;
    // A tree of n nodes has at most n + 1 networks. One that shares its nodes may have more; one that is damaged may
    // have more than could ever be walked.
    let networks_max = 4 * reader.metadata().node_count as usize + 1024;
    let options = walk_options(&reader).map_err(unreadable)?;
    let mut walk = Walk::default();
    let mut values = Values { offsets: Numbering::default(), known: Vec::new(), value_of };
    for (count, network) in reader.networks(options).map_err(unreadable)?.enumerate() {
        if count == networks_max {
            let what = format!("is no sound mmdb database: more than {networks_max} networks in its tree");
            return Err(problem(source, what));
        }
        let found = network.map_err(unreadable)?;
        let prefix = found.network().map_err(unreadable)?;
        let value = values.of(&found).map_err(|what| problem(source, format!("record of {prefix}: {what}")))?;
        walk.add(prefix.ip(), prefix.prefix(), value);
    }
    Ok(walk.finish())
}

/// The values of records, by their offset in the file: many networks share one.
struct Values<F> {
    offsets: Numbering<usize>,
    /// The values, by the numbers of the offsets.
    known: Vec<u32>,
    value_of: F,
}

impl<F: FnMut(&Record<'_>) -> Result<u32, String>> Values<F> {
    fn of(&mut self, found: &LookupResult<'_, &[u8]>) -> Result<u32, String> {
        let Some(offset) = found.offset() else { return Ok(0) };
        if let Some(&value) = self.known.get(self.offsets.number(offset) as usize) {
            return Ok(value);
        }
        let record = found.decode::<Record<'_>>().map_err(|error| error.to_string())?.unwrap_or_default();
        let value = (self.value_of)(&record)?;
        // A record that cannot be read ends the reading, so that no number goes without its value.
        room::push(&mut self.known, value);
        Ok(value)
    }
}

/// All networks once: without the copies of the IPv4 part, if there is one.
fn walk_options(reader: &Reader<&[u8]>) -> Result<WithinOptions, MaxMindDbError> {
    let options = WithinOptions::default().include_networks_without_data();
    // Where all of IPv4 is one record, or none, every network with the same record would be taken for a copy.
    let has_ipv4_part = reader.lookup(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?.network()?.is_ipv4();
    Ok(if has_ipv4_part { options } else { options.include_aliased_networks() })
}

fn problem(source: Source<'_>, what: String) -> Problem {
    Problem { file: source.file.to_owned(), line: None, key: String::new(), what }
}

/// Networks in the order of addresses, made into runs. What lies between two of them (an alias) has no data.
#[derive(Default)]
struct Walk {
    v4: Coder<u32>,
    v6: Coder<u128>,
    next_v4: u32,
    next_v6: u128,
}

impl Walk {
    /// Beyond the last network there is no data either.
    fn finish(mut self) -> CodedRuns {
        if self.next_v4 != 0 {
            self.v4.push(self.next_v4, 0);
        }
        if self.next_v6 != 0 {
            self.v6.push(self.next_v6, 0);
        }
        CodedRuns { v4: self.v4.finish(), v6: self.v6.finish() }
    }

    fn add(&mut self, first: IpAddr, len: u8, value: u32) {
        match first {
            IpAddr::V4(first) => add_run(&mut self.v4, &mut self.next_v4, first.into(), 32 - len, value),
            IpAddr::V6(first) => {
                let first = u128::from(first);
                // Databases keep IPv4 under ::/96. A record for all of that and more counts for IPv4 too.
                if first == 0 && len <= 96 {
                    self.v4.push(0, value);
                }
                add_run(&mut self.v6, &mut self.next_v6, first, 128 - len, value);
            }
        }
    }
}

fn add_run<A: Bits>(runs: &mut Coder<A>, next: &mut A, first: A, host_len: u8, value: u32) {
    if *next < first {
        runs.push(*next, 0);
    }
    runs.push(first, value);
    // 0 past the last address, where nothing can follow.
    *next = first.ceil(host_len).after().unwrap_or(A::ZERO);
}
