//! Journals of zones on disk: what an update has changed stays changed, whatever happens to the process.
//!
//! Only the process that serves writes them, and holds a lock on each; others read.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use tracing::{info, warn};

use crate::update::journal::{self, Entry, Fault, Journal};
use crate::wire::Name;
use crate::zone::Zone;

/// A journal that updates are added to.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    apex: Name,
    file: File,
    /// Octets up to the end of the last frame.
    len: usize,
    /// Entries in these.
    count: usize,
    /// Octets from which on it is long, and worth rewriting.
    long_len: usize,
    /// A write could neither be done nor undone: nothing is added until the file is opened again.
    is_broken: bool,
}

/// How much is in a journal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extent {
    /// Octets.
    pub octets: usize,
    /// Updates, and marks of edits.
    pub entries: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// What the system says.
    #[error("cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// What stands in it.
    #[error(
        "is broken: {fault}. Put a copy back; or cut it there with `truncate --size={} {}`, which loses that update and all \
         later ones; or remove it, which loses all updates",
        fault.offset,
        quoted(path)
    )]
    Fault {
        /// Where, and what.
        fault: Fault,
        /// Of which file.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("is written by another process: expected a journal of its own for each")]
    Locked,
    /// Written to between reading and opening.
    #[error("has changed while it was read: another process writes it")]
    Changed,
    /// Moved away, removed, or written to by others.
    #[error("is not the file any more that was opened: put it back, or reload, which takes what is there")]
    Replaced,
    /// See [`JournalFile`].
    #[error("could not be written before: it is not written again before the next reload")]
    Broken,
}

/// Reads the journal of the zone `apex` at `path`; empty where there is no file.
pub fn read(path: &Path, apex: &Name) -> Result<Journal, JournalError> {
    match fs::read(path) {
        Ok(octets) => read_octets(path, apex, &octets),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Journal::default()),
        Err(error) => Err(error.into()),
    }
}

fn read_octets(path: &Path, apex: &Name, octets: &[u8]) -> Result<Journal, JournalError> {
    journal::read(apex, octets).map_err(|fault| JournalError::Fault { fault, path: path.to_owned() })
}

/// Why this process cannot keep a journal at `path`, and what would be right; `None`: it can, as far as rights go.
pub fn hindrance(path: &Path) -> Option<String> {
    let folder = folder_of(path);
    let shown = folder.display();
    let expected = "expected one that the user of the server may write to";
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("there is no folder {shown}: {expected}"))
        }
        Ok(metadata) if !metadata.is_dir() => Some(format!("{shown} is no folder: {expected}")),
        Err(error) => Some(format!("the folder {shown} cannot be reached: {error}: {expected}")),
        // It is put in its place by renaming.
        Ok(_) => match (access(folder, AccessFlags::W_OK | AccessFlags::X_OK), path.exists()) {
            (Err(error), _) => Some(format!("the folder {shown} cannot be written to: {error}: {expected}")),
            (Ok(()), false) => None,
            (Ok(()), true) => {
                let error = access(path, AccessFlags::R_OK | AccessFlags::W_OK).err()?;
                Some(format!("cannot be written: {error}: expected a file of the user of the server"))
            }
        },
    }
}

/// The folder in which the file at `path` is.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path` as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&octet);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl JournalFile {
    /// Opens what [`read`] has found to be `journal`, and makes it where it is not there. What a crash has cut short is cut
    /// off.
    pub fn open(path: &Path, apex: &Name, journal: &Journal) -> Result<Self, JournalError> {
        if journal.len == 0 {
            let file = write_whole(path, &journal::header(apex))?;
            return Ok(Self::new(path, apex, file, journal::header(apex).len(), 0));
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file)?;
        Self::take(path, apex, file, journal)
    }

    /// The same where `path` leads to the file that this one has open already, under the same lock.
    pub fn open_again(&self, path: &Path, apex: &Name, journal: &Journal) -> Result<Self, JournalError> {
        Self::take(path, apex, self.file.try_clone()?, journal)
    }

    fn take(path: &Path, apex: &Name, file: File, journal: &Journal) -> Result<Self, JournalError> {
        if file.metadata()?.len() != (journal.len + journal.torn) as u64 {
            return Err(JournalError::Changed);
        }
        if journal.torn > 0 {
            file.set_len(journal.len as u64)?;
            file.sync_all()?;
            let path = path.display();
            warn!(%path, octets = journal.torn, offset = journal.len, "journal: cut off what a crash had left unfinished");
        }
        Ok(Self::new(path, apex, file, journal.len, journal.count))
    }

    fn new(path: &Path, apex: &Name, file: File, len: usize, count: usize) -> Self {
        Self { path: path.to_owned(), apex: apex.clone(), file, len, count, long_len: LONG_LEN, is_broken: false }
    }

    /// Whether it is the one at `path` with this content, and can be used on.
    pub fn is(&self, path: &Path, journal: &Journal) -> bool {
        let is_whole = !self.is_broken && journal.torn == 0 && journal.len == self.len;
        self.path == path && is_whole && self.is_at(path)
    }

    /// Whether the file at `path` is the one that is written to.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|there| self.is_same_as(&there))
    }

    fn is_same_as(&self, there: &fs::Metadata) -> bool {
        self.file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
    }

    /// Whether what is at its path is what was written there. Else a process that starts would not find what is added.
    fn is_untouched(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|there| self.is_same_as(&there) && there.len() == self.len as u64)
    }

    /// The zone's name, in lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much is in it.
    pub fn extent(&self) -> Extent {
        Extent { octets: self.len, entries: self.count }
    }

    /// Octets in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it, not even a header: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `entries` and waits until they are on the disk. What fails leaves no trace.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken);
        }
        if !self.is_untouched() {
            return Err(JournalError::Replaced);
        }
        let frame = journal::frame(self.len, entries);
        let written = self.file.write_all_at(&frame, self.len as u64).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += frame.len();
                self.count += entries.len();
                Ok(())
            }
            Err(error) => {
                self.cut(self.extent());
                Err(error.into())
            }
        }
    }

    /// Takes back what was added since it had this `extent`.
    pub fn cut(&mut self, extent: Extent) {
        let cut = self.file.set_len(extent.octets as u64).and_then(|()| self.file.sync_data());
        self.is_broken |= cut.is_err();
        (self.len, self.count) = (extent.octets, extent.entries);
    }

    /// Removes the file, which was made in vain.
    pub fn remove(self) {
        // Left behind it would be an empty journal, which does no harm.
        let _ = fs::remove_file(&self.path);
    }

    /// Rewrites it with what all entries come to over the zone file, where it is much longer than that; `read_file` reads
    /// that file as it is now.
    ///
    /// A file that was edited, and is not served yet, is left for the reload to mark.
    pub fn compact_if_long(&mut self, read_file: impl FnOnce() -> Option<Zone>) {
        if self.len < self.long_len || self.is_broken {
            return;
        }
        let before = self.len;
        // A journal that stays long works on.
        self.long_len = before + LONG_LEN;
        match self.compact(read_file) {
            Ok(false) => {}
            Ok(true) => {
                let path = self.path.display();
                info!(%path, octets = self.len, before, "journal: rewritten with what all updates come to");
            }
            Err(error) => {
                let path = self.path.display();
                warn!(%path, %error, "journal: cannot be rewritten shorter");
                // It may have failed when the old file had gone already: what is written there is lost.
                self.is_broken |= !self.is_at(&self.path);
            }
        }
    }

    fn compact(&mut self, read_file: impl FnOnce() -> Option<Zone>) -> Result<bool, JournalError> {
        let Some(file) = read_file() else { return Ok(false) };
        let mut octets = vec![0; self.len];
        self.file.read_exact_at(&mut octets, 0)?;
        let Journal { entries, .. } = read_octets(&self.path, &self.apex, &octets)?;
        let Some(merged) = Entry::merged(&file, &entries) else { return Ok(false) };
        let mut short = journal::header(&self.apex);
        short.extend(journal::frame(short.len(), &merged));
        self.file = write_whole(&self.path, &short)?;
        self.count = merged.len();
        (self.len, self.long_len) = (short.len(), LONG_LEN.max(short.len() * LONG_TIMES));
        Ok(true)
    }
}

/// Puts a file with `octets` in the place of what is at `path`, durably, and locks it.
fn write_whole(path: &Path, octets: &[u8]) -> Result<File, JournalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // Before anything is replaced, so that want of files or of rights fails in time.
    let folder = File::open(folder_of(path))?;
    let written = write_new(&temporary, octets).and_then(|file| {
        fs::rename(&temporary, path)?;
        folder.sync_all()?;
        Ok(file)
    });
    if written.is_err() {
        // What is left of a failed attempt is of no use; that it may not even exist does not matter.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, octets: &[u8]) -> Result<File, JournalError> {
    // Emptied only under the lock: it may be another's in the making.
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    lock(&file)?;
    file.set_len(0)?;
    file.write_all(octets)?;
    file.sync_all()?;
    Ok(file)
}

/// The lock ends with the file.
fn lock(file: &File) -> Result<(), JournalError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => JournalError::Locked,
        TryLockError::Error(error) => error.into(),
    })
}

/// Shorter ones are not worth the work: they are read in a moment.
const LONG_LEN: usize = 256 * 1024;
/// Times the length that it had when it was last rewritten.
const LONG_TIMES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::{Delta, replayed};
    use crate::wire::Rtype;
    use crate::zone::ZoneRecord;
    use shared::name::OwnerName;

    fn apex() -> Name {
        Name::parse("example.com.", &Name::root()).expect("a name")
    }

    fn entry(from: u32) -> Entry {
        let record =
            |text: u32| ZoneRecord { owner: apex(), rtype: Rtype(65280), ttl: 60, rdata: text.to_be_bytes().into() };
        let delta = Delta { from, to: from + 1, removed: vec![record(from)], added: vec![record(from + 1)] };
        Entry { delta, digest: u64::from(from) }
    }

    fn zone() -> Zone {
        let text = "@ 60 SOA ns1 m 7 4h 1h 2w 5m\n@ NS ns1\nns1 A 192.0.2.53\n@ TYPE65280 \\# 4 00000000\n";
        Zone::parse(&OwnerName::parse("example.com").expect("a name"), "z", text).expect("a zone")
    }

    /// What gives what is served, in `count` changes.
    fn history(count: u32) -> Vec<Entry> {
        let mut entries: Vec<Entry> = (0..count).map(entry).collect();
        let served = replayed(&zone(), &entries).0.digest();
        entries.iter_mut().for_each(|entry| entry.digest = served);
        entries
    }

    fn open(path: &Path) -> JournalFile {
        JournalFile::open(path, &apex(), &read(path, &apex()).expect("readable")).expect("opened")
    }

    #[test]
    fn what_was_added_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        file.append(&[entry(1), entry(2)]).expect("added");
        file.append(&[entry(3)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries, [entry(1), entry(2), entry(3)]);
        drop(file);
        let mut file = open(&path);
        file.append(&[entry(4)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries.len(), 4);
    }

    #[test]
    fn file_that_was_replaced_is_not_written_to_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        file.append(&history(LONG_LEN as u32 / 32)).expect("added");
        // As when a rewrite fails behind its renaming.
        fs::copy(&path, folder.path().join("other")).expect("copied");
        fs::rename(folder.path().join("other"), &path).expect("renamed");
        fs::create_dir(folder.path().join("journal.new")).expect("in the way");
        file.compact_if_long(|| Some(zone()));
        assert!(matches!(file.append(&[entry(2)]), Err(JournalError::Broken)));
    }

    #[test]
    fn what_a_crash_cut_short_is_cut_off_and_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        open(&path).append(&[entry(1)]).expect("added");
        let whole = fs::read(&path).expect("readable");
        let mut torn = whole.clone();
        torn.extend(&journal::frame(torn.len(), &[entry(2)])[..20]);
        fs::write(&path, torn).expect("written");
        let mut file = open(&path);
        assert_eq!(fs::read(&path).expect("readable"), whole);
        file.append(&[entry(3)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries, [entry(1), entry(3)]);
    }

    #[test]
    fn what_is_taken_back_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        file.append(&[entry(1)]).expect("added");
        let extent = file.extent();
        file.append(&[entry(2)]).expect("added");
        file.cut(extent);
        assert_eq!(file.extent().entries, 1);
        file.append(&[entry(5)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries, [entry(1), entry(5)]);
    }

    #[test]
    fn write_that_can_neither_be_done_nor_undone_is_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        file.append(&[entry(1)]).expect("added");
        let whole = std::mem::replace(&mut file.file, File::open(&path).expect("opened to read"));
        assert!(matches!(file.append(&[entry(2)]), Err(JournalError::Io(_))));
        file.file = whole;
        assert!(matches!(file.append(&[entry(3)]), Err(JournalError::Broken)));
        assert!(!file.is(&path, &read(&path, &apex()).expect("readable")));
        drop(file);
        open(&path).append(&[entry(4)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries, [entry(1), entry(4)]);
    }

    #[test]
    fn what_others_moved_away_or_cut_is_not_added_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, aside) = (folder.path().join("journal"), folder.path().join("aside"));
        let mut file = open(&path);
        file.append(&[entry(1)]).expect("added");
        fs::rename(&path, &aside).expect("moved");
        assert!(matches!(file.append(&[entry(2)]), Err(JournalError::Replaced)));
        fs::copy(&aside, &path).expect("copied");
        assert!(matches!(file.append(&[entry(2)]), Err(JournalError::Replaced)));
        fs::rename(&aside, &path).expect("put back");
        file.append(&[entry(3)]).expect("added");
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(40)).expect("cut");
        assert!(matches!(file.append(&[entry(4)]), Err(JournalError::Replaced)));
    }

    #[test]
    fn second_process_cannot_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let _file = open(&path);
        let second = JournalFile::open(&path, &apex(), &read(&path, &apex()).expect("readable"));
        assert!(matches!(second, Err(JournalError::Locked)));
    }

    #[test]
    fn long_journal_is_rewritten_with_the_net_difference() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        let entries = history(5000);
        file.append(&entries).expect("added");
        // The file cannot be read, or has been edited.
        file.compact_if_long(|| None);
        assert_eq!(read(&path, &apex()).expect("readable").entries.len(), 5000);
        drop(file);
        let mut file = open(&path);
        assert_eq!(file.extent().entries, 5000);
        file.compact_if_long(|| Some(zone()));
        let octets = fs::metadata(&path).expect("there").len() as usize;
        assert_eq!(file.extent(), Extent { octets, entries: 1 });
        let first_and_last =
            Delta { from: 0, to: 5000, removed: entry(0).delta.removed, added: entry(4999).delta.added };
        let expected = [Entry { delta: first_and_last, digest: entries[4999].digest }];
        assert_eq!(read(&path, &apex()).expect("readable").entries, expected);
        file.append(&[entry(5000)]).expect("added");
        assert_eq!(read(&path, &apex()).expect("readable").entries.len(), 2);
        drop(file);
        open(&path);
    }

    #[test]
    fn broken_journal_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = open(&path);
        let header_len = file.len();
        file.append(&[entry(1)]).expect("added");
        file.append(&[entry(2)]).expect("added");
        let mut octets = fs::read(&path).expect("readable");
        octets[header_len + 20] ^= 1;
        fs::write(&path, octets).expect("written");
        let error = read(&path, &apex()).expect_err("broken").to_string();
        assert!(error.contains(&format!("a wrong checksum at octet {header_len}")), "{error}");
        assert!(error.contains(&format!("`truncate --size={header_len} {}`", path.display())), "{error}");
    }

    #[test]
    fn path_in_a_command_is_one_word() {
        assert_eq!(quoted(Path::new("/var/lib/gslb/a.example.journal")), "/var/lib/gslb/a.example.journal");
        assert_eq!(quoted(Path::new("my journals/it's")), "'my journals/it'\\''s'");
    }
}
