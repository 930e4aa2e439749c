//! Dynamic updates (RFC 2136): what a message asks for, who may, and what comes of it.
//!
//! ```text
//! message ─► Update::parse ─► apply(zone, access) ─► prerequisites ─► form ─► permission ─► changes ─► is it a zone?
//!                                                        │             │          │                       │
//!                                                        └─────────────┴─ Refusal ┴───────────────────────┤
//!                                                                         the next Zone and its Delta ◄───┘
//! Delta ─► journal::frame ─► file ─► journal::read ─► Delta::replay over the zone file
//! ```

mod answered;
mod apply;
mod delta;
pub mod journal;
mod policy;
mod prerequisite;
#[cfg(test)]
mod tests;

use shared::problem::Problem;

use crate::wire::{CLASS_IN, Name, Rcode, Rtype, Sections};
use crate::zone::{Zone, rdata_of_message};

pub use answered::Answered;
pub use delta::{Delta, Standing, replayed};
pub use policy::{BadPattern, NamePattern, Policy, Rule};

/// What one message asks for.
#[derive(Clone, Debug)]
pub struct Update {
    zone: Name,
    prerequisites: Vec<Given>,
    changes: Vec<Given>,
}

/// A record of the message, which says what it means by its class.
#[derive(Clone, Debug)]
struct Given {
    /// In lower case.
    owner: Name,
    rtype: Rtype,
    class: Class,
    ttl: u32,
    /// Octets of its data in the message.
    len: usize,
    /// Its data; `None`: it is not as its type has it.
    rdata: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    In,
    Any,
    None,
    Other,
}

/// Who asks for an update, and what is not theirs to change.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Which key may do what in the zone.
    pub policy: &'a Policy,
    /// The name of the key that signed the message, in lower case.
    pub key: &'a Name,
    /// Whether DNSKEY, CDS and CDNSKEY are made here, and CSYNC.
    pub keys: Keys,
}

/// Who makes the DNSKEY, CDS, CDNSKEY and CSYNC records of a zone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keys {
    /// Nobody here: they are records as others.
    #[default]
    Foreign,
    /// The zone is signed here.
    Ours,
    /// The same, and its CSYNC record is made here too.
    OursWithCsync,
}

/// Why an update is not done. Nothing of it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// FORMERR.
    #[error("{0}")]
    Malformed(&'static str),
    /// NOTAUTH: another class.
    #[error("of another class than IN")]
    OtherClass,
    /// NOTZONE.
    #[error("{0} lies outside the zone")]
    Outside(Name),
    /// NXDOMAIN: a prerequisite.
    #[error("{0} has no records, but should")]
    NameNotInUse(Name),
    /// YXDOMAIN: a prerequisite.
    #[error("{0} has records, but should not")]
    NameInUse(Name),
    /// NXRRSET: a prerequisite.
    #[error("{0} has no {1} records, or other ones")]
    OtherRrset(Name, Rtype),
    /// YXRRSET: a prerequisite.
    #[error("{0} has {1} records, but should not")]
    RrsetExists(Name, Rtype),
    /// REFUSED: the key has no rule for the zone.
    #[error("the key may change nothing here")]
    UnknownKey,
    /// REFUSED: no rule of the key covers it.
    #[error("the key may not change {1} records of {0}")]
    NotAllowed(Name, Rtype),
    /// REFUSED: made here.
    #[error("{0} records are made by this server")]
    Maintained(Rtype),
    /// REFUSED: the zone could not be served.
    #[error("the zone would have a mistake: {0}")]
    Invalid(Problem),
}

impl Update {
    /// Reads `message`, without its TSIG record (RFC 2136, sections 2 and 3.1).
    pub fn parse(message: &[u8]) -> Result<Self, Refusal> {
        let broken = Refusal::Malformed("the message is broken");
        let Sections { questions, answers, authorities } = Sections::read(message).ok_or(broken)?;
        let [(zone, rtype, class)] = &*questions else {
            return Err(Refusal::Malformed("the zone section must have one entry"));
        };
        if *rtype != Rtype::SOA {
            return Err(Refusal::Malformed("the zone section must ask for SOA"));
        }
        if *class != CLASS_IN {
            return Err(Refusal::OtherClass);
        }
        let read = |record: crate::wire::PlacedRecord| Given {
            owner: record.owner.folded(),
            rtype: record.rtype,
            class: Class::of(record.class),
            ttl: record.ttl,
            len: record.rdata_len,
            rdata: rdata_of_message(record.rtype, message, record.rdata_at, record.rdata_len),
        };
        Ok(Self {
            zone: zone.folded(),
            prerequisites: answers.into_iter().map(read).collect(),
            changes: authorities.into_iter().map(read).collect(),
        })
    }

    /// The zone it is for, in lower case.
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// The zone after the update of `zone`, and in what they differ; `None` where they do not.
    ///
    /// The order is that of RFC 2136, section 3, but for permission, which is looked at once the form of all changes is
    /// right. Whether the zone goes together with what else is served is left to [`crate::zone::ZoneSet::check`].
    pub fn apply(&self, zone: &Zone, access: &Access<'_>) -> Result<Option<(Zone, Delta)>, Refusal> {
        if !access.policy.knows(access.key) {
            return Err(Refusal::UnknownKey);
        }
        prerequisite::check(zone, &self.prerequisites)?;
        let changes = apply::prescan(zone, &self.changes)?;
        changes.iter().try_for_each(|change| change.permit(zone, access))?;
        let Some((next, delta)) = apply::apply(zone, &changes) else { return Ok(None) };
        let problem = next.problems().into_iter().next();
        problem.map_or(Ok(Some((next, delta))), |problem| Err(Refusal::Invalid(problem)))
    }
}

impl Class {
    fn of(class: u16) -> Self {
        match class {
            CLASS_IN => Self::In,
            255 => Self::Any,
            254 => Self::None,
            _ => Self::Other,
        }
    }
}

impl Refusal {
    /// Whether it is for want of a right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::UnknownKey | Self::NotAllowed(..) | Self::Maintained(_))
    }

    /// The code that the answer has.
    pub fn rcode(&self) -> Rcode {
        match self {
            Self::Malformed(_) => Rcode::FORMERR,
            Self::OtherClass => Rcode::NOTAUTH,
            Self::Outside(_) => Rcode::NOTZONE,
            Self::NameNotInUse(_) => Rcode::NXDOMAIN,
            Self::NameInUse(_) => Rcode::YXDOMAIN,
            Self::OtherRrset(..) => Rcode::NXRRSET,
            Self::RrsetExists(..) => Rcode::YXRRSET,
            Self::UnknownKey | Self::NotAllowed(..) | Self::Maintained(_) | Self::Invalid(_) => Rcode::REFUSED,
        }
    }
}
