//! Authoritative DNS server that answers with the nearest healthy region.
//!
//! A query runs in one straight line, and everything on it is pure: no clock, socket, file, lock or log.
//!
//! ```text
//! socket ─► wire ─► zone ─► geo ─► shared::failover ─► answer ─► socket
//!           parse   find    locate  decide             encode
//! ```
//! Signatures are made ahead by [`sign`], together with the zones.
//! Around it is the edge: [`serve`] owns sockets and state, [`probe`] and [`reload`] feed it events, [`admin`] shows it.

pub mod admin;
pub mod answer;
pub mod cli;
pub mod cookie;
pub mod explain;
pub mod geo;
pub mod journal;
pub mod keys;
pub mod limit;
mod open_files;
pub mod probe;
pub mod reload;
mod secret_file;
pub mod serve;
pub mod settings;
pub mod sign;
pub mod store;
pub mod transfer;
pub mod tsig;
pub mod update;
pub mod wire;
pub mod zone;
