//! Zones compiled to nodes whose answers are ready-made.

use std::collections::{BTreeSet, HashSet};

use super::compose::{Composed, ComposedChain, Composer, Owner, Section};
use super::overlay::SteeredNames;
use super::rdata::{suffixes, target_of};
use super::steered::{Offer, SteeredName};
use super::{Rrset, Zone, is_wildcard};
use crate::wire::{Name, Rcode, Rtype, is_at_or_below, parent};

/// A node composed, before it is put into the arena.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    /// The type that answers for ANY (RFC 8482).
    pub(super) any: Option<Rtype>,
    pub(super) answers: Vec<(Rtype, Composed)>,
    /// The answer to every other type; `None`: the zone's NODATA.
    pub(super) otherwise: Option<Composed>,
    pub(super) steered: Option<SteeredDraft>,
    pub(super) dname: Option<DnameDraft>,
    /// Whether there is a wildcard right below.
    pub(super) is_above_wildcard: bool,
}

/// What a node means for the names below it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Nothing.
    Plain = 0,
    /// They are delegated.
    Cut = 1,
    /// They are redirected (RFC 6672).
    Dname = 2,
    /// It lies below a delegation itself.
    BelowCut = 3,
}

/// A DNAME record composed.
#[derive(Debug)]
pub(super) struct DnameDraft {
    pub(super) record: Composed,
    pub(super) target: Name,
    pub(super) ttl: u32,
}

/// The steered answers of a node.
#[derive(Debug)]
pub(super) struct SteeredDraft {
    /// Position among the steered names.
    pub(super) steered: u32,
    /// The CNAMEs that lead to the steered name, and the answer when nobody serves it.
    pub(super) chain: Option<(ComposedChain, Composed)>,
}

/// What a zone says at a name.
#[expect(clippy::large_enum_variant, reason = "nearly all are nodes, and there is one at a time")]
pub(super) enum Drafted<'a> {
    Node(Draft),
    /// It lies below the delegation of this name.
    BelowCut(&'a [u8]),
}

impl Draft {
    /// Whether it has more than answers by type.
    pub(super) fn needs_extras(&self) -> bool {
        self.otherwise.is_some() || self.steered.is_some() || self.dname.is_some() || self.is_above_wildcard
    }
}

/// One zone and what else is served beside it.
pub(super) struct Compiler<'a> {
    pub(super) zone: &'a Zone,
    /// Names of zones below this one that are served here too.
    pub(super) children: Vec<&'a [u8]>,
    pub(super) names: &'a SteeredNames,
    pub(super) steered: &'a [SteeredName],
}

/// What is at a name.
pub(super) enum Located<'a> {
    /// Another zone's matter, or a DNAME's: chains stop.
    Elsewhere,
    /// A delegation.
    Cut(&'a [u8]),
    /// A node of this zone, by its owner name; a wildcard's where that stands in.
    Node(Box<[u8]>),
    Nothing,
}

impl<'a> Compiler<'a> {
    /// Drafts a node for every name of the zone that no other zone has, in any order.
    pub(super) fn drafts(&self) -> impl Iterator<Item = (&[u8], Drafted<'_>)> {
        let wildcards = self.zone.nodes.keys().filter(|owner| is_wildcard(owner));
        let above_wildcards: HashSet<&[u8]> = wildcards.filter_map(|owner| parent(owner)).collect();
        let owners = self.zone.nodes.iter().filter(|(owner, _)| !self.is_child(owner));
        owners.map(move |(owner, rrsets)| {
            let drafted = match self.zone.cut_of(owner) {
                Some(cut) if cut.len() < owner.len() => Drafted::BelowCut(cut),
                Some(_) => Drafted::Node(self.cut_node(owner, rrsets)),
                None => {
                    let is_above_wildcard = above_wildcards.contains(&**owner);
                    Drafted::Node(Draft { is_above_wildcard, ..self.node(owner, rrsets) })
                }
            };
            (&**owner, drafted)
        })
    }

    /// The answer for names of the zone that have no data of the type asked for.
    pub(super) fn nodata(&self) -> Composed {
        self.negative(self.apex(), Rcode::NOERROR)
    }

    /// The answer for names that do not exist.
    pub(super) fn nxdomain(&self) -> Composed {
        self.negative(self.apex(), Rcode::NXDOMAIN)
    }

    /// The answer to DS at `child`, the name of a zone that is served here too (RFC 4035, section 3.1.4.1).
    pub(super) fn parent_side(&self, child: &[u8]) -> Composed {
        match (self.zone.rrset(child, Rtype::DS), self.zone.cut_of(child)) {
            (Some(ds), _) => self.alone(child, ds),
            (None, Some(cut)) if cut.len() < child.len() => self.referral(cut),
            (None, _) => self.negative(child, Rcode::NOERROR),
        }
    }

    pub(super) fn apex(&self) -> &'a [u8] {
        self.zone.apex.as_wire()
    }

    pub(super) fn is_child(&self, name: &[u8]) -> bool {
        self.children.iter().any(|child| is_at_or_below(name, child))
    }

    fn node(&self, owner: &[u8], rrsets: &[Rrset]) -> Draft {
        // Every question that a wildcard answers ends in the name above it.
        let base = if is_wildcard(owner) { parent(owner).unwrap_or(owner) } else { owner };
        let mut node = Draft {
            kind: Kind::Plain,
            any: None,
            answers: rrsets.iter().map(|rrset| (rrset.rtype, self.positive(base, owner, rrset))).collect(),
            otherwise: None,
            steered: self.names.get(owner).map(|&steered| SteeredDraft { steered, chain: None }),
            dname: None,
            is_above_wildcard: false,
        };
        node.any = self.any_type(&node);
        for rrset in rrsets {
            match (rrset.rtype, rrset.first().and_then(|rdata| target_of(rrset.rtype, rdata))) {
                (Rtype::CNAME, Some(target)) => self.follow(base, owner, rrset, &target, &mut node),
                (Rtype::DNAME, Some(target)) => {
                    let mut composer = Composer::new(owner);
                    composer.rrset(Section::Answer, Owner::Name(owner), rrset);
                    let record = composer.finish(Rcode::NOERROR, true);
                    node.kind = Kind::Dname;
                    node.dname = Some(DnameDraft { record, target, ttl: rrset.ttl });
                }
                _ => {}
            }
        }
        node
    }

    /// The type to answer ANY by: CNAME where there is one, else a steered one, else the shortest.
    fn any_type(&self, node: &Draft) -> Option<Rtype> {
        let has_cname = node.answers.iter().any(|&(rtype, _)| rtype == Rtype::CNAME);
        let offer = node.steered.as_ref().and_then(|node| self.first_offer(node.steered));
        let shortest = node.answers.iter().min_by_key(|(rtype, tail)| (tail.required.0, *rtype));
        let cname = has_cname.then_some(Rtype::CNAME);
        cname.or(offer.map(Offer::rtype)).or(shortest.map(|&(rtype, _)| rtype))
    }

    fn cut_node(&self, owner: &[u8], rrsets: &[Rrset]) -> Draft {
        let ds = rrsets.iter().find(|rrset| rrset.rtype == Rtype::DS);
        let ds = ds.map_or_else(|| self.negative(owner, Rcode::NOERROR), |ds| self.alone(owner, ds));
        Draft {
            kind: Kind::Cut,
            any: None,
            answers: vec![(Rtype::DS, ds)],
            otherwise: Some(self.referral(owner)),
            steered: None,
            dname: None,
            is_above_wildcard: false,
        }
    }

    fn alone(&self, base: &[u8], rrset: &Rrset) -> Composed {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, rrset);
        composer.finish(Rcode::NOERROR, true)
    }

    fn positive(&self, base: &[u8], owner: &[u8], rrset: &Rrset) -> Composed {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, rrset);
        if rrset.rtype == Rtype::NS && owner == self.apex() {
            composer.end_required();
            self.addresses(&mut composer, rrset, |_| true);
        }
        composer.finish(Rcode::NOERROR, true)
    }

    fn negative(&self, base: &[u8], rcode: Rcode) -> Composed {
        let mut composer = Composer::new(base);
        self.soa(&mut composer);
        composer.finish(rcode, true)
    }

    fn soa(&self, composer: &mut Composer<'_>) {
        if let Some(soa) = self.zone.rrset(self.apex(), Rtype::SOA) {
            composer.soa(self.apex(), soa);
        }
    }

    fn referral(&self, cut: &[u8]) -> Composed {
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
    pub(super) fn addresses(&self, composer: &mut Composer<'_>, ns: &Rrset, is_wanted: impl Fn(&[u8]) -> bool) {
        for (target, addresses) in self.addresses_of(ns, is_wanted) {
            composer.rrset(Section::Additional, Owner::Name(target.as_wire()), addresses);
        }
    }

    /// The same with their names, in lower case.
    pub(super) fn addresses_of(&self, ns: &Rrset, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<(Name, &'a Rrset)> {
        let targets = ns.rdatas().filter_map(|rdata| target_of(Rtype::NS, rdata)).map(|target| target.folded());
        let of_target = |target: Name| {
            let addresses =
                [Rtype::A, Rtype::AAAA].into_iter().filter_map(|rtype| self.zone.rrset(target.as_wire(), rtype));
            addresses.map(|addresses| (target.clone(), addresses)).collect::<Vec<_>>()
        };
        targets.filter(|target| is_wanted(target.as_wire())).flat_map(of_target).collect()
    }

    /// The types at `name`, those of steered ones included whatever serves.
    pub(super) fn types_at(&self, name: &[u8]) -> BTreeSet<Rtype> {
        let steered = self.names.get(name).map(|&steered| &self.steered[steered as usize]);
        let offers = Offer::ALL.into_iter().filter(|&offer| steered.is_some_and(|name| name.offers(offer)));
        let rrsets = self.zone.nodes.get(name).into_iter().flatten();
        rrsets.map(|rrset| rrset.rtype).chain(offers.map(Offer::rtype)).collect()
    }

    /// The first type that the steered name at `steered` offers.
    pub(super) fn first_offer(&self, steered: u32) -> Option<Offer> {
        Offer::ALL.into_iter().find(|&offer| self.steered[steered as usize].offers(offer))
    }

    /// Follows the CNAME at `owner` to `target` and on, within the zone, and adds to `node` what comes of it
    /// (RFC 1034, section 4.3.2; the last name decides the response code, RFC 6604).
    fn follow(&self, base: &[u8], owner: &[u8], first: &Rrset, target: &Name, node: &mut Draft) {
        let mut composer = Composer::new(base);
        composer.rrset(Section::Answer, Owner::Question, first);
        // Owner names of the CNAMEs in it, wildcards as they stand in the zone: what these answer for has another name
        // each time, but one that comes a second time leads round in a circle all the same.
        let mut visited: Vec<Box<[u8]>> = vec![owner.into()];
        let mut target = target.folded();
        loop {
            let found = if visited.len() > CHAIN_MAX { Located::Elsewhere } else { self.locate(target.as_wire()) };
            match found {
                Located::Elsewhere => node.otherwise = Some(composer.finish(Rcode::NOERROR, true)),
                Located::Cut(cut) => {
                    if cut.len() == target.as_wire().len() {
                        self.end_chain_at_cut(&composer, cut, node);
                    }
                    self.delegate(&mut composer, cut);
                    node.otherwise = Some(composer.finish(Rcode::NOERROR, true));
                }
                Located::Nothing => {
                    self.soa(&mut composer);
                    node.otherwise = Some(composer.finish(Rcode::NXDOMAIN, true));
                }
                Located::Node(found) => {
                    let cname = self.zone.rrset(&found, Rtype::CNAME);
                    let next = cname.and_then(|cname| target_of(Rtype::CNAME, cname.first()?));
                    let (Some(cname), Some(next)) = (cname, next) else {
                        return self.end_chain(composer, &found, target.as_wire(), node);
                    };
                    if visited.contains(&found) {
                        node.otherwise = Some(composer.finish(Rcode::NOERROR, true));
                        return;
                    }
                    composer.rrset(Section::Answer, Owner::Name(target.as_wire()), cname);
                    visited.push(found);
                    target = next.folded();
                    continue;
                }
            }
            return;
        }
    }

    /// Adds to `node` the answers of a chain whose end, `target`, is answered by the data of `found`.
    fn end_chain(&self, composer: Composer<'_>, found: &[u8], target: &[u8], node: &mut Draft) {
        let nodata = |composer: &Composer<'_>| {
            let mut composer = composer.clone();
            self.soa(&mut composer);
            composer.finish(Rcode::NOERROR, true)
        };
        for rrset in self.zone.nodes.get(found).into_iter().flatten() {
            let mut composer = composer.clone();
            composer.rrset(Section::Answer, Owner::Name(target), rrset);
            node.answers.push((rrset.rtype, composer.finish(Rcode::NOERROR, true)));
        }
        node.otherwise = Some(nodata(&composer));
        if let Some(&steered) = self.names.get(found) {
            let empty = nodata(&composer);
            let chain = composer.finish_chain(target).map(|chain| (chain, empty));
            node.steered = chain.map(|chain| SteeredDraft { steered, chain: Some(chain) });
        }
    }

    /// DS at a delegation is this side's matter, at the end of a chain too.
    fn end_chain_at_cut(&self, composer: &Composer<'_>, cut: &[u8], node: &mut Draft) {
        let mut composer = composer.clone();
        match self.zone.rrset(cut, Rtype::DS) {
            Some(ds) => composer.rrset(Section::Answer, Owner::Name(cut), ds),
            None => self.soa(&mut composer),
        }
        node.answers.push((Rtype::DS, composer.finish(Rcode::NOERROR, true)));
    }

    pub(super) fn locate<'n>(&self, name: &'n [u8]) -> Located<'n> {
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
pub(crate) const CHAIN_MAX: usize = 16;
