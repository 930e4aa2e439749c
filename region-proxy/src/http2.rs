//! HTTP/2 as octets (RFC 9113, RFC 7541): frames, header blocks, windows, and the rules that bind them.
//!
//! ```text
//! octets ─► Session::step ─► Head ─► Block ─► read_request ─► http1::Request
//!              │ DATA                                                                  each stream is to the relay what a
//!              ▼                                                                       connection of HTTP/1.1 with one
//!         poll_read ─► body as text of HTTP/1.1                                        request would be: `lane::Lane`
//! octets ◄─ unsent ◄── HEADERS, DATA ◄─ poll_write ◄─ text of HTTP/1.1
//! ```
//! Nothing here knows a socket or a clock. What peers may make this hold is bounded: data by the windows that they were
//! given, heads by their limit, what is to be sent by [`Session::is_full`], and what costs work but moves nothing by
//! [`guard`].

mod block;
pub mod frame;
pub mod guard;
pub mod hpack;
mod huffman;
mod request;
mod session;
pub mod websocket;

pub use block::Block;
pub use frame::Code;
pub use request::{Fault, join_cookies, read_request};
pub use session::{Event, Expected, Fatal, Limits, Role, Session};
