//! Ready-made answers: everything of a message behind its question.

use super::Rrset;
use super::rdata::{Layout, Parts, suffixes};
use crate::wire::{HEADER_LEN, Rcode, Reply, is_at_or_below};

/// The records of one answer, ready to be copied behind the question of a query.
///
/// Compression pointers count from a *base*, a name in which every question that gets this answer ends. When the
/// question is longer than the base (wildcards, names that do not exist, names below a delegation), each pointer is
/// moved by the difference.
#[derive(Clone, Debug)]
pub struct Tail {
    octets: Box<[u8]>,
    /// Where the pointers are that move with the base.
    pointers: Box<[u32]>,
    /// Where the pointers to the name in the question are.
    question_pointers: Box<[u32]>,
    counts: [u16; 3],
    base_len: u8,
    is_authoritative: bool,
    rcode: Rcode,
    /// Octets that must be sent or nothing, and how many records of the additional section are among them.
    required: (u32, u16),
    /// Where the TTL of the SOA record of a negative answer is; 0: there is none.
    soa_ttl_at: u32,
}

/// The name in a message that an answer is for: that in the question, or where a DNAME redirected it to.
#[derive(Clone, Copy, Debug)]
pub struct NamePlace {
    /// Where it starts, counted from the start of the message; not compressed.
    pub at: usize,
    /// Its octets.
    pub len: usize,
}

/// CNAME records that lead to a steered name.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The records.
    pub tail: Tail,
    /// A pointer to the steered name in them, to be moved like theirs.
    target: u16,
}

impl Tail {
    /// The response code.
    pub fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// Whether AA is set: in everything but referrals.
    pub fn is_authoritative(&self) -> bool {
        self.is_authoritative
    }

    /// Adds the records to `reply` as the answer for `name`; gives how many there are in the
    /// answer, authority and additional section.
    ///
    /// Additional records that nobody needs are left out when they do not fit.
    pub fn write(&self, name: NamePlace, reply: &mut Reply<'_>) -> [u16; 3] {
        self.write_with(name, reply, |_| {})
    }

    /// The same for a negative answer whose SOA record lives `ttl_max` seconds at most.
    pub fn write_capped(&self, name: NamePlace, reply: &mut Reply<'_>, ttl_max: u32) -> [u16; 3] {
        self.write_with(name, reply, |room| {
            let at = self.soa_ttl_at as usize;
            if let Some(ttl) = room.get_mut(at..).and_then(|soa| soa.first_chunk_mut()).filter(|_| at > 0) {
                *ttl = u32::from_be_bytes(*ttl).min(ttl_max).to_be_bytes();
            }
        })
    }

    fn write_with(&self, name: NamePlace, reply: &mut Reply<'_>, patch: impl FnOnce(&mut [u8])) -> [u16; 3] {
        let [answers, authorities, additionals] = self.counts;
        let is_whole = reply.has_room(self.octets.len());
        let len = if is_whole { self.octets.len() } else { self.required.0 as usize };
        let start = reply.position();
        let room = reply.push(&self.octets[..len]);
        if !name.is_question() {
            self.question_pointers.iter().for_each(|&at| move_pointer(room, at, |_| name.pointer()));
        }
        if !name.is_question() || name.len > usize::from(self.base_len) {
            self.pointers.iter().for_each(|&at| move_pointer(room, at, |pointer| self.moved(pointer, name, start)));
        }
        patch(room);
        [answers, authorities, if is_whole { additionals } else { self.required.1 }]
    }

    pub(super) fn required_len(&self) -> usize {
        self.required.0 as usize
    }

    /// Octets of all records.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// What `pointer` becomes in an answer for `name` that starts at `start`: those into the base follow the name, those
    /// into the records follow these.
    fn moved(&self, pointer: u16, name: NamePlace, start: usize) -> u16 {
        let at = usize::from(pointer & !POINTER);
        let base_len = usize::from(self.base_len);
        let base_end = HEADER_LEN + base_len + QUESTION_REST_LEN;
        let moved = match at.checked_sub(base_end) {
            Some(behind) => start + behind,
            None => name.at + name.len.saturating_sub(base_len) + at.saturating_sub(HEADER_LEN),
        };
        POINTER | moved as u16
    }
}

/// Moves the pointer at `at`, unless it was cut off with the records that did not fit.
fn move_pointer(octets: &mut [u8], at: u32, moved: impl FnOnce(u16) -> u16) {
    if let Some(pointer) = octets.get_mut(at as usize..).and_then(|rest| rest.first_chunk_mut()) {
        *pointer = moved(u16::from_be_bytes(*pointer)).to_be_bytes();
    }
}

impl NamePlace {
    /// The name in the question, of `len` octets.
    pub fn question(len: usize) -> Self {
        Self { at: HEADER_LEN, len }
    }

    /// A pointer to it.
    pub fn pointer(self) -> u16 {
        POINTER | self.at as u16
    }

    fn is_question(self) -> bool {
        self.at == HEADER_LEN
    }
}

impl Chain {
    /// The pointer to the steered name, when the chain is the answer for `name` and starts at `start`.
    pub fn target(&self, name: NamePlace, start: usize) -> u16 {
        self.tail.moved(self.target, name, start)
    }
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

/// A tail in the making.
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
    /// Starts a tail for questions that end in `base`, which is in lower case.
    pub(super) fn new(base: &'a [u8]) -> Self {
        let (octets, pointers, question_pointers, known) = Default::default();
        Self { base, octets, pointers, question_pointers, known, counts: [0; 3], required: None, soa_ttl_at: 0 }
    }

    /// Adds every record of `rrset`.
    pub(super) fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset) {
        for rdata in &rrset.rdatas {
            self.record(section, owner, rrset, rrset.ttl, rdata);
        }
    }

    /// Adds the SOA record of a negative answer (RFC 2308, section 3).
    pub(super) fn soa(&mut self, apex: &[u8], soa: &Rrset) {
        let Some(rdata) = soa.rdatas.first() else { return };
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

    pub(super) fn finish(self, rcode: Rcode, is_authoritative: bool) -> Tail {
        let everything = (self.octets.len() as u32, self.counts[Section::Additional as usize]);
        Tail {
            octets: self.octets.into(),
            pointers: self.pointers.into(),
            question_pointers: self.question_pointers.into(),
            counts: self.counts,
            base_len: self.base.len() as u8,
            is_authoritative,
            rcode,
            required: self.required.unwrap_or(everything),
            soa_ttl_at: self.soa_ttl_at,
        }
    }

    /// The chain that ends in `target`; `None` when no pointer reaches it.
    pub(super) fn finish_chain(self, target: &[u8]) -> Option<Chain> {
        let target = self.pointer_to(target)?;
        Some(Chain { tail: self.finish(Rcode::NOERROR, true), target })
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
        self.counts[section as usize] += 1;
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

/// The two top bits that make a pointer (RFC 1035, section 4.1.4).
const POINTER: u16 = 0xC000;
/// A pointer to the name in the question.
const QUESTION_NAME: u16 = POINTER | HEADER_LEN as u16;
/// QTYPE and QCLASS.
const QUESTION_REST_LEN: usize = 4;
/// A pointer has 14 bits, and a longer question may move it by up to 254.
pub(crate) const POINTED_MAX: usize = 0x3FFF - 254;
