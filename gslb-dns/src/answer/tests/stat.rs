//! Answers that are the same for everybody.

use super::packet::{Reply, ask};
use super::world::{World, ZONE, sample};
use crate::answer::Outcome;
use crate::wire::Rtype;

fn reply(name: &str, qtype: Rtype) -> Reply {
    ask(name, qtype).tcp().of(&sample().snapshot())
}

fn is_negative(reply: &Reply) -> bool {
    let soa = "gslb.test. 300 IN SOA ns1.gslb.test. hostmaster.gslb.test. 7 14400 3600 1209600 300";
    reply.authorities() == [soa] && reply.message.metadata.authoritative
}

/// RFC 1034, section 4.3.2; RFC 1035, section 4.1.1 (AA set, RA clear).
#[test]
fn positive_answer_is_authoritative_and_alone() {
    let reply = reply("mail.gslb.test", Rtype::A);
    assert_eq!(reply.answers(), ["mail.gslb.test. 3600 IN A 192.0.2.25"]);
    assert!(reply.message.metadata.authoritative && !reply.message.metadata.recursion_available);
    assert!(reply.authorities().is_empty() && reply.additionals().is_empty());
}

/// RFC 1035, section 2.3.3; RFC 4343, sections 3 and 4.1.
#[test]
fn question_is_repeated_in_its_case() {
    let reply = reply("MaIl.GsLb.TeSt", Rtype::A);
    assert_eq!(&reply.octets[12..28], b"\x04MaIl\x04GsLb\x04TeSt\x00");
    assert_eq!(reply.answers(), ["MaIl.GsLb.TeSt. 3600 IN A 192.0.2.25"]);
}

/// RFC 1035, section 4.1.4; RFC 3597, section 4.
#[test]
fn names_in_data_are_compressed_against_the_question() {
    // Header, question, and two pointers, ten fixed octets, preference, "Mail" and a pointer.
    assert_eq!(reply("gslb.test", Rtype::MX).octets.len(), 12 + 15 + 2 + 10 + 2 + 5 + 2);
}

/// RFC 1034, section 4.3.2, step 6.
#[test]
fn apex_ns_comes_with_the_addresses_that_the_zone_has() {
    let reply = reply("gslb.test", Rtype::NS);
    assert_eq!(reply.answers().len(), 2);
    assert_eq!(
        reply.additionals(),
        ["ns1.gslb.test. 3600 IN A 192.0.2.53", "ns1.gslb.test. 3600 IN AAAA 2001:db8::53"]
    );
}

/// RFC 2308, section 2.2; RFC 4592, section 2.2.2; RFC 8020, section 2.
#[test]
fn missing_type_and_empty_non_terminal_are_nodata_with_soa() {
    for (name, qtype) in
        [("mail.gslb.test", Rtype::AAAA), ("ent.down.gslb.test", Rtype::A), ("down.gslb.test", Rtype::ANY)]
    {
        let reply = reply(name, qtype);
        assert_eq!(reply.rcode(), "NOERROR", "{name}");
        assert!(reply.answers().is_empty() && is_negative(&reply), "{name}");
    }
}

/// RFC 2308, sections 2.1 and 3.
#[test]
fn missing_name_is_nxdomain_with_soa() {
    for name in ["nothing.gslb.test", "a.very.deep.name.that.is.not.there.gslb.test", "x.mail.gslb.test"] {
        let reply = reply(name, Rtype::A);
        assert_eq!(reply.rcode(), "NXDOMAIN", "{name}");
        assert!(is_negative(&reply), "{name}");
    }
}

/// RFC 8906, section 3.1.1: refused, with no referral upwards.
#[test]
fn names_outside_every_zone_are_refused() {
    for name in ["example.com", "test", ".", "xgslb.test"] {
        let reply = reply(name, Rtype::A);
        assert_eq!(reply.rcode(), "REFUSED", "{name}");
        assert!(reply.authorities().is_empty() && !reply.message.metadata.authoritative, "{name}");
    }
}

/// RFC 4592, sections 2.2.1 and 3.3.
#[test]
fn wildcard_answers_for_names_that_do_not_exist() {
    for name in ["x.wild.gslb.test", "x.y.wild.gslb.test"] {
        assert_eq!(reply(name, Rtype::A).answers(), [format!("{name}. 3600 IN A 192.0.2.80")]);
        assert!(is_negative(&reply(name, Rtype::TXT)), "{name}");
        assert_eq!(reply(name, Rtype::MX).answers(), [format!("{name}. 3600 IN MX 5 mail.gslb.test.")]);
    }
}

/// RFC 4592, sections 2.2.2 and 3.3.1.
#[test]
fn wildcard_is_blocked_by_what_exists_below_it() {
    assert!(is_negative(&reply("b.wild.gslb.test", Rtype::A)));
    assert_eq!(reply("c.b.wild.gslb.test", Rtype::A).rcode(), "NXDOMAIN");
    assert_eq!(reply("wild.gslb.test", Rtype::A).rcode(), "NOERROR");
}

/// RFC 4592, sections 2.3 and 4.
#[test]
fn asterisk_asked_literally_is_an_ordinary_name() {
    assert_eq!(reply("*.wild.gslb.test", Rtype::A).answers(), ["*.wild.gslb.test. 3600 IN A 192.0.2.80"]);
    assert_eq!(reply("x.*.wild.gslb.test", Rtype::A).rcode(), "NXDOMAIN");
}

/// RFC 1034, sections 3.6.2 and 4.3.2, step 3a.
#[test]
fn cname_chain_is_followed_within_the_zone() {
    let reply = reply("text.gslb.test", Rtype::TXT);
    assert_eq!(reply.answers(), ["text.gslb.test. 3600 IN CNAME notes.gslb.test.", "notes.gslb.test. 3600 IN TXT ab"]);
}

/// RFC 1034, section 3.6.2; RFC 8482, section 4.1.
#[test]
fn cname_is_the_answer_to_cname_and_any() {
    for qtype in [Rtype::CNAME, Rtype::ANY] {
        assert_eq!(reply("text.gslb.test", qtype).answers(), ["text.gslb.test. 3600 IN CNAME notes.gslb.test."]);
    }
}

/// RFC 2308, section 2.1; RFC 6604, section 3.
#[test]
fn cname_chain_ends_with_the_code_of_its_last_name() {
    let (nodata, nxdomain, outside) =
        (reply("text.gslb.test", Rtype::A), reply("dead.gslb.test", Rtype::A), reply("blog.gslb.test", Rtype::A));
    assert!(nodata.rcode() == "NOERROR" && is_negative(&nodata) && nodata.answers().len() == 1);
    assert!(nxdomain.rcode() == "NXDOMAIN" && is_negative(&nxdomain) && nxdomain.answers().len() == 1);
    assert_eq!(outside.answers(), ["blog.gslb.test. 3600 IN CNAME blog.example.com."]);
    assert!(outside.rcode() == "NOERROR" && outside.authorities().is_empty());
}

#[test]
fn cname_loop_is_answered_once_around() {
    let reply = reply("loop.gslb.test", Rtype::A);
    assert_eq!(reply.rcode(), "NOERROR");
    assert_eq!(reply.answers().len(), 2);
}

/// RFC 4592, section 3.3.1, allows a CNAME at a wildcard; the same record must not come twice (RFC 2181, section 5.5).
#[test]
fn wildcard_cname_that_leads_in_a_circle_is_given_once() {
    let world =
        sample().zone("gslb.test", &format!("{ZONE}*.ring CNAME x.ring\n*.far.ring CNAME y\ny CNAME a.far.ring\n"));
    let reply = |name: &str| ask(&format!("{name}.gslb.test"), Rtype::A).tcp().of(&world.snapshot()).answers();
    for name in ["x.ring", "q.ring"] {
        assert_eq!(reply(name), [format!("{name}.gslb.test. 3600 IN CNAME x.ring.gslb.test.")]);
    }
    assert_eq!(reply("a.far.ring").len(), 2);
    assert_eq!(reply("y").len(), 2);
}

#[test]
fn endless_cname_chain_is_cut() {
    let chain: String = (0..40).map(|at| format!("c{at} CNAME c{}\n", at + 1)).collect();
    let world = sample().zone("gslb.test", &format!("{ZONE}{chain}"));
    let reply = ask("c0.gslb.test", Rtype::A).tcp().of(&world.snapshot());
    assert_eq!(reply.answers().len(), 17);
}

/// RFC 1034, section 4.3.2, step 3b.
#[test]
fn cname_into_a_delegation_gives_the_referral() {
    let reply = reply("gone.gslb.test", Rtype::A);
    assert_eq!(reply.answers(), ["gone.gslb.test. 3600 IN CNAME x.kid.gslb.test."]);
    assert_eq!((reply.authorities().len(), reply.additionals().len()), (2, 1));
    assert!(reply.message.metadata.authoritative);
}

/// RFC 1034, sections 4.2.1 and 4.3.2, step 3b; RFC 2181, section 6.1.
#[test]
fn delegation_is_a_referral_with_glue_and_without_authority() {
    for name in ["kid.gslb.test", "ns.kid.gslb.test", "a.b.kid.gslb.test"] {
        for qtype in [Rtype::A, Rtype::NS, Rtype::ANY] {
            let reply = reply(name, qtype);
            assert!(!reply.message.metadata.authoritative && reply.answers().is_empty(), "{name}");
            assert_eq!(
                reply.authorities(),
                ["kid.gslb.test. 3600 IN NS ns.kid.gslb.test.", "kid.gslb.test. 3600 IN NS ns.example.net."]
            );
            assert_eq!(reply.additionals(), ["ns.kid.gslb.test. 3600 IN A 192.0.2.54"]);
        }
    }
}

/// RFC 4035, section 3.1.4.1.
#[test]
fn ds_is_answered_by_the_parent_side() {
    assert_eq!(reply("kid.gslb.test", Rtype::DS).answers().len(), 1);
    assert!(reply("kid.gslb.test", Rtype::DS).message.metadata.authoritative);
    assert!(is_negative(&reply("bare.gslb.test", Rtype::DS)));
    assert!(!reply("x.kid.gslb.test", Rtype::DS).message.metadata.authoritative);
}

fn with_child() -> World {
    let child = "@ 60 SOA ns m 1 1 1 1 30\n@ 60 NS ns\nns 60 A 192.0.2.54\nx 60 CNAME mail.gslb.test.\n";
    sample().zone("kid.gslb.test", child)
}

/// RFC 1034, section 4.3.2, step 2; RFC 4035, section 3.1.4.1.
#[test]
fn deepest_zone_answers() {
    let snapshot = with_child().snapshot();
    let reply = |name, qtype| ask(name, qtype).tcp().of(&snapshot);
    assert_eq!(reply("kid.gslb.test", Rtype::SOA).answers().len(), 1);
    assert_eq!(reply("nothing.kid.gslb.test", Rtype::A).rcode(), "NXDOMAIN");
    assert_eq!(reply("kid.gslb.test", Rtype::DS).answers().len(), 1);
    assert_eq!(reply("gslb.test", Rtype::DS).rcode(), "NOERROR");
}

#[test]
fn cname_chain_stops_at_another_zone() {
    let snapshot = with_child().snapshot();
    let reply = |name| ask(name, Rtype::A).tcp().of(&snapshot);
    assert_eq!(reply("gone.gslb.test").answers().len(), 1);
    assert!(reply("gone.gslb.test").authorities().is_empty());
    assert_eq!(reply("x.kid.gslb.test").answers(), ["x.kid.gslb.test. 60 IN CNAME mail.gslb.test."]);
}

/// RFC 3597, sections 3 and 5; RFC 8906, section 3.1.2.
#[test]
fn unknown_types_are_data_like_any_other() {
    let reply = reply("odd.gslb.test", Rtype(65280));
    assert_eq!(&reply.octets[reply.octets.len() - 5..], [0, 3, 1, 2, 3]);
    assert!(is_negative(&self::reply("odd.gslb.test", Rtype(65281))));
}

/// RFC 8482, section 4.1.
#[test]
fn any_gets_one_rrset() {
    let reply = reply("gslb.test", Rtype::ANY);
    let types: std::collections::HashSet<_> = reply.message.answers.iter().map(|record| record.record_type()).collect();
    assert_eq!(types.len(), 1);
    assert!(matches!(reply.outcome, Outcome::Sent { qtype: Rtype::ANY, .. }));
}

/// RFC 6672, sections 2.2, 2.3 and 3.2.
#[test]
fn names_below_a_dname_are_redirected() {
    let reply = reply("a.b.old.gslb.test", Rtype::TXT);
    assert_eq!(reply.answers()[1], "a.b.old.gslb.test. 3600 IN CNAME a.b.new.gslb.test.");
    assert_eq!(reply.message.answers[0].name.to_string(), "old.gslb.test.");
    assert!(is_negative(&self::reply("old.gslb.test", Rtype::TXT)));
    assert_eq!(self::reply("old.gslb.test", Rtype::DNAME).answers().len(), 1);
}

/// RFC 6672, sections 2.4 and 3.2.
#[test]
fn redirected_names_are_followed_in_the_zone() {
    let lines =
        "on DNAME off\noff DNAME web\nx.web TXT \"here\"\nround DNAME wheel\nwheel DNAME round\nself DNAME a.self\n";
    let world = sample().zone("gslb.test", &format!("{ZONE}{lines}"));
    let reply = |name: &str| ask(&format!("{name}.gslb.test"), Rtype::TXT).tcp().of(&world.snapshot());
    let found = reply("x.on");
    assert_eq!((found.rcode(), found.answers().len()), ("NOERROR", 5));
    assert_eq!(found.answers()[4], "x.web.gslb.test. 3600 IN TXT here");
    let missing = reply("y.on");
    assert_eq!((missing.rcode(), missing.answers().len(), missing.message.authorities.len()), ("NXDOMAIN", 4, 1));
    for (endless, records) in [("x.round", 4), ("x.self", 2)] {
        assert_eq!((reply(endless).rcode(), reply(endless).answers().len()), ("NOERROR", records), "{endless}");
    }
}

#[test]
fn redirected_names_may_be_steered() {
    let world = sample().zone("gslb.test", &format!("{ZONE}legacy DNAME gslb.test.\n"));
    let reply = |name: &str| ask(name, Rtype::A).tcp().of(&world.snapshot());
    for name in ["www", "cdn"] {
        let direct = reply(&format!("{name}.gslb.test"));
        let redirected = reply(&format!("{name}.legacy.gslb.test"));
        assert!(!direct.answers().is_empty());
        assert_eq!(redirected.answers()[2..], direct.answers()[..], "{name}");
    }
}

/// RFC 6672, section 2.2.
#[test]
fn dname_that_leads_to_a_name_too_long_is_yxdomain() {
    let far = format!("{}.{}.{}", "x".repeat(63), "y".repeat(63), "z".repeat(63));
    let world = sample().zone("gslb.test", &format!("{ZONE}far.off DNAME {far}\n"));
    let reply = ask(&format!("{}.far.off.gslb.test", "w".repeat(63)), Rtype::A).tcp().of(&world.snapshot());
    assert_eq!((reply.rcode(), reply.answers().len()), ("YXDOMAIN", 1));
}
