//! A place in 16 octets, of which a city database has half a million.

use shared::place::{Continent, Coordinates, Country, Place};

/// A [`Place`] with its coordinates to the seventh decimal of a degree, which is a centimetre.
///
/// A coordinate with no more decimals than that, as databases have, comes back as the very number it was.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct PackedPlace {
    /// 10^-7 degrees, plus [`KNOWN`]; both 0 where there are no coordinates.
    latitude: u32,
    longitude: u32,
    /// 0 where none is known.
    asn: u32,
    country: Option<Country>,
    continent: Option<Continent>,
}

impl PackedPlace {
    /// Packs `place`, whose autonomous system is not 0.
    pub(super) fn of(place: &Place) -> Self {
        let [latitude, longitude] =
            place.coordinates.map_or([0; 2], |at| [at.latitude(), at.longitude()].map(pack_degrees));
        Self { latitude, longitude, asn: place.asn.unwrap_or(0), country: place.country, continent: place.continent }
    }

    /// The place.
    pub(super) fn unpack(self) -> Place {
        let Self { latitude, longitude, asn, country, continent } = self;
        // What was on Earth is on Earth still; where there is none, 0 is far from it.
        let coordinates = Coordinates::from_degrees(unpack_degrees(latitude), unpack_degrees(longitude)).ok();
        Place { coordinates, country, continent, asn: (asn != 0).then_some(asn) }
    }
}

fn pack_degrees(degrees: f64) -> u32 {
    (i64::from(KNOWN) + (degrees * PER_DEGREE).round() as i64) as u32
}

fn unpack_degrees(packed: u32) -> f64 {
    (i64::from(packed) - i64::from(KNOWN)) as f64 / PER_DEGREE
}

/// Stands for 0 degrees; the ends of the Earth, 1.8 × 10^9 away, are within 1 and 2^32 - 1.
const KNOWN: u32 = 1 << 31;
const PER_DEGREE: f64 = 1e7;

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn at(latitude: f64, longitude: f64) -> Option<Coordinates> {
        Coordinates::from_degrees(latitude, longitude).ok()
    }

    /// Numbers as databases write them.
    fn degrees(max: i64) -> impl Strategy<Value = f64> {
        (0_u32..=7, -max * 10_000_000..=max * 10_000_000).prop_map(move |(decimals, ten_millionths)| {
            let unit = 10_i64.pow(7 - decimals);
            let text = format!("{}e-{decimals}", ten_millionths / unit);
            text.parse().expect("a number")
        })
    }

    proptest! {
        #[test]
        fn packed_place_is_the_place(
            coordinates in option::of((degrees(90), degrees(180))),
            country in option::of("[A-Z]{2}"),
            continent in option::of(prop::sample::select(vec![Continent::Af, Continent::Sa])),
            asn in option::of(1..u32::MAX),
        ) {
            let coordinates = coordinates.and_then(|(latitude, longitude)| at(latitude, longitude));
            let country = country.and_then(|code| Country::parse(&code));
            let place = Place { coordinates, country, continent, asn };
            prop_assert_eq!(PackedPlace::of(&place).unpack(), place);
        }

        #[test]
        fn packed_coordinates_are_off_by_a_centimetre_at_most(latitude in -90.0..=90.0, longitude in -180.0..=180.0) {
            let place = Place { coordinates: at(latitude, longitude), ..Place::default() };
            let packed = PackedPlace::of(&place).unpack().coordinates.expect("coordinates stay");
            prop_assert!((packed.latitude() - latitude).abs() <= 0.51e-7);
            prop_assert!((packed.longitude() - longitude).abs() <= 0.51e-7);
        }
    }

    #[test]
    fn ends_of_the_earth_and_its_middle_are_known() {
        for coordinates in [at(90.0, 180.0), at(-90.0, -180.0), at(0.0, 0.0)] {
            let place = Place { coordinates, ..Place::default() };
            assert_eq!(PackedPlace::of(&place).unpack(), place);
        }
        assert_eq!(PackedPlace::default().unpack(), Place::default());
        assert_eq!(size_of::<PackedPlace>(), 16);
    }
}
