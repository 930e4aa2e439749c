//! The reverse proxy of one region: forwards HTTP/1.1 requests to healthy origin servers and tells `gslb-dns` how they
//! are.
//!
//! ```text
//! socket ─► listen ─► head (hyper) ─► route ─► balance ─► upstream: connect or reuse ─► relay ─► count
//!                                                              ▲ plan: another server on failure, at most `retries`
//! ```
//! Pure, without clock, socket or file: [`config`], [`route`], [`routes`], [`stick`], [`balance`], [`forward`], [`forwarded`],
//! [`proxy_protocol`], [`edit`], [`network`], [`look_alike`], [`plan`], [`rate`].
//! All the rest is the edge around them. One [`live::Live`] holds everything that a request needs; a reload swaps it
//! whole.
//!
//! Not forwarded in this form: `Upgrade` (WebSocket) is stripped and `CONNECT` is answered 501.

pub mod admin;
pub mod balance;
pub mod body;
pub mod cli;
pub mod config;
pub mod edit;
pub mod forward;
pub mod forwarded;
pub mod health;
pub mod listen;
pub mod live;
pub mod look_alike;
pub mod network;
pub mod once;
pub mod plan;
pub mod proxy_protocol;
pub mod rate;
pub mod relay;
pub mod reload;
pub mod route;
pub mod routes;
pub mod serve;
pub mod stick;
pub mod upstream;
pub mod vip;
