//! Steered names laid over zones: what does not go together.

use shared::name::OwnerName;
use shared::topology::{Policy, Service};

use super::world::{World, ZONE, add_service, sample, to_alias};
use crate::zone::{Zone, ZoneSet};

/// The mistakes of the sample with `lines` in its zone and a service `name`.
fn mistakes(lines: &str, name: &str) -> Vec<String> {
    mistakes_with(lines, name, |_| {})
}

/// The same with the service changed.
fn mistakes_with(lines: &str, name: &str, change: impl FnMut(&mut Service)) -> Vec<String> {
    let World { mut topology, .. } = sample();
    topology.services.clear();
    add_service(&mut topology, name, Policy::Nearest);
    topology.services.iter_mut().for_each(change);
    let apex = OwnerName::parse("gslb.test").expect("a name");
    let zone = Zone::parse(&apex, "z", &format!("{ZONE}{lines}")).expect("a zone");
    let problems = ZoneSet::build(vec![zone], &topology).map(|_| Vec::new()).unwrap_or_else(|problems| problems);
    problems.iter().map(ToString::to_string).collect()
}

fn line_of(text: &str) -> usize {
    ZONE.lines().position(|line| line.starts_with(text)).map_or(0, |at| at + 1)
}

#[test]
fn steered_name_must_lie_in_a_zone() {
    assert!(mistakes("", "new.gslb.test").is_empty());
    assert!(mistakes("", "gslb.test").is_empty());
    let expected =
        ": services.\"www.example.com\": the name lies in no zone: expected one at or below the name of a zone";
    assert_eq!(mistakes("", "www.example.com"), [expected]);
}

#[test]
fn steered_name_must_not_be_delegated_or_redirected() {
    for name in ["kid.gslb.test", "a.b.kid.gslb.test"] {
        let what = "the steered name is delegated to other servers here: remove the one or the other";
        assert_eq!(mistakes("", name), [format!("z:{}: services.\"{name}\": {what}", line_of("kid NS"))]);
    }
    let what = "the steered name lies below this DNAME: remove the one or the other";
    assert_eq!(
        mistakes("", "x.old.gslb.test"),
        [format!("z:{}: services.\"x.old.gslb.test\": {what}", line_of("old DNAME"))]
    );
}

#[test]
fn steered_name_has_no_addresses_of_its_own() {
    let line = ZONE.lines().count() + 1;
    let found = mistakes("web A 192.0.2.1\nweb AAAA 2001:db8::1\nweb HTTPS 1 .\nweb TXT x\n", "web.gslb.test");
    let expected = |rtype: &str, line| {
        format!(
            "z:{line}: services.\"web.gslb.test\": {rtype} records stand here, but the name is steered: remove them"
        )
    };
    assert_eq!(found, [expected("A", line), expected("AAAA", line + 1), expected("HTTPS", line + 2)]);
    assert_eq!(mistakes("", "cdn.gslb.test").len(), 1);
}

#[test]
fn txt_is_the_zones_or_the_services() {
    let give = |service: &mut Service| service.txt = vec![vec!["x".to_owned()]; 3];
    assert!(mistakes("web TXT x\n", "web.gslb.test").is_empty());
    let line = ZONE.lines().count() + 1;
    let what = "TXT records stand here, but the name is steered: remove them";
    let expected = [format!("z:{line}: services.\"web.gslb.test\": {what}")];
    assert_eq!(mistakes_with("web TXT x\nweb MX 1 mail\n", "web.gslb.test", give), expected);
}

/// RFC 1034, section 3.6.2; RFC 2181, section 10.1: no other data beside a CNAME, so none at the name of a zone.
#[test]
fn steered_cname_stands_alone_and_not_at_the_name_of_a_zone() {
    assert!(mistakes_with("below.web A 192.0.2.1\n", "web.gslb.test", to_alias).is_empty());
    let line = ZONE.lines().count() + 1;
    let expected = |rtype: &str, line| {
        let what = "records stand here, but the service has a `cname`: a name with a CNAME has no other data";
        format!("z:{line}: services.\"web.gslb.test\": {rtype} {what}")
    };
    let found = mistakes_with("web TXT x\nweb MX 1 mail\n", "web.gslb.test", to_alias);
    assert_eq!(found, [expected("TXT", line), expected("MX", line + 1)]);
    let what =
        "a CNAME cannot stand at the name of a zone, which has SOA and NS records: expected `vips`, or another name";
    assert_eq!(mistakes_with("", "gslb.test", to_alias), [format!(": services.\"gslb.test\".cname: {what}")]);
}

/// RFC 2181, section 10.3.
#[test]
fn nothing_that_needs_addresses_leads_to_a_steered_cname() {
    let line = ZONE.lines().count() + 1;
    let found = mistakes_with("x MX 1 Web\ny SRV 1 1 1 web\n", "web.gslb.test", to_alias);
    let expected = |owner: &str, rtype: &str, target: &str, line| {
        let what = "which is a CNAME: expected a name with addresses";
        format!("z:{line}: {owner}.gslb.test.: {rtype} leads to {target}.gslb.test., {what}")
    };
    assert_eq!(found, [expected("x", "MX", "Web", line), expected("y", "SRV", "web", line + 1)]);
    assert!(mistakes_with("x MX 1 web\n", "web.gslb.test", |_| {}).is_empty());
}

#[test]
fn protocol_ids_must_fit_their_field() {
    let World { mut topology, zones, .. } = sample();
    if let Some(https) = &mut topology.services[0].https {
        https.alpn.push("x".repeat(256));
    }
    let apex = OwnerName::parse("gslb.test").expect("a name");
    let zone = Zone::parse(&apex, "z", &zones[0].1).expect("a zone");
    let problems = ZoneSet::build(vec![zone], &topology).expect_err("a problem");
    assert_eq!(problems.len(), 1);
}
