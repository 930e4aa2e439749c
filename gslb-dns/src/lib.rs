//! Authoritative DNS server that answers with the nearest healthy region.
//!
//! A query runs in one straight line, and everything on it is pure: no clock, socket, file, lock or log.
//!
//! ```text
//! socket ─► wire ─► zone ─► geo ─► shared::failover ─► answer ─► socket
//!           parse   find    locate  decide             encode
//! ```

pub mod answer;
pub mod geo;
pub mod wire;
pub mod zone;
