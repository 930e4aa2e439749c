//! The running proxy: starts everything, keeps it going, ends it in order.

use std::io;
use std::net::SocketAddr;
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

use crate::admin::local::LocalListener;
use crate::admin::state::{self, SavedState};
use crate::config::Config;
use crate::health::Checks;
use crate::listen::{self, Gate, Listener, Sharing};
use crate::live::Proxy;
use crate::reload::{Cause, Reloader, Watch};
use crate::tls::Front;
use crate::{admin, control, vip, worker};

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
    let status = TcpListener::from_std(bind(config.status, Sharing::Alone)?.into())?;
    let threads = config.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let plain = config.listen.len();
    let listeners = bind_all(&[&config.listen, config.tls_listen()].concat(), threads)?;
    let connections_max = config.limits.connections;
    let saved = config.state_file.as_deref().map(saved).unwrap_or_default();
    let admin_socket = config.admin_socket.as_deref().map(LocalListener::bind).transpose()?;
    let proxy = Arc::new(Proxy::new(config, front, saved.is_draining, threads));
    control::restore(&proxy, saved.servers);
    let mut first_round = Checks::start(&proxy);
    tokio::select! {
        () = first_round.end() => {}
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
    drop(ended);
    if let Some(listener) = admin_socket {
        tokio::spawn(admin::serve::serve(listener, Arc::clone(&proxy), stopping.clone()));
    }
    tokio::spawn(admin::serve::serve(status, Arc::clone(&proxy), stopping));
    let mut reloads = proxy.reloads.take();
    tell_system(&[NotifyState::Ready]);

    let mut reloader = Reloader::new(file, Arc::clone(&proxy));
    // They may have changed between reading and watching.
    reloader.reload(Cause::FolderChanged);
    loop {
        follow(watch.as_mut(), &proxy);
        let (cause, waiting) = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => (Cause::Asked, None),
            answer = asked(reloads.as_mut()) => (Cause::Asked, Some(answer)),
            () = changed(watch.as_mut()) => (Cause::FolderChanged, None),
        };
        reload(&mut reloader, cause);
        if let Some(waiting) = waiting {
            // Who asked may be gone.
            let _ = waiting.send(reloader.problems().to_vec());
        }
    }
    tell_system(&[NotifyState::Stopping]);
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

fn bind(address: SocketAddr, sharing: Sharing) -> Result<Socket, ServeError> {
    listen::bind(address, sharing).map_err(|error| ServeError::Listen { address, error })
}

/// Listeners on all `addresses` for each of so many threads.
fn bind_all(addresses: &[SocketAddr], threads: usize) -> Result<Vec<Vec<Socket>>, ServeError> {
    let first = addresses.iter().map(|address| bind(*address, Sharing::Shared)).collect::<Result<Vec<_>, _>>()?;
    // Where the settings leave the port to the system, the other threads take what the first was given.
    let bound = first.iter().map(local).collect::<io::Result<Vec<_>>>()?;
    let mut all = vec![first];
    for _ in 1..threads {
        all.push(bound.iter().map(|address| bind(*address, Sharing::Shared)).collect::<Result<_, _>>()?);
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

fn saved(state_file: &Path) -> SavedState {
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

/// The next who wants the settings read again.
async fn asked<T>(asking: Option<&mut mpsc::Receiver<T>>) -> T {
    if let Some(asking) = asking
        && let Some(one) = asking.recv().await
    {
        return one;
    }
    std::future::pending().await
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
    let holds_vip = vip::holds(&live.config.vips);
    if proxy.holds_vip.swap(holds_vip, Ordering::Relaxed) != holds_vip {
        tracing::info!(holds_vip, "VIP changed");
    }
}
