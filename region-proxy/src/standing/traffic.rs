//! What the requests of clients tell of a server: too many failures in a row, or too large a share of them.

use std::time::Duration;

use shared::moment::Moment;

/// How many failures are too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// In a row.
    pub in_a_row: Option<u32>,
    /// Of all requests.
    pub share: Option<Share>,
}

/// The share of failures that is too large.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Failures of a hundred requests.
    pub percent: u32,
    /// So many requests must have ended, that the share means something.
    pub requests: u32,
    /// Within this time.
    pub window: Duration,
}

/// What one thread has counted of one server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counted {
    /// Requests that were answered.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that failed since the last that was answered.
    pub streak: u64,
}

/// Why a server is taken out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Verdict {
    /// Too many failures in a row.
    #[error("by traffic: {failures} failures in a row")]
    InARow {
        /// How many.
        failures: u64,
    },
    /// Too large a share.
    #[error("by traffic: {failed} of {requests} requests failed within {window:?}")]
    Share {
        /// How many failed.
        failed: u64,
        /// Of how many.
        requests: u64,
        /// Within this time.
        window: Duration,
    },
}

/// Judges one server by what all threads have counted.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    threads: Vec<Counted>,
    streak: u64,
    /// The sums at some moments of the window, oldest first.
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Moment,
    answered: u64,
    failed: u64,
}

impl Judge {
    /// Takes note of what each thread has counted by `now`; what is too much is told once, and counting begins anew.
    ///
    /// What happened on different threads between two looks has no order: failures beside successes count as a row only
    /// as far as one thread saw them as one.
    pub fn look(&mut self, threads: &[Counted], limits: &Limits, now: Moment) -> Option<Verdict> {
        self.threads.resize(threads.len(), Counted::default());
        let (mut answered, mut failed, mut row) = (0, 0, 0);
        for (before, counted) in self.threads.iter_mut().zip(threads) {
            let failures = counted.failed.saturating_sub(before.failed);
            answered += counted.answered.saturating_sub(before.answered);
            failed += failures;
            row = failures.min(counted.streak).max(row);
            *before = *counted;
        }
        self.streak = if answered == 0 { self.streak + failed } else { row };
        let verdict = self.in_a_row(limits).or_else(|| self.share(limits.share?, now));
        if verdict.is_some() {
            self.forget();
        }
        verdict
    }

    /// Begins anew: what was counted before does not matter any more.
    pub fn forget(&mut self) {
        self.streak = 0;
        self.marks.clear();
    }

    fn in_a_row(&self, limits: &Limits) -> Option<Verdict> {
        let most = limits.in_a_row?;
        (self.streak >= most.into()).then_some(Verdict::InARow { failures: self.streak })
    }

    fn share(&mut self, limit: Share, now: Moment) -> Option<Verdict> {
        let sum = |count: fn(&Counted) -> u64| self.threads.iter().map(count).sum::<u64>();
        let mark = Mark { at: now, answered: sum(|thread| thread.answered), failed: sum(|thread| thread.failed) };
        // The last one before the window is where it begins.
        let is_old = |mark: &Mark| now.since(mark.at) >= limit.window;
        let old = self.marks.iter().take_while(|mark| is_old(mark)).count();
        self.marks.drain(..old.saturating_sub(1));
        if self.marks.last().is_none_or(|last| now.since(last.at) >= limit.window / MARKS) {
            self.marks.push(mark);
        }
        let first = self.marks.first()?;
        let failed = mark.failed.saturating_sub(first.failed);
        let requests = failed + mark.answered.saturating_sub(first.answered);
        let is_too_large = requests >= limit.requests.into() && failed * 100 >= requests * u64::from(limit.percent);
        (is_too_large && failed > 0).then_some(Verdict::Share { failed, requests, window: limit.window })
    }
}

/// How finely a window moves.
const MARKS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const IN_A_ROW: Limits = Limits { in_a_row: Some(10), share: None };
    const HALF: Limits =
        Limits { in_a_row: None, share: Some(Share { percent: 50, requests: 20, window: Duration::from_secs(10) }) };

    /// A thread that sees requests end.
    #[derive(Default)]
    struct Thread(Counted);

    impl Thread {
        fn sees(&mut self, ends: &str) -> &mut Self {
            for end in ends.chars() {
                match end {
                    '+' => self.0 = Counted { answered: self.0.answered + 1, streak: 0, ..self.0 },
                    _ => self.0 = Counted { failed: self.0.failed + 1, streak: self.0.streak + 1, ..self.0 },
                }
            }
            self
        }
    }

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    #[test]
    fn failures_in_a_row_count_over_looks_and_threads() {
        let (mut judge, mut one, mut two) = (Judge::default(), Thread::default(), Thread::default());
        let mut look = |one: &Thread, two: &Thread| judge.look(&[one.0, two.0], &IN_A_ROW, at(0));
        assert_eq!(look(one.sees("----"), &two), None);
        assert_eq!(look(&one, two.sees("-----")), None);
        assert_eq!(look(one.sees("-"), &two), Some(Verdict::InARow { failures: 10 }));
        assert_eq!(look(&one, &two), None);
    }

    #[test]
    fn a_success_ends_a_row() {
        let (mut judge, mut thread) = (Judge::default(), Thread::default());
        for _ in 0..100 {
            assert_eq!(judge.look(&[thread.sees("---------+").0], &IN_A_ROW, at(0)), None);
        }
        let verdict = judge.look(&[thread.sees("+----------").0], &IN_A_ROW, at(0));
        assert_eq!(verdict, Some(Verdict::InARow { failures: 10 }));
    }

    #[test]
    fn an_old_row_of_an_idle_thread_does_not_count() {
        let (mut judge, mut idle, mut busy) = (Judge::default(), Thread::default(), Thread::default());
        idle.sees("-------------");
        assert!(judge.look(&[idle.0, busy.0], &IN_A_ROW, at(0)).is_some());
        for _ in 0..10 {
            assert_eq!(judge.look(&[idle.0, busy.sees("+-").0], &IN_A_ROW, at(0)), None);
        }
    }

    #[test]
    fn a_share_counts_only_with_enough_requests_and_within_its_window() {
        let (mut judge, mut thread) = (Judge::default(), Thread::default());
        assert_eq!(judge.look(&[thread.0], &HALF, at(0)), None);
        assert_eq!(judge.look(&[thread.sees("----").0], &HALF, at(1)), None);
        for secs in 2..30 {
            assert_eq!(judge.look(&[thread.sees("+++-").0], &HALF, at(secs)), None, "{secs}");
        }
        let verdict = judge.look(&[thread.sees(&"-".repeat(40)).0], &HALF, at(30));
        assert!(matches!(verdict, Some(Verdict::Share { failed: 40..=60, .. })), "{verdict:?}");
    }

    #[test]
    fn what_it_keeps_is_bounded() {
        let (mut judge, mut thread) = (Judge::default(), Thread::default());
        for ms in 0..100_000 {
            judge.look(&[thread.sees("+").0], &HALF, Moment::from_start(Duration::from_millis(ms)));
        }
        assert!(judge.marks.len() <= MARKS as usize + 2, "{}", judge.marks.len());
    }
}
