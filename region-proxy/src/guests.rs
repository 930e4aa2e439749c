//! Clients as one thread counts them: its table, and the connections that are counted there.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::clients::{Clients, Entry, Place, Rules};
use crate::clock::Tick;
use crate::config::Config;
use crate::worker::Worker;

/// The clients of one thread. Nothing is held while no setting asks for it.
#[derive(Debug, Default)]
pub struct Guests {
    table: RefCell<Option<Clients>>,
    tables: Cell<u32>,
}

impl Guests {
    /// Lets a request of `address` pass, or says how long its client must wait before the next.
    pub fn ask(&self, address: IpAddr, rules: &Rules) -> Result<(), Duration> {
        if rules.requests.is_none() || !rules.bind(address) {
            return Ok(());
        }
        self.with(rules, |clients| clients.request(address, rules, Tick::now().moment()))
    }

    fn connect(&self, address: IpAddr, rules: &Rules) -> Entry {
        self.with(rules, |clients| clients.connect(address, rules, Tick::now().moment()))
    }

    fn with<T>(&self, rules: &Rules, ask: impl FnOnce(&mut Clients) -> T) -> T {
        let mut table = self.table.borrow_mut();
        if !table.as_ref().is_some_and(|clients| clients.is_for(rules.table)) {
            *table = None;
        }
        ask(table.get_or_insert_with(|| {
            let number = self.tables.replace(self.tables.get().wrapping_add(1));
            Clients::new(rules.table, (fastrand::u64(..), fastrand::u64(..)), number)
        }))
    }
}

/// A connection that counts as one of its client's until it is dropped.
#[derive(Debug)]
pub struct Guest {
    worker: Rc<Worker>,
    place: Place,
}

/// Its client has as many connections as it may.
#[derive(Clone, Copy, Debug)]
pub struct Crowd;

impl Guest {
    /// Counts a connection of `address`; `None` where nobody counts it.
    ///
    /// # Errors
    /// It is one too many, which is counted.
    pub fn enter(worker: &Rc<Worker>, address: IpAddr, config: &Config) -> Result<Option<Self>, Crowd> {
        let rules = &config.clients;
        if rules.connections.is_none() || !rules.bind(address) || config.forwarded.trusts(address) {
            return Ok(None);
        }
        match worker.guests.connect(address, rules) {
            Entry::Counted(place) => Ok(Some(Self { worker: Rc::clone(worker), place })),
            Entry::Uncounted => Ok(None),
            Entry::Refused => {
                tracing::debug!(client = %address, "connection refused: its client has as many as it may");
                worker.proxy.tally.crowd(worker.number);
                Err(Crowd)
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(clients) = self.worker.guests.table.borrow_mut().as_mut() {
            clients.disconnect(self.place);
        }
    }
}
