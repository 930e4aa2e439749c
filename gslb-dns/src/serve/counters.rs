//! Counting what was answered: a set of counters for each thread, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared::name::RegionName;
use shared::topology::Topology;

use super::refusals::Refusals;
use crate::answer::{Decided, Outcome, Transport};
use crate::cookie::Standing;
use crate::wire::{DropReason, Rcode};

/// Rcodes that are counted apart; the highest that the engine sends is BADCOOKIE (23).
pub(crate) const RCODES: usize = 24;
const TRANSPORTS: usize = Transport::ALL.len();
/// Regions that are counted apart over the life of a process; those beyond share the last slot.
const REGIONS_MAX: usize = 1024;

/// What one thread has counted. Its own cache lines, so that threads do not slow each other down.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Counters {
    transport: Transport,
    queries: AtomicU64,
    truncated: AtomicU64,
    rcodes: [AtomicU64; RCODES],
    dropped: [AtomicU64; DROPS.len()],
    limited: [AtomicU64; 2],
    cookies: [AtomicU64; COOKIES.len()],
    last_resort: AtomicU64,
    panics: AtomicU64,
    regions: Box<[AtomicU64]>,
}

/// Why a query got no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Drop {
    /// The engine gives none.
    Engine(DropReason),
    /// It was longer than any query is.
    TooLong,
    /// The kernel did not take the answer.
    NotSent,
    /// Too many wait to be answered beside the line of queries.
    Busy,
}

/// The sum over all threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Queries by transport.
    pub(crate) queries: [u64; TRANSPORTS],
    /// Answers cut to fit a datagram.
    pub(crate) truncated: u64,
    /// Answers by transport and rcode.
    pub(crate) rcodes: [[u64; RCODES]; TRANSPORTS],
    /// Queries without an answer, by reason.
    pub(crate) dropped: Vec<(&'static str, u64)>,
    /// What was answered with less than the records, or not at all, because a network had had its share.
    pub(crate) limited: Limited,
    /// Queries with a cookie, by what it showed.
    pub(crate) cookies: [(&'static str, u64); COOKIES.len()],
    /// Answers given though no region was admitted.
    pub(crate) last_resort: u64,
    /// Times that a query broke the engine; 0 unless there is a bug.
    pub(crate) panics: u64,
    /// Answers by region.
    pub(crate) regions: Vec<(RegionName, u64)>,
    /// Answers given beside the line of queries, by kind and rcode: of these some.
    pub(crate) slow: Vec<(&'static str, usize, u64)>,
    /// Messages refused for who sent them, or for what would come of them, by reason.
    pub(crate) refused: Vec<(&'static str, u64)>,
}

/// Limited answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limited {
    /// Sent truncated.
    pub(crate) truncated: u64,
    /// Sent as BADCOOKIE.
    pub(crate) bad_cookie: u64,
    /// Not sent.
    pub(crate) dropped: u64,
}

/// What was answered beside the line of queries, by all threads: rare enough for counters that they share.
#[derive(Debug, Default)]
pub(crate) struct SlowCounters {
    answers: [[AtomicU64; RCODES]; SLOW_KINDS.len()],
    by_transport: [[AtomicU64; RCODES]; TRANSPORTS],
    /// What of it was refused for who sent it, or for what would come of it.
    pub(super) refusals: Refusals,
}

/// What is answered beside the line of queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SlowKind {
    /// A query that is signed by a key.
    Query,
    /// A whole zone (RFC 5936).
    Axfr,
    /// What has changed in a zone (RFC 1995).
    Ixfr,
    /// An update (RFC 2136).
    Update,
    /// A notification that a zone has changed (RFC 1996).
    Notify,
}

/// All counters of a process, and which region is counted where.
#[derive(Debug, Default)]
pub(crate) struct CounterBook {
    counters: Mutex<Vec<Arc<Counters>>>,
    slots: Mutex<Vec<RegionName>>,
    slow: Arc<SlowCounters>,
}

/// Where each region of one topology is counted, at its [`shared::topology::RegionId`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RegionSlots(Vec<u16>);

impl Counters {
    fn new(transport: Transport) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            transport,
            queries: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            rcodes: [const { AtomicU64::new(0) }; RCODES],
            dropped: [const { AtomicU64::new(0) }; DROPS.len()],
            limited: [const { AtomicU64::new(0) }; 2],
            cookies: [const { AtomicU64::new(0) }; COOKIES.len()],
            last_resort: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            regions: zeros(REGIONS_MAX),
        }
    }

    /// Counts what the engine made of one query; gives the length of the answer, if there is one.
    pub(crate) fn count(&self, outcome: &Outcome, slots: &RegionSlots) -> Option<usize> {
        self.add(&self.queries);
        match *outcome {
            Outcome::Dropped(reason) => {
                self.add(&self.dropped[Drop::Engine(reason).position()]);
                None
            }
            // Its answer is counted when it is there.
            Outcome::Slow => None,
            Outcome::Sent { len, rcode, is_truncated, steered, cookie, is_limited, .. } => {
                self.add(&self.rcodes[usize::from(rcode.as_u16()).min(RCODES - 1)]);
                if is_limited {
                    self.add(&self.limited[usize::from(rcode == Rcode::BADCOOKIE)]);
                } else if is_truncated {
                    self.add(&self.truncated);
                }
                if let Some(at) = position_of(cookie) {
                    self.add(&self.cookies[at]);
                }
                if let Some(decided) = steered {
                    self.count_decided(&decided, slots);
                }
                Some(len)
            }
        }
    }

    fn count_decided(&self, decided: &Decided, slots: &RegionSlots) {
        if let Some(slot) = decided.region.and_then(|region| slots.0.get(usize::from(region.0))) {
            self.add(&self.regions[usize::from(*slot)]);
        }
        if decided.is_last_resort {
            self.add(&self.last_resort);
        }
    }

    /// Counts a query that is answered beside the line of queries: its answer is counted in [`SlowCounters`].
    pub(crate) fn count_set_aside(&self) {
        self.add(&self.queries);
    }

    /// Counts that one which was set aside is not answered after all.
    pub(crate) fn count_busy(&self) {
        self.add(&self.dropped[Drop::Busy.position()]);
    }

    /// Counts a query that never came to the engine.
    pub(crate) fn count_unread(&self, why: Drop) {
        self.add(&self.queries);
        self.add(&self.dropped[why.position()]);
    }

    /// Counts `count` answers that the kernel did not take.
    pub(crate) fn count_not_sent(&self, count: usize) {
        (0..count).for_each(|_| self.add(&self.dropped[Drop::NotSent.position()]));
    }

    /// Counts a query that broke the engine.
    pub(crate) fn count_panic(&self) {
        self.add(&self.panics);
    }

    /// One thread writes, so that no locked instruction is needed.
    fn add(&self, counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Drop {
    fn position(self) -> usize {
        match self {
            Self::Engine(DropReason::Short) => 0,
            Self::Engine(DropReason::Response) => 1,
            Self::Engine(DropReason::NoRoom) => 2,
            Self::Engine(DropReason::Limited) => LIMITED,
            Self::TooLong => 4,
            Self::NotSent => 5,
            Self::Busy => 6,
        }
    }
}

/// Where a cookie is counted; `None`: there is none.
fn position_of(cookie: Standing) -> Option<usize> {
    match cookie {
        Standing::Absent => None,
        Standing::New => Some(0),
        Standing::Valid => Some(1),
        Standing::Bad => Some(2),
    }
}

/// The words for drops in metrics, at their positions.
const DROPS: [&str; 7] = ["short", "response", "no-room", "limited", "too-long", "not-sent", "busy"];
/// The position of what is limited.
const LIMITED: usize = 3;
/// The words for kinds of slow answers in metrics, at their positions.
const SLOW_KINDS: [&str; 5] = ["query", "axfr", "ixfr", "update", "notify"];
/// The words for cookies in metrics, at their positions.
const COOKIES: [&str; 3] = ["new", "valid", "bad"];

impl SlowCounters {
    /// Counts an answer; a transfer of many messages is one.
    pub(crate) fn count(&self, transport: Transport, kind: SlowKind, rcode: Rcode) {
        let code = usize::from(rcode.as_u16()).min(RCODES - 1);
        self.answers[kind as usize][code].fetch_add(1, Ordering::Relaxed);
        self.by_transport[transport as usize][code].fetch_add(1, Ordering::Relaxed);
    }

    /// The sums by kind and rcode, without those that are 0.
    fn sums(&self) -> Vec<(&'static str, usize, u64)> {
        let kinds = SLOW_KINDS.into_iter().zip(&self.answers);
        let sums = kinds.flat_map(|(kind, codes)| {
            codes.iter().enumerate().map(move |(code, sum)| (kind, code, sum.load(Ordering::Relaxed)))
        });
        sums.filter(|(.., sum)| *sum > 0).collect()
    }
}

impl CounterBook {
    /// Where answers are counted that are given beside the line of queries.
    pub(crate) fn slow(&self) -> Arc<SlowCounters> {
        Arc::clone(&self.slow)
    }

    /// A new set, for one thread.
    pub(crate) fn counters(&self, transport: Transport) -> Arc<Counters> {
        let counters = Arc::new(Counters::new(transport));
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counters));
        counters
    }

    /// Where the regions of `topology` are counted: each goes on where it was before.
    pub(crate) fn region_slots(&self, topology: &Topology) -> RegionSlots {
        let mut names = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = |name: &RegionName| match names.iter().position(|known| known == name) {
            Some(slot) => slot,
            None if names.len() < REGIONS_MAX => {
                names.push(name.clone());
                names.len() - 1
            }
            None => REGIONS_MAX - 1,
        };
        RegionSlots(topology.regions.iter().map(|region| slot(&region.name) as u16).collect())
    }

    /// The sums at this moment.
    pub(crate) fn totals(&self) -> Totals {
        let names = self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut totals = Totals {
            dropped: DROPS.iter().map(|name| (*name, 0)).collect(),
            cookies: COOKIES.map(|name| (name, 0)),
            regions: names.into_iter().map(|name| (name, 0)).collect(),
            ..Totals::default()
        };
        for counters in self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            totals.add(counters);
        }
        for (sums, slow) in totals.rcodes.iter_mut().zip(&self.slow.by_transport) {
            sums.iter_mut().zip(slow).for_each(|(sum, counter)| *sum += counter.load(Ordering::Relaxed));
        }
        totals.slow = self.slow.sums();
        totals.refused = self.slow.refusals.sums();
        totals
    }

    /// What is limited so far.
    pub(crate) fn limited(&self) -> Limited {
        let mut limited = Limited::default();
        for counters in self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            limited.add(counters);
        }
        limited
    }
}

impl Limited {
    /// All of them.
    pub(crate) fn sum(self) -> u64 {
        self.truncated + self.bad_cookie + self.dropped
    }

    fn add(&mut self, counters: &Counters) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.truncated += read(&counters.limited[0]);
        self.bad_cookie += read(&counters.limited[1]);
        self.dropped += read(&counters.dropped[LIMITED]);
    }
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let transport = counters.transport as usize;
        self.queries[transport] += read(&counters.queries);
        self.truncated += read(&counters.truncated);
        self.limited.add(counters);
        self.cookies.iter_mut().zip(&counters.cookies).for_each(|((_, sum), counter)| *sum += read(counter));
        self.last_resort += read(&counters.last_resort);
        self.panics += read(&counters.panics);
        self.rcodes[transport].iter_mut().zip(&counters.rcodes).for_each(|(sum, counter)| *sum += read(counter));
        self.dropped.iter_mut().zip(&counters.dropped).for_each(|((_, sum), counter)| *sum += read(counter));
        self.regions.iter_mut().zip(&counters.regions).for_each(|((_, sum), counter)| *sum += read(counter));
    }
}

#[cfg(test)]
mod tests {
    use shared::topology::{Region, RegionId};

    use super::*;
    use crate::wire::{Rcode, Rtype};

    fn topology(names: &[&str]) -> Topology {
        let region = |name: &&str| Region {
            name: RegionName::parse(name).expect("a name"),
            coordinates: None,
            bias_km: 0,
            vips: Vec::new(),
            min_proxies: 1,
            proxies: Vec::new(),
        };
        Topology { regions: names.iter().map(region).collect(), ..Topology::default() }
    }

    fn sent(region: u16) -> Outcome {
        let service = shared::topology::ServiceId(0);
        let steered = Some(Decided { service, region: Some(RegionId(region)), is_last_resort: false });
        let (qtype, cookie) = (Rtype::A, Standing::Absent);
        Outcome::Sent { len: 40, rcode: Rcode::NOERROR, qtype, is_truncated: false, steered, cookie, is_limited: false }
    }

    #[test]
    fn region_is_counted_under_its_name_over_reloads() {
        let book = CounterBook::default();
        let counters = [0; 2].map(|_| book.counters(Transport::Udp));
        let before = book.region_slots(&topology(&["seoul", "virginia"]));
        assert_eq!(counters[0].count(&sent(1), &before), Some(40));
        let after = book.region_slots(&topology(&["busan", "seoul", "virginia"]));
        counters[1].count(&sent(2), &after);
        counters[1].count(&sent(0), &after);
        let totals = book.totals();
        let count =
            |name: &str| totals.regions.iter().find(|(region, _)| region.as_str() == name).map(|(_, count)| *count);
        assert_eq!((count("seoul"), count("virginia"), count("busan")), (Some(0), Some(2), Some(1)));
        assert_eq!((totals.queries, totals.rcodes[0][0]), ([3, 0, 0, 0, 0], 3));
    }

    #[test]
    fn limited_answers_and_cookies_are_counted_by_kind() {
        let book = CounterBook::default();
        let counters = book.counters(Transport::Udp);
        for (rcode, cookie, is_limited) in [
            (Rcode::NOERROR, Standing::Absent, true),
            (Rcode::BADCOOKIE, Standing::New, true),
            (Rcode::BADCOOKIE, Standing::Bad, true),
            (Rcode::NOERROR, Standing::Valid, false),
        ] {
            let (qtype, is_truncated) = (Rtype::A, rcode == Rcode::NOERROR);
            let outcome = Outcome::Sent { len: 40, rcode, qtype, is_truncated, steered: None, cookie, is_limited };
            counters.count(&outcome, &RegionSlots::default());
        }
        counters.count(&Outcome::Dropped(DropReason::Limited), &RegionSlots::default());
        let totals = book.totals();
        assert_eq!(totals.limited, Limited { truncated: 1, bad_cookie: 2, dropped: 1 });
        assert_eq!((book.limited(), book.limited().sum()), (totals.limited, 4));
        assert_eq!(totals.cookies, [("new", 1), ("valid", 1), ("bad", 1)]);
        assert_eq!((totals.truncated, totals.rcodes[0][23]), (1, 2), "cut to fit is another matter");
    }

    #[test]
    fn every_drop_has_its_own_word() {
        let book = CounterBook::default();
        let counters = book.counters(Transport::Tcp);
        let engine = [DropReason::Short, DropReason::Response, DropReason::NoRoom, DropReason::Limited];
        for reason in engine {
            assert_eq!(counters.count(&Outcome::Dropped(reason), &RegionSlots::default()), None);
            let at = Drop::Engine(reason).position();
            assert_eq!(DROPS[at], reason.as_str());
        }
        counters.count_unread(Drop::TooLong);
        counters.count_not_sent(2);
        let totals = book.totals();
        assert_eq!(totals.dropped.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 2, 0]);
        assert_eq!(totals.queries, [0, 5, 0, 0, 0]);
    }
}
