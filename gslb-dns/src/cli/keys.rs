//! `gslb-dns keys`: makes keys, shows them, rolls them over. Only files are touched; running nodes see them change.

mod ring;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use shared::name::OwnerName;

use super::{ConfigArg, Failure, output};
use crate::keys::{Step, making, read_secret, show_time};
use crate::sign::{self, Algorithm, KeyTimes, Plan, Refused, Role, Scheme, SigningKey, ZoneKey};
use ring::Ring;

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

/// Which keys are rolled over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    /// Those of a role; `None`: the CSK.
    Of(Option<Role>),
    /// All, to those of another scheme.
    All(Scheme),
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
