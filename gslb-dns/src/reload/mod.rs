//! Reading the settings and every file that they name, all or nothing; and noticing when one of them changes.

mod access;
mod certificate;
mod cookies;
mod parent;
mod signing;
mod transfers;
mod updates;
mod warn;
mod watch;

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::hash::Hasher as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use shared::problem::Problem;
use siphasher::sip::SipHasher13;

use crate::cookie::Secrets;
use crate::geo::{GeoData, GeoSources, GeoTables, Source, room_for};
use crate::secret_file::{Exposed, SecretFile};
use crate::settings::{GeoSettings, KeyLines, NamedFiles, Outline, Settings, ZoneSettings};
use crate::tsig::KeySet;
use crate::update::Standing;
use crate::zone::{self, Zone, ZoneSet};
use shared::token::Token;

pub use certificate::Certificate;
use signing::Built;
pub use signing::{SignedZone, ZoneKeys};
pub use transfers::{Secondary, TransferZone};
pub use updates::JournaledZone;
pub use watch::Watcher;

/// All that the files say, checked and compiled: what a node serves, save health.
#[derive(Clone, Debug)]
pub struct World {
    /// The settings.
    pub settings: Settings,
    /// The zones, with the steered names.
    pub zones: Arc<ZoneSet>,
    /// Those of them that are signed.
    pub signed_zones: Vec<SignedZone>,
    /// The zones by themselves, without records of steered names, keys and signatures, in the order of the settings; none
    /// where none is signed or has a journal.
    pub kept: Vec<Arc<Zone>>,
    /// Where addresses are.
    pub geo_data: Arc<GeoData>,
    /// In which order regions come for them.
    pub geo: Arc<GeoTables>,
    /// What an operator should look at, though it is no mistake.
    pub warnings: Vec<Problem>,
    /// What changes by the admin listener need.
    pub token: Option<Token>,
    /// What cookies are made with; `None`: there are none.
    pub cookies: Option<Secrets>,
    /// The keys that messages are signed with.
    pub tsig_keys: KeySet,
    /// The zones that have secondaries.
    pub transfers: Vec<TransferZone>,
    /// The zones that have journals.
    pub journals: Vec<JournaledZone>,
    /// What encrypted transports show; `None`: there are none.
    pub certificate: Option<Certificate>,
    /// Why that is not what its files say, but the one of before; empty when it is.
    pub certificate_problems: Vec<Problem>,
    /// A hash of the content of all files but the secret ones and the certificate, which is each node's own: the same on
    /// every node that serves the same.
    pub hash: u64,
    /// Where keys stand in the settings.
    pub(crate) lines: Arc<KeyLines>,
    files: Files,
}

/// The files that were read, or were meant to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    geo_stamps: Vec<(PathBuf, Option<Stamp>)>,
    geo_hash: u64,
}

/// What shows that a file is another one or was written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
    /// A secret that only its owner may read now may be used.
    mode: u32,
}

/// What a load came to.
pub struct Loaded {
    /// What the files say, or every mistake in them.
    pub world: Result<World, Vec<Problem>>,
    /// Which files were read; also when they had mistakes.
    pub files: Files,
}

/// Reads the settings at `path` and every file that they name. Fails with every mistake in all of them.
///
/// Geo files that have not changed since `last` are not read again.
pub fn load(path: &Path, last: Option<&World>) -> Loaded {
    let mut reader = Reader { folder: folder_of(path), ..Reader::default() };
    let world = reader.read_world(path, last);
    let world = world.filter(|_| reader.problems.is_empty()).ok_or(reader.problems);
    let world = world.map(|world| World { files: reader.files.clone(), ..world });
    Loaded { world, files: reader.files }
}

impl World {
    /// The files it was read from.
    pub fn files(&self) -> &Files {
        &self.files
    }
}

impl Files {
    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.stamps.iter().chain(&self.geo_stamps).map(|(path, _)| path.as_path())
    }

    /// Whether one of them is another now than when it was read.
    pub fn have_changed(&self) -> bool {
        self.stamps.iter().chain(&self.geo_stamps).any(|(path, stamp)| Stamp::of(path) != *stamp)
    }
}

impl Stamp {
    /// `None` when there is no such file.
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            inode: metadata.ino(),
            mode: metadata.mode(),
        })
    }
}

/// Reads files and gathers their mistakes.
#[derive(Default)]
struct Reader {
    /// Where relative paths start.
    folder: PathBuf,
    files: Files,
    problems: Vec<Problem>,
    hash: ContentHash,
    journals: Vec<JournaledZone>,
    /// Where keys stand in the settings.
    lines: Arc<KeyLines>,
    /// The files that these name, and the path of the key of each.
    places: Vec<(PathBuf, String)>,
    /// What is found on the way that an operator should look at.
    warnings: Vec<Problem>,
    /// Secrets that others may read, and the keys that name their files.
    exposed: Vec<(&'static str, PathBuf, Exposed)>,
}

impl Reader {
    fn read_world(&mut self, path: &Path, last: Option<&World>) -> Option<World> {
        let text = self.read_text(path)?;
        let (outline, settings) = Settings::parse_with_outline(&path.display().to_string(), &text);
        let Outline { files: named, services, lines } = outline;
        let settings = settings.map_err(|problems| self.problems.extend(problems)).ok();
        self.places = named.places().into_iter().map(|(file, key)| (self.folder.join(file), key)).collect();
        let lines = Arc::new(lines);
        self.lines = Arc::clone(&lines);
        let token = self.read_token(&named);
        let secrets = self.read_secrets(&named);
        let tsig_keys = self.read_keys(&named);
        let (certificate, certificate_problems) = self.read_certificate_beside(&named, last);
        let mut zones: Vec<Zone> = named.zones.iter().map(|zone| self.read_zone(zone)).collect();
        let keys: Vec<Option<ZoneKeys>> = named.zones.iter().map(|zone| self.read_zone_keys(zone, path)).collect();
        let geo_data = self.read_geo(&named.geo, last);
        self.look_for_journals(&named, &zones, last);
        // Even where something could not be read, the rest must go together: all mistakes come at once.
        let is_missing = |problem: &Problem| problem.file.is_empty() && !named.are_zones_whole;
        let found = ZoneSet::check(&zones, &services).into_iter().filter(|problem| !is_missing(problem));
        self.problems.extend(found.map(|problem| lines.located(problem)));
        let (folder, now) = (&*self.folder, unix_secs());
        let read = parent::Read { settings: &named.zones, zones: &zones, keys: &keys, folder, now };
        // The stamps are taken before the content, as those of all other files.
        let left = last.map(|last| read.left_files(last)).unwrap_or_default();
        self.files.stamps.extend(left.into_iter().map(|path| (path.clone(), Stamp::of(&path))));
        let against_ds = last.map(|last| read.mistakes(last)).unwrap_or_default();
        self.problems.extend(against_ds.into_iter().map(|found| lines.problem(&found.key, &["zones"], found.what)));
        let (settings, geo_data) = settings.zip(geo_data).filter(|_| self.problems.is_empty())?;
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(warn::of_settings(&settings, &lines, &geo_data));
        warnings.extend(warn::of_files(&settings.server, &self.folder, &self.exposed, &lines));
        warnings.extend(access::warnings(&settings, &self.files, &self.folder, &lines, last.is_some()));
        warnings.extend(certificate::warning(certificate.as_ref()));
        let names = services.iter().map(|service| &service.name);
        warnings.extend(zone::warnings(&zones, names, last.map(|last| &*last.zones)));
        let mut found = signing::warnings(&zones, &keys, &settings.topology, unix_secs());
        found.extend(read.warnings(last));
        warnings.extend(found.into_iter().map(|warning| lines.problem(&warning.key, &["zones"], warning.what)));
        let (is_signed, mut journals) = (keys.iter().any(Option::is_some), std::mem::take(&mut self.journals));
        let known = last.map_or(&[][..], |last| &last.signed_zones);
        let serials: Vec<u32> = zones.iter().map(Zone::serial).collect();
        signing::raise_unknown(&mut zones, &keys, known, |zone| {
            let apex = zone.apex();
            let transferred = last.and_then(|last| last.transfer_zone(apex.as_wire()));
            journals.iter().any(|journal| journal.apex == *apex && journal.standing == Standing::AsServed)
                || transferred.is_some_and(|transfer| transfer.zone.content().serial() == zone.serial())
        });
        // By themselves they take memory, so only where they may change without their files.
        let is_kept = is_signed || !journals.is_empty();
        let Settings { zones: zone_settings, topology, .. } = &settings;
        let mut kept: Vec<Arc<Zone>> = zones.into_iter().map(Arc::new).collect();
        zone::add_steered_names(&mut kept, topology);
        let built = if is_signed {
            signing::build(&kept, &keys, topology, known, unix_secs()).map(|built| {
                let transfers = transfers::transfers(&built.kept, &built.signed_zones, zone_settings, topology, last);
                (built, transfers)
            })
        } else {
            let transfers = transfers::transfers(&kept, &[], zone_settings, topology, last);
            let zones = kept.iter().map(|zone| Zone::clone(zone)).collect();
            let kept = if is_kept { kept } else { Vec::new() };
            let built = |zones| (Built { zones, signed_zones: Vec::new(), kept }, transfers);
            ZoneSet::build(zones, topology).map(built)
        };
        let located = |problem| lines.located(problem);
        let built = built.map_err(|problems| self.problems.extend(problems.into_iter().map(located)));
        let (Built { zones, signed_zones, kept }, transfers) = built.ok()?;
        warnings.extend(transfers::warnings(&transfers, last, &lines));
        for (zone, _) in kept.iter().zip(serials).filter(|(zone, serial)| zone.serial() != *serial) {
            let journal = journals.iter_mut().find(|journal| journal.apex == *zone.apex());
            if let Some(journal) = journal.filter(|journal| journal.standing == Standing::AsServed) {
                journal.standing = Standing::Raised;
            }
        }
        let is_geo_known =
            |last: &&World| Arc::ptr_eq(&last.geo_data, &geo_data) && last.settings.topology == settings.topology;
        let geo = match last.filter(is_geo_known) {
            Some(last) => Arc::clone(&last.geo),
            None => Arc::new(GeoTables::build(&geo_data, &settings.topology)),
        };
        let cookies = self.cookies_in_force(&settings.server.cookies, secrets, last);
        let certificate = Self::certificate_in_force(certificate, last);
        self.hash.add(&self.files.geo_hash.to_be_bytes());
        let hash = self.hash.value();
        let (zones, files) = (Arc::new(zones), Files::default());
        Some(World {
            settings,
            zones,
            signed_zones,
            geo_data,
            geo,
            warnings,
            token,
            cookies,
            certificate,
            certificate_problems,
            tsig_keys,
            transfers,
            journals,
            kept,
            hash,
            lines,
            files,
        })
    }

    /// What could be read of it.
    fn read_zone(&mut self, settings: &ZoneSettings) -> Zone {
        let path = self.folder.join(&settings.file);
        let file = path.display().to_string();
        let Some(text) = self.read_text(&path) else { return Zone::unread(&settings.name, &file) };
        let (zone, problems) = Zone::read(&settings.name, &file, &text);
        if problems.is_empty() {
            return self.with_updates(zone, settings);
        }
        self.problems.extend(problems);
        zone
    }

    fn read_geo(&mut self, geo: &GeoSettings, last: Option<&World>) -> Option<Arc<GeoData>> {
        let paths = [&geo.database, &geo.asn_database, &geo.overrides, &geo.countries];
        let paths = paths.map(|path| path.as_ref().map(|path| self.folder.join(path)));
        // The stamps are taken before the content, so that a change in between is seen as one later.
        self.files.geo_stamps = paths.iter().flatten().map(|path| (path.clone(), Stamp::of(path))).collect();
        // The same file may have got another role, in which it says something else.
        if let Some(last) = last
            && last.settings.geo == *geo
            && last.files.geo_stamps == self.files.geo_stamps
        {
            self.files.geo_hash = last.files.geo_hash;
            return Some(Arc::clone(&last.geo_data));
        }
        let found_before = self.problems.len();
        let mut hash = ContentHash::default();
        let contents = paths.map(|path| {
            let path = path?;
            let bytes = read_large(&path).map_err(|error| self.unreadable(&path, &error)).ok()?;
            hash.add(&bytes);
            Some((path.display().to_string(), bytes))
        });
        self.files.geo_hash = hash.value();
        if self.problems.len() > found_before {
            return None;
        }
        let [database, asn_database, overrides, countries] =
            contents.each_ref().map(|content| content.as_ref().map(|(file, bytes)| Source { file, bytes }));
        let parsed = GeoData::parse(GeoSources { database, asn_database, overrides, countries });
        parsed.map(Arc::new).map_err(|problems| self.problems.extend(problems)).ok()
    }

    fn read_token(&mut self, named: &NamedFiles) -> Option<Token> {
        let path = self.folder.join(named.admin_token_file.as_ref()?);
        self.files.stamps.push((path.clone(), Stamp::of(&path)));
        let text = self.read_exposed(&path, "server.admin_token_file")?;
        Token::parse(&text).map_err(|error| self.problem(&path, error.to_string())).ok()
    }

    /// The text of a secret that nobody but its owner may read.
    fn read_private(&mut self, path: &Path) -> Option<String> {
        let read = SecretFile::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        if let Some(exposed) = &read.exposed {
            self.problem(path, exposed.to_string());
        }
        read.text().map(str::to_owned).map_err(|error| self.unreadable(path, &error)).ok()
    }

    /// The same where others may, though an operator is told; `key` names the file.
    fn read_exposed(&mut self, path: &Path, key: &'static str) -> Option<String> {
        let read = SecretFile::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        let text = read.text().map(str::to_owned).map_err(|error| self.unreadable(path, &error)).ok();
        self.exposed.extend(read.exposed.map(|exposed| (key, path.to_owned(), exposed)));
        text
    }

    fn read_text(&mut self, path: &Path) -> Option<String> {
        self.files.stamps.push((path.to_owned(), Stamp::of(path)));
        let text = fs::read_to_string(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        self.hash.add(text.as_bytes());
        Some(text)
    }

    /// Where the settings name it, that is where it can be put right.
    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        match self.places.iter().find(|(named, _)| named == path) {
            Some((_, key)) => {
                let what = format!("{} cannot be read: {error}", path.display());
                let table = key.rsplit_once('.').map_or("", |(table, _)| table);
                self.problems.push(self.lines.problem(key, &[key, table], what));
            }
            None => self.problem(path, format!("cannot be read: {error}")),
        }
    }

    fn problem(&mut self, path: &Path, what: String) {
        let file = path.display().to_string();
        self.problems.push(Problem { file, line: None, key: String::new(), what });
    }
}

/// Seconds since 1970 by the wall clock: the time of signatures.
pub(crate) fn unix_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The content of a file, in a buffer that leaves no memory behind.
fn read_large(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    // One octet more, so that the end is found without growing.
    let mut content = room_for(len.saturating_add(1))?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// SipHash without a secret: the same on every machine; it tells versions apart and protects nothing.
#[derive(Default)]
struct ContentHash(SipHasher13);

impl ContentHash {
    /// Adds `content`, and a mark where it ends.
    fn add(&mut self, content: &[u8]) {
        self.0.write(content);
        self.0.write(&(content.len() as u64).to_be_bytes());
    }

    fn value(&self) -> u64 {
        self.0.finish()
    }
}
