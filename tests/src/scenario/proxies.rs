//! Proxies that exist in a scenario only: what they answer to a probe.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use shared::moment::Moment;
use shared::name::{OwnerName, ProxyName, RegionName};
use shared::published::{ServiceStatus, Status, VirtualRouterState, VirtualRouterStatus};
use shared::state::ProbeFailure;
use shared::topology::Topology;

use super::script::{Action, RouterPart, Target};

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
    /// Its part in the virtual router of its region, which has these VIPs; `None`: it does not hold them in turn.
    router: Option<(RouterPart, u64)>,
    /// Those of its region.
    vips: Vec<IpAddr>,
    /// In the virtual router: the later in the settings, the lower.
    priority: u8,
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
            for (at, proxy) in (0..).zip(&region.proxies) {
                let known = old.iter().position(|known| known.region == region.name && known.name == proxy.name);
                let mut proxy = known.map_or_else(|| Proxy::new(&region.name, &proxy.name), |at| old.swap_remove(at));
                proxy.vips.clone_from(&region.vips);
                proxy.priority = 250 - 20 * at;
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

    /// Does `action` at `now`; fails when it is not about proxies that are there.
    pub(super) fn act(&mut self, action: &Action, now: Moment) -> Result<(), String> {
        match action {
            Action::Live(target) => self.each(target, |proxy| proxy.life = Life::Live),
            Action::Die(target) => self.each(target, |proxy| proxy.life = Life::Gone),
            Action::Freeze(target) => self.each(target, |proxy| proxy.life = Life::Frozen),
            Action::Vip(target, is_held) => self.each(target, |proxy| proxy.holds_vip = *is_held),
            Action::Router(target, part) => {
                self.each(target, |proxy| proxy.router = Some((*part, now.elapsed().as_secs())))
            }
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
            router: None,
            vips: Vec::new(),
            priority: 0,
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
            holds_vip: self.router.map_or(self.holds_vip, |(part, _)| part != RouterPart::Backup),
            is_draining: self.is_draining,
            services: self.servers.iter().map(service).collect(),
            virtual_routers: self.router.map(|(part, since)| self.router(part, since)).into_iter().collect(),
        }
    }

    fn router(&self, part: RouterPart, since: u64) -> VirtualRouterStatus {
        let holds_vips = part != RouterPart::Backup;
        VirtualRouterStatus {
            name: "web".to_owned(),
            vips: self.vips.clone(),
            state: if holds_vips { VirtualRouterState::Active } else { VirtualRouterState::Backup },
            holds_vips,
            holder: None,
            priority: self.priority,
            last_takeover: holds_vips.then_some(since),
            hears_other_active: part == RouterPart::Rivalled,
            failing: Vec::new(),
        }
    }
}

/// Time from a probe to its answer.
const LATENCY: Duration = Duration::from_millis(20);
