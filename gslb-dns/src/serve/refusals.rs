//! Messages that are refused for who sent them: counted by reason, and told to the log, which nobody can fill with them.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::moment::Moment;
use tracing::warn;

use super::clock::Clock;
use crate::tsig::TsigError;
use crate::wire::Name;

/// Why a message was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// No such key, or for another algorithm (RFC 8945, section 5.2.1).
    BadKey,
    /// A wrong signature (RFC 8945, section 5.2.2).
    BadSig,
    /// The clocks are too far apart (RFC 8945, section 5.2.3).
    BadTime,
    /// A part of a signature (RFC 8945, section 5.2.4).
    BadTrunc,
    /// A TSIG record that is none.
    BrokenTsig,
    /// An update that nobody has signed.
    UnsignedUpdate,
    /// An update of what its key may not change (RFC 2136, section 3.3).
    ForbiddenUpdate,
    /// A transfer by who is no secondary (RFC 5936, section 5).
    Transfer,
}

/// A message that was refused.
pub(crate) struct Refused<'a> {
    pub(crate) reason: Reason,
    pub(crate) client: IpAddr,
    /// The zone that it is about, or the name that it asks for.
    pub(crate) zone: Option<Name>,
    /// The key that it names.
    pub(crate) key: Option<&'a Name>,
    /// In words.
    pub(crate) why: &'a dyn Display,
}

/// Counts what is refused, and tells the log.
#[derive(Debug)]
pub(crate) struct Refusals {
    counts: [AtomicU64; Reason::ALL.len()],
    quotas: Mutex<[Quota; Reason::ALL.len()]>,
    clock: Clock,
}

/// How many lines there may be: one a second.
#[derive(Clone, Copy, Debug, Default)]
struct Quota {
    last: Option<Moment>,
    /// Lines that were left out since then.
    unsaid: u64,
}

impl Reason {
    pub(crate) const ALL: [Self; 8] = [
        Self::BadKey,
        Self::BadSig,
        Self::BadTime,
        Self::BadTrunc,
        Self::BrokenTsig,
        Self::UnsignedUpdate,
        Self::ForbiddenUpdate,
        Self::Transfer,
    ];

    /// The word in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BadKey => "tsig-badkey",
            Self::BadSig => "tsig-badsig",
            Self::BadTime => "tsig-badtime",
            Self::BadTrunc => "tsig-badtrunc",
            Self::BrokenTsig => "tsig-broken",
            Self::UnsignedUpdate => "update-unsigned",
            Self::ForbiddenUpdate => "update-forbidden",
            Self::Transfer => "transfer",
        }
    }

    /// That of a signature that does not hold, and what is wrong with it.
    pub(crate) fn of_tsig(error: TsigError) -> (Self, &'static str) {
        match error {
            TsigError::BadKey => (Self::BadKey, "there is no such key, or it is for another algorithm"),
            TsigError::BadSig => (Self::BadSig, "the signature is wrong: another secret"),
            TsigError::BadTime => (Self::BadTime, "signed at another time: compare the clocks of both sides"),
            TsigError::BadTrunc => (Self::BadTrunc, "the signature is shortened"),
        }
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self { counts: Default::default(), quotas: Mutex::default(), clock: Clock::start() }
    }
}

impl Refusals {
    /// Counts one, and writes a line where the last of its reason was a second ago.
    pub(crate) fn note(&self, refused: &Refused<'_>) {
        let Refused { reason, client, zone, key, why } = refused;
        self.counts[*reason as usize].fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let unsaid = self.quotas.lock().unwrap_or_else(PoisonError::into_inner)[*reason as usize].take(now);
        if let Some(unsaid) = unsaid {
            let reason = reason.as_str();
            let [zone, key] = [zone.as_ref(), *key].map(|name| name.map(ToString::to_string));
            warn!(reason, %client, zone, key, %why, unsaid, "refused");
        }
    }

    /// How many there were, by reason.
    pub(crate) fn sums(&self) -> Vec<(&'static str, u64)> {
        let sums = Reason::ALL.into_iter().zip(&self.counts);
        sums.map(|(reason, count)| (reason.as_str(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Quota {
    /// Whether there may be a line at `now`, and how many were left out before it.
    fn take(&mut self, now: Moment) -> Option<u64> {
        if self.last.is_some_and(|last| now.since(last) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Whoever it is: no more than so many lines are read.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_gets_one_line_a_second_and_how_many_were_left_out() {
        let mut quota = Quota::default();
        let at = |millis| Moment::from_start(Duration::from_millis(millis));
        let lines: Vec<(u64, u64)> = (0..3000).filter_map(|millis| Some((millis, quota.take(at(millis))?))).collect();
        assert_eq!(lines, [(0, 0), (1000, 999), (2000, 999)]);
        assert_eq!((quota.take(at(9000)), quota.take(at(9000))), (Some(999), None));
    }

    #[test]
    fn every_reason_is_counted_by_its_own_word() {
        let refusals = Refusals::default();
        for (reason, times) in Reason::ALL.into_iter().zip(1..) {
            let client = IpAddr::from([192, 0, 2, 1]);
            let refused = Refused { reason, client, zone: None, key: None, why: &"so" };
            (0..times).for_each(|_| refusals.note(&refused));
        }
        let expected: Vec<_> = Reason::ALL.into_iter().map(Reason::as_str).zip(1..).collect();
        assert_eq!(refusals.sums(), expected);
    }
}
