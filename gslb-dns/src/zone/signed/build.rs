//! A signed set in the making.

use shared::topology::Topology;

use super::super::Content;
use super::super::compile::Compiler;
use super::super::compose::Composer;
use super::super::steered::{Offer, SteeredName};
use super::super::table::Table;
use super::super::tail::pack;
use super::super::{Map, Rrset, Zone, is_wildcard};
use super::compile::ZoneCompiler;
use super::content::content;
use super::denial::{NSEC3_PARAMETERS, Proofs, Records, names_of, successor};
use super::index::nsec3_hash;
use super::node::{Answer, DnameLink, Id, Node, Online, SteeredLink};
use super::piece::{self, Piece};
use super::variants::{Empty, Variants};
use super::{Denial, ParentSide, SignedSet, SignedZone, Signing, ZoneEntry, ttls};
use crate::wire::{Name, Rcode, Rtype, parent};

/// Zones in the making, added in the order of their positions.
pub(in super::super) struct Builder {
    table: Table,
    parts: Parts,
    /// The answers to DS at the names of zones that lie in signed ones.
    parent_sides: Map<Box<[u8]>, (Answer, u32)>,
}

/// Everything of a [`SignedSet`] that grows.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) octets: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) answers: Vec<Answer>,
    pub(super) proofs: Vec<u32>,
    pub(super) dnames: Vec<DnameLink>,
    pub(super) online: Vec<Online>,
    steered: Vec<SteeredLink>,
    zones: Vec<ZoneEntry>,
    contents: Vec<Option<Content>>,
    variants: Vec<Option<Variants>>,
}

impl Builder {
    /// Room for `names_max` names in all, and `steered` steered names.
    pub(in super::super) fn new(names_max: usize, steered: usize) -> Self {
        let mut parts = Parts { variants: (0..steered).map(|_| None).collect(), ..Parts::default() };
        // Position 0 stands for none, which is an answer without records.
        pack(&Composer::new(&[0]).finish(Rcode::NOERROR, true), &mut parts.octets);
        Self { table: Table::new(names_max), parts, parent_sides: Map::default() }
    }

    /// Adds the zone `apex`, which is not signed: only its name, so that who finds it asks elsewhere.
    pub(in super::super) fn add_unsigned(&mut self, apex: &[u8]) {
        let zone = self.parts.zones.len() as u32;
        self.parts.zones.push(ZoneEntry::default());
        self.parts.contents.push(None);
        let name = self.parts.push_name(apex);
        self.parts.nodes.push(Node::unsigned(name, zone));
        self.insert_from(self.parts.nodes.len() - 1);
    }

    /// Adds the zone of `compiler`, in which the names of the zones `children` lie, which are served here too; `topology` has its steered names.
    pub(in super::super) fn add(
        &mut self,
        compiler: &Compiler<'_>,
        children: &[&Zone],
        signing: &Signing,
        topology: &Topology,
    ) {
        let (zone, first) = (self.parts.zones.len() as u32, self.parts.nodes.len());
        let apex = compiler.apex();
        let soa = Soa::new(compiler, signing);
        let names = names_of(compiler);
        let octets = &mut self.parts.octets;
        let proofs = Proofs::build(&names, apex, soa.negative_ttl, signing, octets);
        let soa_at = soa.push(soa.negative_ttl, octets);
        let mut zone_compiler = ZoneCompiler {
            plain: compiler,
            signing,
            proofs,
            nsec_ttl: soa.negative_ttl,
            zone,
            made: Map::default(),
            out: &mut self.parts,
        };
        zone_compiler.nodes(&names);
        for child in children.iter().map(|child| child.apex.as_wire()) {
            let answer = zone_compiler.parent_side(child);
            self.parent_sides.insert(child.into(), (answer, zone));
        }
        let proofs = zone_compiler.proofs;
        let pieces = (&proofs, &*self.parts.octets);
        let content = signing.is_transferred.then(|| content(compiler, children, signing, pieces, topology));
        self.parts.contents.push(content);
        let nsec_ttl = soa.negative_ttl;
        let signed = SignedZone { apex: apex.into(), soa: soa_at, proofs, nsec_ttl, signing: signing.clone() };
        for (owner, &at) in compiler.names {
            let steered = &compiler.steered[at as usize];
            let empty = self.parts.empty(compiler, owner, steered, &signed, &soa);
            self.parts.variants[at as usize] =
                Some(Variants::new(owner, steered, ttls(steered, topology), empty, signing));
        }
        self.parts.zones.push(ZoneEntry { signed: Some(signed), parent_side: None });
        self.insert_from(first);
        self.link_wildcards(first);
    }

    /// The finished set; `is_in_unsigned` tells of zones whose name lies in one that is not signed.
    pub(in super::super) fn finish(mut self, is_in_unsigned: impl Fn(usize) -> bool) -> SignedSet {
        for (at, zone) in self.parts.zones.iter_mut().enumerate() {
            zone.parent_side = is_in_unsigned(at).then_some(ParentSide::Unsigned);
        }
        for (apex, (answer, parent)) in &self.parent_sides {
            if let Some(node) = position(&self.table, &self.parts, apex) {
                let zone = self.parts.nodes[node].zone as usize;
                self.parts.zones[zone].parent_side = Some(ParentSide::Signed(*answer, *parent));
            }
        }
        let Parts { octets, nodes, answers, proofs, dnames, online, steered, zones, contents, variants } = self.parts;
        SignedSet {
            table: self.table,
            octets: octets.into(),
            nodes: nodes.into(),
            answers: answers.into(),
            proofs: proofs.into(),
            dnames: dnames.into(),
            online: online.into(),
            steered: steered.into(),
            zones: zones.into(),
            contents,
            variants: variants.into(),
        }
    }

    /// Whether positions no longer reach all of it.
    pub(in super::super) fn is_overfull(&self) -> bool {
        u32::try_from(self.parts.octets.len()).is_err()
    }

    fn insert_from(&mut self, first: usize) {
        for at in first..self.parts.nodes.len() {
            self.table.insert(self.parts.name(at), at as u32 + 1);
        }
    }

    fn link_wildcards(&mut self, first: usize) {
        for at in first..self.parts.nodes.len() {
            let name = self.parts.name(at);
            let above = parent(name).filter(|_| is_wildcard(name));
            if let Some(above) = above.and_then(|above| position(&self.table, &self.parts, above)) {
                self.parts.nodes[above].wildcard = Id::of(at);
            }
        }
    }
}

fn position(table: &Table, parts: &Parts, name: &[u8]) -> Option<usize> {
    table.position(name, |at, name| parts.name(at as usize - 1) == name).map(|at| at as usize - 1)
}

impl Parts {
    /// Adds `name` behind its length; gives where.
    pub(super) fn push_name(&mut self, name: &[u8]) -> u32 {
        let at = self.octets.len() as u32;
        self.octets.push(name.len() as u8);
        self.octets.extend_from_slice(name);
        at
    }

    pub(super) fn push_steered(&mut self, link: SteeredLink) -> Option<Id> {
        self.steered.push(link);
        Id::of(self.steered.len() - 1)
    }

    fn name(&self, node: usize) -> &[u8] {
        name_at(&self.octets, self.nodes[node].name)
    }

    /// What is answered while nobody serves `steered`, for each type that it offers.
    ///
    /// The bitmap lacks that type and no other: an answer that says "no data now" must be proved, and the record of the
    /// zone says that there is data. It holds as long as the empty answer itself, so a resolver that makes more answers of
    /// it (RFC 8198) gives none longer than the one it got; and it denies no other type and no other name. The price is
    /// that two versions of one record are about; each is signed, and resolvers keep the one that came last. SERVFAIL
    /// would be worse: every resolver would ask all servers again for each client.
    fn empty(
        &mut self,
        compiler: &Compiler<'_>,
        owner: &[u8],
        steered: &SteeredName,
        zone: &SignedZone,
        soa: &Soa<'_>,
    ) -> [Option<Empty>; Offer::ALL.len()] {
        let ttl = zone.nsec_ttl.min(steered.empty_ttl_max);
        let records = Records { apex: &zone.apex, ttl, signing: &zone.signing };
        let soa = soa.push(ttl, &mut self.octets);
        Offer::ALL.map(|offer| {
            let mut types = compiler.types_at(owner);
            if !types.remove(&offer.rtype()) {
                return None;
            }
            let denial = match zone.signing.denial {
                Denial::Nsec => {
                    let next = self.chained(zone, owner, |rdata| Some(Name::split_from(rdata)?.0.to_vec()));
                    records.nsec(owner, &next, &types, ttl, &mut self.octets)
                }
                Denial::Nsec3 => {
                    let next = self.chained(zone, owner, |rdata| rdata.get(NEXT_HASH_AT..)?.first_chunk().copied());
                    records.nsec3(&nsec3_hash(owner), &next, &types, ttl, &mut self.octets)
                }
                Denial::Compact => records.nsec(owner, &successor(owner), &types, ttl, &mut self.octets),
            };
            Some(Empty { soa, denial })
        })
    }

    /// What `next` finds in the data of the denial record of `owner`: who comes next.
    fn chained<T: Default>(&self, zone: &SignedZone, owner: &[u8], next: impl Fn(&[u8]) -> Option<T>) -> T {
        let own = zone.proofs.covering(owner, zone.apex.len()).map(|at| Piece::at(&self.octets, at));
        let record = own.and_then(|own| own.records().next()).unwrap_or_default();
        record.get(piece::RECORD_HEAD_LEN..).and_then(next).unwrap_or_default()
    }
}

/// The SOA record of a zone.
struct Soa<'a> {
    rdata: &'a [u8],
    rrsigs: Vec<Box<[u8]>>,
    /// How long a negative answer holds, its SOA record as the NSEC record beside it (RFC 2308, section 5, RFC 9077).
    negative_ttl: u32,
}

impl<'a> Soa<'a> {
    fn new(compiler: &Compiler<'a>, signing: &Signing) -> Self {
        let soa = compiler.zone.rrset(compiler.zone.apex.as_wire(), Rtype::SOA);
        let rdata = soa.and_then(Rrset::first).unwrap_or_default();
        let ttl = soa.map_or(0, |soa| soa.ttl);
        let minimum = rdata.last_chunk().map_or(0, |&octets| u32::from_be_bytes(octets));
        let rrsigs = (signing.sign)(compiler.zone.apex.as_wire(), Rtype::SOA, ttl, &[rdata]);
        Self { rdata, rrsigs, negative_ttl: ttl.min(minimum) }
    }

    /// Adds it as it is sent with `ttl`, which may be less than what is signed; gives where.
    fn push(&self, ttl: u32, octets: &mut Vec<u8>) -> u32 {
        let at = octets.len() as u32;
        piece::push(octets, &[], Rtype::SOA, ttl, self.rdata, &self.rrsigs);
        at
    }
}

pub(super) fn name_at(octets: &[u8], at: u32) -> &[u8] {
    let start = at as usize + 1;
    &octets[start..start + usize::from(octets[start - 1])]
}

/// Where the next hash starts in NSEC3 data: behind the parameters and its length.
const NEXT_HASH_AT: usize = NSEC3_PARAMETERS.len() + 1;
