//! What tests before a delegation complain of in name servers and TTLs (such as Zonemaster's, RIPE-203, or a registrar's),
//! though the zone is served as it stands.

use std::collections::BTreeSet;

use super::compose::{Composer, Owner, Section};
use super::overlay::deepest;
use super::rdata::target_of;
use super::{FilePlace, Rrset, Zone};
use crate::wire::{HEADER_LEN, NAME_LEN_MAX, Name, Rcode, Rtype, UDP_PAYLOAD_PLAIN, is_at_or_below};

/// One thing to look at: the owner name, where it stands, and what it is.
pub(super) type Complaint = (Box<[u8]>, Option<FilePlace>, String);

/// What is odd about the name servers and the TTLs of `zones[at]`.
pub(super) fn complaints(zones: &[Zone], at: usize) -> Vec<Complaint> {
    let zone = &zones[at];
    let apex = zone.apex.as_wire();
    let mut found = Vec::new();
    if let Some(ns) = zone.rrset(apex, Rtype::NS) {
        let complain = |what: String| (Box::from(apex), ns.place().copied(), what);
        found.extend(reach(zone, ns).into_iter().map(complain));
        if !(NS_TTL_LEAST..=TTL_MOST).contains(&ns.ttl) {
            let what = format!("the NS records live {} seconds: expected {NS_TTL_LEAST} to {TTL_MOST}", ns.ttl);
            found.push(complain(what));
        }
    }
    for (owner, node) in &*zone.nodes {
        for rrset in node {
            if rrset.rtype == Rtype::NS {
                found.extend(referral(zone, owner, rrset));
                found.extend(elsewhere(zones, at, owner, rrset));
            }
        }
    }
    found.extend(ttls(zone));
    found
}

/// Whether the servers in `ns` can be reached over both families, and are more than one.
fn reach(zone: &Zone, ns: &Rrset) -> Vec<String> {
    let targets: Vec<Name> = targets(ns).collect();
    // Addresses of others are not known here.
    if targets.iter().any(|target| !is_at_or_below(target.as_wire(), zone.apex.as_wire())) {
        return Vec::new();
    }
    let addresses = |rtype| -> BTreeSet<&[u8]> {
        let rrsets = targets.iter().filter_map(|target| zone.rrset(target.as_wire(), rtype));
        rrsets.flat_map(Rrset::rdatas).collect()
    };
    let (v4, v6) = (addresses(Rtype::A), addresses(Rtype::AAAA));
    let mut found = Vec::new();
    for (family, lacking, own, other) in [("IPv6", "AAAA", &v6, &v4), ("IPv4", "A", &v4, &v6)] {
        if own.is_empty() && !other.is_empty() {
            found.push(format!(
                "no name server has {lacking} records: resolvers with {family} alone reach none of them"
            ));
        }
    }
    if targets.len() > 1 && v4.len() < 2 && v6.len() < 2 && v4.len() + v6.len() > 0 {
        found.push("all name servers have the same address: expected at least two, in different networks".to_owned());
    }
    found
}

/// Whether the referral to `owner` fits an answer to who does not speak EDNS: with its own name asked and every address
/// in the delegated domain (RFC 9471), and with the longest name asked and one address of each family.
fn referral(zone: &Zone, owner: &[u8], ns: &Rrset) -> Option<Complaint> {
    let glue = |rtype| {
        let inside = targets(ns).filter(|target| is_at_or_below(target.as_wire(), owner));
        inside.filter_map(move |target| zone.rrset(target.as_wire(), rtype).map(|rrset| (target, rrset)))
    };
    let len = |name_len: usize, count: usize| {
        let mut composer = Composer::new(owner);
        composer.rrset(Section::Authority, Owner::Name(owner), ns);
        for (target, rrset) in [Rtype::A, Rtype::AAAA].into_iter().flat_map(|rtype| glue(rtype).take(count)) {
            composer.rrset(Section::Additional, Owner::Name(target.as_wire()), rrset);
        }
        HEADER_LEN + name_len + QUESTION_REST_LEN + composer.finish(Rcode::NOERROR, false).octets.len()
    };
    let octets = len(owner.len(), usize::MAX).max(len(NAME_LEN_MAX, 1));
    let most = usize::from(UDP_PAYLOAD_PLAIN);
    let what = format!(
        "the referral to these name servers takes up to {octets} octets: expected {most} at most, by fewer servers, or by \
         names that end alike"
    );
    (octets > most).then(|| (owner.into(), ns.place().copied(), what))
}

/// Name servers in another zone that is served here, where they have no address.
fn elsewhere(zones: &[Zone], at: usize, owner: &[u8], ns: &Rrset) -> Vec<Complaint> {
    let mut found = Vec::new();
    for target in targets(ns) {
        let name = target.as_wire();
        let Some(home) = deepest(zones, name).filter(|&home| home != at).map(|home| &zones[home]) else { continue };
        if !home.is_whole || home.cut_of(name).is_some() {
            continue;
        }
        let what = if home.rrset(name, Rtype::CNAME).is_some() {
            "which is a CNAME"
        } else if [Rtype::A, Rtype::AAAA].iter().all(|&rtype| home.rrset(name, rtype).is_none()) {
            "which has no address"
        } else {
            continue;
        };
        let what = format!("NS leads to {target}, {what} in the zone {}: expected A or AAAA records there", home.apex);
        found.push((owner.into(), ns.place().copied(), what));
    }
    found
}

/// Sets that resolvers never keep, or for longer than they keep anything: each kind once, however many there are.
fn ttls(zone: &Zone) -> Vec<Complaint> {
    let sets = || zone.nodes.iter().flat_map(|(owner, node)| node.iter().map(move |rrset| (owner, rrset)));
    // What is said of the NS records of the zone is said already.
    let is_other = |owner: &[u8], rrset: &Rrset| rrset.rtype != Rtype::NS || owner != zone.apex.as_wire();
    let of_kind = |is_odd: fn(u32) -> bool, what: &str| {
        let mut odd: Vec<_> = sets().filter(|(owner, rrset)| is_odd(rrset.ttl) && is_other(owner, rrset)).collect();
        odd.sort_by_key(|(_, rrset)| rrset.line());
        let (owner, first) = odd.first()?;
        let more = if odd.len() > 1 { format!(" (and {} more RRsets)", odd.len() - 1) } else { String::new() };
        let what = format!("{} has a TTL of {} seconds{more}: {what}", first.rtype, first.ttl);
        Some((Box::from(&***owner), first.place().copied(), what))
    };
    let never = of_kind(|ttl| ttl == 0, "resolvers keep nothing of it, and ask for every client: expected 1 or more");
    let long = of_kind(|ttl| ttl > TTL_MOST, "resolvers keep nothing for longer than a week: expected 604800 at most");
    never.into_iter().chain(long).collect()
}

/// The names of the servers, in lower case.
fn targets(ns: &Rrset) -> impl Iterator<Item = Name> + '_ {
    ns.rdatas().filter_map(|rdata| target_of(Rtype::NS, rdata)).map(|target| target.folded())
}

/// Below, resolvers ask for the servers again and again.
const NS_TTL_LEAST: u32 = 300;
/// A week.
const TTL_MOST: u32 = 604_800;
/// QTYPE and QCLASS.
const QUESTION_REST_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use shared::name::OwnerName;

    use super::*;

    const START: &str = "$TTL 1h\n@ SOA ns1 m 7 4h 1h 2w 5m\n";
    const SERVERS: &str =
        "@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns1 AAAA 2001:db8::1\nns2 A 192.0.2.2\nns2 AAAA 2001:db8::2\n";

    fn zone(name: &str, text: &str) -> Zone {
        let name = OwnerName::parse(name).expect("a name");
        Zone::parse(&name, "z", text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn found(text: &str) -> Vec<String> {
        let zones = [zone("example.com", &format!("{START}{text}"))];
        let shown = |(owner, place, what): Complaint| {
            format!("{}: {}: {what}", place.map_or(0, |place| place.line), Name::from_wire(&owner))
        };
        complaints(&zones, 0).into_iter().map(shown).collect()
    }

    /// Fails unless there is one complaint, and it starts like this.
    fn assert_one(text: &str, start: &str) {
        let found = found(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text}\nwanted {start}\nfound {found:#?}");
    }

    #[test]
    fn servers_in_both_families_give_no_complaint() {
        assert!(found(SERVERS).is_empty(), "{:?}", found(SERVERS));
        assert!(found("@ NS ns1\n@ NS ns.example.net.\nns1 A 192.0.2.1\n").is_empty());
    }

    /// RFC 3901, section 3, and the consistency tests of registrars.
    #[test]
    fn servers_in_one_family_are_complained_of() {
        assert_one(
            "@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n",
            "3: example.com.: no name server has AAAA records: resolvers with IPv6 alone",
        );
        assert_one(
            "@ NS ns1\n@ NS ns2\nns1 AAAA 2001:db8::1\nns2 AAAA 2001:db8::2\n",
            "3: example.com.: no name server has A records: resolvers with IPv4 alone",
        );
    }

    /// RFC 2182, section 3.1.
    #[test]
    fn servers_that_are_one_are_complained_of() {
        let one = "ns1 A 192.0.2.1\nns1 AAAA 2001:db8::1\nns2 A 192.0.2.1\nns2 AAAA 2001:db8::1\n";
        assert_one(&format!("@ NS ns1\n@ NS ns2\n{one}"), "3: example.com.: all name servers have the same address");
    }

    /// RFC 1035, section 4.2.1; RFC 9471, section 3.
    #[test]
    fn referral_that_needs_edns_is_complained_of() {
        let servers = |count: usize, zone: &str| -> String {
            let label = |at| format!("n{at}.{}", "l".repeat(20));
            (0..count).map(|at| format!("sub NS {0}.{zone}\n{0}.{zone} A 192.0.2.{at}\n", label(at))).collect()
        };
        assert!(found(&format!("{SERVERS}{}", servers(2, "sub"))).is_empty());
        assert_one(
            &format!("{SERVERS}{}", servers(14, "sub")),
            "9: sub.example.com.: the referral to these name servers takes",
        );
        let long: String = (0..4).map(|at| format!("sub NS n{at}.{}.net.\n", format!("{at}").repeat(60))).collect();
        assert_one(&format!("{SERVERS}{long}"), "9: sub.example.com.: the referral to these name servers takes");
    }

    /// RFC 2181, section 8 and 10.3; RFC 1912, section 2.2.
    #[test]
    fn odd_ttls_are_complained_of_once() {
        assert_one(
            &format!("{SERVERS}a 0 A 192.0.2.9\nb 0 TXT x\n"),
            "9: a.example.com.: A has a TTL of 0 seconds (and 1 more",
        );
        assert_one(&format!("{SERVERS}a 604801 A 192.0.2.9\n"), "9: a.example.com.: A has a TTL of 604801 seconds: ");
        let short = SERVERS.replace("@ NS", "@ 299 NS");
        assert_one(&short, "3: example.com.: the NS records live 299 seconds: expected 300 to 604800");
    }

    /// RFC 2181, section 10.3, across the zones of one node.
    #[test]
    fn server_in_another_zone_that_is_no_host_is_complained_of() {
        let other = format!("{START}{SERVERS}alias CNAME ns1\ntext TXT x\n");
        let own = format!("{START}@ NS alias.example.com.\n@ NS text.example.com.\n@ NS ns1.example.com.\n");
        let zones = [zone("example.com", &other), zone("example.org", &own)];
        let what: Vec<String> = complaints(&zones, 1).into_iter().map(|(.., what)| what).collect();
        assert_eq!(what.len(), 2, "{what:?}");
        assert!(what[0].starts_with("NS leads to alias.example.com., which is a CNAME in the zone example.com.: "));
        assert!(what[1].starts_with("NS leads to text.example.com., which has no address in the zone example.com.: "));
    }
}
