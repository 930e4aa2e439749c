//! DNS messages as octets: queries read in place, names, EDNS options, replies written into a given buffer.
//!
//! Nothing here allocates for a query or a reply; [`Name`]s are for what is loaded.

mod codes;
mod cookie;
mod ecs;
mod freshness;
mod last;
mod name;
mod padding;
mod query;
mod records;
mod reply;
mod sections;

pub use codes::{Rcode, Rtype};
pub use cookie::{Cookie, ReplyCookie, ServerPart};
pub use ecs::Ecs;
pub use freshness::freshness_secs;
pub use last::LastTsig;
pub(crate) use name::read_escape;
pub use name::{Name, NameFault, is_at_or_below, label_count, parent};
pub use padding::{is_padded, pad, pad_unsigned};
pub use query::{DropReason, Edns, Extras, Query};
pub(crate) use query::{OPTION_ERROR, OPTION_KEEPALIVE, OPTION_NSID, OPTION_ZONEVERSION};
pub use records::has_option;
pub use reply::Reply;
pub use sections::{PlacedRecord, Sections};

/// Octets of a message header.
pub const HEADER_LEN: usize = 12;
/// Most octets of a name in a message, root label included (RFC 1035, section 2.3.4).
pub const NAME_LEN_MAX: usize = 255;
/// The class of the Internet.
pub const CLASS_IN: u16 = 1;
/// The class in which servers tell about themselves (RFC 4892).
pub const CLASS_CHAOS: u16 = 3;
/// The opcode of queries (RFC 1035, section 4.1.1).
pub const OPCODE_QUERY: u8 = 0;
/// The opcode of notifications that a zone has changed (RFC 1996).
pub const OPCODE_NOTIFY: u8 = 4;
/// The opcode of updates (RFC 2136).
pub const OPCODE_UPDATE: u8 = 5;
/// The UDP payload that replies advertise and never exceed: what passes every usual path unfragmented (RFC 9715).
pub const UDP_PAYLOAD_MAX: u16 = 1232;
/// The longest UDP reply for who does not speak EDNS (RFC 1035, section 4.2.1).
pub const UDP_PAYLOAD_PLAIN: u16 = 512;
