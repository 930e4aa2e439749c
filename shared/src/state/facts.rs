//! What the probes found of the proxies of one region, and what that means for a service.

use std::collections::BTreeMap;

use crate::health::Health;
use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName};
use crate::published::Status;
use crate::topology::{Region, Service};

use super::event::ProbeFailure;
use super::machine::Fitness;

/// What the probes found of one proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyFacts {
    /// Its name.
    pub proxy: ProxyName,
    /// Whether it counts as up.
    pub health: Health,
    /// Its last answer that counted.
    pub status: Option<Status>,
    /// Why the last probe failed; `None` when it did not.
    pub failure: Option<ProbeFailure>,
    /// When it was last probed; `None`: not yet.
    pub probed: Option<Moment>,
    /// When the present streak of failures began.
    pub failing_since: Option<Moment>,
    /// Since when it counts as down.
    pub down_since: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RegionFacts {
    proxies: Vec<ProxyFacts>,
}

impl RegionFacts {
    pub(super) fn new(region: &Region) -> Self {
        let unknown = |name: &ProxyName| ProxyFacts {
            proxy: name.clone(),
            health: Health::new(),
            status: None,
            failure: None,
            probed: None,
            failing_since: None,
            down_since: None,
        };
        Self { proxies: region.proxies.iter().map(|proxy| unknown(&proxy.name)).collect() }
    }

    /// Takes over what was known of proxies of the same name.
    pub(super) fn inherit(&mut self, old: &Self) {
        for proxy in &mut self.proxies {
            if let Some(known) = old.proxies.iter().find(|known| known.proxy == proxy.proxy) {
                *proxy = known.clone();
            }
        }
    }

    pub(super) fn proxies(&self) -> &[ProxyFacts] {
        &self.proxies
    }

    /// Whether the probe tells something that a verdict may depend on. A failure that is not counted is noted all the same.
    pub(super) fn observe(
        &mut self,
        name: &ProxyName,
        outcome: Result<Status, ProbeFailure>,
        rise: u32,
        fall: u32,
        is_counted: bool,
        now: Moment,
    ) -> bool {
        let Some(proxy) = self.proxies.iter_mut().find(|proxy| &proxy.proxy == name) else { return false };
        let was = (proxy.health.is_up(), proxy.status.as_ref().map(without_load), proxy.failure.clone());
        proxy.probed = Some(now);
        if is_counted {
            proxy.health.observe(outcome.is_ok(), rise, fall);
        }
        let is_down = proxy.health.is_up() == Some(false);
        proxy.down_since = is_down.then(|| proxy.down_since.unwrap_or(now));
        match outcome {
            Ok(status) => {
                proxy.status = Some(status);
                proxy.failure = None;
                proxy.failing_since = None;
            }
            Err(failure) => {
                proxy.failure = Some(failure);
                proxy.failing_since = proxy.failing_since.or(Some(now));
            }
        }
        was != (proxy.health.is_up(), proxy.status.as_ref().map(without_load), proxy.failure.clone())
    }

    /// Forgets failures of proxies that were not down before `recent`: they were this node's own.
    pub(super) fn take_back_failures(&mut self, recent: Moment) {
        for proxy in &mut self.proxies {
            let is_old = proxy.down_since.is_some_and(|since| since < recent);
            match proxy.health.is_up() {
                Some(_) if !is_old => (proxy.health, proxy.down_since) = (Health::new_up(), None),
                Some(_) => {}
                None => proxy.health = Health::new(),
            }
        }
    }

    /// Whether the last probe of every proxy reached nobody.
    pub(super) fn is_unreachable(&self) -> bool {
        self.proxies.iter().all(|proxy| proxy.failure.as_ref().is_some_and(ProbeFailure::is_unreachable))
    }

    pub(super) fn is_deciding(&self) -> bool {
        let is_suspect = |proxy: &ProxyFacts| proxy.failure.is_some() && proxy.health.is_up() == Some(true);
        self.proxies.iter().any(|proxy| proxy.health.is_deciding() || is_suspect(proxy))
    }

    /// Whether every healthy proxy that holds the VIP is draining.
    pub(super) fn is_draining(&self) -> bool {
        let mut holders = self.holders().peekable();
        holders.peek().is_some() && holders.all(|status| status.is_draining)
    }

    /// Whether the region is fit to serve `service`.
    ///
    /// ```text
    /// healthy proxies   VIP held   servers up     some proxy unknown   some known only
    /// enough            yes        enough         fit                  fit
    /// too few           –          –              undecided            unfit, counted by the probes
    /// enough            no         –              undecided            unfit, as reported
    /// enough            yes        too few        unfit, as reported   unfit, as reported
    /// ```
    pub(super) fn fitness(&self, region: &Region, service: &Service) -> Fitness {
        let healthy = self.healthy().count();
        let is_unknown = self.proxies.iter().any(|proxy| proxy.health.is_up().is_none());
        if healthy < region.min_proxies as usize {
            let why = || format!("{} (at least {} needed): {}", self.count(), region.min_proxies, self.failures());
            return if is_unknown { Fitness::Undecided } else { Fitness::Unfit(why()) };
        }
        if self.holders().next().is_none() {
            let why = format!("{}, none holds the VIP", self.count());
            return if is_unknown { Fitness::Undecided } else { Fitness::ReportedUnfit(why) };
        }
        match (self.servers(&service.name), service.min_servers) {
            (_, 0) => Fitness::Fit(self.count()),
            (None, _) => Fitness::ReportedUnfit(format!("no proxy with the VIP reports {}", service.name)),
            (Some((up, total)), min) if up < min => {
                Fitness::ReportedUnfit(format!("{up} of {total} servers up (at least {min} needed)"))
            }
            (Some((up, total)), _) => Fitness::Fit(format!("{}, {up} of {total} servers up", self.count())),
        }
    }

    fn healthy(&self) -> impl Iterator<Item = &Status> {
        self.proxies.iter().filter(|proxy| proxy.health.is_up() == Some(true)).filter_map(|proxy| proxy.status.as_ref())
    }

    fn holders(&self) -> impl Iterator<Item = &Status> {
        self.healthy().filter(|status| status.holds_vip)
    }

    /// Servers up and in all, as the best of those who hold the VIP sees them.
    fn servers(&self, service: &OwnerName) -> Option<(u32, u32)> {
        let seen = self.holders().filter_map(|status| status.services.get(service));
        seen.map(|service| (service.servers_up, service.servers_total)).max()
    }

    fn count(&self) -> String {
        format!("{} of {} proxies healthy", self.healthy().count(), self.proxies.len())
    }

    fn failures(&self) -> String {
        let failing = self.proxies.iter().filter(|proxy| proxy.health.is_up() != Some(true));
        let lines = failing.filter_map(|proxy| Some(format!("{} {}", proxy.proxy, proxy.failure.as_ref()?)));
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// The part of a status that verdicts depend on: load changes with every answer.
fn without_load(status: &Status) -> (bool, bool, BTreeMap<OwnerName, (u32, u32)>) {
    let servers = |(name, service): (&OwnerName, &crate::published::ServiceStatus)| {
        (name.clone(), (service.servers_up, service.servers_total))
    };
    (status.holds_vip, status.is_draining, status.services.iter().map(servers).collect())
}
