//! The topology model and the disaster-recovery (DR) failover rules, used by `gslb-dns` and `region-proxy`.
//!
//! Everything here is pure: no clock, socket, file, thread or log. Time comes in as a [`moment::Moment`], what the
//! world looks like comes in as [`state::Event`]s, and what follows from both is in the returned values.
//!
//! ```text
//! Event ──► State::apply(event, now) ──► Changes
//!                     │
//!                     └──► View ──► decide(service, view, order, block) ──► Decision
//! ```

pub mod certificate;
pub mod config;
pub mod failover;
pub mod health;
pub mod moment;
pub mod name;
pub mod permission;
pub mod place;
pub mod problem;
pub mod published;
#[cfg(test)]
mod sample;
pub mod settings;
pub mod snapshot;
pub mod state;
pub mod token;
pub mod topology;
mod typo;
