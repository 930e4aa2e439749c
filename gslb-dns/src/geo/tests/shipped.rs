//! The files in `geo/`.

use shared::place::Country;
use shared::topology::{MemberId, Policy, SteeringId};

use super::world::{ip, steering, topology};
use crate::geo::{Depth, GeoData, GeoSources, GeoTables, Source};

fn shipped() -> GeoData {
    let sources = GeoSources {
        database: Some(Source {
            file: "geo-whois-asn-country.mmdb",
            bytes: include_bytes!("../../../../geo/geo-whois-asn-country.mmdb"),
        }),
        asn_database: None,
        overrides: Some(Source { file: "overrides.csv", bytes: include_bytes!("../../../../geo/overrides.csv") }),
        countries: Some(Source { file: "countries.csv", bytes: include_bytes!("../../../../geo/countries.csv") }),
    };
    GeoData::parse(sources).expect("the shipped files are sound")
}

#[test]
fn shipped_files_know_clients_all_over_the_world() {
    let data = shipped();
    let topology = topology(vec![steering(Policy::Nearest, Vec::new(), Vec::new())]);
    let tables = GeoTables::build(&data, &topology);
    let [frankfurt, seoul, virginia] = [0, 1, 2].map(MemberId);
    for (address, country, nearest) in [
        ("1.208.0.1", "KR", seoul),
        ("2400::1", "KR", seoul),
        ("133.11.0.1", "JP", seoul),
        ("2400:4000::1", "JP", seoul),
        ("217.0.43.1", "DE", frankfurt),
        ("2003::1", "DE", frankfurt),
        ("81.2.69.142", "GB", frankfurt),
        ("2a00:23c0::1", "GB", frankfurt),
        ("128.2.1.1", "US", virginia),
        ("2600::1", "US", virginia),
        ("200.160.2.3", "BR", virginia),
        ("2804::1", "BR", virginia),
        ("192.0.2.1", "KR", seoul),
    ] {
        let place = data.place(ip(address)).place;
        assert_eq!(place.country, Country::parse(country), "{address}");
        assert!(place.coordinates.is_some() && place.continent.is_some(), "{address}");
        let order = tables.order(tables.locate(ip(address), Depth::Subnet).class, SteeringId(0));
        assert_eq!(order.members()[0].member, nearest, "{address}");
    }
}
