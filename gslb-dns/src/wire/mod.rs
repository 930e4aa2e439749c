//! DNS messages as octets: queries read in place, names, EDNS options, replies written into a given buffer.
//!
//! Nothing here allocates for a query or a reply; [`Name`]s are for what is loaded.

mod codes;
mod cookie;
mod ecs;
mod freshness;
mod name;
mod padding;
mod query;
mod records;
mod reply;

pub use codes::{Rcode, Rtype};
pub use cookie::{Cookie, ReplyCookie, ServerPart};
pub use ecs::Ecs;
pub use freshness::freshness_secs;
pub(crate) use name::read_escape;
pub use name::{Name, NameFault, is_at_or_below, label_count, parent};
pub use padding::pad;
pub use query::{DropReason, Edns, Query};
pub use records::has_option;
pub use reply::Reply;

/// Octets of a message header.
pub const HEADER_LEN: usize = 12;
/// Most octets of a name in a message, root label included (RFC 1035, section 2.3.4).
pub const NAME_LEN_MAX: usize = 255;
/// The class of the Internet.
pub const CLASS_IN: u16 = 1;
/// The UDP payload that replies advertise and never exceed: what passes every usual path unfragmented (RFC 9715).
pub const UDP_PAYLOAD_MAX: u16 = 1232;
/// The longest UDP reply for who does not speak EDNS (RFC 1035, section 4.2.1).
pub const UDP_PAYLOAD_PLAIN: u16 = 512;
