//! Messages that are refused for who sent them, or for what would come of them: counted by reason, and told to the log,
//! which nobody can fill with them.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::moment::Moment;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::clock::Clock;
use super::counters::SlowCounters;
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
    /// An update that would leave a zone that cannot be served.
    InvalidUpdate,
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

/// Which lines there may be for one reason: one at once for each client, but of [`CLIENTS_MAX`] at most, and one for what
/// they sent later once [`PAUSE`] is over.
#[derive(Clone, Debug, Default)]
struct Quota {
    told: Vec<Told>,
    others: Option<Told>,
}

/// A client that has had a line.
#[derive(Clone, Copy, Debug)]
struct Told {
    client: IpAddr,
    since: Moment,
    /// What it sent since then.
    more: u64,
}

impl Reason {
    pub(crate) const ALL: [Self; 9] = [
        Self::BadKey,
        Self::BadSig,
        Self::BadTime,
        Self::BadTrunc,
        Self::BrokenTsig,
        Self::UnsignedUpdate,
        Self::ForbiddenUpdate,
        Self::InvalidUpdate,
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
            Self::InvalidUpdate => "update-invalid",
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
    /// Counts one, and writes a line where its client has had none for the reason for a while.
    pub(crate) fn note(&self, refused: &Refused<'_>) {
        let Refused { reason, client, zone, key, why } = refused;
        self.counts[*reason as usize].fetch_add(1, Ordering::Relaxed);
        if self.quotas()[*reason as usize].take(*client, self.clock.now()) {
            let reason = reason.as_str();
            let [zone, key] = [zone.as_ref(), *key].map(|name| name.map(ToString::to_string));
            warn!(reason, %client, zone, key, %why, "refused");
        }
    }

    /// Writes lines for what was left out, as long as the runtime lives.
    pub(crate) async fn tell(counters: Arc<SlowCounters>) {
        let mut looks = interval(LOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            counters.refusals.tell_what_was_left_out();
        }
    }

    fn tell_what_was_left_out(&self) {
        let now = self.clock.now();
        for reason in Reason::ALL {
            let (told, others) = self.quotas()[reason as usize].due(now);
            let reason = reason.as_str();
            for Told { client, more, .. } in told {
                warn!(reason, %client, more, "refused: so many more messages of this client, since the line about it");
            }
            if let Some(Told { client, more, .. }) = others {
                warn!(reason, %client, more, "refused: so many messages of clients without lines of their own, as this one");
            }
        }
    }

    fn quotas(&self) -> MutexGuard<'_, [Quota; Reason::ALL.len()]> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there were, by reason.
    pub(crate) fn sums(&self) -> Vec<(&'static str, u64)> {
        let sums = Reason::ALL.into_iter().zip(&self.counts);
        sums.map(|(reason, count)| (reason.as_str(), count.load(Ordering::Relaxed))).collect()
    }
}

impl Quota {
    /// Whether there may be a line about `client` at `now`; else it is kept in mind.
    fn take(&mut self, client: IpAddr, now: Moment) -> bool {
        if let Some(told) = self.told.iter_mut().find(|told| told.client == client) {
            told.more += 1;
            return false;
        }
        if self.told.len() < CLIENTS_MAX {
            self.told.push(Told { client, since: now, more: 0 });
            return true;
        }
        self.others.get_or_insert(Told { client, since: now, more: 0 }).more += 1;
        false
    }

    /// What was left out and is to be told at `now`; who sent nothing more is forgotten.
    fn due(&mut self, now: Moment) -> (Vec<Told>, Option<Told>) {
        let is_over = |told: &Told| now.since(told.since) >= PAUSE;
        let due: Vec<Told> = self.told.iter().filter(|told| is_over(told) && told.more > 0).copied().collect();
        self.told.retain(|told| !is_over(told) || told.more > 0);
        for told in self.told.iter_mut().filter(|told| is_over(told)) {
            (told.since, told.more) = (now, 0);
        }
        (due, self.others.take_if(|told| is_over(told)))
    }
}

/// From a line about a client to the next for the same reason.
const PAUSE: Duration = Duration::from_secs(10);
/// How many clients have lines of their own: more are not read.
const CLIENTS_MAX: usize = 8;
const LOOK_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn at(millis: u64) -> Moment {
        Moment::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn every_refusal_has_a_line_or_is_counted_in_a_later_one() {
        let mut quota = Quota::default();
        let (mut lines, mut more) = (Vec::new(), Vec::new());
        for millis in 0..60_000 {
            if millis < 25_000 && quota.take(client(1), at(millis)) {
                lines.push(millis);
            }
            more.extend(quota.due(at(millis)).0.iter().map(|told| (millis, told.more)));
        }
        assert_eq!((lines, more), (vec![0], vec![(10_000, 10_000), (20_000, 10_000), (30_000, 4999)]));
        assert!(quota.told.is_empty() && quota.take(client(1), at(60_000)), "after a rest it is told at once");
    }

    #[test]
    fn noisy_client_hides_no_other() {
        let mut quota = Quota::default();
        let lines = (0..5000).filter(|&millis| quota.take(client(1), at(millis))).count();
        assert_eq!((lines, quota.take(client(2), at(5000))), (1, true));
    }

    #[test]
    fn however_many_clients_there_are_few_lines_come_and_all_are_counted() {
        let mut quota = Quota::default();
        let lines = (0..=255).filter(|&last| quota.take(client(last), at(0))).count();
        let (told, others) = quota.due(at(10_000));
        assert_eq!((lines, told.len(), others.map(|others| others.more)), (CLIENTS_MAX, 0, Some(256 - 8)));
        assert!(quota.take(client(255), at(10_000)), "there is room again");
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
