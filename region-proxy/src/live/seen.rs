//! What the threads see of the requests of one server.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::standing::traffic::Counted;

/// Counted by each thread for itself, as far as its service observes it.
#[derive(Debug)]
pub struct Seen(Box<[Thread]>);

/// What one thread counted; alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Thread {
    answered: AtomicU64,
    failed: AtomicU64,
    streak: AtomicU64,
}

impl Seen {
    /// Nothing, by threads numbered from 0 to below `threads`.
    pub fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Thread::default()).collect())
    }

    /// `thread`, the only one that writes there, saw a request end well or not.
    pub fn note(&self, thread: usize, is_ok: bool) {
        let Thread { answered, failed, streak } = &self.0[thread % self.0.len()];
        let add = |count: &AtomicU64| count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if is_ok {
            add(answered);
            streak.store(0, Ordering::Relaxed);
        } else {
            add(failed);
            add(streak);
        }
    }

    /// What each thread has counted.
    pub fn counted(&self) -> Vec<Counted> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let thread = |thread: &Thread| Counted {
            answered: read(&thread.answered),
            failed: read(&thread.failed),
            streak: read(&thread.streak),
        };
        self.0.iter().map(thread).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_its_own_row() {
        let seen = Seen::new(2);
        for (thread, is_ok) in [(0, false), (1, false), (0, true), (1, false), (0, false)] {
            seen.note(thread, is_ok);
        }
        let counted = [(1, 2, 1), (0, 2, 2)].map(|(answered, failed, streak)| Counted { answered, failed, streak });
        assert_eq!(seen.counted(), counted);
    }
}
