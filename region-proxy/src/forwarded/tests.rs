use proptest::prelude::*;

use super::*;

const CLIENT: &str = "192.0.2.7";
const EDGE: &str = "198.51.100.1";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn trusting(read: Family) -> Forwarded {
    let trusted = ["198.51.100.0/24", "2001:db8:1::/48"].map(|text| Network::parse(text).expect("a network"));
    Forwarded { trusted: trusted.into(), read, ..Forwarded::default() }
}

fn traced(forwarded: &Forwarded, peer: &str, fields: &[(&str, &str)]) -> (String, String, Option<String>, String) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let (mut edits, mut out) = (Edits::new(), Vec::new());
    let seen = Seen { peer: address(peer), scheme: "http", authority: Some("www.example.com") };
    let origin = forwarded.trace(seen, &fields, &mut edits);
    edits.write(&fields, |_| false, &mut out);
    let text = String::from_utf8(out).expect("text");
    (origin.client.to_string(), origin.scheme.to_owned(), origin.authority.map(str::to_owned), text)
}

fn client(forwarded: &Forwarded, peer: &str, fields: &[(&str, &str)]) -> String {
    traced(forwarded, peer, fields).0
}

fn told(forwarded: &Forwarded, peer: &str, fields: &[(&str, &str)]) -> String {
    traced(forwarded, peer, fields).3
}

const OWN: &str = "X-Forwarded-Proto: http\r\nX-Forwarded-Host: www.example.com\r\n";

#[test]
fn a_server_is_told_who_asked_how_and_for_what() {
    assert_eq!(told(&Forwarded::default(), CLIENT, &[]), format!("X-Forwarded-For: 192.0.2.7\r\n{OWN}"));
    assert_eq!(told(&Forwarded::default(), "::ffff:192.0.2.7", &[]), format!("X-Forwarded-For: 192.0.2.7\r\n{OWN}"));
}

#[test]
fn what_a_stranger_claims_is_dropped() {
    let claims = [
        ("x-forwarded-for", "203.0.113.1"),
        ("Forwarded", "for=203.0.113.1"),
        ("x-forwarded-for", "203.0.113.2"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
    ];
    let (client, scheme, host, fields) = traced(&trusting(Family::XForwarded), CLIENT, &claims);
    assert_eq!((client.as_str(), scheme.as_str(), host.as_deref()), (CLIENT, "http", Some("www.example.com")));
    assert_eq!(fields, format!("x-forwarded-for: 192.0.2.7\r\n{OWN}"));
}

#[test]
fn a_claim_in_disguise_is_dropped_whoever_sends_it() {
    let claims =
        [("X_Forwarded_For", "203.0.113.1"), ("x-forwarded_proto", "https"), ("X_Forwarded-Host", "evil.example")];
    for peer in [CLIENT, EDGE] {
        let (_, scheme, _, fields) = traced(&trusting(Family::XForwarded), peer, &claims);
        assert_eq!((scheme.as_str(), fields), ("http", format!("X-Forwarded-For: {peer}\r\n{OWN}")));
    }
    assert_eq!(told(&Forwarded::default(), CLIENT, &[("X_Other_Field", "1")]).lines().next(), Some("X_Other_Field: 1"));
}

#[test]
fn addresses_that_a_stranger_claims_are_kept_where_that_is_asked_for_and_never_believed() {
    let keeping = Forwarded { untrusted: Untrusted::Kept, ..Forwarded::default() };
    let claims =
        [("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", "203.0.113.2"), ("X-Forwarded-Proto", "https")];
    let (client, scheme, _, fields) = traced(&keeping, CLIENT, &claims);
    assert_eq!((client.as_str(), scheme.as_str()), (CLIENT, "http"));
    assert_eq!(
        fields,
        "X-Forwarded-For: 203.0.113.1, 203.0.113.2, 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: www.example.com\r\n"
    );
}

#[test]
fn the_client_is_the_nearest_address_that_no_trusted_peer_has() {
    let of = |list: &str| client(&trusting(Family::XForwarded), EDGE, &[("X-Forwarded-For", list)]);
    assert_eq!(of("192.0.2.7"), CLIENT);
    assert_eq!(of("203.0.113.66, 192.0.2.7"), CLIENT, "the client's own claim is not believed");
    assert_eq!(of("203.0.113.66, 192.0.2.7, 198.51.100.9, 2001:db8:1::5"), CLIENT);
    assert_eq!(of("198.51.100.8, 198.51.100.9"), "198.51.100.8", "all trusted: the farthest");
    assert_eq!(of("192.0.2.7:4711"), CLIENT);
    assert_eq!(of("[2001:db8::7]:4711"), "2001:db8::7");
    assert_eq!(of("2001:db8::7"), "2001:db8::7");
    assert_eq!(of("192.0.2.7, unknown"), EDGE, "what is no address ends the way back");
    assert_eq!(of("192.0.2.7, junk, 198.51.100.9"), "198.51.100.9");
    assert_eq!(of(""), EDGE);
}

#[test]
fn a_list_of_thousands_is_followed_for_some_hops_only() {
    let list = format!("192.0.2.7{}", ", 198.51.100.9".repeat(4000));
    assert_eq!(client(&trusting(Family::XForwarded), EDGE, &[("X-Forwarded-For", &list)]), "198.51.100.9");
}

#[test]
fn lines_count_as_one_list() {
    let lines = [("X-Forwarded-For", "203.0.113.66"), ("Via", "1.1 x"), ("x-forwarded-for", "192.0.2.7,198.51.100.9")];
    assert_eq!(client(&trusting(Family::XForwarded), EDGE, &lines), CLIENT);
    let fields = told(&trusting(Family::XForwarded), EDGE, &lines);
    assert!(
        fields.starts_with("Via: 1.1 x\r\nx-forwarded-for: 203.0.113.66, 192.0.2.7,198.51.100.9, 198.51.100.1\r\n")
    );
}

#[test]
fn a_trusted_peer_says_how_and_for_what_its_client_asked() {
    let lines =
        [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "shop.example:8443")];
    let (_, scheme, host, fields) = traced(&trusting(Family::XForwarded), EDGE, &lines);
    assert_eq!((scheme.as_str(), host.as_deref()), ("https", Some("shop.example:8443")));
    assert!(fields.ends_with("X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example:8443\r\n"), "{fields}");
    let (_, scheme, host, _) =
        traced(&trusting(Family::XForwarded), EDGE, &[("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a b")]);
    assert_eq!((scheme.as_str(), host.as_deref()), ("http", Some("www.example.com")));
}

#[test]
fn a_family_that_trusted_peers_do_not_write_is_a_strangers() {
    let both = [("Forwarded", "for=203.0.113.66"), ("X-Forwarded-For", CLIENT)];
    assert_eq!(client(&trusting(Family::XForwarded), EDGE, &both), CLIENT);
    assert!(!told(&trusting(Family::XForwarded), EDGE, &both).contains("203.0.113.66"));
    assert_eq!(client(&trusting(Family::Forwarded), EDGE, &both), "203.0.113.66");
    assert!(!told(&trusting(Family::Forwarded), EDGE, &both).contains(CLIENT));
}

#[test]
fn forwarded_is_read_from_its_last_element() {
    let of = |list: &str| {
        let (client, scheme, host, _) = traced(&trusting(Family::Forwarded), EDGE, &[("Forwarded", list)]);
        (client, scheme, host.unwrap_or_default())
    };
    let expected = |client: &str, scheme: &str, host: &str| (client.to_owned(), scheme.to_owned(), host.to_owned());
    assert_eq!(
        of("for=203.0.113.66, For=192.0.2.7;proto=https;host=a.example"),
        expected(CLIENT, "https", "a.example")
    );
    assert_eq!(of("for=\"[2001:db8::7]:4711\";by=_x"), expected("2001:db8::7", "http", "www.example.com"));
    assert_eq!(
        of("for=192.0.2.7;proto=https, for=198.51.100.9;proto=http"),
        expected(CLIENT, "https", "www.example.com")
    );
    assert_eq!(of("for=_hidden;proto=https"), expected(EDGE, "https", "www.example.com"));
    for malformed in ["for=192.0.2.7;for=192.0.2.8", "for", "for=\"192.0.2.7", "for=192.0.2.7;x=\"a;b\"", "=;,;"] {
        assert_eq!(of(malformed).0, EDGE, "{malformed}");
    }
    assert_eq!(of("for=192.0.2.7;x=\"a, for=203.0.113.66\"").0, CLIENT, "a comma in quotes ends nothing");
}

#[test]
fn forwarded_is_written_with_quotes_where_it_needs_them() {
    let both = Forwarded { writes_forwarded: true, ..trusting(Family::Forwarded) };
    let fields = told(&both, "2001:db8::7", &[("Forwarded", "for=203.0.113.66")]);
    assert!(fields.starts_with("Forwarded: for=\"[2001:db8::7]\";proto=http;host=\"www.example.com\"\r\n"), "{fields}");
    let fields = told(&both, EDGE, &[("Forwarded", "for=192.0.2.7")]);
    assert!(fields.contains("Forwarded: for=192.0.2.7, for=198.51.100.1;proto=http;host="), "{fields}");
}

#[test]
fn without_fields_to_write_those_of_a_trusted_peer_stay() {
    let silent = Forwarded { writes_x_forwarded: false, ..trusting(Family::XForwarded) };
    let lines = [("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "https")];
    assert_eq!(told(&silent, EDGE, &lines), "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n");
    assert_eq!(told(&silent, CLIENT, &lines), "");
}

fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("192.0.2.7".to_owned()),
        Just("198.51.100.9".to_owned()),
        Just("for=".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(", ".to_owned()),
        Just(";".to_owned()),
        "[ -~é]{0,5}",
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_stranger_is_always_itself(values in proptest::collection::vec(hostile(), 0..4), reads_forwarded: bool, writes: bool) {
        let read = if reads_forwarded { Family::Forwarded } else { Family::XForwarded };
        let forwarded = Forwarded { writes_forwarded: writes, ..trusting(read) };
        let fields: Vec<(&str, &str)> = values.iter().zip(["X-Forwarded-For", "forwarded", "x-forwarded-proto", "X-Forwarded-For"]).map(|(value, name)| (name, value.as_str())).collect();
        let (client, scheme, host, fields) = traced(&forwarded, CLIENT, &fields);
        prop_assert_eq!((client.as_str(), scheme.as_str(), host.as_deref()), (CLIENT, "http", Some("www.example.com")));
        prop_assert_eq!(fields.lines().count(), 3 + usize::from(writes));
        prop_assert!(fields.to_ascii_lowercase().contains("x-forwarded-for: 192.0.2.7\r\n"));
    }

    #[test]
    fn nothing_before_a_strangers_address_counts(before in hostile(), after in proptest::collection::vec(Just("198.51.100.9"), 0..3)) {
        let list = [&[before.as_str(), CLIENT][..], &after].concat().join(",");
        prop_assert_eq!(client(&trusting(Family::XForwarded), EDGE, &[("X-Forwarded-For", &list.replace('"', ""))]), CLIENT);
    }

    #[test]
    fn any_list_ends_with_the_peer(value in hostile(), is_trusted: bool) {
        let keeping = Forwarded { untrusted: Untrusted::Kept, ..trusting(Family::XForwarded) };
        let peer = if is_trusted { EDGE } else { CLIENT };
        let fields = told(&keeping, peer, &[("X-Forwarded-For", &value)]);
        let line = fields.lines().next().expect("a line");
        prop_assert_eq!(line.rsplit([',', ' ']).next(), Some(peer));
    }
}
