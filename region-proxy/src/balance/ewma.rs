//! How soon a server answers: an average in which what is long ago counts little, and a peak at once.

use std::time::Duration;

use shared::moment::Moment;

/// The response time of one server; nothing is known at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ewma {
    /// Seconds, and when they were found.
    known: Option<(f64, Moment)>,
}

impl Ewma {
    /// Counts one response that took `time`.
    ///
    /// A time above the average becomes the average: a server that slows down must be seen at once, and one that gets
    /// faster may take its time.
    pub fn observe(&mut self, time: Duration, now: Moment, decay: Duration) {
        let time = time.as_secs_f64();
        let average = match self.known {
            Some((average, at)) if time < average => {
                let kept = faded(now.since(at), decay);
                average * kept + time * (1.0 - kept)
            }
            _ => time,
        };
        self.known = Some((average, now));
    }

    /// What one more request costs at a server that has `in_flight`: the less the better.
    ///
    /// The average fades while nothing is heard, so that a server that was slow once is tried again. One of which nothing
    /// is known gets a request, and no other until the first is answered.
    pub fn cost(&self, in_flight: u32, now: Moment, decay: Duration) -> f64 {
        match self.known {
            Some((average, at)) => average * faded(now.since(at), decay) * (f64::from(in_flight) + 1.0),
            None if in_flight == 0 => 0.0,
            None => UNHEARD_COST_SECS * f64::from(in_flight),
        }
    }
}

/// More than any answer should take.
const UNHEARD_COST_SECS: f64 = 1000.0;

fn faded(passed: Duration, decay: Duration) -> f64 {
    if decay.is_zero() { 0.0 } else { (-passed.as_secs_f64() / decay.as_secs_f64()).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    fn observed(times_ms: &[(u64, u64)]) -> Ewma {
        let mut ewma = Ewma::default();
        for (secs, ms) in times_ms {
            ewma.observe(Duration::from_millis(*ms), at(*secs), DECAY);
        }
        ewma
    }

    #[test]
    fn a_peak_counts_at_once_and_its_end_by_and_by() {
        let slow = observed(&[(1, 10), (2, 500)]).cost(0, at(2), DECAY);
        assert!((slow - 0.5).abs() < 1e-9);
        let later = observed(&[(1, 10), (2, 500), (3, 10)]).cost(0, at(3), DECAY);
        assert!(later > 0.4 && later < 0.5, "{later}");
        let recovered = observed(&[(1, 10), (2, 500), (50, 10)]).cost(0, at(50), DECAY);
        assert!(recovered < 0.02, "{recovered}");
    }

    #[test]
    fn what_is_in_flight_costs() {
        let ewma = observed(&[(1, 10)]);
        assert!(ewma.cost(3, at(1), DECAY) > ewma.cost(2, at(1), DECAY));
    }

    #[test]
    fn an_unheard_server_gets_one_request_to_be_heard_of() {
        let heard = observed(&[(1, 900)]);
        assert!(Ewma::default().cost(0, at(1), DECAY) < heard.cost(0, at(1), DECAY));
        assert!(Ewma::default().cost(1, at(1), DECAY) > heard.cost(100, at(1), DECAY));
    }

    #[test]
    fn a_slow_server_is_forgiven_in_silence() {
        let ewma = observed(&[(1, 5000)]);
        assert!(ewma.cost(0, at(200), DECAY) < 0.001);
    }
}
