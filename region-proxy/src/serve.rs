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

use crate::admin::state::{self, SavedState};
use crate::clock::Deadlines;
use crate::config::Config;
use crate::health::Checks;
use crate::live::Proxy;
use crate::peering::Links;
use crate::reload::{Reloader, Watch};
use crate::switching::L4Error;
use crate::takeover::{Arrival, Traces};
use crate::tls::Certificates;
use crate::{access, control, vip};

mod events;
pub mod handover;
pub mod inherited;
pub mod permissions;
pub mod rights;
mod running;
mod signals;
pub mod sockets;

use events::Ears;
use handover::{Predecessor, Ready};
use inherited::Inherited;
use rights::RightsError;
use running::{End, Running};
use signals::Signals;
use sockets::Sockets;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(error))]
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
    /// The access log cannot be written.
    #[error("access_log: {0}")]
    AccessLog(io::Error),
    /// The kernel cannot pass on what it should.
    #[error("l4: {0}")]
    L4(#[from] L4Error),
    /// The proxies beside this one cannot reach it.
    #[error("peers: {0}")]
    Peers(io::Error),
    /// Signals or threads are not to be had.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What to do about the commonest of these.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            ": it is not on this machine; one that comes and goes is expected in `vips`, or in [vrrp.NAME]; that of an L4 tier \
             on lo, as `region-proxy l4 doctor` says"
        }
        io::ErrorKind::AddrInUse => ": expected nobody else there, as `ss -ltnp` shows",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need root, with `user`, or CAP_NET_BIND_SERVICE",
        _ => "",
    }
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
    let (mut inherited, predecessor) = take_over()?;
    // First, so that a second process on the same settings ends before it takes clients.
    let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let sockets = Sockets::open(&config, threads, &mut inherited)?;
    rights::raise_files(&config.limits);
    config.user.as_deref().map(rights::become_user).transpose()?;
    let proxy = build(config, certificates, threads, predecessor.as_ref())?;
    let links = Links::start(&proxy).map_err(ServeError::Peers)?;
    let mut first_round = Checks::start(&proxy);
    tokio::select! {
        () = first_round.end() => {}
        () = signals.stop() => return Ok(()),
    }
    housekeep(&proxy, Instant::now());
    tokio::spawn(keep_house(Arc::clone(&proxy)));
    let arrival = if predecessor.is_some() { Arrival::Successor } else { Arrival::Fresh };
    let mut running = Running::start(Arc::clone(&proxy), sockets, links)?;
    running.switch(arrival)?;
    running.announce()?;
    tell_ready(predecessor, inherited, &proxy);
    if arrival == Arrival::Fresh && !proxy.live.load().config.vrrp.is_empty() {
        running.hear_peers().await;
    }
    // Last, so that whoever comes by the VIPs is served.
    running.share_vips(arrival)?;
    let ears = Ears::new(&mut signals, watch, &proxy);
    let mut reloader = Reloader::new(file, Arc::clone(&proxy));
    match running.keep(ears, &mut reloader).await {
        End::Stop => running.stop().await,
        End::HandedOver(pid, ready) => running.hand_over(pid, &ready, &mut signals).await,
    }
    finish_log(&proxy).await;
    Ok(())
}

/// The proxy of `config`, with what operators changed before.
fn build(
    config: Config,
    certificates: Certificates,
    threads: usize,
    predecessor: Option<&Predecessor>,
) -> Result<Arc<Proxy>, ServeError> {
    let saved = saved(&config, predecessor);
    let log =
        config.access_log.as_ref().map(|log| access::open(&log.target)).transpose().map_err(ServeError::AccessLog)?;
    let proxy = Arc::new(Proxy::new(config, certificates, saved.is_draining, threads));
    proxy.access.start(log)?;
    control::restore(&proxy, saved.servers, saved.ledger);
    Ok(proxy)
}

/// Tells who waits for it that clients are taken: the process that was there before, which tells the system manager of the
/// change, or else that itself.
fn tell_ready(predecessor: Option<Predecessor>, inherited: Inherited, proxy: &Proxy) {
    let left = inherited.left();
    let Some(predecessor) = predecessor else {
        for address in left {
            tracing::warn!(%address, "passed by the system manager and in no setting: nobody serves it");
        }
        return tell_system(&[NotifyState::Ready]);
    };
    let live = proxy.live.load();
    let (vrrp, l4) = (Some(Traces::of(&live.config.vrrp)), !live.config.l4.is_empty());
    if let Err(error) = predecessor.dismiss(&Ready { left, vrrp, l4 }) {
        tracing::warn!(%error, "the proxy that was to be relieved is gone already");
    }
}

/// Has the last lines written.
async fn finish_log(proxy: &Proxy) {
    if proxy.live.load().config.access_log.is_some() {
        // Until each thread has given them away.
        tokio::time::sleep(Deadlines::TICK * 2).await;
        if !proxy.access.finish(LAST_LINES) {
            tracing::warn!("access log: its last lines are not written");
        }
    }
}

/// The sockets of the process whose place this one takes, or those that the system manager passes.
fn take_over() -> Result<(Inherited, Option<Predecessor>), ServeError> {
    if let Some((inherited, predecessor)) = handover::take().map_err(ServeError::TakeOver)? {
        tracing::info!(pid = predecessor.carried.pid, "taking over from the running proxy");
        return Ok((inherited, Some(predecessor)));
    }
    Ok((Inherited::from_system()?, None))
}

/// What operators changed before: of the process whose place this one takes, or of the one before a restart.
fn saved(config: &Config, predecessor: Option<&Predecessor>) -> SavedState {
    let saved = config.state_file.as_deref().map(read_state).unwrap_or_default();
    let Some(Predecessor { carried, .. }) = predecessor else { return saved };
    let (servers, ledger) = (carried.servers.clone(), carried.ledger.clone());
    SavedState {
        is_draining: carried.is_draining,
        servers: servers.unwrap_or(saved.servers),
        ledger: ledger.unwrap_or(saved.ledger),
    }
}

fn read_state(state_file: &Path) -> SavedState {
    match state::load(state_file) {
        Ok(state) => {
            if state.is_draining {
                tracing::warn!("still draining since before the restart");
            }
            state
        }
        Err(error) => {
            let file = state_file.display();
            tracing::error!(%file, %error, "cannot read the state: not draining, and all servers are as in the settings");
            SavedState::default()
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
    proxy.access.tell();
    if proxy.vrrp.has_any() {
        // Who holds these says so itself.
        return;
    }
    // Those of virtual routers that do not run yet are looked for too.
    let holds_vip = vip::holds(&live.config.held_vips());
    if proxy.holds_vip.swap(holds_vip, Ordering::Relaxed) != holds_vip {
        tracing::info!(holds_vip, "VIP changed");
    }
}

/// How long a slow disk may hold the end up.
const LAST_LINES: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_of_virtual_routers_that_do_not_run_yet_are_looked_for() {
        let text = "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:0\"]\nstatus = \"127.0.0.1:0\"\n\
                    services.s.servers.a = \"192.0.2.1:80\"\n\
                    [vrrp.web]\ninterface = \"lo\"\nid = 51\npriority = 250\nvips = [\"127.0.1.10\"]\n";
        let config = Config::parse("p.toml".as_ref(), text, &|_| Err(String::new())).expect("right");
        let proxy = Proxy::new(config, Certificates::default(), false, 1);
        housekeep(&proxy, Instant::now());
        assert!(proxy.holds_vip.load(Ordering::Relaxed));
    }
}
