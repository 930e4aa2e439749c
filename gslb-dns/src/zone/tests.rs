//! Zones as a whole: what is read, and every mistake that is reported.

use proptest::prelude::*;
use shared::name::OwnerName;
use shared::topology::Topology;

use super::{Found, Zone, ZoneSet, is_newer};
use crate::wire::{Name, Rcode, Rtype};

const START: &str = "$TTL 1h\n@ SOA ns m 7 1d 1h 2w 5m\n@ NS ns\nns A 192.0.2.53\n";

fn parse(text: &str) -> Result<Zone, Vec<String>> {
    let apex = OwnerName::parse("example.com").expect("a name");
    Zone::parse(&apex, "z", text).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// The mistakes in `lines`, which come behind four good ones.
fn mistakes(lines: &str) -> Vec<String> {
    parse(&format!("{START}{lines}")).expect_err("mistakes")
}

fn set(text: &str) -> ZoneSet {
    ZoneSet::build(vec![parse(text).expect("a zone")], &Topology::default()).expect("zones")
}

fn rcode(set: &ZoneSet, name: &str, qtype: Rtype) -> Rcode {
    let name = Name::parse(name, &Name::root()).expect("a name");
    match set.find(name.as_wire(), qtype) {
        Found::Static(tail) => tail.rcode(),
        _ => Rcode::REFUSED,
    }
}

#[test]
fn serial_and_name_are_known() {
    let set = set(START);
    let zones: Vec<_> = set.zones().map(|(apex, serial)| (apex.to_string(), serial)).collect();
    assert_eq!(zones, [("example.com.".to_owned(), 7)]);
}

#[test]
fn origin_owner_ttl_and_class_carry_over() {
    let set = set(&format!(
        "{START}$ORIGIN sub\na IN 5m TXT \"x\"\n  60 IN A 192.0.2.1 ; the same owner\n$origin b.example.com.\n@ AAAA 2001:db8::1\n\\c.d 1 TXT ( a\n b ) c\n"
    ));
    for (name, qtype) in [
        ("a.sub.example.com", Rtype::TXT),
        ("a.sub.example.com", Rtype::A),
        ("b.example.com", Rtype::AAAA),
        ("c.d.b.example.com", Rtype::TXT),
        ("d.b.example.com", Rtype::TXT),
    ] {
        assert_eq!(rcode(&set, name, qtype), Rcode::NOERROR, "{name}");
    }
    assert_eq!(rcode(&set, "a.example.com", Rtype::A), Rcode::NXDOMAIN);
}

#[test]
fn ttl_of_the_record_before_is_used_without_a_default() {
    assert!(parse("@ 60 SOA ns m 7 1d 1h 2w 5m\n@ NS ns\nns A 192.0.2.53\n").is_ok());
    let mistakes = parse("@ SOA ns m 7 1d 1h 2w 5m\n@ NS ns\n").expect_err("mistakes");
    assert_eq!(mistakes[0], "z:1: no TTL is known yet: write one here, or a $TTL line above");
}

#[test]
fn every_mistake_of_syntax_is_reported_with_its_line() {
    let lines = "a A 192.0.2\nb AA 192.0.2.1\nwww.example.net. A 192.0.2.1\n$INCLUDE other\n$GENERATE 1-2 a A 192.0.2.$\n\
                 c 4000000000 A 192.0.2.1\nd CH A 192.0.2.1\ne\nf (\n A 192.0.2.1 ) )\ng MX (\n 10\n a..b )\n$TTL\n$WHAT x\nh ANY x\n";
    assert_eq!(
        mistakes(lines),
        [
            "z:5: A: \"192.0.2\" is not an IPv4 address",
            "z:6: \"AA\" is not a record type",
            "z:7: www.example.net. is outside the zone example.com.",
            "z:8: $INCLUDE is not supported: put the records into this file",
            "z:9: $GENERATE is not supported: write the records out",
            "z:10: \"4000000000\" is not a TTL: expected seconds up to 2147483647, or such as 1h30m",
            "z:11: class CH: only IN is served",
            "z:12: the record ends before its type: expected [TTL] [IN] TYPE data",
            "z:14: \")\" without \"(\"",
            "z:15: \"a..b\" is not a domain name: a label is empty",
            "z:18: $TTL takes one TTL",
            "z:19: $WHAT: expected $ORIGIN or $TTL",
            "z:20: ANY records cannot stand in a zone",
        ]
    );
}

#[test]
fn broken_owner_or_origin_is_reported_once() {
    assert_eq!(
        mistakes("a..b A 192.0.2.1\n TXT x\n TXT y\n"),
        ["z:5: \"a..b\" is not a domain name: a label is empty"]
    );
    assert_eq!(
        mistakes("$ORIGIN a..b\nx A 192.0.2.1\ny A 192.0.2.1\n"),
        ["z:5: \"a..b\" is not a domain name: a label is empty"]
    );
    assert_eq!(
        parse(" A 192.0.2.1").expect_err("mistakes"),
        ["z:1: no owner was stated yet: start the line with a name"]
    );
}

#[test]
fn quoted_values_of_service_parameters_are_read_like_bare_ones() {
    let rdata = |parameters: &str| {
        let zone = parse(&format!("{START}a HTTPS 1 . {parameters}\n")).expect("a zone");
        let owner = Name::parse("a.example.com.", &Name::root()).expect("a name");
        zone.rrset(owner.as_wire(), Rtype::HTTPS).expect("a record").rdatas().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(rdata("alpn=\"h2,h3\" port=\"8443\""), rdata("alpn=h2,h3 port=8443"));
    assert!(mistakes("a HTTPS 1 . alpn= \"h2\"\n")[0].starts_with("z:5: HTTPS: "));
}

#[test]
fn escapes_that_would_be_misread_are_refused() {
    for line in ["a HTTPS 1 . key9=\\065", "a HTTPS 1 . key9=\"\\065\"", "a SVCB 1 x\\007y", "a CAA 0 issue a\\065"] {
        assert!(mistakes(line)[0].contains("plain printable ASCII"), "{line}");
    }
}

#[test]
fn zone_without_soa_or_ns_is_refused() {
    assert_eq!(
        parse("").expect_err("mistakes"),
        [
            "z: example.com.: missing: expected one SOA record at the zone's name",
            "z: example.com.: missing: expected at least one NS record at the zone's name",
        ]
    );
}

/// RFC 1034, section 3.6.2; RFC 2181, sections 5.2, 5.5, 6.1, 10.1 and 10.3; RFC 4035, section 2.4; RFC 4592, section 4; RFC
/// 6672, section 2.4.
#[test]
fn every_mistake_in_what_records_say_together_is_reported_with_its_line() {
    let cases = [
        ("@ SOA ns m 8 1 1 1 1", "5: example.com.: a second SOA record: line 2 has the only one that may be"),
        ("a A 192.0.2.1\nA A 192.0.2.1", "6: A.example.com.: the same A record stands in the file already: remove one"),
        (
            "a MX 1 B.net.\na MX 1 b.NET.",
            "6: a.example.com.: the same MX record stands in the file already: remove one",
        ),
        ("a CNAME b\na CNAME c", "6: a.example.com.: a second CNAME record: line 5 has the only one that may be"),
        (
            "a 5 A 192.0.2.1\na 6 A 192.0.2.2",
            "6: a.example.com.: TTL is 6, but line 5 gives this A RRset 5: all its records need one TTL",
        ),
        ("a TXT x\na CNAME b", "6: a.example.com.: CNAME beside TXT in line 5: a name with a CNAME has no other data"),
        ("a SOA ns m 8 1 1 1 1", "5: a.example.com.: SOA below the zone's name: a zone has one SOA, at its name"),
        ("a DS 1 13 2 00", "5: a.example.com.: DS without NS: it belongs to a delegation"),
        ("@ DS 1 13 2 00", "5: example.com.: DS at the zone's name: it belongs into the parent zone"),
        ("*.a NS ns", "5: *.a.example.com.: a wildcard can be no delegation and no DNAME"),
        ("a DNAME b\nc.a A 192.0.2.1", "6: c.a.example.com.: below a DNAME: it redirects every name below it"),
        (
            "a NS ns\na TXT x",
            "6: a.example.com.: below a delegation: only addresses of name servers (glue) may stand there",
        ),
        (
            "a NS ns\nb.a A 192.0.2.1",
            "6: b.a.example.com.: an address below a delegation that no NS record leads to: it would never be served",
        ),
        (
            "a NS ns\nb.a NS ns",
            "6: b.a.example.com.: below a delegation: only addresses of name servers (glue) may stand there",
        ),
        (
            "a NS ns.a",
            "5: a.example.com.: NS leads to ns.a.example.com., which has no address in this zone: expected A or AAAA",
        ),
        (
            "@ NS ns2",
            "5: example.com.: NS leads to ns2.example.com., which has no address in this zone: expected A or AAAA",
        ),
        (
            "a MX 1 b\nb CNAME c",
            "5: a.example.com.: MX leads to b.example.com., which is a CNAME: expected a name with addresses",
        ),
        (
            "_x SRV 1 1 1 b\nb CNAME c",
            "5: _x.example.com.: SRV leads to b.example.com., which is a CNAME: expected a name with addresses",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(mistakes(lines), [format!("z:{expected}")], "{lines}");
    }
}

#[test]
fn rrset_too_long_for_a_message_is_refused() {
    let records: String = (0..240).map(|at| format!("big TXT {at} {}\n", "x".repeat(240))).collect();
    assert_eq!(mistakes(&records).len(), 1);
}

#[test]
fn rrset_of_very_many_records_is_refused_at_once() {
    let records: String = (0..60_000).map(|at| format!("big TXT {at:05}\n")).collect();
    // Comparing each record with all others would take hours.
    assert_eq!(mistakes(&records).len(), 1);
}

#[test]
fn glue_of_another_delegation_is_taken() {
    assert!(
        parse(&format!(
            "{START}a NS ns.b\nb NS ns.b\nns.b A 192.0.2.1\nc NS c\nc AAAA 2001:db8::1\nd NS x.e\ne NS out.net.\n"
        ))
        .is_ok()
    );
}

#[test]
fn same_zone_twice_is_refused() {
    let zones = vec![parse(START).expect("a zone"), parse(START).expect("a zone")];
    let problems = ZoneSet::build(zones, &Topology::default()).expect_err("a problem");
    assert_eq!(
        problems[0].to_string(),
        "z: example.com.: the zone is given twice, z has it too: expected one file for each zone"
    );
}

#[test]
fn records_that_another_zone_hides_are_refused() {
    let kid = OwnerName::parse("kid.example.com").expect("a name");
    let kid = || Zone::parse(&kid, "k", START).expect("a zone");
    let parent = |lines: &str| parse(&format!("{START}{lines}")).expect("a zone");
    let built = |zones| ZoneSet::build(zones, &Topology::default()).map_err(|problems| problems[0].to_string());
    assert!(built(vec![kid(), parent("kid NS ns.kid\nns.kid A 192.0.2.53\n")]).is_ok());
    assert_eq!(
        built(vec![parent("x.kid TXT x\n"), kid()]).expect_err("a problem"),
        "z:5: x.kid.example.com.: TXT belongs into the zone kid.example.com., which is served here too: move it there"
    );
}

#[test]
fn records_that_another_zone_hides_are_told_in_the_order_of_the_file() {
    let kid = OwnerName::parse("kid.example.com").expect("a name");
    let kid = Zone::parse(&kid, "k", START).expect("a zone");
    let lines: String = (0..20).map(|at| format!("x{at}.kid TXT x\n")).collect();
    let zones = vec![parse(&format!("{START}{lines}")).expect("a zone"), kid];
    let problems = ZoneSet::build(zones, &Topology::default()).expect_err("problems");
    assert!(problems.iter().map(|problem| problem.line).eq((5..25).map(Some)));
}

#[test]
fn long_chains_of_names_are_found() {
    let set = set(&format!("{START}a.b.c.d.e.f TXT x\n*.w TXT x\n"));
    assert_eq!(rcode(&set, "b.c.d.e.f.example.com", Rtype::TXT), Rcode::NOERROR);
    assert_eq!(rcode(&set, "x.b.c.d.e.f.example.com", Rtype::TXT), Rcode::NXDOMAIN);
    assert_eq!(rcode(&set, &format!("{}w.example.com", "x.".repeat(100)), Rtype::TXT), Rcode::NOERROR);
}

proptest! {
    #[test]
    fn any_text_is_safe(text in "([ab@*\\\\] |IN |60 |A |TXT |CNAME |NS |192.0.2.1|\\$ORIGIN |\\(|\\)|\"|;|\n| |é|\\\\1){0,60}") {
        _ = parse(&text);
        if let Ok(zone) = parse(&format!("{START}{text}\n")) {
            prop_assert!(ZoneSet::build(vec![zone], &Topology::default()).is_ok());
        }
    }
}

/// RFC 1982, section 3.2.
#[test]
fn serials_are_compared_in_a_circle() {
    for (serial, than, expected) in
        [(2, 1, true), (1, 1, false), (1, 2, false), (0, u32::MAX, true), (1 << 31, 0, false), ((1 << 31) - 1, 0, true)]
    {
        assert_eq!(is_newer(serial, than), expected, "{serial} after {than}");
    }
}
