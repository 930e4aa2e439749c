//! The canonical form and order of an RRset (RFC 4034, section 6).

use crate::wire::{Name, Rtype};

/// The data of an RRset as it is signed: names in lower case where the RFCs say so, sorted, each once.
pub(super) fn canonical(rtype: Rtype, rdatas: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut canonical: Vec<_> = rdatas.iter().map(|rdata| folded(rtype, rdata)).collect();
    canonical.sort_unstable();
    canonical.dedup();
    canonical
}

/// `rdata` with the names in it in lower case (RFC 4034, section 6.2, less NSEC and HINFO: RFC 6840, section 5.1).
fn folded(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let mut folded = rdata.to_vec();
    let Some((skip, count)) = names_in(rtype, rdata) else { return folded };
    let mut at = skip;
    for _ in 0..count {
        let Some((name, _)) = rdata.get(at..).and_then(Name::split_from) else { break };
        folded[at..at + name.len()].make_ascii_lowercase();
        at += name.len();
    }
    folded
}

/// Octets before the names in `rdata`, and how many names follow there.
fn names_in(rtype: Rtype, rdata: &[u8]) -> Option<(usize, usize)> {
    match rtype.0 {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NXT, DNAME
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 30 | 39 => Some((0, 1)),
        // SOA, MINFO, RP
        6 | 14 | 17 => Some((0, 2)),
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => Some((2, 1)),
        // PX
        26 => Some((2, 2)),
        // SRV
        33 => Some((6, 1)),
        // SIG, RRSIG
        24 | 46 => Some((18, 1)),
        // NAPTR: order, preference, three strings, a name
        35 => {
            let after_string = |at: usize| Some(at + 1 + usize::from(*rdata.get(at)?));
            let skip = after_string(4).and_then(after_string).and_then(after_string)?;
            Some((skip, 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_lower_case_where_the_rfc_lists_the_type() {
        let naptr = b"\0\x01\0\x02\x01S\x03SIP\x02!x\x01A\0";
        assert_eq!(folded(Rtype(35), naptr), b"\0\x01\0\x02\x01S\x03SIP\x02!x\x01a\0");
        assert_eq!(folded(Rtype::SRV, b"\0AAAAA\x01A\0"), b"\0AAAAA\x01a\0");
        assert_eq!(folded(Rtype::SOA, b"\x01A\0\x01B\0XXXX"), b"\x01a\0\x01b\0XXXX");
        assert_eq!(folded(Rtype::NSEC, b"\x01A\0\0\x01\x40"), b"\x01A\0\0\x01\x40");
        assert_eq!(folded(Rtype::TXT, b"\x01A"), b"\x01A");
    }

    #[test]
    fn data_is_sorted_as_unsigned_octets_with_each_once() {
        let sorted = canonical(Rtype::TXT, &[b"\x01\xff", b"\x01a", b"\x02a", b"\x01a", b"\x01"]);
        assert_eq!(sorted, [&b"\x01"[..], b"\x01a", b"\x01\xff", b"\x02a"]);
        assert_eq!(canonical(Rtype::NS, &[b"\x01A\0", b"\x01a\0"]).len(), 1);
    }

    #[test]
    fn data_cut_short_is_left_as_it_is() {
        for rtype in 0..300 {
            for len in 0..12 {
                assert_eq!(folded(Rtype(rtype), &vec![0x3f; len]).len(), len);
            }
        }
    }
}
