//! What the probes found of the proxies of one region, and what that means for a service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::health::Health;
use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName};
use crate::published::Status;
use crate::snapshot::VipStanding;
use crate::topology::{MemberId, Region, RegionId, Service, Topology};

use super::event::{ProbeFailure, VipNews};
use super::machine::Fitness;
use super::vips::{self, Claim, VipFacts};

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
    /// The VIPs that it held in turn with others at its last answer.
    pub(super) claims: Vec<Claim>,
}

impl ProxyFacts {
    /// Whether it counts as up.
    pub(super) fn is_healthy(&self) -> bool {
        self.health.is_up() == Some(true)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RegionFacts {
    proxies: Vec<ProxyFacts>,
    vips: Vec<VipFacts>,
    drain: ProxyDrain,
}

/// Whether all proxies that count as holders of VIPs drain.
///
/// ```text
/// No ──they do──► Begun(since) ──for `patience`, or nobody else could hold the VIPs──► Counts
///  ▲────────────────they do not any more──────────────────────────────────────────────────┘
/// ```
/// A proxy of a pair that drains may hand its VIPs over: that is a takeover, and drains no region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ProxyDrain {
    No,
    Begun(Moment),
    Counts,
}

impl RegionFacts {
    pub(super) fn new(topology: &Topology, id: RegionId) -> Self {
        let region = topology.region(id);
        let unknown = |name: &ProxyName| ProxyFacts {
            proxy: name.clone(),
            health: Health::new(),
            status: None,
            failure: None,
            probed: None,
            failing_since: None,
            down_since: None,
            claims: Vec::new(),
        };
        Self {
            proxies: region.proxies.iter().map(|proxy| unknown(&proxy.name)).collect(),
            vips: all_vips(topology, id).into_iter().map(VipFacts::new).collect(),
            drain: ProxyDrain::No,
        }
    }

    /// Takes over what was known of proxies of the same name and of the same VIPs.
    pub(super) fn inherit(&mut self, old: &Self) {
        for proxy in &mut self.proxies {
            if let Some(known) = old.proxies.iter().find(|known| known.proxy == proxy.proxy) {
                *proxy = known.clone();
            }
        }
        for vip in &mut self.vips {
            if let Some(known) = old.vips.iter().find(|known| known.standing().vip == vip.standing().vip) {
                *vip = known.clone();
            }
        }
        self.drain = old.drain;
    }

    pub(super) fn proxies(&self) -> &[ProxyFacts] {
        &self.proxies
    }

    /// Who holds its VIPs.
    pub(super) fn vips(&self) -> impl Iterator<Item = &VipStanding> {
        self.vips.iter().map(VipFacts::standing)
    }

    /// Whether some proxy holds VIPs in turn with others, so that each answer may tell something of them.
    pub(super) fn has_virtual_routers(&self) -> bool {
        self.proxies.iter().filter_map(|proxy| proxy.status.as_ref()).any(|status| !status.virtual_routers.is_empty())
    }

    /// Follows what the proxies say of the VIPs: what is to be told, and whether anything of it is another now.
    pub(super) fn follow_vips(&mut self, patience: Duration, now: Moment) -> (Vec<(IpAddr, VipNews)>, bool) {
        let (mut told, mut is_changed) = (Vec::new(), false);
        for facts in &mut self.vips {
            let before = facts.standing().clone();
            let news = facts.follow(&self.proxies, patience, now);
            told.extend(news.into_iter().map(|news| (before.vip, news)));
            is_changed |= *facts.standing() != before;
        }
        (told, is_changed)
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
                let before = if proxy.failure.is_none() { std::mem::take(&mut proxy.claims) } else { Vec::new() };
                proxy.claims = Claim::follow(&before, &status, now);
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
            || self.vips.iter().any(|vip| vip.is_suspect(&self.proxies))
    }

    /// Whether its own proxies drain it.
    pub(super) fn is_draining(&self) -> bool {
        self.drain == ProxyDrain::Counts
    }

    /// When a drain that has begun counts.
    pub(super) fn drains_at(&self, patience: Duration) -> Option<Moment> {
        match self.drain {
            ProxyDrain::Begun(since) => Some(since + patience),
            ProxyDrain::No | ProxyDrain::Counts => None,
        }
    }

    /// Looks again whether the proxies drain the region; says whether that is another now.
    pub(super) fn follow_drain(&mut self, patience: Duration, now: Moment) -> bool {
        let before = self.is_draining();
        self.drain = match self.drain {
            _ if !self.holders_drain() => ProxyDrain::No,
            ProxyDrain::Counts => ProxyDrain::Counts,
            ProxyDrain::No if self.may_move() => ProxyDrain::Begun(now),
            ProxyDrain::Begun(since) if self.may_move() && now < since + patience => ProxyDrain::Begun(since),
            ProxyDrain::No | ProxyDrain::Begun(_) => ProxyDrain::Counts,
        };
        before != self.is_draining()
    }

    fn holders_drain(&self) -> bool {
        let mut holders = self.vips().flat_map(|standing| self.counted(standing.vip)).peekable();
        holders.peek().is_some() && holders.all(|status| status.is_draining)
    }

    /// Whether a proxy that does not drain could hold VIPs in the place of one that does.
    fn may_move(&self) -> bool {
        self.vips().any(|standing| standing.is_in_turn) && self.healthy().any(|status| !status.is_draining)
    }

    /// Whether the region is fit to serve `service`.
    ///
    /// ```text
    /// healthy proxies   VIPs held  servers up     some proxy unknown   all known
    /// enough            yes        enough         fit                  fit
    /// too few           –          –              undecided            unfit, counted by the probes
    /// enough            no         –              undecided            unfit, as reported
    /// enough            yes        too few        unfit, as reported   unfit, as reported
    /// ```
    ///
    /// Each VIP of `member` must be held. Servers are those that its holders see: for several VIPs, the one that sees fewest.
    pub(super) fn fitness(&self, region: &Region, service: &Service, member: MemberId) -> Fitness {
        let healthy = self.healthy().count();
        let is_unknown = self.proxies.iter().any(|proxy| proxy.health.is_up().is_none());
        if healthy < region.min_proxies as usize {
            let why = || format!("{} (at least {} needed): {}", self.count(), region.min_proxies, self.failures());
            return if is_unknown { Fitness::Undecided } else { Fitness::Unfit(why()) };
        }
        let vips = match service.vips_of(member) {
            [] => region.vips.as_slice(),
            own => own,
        };
        if let Some(why) = self.lack_of_holders(vips) {
            let why = format!("{}, {why}", self.count());
            return if is_unknown { Fitness::Undecided } else { Fitness::ReportedUnfit(why) };
        }
        let count = self.count() + &self.holders_in_turn(vips);
        match (self.servers(vips, &service.name), service.min_servers) {
            (_, 0) => Fitness::Fit(count),
            (None, _) => Fitness::ReportedUnfit(format!("no proxy with the VIP reports {}", service.name)),
            (Some((up, total)), min) if up < min => {
                Fitness::ReportedUnfit(format!("{up} of {total} servers up (at least {min} needed)"))
            }
            (Some((up, total)), _) => Fitness::Fit(format!("{count}, {up} of {total} servers up")),
        }
    }

    fn healthy(&self) -> impl Iterator<Item = &Status> {
        self.proxies.iter().filter(|proxy| proxy.is_healthy()).filter_map(|proxy| proxy.status.as_ref())
    }

    fn counted(&self, vip: IpAddr) -> impl Iterator<Item = &Status> {
        vips::counted(vip, &self.proxies)
    }

    /// What nobody holds of `vips`, if anything.
    fn lack_of_holders(&self, vips: &[IpAddr]) -> Option<String> {
        let missing: Vec<&IpAddr> = vips.iter().filter(|vip| self.counted(**vip).next().is_none()).collect();
        match missing.as_slice() {
            [] => None,
            all if all.len() == vips.len() => Some("none holds the VIP".to_owned()),
            [first, ..] => Some(format!("none holds {first}")),
        }
    }

    /// Who counts as the holder of `vips`, for the end of a reason; empty where they are not held in turn.
    fn holders_in_turn(&self, vips: &[IpAddr]) -> String {
        let mut names: Vec<&str> = Vec::new();
        for standing in self.vips().filter(|standing| vips.contains(&standing.vip)) {
            let holder = standing.holder().map(ProxyName::as_str);
            names.extend(holder.filter(|holder| !names.contains(holder)));
        }
        match names.as_slice() {
            [] => String::new(),
            [one] => format!(", {one} holds the VIP"),
            several => format!(", {} hold the VIPs", several.join(" and ")),
        }
    }

    /// Servers up and in all: for each VIP as the best of those that count sees them, of which the least.
    fn servers(&self, vips: &[IpAddr], service: &OwnerName) -> Option<(u32, u32)> {
        let behind = |vip: &IpAddr| {
            let seen = self.counted(*vip).filter_map(|status| status.services.get(service));
            seen.map(|service| (service.servers_up, service.servers_total)).max()
        };
        // `None`, that one reports nothing of it, is the least of all.
        vips.iter().map(behind).min().flatten()
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

/// The part of a status that verdicts depend on, besides its virtual routers: load changes with every answer.
fn without_load(status: &Status) -> (bool, bool, BTreeMap<OwnerName, (u32, u32)>) {
    let servers = |(name, service): (&OwnerName, &crate::published::ServiceStatus)| {
        (name.clone(), (service.servers_up, service.servers_total))
    };
    (status.holds_vip, status.is_draining, status.services.iter().map(servers).collect())
}

/// The VIPs of a region: its own, then those that services have in it.
fn all_vips(topology: &Topology, id: RegionId) -> Vec<IpAddr> {
    let mut vips = topology.region(id).vips.clone();
    let mut known: BTreeSet<IpAddr> = vips.iter().copied().collect();
    for service in &topology.services {
        let member = topology.steering(service).find_member(id);
        let own = member.map_or(&[][..], |member| service.vips_of(member));
        vips.extend(own.iter().filter(|vip| known.insert(**vip)));
    }
    vips
}
