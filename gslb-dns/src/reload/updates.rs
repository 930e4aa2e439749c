//! Zones that change without their files: what updates have made of them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use shared::problem::Problem;

use super::{Reader, World, unix_secs};
use crate::journal;
use crate::settings::{Settings, ZoneSettings};
use crate::update::journal::Journal;
use crate::update::{Standing, replayed};
use crate::wire::Name;
use crate::zone::{Zone, wire_name};

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
}
