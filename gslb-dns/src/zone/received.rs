//! Record data as it comes in a message.

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

use super::rdata::Layout;
use crate::wire::{Name, Rtype};

/// The data of a record of this type that stands at `at` in `message`, `len` octets long: uncompressed, checked.
///
/// Names are decompressed in the types of RFC 3597, section 4, and stand alone in all others; types that nobody knows are
/// taken as they are. `None` where it is not as its type has it.
pub fn rdata_of_message(rtype: Rtype, message: &[u8], at: usize, len: usize) -> Option<Box<[u8]>> {
    let end = at.checked_add(len)?;
    let rdata = message.get(at..end)?;
    let shape = Shape::of(rtype, rdata);
    match shape {
        Shape::Names { skip, count, rest } => {
            let mut out = rdata.get(..skip)?.to_vec();
            let mut at = at + skip;
            for _ in 0..count {
                // A pointer may lead before the record, but nothing of the name may stand behind its end.
                out.extend_from_slice(Name::read(message.get(..end)?, at)?.as_wire());
                at = end_of_name(message, at)?;
            }
            out.extend_from_slice(message.get(at..end).filter(|octets| octets.len() == rest)?);
            Some(out.into())
        }
        Shape::Octets { min } => (len >= min).then(|| rdata.into()),
        Shape::Strings => are_strings(rdata).then(|| rdata.into()),
        Shape::Other => {
            let mut decoder = BinDecoder::new(rdata);
            let len = u16::try_from(len).ok()?;
            let read = RData::read(&mut decoder, RecordType::from(rtype.0), Restrict::new(len)).ok();
            read.filter(|_| decoder.is_empty()).map(|_| rdata.into())
        }
        Shape::Broken => None,
    }
}

/// What data of a type looks like.
enum Shape {
    /// `skip` octets, names, and `rest` octets.
    Names {
        skip: usize,
        count: usize,
        rest: usize,
    },
    /// At least so many octets.
    Octets {
        min: usize,
    },
    /// Strings with their length before them.
    Strings,
    /// Known to hickory-proto, or to nobody.
    Other,
    Broken,
}

impl Shape {
    fn of(rtype: Rtype, rdata: &[u8]) -> Self {
        let names = |skip, count| Self::Names { skip, count, rest: 0 };
        match rtype {
            Rtype::A if rdata.len() == 4 => Self::Octets { min: 4 },
            Rtype::AAAA if rdata.len() == 16 => Self::Octets { min: 16 },
            Rtype::A | Rtype::AAAA => Self::Broken,
            Rtype::TXT | Rtype::SPF => Self::Strings,
            // Key tag, algorithm, digest type, digest; flags, protocol, algorithm, key.
            Rtype::DS | Rtype::CDS | Rtype::DNSKEY | Rtype::CDNSKEY => Self::Octets { min: 5 },
            Rtype::SOA => Self::Names { skip: 0, count: 2, rest: 20 },
            // MD, MF, MB, MG, MR
            Rtype(3 | 4 | 7 | 8 | 9) => names(0, 1),
            // MINFO, RP
            Rtype(14 | 17) => names(0, 2),
            // AFSDB, RT, KX
            Rtype(18 | 21 | 36) => names(2, 1),
            // PX
            Rtype(26) => names(2, 2),
            // NAPTR: order, preference, three strings, and a name
            Rtype(35) => strings_end(rdata, 4, 3).map_or(Self::Broken, |skip| names(skip, 1)),
            _ => match Layout::of(rtype) {
                Layout { count: 0, .. } => Self::Other,
                Layout { skip, count, .. } => names(skip, count),
            },
        }
    }
}

/// Whether `rdata` is one string or more, and nothing else.
fn are_strings(rdata: &[u8]) -> bool {
    let mut rest = rdata;
    while let Some((&len, after)) = rest.split_first() {
        let Some(after) = after.get(usize::from(len)..) else { return false };
        rest = after;
    }
    !rdata.is_empty()
}

/// Where `count` strings that begin at `at` end.
fn strings_end(rdata: &[u8], at: usize, count: usize) -> Option<usize> {
    (0..count).try_fold(at, |at, _| Some(at + 1 + usize::from(*rdata.get(at)?)))
}

/// Where the name at `at` ends in place, be it compressed or not.
fn end_of_name(message: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + len,
            _ => return Some(at + 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(rtype: Rtype, rdata: &[u8]) -> Option<Vec<u8>> {
        // A name to point to stands first.
        let message = [b"\x03com\0", rdata].concat();
        rdata_of_message(rtype, &message, 5, rdata.len()).map(Vec::from)
    }

    #[test]
    fn names_in_data_are_decompressed() {
        assert_eq!(read(Rtype::MX, b"\0\x0A\x01a\xC0\0").as_deref(), Some(&b"\0\x0A\x01a\x03com\0"[..]));
        let soa = [&b"\x01a\xC0\0\x01b\xC0\0"[..], &[7; 20]].concat();
        assert_eq!(read(Rtype::SOA, &soa), Some([&b"\x01a\x03com\0\x01b\x03com\0"[..], &[7; 20]].concat()));
        assert_eq!(
            read(Rtype(35), b"\0\x01\0\x02\x01u\0\x01!\xC0\0").as_deref(),
            Some(&b"\0\x01\0\x02\x01u\0\x01!\x03com\0"[..])
        );
    }

    #[test]
    fn data_that_is_not_as_its_type_has_it_is_refused() {
        let cases: [(Rtype, &[u8]); 9] = [
            (Rtype::A, b"\x01\x02\x03"),
            (Rtype::AAAA, b"\x01\x02\x03\x04"),
            (Rtype::TXT, b""),
            (Rtype::TXT, b"\x05abc"),
            (Rtype::NS, b"\x01a"),
            (Rtype::NS, b"\x01a\0x"),
            (Rtype::SOA, b"\0\0\0"),
            (Rtype::DS, b"\0\x01\x0D"),
            (Rtype(257), b"\0"),
        ];
        for (rtype, rdata) in cases {
            assert_eq!(read(rtype, rdata), None, "{rtype}");
        }
    }

    #[test]
    fn types_that_nobody_knows_are_taken_as_they_are() {
        assert_eq!(read(Rtype(65280), b"\xC0\0").as_deref(), Some(&b"\xC0\0"[..]));
        assert_eq!(read(Rtype(65280), b"").as_deref(), Some(&b""[..]));
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(rtype in 1_u16..300, octets in prop::collection::vec(any::<u8>(), 0..60), at in 0_usize..70, len in 0_usize..70) {
            let _ = rdata_of_message(Rtype(rtype), &octets, at, len);
        }
    }
}
