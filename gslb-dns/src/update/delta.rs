//! In what two versions of a zone differ, and how that is made good over another one.

use std::collections::HashSet;

use super::apply::add;
use super::journal::Entry;
use crate::wire::{Name, Rtype};
use crate::zone::{Zone, ZoneRecord, is_newer};

/// In what a zone differs from its version before. The SOA record comes first on both sides, as in IXFR (RFC 1995).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    /// The serial before.
    pub from: u32,
    /// The serial after.
    pub to: u32,
    /// Records of the zone before that are not in it any more.
    pub removed: Vec<ZoneRecord>,
    /// Records that were not in it before.
    pub added: Vec<ZoneRecord>,
}

impl Delta {
    /// In what `after` differs from `before` at `owners`, each of which is there once.
    pub fn between(before: &Zone, after: &Zone, owners: &[Name]) -> Self {
        let mut delta = Self { from: before.serial(), to: after.serial(), ..Self::default() };
        for owner in owners {
            let (old, new) = (before.records_of(owner), after.records_of(owner));
            let (olds, news): (HashSet<&ZoneRecord>, HashSet<&ZoneRecord>) =
                (old.iter().collect(), new.iter().collect());
            delta.removed.extend(old.iter().filter(|record| !news.contains(record)).cloned());
            delta.added.extend(new.iter().filter(|record| !olds.contains(record)).cloned());
        }
        for records in [&mut delta.removed, &mut delta.added] {
            // Stable, so that the order is otherwise that of the changes.
            records.sort_by_key(|record| record.rtype != Rtype::SOA);
        }
        delta
    }

    /// Whether no record differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Makes the same change in `zone`, which need not be the version that it was made in first: removes what is there of
    /// what was removed, and adds the rest as an update does. Serial and [`Zone::prune`] are left to the caller.
    pub fn replay(&self, zone: &mut Zone) {
        self.replay_soa(zone);
        for ZoneRecord { owner, rtype, rdata, .. } in self.removed.iter().filter(|record| record.rtype != Rtype::SOA) {
            zone.remove(owner, *rtype, rdata);
        }
        for record in self.added.iter().filter(|record| record.rtype != Rtype::SOA) {
            add(zone, record.clone());
        }
    }

    /// An update of the SOA record holds where that is still the one which was updated.
    fn replay_soa(&self, zone: &mut Zone) {
        let Some((removed, added)) = self.soa() else { return };
        let (removed, mut added) = (without_serial(removed), without_serial(added));
        let apex = zone.apex().clone();
        if removed != added && zone.rrset_of(&apex, Rtype::SOA).iter().map(without_serial).eq([removed]) {
            added.set_serial(zone.serial());
            zone.remove_rrsets(&apex, |rtype| rtype == Rtype::SOA);
            zone.put(added);
        }
    }

    /// All of `deltas`, one after the other, as one: of a record the last word holds, whatever file comes under it.
    ///
    /// A record that was added and removed again is left out where `is_forgotten` holds for it: no file has it.
    pub fn joined<'a>(
        deltas: impl IntoIterator<Item = &'a Self>,
        is_forgotten: impl Fn(&ZoneRecord) -> bool,
    ) -> Option<Self> {
        let is_other = |record: &&ZoneRecord| record.rtype != Rtype::SOA;
        let mut deltas = deltas.into_iter().peekable();
        let from = deltas.peek()?.from;
        let (mut to, mut soa) = (from, None);
        // Borrowed, and not put in order before the end: there may be very many.
        let (mut removed, mut added) = (HashSet::<&ZoneRecord>::new(), HashSet::<&ZoneRecord>::new());
        for delta in deltas {
            to = delta.to;
            soa = soa_then(soa, delta.soa());
            for record in delta.removed.iter().filter(is_other) {
                if !(added.remove(record) && is_forgotten(record)) {
                    removed.insert(record);
                }
            }
            // What comes back stays among the removed, too: a file that has lost it meanwhile gets it all the same.
            added.extend(delta.added.iter().filter(is_other));
        }
        if let Some((before, after)) = soa {
            removed.insert(before);
            added.insert(after);
        }
        Some(Self { from, to, removed: sorted(removed), added: sorted(added) })
    }

    /// The SOA records before and after.
    fn soa(&self) -> Option<SoaChange<'_>> {
        let soa = |records: &'_ [ZoneRecord]| records.iter().position(|record| record.rtype == Rtype::SOA);
        Some((&self.removed[soa(&self.removed)?], &self.added[soa(&self.added)?]))
    }
}

/// What is served of the zone `file` after all of `entries`, and whether that is other than what was served last.
///
/// ```text
/// content is              serial is
/// what was served last    the later one of file and journal
/// another                 that of the file where it is later than the journal's, else the next after the journal's
/// ```
/// So it never depends on a clock, and no two contents have one serial.
pub fn replayed(file: &Zone, entries: &[Entry]) -> (Zone, Standing) {
    let Some(last) = entries.last() else { return (file.clone(), Standing::Unknown) };
    let mut zone = laid_over(file, entries);
    let is_same = zone.digest() == last.digest;
    let (in_file, in_journal) = (file.serial(), last.delta.to);
    let serial = match (is_newer(in_file, in_journal), is_same) {
        (true, _) => in_file,
        (false, true) => in_journal,
        (false, false) => in_journal.wrapping_add(1),
    };
    zone.set_serial(serial);
    let standing = if is_same && serial == in_journal { Standing::AsServed } else { Standing::Edited };
    (zone, standing)
}

/// `file` with all of `entries`, and the serial of the file.
pub(super) fn laid_over(file: &Zone, entries: &[Entry]) -> Zone {
    let mut zone = file.clone();
    entries.iter().for_each(|entry| entry.delta.replay(&mut zone));
    zone.prune();
    zone
}

/// How a zone stands to what its journal says was served last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The journal does not say.
    Unknown,
    /// The same.
    AsServed,
    /// The same, but what secondaries get of it is not, since it was signed anew: the serial is another.
    Raised,
    /// The file was edited.
    Edited,
}

/// The SOA records before and after two changes, of each of which they are given. Where the file got another between them, the
/// first change has ended.
fn soa_then<'a>(first: Option<SoaChange<'a>>, next: Option<SoaChange<'a>>) -> Option<SoaChange<'a>> {
    match (first, next) {
        (Some((before, between)), Some((between_too, after)))
            if without_serial(between) == without_serial(between_too) =>
        {
            Some((before, after))
        }
        (first, next) => next.or(first),
    }
}

/// The SOA records before and after.
type SoaChange<'a> = (&'a ZoneRecord, &'a ZoneRecord);

fn without_serial(record: &ZoneRecord) -> ZoneRecord {
    let mut record = record.clone();
    record.set_serial(0);
    record
}

fn sorted(records: HashSet<&ZoneRecord>) -> Vec<ZoneRecord> {
    let mut records: Vec<ZoneRecord> = records.into_iter().cloned().collect();
    let key = |record: &ZoneRecord| (record.rtype != Rtype::SOA, record.owner.as_wire().to_vec(), record.rtype);
    records.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.rdata.cmp(&b.rdata)));
    records
}
