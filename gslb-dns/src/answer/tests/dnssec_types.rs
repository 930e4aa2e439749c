//! Questions for the types of DNSSEC itself, by each way of denial.

use hickory_proto::rr::Record;

use super::packet::{Reply, ask};
use super::validate::signing;
use super::world::sample;
use crate::wire::Rtype;
use crate::zone::Denial;

fn line(section: &[Record]) -> String {
    section.iter().map(|record| record.record_type().to_string()).collect::<Vec<_>>().join(" ")
}

/// Response code, answer and authority section, by types.
fn shown(reply: &Reply) -> String {
    format!("{} | {} | {}", reply.rcode(), line(&reply.message.answers), line(&reply.message.authorities))
}

const NODATA: &str = "NOERROR |  | SOA";
const BY_NSEC: &str = "NOERROR |  | SOA RRSIG NSEC RRSIG";
const BY_NSEC3: &str = "NOERROR |  | SOA RRSIG NSEC3 RRSIG";
const NO_NAME: &str = "NXDOMAIN |  | SOA";
const SIGNATURES: &str = "NOERROR | RRSIG | ";
const NSEC: &str = "NOERROR | NSEC RRSIG | ";
const TO_KID: &str = "NOERROR |  | NS NS";
const TO_KID_SIGNED: &str = "NOERROR |  | NS NS DS RRSIG";

/// Name, type, and what comes without DO and with it from a zone that is not signed, and from one with NSEC, NSEC3 and compact
/// denial.
type Row = (&'static str, Rtype, [&'static str; 2], [[&'static str; 2]; 3]);

/// RFC 4035, sections 3.1 and 3.1.4; RFC 5155, section 7.2.8; RFC 8482, section 7; RFC 9824, section 3.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("mail.gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("old.gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("www.gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("all.gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("cdn.gslb.test", Rtype::RRSIG, ["NOERROR | CNAME | SOA"; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    // Where a wildcard stands in, its bitmap says that there are some.
    ("x.wild.gslb.test", Rtype::RRSIG, [NODATA; 2], [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    ("x.alias.gslb.test", Rtype::RRSIG, ["NOERROR | CNAME | SOA"; 2],
        [[SIGNATURES; 2], [SIGNATURES; 2], [SIGNATURES; 2]]),
    // NSEC3 records stand at other names, and names without data have no NSEC record.
    ("mail.gslb.test", Rtype::NSEC, [NODATA; 2], [[NSEC; 2], [NODATA, BY_NSEC3], [NSEC; 2]]),
    ("www.gslb.test", Rtype::NSEC, [NODATA; 2], [[NSEC; 2], [NODATA, BY_NSEC3], [NSEC; 2]]),
    ("cdn.gslb.test", Rtype::NSEC, ["NOERROR | CNAME | SOA"; 2],
        [[NSEC; 2], ["NOERROR | CNAME | SOA", "NOERROR | CNAME RRSIG | SOA RRSIG NSEC3 RRSIG"], [NSEC; 2]]),
    ("down.gslb.test", Rtype::NSEC, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NSEC; 2]]),
    ("mail.gslb.test", Rtype::NSEC3, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
    ("nothing.gslb.test", Rtype::RRSIG, [NO_NAME; 2], [
        [NO_NAME, "NXDOMAIN |  | SOA RRSIG NSEC RRSIG NSEC RRSIG"],
        [NO_NAME, "NXDOMAIN |  | SOA RRSIG NSEC3 RRSIG NSEC3 RRSIG NSEC3 RRSIG"],
        [NO_NAME, BY_NSEC],
    ]),
    // For a name that does not exist the answer section is empty, whatever is asked, though the NSEC record that says so is
    // owned by it (RFC 9824, section 3.1).
    ("nothing.gslb.test", Rtype::NSEC, [NO_NAME; 2], [
        [NO_NAME, "NXDOMAIN |  | SOA RRSIG NSEC RRSIG NSEC RRSIG"],
        [NO_NAME, "NXDOMAIN |  | SOA RRSIG NSEC3 RRSIG NSEC3 RRSIG NSEC3 RRSIG"],
        [NO_NAME, BY_NSEC],
    ]),
    // Those of the parent are asked of the parent: here nobody is above.
    ("gslb.test", Rtype::DS, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
    ("kid.gslb.test", Rtype::DS, ["NOERROR | DS | "; 2], [["NOERROR | DS | ", "NOERROR | DS RRSIG | "]; 3]),
    ("bare.gslb.test", Rtype::DS, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
    ("mail.gslb.test", Rtype::DS, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
    ("x.kid.gslb.test", Rtype::DS, [TO_KID; 2], [[TO_KID, TO_KID_SIGNED]; 3]),
    // The rest of a delegated name is the child's.
    ("kid.gslb.test", Rtype::NSEC, [TO_KID; 2], [[TO_KID, TO_KID_SIGNED]; 3]),
    ("kid.gslb.test", Rtype::RRSIG, [TO_KID; 2], [[TO_KID, TO_KID_SIGNED]; 3]),
    ("kid.gslb.test", Rtype::DNSKEY, [TO_KID; 2], [[TO_KID, TO_KID_SIGNED]; 3]),
    ("mail.gslb.test", Rtype::DNSKEY, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
    ("mail.gslb.test", Rtype::ANY, ["NOERROR | A | "; 2], [["NOERROR | A | ", "NOERROR | A RRSIG | "]; 3]),
    ("down.gslb.test", Rtype::ANY, [NODATA; 2], [[NODATA, BY_NSEC], [NODATA, BY_NSEC3], [NODATA, BY_NSEC]]),
];

#[test]
fn types_of_dnssec_are_answered_where_they_are_owned_and_denied_elsewhere() {
    let denials = [None, Some(Denial::Nsec), Some(Denial::Nsec3), Some(Denial::Compact)];
    let snapshots =
        denials.map(|denial| sample().signed_snapshot(&[denial.map(|denial| signing("gslb.test.", denial))]));
    for (name, qtype, unsigned, signed) in ROWS {
        let expected = [*unsigned, signed[0], signed[1], signed[2]];
        for ((denial, snapshot), [plain, with_do]) in denials.iter().zip(&snapshots).zip(expected) {
            let asked = ask(name, *qtype).tcp().edns(1232);
            assert_eq!(shown(&asked.of(snapshot)), plain, "{name} {qtype} {denial:?}");
            assert_eq!(shown(&asked.signed().of(snapshot)), with_do, "{name} {qtype} {denial:?} with DO");
        }
    }
}
