//! What is done to the files of keys, step by step, so that a crash after any of them leaves keys that can sign.
//!
//! ```text
//! to make a key                                          to give a key other times
//! .STEM.private.new, .STEM.key.new   nobody reads them   .STEM.key.new, .STEM.private.new   nobody reads them
//! STEM.key          not a key yet, for it has            STEM.key       says the new times in comments
//!                   a .STEM.private.new beside it        STEM.private   the times count
//! STEM.private      the key is there
//! the .new go
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Uid, User};

/// Whom files belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// The owner of what is at `path`. `None`: nothing that can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Self { uid: found.uid(), gid: found.gid() })
    }

    /// The user of this name, with the group of its entry. `None`: this machine knows none.
    pub fn of_user(name: &str) -> Result<Option<Self>, Errno> {
        let entry = User::from_name(name)?;
        Ok(entry.map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }

    /// As people know it.
    pub fn name(&self) -> String {
        let entry = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        entry.map_or_else(|| self.uid.to_string(), |user| user.name)
    }
}

/// One of the things done to files, whole or not at all.
pub enum Step {
    /// Makes a folder where there is none.
    Folder {
        /// Where.
        path: PathBuf,
        /// Whom it is for; `None`: whoever makes it.
        owner: Option<Owner>,
    },
    /// Writes a file for only its owner to read; what was there goes.
    Write {
        /// Where.
        path: PathBuf,
        /// What; it may be secret.
        text: String,
        /// Whom it is for; `None`: whoever writes it.
        owner: Option<Owner>,
    },
    /// Gives a file a second name. Fails where there is one of that name.
    Link {
        /// Its name.
        from: PathBuf,
        /// The other.
        to: PathBuf,
    },
    /// Gives a file another name, in place of what has it.
    Rename {
        /// Its name.
        from: PathBuf,
        /// The other.
        to: PathBuf,
    },
    /// Removes a file.
    Remove(PathBuf),
}

impl Step {
    /// Does it, on disk when it returns.
    pub fn take(&self) -> io::Result<()> {
        match self {
            Self::Folder { path, owner } => make_folder(path, *owner),
            Self::Write { path, text, owner } => write(path, text, *owner),
            Self::Link { from, to } => fs::hard_link(from, to).and_then(|()| sync_folder_of(to)),
            Self::Rename { from, to } => fs::rename(from, to).and_then(|()| sync_folder_of(to)),
            Self::Remove(path) => fs::remove_file(path).and_then(|()| sync_folder_of(path)),
        }
    }
}

fn make_folder(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    give(&File::open(path)?, owner)
}

fn write(path: &Path, text: &str, owner: Option<Owner>) -> io::Result<()> {
    // What is there was left by a process that broke off.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    give(&file, owner)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn give(file: &File, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some(Owner { uid, gid }) => fchown(file, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
