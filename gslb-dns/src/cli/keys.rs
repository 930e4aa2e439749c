//! `gslb-dns keys`: makes keys, shows them, rolls them over. Only files are touched; running nodes see them change.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use nix::unistd::geteuid;
use shared::name::OwnerName;

use super::{ConfigArg, Failure, output};
use crate::journal;
use crate::keys::{FoundKey, KeyFolder, KeyLock, Owner, Step, making, next_text, read_secret, show_time};
use crate::settings::{DnssecSettings, Settings, ZoneSettings};
use crate::sign::{
    self, Algorithm, KeyTimes, Lifetime, Next, NotSaid, Plan, Refused, Role, Scheme, SigningKey, Timing, Unusable,
    ZoneKey,
};
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
    /// Begins to replace a key by a new one, or goes on with what a crash broke off.
    Roll(RollArgs),
    /// Says that all servers of the parent give the DS records that `keys ds` prints, and no others: a roll-over goes on.
    Confirm(ZoneArgs),
    /// Says that no server of the parent gives a DS record of the zone any more: it may become unsigned when caches have none.
    Withdraw(ZoneArgs),
    /// Says that all nodes begin to sign now, where that is later than when the keys were made: the DS waits for that long.
    Start(ZoneArgs),
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
    #[arg(long, value_enum, conflicts_with = "to")]
    role: Option<RoleArg>,
    /// All keys, to one CSK or to a KSK and a ZSK.
    #[arg(long, value_enum)]
    to: Option<SchemeArg>,
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

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SchemeArg {
    /// One key that signs everything.
    Csk,
    /// One that signs the keys, and one that signs all else.
    #[value(name = "ksk+zsk")]
    KskAndZsk,
}

impl From<SchemeArg> for Scheme {
    fn from(scheme: SchemeArg) -> Self {
        match scheme {
            SchemeArg::Csk => Self::Csk,
            SchemeArg::KskAndZsk => Self::KskAndZsk,
        }
    }
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
        KeysCommand::New(args) => new(&Ring::to_change(&args.zone)?, args.algorithm, args.role.into(), now),
        KeysCommand::Import(args) => import(&Ring::to_change(&args.zone)?, &args.file, args.role.into(), now),
        KeysCommand::Ds(args) => ds(&Ring::open(args)?, now),
        KeysCommand::List(args) => Ring::open(args)?.listed(now),
        KeysCommand::Roll(args) => {
            let which = match args.to {
                Some(scheme) => Which::All(scheme.into()),
                None => Which::Of(args.role.map(Role::from)),
            };
            roll(&Ring::to_change(&args.zone)?, which, args.algorithm, now)
        }
        KeysCommand::Confirm(args) => confirm(&Ring::to_change(args)?, now),
        KeysCommand::Withdraw(args) => withdraw(&Ring::to_change(args)?, now),
        KeysCommand::Start(args) => start(&Ring::to_change(args)?, now),
    };
    output::print(&text?)
}

/// The keys of one zone, and how long what it published before may be seen.
struct Ring {
    apex: Name,
    folder: KeyFolder,
    timing: Timing,
    /// Whom the settings have the server run as.
    user: Option<String>,
    /// Held by who changes them.
    _lock: Option<KeyLock>,
}

/// Which keys are rolled over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    /// Those of a role; `None`: the CSK.
    Of(Option<Role>),
    /// All, to those of another scheme.
    All(Scheme),
}

impl Ring {
    fn open(args: &ZoneArgs) -> Result<Self, Failure> {
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
    fn to_change(args: &ZoneArgs) -> Result<Self, Failure> {
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

    fn read(&self) -> Result<Vec<FoundKey>, Failure> {
        self.folder
            .read(&self.apex)
            .map_err(|found| Failure::Mistakes(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
    }

    fn keys(&self) -> Result<Vec<ZoneKey>, Failure> {
        Ok(self.read()?.into_iter().map(|found| found.key).collect())
    }

    /// A new key that `make` makes; another is made as long as one with its tag is among `known`.
    fn made(
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
    fn add(&self, role: Role, times: KeyTimes, make: impl Fn() -> Result<SigningKey, Failure>) -> Result<u16, Failure> {
        let known: Vec<u16> = self.keys()?.iter().map(ZoneKey::tag).collect();
        let key = Self::made(&known, role, times, make)?;
        let tag = key.tag();
        self.take(&self.creating(&[key])?)?;
        Ok(tag)
    }

    fn creating(&self, keys: &[ZoneKey]) -> Result<Vec<Step>, Failure> {
        let steps = self.folder.creation(&self.apex, keys, self.timing.dnskey_ttl);
        steps.map_err(|error| self.not_written(&error))
    }

    /// How keys get new times, in the order given.
    fn changing(&self, found: &[FoundKey], changed: &[(usize, KeyTimes)]) -> Result<Vec<Step>, Failure> {
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
    fn say(
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

    fn take(&self, steps: &[Step]) -> Result<(), Failure> {
        steps.iter().try_for_each(Step::take).map_err(|error| self.not_written(&error))
    }

    fn not_rolled(&self, refused: Refused) -> Failure {
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
    fn ownership(&self) -> String {
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
    fn zone(&self) -> String {
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

fn new(ring: &Ring, algorithm: Algorithm, role: Role, now: u64) -> Result<String, Failure> {
    refuse_second(ring, role, now)?;
    refuse_other_algorithm(ring, algorithm, now)?;
    let tag = ring.add(role, KeyTimes::first(role, &ring.timing, now), || generated(algorithm, role))?;
    Ok(format!("made key {tag} in {}{}\n{}", ring.folder.path().display(), ring.ownership(), ring.listed(now)?))
}

fn generated(algorithm: Algorithm, role: Role) -> Result<SigningKey, Failure> {
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
    Ok(format!("took over key {tag} into {}{}\n{}", ring.folder.path().display(), ring.ownership(), ring.listed(now)?))
}

/// A second key beside one in use is a roll-over, and a CSK beside a KSK or ZSK a mistake.
fn refuse_second(ring: &Ring, role: Role, now: u64) -> Result<(), Failure> {
    let in_use = |key: &ZoneKey| key.standing(now).state < sign::KeyState::Retired;
    let in_the_way = |key: &ZoneKey| key.role == role || key.role == Role::Csk || role == Role::Csk;
    let keys = ring.keys()?;
    let has = |of| keys.iter().any(|key| in_use(key) && key.role == of);
    let is_half = role == Role::Csk && !has(Role::Csk) && has(Role::Ksk) != has(Role::Zsk);
    match keys.iter().find(|key| in_use(key) && in_the_way(key)) {
        Some(key) if is_half => Err(Failure::Mistakes(format!(
            "{} {} of {} is in use: expected `{}` beside it",
            key.role.as_str(),
            key.tag(),
            ring.apex,
            making(std::slice::from_ref(key), &ring.zone())
        ))),
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
    if sign::withdrawn(&keys, now).is_some() {
        return Err(Failure::Mistakes(format!(
            "no DS belongs to the parent since `gslb-dns keys withdraw {zone}`: `gslb-dns keys start {zone}` asks for one again",
            zone = ring.zone()
        )));
    }
    let is_synced = |key: &&ZoneKey| key.standing(now).is_synced;
    let is_to_be = |key: &&ZoneKey| key.role.is_entry_point() && key.standing(now).state < sign::KeyState::Retired;
    let mut due: Vec<&ZoneKey> = keys.iter().filter(is_synced).collect();
    for (from, after) in keys.iter().filter_map(|key| Some((key.times.sync_publish?, key))) {
        if !due.is_empty() && from > now {
            output::complain(&format!(
                "a roll-over is under way: from {} on the DS of key {} takes its place, as this command prints it then",
                show_time(from),
                after.tag()
            ));
        }
    }
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

fn roll(ring: &Ring, which: Which, algorithm: Option<Algorithm>, now: u64) -> Result<String, Failure> {
    let Rolling { steps, made } = rolling(ring, which, algorithm, now)?;
    ring.take(&steps)?;
    let made = match &made[..] {
        [] => "the roll-over had been broken off, and goes on".to_owned(),
        tags => {
            let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
            format!("made key {}; the roll-over has begun", tags.join(" and key "))
        }
    };
    Ok(format!("{made}{}\n{}", ring.ownership(), ring.listed(now)?))
}

/// How a roll-over begins or goes on.
struct Rolling {
    steps: Vec<Step>,
    /// The tags of the new keys.
    made: Vec<u16>,
}

fn rolling(ring: &Ring, which: Which, algorithm: Option<Algorithm>, now: u64) -> Result<Rolling, Failure> {
    let found = ring.read()?;
    let keys: Vec<ZoneKey> = found.iter().map(|found| found.key.clone()).collect();
    let in_use = |key: &&ZoneKey| key.standing(now).state < sign::KeyState::Retired;
    let has_zsk = keys.iter().filter(in_use).any(|key| key.role == Role::Zsk);
    let algorithm_of = |key: Option<&ZoneKey>| {
        algorithm.or_else(|| Some(key?.key.public().algorithm())).unwrap_or(Algorithm::EcdsaP256Sha256)
    };
    let plan = match which {
        Which::Of(None) if has_zsk => {
            return Err(Failure::Mistakes(
                "which key? expected --role ksk, --role zsk, or --to csk for both".to_owned(),
            ));
        }
        Which::Of(role) => {
            let role = role.unwrap_or(Role::Csk);
            let old = keys.iter().filter(in_use).find(|key| key.role == role);
            sign::begin(&keys, role, algorithm_of(old), &ring.timing, now)
        }
        Which::All(scheme) => {
            let old = keys.iter().filter(in_use).min_by_key(|key| key.times.created);
            sign::begin_all(&keys, scheme, algorithm_of(old), &ring.timing, now)
        }
    };
    let Plan { algorithm, new, changed } = plan.map_err(|refused| ring.not_rolled(refused))?;
    let mut known: Vec<u16> = keys.iter().map(ZoneKey::tag).collect();
    let mut made = Vec::new();
    for (role, times) in new {
        let key = Ring::made(&known, role, times, || generated(algorithm, role))?;
        known.push(key.tag());
        made.push(key);
    }
    let mut steps = Vec::new();
    if made.iter().any(|key| key.role == Role::Zsk) {
        // Files of BIND do not say that a key is a CSK: beside a ZSK it would be taken for a KSK.
        let csks = found.iter().enumerate().filter(|(_, found)| found.key.role == Role::Csk);
        let same: Vec<_> = csks.map(|(at, found)| (at, found.key.times)).collect();
        steps.extend(ring.changing(&found, &same)?);
    }
    // The new ones first: without them, the old ones must not go.
    if !made.is_empty() {
        steps.extend(ring.creating(&made)?);
    }
    steps.extend(ring.changing(&found, &changed)?);
    Ok(Rolling { steps, made: made.iter().map(ZoneKey::tag).collect() })
}

fn confirm(ring: &Ring, now: u64) -> Result<String, Failure> {
    ring.take(&confirming(ring, now)?)?;
    Ok(format!("noted that all servers of the parent give the DS{}\n{}", ring.ownership(), ring.listed(now)?))
}

fn confirming(ring: &Ring, now: u64) -> Result<Vec<Step>, Failure> {
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
    ring.changing(&found, &changed.map_err(refusal)?)
}

fn withdraw(ring: &Ring, now: u64) -> Result<String, Failure> {
    ring.say(now, |keys| sign::withdraw(keys, &ring.timing, now))?;
    Ok(format!("noted that the parent gives no DS any more{}\n{}", ring.ownership(), ring.listed(now)?))
}

fn start(ring: &Ring, now: u64) -> Result<String, Failure> {
    ring.say(now, |keys| sign::start(keys, &ring.timing, now))?;
    Ok(format!("noted that all nodes begin to sign now{}\n{}", ring.ownership(), ring.listed(now)?))
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
        Ring { apex, folder: KeyFolder::new(dir), timing, user: None, _lock: None }
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
        let listed = ring.listed(NOW + DAY).expect("listed");
        assert!(listed.contains("keys confirm example.com") && listed.contains("yes  -\n"), "{listed}");
        let listed = confirm(&ring, NOW + DAY).expect("confirmed");
        assert!(listed.contains("yes  confirmed\n"), "{listed}");
        assert!(confirm(&ring, NOW + DAY).is_err());
        let text = roll(&ring, Which::Of(None), None, NOW + 2 * DAY).expect("begun");
        assert!(text.contains("the roll-over has begun"), "{text}");
        assert!(
            roll(&ring, Which::Of(None), None, NOW + 2 * DAY)
                .is_err_and(|failure| failure.to_string().contains("under way"))
        );
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
        let text = new(&ring, Algorithm::Ed25519, Role::Ksk, NOW).expect("made");
        let missing = "keys new example.com --role zsk";
        assert!(text.contains(missing), "{text}");
        let csk = new(&ring, Algorithm::Ed25519, Role::Csk, NOW);
        assert!(csk.is_err_and(|failure| failure.to_string().contains(missing)));
        let other = new(&ring, Algorithm::EcdsaP256Sha256, Role::Zsk, NOW);
        assert!(
            other.is_err_and(|failure| failure.to_string().contains("of algorithm ED25519: expected the same, 15"))
        );
        new(&ring, Algorithm::Ed25519, Role::Zsk, NOW).expect("made");
        assert!(new(&ring, Algorithm::Ed25519, Role::Csk, NOW).is_err());
        assert!(
            roll(&ring, Which::Of(None), None, NOW + DAY).is_err_and(|failure| failure.to_string().contains("--role"))
        );
        roll(&ring, Which::Of(Some(Role::Zsk)), None, NOW + DAY).expect("begun");
        assert!(roll(&ring, Which::Of(Some(Role::Csk)), None, NOW + DAY).is_err());
        assert_eq!(roles(&ring, NOW + 2 * DAY).iter().filter(|(role, _)| *role == Role::Zsk).count(), 2);
    }

    /// A zone with keys of these roles, whose DS the parent has.
    fn settled(roles: &[Role]) -> (tempfile::TempDir, Ring) {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        for &role in roles {
            new(&ring, Algorithm::Ed25519, role, NOW).expect("made");
        }
        confirm(&ring, NOW + DAY).expect("confirmed");
        (folder, ring)
    }

    /// What a node makes of the keys in the folder: they sign now and whenever something changes.
    fn signs_on(ring: &Ring, now: u64) {
        let keys = ring.keys().expect("right at any time");
        for at in sign::upcoming(&keys, now).into_iter().map(|(at, ..)| at).chain([now, now + 9 * DAY]) {
            let signer = sign::signer(&ring.apex, &keys, at, sign::Lifetime { now: at, validity_secs: 86_400 });
            assert!(signer.is_ok(), "{:?} at {}", signer.err(), at - now);
        }
    }

    /// Begins a roll-over at a zone with keys of `roles` and breaks off after each of its steps, for good and then not.
    fn break_off(roles: &[Role], which: Which, algorithm: Algorithm, expected: &[(Role, sign::KeyState)]) {
        let now = NOW + 2 * DAY;
        for done in 0.. {
            let (_folder, ring) = settled(roles);
            let Rolling { steps, .. } = rolling(&ring, which, Some(algorithm), now).expect("planned");
            steps[..done].iter().try_for_each(Step::take).expect("done");
            // The moment between two keys that come together; a node sees it for hours at most where they are of another
            // algorithm.
            let is_between =
                algorithm != Algorithm::Ed25519 && sign::broken_off(&ring.keys().expect("right"), now).is_some();
            if !is_between {
                signs_on(&ring, now);
            }
            let is_over = done == steps.len();
            if !is_over {
                // Another day, another process.
                let cleaning = ring.folder.cleaning(&ring.apex).expect("planned");
                cleaning.iter().try_for_each(Step::take).expect("clean");
                let rolled = roll(&ring, which, Some(algorithm), now + 60);
                // All that counts was done, or it is done now.
                let refusal = rolled.err().map(|failure| failure.to_string());
                assert!(refusal.as_ref().is_none_or(|why| why.contains("under way")), "step {done}: {refusal:?}");
            }
            assert_eq!(sign::broken_off(&ring.keys().expect("right"), now + 60), None, "step {done}");
            signs_on(&ring, now + 60);
            let mut states: Vec<_> = roles_at(&ring, now + 3 * DAY);
            if which != Which::Of(Some(Role::Zsk)) {
                confirm(&ring, now + 3 * DAY).expect("confirmed");
                states = roles_at(&ring, now + 9 * DAY);
            }
            assert_eq!(states, expected, "step {done}");
            let files = std::fs::read_dir(ring.folder.path()).expect("readable").count();
            assert_eq!(files, 2 * expected.len(), "step {done}: nothing else is left");
            if is_over {
                return;
            }
        }
    }

    fn roles_at(ring: &Ring, now: u64) -> Vec<(Role, sign::KeyState)> {
        let mut found = roles(ring, now);
        found.sort_by_key(|(role, state)| (role.as_str(), *state));
        found
    }

    use sign::KeyState::{Active, Removed};

    #[test]
    fn roll_over_that_a_crash_broke_off_is_completed_by_the_same_command() {
        let (csk, both) = (&[Role::Csk][..], &[Role::Ksk, Role::Zsk][..]);
        let same = Algorithm::Ed25519;
        let rolled = [(Role::Csk, Active), (Role::Csk, Removed)];
        break_off(csk, Which::Of(None), same, &rolled);
        break_off(csk, Which::Of(None), Algorithm::EcdsaP256Sha256, &rolled);
        let rolled = [(Role::Ksk, Active), (Role::Ksk, Removed), (Role::Zsk, Active)];
        break_off(both, Which::Of(Some(Role::Ksk)), same, &rolled);
        let rolled = [(Role::Ksk, Active), (Role::Zsk, Active), (Role::Zsk, Removed)];
        break_off(both, Which::Of(Some(Role::Zsk)), same, &rolled);
    }

    #[test]
    fn change_of_all_keys_that_a_crash_broke_off_is_completed_by_the_same_command() {
        for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
            let split = [(Role::Csk, Removed), (Role::Ksk, Active), (Role::Zsk, Active)];
            break_off(&[Role::Csk], Which::All(Scheme::KskAndZsk), algorithm, &split);
            let joined = [(Role::Csk, Active), (Role::Ksk, Removed), (Role::Zsk, Removed)];
            break_off(&[Role::Ksk, Role::Zsk], Which::All(Scheme::Csk), algorithm, &joined);
        }
    }

    #[test]
    fn confirmation_that_a_crash_broke_off_is_completed_by_the_same_command() {
        let now = NOW + 4 * DAY;
        for done in 0.. {
            let (_folder, ring) = settled(&[Role::Ksk, Role::Zsk]);
            roll(&ring, Which::All(Scheme::Csk), None, NOW + 2 * DAY).expect("begun");
            let steps = confirming(&ring, now).expect("planned");
            steps[..done].iter().try_for_each(Step::take).expect("done");
            signs_on(&ring, now);
            if done == steps.len() {
                return;
            }
            confirm(&ring, now + 60).expect("confirmed");
            let expected = [(Role::Csk, Active), (Role::Ksk, Removed), (Role::Zsk, Removed)];
            assert_eq!(roles_at(&ring, now + 2 * DAY), expected, "step {done}");
        }
    }

    #[test]
    fn half_a_roll_over_is_not_confirmed_but_shown_with_what_to_do() {
        let (_folder, ring) = settled(&[Role::Csk]);
        let now = NOW + 2 * DAY;
        let Rolling { steps, made } = rolling(&ring, Which::Of(None), None, now).expect("planned");
        // All but the new times of the old key.
        steps[..steps.len() - 4].iter().try_for_each(Step::take).expect("done");
        let told = format!("the roll-over to key {} was begun and broken off", made[0]);
        assert!(confirm(&ring, now + DAY).is_err_and(|failure| failure.to_string().contains(&told)));
        assert!(ring.listed(now).expect("listed").contains(&told));
        let text = roll(&ring, Which::Of(None), None, now + DAY).expect("goes on");
        assert!(text.contains("had been broken off") && !text.contains(&told), "{text}");
    }

    #[test]
    fn key_whose_ds_was_never_confirmed_is_not_rolled_but_the_command_to_run_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
        let refusal = roll(&ring, Which::Of(None), None, NOW + DAY).expect_err("refused").to_string();
        assert!(refusal.contains("`gslb-dns keys confirm example.com` first"), "{refusal}");
        assert!(refusal.contains("keys new example.com"), "{refusal}");
    }

    #[test]
    fn first_ds_waits_from_when_signing_really_began() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
        let later = NOW + 30 * DAY;
        let text = start(&ring, later).expect("said");
        assert!(text.contains("next: 2027-02-14T10:00:00Z"), "two hours later: {text}");
        assert!(text.contains("counted from 2027-02-14T08:00:00Z"), "{text}");
        let early = confirm(&ring, later + 60).expect_err("too early").to_string();
        assert!(early.contains("not be at the parent before 2027-02-14T10:00:00Z"), "{early}");
        confirm(&ring, later + DAY).expect("confirmed");
        assert!(start(&ring, later + DAY).is_err_and(|failure| failure.to_string().contains("signed for long")));
        assert!(!ring.listed(later + DAY).expect("listed").contains("counted from"));
    }

    #[test]
    fn withdrawn_ds_is_asked_for_no_more_until_signing_starts_again() {
        let (_folder, ring) = settled(&[Role::Csk]);
        let now = NOW + 2 * DAY;
        let state = |now| sign::parent_ds(&ring.keys().expect("right"), 86_400, now);
        assert!(matches!(state(now), sign::ParentDs::Confirmed { since, .. } if since == NOW + DAY));
        let text = withdraw(&ring, now).expect("said");
        assert!(text.contains("from 2027-01-18T08:00:00Z on, not before") && text.contains("keys start"), "{text}");
        assert_eq!(
            ring.listed(now + 60).expect("listed"),
            text.split_once('\n').expect("lines").1,
            "as long as it holds"
        );
        assert!(ring.listed(now + DAY).expect("listed").contains("`dnssec` may leave the settings now"));
        assert!(ds(&ring, now).is_err_and(|failure| failure.to_string().contains("keys start example.com")));
        let of_others = sign::parent_ds(&ring.keys().expect("right"), 5, now);
        assert_eq!(of_others, sign::ParentDs::Cached { until: now + DAY }, "whatever the settings say by then");
        assert_eq!(state(now), sign::ParentDs::Cached { until: now + DAY });
        assert_eq!(state(now + DAY), sign::ParentDs::Absent);
        signs_on(&ring, now);
        assert!(confirm(&ring, now + DAY).is_err(), "no DS is awaited");
        start(&ring, now + 9 * DAY).expect("said");
        assert!(confirm(&ring, now + 10 * DAY).is_ok());
    }

    #[test]
    fn withdrawal_before_any_ds_takes_back_that_cds_will_ask_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = ring(&folder);
        new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
        let text = withdraw(&ring, NOW + 60).expect("said");
        assert!(text.contains("next: no DS is asked for") && !text.contains("CDS and"), "{text}");
    }

    #[test]
    fn withdrawal_in_a_roll_over_ends_it() {
        let now = NOW + 2 * DAY;
        for (roles, which, algorithm) in [
            (&[Role::Csk][..], Which::Of(None), Algorithm::Ed25519),
            (&[Role::Csk], Which::Of(None), Algorithm::EcdsaP256Sha256),
            (&[Role::Csk], Which::All(Scheme::KskAndZsk), Algorithm::Ed25519),
            (&[Role::Ksk, Role::Zsk], Which::All(Scheme::Csk), Algorithm::EcdsaP256Sha256),
        ] {
            for after in [60, DAY] {
                let (_folder, ring) = settled(roles);
                roll(&ring, which, Some(algorithm), now).expect("begun");
                withdraw(&ring, now + after).expect("said");
                signs_on(&ring, now + after);
                let later = now + 9 * DAY;
                let removed = roles_at(&ring, later).into_iter().filter(|(_, state)| *state == Removed).count();
                assert_eq!(removed, roles.len(), "{which:?} after {after}");
                start(&ring, later).expect("said");
                confirm(&ring, later + DAY).expect("confirmed");
                signs_on(&ring, later + DAY);
            }
        }
    }

    #[test]
    fn two_commands_do_not_change_keys_at_the_same_time() {
        let (_folder, ring) = settled(&[Role::Csk]);
        let held = ring.folder.lock().expect("nobody has it");
        assert!(ring.folder.lock().is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        drop(held);
        assert!(ring.folder.lock().is_ok());
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
