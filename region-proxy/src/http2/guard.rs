//! How much a peer may ask for that costs work and moves nothing.

use shared::moment::Moment;

/// Allowances that fill up again with time. Who has used one up is told to calm down, and loses its connection.
#[derive(Clone, Debug)]
pub struct Guard {
    resets: Allowance,
    controls: Allowance,
}

/// Something that a peer does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// Begins a stream that comes to nothing: ended by itself before its answer, refused or malformed
    /// (CVE-2023-44487, "rapid reset").
    FutileStream,
    /// Sends a frame that moves nothing: SETTINGS, PING, PRIORITY, DATA without data, and those that nobody knows
    /// (CVE-2019-9512, -9513, -9515, -9518).
    Control,
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    most: u32,
    per_second: u32,
    at: Moment,
}

impl Guard {
    /// For a connection that begins at `now`.
    pub fn new(now: Moment) -> Self {
        let allowance = |most, per_second| Allowance { left: most, most, per_second, at: now };
        Self {
            resets: allowance(RESETS_MAX, RESETS_PER_SECOND),
            controls: allowance(CONTROLS_MAX, CONTROLS_PER_SECOND),
        }
    }

    /// Notes that something moved: who measures the way with PING as data comes does what it should.
    pub fn note_data(&mut self) {
        self.controls.give(2);
    }

    /// Notes that a stream was answered in full.
    pub fn note_answer(&mut self) {
        self.resets.give(1);
    }

    /// Whether the peer may do `deed` at `now`; counts it.
    pub fn allows(&mut self, deed: Deed, now: Moment) -> bool {
        match deed {
            Deed::FutileStream => self.resets.take(now),
            Deed::Control => self.controls.take(now),
        }
    }
}

impl Allowance {
    fn give(&mut self, count: u32) {
        self.left = (self.left + count).min(self.most);
    }

    fn take(&mut self, now: Moment) -> bool {
        if self.left == 0 {
            let gained = now.since(self.at).as_millis() * u128::from(self.per_second) / 1000;
            self.left = u32::try_from(gained).unwrap_or(u32::MAX).min(self.most);
            if self.left == 0 {
                return false;
            }
            self.at = now;
        } else if self.left == self.most {
            self.at = now;
        }
        self.left -= 1;
        true
    }
}

/// A browser that leaves a page resets what it has asked for: some hundreds at once, and seldom.
const RESETS_MAX: u32 = 300;
const RESETS_PER_SECOND: u32 = 20;

/// Nobody needs a tenth of it.
const CONTROLS_MAX: u32 = 1000;
const CONTROLS_PER_SECOND: u32 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    #[test]
    fn a_flood_is_stopped_and_a_trickle_is_not() {
        let mut guard = Guard::new(at(0));
        let allowed = (0..10_000).filter(|_| guard.allows(Deed::FutileStream, at(1))).count();
        assert_eq!(allowed, RESETS_MAX as usize);
        assert!(guard.allows(Deed::Control, at(1)), "the other allowance is untouched");
        let mut guard = Guard::new(at(0));
        assert!((0..10_000).all(|step| guard.allows(Deed::FutileStream, at(step))));
    }

    #[test]
    fn an_allowance_never_grows_beyond_its_most() {
        let mut guard = Guard::new(at(0));
        (0..RESETS_MAX).for_each(|_| assert!(guard.allows(Deed::FutileStream, at(0))));
        let allowed = (0..10_000).filter(|_| guard.allows(Deed::FutileStream, at(100_000))).count();
        assert_eq!(allowed, RESETS_MAX as usize);
    }
}
