//! What is counted of one server.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use shared::moment::Moment;

use super::pages::Pages;
use super::recent::{Lately, Recent, Sample};
use super::{CAUSES, CLASSES, Histogram, TIMES, class, histogram, observe, several};
use crate::relay::record::Cause;

/// What is counted of a server's requests.
#[derive(Debug)]
pub struct ServerTally {
    pages: Pages<{ COUNT }>,
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

impl ServerTally {
    /// Of a server that so many threads use.
    pub fn new(threads: usize) -> Self {
        Self { pages: Pages::new(threads), last_failure: Mutex::default(), recent: Mutex::default() }
    }

    /// It gets a request.
    pub fn begin(&self, thread: usize) {
        self.pages.add(thread, BEGUN, 1);
    }

    /// A request leaves it.
    pub fn end(&self, thread: usize) {
        self.pages.add(thread, ENDED, 1);
    }

    /// A request has a connection to it.
    pub fn connect(&self, thread: usize, is_reused: bool) {
        self.pages.add(thread, if is_reused { REUSED } else { OPENED }, 1);
    }

    /// It failed a request.
    pub fn fail(&self, thread: usize, cause: Cause) {
        self.pages.add(thread, CAUSE + cause as usize, 1);
    }

    /// Another attempt follows.
    pub fn retry(&self, thread: usize) {
        self.pages.add(thread, RETRIES, 1);
    }

    /// A request that it had was answered: the time until the head, where that came, and until now.
    pub fn answer(&self, thread: usize, status: u16, head: Option<Duration>, total: Duration) {
        self.pages.add(thread, class(status), 1);
        if let Some(head) = head {
            observe(&self.pages, thread, HEAD, head);
        }
        observe(&self.pages, thread, TOTAL, total);
    }

    /// So many octets passed.
    pub fn pass(&self, thread: usize, up: u64, down: u64) {
        self.pages.add(thread, UP, up);
        self.pages.add(thread, DOWN, down);
    }

    /// So many connections wait for a request.
    pub fn set_idle(&self, thread: usize, idle: usize) {
        self.pages.set(thread, IDLE, idle as u64);
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
        self.pages.open(BEGUN, ENDED)
    }

    /// All that it ever got.
    pub(super) fn begun(&self) -> u64 {
        self.pages.sum(BEGUN)
    }

    /// All of it.
    pub fn read(&self) -> ServerCounts {
        let pages = &self.pages;
        ServerCounts {
            responses: several(pages, 0),
            failures: several(pages, CAUSE),
            head: histogram(pages, HEAD),
            total: histogram(pages, TOTAL),
            octets_up: pages.sum(UP),
            octets_down: pages.sum(DOWN),
            in_flight: self.in_flight(),
            opened: pages.sum(OPENED),
            reused: pages.sum(REUSED),
            retries: pages.sum(RETRIES),
            idle: pages.sum(IDLE),
        }
    }
}

/// Where each counter stands; classes come first.
const CAUSE: usize = CLASSES;
const HEAD: usize = CAUSE + CAUSES;
const TOTAL: usize = HEAD + TIMES;
const UP: usize = TOTAL + TIMES;
const DOWN: usize = UP + 1;
const BEGUN: usize = DOWN + 1;
const ENDED: usize = BEGUN + 1;
const OPENED: usize = ENDED + 1;
const REUSED: usize = OPENED + 1;
const RETRIES: usize = REUSED + 1;
const IDLE: usize = RETRIES + 1;
const COUNT: usize = IDLE + 1;

#[cfg(test)]
mod tests {
    use super::*;

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
