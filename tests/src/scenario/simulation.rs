//! The virtual clock: probes, the operator and time move the real state.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use shared::failover::{Decision, decide, rank};
use shared::moment::Moment;
use shared::name::{ProxyName, RegionName};
use shared::place::ClientBlock;
use shared::published::Status;
use shared::snapshot::{Verdict, View};
use shared::state::{
    Action as Order, Change, Changes, Doubt, Event, Override, ProbeFailure, Refused, Saved, State, VipChange, VipNews,
};
use shared::topology::{ServiceId, Topology};

use super::proxies::Proxies;
use super::script::{Action, Asker};
use crate::laws::{Cause, Laws, judge_answer};

/// A world of simulated proxies around a real [`State`].
#[derive(Clone, Debug)]
pub struct Simulation {
    state: State,
    view: View,
    proxies: Proxies,
    askers: Vec<Asker>,
    due: BTreeMap<(Moment, u64), Due>,
    scheduled: u64,
    /// When each proxy was last asked, and when it is asked next.
    rounds: BTreeMap<(RegionName, ProxyName), (Moment, Moment)>,
    /// What was saved when the process went down.
    saved: Option<(Saved, Moment)>,
    laws: Laws,
    answers: BTreeMap<(usize, ServiceId), String>,
    timeline: String,
    now: Moment,
}

#[derive(Clone, Debug)]
enum Due {
    Action(Action, Option<Topology>),
    Result(RegionName, ProxyName, Result<Status, ProbeFailure>),
    Start,
}

impl Simulation {
    /// The start of the process, with every proxy alive.
    pub fn new(topology: Topology, askers: Vec<Asker>) -> Self {
        let mut proxies = Proxies::default();
        proxies.follow(&topology);
        let state = State::new(Arc::new(topology), Moment::START);
        let mut new = Self {
            view: state.view(),
            state,
            proxies,
            askers,
            due: BTreeMap::new(),
            scheduled: 0,
            rounds: BTreeMap::new(),
            saved: None,
            laws: Laws::default(),
            answers: BTreeMap::new(),
            timeline: String::new(),
            now: Moment::START,
        };
        new.plan_probes();
        new
    }

    /// Plans `action` for `at`; a reload comes with the new `topology`.
    pub fn schedule(&mut self, at: Moment, action: Action, topology: Option<Topology>) {
        self.plan(at, Due::Action(action, topology));
    }

    /// Runs to `end`; fails with a mistake in the script or the law that was broken.
    pub fn run_until(&mut self, end: Moment) -> Result<(), String> {
        while let Some(next) = self.next().filter(|&next| next <= end) {
            // Everything of one moment happens before anybody looks.
            self.now = next;
            self.act()?;
            self.probe();
            self.collect()?;
            self.tick()?;
            self.look()?;
        }
        self.now = end;
        Ok(())
    }

    /// The state as it is now.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The moment that the clock shows.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Goes on with a state that was restored from what this one saves.
    pub fn restore(&mut self) -> Result<(), String> {
        let saved = self.state.save(self.now);
        self.state = State::new(Arc::clone(self.state.topology()), self.now);
        self.apply(Event::Restore { saved, elapsed: Duration::ZERO }, Cause::Settings)
    }

    /// Everything that happened.
    pub fn into_timeline(self) -> String {
        self.timeline
    }

    fn plan(&mut self, at: Moment, due: Due) {
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), due);
    }

    fn next(&self) -> Option<Moment> {
        let due = self.due.keys().next().map(|(at, _)| *at);
        if self.saved.is_some() {
            return due;
        }
        let probes = self.rounds.values().map(|(_, next)| *next).min();
        let tick = self.state.next_tick().map(|tick| tick.max(self.now));
        due.into_iter().chain(probes).chain(tick).min()
    }

    fn act(&mut self) -> Result<(), String> {
        let is_action = |due: &Due| matches!(due, Due::Action(..) | Due::Start);
        while let Some(key) = self.due_now(is_action) {
            match self.due.remove(&key) {
                Some(Due::Action(action, topology)) => {
                    self.line(&format!("* {action}"));
                    self.act_on(action, topology)?;
                }
                Some(Due::Start) => self.start()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn act_on(&mut self, action: Action, topology: Option<Topology>) -> Result<(), String> {
        self.proxies
            .act(&action, self.now)
            .map_err(|mistake| format!("{:?}: {action}: {mistake}", self.now.elapsed()))?;
        let is_heard =
            matches!(action, Action::Override { .. } | Action::Clear(..) | Action::Reload(_) | Action::Restart(_));
        if is_heard && self.saved.is_some() {
            self.line("nobody hears it: the process is down");
            return Ok(());
        }
        match action {
            Action::Override { order: action, region, service, span, who, why } => {
                let expires = self.now + span;
                let (name, of) = (region.clone(), service.clone());
                let cause = if action == Order::Resume { Cause::Resume(&name, of.as_ref()) } else { Cause::Operator };
                self.apply(Event::Override(Override { region, service, action, who, why, expires }), cause)
            }
            Action::Clear(region, service) => self.apply(Event::Clear { region, service }, Cause::Operator),
            Action::Reload(_) => {
                let topology = Arc::new(topology.ok_or("a reload without a topology")?);
                self.proxies.follow(&topology);
                self.apply(Event::Reload(topology), Cause::Settings)?;
                self.plan_probes();
                Ok(())
            }
            Action::Restart(span) => {
                self.saved = Some((self.state.save(self.now), self.now));
                self.due.retain(|_, due| !matches!(due, Due::Result(..)));
                self.plan(self.now + span, Due::Start);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let Some((saved, at)) = self.saved.take() else { return Ok(()) };
        // Through its text, as it is in the file.
        let text = serde_json::to_string(&saved).map_err(|error| error.to_string())?;
        let saved = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        self.state = State::new(Arc::clone(self.state.topology()), self.now);
        self.line("* started again");
        self.apply(Event::Restore { saved, elapsed: self.now.since(at) }, Cause::Settings)?;
        self.rounds.clear();
        self.plan_probes();
        Ok(())
    }

    /// Begins the probes that are due.
    fn probe(&mut self) {
        if self.saved.is_some() {
            return;
        }
        let (now, settings) = (self.now, self.state.topology().probe.clone());
        let due: Vec<_> =
            self.rounds.iter().filter(|(_, (_, next))| *next <= now).map(|(key, _)| key.clone()).collect();
        for (region, proxy) in due {
            let (latency, outcome) = self.proxies.probe(&region, &proxy, settings.time_limit);
            self.plan(now + latency, Due::Result(region.clone(), proxy.clone(), outcome));
            let pace = self.pace(&region);
            self.rounds.insert((region, proxy), (now, now + pace));
        }
    }

    fn pace(&self, region: &RegionName) -> Duration {
        let probe = &self.state.topology().probe;
        if self.state.is_deciding(region) { probe.deciding_interval } else { probe.interval }
    }

    fn collect(&mut self) -> Result<(), String> {
        while let Some(key) = self.due_now(|due| matches!(due, Due::Result(..))) {
            let Some(Due::Result(region, proxy, outcome)) = self.due.remove(&key) else { break };
            let region_name = region.clone();
            self.apply(Event::Probed { region, proxy, outcome }, Cause::World)?;
            // What is being decided is asked sooner than planned.
            let (pace, now) = (self.pace(&region_name), self.now);
            let of_region = self.rounds.iter_mut().filter(|((region, _), _)| *region == region_name);
            of_region.for_each(|(_, (last, next))| *next = (*next).min(*last + pace).max(now));
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), String> {
        if self.saved.is_none() && self.state.next_tick().is_some_and(|tick| tick <= self.now) {
            self.apply(Event::Tick, Cause::World)?;
            if self.state.next_tick().is_some_and(|tick| tick <= self.now) {
                return Err(format!("{:?}: a tick is due at once again", self.now.elapsed()));
            }
        }
        Ok(())
    }

    /// The first thing due by now for which `is_meant` holds.
    fn due_now(&self, is_meant: impl Fn(&Due) -> bool) -> Option<(Moment, u64)> {
        let now = self.due.range(..=(self.now, u64::MAX));
        now.filter(|(_, due)| is_meant(due)).map(|(key, _)| *key).next()
    }

    fn plan_probes(&mut self) {
        let now = self.now;
        let known = std::mem::take(&mut self.rounds);
        self.rounds = self.proxies.names().map(|key| (key.clone(), *known.get(&key).unwrap_or(&(now, now)))).collect();
    }

    /// Moves the state and judges the step.
    fn apply(&mut self, event: Event, cause: Cause<'_>) -> Result<(), String> {
        let changes = match self.state.apply(event, self.now) {
            Ok(changes) => changes,
            Err(refused) => {
                self.refused(&refused);
                return Ok(());
            }
        };
        if cause == Cause::World && changes == Changes::default() {
            return Ok(());
        }
        if let Some(doubt) = changes.doubt {
            self.line(if doubt == Doubt::Began { "this node doubts itself" } else { "this node trusts itself again" });
        }
        changes.vips.iter().for_each(|change| self.show_vip(change));
        changes.verdicts.iter().for_each(|change| self.show_change(change));
        self.view = self.state.view();
        let broken = |law: String| format!("{:?}: {law}", self.now.elapsed());
        let judged = self.laws.judge(cause, &self.view, self.state.overrides(), &changes, self.now);
        judged.map_err(broken)?;
        for asker in &self.askers {
            for id in (0..self.view.topology.services.len() as u32).map(ServiceId) {
                let mut addresses = asker.addresses.iter();
                addresses
                    .try_for_each(|&address| judge_answer(&self.view, id, &asker.place, address))
                    .map_err(broken)?;
            }
        }
        Ok(())
    }

    fn refused(&mut self, refused: &Refused) {
        self.line(&format!("refused: {refused}"));
    }

    fn show_vip(&mut self, change: &VipChange) {
        let VipChange { region, vip, news } = change;
        let names = |names: &[ProxyName]| names.iter().map(ProxyName::as_str).collect::<Vec<_>>().join(" and ");
        let what = match news {
            VipNews::ChangedHands { from: None, to } => format!("at {to}"),
            VipNews::ChangedHands { from: Some(from), to } => format!("{from} -> {to}"),
            VipNews::TwoActives { holders, hearers } if hearers.is_empty() => format!("ALARM: at {}", names(holders)),
            VipNews::TwoActives { hearers, .. } => format!("ALARM: {} hears another", names(hearers)),
            VipNews::OneActive { holder: Some(holder), .. } => format!("alarm is over: at {holder}"),
            VipNews::OneActive { holder: None, .. } => "alarm is over".to_owned(),
        };
        self.line(&format!("{region} {vip}: {what}"));
    }

    fn show_change(&mut self, change: &Change) {
        let Change { service, region, from, to, reason, .. } = change;
        let share = match to {
            Verdict::Ramping => format!(" {} %", change.share.percent()),
            _ => String::new(),
        };
        self.line(&format!("{region} {service}: {from} -> {to}{share}: {reason}"));
    }

    /// Shows every answer that is another now.
    fn look(&mut self) -> Result<(), String> {
        if self.saved.is_some() || !self.state.is_settled() {
            return Ok(());
        }
        let count = self.view.topology.services.len() as u32;
        self.answers.retain(|(_, service), _| service.0 < count);
        for at in 0..self.askers.len() {
            for id in (0..count).map(ServiceId) {
                let answer = self.show_answer(&self.askers[at], id);
                let before = self.answers.insert((at, id), answer.clone());
                if before.as_ref() != Some(&answer) {
                    let before = before.map_or(String::new(), |before| format!("{before} -> "));
                    let service = &self.view.topology.service(id).name;
                    let line = format!("{} {service}: {before}{answer}", self.askers[at].name);
                    self.line(&line);
                }
            }
        }
        Ok(())
    }

    fn show_answer(&self, asker: &Asker, id: ServiceId) -> String {
        let topology = &self.view.topology;
        let service = topology.service(id);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for &address in &asker.addresses {
            let order = rank(topology, topology.steering(service), &asker.place, address).order();
            let decision = decide(topology, id, self.view.service(id), &order, ClientBlock::of(address));
            *counts.entry(self.show_decision(id, &decision)).or_default() += 1;
        }
        let total = asker.addresses.len().max(1);
        let percent = |count: usize| (count * 100 + total / 2) / total;
        let mut shares: Vec<(String, usize)> = counts.into_iter().collect();
        shares.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let shares: Vec<String> = match shares.as_slice() {
            [(only, _)] => vec![only.clone()],
            several => several.iter().map(|(who, count)| format!("{who} {} %", percent(*count))).collect(),
        };
        let is_degraded = self.view.service(id).is_degraded();
        format!("{} (ttl {})", shares.join(", "), if is_degraded { service.ttl_degraded } else { service.ttl })
    }

    fn show_decision(&self, id: ServiceId, decision: &Decision) -> String {
        let service = self.view.topology.service(id);
        let name = |member| self.view.topology.member_name(service, member).as_str();
        let names: Vec<&str> = decision.members.iter().map(name).collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join("+") };
        if decision.is_last_resort { format!("{names} as last resort") } else { names }
    }

    fn line(&mut self, text: &str) {
        let ms = self.now.elapsed().as_millis();
        // Writing to a String cannot fail.
        let _ = writeln!(self.timeline, "{:>6}.{:03}s  {text}", ms / 1000, ms % 1000);
    }
}
