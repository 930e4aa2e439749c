//! Keys and signatures of the zones in the world: read, made ahead, and made again before they expire.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::{fs, iter};

use arc_swap::ArcSwap;
use rustix::process::setpriority_process;
use shared::problem::Problem;
use shared::settings::show_duration;
use shared::topology::Topology;

use super::{Reader, Stamp, World, transfers, unix_secs};
use crate::keys::{KeyFolder, making, show_time};
use crate::settings::{DnssecSettings, Settings, ZoneSettings, zone_key};
use crate::sign::{self, Fingerprint, Held, KeyRecords, Lifetime, Refused, Signatures, Signer, Unusable, ZoneKey};
use crate::wire::{Name, Rtype};
use crate::zone::{Content, Sign, Signing, Zone, ZoneSet, add_steered_names, is_newer};

/// The keys of a zone that is to be signed.
#[derive(Clone, Debug)]
pub struct ZoneKeys {
    /// How it is signed.
    pub settings: DnssecSettings,
    /// The keys, in the order of their files.
    pub keys: Arc<[ZoneKey]>,
    /// Whether secondaries get the zone.
    pub is_transferred: bool,
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
    /// Why its keys cannot sign it by their times, and how they go on; `None`: they can.
    pub held: Option<Held>,
    /// All that were made ahead, for the next time.
    pub signatures: Arc<Signatures>,
    /// When the first of them expires, in seconds since 1970.
    pub earliest_expiration: Option<u64>,
    /// What its secondaries get; `None`: it has none.
    pub content: Option<Arc<Content>>,
}

/// Zones that were put together.
pub(super) struct Built {
    pub(super) zones: ZoneSet,
    pub(super) signed_zones: Vec<SignedZone>,
    /// The zones as they were given, but for the serials of those whose secondaries get something else now.
    pub(super) kept: Vec<Arc<Zone>>,
}

impl SignedZone {
    /// When it must be signed again, in seconds since 1970: keys change, or a quarter of the validity is left.
    pub fn due(&self) -> Option<u64> {
        let renewal = self.earliest_expiration.map(|earliest| self.lifetime.renewal(earliest));
        let change = sign::next_change(&self.keys.keys, self.lifetime.now);
        renewal.into_iter().chain(change).min()
    }

    /// The moment whose standing its keys have at `now`, in seconds since 1970.
    pub fn as_of(&self, now: u64) -> u64 {
        self.held.map_or(now, |held| held.as_of)
    }
}

impl World {
    /// When it must be signed again, in seconds since 1970; `None`: never.
    pub fn signing_due(&self) -> Option<u64> {
        self.signed_zones.iter().filter_map(SignedZone::due).min()
    }

    /// The same world signed at `now`, in seconds since 1970: with the keys of then, and with new signatures for those that
    /// would expire soon. Files are not looked at, so a mistake in them lets no signature expire; nor do keys whose times have
    /// run out, which sign on as they did before.
    ///
    /// Where that changes what secondaries get, the serial is the next one, which belongs into the journal.
    pub fn signed_again(&self, now: u64) -> Result<Self, Vec<Problem>> {
        self.with_built(self.sign_zones(&self.kept, now)?)
    }

    /// The same with other zones.
    pub(super) fn with_built(&self, built: Built) -> Result<Self, Vec<Problem>> {
        let Built { zones, signed_zones, kept } = built;
        let Settings { zones: settings, topology, .. } = &self.settings;
        let transfers = transfers::transfers(&kept, &signed_zones, settings, topology, Some(self));
        Ok(Self { zones: Arc::new(zones), signed_zones, kept, transfers, ..self.clone() })
    }

    /// Puts `zones` together in place of those of this world, with its keys as they are at `now`, its services, and its
    /// signatures as far as they are good for a while yet.
    pub(super) fn sign_zones(&self, zones: &[Arc<Zone>], now: u64) -> Result<Built, Vec<Problem>> {
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
        // Zones may share the folder.
        let is_known = self.files.stamps.iter().any(|(known, _)| known == folder.path());
        let new = paths.iter().skip(usize::from(is_known));
        self.files.stamps.extend(new.map(|path| (path.clone(), Stamp::of(path))));
        let found = folder.read(&apex).map_err(|problems| self.problems.extend(problems)).ok()?;
        if found.is_empty() {
            let key = zone_key(&zone.name, "dnssec.keys");
            let (zone, config, shown) = (&zone.name, config.display(), folder.path().display());
            let lack = match folder.path().is_dir() {
                true => format!("the folder {shown} holds no key of {zone}, which is to be signed"),
                false => format!("there is no folder {shown}, in which the keys of {zone} should be"),
            };
            let what = format!("{lack}: expected one as made by `gslb-dns keys new {zone} --config {config}`");
            self.problems.push(self.lines.problem(&key, &[&key, "zones"], what));
        }
        let found: Vec<ZoneKey> = found.into_iter().map(|found| found.key).collect();
        self.problems.extend(unusable(&found, &settings, zone.name.as_str(), unix_secs()));
        // What is secret stays out of the hash; what the others say of it is in.
        for text in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "key")) {
            self.hash.add(&fs::read(text).unwrap_or_default());
        }
        let is_transferred = !zone.secondaries.is_empty();
        Some(ZoneKeys { settings, keys: found.into(), is_transferred })
    }
}

/// Why `keys` cannot sign `zone` at `now` and never could, and what would help. Those that could sign on as they did, and
/// are warned of; that there is none is told elsewhere.
fn unusable(keys: &[ZoneKey], settings: &DnssecSettings, zone: &str, now: u64) -> Option<Problem> {
    let why = match sign::hold(keys, now) {
        Ok(Some(held)) if held.as_of > now => held.why,
        Ok(_) | Err(Unusable::Absent) => return None,
        Err(why) => why,
    };
    let what = format!("{why}: expected one as `{}` makes", making(keys, zone));
    Some(Problem { file: settings.keys.display().to_string(), line: None, key: format!("zone {zone}"), what })
}

/// What helps against times that leave a zone without the keys that it takes.
fn other_times(zone: &str) -> String {
    format!(
        "other times in the .private files, as without Inactive and Delete, and then a roll-over by `gslb-dns keys roll \
         {zone}`"
    )
}

/// What is seldom meant: signatures that expire while caches or secondaries have the records still (RFC 6781, section
/// 4.4.2), a roll-over that was broken off, and keys whose times run out.
pub(super) fn warnings(zones: &[Zone], keys: &[Option<ZoneKeys>], topology: &Topology, now: u64) -> Vec<Problem> {
    let services = topology.services.iter().map(|service| service.ttl.max(service.ttl_degraded)).max().unwrap_or(0);
    let mut found = Vec::new();
    for (zone, keys) in zones.iter().zip(keys) {
        let Some(ZoneKeys { settings, keys, is_transferred }) = keys else { continue };
        // When the next ones come, those before hold for a quarter of it still.
        let (left, validity) = (settings.validity_secs() / 4, show_duration(settings.validity));
        let enough = |secs: u32| show_duration(Duration::from_secs(u64::from(secs) * 4));
        let (max_ttl, expire) = (services.max(zone.max_ttl()), zone.expire());
        let mut warn = |what| {
            let key = format!("zone {}", zone.apex().to_string().trim_end_matches('.'));
            found.push(Problem { file: String::new(), line: None, key, what });
        };
        if left < max_ttl {
            warn(format!(
                "validity of {validity} with TTLs of up to {max_ttl} seconds: expected {} or more, so that no \
                 signature expires in a cache",
                enough(max_ttl)
            ));
        }
        if *is_transferred && left < expire {
            warn(format!(
                "validity of {validity} with an SOA expire of {expire} seconds: expected {} or more, so that no \
                 signature expires at a secondary that is cut off",
                enough(expire)
            ));
        }
        if let Some(tag) = sign::broken_off(keys, now) {
            warn(Refused::BrokenOff(tag).to_string());
        }
        let run_out = match sign::hold(keys, now) {
            Ok(Some(held)) => sign::next_change(keys, held.as_of).map(|since| ("since", since, held.why)),
            _ => sign::unusable_from(keys, now).map(|(from, why)| ("from", from, why)),
        };
        if let Some((word, at, why)) = run_out {
            let (at, zone) = (show_time(at), zone.apex().to_string());
            warn(format!(
                "{word} {at} on {why}, by the times in the key files: it is signed on with those of before; expected {}",
                other_times(zone.trim_end_matches('.'))
            ));
        }
    }
    found
}

/// Gives the zones for which `is_served` holds, of which secondaries may have something else under the same serial, the
/// next one.
///
/// So it is after each start, since signatures are not kept and all are new; and when a zone with secondaries begins to be
/// signed.
pub(super) fn raise_unknown(
    zones: &mut [Zone],
    keys: &[Option<ZoneKeys>],
    last: &[SignedZone],
    is_served: impl Fn(&Zone) -> bool,
) {
    for (zone, keys) in zones.iter_mut().zip(keys) {
        let is_transferred = keys.as_ref().is_some_and(|keys| keys.is_transferred);
        if is_transferred && content_of(last, zone.apex()).is_none() && is_served(zone) {
            zone.set_serial(zone.serial().wrapping_add(1));
        }
    }
}

/// Puts zones together as they are kept, those with keys signed at `now`; signatures of `last` are used again while they are good.
///
/// A zone whose secondaries get something else than they did of `last`, under a serial that is no newer (RFC 1982), gets
/// the next one.
pub(super) fn build(
    kept: &[Arc<Zone>],
    keys: &[Option<ZoneKeys>],
    topology: &Topology,
    last: &[SignedZone],
    now: u64,
) -> Result<Built, Vec<Problem>> {
    let (mut problems, mut makings) = (Vec::new(), Vec::new());
    for (zone, keys) in kept.iter().zip(keys) {
        let making = keys.as_ref().map(|keys| Making::begin(zone, keys, last, now)).transpose();
        makings.push(making.map_err(|problem| problems.push(problem)).ok().flatten());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut kept = kept.to_vec();
    add_steered_names(&mut kept, topology);
    let zones = with_keys(&kept, &makings)?;
    if makings.iter().flatten().map(Making::unknown).sum::<usize>() > UNKNOWN_FEW {
        sign_ahead(&zones, &makings, topology)?;
    }
    let mut set = ZoneSet::build_signed(zones, topology)?;
    let mut contents = set.take_contents();
    if raise_changed(&mut kept, &contents, last) {
        // All but the SOA records, and CSYNC records, is signed.
        makings.iter().flatten().for_each(|making| making.recorder.remember());
        set = ZoneSet::build_signed(with_keys(&kept, &makings)?, topology)?;
        contents = set.take_contents();
    }
    let contents = contents.into_iter().chain(iter::repeat_with(|| None));
    let made = makings.into_iter().zip(contents).filter_map(|(making, content)| Some((making?, content)));
    let signed: Result<Vec<_>, _> = made.map(|(making, content)| making.finish(content, last)).collect();
    Ok(Built { zones: set, signed_zones: signed.map_err(|problem| vec![problem])?, kept })
}

/// The zones of `kept` with what their keys add, and what signs them.
fn with_keys(kept: &[Arc<Zone>], makings: &[Option<Making>]) -> Result<Vec<(Zone, Option<Signing>)>, Vec<Problem>> {
    let (mut zones, mut problems) = (Vec::new(), Vec::new());
    for (zone, making) in kept.iter().zip(makings) {
        let mut zone = Zone::clone(zone);
        let added = making.as_ref().map_or(Ok(()), |making| making.add_records(&mut zone));
        problems.extend(added.err());
        zones.push((zone, making.as_ref().map(Making::signing)));
    }
    if problems.is_empty() { Ok(zones) } else { Err(problems) }
}

/// Raises the serials of those of `kept` that changed under them; whether there are any.
fn raise_changed(kept: &mut [Arc<Zone>], contents: &[Option<Content>], last: &[SignedZone]) -> bool {
    let mut is_raised = false;
    for (zone, content) in kept.iter_mut().zip(contents) {
        let before = content_of(last, zone.apex());
        let Some((content, before)) = content.as_ref().zip(before) else { continue };
        if *content != **before && !is_newer(content.serial(), before.serial()) {
            Arc::make_mut(zone).set_serial(before.serial().wrapping_add(1));
            is_raised = true;
        }
    }
    is_raised
}

/// What secondaries got of the zone `apex`, where that is known.
fn content_of<'a>(zones: &'a [SignedZone], apex: &Name) -> Option<&'a Arc<Content>> {
    zones.iter().find(|zone| zone.apex == *apex)?.content.as_ref()
}

/// Signs on all cores what is not known yet: a first build finds out what that is, so that the one that counts finds all.
fn sign_ahead(
    zones: &[(Zone, Option<Signing>)],
    makings: &[Option<Making>],
    topology: &Topology,
) -> Result<(), Vec<Problem>> {
    let recorders = || makings.iter().flatten().map(|making| &making.recorder);
    recorders().for_each(|recorder| recorder.set(Mode::Listing));
    ZoneSet::build_signed(zones.to_vec(), topology)?;
    recorders().for_each(|recorder| recorder.set(Mode::Signing));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    for recorder in recorders() {
        let wanted = std::mem::take(&mut *recorder.wanted());
        thread::scope(|scope| {
            for part in wanted.chunks(wanted.len().div_ceil(threads).max(1)) {
                scope.spawn(|| {
                    step_back();
                    part.iter().for_each(|rrset| rrset.sign(recorder));
                });
            }
        });
        recorder.remember();
    }
    Ok(())
}

/// From here on this thread runs when no other has to, as those that serve do. Only for what is too much to be done at once:
/// steps of a roll-over must not wait for a machine that is busy.
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
    held: Option<Held>,
    records: KeyRecords,
    lifetime: Lifetime,
    recorder: Arc<Recorder>,
}

impl Making {
    fn begin(zone: &Zone, keys: &ZoneKeys, last: &[SignedZone], now: u64) -> Result<Self, Problem> {
        let apex = zone.apex().clone();
        let lifetime = Lifetime { now, validity_secs: keys.settings.validity_secs() };
        // One zone whose keys have run out must not keep the others from being signed.
        let held_signer = sign::hold(&keys.keys, now).and_then(|held| {
            let as_of = held.map_or(now, |held| held.as_of);
            Ok((held, as_of, sign::signer(&apex, &keys.keys, as_of, lifetime)?))
        });
        let (held, as_of, signer) = held_signer.map_err(|why| {
            let zone = apex.to_string();
            let zone = zone.trim_end_matches('.');
            Problem {
                file: keys.settings.keys.display().to_string(),
                line: None,
                key: format!("zone {zone}"),
                what: format!("{why}: expected one as `{}` makes", making(&keys.keys, zone)),
            }
        })?;
        let records = KeyRecords::new(&apex, &keys.keys, keys.settings.sync, as_of);
        let known = last.iter().find(|signed| signed.apex == apex).map(|signed| Arc::clone(&signed.signatures));
        let recorder = Arc::new(Recorder::new(signer, known.unwrap_or_default()));
        Ok(Self { apex, rrsets: zone.rrset_count(), keys: keys.clone(), held, records, lifetime, recorder })
    }

    /// Adds the records of the keys to `zone`.
    fn add_records(&self, zone: &mut Zone) -> Result<(), Problem> {
        let KeyRecords { dnskey, cds, cdnskey } = &self.records;
        let ttl = self.keys.settings.timing(0).dnskey_ttl;
        let csync = self.keys.settings.csync.as_ref().map(|csync| vec![csync.rdata(zone.serial())]);
        let sets = [(Rtype::DNSKEY, dnskey), (Rtype::CDS, cds), (Rtype::CDNSKEY, cdnskey)];
        let sets = sets.into_iter().chain(csync.as_ref().map(|csync| (Rtype::CSYNC, csync)));
        sets.into_iter().try_for_each(|(rtype, rdatas)| zone.add_key_records(rtype, ttl, rdatas))
    }

    /// About how many signatures have to be made.
    fn unknown(&self) -> usize {
        self.recorder.signer.unknown(&self.recorder.known.load(), self.rrsets)
    }

    fn signing(&self) -> Signing {
        let recorder = Arc::clone(&self.recorder);
        let sign: Sign = Arc::new(move |owner, rtype, ttl, rdatas| recorder.sign(owner, rtype, ttl, rdatas));
        Signing { denial: self.keys.settings.denial, sign, is_transferred: self.keys.is_transferred }
    }

    fn finish(self, content: Option<Content>, last: &[SignedZone]) -> Result<SignedZone, Problem> {
        let Self { apex, keys, held, lifetime, recorder, .. } = self;
        let signatures = recorder.close().ok_or_else(|| Problem {
            file: keys.settings.keys.display().to_string(),
            line: None,
            key: format!("zone {apex}"),
            what: "the library could not sign".to_owned(),
        })?;
        let earliest_expiration = signatures.earliest_expiration(lifetime.now);
        let content = content.map(|content| match content_of(last, &apex) {
            Some(before) if **before == content => Arc::clone(before),
            _ => Arc::new(content),
        });
        Ok(SignedZone { apex, keys, lifetime, held, signatures: Arc::new(signatures), earliest_expiration, content })
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
        // Some RRsets are part of several answers, and of what secondaries get.
        let recall = |fingerprint: &Fingerprint| {
            let fresh = locked(&self.fresh[fingerprint.shard(SHARDS)]).find(fingerprint).map(Box::from);
            fresh.or_else(|| known.find(fingerprint).map(Box::from))
        };
        let rrsigs = self.signer.sign_reusing(recall, owner, rtype, ttl, rdatas, keep);
        if rrsigs.len() < self.signer.signature_count(rtype) {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        rrsigs
    }

    fn wanted(&self) -> MutexGuard<'_, Vec<Wanted>> {
        locked(&self.wanted)
    }

    /// Keeps all that was signed so far for the next build, and nothing else.
    fn remember(&self) {
        self.known.store(Arc::new(self.take_fresh()));
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
