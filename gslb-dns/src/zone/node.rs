//! What the table of names leads to: a node for each name, all of them and their answers in one arena.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::compile::{Draft, Kind};
use super::compose::Composed;
use super::octets::{push_u16, push_u32, u16_at, u32_at};
use super::tail::{Chain, Tail, pack};
use crate::wire::Rtype;

/// One name and its answers, at `at` in the octets of an arena.
///
/// ```text
///  0  octets of the name    u8
///  1  kind and flags        u8
///  2  type for ANY          u16; 0: none
///  4  RRsets                u16
///  6  zone                  u32
/// 10  the name, in lower case
///     for each RRset its type, u16, and the position of its tail, u32
///     with EXTRAS: positions, u32, 0: none. Numbers as they are in `Extra`
/// ```
/// What has one RRset takes 16 octets and the name; the tail lies right behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    octets: &'a [u8],
    at: usize,
}

/// Nodes in the making.
#[derive(Debug)]
pub(super) struct ArenaBuilder {
    octets: Vec<u8>,
    /// Positions of long tails, so that equal ones are kept once.
    tails: HashTable<u32>,
    hasher: RandomState,
}

/// What only some nodes have.
#[derive(Clone, Copy)]
enum Extra {
    /// The answer to every type that has none of its own.
    Otherwise,
    /// The node of the wildcard right below, or of the delegation above.
    Link,
    /// One more than the position among the steered names.
    Steered,
    /// The CNAMEs that lead to the steered name.
    Chain,
    /// The pointer in them that leads there, and the octets of their base above it.
    ChainTarget,
    /// The answer behind them when nobody serves it.
    ChainEmpty,
    /// The DNAME: its TTL, the position of its tail, its target.
    Dname,
}

/// A DNAME record.
#[derive(Clone, Copy, Debug)]
pub struct Dname<'a> {
    /// The record itself.
    pub tail: Tail<'a>,
    /// Octets of the owner name.
    pub owner_len: usize,
    /// Where names below the owner lead, in the case of the file.
    pub target: &'a [u8],
    /// Its TTL, in seconds, which the CNAME made from it has too.
    pub ttl: u32,
}

/// The steered answers of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct SteeredPart<'a> {
    /// Position among the steered names.
    pub(super) steered: usize,
    /// The CNAMEs that lead to the steered name, and the answer when nobody serves it.
    pub(super) chain: Option<(Chain<'a>, Tail<'a>)>,
}

impl Dname<'_> {
    /// Whether it is the same record of the same zones.
    pub fn is(self, other: Self) -> bool {
        std::ptr::eq(self.target, other.target)
    }
}

impl<'a> Node<'a> {
    pub(super) fn at(octets: &'a [u8], at: u32) -> Self {
        Self { octets, at: at as usize }
    }

    pub(super) fn name(self) -> &'a [u8] {
        let start = self.at + HEAD_LEN;
        &self.octets[start..start + usize::from(self.octets[self.at])]
    }

    pub(super) fn kind(self) -> Kind {
        match self.octets[self.at + 1] & !EXTRAS {
            0 => Kind::Plain,
            1 => Kind::Cut,
            2 => Kind::Dname,
            _ => Kind::BelowCut,
        }
    }

    /// The type that answers for ANY.
    pub(super) fn any(self) -> Option<Rtype> {
        Some(Rtype(u16_at(self.octets, self.at + 2))).filter(|any| any.0 > 0)
    }

    pub(super) fn zone(self) -> usize {
        u32_at(self.octets, self.at + 6) as usize
    }

    /// The answer to `qtype`, when the name has one of its own.
    pub(super) fn answer(self, qtype: Rtype) -> Option<Tail<'a>> {
        let (entries, _) = self.octets[self.entries_at()..self.extras_at()].as_chunks::<ENTRY_LEN>();
        let entry = entries.iter().find(|[low, high, ..]| u16::from_le_bytes([*low, *high]) == qtype.0)?;
        Some(self.tail(u32_at(entry, 2)))
    }

    pub(super) fn otherwise(self) -> Option<Tail<'a>> {
        self.extra(Extra::Otherwise).map(|at| self.tail(at))
    }

    /// The node of the wildcard right below; of what lies below a delegation, the node of that.
    pub(super) fn link(self) -> Option<Self> {
        self.extra(Extra::Link).map(|at| Self::at(self.octets, at))
    }

    pub(super) fn steered(self) -> Option<SteeredPart<'a>> {
        let steered = self.extra(Extra::Steered)? as usize - 1;
        let chain = self.extra(Extra::Chain).zip(self.extra(Extra::ChainEmpty)).map(|(chain, empty)| {
            let target = self.extra(Extra::ChainTarget).unwrap_or_default();
            let chain = Chain { tail: self.tail(chain), target: target as u16, base_len: (target >> 16) as u8 };
            (chain, self.tail(empty))
        });
        Some(SteeredPart { steered, chain })
    }

    pub(super) fn dname(self) -> Option<Dname<'a>> {
        let at = self.extra(Extra::Dname)? as usize;
        let target_at = at + 9;
        Some(Dname {
            tail: self.tail(u32_at(self.octets, at + 4)),
            owner_len: self.name().len(),
            target: &self.octets[target_at..target_at + usize::from(self.octets[at + 8])],
            ttl: u32_at(self.octets, at),
        })
    }

    fn tail(self, at: u32) -> Tail<'a> {
        Tail::at(&self.octets[at as usize..])
    }

    fn entries_at(self) -> usize {
        self.at + HEAD_LEN + usize::from(self.octets[self.at])
    }

    fn extras_at(self) -> usize {
        self.entries_at() + ENTRY_LEN * usize::from(u16_at(self.octets, self.at + 4))
    }

    fn extra(self, extra: Extra) -> Option<u32> {
        let has_extras = self.octets[self.at + 1] & EXTRAS > 0;
        has_extras.then(|| u32_at(self.octets, self.extras_at() + extra.offset())).filter(|&number| number > 0)
    }
}

impl Extra {
    fn offset(self) -> usize {
        4 * self as usize
    }
}

impl ArenaBuilder {
    pub(super) fn new() -> Self {
        // Position 0 stands for none.
        Self { octets: vec![0], tails: HashTable::new(), hasher: RandomState::default() }
    }

    /// Whether positions no longer reach all of it.
    pub(super) fn is_overfull(&self) -> bool {
        u32::try_from(self.octets.len()).is_err()
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(super) fn finish(self) -> Box<[u8]> {
        self.octets.into()
    }

    /// Adds the node of `draft`, whose name is `owner`; gives its position.
    pub(super) fn node(&mut self, owner: &[u8], zone: u32, draft: &Draft) -> u32 {
        let has_extras = draft.needs_extras();
        let at = self.head(owner, zone, draft.kind as u8 | if has_extras { EXTRAS } else { 0 });
        self.octets[at + 2..at + 4].copy_from_slice(&draft.any.map_or(0, |any| any.0).to_le_bytes());
        self.octets[at + 4..at + 6].copy_from_slice(&(draft.answers.len() as u16).to_le_bytes());
        let entries_at = self.octets.len();
        for (rtype, _) in &draft.answers {
            push_u16(&mut self.octets, rtype.0);
            push_u32(&mut self.octets, 0);
        }
        let extras_at = self.octets.len();
        if has_extras {
            self.octets.extend([0; EXTRAS_LEN]);
        }
        for (nth, (_, tail)) in draft.answers.iter().enumerate() {
            let tail = self.tail(tail);
            self.set(entries_at + nth * ENTRY_LEN + 2, tail);
        }
        if has_extras {
            self.extras(extras_at, draft);
        }
        at as u32
    }

    /// Adds the node of `name`, which lies below the delegation whose node is at `cut`; gives its position.
    pub(super) fn below_cut(&mut self, name: &[u8], zone: u32, cut: u32) -> u32 {
        let at = self.head(name, zone, Kind::BelowCut as u8 | EXTRAS);
        let extras_at = self.octets.len();
        self.octets.extend([0; EXTRAS_LEN]);
        self.set(extras_at + Extra::Link.offset(), cut);
        at as u32
    }

    /// Links the node at `above`, which was drafted as one above a wildcard, with that of the wildcard.
    pub(super) fn link(&mut self, above: u32, wildcard: u32) {
        let at = Node::at(&self.octets, above).extras_at() + Extra::Link.offset();
        self.set(at, wildcard);
    }

    /// Adds `composed`; gives its position.
    pub(super) fn tail(&mut self, composed: &Composed) -> u32 {
        let at = self.octets.len();
        pack(composed, &mut self.octets);
        // A short one is better off behind its node than shared with another, far away.
        if self.octets.len() - at <= UNSHARED_LEN_MAX {
            return at as u32;
        }
        let (before, tail) = self.octets.split_at(at);
        let hash = self.hasher.hash_one(tail);
        // A tail tells where it ends, so that none is the beginning of another.
        let is_same = |&known: &u32| before.get(known as usize..).is_some_and(|known| known.starts_with(tail));
        if let Some(&known) = self.tails.find(hash, is_same) {
            self.octets.truncate(at);
            return known;
        }
        let (octets, hasher) = (&self.octets, &self.hasher);
        let rehash = |&known: &u32| hasher.hash_one(Tail::at(&octets[known as usize..]).packed());
        self.tails.insert_unique(hash, at as u32, rehash);
        at as u32
    }

    fn head(&mut self, name: &[u8], zone: u32, kind: u8) -> usize {
        let at = self.octets.len();
        self.octets.extend([name.len() as u8, kind, 0, 0, 0, 0]);
        push_u32(&mut self.octets, zone);
        self.octets.extend_from_slice(name);
        at
    }

    fn extras(&mut self, extras_at: usize, draft: &Draft) {
        if let Some(otherwise) = &draft.otherwise {
            let tail = self.tail(otherwise);
            self.set(extras_at + Extra::Otherwise.offset(), tail);
        }
        if let Some(steered) = &draft.steered {
            self.set(extras_at + Extra::Steered.offset(), steered.steered + 1);
            if let Some((chain, empty)) = &steered.chain {
                let target = u32::from(chain.target) | u32::from(chain.records.base_len) << 16;
                self.set(extras_at + Extra::ChainTarget.offset(), target);
                let tail = self.tail(&chain.records);
                self.set(extras_at + Extra::Chain.offset(), tail);
                let tail = self.tail(empty);
                self.set(extras_at + Extra::ChainEmpty.offset(), tail);
            }
        }
        if let Some(dname) = &draft.dname {
            let at = self.octets.len();
            push_u32(&mut self.octets, dname.ttl);
            push_u32(&mut self.octets, 0);
            let target = dname.target.as_wire();
            self.octets.push(target.len() as u8);
            self.octets.extend_from_slice(target);
            let tail = self.tail(&dname.record);
            self.set(at + 4, tail);
            self.set(extras_at + Extra::Dname.offset(), at as u32);
        }
    }

    fn set(&mut self, at: usize, number: u32) {
        self.octets[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
}

/// Beside the kind: the node has extras.
const EXTRAS: u8 = 0x80;
const HEAD_LEN: usize = 10;
const ENTRY_LEN: usize = 6;
const EXTRAS_LEN: usize = 4 * (Extra::Dname as usize + 1);
/// Half a cache line.
const UNSHARED_LEN_MAX: usize = 32;
