//! Updates (RFC 2136), one after the other: applied, written to the journal, served, and only then acknowledged.
//!
//! ```text
//! slow path ─► queue ─► batch ─► apply ─► compile ─► journal, one fsync a zone ─► writer swaps ─► answers
//!                                   all on a thread for blocking work
//! ```
//! One lock is held from the reading of what serves until the next is served: a reload takes it too, so that neither works
//! from what the other is about to replace.

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use shared::problem::Problem;
use shared::topology::{Service, ServiceOutline};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::{debug, error, info};

use super::Command;
use super::counters::SlowCounters;
use super::refusals::{Reason, Refusals, Refused};
use crate::journal::{Extent, JournalError, JournalFile};
use crate::reload::{JournaledZone, World, unix_secs};
use crate::update::journal::Entry;
use crate::update::{Access, Answered, Keys, Refusal, Standing, Update};
use crate::wire::{Name, Rcode};
use crate::zone::{Zone, ZoneSet};

/// Where updates are left to be done.
#[derive(Clone)]
pub(super) struct Updates(mpsc::Sender<Job>);

/// Does updates.
pub(super) struct Updater {
    jobs: mpsc::Receiver<Job>,
    journals: SharedJournals,
    commands: mpsc::Sender<Command>,
    counters: Arc<SlowCounters>,
    answered: Answered,
}

/// The journals, and with them the turn to change what is served.
pub(super) type SharedJournals = Arc<Mutex<Journals>>;

/// The journals that are open, one for each zone that has one.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// By the octets of the zone's name.
    files: BTreeMap<Box<[u8]>, JournalFile>,
    book: Arc<JournalBook>,
}

/// How much is in each journal, to show without waiting for who writes them.
#[derive(Debug, Default)]
pub(crate) struct JournalBook(std::sync::Mutex<Vec<JournalEntry>>);

/// The name of a zone, and how much is in its journal.
pub(crate) type JournalEntry = (String, Extent);

/// A message that is to be done, and has been signed.
pub(super) struct UpdateRequest {
    /// Who has signed it.
    pub(super) key: Name,
    /// What it is signed with.
    pub(super) mac: Box<[u8]>,
    /// The last second since 1970 in which that holds.
    pub(super) end: u64,
    pub(super) peer: IpAddr,
    /// Without its TSIG record.
    pub(super) message: Vec<u8>,
}

struct Job {
    request: UpdateRequest,
    done: oneshot::Sender<Rcode>,
}

/// What one job came to.
enum Verdict {
    /// To be acknowledged once it is served: the position of the zone, and what changed.
    Changed(usize, Entry),
    /// Nothing to do.
    Unchanged,
    /// No.
    Refused(Rcode),
}

/// What a batch came to.
struct Worked {
    verdicts: Vec<Verdict>,
    /// What is to be served; `None`: what is.
    world: Option<World>,
}

impl Updates {
    /// The queue, and who does what stands in it.
    pub(super) fn new(
        journals: SharedJournals,
        commands: mpsc::Sender<Command>,
        counters: Arc<SlowCounters>,
    ) -> (Self, Updater) {
        let (sender, jobs) = mpsc::channel(WAITING_MAX);
        (Self(sender), Updater { jobs, journals, commands, counters, answered: Answered::default() })
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    /// Has `request` done and waits until it is served; SERVFAIL when too many wait. A copy of one that was done is
    /// answered as that was.
    pub(super) async fn ask(&self, request: UpdateRequest) -> Rcode {
        let (done, is_done) = oneshot::channel();
        if self.0.try_send(Job { request, done }).is_err() {
            return Rcode::SERVFAIL;
        }
        is_done.await.unwrap_or(Rcode::SERVFAIL)
    }
}

impl Updater {
    /// Runs until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.jobs.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let (jobs, copies) = self.first_of_each(batch.drain(..));
            if jobs.is_empty() {
                self.answer_copies(copies);
                continue;
            }
            let journals = Arc::clone(&self.journals).lock_owned().await;
            let (look, world) = oneshot::channel();
            if self.commands.send(Command::World(look)).await.is_err() {
                return;
            }
            let Ok(world) = world.await else { return };
            self.work(world, journals, jobs).await;
            self.answer_copies(copies);
        }
    }

    /// Those of `jobs` that were not asked for before, each once, and copies of them.
    ///
    /// One whose signature has ended while it waited is with the copies: it may be one, which nobody remembers any more.
    fn first_of_each(&self, jobs: impl Iterator<Item = Job>) -> (Vec<Job>, Vec<Job>) {
        let now = unix_secs();
        let mut seen = HashSet::new();
        jobs.partition(|Job { request: UpdateRequest { key, mac, end, .. }, .. }| {
            let is_new = *end >= now && self.answered.recall(key, mac, now).is_none();
            is_new && seen.insert((key.clone(), mac.clone()))
        })
    }

    /// Answers what was done already, or could not be.
    fn answer_copies(&self, copies: Vec<Job>) {
        let now = unix_secs();
        for Job { request: UpdateRequest { key, mac, peer, .. }, done } in copies {
            let rcode = self.answered.recall(&key, &mac, now).unwrap_or(Rcode::SERVFAIL);
            debug!(%key, %peer, %rcode, "not done: the same update again, or its signature has ended");
            // Who asked may have gone.
            let _ = done.send(rcode);
        }
    }

    async fn work(&mut self, world: Arc<World>, journals: OwnedMutexGuard<Journals>, jobs: Vec<Job>) {
        let mut journals = journals;
        let counters = Arc::clone(&self.counters);
        let worked = spawn_blocking(move || {
            let worked = work(&world, &mut journals, &jobs, &counters.refusals);
            (worked, journals, jobs)
        });
        let (worked, journals, jobs) = match worked.await {
            Ok(done) => done,
            // Who asks is told by the end of the queue.
            Err(error) => return error!(%error, "an update broke off: a bug, please report it"),
        };
        if let Some(world) = worked.world {
            let (served, is_served) = oneshot::channel();
            if self.commands.send(Command::Updated(Box::new(world), served)).await.is_err() || is_served.await.is_err()
            {
                return;
            }
        }
        drop(journals);
        let now = unix_secs();
        for (Job { request, done }, verdict) in jobs.into_iter().zip(worked.verdicts) {
            let UpdateRequest { key, mac, end, peer, .. } = request;
            let rcode = match verdict {
                Verdict::Changed(_, Entry { delta, .. }) => {
                    let zone = delta.added.first().or(delta.removed.first()).map(|soa| soa.owner.to_string());
                    let (removed, added) = (delta.removed.len(), delta.added.len());
                    info!(zone, serial = delta.to, from = delta.from, %key, %peer, removed, added, "updated");
                    Rcode::NOERROR
                }
                Verdict::Unchanged => Rcode::NOERROR,
                Verdict::Refused(rcode) => rcode,
            };
            self.answered.remember(&key, &mac, rcode, end, now);
            // Who asked may have gone.
            let _ = done.send(rcode);
        }
    }
}

/// Applies all `jobs` to the zones of `world` and writes what has changed; blocks.
fn work(world: &World, journals: &mut Journals, jobs: &[Job], refusals: &Refusals) -> Worked {
    let mut zones: Vec<Zone> = world.kept.iter().map(|zone| Zone::clone(zone)).collect();
    let mut verdicts: Vec<Verdict> = jobs.iter().map(|job| apply(world, &mut zones, &job.request, refusals)).collect();
    let mut entries: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    for verdict in &verdicts {
        if let Verdict::Changed(at, entry) = verdict {
            entries.entry(*at).or_default().push(entry.clone());
        }
    }
    if entries.is_empty() {
        return Worked { verdicts, world: None };
    }
    let mut fail = |why: &dyn std::fmt::Display| {
        error!(%why, "updates failed: nothing has changed");
        // Those behind the first that would have changed something were judged by what it has made, which is not served.
        let first = verdicts.iter().position(|verdict| matches!(verdict, Verdict::Changed(..))).unwrap_or_default();
        verdicts[first..].fill_with(|| Verdict::Refused(Rcode::SERVFAIL));
    };
    let changed = entries.keys().map(|&at| (at, Arc::new(zones[at].clone())));
    let next = match world.with_zones(changed) {
        Ok(next) => next,
        Err(problems) => {
            problems.iter().for_each(|problem| fail(problem));
            return Worked { verdicts, world: None };
        }
    };
    for (at, mark) in marks(&zones, &next.kept) {
        entries.entry(at).or_default().push(mark);
    }
    match journals.append(world, &entries) {
        Ok(()) => Worked { verdicts, world: Some(next) },
        Err(error) => {
            fail(&error);
            Worked { verdicts, world: None }
        }
    }
}

/// Applies one update to its zone in `zones`, which stay as they are where it is refused.
fn apply(world: &World, zones: &mut [Zone], request: &UpdateRequest, refusals: &Refusals) -> Verdict {
    let refused = |zone: Option<&Name>, refusal: &Refusal| {
        let reason = match refusal {
            Refusal::Invalid(_) => Some(Reason::InvalidUpdate),
            refusal => refusal.is_forbidden().then_some(Reason::ForbiddenUpdate),
        };
        if let Some(reason) = reason {
            let (client, zone, key) = (request.peer, zone.cloned(), Some(&request.key));
            refusals.note(&Refused { reason, client, zone, key, why: refusal });
            return Verdict::Refused(refusal.rcode());
        }
        let (zone, rcode, key, peer) = (zone.map(ToString::to_string), refusal.rcode(), &request.key, &request.peer);
        info!(zone, %rcode, why = %refusal, %key, %peer, "update refused");
        Verdict::Refused(rcode)
    };
    let update = match Update::parse(&request.message) {
        Ok(update) => update,
        Err(refusal) => return refused(None, &refusal),
    };
    let apex = update.zone();
    let Some(at) = world.zones.position_of(apex) else { return Verdict::Refused(Rcode::NOTAUTH) };
    let policy = &world.settings.zones[at].updates;
    let Some(zone) = zones.get(at).filter(|_| !policy.rules.is_empty()) else {
        return refused(Some(apex), &Refusal::UnknownKey);
    };
    let signed = world.signed_zones.iter().find(|signed| signed.apex == *apex);
    let keys = match signed.map(|signed| &signed.keys.settings.csync) {
        Some(Some(_)) => Keys::OursWithCsync,
        Some(None) => Keys::Ours,
        None => Keys::Foreign,
    };
    let access = Access { policy, key: &request.key, keys };
    match update.apply(zone, &access) {
        Ok(None) => Verdict::Unchanged,
        Ok(Some((next, delta))) => {
            let digest = next.digest();
            let before = std::mem::replace(&mut zones[at], next);
            if let Some(problem) = misfit(world, zones) {
                zones[at] = before;
                return refused(Some(apex), &Refusal::Invalid(problem));
            }
            Verdict::Changed(at, Entry { delta, digest })
        }
        Err(refusal) => refused(Some(apex), &refusal),
    }
}

/// What does not go together in `zones`.
fn misfit(world: &World, zones: &[Zone]) -> Option<Problem> {
    let services: Vec<ServiceOutline> = world.settings.topology.services.iter().map(Service::outline).collect();
    ZoneSet::check(zones, &services).into_iter().next()
}

impl JournalBook {
    /// That of every zone that has a journal.
    pub(crate) fn extents(&self) -> Vec<JournalEntry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Journals {
    /// Where they are shown.
    pub(super) fn book(&self) -> Arc<JournalBook> {
        Arc::clone(&self.book)
    }

    fn show(&self) {
        let extents = self.files.values().map(|file| (file.apex().to_string(), file.extent())).collect();
        *self.book.0.lock().unwrap_or_else(PoisonError::into_inner) = extents;
    }

    /// Opens the journals of `world`, which is about to be served, and closes all others. Where the file of a zone was
    /// edited, that is written down, so that the serial stays above those that were served.
    ///
    /// Fails with every one that cannot be written; then all is as it was before.
    pub(super) fn follow(&mut self, world: &World) -> Result<(), Vec<Problem>> {
        let (mut opened, mut problems) = (Self::default(), Vec::new());
        for zone in world.journals.iter().filter(|zone| !self.holds(zone)) {
            match self.open(zone) {
                Ok(file) => _ = opened.files.insert(zone.apex.as_wire().into(), file),
                Err(error) => problems.push(problem(zone, &error)),
            }
        }
        let mut marked = Vec::new();
        for zone in world.journals.iter().filter(|zone| zone.standing != Standing::AsServed) {
            let kept = world.zones.position_of(&zone.apex).and_then(|at| world.kept.get(at));
            let file = opened.file(zone).or_else(|| self.file(zone));
            let Some((kept, file)) = kept.zip(file).filter(|_| problems.is_empty()) else { continue };
            let extent = file.extent();
            match file.append(&[Entry::mark(kept)]) {
                Ok(()) => marked.push((zone, extent, kept.serial())),
                Err(error) => problems.push(problem(zone, &error)),
            }
        }
        if !problems.is_empty() {
            for (zone, extent, _) in marked {
                if let Some(file) = opened.file(zone).or_else(|| self.file(zone)) {
                    file.cut(extent);
                }
            }
            opened.remove_made(world);
            return Err(problems);
        }
        self.files.retain(|apex, _| world.journals.iter().any(|zone| zone.apex.as_wire() == &**apex));
        self.files.append(&mut opened.files);
        for (JournaledZone { apex, .. }, _, serial) in
            marked.into_iter().filter(|(zone, ..)| zone.standing == Standing::Edited)
        {
            info!(zone = %apex, serial, "the zone file was edited: served with the updates over it");
        }
        self.show();
        Ok(())
    }

    fn file(&mut self, zone: &JournaledZone) -> Option<&mut JournalFile> {
        self.files.get_mut(zone.apex.as_wire())
    }

    /// Whether the journal of `zone` is open, and is what was read.
    fn holds(&self, zone: &JournaledZone) -> bool {
        self.files.get(zone.apex.as_wire()).is_some_and(|known| known.is(&zone.path, &zone.journal))
    }

    /// Opens the journal of `zone`. The one that is open stays, for it may have to go on; where both are one file, they
    /// share its lock.
    fn open(&self, zone: &JournaledZone) -> Result<JournalFile, JournalError> {
        let JournaledZone { apex, path, journal, .. } = zone;
        match self.files.values().find(|file| journal.len > 0 && file.is_at(path)) {
            Some(file) => file.open_again(path, apex, journal),
            None => JournalFile::open(path, apex, journal),
        }
    }

    /// Removes the files that were not there when `world` was read.
    fn remove_made(self, world: &World) {
        let is_made = |apex: &[u8]| {
            let zone = world.journals.iter().find(|zone| zone.apex.as_wire() == apex);
            zone.is_some_and(|zone| zone.journal.len + zone.journal.torn == 0)
        };
        self.files.into_iter().filter(|(apex, _)| is_made(apex)).for_each(|(_, file)| file.remove());
    }

    /// Writes down the serials that signing has raised from those of `base` to those of `world`, which is about to be served
    /// in its place. Fails, and has changed nothing, when that cannot be written.
    pub(super) fn note_raised(&mut self, base: &World, world: &World) -> Result<(), Vec<Problem>> {
        let entries: BTreeMap<usize, Vec<Entry>> =
            marks(&base.kept, &world.kept).map(|(at, mark)| (at, vec![mark])).collect();
        self.append(world, &entries).map_err(|error| {
            let is_meant = |zone: &&JournaledZone| entries.keys().any(|&at| *world.kept[at].apex() == zone.apex);
            world.journals.iter().filter(is_meant).map(|zone| problem(zone, &error)).collect()
        })
    }

    /// Adds `entries` of the zones of `world`, by position: all, or none.
    fn append(&mut self, world: &World, entries: &BTreeMap<usize, Vec<Entry>>) -> Result<(), JournalError> {
        let mut extents = Vec::new();
        let mut result = Ok(());
        for (at, entries) in entries {
            let file = world.kept.get(*at).and_then(|zone| self.files.get_mut(zone.apex().as_wire()));
            let Some(file) = file else {
                result = Err(JournalError::Broken);
                break;
            };
            extents.push((*at, file.extent()));
            result = file.append(entries);
            if result.is_err() {
                break;
            }
        }
        for (at, extent) in extents {
            let apex = world.kept[at].apex();
            let zone = world.journals.iter().find(|zone| zone.apex == *apex);
            if let Some((zone, file)) = zone.zip(self.files.get_mut(apex.as_wire())) {
                match result {
                    Ok(()) => file.compact_if_long(|| zone.read_file(&world.settings)),
                    Err(_) => file.cut(extent),
                }
            }
        }
        self.show();
        result
    }
}

/// Marks of those of `after` that have another serial than `before`, by position.
fn marks<'a>(before: &'a [impl Borrow<Zone>], after: &'a [Arc<Zone>]) -> impl Iterator<Item = (usize, Entry)> + 'a {
    let pairs = before.iter().map(Borrow::borrow).zip(after).enumerate();
    let raised = pairs.filter(|(_, (before, after))| before.serial() != after.serial());
    raised.map(|(at, (before, after))| {
        let (zone, serial, from) = (after.apex(), after.serial(), before.serial());
        info!(%zone, serial, from, "the serial is raised: secondaries get new signatures");
        (at, Entry::mark(after))
    })
}

/// `error` as a mistake in the journal of `zone`.
fn problem(zone: &JournaledZone, error: &JournalError) -> Problem {
    let what = match error {
        JournalError::Io(error) => {
            format!(
                "cannot be written: {error}: expected a file in a folder that the user of this process may write to"
            )
        }
        error => error.to_string(),
    };
    Problem { file: zone.path.display().to_string(), line: None, key: String::new(), what }
}

/// Updates that wait: more would wait longer than clients do.
const WAITING_MAX: usize = 256;
/// Updates that are compiled and written together.
const BATCH_MAX: usize = 64;
