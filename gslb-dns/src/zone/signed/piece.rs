//! RRsets of the authority section with their signatures, ready to be written behind any answer of their zone.

use crate::wire::{NAME_LEN_MAX, Reply, Rtype};

use super::super::octets::{push_u16, u16_at};
use super::super::tail::POINTER;

/// One RRset and its signatures.
///
/// ```text
/// 0  octets of the owner's labels above the apex    u8
/// 1  records                                        u8
/// 2  the labels
///    for each record its octets behind the owner name: their count, u16, and they
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    octets: &'a [u8],
}

/// Appends the RRset of the one record `rdata`, whose owner has the labels `prefix` above the apex, and its signatures
/// `rrsigs`; all are sent with `ttl`.
pub(super) fn push(out: &mut Vec<u8>, prefix: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8], rrsigs: &[Box<[u8]>]) {
    out.extend([prefix.len() as u8, 1 + rrsigs.len() as u8]);
    out.extend_from_slice(prefix);
    push_record(out, rtype, ttl, rdata);
    rrsigs.iter().for_each(|rrsig| push_record(out, Rtype::RRSIG, ttl, rrsig));
}

/// Appends the octets of a record behind its owner name, and before them how many they are.
pub(super) fn push_record(out: &mut Vec<u8>, rtype: Rtype, ttl: u32, rdata: &[u8]) {
    push_u16(out, (RECORD_HEAD_LEN + rdata.len()) as u16);
    out.extend(rtype.0.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend((rdata.len() as u16).to_be_bytes());
    out.extend_from_slice(rdata);
}

/// Type, TTL and data of a record that [`push_record`] appended, without the count before it.
pub(super) fn read_record(octets: &[u8]) -> Option<(Rtype, u32, &[u8])> {
    let (&[high, low, _, _, a, b, c, d, ..], rdata) = octets.split_first_chunk::<RECORD_HEAD_LEN>()?;
    Some((Rtype(u16::from_be_bytes([high, low])), u32::from_be_bytes([a, b, c, d]), rdata))
}

/// Writes the records that [`push_record`] appended to what became `octets`, each owned by the name that the pointer
/// `owner` leads to; gives how many.
pub(super) fn write_records(octets: &[u8], owner: u16, reply: &mut Reply<'_>) -> u16 {
    let mut count = 0;
    for record in records(octets) {
        reply.push(&owner.to_be_bytes());
        reply.push(record);
        count += 1;
    }
    count
}

impl<'a> Piece<'a> {
    /// The one that [`push`] appended at `at`.
    pub(super) fn at(octets: &'a [u8], at: u32) -> Self {
        Self { octets: &octets[at as usize..] }
    }

    /// The owner's labels above the apex.
    pub(super) fn prefix(self) -> &'a [u8] {
        &self.octets[2..2 + usize::from(self.octets[0])]
    }

    /// The octets of each record behind its owner name.
    pub(super) fn records(self) -> impl Iterator<Item = &'a [u8]> {
        records(&self.octets[2 + usize::from(self.octets[0])..]).take(usize::from(self.octets[1]))
    }

    /// Adds the records to `reply`, in which the pointer `apex` leads to the zone's name; gives how many.
    pub(super) fn write(self, apex: u16, reply: &mut Reply<'_>) -> u16 {
        let owner_at = reply.position();
        let prefix = self.prefix();
        let owner = if prefix.is_empty() { apex } else { POINTER | owner_at as u16 };
        // The labels are written again where no pointer reaches the first ones.
        let is_in_reach = prefix.is_empty() || owner_at < usize::from(!POINTER);
        let mut is_first = true;
        for record in self.records() {
            if is_first || !is_in_reach {
                let mut octets = [0; NAME_LEN_MAX + 2];
                octets[..prefix.len()].copy_from_slice(prefix);
                octets[prefix.len()..prefix.len() + 2].copy_from_slice(&apex.to_be_bytes());
                reply.push(&octets[..prefix.len() + 2]);
            } else {
                reply.push(&owner.to_be_bytes());
            }
            reply.push(record);
            is_first = false;
        }
        u16::from(self.octets[1])
    }

    /// The same for the owner that the pointer `owner` leads to; those records only that are `wanted`.
    pub(super) fn write_owned(self, owner: u16, is_wanted: impl Fn(Rtype) -> bool, reply: &mut Reply<'_>) -> u16 {
        let mut count = 0;
        let wanted = self.records().filter(|record| is_wanted(Rtype(u16::from_be_bytes([record[0], record[1]]))));
        for record in wanted {
            reply.push(&owner.to_be_bytes());
            reply.push(record);
            count += 1;
        }
        count
    }
}

fn records(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest.get(..2)?, 0));
        let (record, after) = rest[2..].split_at_checked(len)?;
        rest = after;
        Some(record)
    })
}

/// Type, class, TTL and the length of the data.
pub(super) const RECORD_HEAD_LEN: usize = 10;
