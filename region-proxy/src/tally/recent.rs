//! What a server was like of late: differences of what is counted, over a minute.

use std::collections::VecDeque;
use std::time::Duration;

use shared::moment::Moment;

use super::{CLASSES, Histogram, ServerTally};
use crate::rate::Rate;

/// What a server was like in the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// Requests that it got, a second, over the last seconds.
    pub requests_per_sec: f64,
    /// Responses by class.
    pub responses: [u64; CLASSES],
    /// Attempts that failed.
    pub failures: u64,
    /// Until the head of the response.
    pub head: Histogram,
}

/// What is counted at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    begun: u64,
    responses: [u64; CLASSES],
    failures: u64,
    head: Histogram,
}

/// Samples of the last minute, and the rate.
#[derive(Debug, Default)]
pub(super) struct Recent {
    samples: VecDeque<(Moment, Sample)>,
    last: Sample,
    rate: Rate,
    per_sec: f64,
}

impl Sample {
    /// Of `tally` now.
    pub(super) fn of(tally: &ServerTally) -> Self {
        let counts = tally.read();
        let failures = counts.failures.iter().sum();
        Self { begun: tally.begun(), responses: counts.responses, failures, head: counts.head }
    }
}

impl Recent {
    /// Adds what is counted at `now`.
    pub(super) fn add(&mut self, now: Moment, sample: Sample) {
        self.per_sec = self.rate.sample(now, sample.begun);
        self.last = sample;
        // One at least as old as the window stays, so that all of it is covered.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.since(*at) >= STEP) {
            self.samples.push_back((now, sample));
        }
    }

    /// What the samples say.
    pub(super) fn lately(&self) -> Lately {
        let before = self.samples.front().map(|(_, sample)| *sample).unwrap_or_default();
        let grown = |last: &[u64], before: &[u64], at: usize| last[at].saturating_sub(before[at]);
        let (last, (head, old)) = (&self.last, (&self.last.head, &before.head));
        Lately {
            requests_per_sec: self.per_sec,
            responses: std::array::from_fn(|at| grown(&last.responses, &before.responses, at)),
            failures: last.failures.saturating_sub(before.failures),
            head: Histogram {
                buckets: std::array::from_fn(|at| grown(&head.buckets, &old.buckets, at)),
                sum: head.sum.saturating_sub(old.sum),
            },
        }
    }
}

/// How far back it looks.
const WINDOW: Duration = Duration::from_secs(60);

/// From sample to sample.
const STEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let tally = ServerTally::new(1);
        tally.sample(at(0));
        tally.answer(0, 200, Some(Duration::from_millis(30)), Duration::from_millis(40));
        for second in 1..=59 {
            tally.sample(at(second));
        }
        assert_eq!((tally.recent().responses[2], tally.recent().head.count()), (1, 1));
        for second in 60..=130 {
            tally.sample(at(second));
        }
        assert_eq!((tally.recent().responses[2], tally.recent().head.count()), (0, 0));
    }
}
