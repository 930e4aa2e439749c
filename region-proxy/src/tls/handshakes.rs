//! The TLS handshakes under way in one thread: so many and no more.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Handshakes in the order in which they began, each with the place of its connection among the deadlines.
#[derive(Debug, Default)]
pub struct Handshakes {
    under_way: RefCell<BTreeMap<u64, u32>>,
    begun: Cell<u64>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn(u64);

impl Handshakes {
    /// Begins one of the connection at `place`; with more than `most` under way, the oldest must go: its place.
    ///
    /// Whoever finishes does so within a few round trips, so that the oldest is most likely one that never will.
    pub fn begin(&self, place: u32, most: usize) -> (Turn, Option<u32>) {
        let turn = self.begun.get();
        self.begun.set(turn + 1);
        let mut under_way = self.under_way.borrow_mut();
        let oldest = if under_way.len() >= most.max(1) { under_way.pop_first() } else { None };
        under_way.insert(turn, place);
        (Turn(turn), oldest.map(|(_, place)| place))
    }

    /// Ends it; `false` when it had to go before.
    pub fn end(&self, turn: Turn) -> bool {
        self.under_way.borrow_mut().remove(&turn.0).is_some()
    }

    /// Whether it may go on.
    pub fn is_under_way(&self, turn: Turn) -> bool {
        self.under_way.borrow().contains_key(&turn.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.under_way.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_one_more() {
        let handshakes = Handshakes::default();
        let (one, none) = handshakes.begin(10, 2);
        let (two, neither) = handshakes.begin(11, 2);
        assert_eq!((none, neither), (None, None));
        let (three, gone) = handshakes.begin(12, 2);
        assert_eq!((gone, handshakes.len()), (Some(10), 2));
        assert_eq!([one, two, three].map(|turn| handshakes.is_under_way(turn)), [false, true, true]);
        assert!(!handshakes.end(one) && handshakes.end(two) && handshakes.end(three) && handshakes.is_empty());
    }
}
