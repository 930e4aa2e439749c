//! CSYNC: what the parent may copy from the apex of a signed zone (RFC 7477).

use crate::wire::Rtype;

/// Which records of the zone the parent is asked to copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Csync {
    /// Of NS, A and AAAA, in any order: the name servers, and the addresses of those in the zone.
    pub types: Vec<Rtype>,
    /// Whether the parent may do so at once, and need not ask anybody in another way (section 2.1.1.2.1).
    pub is_immediate: bool,
}

impl Csync {
    /// The types that it may hold (section 2.1.2.1).
    pub const TYPES: [Rtype; 3] = [Rtype::A, Rtype::NS, Rtype::AAAA];

    /// The data of the record in a zone of this serial; parents wait until all servers have that serial (the flag soaminimum,
    /// section 2.1.1.2.2).
    pub fn rdata(&self, serial: u32) -> Box<[u8]> {
        let flags = SOAMINIMUM | if self.is_immediate { IMMEDIATE } else { 0 };
        let mut bitmap = Vec::new();
        for Rtype(number) in Self::TYPES.into_iter().filter(|rtype| self.types.contains(rtype)) {
            let at = usize::from(number) / 8;
            bitmap.resize(bitmap.len().max(at + 1), 0);
            bitmap[at] |= 0x80_u8 >> (number % 8);
        }
        // One block of types below 256, as in NSEC (RFC 4034, section 4.1.2).
        let block = [0, bitmap.len() as u8];
        [&serial.to_be_bytes()[..], &flags.to_be_bytes(), &block, &bitmap].concat().into()
    }
}

const IMMEDIATE: u16 = 1;
const SOAMINIMUM: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7477, section 2.1.2.3, with another serial.
    #[test]
    fn data_is_serial_flags_and_types() {
        let types = vec![Rtype::AAAA, Rtype::NS, Rtype::A];
        let csync = Csync { types, is_immediate: true };
        assert_eq!(&*csync.rdata(66), b"\0\0\0\x42\0\x03\0\x04\x60\0\0\x08");
        let csync = Csync { types: vec![Rtype::NS], is_immediate: false };
        assert_eq!(&*csync.rdata(1), b"\0\0\0\x01\0\x02\0\x01\x20");
    }
}
