//! A proxy that takes clients, up to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::events::{Ears, Event, Upgrade, Waiting};
use super::handover::{Carried, Ready, Successor};
use super::signals::Signals;
use super::sockets::{self, Sockets};
use super::{ServeError, tell_system};
use crate::admin::local::LocalListener;
use crate::config::Entry;
use crate::listen::{Gate, Phase};
use crate::live::Proxy;
use crate::peering::Links;
use crate::reload::{Cause, Reloader};
use crate::switching::Switching;
use crate::takeover::{Arrival, Takeover, Traces};
use crate::{admin, worker};

/// The threads that serve, and what they serve.
#[derive(Debug)]
pub(super) struct Running {
    proxy: Arc<Proxy>,
    sockets: Sockets,
    clients: Clients,
    takeover: Takeover,
    switching: Option<Switching>,
    links: Links,
}

/// The connections of clients, and the word to end.
#[derive(Debug)]
struct Clients {
    gate: Gate,
    phase: watch::Sender<Phase>,
    /// Closes when no listener takes connections any more.
    listeners: mpsc::Receiver<()>,
}

/// How a proxy ends.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Stop,
    /// The process of this id takes its clients.
    HandedOver(u32, Ready),
}

impl Running {
    /// Starts to serve `proxy` at `sockets`; `links` tell others of it.
    pub(super) fn start(proxy: Arc<Proxy>, mut sockets: Sockets, links: Links) -> Result<Self, ServeError> {
        let live = proxy.live.load();
        let phase = watch::Sender::new(Phase::Serving);
        let gate = Gate::new(live.config.limits.connections, phase.subscribe());
        let (ended, listeners) = mpsc::channel(1);
        let (alive, mut threads) = (Arc::new(()), Vec::new());
        for number in 0..live.threads() {
            let (sender, receiver) = mpsc::unbounded_channel();
            worker::start(number, Arc::clone(&proxy), receiver, gate.clone(), ended.clone(), Arc::clone(&alive))?;
            threads.push(sender);
        }
        if let Some(path) = &live.config.admin_socket {
            let listener = LocalListener::bind(path)?;
            tokio::spawn(admin::serve::serve(listener, Arc::clone(&proxy), phase.subscribe()));
        }
        let status = TcpListener::from_std(sockets.status()?.into())?;
        tokio::spawn(admin::serve::serve(status, Arc::clone(&proxy), phase.subscribe()));
        sockets.start(threads)?;
        // As often there as threads take listeners.
        let (listening, count) = (Arc::downgrade(&alive), live.threads());
        drop(live);
        let takeover = Takeover::new(Arc::clone(&proxy), move || listening.strong_count() >= count);
        let clients = Clients { gate, phase, listeners };
        Ok(Self { proxy, sockets, clients, takeover, switching: None, links })
    }

    /// Holds the VIPs of `[vrrp]` in turn with others, while every thread serves.
    pub(super) fn share_vips(&mut self, arrival: Arrival) -> Result<(), ServeError> {
        Ok(self.takeover.start(arrival)?)
    }

    /// Waits a moment for what others know of the clients that come with the VIPs.
    pub(super) async fn hear_peers(&self) {
        self.links.heard(HEAR_LIMIT).await;
    }

    /// Has the kernel pass on what `[l4]` says; where that says nothing yet, a reload may.
    pub(super) fn switch(&mut self, arrival: Arrival) -> Result<(), ServeError> {
        self.switching = Switching::start(&self.proxy, arrival)?;
        Ok(())
    }

    /// One line with the addresses as bound, which differ from the settings where those say port 0.
    pub(super) fn announce(&self) -> Result<(), ServeError> {
        let of = |is_so: fn(Entry) -> bool| {
            let found = self.sockets.addresses().filter(|&(_, entry)| is_so(entry));
            let found = found.map(|(address, _)| address.to_string()).collect::<Vec<_>>().join(",");
            (!found.is_empty()).then(|| tracing::field::display(found))
        };
        let (listen, tls) = (of(|entry| entry == Entry::Http), of(|entry| entry == Entry::Https));
        let tcp = of(|entry| matches!(entry, Entry::Tcp(_)));
        let status = sockets::local(&self.sockets.status()?)?;
        tracing::info!(listen, tls, tcp, %status, "ready");
        Ok(())
    }

    /// Follows the settings, until it is told to stop or another process has taken its place.
    pub(super) async fn keep(&mut self, mut ears: Ears<'_>, reloader: &mut Reloader) -> End {
        // They may have changed between reading and watching.
        self.reload(reloader, Cause::FolderChanged).await;
        let (mut upgrade, mut was_asked) = (None, false);
        loop {
            ears.follow(&self.proxy);
            match ears.next(upgrade.as_mut()).await {
                Event::Stop => {
                    if let Some(upgrade) = upgrade {
                        upgrade.give_up("the running proxy was told to stop".to_owned());
                    }
                    return End::Stop;
                }
                Event::Upgrade(waiting) => self.upgrade(&mut upgrade, waiting),
                Event::Upgraded(Ok(ready)) => {
                    // Never absent: only one that there is can end.
                    let pid = upgrade.map_or(0, Upgrade::succeed);
                    if was_asked && let Ok(pid) = i32::try_from(pid) {
                        // It has read the settings, but perhaps before they were changed, and has the access log open.
                        let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
                    }
                    return End::HandedOver(pid, ready);
                }
                Event::Upgraded(Err(why)) => {
                    tracing::error!(why, "not upgraded: this process serves on; the log of the new one says more");
                    if let Some(upgrade) = upgrade.take() {
                        upgrade.give_up(why);
                    }
                    self.proxy.is_upgrading.store(false, Ordering::Relaxed);
                    let cause = if std::mem::take(&mut was_asked) { Cause::Asked } else { Cause::FolderChanged };
                    self.reload(reloader, cause).await;
                }
                // The one that takes over reads them by itself; if it does not, they are read then.
                Event::Reload(cause, _) if upgrade.is_some() => {
                    was_asked |= cause == Cause::Asked;
                    if cause == Cause::Asked {
                        tell_reloading();
                        tell_system(&[NotifyState::Ready]);
                    }
                }
                Event::Reload(cause, waiting) => {
                    self.reload(reloader, cause).await;
                    if let Some(waiting) = waiting {
                        // Who asked may be gone.
                        let _ = waiting.send(reloader.outcome());
                    }
                }
            }
        }
    }

    async fn reload(&mut self, reloader: &mut Reloader, cause: Cause) {
        if cause == Cause::Asked {
            tell_reloading();
        }
        reloader.reload(cause, &mut self.sockets, &mut self.takeover).await;
        if self.switching.is_none()
            && !self.proxy.live.load().config.l4.is_empty()
            && let Err(error) = self.switch(Arrival::Fresh)
        {
            tracing::error!(%error, "L4 services do not run");
        }
        if let Err(error) = self.links.follow() {
            tracing::error!(%error, "peers: the old settings hold for them");
        }
        if cause == Cause::Asked {
            tell_system(&[NotifyState::Ready]);
        }
    }

    /// Starts the program that is to take the place of this process, unless there is one already; tells who waits.
    fn upgrade(&self, present: &mut Option<Upgrade>, waiting: Option<Waiting>) {
        if let Some(present) = present {
            return present.join(waiting);
        }
        // What operators change from here on would be lost.
        self.proxy.is_upgrading.store(true, Ordering::Relaxed);
        let is_draining = self.proxy.is_draining.load(Ordering::Relaxed);
        // What is in the state file already is read from there.
        let has_file = self.proxy.live.load().config.state_file.is_some();
        let (servers, ledger) = (!has_file).then(|| self.proxy.control().said()).unzip();
        let carried = Carried { pid: std::process::id(), is_draining, servers, ledger };
        match self.sockets.copies().and_then(|sockets| Successor::start(sockets, carried)) {
            Ok(successor) => {
                tracing::info!(pid = successor.pid, "upgrading: started the program anew");
                present.insert(Upgrade::new(successor)).join(waiting);
            }
            Err(error) => {
                self.proxy.is_upgrading.store(false, Ordering::Relaxed);
                tracing::error!(%error, "not upgraded: cannot start the program anew");
                if let Some(waiting) = waiting {
                    // Who asked may be gone.
                    let _ = waiting.send(Err(format!("cannot start the program anew: {error}")));
                }
            }
        }
    }

    /// Takes no more clients, and finishes what is under way within `limits.stop`.
    pub(super) async fn stop(mut self) {
        // First: clients find the next holder while this one finishes what it has.
        self.takeover.stop();
        if let Some(switching) = self.switching.take() {
            switching.stop();
        }
        self.sockets.stop();
        self.links.last_words(LAST_WORDS).await;
        self.clients.stop(self.proxy.live.load().config.limits.stop).await;
    }

    /// Leaves clients to the process `pid`, and finishes what is under way within `limits.handover`.
    pub(super) async fn hand_over(mut self, pid: u32, ready: &Ready, signals: &mut Signals) {
        tell_system(&[NotifyState::MainPid(pid)]);
        // The other one waits for this.
        match &ready.vrrp {
            Some(theirs) => self.takeover.hand_over(theirs),
            // It has read what this one has read last.
            None => self.takeover.hand_over(&Traces::of(&self.proxy.live.load().config.vrrp)),
        }
        match self.switching.take() {
            Some(switching) if ready.l4 => switching.hand_over(),
            // Nobody else would remove what is there.
            switching => switching.into_iter().for_each(Switching::stop),
        }
        let limits = self.proxy.live.load().config.limits;
        tracing::info!(pid, limit = ?limits.handover, "handed over: finishing what is under way");
        self.sockets.hand_over(&ready.left);
        // From here on the others tell the other one.
        self.links.last_words(LAST_WORDS).await;
        self.links.stop();
        self.clients.phase.send_replace(Phase::HandedOver);
        sleep(LAST_WORDS).await;
        tokio::select! {
            left = self.clients.finish(limits.handover) => report(left),
            () = signals.stop() => self.clients.stop(limits.stop).await,
        }
    }
}

fn tell_reloading() {
    // systemd wants the moment with the word; without it the word is left out.
    match NotifyState::monotonic_usec_now() {
        Ok(moment) => tell_system(&[NotifyState::Reloading, moment]),
        Err(error) => tracing::debug!(%error, "no clock for the system manager"),
    }
}

impl Clients {
    async fn stop(&mut self, limit: Duration) {
        tell_system(&[NotifyState::Stopping]);
        tracing::info!(?limit, "stopping: finishing the requests in flight");
        self.phase.send_replace(Phase::Stopping);
        report(self.finish(limit).await);
    }

    /// Waits at most `limit` for all connections to end, and cuts the others; returns how many those are.
    async fn finish(&mut self, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        // None comes: it closes when the last listener has ended. Newcomers that wait for a place come first.
        let _ = timeout_at(end, self.listeners.recv()).await;
        let left = self.gate.finish(end.saturating_duration_since(Instant::now())).await;
        if left > 0 {
            self.phase.send_replace(Phase::Cut);
            // Each is told of when it ends.
            self.gate.finish(LAST_RITES).await;
        }
        left
    }
}

fn report(left: usize) {
    match left {
        0 => tracing::info!("stopped"),
        connections => tracing::warn!(connections, "stopped: connections cut at the time limit"),
    }
}

/// Longer than others need who are there.
const HEAR_LIMIT: Duration = Duration::from_millis(500);

/// For each thread to end the connections that are cut.
const LAST_RITES: Duration = Duration::from_millis(200);

/// For answers to what the status listener was asked before, and for what peers do not know yet.
const LAST_WORDS: Duration = Duration::from_millis(100);
