//! Keys and signatures of the zones in the world: read, made ahead, and made again before they expire.

use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use arc_swap::ArcSwap;
use rustix::process::setpriority_process;
use shared::problem::Problem;
use shared::settings::show_duration;
use shared::topology::Topology;

use super::{Reader, Stamp, World};
use crate::keys::KeyFolder;
use crate::settings::{DnssecSettings, ZoneSettings};
use crate::sign::{self, Fingerprint, KeyRecords, Lifetime, Refused, Signatures, Signer, ZoneKey};
use crate::wire::{Name, Rtype};
use crate::zone::{Sign, Signing, Zone, ZoneSet};

/// The keys of a zone that is to be signed.
#[derive(Clone, Debug)]
pub struct ZoneKeys {
    /// How it is signed.
    pub settings: DnssecSettings,
    /// The keys, in the order of their files.
    pub keys: Arc<[ZoneKey]>,
}

/// A zone that was signed.
#[derive(Clone, Debug)]
pub struct SignedZone {
    /// Its name, in lower case.
    pub apex: Name,
    /// Its keys.
    pub keys: ZoneKeys,
    /// From when to when new signatures hold.
    pub lifetime: Lifetime,
    /// All that were made ahead, for the next time.
    pub signatures: Arc<Signatures>,
    /// When the first of them expires, in seconds since 1970.
    pub earliest_expiration: Option<u64>,
}

impl SignedZone {
    /// When it must be signed again, in seconds since 1970: keys change, or a quarter of the validity is left.
    pub fn due(&self) -> Option<u64> {
        let renewal = self.earliest_expiration.map(|earliest| self.lifetime.renewal(earliest));
        let change = sign::next_change(&self.keys.keys, self.lifetime.now);
        renewal.into_iter().chain(change).min()
    }
}

impl World {
    /// When it must be signed again, in seconds since 1970; `None`: never.
    pub fn signing_due(&self) -> Option<u64> {
        self.signed_zones.iter().filter_map(SignedZone::due).min()
    }

    /// The same world signed at `now`, in seconds since 1970: with the keys of then, and with new signatures for those that
    /// would expire soon. Files are not looked at, so a mistake in them lets no signature expire.
    pub fn signed_again(&self, now: u64) -> Result<Self, Vec<Problem>> {
        let sign = || {
            step_back();
            self.sign_zones(&self.kept, now)
        };
        // In a thread of its own, since what has stepped back may not step forward again.
        let signed = thread::scope(|scope| scope.spawn(sign).join());
        let (zones, signed_zones) = signed.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Self { zones: Arc::new(zones), signed_zones, ..self.clone() })
    }

    /// Puts `zones` together in place of those of this world, with its keys as they are at `now`, its services, and its
    /// signatures as far as they are good for a while yet.
    pub(super) fn sign_zones(&self, zones: &[Arc<Zone>], now: u64) -> Result<(ZoneSet, Vec<SignedZone>), Vec<Problem>> {
        let keys_of = |zone: &Arc<Zone>| {
            let signed = self.signed_zones.iter().find(|signed| signed.apex == *zone.apex());
            signed.map(|signed| signed.keys.clone())
        };
        let keys: Vec<_> = zones.iter().map(keys_of).collect();
        build(zones, &keys, &self.settings.topology, &self.signed_zones, now)
    }
}

impl Reader {
    /// The keys of `zone`, where it is to be signed; mistakes are gathered.
    pub(super) fn read_zone_keys(&mut self, zone: &ZoneSettings, config: &Path) -> Option<ZoneKeys> {
        let settings = zone.dnssec.clone()?;
        let folder = KeyFolder::new(self.folder.join(&settings.keys));
        let apex = Name::parse(zone.name.as_str(), &Name::root()).ok()?.folded();
        // The stamps are taken before the content, so that a change in between is seen as one later.
        let mut paths = vec![folder.path().to_owned()];
        paths.extend(folder.files(&apex).unwrap_or_default());
        self.files.stamps.extend(paths.iter().map(|path| (path.clone(), Stamp::of(path))));
        let found = folder.read(&apex).map_err(|problems| self.problems.extend(problems)).ok()?;
        if found.is_empty() {
            let (zone, config) = (&zone.name, config.display());
            let make = format!("gslb-dns keys new {zone} --config {config}");
            self.problem(folder.path(), format!("holds no key of {zone}, which is to be signed: make one by `{make}`"));
        }
        // What is secret stays out of the hash; what the others say of it is in.
        for text in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "key")) {
            self.hash.add(&fs::read(text).unwrap_or_default());
        }
        Some(ZoneKeys { settings, keys: found.into_iter().map(|found| found.key).collect() })
    }
}

/// What is seldom meant: signatures that expire while caches have the records still, and a roll-over that was broken off.
pub(super) fn warnings(zones: &[Zone], keys: &[Option<ZoneKeys>], topology: &Topology, now: u64) -> Vec<Problem> {
    let services = topology.services.iter().map(|service| service.ttl.max(service.ttl_degraded)).max().unwrap_or(0);
    let mut found = Vec::new();
    for (zone, ZoneKeys { settings, keys }) in
        zones.iter().zip(keys).filter_map(|(zone, keys)| Some((zone, keys.as_ref()?)))
    {
        let key = format!("zone {}", zone.apex().to_string().trim_end_matches('.'));
        let mut warn = |what| found.push(Problem { file: String::new(), line: None, key: key.clone(), what });
        let max_ttl = services.max(zone.max_ttl());
        if settings.validity_secs() / 4 < max_ttl {
            warn(format!(
                "validity of {} with TTLs of up to {max_ttl} seconds: expected four times as much, so that no signature \
                 expires in a cache",
                show_duration(settings.validity)
            ));
        }
        if let Some(tag) = sign::broken_off(keys, now) {
            warn(Refused::BrokenOff(tag).to_string());
        }
    }
    found
}

/// Puts zones together as they are kept, those with keys signed at `now`; signatures of `last` are used again while they are good.
pub(super) fn build(
    kept: &[Arc<Zone>],
    keys: &[Option<ZoneKeys>],
    topology: &Topology,
    last: &[SignedZone],
    now: u64,
) -> Result<(ZoneSet, Vec<SignedZone>), Vec<Problem>> {
    let mut problems = Vec::new();
    let (mut zones, mut makings) = (Vec::new(), Vec::new());
    for (zone, keys) in kept.iter().zip(keys) {
        let mut zone = Zone::clone(zone);
        let making = keys.as_ref().map(|keys| Making::begin(&mut zone, keys, last, now)).transpose();
        let making = making.map_err(|problem| problems.push(problem)).ok().flatten();
        zones.push((zone, making.as_ref().map(Making::signing)));
        makings.extend(making);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if makings.iter().map(Making::unknown).sum::<usize>() > UNKNOWN_FEW {
        sign_ahead(&zones, &makings, topology)?;
    }
    let set = ZoneSet::build_signed(zones, topology)?;
    let signed: Result<Vec<_>, _> = makings.into_iter().map(|making| making.finish(now)).collect();
    Ok((set, signed.map_err(|problem| vec![problem])?))
}

/// Signs on all cores what is not known yet: a first build finds out what that is, so that the one that counts finds all.
fn sign_ahead(zones: &[(Zone, Option<Signing>)], makings: &[Making], topology: &Topology) -> Result<(), Vec<Problem>> {
    makings.iter().for_each(|making| making.recorder.set(Mode::Listing));
    ZoneSet::build_signed(zones.to_vec(), topology)?;
    makings.iter().for_each(|making| making.recorder.set(Mode::Signing));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    for Making { recorder, .. } in makings {
        let wanted = std::mem::take(&mut *recorder.wanted());
        thread::scope(|scope| {
            for part in wanted.chunks(wanted.len().div_ceil(threads).max(1)) {
                scope.spawn(|| {
                    step_back();
                    part.iter().for_each(|rrset| rrset.sign(recorder));
                });
            }
        });
        recorder.known.store(Arc::new(recorder.take_fresh()));
    }
    Ok(())
}

/// From here on this thread runs when no other has to, as those that serve do.
fn step_back() {
    // Where that is not allowed, signing goes on as it is.
    let _ = setpriority_process(None, NICE_MOST);
}

/// A zone while it is signed.
struct Making {
    apex: Name,
    /// So many RRsets there are about.
    rrsets: usize,
    keys: ZoneKeys,
    lifetime: Lifetime,
    recorder: Arc<Recorder>,
}

impl Making {
    /// Adds the records of the keys to `zone`.
    fn begin(zone: &mut Zone, keys: &ZoneKeys, last: &[SignedZone], now: u64) -> Result<Self, Problem> {
        let apex = zone.apex().clone();
        let lifetime = Lifetime { now, validity_secs: keys.settings.validity_secs() };
        let signer = sign::signer(&apex, &keys.keys, lifetime).map_err(|unusable| {
            let zone = apex.to_string();
            let zone = zone.trim_end_matches('.');
            Problem {
                file: keys.settings.keys.display().to_string(),
                line: None,
                key: format!("zone {zone}"),
                what: format!("{unusable}: expected one as `gslb-dns keys new {zone}` makes"),
            }
        })?;
        let KeyRecords { dnskey, cds, cdnskey } = KeyRecords::new(&apex, &keys.keys, keys.settings.sync, now);
        let ttl = keys.settings.timing(0).dnskey_ttl;
        let csync = keys.settings.csync.as_ref().map(|csync| (Rtype::CSYNC, vec![csync.rdata(zone.serial())]));
        let records = [(Rtype::DNSKEY, dnskey), (Rtype::CDS, cds), (Rtype::CDNSKEY, cdnskey)];
        for (rtype, rdatas) in records.into_iter().chain(csync) {
            zone.add_key_records(rtype, ttl, &rdatas)?;
        }
        let known = last.iter().find(|signed| signed.apex == apex).map(|signed| Arc::clone(&signed.signatures));
        let recorder = Arc::new(Recorder::new(signer, known.unwrap_or_default()));
        Ok(Self { apex, rrsets: zone.rrset_count(), keys: keys.clone(), lifetime, recorder })
    }

    /// About how many signatures have to be made.
    fn unknown(&self) -> usize {
        self.recorder.signer.unknown(&self.recorder.known.load(), self.rrsets)
    }

    fn signing(&self) -> Signing {
        let recorder = Arc::clone(&self.recorder);
        let sign: Sign = Arc::new(move |owner, rtype, ttl, rdatas| recorder.sign(owner, rtype, ttl, rdatas));
        Signing { denial: self.keys.settings.denial, sign }
    }

    fn finish(self, now: u64) -> Result<SignedZone, Problem> {
        let Self { apex, keys, lifetime, recorder, .. } = self;
        let signatures = recorder.close().ok_or_else(|| Problem {
            file: keys.settings.keys.display().to_string(),
            line: None,
            key: format!("zone {apex}"),
            what: "the library could not sign".to_owned(),
        })?;
        let earliest_expiration = signatures.earliest_expiration(now);
        Ok(SignedZone { apex, keys, lifetime, signatures: Arc::new(signatures), earliest_expiration })
    }
}

/// Signs, and keeps what it signs as long as the zone is being made; afterwards it only signs, without a lock.
struct Recorder {
    signer: Signer,
    known: ArcSwap<Signatures>,
    fresh: [Mutex<Signatures>; SHARDS],
    wanted: Mutex<Vec<Wanted>>,
    mode: AtomicU8,
    has_failed: AtomicBool,
}

/// What a recorder does with what it gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum Mode {
    /// Signs and keeps.
    Signing,
    /// Only notes what would have to be signed.
    Listing,
    /// Signs, for queries.
    Closed,
}

/// An RRset that has to be signed.
struct Wanted {
    owner: Box<[u8]>,
    rtype: Rtype,
    ttl: u32,
    rdatas: Box<[Box<[u8]>]>,
}

impl Wanted {
    fn sign(&self, recorder: &Recorder) {
        let rdatas: Vec<&[u8]> = self.rdatas.iter().map(|rdata| &**rdata).collect();
        recorder.sign(&self.owner, self.rtype, self.ttl, &rdatas);
    }
}

impl Recorder {
    fn new(signer: Signer, known: Arc<Signatures>) -> Self {
        Self {
            signer,
            known: ArcSwap::new(known),
            fresh: Default::default(),
            wanted: Mutex::default(),
            mode: AtomicU8::new(Mode::Signing as u8),
            has_failed: AtomicBool::new(false),
        }
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Release);
    }

    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::Acquire) == mode as u8
    }

    fn sign(&self, owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]]) -> Vec<Box<[u8]>> {
        if self.is(Mode::Closed) {
            return self.signer.sign(owner, rtype, ttl, rdatas);
        }
        let known = self.known.load();
        if self.is(Mode::Listing) && !self.signer.knows(&known, owner, rtype, ttl, rdatas) {
            let rdatas = rdatas.iter().map(|&rdata| rdata.into()).collect();
            self.wanted().push(Wanted { owner: owner.into(), rtype, ttl, rdatas });
            return self.signer.placeholders(rtype);
        }
        let keep = |fingerprint: Fingerprint, rrsig: &[u8]| {
            locked(&self.fresh[fingerprint.shard(SHARDS)]).insert(fingerprint, rrsig);
        };
        let rrsigs = self.signer.sign_reusing(&known, owner, rtype, ttl, rdatas, keep);
        if rrsigs.len() < self.signer.signature_count(rtype) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        rrsigs
    }

    fn wanted(&self) -> MutexGuard<'_, Vec<Wanted>> {
        locked(&self.wanted)
    }

    fn take_fresh(&self) -> Signatures {
        let mut all = Signatures::default();
        self.fresh.iter().for_each(|shard| all.merge(std::mem::take(&mut *locked(shard))));
        all
    }

    /// All that was signed; `None`: something could not be. What was known before is let go.
    fn close(&self) -> Option<Signatures> {
        self.set(Mode::Closed);
        self.known.store(Arc::default());
        let all = self.take_fresh();
        (!self.has_failed.load(Ordering::Relaxed)).then_some(all)
    }
}

/// A thread that broke off left nothing half done: what it had to write is one entry.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What Linux runs least.
const NICE_MOST: i32 = 19;
/// So many threads may sign without waiting for each other.
const SHARDS: usize = 16;
/// So many are signed within a tenth of a second: less than other threads are worth.
const UNKNOWN_FEW: usize = 2000;

#[cfg(test)]
mod tests;
