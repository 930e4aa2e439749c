//! The signed twin of the table of names: what is answered to those who ask for signatures (RFC 4035, section 3).
//!
//! ```text
//! Compiler (zone, steered names) ─► names, chain of NSEC or NSEC3 ─► nodes, tails, pieces ─► SignedSet ─► find ─► Signed
//! Signing (a function)              denial, index, piece             compile, build, variants
//! ```
//! A *tail* holds the records of an answer with their signatures, as for everybody else. What proves an answer is not in
//! it but in *pieces*, each an RRset of the authority section with its signatures: one for the SOA record of the zone, one
//! for each NSEC or NSEC3 record. An answer is one tail and a few pieces, found by binary search and copied.

mod answer;
mod build;
mod compile;
mod content;
mod denial;
mod index;
mod node;
mod piece;
mod variants;

use std::fmt;
use std::sync::Arc;

use shared::problem::Problem;
use shared::topology::Topology;

use crate::wire::{Name, Rtype, is_at_or_below};

pub use answer::{Signed, SignedSteered};
pub(super) use build::Builder;

use super::steered::{Offer, SteeredName};
use super::table::Table;
use super::tail::Tail;
use super::{Content, Dname, FilePlace, FoundSigned, Rdata, Record, Rrset, Zone};
use denial::{NSEC3_PARAMETERS, Proofs};
use node::{Answer, DnameLink, Kind, Node, Online, SteeredLink};
use variants::Variants;

/// The RRSIG data to send with an RRset: several while keys roll over.
///
/// It gets the owner, in wire form and lower case, the type, the TTL and the data of each record, uncompressed. Signing in
/// canonical form and order is its own work (RFC 4034, section 6). It is called for all that is signed ahead while zones
/// are built, and by queries for what cannot be: compact denials, and steered answers of too many variants.
pub type Sign = Arc<dyn Fn(&[u8], Rtype, u32, &[&[u8]]) -> Vec<Box<[u8]>> + Send + Sync>;

/// How a zone is signed.
#[derive(Clone)]
pub struct Signing {
    /// How it proves that something does not exist.
    pub denial: Denial,
    /// What signs.
    pub sign: Sign,
    /// Whether secondaries get it, so that its content is put together: not with [`Denial::Compact`], which leaves them
    /// without proofs.
    pub is_transferred: bool,
}

/// How a zone proves that a name or a type does not exist.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Denial {
    /// By NSEC records, signed ahead (RFC 4034): anybody may list the names of the zone.
    #[default]
    Nsec,
    /// By NSEC3 records without salt, further rounds and opt-out, signed ahead (RFC 5155, RFC 9276): the names of the zone
    /// must be guessed.
    Nsec3,
    /// By an NSEC record for the name asked, signed for each question (RFC 9824): nothing else shows, and each name that
    /// does not exist costs a signature.
    Compact,
}

/// All zones again, with signatures where they are signed.
#[derive(Debug)]
pub(super) struct SignedSet {
    /// Names in lower case, and one more than the positions of their nodes.
    table: Table,
    /// Names, tails and pieces.
    octets: Box<[u8]>,
    nodes: Box<[Node]>,
    answers: Box<[Answer]>,
    /// Positions of pieces.
    proofs: Box<[u32]>,
    dnames: Box<[DnameLink]>,
    online: Box<[Online]>,
    steered: Box<[SteeredLink]>,
    zones: Box<[ZoneEntry]>,
    /// What secondaries get, by the position of the zone, until it is taken.
    contents: Vec<Option<Content>>,
    /// By position among the steered names; `None`: it lies in a zone that is not signed.
    variants: Box<[Option<Variants>]>,
}

/// One zone at its position.
#[derive(Debug, Default)]
struct ZoneEntry {
    signed: Option<SignedZone>,
    /// Who answers for DS at the apex, when the zone above is served here too.
    parent_side: Option<ParentSide>,
}

#[derive(Clone, Copy, Debug)]
enum ParentSide {
    Unsigned,
    /// By this answer of the zone at this position.
    Signed(Answer, u32),
}

#[derive(Debug)]
struct SignedZone {
    apex: Box<[u8]>,
    /// The piece of a negative answer's SOA record.
    soa: u32,
    proofs: Proofs,
    nsec_ttl: u32,
    signing: Signing,
}

/// Records in `zone`, which is signed here, that are for the signer to make.
pub(super) fn problems_of(zone: &Zone) -> Vec<Problem> {
    let made = |rrset: &&Rrset| matches!(rrset.rtype, Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 | Rtype::NSEC3PARAM);
    let owned = zone.nodes.iter().flat_map(|(owner, rrsets)| rrsets.iter().map(move |rrset| (owner, rrset)));
    let mut found: Vec<_> = owned
        .filter(|(_, rrset)| made(rrset))
        .map(|(owner, rrset)| Problem {
            file: zone.file.clone(),
            line: rrset.line(),
            key: Name::from_wire(owner).to_string(),
            what: format!("{} records are made here, for the zone is signed: remove them", rrset.rtype),
        })
        .collect();
    found.sort_by_key(|problem| problem.line);
    found
}

/// Adds to those of `zones` that are signed what signed zones need: NSEC3PARAM records, and the names of other zones below
/// them, with which the names above those exist too.
pub(super) fn prepare(zones: &mut [Zone], signings: &[Option<Signing>]) {
    let apexes: Vec<Name> = zones.iter().map(|zone| zone.apex.clone()).collect();
    for (zone, signing) in zones.iter_mut().zip(signings) {
        let Some(signing) = signing else { continue };
        let own = zone.apex.clone();
        let below = apexes.iter().filter(|apex| **apex != own && is_at_or_below(apex.as_wire(), own.as_wire()));
        below.for_each(|apex| zone.add_node(apex.as_wire()));
        if signing.denial == Denial::Nsec3 {
            let ttl = zone.rrset(own.as_wire(), Rtype::SOA).map_or(0, |soa| soa.ttl);
            let place = FilePlace { line: 0, offset: 0 };
            let records = vec![Record { rdata: Rdata::new(&NSEC3_PARAMETERS), place }];
            let apex = zone.nodes_mut().entry(own.as_wire().into()).or_default();
            apex.push(Rrset { rtype: Rtype::NSEC3PARAM, ttl, records });
        }
    }
}

/// The TTLs of a steered name: that when all is well, and that when it is not.
fn ttls(steered: &SteeredName, topology: &Topology) -> [u32; 2] {
    let service = topology.service(steered.service);
    [service.ttl, service.ttl_degraded]
}

impl SignedSet {
    /// What secondaries get of each zone, by position; `None`: it is not signed, or it has none. Afterwards it is gone.
    pub(super) fn take_contents(&mut self) -> Vec<Option<Content>> {
        std::mem::take(&mut self.contents)
    }

    /// Finds the answer for `qname`, in lower case, and `qtype`; `None`: that of the unsigned set holds.
    pub(super) fn find<'a>(
        &'a self,
        steered: &'a [SteeredName],
        qname: &[u8],
        qtype: Rtype,
    ) -> Option<FoundSigned<'a>> {
        let closest = self.table.closest(qname, |at, name| self.name(at as usize - 1) == name)?;
        let node = &self.nodes[closest.at as usize - 1];
        let is_exact = closest.len == qname.len();
        let zone = &self.zones[node.zone as usize];
        if qtype == Rtype::DS
            && is_exact
            && let Some(parent_side) = zone.parent_side.filter(|_| self.is_apex(node, zone, closest.len))
        {
            let ParentSide::Signed(answer, parent) = parent_side else { return None };
            let signed = self.zones[parent as usize].signed.as_ref()?;
            return Some(FoundSigned::Static(Signed::of(self, signed, node, Some(answer))));
        }
        let signed = zone.signed.as_ref()?;
        let found = match (node.kind, is_exact) {
            (Kind::Unsigned, _) => return None,
            (Kind::Cut, _) => {
                let ds = if is_exact && qtype == Rtype::DS { self.answer(node, qtype) } else { None };
                FoundSigned::Static(Signed::of(self, signed, node, ds.or_else(|| self.otherwise(node))))
            }
            (_, true) => self.at(steered, Signed::of(self, signed, node, None), qtype),
            (Kind::Dname, false) if let Some(dname) = node.dname => {
                let DnameLink { tail, target, ttl } = &self.dnames[dname.at()];
                FoundSigned::Redirected(Dname { tail: self.tail(*tail), owner_len: closest.len, target, ttl: *ttl })
            }
            (Kind::Plain | Kind::Dname, false) => match node.wildcard {
                Some(wildcard) => {
                    self.at(steered, Signed::expanded(self, signed, &self.nodes[wildcard.at()], node), qtype)
                }
                None => FoundSigned::Static(Signed::name_error(self, signed, node)),
            },
        };
        Some(found)
    }

    fn is_apex(&self, node: &Node, zone: &ZoneEntry, len: usize) -> bool {
        node.kind == Kind::Unsigned || zone.signed.as_ref().is_some_and(|zone| zone.apex.len() == len)
    }

    /// The answer by `signed`, which knows the node so far.
    fn at<'a>(&'a self, steered: &'a [SteeredName], signed: Signed<'a>, qtype: Rtype) -> FoundSigned<'a> {
        let node = signed.node();
        let qtype = if qtype == Rtype::ANY && node.any.0 > 0 { node.any } else { qtype };
        if matches!(qtype, Rtype::NSEC | Rtype::RRSIG)
            && let Some(signed) = signed.of_dnssec(qtype)
        {
            return FoundSigned::Static(signed);
        }
        if let Some(link) = node.steered {
            let link = &self.steered[link.at()];
            let (name, variants) = (&steered[link.steered as usize], &self.variants[link.steered as usize]);
            // Who asks for CNAME at a name that leads here asks for no more than that one.
            let asks_first = |offer: &Offer| *offer == Offer::Cname && qtype == Rtype::CNAME && link.chain.is_some();
            let offer = name.offer(qtype).filter(|offer| !asks_first(offer));
            if let (Some(offer), Some(variants)) = (offer, variants) {
                let signed = SignedSteered::new(signed.with(link.chain.map(|chain| chain.answer)), link, variants);
                return FoundSigned::Steered { steered: name, offer, signed };
            }
        }
        FoundSigned::Static(signed.with(self.answer(node, qtype).or_else(|| self.otherwise(node))))
    }

    fn answers_of(&self, node: &Node) -> &[Answer] {
        let (start, len) = node.answers;
        &self.answers[start as usize..start as usize + usize::from(len)]
    }

    fn answer(&self, node: &Node, qtype: Rtype) -> Option<Answer> {
        self.answers_of(node).iter().find(|answer| answer.rtype == qtype).copied()
    }

    fn otherwise(&self, node: &Node) -> Option<Answer> {
        node.otherwise.map(|otherwise| self.answers[otherwise.at()])
    }

    fn name(&self, node: usize) -> &[u8] {
        build::name_at(&self.octets, self.nodes[node].name)
    }

    fn tail(&self, at: u32) -> Tail<'_> {
        Tail::at(&self.octets[at as usize..])
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signing({:?})", self.denial)
    }
}
