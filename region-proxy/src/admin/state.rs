//! What survives a restart.

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::changes::Changes;
use crate::ledger::Ledger;

/// The longest file that is read, in octets.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// What an operator changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SavedState {
    /// Whether the proxy is drained.
    pub is_draining: bool,
    /// The changes of servers.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    pub servers: Changes,
    /// When these were said, and what was taken back.
    #[serde(default, skip_serializing_if = "Ledger::is_empty")]
    pub ledger: Ledger,
}

/// Replaces `file` whole: a crash leaves the old state or the new one, and the new one once this returns.
pub fn save(file: &Path, state: &SavedState) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let mut new = std::fs::File::create(&name)?;
    serde_json::to_writer(&mut new, state)?;
    new.write_all(b"\n")?;
    new.sync_all()?;
    std::fs::rename(&name, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// The saved state; the default where there is no file yet.
pub fn load(file: &Path) -> io::Result<SavedState> {
    match std::fs::metadata(file) {
        Ok(about) if about.len() > SIZE_MAX => {
            let what = format!("{} octets: expected {SIZE_MAX} at most", about.len());
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
        Ok(_) => Ok(serde_json::from_slice(&std::fs::read(file)?)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SavedState::default()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_read_as_it_was_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state.json");
        assert_eq!(load(&file).ok(), Some(SavedState::default()));
        let servers = serde_json::from_str(r#"{"www.example.com": {"app-1": {"mode": "drain"}}}"#).expect("changes");
        let ledger =
            serde_json::from_str(r#"{"www.example.com": {"app-1": {"at": 7, "by": "seoul-1"}}}"#).expect("stamps");
        let state = SavedState { is_draining: true, servers, ledger };
        save(&file, &state).expect("saved");
        assert_eq!(load(&file).ok(), Some(state));
        std::fs::write(&file, "{\"is_draining\":false}\n").expect("written");
        assert_eq!(load(&file).ok(), Some(SavedState::default()), "as earlier versions saved it");
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state.json");
        for text in ["{", "", "[]", "{\"is_draining\":false,\"servers\":{\"s\":{\"a\":{\"mode\":\"asleep\"}}}}"] {
            std::fs::write(&file, text).expect("written");
            assert!(load(&file).is_err(), "{text}");
        }
    }
}
