//! Whether a gateway can be reached: what its answers to probes say.

use std::time::Duration;

use shared::moment::Moment;

/// One gateway, which is asked again and again.
///
/// ```text
/// reached      4 probes in a row without an answer   not reached: within 1.5 s
/// not reached  3 probes in a row with an answer      reached
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gateway {
    is_reached: bool,
    /// Probes in a row that speak against that.
    against: u8,
    /// Whether the last probe has no answer yet.
    is_waiting: bool,
    next: Moment,
}

impl Gateway {
    /// Nothing is known of it: it is not reached before its first answer, for which that alone is enough.
    pub fn unknown(now: Moment) -> Self {
        Self { is_reached: false, against: RISE - 1, is_waiting: false, next: now }
    }

    /// It is believed to be reached until probes say otherwise.
    pub fn believed(now: Moment) -> Self {
        Self { is_reached: true, against: 0, is_waiting: false, next: now }
    }

    /// Whether it can be reached.
    pub fn is_reached(&self) -> bool {
        self.is_reached
    }

    /// When [`Self::ask`] or [`Self::skip`] is due.
    pub fn due(&self) -> Moment {
        self.next
    }

    /// A probe is sent at `now`: the one before has its answer or gets none.
    ///
    /// What was received before `now` is to be heard first: a busy machine must not take its own lateness for silence.
    pub fn ask(&mut self, now: Moment) {
        if std::mem::replace(&mut self.is_waiting, true) {
            self.count(false);
        }
        self.next = now + EVERY;
    }

    /// No probe can be sent at `now`, which says nothing of the gateway.
    pub fn skip(&mut self, now: Moment) {
        self.is_waiting = false;
        self.next = now + EVERY;
    }

    /// It answered.
    pub fn hear(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.count(true);
        }
    }

    fn count(&mut self, is_answered: bool) {
        if is_answered == self.is_reached {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= if self.is_reached { FALL } else { RISE } {
            (self.is_reached, self.against) = (is_answered, 0);
        }
    }
}

/// Between two probes: a few packets a second bother no gateway.
const EVERY: Duration = Duration::from_millis(300);

/// A gateway that restarts its daemons or is busy for a second is still there.
const FALL: u8 = 4;

/// One that comes and goes is not.
const RISE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(ms))
    }

    /// Probes in turn, each answered or not; gives what was believed after each.
    fn probes(gateway: &mut Gateway, answers: &[bool]) -> Vec<bool> {
        let probe = |answered: &bool| {
            gateway.ask(gateway.due());
            if *answered {
                gateway.hear();
            }
            gateway.is_reached()
        };
        answers.iter().map(probe).collect()
    }

    #[test]
    fn the_first_answer_of_an_unknown_one_is_enough() {
        assert_eq!(probes(&mut Gateway::unknown(at(0)), &[true]), [true]);
        assert_eq!(probes(&mut Gateway::unknown(at(0)), &[false, true, true, true]), [false, false, false, true]);
    }

    #[test]
    fn a_few_probes_in_a_row_must_agree() {
        let mut gateway = Gateway::believed(at(0));
        assert_eq!(probes(&mut gateway, &[false, false, false, true, false, false, false]), [true; 7]);
        // The end of its time shows with the next probe.
        assert_eq!(probes(&mut gateway, &[false, false]), [true, false]);
        assert_eq!(
            probes(&mut gateway, &[true, true, false, true, true, true]),
            [false, false, false, false, false, true]
        );
    }

    #[test]
    fn a_dead_one_is_left_within_a_second_and_a_half() {
        let mut gateway = Gateway::believed(at(0));
        while gateway.is_reached() {
            gateway.ask(gateway.due());
        }
        assert!(gateway.due() <= at(1500) + EVERY, "{gateway:?}");
    }

    #[test]
    fn an_answer_counts_once_and_one_that_nobody_asked_for_does_not() {
        let mut gateway = Gateway::unknown(at(0));
        gateway.hear();
        assert!(!gateway.is_reached());
        let mut gateway = Gateway { against: 0, ..gateway };
        gateway.ask(at(0));
        (0..5).for_each(|_| gateway.hear());
        assert!(!gateway.is_reached());
    }

    #[test]
    fn probes_that_cannot_be_sent_say_nothing() {
        let mut gateway = Gateway::believed(at(0));
        for ms in (0..10_000).step_by(600) {
            gateway.ask(at(ms));
            gateway.skip(at(ms + 300));
        }
        assert!(gateway.is_reached());
    }
}
