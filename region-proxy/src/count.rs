//! Counters that many threads add to and one now and then reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Events and things in progress, counted by each thread for itself: no cache line is written by two.
#[derive(Debug)]
pub struct Counts(Box<[Shard]>);

/// What one thread counted; alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Counts {
    /// Zero, for threads numbered from 0 to below `threads`.
    pub fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Shard::default()).collect())
    }

    /// `thread` begins one; returns how many it had begun before.
    pub fn begin(&self, thread: usize) -> u64 {
        add(&self.shard(thread).begun)
    }

    /// `thread` ends one that it began.
    pub fn end(&self, thread: usize) {
        add(&self.shard(thread).ended);
    }

    /// All that were ever begun.
    pub fn begun(&self) -> u64 {
        self.0.iter().map(|shard| shard.begun.load(Ordering::Relaxed)).sum()
    }

    /// Those in progress.
    pub fn in_progress(&self) -> u64 {
        // Ends first: a pair that falls between the two sums is then missed, not counted below zero.
        let ended: u64 = self.0.iter().map(|shard| shard.ended.load(Ordering::Acquire)).sum();
        self.begun().saturating_sub(ended)
    }

    fn shard(&self, thread: usize) -> &Shard {
        &self.0[thread % self.0.len()]
    }
}

/// Adds one, by the only thread that writes to `count`: no locked instruction.
fn add(count: &AtomicU64) -> u64 {
    let before = count.load(Ordering::Relaxed);
    count.store(before + 1, Ordering::Release);
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_count_is_summed() {
        let counts = Counts::new(3);
        for thread in 0..3 {
            for _ in 0..100 {
                counts.begin(thread);
            }
            counts.end(thread);
        }
        assert_eq!((counts.begun(), counts.in_progress()), (300, 297));
    }

    #[test]
    fn a_thread_is_told_its_own_turn() {
        let counts = Counts::new(2);
        assert_eq!([counts.begin(0), counts.begin(0), counts.begin(1)], [0, 1, 0]);
    }
}
