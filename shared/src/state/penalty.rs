//! The penalty for falls: it halves with time, in integers, so that nodes agree.

use std::time::Duration;

use crate::moment::Moment;
use crate::topology::FlapSettings;

/// A penalty and when it had that value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Penalty {
    value: u32,
    at: Moment,
}

impl Penalty {
    pub(super) fn new(value: u32, at: Moment) -> Self {
        Self { value, at }
    }

    /// Its value at `now`: halved for each whole half-life, in a straight line between.
    pub(super) fn at(self, half_life: Duration, now: Moment) -> u32 {
        let (elapsed, half_life) = (now.since(self.at).as_millis(), half_life.as_millis().max(1));
        let halved = self.value.checked_shr(u32::try_from(elapsed / half_life).unwrap_or(u32::MAX)).unwrap_or(0);
        let lost = u128::from(halved) * (elapsed % half_life) / (2 * half_life);
        halved - lost as u32
    }

    /// One fall more at `now`.
    pub(super) fn after_fall(self, half_life: Duration, now: Moment) -> Self {
        Self { value: self.at(half_life, now).saturating_add(FlapSettings::FALL), at: now }
    }

    /// When it is below `limit`, to the millisecond or a little later; a `limit` of 0 counts as 1.
    pub(super) fn below(self, limit: u32, half_life: Duration) -> Moment {
        let limit = limit.max(1);
        let half_life_ms = half_life.as_millis().max(1);
        let halvings = (0_u32..31).find(|&n| self.value >> (n + 1) < limit).unwrap_or(31);
        let left = u128::from(self.value >> halvings);
        let over = (left + 1).saturating_sub(u128::from(limit));
        let within = if left == 0 { 0 } else { (over * 2 * half_life_ms).div_ceil(left).min(half_life_ms) };
        let ms = half_life_ms * u128::from(halvings) + within;
        self.at + Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF_LIFE: Duration = Duration::from_secs(600);

    #[test]
    fn penalty_halves_with_each_half_life() {
        let penalty = Penalty::new(4000, Moment::START);
        let after = |secs| penalty.at(HALF_LIFE, Moment::from_start(Duration::from_secs(secs)));
        assert_eq!([after(0), after(300), after(600), after(1200), after(60_000)], [4000, 3000, 2000, 1000, 0]);
    }

    proptest! {
        #[test]
        fn penalty_is_below_the_limit_when_it_says_so_and_not_long_before(value in 1_u32..100_000, limit in 1_u32..5000) {
            let penalty = Penalty::new(value, Moment::START);
            let due = penalty.below(limit, HALF_LIFE);
            prop_assert!(penalty.at(HALF_LIFE, due) < limit);
            if value >= limit {
                let earlier = due.before(HALF_LIFE / 20);
                prop_assert!(penalty.at(HALF_LIFE, earlier) + value / 10 + 2 >= limit);
            }
        }
    }
}
