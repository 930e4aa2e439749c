//! Keeps what clients and servers do from flooding the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one log line through in each [`Throttle::PERIOD`] and counts the others.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// The least time between two lines.
    pub const PERIOD: Duration = Duration::from_secs(1);

    /// Whether a line may be written at `now`: then how many were left out since the one before.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < Self::PERIOD) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_period_tells_how_many_were_left_out() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |ms| throttle.pass(start + Duration::from_millis(ms));
        assert_eq!(
            [at(0), at(1), at(999), at(1000), at(1001), at(5000), at(6000)],
            [Some(0), None, None, Some(2), None, Some(1), Some(0)]
        );
    }
}
