//! Points and continents of countries, for databases that know no more than the country.

use std::collections::HashMap;

use shared::place::{Continent, Coordinates, Country, Place};
use shared::problem::Problem;

use super::Source;
use super::lines::{Line, read_lines};

/// Where the clients of each country are taken to be.
#[derive(Debug, Default)]
pub(super) struct Countries(HashMap<Country, (Coordinates, Continent)>);

impl Countries {
    /// Reads lines of country, latitude, longitude and continent. Adds each mistake to `problems`.
    pub(super) fn parse(source: Source<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut countries = HashMap::new();
        for line in read_lines(source, problems) {
            // The names of the columns may come first.
            if line.field(0).eq_ignore_ascii_case("country") {
                continue;
            }
            match parse_line(&line) {
                Ok((country, _)) if countries.contains_key(&country) => {
                    problems.push(line.problem(country.as_str(), "is here for the second time".to_owned()));
                }
                Ok((country, point)) => {
                    countries.insert(country, point);
                }
                Err(what) => problems.push(line.problem(line.field(0), what)),
            }
        }
        Self(countries)
    }

    /// `place` with what its country tells, where it does not know better.
    pub(super) fn complete(&self, place: Place) -> Place {
        let point = place.country.and_then(|country| self.0.get(&country));
        Place {
            coordinates: place.coordinates.or(point.map(|&(coordinates, _)| coordinates)),
            continent: place.continent.or(point.map(|&(_, continent)| continent)),
            ..place
        }
    }
}

fn parse_line(line: &Line) -> Result<(Country, (Coordinates, Continent)), String> {
    if line.len() != 4 {
        return Err(format!("has {} fields, expected 4: country,latitude,longitude,continent", line.len()));
    }
    let code = line.field(0);
    let country = Country::parse(code).ok_or_else(|| format!("country {code:?}: expected two letters"))?;
    let coordinates = line.coordinates(1, 2)?.ok_or("expected a latitude and a longitude")?;
    let code = line.field(3);
    let continent =
        Continent::parse(code).ok_or_else(|| format!("continent {code:?}: expected AF, AN, AS, EU, NA, OC or SA"))?;
    Ok((country, (coordinates, continent)))
}
