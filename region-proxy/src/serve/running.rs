//! A proxy that takes clients, up to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::handover::{Carried, Ready, Successor};
use super::signals::{Signals, Word};
use super::sockets::{self, Sockets};
use super::{ServeError, tell_system};
use crate::admin::local::LocalListener;
use crate::config::Entry;
use crate::listen::{Gate, Phase};
use crate::live::Proxy;
use crate::reload::{Cause, Reloader, Watch};
use crate::{admin, worker};

/// The threads that serve, and what they serve.
#[derive(Debug)]
pub(super) struct Running {
    proxy: Arc<Proxy>,
    sockets: Sockets,
    clients: Clients,
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
    /// Starts to serve `proxy` at `sockets`.
    pub(super) fn start(proxy: Arc<Proxy>, mut sockets: Sockets) -> Result<Self, ServeError> {
        let live = proxy.live.load();
        let phase = watch::Sender::new(Phase::Serving);
        let gate = Gate::new(live.config.limits.connections, phase.subscribe());
        let (ended, listeners) = mpsc::channel(1);
        let mut threads = Vec::new();
        for number in 0..live.threads() {
            let (sender, receiver) = mpsc::unbounded_channel();
            worker::start(number, Arc::clone(&proxy), receiver, gate.clone(), ended.clone())?;
            threads.push(sender);
        }
        if let Some(path) = &live.config.admin_socket {
            let listener = LocalListener::bind(path)?;
            tokio::spawn(admin::serve::serve(listener, Arc::clone(&proxy), phase.subscribe()));
        }
        let status = TcpListener::from_std(sockets.status()?.into())?;
        tokio::spawn(admin::serve::serve(status, Arc::clone(&proxy), phase.subscribe()));
        sockets.start(threads)?;
        drop(live);
        Ok(Self { proxy, sockets, clients: Clients { gate, phase, listeners } })
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
    pub(super) async fn keep(
        &mut self,
        signals: &mut Signals,
        mut watch: Option<Watch>,
        reloader: &mut Reloader,
    ) -> End {
        // They may have changed between reading and watching.
        reloader.reload(Cause::FolderChanged, &mut self.sockets).await;
        let mut successor: Option<Successor> = None;
        let mut reloads = self.proxy.reloads.take();
        loop {
            follow(watch.as_mut(), &self.proxy);
            let mut waiting = None;
            let cause = tokio::select! {
                word = signals.next() => match word {
                    Word::Stop => return End::stop(successor),
                    Word::Upgrade => {
                        successor = successor.or_else(|| self.upgrade());
                        continue;
                    }
                    Word::Reload => Cause::Asked,
                },
                () = changed(watch.as_mut()) => Cause::FolderChanged,
                one = asked(reloads.as_mut()) => {
                    waiting = Some(one);
                    Cause::Asked
                }
                outcome = outcome(successor.as_mut()) => match (outcome, &successor) {
                    (Ok(ready), Some(successor)) => return End::HandedOver(successor.pid, ready),
                    (outcome, _) => {
                        let why = outcome.err().unwrap_or_default();
                        tracing::error!(why, "not upgraded: this process serves on; the log of the new one says more");
                        successor = None;
                        Cause::FolderChanged
                    }
                },
            };
            // The one that takes over reads them by itself; if it does not, they are read then.
            if successor.is_none() {
                self.reload(reloader, cause).await;
                if let Some(waiting) = waiting {
                    // Who asked may be gone.
                    let _ = waiting.send(reloader.problems().to_vec());
                }
            }
        }
    }

    async fn reload(&mut self, reloader: &mut Reloader, cause: Cause) {
        if cause == Cause::Asked {
            // systemd wants the moment with the word; without it the word is left out.
            match NotifyState::monotonic_usec_now() {
                Ok(moment) => tell_system(&[NotifyState::Reloading, moment]),
                Err(error) => tracing::debug!(%error, "no clock for the system manager"),
            }
        }
        reloader.reload(cause, &mut self.sockets).await;
        if cause == Cause::Asked {
            tell_system(&[NotifyState::Ready]);
        }
    }

    /// Starts the program that is to take the place of this process.
    fn upgrade(&self) -> Option<Successor> {
        let is_draining = self.proxy.is_draining.load(Ordering::Relaxed);
        // What is in the state file already is read from there.
        let has_file = self.proxy.live.load().config.state_file.is_some();
        let servers = (!has_file).then(|| self.proxy.control().changes().clone());
        let carried = Carried { pid: std::process::id(), is_draining, servers };
        match self.sockets.copies().and_then(|sockets| Successor::start(sockets, carried)) {
            Ok(successor) => {
                tracing::info!(pid = successor.pid, "upgrading: started the program anew");
                Some(successor)
            }
            Err(error) => {
                tracing::error!(%error, "not upgraded: cannot start the program anew");
                None
            }
        }
    }

    /// Takes no more clients, and finishes what is under way within `limits.stop`.
    pub(super) async fn stop(mut self) {
        self.sockets.stop();
        self.clients.stop(self.proxy.live.load().config.limits.stop).await;
    }

    /// Leaves clients to the process `pid`, and finishes what is under way within `limits.handover`.
    pub(super) async fn hand_over(mut self, pid: u32, ready: &Ready, signals: &mut Signals) {
        tell_system(&[NotifyState::MainPid(pid)]);
        let limits = self.proxy.live.load().config.limits;
        tracing::info!(pid, limit = ?limits.handover, "handed over: finishing what is under way");
        self.sockets.hand_over(&ready.left);
        self.clients.phase.send_replace(Phase::HandedOver);
        tokio::select! {
            left = self.clients.finish(limits.handover) => report(left),
            () = signals.stop() => self.clients.stop(limits.stop).await,
        }
    }
}

impl Clients {
    async fn stop(&mut self, limit: Duration) {
        tell_system(&[NotifyState::Stopping]);
        tracing::info!(?limit, "stopping: finishing the requests in flight");
        self.phase.send_replace(Phase::Stopping);
        report(self.finish(limit).await);
    }

    /// Waits at most `limit` for all connections to end; returns how many did not.
    async fn finish(&mut self, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        // None comes: it closes when the last listener has ended. Newcomers that wait for a place come first.
        let _ = timeout_at(end, self.listeners.recv()).await;
        self.gate.finish(end.saturating_duration_since(Instant::now())).await
    }
}

impl End {
    fn stop(successor: Option<Successor>) -> Self {
        if let Some(mut successor) = successor {
            successor.stop();
        }
        Self::Stop
    }
}

fn report(left: usize) {
    match left {
        0 => tracing::info!("stopped"),
        connections => tracing::warn!(connections, "stopped: connections cut at the time limit"),
    }
}

/// Watches the files of the present settings too.
fn follow(watch: Option<&mut Watch>, proxy: &Proxy) {
    if let Some(watch) = watch {
        watch.follow(proxy.live.load().config.tls.iter().flat_map(|tls| tls.files()));
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// The next who wants the settings read again.
async fn asked<T>(asking: Option<&mut mpsc::Receiver<T>>) -> T {
    if let Some(asking) = asking
        && let Some(one) = asking.recv().await
    {
        return one;
    }
    std::future::pending().await
}

async fn outcome(successor: Option<&mut Successor>) -> Result<Ready, String> {
    match successor {
        Some(successor) => successor.outcome().await,
        None => std::future::pending().await,
    }
}
