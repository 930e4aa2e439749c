//! Ready-made answers as they are served: everything of a message behind its question.

use super::compose::Composed;
use super::octets::{push_u16, u16_at, u16s};
use crate::wire::{HEADER_LEN, Rcode, Reply, Rtype};

/// The records of one answer, ready to be copied behind the question of a query.
///
/// Compression pointers count from a *base*, a name in which every question that gets this answer ends. When the
/// question is longer than the base (wildcards, names that do not exist, names below a delegation), each pointer is
/// moved by the difference.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// Where [`pack`] wrote it, and whatever lies behind.
    octets: &'a [u8],
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
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The records.
    pub tail: Tail<'a>,
    /// A pointer to the steered name in them, to be moved like theirs.
    pub(super) target: u16,
    /// Octets of the base that it counts from.
    pub(super) base_len: u8,
}

/// Appends `composed` to `out` for [`Tail::at`].
///
/// ```text
/// plain: records of the name in the question alone, with nothing to move
///     0  flags    1  records            2  their octets            4  the records
/// whole: anything else
///     0  flags                          2  octets of the records   10  authorities
///     1  octets of the base             4  of those required       12  additionals
///                                       6  additionals required    14  where the TTL of the SOA is; 0: nowhere
///                                       8  answers                 16  pointers to the question, 18  other pointers
///                                      20  places of both, then the records
/// ```
/// Records that no message holds are cut off where the longest ends: then there is room neither for all nor, where they
/// were required, for those.
pub(super) fn pack(composed: &Composed, out: &mut Vec<u8>) {
    let records = &composed.octets[..composed.octets.len().min(usize::from(u16::MAX))];
    if let Some(count) = plain_count(composed) {
        out.extend([PLAIN | AUTHORITATIVE, count]);
        push_u16(out, records.len() as u16);
    } else {
        let is_in_records = |at: &&u32| (**at as usize) < records.len();
        let places =
            [&composed.question_pointers, &composed.pointers].map(|places| places.iter().filter(is_in_records));
        let [answers, authorities, additionals] = composed.counts;
        let (required_len, required_additionals) = composed.required;
        let authoritative = if composed.is_authoritative { AUTHORITATIVE } else { 0 };
        let name_error = if composed.rcode == Rcode::NXDOMAIN { NAME_ERROR } else { 0 };
        out.extend([authoritative | name_error, composed.base_len]);
        let lens = [records.len() as u16, required_len.min(u32::from(u16::MAX)) as u16, required_additionals];
        let soa_ttl_at = composed.soa_ttl_at.min(u32::from(u16::MAX)) as u16;
        lens.into_iter().chain([answers, authorities, additionals, soa_ttl_at]).for_each(|word| push_u16(out, word));
        places.iter().for_each(|places| push_u16(out, places.clone().count() as u16));
        places.into_iter().flatten().for_each(|&at| push_u16(out, at as u16));
    }
    out.extend_from_slice(records);
}

/// How many records `composed` has, when that and their octets say all of it.
fn plain_count(composed: &Composed) -> Option<u8> {
    let [answers, authorities, additionals] = composed.counts;
    let is_plain = composed.is_authoritative
        && composed.rcode == Rcode::NOERROR
        && composed.pointers.is_empty()
        && composed.question_pointers.len() == usize::from(answers)
        && (authorities, additionals) == (0, 0)
        && composed.required.0 as usize == composed.octets.len()
        && composed.octets.len() <= usize::from(u16::MAX);
    u8::try_from(answers).ok().filter(|_| is_plain)
}

/// A tail taken apart.
struct Parts<'a> {
    records: &'a [u8],
    counts: [u16; 3],
    required_len: usize,
    required_additionals: u16,
    base_len: usize,
    soa_ttl_at: usize,
    /// Places of the pointers to the name in the question; those of a plain tail are where its records start.
    question_pointers: &'a [[u8; 2]],
    /// Places of the pointers that move with the base.
    pointers: &'a [[u8; 2]],
}

impl<'a> Tail<'a> {
    /// The tail that [`pack`] wrote at the start of `octets`.
    pub(super) fn at(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// Where it lies in memory, which tells it from all others.
    pub(crate) fn start(self) -> &'a u8 {
        &self.octets[0]
    }

    /// The response code.
    pub fn rcode(self) -> Rcode {
        if self.octets[0] & NAME_ERROR == 0 { Rcode::NOERROR } else { Rcode::NXDOMAIN }
    }

    /// Whether AA is set: in everything but referrals.
    pub fn is_authoritative(self) -> bool {
        self.octets[0] & AUTHORITATIVE != 0
    }

    /// Octets of all records, as far as a message may hold them.
    pub fn len(self) -> usize {
        usize::from(u16_at(self.octets, 2))
    }

    /// Whether there are no records.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What [`pack`] wrote.
    pub(super) fn packed(self) -> &'a [u8] {
        let head_len = if self.is_plain() { PLAIN_HEAD_LEN } else { HEAD_LEN };
        let places =
            if self.is_plain() { 0 } else { u16_at(self.octets, 16) as usize + u16_at(self.octets, 18) as usize };
        &self.octets[..head_len + 2 * places + self.len()]
    }

    /// Adds the records to `reply` as the answer for `name`; gives how many there are in the
    /// answer, authority and additional section.
    ///
    /// Additional records that nobody needs are left out when they do not fit.
    pub fn write(self, name: NamePlace, reply: &mut Reply<'_>) -> [u16; 3] {
        if self.is_plain() && name.is_question() {
            reply.push(self.plain_records());
            return [u16::from(self.octets[1]), 0, 0];
        }
        self.write_with(name, reply, None)
    }

    /// The same for a negative answer whose SOA record lives `ttl_max` seconds at most.
    pub fn write_capped(self, name: NamePlace, reply: &mut Reply<'_>, ttl_max: u32) -> [u16; 3] {
        self.write_with(name, reply, Some(ttl_max))
    }

    fn write_with(self, name: NamePlace, reply: &mut Reply<'_>, soa_ttl_max: Option<u32>) -> [u16; 3] {
        let parts = self.parts();
        let [answers, authorities, additionals] = parts.counts;
        let is_whole = reply.has_room(parts.records.len());
        let len = if is_whole { parts.records.len() } else { parts.required_len };
        let start = reply.position();
        let room = reply.push(&parts.records[..len]);
        if !name.is_question() {
            u16s(parts.question_pointers).for_each(|at| move_pointer(room, at, |_| name.pointer()));
            if self.is_plain() {
                record_starts(parts.records).for_each(|at| move_pointer(room, at, |_| name.pointer()));
            }
        }
        if !name.is_question() || name.len > parts.base_len {
            let moved = |pointer| moved(pointer, parts.base_len, name, start);
            u16s(parts.pointers).for_each(|at| move_pointer(room, at, moved));
        }
        let soa_ttl = room.get_mut(parts.soa_ttl_at..).and_then(|soa| soa.first_chunk_mut());
        if let (Some(ttl_max), Some(ttl)) = (soa_ttl_max, soa_ttl.filter(|_| parts.soa_ttl_at > 0)) {
            *ttl = u32::from_be_bytes(*ttl).min(ttl_max).to_be_bytes();
        }
        [answers, authorities, if is_whole { additionals } else { parts.required_additionals }]
    }

    /// Adds those records to `reply` that are signatures of the name in the question, of a tail whose whole answer section is
    /// owned by that; gives how many.
    pub(super) fn write_signatures(self, name: NamePlace, reply: &mut Reply<'_>) -> u16 {
        let Parts { records, counts: [answers, ..], .. } = self.parts();
        let mut count = 0;
        for at in record_starts(records).map(usize::from).take(usize::from(answers)) {
            let end = record_starts(&records[at..]).nth(1).map_or(records.len(), |len| at + usize::from(len));
            if records[at + 2..].starts_with(&Rtype::RRSIG.0.to_be_bytes()) {
                reply.push(&name.pointer().to_be_bytes());
                reply.push(&records[at + 2..end]);
                count += 1;
            }
        }
        count
    }

    /// Whether it holds nothing but records of the name in the question.
    fn is_plain(self) -> bool {
        self.octets[0] & PLAIN != 0
    }

    fn plain_records(self) -> &'a [u8] {
        &self.octets[PLAIN_HEAD_LEN..PLAIN_HEAD_LEN + self.len()]
    }

    fn parts(self) -> Parts<'a> {
        if self.is_plain() {
            let records = self.plain_records();
            return Parts {
                records,
                counts: [u16::from(self.octets[1]), 0, 0],
                required_len: records.len(),
                required_additionals: 0,
                base_len: 0,
                soa_ttl_at: 0,
                question_pointers: &[],
                pointers: &[],
            };
        }
        let word = |at| u16_at(self.octets, at);
        let (places, _) = self.octets[HEAD_LEN..].as_chunks();
        let (question_pointers, places) = places.split_at(usize::from(word(16)));
        let pointers = &places[..usize::from(word(18))];
        let records_at = HEAD_LEN + 2 * (question_pointers.len() + pointers.len());
        Parts {
            records: &self.octets[records_at..records_at + self.len()],
            counts: [word(8), word(10), word(12)],
            required_len: usize::from(word(4)),
            required_additionals: word(6),
            base_len: usize::from(self.octets[1]),
            soa_ttl_at: usize::from(word(14)),
            question_pointers,
            pointers,
        }
    }
}

/// Where each of the records of a plain tail starts.
fn record_starts(records: &[u8]) -> impl Iterator<Item = u16> {
    let next = |&at: &usize| {
        let rdata_len = usize::from(u16::from_be_bytes(*records.get(at + 10..)?.first_chunk()?));
        Some(at + RECORD_HEAD_LEN + rdata_len)
    };
    std::iter::successors(Some(0), next).take_while(|&at| at < records.len()).map(|at| at as u16)
}

/// What `pointer` becomes in an answer for `name` that starts at `start`: those into the base follow the name, those
/// into the records follow these.
fn moved(pointer: u16, base_len: usize, name: NamePlace, start: usize) -> u16 {
    let at = usize::from(pointer & !POINTER);
    let base_end = HEADER_LEN + base_len + QUESTION_REST_LEN;
    let moved = match at.checked_sub(base_end) {
        Some(behind) => start + behind,
        None => name.at + name.len.saturating_sub(base_len) + at.saturating_sub(HEADER_LEN),
    };
    POINTER | moved as u16
}

/// Moves the pointer at `at`, unless it was cut off with the records that did not fit.
fn move_pointer(octets: &mut [u8], at: u16, moved: impl FnOnce(u16) -> u16) {
    if let Some(pointer) = octets.get_mut(usize::from(at)..).and_then(|rest| rest.first_chunk_mut()) {
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

impl Chain<'_> {
    /// The pointer to the steered name, when the chain is the answer for `name` and starts at `start`.
    pub fn target(self, name: NamePlace, start: usize) -> u16 {
        moved(self.target, usize::from(self.base_len), name, start)
    }
}

/// Flags of a tail.
const AUTHORITATIVE: u8 = 1;
const NAME_ERROR: u8 = 2;
const PLAIN: u8 = 4;
const PLAIN_HEAD_LEN: usize = 4;
const HEAD_LEN: usize = 20;
/// Octets of a record before its data, the owner name compressed.
const RECORD_HEAD_LEN: usize = 12;
/// The two top bits that make a pointer (RFC 1035, section 4.1.4).
pub(super) const POINTER: u16 = 0xC000;
/// A pointer to the name in the question.
pub(super) const QUESTION_NAME: u16 = POINTER | HEADER_LEN as u16;
/// QTYPE and QCLASS.
pub(super) const QUESTION_REST_LEN: usize = 4;
/// A pointer has 14 bits, and a longer question may move it by up to 254.
pub(crate) const POINTED_MAX: usize = 0x3FFF - 254;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Query;

    fn composed(records: usize, record: &[u8]) -> Composed {
        let octets = record.repeat(records);
        Composed {
            required: (octets.len() as u32, 0),
            question_pointers: (0..records).map(|nth| (nth * record.len()) as u32).collect(),
            octets,
            pointers: Vec::new(),
            counts: [records as u16, 0, 0],
            base_len: 8,
            is_authoritative: true,
            rcode: Rcode::NOERROR,
            soa_ttl_at: 0,
        }
    }

    fn packed(composed: &Composed) -> Vec<u8> {
        let mut octets = Vec::new();
        pack(composed, &mut octets);
        octets
    }

    /// The records and counts written as the answer for `name`.
    fn written(tail: Tail<'_>, name: NamePlace) -> (Vec<u8>, [u16; 3]) {
        let packet = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
        let query = Query::parse(packet).expect("a query");
        let mut out = vec![0; 65_535];
        let mut reply = Reply::new(&query, packet, &mut out, 65_535, None).expect("room");
        let start = reply.position();
        let counts = tail.write(name, &mut reply);
        let end = reply.position();
        (out[start..end].to_vec(), counts)
    }

    #[test]
    fn plain_tail_says_the_same_as_a_whole_one() {
        for count in [1, 2, 255] {
            let plain = composed(count, b"\xC0\x0C\0\x01\0\x01\0\0\x01\x2C\0\x04\xC0\0\x02\x01");
            // A required part that is not everything makes it a whole one.
            let whole = Composed { required: (0, 0), ..composed(count, &plain.octets[..16]) };
            let (plain, whole) = (packed(&plain), packed(&whole));
            assert!(plain.len() == 4 + 16 * count && whole.len() > plain.len());
            let (plain, whole) = (Tail::at(&plain), Tail::at(&whole));
            assert_eq!((plain.rcode(), plain.is_authoritative(), plain.len()), (whole.rcode(), true, whole.len()));
            for name in [NamePlace::question(8), NamePlace::question(40), NamePlace { at: 300, len: 20 }] {
                let (octets, counts) = written(plain, name);
                assert_eq!((&octets, counts), (&written(whole, name).0, [count as u16, 0, 0]));
                assert!(octets.chunks(16).all(|record| record[..2] == name.pointer().to_be_bytes()));
            }
        }
    }

    #[test]
    fn records_that_no_message_holds_are_left_out_unless_required() {
        let record = b"\xC0\x0C\0\x01\0\x01\0\0\x01\x2C\0\x04\xC0\0\x02\x01";
        let all = composed(5000, record);
        let octets = packed(&all);
        assert!(octets.len() < 80_000);
        assert_eq!(written(Tail::at(&octets), NamePlace::question(8)).0, b"");
        let some = Composed { required: (16, 0), counts: [1, 0, 4999], ..all };
        let octets = packed(&some);
        assert_eq!(written(Tail::at(&octets), NamePlace::question(8)), (record.to_vec(), [1, 0, 0]));
        assert_eq!(Tail::at(&octets).packed(), octets);
    }
}
