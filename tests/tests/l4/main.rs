//! L4 load balancing with real packets: each mode on links of its own, the real program, and clients that notice everything.
//!
//! Needs root, iproute2 and nftables; says so where it is left out.

mod bed;
mod hand;
