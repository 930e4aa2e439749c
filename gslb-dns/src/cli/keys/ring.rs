//! The keys of one zone as commands see them: opened, changed step by step, and shown.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;
use shared::name::OwnerName;

use super::ZoneArgs;
use crate::cli::{Failure, output};
use crate::journal;
use crate::keys::{FoundKey, KeyFolder, KeyLock, Owner, Step, making, next_text, show_time};
use crate::settings::{DnssecSettings, Settings, ZoneSettings};
use crate::sign::{self, KeyTimes, Lifetime, Next, NotSaid, Refused, Role, SigningKey, Timing, Unusable, ZoneKey};
use crate::update::replayed;
use crate::wire::Name;
use crate::zone::Zone;

/// The keys of one zone, and how long what it published before may be seen.
pub(super) struct Ring {
    pub(super) apex: Name,
    pub(super) folder: KeyFolder,
    pub(super) timing: Timing,
    /// Whom the settings have the server run as.
    pub(super) user: Option<String>,
    /// Held by who changes them.
    pub(super) _lock: Option<KeyLock>,
}

impl Ring {
    pub(super) fn open(args: &ZoneArgs) -> Result<Self, Failure> {
        let apex = Name::parse(args.zone.as_str(), &Name::root());
        let apex = apex.map_err(|fault| Failure::Mistakes(format!("{}: {fault}", args.zone)))?.folded();
        let Signed { folder, timing, user } = match &args.dir {
            Some(dir) => {
                let timing = DnssecSettings::with_keys(dir.clone()).timing(MAX_TTL_UNKNOWN);
                Signed { folder: dir.clone(), timing, user: None }
            }
            None => of_settings(&args.zone, &args.config.config)?,
        };
        let owner = user.as_deref().map(Owner::of_user).and_then(|found| found.ok().flatten());
        Ok(Self { apex, folder: KeyFolder::new(folder).for_owner(owner), timing, user, _lock: None })
    }

    /// The same, for who changes something: nobody else does at the same time, and nothing is left of what a crash broke off.
    pub(super) fn to_change(args: &ZoneArgs) -> Result<Self, Failure> {
        let ring = Self::open(args)?;
        let lock = ring.folder.lock().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Failure::Impossible(format!(
                "{}: another `gslb-dns keys` is changing keys in this folder: try again when it is done",
                ring.folder.path().display()
            )),
            _ => ring.not_written(&error),
        })?;
        if args.dir.is_some() {
            let Timing { dnskey_ttl, max_ttl, propagation, parent_ds_ttl } = ring.timing;
            output::complain(&format!(
                "no settings are read with --dir: times are planned with dnskey_ttl {dnskey_ttl}s, propagation {propagation}s, \
                 parent_ds_ttl {parent_ds_ttl}s, and TTLs of up to {max_ttl}s in the zone"
            ));
        }
        let steps = ring.folder.cleaning(&ring.apex).map_err(|error| ring.not_written(&error))?;
        ring.take(&steps)?;
        Ok(Self { _lock: Some(lock), ..ring })
    }

    pub(super) fn read(&self) -> Result<Vec<FoundKey>, Failure> {
        self.folder
            .read(&self.apex)
            .map_err(|found| Failure::Mistakes(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
    }

    pub(super) fn keys(&self) -> Result<Vec<ZoneKey>, Failure> {
        Ok(self.read()?.into_iter().map(|found| found.key).collect())
    }

    /// A new key that `make` makes; another is made as long as one with its tag is among `known`.
    pub(super) fn made(
        known: &[u16],
        role: Role,
        times: KeyTimes,
        make: impl Fn() -> Result<SigningKey, Failure>,
    ) -> Result<ZoneKey, Failure> {
        let mut key = make()?;
        for _ in 0..TAG_TRIES {
            if !known.contains(&key.public().tag()) {
                break;
            }
            key = make()?;
        }
        Ok(ZoneKey { key: Arc::new(key), role, times })
    }

    /// Writes the first key, which `make` makes.
    pub(super) fn add(
        &self,
        role: Role,
        times: KeyTimes,
        make: impl Fn() -> Result<SigningKey, Failure>,
    ) -> Result<u16, Failure> {
        let known: Vec<u16> = self.keys()?.iter().map(ZoneKey::tag).collect();
        let key = Self::made(&known, role, times, make)?;
        let tag = key.tag();
        self.take(&self.creating(&[key])?)?;
        Ok(tag)
    }

    pub(super) fn creating(&self, keys: &[ZoneKey]) -> Result<Vec<Step>, Failure> {
        let steps = self.folder.creation(&self.apex, keys, self.timing.dnskey_ttl);
        steps.map_err(|error| self.not_written(&error))
    }

    /// How keys get new times, in the order given.
    pub(super) fn changing(&self, found: &[FoundKey], changed: &[(usize, KeyTimes)]) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        for &(at, times) in changed {
            let FoundKey { stem, key } = &found[at];
            let found = FoundKey { stem: stem.clone(), key: ZoneKey { times, ..key.clone() } };
            let changing = self.folder.rewriting(&self.apex, &found, self.timing.dnskey_ttl);
            steps.extend(changing.map_err(|error| self.not_written(&error))?);
        }
        Ok(steps)
    }

    /// Writes what an operator says.
    pub(super) fn say(
        &self,
        now: u64,
        changed: impl Fn(&[ZoneKey]) -> Result<Vec<(usize, KeyTimes)>, NotSaid>,
    ) -> Result<(), Failure> {
        let found = self.read()?;
        let keys: Vec<ZoneKey> = found.iter().map(|found| found.key.clone()).collect();
        if let Some(tag) = sign::broken_off(&keys, now) {
            return Err(Failure::Mistakes(Refused::BrokenOff(tag).to_string()));
        }
        let changed = changed(&keys).map_err(|refused| Failure::Mistakes(refused.to_string()))?;
        self.take(&self.changing(&found, &changed)?)
    }

    pub(super) fn take(&self, steps: &[Step]) -> Result<(), Failure> {
        steps.iter().try_for_each(Step::take).map_err(|error| self.not_written(&error))
    }

    pub(super) fn not_rolled(&self, refused: Refused) -> Failure {
        let zone = self.zone();
        Failure::Mistakes(match refused {
            Refused::Unconfirmed(tag) => format!(
                "{refused}, so that it is not known which keys resolvers count on: when all servers of the parent give that \
                 DS and no other, run `gslb-dns keys confirm {zone}` first; if the parent has never had a DS of the zone, \
                 remove the files of key {tag} in {} and run `gslb-dns keys new {zone}`",
                self.folder.path().display()
            ),
            Refused::StillSigning { tag, until } => format!(
                "key {tag}, which was replaced, signs until {}, for caches that have its DNSKEY still: run this again then",
                show_time(until)
            ),
            refused => refused.to_string(),
        })
    }

    pub(super) fn not_written(&self, error: &std::io::Error) -> Failure {
        Failure::Impossible(format!("{}: cannot write the files of a key: {error}", self.folder.path().display()))
    }

    /// A line for each key, and what comes next.
    pub(super) fn listed(&self, now: u64) -> Result<String, Failure> {
        let keys = self.keys()?;
        if keys.is_empty() {
            return Err(Failure::Mistakes(format!(
                "{}: no key of {}: make one with `gslb-dns keys new {}`",
                self.folder.path().display(),
                self.apex,
                self.zone()
            )));
        }
        let mut text = "  tag  algorithm        role  state       DNSKEY  signs  CDS  DS\n".to_owned();
        for key in &keys {
            let standing = key.standing(now);
            let word = |is_so: bool| if is_so { "yes" } else { "no" };
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "{:>5}  {:<15}  {:<4}  {:<10}  {:<6}  {:<5}  {:<3}  {}",
                key.tag(),
                key.key.public().algorithm().as_str(),
                key.role.as_str(),
                standing.state.as_str(),
                word(standing.is_published),
                word(standing.duty.is_some()),
                if !key.role.is_entry_point() { "-" } else { word(standing.is_synced) },
                match (key.has_ds(now), key.times.delete) {
                    (true, None) => "confirmed",
                    (true, Some(_)) => "leaving",
                    (false, _) => "-",
                },
            );
        }
        if let Some(tag) = sign::broken_off(&keys, now) {
            let _ = writeln!(text, "{}", Refused::BrokenOff(tag));
        }
        let lifetime = Lifetime { now, validity_secs: 1 };
        if let Err(missing @ (Unusable::NoEntryPoint | Unusable::NoZoneKey)) =
            sign::signer(&self.apex, &keys, lifetime.now, lifetime)
        {
            let _ = writeln!(text, "{missing}: the zone cannot be signed before `{}`", making(&keys, &self.zone()));
        }
        let _ = writeln!(text, "next: {}", next_text(&keys, &self.zone(), now));
        if let Some(from) = sign::first_signs_from(&keys, now) {
            let (from, zone) = (show_time(from), self.zone());
            let _ = writeln!(
                text,
                "      counted from {from}, when signing began by these files: if nodes begin later, run \
                 `gslb-dns keys start {zone}` then"
            );
        }
        let is_first_told = !matches!(sign::next(&keys, now), Next::AwaitDs { .. } | Next::Withdrawn { .. });
        for (at, tag, change) in sign::upcoming(&keys, now).into_iter().skip(usize::from(is_first_told)) {
            let _ = writeln!(text, "      {}, key {tag}: {}", show_time(at), change.as_str());
        }
        Ok(text)
    }

    /// Whose the files are that were just written, where that is worth a word.
    pub(super) fn ownership(&self) -> String {
        let (written_for, own) = (self.folder.new_owner(), geteuid());
        match (written_for, &self.user) {
            (Some(owner), _) if owner.uid != own.as_raw() => {
                format!("; key files belong to user {}", owner.name())
            }
            (None, Some(user)) if Owner::of_user(user).ok().flatten().is_none_or(|of| of.uid != own.as_raw()) => {
                format!(
                    "; key files belong to you: give them to server.user, as by `chown {user} {}/K{}+*`",
                    self.folder.path().display(),
                    self.apex
                )
            }
            _ => String::new(),
        }
    }

    /// As commands take it.
    pub(super) fn zone(&self) -> String {
        self.apex.to_string().trim_end_matches('.').to_owned()
    }
}

/// What settings say of a zone that is signed.
struct Signed {
    folder: PathBuf,
    timing: Timing,
    user: Option<String>,
}

/// How `zone` is signed by the settings at `config`.
fn of_settings(zone: &OwnerName, config: &Path) -> Result<Signed, Failure> {
    let file = config.display();
    let text = std::fs::read_to_string(config);
    let text = text.map_err(|error| Failure::Mistakes(format!("{file}: cannot be read: {error}")))?;
    let settings = Settings::parse(&file.to_string(), &text)
        .map_err(|found| Failure::Mistakes(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let named: Vec<&str> = settings.zones.iter().map(|zone| zone.name.as_str()).collect();
    let unknown = || Failure::Mistakes(format!("{file}: no zone {zone}: expected one of {}", named.join(", ")));
    let ZoneSettings { name, file: zone_file, dnssec, journal, .. } =
        settings.zones.iter().find(|settings| settings.name == *zone).ok_or_else(unknown)?;
    let unsigned = || {
        Failure::Mistakes(format!(
            "{file}: zone {zone} has no `dnssec`: expected such as dnssec = {{ keys = \"keys\" }}, or --dir in the command"
        ))
    };
    let dnssec = dnssec.as_ref().ok_or_else(unsigned)?;
    let folder = config.parent().unwrap_or(Path::new(""));
    let path = folder.join(zone_file);
    let unreadable = |error| Failure::Mistakes(format!("{}: cannot be read: {error}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    // Whatever mistakes it has elsewhere, its TTLs can be read.
    let (read, _) = Zone::read(name, &path.display().to_string(), &text);
    let updated = match journal {
        Some(journal) => {
            let path = folder.join(journal);
            let unreadable = |error| Failure::Mistakes(format!("{}: {error}", path.display()));
            // Removed records are in caches still, so both count.
            let found = journal::read(&path, read.apex()).map_err(unreadable)?;
            replayed(&read, &found.entries).0.max_ttl()
        }
        None => 0,
    };
    let services = settings.topology.services.iter().map(|service| service.ttl.max(service.ttl_degraded));
    let max_ttl = services.max().unwrap_or(0).max(read.max_ttl()).max(updated);
    let (folder, timing) = (folder.join(&dnssec.keys), dnssec.timing(max_ttl));
    Ok(Signed { folder, timing, user: settings.server.user.clone() })
}

/// The longest TTL that a zone is thought to have when it is not at hand.
const MAX_TTL_UNKNOWN: u32 = 86_400;
/// Chance gives a tag that is there already in one of thousands.
const TAG_TRIES: usize = 8;
