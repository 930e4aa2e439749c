//! What is read from files, and what is said of bad ones.

use proptest::prelude::*;
use shared::place::{Continent, Coordinates, Country};
use shared::problem::Problem;

use super::world::{COUNTRIES, Field, ip, map, mmdb, net, source, worlds};
use crate::geo::{GeoData, GeoSources, Origin};

fn database(bytes: &[u8]) -> GeoSources<'_> {
    GeoSources { database: source(bytes), countries: source(COUNTRIES.as_bytes()), ..GeoSources::default() }
}

fn overrides(text: &str) -> GeoSources<'_> {
    GeoSources { overrides: source(text.as_bytes()), countries: source(COUNTRIES.as_bytes()), ..GeoSources::default() }
}

fn only_problem(sources: GeoSources<'_>) -> Problem {
    let mut problems = GeoData::parse(sources).expect_err("there is a problem");
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    assert_eq!(problem.file, "some.file");
    problem
}

fn at(latitude: f64, longitude: f64) -> Option<Coordinates> {
    Coordinates::from_degrees(latitude, longitude).ok()
}

#[test]
fn both_layouts_tell_the_same() {
    let flat = map([
        ("country_code", "KR".into()),
        ("continent_code", "AS".into()),
        ("latitude", "37.5".into()),
        ("longitude", Field::Double(127.0)),
        ("asn", "AS64500".into()),
    ]);
    let nested = map([
        ("country", map([("iso_code", "KR".into()), ("names", map([("en", "Korea".into())]))])),
        ("continent", map([("code", "AS".into())])),
        ("location", map([("latitude", Field::Double(37.5)), ("longitude", Field::Double(127.0))])),
        ("autonomous_system_number", Field::Number(64500)),
    ]);
    let bytes = mmdb(&[(net("192.0.2.0/24"), flat), (net("2001:db8::/32"), nested)]);
    let data = GeoData::parse(database(&bytes)).expect("sound");
    let (v4, v6) = (data.place(ip("192.0.2.1")), data.place(ip("2001:db8::1")));
    assert_eq!(v4.place, v6.place);
    assert_eq!((v4.place.coordinates, v4.place.asn), (at(37.5, 127.0), Some(64500)));
    assert_eq!((v4.network, v6.network), (net("192.0.2.0/24"), net("2001:db8::/32")));
}

#[test]
fn country_alone_takes_point_and_continent_from_the_countries() {
    let bytes = mmdb(&[
        (net("192.0.2.0/24"), map([("country_code", "de".into())])),
        (net("198.51.100.0/24"), map([("country_code", "ZZ".into())])),
    ]);
    let data = GeoData::parse(database(&bytes)).expect("sound");
    let known = data.place(ip("192.0.2.1")).place;
    assert_eq!((known.coordinates, known.continent), (at(51.0, 10.0), Some(Continent::Eu)));
    let unknown = data.place(ip("198.51.100.1")).place;
    assert_eq!((unknown.country, unknown.coordinates), (Country::parse("ZZ"), None));
}

#[test]
fn database_that_holds_all_of_ipv4_in_one_record_tells_it_for_ipv4() {
    let bytes = mmdb(&[(net("::/8"), map([("country_code", "KR".into())]))]);
    let data = GeoData::parse(database(&bytes)).expect("sound");
    assert_eq!(data.place(ip("192.0.2.1")).place.country, Country::parse("KR"));
}

#[test]
fn nothing_is_known_beside_the_networks_of_a_database() {
    let bytes = mmdb(&[
        (net("192.0.2.0/24"), map([("country_code", "KR".into())])),
        (net("2001:db8::/32"), map([("country_code", "US".into())])),
    ]);
    let data = GeoData::parse(database(&bytes)).expect("sound");
    for beside in ["192.0.1.255", "192.0.3.0", "255.255.255.255", "2001:db7::", "2001:db9::", "ffff::"] {
        assert_eq!(data.place(ip(beside)).from, Origin::Nothing, "{beside}");
    }
}

#[test]
fn record_of_all_of_ipv4_is_read_elsewhere_too() {
    let mut bytes = mmdb(&[(net("::/3"), map([("country_code", "KR".into())])), (net("8000::/3"), map([]))]);
    // The record of ::/3 is the first child of node 2, that of 8000::/3 of the node after: 24 bits each.
    let (korea, other) = (2 * 6, 4 * 6);
    bytes.copy_within(korea..korea + 3, other);
    let data = GeoData::parse(database(&bytes)).expect("sound");
    assert_eq!(data.place(ip("8000::1")).place.country, Country::parse("KR"));
    assert_eq!(data.place(ip("c000::1")).place.country, None);
}

#[test]
fn autonomous_system_of_its_own_database_wins_over_the_record() {
    let record = map([("country_code", "KR".into()), ("asn", Field::Number(64500))]);
    let (places, asns) = (
        mmdb(&[(net("192.0.2.0/24"), record)]),
        mmdb(&[(net("192.0.2.128/25"), map([("autonomous_system_number", Field::Number(64501))]))]),
    );
    let sources = GeoSources { asn_database: source(&asns), ..database(&places) };
    let data = GeoData::parse(sources).expect("sound");
    assert_eq!(data.place(ip("192.0.2.1")).place.asn, Some(64500));
    assert_eq!(data.place(ip("192.0.2.129")).place.asn, Some(64501));
}

#[test]
fn damaged_databases_are_problems() {
    let whole = mmdb(&[(net("192.0.2.0/24"), map([("country_code", "KR".into())]))]);
    let marker = whole.windows(14).position(|window| window == b"\xab\xcd\xefMaxMind.com").expect("marker");
    let mut garbled = whole.clone();
    garbled[marker - 20..marker].fill(0xff);
    let mut beyond = whole.clone();
    beyond[0..6].fill(0xfe);
    for bytes in [&whole[..whole.len() / 2], &whole[..marker], &garbled, &beyond, b"", b"<html>not here</html>"] {
        let problem = only_problem(database(bytes));
        assert!(problem.what.contains("mmdb") || problem.what.contains("record of"), "{problem}");
    }
}

#[test]
fn database_cut_short_is_a_problem_that_says_what_to_do() {
    let whole = mmdb(&[(net("192.0.2.0/24"), map([("country_code", "KR".into())]))]);
    let problem = only_problem(database(&whole[..whole.len() / 2]));
    assert!(problem.what.ends_with("cut short, or is another kind of file: fetch it again"), "{problem}");
}

#[test]
fn senseless_records_are_problems_that_name_the_network() {
    for (record, part) in [
        (map([("country_code", "KOR".into())]), "two letters"),
        (map([("country_code", "KR".into()), ("continent_code", "XX".into())]), "AF, AN"),
        (map([("latitude", "north".into()), ("longitude", "1".into())]), "a number"),
        (map([("latitude", "91".into()), ("longitude", "1".into())]), "no place on Earth"),
        (map([("country_code", "KR".into()), ("asn", Field::Double(1.5))]), "whole number"),
    ] {
        let problem = only_problem(database(&mmdb(&[(net("192.0.2.0/24"), record)])));
        assert!(problem.what.contains(part) && problem.what.contains("192.0.2.0/24"), "{problem}");
    }
}

#[test]
fn database_of_the_wrong_kind_is_a_problem() {
    let asns = mmdb(&[(net("192.0.2.0/24"), map([("autonomous_system_number", Field::Number(64500))]))]);
    assert!(only_problem(database(&asns)).what.contains("expected records with country_code"));
    let places = mmdb(&[(net("192.0.2.0/24"), map([("country_code", "KR".into())]))]);
    let problem = only_problem(GeoSources { asn_database: source(&places), ..GeoSources::default() });
    assert!(problem.what.contains("autonomous_system_number"));
}

#[test]
fn overrides_are_read_as_geofeed_with_coordinates() {
    let text = "\u{feff}# comment\n192.0.2.0/24,de,DE-HE,\"Frankfurt, Main\",\n\n\
                192.0.2.128/25,KR,,,,37.5,127\n2001:db8::1,US\n198.51.100.0/24\n";
    let data = GeoData::parse(overrides(text)).expect("sound");
    let german = data.place(ip("192.0.2.1"));
    assert_eq!((german.place.country, german.place.coordinates), (Country::parse("DE"), at(51.0, 10.0)));
    assert_eq!(german.from, Origin::Override { line: 2 });
    assert_eq!(data.place(ip("192.0.2.200")).place.coordinates, at(37.5, 127.0));
    assert_eq!(data.place(ip("2001:db8::1")).network, net("2001:db8::1/128"));
    assert_eq!(data.place(ip("198.51.100.1")).from, Origin::Override { line: 6 });
}

#[test]
fn override_without_a_country_hides_the_database() {
    let bytes = mmdb(&[(net("192.0.2.0/24"), map([("country_code", "KR".into())]))]);
    let sources = GeoSources { overrides: source(b"192.0.2.0/24,,,,\n"), ..database(&bytes) };
    assert_eq!(GeoData::parse(sources).expect("sound").place(ip("192.0.2.1")).place.country, None);
}

#[test]
fn every_bad_line_of_overrides_is_a_problem() {
    let text = "192.0.2.0/24,KR\n192.0.2.1/24,KR\nhere,KR\n192.0.2.0/24,DE\n198.51.100.0/24,KOR\n\
                203.0.113.0/24,KR,,,,37.5\n203.0.113.0/25,KR,,,,north,1\n203.0.113.0/26,KR,,,,91,1\n\
                203.0.113.0/27,KR,,,,1,1,1\n::ffff:192.0.2.0/120,KR\n10.0.0.0/8,KR,\"open,\n10.0.0.0/9,KR,,\n";
    let problems = GeoData::parse(overrides(text)).expect_err("bad");
    let lines: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "{problems:#?}");
}

#[test]
fn every_bad_line_of_countries_is_a_problem() {
    let text = "KR,36,128,AS\nKR,36,128,AS\nKOR,36,128,AS\nDE,91,1,EU\nFR,,,EU\nUS,38,-92\nUS,38,-92,XX\n";
    let problems = GeoData::parse(GeoSources { countries: source(text.as_bytes()), ..GeoSources::default() });
    let lines: Vec<_> = problems.expect_err("bad").iter().filter_map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
}

proptest! {
    #[test]
    fn no_bytes_make_a_database_panic(world in worlds(), flips in prop::collection::vec((any::<u16>(), any::<u8>()), 1..8)) {
        let mut bytes = mmdb(&world.records);
        for (at, byte) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let _ = GeoData::parse(database(&bytes));
        let _ = GeoData::parse(GeoSources { asn_database: source(&bytes), ..GeoSources::default() });
    }

    #[test]
    fn no_bytes_make_a_text_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f:./,\"#\n K]{0,80}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = GeoData::parse(GeoSources { overrides: source(bytes), countries: source(bytes), ..GeoSources::default() });
        }
    }
}
