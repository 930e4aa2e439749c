//! Zones compiled to nodes whose answers are ready-made.

use super::overlay::SteeredNames;
use super::rdata::{suffixes, target_of};
use super::steered::{Offer, SteeredName};
use super::tail::{Chain, Composer, Owner, Section, Tail};
use super::{Rrset, Zone, is_wildcard};
use crate::wire::{Name, Rcode, Rtype, is_at_or_below, parent};

/// What the table of names leads to.
#[derive(Debug)]
pub(super) struct Node {
    /// Position of its zone.
    pub(super) zone: u32,
    pub(super) owner_len: u8,
    pub(super) kind: Kind,
    /// The type that answers for ANY (RFC 8482).
    pub(super) any: Option<Rtype>,
    pub(super) answers: Box<[(Rtype, Tail)]>,
    /// The answer to every other type; `None`: the zone's NODATA.
    pub(super) otherwise: Option<Box<Tail>>,
    pub(super) steered: Option<Box<SteeredNode>>,
    /// The node of the wildcard right below.
    pub(super) wildcard: Option<u32>,
}

/// What a node means for the names below it.
#[derive(Debug)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// They are delegated.
    Cut,
    /// They are redirected (RFC 6672).
    Dname(Box<Dname>),
}

/// A DNAME record.
#[derive(Debug)]
pub struct Dname {
    /// The record itself.
    pub tail: Tail,
    /// Octets of the owner name.
    pub owner_len: usize,
    /// Where names below the owner lead.
    pub target: Name,
    /// Its TTL, which the CNAME made from it has too.
    pub ttl: u32,
}

/// The steered answers of a node.
#[derive(Debug)]
pub(super) struct SteeredNode {
    /// Position among the steered names.
    pub(super) steered: u32,
    /// The CNAMEs that lead to the steered name, and the answer when nobody serves it.
    pub(super) chain: Option<(Chain, Tail)>,
}

/// What compiling a zone gives.
pub(super) struct Compiled {
    pub(super) nodes: Vec<(Box<[u8]>, Node)>,
    /// Names below delegations.
    pub(super) below_cuts: Vec<BelowCut>,
    pub(super) nodata: Tail,
    pub(super) nxdomain: Tail,
}

/// A name below a delegation.
pub(super) struct BelowCut {
    pub(super) name: Box<[u8]>,
    /// The name of the delegation.
    pub(super) cut: Box<[u8]>,
}

/// One zone and what else is served beside it.
pub(super) struct Compiler<'a> {
    pub(super) zone: &'a Zone,
    pub(super) index: u32,
    /// Names of zones below this one that are served here too.
    pub(super) children: Vec<&'a [u8]>,
    pub(super) names: &'a SteeredNames,
    pub(super) steered: &'a [SteeredName],
}

/// What is at a name.
enum Located<'a> {
    /// Another zone's matter, or a DNAME's: chains stop.
    Elsewhere,
    /// A delegation.
    Cut(&'a [u8]),
    /// A node of this zone, by its owner name; a wildcard's where that stands in.
    Node(Box<[u8]>),
    Nothing,
}

impl Compiler<'_> {
    pub(super) fn compile(&self) -> Compiled {
        let (mut nodes, mut below_cuts) = (Vec::with_capacity(self.zone.nodes.len()), Vec::new());
        for (owner, rrsets) in &self.zone.nodes {
            if self.is_child(owner) {
                continue;
            }
            match self.zone.cut_of(owner) {
                Some(cut) if cut.len() < owner.len() => {
                    below_cuts.push(BelowCut { name: owner.clone(), cut: cut.into() });
                }
                Some(_) => nodes.push((owner.clone(), self.cut_node(owner, rrsets))),
                None => nodes.push((owner.clone(), self.node(owner, rrsets))),
            }
        }
        let apex = self.apex();
        Compiled {
            nodes,
            below_cuts,
            nodata: self.negative(apex, Rcode::NOERROR),
            nxdomain: self.negative(apex, Rcode::NXDOMAIN),
        }
    }

    /// The answer to DS at `child`, the name of a zone that is served here too (RFC 4035, section 3.1.4.1).
    pub(super) fn parent_side(&self, child: &[u8]) -> Tail {
        match (self.zone.rrset(child, Rtype::DS), self.zone.cut_of(child)) {
            (Some(ds), _) => self.alone(child, ds),
            (None, Some(cut)) if cut.len() < child.len() => self.referral(cut),
            (None, _) => self.negative(child, Rcode::NOERROR),
        }
    }

    fn apex(&self) -> &[u8] {
        self.zone.apex.as_wire()
    }

    fn is_child(&self, name: &[u8]) -> bool {
        self.children.iter().any(|child| is_at_or_below(name, child))
    }

    fn node(&self, owner: &[u8], rrsets: &[Rrset]) -> Node {
        // Every question that a wildcard answers ends in the name above it.
        let base = if is_wildcard(owner) { parent(owner).unwrap_or(owner) } else { owner };
        let mut node = Node {
            zone: self.index,
            owner_len: owner.len() as u8,
            kind: Kind::Plain,
            any: None,
            answers: rrsets.iter().map(|rrset| (rrset.rtype, self.positive(base, owner, rrset))).collect(),
            otherwise: None,
            steered: self.names.get(owner).map(|&steered| Box::new(SteeredNode { steered, chain: None })),
            wildcard: None,
        };
        node.any = self.any_type(&node);
        for rrset in rrsets {
            match (rrset.rtype, rrset.rdatas.first().and_then(|rdata| target_of(rrset.rtype, rdata))) {
                (Rtype::CNAME, Some(target)) => self.follow(base, owner, rrset, &target, &mut node),
                (Rtype::DNAME, Some(target)) => {
                    let mut composer = Composer::new(owner);
                    composer.rrset(Section::Answer, Owner::Name(owner), rrset);
                    let tail = composer.finish(Rcode::NOERROR, true);
                    node.kind = Kind::Dname(Box::new(Dname { tail, owner_len: owner.len(), target, ttl: rrset.ttl }));
                }
                _ => {}
            }
        }
        node
    }

    /// The type to answer ANY by: CNAME where there is one, else a steered one, else the shortest.
    fn any_type(&self, node: &Node) -> Option<Rtype> {
        let has_cname = node.answers.iter().any(|&(rtype, _)| rtype == Rtype::CNAME);
        let steered = node.steered.as_ref().map(|node| &self.steered[node.steered as usize]);
        let offer = steered.and_then(|steered| Offer::ALL.into_iter().find(|&offer| steered.offers(offer)));
        let shortest = node.answers.iter().min_by_key(|(rtype, tail)| (tail.required_len(), *rtype));
        let cname = has_cname.then_some(Rtype::CNAME);
        cname.or(offer.map(Offer::rtype)).or(shortest.map(|&(rtype, _)| rtype))
    }

    fn cut_node(&self, owner: &[u8], rrsets: &[Rrset]) -> Node {
        let ds = rrsets.iter().find(|rrset| rrset.rtype == Rtype::DS);
        let ds = ds.map_or_else(|| self.negative(owner, Rcode::NOERROR), |ds| self.alone(owner, ds));
        Node {
            zone: self.index,
            owner_len: owner.len() as u8,
            kind: Kind::Cut,
            any: None,
            answers: Box::new([(Rtype::DS, ds)]),
            otherwise: Some(Box::new(self.referral(owner))),
            steered: None,
            wildcard: None,
        }
    }

    fn alone(&self, base: &[u8], rrset: &Rrset) -> Tail {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, rrset);
        composer.finish(Rcode::NOERROR, true)
    }

    fn positive(&self, base: &[u8], owner: &[u8], rrset: &Rrset) -> Tail {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, rrset);
        if rrset.rtype == Rtype::NS && owner == self.apex() {
            composer.end_required();
            self.addresses(&mut composer, rrset, |_| true);
        }
        composer.finish(Rcode::NOERROR, true)
    }

    fn negative(&self, base: &[u8], rcode: Rcode) -> Tail {
        let mut composer = Composer::new(base);
        self.soa(&mut composer);
        composer.finish(rcode, true)
    }

    fn soa(&self, composer: &mut Composer<'_>) {
        if let Some(soa) = self.zone.rrset(self.apex(), Rtype::SOA) {
            composer.soa(self.apex(), soa);
        }
    }

    fn referral(&self, cut: &[u8]) -> Tail {
        let mut composer = Composer::new(cut);
        self.delegate(&mut composer, cut);
        composer.finish(Rcode::NOERROR, false)
    }

    /// NS records and glue: what is in the delegated domain must be sent (RFC 9471), other addresses may be.
    fn delegate(&self, composer: &mut Composer<'_>, cut: &[u8]) {
        let Some(delegation) = self.zone.rrset(cut, Rtype::NS) else { return };
        composer.rrset(Section::Authority, Owner::Name(cut), delegation);
        self.addresses(composer, delegation, |target| is_at_or_below(target, cut));
        composer.end_required();
        self.addresses(composer, delegation, |target| !is_at_or_below(target, cut));
    }

    /// Adds the addresses in this zone of those name servers in `ns` that are `wanted`.
    fn addresses(&self, composer: &mut Composer<'_>, ns: &Rrset, is_wanted: impl Fn(&[u8]) -> bool) {
        for target in ns.rdatas.iter().filter_map(|rdata| target_of(Rtype::NS, rdata)) {
            let target = target.folded();
            let target = target.as_wire();
            for rtype in [Rtype::A, Rtype::AAAA] {
                if let Some(addresses) = self.zone.rrset(target, rtype).filter(|_| is_wanted(target)) {
                    composer.rrset(Section::Additional, Owner::Name(target), addresses);
                }
            }
        }
    }

    /// Follows the CNAME at `owner` to `target` and on, within the zone, and adds to `node` what comes of it
    /// (RFC 1034, section 4.3.2; the last name decides the response code, RFC 6604).
    fn follow(&self, base: &[u8], owner: &[u8], first: &Rrset, target: &Name, node: &mut Node) {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, first);
        // What a wildcard answers for has another name, which is not known here.
        let mut visited: Vec<Name> = (!is_wildcard(owner)).then(|| Name::from_wire(owner)).into_iter().collect();
        let longest = CHAIN_MAX + visited.len();
        let mut target = target.folded();
        loop {
            let found = if visited.len() >= longest { Located::Elsewhere } else { self.locate(target.as_wire()) };
            match found {
                Located::Elsewhere => node.otherwise = Some(Box::new(composer.finish(Rcode::NOERROR, true))),
                Located::Cut(cut) => {
                    if cut.len() == target.as_wire().len() {
                        self.end_chain_at_cut(&composer, cut, node);
                    }
                    self.delegate(&mut composer, cut);
                    node.otherwise = Some(Box::new(composer.finish(Rcode::NOERROR, true)));
                }
                Located::Nothing => {
                    self.soa(&mut composer);
                    node.otherwise = Some(Box::new(composer.finish(Rcode::NXDOMAIN, true)));
                }
                Located::Node(found) => {
                    let cname = self.zone.rrset(&found, Rtype::CNAME);
                    let next = cname.and_then(|cname| target_of(Rtype::CNAME, cname.rdatas.first()?));
                    let (Some(cname), Some(next)) = (cname, next) else {
                        return self.end_chain(composer, &found, target.as_wire(), node);
                    };
                    if visited.contains(&target) {
                        node.otherwise = Some(Box::new(composer.finish(Rcode::NOERROR, true)));
                        return;
                    }
                    composer.rrset(Section::Answer, Owner::Name(target.as_wire()), cname);
                    visited.push(std::mem::replace(&mut target, next.folded()));
                    continue;
                }
            }
            return;
        }
    }

    /// Adds to `node` the answers of a chain whose end, `target`, is answered by the data of `found`.
    fn end_chain(&self, composer: Composer<'_>, found: &[u8], target: &[u8], node: &mut Node) {
        let nodata = |composer: &Composer<'_>| {
            let mut composer = composer.clone();
            self.soa(&mut composer);
            composer.finish(Rcode::NOERROR, true)
        };
        let mut answers = std::mem::take(&mut node.answers).into_vec();
        for rrset in self.zone.nodes.get(found).into_iter().flatten() {
            let mut composer = composer.clone();
            composer.rrset(Section::Answer, Owner::Name(target), rrset);
            answers.push((rrset.rtype, composer.finish(Rcode::NOERROR, true)));
        }
        node.answers = answers.into();
        node.otherwise = Some(Box::new(nodata(&composer)));
        if let Some(&steered) = self.names.get(found) {
            let empty = nodata(&composer);
            let chain = composer.finish_chain(target).map(|chain| (chain, empty));
            node.steered = chain.map(|chain| Box::new(SteeredNode { steered, chain: Some(chain) }));
        }
    }

    /// DS at a delegation is this side's matter, at the end of a chain too.
    fn end_chain_at_cut(&self, composer: &Composer<'_>, cut: &[u8], node: &mut Node) {
        let mut composer = composer.clone();
        match self.zone.rrset(cut, Rtype::DS) {
            Some(ds) => composer.rrset(Section::Answer, Owner::Name(cut), ds),
            None => self.soa(&mut composer),
        }
        let ds = (Rtype::DS, composer.finish(Rcode::NOERROR, true));
        node.answers = std::mem::take(&mut node.answers).into_iter().chain([ds]).collect();
    }

    fn locate<'n>(&self, name: &'n [u8]) -> Located<'n> {
        if !is_at_or_below(name, self.apex()) || self.is_child(name) {
            return Located::Elsewhere;
        }
        if let Some(cut) = self.zone.cut_of(name) {
            return Located::Cut(cut);
        }
        if self.zone.nodes.contains_key(name) {
            return Located::Node(name.into());
        }
        // The apex exists and is above, so the closest encloser is found.
        let encloser = suffixes(name).skip(1).find(|above| self.zone.nodes.contains_key(*above)).unwrap_or(name);
        if self.zone.rrset(encloser, Rtype::DNAME).is_some() {
            return Located::Elsewhere;
        }
        let wildcard = [b"\x01*", encloser].concat();
        if self.zone.nodes.contains_key(&*wildcard) { Located::Node(wildcard.into()) } else { Located::Nothing }
    }
}

/// Most CNAMEs in one answer: more than anybody needs, and resolvers give up at about as many.
pub(super) const CHAIN_MAX: usize = 16;
