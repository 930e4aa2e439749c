//! What files say against the DS that the parent has: a zone whose resolvers would find no key for it.

use std::fs;
use std::path::{Path, PathBuf};

use shared::problem::Problem;

use super::{SignedZone, World, ZoneKeys};
use crate::keys::{KeyFolder, show_time};
use crate::settings::{DnssecSettings, ZoneSettings};
use crate::sign::{self, ParentDs, Sync, ZoneKey};
use crate::wire::Name;
use crate::zone::Zone;

/// The zones as they are read, each with its settings and its keys.
pub(super) struct Read<'a> {
    pub(super) settings: &'a [ZoneSettings],
    pub(super) zones: &'a [Zone],
    pub(super) keys: &'a [Option<ZoneKeys>],
    /// Where relative paths start.
    pub(super) folder: &'a Path,
    pub(super) now: u64,
}

impl Read<'_> {
    /// What must not take the place of `last`, since resolvers that validate would answer SERVFAIL.
    pub(super) fn mistakes(&self, last: &World) -> Vec<Problem> {
        let each = self.settings.iter().zip(self.zones).zip(self.keys);
        let found = each.filter_map(|((settings, zone), keys)| {
            let signed = last.signed_zones.iter().find(|signed| signed.apex == *zone.apex());
            let what = match (signed, &settings.dnssec, keys) {
                (Some(signed), None, _) => self.unsigned(settings, signed),
                (Some(signed), Some(_), Some(keys)) => self.lost_key(&signed.keys.keys, keys),
                (None, Some(dnssec), Some(keys)) if last.zones.zones().any(|(apex, _)| apex == zone.apex()) => {
                    self.signed_late(settings, dnssec, &keys.keys)
                }
                _ => None,
            };
            what.map(|what| problem(settings, what))
        });
        found.collect()
    }

    /// Where the keys are of zones that were signed in `last` and are not any more: a change of them is worth another look.
    pub(super) fn left_files(&self, last: &World) -> Vec<PathBuf> {
        let unsigned = self.settings.iter().zip(self.zones).filter(|(settings, _)| settings.dnssec.is_none());
        let signed =
            unsigned.filter_map(|(_, zone)| last.signed_zones.iter().find(|signed| signed.apex == *zone.apex()));
        let files = signed.flat_map(|signed| {
            let folder = self.folder_of(signed);
            let files = folder.files(&signed.apex).unwrap_or_default();
            [folder.path().to_owned()].into_iter().chain(files)
        });
        files.collect()
    }

    /// What should not be, but may be meant.
    pub(super) fn warnings(&self, last: Option<&World>) -> Vec<Problem> {
        let unsigned = self.settings.iter().zip(self.zones).filter(|(settings, _)| settings.dnssec.is_none());
        let mut folders = None;
        let found = unsigned.filter_map(|(settings, zone)| {
            let what = match last {
                Some(last) => {
                    let signed = last.signed_zones.iter().find(|signed| signed.apex == *zone.apex())?;
                    told(self.ds_of(signed, &self.known_keys(signed).ok()?))?
                }
                None => {
                    let folders = folders.get_or_insert_with(|| self.folders());
                    folders.iter().find_map(|folder| self.left_in(zone.apex(), folder))?
                }
            };
            Some(problem(settings, what))
        });
        let signed = self.settings.iter().zip(self.keys).filter(|_| last.is_none());
        let late = signed.filter_map(|(settings, keys)| {
            let found = self.signed_late(settings, settings.dnssec.as_ref()?, &keys.as_ref()?.keys)?;
            Some(problem(settings, format!("where a node serves it unsigned so far, that refuses this, since {found}")))
        });
        found.chain(late).collect()
    }

    fn unsigned(&self, settings: &ZoneSettings, signed: &SignedZone) -> Option<String> {
        let keys = match self.known_keys(signed) {
            Ok(keys) => keys,
            Err(found) => {
                let found = found.first().map(ToString::to_string).unwrap_or_default();
                return Some(format!(
                    "has no `dnssec` any more, but what its key files say of the DS at the parent cannot be read: {found}"
                ));
            }
        };
        let ds = self.ds_of(signed, &keys);
        let told = told(ds)?;
        let zone = &settings.name;
        match ds {
            ParentDs::Asked { .. } | ParentDs::Unsaid { .. } if signed.keys.settings.sync == Sync::Absent => None,
            ParentDs::Confirmed { .. } | ParentDs::Asked { .. } | ParentDs::Unsaid { .. } => Some(format!(
                "{told}; put it back with cds = \"delete\", or have the parent drop the DS, and when none of its servers \
                 gives one, run `gslb-dns keys withdraw {zone}`"
            )),
            ParentDs::Cached { .. } => Some(format!("{told}; put it back until then")),
            ParentDs::Absent => None,
        }
    }

    /// The keys as their files have them now, which may say more than when they were read last; those that have left with
    /// their files are as they were then.
    fn known_keys(&self, signed: &SignedZone) -> Result<Vec<ZoneKey>, Vec<Problem>> {
        let found = self.folder_of(signed).read(&signed.apex)?;
        let mut keys: Vec<ZoneKey> = found.into_iter().map(|found| found.key).collect();
        let left: Vec<_> = signed.keys.keys.iter().filter(|key| !is_among(&keys, key)).cloned().collect();
        keys.extend(left);
        Ok(keys)
    }

    fn ds_of(&self, signed: &SignedZone, keys: &[ZoneKey]) -> ParentDs {
        sign::parent_ds(keys, signed.keys.settings.parent_ds_secs(), self.now)
    }

    fn folder_of(&self, signed: &SignedZone) -> KeyFolder {
        KeyFolder::new(self.folder.join(&signed.keys.settings.keys))
    }

    fn lost_key(&self, last: &[ZoneKey], keys: &ZoneKeys) -> Option<String> {
        let is_lost = |key: &&ZoneKey| key.role.is_entry_point() && key.has_ds(self.now) && !is_among(&keys.keys, key);
        let lost = last.iter().find(is_lost)?;
        Some(format!(
            "key {}, whose DS is at the parent, is not among those in {} any more: resolvers that validate would answer \
             SERVFAIL; bring its files back, and replace it by `gslb-dns keys roll`",
            lost.tag(),
            keys.settings.keys.display()
        ))
    }

    fn signed_late(&self, settings: &ZoneSettings, dnssec: &DnssecSettings, keys: &[ZoneKey]) -> Option<String> {
        let from = sign::first_signs_from(keys, self.now)?;
        // That long after the files change nodes may begin.
        let is_late = from + u64::from(dnssec.timing(0).propagation) < self.now;
        is_late.then(|| {
            let (from, zone) = (show_time(from), &settings.name);
            format!(
                "it begins to be signed now, but its keys count from {from} how long the DS must wait for caches to forget \
                 unsigned records: run `gslb-dns keys start {zone}`"
            )
        })
    }

    /// Where keys of a zone may lie that no settings name any more: beside the settings, or with those of other zones.
    fn folders(&self) -> Vec<PathBuf> {
        let folder = self.folder;
        let here = if folder == Path::new("") { Path::new(".") } else { folder };
        let beside = fs::read_dir(here).into_iter().flatten().filter_map(Result::ok).take(ENTRIES_MAX);
        let beside = beside.map(|entry| entry.path()).filter(|path| path.is_dir());
        let named = self.settings.iter().filter_map(|zone| Some(folder.join(&zone.dnssec.as_ref()?.keys)));
        let mut folders: Vec<_> = named.chain([here.to_owned()]).chain(beside).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    fn left_in(&self, apex: &Name, folder: &Path) -> Option<String> {
        let found = KeyFolder::new(folder.to_owned()).read(apex).ok()?;
        let keys: Vec<ZoneKey> = found.into_iter().map(|found| found.key).collect();
        let ttl = DnssecSettings::with_keys(PathBuf::new()).parent_ds_secs();
        let told = told(sign::parent_ds(&keys, ttl, self.now))?;
        Some(format!("{told}, and a node that runs refuses that; its keys are in {}", folder.display()))
    }
}

fn is_among(keys: &[ZoneKey], key: &ZoneKey) -> bool {
    keys.iter().any(|other| other.key.public().dnskey() == key.key.public().dnskey())
}

/// What a zone that is not signed any more would suffer.
fn told(ds: ParentDs) -> Option<String> {
    const BROKEN: &str = "resolvers that validate would answer SERVFAIL";
    match ds {
        ParentDs::Confirmed { tag, since } => Some(format!(
            "has no `dnssec`, but the parent has the DS of key {tag}, as confirmed at {}: {BROKEN}",
            show_time(since)
        )),
        ParentDs::Cached { until } => Some(format!(
            "has no `dnssec`, but caches may have its DS until {}, though the parent has none: {BROKEN}",
            show_time(until)
        )),
        ParentDs::Asked { tag } => Some(format!(
            "has no `dnssec`, but the parent may have the DS of key {tag}, for which CDS has asked: if it has, {BROKEN}"
        )),
        ParentDs::Unsaid { tag, since } => Some(format!(
            "has no `dnssec`, but the parent may have the DS of key {tag}, which signs since {}, though its files say nothing \
             of it: if it has, {BROKEN}",
            show_time(since)
        )),
        ParentDs::Absent => None,
    }
}

fn problem(settings: &ZoneSettings, what: String) -> Problem {
    Problem { file: String::new(), line: None, key: format!("zone {}", settings.name), what }
}

/// More need not be looked through for keys that were forgotten.
const ENTRIES_MAX: usize = 256;
