//! The state file: verdicts and overrides over a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::state::Saved;

/// Where [`Saved`] is kept.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

/// What stood in a state file, and how long ago it was written.
#[derive(Debug, PartialEq)]
pub struct Restored {
    /// The verdicts and overrides.
    pub saved: Saved,
    /// Time since then; zero when the clock says that it was written later than now.
    pub elapsed: Duration,
}

/// Why a state file was not read.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not what this program writes.
    #[error("is not a state file: {0}")]
    Json(#[from] serde_json::Error),
    /// Its time is none.
    #[error("has no valid time: {0}")]
    Time(#[from] jiff::Error),
    /// Written by a version with another format.
    #[error("has format {found}, expected {}", Page::FORMAT)]
    Format {
        /// The number in the file.
        found: u32,
    },
}

/// The JSON in the file.
#[derive(Deserialize, Serialize)]
struct Page {
    format: u32,
    /// RFC 3339.
    saved_at: String,
    state: Saved,
}

impl Page {
    /// Changes when an older version would misread the file.
    const FORMAT: u32 = 1;
}

impl StateFile {
    /// At `path`; nothing is touched yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written last; `None` when there is no file yet.
    pub fn read(&self, now: Timestamp) -> Result<Option<Restored>, StateFileError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let page: Page = serde_json::from_slice(&bytes)?;
        if page.format != Page::FORMAT {
            return Err(StateFileError::Format { found: page.format });
        }
        let elapsed = Duration::try_from(now.duration_since(page.saved_at.parse()?)).unwrap_or_default();
        Ok(Some(Restored { saved: page.state, elapsed }))
    }

    /// Replaces the file as a whole: who reads it, even after a crash, finds the old text or the new one.
    pub fn write(&self, state: Saved, now: Timestamp) -> io::Result<()> {
        let page = Page { format: Page::FORMAT, saved_at: now.to_string(), state };
        let mut text = serde_json::to_vec_pretty(&page)?;
        text.push(b'\n');
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = self.temporary();
        let written = write_synced(&temporary, &text).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            // What is left of a failed attempt is of no use; that it may not even exist does not matter.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(folder)?.sync_all()
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        self.path.with_file_name(name)
    }
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use shared::name::{OwnerName, RegionName};
    use shared::snapshot::{Share, Verdict};
    use shared::state::SavedVerdict;

    use super::*;

    fn saved() -> Saved {
        let verdict = SavedVerdict {
            service: OwnerName::parse("www.example.com").expect("a name"),
            region: RegionName::parse("seoul").expect("a name"),
            verdict: Verdict::Recovering,
            share: Share::NONE,
            remaining_ms: Some(1234),
            reason: "healthy again".to_owned(),
            penalty: 1000,
        };
        Saved { verdicts: vec![verdict], overrides: Vec::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn in_folder() -> (tempfile::TempDir, StateFile) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(folder.path().join("state.json"));
        (folder, file)
    }

    #[test]
    fn what_is_written_is_read_with_its_age() {
        let (_folder, file) = in_folder();
        file.write(Saved::default(), at(0)).expect("written");
        file.write(saved(), at(10)).expect("replaced");
        let restored = file.read(at(15)).expect("readable").expect("there");
        assert_eq!(restored, Restored { saved: saved(), elapsed: Duration::from_secs(5) });
    }

    #[test]
    fn clock_that_went_back_counts_as_no_time() {
        let (_folder, file) = in_folder();
        file.write(saved(), at(10)).expect("written");
        assert_eq!(file.read(at(0)).expect("readable").expect("there").elapsed, Duration::ZERO);
    }

    #[test]
    fn no_file_is_no_state() {
        let (_folder, file) = in_folder();
        assert_eq!(file.read(at(0)).expect("no error"), None);
    }

    #[test]
    fn broken_file_is_an_error_and_not_a_state() {
        let (_folder, file) = in_folder();
        fs::write(file.path(), b"{ \"format\": 1, ").expect("written");
        assert!(matches!(file.read(at(0)), Err(StateFileError::Json(_))));
        fs::write(
            file.path(),
            br#"{"format":2,"saved_at":"2026-01-01T00:00:00Z","state":{"verdicts":[],"overrides":[]}}"#,
        )
        .expect("written");
        assert!(matches!(file.read(at(0)), Err(StateFileError::Format { found: 2 })));
    }

    #[test]
    fn failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        // A folder in the place of the file: the rename must fail.
        let file = StateFile::new(folder.path().join("state.json"));
        fs::create_dir(file.path()).expect("a folder");
        fs::write(file.path().join("x"), b"").expect("not empty");
        assert!(file.write(saved(), at(0)).is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
