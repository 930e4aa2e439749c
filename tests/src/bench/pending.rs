//! Questions under way: which id stands for which question.

/// The questions that were sent over one socket and are not answered yet.
#[derive(Debug)]
pub struct Pending {
    slots: Vec<Slot>,
    next_id: u16,
    count: usize,
}

/// A question that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// Its position among the questions.
    pub question: usize,
    /// When, in nanoseconds of the sender's clock.
    pub at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    asked: Asked,
    id: u16,
    is_open: bool,
}

impl Pending {
    /// Room for `capacity` questions at least, at most 65,536.
    pub fn new(capacity: usize) -> Self {
        let empty = Slot { asked: Asked { question: 0, at: 0 }, id: 0, is_open: false };
        Self { slots: vec![empty; capacity.clamp(1, 1 << 16).next_power_of_two()], next_id: 0, count: 0 }
    }

    /// Takes note of a question, gives its id, and whether that displaces one that was never answered.
    pub fn open(&mut self, question: usize, at: u64) -> (u16, bool) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let slot = self.slot(id);
        let is_displacing = slot.is_open;
        *slot = Slot { asked: Asked { question, at }, id, is_open: true };
        self.count += usize::from(!is_displacing);
        (id, is_displacing)
    }

    /// The question that an answer with `id` belongs to, once.
    pub fn close(&mut self, id: u16) -> Option<Asked> {
        let slot = self.slot(id);
        if !slot.is_open || slot.id != id {
            return None;
        }
        slot.is_open = false;
        let asked = slot.asked;
        self.count -= 1;
        Some(asked)
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Gives up all that are under way, and says how many those were.
    pub fn give_up(&mut self) -> usize {
        self.slots.iter_mut().for_each(|slot| slot.is_open = false);
        std::mem::take(&mut self.count)
    }

    fn slot(&mut self, id: u16) -> &mut Slot {
        // The number of slots is a power of two, so the position is below it.
        let at = usize::from(id) & (self.slots.len() - 1);
        &mut self.slots[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_only_with_its_id() {
        let mut pending = Pending::new(4);
        let (id, _) = pending.open(7, 1);
        assert_eq!(pending.close(id + 4), None, "the same slot, another id");
        assert_eq!(pending.close(id), Some(Asked { question: 7, at: 1 }));
        assert_eq!((pending.close(id), pending.count()), (None, 0));
    }

    #[test]
    fn what_is_displaced_or_given_up_is_counted() {
        let mut pending = Pending::new(2);
        let displaced: Vec<bool> = (0..3).map(|question| pending.open(question, 0).1).collect();
        assert_eq!(displaced, [false, false, true]);
        assert_eq!((pending.count(), pending.give_up(), pending.count()), (2, 2, 0));
    }
}
