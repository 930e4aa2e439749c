//! The one clock: moments for the core, wall-clock times for people and files.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use shared::moment::Moment;

/// Reads the clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Moment {
        Moment::from_start(self.start.elapsed())
    }

    /// The instant at `moment`, to sleep until.
    pub fn instant(&self, moment: Moment) -> Instant {
        // So far away that it does not matter which day it is.
        let far = || self.start + std::time::Duration::from_secs(u64::from(u32::MAX));
        self.start.checked_add(moment.elapsed()).unwrap_or_else(far)
    }

    /// The wall-clock time of `moment`, to the millisecond, as the wall clock stands now.
    pub fn wall(&self, moment: Moment) -> Timestamp {
        let now = self.now();
        let nanos = moment.elapsed().as_nanos() as i128 - now.elapsed().as_nanos() as i128;
        let millis = SignedDuration::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX));
        let time = Timestamp::now().checked_add(millis).unwrap_or(Timestamp::MAX);
        Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
    }
}

/// Seconds since 1970 by the wall clock, modulo 2^32: the time of cookies.
pub(super) fn unix_secs() -> u32 {
    crate::reload::unix_secs() as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn wall_time_of_a_moment_keeps_its_distance() {
        let clock = Clock::start();
        let now = clock.now();
        let apart = clock.wall(now + Duration::from_secs(60)).duration_since(clock.wall(now));
        assert!((59_900..=60_100).contains(&apart.as_millis()), "{apart:?}");
    }

    #[test]
    fn end_of_time_is_no_overflow() {
        let clock = Clock::start();
        let end = Moment::from_start(Duration::MAX);
        assert!(clock.instant(end) > Instant::now());
        assert!(clock.wall(end) > Timestamp::now());
    }
}
