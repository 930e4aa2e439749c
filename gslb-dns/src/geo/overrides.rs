//! What an operator knows better than the database: a geofeed (RFC 8805) with two columns more.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use shared::place::{Country, Place};
use shared::problem::Problem;

use super::Source;
use super::coded::CodedRuns;
use super::countries::Countries;
use super::lines::{Line, read_lines};
use super::nested::prefixes;

/// Networks with their places; the longest prefix counts.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// The place of each line that has one.
    entries: Vec<Override>,
    /// Positions in `entries` plus 1; 0 where no line applies.
    pub(super) runs: CodedRuns,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Override {
    /// The place; its autonomous system is not known.
    pub(super) place: Place,
    /// Number of the line in the file, from 1.
    pub(super) line: usize,
}

impl Overrides {
    /// Reads lines of prefix, country, region, city, postal (RFC 8805, section 2.1), latitude and longitude. All but the
    /// prefix may be left out. Adds each mistake to `problems`.
    pub(super) fn parse(source: Source<'_>, countries: &Countries, problems: &mut Vec<Problem>) -> Self {
        let mut seen: HashMap<IpNet, usize> = HashMap::new();
        let mut entries = Vec::new();
        let mut networks = Vec::new();
        for line in read_lines(source, problems) {
            match parse_line(&line) {
                Ok((network, place)) => match seen.insert(network, line.number) {
                    Some(first) => {
                        problems.push(line.problem(line.field(0), format!("is already on line {first}")));
                    }
                    None => {
                        entries.push(Override { place: countries.complete(place), line: line.number });
                        networks.push((network, entries.len() as u32));
                    }
                },
                Err(what) => problems.push(line.problem(line.field(0), what)),
            }
        }
        Self { entries, runs: prefixes(networks) }
    }

    /// The places of all lines.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.entries.iter().map(|entry| entry.place)
    }

    /// The line that `value`, out of the runs, stands for.
    pub(super) fn entry(&self, value: u32) -> Option<&Override> {
        self.entries.get((value as usize).checked_sub(1)?)
    }
}

fn parse_line(line: &Line) -> Result<(IpNet, Place), String> {
    if line.len() > FIELDS_MAX {
        let columns = "prefix,country,region,city,postal,latitude,longitude";
        return Err(format!("has {} fields, expected at most {FIELDS_MAX}: {columns}", line.len()));
    }
    let network = parse_prefix(line.field(0))?;
    let country = match line.field(1) {
        "" => None,
        code => Some(Country::parse(code).ok_or_else(|| format!("country {code:?}: expected two letters or nothing"))?),
    };
    Ok((network, Place { coordinates: line.coordinates(5, 6)?, country, ..Place::default() }))
}

/// A prefix, or an address alone: RFC 8805, section 2.1.1.1.
fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let network: IpNet = match text.parse() {
        Ok(network) => network,
        Err(_) => text.parse::<IpAddr>().map(IpNet::from).map_err(|_| {
            format!("{text:?} is no prefix: expected an address with a length, such as 192.0.2.0/24 or 2001:db8::/32")
        })?,
    };
    if network != network.trunc() {
        return Err(format!("has bits set beyond its length: expected {}", network.trunc()));
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("is an IPv4 network in IPv6 form: expected it in IPv4 form".to_owned())
        }
        _ => Ok(network),
    }
}

const FIELDS_MAX: usize = 7;
