//! What the table of a signed set leads to.

use crate::wire::Rtype;

/// One name of a signed zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Where its name lies, behind its length.
    pub(super) name: u32,
    /// Position of the zone.
    pub(super) zone: u32,
    pub(super) kind: Kind,
    /// The type that answers for ANY (RFC 8482); 0: none.
    pub(super) any: Rtype,
    /// Its answers by type.
    pub(super) answers: (u32, u16),
    /// The answer to every other type.
    pub(super) otherwise: Option<Id>,
    /// The piece that proves which types it has; 0: none.
    pub(super) own: u32,
    /// Whether that piece is owned by this name.
    pub(super) owns_nsec: bool,
    /// The piece that covers the wildcard below it where there is none.
    pub(super) no_wildcard: u32,
    /// The node of the wildcard right below.
    pub(super) wildcard: Option<Id>,
    pub(super) steered: Option<Id>,
    pub(super) dname: Option<Id>,
    /// What is signed for each question, where it is a wildcard of a zone whose denials are compact.
    pub(super) online: Option<Id>,
}

/// A position in one of the lists of a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Id(std::num::NonZero<u32>);

impl Node {
    /// The name of a zone that is not signed.
    pub(super) fn unsigned(name: u32, zone: u32) -> Self {
        Self {
            name,
            zone,
            kind: Kind::Unsigned,
            any: Rtype(0),
            answers: (0, 0),
            otherwise: None,
            own: 0,
            owns_nsec: false,
            no_wildcard: 0,
            wildcard: None,
            steered: None,
            dname: None,
            online: None,
        }
    }
}

impl Id {
    /// Of what lies at `at`.
    pub(super) fn of(at: usize) -> Option<Self> {
        std::num::NonZero::new(at as u32 + 1).map(Self)
    }

    /// Where it lies.
    pub(super) fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What a node means for the names below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Plain,
    /// They are delegated.
    Cut,
    /// They are redirected (RFC 6672).
    Dname,
    /// It is the name of a zone that is not signed.
    Unsigned,
}

/// The answer of a node to one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) rtype: Rtype,
    pub(super) end: End,
    /// The records; 0: none.
    pub(super) tail: u32,
    /// What proves them, whatever the question: where in the list, and how many.
    pub(super) proofs: (u32, u8),
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// With what was asked, or where others must go on.
    Data,
    /// Without data of the type.
    Nodata,
    /// With a name that does not exist.
    NameError,
}

/// The steered name that a node is, or leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct SteeredLink {
    /// Position among the steered names.
    pub(super) steered: u32,
    pub(super) chain: Option<ChainLink>,
}

/// CNAME records that lead to a steered name.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainLink {
    /// Them, and what proves them.
    pub(super) answer: Answer,
    /// A pointer to the steered name in them.
    pub(super) target: u16,
    /// Octets of the base that it counts from.
    pub(super) base_len: u8,
}

/// A DNAME record.
#[derive(Clone, Debug)]
pub(super) struct DnameLink {
    pub(super) tail: u32,
    pub(super) target: Box<[u8]>,
    pub(super) ttl: u32,
}

/// What is signed for each question that a wildcard answers.
#[derive(Debug)]
pub(super) struct Online {
    /// The types at the wildcard.
    pub(super) types: std::collections::BTreeSet<Rtype>,
    pub(super) rrsets: Vec<OnlineRrset>,
}

/// An RRset as it is signed.
#[derive(Debug)]
pub(super) struct OnlineRrset {
    pub(super) rtype: Rtype,
    pub(super) ttl: u32,
    pub(super) rdatas: Vec<Box<[u8]>>,
}
