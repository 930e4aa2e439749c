//! When the VIPs are announced after a takeover.

use std::time::Duration;

use shared::moment::Moment;

/// When the VIPs are announced again: caches that missed one, or believed another since, hear the next.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Announcements {
    /// When the next is due.
    pub(super) next: Option<Moment>,
    made: u8,
}

impl Announcements {
    /// One was made at `now`.
    pub(super) fn after(self, now: Moment) -> Self {
        let next = ANNOUNCEMENTS.get(usize::from(self.made)).map(|pause| now + *pause);
        Self { next, made: self.made.saturating_add(1) }
    }

    /// All are made again, the first at `now`.
    pub(super) fn anew(now: Moment) -> Self {
        Self { next: Some(now), made: 0 }
    }
}

/// The pauses between the announcements after a takeover.
const ANNOUNCEMENTS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
