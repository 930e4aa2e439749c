//! Response codes and record types.

use std::fmt;

use hickory_proto::rr::RecordType;

/// A response code; those above 15 need EDNS.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rcode(u16);

impl Rcode {
    /// No error, NODATA and referrals included.
    pub const NOERROR: Self = Self(0);
    /// The query is malformed.
    pub const FORMERR: Self = Self(1);
    /// Something here does not work.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The opcode is not known.
    pub const NOTIMP: Self = Self(4);
    /// Not for us to answer.
    pub const REFUSED: Self = Self(5);
    /// The name that a DNAME leads to would be too long (RFC 6672).
    pub const YXDOMAIN: Self = Self(6);
    /// A record set exists that should not (RFC 2136).
    pub const YXRRSET: Self = Self(7);
    /// A record set does not exist that should (RFC 2136).
    pub const NXRRSET: Self = Self(8);
    /// Signed with a key that we do not have, or in a way that does not hold (RFC 8945); or not our zone (RFC 2136).
    pub const NOTAUTH: Self = Self(9);
    /// A name lies outside the zone (RFC 2136).
    pub const NOTZONE: Self = Self(10);
    /// The EDNS version is not known (RFC 6891).
    pub const BADVERS: Self = Self(16);
    /// Come again with the server cookie that is in this answer (RFC 7873).
    pub const BADCOOKIE: Self = Self(23);

    /// The number, 12 bits at most.
    pub fn as_u16(self) -> u16 {
        self.0
    }

    /// The mnemonic.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NOERROR => "NOERROR",
            Self::FORMERR => "FORMERR",
            Self::SERVFAIL => "SERVFAIL",
            Self::NXDOMAIN => "NXDOMAIN",
            Self::NOTIMP => "NOTIMP",
            Self::REFUSED => "REFUSED",
            Self::YXDOMAIN => "YXDOMAIN",
            Self::YXRRSET => "YXRRSET",
            Self::NXRRSET => "NXRRSET",
            Self::NOTAUTH => "NOTAUTH",
            Self::NOTZONE => "NOTZONE",
            Self::BADCOOKIE => "BADCOOKIE",
            // No other value can be made outside this file.
            _ => "BADVERS",
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A record type or query type, known or not (RFC 3597).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rtype(pub u16);

#[expect(missing_docs, reason = "the names of record types are what the RFCs call them")]
impl Rtype {
    pub const A: Self = Self(1);
    pub const NS: Self = Self(2);
    pub const CNAME: Self = Self(5);
    pub const SOA: Self = Self(6);
    pub const PTR: Self = Self(12);
    pub const MX: Self = Self(15);
    pub const TXT: Self = Self(16);
    pub const AAAA: Self = Self(28);
    pub const SRV: Self = Self(33);
    pub const DNAME: Self = Self(39);
    pub const OPT: Self = Self(41);
    pub const DS: Self = Self(43);
    pub const RRSIG: Self = Self(46);
    pub const NSEC: Self = Self(47);
    pub const DNSKEY: Self = Self(48);
    pub const NSEC3: Self = Self(50);
    pub const NSEC3PARAM: Self = Self(51);
    pub const CDS: Self = Self(59);
    pub const CDNSKEY: Self = Self(60);
    pub const CSYNC: Self = Self(62);
    pub const SVCB: Self = Self(64);
    pub const HTTPS: Self = Self(65);
    pub const SPF: Self = Self(99);
    pub const NXNAME: Self = Self(128);
    pub const TSIG: Self = Self(250);
    pub const IXFR: Self = Self(251);
    pub const AXFR: Self = Self(252);
    pub const ANY: Self = Self(255);
}

impl fmt::Display for Rtype {
    /// The mnemonic, or `TYPE` and the number (RFC 3597, section 5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RecordType::from(self.0) {
            RecordType::Unknown(number) => write!(f, "TYPE{number}"),
            known => f.pad(known.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_as_mnemonic_or_number() {
        assert_eq!(Rtype::HTTPS.to_string(), "HTTPS");
        assert_eq!(Rtype(65280).to_string(), "TYPE65280");
    }
}
