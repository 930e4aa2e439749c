//! What is counted of one service.

use std::time::Duration;

use super::pages::Pages;
use super::{CAUSES, CLASSES, Histogram, TIMES, class, histogram, observe, several};
use crate::relay::record::Cause;

/// What is counted of a service's requests, those that no server got among them.
#[derive(Debug)]
pub struct ServiceTally(Pages<{ COUNT }>);

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

impl ServiceTally {
    /// Of a service that so many threads serve.
    pub fn new(threads: usize) -> Self {
        Self(Pages::new(threads))
    }

    /// A request begins to wait for a server.
    pub fn join(&self, thread: usize) {
        self.0.add(thread, JOINED, 1);
    }

    /// It waits no longer, and did so for `span`.
    pub fn leave(&self, thread: usize, span: Duration) {
        self.0.add(thread, LEFT, 1);
        observe(&self.0, thread, QUEUE, span);
    }

    /// A request has ended.
    pub fn answer(&self, thread: usize, status: u16, cause: Option<Cause>, is_redispatched: bool) {
        self.0.add(thread, class(status), 1);
        if let Some(cause) = cause {
            self.0.add(thread, CAUSE + cause as usize, 1);
        }
        if is_redispatched {
            self.0.add(thread, REDISPATCHED, 1);
        }
    }

    /// The requests that wait.
    pub fn queued(&self) -> u64 {
        self.0.open(JOINED, LEFT)
    }

    /// All of it.
    pub fn read(&self) -> ServiceCounts {
        ServiceCounts {
            responses: several(&self.0, 0),
            failures: several(&self.0, CAUSE),
            queue: histogram(&self.0, QUEUE),
            queued: self.queued(),
            redispatched: self.0.sum(REDISPATCHED),
        }
    }
}

/// Where each counter stands; classes come first.
const CAUSE: usize = CLASSES;
const QUEUE: usize = CAUSE + CAUSES;
const JOINED: usize = QUEUE + TIMES;
const LEFT: usize = JOINED + 1;
const REDISPATCHED: usize = LEFT + 1;
const COUNT: usize = REDISPATCHED + 1;
