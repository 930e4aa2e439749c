//! Rules of the protocol that are seen in one answer, each with the section that has it; others stand beside the subject.

use super::packet::{Ask, Reply, ask};
use super::world::{ZONE, sample};
use crate::answer::Snapshot;
use crate::wire::Rtype;

fn reply(name: &str, qtype: Rtype) -> Reply {
    ask(name, qtype).tcp().of(&sample().snapshot())
}

/// The flags of the answer to a query with `flags`.
fn flags(flags: u16) -> u16 {
    let reply = Ask { flags, ..ask("mail.gslb.test", Rtype::A) }.of(&sample().snapshot());
    u16::from_be_bytes([reply.octets[2], reply.octets[3]])
}

/// RFC 1035, section 4.1.1: RD is repeated; nobody here recurses, so that RA stays clear.
#[test]
fn recursion_that_is_desired_is_not_available() {
    assert_eq!((flags(0x0100), flags(0)), (0x8500, 0x8400));
    assert_eq!(flags(0x0080), 0x8400, "RA of a query means nothing");
}

/// RFC 4035, section 3.1.6; RFC 6840, section 5.7.
#[test]
fn ad_and_cd_of_a_query_change_nothing_and_are_not_repeated() {
    assert_eq!((flags(0x0020), flags(0x0010), flags(0x0030)), (0x8400, 0x8400, 0x8400));
}

/// RFC 1035, section 4.1.1; RFC 8906, section 3.1.3.
#[test]
fn reserved_bit_is_not_repeated() {
    assert_eq!(flags(0x0040), 0x8400);
}

/// RFC 8906, section 3.1.4: an opcode that nobody knows is answered, with the opcode and the id in the answer.
#[test]
fn unknown_opcode_is_answered_with_its_id() {
    let reply = Ask { flags: 15 << 11 | 0x0100, ..ask("www.gslb.test", Rtype::A) }.of(&sample().snapshot());
    assert_eq!(reply.octets, [0x12, 0x34, 0xF9, 0x04, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// RFC 8906, section 3.1.2; RFC 3597, section 3: what nobody has heard of is NODATA where the name exists.
#[test]
fn unknown_type_is_nodata_or_nxdomain_and_never_an_error() {
    for qtype in [0, 54, 129, 253, 254, 259, 1000, 32_770, 65_279, 65_535].map(Rtype) {
        for (name, rcode) in [("mail.gslb.test", "NOERROR"), ("www.gslb.test", "NOERROR"), ("no.gslb.test", "NXDOMAIN")]
        {
            let reply = reply(name, qtype);
            assert_eq!(
                (reply.rcode(), reply.answers().len(), reply.authorities().len()),
                (rcode, 0, 1),
                "{name} {qtype}"
            );
        }
    }
}

/// RFC 8020, section 2: below a name that does not exist nothing exists, and above a name that exists everything does.
#[test]
fn nothing_is_beneath_a_name_that_does_not_exist() {
    let snapshot = sample().snapshot();
    let rcode = |name: &str| ask(name, Rtype::A).of(&snapshot).rcode();
    let owners = ZONE.lines().filter_map(|line| line.split(' ').next()).filter(|owner| !owner.is_empty());
    for owner in owners.filter(|owner| !["@", "$TTL"].contains(owner)) {
        let mut name = format!("{owner}.gslb.test");
        while let Some((_, above)) = name.clone().split_once('.') {
            assert!(above == "test" || rcode(above) == "NOERROR", "{owner}: {above}");
            name = above.to_owned();
        }
    }
    for name in ["no.gslb.test", "x.no.gslb.test", "x.y.no.gslb.test", "a.www.gslb.test", "x.a.www.gslb.test"] {
        assert_eq!(rcode(name), "NXDOMAIN", "{name}");
    }
}

/// RFC 2308, sections 3 and 5: the lesser of the TTL of the SOA record and its MINIMUM.
#[test]
fn negative_answers_live_as_long_as_the_soa_says() {
    for (soa_ttl, minimum, lives) in [(3600, 300, 300), (60, 300, 60), (0, 300, 0), (300, 300, 300)] {
        let soa = format!("@ {soa_ttl} SOA ns1 hostmaster 7 14400 3600 1209600 {minimum}");
        let zone = ZONE.replace("@ SOA ns1 hostmaster 7 14400 3600 1209600 300", &soa);
        let snapshot = sample().zone("gslb.test", &zone).snapshot();
        for name in ["no.gslb.test", "ent.down.gslb.test", "dead.gslb.test"] {
            let found = ask(name, Rtype::A).of(&snapshot);
            assert!(found.authorities()[0].starts_with(&format!("gslb.test. {lives} IN SOA ")), "{name}: {found:?}");
        }
        // Asked for itself it has its own.
        let own = ask("gslb.test", Rtype::SOA).of(&snapshot);
        assert!(own.answers()[0].starts_with(&format!("gslb.test. {soa_ttl} IN SOA ")));
    }
}

/// RFC 2181, section 5.2: one TTL for all records of a set, the steered ones too.
#[test]
fn records_of_one_set_have_one_ttl() {
    let snapshot = sample().down("www.gslb.test", &["virginia"]).snapshot();
    for (name, qtype) in [("www.gslb.test", Rtype::A), ("gslb.test", Rtype::NS), ("all.gslb.test", Rtype::AAAA)] {
        let found = ask(name, qtype).from("198.51.100.7").tcp().of(&snapshot);
        let ttls: Vec<u32> = found.message.answers.iter().map(|record| record.ttl).collect();
        assert!(ttls.len() > 1 && ttls.iter().all(|&ttl| ttl == ttls[0]), "{name}: {ttls:?}");
    }
}

/// The zone of RFC 4592, section 2.2.1.
fn wildcards() -> Snapshot {
    let zone = "$TTL 3600\n@ SOA ns.example.com. h.example.com. 1 14400 3600 1209600 300\n\
                @ NS ns.example.com.\n@ NS ns.example.net.\n\
                * TXT \"this is a wildcard\"\n* MX 10 host1\nsub.* TXT \"this is not a wildcard\"\n\
                host1 A 192.0.2.1\n_ssh._tcp.host1 SRV 0 0 22 host1\n_ssh._tcp.host2 SRV 0 0 22 host1\n\
                subdel NS ns.example.com.\nsubdel NS ns.example.net.\n";
    sample().zone("example", zone).snapshot()
}

/// RFC 4592, section 2.2.1, the answers that it lists.
#[test]
fn wildcards_answer_as_their_rfc_lists() {
    let snapshot = wildcards();
    let found = |name: &str, qtype| {
        let reply = ask(name, qtype).tcp().of(&snapshot);
        (reply.rcode(), reply.answers(), reply.message.metadata.authoritative)
    };
    let made = |text: &str| ("NOERROR", vec![text.to_owned()], true);
    assert_eq!(found("host3.example", Rtype::MX), made("host3.example. 3600 IN MX 10 host1.example."));
    assert_eq!(found("host3.example", Rtype::A), ("NOERROR", vec![], true));
    assert_eq!(found("foo.bar.example", Rtype::TXT), made("foo.bar.example. 3600 IN TXT this is a wildcard"));
    assert_eq!(found("host1.example", Rtype::MX), ("NOERROR", vec![], true));
    assert_eq!(found("sub.*.example", Rtype::MX), ("NOERROR", vec![], true));
    assert_eq!(found("_telnet._tcp.host1.example", Rtype::SRV), ("NXDOMAIN", vec![], true));
    assert_eq!(found("host.subdel.example", Rtype::A), ("NOERROR", vec![], false));
    assert_eq!(found("ghost.*.example", Rtype::MX), ("NXDOMAIN", vec![], true));
}

/// RFC 4592, section 2.2.2: host2 exists by what is below it, so that no wildcard stands for it.
#[test]
fn wildcard_does_not_stand_for_an_empty_non_terminal() {
    let snapshot = wildcards();
    for name in ["host2.example", "_tcp.host2.example"] {
        let reply = ask(name, Rtype::MX).tcp().of(&snapshot);
        assert_eq!((reply.rcode(), reply.answers().len(), reply.authorities().len()), ("NOERROR", 0, 1), "{name}");
    }
}

/// RFC 6672, section 2.3: a DNAME redirects what is below it, and not its owner.
#[test]
fn owner_of_a_dname_keeps_its_own_records() {
    let snapshot = sample().zone("gslb.test", &format!("{ZONE}old TXT \"stays\"\n")).snapshot();
    assert_eq!(ask("old.gslb.test", Rtype::TXT).of(&snapshot).answers(), ["old.gslb.test. 3600 IN TXT stays"]);
    assert_eq!(ask("old.gslb.test", Rtype::CNAME).of(&snapshot).answers().len(), 0);
}

/// RFC 6672, section 3.1: the CNAME made from a DNAME has the TTL of that.
#[test]
fn cname_made_from_a_dname_has_its_ttl() {
    let snapshot = sample().zone("gslb.test", &ZONE.replace("old DNAME", "old 77 DNAME")).snapshot();
    let found = ask("x.old.gslb.test", Rtype::A).of(&snapshot);
    assert_eq!(found.answers()[1], "x.old.gslb.test. 77 IN CNAME x.new.gslb.test.");
}

/// RFC 4035, section 3.1.4.1: DS of a name that is no delegation is an ordinary question.
#[test]
fn ds_of_an_ordinary_name_is_nodata_of_its_zone() {
    for name in ["mail.gslb.test", "gslb.test", "www.gslb.test"] {
        let reply = reply(name, Rtype::DS);
        assert_eq!((reply.rcode(), reply.answers().len(), reply.authorities().len()), ("NOERROR", 0, 1), "{name}");
        assert!(reply.message.metadata.authoritative);
    }
}

/// RFC 4343, section 3: letters compare without case, and other octets as they are.
#[test]
fn names_compare_without_the_case_of_letters_alone() {
    let snapshot = sample().zone("gslb.test", &format!("{ZONE}x\\091y A 192.0.2.9\n")).snapshot();
    assert_eq!(ask("MAIL.gslb.TEST", Rtype::A).of(&snapshot).answers().len(), 1);
    assert_eq!(ask("X\\091Y.gslb.test", Rtype::A).of(&snapshot).answers().len(), 1);
    // "[" and "{" differ in the bit that letters differ in.
    assert_eq!(ask("x\\123y.gslb.test", Rtype::A).of(&snapshot).rcode(), "NXDOMAIN");
}

/// RFC 6891, section 6.2.3: less than 512 octets means 512.
#[test]
fn payload_below_512_counts_as_512() {
    for payload in [0, 1, 511] {
        let found = ask("gslb.test", Rtype::NS).edns(payload).of(&sample().snapshot());
        assert!(!found.message.metadata.truncation && found.answers().len() == 2, "{payload}");
    }
}

/// RFC 6891, section 7; RFC 8906, section 3.2.5; RFC 2181, section 9: no part of a set, and the OPT record with its options.
#[test]
fn truncated_answer_keeps_opt_and_subnet() {
    let records: String = (0..40).map(|at| format!("big A 192.0.2.{at}\n")).collect();
    let snapshot = sample().zone("gslb.test", &format!("{ZONE}{records}")).snapshot();
    let found = ask("big.gslb.test", Rtype::A).edns(512).ecs("198.51.100.0/24").of(&snapshot);
    assert!(found.message.metadata.truncation && found.answers().is_empty());
    assert_eq!((found.scope(), found.message.edns.is_some()), (Some(0), true));
}

/// RFC 8482, section 4.1: one set, and of a steered name that of the client's region.
#[test]
fn any_is_answered_by_one_set() {
    for name in ["gslb.test", "www.gslb.test", "kid.gslb.test", "odd.gslb.test", "x.wild.gslb.test"] {
        let found = reply(name, Rtype::ANY);
        let mut types: Vec<_> = found.message.answers.iter().map(|record| record.record_type()).collect();
        types.dedup();
        assert!(types.len() <= 1, "{name}: {types:?}");
    }
}
