//! What runs: the services and servers of the present settings, with their health and counts.
//!
//! A request keeps the [`Live`] that it began with to its end. Health is an atomic that checks write; what requests count
//! is counted by each thread apart, so the request path takes no lock and no two threads write to one place.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use shared::moment::Moment;
use shared::name::{OwnerName, ServerName};
use shared::published::{ServiceStatus, Status};

use crate::balance::Health;
use crate::config::{Check, Config, ServerConfig, ServiceConfig};
use crate::count::Counts;
use crate::rate::Rate;
use crate::takeover::report::Reports;
use crate::tls::Front;
use crate::tls::report::TlsState;

pub mod throttle;

use throttle::Throttle;

/// The running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// What the present settings made; swapped whole by [`Self::replace`].
    pub live: ArcSwap<Live>,
    generation: AtomicU64,
    /// Whether an operator drains it.
    pub is_draining: AtomicBool,
    /// Held while a change of `is_draining` is made and saved.
    pub saving: tokio::sync::Mutex<()>,
    /// Whether all VIPs were on this machine when last looked at.
    pub holds_vip: AtomicBool,
    /// TLS towards clients.
    pub tls: TlsState,
    /// Who holds the VIPs that are held in turn with others.
    pub vrrp: Reports,
}

/// The settings and what runs by them.
#[derive(Debug)]
pub struct Live {
    /// The settings.
    pub config: Config,
    services: Vec<Arc<Service>>,
    by_name: HashMap<OwnerName, usize>,
    default: Option<usize>,
    threads: usize,
    server_count: u32,
}

/// A service at run time.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: OwnerName,
    /// Its settings.
    pub config: ServiceConfig,
    /// Its servers, by name.
    pub servers: Vec<Arc<Server>>,
    /// Bounds the lines about its requests that no server could take.
    pub refusals: Throttle,
    traffic: Arc<Traffic>,
}

/// Counts of a service; they survive reloads.
#[derive(Debug)]
struct Traffic {
    requests: Counts,
    per_sec_bits: AtomicU64,
    rate: Mutex<Rate>,
}

/// A server at run time; it survives reloads that keep its service, name and address.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its number among all servers that ever were, by which each thread keeps its connections.
    pub number: u32,
    /// Bounds the lines about the requests that it failed.
    pub failures: Throttle,
    health: AtomicU8,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    health: shared::health::Health,
    since: Timestamp,
}

/// A server's health changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// What it was.
    pub from: Health,
    /// What it is.
    pub to: Health,
    /// Since when it had been `from`.
    pub since: Timestamp,
}

impl Proxy {
    /// Runs `config` on `threads` threads with nothing known of any server; `front` is what its `[tls]` leads to.
    pub fn new(config: Config, front: Option<Front>, is_draining: bool, threads: usize) -> Self {
        let holds_vip = AtomicBool::new(config.held_vips().is_empty());
        Self {
            live: ArcSwap::from_pointee(Live::new(config, threads)),
            generation: AtomicU64::new(0),
            is_draining: AtomicBool::new(is_draining),
            saving: tokio::sync::Mutex::default(),
            holds_vip,
            tls: TlsState::new(front, threads),
            vrrp: Reports::default(),
        }
    }

    /// Puts `live` in the place of what runs; the next request of each thread sees it.
    pub fn replace(&self, live: Live) {
        self.live.store(Arc::new(live));
        self.note_change();
    }

    /// Has each thread look at the settings and at the health of servers before its next request.
    pub fn note_change(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Grows with each [`Self::note_change`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What it tells `gslb-dns`.
    pub fn status(&self) -> Status {
        let live = self.live.load();
        let services = live.services().map(|service| (service.name.clone(), service.status()));
        Status {
            region: live.config.region.clone(),
            proxy: live.config.proxy.clone(),
            holds_vip: self.holds_vip.load(Ordering::Relaxed),
            is_draining: self.is_draining.load(Ordering::Relaxed),
            services: services.collect::<BTreeMap<_, _>>(),
            virtual_routers: self.vrrp.statuses(),
        }
    }
}

impl Live {
    /// Runs `config` on `threads` threads.
    pub fn new(config: Config, threads: usize) -> Self {
        Self::build(config, threads, None)
    }

    /// Runs `config`; health, counts and connections of this are kept where names and addresses are the same.
    pub fn successor(&self, config: Config) -> Self {
        Self::build(config, self.threads, Some(self))
    }

    fn build(config: Config, threads: usize, previous: Option<&Self>) -> Self {
        let mut server_count = previous.map_or(0, |previous| previous.server_count);
        let service = |(name, settings): (&OwnerName, &ServiceConfig)| {
            let before = previous.and_then(|previous| previous.find(name.as_str())).map(AsRef::as_ref);
            Arc::new(Service::new(name.clone(), settings.clone(), before, threads, &mut server_count))
        };
        let services: Vec<_> = config.services.iter().map(service).collect();
        let by_name = services.iter().enumerate().map(|(index, service)| (service.name.clone(), index)).collect();
        let default = config.default_service.as_ref();
        let default = default.and_then(|name| services.iter().position(|service| service.name == *name));
        Self { config, services, by_name, default, threads, server_count }
    }

    /// The index of the service for a host in the form of [`crate::route::host`]; the default one for `None` and for
    /// unknown hosts.
    pub fn service(&self, host: Option<&str>) -> Option<usize> {
        host.and_then(|host| self.by_name.get(host)).copied().or(self.default)
    }

    /// The threads that serve.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// All services, in the order of their indices.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    fn find(&self, name: &str) -> Option<&Arc<Service>> {
        self.by_name.get(name).and_then(|&index| self.services.get(index))
    }
}

impl Service {
    fn new(
        name: OwnerName,
        config: ServiceConfig,
        before: Option<&Self>,
        threads: usize,
        server_count: &mut u32,
    ) -> Self {
        let server = |(name, &ServerConfig { address, .. }): (&ServerName, &ServerConfig)| {
            let kept =
                before.and_then(|before| before.servers.iter().find(|old| old.name == *name && old.address == address));
            kept.cloned().unwrap_or_else(|| {
                let number = *server_count;
                *server_count += 1;
                Arc::new(Server::new(name.clone(), address, number))
            })
        };
        let servers = config.servers.iter().map(server).collect();
        let traffic = before.map_or_else(|| Arc::new(Traffic::new(threads)), |before| Arc::clone(&before.traffic));
        Self { name, config, servers, refusals: Throttle::default(), traffic }
    }

    /// Counts a request that `thread` begins.
    pub fn begin(&self, thread: usize) {
        self.traffic.requests.begin(thread);
    }

    /// Counts the end of a request of `thread`.
    pub fn end(&self, thread: usize) {
        self.traffic.requests.end(thread);
    }

    /// What `gslb-dns` is told of it.
    pub fn status(&self) -> ServiceStatus {
        let servers_up = self.servers.iter().filter(|server| server.health() == Health::Up).count();
        ServiceStatus {
            servers_up: servers_up as u32,
            servers_total: self.servers.len() as u32,
            requests_per_sec: f64::from_bits(self.traffic.per_sec_bits.load(Ordering::Relaxed)),
            connections: self.traffic.requests.in_progress(),
            capacity: self.config.capacity,
        }
    }

    /// Takes a sample of its request count, for the rate.
    pub fn sample(&self, now: Moment) {
        let total = self.traffic.requests.begun();
        let per_sec = self.traffic.rate.lock().unwrap_or_else(PoisonError::into_inner).sample(now, total);
        self.traffic.per_sec_bits.store(per_sec.to_bits(), Ordering::Relaxed);
    }
}

impl Traffic {
    fn new(threads: usize) -> Self {
        Self { requests: Counts::new(threads), per_sec_bits: AtomicU64::new(0), rate: Mutex::default() }
    }
}

impl Server {
    fn new(name: ServerName, address: SocketAddr, number: u32) -> Self {
        Self {
            name,
            address,
            number,
            failures: Throttle::default(),
            health: AtomicU8::new(UNKNOWN),
            history: Mutex::new(History { health: shared::health::Health::new(), since: Timestamp::now() }),
        }
    }

    /// Its health, by its checks so far.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            UP => Health::Up,
            DOWN => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Counts one check.
    pub fn observe(&self, is_ok: bool, check: &Check, now: Timestamp) -> Option<Change> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.health.observe(is_ok, check.rise, check.fall);
        let (from, to) = (self.health(), health_of(history.health.is_up()));
        if from == to {
            return None;
        }
        let code = if to == Health::Up { UP } else { DOWN };
        self.health.store(code, Ordering::Relaxed);
        Some(Change { from, to, since: std::mem::replace(&mut history.since, now) })
    }
}

fn health_of(is_up: Option<bool>) -> Health {
    match is_up {
        None => Health::Unknown,
        Some(true) => Health::Up,
        Some(false) => Health::Down,
    }
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
