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
        let soa = |records: &[ZoneRecord]| records.iter().find(|record| record.rtype == Rtype::SOA).map(without_serial);
        let apex = zone.apex().clone();
        let there = zone.rrset_of(&apex, Rtype::SOA);
        if let (Some(removed), Some(mut added)) = (soa(&self.removed), soa(&self.added))
            && removed != added
            && soa(&there).as_ref() == Some(&removed)
        {
            added.set_serial(zone.serial());
            zone.remove_rrsets(&apex, |rtype| rtype == Rtype::SOA);
            zone.put(added);
        }
    }

    /// This change and `next` as one, where the file was edited between them: of a record the last word holds, since the file
    /// may have got it or lost it meanwhile.
    pub fn then_over_edit(&mut self, next: &Self) {
        self.to = next.to;
        let mut removed: HashSet<ZoneRecord> = self.removed.drain(..).collect();
        let mut added: HashSet<ZoneRecord> = self.added.drain(..).collect();
        for record in &next.removed {
            added.remove(record);
            removed.insert(record.clone());
        }
        for record in &next.added {
            removed.remove(record);
            added.insert(record.clone());
        }
        (self.removed, self.added) = (sorted(removed), sorted(added));
    }

    /// This change and `next` as one, over the same file.
    pub fn then(&mut self, next: &Self) {
        self.to = next.to;
        let mut removed: HashSet<ZoneRecord> = self.removed.drain(..).collect();
        let mut added: HashSet<ZoneRecord> = self.added.drain(..).collect();
        for record in &next.removed {
            if !added.remove(record) {
                removed.insert(record.clone());
            }
        }
        for record in &next.added {
            if !removed.remove(record) {
                added.insert(record.clone());
            }
        }
        (self.removed, self.added) = (sorted(removed), sorted(added));
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
    let mut zone = file.clone();
    let Some(last) = entries.last() else { return (zone, Standing::Unknown) };
    for entry in entries {
        entry.delta.replay(&mut zone);
    }
    zone.prune();
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

fn without_serial(record: &ZoneRecord) -> ZoneRecord {
    let mut record = record.clone();
    record.set_serial(0);
    record
}

fn sorted(records: HashSet<ZoneRecord>) -> Vec<ZoneRecord> {
    let mut records: Vec<ZoneRecord> = records.into_iter().collect();
    let key = |record: &ZoneRecord| (record.rtype != Rtype::SOA, record.owner.as_wire().to_vec(), record.rtype);
    records.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.rdata.cmp(&b.rdata)));
    records
}
