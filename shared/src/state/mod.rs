//! Everything that changes: health, verdicts and overrides, moved by events alone.

mod event;
mod facts;
mod machine;
mod penalty;
mod saved;
mod vips;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use event::{Action, Change, Changes, Doubt, Event, Override, ProbeFailure, Refused, VipChange, VipNews};
pub use facts::ProxyFacts;
pub use saved::{Saved, SavedOverride, SavedVerdict};

use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName, RegionName};
use crate::published::Status;
use crate::snapshot::{ServiceView, View};
use crate::topology::{MemberId, RegionId, Service, ServiceId, Topology};
use facts::RegionFacts;
use machine::{Inputs, Machine, Order};

/// The health, verdicts and overrides of a topology. [`State::apply`] is the only thing that changes it.
#[derive(Clone, Debug)]
pub struct State {
    topology: Arc<Topology>,
    /// At the position of the region.
    regions: Vec<RegionFacts>,
    /// At the position of the service, then of the member.
    machines: Vec<Vec<Machine>>,
    overrides: Vec<Override>,
    doubt_since: Option<Moment>,
    /// When the last doubt ended; `None`: there was none.
    trusted_since: Option<Moment>,
}

impl State {
    /// Nothing is known yet of any region.
    pub fn new(topology: Arc<Topology>, now: Moment) -> Self {
        let regions = topology.region_ids().map(|id| RegionFacts::new(&topology, id)).collect();
        let members = |service: &Service| vec![Machine::new(now); topology.steering(service).members.len()];
        let machines = topology.services.iter().map(members).collect();
        Self { topology, regions, machines, overrides: Vec::new(), doubt_since: None, trusted_since: None }
    }

    /// Takes in `event` at `now`, which is never earlier than at the call before.
    ///
    /// Fails when the event is an operator's and cannot be done; then nothing has changed. A probe of a proxy that the
    /// topology does not have (any more) changes nothing.
    pub fn apply(&mut self, event: Event, now: Moment) -> Result<Changes, Refused> {
        let mut changes = Changes::default();
        let mut touched = None;
        match event {
            Event::Reload(topology) => {
                changes.doubt = self.reload(topology, now);
                changes.is_view_changed = true;
            }
            Event::Restore { saved, elapsed } => {
                self.restore(saved, elapsed, now);
                changes.is_view_changed = true;
            }
            Event::Override(order) => {
                touched = self.topology.find_region(&order.region);
                self.take_override(order, now)?;
            }
            Event::Clear { region, service } => {
                touched = self.topology.find_region(&region);
                self.clear_override(&region, service.as_ref())?;
            }
            Event::Probed { region, proxy, outcome } => {
                let Some(id) = self.topology.find_region(&region) else { return Ok(changes) };
                if self.is_of_the_doubt(&outcome, now) {
                    return Ok(changes);
                }
                let is_news = self.observe(id, &proxy, outcome, now);
                let may_move = is_news || self.regions[usize::from(id.0)].has_virtual_routers();
                let is_moved = may_move && self.follow_vips(id, now, &mut changes);
                changes.doubt = self.doubt(now);
                match (&changes.doubt, is_news || is_moved) {
                    (Some(_), _) => changes.is_view_changed = true,
                    (None, true) => touched = Some(id),
                    (None, false) => return Ok(changes),
                }
            }
            Event::Tick => {}
        }
        let in_force = self.overrides.len();
        self.overrides.retain(|order| order.expires > now);
        if self.overrides.len() < in_force {
            // What ended may be of any region.
            touched = None;
        }
        let patience = self.patience();
        for facts in &mut self.regions {
            if facts.follow_drain(patience, now) {
                // It may be of any region, too.
                touched = None;
            }
        }
        self.step(touched, now, &mut changes);
        Ok(changes)
    }

    /// What answers need of it.
    pub fn view(&self) -> View {
        let sheet =
            |machines: &Vec<Machine>| ServiceView { standings: machines.iter().map(|m| m.shown().clone()).collect() };
        View {
            topology: Arc::clone(&self.topology),
            services: self.machines.iter().map(sheet).collect(),
            vips: self.regions.iter().map(|facts| facts.vips().cloned().collect()).collect(),
            doubts_itself_since: self.doubt_since,
        }
    }

    /// The topology in force.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// When [`Event::Tick`] is due: the next moment at which time alone changes something.
    pub fn next_tick(&self) -> Option<Moment> {
        let expiries = self.overrides.iter().map(|order| order.expires);
        let deadlines =
            self.machines.iter().flatten().filter(|_| self.doubt_since.is_none()).filter_map(Machine::deadline);
        let drains = self.regions.iter().filter_map(|facts| facts.drains_at(self.patience()));
        expiries.chain(deadlines).chain(drains).min()
    }

    /// Whether something about `region` is being decided, so that its proxies should be probed more often.
    pub fn is_deciding(&self, region: &RegionName) -> bool {
        let Some(id) = self.topology.find_region(region) else { return false };
        let is_unfit = |(service, member): (ServiceId, MemberId)| {
            self.region_of(self.topology.service(service), member) == id && self.machine(service, member).is_unfit()
        };
        let facts = &self.regions[usize::from(id.0)];
        facts.is_deciding() || facts.drains_at(self.patience()).is_some() || self.pairs().any(is_unfit)
    }

    /// Whether the first probe round is over: every region has a verdict for every service.
    pub fn is_settled(&self) -> bool {
        self.machines.iter().flatten().all(|machine| !machine.is_unknown())
    }

    /// The overrides in force.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// What the probes found of the proxies of each region, in the order of the topology.
    pub fn proxies(&self) -> impl Iterator<Item = (&RegionName, &[ProxyFacts])> {
        self.topology.regions.iter().zip(&self.regions).map(|(region, facts)| (&region.name, facts.proxies()))
    }

    /// Verdicts and overrides for a file, so that [`Event::Restore`] brings them back after a restart.
    pub fn save(&self, now: Moment) -> Saved {
        let saved = |(id, member): (ServiceId, MemberId)| {
            let service = self.topology.service(id);
            let half_life = service.failback.flap.half_life;
            let names = (service.name.clone(), self.topology.member_name(service, member).clone());
            self.machine(id, member).save(names, half_life, now)
        };
        let overrides = self.overrides.iter().map(|order| SavedOverride::of(order, now)).collect();
        Saved { verdicts: self.pairs().filter_map(saved).collect(), overrides }
    }

    /// Health, verdicts and overrides go on under their names. A doubt ends where new proxies may be reachable.
    fn reload(&mut self, topology: Arc<Topology>, now: Moment) -> Option<Doubt> {
        let old = std::mem::replace(self, Self::new(topology, now));
        for (region, facts) in self.topology.regions.iter().zip(&mut self.regions) {
            if let Some(id) = old.topology.find_region(&region.name) {
                facts.inherit(&old.regions[usize::from(id.0)]);
            }
        }
        for (old_id, old_member) in old.pairs() {
            let service = old.topology.service(old_id);
            if let Some((id, member)) = self.find(&service.name, old.topology.member_name(service, old_member)) {
                *self.machine_mut(id, member) = old.machine(old_id, old_member).clone();
            }
        }
        (self.doubt_since, self.trusted_since) = (old.doubt_since, old.trusted_since);
        self.overrides = old.overrides;
        self.drop_overrides_of_nothing();
        self.end_doubt(now)
    }

    fn restore(&mut self, saved: Saved, elapsed: Duration, now: Moment) {
        for verdict in &saved.verdicts {
            if let Some((id, member)) = self.find(&verdict.service, &verdict.region) {
                let half_life = self.topology.service(id).failback.flap.half_life;
                *self.machine_mut(id, member) = Machine::restored(verdict, half_life, elapsed, now);
            }
        }
        self.overrides = saved.overrides.into_iter().filter_map(|order| order.restored(elapsed, now)).collect();
        self.drop_overrides_of_nothing();
    }

    fn drop_overrides_of_nothing(&mut self) {
        let mut overrides = std::mem::take(&mut self.overrides);
        overrides.retain(|order| self.check_names(&order.region, order.service.as_ref()).is_ok());
        self.overrides = overrides;
    }

    fn take_override(&mut self, order: Override, now: Moment) -> Result<(), Refused> {
        self.check_names(&order.region, order.service.as_ref())?;
        if order.expires <= now {
            return Err(Refused::AlreadyExpired);
        }
        if order.action == Action::Resume {
            return self.resume(&order, now);
        }
        self.overrides.retain(|other| (&other.region, &other.service) != (&order.region, &order.service));
        self.overrides.push(order);
        Ok(())
    }

    fn resume(&mut self, order: &Override, now: Moment) -> Result<(), Refused> {
        let topology = Arc::clone(&self.topology);
        let is_meant = |&(id, member): &(ServiceId, MemberId)| {
            let service = topology.service(id);
            topology.member_name(service, member) == &order.region
                && order.service.as_ref().is_none_or(|name| name == &service.name)
        };
        let meant: Vec<_> = self.pairs().filter(is_meant).collect();
        let mut resumed = false;
        for (id, member) in meant {
            let service = topology.service(id);
            let reason = format!("resumed by {}: {}", order.who, order.why);
            resumed |= self.machine_mut(id, member).resume(&service.failback, ramp_step(service), reason, now);
        }
        if resumed { Ok(()) } else { Err(Refused::NothingToResume { region: order.region.clone() }) }
    }

    fn clear_override(&mut self, region: &RegionName, service: Option<&OwnerName>) -> Result<(), Refused> {
        self.check_names(region, service)?;
        let before = self.overrides.len();
        self.overrides.retain(|order| (&order.region, order.service.as_ref()) != (region, service));
        if self.overrides.len() < before { Ok(()) } else { Err(Refused::NoOverride { region: region.clone() }) }
    }

    fn check_names(&self, region: &RegionName, service: Option<&OwnerName>) -> Result<(), Refused> {
        if self.topology.find_region(region).is_none() {
            return Err(Refused::UnknownRegion { region: region.clone() });
        }
        match service {
            Some(service) if self.find(service, region).is_none() => {
                Err(Refused::UnknownService { service: service.clone(), region: region.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the probe tells something new.
    fn observe(&mut self, id: RegionId, proxy: &ProxyName, outcome: Result<Status, ProbeFailure>, now: Moment) -> bool {
        let probe = &self.topology.probe;
        // That this node reaches nobody while it doubts itself says nothing about them.
        let is_own_fault = self.doubt_since.is_some() && outcome.as_ref().is_err_and(ProbeFailure::is_unreachable);
        self.regions[usize::from(id.0)].observe(proxy, outcome, probe.rise, probe.fall, !is_own_fault, now)
    }

    /// Notes what became of the VIPs of a region; says whether anything shown of them is another now.
    fn follow_vips(&mut self, id: RegionId, now: Moment, changes: &mut Changes) -> bool {
        let patience = self.patience();
        let (news, is_changed) = self.regions[usize::from(id.0)].follow_vips(patience, now);
        let region = &self.topology.region(id).name;
        changes.vips = news.into_iter().map(|(vip, news)| VipChange { region: region.clone(), vip, news }).collect();
        changes.is_view_changed |= is_changed;
        is_changed
    }

    /// How long proxies may say what is no good before that counts: a takeover is such a moment.
    fn patience(&self) -> Duration {
        self.topology.probe.deciding_interval * self.topology.probe.fall
    }

    /// All regions unreachable at once are taken for this node's own fault: verdicts freeze, and those that fell in the
    /// last moments come back; after it, whoever is still unreachable is counted from the start. Votes of other nodes will have their say here.
    fn doubt(&mut self, now: Moment) -> Option<Doubt> {
        if self.doubt_since.is_some() || !self.is_blind() {
            return self.end_doubt(now);
        }
        self.doubt_since = Some(now);
        let recent = now.before(self.doubt_window());
        self.machines.iter_mut().flatten().for_each(|machine| machine.take_back_fall(recent));
        self.regions.iter_mut().for_each(|facts| facts.take_back_failures(recent));
        Some(Doubt::Began)
    }

    /// Ends the doubt, if there is one, unless it is as founded as before.
    fn end_doubt(&mut self, now: Moment) -> Option<Doubt> {
        if self.doubt_since.is_none() || self.is_blind() {
            return None;
        }
        self.doubt_since = None;
        self.trusted_since = Some(now);
        Some(Doubt::Ended)
    }

    /// Whether a probe began while this node doubted itself, and shows only now that it reached nobody.
    fn is_of_the_doubt(&self, outcome: &Result<Status, ProbeFailure>, now: Moment) -> bool {
        let Some(trusted_since) = self.trusted_since.filter(|_| self.doubt_since.is_none()) else { return false };
        matches!(outcome, Err(ProbeFailure::Late(limit)) if now.before(*limit) < trusted_since)
    }

    fn is_blind(&self) -> bool {
        !self.regions.is_empty() && self.regions.iter().all(RegionFacts::is_unreachable)
    }

    /// Proxies that become unreachable together are seen to be so within this time.
    fn doubt_window(&self) -> Duration {
        let probe = &self.topology.probe;
        probe.time_limit + probe.interval * (probe.fall + 1)
    }

    /// Moves the machines of one region, or all, and notes what changed.
    fn step(&mut self, region: Option<RegionId>, now: Moment, changes: &mut Changes) {
        let topology = Arc::clone(&self.topology);
        for (id, member) in self.pairs() {
            let service = topology.service(id);
            if region.is_some_and(|region| region != self.region_of(service, member)) {
                continue;
            }
            let mut machine = std::mem::take(self.machine_mut(id, member));
            let before = machine.shown().clone();
            machine.step(&self.inputs(service, member), now);
            let after = machine.shown();
            changes.is_view_changed |= *after != before;
            if (before.verdict, before.share) != (after.verdict, after.share) {
                changes.verdicts.push(Change::new(service, topology.member_name(service, member), &before, after));
            }
            *self.machine_mut(id, member) = machine;
        }
    }

    fn inputs<'a>(&'a self, service: &'a Service, member: MemberId) -> Inputs<'a> {
        let id = self.region_of(service, member);
        Inputs {
            fitness: self.regions[usize::from(id.0)].fitness(self.topology.region(id), service, member),
            order: self.order_for(service, id),
            failback: &service.failback,
            ramp_step: ramp_step(service),
            patience: self.patience(),
            is_frozen: self.doubt_since.is_some(),
        }
    }

    /// What the operator or the region's own proxies say about taking clients; the operator's word on the service
    /// comes before his word on the region.
    fn order_for<'a>(&'a self, service: &Service, id: RegionId) -> Order<'a> {
        let region = &self.topology.region(id).name;
        let for_region = || self.overrides.iter().filter(|order| &order.region == region);
        let found = for_region()
            .find(|order| order.service.as_ref() == Some(&service.name))
            .or_else(|| for_region().find(|order| order.service.is_none()));
        match found {
            Some(order) => Order::Operator(order),
            None if self.regions[usize::from(id.0)].is_draining() => Order::ProxiesDrain,
            None => Order::None,
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (ServiceId, MemberId)> + use<> {
        let sizes: Vec<usize> = self.machines.iter().map(Vec::len).collect();
        let members = |(id, size): (usize, usize)| (0..size as u8).map(move |m| (ServiceId(id as u32), MemberId(m)));
        sizes.into_iter().enumerate().flat_map(members)
    }

    fn find(&self, service: &OwnerName, region: &RegionName) -> Option<(ServiceId, MemberId)> {
        let id = self.topology.find_service(service)?;
        let steering = self.topology.steering(self.topology.service(id));
        Some((id, steering.find_member(self.topology.find_region(region)?)?))
    }

    fn region_of(&self, service: &Service, member: MemberId) -> RegionId {
        self.topology.steering(service).member(member).region
    }

    fn machine(&self, id: ServiceId, member: MemberId) -> &Machine {
        &self.machines[id.0 as usize][usize::from(member.0)]
    }

    fn machine_mut(&mut self, id: ServiceId, member: MemberId) -> &mut Machine {
        &mut self.machines[id.0 as usize][usize::from(member.0)]
    }
}

/// How long one step of a ramp lasts: the TTL of its answers, but never no time at all.
fn ramp_step(service: &Service) -> Duration {
    Duration::from_secs(u64::from(service.ttl_degraded.max(1)))
}
