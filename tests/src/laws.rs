//! The laws of the DR rules, checked from outside: by what a state shows, not by how it works.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use shared::failover::{Because, Ranking, decide, explain, rank};
use shared::moment::Moment;
use shared::name::{OwnerName, RegionName};
use shared::place::{ClientBlock, Place};
use shared::snapshot::{Share, Standing, Verdict, View};
use shared::state::{Action, Changes, Doubt, Override};
use shared::topology::{FailbackMode, FenceStrength, LastResort, MemberId, Policy, Service, ServiceId};

/// What has been seen so far, to judge the next step by.
#[derive(Clone, Debug, Default)]
pub struct Laws {
    pairs: BTreeMap<(OwnerName, RegionName), Memory>,
    doubted: bool,
    overridden: Vec<RegionName>,
}

/// What moved the state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause<'a> {
    /// A probe or the clock.
    World,
    /// An operator ended recoveries of this region, for one service or all.
    Resume(&'a RegionName, Option<&'a OwnerName>),
    /// An operator did something else.
    Operator,
    /// Settings or a restart; spans in them may have changed.
    Settings,
}

#[derive(Clone, Debug)]
struct Memory {
    share: Share,
    verdict: Verdict,
    is_known: bool,
    /// When it left `down` the last time, if it has taken no clients since.
    fit_since: Option<Moment>,
    is_resumed: bool,
    raised: Option<Moment>,
    /// The shortest delay in force since it left `down`, and whether all that time only an operator could end it.
    delay: Duration,
    is_manual: bool,
}

impl Laws {
    /// Judges the step to `view`, reached at `now` for `cause`; fails with the law that is broken.
    pub fn judge(
        &mut self,
        cause: Cause<'_>,
        view: &View,
        overrides: &[Override],
        changes: &Changes,
        now: Moment,
    ) -> Result<(), String> {
        let doubts = view.doubts_itself_since.is_some();
        if cause == Cause::World && self.doubted && doubts {
            let moved = changes.verdicts.iter().find(|change| !self.overridden.contains(&change.region));
            if let Some(change) = moved {
                return Err(format!("a node that doubts itself changes a verdict: {change:?}"));
            }
        }
        self.overridden = overrides.iter().map(|order| order.region.clone()).collect();
        self.doubted = doubts;
        let mut pairs = BTreeMap::new();
        for (id, service) in (0..).map(ServiceId).zip(&view.topology.services) {
            for member in view.topology.steering(service).member_ids() {
                let region = view.topology.member_name(service, member).clone();
                let standing = view.service(id).standing(member);
                let step = Step { service, region: &region, standing, cause, overrides, changes, now };
                let key = (service.name.clone(), region.clone());
                let memory = step.judge(self.pairs.remove(&key))?;
                pairs.insert(key, memory);
            }
        }
        self.pairs = pairs;
        Ok(())
    }
}

struct Step<'a> {
    service: &'a Service,
    region: &'a RegionName,
    standing: &'a Standing,
    cause: Cause<'a>,
    overrides: &'a [Override],
    changes: &'a Changes,
    now: Moment,
}

impl Step<'_> {
    fn judge(&self, before: Option<Memory>) -> Result<Memory, String> {
        let failback = &self.service.failback;
        let is_known = !self.standing.reason.starts_with(UNKNOWN);
        let is_manual = failback.mode == FailbackMode::Manual;
        let mut memory = before.clone().unwrap_or(Memory {
            share: Share::NONE,
            verdict: Verdict::Down,
            is_known: false,
            fit_since: None,
            is_resumed: false,
            raised: None,
            delay: failback.delay,
            is_manual,
        });
        if self.cause == Cause::Settings {
            memory.raised = None;
        }
        memory.is_resumed |= self.is_resume();
        memory.delay = memory.delay.min(failback.delay);
        memory.is_manual &= is_manual;
        let is_excused = !memory.is_known || self.is_forced_up() || self.changes.doubt == Some(Doubt::Began);
        if self.standing.share > memory.share && !is_excused {
            self.judge_rise(&memory)?;
        }
        if self.changes.doubt == Some(Doubt::Began) {
            // What is taken back had never happened.
            memory.fit_since = None;
        } else {
            if self.standing.share > memory.share {
                memory.raised = Some(self.now);
            }
            self.note_fitness(&mut memory);
        }
        (memory.share, memory.verdict) = (self.standing.share, self.standing.verdict);
        memory.is_known |= is_known;
        Ok(memory)
    }

    fn judge_rise(&self, before: &Memory) -> Result<(), String> {
        let (old, new, now) = (before.share.percent(), self.standing.share.percent(), self.now.elapsed());
        let pair = format!("{} of {} at {now:?}", self.region, self.service.name);
        let step = self.service.failback.ramp_step_percent;
        if new > old.saturating_add(step) {
            return Err(format!("{pair}: share jumps from {old} to {new}, more than {step} points"));
        }
        let ramp_step = Duration::from_secs(u64::from(self.service.ttl_degraded));
        if before.raised.is_some_and(|raised| old > 0 && self.now.since(raised) < ramp_step) {
            return Err(format!(
                "{pair}: share rises from {old} to {new} sooner than {ramp_step:?} after the last rise"
            ));
        }
        let Some(fit_since) = before.fit_since.or((before.verdict == Verdict::Down).then_some(self.now)) else {
            return Ok(());
        };
        if before.is_resumed {
            return Ok(());
        }
        if before.is_manual {
            return Err(format!("{pair}: comes back without an operator"));
        }
        if self.now.since(fit_since) < before.delay {
            return Err(format!("{pair}: comes back {:?} after it is fit again", self.now.since(fit_since)));
        }
        Ok(())
    }

    fn note_fitness(&self, memory: &mut Memory) {
        let failback = &self.service.failback;
        if self.standing.share > Share::NONE {
            memory.fit_since = None;
        } else if self.standing.verdict == Verdict::Down {
            memory.fit_since = None;
            memory.is_resumed = false;
        } else if memory.verdict == Verdict::Down && memory.is_known {
            memory.fit_since = Some(self.now);
            memory.delay = failback.delay;
            memory.is_manual = failback.mode == FailbackMode::Manual;
        }
    }

    fn is_resume(&self) -> bool {
        matches!(self.cause, Cause::Resume(region, service)
            if region == self.region && service.is_none_or(|name| name == &self.service.name))
    }

    fn is_forced_up(&self) -> bool {
        self.overrides.iter().any(|order| {
            let is_here = &order.region == self.region;
            is_here
                && order.action == Action::Up
                && order.service.as_ref().is_none_or(|name| name == &self.service.name)
        })
    }
}

/// Judges the answer for a client at `place` with `address`; fails with the law that is broken.
pub fn judge_answer(view: &View, id: ServiceId, place: &Place, address: IpAddr) -> Result<(), String> {
    let answer = Answer::new(view, id, place, address);
    let checks = [answer.is_promised(), answer.is_admitted(), answer.is_fenced(), answer.is_explained()];
    let broken = checks.into_iter().flatten().next();
    broken.map_or(Ok(()), |law| Err(format!("{address} {}: {law}", answer.service.name)))
}

struct Answer<'a> {
    view: &'a View,
    id: ServiceId,
    service: &'a Service,
    place: &'a Place,
    address: IpAddr,
    ranking: Ranking,
    decision: shared::failover::Decision,
}

impl<'a> Answer<'a> {
    fn new(view: &'a View, id: ServiceId, place: &'a Place, address: IpAddr) -> Self {
        let topology = &view.topology;
        let service = topology.service(id);
        let ranking = rank(topology, topology.steering(service), place, address);
        let decision = decide(topology, id, view.service(id), &ranking.order(), ClientBlock::of(address));
        Self { view, id, service, place, address, ranking, decision }
    }

    fn is_promised(&self) -> Option<String> {
        let is_empty = self.decision.first.is_none();
        (is_empty && self.service.last_resort != LastResort::None)
            .then(|| "empty where an answer is promised".to_owned())
    }

    fn is_admitted(&self) -> Option<String> {
        let order: Vec<MemberId> = self.ranking.order().members().iter().map(|placed| placed.member).collect();
        let standing = |member: MemberId| self.view.service(self.id).standing(member);
        let serves = |member: MemberId| standing(member).verdict == Verdict::Serving;
        let chosen: Vec<MemberId> = self.decision.members.iter().collect();
        if !self.decision.is_last_resort {
            let unfit = chosen.iter().find(|&&member| standing(member).share == Share::NONE);
            if let Some(&member) = unfit {
                return Some(format!("answered with {}, which takes nobody", self.name(member)));
            }
            let policy = self.view.topology.steering(self.service).policy;
            let first = self.decision.first?;
            let passed = order.iter().copied().take_while(|&member| member != first).find(|&member| serves(member));
            let is_by_place = matches!(policy, Policy::Nearest | Policy::Ordered);
            return passed.filter(|_| is_by_place).map(|member| format!("passes over {}", self.name(member)));
        }
        if let Some(&member) = order.iter().find(|&&member| serves(member)) {
            return Some(format!("last resort while {} serves", self.name(member)));
        }
        let named = match &self.service.last_resort {
            LastResort::Regions(named) => order.iter().filter(|member| named.contains(member)).copied().collect(),
            _ => Vec::new(),
        };
        let candidates = if named.is_empty() { order } else { named };
        // Who can serve comes before who cannot; whom an operator took out, after its like that he did not.
        let rank = |member: &MemberId| (standing(*member).verdict == Verdict::Down, standing(*member).is_taken_out);
        let is_wrong = chosen.iter().map(rank).max() > candidates.iter().map(rank).min();
        is_wrong.then(|| "last resort takes a worse region than it might".to_owned())
    }

    fn is_fenced(&self) -> Option<String> {
        let steering = self.view.topology.steering(self.service);
        let fence = steering.keep_within.iter().find(|fence| fence.rule.clients.hold(self.place, self.address))?;
        let crosses = |member: &MemberId| !fence.rule.regions.contains(member);
        let crossing = self.decision.members.iter().find(crosses)?;
        (fence.strength == FenceStrength::Hard).then(|| format!("a hard fence is crossed to {}", self.name(crossing)))
    }

    /// What is explained is what is answered, and the same again.
    fn is_explained(&self) -> Option<String> {
        let explained = explain(self.view, self.id, self.place, self.address);
        let again = Answer::new(self.view, self.id, self.place, self.address);
        let is_outside = |because: Because| because == Because::OutsideFence;
        let leaks = self.ranking.entries.iter().any(|entry| is_outside(entry.because) != entry.group.is_none());
        let is_same = explained.decision == self.decision && again.decision == self.decision && !leaks;
        (!is_same).then(|| "explained otherwise than answered".to_owned())
    }

    fn name(&self, member: MemberId) -> &RegionName {
        self.view.topology.member_name(self.service, member)
    }
}

/// How the reason of a region begins that has no verdict yet.
const UNKNOWN: &str = "not probed yet";
