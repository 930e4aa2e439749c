//! How many retries are affordable: a token bucket, so that retries cannot multiply an overload.

use std::time::Duration;

use shared::moment::Moment;

/// What each request and each second add.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// Retries for each hundred requests.
    pub percent: u32,
    /// Retries a second besides, so that few requests may be retried too.
    pub per_sec: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { percent: 20, per_sec: 10 }
    }
}

/// One thread's budget of retries for one service.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    allowance: Allowance,
    /// Hundredths of a retry.
    left: u64,
    counted: Moment,
}

impl Budget {
    /// As much as a second gives.
    pub fn new(allowance: Allowance, now: Moment) -> Self {
        Self { allowance, left: u64::from(allowance.per_sec) * ONE, counted: now }
    }

    /// Counts a request that is no retry.
    pub fn request(&mut self) {
        self.left = (self.left + u64::from(self.allowance.percent)).min(self.most());
    }

    /// Whether a retry is affordable; counts it when it is.
    pub fn retry(&mut self, now: Moment) -> bool {
        let per_sec = u128::from(self.allowance.per_sec) * u128::from(ONE);
        let earned = now.since(self.counted).as_nanos() * per_sec / Duration::from_secs(1).as_nanos();
        if earned > 0 {
            self.counted = now;
            self.left =
                u64::try_from(earned).map_or(u64::MAX, |earned| self.left.saturating_add(earned)).min(self.most());
        }
        let is_affordable = self.left >= ONE;
        self.left -= if is_affordable { ONE } else { 0 };
        is_affordable
    }

    /// What ten seconds give and a hundred retries: more is never saved up.
    fn most(&self) -> u64 {
        let flow = if self.allowance.percent > 0 { 100 * ONE } else { 0 };
        u64::from(self.allowance.per_sec) * 10 * ONE + flow
    }
}

/// One retry.
const ONE: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(ms))
    }

    fn retries(budget: &mut Budget, now: Moment) -> usize {
        (0..100_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn retries_are_a_part_of_requests() {
        let mut budget = Budget::new(Allowance { percent: 20, per_sec: 0 }, at(0));
        assert!(!budget.retry(at(0)));
        for _ in 0..50 {
            budget.request();
        }
        assert_eq!(retries(&mut budget, at(0)), 10);
    }

    #[test]
    fn some_retries_a_second_are_free() {
        let mut budget = Budget::new(Allowance { percent: 0, per_sec: 10 }, at(0));
        assert_eq!(retries(&mut budget, at(0)), 10);
        assert_eq!(retries(&mut budget, at(500)), 5);
        assert_eq!((0..100).filter(|tenth| budget.retry(at(500 + tenth * 10))).count(), 9, "small steps are not lost");
    }

    #[test]
    fn no_more_is_saved_up_than_ten_seconds_give_and_a_hundred() {
        let mut budget = Budget::new(Allowance { percent: 20, per_sec: 10 }, at(0));
        for _ in 0..1_000_000 {
            budget.request();
        }
        assert_eq!(retries(&mut budget, Moment::from_start(Duration::MAX)), 200);
    }

    #[test]
    fn without_an_allowance_nothing_is_retried() {
        let mut budget = Budget::new(Allowance { percent: 0, per_sec: 0 }, at(0));
        budget.request();
        assert!(!budget.retry(at(1_000_000)));
    }
}
