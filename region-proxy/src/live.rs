//! What runs: the services and servers of the present settings, with their health and counts.
//!
//! A request loads one [`Live`] and keeps it to its end. Health and counts are atomics; the request path takes no lock
//! but the one around a server's list of idle connections, held for a push or a pop.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use shared::moment::Moment;
use shared::name::{OwnerName, ServerName};
use shared::published::{ServiceStatus, Status};

use crate::balance::{self, Candidate, Health};
use crate::body::BodyError;
use crate::config::{Check, Config, ServerConfig, ServiceConfig};
use crate::rate::Rate;
use crate::upstream::Pool;

pub mod throttle;

use throttle::Throttle;

/// The running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// What the present settings made; swapped whole.
    pub live: ArcSwap<Live>,
    /// Whether an operator drains it.
    pub is_draining: AtomicBool,
    /// Held while a change of `is_draining` is made and saved.
    pub saving: tokio::sync::Mutex<()>,
    /// Whether all VIPs were on this machine when last looked at.
    pub holds_vip: AtomicBool,
}

/// The settings and what runs by them.
#[derive(Debug)]
pub struct Live {
    /// The settings.
    pub config: Config,
    services: HashMap<OwnerName, Arc<Service>>,
    default: Option<Arc<Service>>,
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
#[derive(Debug, Default)]
struct Traffic {
    turn: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicU64,
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
    /// Connections to it.
    pub pool: Pool,
    /// Bounds the lines about the requests that it failed.
    pub failures: Throttle,
    health: AtomicU8,
    in_flight: AtomicU64,
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

/// One request in flight; counted until dropped.
#[derive(Debug)]
pub struct Flight {
    service: Arc<Service>,
    server: Option<Arc<Server>>,
}

impl Proxy {
    /// Runs `config` with nothing known of any server.
    pub fn new(config: Config, is_draining: bool) -> Self {
        let holds_vip = AtomicBool::new(config.vips.is_empty());
        Self {
            live: ArcSwap::from_pointee(Live::new(config, None)),
            is_draining: AtomicBool::new(is_draining),
            saving: tokio::sync::Mutex::default(),
            holds_vip,
        }
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
        }
    }
}

impl Live {
    /// Runs `config`; health, counts and connections of `previous` are kept where names and addresses are the same.
    pub fn new(config: Config, previous: Option<&Self>) -> Self {
        let service = |(name, settings): (&OwnerName, &ServiceConfig)| {
            let before = previous.and_then(|previous| previous.services.get(name));
            (name.clone(), Arc::new(Service::new(name.clone(), settings.clone(), before.map(AsRef::as_ref))))
        };
        let services: HashMap<_, _> = config.services.iter().map(service).collect();
        let default = config.default_service.as_ref().and_then(|name| services.get(name).cloned());
        Self { config, services, default }
    }

    /// The service for a host in the form of [`crate::route::host`]; the default one for `None` and for unknown hosts.
    pub fn service(&self, host: Option<&str>) -> Option<&Arc<Service>> {
        host.and_then(|host| self.services.get(host)).or(self.default.as_ref())
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }
}

impl Service {
    fn new(name: OwnerName, config: ServiceConfig, before: Option<&Self>) -> Self {
        let server = |(name, &ServerConfig { address, .. }): (&ServerName, &ServerConfig)| {
            let kept =
                before.and_then(|before| before.servers.iter().find(|old| old.name == *name && old.address == address));
            kept.cloned().unwrap_or_else(|| Arc::new(Server::new(name.clone(), address)))
        };
        let servers = config.servers.iter().map(server).collect();
        let traffic = before.map(|before| Arc::clone(&before.traffic)).unwrap_or_default();
        Self { name, config, servers, refusals: Throttle::default(), traffic }
    }

    /// The server for the next attempt of a request that already failed on those at the indices `tried`.
    pub fn choose(&self, tried: &[usize]) -> Option<usize> {
        let turn = self.traffic.turn.fetch_add(1, Ordering::Relaxed);
        let candidate = |(index, server): (usize, &Arc<Server>)| Candidate {
            health: server.health(),
            in_flight: server.in_flight.load(Ordering::Relaxed),
            is_tried: tried.contains(&index),
        };
        balance::choose(self.config.balance.rules.policy, self.servers.iter().enumerate().map(candidate), turn)
    }

    /// What `gslb-dns` is told of it.
    pub fn status(&self) -> ServiceStatus {
        let servers_up = self.servers.iter().filter(|server| server.health() == Health::Up).count();
        ServiceStatus {
            servers_up: servers_up as u32,
            servers_total: self.servers.len() as u32,
            requests_per_sec: f64::from_bits(self.traffic.per_sec_bits.load(Ordering::Relaxed)),
            connections: self.traffic.in_flight.load(Ordering::Relaxed),
            capacity: self.config.capacity,
        }
    }

    /// Takes a sample of its request count, for the rate.
    pub fn sample(&self, now: Moment) {
        let total = self.traffic.requests.load(Ordering::Relaxed);
        let per_sec = self.traffic.rate.lock().unwrap_or_else(PoisonError::into_inner).sample(now, total);
        self.traffic.per_sec_bits.store(per_sec.to_bits(), Ordering::Relaxed);
    }
}

impl Server {
    fn new(name: ServerName, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            pool: Pool::new(address),
            failures: Throttle::default(),
            health: AtomicU8::new(UNKNOWN),
            in_flight: AtomicU64::new(0),
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

impl Flight {
    /// A request for `service`.
    pub fn new(service: Arc<Service>) -> Self {
        service.traffic.requests.fetch_add(1, Ordering::Relaxed);
        service.traffic.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { service, server: None }
    }

    /// It is now with `server`.
    pub fn move_to(&mut self, server: &Arc<Server>) {
        server.in_flight.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.server.replace(Arc::clone(server)) {
            before.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its service.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The server's body ended before its end: logged, and the client's connection is cut so that it knows.
    pub(crate) fn broke_off(&self, error: &BodyError) {
        let Some(server) = &self.server else { return };
        let Some(left_out) = server.failures.pass(Instant::now()) else { return };
        let (service, server) = (self.service.name.as_str(), server.name.as_str());
        tracing::warn!(service, server, cause = crate::upstream::cause(error), left_out, "response broke off");
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.service.traffic.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(server) = &self.server {
            server.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
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
