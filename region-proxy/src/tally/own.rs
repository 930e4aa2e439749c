//! What is counted of the clients of a proxy.

use std::sync::OnceLock;

use super::pages::Pages;
use super::{CAUSES, CLASSES, class, several};
use crate::http1::Reason;
use crate::relay::record::Cause;

/// What is counted of clients, and of their requests that are of no service.
#[derive(Debug)]
pub struct OwnTally {
    pages: Pages<{ COUNT }>,
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

impl OwnTally {
    /// Of a proxy with so many threads.
    pub fn new(threads: usize) -> Self {
        Self { pages: Pages::new(threads), reasons: [const { OnceLock::new() }; REASONS] }
    }

    /// A client has connected.
    pub fn accept(&self, thread: usize) {
        self.pages.add(thread, ACCEPTED, 1);
    }

    /// Its connection is closed.
    pub fn close(&self, thread: usize) {
        self.pages.add(thread, CLOSED, 1);
    }

    /// One is not let in.
    pub fn turn_away(&self, thread: usize) {
        self.pages.add(thread, TURNED_AWAY, 1);
    }

    /// One is not let in, as its client has as many as it may.
    pub fn crowd(&self, thread: usize) {
        self.pages.add(thread, CROWDED, 1);
    }

    /// One has to wait for a place.
    pub fn wait(&self, thread: usize) {
        self.pages.add(thread, WAITED, 1);
    }

    /// A request was answered that is of no service.
    pub fn answer(&self, thread: usize, status: u16, cause: Option<Cause>, reason: Option<Reason>) {
        self.pages.add(thread, class(status), 1);
        if let Some(cause) = cause {
            self.pages.add(thread, CAUSE + cause as usize, 1);
        }
        if let Some(reason) = reason {
            let index = (reason as usize).min(REASONS - 1);
            self.reasons[index].get_or_init(|| snake(&format!("{reason:?}")));
            self.pages.add(thread, REASON + index, 1);
        }
    }

    /// The connections of clients that are open.
    pub fn open(&self) -> u64 {
        self.pages.open(ACCEPTED, CLOSED)
    }

    /// All of it.
    pub fn read(&self) -> OwnCounts {
        let refusals = self.reasons.iter().enumerate();
        let refusals = refusals.filter_map(|(index, name)| Some((name.get()?.clone(), self.pages.sum(REASON + index))));
        OwnCounts {
            responses: several(&self.pages, 0),
            failures: several(&self.pages, CAUSE),
            refusals: refusals.collect(),
            accepted: self.pages.sum(ACCEPTED),
            open: self.open(),
            turned_away: self.pages.sum(TURNED_AWAY),
            crowded: self.pages.sum(CROWDED),
            waited: self.pages.sum(WAITED),
        }
    }
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

/// Where each counter stands; classes come first.
const CAUSE: usize = CLASSES;
const REASON: usize = CAUSE + CAUSES;
const ACCEPTED: usize = REASON + REASONS;
const CLOSED: usize = ACCEPTED + 1;
const TURNED_AWAY: usize = CLOSED + 1;
const WAITED: usize = TURNED_AWAY + 1;
const CROWDED: usize = WAITED + 1;
const COUNT: usize = CROWDED + 1;

/// More than there are reasons to refuse a request.
const REASONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_counted_by_its_reason() {
        let tally = OwnTally::new(2);
        tally.answer(1, 400, Some(Cause::Refused), Some(Reason::LengthAndCoding));
        let counts = tally.read();
        assert_eq!(counts.refusals, [("length_and_coding".to_owned(), 1)]);
        assert_eq!((counts.responses[4], counts.failures[Cause::Refused as usize]), (1, 1));
    }
}
