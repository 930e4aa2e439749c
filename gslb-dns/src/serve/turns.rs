//! The time and the limits of each turn of a loop that answers.

use std::sync::Arc;
use std::time::Duration;

use shared::moment::Moment;

use super::clock::{Clock, unix_secs};
use crate::answer::Turn;
use crate::limit::{Limiter, Limits};

/// Begins turns; each thread has its own, and all of them the same limiter.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    clock: Clock,
    limiter: Option<Arc<Limiter>>,
    /// The wall clock, and when it was read.
    wall: Option<(Moment, u32)>,
}

impl Turns {
    /// Fails when the system gives no random numbers.
    pub(super) fn new(clock: Clock, limits: Option<&Limits>) -> Result<Self, getrandom::Error> {
        let mut seed = [0; Limiter::SEED_LEN];
        getrandom::fill(&mut seed)?;
        let limiter = limits.map(|limits| Arc::new(Limiter::new(limits, seed)));
        Ok(Self { clock, limiter, wall: None })
    }

    /// What limits the answers, if anything does.
    pub(super) fn limiter(&self) -> Option<&Arc<Limiter>> {
        self.limiter.as_ref()
    }

    /// The turn that begins now. Cookies count in seconds, so the wall clock is not read more often.
    pub(super) fn next(&mut self) -> Turn<'_> {
        let now = self.clock.now();
        let (_, unix_secs) = match self.wall {
            Some(wall @ (read_at, _)) if now.since(read_at) < WALL_PAUSE => wall,
            _ => *self.wall.insert((now, unix_secs())),
        };
        Turn { unix_secs, gate: self.limiter.as_ref().map(|limiter| limiter.at(now)), idle: None }
    }
}

const WALL_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_has_the_time_of_the_wall_clock() {
        let mut turns = Turns::new(Clock::start(), None).expect("random numbers");
        for _ in 0..2 {
            let (before, turn, after) = (unix_secs(), turns.next().unix_secs, unix_secs());
            // The second turn may have the time of the first.
            assert!((before - 1..=after).contains(&turn), "{turn} is not from {before} to {after}");
        }
        assert!(turns.next().gate.is_none());
    }
}
