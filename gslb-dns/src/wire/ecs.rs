//! The EDNS Client Subnet option (RFC 7871).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A client subnet as a query gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ecs {
    family: u16,
    source_len: u8,
    address: [u8; 16],
}

impl Ecs {
    /// The option's code.
    pub const CODE: u16 = 8;

    /// Reads the option of a query; `None` for whatever gets FORMERR.
    ///
    /// ```text
    /// FAMILY   SOURCE     SCOPE   ADDRESS
    /// 1        0 to 32    0       as many octets as SOURCE needs, the bits beyond it zero
    /// 2        0 to 128   0       the same
    /// 0        0          0       none: how some clients ask for an answer that is not tailored
    /// ```
    #[inline]
    pub fn parse(option: &[u8]) -> Option<Self> {
        let [f0, f1, source_len, scope, ref octets @ ..] = *option else { return None };
        let family = u16::from_be_bytes([f0, f1]);
        let is_valid = source_len <= bits_of(family)? && scope == 0 && octets.len() == octets_of(source_len);
        let unused_bits = (octets.len() * 8) as u32 - if is_valid { u32::from(source_len) } else { return None };
        if octets.last().is_some_and(|last| last.trailing_zeros() < unused_bits) {
            return None;
        }
        let mut address = [0; 16];
        address[..octets.len()].copy_from_slice(octets);
        Some(Self { family, source_len, address })
    }

    /// The client's network by its first address and its length, or `None` when the client does not say (SOURCE 0).
    pub fn subnet(&self) -> Option<(IpAddr, u8)> {
        let [a, b, c, d, ..] = self.address;
        match self.family {
            _ if self.source_len == 0 => None,
            1 => Some((Ipv4Addr::new(a, b, c, d).into(), self.source_len)),
            _ => Some((Ipv6Addr::from(self.address).into(), self.source_len)),
        }
    }

    /// Octets of the option in a reply, code and length included.
    pub fn encoded_len(&self) -> usize {
        8 + octets_of(self.source_len)
    }

    /// Writes the option of a reply: FAMILY, SOURCE and ADDRESS as asked, and `scope_len`. `out` holds
    /// [`Ecs::encoded_len`] octets.
    pub fn write(&self, scope_len: u8, out: &mut [u8]) {
        let octets = octets_of(self.source_len);
        out[..2].copy_from_slice(&Self::CODE.to_be_bytes());
        out[2..4].copy_from_slice(&(4 + octets as u16).to_be_bytes());
        out[4..6].copy_from_slice(&self.family.to_be_bytes());
        out[6] = self.source_len;
        out[7] = scope_len;
        out[8..8 + octets].copy_from_slice(&self.address[..octets]);
    }
}

fn bits_of(family: u16) -> Option<u8> {
    match family {
        0 => Some(0),
        1 => Some(32),
        2 => Some(128),
        _ => None,
    }
}

fn octets_of(source_len: u8) -> usize {
    usize::from(source_len).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subnet_is_read() {
        let ecs = Ecs::parse(&[0, 1, 23, 0, 192, 0, 2]).expect("valid");
        assert_eq!(ecs.subnet(), Some((Ipv4Addr::new(192, 0, 2, 0).into(), 23)));
        assert_eq!(Ecs::parse(&[0, 1, 0, 0]).expect("valid").subnet(), None);
        assert_eq!(Ecs::parse(&[0, 0, 0, 0]).expect("valid").subnet(), None);
    }

    #[test]
    fn malformed_options_are_refused() {
        for bad in [
            &[][..],
            &[0, 1, 24],
            &[0, 3, 0, 0],
            &[0, 0, 8, 0, 1],
            &[0, 1, 33, 0, 1, 2, 3, 4, 5],
            &[0, 1, 24, 1, 192, 0, 2],
            &[0, 1, 24, 0, 192, 0],
            &[0, 1, 24, 0, 192, 0, 2, 0],
            &[0, 1, 23, 0, 192, 0, 3],
            &[0, 1, 0, 0, 0],
        ] {
            assert_eq!(Ecs::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn reply_repeats_the_query_but_for_the_scope(option in prop::collection::vec(any::<u8>(), 0..24), scope: u8) {
            if let Some(ecs) = Ecs::parse(&option) {
                let mut out = vec![0; ecs.encoded_len()];
                ecs.write(scope, &mut out);
                let mut expected = option.clone();
                expected[3] = scope;
                prop_assert_eq!(&out[4..], &expected[..]);
                prop_assert_eq!(out[..4].to_vec(), vec![0, 8, 0, option.len() as u8]);
            }
        }
    }
}
