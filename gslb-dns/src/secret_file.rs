//! Files with a secret, which nobody but their owner may read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is in such a file. Its `Debug` tells nothing of it.
pub(crate) struct SecretFile {
    /// The content.
    pub(crate) content: Vec<u8>,
    /// What is wrong with its mode.
    pub(crate) exposed: Option<Exposed>,
}

/// Others than the owner may read or write a file. As text: what mode it has, and the command to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Exposed {
    path: PathBuf,
    mode: u32,
}

impl SecretFile {
    /// Reads the file at `path`. It is opened once, so that the mode is that of what is read, whatever takes its place
    /// meanwhile.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mode = file.metadata()?.mode() & 0o777;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let exposed = (mode & OTHERS != 0).then(|| Exposed { path: path.to_owned(), mode });
        Ok(Self { content, exposed })
    }

    /// The content as text.
    pub(crate) fn text(&self) -> io::Result<&str> {
        let what = "it is not text: expected UTF-8";
        std::str::from_utf8(&self.content).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("exposed", &self.exposed).finish_non_exhaustive()
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode } = self;
        write!(f, "has mode {mode:04o}, so that others can get at the secret in it: run chmod 600 {}", path.display())
    }
}

/// Who is neither the owner nor, as root, above all that.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_others_may_read_or_write_is_told_the_command_to_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "secret").expect("written");
        for (mode, is_exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o602, true), (0o610, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            let read = SecretFile::read(&path).expect("readable");
            assert_eq!((read.text().expect("text"), read.exposed.is_some()), ("secret", is_exposed));
            assert!(!format!("{read:?}").contains("115"), "{read:?}");
            let told = read.exposed.map(|exposed| exposed.to_string()).unwrap_or_default();
            let expected = format!("has mode {mode:04o}, so that others can get at the secret in it: run chmod 600 ");
            assert_eq!(told.starts_with(&expected) && told.ends_with("/key"), is_exposed, "{told}");
        }
        fs::write(&path, [0xff]).expect("written");
        assert!(SecretFile::read(&path).expect("readable").text().is_err());
    }
}
