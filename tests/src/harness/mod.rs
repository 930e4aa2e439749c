//! The real programs in a world of their own: processes, sockets, a DNS and an HTTP client.

pub mod browser;
pub mod certificates;
pub mod curl;
pub mod dns;
pub mod generator;
pub mod globe;
pub mod http;
pub mod process;
pub mod proxies;
pub mod resolver;
pub mod site;
pub mod tools;
pub mod tree;
pub mod world;

use std::thread;
use std::time::{Duration, Instant};

/// How often something is looked at that tells nobody when it changes.
pub const POLL: Duration = Duration::from_millis(50);

/// Looks every [`POLL`] until `look` succeeds, and gives what it found and how long that took; fails with the last
/// failure once `limit` is over.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<(T, Duration), String> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok((found, start.elapsed())),
            Err(why) if start.elapsed() >= limit => return Err(format!("not within {limit:?}: {why}")),
            Err(_) => thread::sleep(POLL),
        }
    }
}
