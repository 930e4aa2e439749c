//! The benchmark of proxies: `region-proxy` beside HAProxy, each with one thread on one core, over loopback.
//!
//! ```text
//! plan ─► for each round, case and proxy: running (peers) ─► verify ─► load, h2load or crowd, between two readings of
//!         meter ─► report, goals                              origins answer on the core of the generator
//! ```
//! A proxy that does less work than the others, or does it wrongly, is refused, not measured.

pub mod case;
pub mod channel;
pub mod client;
pub mod crowd;
pub mod goals;
pub mod h2load;
pub mod load;
pub mod measure;
pub mod origins;
pub mod peers;
pub mod plan;
pub mod report;
pub mod running;
pub mod tls;
pub mod verify;
