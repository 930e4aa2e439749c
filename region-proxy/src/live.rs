//! What runs: the services and servers of the present settings, with their health and counts.
//!
//! A request keeps the [`Live`] that it began with to its end. Health is an atomic that checks write; what requests count
//! is counted by each thread apart, so the request path takes no lock and no two threads write to one place.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use shared::moment::Moment;
use shared::name::{OwnerName, ServerName};
use shared::published::{ServiceStatus, Status};

use crate::access::Access;
use crate::config::{Config, ServerConfig, ServiceConfig};
use crate::control::{Control, Reloads, Upgrades};
use crate::count::Counts;
use crate::health::Checks;
use crate::peering::report::Peering;
use crate::rate::Rate;
use crate::reload::ReloadCounts;
use crate::stick_table::Stuck;
use crate::switching::bell::Bell;
use crate::switching::report::Reports as L4Reports;
use crate::takeover::report::Reports;
use crate::tally::{OwnTally, ServiceTally};
use crate::tls::Certificates;
use crate::tls::back::{Back, Equipment};
use crate::tls::report::TlsState;

pub mod seen;
pub mod server;
pub mod throttle;

pub use server::{Change, Server};
use throttle::Throttle;

/// The running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// What the present settings made; swapped whole by [`Self::replace`].
    pub live: ArcSwap<Live>,
    generation: AtomicU64,
    /// What ran before, while requests may still run by it.
    retired: Mutex<Vec<Arc<Live>>>,
    /// Whether an operator drains it.
    pub is_draining: AtomicBool,
    /// Whether another process is about to take over with what operators have changed so far.
    pub is_upgrading: AtomicBool,
    /// Held while a change of `is_draining` or of servers is made and saved.
    pub saving: tokio::sync::Mutex<()>,
    /// Whether all VIPs were on this machine when last looked at.
    pub holds_vip: AtomicBool,
    /// TLS towards clients.
    pub tls: TlsState,
    /// Who holds the VIPs that are held in turn with others.
    pub vrrp: Reports,
    /// What the kernel passes on by itself.
    pub l4: L4Reports,
    /// The proxies beside this one.
    pub peering: Peering,
    /// Rung with each [`Self::note_change`].
    pub bell: Bell,
    control: Mutex<Control>,
    checks: Mutex<Option<Checks>>,
    /// Those who want the settings read again.
    pub reloads: Reloads,
    /// Those who want the program started anew.
    pub upgrades: Upgrades,
    /// What is counted of clients.
    pub tally: OwnTally,
    /// The access log.
    pub access: Access,
    /// When it started.
    pub started: Timestamp,
    /// How reloads went.
    pub reload_counts: ReloadCounts,
}

/// The settings and what runs by them.
#[derive(Debug)]
pub struct Live {
    /// The settings, with what operators changed of them.
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
    /// Which client has which, where that is remembered.
    pub stuck: Option<Stuck>,
    /// Bounds the lines about its requests that no server could take.
    pub refusals: Throttle,
    traffic: Arc<Traffic>,
}

/// Counts of a service; they survive reloads.
#[derive(Debug)]
struct Traffic {
    requests: Counts,
    tally: ServiceTally,
    per_sec_bits: AtomicU64,
    rate: Mutex<Rate>,
}

impl Proxy {
    /// Runs `config` on `threads` threads with nothing known of any server; `certificates` are what it names.
    pub fn new(config: Config, certificates: Certificates, is_draining: bool, threads: usize) -> Self {
        let holds_vip = AtomicBool::new(config.held_vips().is_empty());
        let live = Live::new(config.clone(), threads);
        live.equip(&certificates.back);
        Self {
            control: Mutex::new(Control::new(config)),
            checks: Mutex::default(),
            reloads: Reloads::default(),
            upgrades: Upgrades::default(),
            live: ArcSwap::from_pointee(live),
            generation: AtomicU64::new(0),
            retired: Mutex::default(),
            is_draining: AtomicBool::new(is_draining),
            is_upgrading: AtomicBool::new(false),
            saving: tokio::sync::Mutex::default(),
            holds_vip,
            tls: TlsState::new(certificates, threads),
            vrrp: Reports::default(),
            l4: L4Reports::default(),
            peering: Peering::default(),
            bell: Bell::default(),
            tally: OwnTally::new(threads),
            access: Access::default(),
            started: Timestamp::now(),
            reload_counts: ReloadCounts::default(),
        }
    }

    /// Puts `live` in the place of what runs; the next request of each thread sees it.
    pub fn replace(&self, live: Live) {
        live.equip(&self.tls.back.load());
        let before = self.live.swap(Arc::new(live));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(before);
        self.note_change();
    }

    /// Frees what ran before and nothing runs by any more: much memory at once, for which no request shall wait.
    pub fn free_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|live| Arc::strong_count(live) > 1);
    }

    /// Has each thread look at the settings and at the health of servers before its next request.
    pub fn note_change(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.bell.ring();
    }

    /// Grows with each [`Self::note_change`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The settings as they were read, and what operators changed of them.
    pub fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running checks; `None` before they run first.
    pub fn checks(&self) -> MutexGuard<'_, Option<Checks>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
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
            let before = previous.and_then(|previous| previous.services.get(previous.find(name)?));
            match before {
                // Each thread goes on with what it knows of it.
                Some(before) if before.config == *settings => Arc::clone(before),
                _ => {
                    let before = before.map(AsRef::as_ref);
                    Arc::new(Service::new(name.clone(), settings.clone(), before, threads, &mut server_count))
                }
            }
        };
        let services: Vec<_> = config.services.iter().map(service).collect();
        let by_name = services.iter().enumerate().map(|(index, service)| (service.name.clone(), index)).collect();
        let default = config.default_service.as_ref();
        let default = default.and_then(|name| services.iter().position(|service| service.name == *name));
        Self { config, services, by_name, default, threads, server_count }
    }

    /// The index of the service for a host in the form of [`crate::route::host`]; the default one for `None` and for
    /// unknown hosts, such as the names of services for TCP alone.
    pub fn service(&self, host: Option<&str>) -> Option<usize> {
        let named = host.and_then(|host| self.by_name.get(host)).copied();
        named.filter(|&index| self.services[index].config.mode.is_http()).or(self.default)
    }

    /// The index of the service with this name, whatever its servers take.
    pub fn service_named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The threads that serve.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// All services, in the order of their indices.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// Gives its servers what they need of TLS.
    pub fn equip(&self, back: &Back) {
        for service in &self.services {
            for server in &service.servers {
                let settings = service.config.servers.get(&server.name).and_then(|config| config.tls.as_ref());
                if let (Some(settings), Some(equipment)) = (settings, &server.tls) {
                    back.equip(&service.config, settings, equipment);
                }
            }
        }
    }

    /// The index of the service of this name.
    pub fn find(&self, name: &OwnerName) -> Option<usize> {
        self.by_name.get(name).copied()
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
        let server = |(name, config): (&ServerName, &ServerConfig)| {
            let address = config.address;
            // What was connected to in another way is another server.
            let is_same = |old: &ServerConfig| old.tls == config.tls;
            let before = before.filter(|before| before.config.servers.get(name).is_some_and(is_same));
            let kept =
                before.and_then(|before| before.servers.iter().find(|old| old.name == *name && old.address == address));
            kept.cloned().unwrap_or_else(|| {
                let number = *server_count;
                *server_count += 1;
                let tls = config.tls.as_ref().map(|_| Equipment::default());
                Arc::new(Server::new(name.clone(), address, number, config.wanted(), tls, threads))
            })
        };
        let servers: Vec<_> = config.servers.iter().map(server).collect();
        let stuck = Stuck::of(&config, &servers, before.and_then(|before| before.stuck.as_ref()));
        let traffic = before.map_or_else(|| Arc::new(Traffic::new(threads)), |before| Arc::clone(&before.traffic));
        Self { name, config, servers, stuck, refusals: Throttle::default(), traffic }
    }

    /// Counts a request that `thread` begins.
    pub fn begin(&self, thread: usize) {
        self.traffic.requests.begin(thread);
    }

    /// Counts the end of a request of `thread`.
    pub fn end(&self, thread: usize) {
        self.traffic.requests.end(thread);
    }

    /// What is counted of its requests.
    pub fn tally(&self) -> &ServiceTally {
        &self.traffic.tally
    }

    /// What `gslb-dns` is told of it.
    pub fn status(&self) -> ServiceStatus {
        let servers_up = self.servers.iter().filter(|server| server.standing().is_open()).count();
        ServiceStatus {
            servers_up: servers_up as u32,
            servers_total: self.servers.len() as u32,
            requests_per_sec: f64::from_bits(self.traffic.per_sec_bits.load(Ordering::Relaxed)),
            connections: self.traffic.requests.in_progress(),
            capacity: self.config.capacity,
        }
    }

    /// The requests that it has in hand.
    pub fn in_flight(&self) -> u64 {
        self.traffic.requests.in_progress()
    }

    /// Takes a sample of its request count, for the rate, and forgets clients that were not seen for too long.
    pub fn sample(&self, now: Moment) {
        let total = self.traffic.requests.begun();
        let per_sec = self.traffic.rate.lock().unwrap_or_else(PoisonError::into_inner).sample(now, total);
        self.traffic.per_sec_bits.store(per_sec.to_bits(), Ordering::Relaxed);
        for server in &self.servers {
            server.tally.sample(now);
        }
        if let Some(stuck) = &self.stuck {
            stuck.table.sweep(stuck.bounds);
        }
    }
}

impl Traffic {
    fn new(threads: usize) -> Self {
        Self {
            requests: Counts::new(threads),
            tally: ServiceTally::new(threads),
            per_sec_bits: AtomicU64::new(0),
            rate: Mutex::default(),
        }
    }
}
