//! One record of an mmdb database, in either layout: what of it is used, and what it means.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use shared::place::{Continent, Coordinates, Country, Place};

use super::countries::Countries;

/// The fields of a record that are used, in both layouts; see `geo/README.md`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow, default)]
    country_code: Scalar<'a>,
    #[serde(borrow, default)]
    continent_code: Scalar<'a>,
    #[serde(borrow, default)]
    country: Coded<'a>,
    #[serde(borrow, default)]
    registered_country: Coded<'a>,
    #[serde(borrow, default)]
    continent: Coded<'a>,
    #[serde(borrow, default)]
    latitude: Scalar<'a>,
    #[serde(borrow, default)]
    longitude: Scalar<'a>,
    #[serde(borrow, default)]
    location: Location<'a>,
    #[serde(borrow, default)]
    autonomous_system_number: Scalar<'a>,
    #[serde(borrow, default)]
    asn: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Location<'a> {
    #[serde(borrow, default)]
    latitude: Scalar<'a>,
    #[serde(borrow, default)]
    longitude: Scalar<'a>,
}

impl Record<'_> {
    /// Where it says a network is, completed from `countries`. Fails with what makes no sense in it.
    pub(super) fn place(&self, countries: &Countries) -> Result<Place, String> {
        let country = match self.country_code.or(self.country.0).or(self.registered_country.0).known_text() {
            None => None,
            // Codes such as A1 (anonymous proxy) stand for no country.
            Some(code) if code.len() == 2 && code.bytes().all(|b| b.is_ascii_alphanumeric()) => Country::parse(code),
            Some(code) => return Err(format!("country {code:?} is not two letters")),
        };
        let continent = match self.continent_code.or(self.continent.0).known_text() {
            None => None,
            Some(code) => {
                let expected = "expected AF, AN, AS, EU, NA, OC or SA";
                Some(Continent::parse(code).ok_or_else(|| format!("continent {code:?}: {expected}"))?)
            }
        };
        let place = Place { coordinates: self.coordinates()?, country, continent, asn: self.asn()? };
        Ok(countries.complete(place))
    }

    fn coordinates(&self) -> Result<Option<Coordinates>, String> {
        let latitude = self.latitude.or(self.location.latitude).number("latitude")?;
        let longitude = self.longitude.or(self.location.longitude).number("longitude")?;
        let Some((latitude, longitude)) = latitude.zip(longitude) else { return Ok(None) };
        Coordinates::from_degrees(latitude, longitude).map(Some).map_err(|error| error.to_string())
    }

    /// The autonomous system. Fails when it is no number of one.
    pub(super) fn asn(&self) -> Result<Option<u32>, String> {
        let asn = match self.autonomous_system_number.or(self.asn) {
            Scalar::Text(text) => Scalar::Text(text.trim_start_matches("AS")),
            other => other,
        };
        match asn.number("autonomous system")? {
            None => Ok(None),
            // The ends are reserved and no client's (RFC 7607, RFC 7300).
            Some(number) if number == 0.0 || number == f64::from(u32::MAX) => Ok(None),
            Some(number) if number.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(&number) => {
                Ok(Some(number as u32))
            }
            Some(number) => Err(format!("autonomous system {number}: expected a whole number below 2^32")),
        }
    }
}

/// A text or a number.
#[derive(Clone, Copy, Debug, Default)]
enum Scalar<'a> {
    #[default]
    Absent,
    Text(&'a str),
    Number(f64),
}

impl<'a> Scalar<'a> {
    fn or(self, other: Self) -> Self {
        if matches!(self, Self::Absent) { other } else { self }
    }

    /// `None` where writers put "" or "-" for what they do not know.
    fn known_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) if !text.is_empty() && text != "-" => Some(text),
            _ => None,
        }
    }

    fn number(self, name: &str) -> Result<Option<f64>, String> {
        match (self, self.known_text()) {
            (Self::Number(number), _) => Ok(Some(number)),
            (_, Some(text)) => text.parse().map(Some).map_err(|_| format!("{name} {text:?}: expected a number")),
            _ => Ok(None),
        }
    }
}

/// A code: itself, or in a map under `iso_code` (countries) or `code` (continents).
#[derive(Clone, Copy, Debug, Default)]
struct Coded<'a>(Scalar<'a>);

#[derive(Deserialize)]
struct Codes<'a> {
    #[serde(borrow, default)]
    iso_code: Scalar<'a>,
    #[serde(borrow, default)]
    code: Scalar<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(text.trim()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number as f64))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Coded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodedVisitor)
    }
}

struct CodedVisitor;

impl<'de> Visitor<'de> for CodedVisitor {
    type Value = Coded<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a code, or a map with iso_code or code")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Coded(Scalar::Text(text.trim())))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        let codes = Codes::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Coded(codes.iso_code.or(codes.code)))
    }
}
