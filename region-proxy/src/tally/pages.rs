//! Counters of many threads: each has a page of its own that nobody else writes to.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many counters for each thread.
#[derive(Debug)]
pub(super) struct Pages<const N: usize>(Box<[Page<N>]>);

/// The counters of one thread, alone in their cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Page<const N: usize>([AtomicU64; N]);

impl<const N: usize> Pages<N> {
    /// Zero, for threads numbered from 0 to below `threads`.
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Page([const { AtomicU64::new(0) }; N])).collect())
    }

    /// `thread`, the only one that writes there, adds `amount` to the counter at `index`: no locked instruction.
    pub(super) fn add(&self, thread: usize, index: usize, amount: u64) {
        let count = &self.0[thread % self.0.len()].0[index];
        count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
    }

    /// `thread` has so many at `index` now.
    pub(super) fn set(&self, thread: usize, index: usize, amount: u64) {
        self.0[thread % self.0.len()].0[index].store(amount, Ordering::Relaxed);
    }

    /// How many were begun and not ended, counted at `begun` and `ended`.
    pub(super) fn open(&self, begun: usize, ended: usize) -> u64 {
        // Ends first: a pair that falls between the two sums is then missed, not counted below zero.
        let gone = self.sum(ended);
        self.sum(begun).saturating_sub(gone)
    }

    /// What all threads have at `index`.
    pub(super) fn sum(&self, index: usize) -> u64 {
        self.0.iter().map(|page| page.0[index].load(Ordering::Acquire)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_add_is_summed() {
        let pages = Pages::<2>::new(2);
        pages.add(0, 1, 3);
        pages.add(1, 1, 4);
        pages.add(0, 0, 1);
        assert_eq!([pages.sum(0), pages.sum(1)], [1, 7]);
    }
}
