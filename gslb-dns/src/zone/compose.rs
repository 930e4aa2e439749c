//! Ready-made answers in the making.

use super::Rrset;
use super::rdata::{Layout, Parts, suffixes};
use super::tail::{POINTED_MAX, POINTER, QUESTION_NAME, QUESTION_REST_LEN};
use crate::wire::{HEADER_LEN, Rcode, is_at_or_below};

/// The records of one answer, composed; [`super::tail::pack`] makes what is served of it.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) octets: Vec<u8>,
    /// Where the pointers are that move with the base.
    pub(super) pointers: Vec<u32>,
    /// Where the pointers to the name in the question are.
    pub(super) question_pointers: Vec<u32>,
    /// Records in the answer, authority and additional section.
    pub(super) counts: [u16; 3],
    pub(super) base_len: u8,
    pub(super) is_authoritative: bool,
    pub(super) rcode: Rcode,
    /// Octets that must be sent or nothing, and how many records of the additional section are among them.
    pub(super) required: (u32, u16),
    /// Where the TTL of the SOA record of a negative answer is; 0: there is none.
    pub(super) soa_ttl_at: u32,
}

/// Composed CNAME records that lead to a steered name.
#[derive(Debug)]
pub(super) struct ComposedChain {
    pub(super) records: Composed,
    /// A pointer to the steered name in them, to be moved like theirs.
    pub(super) target: u16,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Owner<'a> {
    /// The name in the question, whatever it is.
    Question,
    /// This name.
    Name(&'a [u8]),
}

/// Sections of a message behind the question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// An answer in the making.
#[derive(Clone, Debug)]
pub(super) struct Composer<'a> {
    base: &'a [u8],
    octets: Vec<u8>,
    pointers: Vec<u32>,
    question_pointers: Vec<u32>,
    /// Names written so far, in lower case, and pointers to them.
    known: Vec<(Box<[u8]>, u16)>,
    counts: [u16; 3],
    required: Option<(u32, u16)>,
    soa_ttl_at: u32,
}

impl<'a> Composer<'a> {
    /// Starts an answer to questions that end in `base`, which is in lower case.
    pub(super) fn new(base: &'a [u8]) -> Self {
        let (octets, pointers, question_pointers, known) = Default::default();
        Self { base, octets, pointers, question_pointers, known, counts: [0; 3], required: None, soa_ttl_at: 0 }
    }

    /// Adds every record of `rrset`.
    pub(super) fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset) {
        for rdata in rrset.rdatas() {
            self.record(section, owner, rrset, rrset.ttl, rdata);
        }
    }

    /// Adds a record by its octets behind the owner name, `owner`, as they are.
    pub(super) fn raw(&mut self, section: Section, owner: &[u8], record: &[u8]) {
        self.name(owner);
        self.octets.extend_from_slice(record);
        let count = &mut self.counts[section as usize];
        *count = count.saturating_add(1);
    }

    /// Octets of what was added so far.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// Octets of the base.
    pub(super) fn base_len(&self) -> u8 {
        self.base.len() as u8
    }

    /// Adds the SOA record of a negative answer (RFC 2308, section 3).
    pub(super) fn soa(&mut self, apex: &[u8], soa: &Rrset) {
        let Some(rdata) = soa.first() else { return };
        let minimum = rdata.last_chunk().map_or(0, |&octets| u32::from_be_bytes(octets));
        // The apex is a suffix of every base, so its name takes two octets; type and class take four.
        self.soa_ttl_at = self.octets.len() as u32 + 6;
        self.record(Section::Authority, Owner::Name(apex), soa, soa.ttl.min(minimum), rdata);
    }

    /// What was added so far must be sent or nothing; what comes may be left out.
    pub(super) fn end_required(&mut self) {
        self.required = Some((self.octets.len() as u32, self.counts[Section::Additional as usize]));
    }

    /// A pointer to `name`, which was written before.
    pub(super) fn pointer_to(&self, name: &[u8]) -> Option<u16> {
        if name.len() > 1 && is_at_or_below(self.base, name) {
            return Some(POINTER | (HEADER_LEN + self.base.len() - name.len()) as u16);
        }
        self.known.iter().find(|(known, _)| **known == *name).map(|&(_, pointer)| pointer)
    }

    pub(super) fn finish(self, rcode: Rcode, is_authoritative: bool) -> Composed {
        let everything = (self.octets.len() as u32, self.counts[Section::Additional as usize]);
        Composed {
            octets: self.octets,
            pointers: self.pointers,
            question_pointers: self.question_pointers,
            counts: self.counts,
            base_len: self.base.len() as u8,
            is_authoritative,
            rcode,
            required: self.required.unwrap_or(everything),
            soa_ttl_at: self.soa_ttl_at,
        }
    }

    /// The chain that ends in `target`; `None` when no pointer reaches it.
    pub(super) fn finish_chain(self, target: &[u8]) -> Option<ComposedChain> {
        let target = self.pointer_to(target)?;
        Some(ComposedChain { records: self.finish(Rcode::NOERROR, true), target })
    }

    fn record(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset, ttl: u32, rdata: &[u8]) {
        match owner {
            Owner::Question => {
                self.question_pointers.push(self.octets.len() as u32);
                self.octets.extend(QUESTION_NAME.to_be_bytes());
            }
            Owner::Name(name) => self.name(name),
        }
        self.octets.extend(rrset.rtype.0.to_be_bytes());
        self.octets.extend([0, 1]);
        self.octets.extend(ttl.to_be_bytes());
        let length_at = self.octets.len();
        self.octets.extend([0, 0]);
        let layout = Layout::of(rrset.rtype);
        match layout.split(rdata).filter(|_| layout.is_compressible) {
            Some(Parts { head, names, rest }) => {
                self.octets.extend_from_slice(head);
                names.into_iter().take(layout.count).for_each(|name| self.name(name));
                self.octets.extend_from_slice(rest);
            }
            None => self.octets.extend_from_slice(rdata),
        }
        let rdata_len = (self.octets.len() - length_at - 2) as u16;
        self.octets[length_at..length_at + 2].copy_from_slice(&rdata_len.to_be_bytes());
        // So many never fit, so that nobody reads the count.
        let count = &mut self.counts[section as usize];
        *count = count.saturating_add(1);
    }

    fn name(&mut self, name: &[u8]) {
        let folded = name.to_ascii_lowercase();
        for (suffix, folded) in suffixes(name).zip(suffixes(&folded)) {
            if let Some(pointer) = self.pointer_to(folded) {
                self.pointers.push(self.octets.len() as u32);
                self.octets.extend(pointer.to_be_bytes());
                return;
            }
            let at = HEADER_LEN + self.base.len() + QUESTION_REST_LEN + self.octets.len();
            if folded.len() > 1 && at <= POINTED_MAX {
                self.known.push((folded.into(), POINTER | at as u16));
            }
            let label_len = usize::from(suffix[0]);
            self.octets.extend_from_slice(&suffix[..=label_len]);
        }
    }
}
