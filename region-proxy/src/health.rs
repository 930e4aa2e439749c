//! How servers are found to be: checked, asked by their agents, and observed in what they do for clients.
//!
//! One task checks a server, one asks its agent, never two at a time of either; one task judges a service by its traffic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::moment::Moment;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::balance::{Health, Mode};
use crate::config::{AgentCheck, Check, Observe, Then};
use crate::live::{Change, Proxy, Server, Service};
use crate::standing::agent::Line;
use crate::standing::traffic::Judge;

mod agent;
mod probe;

/// The running checks of what runs; they end when this is dropped.
#[derive(Debug)]
pub struct Checks {
    services: Vec<(Arc<Service>, JoinSet<()>)>,
    turns: Arc<Semaphore>,
}

/// The end of the first round of checks.
#[derive(Debug)]
pub struct FirstRound(mpsc::Receiver<()>);

impl Checks {
    /// Starts to check every server of what `proxy` runs: those that were never checked at once, the others when they are
    /// due. Checks of services that run already go on, others end.
    pub fn start(proxy: &Arc<Proxy>) -> FirstRound {
        let mut checks = proxy.checks();
        let before = checks.take();
        let turns = before.as_ref().map_or_else(|| Arc::new(Semaphore::new(AT_A_TIME)), |old| Arc::clone(&old.turns));
        let key = |service: &Arc<Service>| Arc::as_ptr(service).addr();
        let old = before.into_iter().flat_map(|old| old.services);
        let mut old: HashMap<_, _> = old.map(|(service, tasks)| (key(&service), tasks)).collect();
        let (done, first_round) = mpsc::channel(1);
        let mut services = Vec::new();
        for service in proxy.live.load().services() {
            let tasks = old.remove(&key(service)).unwrap_or_else(|| start_service(proxy, service, &turns, &done));
            services.push((Arc::clone(service), tasks));
        }
        *checks = Some(Self { services, turns });
        FirstRound(first_round)
    }

    /// Does the same where checks run already.
    pub fn start_again(proxy: &Arc<Proxy>) {
        let is_running = proxy.checks().is_some();
        if is_running {
            Self::start(proxy);
        }
    }
}

fn start_service(
    proxy: &Arc<Proxy>,
    service: &Arc<Service>,
    turns: &Arc<Semaphore>,
    done: &mpsc::Sender<()>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for server in &service.servers {
        let of = || Of { proxy: Arc::clone(proxy), service: Arc::clone(service), server: Arc::clone(server) };
        tasks.spawn(of().check_for_ever(Arc::clone(turns), done.clone()));
        if let Some(agent) = service.config.agent.clone() {
            tasks.spawn(of().ask_for_ever(agent, done.clone()));
        }
    }
    if let Some(observe) = service.config.observe {
        tasks.spawn(judge_for_ever(Arc::clone(proxy), Arc::clone(service), observe));
    }
    tasks
}

impl FirstRound {
    /// Waits until every server was checked once, and its agent asked; each check ends by its time limit.
    pub async fn end(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Whom a task is about.
struct Of {
    proxy: Arc<Proxy>,
    service: Arc<Service>,
    server: Arc<Server>,
}

impl Of {
    async fn check_for_ever(self, turns: Arc<Semaphore>, first_done: mpsc::Sender<()>) {
        let check = &self.service.config.check;
        let mut first_done = Some(first_done);
        loop {
            while self.server.standing().mode == Mode::Maintenance {
                // It is to be left alone, and nobody waits for it.
                first_done = None;
                self.server.asked_for().await;
            }
            let now = Instant::now();
            let due = self.server.due().map_or(now, |due| due.min(now + check.interval));
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.server.asked_for() => {}
            }
            if self.server.standing().mode == Mode::Maintenance {
                continue;
            }
            let Ok(turn) = turns.acquire().await else { return };
            let (started, is_first) = (Instant::now(), self.server.due().is_none());
            let outcome = probe::check(&self.service, &self.server).await;
            drop(turn);
            self.tell(self.server.observe(&outcome, check, Timestamp::now()));
            // What began together goes apart.
            let share = if is_first { 0.2 + 0.8 * fastrand::f64() } else { 0.9 + 0.2 * fastrand::f64() };
            self.server.set_due(started + pause(check, &self.server).mul_f64(share));
            first_done = first_done.and(None);
        }
    }

    async fn ask_for_ever(self, check: AgentCheck, first_done: mpsc::Sender<()>) {
        let mut first_done = Some(first_done);
        loop {
            let started = Instant::now();
            let outcome = agent::ask(&check, self.server.address).await;
            self.note_silence(&outcome);
            self.tell(self.server.hear(&outcome, Timestamp::now()));
            first_done = first_done.and(None);
            sleep_until(started + check.interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
    }

    /// One line when an agent begins to be silent, not one for each time.
    fn note_silence(&self, outcome: &Result<Line, String>) {
        let was_silent = self.server.last_agent().is_some_and(|told| !told.is_ok);
        let (service, server) = (self.service.name.as_str(), self.server.name.as_str());
        match outcome {
            Err(reason) if !was_silent => {
                tracing::warn!(service, server, reason, "its agent says nothing: what it said before holds");
            }
            Ok(_) if was_silent => tracing::info!(service, server, "its agent is heard again"),
            _ => {}
        }
    }

    fn tell(&self, change: Option<Change>) {
        if let Some(change) = change {
            self.proxy.note_change();
            log(&self.service, &self.server, &change);
        }
    }
}

/// From the start of one check to that of the next.
fn pause(check: &Check, server: &Server) -> Duration {
    match server.checked() {
        (_, true) | (None, _) => check.fast_interval,
        (Some(false), _) => check.down_interval,
        (Some(true), _) => check.interval,
    }
}

/// Judges the servers of `service` by what threads have seen of them.
async fn judge_for_ever(proxy: Arc<Proxy>, service: Arc<Service>, observe: Observe) {
    let started = Instant::now();
    let mut judges: Vec<Judge> = service.servers.iter().map(|_| Judge::default()).collect();
    // What was counted before, by other settings, is not judged by these.
    for (judge, server) in judges.iter_mut().zip(&service.servers) {
        judge.look(&server.seen.counted(), &observe.limits, Moment::START);
        judge.forget();
    }
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Moment::from_start(started.elapsed());
        for (judge, server) in judges.iter_mut().zip(&service.servers) {
            let verdict = judge.look(&server.seen.counted(), &observe.limits, now);
            if server.checked().0 == Some(false) {
                judge.forget();
                continue;
            }
            let Some(verdict) = verdict else { continue };
            let of = Of { proxy: Arc::clone(&proxy), service: Arc::clone(&service), server: Arc::clone(server) };
            match observe.then {
                Then::Down => of.tell(server.convict(verdict.to_string(), Timestamp::now())),
                Then::Check => {
                    if let Some(left_out) = server.verdicts.pass(std::time::Instant::now()) {
                        let (service, server) = (service.name.as_str(), server.name.as_str());
                        tracing::warn!(service, server, reason = %verdict, left_out, "checked at once");
                    }
                }
            }
            server.check_now();
        }
    }
}

/// Tells of a change of how `server` stands.
pub fn log(service: &Service, server: &Server, change: &Change) {
    let Change { from, to, since, reason } = change;
    let (service, server) = (service.name.as_str(), server.name.as_str());
    if from.health != to.health {
        let (from, to, since) = (word(from.health), word(to.health), format!("{since:.3}"));
        match change.to.health {
            Health::Up => tracing::info!(service, server, from, to, reason, from_since = since, "server is up"),
            Health::Down => tracing::warn!(service, server, from, to, reason, from_since = since, "server is down"),
            Health::Unknown => {
                tracing::info!(service, server, from, to, reason, from_since = since, "server is unknown")
            }
        }
    }
    if from.mode != to.mode {
        tracing::warn!(
            service,
            server,
            from = mode_word(from.mode),
            to = mode_word(to.mode),
            "mode of a server changed"
        );
    }
    if from.weight != to.weight {
        tracing::info!(service, server, from = from.weight, to = to.weight, "weight of a server changed");
    }
    if from.connections != to.connections {
        tracing::info!(service, server, from = from.connections, to = to.connections, "bound of a server changed");
    }
}

/// `health` as settings and logs have it.
pub fn word(health: Health) -> &'static str {
    match health {
        Health::Up => "up",
        Health::Unknown => "unknown",
        Health::Down => "down",
    }
}

/// `mode` as settings and logs have it.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Ready => "ready",
        Mode::Drain => "drain",
        Mode::Maintenance => "maintenance",
    }
}

/// Checks under way at one time: enough for thousands of servers, too few to be an attack on one network.
const AT_A_TIME: usize = 256;

/// How often traffic is judged.
const LOOK: Duration = Duration::from_millis(100);
