//! The running proxy: starts everything, keeps it going, ends it in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use shared::moment::Moment;
use socket2::Socket;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::health::Checks;
use crate::listen::{self, Gate, Listener, Presence, Sharing};
use crate::live::Proxy;
use crate::reload::{Cause, Reloader, Watch};
use crate::takeover::Takeover;
use crate::tls::Front;
use crate::{admin, vip, worker};

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

/// Runs the proxy of `config`, which was read from `file`, and of `front`, to which its `[tls]` leads, until SIGTERM or
/// SIGINT.
///
/// Answers nobody before every server was checked once. Returns after the requests in flight are finished, or their
/// time limit is over.
pub fn run(file: PathBuf, config: Config, front: Option<Front>) -> Result<(), ServeError> {
    // Serves gslb-dns, checks servers and reloads; requests have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(file, config, front));
    // What is still open has had its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(file: PathBuf, config: Config, front: Option<Front>) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch =
        Watch::start(&file).map_err(|error| tracing::warn!(%error, "settings are not watched: use SIGHUP")).ok();
    // First, so that a second process on the same settings ends before it takes clients.
    let status = TcpListener::from_std(bind(config.status, Sharing::Alone, Presence::Now)?.into())?;
    let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let plain = config.listen.len();
    let vips: Vec<IpAddr> = config.vrrp.iter().flat_map(|router| router.vips.iter().copied()).collect();
    let listeners = bind_all(&[&config.listen, config.tls_listen()].concat(), &vips, threads)?;
    let listeners_total = listeners.iter().map(Vec::len).sum::<usize>();
    let connections_max = config.limits.connections;
    let is_draining = config.state_file.as_deref().is_some_and(was_draining);
    let proxy = Arc::new(Proxy::new(config, front, is_draining, threads));
    let mut checks = Checks::start(&proxy.live.load(), &proxy);
    tokio::select! {
        () = checks.first_round() => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    housekeep(&proxy, Instant::now());
    tokio::spawn(keep_house(Arc::clone(&proxy)));

    let (stop, stopping) = watch::channel(false);
    let clients = Gate::new(connections_max, stopping.clone());
    announce(&listeners[0], plain, &status)?;
    let (ended, mut fronts) = mpsc::channel(1);
    for (number, listeners) in listeners.into_iter().enumerate() {
        let listener = |(index, socket): (usize, Socket)| Listener { fd: socket.into(), is_secure: index >= plain };
        let listeners = listeners.into_iter().enumerate().map(listener).collect();
        worker::start(number, Arc::clone(&proxy), listeners, clients.clone(), ended.clone())?;
    }
    let listening = ended.downgrade();
    drop(ended);
    // Last, so that whoever comes by the VIPs is served.
    let takeover = Takeover::start(Arc::clone(&proxy), move || listening.strong_count() >= listeners_total)?;
    tokio::spawn(admin::serve::serve(status, Arc::clone(&proxy), stopping));
    tell_system(&[NotifyState::Ready]);

    let mut reloader = Reloader::new(file, Arc::clone(&proxy), checks);
    // They may have changed between reading and watching.
    reloader.reload(Cause::FolderChanged);
    loop {
        follow(watch.as_mut(), &proxy);
        let cause = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => Cause::Asked,
            () = changed(watch.as_mut()) => Cause::FolderChanged,
        };
        reload(&mut reloader, cause);
    }
    tell_system(&[NotifyState::Stopping]);
    if let Some(takeover) = takeover {
        // First, so that clients find the next holder while this one finishes what it has.
        takeover.stop();
    }
    let limit = proxy.live.load().config.limits.stop;
    tracing::info!(?limit, "stopping: finishing the requests in flight");
    stop.send_replace(true);
    // None comes: it closes when the last listener has ended.
    fronts.recv().await;
    match clients.finish(limit).await {
        0 => tracing::info!("stopped"),
        connections => tracing::warn!(connections, "stopped: connections cut at the time limit"),
    }
    Ok(())
}

fn bind(address: SocketAddr, sharing: Sharing, presence: Presence) -> Result<Socket, ServeError> {
    listen::bind(address, sharing, presence).map_err(|error| ServeError::Listen { address, error })
}

/// Listeners on all `addresses` for each of so many threads; `vips` may be on another machine now.
fn bind_all(addresses: &[SocketAddr], vips: &[IpAddr], threads: usize) -> Result<Vec<Vec<Socket>>, ServeError> {
    let presence = |address: &SocketAddr| match vips.contains(&address.ip()) {
        true => Presence::AtTimes,
        false => Presence::Now,
    };
    let bind = |address: &SocketAddr| bind(*address, Sharing::Shared, presence(address));
    let first = addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    // Where the settings leave the port to the system, the other threads take what the first was given.
    let bound = first.iter().map(local).collect::<io::Result<Vec<_>>>()?;
    let mut all = vec![first];
    for _ in 1..threads {
        all.push(bound.iter().map(bind).collect::<Result<_, _>>()?);
    }
    Ok(all)
}

fn local(listener: &Socket) -> io::Result<SocketAddr> {
    listener.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// One line with the addresses as bound, which differ from the settings where those say port 0; the first `plain` of
/// `listeners` are without TLS.
fn announce(listeners: &[Socket], plain: usize, status: &TcpListener) -> io::Result<()> {
    let bound = listeners.iter().map(|listener| Ok(local(listener)?.to_string())).collect::<io::Result<Vec<_>>>()?;
    let (listen, tls) = bound.split_at(plain);
    let tls = (!tls.is_empty()).then(|| tracing::field::display(tls.join(",")));
    tracing::info!(listen = %listen.join(","), tls, status = %status.local_addr()?, "ready");
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

/// What is looked at once a second: rates, VIPs.
fn housekeep(proxy: &Proxy, started: Instant) {
    let now = Moment::from_start(started.elapsed());
    let live = proxy.live.load();
    for service in live.services() {
        service.sample(now);
    }
    if !live.config.vrrp.is_empty() {
        // Who holds these says so itself.
        return;
    }
    let holds_vip = vip::holds(&live.config.vips);
    if proxy.holds_vip.swap(holds_vip, Ordering::Relaxed) != holds_vip {
        tracing::info!(holds_vip, "VIP changed");
    }
}
