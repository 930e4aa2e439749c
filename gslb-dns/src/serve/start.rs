//! The start of a node, one step after the other.

use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use shared::state::{Event, State};
use shared::topology::ProbeSettings;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::bind::{self, Bound};
use super::cores;
use super::counters::CounterBook;
use super::encrypted::{self, EncryptedSockets};
use super::files::FileTask;
use super::flood;
use super::notifier::{Notifier, NotifyBook};
use super::refusals::Refusals;
use super::rights;
use super::seats::{Seats, TcpCounters};
use super::slow::{Mailbox, SlowPath};
use super::tcp::{Lane, TcpThreads};
use super::turns::Turns;
use super::udp::UdpWorker;
use super::updates::{JournalBook, Journals, SharedJournals, Updates};
use super::writer::{Command, Reloads, Writer};
use super::{BindError, Clock, Live, Node, StartError};
use crate::admin::{self, AdminParts};
use crate::answer::Transport;
use crate::open_files;
use crate::probe::{Probed, Prober};
use crate::reload::{Files, Loaded, World, load};
use crate::settings::ServerSettings;
use crate::store::StateFile;

/// Starts a node with the settings at `config`.
pub(super) fn start(config: &Path) -> Result<Node, StartError> {
    let Loaded { world, files } = load(config, None);
    let world = Arc::new(world.map_err(StartError::Problems)?);
    log_warnings(&world);
    let server = world.settings.server.clone();
    let connections = open_files::connections(open_files::raise());
    let sockets = Sockets::bind(&server)?;
    rights::take(&world)?;
    if let Some(user) = &server.user {
        info!(user, "dropped privileges");
    }
    let runtime = runtime::Builder::new_multi_thread().enable_all().thread_name("gslb-async").build();
    let runtime = runtime.map_err(system)?;
    let mut journals = Journals::default();
    journals.follow(&world).map_err(StartError::Problems)?;
    Starter::new(config, world, journals, &runtime, connections)?.start(runtime, sockets, files)
}

/// Logs what an operator should look at in files that were just read.
pub(super) fn log_warnings(world: &World) {
    for warning in &world.warnings {
        warn!(%warning, "seldom meant");
    }
    for problem in &world.certificate_problems {
        error!(%problem, "the new certificate cannot be used; the one of before is shown on");
    }
}

/// The sockets of a node.
struct Sockets {
    dns: Vec<Bound>,
    admin: Option<StdListener>,
    encrypted: EncryptedSockets,
}

impl Sockets {
    /// Fails with every address that cannot be had.
    fn bind(server: &ServerSettings) -> Result<Self, StartError> {
        let threads = server.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from);
        let mut errors = Vec::new();
        let mut sockets = Self { dns: Vec::new(), admin: None, encrypted: EncryptedSockets::default() };
        for &address in &server.listen {
            match bind::bind(address, threads) {
                Ok(bound) => sockets.dns.push(bound),
                Err(error) => errors.push(BindError { key: "server.listen", address, error }),
            }
        }
        sockets.encrypted = EncryptedSockets::bind(server.tls.as_ref(), &mut errors);
        match server.admin.map(|address| (address, bind::bind_tcp(address))) {
            Some((_, Ok(listener))) => sockets.admin = Some(listener),
            Some((address, Err(error))) => errors.push(BindError { key: "server.admin", address, error }),
            None => {}
        }
        if errors.is_empty() { Ok(sockets) } else { Err(StartError::Bind(errors)) }
    }
}

/// What the threads and tasks of a node share.
struct Starter {
    config: PathBuf,
    world: Arc<World>,
    clock: Clock,
    counters: Arc<CounterBook>,
    tcp_counters: Arc<TcpCounters>,
    live: Arc<ArcSwap<Live>>,
    commands: mpsc::Sender<Command>,
    readiness: watch::Receiver<bool>,
    served: watch::Receiver<Arc<World>>,
    notify_book: Arc<NotifyBook>,
    journals: SharedJournals,
    journal_book: Arc<JournalBook>,
    is_answering: Arc<AtomicBool>,
    writer: JoinHandle<()>,
    udp_stop: Arc<AtomicBool>,
    /// How many there may be of TCP for want of files.
    connections: usize,
}

impl Starter {
    /// Starts the writer, and with it the probes.
    fn new(
        config: &Path,
        world: Arc<World>,
        journals: Journals,
        runtime: &Runtime,
        connections: usize,
    ) -> Result<Self, StartError> {
        let (clock, counters) = (Clock::start(), Arc::new(CounterBook::default()));
        let store = world.settings.server.state_file.as_ref();
        let store = store.map(|path| StateFile::new(config.parent().unwrap_or(Path::new("")).join(path)));
        let state = restored(State::new(Arc::clone(&world.settings.topology), clock.now()), store.as_ref(), &clock);
        let live = Arc::new(ArcSwap::from_pointee(Live::new(&world, &state, &counters)));
        let (outcomes, probes) = mpsc::channel(WAITING_MAX);
        let (commands, command_receiver) = mpsc::channel(WAITING_MAX);
        let (is_ready, readiness) = watch::channel(false);
        let (serves, served) = watch::channel(Arc::clone(&world));
        let writer = Writer {
            state,
            world: Arc::clone(&world),
            live: Arc::clone(&live),
            clock,
            prober: Prober::new(runtime.handle().clone(), outcomes).map_err(system)?,
            counters: Arc::clone(&counters),
            store,
            reloads: Reloads::first(),
            served: serves,
            is_ready,
            pending: Default::default(),
        };
        let writer = spawn_writer(writer, probes, command_receiver)?;
        Ok(Self {
            config: config.to_owned(),
            world,
            clock,
            counters,
            tcp_counters: Arc::default(),
            live,
            commands,
            readiness,
            served,
            notify_book: Arc::default(),
            journal_book: journals.book(),
            journals: Arc::new(Mutex::new(journals)),
            is_answering: Arc::default(),
            writer,
            udp_stop: Arc::default(),
            connections,
        })
    }

    fn start(self, runtime: Runtime, sockets: Sockets, files: Files) -> Result<Node, StartError> {
        let context = runtime.enter();
        let admin_address = sockets.admin.map(|listener| self.start_admin(listener)).transpose()?;
        let (reload, requests) = mpsc::channel(1);
        let (config, commands) = (self.config.clone(), self.commands.clone());
        let (live, is_answering) = (Arc::clone(&self.live), Arc::clone(&self.is_answering));
        let journals = Arc::clone(&self.journals);
        tokio::spawn(FileTask { config, files, requests, commands, live, is_answering, journals }.run());
        self.wait_until_ready(&runtime);
        let addresses = sockets.dns.iter().map(|bound| bound.address).collect();
        let encrypted_addresses = sockets.encrypted.addresses().map_err(system)?;
        let (workers, connections) = self.answer(sockets.dns, sockets.encrypted)?;
        drop(context);
        let Self { live, commands, writer, udp_stop, .. } = self;
        Ok(Node {
            runtime,
            addresses,
            encrypted_addresses,
            admin_address,
            live,
            commands,
            reload,
            workers,
            writer,
            udp_stop,
            connections,
        })
    }

    fn start_admin(&self, listener: StdListener) -> Result<SocketAddr, StartError> {
        let address = listener.local_addr().map_err(system)?;
        let parts = AdminParts {
            live: Arc::clone(&self.live),
            commands: self.commands.clone(),
            counters: Arc::clone(&self.counters),
            tcp_counters: Arc::clone(&self.tcp_counters),
            notify_book: Arc::clone(&self.notify_book),
            journal_book: Arc::clone(&self.journal_book),
            is_answering: Arc::clone(&self.is_answering),
            clock: self.clock,
            config: self.config.clone(),
        };
        tokio::spawn(admin::serve(TcpListener::from_std(listener).map_err(system)?, parts));
        info!(%address, "admin listener");
        Ok(address)
    }

    /// Queries wait in the sockets meanwhile.
    fn wait_until_ready(&self, runtime: &Runtime) {
        let most = first_round_max(&self.world.settings.topology.probe);
        let mut readiness = self.readiness.clone();
        match runtime.block_on(async { timeout(most, readiness.wait_for(|ready| *ready)).await.is_ok() }) {
            true => info!("first probe round is over"),
            false => {
                let waited_ms = most.as_millis() as u64;
                warn!(waited_ms, "first probe round is not over: answering all the same");
            }
        }
    }

    /// Starts to answer; gives the UDP threads, and those for connections.
    fn answer(
        &self,
        sockets: Vec<Bound>,
        encrypted: EncryptedSockets,
    ) -> Result<(Vec<JoinHandle<()>>, Vec<TcpThreads>), StartError> {
        let turns = Turns::new(self.clock, self.world.settings.server.rate_limit.as_ref()).map_err(system)?;
        if let Some(limiter) = turns.limiter() {
            tokio::spawn(flood::watch(Arc::clone(&self.counters), Arc::clone(limiter)));
        }
        let (updates, updater) = Updates::new(Arc::clone(&self.journals), self.commands.clone(), self.counters.slow());
        tokio::spawn(updater.run());
        tokio::spawn(Refusals::tell(self.counters.slow()));
        let slow = Arc::new(SlowPath::new(Arc::clone(&self.live), self.counters.slow(), updates));
        let mailbox = Mailbox::open(Arc::clone(&slow));
        let allowed = cores::allowed();
        let threads = sockets.iter().map(|bound| bound.udp.len()).max().unwrap_or(1);
        let (mut workers, mut listeners) = (Vec::new(), Vec::new());
        for Bound { address, udp, tcp } in sockets {
            info!(%address, udp_threads = udp.len(), "answers over UDP and TCP");
            let cores = cores::assign(udp.len(), &allowed);
            for (socket, core) in udp.into_iter().zip(cores) {
                workers.push(self.spawn_udp(socket, core, turns.clone(), mailbox.clone())?);
            }
            listeners.push(tcp);
        }
        let listen = self.world.settings.server.listen.clone();
        tokio::spawn(Notifier::new(self.served.clone(), listen, Arc::clone(&self.notify_book)).run());
        let settings = &self.world.settings.server.tcp;
        let seats = Arc::new(Seats::new(settings, self.connections, Arc::clone(&self.tcp_counters)));
        let lanes = |transport| (0..threads).map(|_| self.lane(transport, &slow)).collect::<Vec<_>>();
        let mut connections =
            vec![TcpThreads::start(listeners, Arc::clone(&seats), lanes(Transport::Tcp)).map_err(system)?];
        connections.extend(encrypted::start(encrypted, &self.live, &seats, settings, threads, lanes).map_err(system)?);
        self.is_answering.store(true, Ordering::Release);
        Ok((workers, connections))
    }

    fn lane(&self, transport: Transport, slow: &Arc<SlowPath>) -> Lane {
        let (live, slow) = (Arc::clone(&self.live), Arc::clone(slow));
        Lane { transport, live, counters: self.counters.counters(transport), slow }
    }

    fn spawn_udp(
        &self,
        socket: UdpSocket,
        core: Option<usize>,
        turns: Turns,
        slow: Mailbox,
    ) -> Result<JoinHandle<()>, StartError> {
        let worker = UdpWorker {
            socket: Arc::new(socket),
            core,
            live: Arc::clone(&self.live),
            counters: self.counters.counters(Transport::Udp),
            turns,
            slow,
            is_stopping: Arc::clone(&self.udp_stop),
        };
        thread::Builder::new().name("gslb-udp".to_owned()).spawn(move || worker.run()).map_err(system)
    }
}

/// The state as it was before the restart, where it was kept.
fn restored(mut state: State, store: Option<&StateFile>, clock: &Clock) -> State {
    let Some(store) = store else { return state };
    let path = store.path().display();
    match store.read(Timestamp::now()) {
        Ok(None) => {}
        Ok(Some(found)) => {
            let verdicts = found.saved.verdicts.len();
            info!(%path, verdicts, age_secs = found.elapsed.as_secs(), "restored verdicts and overrides");
            // Restoring is no operator's event, so that it is never refused.
            let _ = state.apply(Event::Restore { saved: found.saved, elapsed: found.elapsed }, clock.now());
        }
        Err(error) => warn!(%path, %error, "state file not used: everything is probed anew"),
    }
    state
}

/// A thread of its own, so that a large snapshot in the making delays no connection.
fn spawn_writer(
    writer: Writer,
    probes: mpsc::Receiver<Probed>,
    commands: mpsc::Receiver<Command>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = runtime::Builder::new_current_thread().enable_time().build().map_err(system)?;
    let run = move || runtime.block_on(writer.run(probes, commands));
    thread::Builder::new().name("gslb-writer".to_owned()).spawn(run).map_err(system)
}

/// The time in which every proxy has been found up or down, with some to spare.
fn first_round_max(probe: &ProbeSettings) -> Duration {
    let streak = probe.time_limit + probe.deciding_interval.min(probe.interval).mul_f64(1.1) * probe.fall;
    (streak + Duration::from_millis(300)).min(FIRST_ROUND_MAX)
}

fn system(error: impl ToString) -> StartError {
    StartError::System(error.to_string())
}

/// What may wait for the writer before who sends more has to wait.
const WAITING_MAX: usize = 4096;
/// However long probes may take, clients do not wait longer.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(10);
