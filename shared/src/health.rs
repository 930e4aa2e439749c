//! Counting of checks: when something watched is up and when it is down.

/// Whether one watched thing is up, by its checks so far.
///
/// ```text
/// unknown ──first success──► up ◄──`rise` successes in a row── down
///    └──`fall` failures──► down ◄──`fall` failures── up
/// ```
/// A streak of failures is forgotten only after `rise` successes in a row, so that a thing that fails every other
/// check goes down too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    is_up: Option<bool>,
    successes: u32,
    failures: u32,
}

impl Health {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Up, with nothing against it.
    pub fn new_up() -> Self {
        Self { is_up: Some(true), ..Self::default() }
    }

    /// Counts one check; `rise` and `fall` are at least 1.
    pub fn observe(&mut self, is_ok: bool, rise: u32, fall: u32) {
        if is_ok {
            self.successes = self.successes.saturating_add(1);
            if self.successes >= rise || self.is_up.is_none() {
                self.failures = 0;
                self.is_up = Some(true);
            }
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            if self.failures >= fall {
                self.is_up = Some(false);
            }
        }
    }

    /// Down, whatever the checks said: `rise` successes in a row bring it up.
    pub fn take_down(&mut self) {
        (self.is_up, self.successes) = (Some(false), 0);
    }

    /// `None` until the first success or the `fall`th failure.
    pub fn is_up(&self) -> Option<bool> {
        self.is_up
    }

    /// Whether a streak is under way that may change what [`Health::is_up`] says.
    pub fn is_deciding(&self) -> bool {
        match self.is_up {
            None => true,
            Some(true) => self.failures > 0,
            Some(false) => self.successes > 0,
        }
    }

    /// Failures that count at present.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Successes in a row.
    pub fn successes(&self) -> u32 {
        self.successes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(checks: &str) -> Health {
        let mut health = Health::new();
        for check in checks.chars() {
            health.observe(check == '+', 2, 3);
        }
        health
    }

    #[test]
    fn first_success_or_fall_failures_decide_the_unknown() {
        assert_eq!(after("").is_up(), None);
        assert_eq!(after("+").is_up(), Some(true));
        assert_eq!(after("--").is_up(), None);
        assert_eq!(after("---").is_up(), Some(false));
    }

    #[test]
    fn rise_and_fall_count_apart() {
        assert_eq!(after("+--").is_up(), Some(true));
        assert_eq!(after("+---").is_up(), Some(false));
        assert_eq!(after("+---+").is_up(), Some(false));
        assert_eq!(after("+---++").is_up(), Some(true));
    }

    #[test]
    fn failures_are_forgotten_only_after_rise_successes() {
        assert_eq!(after("+-+-+-").is_up(), Some(false));
        assert_eq!(after("+--++--").is_up(), Some(true));
        assert_eq!(after("+---+-+-").is_up(), Some(false));
    }

    #[test]
    fn a_streak_is_deciding_until_it_is_decided() {
        assert!(after("").is_deciding() && after("+-").is_deciding() && after("+-+").is_deciding());
        assert!(!after("+").is_deciding() && !after("+-++").is_deciding() && !after("---").is_deciding());
        assert!(after("---+").is_deciding());
    }
}
