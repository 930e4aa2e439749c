//! Steered names laid over zones: what does not go together.

use shared::name::OwnerName;
use shared::topology::Policy;

use super::world::{World, ZONE, add_service, sample};
use crate::zone::{Zone, ZoneSet};

/// The mistakes of the sample with `lines` in its zone and a service `name`.
fn mistakes(lines: &str, name: &str) -> Vec<String> {
    let World { mut topology, .. } = sample();
    topology.services.clear();
    add_service(&mut topology, name, Policy::Nearest);
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
