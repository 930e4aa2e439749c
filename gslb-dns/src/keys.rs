//! The folder of key files: read, and written so that a crash leaves whole files behind.

mod steps;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use shared::problem::Problem;

use crate::secret_file::SecretFile;
use crate::sign::bind::{self, BadText, KeyTexts, PublicText};
use crate::sign::{self, KeyTimes, Next, Role, ZoneKey};
use crate::wire::Name;

pub use steps::{Owner, Step};

/// A folder with the keys of one or several zones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyFolder {
    path: PathBuf,
    owner: Option<Owner>,
}

/// Who holds it is the only one who changes the files of a folder.
pub struct KeyLock(#[expect(dead_code, reason = "it is let go when this is dropped")] Option<File>);

/// A key and where it was found.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// The names of its files without what follows the last dot.
    pub stem: String,
    /// The key.
    pub key: ZoneKey,
}

impl KeyFolder {
    /// At `path`; nothing is touched yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, owner: None }
    }

    /// The same, whose new files are for `owner`; `None`: for the owner of the folder. Only root can give files away, so
    /// that those which others write are their own.
    pub fn for_owner(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of the keys of `apex`, sorted by name. A folder that does not exist has none.
    pub fn files(&self, apex: &Name) -> io::Result<Vec<PathBuf>> {
        let stems = self.stems(apex, PRIVATE)?;
        Ok(stems.iter().flat_map(|stem| [KEY, PRIVATE].map(|ending| self.file(stem, ending))).collect())
    }

    /// Every key of `apex`, sorted by file name. Fails with every mistake in all files.
    ///
    /// A private key that others may read is refused.
    pub fn read(&self, apex: &Name) -> Result<Vec<FoundKey>, Vec<Problem>> {
        let unread = |error| vec![problem(&self.path, None, unreadable(&error))];
        let (stems, public) = (self.stems(apex, PRIVATE).map_err(unread)?, self.stems(apex, KEY).map_err(unread)?);
        // Of one that is being made the private part comes last.
        let is_whole = |stem: &&String| stems.binary_search(stem).is_ok() || self.staged(stem, PRIVATE).exists();
        let alone = public.iter().filter(|stem| !is_whole(stem));
        let alone: Vec<_> = alone.map(|stem| self.without_private(stem)).collect();
        if !alone.is_empty() {
            return Err(alone);
        }
        let read: Vec<_> = stems.into_iter().map(|stem| self.read_key(apex, stem)).collect();
        if read.iter().any(Result::is_err) {
            return Err(read.into_iter().filter_map(Result::err).collect());
        }
        let mut found: Vec<_> = read.into_iter().filter_map(Result::ok).collect();
        // Files of BIND tell a CSK from a KSK by whether there is a ZSK.
        let has_zsk = found.iter().any(|(found, _)| found.key.role == Role::Zsk);
        for (found, is_role_known) in &mut found {
            if !*is_role_known && found.key.role.is_entry_point() {
                found.key.role = if has_zsk { Role::Ksk } else { Role::Csk };
            }
        }
        Ok(found.into_iter().map(|(found, _)| found).collect())
    }

    /// How the files of new keys are made, and the folder where there is none. All are there as soon as one is, but for
    /// the moment between two steps.
    pub fn creation(&self, apex: &Name, keys: &[ZoneKey], dnskey_ttl: u32) -> io::Result<Vec<Step>> {
        let owner = self.new_owner();
        let mut steps = vec![Step::Folder { path: self.path.clone(), owner }];
        let stems: Vec<_> = keys.iter().map(|key| bind::file_stem(apex, key.key.public())).collect();
        for (stem, key) in stems.iter().zip(keys) {
            let KeyTexts { public, private } = texts(apex, key, dnskey_ttl)?;
            for (ending, text) in [(PRIVATE, private), (KEY, public)] {
                steps.push(Step::Write { path: self.staged(stem, ending), text, owner });
            }
        }
        for ending in [KEY, PRIVATE] {
            let link = |stem: &String| Step::Link { from: self.staged(stem, ending), to: self.file(stem, ending) };
            steps.extend(stems.iter().map(link));
        }
        let staged = stems.iter().flat_map(|stem| [KEY, PRIVATE].map(|ending| self.staged(stem, ending)));
        steps.extend(staged.map(Step::Remove));
        Ok(steps)
    }

    /// How the files of a key are replaced by those with its present times; they stay with their owner.
    pub fn rewriting(&self, apex: &Name, found: &FoundKey, dnskey_ttl: u32) -> io::Result<Vec<Step>> {
        let stem = &found.stem;
        let KeyTexts { public, private } = texts(apex, &found.key, dnskey_ttl)?;
        let owner = self.owner.or_else(|| Owner::of(&self.file(stem, PRIVATE))).filter(|_| is_root());
        let mut steps = Vec::new();
        // What counts is in the private file, which therefore is the last.
        for (ending, text) in [(KEY, public), (PRIVATE, private)] {
            let path = self.staged(stem, ending);
            steps.push(Step::Write { path: path.clone(), text, owner });
            steps.push(Step::Rename { from: path, to: self.file(stem, ending) });
        }
        Ok(steps)
    }

    /// Keeps others from changing files, as long as what it gives lives. Fails with [`io::ErrorKind::WouldBlock`] where
    /// somebody else is at it.
    pub fn lock(&self) -> io::Result<KeyLock> {
        let folder = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyLock(None)),
            folder => folder?,
        };
        match folder.try_lock() {
            Ok(()) => Ok(KeyLock(Some(folder))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// How what a crash left behind of keys of `apex` goes, none of which is a key. Only for who holds the lock.
    pub fn cleaning(&self, apex: &Name) -> io::Result<Vec<Step>> {
        let start = format!(".{}", bind::stem_start(apex));
        let mut steps = Vec::new();
        for entry in entries(&self.path)? {
            let name = entry?.file_name();
            let left = name.to_str().and_then(|name| name.strip_suffix(STAGED)).filter(|name| name.starts_with(&start));
            let Some(left) = left else { continue };
            let stem = left[1..].strip_suffix(&format!(".{PRIVATE}"));
            let public = stem.filter(|stem| !self.file(stem, PRIVATE).exists()).map(|stem| self.file(stem, KEY));
            // First what would be half a key without the other.
            steps.extend(public.filter(|file| file.exists()).map(Step::Remove));
            steps.push(Step::Remove(self.path.join(&name)));
        }
        Ok(steps)
    }

    /// For whom new files are; `None`: for whoever writes them, who cannot give them away.
    pub fn new_owner(&self) -> Option<Owner> {
        let nearest =
            || self.path.ancestors().find_map(|path| Owner::of(if path == "" { Path::new(".") } else { path }));
        self.owner.or_else(nearest).filter(|_| is_root())
    }

    /// A key that would leave the zone unseen, while resolvers count on it.
    fn without_private(&self, stem: &str) -> Problem {
        let what = format!(
            "there is no {stem}.{PRIVATE} beside it: expected both files of every key, as on the node that has made it; or \
             remove this one, if nothing is signed by it any more"
        );
        problem(&self.file(stem, KEY), None, what)
    }

    /// The files of keys of `apex` with this ending, without it; sorted.
    fn stems(&self, apex: &Name, ending: &str) -> io::Result<Vec<String>> {
        let start = bind::stem_start(apex);
        let mut stems = Vec::new();
        for entry in entries(&self.path)? {
            let name = entry?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(&format!(".{ending}")));
            stems.extend(stem.filter(|stem| stem.starts_with(&start)).map(str::to_owned));
        }
        stems.sort_unstable();
        Ok(stems)
    }

    /// The key, and whether its file says what it is for.
    fn read_key(&self, apex: &Name, stem: String) -> Result<(FoundKey, bool), Problem> {
        let file = self.file(&stem, KEY);
        let text = fs::read_to_string(&file).map_err(|error| problem(&file, None, unreadable(&error)))?;
        let bad = |file: &Path, BadText { line, what }| problem(file, line, what);
        let PublicText { key, role, ds_cached_until } =
            bind::read_public(apex, &text).map_err(|text| bad(&file, text))?;
        let file = self.file(&stem, PRIVATE);
        let text = read_secret(&file)?;
        let (key, times) = bind::read_private(&key, &text).map_err(|text| bad(&file, text))?;
        if bind::file_stem(apex, key.public()) != stem {
            let expected = bind::file_stem(apex, key.public());
            return Err(problem(
                &file,
                None,
                format!("does not have the name of its key: expected {expected}.{PRIVATE}"),
            ));
        }
        let fallback = if key.public().is_entry_point() { Role::Csk } else { Role::Zsk };
        let times = KeyTimes { ds_cached_until, ..times };
        let key = ZoneKey { key: Arc::new(key), role: role.unwrap_or(fallback), times };
        Ok((FoundKey { stem, key }, role.is_some()))
    }

    fn file(&self, stem: &str, ending: &str) -> PathBuf {
        self.path.join(format!("{stem}.{ending}"))
    }

    /// What is not at its name yet.
    fn staged(&self, stem: &str, ending: &str) -> PathBuf {
        self.path.join(format!(".{stem}.{ending}{STAGED}"))
    }
}

#[cfg(test)]
impl KeyFolder {
    /// Makes the files of `key` and gives their name without what follows the last dot.
    pub(crate) fn create(&self, apex: &Name, key: &ZoneKey, dnskey_ttl: u32) -> io::Result<String> {
        let steps = self.creation(apex, std::slice::from_ref(key), dnskey_ttl)?;
        steps.iter().try_for_each(Step::take).map(|()| bind::file_stem(apex, key.key.public()))
    }
}

/// What is in `folder`; nothing where there is none.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    Ok(entries.into_iter().flatten())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The text of a private key, which only its owner may read.
pub fn read_secret(file: &Path) -> Result<String, Problem> {
    let refused = |error: &io::Error| problem(file, None, unreadable(error));
    let read = SecretFile::read(file).map_err(|error| refused(&error))?;
    if let Some(exposed) = read.exposed {
        return Err(problem(file, None, exposed.to_string()));
    }
    read.text().map(str::to_owned).map_err(|error| refused(&error))
}

/// What comes next for the keys of `zone`, and what an operator has to do for it.
pub fn next_text(keys: &[ZoneKey], zone: &str, now: u64) -> String {
    match sign::next(keys, now) {
        Next::Nothing => format!("nothing before `gslb-dns keys roll {zone}`"),
        Next::Change { at, tag, change } => format!("{}, key {tag}: {}", show_time(at), change.as_str()),
        Next::AwaitDs { tag } => format!(
            "the DS of key {tag}, as `gslb-dns keys ds {zone}` prints it, must come to the parent, and no other; when all \
             its servers give it: `gslb-dns keys confirm {zone}`"
        ),
        Next::Withdrawn { until } => format!(
            "no DS is asked for, since `gslb-dns keys withdraw {zone}`: `dnssec` may leave the settings {}; to have a DS \
             again: `gslb-dns keys start {zone}`",
            if until > now { format!("from {} on, not before", show_time(until)) } else { "now".to_owned() }
        ),
    }
}

/// The command that makes what is missing where `keys` of `zone` cannot sign.
pub fn making(keys: &[ZoneKey], zone: &str) -> String {
    let has = |role| keys.iter().any(|key| key.role == role);
    let role = match [Role::Csk, Role::Ksk, Role::Zsk].map(has) {
        [false, true, false] => " --role zsk",
        [false, false, true] => " --role ksk",
        _ => "",
    };
    format!("gslb-dns keys new {zone}{role}")
}

/// A time in seconds since 1970, as people read it.
pub fn show_time(secs: u64) -> String {
    let time = i64::try_from(secs).ok().and_then(|secs| Timestamp::from_second(secs).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}

fn texts(apex: &Name, key: &ZoneKey, dnskey_ttl: u32) -> io::Result<KeyTexts> {
    bind::write(apex, key, dnskey_ttl).ok_or_else(|| io::Error::other("the library does not give the key"))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn problem(file: &Path, line: Option<usize>, what: String) -> Problem {
    Problem { file: file.display().to_string(), line, key: String::new(), what }
}

const KEY: &str = "key";
const PRIVATE: &str = "private";
const STAGED: &str = ".new";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    use crate::sign::{Algorithm, SigningKey};

    use super::*;

    fn apex() -> Name {
        Name::parse("example.com.", &Name::root()).expect("a name")
    }

    fn key(role: Role) -> ZoneKey {
        let key = Arc::new(SigningKey::generate(Algorithm::EcdsaP256Sha256, role).expect("a key"));
        ZoneKey { key, role, times: KeyTimes { created: Some(5), ..KeyTimes::default() } }
    }

    fn in_folder() -> (tempfile::TempDir, KeyFolder) {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = KeyFolder::new(folder.path().join("keys"));
        (folder, keys)
    }

    fn tags(found: &[FoundKey]) -> Vec<u16> {
        found.iter().map(|found| found.key.tag()).collect()
    }

    #[test]
    fn key_without_its_private_file_is_no_key_that_has_left() {
        let (_folder, keys) = in_folder();
        let stem = keys.create(&apex(), &key(Role::Csk), 3600).expect("made");
        keys.create(&apex(), &key(Role::Csk), 3600).expect("made");
        fs::remove_file(keys.file(&stem, PRIVATE)).expect("removed");
        let found = keys.read(&apex()).expect_err("half a key");
        let expected = format!("there is no {stem}.private beside it: expected both files of every key");
        assert!(found.len() == 1 && found[0].what.starts_with(&expected), "{found:?}");
    }

    #[test]
    fn key_that_is_created_is_found_and_only_its_owner_may_read_it() {
        let (_folder, keys) = in_folder();
        assert!(keys.read(&apex()).expect("no folder is no mistake").is_empty());
        let new = key(Role::Ksk);
        let stem = keys.create(&apex(), &new, 60).expect("created");
        let found = keys.read(&apex()).expect("right");
        assert_eq!((tags(&found), found[0].key.role, found[0].key.times), (vec![new.tag()], Role::Ksk, new.times));
        assert_eq!(fs::metadata(keys.file(&stem, PRIVATE)).expect("there").mode() & 0o777, 0o600);
        assert_eq!(keys.files(&apex()).expect("readable").len(), 2);
        assert_eq!(fs::read_dir(keys.path()).expect("readable").count(), 2, "nothing else is left");
        let other = Name::parse("le.com.", &Name::root()).expect("a name");
        assert!(keys.read(&other).expect("right").is_empty(), "of another zone");
    }

    #[test]
    fn key_is_never_created_over_another() {
        let (_folder, keys) = in_folder();
        let new = key(Role::Csk);
        keys.create(&apex(), &new, 60).expect("created");
        assert_eq!(keys.create(&apex(), &new, 60).expect_err("there").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(tags(&keys.read(&apex()).expect("right")), [new.tag()]);
    }

    /// As root; anybody else cannot give files away.
    #[test]
    fn new_files_are_for_the_user_of_the_server_and_else_for_the_owner_of_the_folder() {
        if !is_root() {
            return;
        }
        let [server, other] = [4_001, 4_002].map(|uid| Owner { uid, gid: uid });
        let of = |keys: &KeyFolder, stem: &str| [KEY, PRIVATE].map(|ending| Owner::of(&keys.file(stem, ending)));
        let (site, _) = in_folder();
        std::os::unix::fs::chown(site.path(), Some(other.uid), Some(other.gid)).expect("given");
        let keys = KeyFolder::new(site.path().join("keys"));
        let stem = keys.create(&apex(), &key(Role::Csk), 60).expect("created");
        assert_eq!((of(&keys, &stem), Owner::of(keys.path())), ([Some(other); 2], Some(other)));
        let keys = keys.for_owner(Some(server));
        let stem = keys.create(&apex(), &key(Role::Csk), 60).expect("created");
        assert_eq!(of(&keys, &stem), [Some(server); 2]);
        let keys = keys.for_owner(None);
        let found = keys.read(&apex()).expect("right").into_iter().find(|found| found.stem == stem).expect("there");
        let steps = keys.rewriting(&apex(), &found, 60).expect("planned");
        steps.iter().try_for_each(Step::take).expect("rewritten");
        assert_eq!(of(&keys, &stem), [Some(server); 2], "files stay with their owner");
    }

    #[test]
    fn times_are_rewritten() {
        let (_folder, keys) = in_folder();
        keys.create(&apex(), &key(Role::Csk), 60).expect("created");
        let mut found = keys.read(&apex()).expect("right").remove(0);
        found.key.times.delete = Some(1_800_000_000);
        let steps = keys.rewriting(&apex(), &found, 60).expect("planned");
        steps.iter().try_for_each(Step::take).expect("rewritten");
        let again = keys.read(&apex()).expect("right").remove(0);
        assert_eq!((again.key.times, again.key.key.secret()), (found.key.times, found.key.key.secret()));
    }

    #[test]
    fn private_key_that_others_may_read_is_refused_with_the_command_to_run() {
        let (_folder, keys) = in_folder();
        let stem = keys.create(&apex(), &key(Role::Csk), 60).expect("created");
        let file = keys.file(&stem, PRIVATE);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("changed");
            let found = keys.read(&apex()).expect_err("refused");
            assert!(found[0].to_string().contains(&format!("chmod 600 {}", file.display())), "{found:?}");
        }
    }

    #[test]
    fn mistakes_of_all_files_are_found() {
        let (_folder, keys) = in_folder();
        let stems = [Role::Csk, Role::Zsk].map(|role| keys.create(&apex(), &key(role), 60).expect("created"));
        fs::remove_file(keys.file(&stems[0], KEY)).expect("there");
        fs::rename(keys.file(&stems[1], KEY), keys.file("Kexample.com.+013+xyz", KEY)).expect("renamed");
        fs::rename(keys.file(&stems[1], PRIVATE), keys.file("Kexample.com.+013+xyz", PRIVATE)).expect("renamed");
        let found = keys.read(&apex()).expect_err("mistakes");
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|problem| problem.what.starts_with("cannot be read")), "{found:?}");
        assert!(found.iter().any(|problem| problem.what.contains(&format!("expected {}.private", stems[1]))));
    }

    #[test]
    fn entry_point_without_a_role_is_a_csk_unless_there_is_a_zsk() {
        let (_folder, keys) = in_folder();
        let stem = keys.create(&apex(), &key(Role::Ksk), 60).expect("created");
        let text = fs::read_to_string(keys.file(&stem, KEY)).expect("there").replace("; Role: ksk\n", "");
        fs::write(keys.file(&stem, KEY), text).expect("written");
        assert_eq!(keys.read(&apex()).expect("right")[0].key.role, Role::Csk);
        keys.create(&apex(), &key(Role::Zsk), 60).expect("created");
        let roles: Vec<_> = keys.read(&apex()).expect("right").iter().map(|found| found.key.role).collect();
        assert!(roles.contains(&Role::Ksk) && roles.contains(&Role::Zsk));
    }
}
