//! Proxies that exist in a scenario only: what they answer to a probe.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::name::{OwnerName, ProxyName, RegionName};
use shared::published::{ServiceStatus, Status};
use shared::state::ProbeFailure;
use shared::topology::Topology;

use super::script::{Action, Target};

/// The proxies of a topology.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    all: Vec<Proxy>,
    is_cut_off: bool,
}

#[derive(Clone, Debug)]
struct Proxy {
    region: RegionName,
    name: ProxyName,
    life: Life,
    holds_vip: bool,
    is_draining: bool,
    servers: BTreeMap<OwnerName, (u32, u32)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    Live,
    Gone,
    Frozen,
}

impl Proxies {
    /// Takes on the proxies of `topology`; those known already stay as they are.
    pub(super) fn follow(&mut self, topology: &Topology) {
        let mut old = std::mem::take(&mut self.all);
        for region in &topology.regions {
            for proxy in &region.proxies {
                let known = old.iter().position(|known| known.region == region.name && known.name == proxy.name);
                let mut proxy = known.map_or_else(|| Proxy::new(&region.name, &proxy.name), |at| old.swap_remove(at));
                proxy.follow(topology);
                self.all.push(proxy);
            }
        }
    }

    /// Names of all of them.
    pub(super) fn names(&self) -> impl Iterator<Item = (RegionName, ProxyName)> {
        self.all.iter().map(|proxy| (proxy.region.clone(), proxy.name.clone()))
    }

    /// What a probe that begins now finds, and after how long.
    pub(super) fn probe(
        &self,
        region: &RegionName,
        name: &ProxyName,
        time_limit: Duration,
    ) -> (Duration, Result<Status, ProbeFailure>) {
        let refused = |why: &str| Err(ProbeFailure::Unreachable(why.to_owned()));
        let Some(proxy) = self.all.iter().find(|proxy| &proxy.region == region && &proxy.name == name) else {
            return (Duration::ZERO, refused("no such host"));
        };
        match proxy.life {
            _ if self.is_cut_off => (Duration::ZERO, refused("network unreachable")),
            Life::Live => (LATENCY, Ok(proxy.status())),
            Life::Gone => (Duration::ZERO, refused("connection refused")),
            Life::Frozen => (time_limit, Err(ProbeFailure::Late(time_limit))),
        }
    }

    /// Does `action`; fails when it is not about proxies that are there.
    pub(super) fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Live(target) => self.each(target, |proxy| proxy.life = Life::Live),
            Action::Die(target) => self.each(target, |proxy| proxy.life = Life::Gone),
            Action::Freeze(target) => self.each(target, |proxy| proxy.life = Life::Frozen),
            Action::Vip(target, is_held) => self.each(target, |proxy| proxy.holds_vip = *is_held),
            Action::Drain(target, is_on) => self.each(target, |proxy| proxy.is_draining = *is_on),
            Action::Servers(target, service, up, total) => self.each(target, |proxy| {
                proxy.servers.insert(service.clone(), (*up, *total));
            }),
            Action::Network(is_there) => {
                self.is_cut_off = !is_there;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn each(&mut self, target: &Target, mut change: impl FnMut(&mut Proxy)) -> Result<(), String> {
        let is_region = |name: &str| self.all.iter().any(|proxy| proxy.region.as_str() == name);
        let by_region = matches!(target, Target::Named(name) if is_region(name));
        let mut found = false;
        for proxy in &mut self.all {
            let is_meant = match target {
                Target::All => true,
                Target::Named(name) if by_region => proxy.region.as_str() == name,
                Target::Named(name) => proxy.name.as_str() == name,
            };
            if is_meant {
                found = true;
                change(proxy);
            }
        }
        if found { Ok(()) } else { Err(format!("{target} is neither a region nor a proxy")) }
    }
}

impl Proxy {
    fn new(region: &RegionName, name: &ProxyName) -> Self {
        Self {
            region: region.clone(),
            name: name.clone(),
            life: Life::Live,
            holds_vip: true,
            is_draining: false,
            servers: BTreeMap::new(),
        }
    }

    /// Forwards every service of its region, to two servers unless the script said otherwise.
    fn follow(&mut self, topology: &Topology) {
        for service in &topology.services {
            let Some(region) = topology.find_region(&self.region) else { continue };
            if topology.steering(service).find_member(region).is_some() {
                self.servers.entry(service.name.clone()).or_insert((2, 2));
            }
        }
    }

    fn status(&self) -> Status {
        let service = |(name, &(servers_up, servers_total)): (&OwnerName, &(u32, u32))| {
            (name.clone(), ServiceStatus { servers_up, servers_total, ..ServiceStatus::default() })
        };
        Status {
            region: self.region.clone(),
            proxy: self.name.clone(),
            holds_vip: self.holds_vip,
            is_draining: self.is_draining,
            services: self.servers.iter().map(service).collect(),
            virtual_routers: Vec::new(),
        }
    }
}

/// Time from a probe to its answer.
const LATENCY: Duration = Duration::from_millis(20);
