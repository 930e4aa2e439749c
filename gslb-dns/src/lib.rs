//! Authoritative DNS server that answers with the nearest healthy region.

pub mod geo;
