//! Other settings for virtual routers that run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{House, all_vips, together, what};
use crate::config::{VipMac, VirtualRouter};
use crate::takeover::macvlan;
use crate::takeover::router::Router;
use crate::takeover::sweep::{Lock, Traces, name_of, remove};
use crate::takeover::tracking::{Surroundings, standings};
use crate::takeover::watchdog::Watchdog;
use crate::vrrp::gateway::Gateway;
use crate::vrrp::group::Group;
use crate::vrrp::machine::{Action, Machine};

/// Settings that can be had, with what it takes.
#[derive(Debug)]
pub(in crate::takeover) struct Change {
    pub(in crate::takeover) settings: Vec<VirtualRouter>,
    /// The names of routers that did not run before.
    pub(in crate::takeover) lock: Lock,
    /// One that knows of all that is on the machine then; it waits for the end of the present one.
    pub(in crate::takeover) watchdog: Option<Watchdog>,
    /// Takes the present one, to be dismissed by somebody who has time, once all is done.
    pub(in crate::takeover) done: oneshot::Sender<Option<Watchdog>>,
}

impl House {
    /// Runs by `change` from now on: VIPs that stay with a router, or go to another that holds its own, do not notice.
    pub(super) fn change(&mut self, change: Change) {
        let Change { settings, lock, watchdog, done } = change;
        self.lock.absorb(lock);
        let (before, traces) = (self.stations(), Traces::of(&settings));
        let left = self.regroup(settings);
        self.leave(left, &before);
        for name in self.traces.macvlans.iter().filter(|name| !traces.macvlans.contains(name)) {
            if let Err(error) = macvlan::remove(&mut self.netlink, name) {
                self.notes.failure("all", "cannot take an interface away", &error);
            }
        }
        self.settle();
        self.lock.keep(&traces.routers);
        self.traces = traces;
        let past = std::mem::replace(&mut self.watchdog, watchdog);
        if let Err(Some(past)) = done.send(past) {
            // Nobody waits for it any more.
            past.dismiss();
        }
        self.publish(true);
    }

    /// Interfaces and the VIPs upon them, of those that are held.
    fn stations(&self) -> BTreeSet<(String, IpAddr)> {
        let holding = self.routers().filter(|router| router.holds());
        holding.flat_map(|router| router.settings.vips.iter().map(|vip| (router.station_name(), *vip))).collect()
    }

    /// Puts the machines and routers that stay into groups with new ones; returns those that do not stay.
    fn regroup(&mut self, settings: Vec<VirtualRouter>) -> BTreeMap<Identity, (Machine, Router)> {
        let (now, all_vips) = (self.now(), all_vips(&settings));
        let present = std::mem::take(&mut self.groups).into_iter();
        let present = present.flat_map(|(group, routers)| group.into_members().into_iter().zip(routers));
        let mut present: BTreeMap<Identity, _> = present.map(|it| (Identity::of(&it.1.settings), it)).collect();
        for members in together(settings) {
            let is_grouped = members.len() > 1;
            let member = |settings: VirtualRouter| match present.remove(&Identity::of(&settings)) {
                Some((mut machine, mut router)) => {
                    machine.follow(now, settings.rules, is_grouped);
                    router.follow(settings, Arc::clone(&all_vips), now);
                    (machine, router)
                }
                None => {
                    let machine = Machine::new(settings.rules, is_grouped);
                    // The VIPs of its group do not wait for an answer.
                    let gateway = if is_grouped { Gateway::believed(now) } else { Gateway::unknown(now) };
                    (machine, Router::new(settings, Arc::clone(&all_vips), gateway))
                }
            };
            let (machines, routers) = members.into_iter().map(member).unzip();
            self.groups.push((Group::of(machines), routers));
        }
        self.carriers = self.routers().flat_map(Router::tracked_interfaces).collect();
        present
    }

    /// Tells others of the routers that `left`, and takes off what nobody here holds of what was there `before`, or may be
    /// there for routers that hold nothing.
    fn leave(&mut self, left: BTreeMap<Identity, (Machine, Router)>, before: &BTreeSet<(String, IpAddr)>) {
        let now = self.now();
        for (_, (mut machine, mut router)) in left {
            if self.routers().any(|other| other.settings.name == router.settings.name) {
                self.notes.anew(&router.settings.name);
            }
            for action in machine.stop(now).into_iter().filter(|action| *action != Action::LetGo) {
                if let Err(error) = router.perform(action, &mut self.netlink, &self.notes) {
                    self.notes.failure(&router.settings.name, what(action), &error);
                }
            }
        }
        let after = self.stations();
        let idle = self.routers().filter(|router| !router.holds());
        let idle = idle.flat_map(|router| {
            let places = [router.settings.interface.clone(), router.station_name()];
            places.into_iter().flat_map(|place| router.settings.vips.iter().map(move |vip| (place.clone(), *vip)))
        });
        let surplus: BTreeSet<_> = before.iter().cloned().chain(idle).filter(|it| !after.contains(it)).collect();
        for (interface, vip) in surplus {
            if let Err(error) = remove(&mut self.netlink, &interface, vip) {
                self.notes.failure("all", what(Action::LetGo), &error);
            }
        }
    }

    /// Puts on what those who hold their VIPs have got in addition, and lets all find out how they stand.
    fn settle(&mut self) {
        for (_, routers) in &mut self.groups {
            for router in routers.iter_mut().filter(|router| router.holds()) {
                if let Err(error) = router.complete(&mut self.netlink) {
                    self.notes.failure(&router.settings.name, what(Action::Take), &error);
                }
            }
        }
        self.look();
        let (listens, proxy, notes) = ((self.listens)(), Arc::clone(&self.proxy), self.notes.clone());
        let carriers = self.carriers.clone();
        let around = Surroundings { proxy: &proxy, carriers: &carriers, listens };
        self.each(|group, now, routers| group.meet(now, &standings(routers, &around, now, &notes)));
    }
}

/// What others on the link and this machine know a router by: what cannot change in place.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Identity {
    name: String,
    has_virtual_mac: bool,
}

impl Identity {
    fn of(settings: &VirtualRouter) -> Self {
        Self { name: name_of(settings), has_virtual_mac: settings.mac == VipMac::Virtual }
    }
}
