//! VRRPv3 without its sockets: who of several proxies holds a region's VIPs (RFC 9568).
//!
//! ```text
//! advertisements, time, what is tracked ─► machine ─► group ─► actions: advertise, take the VIPs, let go, announce
//! octets ─► packet ─► advertisement                            frame ─► octets
//! octets ─► neighbour ─► gateway ─► what is tracked
//! ```
//! Pure: time comes in as [`shared::moment::Moment`], and what is to be done goes out as [`machine::Action`]s.

pub mod frame;
pub mod gateway;
pub mod group;
pub mod machine;
pub mod neighbour;
pub mod packet;
pub mod track;
