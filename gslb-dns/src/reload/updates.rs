//! Zones that change without their files: what updates have made of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::problem::Problem;

use super::{Reader, World, unix_secs};
use crate::journal;
use crate::settings::{NamedFiles, Settings, ZoneSettings, zone_key};
use crate::update::journal::{self as octets, Journal};
use crate::update::{Standing, replayed};
use crate::wire::Name;
use crate::zone::{Zone, is_newer, wire_name};

/// A zone that has a journal.
#[derive(Clone, Debug)]
pub struct JournaledZone {
    /// The zone's name, in lower case.
    pub apex: Name,
    /// Where its zone file is.
    pub file: PathBuf,
    /// Where its journal is.
    pub path: PathBuf,
    /// How much stood in that; the entries are left out.
    pub journal: Journal,
    /// Whether its file was edited since.
    pub standing: Standing,
}

impl World {
    /// The same with other zones: each takes the place of the one in [`World::kept`] at the position beside it.
    ///
    /// Compiles all zones anew, and signs what is new in those that are signed; as with [`World::signed_again`] that may
    /// raise the serials of others than those that changed. Fails with what does not go together.
    pub fn with_zones(&self, changed: impl IntoIterator<Item = (usize, Arc<Zone>)>) -> Result<Self, Vec<Problem>> {
        let mut kept = self.kept.clone();
        for (at, zone) in changed {
            if let Some(place) = kept.get_mut(at) {
                *place = zone;
            }
        }
        self.with_built(self.sign_zones(&kept, unix_secs())?)
    }
}

impl JournaledZone {
    /// The zone as its file gives it now, without updates; `None`: it cannot be read, or has mistakes.
    pub fn read_file(&self, settings: &Settings) -> Option<Zone> {
        let name = &settings.zones.iter().find(|zone| wire_name(&zone.name) == self.apex)?.name;
        let text = fs::read_to_string(&self.file).ok()?;
        Zone::parse(name, &self.file.display().to_string(), &text).ok()
    }
}

impl Reader {
    /// `zone`, as its file gives it, with all updates; as it is where its journal cannot be read.
    pub(super) fn with_updates(&mut self, zone: Zone, settings: &ZoneSettings) -> Zone {
        let Some(path) = &settings.journal else { return zone };
        let path = self.folder.join(path);
        if let Some(other) = self.journals.iter().find(|other| other.path == path) {
            let what = format!("is the journal of {} too: expected one for each zone", other.apex);
            self.problem(&path, what);
            return zone;
        }
        let mut journal = match journal::read(&path, zone.apex()) {
            Ok(journal) => journal,
            Err(error) => {
                self.problem(&path, error.to_string());
                return zone;
            }
        };
        if journal.len == 0 && path.exists() {
            let what = "is empty, as no journal is that was begun: if there were updates in it, they are gone, and the \
                        serial is that of the zone file again";
            let file = path.display().to_string();
            self.warnings.push(Problem { file, line: None, key: String::new(), what: what.to_owned() });
        }
        let (updated, standing) = replayed(&zone, &std::mem::take(&mut journal.entries));
        let problems = updated.problems();
        let apex = zone.apex().clone();
        let told = problems.into_iter().map(|problem| Problem {
            what: format!(
                "with the updates in {}: {}. Expected a file that goes with them; or remove the journal, which loses all updates",
                path.display(),
                problem.what
            ),
            ..problem
        });
        self.problems.extend(told);
        let file = self.folder.join(&settings.file);
        self.journals.push(JournaledZone { apex, file, path, journal, standing });
        updated
    }

    /// Looks for journals that no zone has any more, though `zones`, as their files are, lack what stands in them: a
    /// mistake where a node serves it, for that would be gone; else, as nobody may have meant it, a warning.
    pub(super) fn look_for_journals(&mut self, named: &NamedFiles, zones: &[Zone], last: Option<&World>) {
        if !self.problems.is_empty() {
            // Zones may not be whole.
            return;
        }
        let known = last.map_or(&[][..], |last| &last.journals);
        let folders = self.journal_folders(named);
        for (zone, settings) in zones.iter().zip(&named.zones) {
            let path = settings.journal.as_ref().map(|path| self.folder.join(path));
            let key = zone_key(&settings.name, "journal");
            let name = zone_key(&settings.name, "name");
            let places = [key.as_str(), &name];
            let served = known.iter().find(|known| known.apex == *zone.apex());
            let served = served.map(|served| &*served.path).filter(|served| path.as_deref() != Some(served));
            if let Some((served, loss)) = served.and_then(|served| Some((served, loss(served, zone)?))) {
                let (name, shown, expected) = (
                    &settings.name,
                    served.display(),
                    match &path {
                        Some(path) => format!("moved to {}", path.display()),
                        None => "named as before until the zone file has them (README, \"To stop\")".to_owned(),
                    },
                );
                let what = format!(
                    "{loss} in {shown}, the journal of {name} so far: expected it {expected}; or removed, \
                                    which loses them"
                );
                self.problems.push(self.lines.problem(&key, &places, what));
            } else if path.is_none() {
                let lost = folders.iter().flat_map(|folder| journals_in(folder, zone.apex()));
                for (path, loss) in lost.filter_map(|path| loss(&path, zone).map(|loss| (path, loss))) {
                    let what = format!(
                        "{loss} in {}, which no zone has for its journal: expected it here, or removed",
                        path.display()
                    );
                    self.warnings.push(self.lines.problem(&key, &places, what));
                }
            }
        }
    }

    /// Where journals are likely to be.
    fn journal_folders(&self, named: &NamedFiles) -> BTreeSet<PathBuf> {
        let zones = named.zones.iter().flat_map(|zone| [Some(&zone.file), zone.journal.as_ref()]).flatten();
        let files = zones.chain(&named.state_file).filter_map(|path| path.parent());
        files.map(|folder| self.folder.join(folder)).chain([self.folder.clone()]).collect()
    }
}

/// What would be lost of the journal at `path` if `zone` were served as it is, in words; `None`: nothing.
fn loss(path: &Path, zone: &Zone) -> Option<String> {
    let journal = journal::read(path, zone.apex()).ok()?;
    let last = journal.entries.last()?.delta.to;
    let updates = journal.entries.iter().filter(|entry| !entry.delta.is_empty()).count();
    if replayed(zone, &journal.entries).0.digest() != zone.digest() {
        return Some(format!("the zone file has not all that {updates} updates have changed, up to serial {last}"));
    }
    let serial = zone.serial();
    is_newer(last, serial).then(|| format!("the zone file has the serial {serial}, but {last} was served, as stands"))
}

/// Files in `folder` whose names end as those of journals do, and that are such of the zone `apex`.
fn journals_in(folder: &Path, apex: &Name) -> Vec<PathBuf> {
    let header = octets::header(apex);
    let is_one = |path: &PathBuf| {
        let mut start = vec![0; header.len()];
        let is_named_so = path.extension().is_some_and(|ending| ending == "journal");
        is_named_so && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == header
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_one).collect()
}
