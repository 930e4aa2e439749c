//! Numbers for distinct values, in the order in which they are met.

use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::FixedState;

use super::room;

/// Gives equal values the same number, counting from 0. Open addressing: a value costs its own size and 8 to 16 octets.
///
/// The hash is not secret: what is numbered comes from the operator's files.
#[derive(Debug)]
pub(super) struct Numbering<T> {
    values: Vec<T>,
    /// A number plus 1 for each slot that is taken, else 0; their count is a power of two.
    slots: Vec<u32>,
}

impl<T> Default for Numbering<T> {
    fn default() -> Self {
        Self { values: Vec::new(), slots: vec![0; SLOTS_MIN] }
    }
}

impl<T: Copy + Eq + Hash> Numbering<T> {
    /// The number of `value`: one past the largest so far when it is met for the first time.
    pub(super) fn number(&mut self, value: T) -> u32 {
        let at = match self.find(&value) {
            Ok(number) => return number,
            Err(free) => free,
        };
        room::push(&mut self.values, value);
        self.slots[at] = self.values.len() as u32;
        if 2 * self.values.len() > self.slots.len() {
            self.grow();
        }
        self.values.len() as u32 - 1
    }

    /// The values, each at its number.
    pub(super) fn into_values(self) -> Vec<T> {
        self.values
    }

    /// The number of `value`, or the slot where it belongs.
    fn find(&self, value: &T) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = FixedState::default().hash_one(value) as usize & mask;
        // At most half of the slots are taken, so there is a free one.
        loop {
            match self.slots[at].checked_sub(1) {
                None => return Err(at),
                Some(number) if self.values[number as usize] == *value => return Ok(number),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    fn grow(&mut self) {
        self.slots = room::filled(2 * self.slots.len(), 0);
        for number in 0..self.values.len() {
            if let Err(free) = self.find(&self.values[number]) {
                self.slots[free] = number as u32 + 1;
            }
        }
    }
}

const SLOTS_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_numbered_as_they_are_met(values in prop::collection::vec(0_u32..300, 0..900)) {
            let mut numbering = Numbering::default();
            let mut met: Vec<u32> = Vec::new();
            for &value in &values {
                let number = numbering.number(value) as usize;
                if number == met.len() {
                    prop_assert!(!met.contains(&value));
                    met.push(value);
                }
                prop_assert_eq!(met[number], value);
            }
            prop_assert_eq!(numbering.into_values(), met);
        }
    }
}
