//! The running proxy: starts everything, keeps it going, ends it in order.
//!
//! ```text
//! take over or bind ─► drop privileges ─► check all servers ─► take clients ─► reload … ─► hand over or stop
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use shared::moment::Moment;

use crate::config::Config;
use crate::health::Checks;
use crate::live::Proxy;
use crate::reload::{Reloader, Watch};
use crate::tls::Certificates;
use crate::{admin, vip};

pub mod handover;
pub mod inherited;
pub mod rights;
mod running;
mod signals;
pub mod sockets;

use handover::Predecessor;
use inherited::Inherited;
use rights::RightsError;
use running::{End, Running};
use signals::Signals;
use sockets::Sockets;

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
    /// It cannot run as whom it should.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The process whose place this one takes does not say what it should.
    #[error("cannot take over from the running proxy: {0}")]
    TakeOver(io::Error),
    /// Signals or threads are not to be had.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs the proxy of `config`, which was read from `file`, and of the `certificates` that it names, until SIGTERM or
/// SIGINT, or until another process has taken its place.
///
/// Answers nobody before every server was checked once. Returns after the requests in flight are finished, or their
/// time limit is over.
pub fn run(file: PathBuf, config: Config, certificates: Certificates) -> Result<(), ServeError> {
    // Serves gslb-dns, checks servers and reloads; requests have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(file, config, certificates));
    // What is still open has had its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(file: PathBuf, config: Config, certificates: Certificates) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let watch =
        Watch::start(&file).map_err(|error| tracing::warn!(%error, "settings are not watched: use SIGHUP")).ok();
    let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (mut inherited, predecessor) = take_over()?;
    // First, so that a second process on the same settings ends before it takes clients.
    let sockets = Sockets::open(&config, threads, &mut inherited)?;
    rights::raise_files(&config.limits);
    config.user.as_deref().map(rights::become_user).transpose()?;
    let is_draining = is_draining(&config, predecessor.as_ref());
    let proxy = Arc::new(Proxy::new(config, certificates, is_draining, threads));
    let mut checks = Checks::start(&proxy.live.load(), &proxy);
    tokio::select! {
        () = checks.first_round() => {}
        () = signals.stop() => return Ok(()),
    }
    housekeep(&proxy, Instant::now());
    tokio::spawn(keep_house(Arc::clone(&proxy)));
    let mut running = Running::start(Arc::clone(&proxy), sockets)?;
    running.announce()?;
    // Who was there before tells the system manager of the change.
    match predecessor.map(|predecessor| predecessor.dismiss(inherited.left())) {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(%error, "the proxy that was to be relieved is gone already"),
        None => tell_system(&[NotifyState::Ready]),
    }
    drop(inherited);
    let mut reloader = Reloader::new(file, proxy, checks);
    match running.keep(&mut signals, watch, &mut reloader).await {
        End::Stop => running.stop().await,
        End::HandedOver(pid, ready) => running.hand_over(pid, &ready, &mut signals).await,
    }
    Ok(())
}

/// The sockets of the process whose place this one takes, or those that the system manager passes.
fn take_over() -> Result<(Inherited, Option<Predecessor>), ServeError> {
    if let Some((inherited, predecessor)) = handover::take().map_err(ServeError::TakeOver)? {
        tracing::info!(pid = predecessor.carried.pid, "taking over from the running proxy");
        return Ok((inherited, Some(predecessor)));
    }
    Ok((Inherited::from_system()?, None))
}

fn is_draining(config: &Config, predecessor: Option<&Predecessor>) -> bool {
    match predecessor {
        Some(predecessor) => predecessor.carried.is_draining,
        None => config.state_file.as_deref().is_some_and(was_draining),
    }
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

/// What is looked at once a second: rates, VIPs, what can be freed.
fn housekeep(proxy: &Proxy, started: Instant) {
    proxy.free_retired();
    let now = Moment::from_start(started.elapsed());
    let live = proxy.live.load();
    for service in live.services() {
        service.sample(now);
    }
    let holds_vip = vip::holds(&live.config.vips);
    if proxy.holds_vip.swap(holds_vip, Ordering::Relaxed) != holds_vip {
        tracing::info!(holds_vip, "VIP changed");
    }
}
