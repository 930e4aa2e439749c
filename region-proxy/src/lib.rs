//! The reverse proxy of one region: forwards HTTP/1.1 and HTTP/2 requests, and connections as they are, to healthy origin
//! servers and tells `gslb-dns` how they are.
//!
//! ```text
//! socket ─► listen ─► (tls) ─► read head (http1, http2) ─► route ─► balance ─► upstream: connect or reuse ─► relay ─► count
//!                                                       ▲ plan: another server on failure, at most `retries`
//! ```
//! Pure, without clock, socket or file: [`config`], [`http1`], [`sni`], [`route`], [`routes`], [`stick`], [`balance`], [`forward`],
//! [`forwarded`], [`http2`], [`proxy_protocol`], [`network`], [`look_alike`], [`plan`], [`rate`], [`clients`], [`standing`], [`changes`], [`vrrp`], [`l4`].
//! All the rest is the edge around them: a [`worker::Worker`] for each core, which share nothing on the path of a request.
//! One [`live::Live`] holds what the settings say; a reload swaps it whole.

pub mod access;
pub mod admin;
pub mod balance;
pub mod changes;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod control;
pub mod count;
pub mod ctl;
pub mod doctor;
pub mod forward;
pub mod forwarded;
pub mod guests;
pub mod health;
pub mod http1;
pub mod http2;
pub mod l4;
pub mod lane;
pub mod ledger;
pub mod listen;
pub mod live;
pub mod local;
pub mod look_alike;
pub mod netlink;
pub mod network;
pub mod once;
pub mod peering;
pub mod pipe;
pub mod plan;
pub mod proxy_protocol;
pub mod rate;
pub mod relay;
pub mod reload;
pub mod route;
pub mod routes;
pub mod serve;
pub mod sni;
pub mod socket;
pub mod standing;
pub mod stick;
pub mod stick_table;
pub mod stream;
pub mod switching;
pub mod takeover;
pub mod tally;
pub mod tcp;
pub mod tls;
pub mod upstream;
pub mod vip;
pub mod vrrp;
pub mod worker;
