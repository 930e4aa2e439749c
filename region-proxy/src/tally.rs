//! What threads count of requests, for those who tell of it: nothing here is waited for, locked or shared on the path.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use shared::moment::Moment;

use crate::http1::Reason;
use crate::relay::record::Cause;

mod pages;
mod recent;

pub use recent::Lately;

use pages::Pages;
use recent::{Recent, Sample};

/// Statuses by their first digit; 0 stands for none.
pub const CLASSES: usize = 6;

/// The upper ends of the buckets of times, in milliseconds; one without end follows.
///
/// The clock of the request path counts in steps of about 4 ms: finer buckets would say what nobody knows.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Causes that are counted apart, in the order of [`Cause::ALL`].
pub const CAUSES: usize = Cause::ALL.len();

/// Times by bucket, with their sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// How many fell into each.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub sum: Duration,
}

/// What is counted of a server's requests.
#[derive(Debug)]
pub struct ServerTally {
    pages: Pages<{ server::COUNT }>,
    last_failure: Mutex<Option<(Timestamp, String)>>,
    recent: Mutex<Recent>,
}

/// What a server's requests were so far.
#[derive(Clone, Debug)]
pub struct ServerCounts {
    /// Responses by class.
    pub responses: [u64; CLASSES],
    /// Attempts that failed, by cause.
    pub failures: [u64; CAUSES],
    /// Until the head of the response.
    pub head: Histogram,
    /// Until the end of the response.
    pub total: Histogram,
    /// Octets sent to it.
    pub octets_up: u64,
    /// Octets of its responses that clients got.
    pub octets_down: u64,
    /// Attempts that it has in hand.
    pub in_flight: u64,
    /// Connections made to it.
    pub opened: u64,
    /// Requests over connections that were there already.
    pub reused: u64,
    /// Failures that another attempt followed.
    pub retries: u64,
    /// Connections that wait for a request, as of the last second.
    pub idle: u64,
}

/// What is counted of a service's requests, those that no server got among them.
#[derive(Debug)]
pub struct ServiceTally(Pages<{ service::COUNT }>);

/// What a service's requests were so far.
#[derive(Clone, Debug)]
pub struct ServiceCounts {
    /// Answers by class.
    pub responses: [u64; CLASSES],
    /// Requests that failed in the end, by cause.
    pub failures: [u64; CAUSES],
    /// Waiting in the queue, of those that had to.
    pub queue: Histogram,
    /// Those that wait now.
    pub queued: u64,
    /// Those that another server got than the one before.
    pub redispatched: u64,
}

/// What is counted of clients, and of their requests that are of no service.
#[derive(Debug)]
pub struct OwnTally {
    pages: Pages<{ own::COUNT }>,
    reasons: [OnceLock<String>; REASONS],
}

/// What clients were so far.
#[derive(Clone, Debug)]
pub struct OwnCounts {
    /// Answers of the proxy itself by class.
    pub responses: [u64; CLASSES],
    /// Requests that failed, by cause.
    pub failures: [u64; CAUSES],
    /// Requests that were refused for what they say.
    pub refusals: Vec<(String, u64)>,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Those that are open.
    pub open: u64,
    /// Those that were closed at once: not from where a PROXY header may come.
    pub turned_away: u64,
    /// Those that were closed at once: their client had as many as it may.
    pub crowded: u64,
    /// Those that had to wait for a place.
    pub waited: u64,
}

impl ServerTally {
    /// Of a server that so many threads use.
    pub fn new(threads: usize) -> Self {
        Self { pages: Pages::new(threads), last_failure: Mutex::default(), recent: Mutex::default() }
    }

    /// It gets a request.
    pub fn begin(&self, thread: usize) {
        self.pages.add(thread, server::BEGUN, 1);
    }

    /// A request leaves it.
    pub fn end(&self, thread: usize) {
        self.pages.add(thread, server::ENDED, 1);
    }

    /// A request has a connection to it.
    pub fn connect(&self, thread: usize, is_reused: bool) {
        self.pages.add(thread, if is_reused { server::REUSED } else { server::OPENED }, 1);
    }

    /// It failed a request.
    pub fn fail(&self, thread: usize, cause: Cause) {
        self.pages.add(thread, server::CAUSE + cause as usize, 1);
    }

    /// Another attempt follows.
    pub fn retry(&self, thread: usize) {
        self.pages.add(thread, server::RETRIES, 1);
    }

    /// A request that it had was answered: the time until the head, where that came, and until now.
    pub fn answer(&self, thread: usize, status: u16, head: Option<Duration>, total: Duration) {
        self.pages.add(thread, class(status), 1);
        if let Some(head) = head {
            observe(&self.pages, thread, server::HEAD, head);
        }
        observe(&self.pages, thread, server::TOTAL, total);
    }

    /// So many octets passed.
    pub fn pass(&self, thread: usize, up: u64, down: u64) {
        self.pages.add(thread, server::UP, up);
        self.pages.add(thread, server::DOWN, down);
    }

    /// So many connections wait for a request.
    pub fn set_idle(&self, thread: usize, idle: usize) {
        self.pages.set(thread, server::IDLE, idle as u64);
    }

    /// Why it failed, for people: to be called seldom, it takes a lock.
    pub fn note_failure(&self, now: Timestamp, text: String) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, text));
    }

    /// When and why it last failed, of the failures that were noted.
    pub fn last_failure(&self) -> Option<(Timestamp, String)> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a sample, for [`Self::recent`]: to be called about once a second.
    pub fn sample(&self, now: Moment) {
        let sample = Sample::of(self);
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).add(now, sample);
    }

    /// What it was like in the last minute.
    pub fn recent(&self) -> Lately {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).lately()
    }

    /// The requests that it has in hand.
    pub fn in_flight(&self) -> u64 {
        self.pages.open(server::BEGUN, server::ENDED)
    }

    /// All that it ever got.
    fn begun(&self) -> u64 {
        self.pages.sum(server::BEGUN)
    }

    /// All of it.
    pub fn read(&self) -> ServerCounts {
        let pages = &self.pages;
        ServerCounts {
            responses: several(pages, 0),
            failures: several(pages, server::CAUSE),
            head: histogram(pages, server::HEAD),
            total: histogram(pages, server::TOTAL),
            octets_up: pages.sum(server::UP),
            octets_down: pages.sum(server::DOWN),
            in_flight: self.in_flight(),
            opened: pages.sum(server::OPENED),
            reused: pages.sum(server::REUSED),
            retries: pages.sum(server::RETRIES),
            idle: pages.sum(server::IDLE),
        }
    }
}

impl ServiceTally {
    /// Of a service that so many threads serve.
    pub fn new(threads: usize) -> Self {
        Self(Pages::new(threads))
    }

    /// A request begins to wait for a server.
    pub fn join(&self, thread: usize) {
        self.0.add(thread, service::JOINED, 1);
    }

    /// It waits no longer, and did so for `span`.
    pub fn leave(&self, thread: usize, span: Duration) {
        self.0.add(thread, service::LEFT, 1);
        observe(&self.0, thread, service::QUEUE, span);
    }

    /// A request has ended.
    pub fn answer(&self, thread: usize, status: u16, cause: Option<Cause>, is_redispatched: bool) {
        self.0.add(thread, class(status), 1);
        if let Some(cause) = cause {
            self.0.add(thread, service::CAUSE + cause as usize, 1);
        }
        if is_redispatched {
            self.0.add(thread, service::REDISPATCHED, 1);
        }
    }

    /// The requests that wait.
    pub fn queued(&self) -> u64 {
        self.0.open(service::JOINED, service::LEFT)
    }

    /// All of it.
    pub fn read(&self) -> ServiceCounts {
        ServiceCounts {
            responses: several(&self.0, 0),
            failures: several(&self.0, service::CAUSE),
            queue: histogram(&self.0, service::QUEUE),
            queued: self.queued(),
            redispatched: self.0.sum(service::REDISPATCHED),
        }
    }
}

impl OwnTally {
    /// Of a proxy with so many threads.
    pub fn new(threads: usize) -> Self {
        Self { pages: Pages::new(threads), reasons: [const { OnceLock::new() }; REASONS] }
    }

    /// A client has connected.
    pub fn accept(&self, thread: usize) {
        self.pages.add(thread, own::ACCEPTED, 1);
    }

    /// Its connection is closed.
    pub fn close(&self, thread: usize) {
        self.pages.add(thread, own::CLOSED, 1);
    }

    /// One is not let in.
    pub fn turn_away(&self, thread: usize) {
        self.pages.add(thread, own::TURNED_AWAY, 1);
    }

    /// One is not let in, as its client has as many as it may.
    pub fn crowd(&self, thread: usize) {
        self.pages.add(thread, own::CROWDED, 1);
    }

    /// One has to wait for a place.
    pub fn wait(&self, thread: usize) {
        self.pages.add(thread, own::WAITED, 1);
    }

    /// A request was answered that is of no service.
    pub fn answer(&self, thread: usize, status: u16, cause: Option<Cause>, reason: Option<Reason>) {
        self.pages.add(thread, class(status), 1);
        if let Some(cause) = cause {
            self.pages.add(thread, own::CAUSE + cause as usize, 1);
        }
        if let Some(reason) = reason {
            let index = (reason as usize).min(REASONS - 1);
            self.reasons[index].get_or_init(|| snake(&format!("{reason:?}")));
            self.pages.add(thread, own::REASON + index, 1);
        }
    }

    /// The connections of clients that are open.
    pub fn open(&self) -> u64 {
        self.pages.open(own::ACCEPTED, own::CLOSED)
    }

    /// All of it.
    pub fn read(&self) -> OwnCounts {
        let refusals = self.reasons.iter().enumerate();
        let refusals =
            refusals.filter_map(|(index, name)| Some((name.get()?.clone(), self.pages.sum(own::REASON + index))));
        OwnCounts {
            responses: several(&self.pages, 0),
            failures: several(&self.pages, own::CAUSE),
            refusals: refusals.collect(),
            accepted: self.pages.sum(own::ACCEPTED),
            open: self.open(),
            turned_away: self.pages.sum(own::TURNED_AWAY),
            crowded: self.pages.sum(own::CROWDED),
            waited: self.pages.sum(own::WAITED),
        }
    }
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end of the bucket that the `share`, of 1, of them are in or below; `None` where there are none, or where
    /// that has no end.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted.max(1)
        });
        BOUNDS_MS.get(at?).copied().map(Duration::from_millis)
    }

    /// The mean; `None` where there are none.
    pub fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        self.sum.checked_div(count)
    }
}

fn observe<const N: usize>(pages: &Pages<N>, thread: usize, at: usize, span: Duration) {
    pages.add(thread, at + bucket(span), 1);
    pages.add(thread, at + BUCKETS, millis(span));
}

fn histogram<const N: usize>(pages: &Pages<N>, at: usize) -> Histogram {
    Histogram { buckets: several(pages, at), sum: Duration::from_millis(pages.sum(at + BUCKETS)) }
}

fn several<const N: usize, const M: usize>(pages: &Pages<N>, at: usize) -> [u64; M] {
    std::array::from_fn(|index| pages.sum(at + index))
}

/// The index of the class of `status`.
fn class(status: u16) -> usize {
    let class = usize::from(status / 100);
    if class < CLASSES { class } else { 0 }
}

/// The index of the bucket of `span`.
fn bucket(span: Duration) -> usize {
    BOUNDS_MS.iter().position(|bound| millis(span) <= *bound).unwrap_or(BOUNDS_MS.len())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `LengthAndCoding` as `length_and_coding`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

/// A histogram and the sum of its times.
const TIMES: usize = BUCKETS + 1;

/// More than there are reasons to refuse a request.
const REASONS: usize = 64;

mod server {
    use super::{CAUSES, CLASSES, TIMES};

    pub(super) const CAUSE: usize = CLASSES;
    pub(super) const HEAD: usize = CAUSE + CAUSES;
    pub(super) const TOTAL: usize = HEAD + TIMES;
    pub(super) const UP: usize = TOTAL + TIMES;
    pub(super) const DOWN: usize = UP + 1;
    pub(super) const BEGUN: usize = DOWN + 1;
    pub(super) const ENDED: usize = BEGUN + 1;
    pub(super) const OPENED: usize = ENDED + 1;
    pub(super) const REUSED: usize = OPENED + 1;
    pub(super) const RETRIES: usize = REUSED + 1;
    pub(super) const IDLE: usize = RETRIES + 1;
    pub(super) const COUNT: usize = IDLE + 1;
}

mod service {
    use super::{CAUSES, CLASSES, TIMES};

    pub(super) const CAUSE: usize = CLASSES;
    pub(super) const QUEUE: usize = CAUSE + CAUSES;
    pub(super) const JOINED: usize = QUEUE + TIMES;
    pub(super) const LEFT: usize = JOINED + 1;
    pub(super) const REDISPATCHED: usize = LEFT + 1;
    pub(super) const COUNT: usize = REDISPATCHED + 1;
}

mod own {
    use super::{CAUSES, CLASSES, REASONS};

    pub(super) const CAUSE: usize = CLASSES;
    pub(super) const REASON: usize = CAUSE + CAUSES;
    pub(super) const ACCEPTED: usize = REASON + REASONS;
    pub(super) const CLOSED: usize = ACCEPTED + 1;
    pub(super) const TURNED_AWAY: usize = CLOSED + 1;
    pub(super) const WAITED: usize = TURNED_AWAY + 1;
    pub(super) const CROWDED: usize = WAITED + 1;
    pub(super) const COUNT: usize = CROWDED + 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_fits_into() {
        let at = |ms| bucket(Duration::from_millis(ms));
        assert_eq!([at(0), at(5), at(6), at(10_000), at(10_001)], [0, 0, 1, 10, 11]);
    }

    #[test]
    fn a_status_that_is_none_has_a_class_too() {
        assert_eq!([class(0), class(101), class(204), class(599), class(999)], [0, 1, 2, 5, 0]);
    }

    #[test]
    fn a_refusal_is_counted_by_its_reason() {
        let tally = OwnTally::new(2);
        tally.answer(1, 400, Some(Cause::Refused), Some(Reason::LengthAndCoding));
        let counts = tally.read();
        assert_eq!(counts.refusals, [("length_and_coding".to_owned(), 1)]);
        assert_eq!((counts.responses[4], counts.failures[Cause::Refused as usize]), (1, 1));
    }

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let tally = ServerTally::new(1);
        assert_eq!(tally.read().total.quantile(0.5), None);
        for ms in [1, 2, 30, 400] {
            tally.answer(0, 200, None, Duration::from_millis(ms));
        }
        let total = tally.read().total;
        let ends = [0.5, 0.75, 1.0].map(|share| total.quantile(share).map(|end| end.as_millis()));
        assert_eq!((ends, total.count(), total.sum.as_millis()), ([Some(5), Some(50), Some(500)], 4, 433));
    }
}
