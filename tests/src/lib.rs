//! Harness, failover scenarios, end-to-end and interoperability tests, the demo, and the benchmark.
//!
//! ```text
//! scenario ─► shared::State under a virtual clock; laws are checked at every step
//! harness  ─► the real programs, real sockets, a DNS and an HTTP client of their own
//! demo     ─► the harness with the shipped zone, at a terminal or by a script
//! reference ─► a naive answer to any query, for comparing with that of the engine
//! servlet  ─► an origin server with sessions, for region-proxy
//! net      ─► hosts on a link of their own, each in a network namespace
//! traffic  ─► servers and clients on such hosts, and what they saw of each other
//! bench    ─► gslb-dns and other servers side by side, one core each
//! ```

pub mod bench;
pub mod demo;
pub mod harness;
pub mod laws;
pub mod net;
pub mod reference;
pub mod scenario;
pub mod servlet;
pub mod traffic;
