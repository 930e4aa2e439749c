//! DNSSEC: what the keys of a zone publish and sign at a given time, and the signatures themselves.
//!
//! ```text
//! key files ─► KeyTimes ─► standing(now) ─► DNSKEY, CDS, CDNSKEY of the apex
//!              SigningKey ─────┴─► Signer ─► RRSIG data of each RRset, reused from Signatures while they are good
//! ```
//! Pure: the time comes in as seconds since 1970, and files are read and written elsewhere. A [`Signer`] may be used by
//! several threads at once.

pub mod bind;
mod canonical;
mod csync;
mod key;
mod keyset;
mod parent;
mod roll;
mod signatures;
mod signer;
mod times;

#[cfg(test)]
pub(crate) mod tests;

pub use csync::Csync;
pub use key::{Algorithm, BadKey, PublicKey, Role, SigningKey};
pub use keyset::{
    Held, KeyRecords, Next, Sync, Unusable, hold, next, next_change, signer, unusable_from, upcoming, withdrawn,
};
pub use parent::{NotSaid, ParentDs, first_signs_from, parent_ds, start, withdraw};
pub use roll::{Plan, Refused, Scheme, Timing, begin, begin_all, broken_off, confirm};
pub use signatures::{Fingerprint, Signatures};
pub use signer::{ActiveKey, Duty, Lifetime, Signer};
pub use times::{Change, KeyState, KeyTimes, Standing, ZoneKey};
