//! What somebody may do with files, by owners and modes (POSIX.1-2017, XBD, section 4.5). Access lists, which may allow more,
//! are not looked at.

use std::path::{Path, PathBuf};

/// What is done with a file or a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// Read a file; list a folder.
    Read,
    /// Read and write a file; make files in a folder.
    Write,
    /// Go through a folder to what is in it.
    Enter,
}

/// What a file system says of a file or a folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// The user that it belongs to.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Its mode, with or without what kind of file it is.
    pub mode: u32,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// A file, or the first folder above one, with which somebody may not do what has to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denied {
    /// Which one.
    pub at: PathBuf,
    /// What would have to be done with it.
    pub want: Want,
    /// What it is like.
    pub found: Attributes,
}

impl Attributes {
    /// Its permissions alone.
    pub fn permissions(self) -> u32 {
        self.mode & 0o7777
    }

    /// Of owner, group and others the first that fits decides; user 0 may do everything.
    fn allow(self, uid: u32, gid: u32, want: Want) -> bool {
        let bits = match (want, self.is_folder) {
            (Want::Enter, _) => 0o1,
            // To list a folder is no use without entering it.
            (Want::Read, true) => 0o5,
            (Want::Read, false) => 0o4,
            (Want::Write, true) => 0o3,
            (Want::Write, false) => 0o6,
        };
        let shift = match (self.uid == uid, self.gid == gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        uid == 0 || self.mode >> shift & bits == bits
    }
}

/// Where the user `uid` of the group `gid` is stopped on the way to `path`, which is absolute and without links; `look` says
/// what is there. What does not exist stops nobody.
pub fn denied(
    (uid, gid): (u32, u32),
    path: &Path,
    want: Want,
    look: impl Fn(&Path) -> Option<Attributes>,
) -> Option<Denied> {
    let mut wanted: Vec<(&Path, Want)> = path.ancestors().skip(1).map(|folder| (folder, Want::Enter)).collect();
    wanted.reverse();
    wanted.push((path, want));
    wanted.into_iter().find_map(|(at, want)| {
        let found = look(at)?;
        (!found.allow(uid, gid, want)).then(|| Denied { at: at.to_owned(), want, found })
    })
}

/// The folder that `path` is in; of a name alone the present one.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: (u32, u32) = (65_534, 65_534);

    /// Where `who` is stopped on the way to /keys/file, which belong to user 0 and `gid`.
    fn stopped(who: (u32, u32), gid: u32, folder: u32, file: u32, want: Want) -> Option<&'static str> {
        let look = |at: &Path| {
            let (mode, is_folder) = match at.to_str() {
                Some("/") => (0o755, true),
                Some("/keys") => (folder, true),
                _ => (file, false),
            };
            Some(Attributes { uid: 0, gid, mode, is_folder })
        };
        let denied = denied(who, "/keys/file".as_ref(), want, look)?;
        Some(if denied.at == Path::new("/keys") { "folder" } else { "file" })
    }

    #[test]
    fn first_folder_or_file_that_stops_somebody_is_named() {
        for (folder, file, want, expected) in [
            (0o755, 0o644, Want::Read, None),
            (0o755, 0o600, Want::Read, Some("file")),
            (0o755, 0o644, Want::Write, Some("file")),
            (0o755, 0o666, Want::Write, None),
            (0o700, 0o644, Want::Read, Some("folder")),
            (0o711, 0o604, Want::Read, None),
        ] {
            assert_eq!(stopped(NOBODY, 0, folder, file, want), expected, "{folder:o} {file:o} {want:?}");
        }
    }

    #[test]
    fn the_group_decides_for_its_members_even_where_others_may_do_more() {
        assert_eq!(stopped(NOBODY, NOBODY.1, 0o755, 0o604, Want::Read), Some("file"));
        assert_eq!(stopped(NOBODY, NOBODY.1, 0o750, 0o640, Want::Read), None);
    }

    #[test]
    fn root_may_do_everything() {
        assert_eq!(stopped((0, 0), 0, 0, 0, Want::Write), None);
    }

    #[test]
    fn to_make_files_takes_a_folder_that_can_be_written_and_entered() {
        let look = |mode| move |_: &Path| Some(Attributes { uid: 0, gid: 0, mode, is_folder: true });
        assert!(denied(NOBODY, "/".as_ref(), Want::Write, look(0o757)).is_none());
        assert!(denied(NOBODY, "/".as_ref(), Want::Write, look(0o756)).is_some());
        assert!(denied(NOBODY, "/".as_ref(), Want::Write, |_| None).is_none(), "what is missing is told elsewhere");
    }
}
