//! Clients that ask all the time: nothing may go unanswered.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::harness::POLL;
use crate::harness::dns::DnsClient;

/// Everybody who asks.
#[derive(Debug, Default)]
pub(super) struct Watches {
    is_stopped: Arc<AtomicBool>,
    seen: Arc<Mutex<(u64, Vec<String>)>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watches {
    /// Asks for `name` on behalf of `client` from now on.
    pub(super) fn add(&mut self, dns: DnsClient, name: &str, client: IpAddr) {
        let (stop, seen, name) = (Arc::clone(&self.is_stopped), Arc::clone(&self.seen), name.to_owned());
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answer = dns.ask_for(&name, client).and_then(|answer| answer.address());
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.0 += 1;
                if let Err(why) = answer {
                    seen.1.push(format!("{name} from {client}: {why}"));
                }
                drop(seen);
                thread::sleep(POLL);
            }
        }));
    }

    /// How many queries were sent, and those that were not answered with one address.
    pub(super) fn count(&self) -> (u64, Vec<String>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of it has been printed already.
            let _ = thread.join();
        }
    }
}
