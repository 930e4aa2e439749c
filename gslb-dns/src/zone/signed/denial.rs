//! What a zone says of names and types that do not exist: the chain of its NSEC or NSEC3 records.

use std::collections::{BTreeMap, BTreeSet};

use super::super::compile::Compiler;
use super::index::{Index, NSEC3_HASH_LEN, SortKey, nsec3_hash};
use super::{Denial, Signing, piece};
use crate::wire::{NAME_LEN_MAX, Rtype, parent};

/// What a zone has at a name of its own.
#[derive(Debug, Default)]
pub(super) struct Owned<'a> {
    /// The types of its records, those of steered ones included whatever serves; none at an empty non-terminal.
    pub(super) types: BTreeSet<Rtype>,
    pub(super) name: &'a [u8],
    /// Whether it is delegated.
    pub(super) is_cut: bool,
}

/// The names of a zone in canonical order, by sort key; what lies below a delegation is not among them.
pub(super) type Names<'a> = BTreeMap<Box<[u8]>, Owned<'a>>;

/// The denial records of one zone.
#[derive(Debug)]
pub(super) enum Proofs {
    /// By owner name.
    Nsec(Index),
    /// By hash of the owner name.
    Nsec3(Index),
    /// Made for each question (RFC 9824).
    Compact,
}

/// Every name of the zone of `compiler`, that of other zones that are served below it included, as they are delegated.
pub(super) fn names_of<'a>(compiler: &Compiler<'a>) -> Names<'a> {
    let zone = compiler.zone;
    let apex = zone.apex.as_wire();
    let mut names = Names::new();
    let mut add = |name: &'a [u8], types: BTreeSet<Rtype>, is_cut| {
        names.insert(SortKey::new(name, apex.len()).as_octets().into(), Owned { types, name, is_cut });
    };
    for (name, rrsets) in zone.nodes.iter().filter(|(name, _)| !compiler.is_child(name)) {
        match zone.cut_of(name) {
            Some(cut) if cut.len() < name.len() => {}
            Some(_) => {
                let own = rrsets.iter().map(|rrset| rrset.rtype);
                add(name, own.filter(|&rtype| matches!(rtype, Rtype::NS | Rtype::DS)).collect(), true);
            }
            None => add(name, compiler.types_at(name), false),
        }
    }
    // A zone served here too is delegated, even where this one has no NS records of it: resolvers that ask for its DS
    // must learn that there is none, and not that there is no delegation.
    let children: Vec<&'a [u8]> = compiler.children.clone();
    for child in children.iter().filter(|child| !children.iter().any(|above| is_below(child, above))) {
        if zone.cut_of(child).is_none_or(|cut| cut.len() == child.len()) {
            let ds = zone.rrset(child, Rtype::DS).map(|_| Rtype::DS);
            let types = ds.into_iter().chain([Rtype::NS]).collect();
            names
                .insert(SortKey::new(child, apex.len()).as_octets().into(), Owned { types, name: child, is_cut: true });
        }
    }
    names
}

impl Proofs {
    /// Writes the denial records for `names` to `out`.
    pub(super) fn build(names: &Names<'_>, apex: &[u8], ttl: u32, signing: &Signing, out: &mut Vec<u8>) -> Self {
        let records = Records { apex, ttl, signing };
        match signing.denial {
            Denial::Nsec => Self::Nsec(records.nsec_chain(names, out)),
            Denial::Nsec3 => Self::Nsec3(records.nsec3_chain(names, out)),
            Denial::Compact => Self::Compact,
        }
    }

    /// The positions of all records; none where they are made for each question.
    pub(super) fn pieces(&self) -> &[u32] {
        match self {
            Self::Nsec(index) | Self::Nsec3(index) => index.pieces(),
            Self::Compact => &[],
        }
    }

    /// The record that covers `name`, in lower case, or that it owns. `None`: it has to be made.
    pub(super) fn covering(&self, name: &[u8], apex_len: usize) -> Option<u32> {
        match self {
            Self::Nsec(index) => Some(index.covering(SortKey::new(name, apex_len).as_octets())),
            Self::Nsec3(index) => Some(index.covering(&nsec3_hash(name))),
            Self::Compact => None,
        }
    }
}

/// Makes the denial records of one zone.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub(super) apex: &'a [u8],
    pub(super) ttl: u32,
    pub(super) signing: &'a Signing,
}

impl Records<'_> {
    fn nsec_chain(&self, names: &Names<'_>, out: &mut Vec<u8>) -> Index {
        let owners: Vec<_> = names.iter().filter(|(_, owned)| !owned.types.is_empty()).collect();
        let next = owners.iter().cycle().skip(1);
        let links = owners.iter().zip(next).map(|((key, owned), (_, next))| {
            ((*key).clone(), self.nsec(owned.name, next.name, &owned.types, self.ttl, out))
        });
        Index::new(&links.collect::<Vec<_>>())
    }

    fn nsec3_chain(&self, names: &Names<'_>, out: &mut Vec<u8>) -> Index {
        let mut owners: Vec<_> = names.values().map(|owned| (nsec3_hash(owned.name), owned)).collect();
        owners.sort_by_key(|&(hash, _)| hash);
        let next = owners.iter().cycle().skip(1);
        let links = owners.iter().zip(next).map(|((hash, owned), (next, _))| {
            let key: Box<[u8]> = (&hash[..]).into();
            (key, self.nsec3(hash, next, &owned.types, self.ttl, out))
        });
        Index::new(&links.collect::<Vec<_>>())
    }

    /// Writes the NSEC record of `owner`; gives its position.
    pub(super) fn nsec(&self, owner: &[u8], next: &[u8], types: &BTreeSet<Rtype>, ttl: u32, out: &mut Vec<u8>) -> u32 {
        let types = types.iter().copied().chain([Rtype::RRSIG, Rtype::NSEC]).collect();
        let mut rdata = next.to_vec();
        push_bitmap(&types, &mut rdata);
        self.signed(owner, &owner[..owner.len() - self.apex.len()], Rtype::NSEC, ttl, &rdata, out)
    }

    /// Writes the NSEC3 record of the name whose hash is `hash`; gives its position.
    pub(super) fn nsec3(
        &self,
        hash: &[u8; NSEC3_HASH_LEN],
        next: &[u8; NSEC3_HASH_LEN],
        types: &BTreeSet<Rtype>,
        ttl: u32,
        out: &mut Vec<u8>,
    ) -> u32 {
        let mut rdata = NSEC3_PARAMETERS.to_vec();
        rdata.push(NSEC3_HASH_LEN as u8);
        rdata.extend(next);
        // What only delegates is not signed, and an empty non-terminal has nothing to sign.
        let is_signed = types.iter().any(|&rtype| rtype != Rtype::NS);
        push_bitmap(&types.iter().copied().chain(is_signed.then_some(Rtype::RRSIG)).collect(), &mut rdata);
        let prefix = base32_label(hash);
        self.signed(&[&prefix[..], self.apex].concat(), &prefix, Rtype::NSEC3, ttl, &rdata, out)
    }

    fn signed(&self, owner: &[u8], prefix: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8], out: &mut Vec<u8>) -> u32 {
        let at = out.len() as u32;
        let rrsigs = (self.signing.sign)(owner, rtype, ttl, &[rdata]);
        piece::push(out, prefix, rtype, ttl, rdata, &rrsigs);
        at
    }
}

/// The name right behind `name` in canonical order, as far as names of that length go: nothing lies between.
pub(super) fn successor(name: &[u8]) -> Vec<u8> {
    if name.len() + 2 <= NAME_LEN_MAX {
        return [b"\x01\0", name].concat();
    }
    // There is no room below it.
    let mut next = name.to_vec();
    let label_len = usize::from(name[0]);
    if let Some(octet) = next[1..=label_len].iter_mut().rfind(|octet| **octet < u8::MAX) {
        *octet += 1;
    }
    next
}

/// The data of the NSEC3PARAM record (RFC 5155, section 4): what the hashes are made with.
pub(super) const NSEC3_PARAMETERS: [u8; 5] = [SHA1, 0, 0, 0, 0];

/// Appends `types` as a bitmap of windows (RFC 4034, section 4.1.2).
fn push_bitmap(types: &BTreeSet<Rtype>, out: &mut Vec<u8>) {
    let windows: BTreeSet<u8> = types.iter().map(|rtype| (rtype.0 >> 8) as u8).collect();
    for window in windows {
        let mut bits = [0_u8; 32];
        let in_window = types.iter().filter(|rtype| (rtype.0 >> 8) as u8 == window);
        in_window.for_each(|rtype| bits[usize::from(rtype.0 as u8 / 8)] |= 0x80 >> (rtype.0 % 8));
        let len = bits.iter().rposition(|&octet| octet > 0).map_or(0, |last| last + 1);
        out.extend([window, len as u8]);
        out.extend_from_slice(&bits[..len]);
    }
}

/// `hash` as a label: base32 with the digits of hexadecimal (RFC 4648, section 7), in lower case.
fn base32_label(hash: &[u8; NSEC3_HASH_LEN]) -> Vec<u8> {
    let mut label = vec![(NSEC3_HASH_LEN * 8 / 5) as u8];
    for five in hash.chunks(5) {
        let bits = five.iter().fold(0_u64, |bits, &octet| bits << 8 | u64::from(octet));
        label.extend((0..8).rev().map(|digit| BASE32[(bits >> (5 * digit)) as usize & 31]));
    }
    label
}

fn is_below(name: &[u8], above: &[u8]) -> bool {
    parent(name).is_some_and(|parent| crate::wire::is_at_or_below(parent, above))
}

const BASE32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// The only hash algorithm there is.
const SHA1: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_labels_as_the_rfc_has_them() {
        // RFC 5155, appendix A, has a salt and 12 iterations; this is its "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom" read back.
        let hash = [
            0x06, 0x53, 0x68, 0xab, 0xee, 0xd7, 0xec, 0x6e, 0x9f, 0xeb, 0xa9, 0x6b, 0x8c, 0x8b, 0xc3, 0xe8, 0xb7, 0x91,
            0xf7, 0x16,
        ];
        assert_eq!(base32_label(&hash), b"\x200p9mhaveqvm6t7vbl5lop2u3t2rp3tom");
    }

    #[test]
    fn bitmaps_are_as_the_rfc_has_them() {
        // RFC 4034, section 4.3.
        let mut out = Vec::new();
        push_bitmap(&[1, 15, 46, 47, 1234].map(Rtype).into(), &mut out);
        let mut expected = b"\0\x06\x40\x01\0\0\0\x03\x04\x1b".to_vec();
        expected.extend([0; 26]);
        expected.push(0x20);
        assert_eq!(out, expected);
    }

    #[test]
    fn nothing_lies_between_a_name_and_its_successor() {
        assert_eq!(successor(b"\x01a\x01z\0"), b"\x01\0\x01a\x01z\0");
        let longest =
            [&[63][..], &[b'a'; 63], &[63], &[b'a'; 63], &[63], &[b'a'; 63], &[61], &[b'a'; 61], &[0]].concat();
        let next = successor(&longest);
        assert_eq!((next.len(), next[63], &next[64..]), (255, b'b', &longest[64..]));
    }
}
