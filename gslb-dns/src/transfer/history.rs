//! What a zone said before.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::zone::{Content, Records};

/// What changed from one serial of a zone to the next.
#[derive(Debug, Eq, PartialEq)]
pub struct Delta {
    /// The serial before.
    pub from: u32,
    /// The serial after.
    pub to: u32,
    /// The SOA record before, and the records that are gone.
    removed: Box<[u8]>,
    /// The SOA record after, and the records that are new.
    added: Box<[u8]>,
}

/// The last changes of a zone, each going on where the one before ends: as many as take [`History::OCTETS_MAX`].
#[derive(Clone, Debug, Default)]
pub struct History {
    deltas: VecDeque<Arc<Delta>>,
    octets: usize,
}

impl Delta {
    /// What changed from `old` to `new`. A record with another TTL is another record.
    pub fn between(old: &Content, new: &Content) -> Self {
        let (mut removed, mut added) = (old.soa().to_vec(), new.soa().to_vec());
        let (mut olds, mut news) = (Records::new(old.rest()).peekable(), Records::new(new.rest()).peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.octets().cmp(new.octets()),
            };
            let gone = if order.is_le() { olds.next() } else { None };
            let come = if order.is_ge() { news.next() } else { None };
            match (gone, come) {
                (Some(record), None) => removed.extend_from_slice(record.octets()),
                (None, Some(record)) => added.extend_from_slice(record.octets()),
                _ => {}
            }
        }
        Self { from: old.serial(), to: new.serial(), removed: removed.into(), added: added.into() }
    }

    /// The records that are gone, the SOA record before as the first.
    pub fn removed(&self) -> &[u8] {
        &self.removed
    }

    /// The records that are new, the SOA record after as the first.
    pub fn added(&self) -> &[u8] {
        &self.added
    }

    /// Octets of all its records.
    pub fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// Never: there are SOA records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl History {
    /// What is kept of one zone: thousands of updates, or a few of a large part of the zone.
    pub const OCTETS_MAX: usize = 4 << 20;

    /// The same with `delta` as the last change; the oldest ones go where there would be too many.
    pub fn with(&self, delta: Delta) -> Self {
        let mut next = self.clone();
        // A chain that is broken leads nowhere.
        if next.deltas.back().is_some_and(|last| last.to != delta.from) {
            next = Self::default();
        }
        next.octets += delta.len();
        next.deltas.push_back(Arc::new(delta));
        while next.octets > Self::OCTETS_MAX {
            let Some(oldest) = next.deltas.pop_front() else { break };
            next.octets -= oldest.len();
        }
        next
    }

    /// The changes since `serial`, the oldest first; `None`: that is not known any more, or never was.
    pub fn since(&self, serial: u32) -> Option<Vec<Arc<Delta>>> {
        let start = self.deltas.iter().rposition(|delta| delta.from == serial)?;
        Some(self.deltas.range(start..).cloned().collect())
    }

    /// How many changes are kept.
    pub fn len(&self) -> usize {
        self.deltas.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }
}
