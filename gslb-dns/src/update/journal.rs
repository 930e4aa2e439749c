//! The journal of a zone as octets: what was accepted, so that it survives everything but the disk.
//!
//! ```text
//! header   "GSLBJRN1"  apex: length u16, octets   hash of all before, u64
//! frame    length u32  check of length and place u32  hash of the content u64  content: entries
//! entry    serial before u32, after u32  digest of the zone after u64  counts of removed and added u32, u32  records
//! record   owner: length u8, octets   type u16  TTL u32  data: length u16, octets
//! ```
//! Numbers are big-endian. A frame is what was written at once and acknowledged together; hashes are SipHash-1-3 without a
//! secret, against broken disks.

use std::collections::HashSet;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::Delta;
use super::delta::laid_over;
use crate::wire::{Name, Rtype};
use crate::zone::{Zone, ZoneRecord};

/// One update, or a mark: the file of the zone was edited, and has been served with this serial since.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it changed; nothing, of a mark.
    pub delta: Delta,
    /// [`Zone::digest`] after it.
    pub digest: u64,
}

/// What stands in a journal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journal {
    /// From the oldest on.
    pub entries: Vec<Entry>,
    /// How many these are, also where they were taken out.
    pub count: usize,
    /// Octets up to the end of the last whole frame; zero where there is no header yet.
    pub len: usize,
    /// Octets behind them, of a write that a crash cut short: nobody was told that it was done.
    pub torn: usize,
}

/// Why octets are no journal of the zone.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} at octet {offset}")]
pub struct Fault {
    /// Where.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Entry {
    /// The mark of `zone`, which is served from now on.
    pub fn mark(zone: &Zone) -> Self {
        let serial = zone.serial();
        Self { delta: Delta { from: serial, to: serial, ..Delta::default() }, digest: zone.digest() }
    }

    /// What does the same as all of `entries` over `file`, their zone file as it is now, in four at most: the changes up to
    /// the last mark, that, those after it, and what the order made of TTLs. `None` where that file does not give what was
    /// served last: it has been edited, and that must be read and marked first.
    ///
    /// ```text
    /// last word on a record                 stays
    /// added                                 always
    /// removed                               yes
    /// removed, over the file that it        only where the file has it by now: else nothing is left to remove, and
    /// was added over by an update           challenges that come and go would fill the journal
    /// ```
    /// So whatever the file is made to be later, it gets every record that updates have added, and none that it had when an
    /// update removed it.
    pub fn merged(file: &Zone, entries: &[Self]) -> Option<Vec<Self>> {
        let last = entries.last()?;
        let served = laid_over(file, entries);
        if served.digest() != last.digest {
            return None;
        }
        let is_forgotten = |record: &ZoneRecord| !file.has_but_ttl(record);
        let runs = |entries: &[Self]| -> Vec<Self> {
            entries.split(Self::is_mark).filter_map(|run| Self::joined(run, is_forgotten)).collect()
        };
        let (before, after) = entries.split_at(entries.iter().rposition(Self::is_mark).unwrap_or(0));
        let mark = after.first().filter(|entry| entry.is_mark()).cloned();
        let mut merged: Vec<Self> = Self::joined(&runs(before), |_| false).into_iter().chain(mark).collect();
        merged.extend(runs(after));
        let again = laid_over(file, &merged);
        if again.digest() != last.digest {
            let owners: HashSet<&Name> = entries.iter().flat_map(Self::owners).collect();
            let owners: Vec<Name> = owners.into_iter().cloned().collect();
            let (from, to) = (last.delta.to, last.delta.to);
            let delta = Delta { from, to, ..Delta::between(&again, &served, &owners) };
            merged.push(Self { delta, digest: last.digest });
        }
        (laid_over(file, &merged).digest() == last.digest).then_some(merged)
    }

    fn is_mark(&self) -> bool {
        self.delta.is_empty()
    }

    fn owners(&self) -> impl Iterator<Item = &Name> {
        self.delta.removed.iter().chain(&self.delta.added).map(|record| &record.owner)
    }

    /// All of `entries` as one, as [`Delta::joined`] has it; `None` where there is none.
    fn joined(entries: &[Self], is_forgotten: impl Fn(&ZoneRecord) -> bool) -> Option<Self> {
        let digest = entries.last()?.digest;
        Delta::joined(entries.iter().map(|entry| &entry.delta), is_forgotten).map(|delta| Self { delta, digest })
    }
}

/// What a journal of the zone `apex` starts with.
pub fn header(apex: &Name) -> Vec<u8> {
    let wire = apex.as_wire();
    let mut out = [MAGIC, &(wire.len() as u16).to_be_bytes(), wire].concat();
    let hash = hash(&[&out]);
    out.extend(hash.to_be_bytes());
    out
}

/// `entries` as a frame that starts at `offset` of its file.
pub fn frame(offset: usize, entries: &[Entry]) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEAD_LEN];
    for entry in entries {
        write_entry(&mut out, entry);
    }
    let len = (out.len() - FRAME_HEAD_LEN) as u32;
    let hash = hash(&[&out[FRAME_HEAD_LEN..]]);
    out[..4].copy_from_slice(&len.to_be_bytes());
    out[4..8].copy_from_slice(&check_of(offset, len).to_be_bytes());
    out[8..16].copy_from_slice(&hash.to_be_bytes());
    out
}

/// Reads the journal `octets` of the zone `apex`.
///
/// ```text
/// empty, or a part of the header                     empty
/// a frame that is cut short, or all zeros            torn: a crash came before the end of the write
/// the last frame, whole, with another hash           torn: the disk had not all of it yet
/// a frame before the last with another hash          fault
/// ```
pub fn read(apex: &Name, octets: &[u8]) -> Result<Journal, Fault> {
    let header = header(apex);
    if header.starts_with(octets) && header.len() > octets.len() {
        return Ok(Journal { torn: octets.len(), ..Journal::default() });
    }
    let fault = |offset, what| Fault { offset, what };
    if !octets.starts_with(&header) {
        let is_other_zone = octets.starts_with(MAGIC);
        let what = if is_other_zone { "the journal of another zone" } else { "no journal" };
        return Err(fault(0, what));
    }
    let mut journal = Journal { len: header.len(), ..Journal::default() };
    while let Some(rest) = octets.get(journal.len..).filter(|rest| !rest.is_empty()) {
        journal.torn = rest.len();
        let Some((head, body)) = rest.split_first_chunk::<FRAME_HEAD_LEN>() else { break };
        let &[l0, l1, l2, l3, c0, c1, c2, c3, h0, h1, h2, h3, h4, h5, h6, h7] = head;
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        if u32::from_be_bytes([c0, c1, c2, c3]) != check_of(journal.len, len) {
            if rest.iter().all(|octet| *octet == 0) {
                break;
            }
            return Err(fault(journal.len, "a length with a wrong check"));
        }
        let Some((content, behind)) = body.split_at_checked(len as usize) else { break };
        if u64::from_be_bytes([h0, h1, h2, h3, h4, h5, h6, h7]) != hash(&[content]) {
            if behind.is_empty() {
                break;
            }
            return Err(fault(journal.len, "a wrong checksum"));
        }
        read_entries(content, &mut journal.entries).ok_or(fault(journal.len, "entries of an unknown form"))?;
        journal.count = journal.entries.len();
        journal.len += FRAME_HEAD_LEN + content.len();
        journal.torn = 0;
    }
    Ok(journal)
}

fn write_entry(out: &mut Vec<u8>, Entry { delta, digest }: &Entry) {
    out.extend(delta.from.to_be_bytes());
    out.extend(delta.to.to_be_bytes());
    out.extend(digest.to_be_bytes());
    for records in [&delta.removed, &delta.added] {
        out.extend((records.len() as u32).to_be_bytes());
    }
    for ZoneRecord { owner, rtype, ttl, rdata } in delta.removed.iter().chain(&delta.added) {
        out.push(owner.as_wire().len() as u8);
        out.extend_from_slice(owner.as_wire());
        out.extend(rtype.0.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        out.extend((rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(rdata);
    }
}

fn read_entries(octets: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
    let mut rest = octets;
    while !rest.is_empty() {
        let (from, to) = (u32::from_be_bytes(take(&mut rest)?), u32::from_be_bytes(take(&mut rest)?));
        let digest = u64::from_be_bytes(take(&mut rest)?);
        let counts = [u32::from_be_bytes(take(&mut rest)?), u32::from_be_bytes(take(&mut rest)?)];
        let mut read = |count| (0..count).map(|_| read_record(&mut rest)).collect::<Option<Vec<_>>>();
        let (removed, added) = (read(counts[0])?, read(counts[1])?);
        entries.push(Entry { delta: Delta { from, to, removed, added }, digest });
    }
    Some(())
}

fn read_record(rest: &mut &[u8]) -> Option<ZoneRecord> {
    let [owner_len] = take(rest)?;
    let (owner, after) = Name::split_from(rest).filter(|(owner, _)| owner.len() == usize::from(owner_len))?;
    let owner = Name::from_wire(owner);
    *rest = after;
    let (rtype, ttl) = (Rtype(u16::from_be_bytes(take(rest)?)), u32::from_be_bytes(take(rest)?));
    let len = usize::from(u16::from_be_bytes(take(rest)?));
    let (rdata, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(ZoneRecord { owner, rtype, ttl, rdata: rdata.into() })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (octets, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*octets)
}

/// A check of a length by itself, so that a broken one is not taken for a cut. It differs from place to place.
fn check_of(offset: usize, len: u32) -> u32 {
    hash(&[&(offset as u64).to_be_bytes(), &len.to_be_bytes()]) as u32
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

const MAGIC: &[u8] = b"GSLBJRN1";
/// Octets of a frame before its content.
const FRAME_HEAD_LEN: usize = 16;
