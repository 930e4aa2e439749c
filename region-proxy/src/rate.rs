//! Events per second from a running total.

use std::collections::VecDeque;

use std::time::Duration;

use shared::moment::Moment;

/// The rate over the last [`Rate::WINDOW`].
#[derive(Clone, Debug, Default)]
pub struct Rate {
    samples: VecDeque<(Moment, u64)>,
}

impl Rate {
    /// How far back the rate looks.
    pub const WINDOW: Duration = Duration::from_secs(5);

    /// Notes that `total` events had happened by `now`; returns the events per second since the oldest sample kept.
    ///
    /// Zero for the first sample and for one at the same moment.
    pub fn sample(&mut self, now: Moment, total: u64) -> f64 {
        // One sample at least as old as the window stays, so that the whole window is covered.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= Self::WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, total));
        let (since, before) = self.samples.front().copied().unwrap_or((now, total));
        let span = now.since(since).as_secs_f64();
        if span > 0.0 { total.saturating_sub(before) as f64 / span } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    #[test]
    fn a_steady_flow_shows_its_rate() {
        let mut rate = Rate::default();
        assert_eq!(rate.sample(at(0), 0), 0.0);
        for second in 1..20 {
            assert_eq!(rate.sample(at(second), second * 30), 30.0);
        }
    }

    #[test]
    fn a_burst_is_forgotten_after_the_window() {
        let mut rate = Rate::default();
        rate.sample(at(0), 0);
        assert_eq!(rate.sample(at(1), 100), 100.0);
        for second in 2..=6 {
            rate.sample(at(second), 100);
        }
        assert_eq!(rate.sample(at(7), 100), 0.0);
    }

    #[test]
    fn a_standing_clock_gives_zero() {
        let mut rate = Rate::default();
        rate.sample(at(1), 5);
        assert_eq!(rate.sample(at(1), 9), 0.0);
    }
}
