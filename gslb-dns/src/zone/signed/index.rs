//! The denial records of a zone in their order, to be searched for the one that covers a name.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::wire::NAME_LEN_MAX;

/// Sorted keys, each with the position of a piece.
///
/// The first octets of all keys lie together, so that a search reads few cache lines; only among equal ones it must look
/// at the keys themselves.
#[derive(Debug)]
pub(super) struct Index {
    heads: Box<[u128]>,
    /// All keys in a row, and where each ends.
    keys: Box<[u8]>,
    ends: Box<[u32]>,
    pieces: Box<[u32]>,
}

/// A name in a form that sorts as octets: the canonical order of names (RFC 4034, section 6.1).
#[derive(Clone, Copy)]
pub(super) struct SortKey {
    octets: [u8; KEY_LEN_MAX],
    len: usize,
}

impl Index {
    /// Of `entries`, which are sorted by key and not empty.
    pub(super) fn new(entries: &[(Box<[u8]>, u32)]) -> Self {
        let mut keys = Vec::new();
        let mut ends = Vec::with_capacity(entries.len());
        for (key, _) in entries {
            keys.extend_from_slice(key);
            ends.push(keys.len() as u32);
        }
        Self {
            heads: entries.iter().map(|(key, _)| head(key)).collect(),
            keys: keys.into(),
            ends: ends.into(),
            pieces: entries.iter().map(|&(_, piece)| piece).collect(),
        }
    }

    /// The piece of the last key that is not behind `key`; where there is none, of the last of all: the order is a ring.
    pub(super) fn covering(&self, key: &[u8]) -> u32 {
        let wanted = head(key);
        let mut behind = self.heads.partition_point(|&head| head < wanted);
        if self.heads.get(behind) == Some(&wanted) {
            let mut high = self.heads.partition_point(|&head| head <= wanted);
            while behind < high {
                let middle = behind.midpoint(high);
                if self.key(middle) <= key { behind = middle + 1 } else { high = middle }
            }
        }
        let last = if behind > 0 { behind } else { self.pieces.len() };
        self.pieces.get(last.wrapping_sub(1)).copied().unwrap_or_default()
    }

    /// All pieces, in the order of their keys.
    pub(super) fn pieces(&self) -> &[u32] {
        &self.pieces
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = if at > 0 { self.ends[at - 1] } else { 0 };
        &self.keys[start as usize..self.ends[at] as usize]
    }
}

impl SortKey {
    /// Of `name`, in lower case, which is or lies below an apex of `apex_len` octets.
    ///
    /// Labels come from the apex up, each ended by 0; octets 0 and 1 are two so that they sort behind that end.
    pub(super) fn new(name: &[u8], apex_len: usize) -> Self {
        let mut starts = [0_u8; LABELS_MAX];
        let (mut labels, mut at) = (0, 0);
        while at + apex_len < name.len() {
            starts[labels] = at as u8;
            labels += 1;
            at += 1 + usize::from(name[at]);
        }
        let mut key = Self { octets: [0; KEY_LEN_MAX], len: 0 };
        for &start in starts[..labels].iter().rev() {
            let start = usize::from(start);
            for &octet in &name[start + 1..start + 1 + usize::from(name[start])] {
                if octet < 2 {
                    key.push(1);
                }
                key.push(if octet < 2 { octet + 1 } else { octet });
            }
            key.push(0);
        }
        key
    }

    pub(super) fn as_octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    fn push(&mut self, octet: u8) {
        self.octets[self.len] = octet;
        self.len += 1;
    }
}

/// The hash of `name`, in lower case, without salt and further rounds (RFC 5155, section 5, RFC 9276).
pub(super) fn nsec3_hash(name: &[u8]) -> [u8; NSEC3_HASH_LEN] {
    // Nobody can gain by a collision but the owner of the zone.
    digest(&SHA1_FOR_LEGACY_USE_ONLY, name).as_ref().first_chunk().copied().unwrap_or_default()
}

fn head(key: &[u8]) -> u128 {
    let mut head = [0; 16];
    let len = key.len().min(head.len());
    head[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(head)
}

/// Octets of SHA-1.
pub(super) const NSEC3_HASH_LEN: usize = 20;
const KEY_LEN_MAX: usize = 2 * NAME_LEN_MAX;
const LABELS_MAX: usize = NAME_LEN_MAX / 2 + 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Name, label_count};

    /// The canonical order as RFC 4034, section 6.1, words it.
    fn labels(name: &[u8]) -> Vec<Vec<u8>> {
        let mut labels = Vec::new();
        let mut rest = name;
        while let [len @ 1..=63, after @ ..] = rest {
            let (label, next) = after.split_at(usize::from(*len));
            labels.push(label.to_vec());
            rest = next;
        }
        labels.reverse();
        labels
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop::sample::select(vec![0_u8, 1, 2, b'*', b'a', b'b', 255]);
        let label = prop::collection::vec(octet, 1..4);
        prop::collection::vec(label, 0..5).prop_map(|labels| {
            labels.iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat()).chain(*b"\x01z\0").collect()
        })
    }

    proptest! {
        #[test]
        fn keys_sort_as_names_do(a in name(), b in name()) {
            let [key_a, key_b] = [&a, &b].map(|name| SortKey::new(name, 3));
            prop_assert_eq!(key_a.as_octets().cmp(key_b.as_octets()), labels(&a).cmp(&labels(&b)));
        }

        #[test]
        fn last_name_not_behind_is_found(names in prop::collection::btree_set(name(), 1..60), asked in prop::collection::vec(name(), 20)) {
            let mut entries: Vec<_> = names.iter().map(|name| SortKey::new(name, 3).as_octets().into()).zip(1..).collect();
            entries.sort();
            let index = Index::new(&entries);
            for asked in asked.iter().chain(&names) {
                let key = SortKey::new(asked, 3);
                let expected = entries.iter().rev().find(|(known, _): &&(Box<[u8]>, u32)| **known <= *key.as_octets());
                let expected = expected.or(entries.last()).map(|&(_, piece)| piece);
                prop_assert_eq!(Some(index.covering(key.as_octets())), expected);
            }
        }
    }

    #[test]
    fn longest_names_have_keys() {
        let name = Name::from_wire(&[&b"\x01\0".repeat(127)[..], &[0]].concat());
        assert_eq!((label_count(name.as_wire()), SortKey::new(name.as_wire(), 1).as_octets().len()), (127, 3 * 127));
        let wide = [&[63][..], &[1; 63], &[63], &[1; 63], &[63], &[1; 63], &[61], &[1; 61], &[0]].concat();
        assert_eq!(SortKey::new(&wide, 1).as_octets().len(), 2 * 250 + 4);
    }
}
