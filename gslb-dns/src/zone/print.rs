//! Zones written as master files (RFC 1035, section 5).

use std::fmt::{self, Display, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::rdata::{Layout, Parts};
use super::{Rrset, Zone};
use crate::wire::{Name, Rtype};

/// A zone as [`Zone::parse`] reads it back.
#[derive(Clone, Copy, Debug)]
pub struct MasterFile<'a>(&'a Zone);

impl Zone {
    /// All records as a master file, with absolute names: the SOA record first, then by owner and type.
    pub fn to_master(&self) -> MasterFile<'_> {
        MasterFile(self)
    }
}

impl Display for MasterFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.0.nodes.iter();
        let mut rrsets: Vec<(&[u8], &Rrset)> =
            nodes.flat_map(|(owner, node)| node.iter().map(move |rrset| (&**owner, rrset))).collect();
        let apex = self.0.apex.as_wire();
        rrsets.sort_by_key(|(owner, rrset)| (rrset.rtype != Rtype::SOA, *owner != apex, *owner, rrset.rtype));
        for (owner, rrset) in rrsets {
            for rdata in rrset.rdatas() {
                let data = Data { rtype: rrset.rtype, rdata };
                writeln!(f, "{} {} IN {} {data}", Name::from_wire(owner), rrset.ttl, rrset.rtype)?;
            }
        }
        Ok(())
    }
}

/// The data of one record.
struct Data<'a> {
    rtype: Rtype,
    rdata: &'a [u8],
}

impl Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rtype, rdata } = *self;
        match (rtype, rdata) {
            (Rtype::A, &[a, b, c, d]) => return write!(f, "{}", Ipv4Addr::new(a, b, c, d)),
            (Rtype::AAAA, _) => {
                if let Ok(octets) = <[u8; 16]>::try_from(rdata) {
                    return write!(f, "{}", Ipv6Addr::from(octets));
                }
            }
            (Rtype::TXT | Rtype::SPF, _) => {
                if let Some(strings) = strings(rdata) {
                    return f.write_str(&strings);
                }
            }
            _ => {}
        }
        let layout = Layout::of(rtype);
        match layout.split(rdata).filter(|parts| layout.count > 0 && parts.rest.len() % 4 == 0) {
            Some(Parts { head, names, rest }) => {
                let mut fields: Vec<String> = head
                    .chunks_exact(2)
                    .map(|number| (u16::from(number[0]) << 8 | u16::from(number[1])).to_string())
                    .collect();
                fields.extend(names.iter().take(layout.count).map(|name| Name::from_wire(name).to_string()));
                let (numbers, _) = rest.as_chunks::<4>();
                fields.extend(numbers.iter().map(|number| u32::from_be_bytes(*number).to_string()));
                f.write_str(&fields.join(" "))
            }
            // RFC 3597, section 5.
            None => {
                write!(f, "\\# {}", rdata.len())?;
                if !rdata.is_empty() {
                    f.write_char(' ')?;
                }
                rdata.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// Strings in quotes; `None`: they are none.
fn strings(rdata: &[u8]) -> Option<String> {
    let (mut rest, mut out) = (rdata, String::new());
    while let Some((&len, after)) = rest.split_first() {
        let (string, behind) = after.split_at_checked(usize::from(len))?;
        out.push_str(if out.is_empty() { "\"" } else { " \"" });
        for &octet in string {
            // Writing to a text does not fail.
            let _ = match octet {
                b'"' | b'\\' => write!(out, "\\{}", char::from(octet)),
                b' '..=b'~' => write!(out, "{}", char::from(octet)),
                _ => write!(out, "\\{octet:03}"),
            };
        }
        out.push('"');
        rest = behind;
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::name::OwnerName;

    use super::*;
    use crate::zone::ZoneRecord;

    fn parse(text: &str) -> Zone {
        Zone::parse(&OwnerName::parse("example.com").expect("a name"), "z", text).expect("no mistakes")
    }

    const ZONE: &str = "$TTL 300\n@ SOA ns1 host\\.master 7 4h 1h 2w 5m\n@ NS ns1\n@ MX 10 Mail\nns1 A 192.0.2.53\n\
        ns1 AAAA 2001:db8::53\nmail A 192.0.2.25\n_sip._tcp 60 SRV 1 2 5060 mail\nweb CNAME mail\nold DNAME example.net.\n\
        t TXT \"x; \\\"y\\\"\" z \"\" \"\\200\\\\\"\n@ CAA 0 issue \"ca.example.net\"\n* TXT w\n\\@\\032b.c TXT v\n\
        @ HTTPS 1 . alpn=h2\nsub NS ns.example.net.\nsub DS 1 13 2 00ff\nu TYPE65280 \\# 3 0102ff\nu TYPE65281 \\# 0\n";

    #[test]
    fn what_is_written_reads_back() {
        let zone = parse(ZONE);
        let again = parse(&zone.to_master().to_string());
        assert_eq!((again.digest(), again.serial()), (zone.digest(), zone.serial()), "{}", zone.to_master());
    }

    #[test]
    fn common_types_are_written_for_people() {
        let text = parse(ZONE).to_master().to_string();
        assert!(
            text.starts_with("example.com. 300 IN SOA ns1.example.com. host\\.master.example.com. 7 14400 "),
            "{text}"
        );
        for line in [
            "example.com. 300 IN MX 10 Mail.example.com.",
            "ns1.example.com. 300 IN AAAA 2001:db8::53",
            "_sip._tcp.example.com. 60 IN SRV 1 2 5060 mail.example.com.",
            "t.example.com. 300 IN TXT \"x; \\\"y\\\"\" \"z\" \"\" \"\\200\\\\\"",
            "sub.example.com. 300 IN DS \\# 6 00010d0200ff",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    proptest! {
        #[test]
        fn any_strings_read_back(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..256), 1..4)) {
            let mut zone = parse(ZONE);
            let rdata = strings.iter().flat_map(|string| [&[string.len() as u8], &**string].concat()).collect();
            zone.put(ZoneRecord { owner: zone.apex().clone(), rtype: Rtype::TXT, ttl: 60, rdata });
            prop_assert_eq!(parse(&zone.to_master().to_string()).digest(), zone.digest());
        }
    }
}
