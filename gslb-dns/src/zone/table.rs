//! The table of names: open addressing by hash, so that a name costs one or two cache lines to find.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::rdata::suffixes;
use crate::wire::label_count;

/// Names in lower case, each with a position, at which the name itself lies for whoever asks.
///
/// The hash is seeded for each table from the randomness of the system, so that nobody can tell beforehand which names
/// meet. Names that are asked are never stored and at most half of the slots are taken, so that even a name found out
/// to be slow costs no more than one run of taken slots, a few cache lines. That is all a stronger hash could give.
pub(super) struct Table {
    slots: Box<[Slot]>,
    seed: u64,
    shared_seed: SharedSeed,
    /// Bit n: there is a name of n labels.
    depths: u128,
}

/// Empty where the position is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The half of the hash that does not tell the slot.
    tag: u32,
    at: u32,
}

/// A name that is in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Closest {
    /// Its position.
    pub(super) at: u32,
    /// Its octets.
    pub(super) len: usize,
}

impl Table {
    /// An empty table with room for `names_max` names.
    pub(super) fn new(names_max: usize) -> Self {
        let random = RandomState::new();
        let slots = vec![Slot::default(); names_max * SLOTS_PER_NAME + 1];
        let shared_seed = SharedSeed::from_u64(random.hash_one(1));
        Self { slots: slots.into(), seed: random.hash_one(0), shared_seed, depths: 0 }
    }

    /// Adds `name`, which is new, lies at `at` and is not more than there is room for. `at` is not 0.
    pub(super) fn insert(&mut self, name: &[u8], at: u32) {
        debug_assert!(at > 0, "0 marks empty slots");
        let hash = self.hash(name);
        let mut slot = self.first_slot(hash);
        while self.slots[slot].at > 0 {
            slot = self.slot_after(slot);
        }
        self.slots[slot] = Slot { tag: hash as u32, at };
        self.depths |= 1 << label_count(name);
    }

    /// The longest name in the table that `name`, in lower case, is or lies below. `is_at` tells whether a name lies at
    /// a position.
    ///
    /// The name itself costs one hash and one or two cache lines; so does each name above it, up to the one that is
    /// found, whose number of labels some name of the table has.
    pub(super) fn closest(&self, name: &[u8], is_at: impl Fn(u32, &[u8]) -> bool) -> Option<Closest> {
        if let Some(at) = self.position(name, &is_at) {
            return Some(Closest { at, len: name.len() });
        }
        let depth = label_count(name);
        let above = suffixes(name).zip((0..=depth).rev()).skip(1);
        let mut known = above.filter(|(_, depth)| self.depths.unbounded_shr(*depth as u32) & 1 == 1);
        known.find_map(|(name, _)| Some(Closest { at: self.position(name, &is_at)?, len: name.len() }))
    }

    /// The position of `name`.
    pub(super) fn position(&self, name: &[u8], is_at: impl Fn(u32, &[u8]) -> bool) -> Option<u32> {
        let hash = self.hash(name);
        self.find(hash, |at| is_at(at, name))
    }

    fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write(name);
        hasher.finish()
    }

    fn find(&self, hash: u64, is_at: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.first_slot(hash);
        loop {
            let slot = self.slots[at];
            if slot.at == 0 {
                return None;
            }
            if slot.tag == hash as u32 && is_at(slot.at) {
                return Some(slot.at);
            }
            at = self.slot_after(at);
        }
    }

    /// The upper half of the hash, scaled to the number of slots.
    fn first_slot(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    fn slot_after(&self, slot: usize) -> usize {
        if slot + 1 < self.slots.len() { slot + 1 } else { 0 }
    }
}

/// Without the seeds: who knows them can make names meet.
impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Table").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

/// With half of the slots free, a name that is not there is told from 2.5 of them, of which a cache line holds 8.
const SLOTS_PER_NAME: usize = 2;
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::NAME_LEN_MAX;

    fn wire(labels: &[String]) -> Vec<u8> {
        let octets = labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
        octets.chain([0]).collect()
    }

    /// Names of up to `labels_max` labels, few enough to meet.
    fn name(labels_max: usize) -> impl Strategy<Value = Vec<u8>> {
        let label = prop_oneof![9 => "[ab]", 1 => "[a-z]{17,40}"];
        prop::collection::vec(label, 0..=labels_max)
            .prop_map(|labels| wire(&labels))
            .prop_filter("too long", |name| name.len() <= NAME_LEN_MAX)
    }

    fn table(names: &BTreeMap<Vec<u8>, u32>) -> Table {
        let mut table = Table::new(names.len());
        names.iter().for_each(|(name, &at)| table.insert(name, at));
        table
    }

    proptest! {
        #[test]
        fn longest_name_above_is_found(
            names in (1..14_usize).prop_flat_map(|labels_max| prop::collection::btree_set(name(labels_max), 0..40)),
            asked in prop::collection::vec(name(20), 20),
        ) {
            let names: BTreeMap<Vec<u8>, u32> = names.into_iter().zip(1..).collect();
            let table = table(&names);
            let is_at = |at: u32, name: &[u8]| names.get(name) == Some(&at);
            for asked in names.keys().chain(&asked) {
                let expected = suffixes(asked).find_map(|name| Some(Closest { at: *names.get(name)?, len: name.len() }));
                prop_assert_eq!(table.closest(asked, is_at), expected);
                prop_assert_eq!(table.position(asked, is_at), names.get(asked).copied());
            }
        }

        #[test]
        fn any_octets_are_safe_to_ask(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let names = BTreeMap::from([(vec![0], 1), (b"\x01a\x00".to_vec(), 2)]);
            table(&names).closest(&octets, |at, name| names.get(name) == Some(&at));
        }
    }

    #[test]
    fn names_of_one_hash_are_told_apart() {
        let mut table = Table::new(2);
        table.insert(b"\x01a\x00", 1);
        let [taken] = &*table.slots.iter().copied().filter(|slot| slot.at > 0).collect::<Vec<_>>() else {
            panic!("one name");
        };
        // As if another name had the same hash.
        let at = table.slots.iter().position(|slot| slot.at == 1).expect("it is there");
        let after = table.slot_after(at);
        table.slots[after] = Slot { tag: taken.tag, at: 2 };
        assert_eq!(table.position(b"\x01a\x00", |at, _| at == 2), Some(2));
        assert_eq!(table.position(b"\x01a\x00", |_, _| false), None);
    }

    #[test]
    fn seeds_are_not_printed() {
        let table = Table::new(3);
        assert_eq!(format!("{table:?}"), "Table { slots: 7, .. }");
    }

    #[test]
    fn runs_of_taken_slots_are_short() {
        let mut table = Table::new(100_000);
        (1..=100_000_u32).for_each(|at| table.insert(&wire(&[format!("h{at}"), "test".to_owned()]), at));
        let longest =
            table.slots.chunk_by(|a, b| (a.at > 0) == (b.at > 0)).filter(|run| run[0].at > 0).map(<[Slot]>::len);
        // For random hashes about 50 are expected; 128 slots are 16 cache lines.
        assert!(longest.max() < Some(128));
    }
}
