//! Time as a value: the core never reads a clock.

use std::ops::Add;
use std::time::Duration;

/// A point in time, counted from the start of the process (or of a simulation).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(Duration);

impl Moment {
    /// The start of the process.
    pub const START: Self = Self(Duration::ZERO);

    /// The moment `elapsed` after the start.
    pub const fn from_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time passed since `earlier`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Time since the start.
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// The moment `span` before this one, or the start when that is nearer.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// The moment `span` later; saturates at the end of time.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}
