//! The running proxy: starts everything, keeps it going, ends it in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use shared::moment::Moment;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Limits};
use crate::health::Checks;
use crate::listen::{self, Gate, Sharing};
use crate::live::Proxy;
use crate::reload::{Cause, Reloader, Watch};
use crate::{admin, relay, vip};

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Signals or threads are not to be had.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs the proxy of `config`, which was read from `file`, until SIGTERM or SIGINT.
///
/// Answers nobody before every server was checked once. Returns after the requests in flight are finished, or their
/// time limit is over.
pub fn run(file: PathBuf, config: Config) -> Result<(), ServeError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build()?;
    let outcome = runtime.block_on(serve(file, config));
    // What is still open has had its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(file: PathBuf, config: Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch =
        Watch::start(&file).map_err(|error| tracing::warn!(%error, "settings are not watched: use SIGHUP")).ok();
    // First, so that a second process on the same settings ends before it takes clients.
    let status = bind(config.status, Sharing::Alone)?;
    let listeners =
        config.listen.iter().map(|address| bind(*address, Sharing::Shared)).collect::<Result<Vec<_>, _>>()?;
    let connections_max = config.limits.connections;
    let is_draining = config.state_file.as_deref().is_some_and(was_draining);
    let proxy = Arc::new(Proxy::new(config, is_draining));
    let mut checks = Checks::start(&proxy.live.load());
    tokio::select! {
        () = checks.first_round() => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    housekeep(&proxy, Instant::now());
    tokio::spawn(keep_house(Arc::clone(&proxy)));

    let (stop, stopping) = watch::channel(false);
    let clients = Gate::new(connections_max, |config| config.limits, stopping.clone());
    announce(&listeners, &status)?;
    let mut fronts = JoinSet::new();
    for listener in listeners {
        fronts.spawn(listen::serve(listener, clients.clone(), Arc::clone(&proxy), relay::relay));
    }
    // Whatever binds clients, gslb-dns keeps its connections between two probes.
    let askers = Gate::new(STATUS_CONNECTIONS_MAX, |_| Limits::default(), stopping);
    fronts.spawn(listen::serve(status, askers, Arc::clone(&proxy), admin::answer));
    tell_system(&[NotifyState::Ready]);

    let mut reloader = Reloader::new(file, Arc::clone(&proxy), checks);
    // They may have changed between reading and watching.
    reloader.reload(Cause::FolderChanged);
    loop {
        let cause = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => Cause::Asked,
            () = changed(watch.as_mut()) => Cause::FolderChanged,
        };
        reload(&mut reloader, cause);
    }
    tell_system(&[NotifyState::Stopping]);
    let limit = proxy.live.load().config.limits.stop;
    tracing::info!(?limit, "stopping: finishing the requests in flight");
    stop.send_replace(true);
    fronts.join_all().await;
    match clients.finish(limit).await {
        0 => tracing::info!("stopped"),
        connections => tracing::warn!(connections, "stopped: connections cut at the time limit"),
    }
    Ok(())
}

fn bind(address: SocketAddr, sharing: Sharing) -> Result<TcpListener, ServeError> {
    listen::bind(address, sharing).map_err(|error| ServeError::Listen { address, error })
}

/// One line with the addresses as bound, which differ from the settings where those say port 0.
fn announce(listeners: &[TcpListener], status: &TcpListener) -> io::Result<()> {
    let bound = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    let listen = bound.collect::<io::Result<Vec<_>>>()?.join(",");
    tracing::info!(%listen, status = %status.local_addr()?, "ready");
    Ok(())
}

fn was_draining(state_file: &Path) -> bool {
    match admin::load(state_file) {
        Ok(state) => {
            if state.is_draining {
                tracing::warn!("still draining since before the restart");
            }
            state.is_draining
        }
        Err(error) => {
            tracing::error!(file = %state_file.display(), %error, "cannot read the state: not draining");
            false
        }
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

fn reload(reloader: &mut Reloader, cause: Cause) {
    if cause == Cause::Asked {
        // systemd wants the moment with the word; without it the word is left out.
        match NotifyState::monotonic_usec_now() {
            Ok(moment) => tell_system(&[NotifyState::Reloading, moment]),
            Err(error) => tracing::debug!(%error, "no clock for the system manager"),
        }
    }
    reloader.reload(cause);
    if cause == Cause::Asked {
        tell_system(&[NotifyState::Ready]);
    }
}

fn tell_system(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the system manager");
    }
}

async fn keep_house(proxy: Arc<Proxy>) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        housekeep(&proxy, started);
    }
}

/// What is looked at once a second: rates, idle connections, VIPs.
fn housekeep(proxy: &Proxy, started: Instant) {
    let now = Moment::from_start(started.elapsed());
    let live = proxy.live.load();
    for service in live.services() {
        service.sample(now);
        for server in &service.servers {
            server.pool.sweep(live.config.limits.upstream_idle);
        }
    }
    let holds_vip = vip::holds(&live.config.vips);
    if proxy.holds_vip.swap(holds_vip, Ordering::Relaxed) != holds_vip {
        tracing::info!(holds_vip, "VIP changed");
    }
}

/// A few gslb-dns nodes, each with a connection or two, and operators.
const STATUS_CONNECTIONS_MAX: usize = 256;
