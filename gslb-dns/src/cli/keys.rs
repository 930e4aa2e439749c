//! `gslb-dns keys`: makes keys, shows them, rolls them over. Only files are touched; running nodes see them change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use shared::name::OwnerName;

use super::{ConfigArg, Failure, output};
use crate::journal;
use crate::keys::{FoundKey, KeyFolder, next_text, read_secret, show_time};
use crate::settings::{DnssecSettings, Settings, ZoneSettings};
use crate::sign::{self, Algorithm, KeyTimes, Next, Plan, Refused, Role, SigningKey, Timing, ZoneKey};
use crate::update::replayed;
use crate::wire::Name;
use crate::zone::Zone;

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Makes the first key of a zone.
    New(NewArgs),
    /// Takes a private key in PEM (PKCS#8) as the first key of a zone.
    Import(ImportArgs),
    /// Prints the DS records that belong to the parent.
    Ds(ZoneArgs),
    /// Prints the keys of a zone: what they do, and what comes next.
    List(ZoneArgs),
    /// Begins to replace a key by a new one.
    Roll(RollArgs),
    /// Says that all servers of the parent give the DS records that `keys ds` prints, and no others: a roll-over goes on.
    Confirm(ZoneArgs),
}

#[derive(Args, Debug)]
pub(super) struct ZoneArgs {
    /// The zone.
    zone: OwnerName,
    #[command(flatten)]
    config: ConfigArg,
    /// The folder of the key files, in place of what the settings say; times are then planned by the defaults.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct NewArgs {
    #[command(flatten)]
    zone: ZoneArgs,
    /// 13 (ECDSAP256SHA256) or 15 (ED25519).
    #[arg(long, value_name = "NUMBER", default_value = "13", value_parser = algorithm)]
    algorithm: Algorithm,
    /// What the key is for.
    #[arg(long, value_enum, default_value_t = RoleArg::Csk)]
    role: RoleArg,
}

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    zone: ZoneArgs,
    /// The file with the private key, which nobody else may read.
    file: PathBuf,
    /// What the key is for.
    #[arg(long, value_enum, default_value_t = RoleArg::Csk)]
    role: RoleArg,
}

#[derive(Args, Debug)]
pub(super) struct RollArgs {
    #[command(flatten)]
    zone: ZoneArgs,
    /// Which key: may be left out where there is only a CSK.
    #[arg(long, value_enum)]
    role: Option<RoleArg>,
    /// The algorithm of the new key: that of the old one where it is left out.
    #[arg(long, value_name = "NUMBER", value_parser = algorithm)]
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum RoleArg {
    /// Signs everything.
    Csk,
    /// Signs the keys.
    Ksk,
    /// Signs everything but the keys.
    Zsk,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Csk => Self::Csk,
            RoleArg::Ksk => Self::Ksk,
            RoleArg::Zsk => Self::Zsk,
        }
    }
}

fn algorithm(text: &str) -> Result<Algorithm, &'static str> {
    text.parse().ok().and_then(Algorithm::from_number).ok_or("expected 13 or 15")
}

/// Does it at this moment.
pub(super) fn run(command: &KeysCommand) -> Result<(), Failure> {
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let text = match command {
        KeysCommand::New(args) => new(&Ring::open(&args.zone)?, args.algorithm, args.role.into(), now),
        KeysCommand::Import(args) => import(&Ring::open(&args.zone)?, &args.file, args.role.into(), now),
        KeysCommand::Ds(args) => ds(&Ring::open(args)?, now),
        KeysCommand::List(args) => Ring::open(args)?.listed(now),
        KeysCommand::Roll(args) => roll(&Ring::open(&args.zone)?, args.role.map(Role::from), args.algorithm, now),
        KeysCommand::Confirm(args) => confirm(&Ring::open(args)?, now),
    };
    output::print(&text?)
}

/// The keys of one zone, and how long what it published before may be seen.
struct Ring {
    apex: Name,
    folder: KeyFolder,
    timing: Timing,
}

impl Ring {
    fn open(args: &ZoneArgs) -> Result<Self, Failure> {
        let apex = Name::parse(args.zone.as_str(), &Name::root());
        let apex = apex.map_err(|fault| Failure::Mistakes(format!("{}: {fault}", args.zone)))?.folded();
        let (folder, timing) = match &args.dir {
            Some(dir) => (dir.clone(), DnssecSettings::with_keys(dir.clone()).timing(MAX_TTL_UNKNOWN)),
            None => of_settings(&args.zone, &args.config.config)?,
        };
        Ok(Self { apex, folder: KeyFolder::new(folder), timing })
    }

    fn read(&self) -> Result<Vec<FoundKey>, Failure> {
        self.folder
            .read(&self.apex)
            .map_err(|found| Failure::Mistakes(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
    }

    fn keys(&self) -> Result<Vec<ZoneKey>, Failure> {
        Ok(self.read()?.into_iter().map(|found| found.key).collect())
    }

    /// Writes a new key that `make` makes; another is made as long as one with its tag is there.
    fn add(&self, role: Role, times: KeyTimes, make: impl Fn() -> Result<SigningKey, Failure>) -> Result<u16, Failure> {
        let known: Vec<u16> = self.keys()?.iter().map(ZoneKey::tag).collect();
        let mut key = make()?;
        for _ in 0..TAG_TRIES {
            if !known.contains(&key.public().tag()) {
                break;
            }
            key = make()?;
        }
        let key = ZoneKey { key: Arc::new(key), role, times };
        self.folder.create(&self.apex, &key, self.timing.dnskey_ttl).map_err(|error| self.not_written(&error))?;
        Ok(key.tag())
    }

    /// Writes new times of keys, in the order given.
    fn change(&self, found: Vec<FoundKey>, changed: Vec<(usize, KeyTimes)>) -> Result<(), Failure> {
        for (at, times) in changed {
            let FoundKey { stem, key } = &found[at];
            let found = FoundKey { stem: stem.clone(), key: ZoneKey { times, ..key.clone() } };
            let written = self.folder.rewrite(&self.apex, &found, self.timing.dnskey_ttl);
            written.map_err(|error| self.not_written(&error))?;
        }
        Ok(())
    }

    fn not_written(&self, error: &std::io::Error) -> Failure {
        Failure::Impossible(format!("{}: cannot write the files of a key: {error}", self.folder.path().display()))
    }

    /// A line for each key, and what comes next.
    fn listed(&self, now: u64) -> Result<String, Failure> {
        let keys = self.keys()?;
        if keys.is_empty() {
            return Err(Failure::Mistakes(format!(
                "{}: no key of {}: make one with `gslb-dns keys new {}`",
                self.folder.path().display(),
                self.apex,
                self.zone()
            )));
        }
        let mut text = "  tag  algorithm        role  state       DNSKEY  signs  DS\n".to_owned();
        for key in &keys {
            let standing = key.standing(now);
            let word = |is_so: bool| if is_so { "yes" } else { "no" };
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "{:>5}  {:<15}  {:<4}  {:<10}  {:<6}  {:<5}  {}",
                key.tag(),
                key.key.public().algorithm().as_str(),
                key.role.as_str(),
                standing.state.as_str(),
                word(standing.is_published),
                word(standing.duty.is_some()),
                if !key.role.is_entry_point() { "-" } else { word(standing.is_synced) },
            );
        }
        let _ = writeln!(text, "next: {}", next_text(&keys, &self.zone(), now));
        let is_first_told = !matches!(sign::next(&keys, now), Next::AwaitDs { .. });
        for (at, tag, change) in sign::upcoming(&keys, now).into_iter().skip(usize::from(is_first_told)) {
            let _ = writeln!(text, "      {}, key {tag}: {}", show_time(at), change.as_str());
        }
        Ok(text)
    }

    /// As commands take it.
    fn zone(&self) -> String {
        self.apex.to_string().trim_end_matches('.').to_owned()
    }
}

/// The folder and the timing of `zone` by the settings at `config`.
fn of_settings(zone: &OwnerName, config: &Path) -> Result<(PathBuf, Timing), Failure> {
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
    Ok((folder.join(&dnssec.keys), dnssec.timing(max_ttl)))
}

fn new(ring: &Ring, algorithm: Algorithm, role: Role, now: u64) -> Result<String, Failure> {
    refuse_second(ring, role, now)?;
    refuse_other_algorithm(ring, algorithm, now)?;
    let tag = ring.add(role, KeyTimes::first(role, &ring.timing, now), || made(algorithm, role))?;
    Ok(format!("made key {tag} in {}\n{}", ring.folder.path().display(), ring.listed(now)?))
}

fn made(algorithm: Algorithm, role: Role) -> Result<SigningKey, Failure> {
    let failed = |_| Failure::Impossible("the system gives no chance to make a key of".to_owned());
    SigningKey::generate(algorithm, role).map_err(failed)
}

fn import(ring: &Ring, file: &Path, role: Role, now: u64) -> Result<String, Failure> {
    refuse_second(ring, role, now)?;
    let read = || {
        let text = read_secret(file).map_err(|problem| Failure::Mistakes(problem.to_string()))?;
        let bad = |bad| Failure::Mistakes(format!("{}: {bad}", file.display()));
        sign::bind::read_pem(&text, role).map_err(bad)
    };
    refuse_other_algorithm(ring, read()?.public().algorithm(), now)?;
    let tag = ring.add(role, KeyTimes::first(role, &ring.timing, now), read)?;
    Ok(format!("took over key {tag} into {}\n{}", ring.folder.path().display(), ring.listed(now)?))
}

/// A second key beside one in use is a roll-over, and a CSK beside a KSK or ZSK a mistake.
fn refuse_second(ring: &Ring, role: Role, now: u64) -> Result<(), Failure> {
    let in_use = |key: &ZoneKey| key.standing(now).state < sign::KeyState::Retired;
    let in_the_way = |key: &ZoneKey| key.role == role || key.role == Role::Csk || role == Role::Csk;
    match ring.keys()?.iter().find(|key| in_use(key) && in_the_way(key)) {
        Some(key) => Err(Failure::Mistakes(format!(
            "{} {} of {} is in use: replace it with `gslb-dns keys roll {}`",
            key.role.as_str(),
            key.tag(),
            ring.apex,
            ring.zone()
        ))),
        None => Ok(()),
    }
}

/// KSK and ZSK of a zone must be of one algorithm, since each algorithm signs all of it (RFC 4035, section 2.2).
fn refuse_other_algorithm(ring: &Ring, algorithm: Algorithm, now: u64) -> Result<(), Failure> {
    let is_other =
        |key: &ZoneKey| key.standing(now).state < sign::KeyState::Retired && key.key.public().algorithm() != algorithm;
    match ring.keys()?.iter().find(|key| is_other(key)) {
        Some(key) => {
            let (role, used) = (key.role.as_str(), key.key.public().algorithm());
            Err(Failure::Mistakes(format!(
                "{role} {} is of algorithm {}: expected the same, {}, for KSK and ZSK",
                key.tag(),
                used.as_str(),
                used.number()
            )))
        }
        None => Ok(()),
    }
}

/// The DS records that the parent should have now; of a zone that is only being signed those that it will have.
fn ds(ring: &Ring, now: u64) -> Result<String, Failure> {
    let keys = ring.keys()?;
    let is_synced = |key: &&ZoneKey| key.standing(now).is_synced;
    let is_to_be = |key: &&ZoneKey| key.role.is_entry_point() && key.standing(now).state < sign::KeyState::Retired;
    let mut due: Vec<&ZoneKey> = keys.iter().filter(is_synced).collect();
    if due.is_empty() {
        // While one key already makes room for the next, it is its turn first.
        let first = keys.iter().filter(is_to_be).map(|key| key.times.sync_publish).min();
        due = keys.iter().filter(is_to_be).filter(|key| Some(key.times.sync_publish) == first).collect();
        for key in &due {
            if let Some(from) = key.times.sync_publish.filter(|&from| from > now) {
                output::complain(&format!(
                    "key {}: put it at the parent from {} on, not before",
                    key.tag(),
                    show_time(from)
                ));
            }
        }
    }
    if due.is_empty() {
        let zone = ring.zone();
        return Err(Failure::Mistakes(format!("no key of {zone} is in use: make one with `gslb-dns keys new {zone}`")));
    }
    Ok(due.iter().map(|key| format!("{} IN DS {}\n", ring.apex, key.key.public().ds_text(&ring.apex))).collect())
}

fn roll(ring: &Ring, role: Option<Role>, algorithm: Option<Algorithm>, now: u64) -> Result<String, Failure> {
    let found = ring.read()?;
    let keys: Vec<ZoneKey> = found.iter().map(|found| found.key.clone()).collect();
    let in_use = |key: &&ZoneKey| key.standing(now).state < sign::KeyState::Retired;
    let has_zsk = keys.iter().filter(in_use).any(|key| key.role == Role::Zsk);
    let role = match role {
        None if has_zsk => return Err(Failure::Mistakes("which key? expected --role ksk or --role zsk".to_owned())),
        role => role.unwrap_or(Role::Csk),
    };
    let old = keys.iter().filter(in_use).find(|key| key.role == role);
    let algorithm = algorithm.or_else(|| Some(old?.key.public().algorithm())).unwrap_or(Algorithm::EcdsaP256Sha256);
    let plan = sign::begin(&keys, role, algorithm, &ring.timing, now);
    let Plan { new, changed } = plan.map_err(|refused| Failure::Mistakes(refused.to_string()))?;
    // The new one first: without it, the old ones must not go.
    let tag = ring.add(role, new, || made(algorithm, role))?;
    ring.change(found, changed)?;
    Ok(format!("made key {tag}; the roll-over has begun\n{}", ring.listed(now)?))
}

fn confirm(ring: &Ring, now: u64) -> Result<String, Failure> {
    let found = ring.read()?;
    let keys: Vec<ZoneKey> = found.iter().map(|found| found.key.clone()).collect();
    let changed = sign::confirm(&keys, &ring.timing, now);
    let refusal = |refused| {
        Failure::Mistakes(match refused {
            Refused::TooEarly { from } => {
                let (from, zone) = (show_time(from), ring.zone());
                format!(
                    "the DS of the new key must not be at the parent before {from}, since until then caches lack the key: \
                     put it there from then on, as `gslb-dns keys ds {zone}` prints it, and confirm it when all servers of \
                     the parent give it"
                )
            }
            other => other.to_string(),
        })
    };
    ring.change(found, changed.map_err(refusal)?)?;
    Ok(format!("noted that all servers of the parent give the DS\n{}", ring.listed(now)?))
}

/// The longest TTL that a zone is thought to have when it is not at hand.
const MAX_TTL_UNKNOWN: u32 = 86_400;
/// Chance gives a tag that is there already in one of thousands.
const TAG_TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn ring(folder: &tempfile::TempDir) -> Ring {
        let dir = folder.path().join("keys");
        let timing = DnssecSettings::with_keys(dir.clone()).timing(300);
        let apex = Name::parse("example.com.", &Name::root()).expect("a name");
        Ring { apex, folder: KeyFolder::new(dir), timing }
    }

    fn roles(ring: &Ring, now: u64) -> Vec<(Role, sign::KeyState)> {
        let mut roles: Vec<_> = ring
            .keys()
            .expect("right")
            .iter()
            .map(|key| (key.times.created, key.role, key.standing(now).state))
            .collect();
        roles.sort_by_key(|(created, ..)| *created);
        roles.into_iter().map(|(_, role, state)| (role, state)).collect()
    }

    #[test]
    fn csk_is_made_and_rolled_by_commands_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        assert!(ring.listed(NOW).is_err_and(|failure| failure.to_string().contains("keys new example.com")));
        let text = new(&ring, Algorithm::EcdsaP256Sha256, Role::Csk, NOW).expect("made");
        assert!(text.contains("next: 2027-01-15T10:00:00Z"), "{text}");
        assert!(new(&ring, Algorithm::Ed25519, Role::Csk, NOW).is_err_and(|f| f.to_string().contains("keys roll")));
        let before = ds(&ring, NOW + DAY).expect("a DS");
        assert!(before.starts_with("example.com. IN DS ") && before.lines().count() == 1, "{before}");
        assert!(ring.listed(NOW + DAY).expect("listed").contains("keys confirm example.com"));
        confirm(&ring, NOW + DAY).expect("confirmed");
        assert!(confirm(&ring, NOW + DAY).is_err());
        let text = roll(&ring, None, None, NOW + 2 * DAY).expect("begun");
        assert!(text.contains("the roll-over has begun"), "{text}");
        assert!(roll(&ring, None, None, NOW + 2 * DAY).is_err_and(|failure| failure.to_string().contains("under way")));
        assert_eq!(ds(&ring, NOW + 2 * DAY).expect("a DS"), before);
        assert_ne!(ds(&ring, NOW + 3 * DAY).expect("a DS"), before);
        confirm(&ring, NOW + 4 * DAY).expect("confirmed");
        assert_eq!(roles(&ring, NOW + 4 * DAY), [(Role::Csk, sign::KeyState::Active); 2]);
        let after = [(Role::Csk, sign::KeyState::Removed), (Role::Csk, sign::KeyState::Active)];
        assert_eq!(roles(&ring, NOW + 5 * DAY), after);
    }

    #[test]
    fn ksk_and_zsk_are_made_and_rolled_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        new(&ring, Algorithm::Ed25519, Role::Ksk, NOW).expect("made");
        let other = new(&ring, Algorithm::EcdsaP256Sha256, Role::Zsk, NOW);
        assert!(
            other.is_err_and(|failure| failure.to_string().contains("of algorithm ED25519: expected the same, 15"))
        );
        new(&ring, Algorithm::Ed25519, Role::Zsk, NOW).expect("made");
        assert!(new(&ring, Algorithm::Ed25519, Role::Csk, NOW).is_err());
        assert!(roll(&ring, None, None, NOW + DAY).is_err_and(|failure| failure.to_string().contains("--role")));
        roll(&ring, Some(Role::Zsk), None, NOW + DAY).expect("begun");
        assert!(roll(&ring, Some(Role::Csk), None, NOW + DAY).is_err());
        assert_eq!(roles(&ring, NOW + 2 * DAY).iter().filter(|(role, _)| *role == Role::Zsk).count(), 2);
    }

    #[test]
    fn pem_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        let file = folder.path().join("key.pem");
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        std::fs::write(&file, pem).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(import(&ring, &file, Role::Csk, NOW).is_err_and(|failure| failure.to_string().contains("chmod 600")));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
        let text = import(&ring, &file, Role::Csk, NOW).expect("taken over");
        assert!(text.contains("ED25519"), "{text}");
    }
}
