//! Zones compiled to nodes whose answers are signed.

use std::collections::BTreeSet;

use super::super::compile::{CHAIN_MAX, Compiler, Located};
use super::super::compose::{Composed, Composer, Owner, Section};
use super::super::rdata::{suffixes, target_of};
use super::super::steered::Offer;
use super::super::tail::pack;
use super::super::{FilePlace, Map, Rdata, Record, Rrset, is_wildcard};
use super::Signing;
use super::build::Parts;
use super::denial::{Names, Owned, Proofs, Records, successor};
use super::node::{Answer, ChainLink, DnameLink, End, Id, Kind, Node, Online, OnlineRrset, SteeredLink};
use super::piece::Piece;
use crate::wire::{Name, Rcode, Rtype, parent};

/// One zone that is compiled.
pub(super) struct ZoneCompiler<'a> {
    pub(super) plain: &'a Compiler<'a>,
    pub(super) signing: &'a Signing,
    pub(super) proofs: Proofs,
    pub(super) nsec_ttl: u32,
    /// Position of the zone.
    pub(super) zone: u32,
    /// Denial records made for one name each (RFC 9824), by that name.
    pub(super) made: Map<Box<[u8]>, u32>,
    pub(super) out: &'a mut Parts,
}

/// The records of a chain of CNAMEs, and what proves that they are the right ones.
#[derive(Clone)]
struct Chain<'a> {
    composer: Composer<'a>,
    proofs: Vec<u32>,
}

impl ZoneCompiler<'_> {
    /// Adds a node for each of `names` that no other zone has.
    pub(super) fn nodes(&mut self, names: &Names<'_>) {
        for owned in names.values().filter(|owned| !self.plain.is_child(owned.name)) {
            let node = if owned.is_cut { self.cut_node(owned) } else { self.node(owned) };
            self.out.nodes.push(node);
        }
    }

    /// Adds the answer to DS at `child`, the name of a zone that is served here too (RFC 4035, section 3.1.4.1).
    pub(super) fn parent_side(&mut self, child: &[u8]) -> Answer {
        match (self.plain.zone.rrset(child, Rtype::DS), self.plain.zone.cut_of(child)) {
            (Some(ds), _) => self.alone(child, ds),
            (None, Some(cut)) if cut.len() < child.len() => self.referral(cut),
            (None, _) => {
                let own = self.own(child, &[Rtype::NS].into());
                self.denial(Rtype::DS, End::Nodata, &[own])
            }
        }
    }

    fn blank(&mut self, owned: &Owned<'_>, kind: Kind) -> Node {
        let name = owned.name;
        let own = self.own(name, &owned.types);
        let wildcard = [b"\x01*", name].concat();
        let has_index = !matches!(self.proofs, Proofs::Compact);
        let no_wildcard = if has_index { self.covering(&wildcard) } else { 0 };
        let owns_nsec = match self.proofs {
            Proofs::Nsec(_) => !owned.types.is_empty(),
            Proofs::Nsec3(_) => false,
            Proofs::Compact => true,
        };
        Node { kind, own, owns_nsec, no_wildcard, ..Node::unsigned(self.out.push_name(name), self.zone) }
    }

    fn node(&mut self, owned: &Owned<'_>) -> Node {
        let owner = owned.name;
        let mut node = self.blank(owned, Kind::Plain);
        let zone = self.plain.zone;
        let rrsets = zone.nodes.get(owner).map_or(&[][..], |rrsets| rrsets);
        // Every question that a wildcard answers ends in the name above it.
        let base = if is_wildcard(owner) { parent(owner).unwrap_or(owner) } else { owner };
        if is_wildcard(owner) && matches!(self.proofs, Proofs::Compact) {
            let rrsets = rrsets.iter().map(|rrset| OnlineRrset {
                rtype: rrset.rtype,
                ttl: rrset.ttl,
                rdatas: rrset.rdatas().map(Box::from).collect(),
            });
            let rrsets = rrsets.collect();
            node.online = Id::of(self.out.online.len());
            self.out.online.push(Online { types: owned.types.clone(), rrsets });
        }
        let mut answers = Vec::new();
        let mut shortest: Option<(usize, Rtype)> = None;
        for rrset in rrsets {
            let mut composer = Composer::new(base);
            composer.rrset(Section::Answer, Owner::Question, rrset);
            let unsigned = (composer.len(), rrset.rtype);
            shortest = Some(shortest.map_or(unsigned, |shortest| shortest.min(unsigned)));
            self.sign_first(&mut composer, owner, rrset);
            if rrset.rtype == Rtype::NS && owner == self.plain.apex() {
                composer.end_required();
                for addresses in self.plain.addresses_of(rrset, |_| true) {
                    self.rrset(&mut composer, Section::Additional, addresses.0.as_wire(), addresses.1);
                }
            }
            answers.push(self.data(rrset.rtype, composer));
        }
        let steered = self.plain.names.get(owner).copied();
        let has_cname = rrsets.iter().any(|rrset| rrset.rtype == Rtype::CNAME).then_some(Rtype::CNAME);
        let offer = steered.and_then(|at| self.plain.first_offer(at));
        node.any = has_cname.or(offer.map(Offer::rtype)).or(shortest.map(|(_, rtype)| rtype)).unwrap_or(Rtype(0));
        if let Some(steered) = steered {
            node.steered = self.out.push_steered(SteeredLink { steered, chain: None });
        }
        for rrset in rrsets {
            match (rrset.rtype, rrset.first().and_then(|rdata| target_of(rrset.rtype, rdata))) {
                (Rtype::CNAME, Some(target)) => self.follow(base, owner, rrset, &target, &mut node, &mut answers),
                (Rtype::DNAME, Some(target)) => {
                    let mut composer = Composer::new(owner);
                    self.rrset(&mut composer, Section::Answer, owner, rrset);
                    let Answer { tail, .. } = self.data(Rtype::DNAME, composer);
                    node.kind = Kind::Dname;
                    node.dname = Id::of(self.out.dnames.len());
                    self.out.dnames.push(DnameLink { tail, target: target.as_wire().into(), ttl: rrset.ttl });
                }
                _ => {}
            }
        }
        self.add_answers(&mut node, answers);
        node
    }

    fn cut_node(&mut self, owned: &Owned<'_>) -> Node {
        let mut node = self.blank(owned, Kind::Cut);
        let ds = match self.plain.zone.rrset(owned.name, Rtype::DS) {
            Some(ds) => self.alone(owned.name, ds),
            None => self.denial(Rtype::DS, End::Nodata, &[node.own]),
        };
        let referral = self.referral(owned.name);
        self.add_answers(&mut node, vec![ds]);
        node.otherwise = self.push_answer(referral);
        node
    }

    fn add_answers(&mut self, node: &mut Node, answers: Vec<Answer>) {
        node.answers = (self.out.answers.len() as u32, answers.len() as u16);
        self.out.answers.extend(answers);
    }

    fn push_answer(&mut self, answer: Answer) -> Option<Id> {
        self.out.answers.push(answer);
        Id::of(self.out.answers.len() - 1)
    }

    fn alone(&mut self, owner: &[u8], rrset: &Rrset) -> Answer {
        let mut composer = Composer::new(owner);
        composer.rrset(Section::Answer, Owner::Question, rrset);
        self.sign_first(&mut composer, owner, rrset);
        self.data(rrset.rtype, composer)
    }

    /// NS records, the signed DS records or the proof that there are none, and glue (RFC 4035, section 3.1.4).
    fn referral(&mut self, cut: &[u8]) -> Answer {
        let mut composer = Composer::new(cut);
        let zone = self.plain.zone;
        if let Some(delegation) = zone.rrset(cut, Rtype::NS) {
            composer.rrset(Section::Authority, Owner::Name(cut), delegation);
            match zone.rrset(cut, Rtype::DS) {
                Some(ds) => self.rrset(&mut composer, Section::Authority, cut, ds),
                None => {
                    let own = self.own(cut, &[Rtype::NS].into());
                    self.piece(&mut composer, own);
                }
            }
            self.plain.addresses(&mut composer, delegation, |target| crate::wire::is_at_or_below(target, cut));
            composer.end_required();
            self.plain.addresses(&mut composer, delegation, |target| !crate::wire::is_at_or_below(target, cut));
        }
        let tail = self.pack(&composer.finish(Rcode::NOERROR, false));
        Answer { rtype: Rtype::NS, end: End::Data, tail, proofs: (0, 0) }
    }

    fn denial(&mut self, rtype: Rtype, end: End, proofs: &[u32]) -> Answer {
        Answer { rtype, end, tail: 0, proofs: self.push_proofs(proofs) }
    }

    fn data(&mut self, rtype: Rtype, composer: Composer<'_>) -> Answer {
        self.ended(rtype, End::Data, Chain { composer, proofs: Vec::new() })
    }

    fn ended(&mut self, rtype: Rtype, end: End, chain: Chain<'_>) -> Answer {
        let proofs = self.push_proofs(&chain.proofs);
        Answer { rtype, end, tail: self.pack(&chain.composer.finish(Rcode::NOERROR, true)), proofs }
    }

    /// Follows the CNAME at `owner` to `target` and on, within the zone, as [`Compiler::follow`] does.
    ///
    /// Where the chain ends at a delegation it is not followed into that: its NS records would have to be proved too, and
    /// every resolver asks for the target anew.
    fn follow(
        &mut self,
        base: &[u8],
        owner: &[u8],
        first: &Rrset,
        target: &Name,
        node: &mut Node,
        answers: &mut Vec<Answer>,
    ) {
        let mut chain = Chain { composer: Composer::new(base), proofs: Vec::new() };
        chain.composer.rrset(Section::Answer, Owner::Question, first);
        self.sign_first(&mut chain.composer, owner, first);
        let mut visited: Vec<Name> = (!is_wildcard(owner)).then(|| Name::from_wire(owner)).into_iter().collect();
        let longest = CHAIN_MAX + visited.len();
        let mut target = target.folded();
        let otherwise = loop {
            let name = target.as_wire();
            let located = if visited.len() >= longest { Located::Elsewhere } else { self.plain.locate(name) };
            match located {
                Located::Elsewhere => break self.ended(Rtype(0), End::Data, chain),
                Located::Cut(cut) => {
                    if cut.len() == name.len() {
                        let ds = self.chain_to_cut(chain.clone(), cut);
                        answers.push(ds);
                    }
                    break self.ended(Rtype(0), End::Data, chain);
                }
                Located::Nothing => {
                    let proofs = self.name_error(name);
                    chain.proofs.extend(proofs);
                    let end = if matches!(self.proofs, Proofs::Compact) { End::Nodata } else { End::NameError };
                    break self.ended(Rtype(0), end, chain);
                }
                Located::Node(found) => {
                    let cname = self.plain.zone.rrset(&found, Rtype::CNAME);
                    let next = cname.and_then(|cname| target_of(Rtype::CNAME, cname.first()?));
                    let (Some(cname), Some(next)) = (cname, next) else {
                        break self.end_chain(chain, &found, name, node, answers);
                    };
                    if visited.contains(&target) {
                        break self.ended(Rtype(0), End::Data, chain);
                    }
                    self.expanded(&mut chain, &found, name, cname);
                    visited.push(std::mem::replace(&mut target, next.folded()));
                }
            }
        };
        node.otherwise = self.push_answer(otherwise);
    }

    /// Adds to `answers` those of a chain whose end, `target`, is answered by the data of `found`; gives that to all
    /// other types.
    fn end_chain(
        &mut self,
        chain: Chain<'_>,
        found: &[u8],
        target: &[u8],
        node: &mut Node,
        answers: &mut Vec<Answer>,
    ) -> Answer {
        for rrset in self.plain.zone.nodes.get(found).into_iter().flatten() {
            let mut chain = chain.clone();
            self.expanded(&mut chain, found, target, rrset);
            answers.push(self.ended(rrset.rtype, End::Data, chain));
        }
        if target == self.plain.apex() {
            // DS at the zone's own name is for the zone above to deny.
            let ds = self.ended(Rtype::DS, End::Data, chain.clone());
            answers.push(ds);
        }
        if let Some(&steered) = self.plain.names.get(found) {
            let Some(pointer) = chain.composer.pointer_to(target) else {
                return self.ended(Rtype(0), End::Data, chain);
            };
            let answer = self.ended(Rtype(0), End::Data, chain.clone());
            let base_len = chain.composer.base_len();
            let link = ChainLink { answer, target: pointer, base_len };
            node.steered = self.out.push_steered(SteeredLink { steered, chain: Some(link) });
        }
        let mut chain = chain;
        chain.proofs.extend(self.nodata(found, target));
        self.ended(Rtype(0), End::Nodata, chain)
    }

    /// DS at a delegation is this side's matter, at the end of a chain too.
    fn chain_to_cut(&mut self, mut chain: Chain<'_>, cut: &[u8]) -> Answer {
        match self.plain.zone.rrset(cut, Rtype::DS) {
            Some(ds) => {
                self.rrset(&mut chain.composer, Section::Answer, cut, ds);
                self.ended(Rtype::DS, End::Data, chain)
            }
            None => {
                chain.proofs.push(self.own(cut, &[Rtype::NS].into()));
                self.ended(Rtype::DS, End::Nodata, chain)
            }
        }
    }

    /// Adds `rrset` of `found` to `chain` as that of `target`, which is another name where `found` is a wildcard.
    fn expanded(&mut self, chain: &mut Chain<'_>, found: &[u8], target: &[u8], rrset: &Rrset) {
        chain.composer.rrset(Section::Answer, Owner::Name(target), rrset);
        let is_compact = matches!(self.proofs, Proofs::Compact);
        let signatures = self.signatures(if is_compact { target } else { found }, rrset);
        chain.composer.rrset(Section::Answer, Owner::Name(target), &signatures);
        if found.len() != target.len() || found != target {
            chain.proofs.extend(self.no_closer(target));
        }
    }

    /// Adds `rrset` and its signatures; all are owned by `owner`.
    fn rrset(&self, composer: &mut Composer<'_>, section: Section, owner: &[u8], rrset: &Rrset) {
        composer.rrset(section, Owner::Name(owner), rrset);
        composer.rrset(section, Owner::Name(owner), &self.signatures(owner, rrset));
    }

    /// Adds the signatures of `rrset`, which stands at the name in the question; those of compact wildcards are made when
    /// that is known.
    fn sign_first(&self, composer: &mut Composer<'_>, owner: &[u8], rrset: &Rrset) {
        if !(is_wildcard(owner) && matches!(self.proofs, Proofs::Compact)) {
            composer.rrset(Section::Answer, Owner::Question, &self.signatures(owner, rrset));
        }
    }

    fn signatures(&self, owner: &[u8], rrset: &Rrset) -> Rrset {
        let rdatas: Vec<&[u8]> = rrset.rdatas().collect();
        let rrsigs = (self.signing.sign)(owner, rrset.rtype, rrset.ttl, &rdatas);
        let place = FilePlace { line: 0, offset: 0 };
        let records = rrsigs.iter().map(|rrsig| Record { rdata: Rdata::new(rrsig), place }).collect();
        Rrset { rtype: Rtype::RRSIG, ttl: rrset.ttl, records }
    }

    fn piece(&self, composer: &mut Composer<'_>, at: u32) {
        let piece = Piece::at(&self.out.octets, at);
        let owner = [piece.prefix(), self.plain.apex()].concat();
        piece.records().for_each(|record| composer.raw(Section::Authority, &owner, record));
    }

    /// What proves which types `name`, which exists, has.
    fn own(&mut self, name: &[u8], types: &BTreeSet<Rtype>) -> u32 {
        match self.proofs {
            Proofs::Compact => self.made_for(name, types),
            _ => self.covering(name),
        }
    }

    /// What proves that `target`, which is answered by the data of `found`, has none of the type asked for.
    fn nodata(&mut self, found: &[u8], target: &[u8]) -> Vec<u32> {
        if matches!(self.proofs, Proofs::Compact) {
            let types = self.plain.types_at(found);
            return vec![self.made_for(target, &types)];
        }
        let mut proofs = vec![self.covering(found)];
        if found != target {
            if let (Proofs::Nsec3(_), Some(encloser)) = (&self.proofs, parent(found)) {
                proofs.push(self.covering(encloser));
            }
            proofs.extend(self.no_closer(target));
        }
        proofs
    }

    /// What proves that `target` does not exist.
    fn name_error(&mut self, target: &[u8]) -> Vec<u32> {
        let encloser = self.encloser(target);
        let wildcard = [b"\x01*", encloser].concat();
        match self.proofs {
            Proofs::Compact => vec![self.made_for(target, &[Rtype::NXNAME].into())],
            Proofs::Nsec(_) => vec![self.covering(target), self.covering(&wildcard)],
            Proofs::Nsec3(_) => {
                vec![self.covering(encloser), self.covering(next_closer(target, encloser)), self.covering(&wildcard)]
            }
        }
    }

    /// What proves that no name is closer to `target`, which does not exist, than the one above the wildcard.
    fn no_closer(&self, target: &[u8]) -> Option<u32> {
        match self.proofs {
            Proofs::Compact => None,
            Proofs::Nsec(_) => Some(self.covering(target)),
            Proofs::Nsec3(_) => Some(self.covering(next_closer(target, self.encloser(target)))),
        }
    }

    /// The closest name above `target` that exists.
    fn encloser<'n>(&self, target: &'n [u8]) -> &'n [u8] {
        suffixes(target).skip(1).find(|above| self.plain.zone.nodes.contains_key(*above)).unwrap_or(target)
    }

    fn covering(&self, name: &[u8]) -> u32 {
        self.proofs.covering(name, self.plain.apex().len()).unwrap_or_default()
    }

    /// The denial record that was made for `name`.
    fn made_for(&mut self, name: &[u8], types: &BTreeSet<Rtype>) -> u32 {
        if let Some(&made) = self.made.get(name) {
            return made;
        }
        let records = Records { apex: self.plain.apex(), ttl: self.nsec_ttl, signing: self.signing };
        let made = records.nsec(name, &successor(name), types, self.nsec_ttl, &mut self.out.octets);
        self.made.insert(name.into(), made);
        made
    }

    fn push_proofs(&mut self, proofs: &[u32]) -> (u32, u8) {
        let at = self.out.proofs.len() as u32;
        self.out.proofs.extend_from_slice(proofs);
        (at, proofs.len() as u8)
    }

    fn pack(&mut self, composed: &Composed) -> u32 {
        let at = self.out.octets.len() as u32;
        pack(composed, &mut self.out.octets);
        at
    }
}

/// The name one label longer than `encloser` that `target` is or lies below (RFC 5155, section 1.3).
pub(super) fn next_closer<'a>(target: &'a [u8], encloser: &[u8]) -> &'a [u8] {
    suffixes(target).find(|name| parent(name).is_some_and(|above| above.len() <= encloser.len())).unwrap_or(target)
}
