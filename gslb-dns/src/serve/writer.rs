//! The one place where anything changes: events come in, one after the other; a new snapshot goes out.
//!
//! ```text
//! probes ──┐
//! commands ┼─► State::apply ─► changed? ─► Live ─► one ArcSwap
//! ticks ───┘        └─► log lines, state file, who is probed how often
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use shared::name::{ProxyName, RegionName};
use shared::problem::Problem;
use shared::state::{Changes, Event, ProbeFailure, ProxyFacts, Refused, Saved, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::clock::Clock;
use super::counters::CounterBook;
use super::files::SignedAgain;
use super::start::log_warnings;
use super::{Live, report};
use crate::answer::Snapshot;
use crate::probe::{Probed, Prober};
use crate::reload::World;
use crate::store::StateFile;

/// What the writer is told, besides what probes find.
pub(crate) enum Command {
    /// An operator's event; the answer says whether it was done.
    Apply(Event, oneshot::Sender<Result<(), Refused>>),
    /// The files were read again.
    Reloaded(Box<Result<World, Vec<Problem>>>),
    /// Somebody wants to change the zones of what is in force, and has the turn to do so.
    World(oneshot::Sender<Arc<World>>),
    /// The same files, whose zones were updated; answered once that is served.
    Updated(Box<World>, oneshot::Sender<()>),
    /// Zones were signed again.
    SignedAgain(Box<SignedAgain>),
    /// Somebody wants to see everything.
    Look(oneshot::Sender<Look>),
    /// Nothing comes after this; answered when the state is saved.
    Stop(oneshot::Sender<()>),
}

/// Everything as it stands at one moment, to show.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Health, verdicts, overrides.
    pub(crate) state: State,
    /// What serves.
    pub(crate) live: Arc<Live>,
    /// How loading went.
    pub(crate) reloads: Reloads,
}

/// How loading of the files went so far.
#[derive(Clone, Debug)]
pub(crate) struct Reloads {
    /// Counts what was taken into service, from 1.
    pub(crate) generation: u64,
    /// When the present one was.
    pub(crate) since: Timestamp,
    /// Reloads that were refused.
    pub(crate) failures: u64,
    /// The last attempt, when it was refused: when, and every mistake.
    pub(crate) failure: Option<(Timestamp, Arc<[Problem]>)>,
}

impl Reloads {
    /// The start was the first load.
    pub(super) fn first() -> Self {
        Self { generation: 1, since: Timestamp::now(), failures: 0, failure: None }
    }
}

/// Owns the state.
pub(super) struct Writer {
    pub(super) state: State,
    pub(super) world: Arc<World>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) clock: Clock,
    pub(super) prober: Prober,
    pub(super) counters: Arc<CounterBook>,
    pub(super) store: Option<StateFile>,
    pub(super) reloads: Reloads,
    /// Shows the files behind what serves.
    pub(super) served: watch::Sender<Arc<World>>,
    /// Turns true when the first probe round is over.
    pub(super) is_ready: watch::Sender<bool>,
    /// What happened since the last publication.
    pub(super) pending: Pending,
}

/// What a burst of events asks for once it is over.
#[derive(Default)]
pub(super) struct Pending {
    is_view_changed: bool,
    /// Regions of which something was decided; `None` in it stands for all.
    touched: BTreeSet<Option<RegionName>>,
    /// Who waits until it is served.
    waiting: Vec<oneshot::Sender<()>>,
    save_due: Option<Instant>,
    saving: Option<JoinHandle<()>>,
}

impl Writer {
    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut probes: mpsc::Receiver<Probed>, mut commands: mpsc::Receiver<Command>) {
        self.prober.follow(&self.world.settings.topology);
        self.pending.touched.insert(None);
        // Where there is nothing to probe the first round is over already.
        self.publish();
        let mut next_tick_at = Instant::now();
        loop {
            let tick = self.state.next_tick().map(|due| Instant::from_std(self.clock.instant(due)).max(next_tick_at));
            tokio::select! {
                Some(probed) = probes.recv() => {
                    self.take_probe(probed);
                    // A burst is published once.
                    for _ in 0..BURST_MAX {
                        let Ok(probed) = probes.try_recv() else { break };
                        self.take_probe(probed);
                    }
                }
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => {
                        self.save_at_last().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.take_command(command),
                    None => return,
                },
                () = sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some() => {
                    next_tick_at = Instant::now() + TICK_PAUSE;
                    self.apply_quietly(Event::Tick);
                }
                () = sleep_until(self.pending.save_due.unwrap_or_else(Instant::now)), if self.pending.save_due.is_some() => {
                    self.save();
                }
            }
            self.publish();
        }
    }

    fn take_probe(&mut self, probed: Probed) {
        let Probed { region, proxy, outcome } = probed;
        self.pending.touched.insert(Some(region.clone()));
        let before = self.health(&region, &proxy);
        let event = Event::Probed { region: region.clone(), proxy: proxy.clone(), outcome };
        // A probe is no operator's event, so that it is never refused.
        if let Ok(changes) = self.state.apply(event, self.clock.now()) {
            let after = self.health(&region, &proxy);
            if before != after {
                report::log_proxy(&region, &proxy, after, self.failure(&region, &proxy));
            }
            self.note(changes);
        }
    }

    fn health(&self, region: &RegionName, proxy: &ProxyName) -> Option<bool> {
        self.facts(region, proxy)?.health.is_up()
    }

    fn failure(&self, region: &RegionName, proxy: &ProxyName) -> Option<&ProbeFailure> {
        self.facts(region, proxy)?.failure.as_ref()
    }

    fn facts(&self, region: &RegionName, proxy: &ProxyName) -> Option<&ProxyFacts> {
        let (_, proxies) = self.state.proxies().find(|(name, _)| *name == region)?;
        proxies.iter().find(|facts| facts.proxy == *proxy)
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Apply(event, answer) => {
                let line = report::command_line(&event);
                let result = self.state.apply(event, self.clock.now());
                let result = result.map(|changes| {
                    info!(override = line, "override by an operator");
                    self.pending.touched.insert(None);
                    self.pending.save_due = Some(Instant::now());
                    self.note(changes);
                });
                // Who asked may have gone; what was done is done.
                let _ = answer.send(result);
            }
            Command::Reloaded(result) => match *result {
                Ok(world) => self.take_world(world),
                Err(problems) => self.refuse_world(problems),
            },
            Command::World(answer) => {
                // Who asked may have gone.
                let _ = answer.send(Arc::clone(&self.world));
            }
            Command::Updated(world, served) => {
                report::log_held(&self.world, &world);
                self.world = Arc::new(*world);
                self.pending.is_view_changed = true;
                self.pending.waiting.push(served);
            }
            Command::SignedAgain(signed) => self.take_signatures(*signed),
            Command::Look(answer) => {
                let look =
                    Look { state: self.state.clone(), live: self.live.load_full(), reloads: self.reloads.clone() };
                let _ = answer.send(look);
            }
            // Taken by the loop itself.
            Command::Stop(_) => {}
        }
    }

    fn take_world(&mut self, world: World) {
        let keys = world.settings.server.differing_keys(&self.world.settings.server);
        if !keys.is_empty() {
            let keys = keys.join(", ");
            warn!(keys, "these keys of [server] take a restart to change; the old ones stay in force");
        }
        log_warnings(&world);
        report::log_held(&self.world, &world);
        self.world = Arc::new(world);
        let topology = Arc::clone(&self.world.settings.topology);
        self.prober.follow(&topology);
        self.reloads = Reloads {
            generation: self.reloads.generation + 1,
            since: Timestamp::now(),
            failure: None,
            ..self.reloads.clone()
        };
        info!(generation = self.reloads.generation, hash = format!("{:016x}", self.world.hash), "reloaded");
        self.pending.touched.insert(None);
        self.apply_quietly(Event::Reload(topology));
        // The zones may have changed where the health has not.
        self.pending.is_view_changed = true;
    }

    /// What was made from a world that serves no more is let go: it comes again from the one that does.
    fn take_signatures(&mut self, signed: SignedAgain) {
        let SignedAgain { base, world, done } = signed;
        match world {
            Ok(world) if Arc::ptr_eq(&base, &self.world) => {
                report::log_held(&base, &world);
                self.world = Arc::new(world);
                self.pending.is_view_changed = true;
                self.publish();
                report::log_signed(&self.world);
            }
            Ok(_) => {}
            Err(problems) => {
                for problem in &problems {
                    error!(%problem, "a zone cannot be signed again: what was signed before serves on until it expires");
                }
            }
        }
        // Who waits for it may be gone.
        let _ = done.send(());
    }

    fn refuse_world(&mut self, problems: Vec<Problem>) {
        for problem in &problems {
            error!(%problem, "mistake in the files");
        }
        error!(mistakes = problems.len(), "reload refused: what served before serves on");
        self.reloads.failures += 1;
        self.reloads.failure = Some((Timestamp::now(), problems.into()));
    }

    fn apply_quietly(&mut self, event: Event) {
        self.pending.touched.insert(None);
        if let Ok(changes) = self.state.apply(event, self.clock.now()) {
            self.note(changes);
        }
    }

    fn note(&mut self, changes: Changes) {
        report::log(&changes, &self.clock);
        self.pending.is_view_changed |= changes.is_view_changed;
        if changes.is_view_changed && self.pending.save_due.is_none() {
            self.pending.save_due = Some(Instant::now() + SAVE_PAUSE);
        }
    }

    /// Ends a burst: what changed is served from here on.
    fn publish(&mut self) {
        if std::mem::take(&mut self.pending.is_view_changed) {
            self.live.store(Arc::new(Live::new(&self.world, &self.state, &self.counters)));
            // Not before: who is told that a zone has changed asks for it at once.
            self.served.send_if_modified(|served| {
                let is_other = !Arc::ptr_eq(served, &self.world);
                *served = Arc::clone(&self.world);
                is_other
            });
        }
        for waiting in self.pending.waiting.drain(..) {
            // Who waited may have gone.
            let _ = waiting.send(());
        }
        let touched = std::mem::take(&mut self.pending.touched);
        if !touched.is_empty() {
            self.set_deciding(&touched);
        }
        if !*self.is_ready.borrow() && self.is_first_round_over() {
            self.is_ready.send_replace(true);
        }
    }

    fn set_deciding(&self, touched: &BTreeSet<Option<RegionName>>) {
        let all = touched.contains(&None);
        for region in &self.world.settings.topology.regions {
            if all || touched.contains(&Some(region.name.clone())) {
                self.prober.set_deciding(&region.name, self.state.is_deciding(&region.name));
            }
        }
    }

    /// Verdicts that were restored are no answer yet to how things are now.
    fn is_first_round_over(&self) -> bool {
        self.state.is_settled() && self.state.proxies().flat_map(|(_, proxies)| proxies).all(|p| p.probed.is_some())
    }

    /// Saves beside the loop: a slow disk must not delay a failover.
    fn save(&mut self) {
        let is_saving = self.pending.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        self.pending.save_due = is_saving.then(|| Instant::now() + SAVE_PAUSE);
        if !is_saving && let Some(store) = self.store.clone() {
            let saved = self.state.save(self.clock.now());
            self.pending.saving = Some(tokio::task::spawn_blocking(move || write(&store, saved)));
        }
    }

    async fn save_at_last(&mut self) {
        if let Some(saving) = self.pending.saving.take() {
            // What it could not write it has logged.
            let _ = saving.await;
        }
        if let Some(store) = &self.store {
            write(store, self.state.save(self.clock.now()));
        }
    }
}

fn write(store: &StateFile, saved: Saved) {
    if let Err(error) = store.write(saved, Timestamp::now()) {
        let path = store.path().display();
        warn!(%path, %error, "cannot save the state: verdicts would not survive a restart");
    }
}

impl Live {
    /// What `world` and `state` say together; `state` has the topology of `world`.
    pub(super) fn new(world: &Arc<World>, state: &State, counters: &CounterBook) -> Self {
        let snapshot = Snapshot::new(Arc::clone(&world.zones), Arc::clone(&world.geo), state.view());
        Self {
            snapshot: snapshot.with_cookies(world.cookies).with_identity(Arc::clone(&world.settings.server.identity)),
            world: Arc::clone(world),
            region_slots: counters.region_slots(state.topology()),
        }
    }
}

/// A tick that finds nothing to do yet, because health must be known first, must not turn the loop into a busy one.
const TICK_PAUSE: Duration = Duration::from_millis(10);
/// Probes that are taken in before what they changed is served.
const BURST_MAX: usize = 1024;
/// A state file is not written more often than this, save at an operator's word.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
