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

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use shared::problem::Problem;
use shared::topology::{Service, ServiceOutline};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::{error, info};

use super::Command;
use crate::journal::{JournalError, JournalFile};
use crate::reload::World;
use crate::update::journal::Entry;
use crate::update::{Access, Keys, Refusal, Standing, Update};
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
}

/// The journals, and with them the turn to change what is served.
pub(super) type SharedJournals = Arc<Mutex<Journals>>;

/// The journals that are open, one for each zone that has one.
#[derive(Debug, Default)]
pub(super) struct Journals(BTreeMap<Box<[u8]>, JournalFile>);

/// One message that is to be done, and has been signed with `key`.
struct Job {
    key: Name,
    peer: IpAddr,
    message: Vec<u8>,
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
    pub(super) fn new(journals: SharedJournals, commands: mpsc::Sender<Command>) -> (Self, Updater) {
        let (sender, jobs) = mpsc::channel(WAITING_MAX);
        (Self(sender), Updater { jobs, journals, commands })
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    /// Has `message` of `peer` done, which `key` has signed, and waits until it is served; SERVFAIL when too many wait.
    pub(super) async fn ask(&self, key: Name, peer: IpAddr, message: Vec<u8>) -> Rcode {
        let (done, is_done) = oneshot::channel();
        if self.0.try_send(Job { key, peer, message, done }).is_err() {
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
            let jobs = std::mem::take(&mut batch);
            let journals = Arc::clone(&self.journals).lock_owned().await;
            let (look, world) = oneshot::channel();
            if self.commands.send(Command::World(look)).await.is_err() {
                return;
            }
            let Ok(world) = world.await else { return };
            self.work(world, journals, jobs).await;
        }
    }

    async fn work(&self, world: Arc<World>, journals: OwnedMutexGuard<Journals>, jobs: Vec<Job>) {
        let mut journals = journals;
        let worked = spawn_blocking(move || {
            let worked = work(&world, &mut journals, &jobs);
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
        for (Job { key, peer, message, done }, verdict) in jobs.into_iter().zip(worked.verdicts) {
            drop(message);
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
            // Who asked may have gone.
            let _ = done.send(rcode);
        }
    }
}

/// Applies all `jobs` to the zones of `world` and writes what has changed; blocks.
fn work(world: &World, journals: &mut Journals, jobs: &[Job]) -> Worked {
    let mut zones: Vec<Zone> = world.kept.iter().map(|zone| Zone::clone(zone)).collect();
    let mut verdicts: Vec<Verdict> = jobs.iter().map(|job| apply(world, &mut zones, job)).collect();
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
        let changed = verdicts.iter_mut().filter(|verdict| matches!(verdict, Verdict::Changed(..)));
        changed.for_each(|verdict| *verdict = Verdict::Refused(Rcode::SERVFAIL));
    };
    let changed = entries.keys().map(|&at| (at, Arc::new(zones[at].clone())));
    let next = match world.with_zones(changed) {
        Ok(next) => next,
        Err(problems) => {
            problems.iter().for_each(|problem| fail(problem));
            return Worked { verdicts, world: None };
        }
    };
    match journals.append(world, &entries) {
        Ok(()) => Worked { verdicts, world: Some(next) },
        Err(error) => {
            fail(&error);
            Worked { verdicts, world: None }
        }
    }
}

/// Applies one update to its zone in `zones`, which stay as they are where it is refused.
fn apply(world: &World, zones: &mut [Zone], job: &Job) -> Verdict {
    let refused = |zone: Option<&Name>, refusal: &Refusal| {
        let (zone, rcode, key, peer) = (zone.map(ToString::to_string), refusal.rcode(), &job.key, &job.peer);
        info!(zone, %rcode, why = %refusal, %key, %peer, "update refused");
        Verdict::Refused(rcode)
    };
    let update = match Update::parse(&job.message) {
        Ok(update) => update,
        Err(refusal) => return refused(None, &refusal),
    };
    let apex = update.zone();
    let Some(at) = world.zones.position_of(apex) else { return Verdict::Refused(Rcode::NOTAUTH) };
    let policy = &world.settings.zones[at].updates;
    let Some(zone) = zones.get(at).filter(|_| !policy.rules.is_empty()) else {
        return refused(Some(apex), &Refusal::UnknownKey);
    };
    let is_signed = world.signed_zones.iter().any(|signed| signed.apex == *apex);
    let keys = if is_signed { Keys::Ours } else { Keys::Foreign };
    let access = Access { policy, key: &job.key, keys };
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

impl Journals {
    /// Opens the journals of `world`, which is about to be served, and closes all others. Where the file of a zone was
    /// edited, that is written down, so that the serial stays above those that were served.
    ///
    /// Fails with every one that cannot be written.
    pub(super) fn follow(&mut self, world: &World) -> Result<(), Vec<Problem>> {
        let (mut opened, mut problems) = (BTreeMap::new(), Vec::new());
        for zone in &world.journals {
            let known = self.0.get(zone.apex.as_wire()).is_some_and(|known| known.is(&zone.path, &zone.journal));
            if !known {
                // A lock on the same file would be in the way.
                self.0.retain(|_, file| file.path() != zone.path);
                match JournalFile::open(&zone.path, &zone.apex, &zone.journal) {
                    Ok(file) => _ = opened.insert(zone.apex.as_wire().into(), file),
                    Err(error) => problems.push(problem(&zone.path.display().to_string(), &error)),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.0.retain(|apex, _| world.journals.iter().any(|zone| zone.apex.as_wire() == &**apex));
        self.0.append(&mut opened);
        for zone in world.journals.iter().filter(|zone| zone.standing != Standing::AsServed) {
            let kept = world.zones.position_of(&zone.apex).and_then(|at| world.kept.get(at));
            let file = self.0.get_mut(zone.apex.as_wire());
            if let Some((kept, file)) = kept.zip(file) {
                let added = file.append(&[Entry::mark(kept)]);
                problems.extend(added.err().map(|error| problem(&zone.path.display().to_string(), &error)));
                if zone.standing == Standing::Edited {
                    let (zone, serial) = (kept.apex(), kept.serial());
                    info!(%zone, serial, "the zone file was edited: served with the updates over it");
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Adds `entries` of the zones of `world`, by position: all, or none.
    fn append(&mut self, world: &World, entries: &BTreeMap<usize, Vec<Entry>>) -> Result<(), JournalError> {
        let mut lens = Vec::new();
        let mut result = Ok(());
        for (at, entries) in entries {
            let file = world.kept.get(*at).and_then(|zone| self.0.get_mut(zone.apex().as_wire()));
            let Some(file) = file else {
                result = Err(JournalError::Broken);
                break;
            };
            lens.push((*at, file.len()));
            result = file.append(entries);
            if result.is_err() {
                break;
            }
        }
        for (at, len) in lens {
            if let Some(file) = self.0.get_mut(world.kept[at].apex().as_wire()) {
                match result {
                    Ok(()) => file.compact_if_long(),
                    Err(_) => file.cut(len),
                }
            }
        }
        result
    }
}

/// `error` as a mistake in the file.
fn problem(file: &str, error: &JournalError) -> Problem {
    let what = match error {
        JournalError::Io(error) => {
            format!(
                "cannot be written: {error}: expected a file in a folder that the user of this process may write to"
            )
        }
        error => error.to_string(),
    };
    Problem { file: file.to_owned(), line: None, key: String::new(), what }
}

/// Updates that wait: more would wait longer than clients do.
const WAITING_MAX: usize = 256;
/// Updates that are compiled and written together.
const BATCH_MAX: usize = 64;
