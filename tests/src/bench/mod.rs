//! The benchmark: `gslb-dns` beside other authoritative servers, each on one core, over loopback.
//!
//! ```text
//! plan ─► for each round, server and zone: server (peers) ─► load or tcp, between two readings of meter ─► report, goals
//! ```
//! A server that gives a wrong answer is refused, not measured. [`proxy`] does the same with `region-proxy` beside HAProxy;
//! both share `meter`, `rounds`, `histogram`, `goal` and `options`.

pub mod answer;
pub mod geodb;
pub mod goal;
pub mod goals;
pub mod histogram;
pub mod lane;
pub mod load;
pub mod measure;
pub mod meter;
pub mod options;
pub mod peers;
pub mod pending;
pub mod plan;
pub mod proxy;
pub mod questions;
pub mod reflector;
pub mod regions;
pub mod report;
pub mod rounds;
pub mod server;
pub mod status;
pub mod tcp;
pub mod zone;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the run shall end before it is done; clones share one answer.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the run.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails when the run shall end.
    pub fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Err("stopped by a signal".to_owned()) } else { Ok(()) }
    }
}
