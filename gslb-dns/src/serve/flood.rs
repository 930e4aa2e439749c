//! Telling the log when answers begin to be limited, and when that is over.

use std::sync::Arc;
use std::time::Duration;

use shared::moment::Moment;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::clock::Clock;
use super::counters::CounterBook;
use crate::limit::Limiter;

/// What is known of a flood.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// Answers limited so far.
    limited: u64,
    flood: Option<Flood>,
}

#[derive(Clone, Copy, Debug)]
struct Flood {
    /// Answers limited before it.
    limited_before: u64,
    since: Moment,
    last: Moment,
}

/// What the log should say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Began,
    Ended { limited: u64, lasted: Duration },
}

impl Watch {
    /// Takes note that `limited` answers have been limited by `now`. A flood begins with the first and ends when there
    /// was none for [`QUIET`], so that it does not begin more often than that.
    fn look(&mut self, limited: u64, now: Moment) -> Option<Line> {
        let limited_before = std::mem::replace(&mut self.limited, limited);
        match &mut self.flood {
            None if limited > limited_before => {
                self.flood = Some(Flood { limited_before, since: now, last: now });
                Some(Line::Began)
            }
            Some(flood) if limited > limited_before => {
                flood.last = now;
                None
            }
            Some(flood) if now.since(flood.last) >= QUIET => {
                let line =
                    Line::Ended { limited: limited - flood.limited_before, lasted: flood.last.since(flood.since) };
                self.flood = None;
                Some(line)
            }
            _ => None,
        }
    }
}

/// Looks at the counters of what `limiter` limits now and then, as long as the runtime lives.
pub(super) async fn watch(counters: Arc<CounterBook>, limiter: Arc<Limiter>) {
    let (clock, mut watch) = (Clock::start(), Watch::default());
    let mut looks = interval(LOOK_PAUSE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let line = watch.look(counters.limited().sum(), clock.now());
        // Taken at every look, so that it is of the last second.
        let network = limiter.take_limited().map(|network| network.to_string());
        match line {
            Some(Line::Began) => {
                warn!(network, "a network asks for more than server.rate_limit allows: its answers are limited");
            }
            Some(Line::Ended { limited, lasted }) => {
                info!(limited, lasted_secs = lasted.as_secs(), "no network is limited any more");
            }
            None => {}
        }
    }
}

const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// The log is told of a flood once a minute at most.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::from_start(Duration::from_secs(secs))
    }

    #[test]
    fn flood_is_told_when_it_begins_and_a_minute_after_its_last_answer() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(0, at(0)), None);
        assert_eq!(watch.look(5, at(1)), Some(Line::Began));
        for (limited, secs) in [(5, 2), (9, 3), (9, 50), (12, 61), (12, 120)] {
            assert_eq!(watch.look(limited, at(secs)), None, "{secs} s");
        }
        let ended = Line::Ended { limited: 12, lasted: Duration::from_secs(60) };
        assert_eq!(watch.look(12, at(121)), Some(ended));
        assert_eq!(watch.look(12, at(300)), None);
        assert_eq!(watch.look(13, at(301)), Some(Line::Began));
    }

    #[test]
    fn floods_that_come_and_go_are_told_once_a_minute_at_most() {
        let mut watch = Watch::default();
        let began = (0..3600).filter(|&secs| watch.look(secs / 30, at(secs)) == Some(Line::Began));
        assert_eq!(began.count(), 1);
    }
}
