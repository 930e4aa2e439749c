//! The requests of a connection that has many under way at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::serve::seats::{Awaited, Seat};

/// A seat, and what happens in it.
///
/// ```text
/// no request open           waits for a query
/// one came                  waits for the rest of it
/// an answer was handed over waits for the client to take it
/// ```
pub(super) struct Requests {
    account: Mutex<Account>,
}

/// One request that is open until this is dropped: when its client has taken the answer, or will not.
pub(super) struct Request {
    requests: Arc<Requests>,
    octets: usize,
}

struct Account {
    seat: Seat,
    open: usize,
    octets: usize,
}

impl Requests {
    /// None yet; the first has as much time to come whole as any.
    pub(super) fn new(seat: Seat) -> Arc<Self> {
        seat.wait_for(Awaited::RestOfQuery);
        Arc::new(Self { account: Mutex::new(Account { seat, open: 0, octets: 0 }) })
    }

    /// Opens one.
    pub(super) fn begin(self: &Arc<Self>) -> Request {
        let mut account = self.lock();
        account.open += 1;
        // Others that are open buy no more time by it.
        if account.open == 1 {
            account.seat.wait_for(Awaited::RestOfQuery);
        }
        drop(account);
        Request { requests: Arc::clone(self), octets: 0 }
    }

    /// Seconds since 1970 by the wall clock, modulo 2^32, as of the last tick.
    pub(super) fn unix_secs(&self) -> u32 {
        self.lock().seat.unix_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// Notes that so many octets more of a query that is not whole are held.
    pub(super) fn grow(&mut self, octets: usize) {
        self.set_octets(self.octets + octets);
    }

    /// Notes that in place of the query an answer of so many octets is held, until it is taken.
    pub(super) fn hold(&mut self, octets: usize) {
        self.requests.lock().seat.wait_for(Awaited::Room);
        self.set_octets(octets);
    }

    fn set_octets(&mut self, octets: usize) {
        let mut account = self.requests.lock();
        account.octets = account.octets + octets - self.octets;
        self.octets = octets;
        let held = account.octets;
        account.seat.hold(held);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.set_octets(0);
        let mut account = self.requests.lock();
        account.open -= 1;
        account.seat.wait_for(if account.open == 0 { Awaited::Query } else { Awaited::RestOfQuery });
    }
}
