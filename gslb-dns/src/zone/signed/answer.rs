//! One signed answer, written into a reply.

use std::collections::BTreeSet;

use shared::topology::MemberSet;

use super::super::compile::CHAIN_MAX;
use super::super::steered::{Offer, SteeredName};
use super::super::tail::{Chain, NamePlace, Tail};
use super::compile::next_closer;
use super::denial::{Proofs, Records, successor};
use super::node::{Answer, End, Node, Online, OnlineRrset, SteeredLink};
use super::piece::Piece;
use super::variants::Variants;
use super::{SignedSet, SignedZone, build};
use crate::wire::{Rcode, Reply, Rtype};

/// What is answered to a question, with signatures and proofs.
///
/// ```text
/// the name            the answer                    proved by
/// exists              has the type                  its signatures
/// exists              has not                       its own NSEC or NSEC3 record, that above where it is empty
/// a wildcard's        either                        the same, and that nothing is closer: the record that covers the name
/// does not exist      NXDOMAIN                      the records that cover the name and the wildcard (RFC 4035, 5.4);
///                                                   with NSEC3 that of the closest encloser too (RFC 5155, 8.4)
/// is delegated        the referral                  DS records, or that there are none; it is all in the tail
/// ```
/// With compact denial a name that does not exist, or that a wildcard answers for, is taken as one that exists: what says
/// so is signed for the question (RFC 9824, section 3).
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    set: &'a SignedSet,
    zone: &'a SignedZone,
    /// The name's; the wildcard's where that stands in; the closest encloser's where nothing does.
    node: &'a Node,
    /// The closest encloser, where a wildcard stands in.
    encloser: Option<&'a Node>,
    /// `None`: nothing but denial.
    answer: Option<Answer>,
    what: What,
}

/// What an answer consists of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Records,
    /// The NSEC record of the name, which was asked for.
    Nsec,
    /// Some of the signatures at the name: enough for who asks for RRSIG records (RFC 8482, section 7).
    Signatures,
    /// The same of a name that has nothing but steered RRsets, by its position among the steered names.
    SteeredSignatures(u32),
    /// The name does not exist.
    NameError,
}

/// The signatures of a steered answer.
#[derive(Clone, Copy, Debug)]
pub struct SignedSteered<'a> {
    /// The CNAMEs that lead to it.
    chain: Signed<'a>,
    link: &'a SteeredLink,
    variants: &'a Variants,
}

impl<'a> Signed<'a> {
    /// By `node`, which is that of the name.
    pub(super) fn of(set: &'a SignedSet, zone: &'a SignedZone, node: &'a Node, answer: Option<Answer>) -> Self {
        Self { set, zone, node, encloser: None, answer, what: What::Records }
    }

    /// By the wildcard `node` below `encloser`.
    pub(super) fn expanded(set: &'a SignedSet, zone: &'a SignedZone, node: &'a Node, encloser: &'a Node) -> Self {
        Self { encloser: Some(encloser), ..Self::of(set, zone, node, None) }
    }

    /// For a name that does not exist below `encloser`.
    pub(super) fn name_error(set: &'a SignedSet, zone: &'a SignedZone, encloser: &'a Node) -> Self {
        Self { what: What::NameError, ..Self::of(set, zone, encloser, None) }
    }

    /// The same with `answer`.
    pub(super) fn with(self, answer: Option<Answer>) -> Self {
        Self { answer, ..self }
    }

    /// The records that DNSSEC itself has at the name, where `qtype` asks for them.
    pub(super) fn of_dnssec(self, qtype: Rtype) -> Option<Self> {
        let owns_nsec = self.encloser.is_none() && self.node.owns_nsec;
        match qtype {
            Rtype::NSEC if owns_nsec => Some(Self { what: What::Nsec, ..self }),
            Rtype::RRSIG if owns_nsec => Some(Self { what: What::Signatures, ..self }),
            Rtype::RRSIG => match (self.set.answers_of(self.node).first(), self.node.steered) {
                // That of its own RRsets come first, before those at the end of a CNAME.
                (Some(answer), _) => Some(Self { what: What::Signatures, ..self.with(Some(*answer)) }),
                (None, Some(link)) => {
                    let steered = self.set.steered[link.at()].steered;
                    Some(Self { what: What::SteeredSignatures(steered), ..self })
                }
                (None, None) => None,
            },
            _ => None,
        }
    }

    /// Whether the records that DNSSEC has at the name are the answer, since they were asked for.
    pub(crate) fn is_of_dnssec(&self) -> bool {
        matches!(self.what, What::Nsec | What::Signatures | What::SteeredSignatures(_))
    }

    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    /// The response code.
    pub fn rcode(&self) -> Rcode {
        let is_compact = matches!(self.zone.proofs, Proofs::Compact);
        let is_name_error = self.what == What::NameError && !is_compact;
        let ends_so = self.answer.is_some_and(|answer| answer.end == End::NameError);
        if is_name_error || ends_so { Rcode::NXDOMAIN } else { Rcode::NOERROR }
    }

    /// Whether AA is set: in everything but referrals.
    pub fn is_authoritative(&self) -> bool {
        self.tail().is_authoritative()
    }

    /// What tells this answer from those to other questions.
    pub(crate) fn start(&self) -> &'a u8 {
        let piece = if self.what == What::NameError { self.zone.soa } else { self.node.own };
        let at = self.answer.map(|answer| answer.tail).filter(|&tail| tail > 0).unwrap_or(piece);
        &self.set.octets[at as usize]
    }

    /// The records of the answer section; all of a referral.
    pub fn tail(&self) -> Tail<'a> {
        self.set.tail(self.answer.map_or(0, |answer| answer.tail))
    }

    /// Adds the records to `reply` as the answer for `qname`, in lower case, which stands at `name`; gives how many there
    /// are in the answer, authority and additional section.
    pub fn write(&self, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> [u16; 3] {
        let own = Piece::at(&self.set.octets, self.node.own);
        match self.what {
            What::Nsec => return [own.write_owned(name.pointer(), |_| true, reply), 0, 0],
            What::Signatures => return [self.write_signatures(own, qname, name, reply), 0, 0],
            What::SteeredSignatures(steered) => {
                let variants = self.set.variants[steered as usize].as_ref();
                return [variants.map_or(0, |variants| variants.write_any(name.pointer(), reply)), 0, 0];
            }
            What::Records | What::NameError => {}
        }
        let mut counts = self.write_records(qname, name, reply);
        if self.answer.is_none_or(|answer| answer.end != End::Data) {
            counts[1] += Piece::at(&self.set.octets, self.zone.soa).write(self.apex(name), reply);
        }
        counts[1] += self.write_proofs(qname, name, reply);
        counts
    }

    fn apex(&self, name: NamePlace) -> u16 {
        name.pointer() + (name.len - self.zone.apex.len()) as u16
    }

    fn write_records(&self, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> [u16; 3] {
        let Some(answer) = self.answer.filter(|answer| answer.tail > 0) else { return [0; 3] };
        let mut counts = self.set.tail(answer.tail).write(name, reply);
        if let Some(online) = self.node.online {
            counts[0] += self.sign_online(&self.set.online[online.at()], answer.rtype, qname, name, reply);
        }
        counts
    }

    /// Adds signatures alone: those of the NSEC record `own` where the name has it, and else of one of its RRsets.
    #[cold]
    fn write_signatures(&self, own: Piece<'_>, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        match (self.answer, self.node.online) {
            (None, _) => own.write_owned(name.pointer(), |rtype| rtype == Rtype::RRSIG, reply),
            (Some(answer), Some(online)) if self.encloser.is_some() => {
                self.sign_online(&self.set.online[online.at()], answer.rtype, qname, name, reply)
            }
            (Some(_), _) => self.tail().write_signatures(name, reply),
        }
    }

    /// Signs the RRset that a wildcard answers with, as that of `qname`.
    #[cold]
    fn sign_online(&self, online: &Online, rtype: Rtype, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        // A CNAME is what every other type is answered with.
        let is_first = |rrset: &&OnlineRrset| rrset.rtype == Rtype::CNAME || rrset.rtype == rtype;
        let Some(OnlineRrset { rtype, ttl, rdatas }) = online.rrsets.iter().find(is_first) else { return 0 };
        let rdatas: Vec<&[u8]> = rdatas.iter().map(|rdata| &**rdata).collect();
        let mut octets = Vec::new();
        for rrsig in (self.zone.signing.sign)(qname, *rtype, *ttl, &rdatas) {
            super::piece::push_record(&mut octets, Rtype::RRSIG, *ttl, &rrsig);
        }
        super::piece::write_records(&octets, name.pointer(), reply)
    }

    /// Adds what proves the answer, each RRset once; gives how many records.
    fn write_proofs(&self, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        let mut proofs = Gathered::default();
        if let Some(Answer { proofs: (start, len), .. }) = self.answer {
            let fixed = &self.set.proofs[start as usize..start as usize + usize::from(len)];
            fixed.iter().for_each(|&proof| proofs.add(proof));
        }
        let mut count = 0;
        let no_closer = |above: &Node| match &self.zone.proofs {
            Proofs::Nsec3(_) => {
                let encloser = build::name_at(&self.set.octets, above.name);
                self.zone.proofs.covering(next_closer(qname, encloser), self.zone.apex.len())
            }
            proofs => proofs.covering(qname, self.zone.apex.len()),
        };
        let is_nsec3 = matches!(self.zone.proofs, Proofs::Nsec3(_));
        match (self.what, self.answer, self.encloser) {
            (What::NameError, ..) => match no_closer(self.node) {
                Some(covering) => {
                    proofs.add(covering);
                    if is_nsec3 {
                        proofs.add(self.node.own);
                    }
                    proofs.add(self.node.no_wildcard);
                }
                None => count += self.deny_online(qname, name, &[Rtype::NXNAME].into(), reply),
            },
            (_, None, None) if self.node.owns_nsec => {
                count += Piece::at(&self.set.octets, self.node.own).write_owned(name.pointer(), |_| true, reply);
            }
            (_, None, None) => proofs.add(self.node.own),
            (_, answer, Some(encloser)) => match no_closer(encloser) {
                Some(covering) => {
                    proofs.add(covering);
                    if answer.is_none() {
                        proofs.add(self.node.own);
                    }
                    if answer.is_none() && is_nsec3 {
                        proofs.add(encloser.own);
                    }
                }
                None if answer.is_none() => {
                    let online = self.node.online.map(|online| &self.set.online[online.at()].types);
                    count += self.deny_online(qname, name, online.unwrap_or(&BTreeSet::new()), reply);
                }
                None => {}
            },
            (_, Some(_), None) => {}
        }
        let apex = self.apex(name);
        count + proofs.iter().map(|at| Piece::at(&self.set.octets, at).write(apex, reply)).sum::<u16>()
    }

    /// Says of `qname` that it has `types` and no others, nor names right behind it (RFC 9824, section 3).
    #[cold]
    fn deny_online(&self, qname: &[u8], name: NamePlace, types: &BTreeSet<Rtype>, reply: &mut Reply<'_>) -> u16 {
        let ttl = self.zone.nsec_ttl;
        let records = Records { apex: &self.zone.apex, ttl, signing: &self.zone.signing };
        let mut octets = Vec::new();
        let at = records.nsec(qname, &successor(qname), types, ttl, &mut octets);
        Piece::at(&octets, at).write_owned(name.pointer(), |_| true, reply)
    }
}

impl<'a> SignedSteered<'a> {
    pub(super) fn new(chain: Signed<'a>, link: &'a SteeredLink, variants: &'a Variants) -> Self {
        Self { chain, link, variants }
    }

    /// A pointer to the steered name, when the answer for `name` starts at `start`.
    pub fn owner(&self, name: NamePlace, start: usize) -> u16 {
        let chain = self.link.chain.map(|chain| Chain {
            tail: self.chain.tail(),
            target: chain.target,
            base_len: chain.base_len,
        });
        chain.map_or(name.pointer(), |chain| chain.target(name, start))
    }

    /// The CNAMEs that lead to it.
    pub fn tail(&self) -> Tail<'a> {
        self.chain.tail()
    }

    /// Adds the CNAMEs that lead from `qname`, which stands at `name`, to the steered name; gives how many records.
    pub fn write_chain(&self, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        let [answers, ..] = self.chain.write_records(qname, name, reply);
        answers
    }

    /// Adds the signatures of the RRset that `members` of `steered` answer with; gives how many.
    pub fn write_signatures(
        &self,
        steered: &SteeredName,
        variant: (Offer, MemberSet, u32),
        owner: u16,
        reply: &mut Reply<'_>,
    ) -> u16 {
        self.variants.write(steered, variant, owner, reply)
    }

    /// Adds what proves the CNAMEs; gives how many records.
    pub fn write_proofs(&self, qname: &[u8], name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        if self.chain.answer.is_some() { self.chain.write_proofs(qname, name, reply) } else { 0 }
    }

    /// Adds the whole answer while nobody serves `offer`.
    pub fn write_empty(&self, qname: &[u8], name: NamePlace, offer: Offer, reply: &mut Reply<'_>) -> [u16; 3] {
        let answers = self.write_chain(qname, name, reply);
        let apex = self.chain.apex(name);
        let empty = self.variants.empty[offer as usize];
        let pieces = empty.into_iter().flat_map(|empty| [empty.soa, empty.denial]);
        let denial: u16 = pieces.map(|at| Piece::at(&self.chain.set.octets, at).write(apex, reply)).sum();
        [answers, denial + self.write_proofs(qname, name, reply), 0]
    }
}

/// Positions of pieces, each once.
#[derive(Default)]
struct Gathered {
    pieces: [u32; Gathered::LEN],
    len: usize,
}

impl Gathered {
    /// One for the name that is asked for and each that the longest chain leads over, where all are of wildcards; and
    /// three for its end (RFC 5155, section 7.2).
    const LEN: usize = 1 + CHAIN_MAX + 3;

    fn add(&mut self, piece: u32) {
        if !self.pieces[..self.len].contains(&piece)
            && let Some(free) = self.pieces.get_mut(self.len)
        {
            *free = piece;
            self.len += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        self.pieces[..self.len].iter().copied()
    }
}
