//! The thread that runs the virtual routers.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shared::moment::Moment;

use super::notes::Notes;
use super::router::Router;
use super::sweep::{Lock, Traces};
use super::tracking::{Surroundings, standings};
use super::watchdog::{self, Watchdog};
use super::wire::Wire;
use super::{Arrival, Word};
use crate::config::VirtualRouter;
use crate::live::Proxy;
use crate::netlink::{Monitor, Netlink};
use crate::vrrp::gateway::Gateway;
use crate::vrrp::group::Group;
use crate::vrrp::machine::{Action, Rules};

mod begin;
mod change;

pub(super) use change::Change;

/// All that the thread has.
pub(super) struct House {
    proxy: Arc<Proxy>,
    arrival: Arrival,
    listens: Arc<dyn Fn() -> bool + Send + Sync>,
    groups: Vec<(Group, Vec<Router>)>,
    traces: Traces,
    netlink: Netlink,
    monitor: Monitor,
    /// Which tracked interfaces have a carrier.
    carriers: BTreeMap<String, bool>,
    watchdog: Option<Watchdog>,
    beaten: Instant,
    published: Instant,
    started: Instant,
    lock: Lock,
    ears: Ears,
    notes: Notes,
}

/// Where the thread hears from the rest of the proxy.
#[derive(Debug)]
pub(super) struct Ears {
    /// One octet for each [`Word`].
    pub(super) words: UnixStream,
    /// One for each [`Word::Change`].
    pub(super) changes: Receiver<Change>,
}

/// What the thread is told.
#[derive(Debug)]
enum Told {
    End(Word),
    Change(Change),
}

impl House {
    /// Is to run the routers of `settings`, of which it has `lock` already, or waits for.
    pub(super) fn new(
        proxy: Arc<Proxy>,
        arrival: Arrival,
        listens: Arc<dyn Fn() -> bool + Send + Sync>,
        settings: Vec<VirtualRouter>,
        lock: Lock,
        ears: Ears,
        notes: Notes,
    ) -> io::Result<Self> {
        let gateway = match arrival {
            Arrival::Fresh => Gateway::unknown(Moment::START),
            // What the process before held is not let go for an answer that is under way.
            Arrival::Successor => Gateway::believed(Moment::START),
        };
        let mut house = Self {
            proxy,
            arrival,
            listens,
            traces: Traces::of(&settings),
            groups: groups(settings, gateway),
            netlink: Netlink::open()?,
            monitor: Monitor::open()?,
            carriers: BTreeMap::new(),
            watchdog: None,
            beaten: Instant::now(),
            published: Instant::now(),
            started: Instant::now(),
            lock,
            ears,
            notes,
        };
        house.carriers = house.routers().flat_map(Router::tracked_interfaces).collect();
        Ok(house)
    }

    pub(super) fn run(mut self) {
        if !self.take_lock() {
            return;
        }
        self.start_watchdog();
        // Only now: the watchdog is no hurry.
        self.hurry();
        if self.arrival == Arrival::Fresh {
            self.sweep();
        }
        self.look();
        self.meet_gateways();
        self.stand();
        if self.arrival == Arrival::Successor {
            self.resume();
        }
        let word = loop {
            let (is_changed, told) = self.wait(self.pause());
            match told {
                Some(Told::End(word)) => break word,
                Some(Told::Change(change)) => self.change(change),
                None => {}
            }
            if is_changed {
                self.monitor.drain();
                self.look();
            }
            // What was sent in time is heard before anything is found to be late.
            self.receive();
            self.ask_gateways();
            self.stand();
            self.tick();
            self.beat();
            self.publish(is_changed);
        };
        if word == Word::HandOver {
            if let Some(watchdog) = self.watchdog.take() {
                watchdog.dismiss();
            }
            return;
        }
        self.each(|group, now, _| group.stop(now));
        self.publish(true);
        // Interfaces of its own go too.
        if let (_, Some(error)) = self.traces.sweep(&mut self.netlink) {
            self.notes.failure("all", "something may be left here", &error);
        }
    }

    fn routers(&self) -> impl Iterator<Item = &Router> {
        self.groups.iter().flat_map(|(_, routers)| routers)
    }

    fn routers_mut(&mut self) -> impl Iterator<Item = &mut Router> {
        self.groups.iter_mut().flat_map(|(_, routers)| routers)
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.started.elapsed())
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let probes = self.routers().filter_map(|router| router.gateways.due());
        let due = self.groups.iter().filter_map(|(group, _)| group.due()).chain(probes).min();
        due.map_or(watchdog::BEAT, |due| due.since(self.now())).min(watchdog::BEAT)
    }

    /// Waits for at most `limit`; says whether interfaces changed, and what it is told, if it is.
    fn wait(&mut self, limit: Duration) -> (bool, Option<Told>) {
        let mut fds = vec![PollFd::new(&self.ears.words, PollFlags::IN), PollFd::new(&self.monitor, PollFlags::IN)];
        let routers = self.groups.iter().flat_map(|(_, routers)| routers);
        let heard =
            routers.flat_map(|router| router.wire.as_ref().map(Wire::as_fd).into_iter().chain(router.gateways.fd()));
        fds.extend(heard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let limit = Timespec::try_from(limit).ok();
        // A signal ends it early, which harms nothing.
        let _ = poll(&mut fds, limit.as_ref());
        let is_changed = !fds[1].revents().is_empty();
        if fds[0].revents().is_empty() {
            return (is_changed, None);
        }
        let mut word = [0];
        let told = match self.ears.words.read(&mut word) {
            Ok(_) if word == [Word::HandOver as u8] => Some(Told::End(Word::HandOver)),
            Ok(_) if word == [Word::Change as u8] => self.ears.changes.try_recv().ok().map(Told::Change),
            // Without a word the rest of the process is gone.
            _ => Some(Told::End(Word::Stop)),
        };
        (is_changed, told)
    }

    fn look(&mut self) {
        for (_, routers) in &mut self.groups {
            for router in routers {
                router.look(&mut self.netlink, &self.notes);
            }
        }
        for (name, carrier) in &mut self.carriers {
            let link = self.netlink.link(name).ok().flatten();
            *carrier = link.is_some_and(|link| link.is_running);
        }
    }

    fn receive(&mut self) {
        let notes = self.notes.clone();
        self.each(|group, now, routers| {
            let heard = routers.iter_mut().enumerate().map(|(member, router)| (member, router.receive(&notes)));
            let heard: Vec<_> = heard.collect();
            let of = |(member, heard): (usize, Vec<_>)| heard.into_iter().map(move |heard| (member, heard));
            heard.into_iter().flat_map(of).flat_map(|(member, heard)| group.hear(now, member, heard)).collect()
        });
    }

    fn ask_gateways(&mut self) {
        let now = self.now();
        self.routers_mut().for_each(|router| router.ask_gateways(now));
    }

    fn stand(&mut self) {
        let (listens, proxy, notes) = ((self.listens)(), Arc::clone(&self.proxy), self.notes.clone());
        let carriers = self.carriers.clone();
        let around = Surroundings { proxy: &proxy, carriers: &carriers, listens };
        self.each(|group, now, routers| {
            let mut actions = Vec::new();
            for (member, standing) in standings(routers, &around, now, &notes).into_iter().enumerate() {
                if group.members().get(member).is_some_and(|machine| machine.standing() != standing) {
                    actions.extend(group.stand(now, member, standing));
                }
            }
            actions
        });
    }

    fn tick(&mut self) {
        self.each(|group, now, _| group.tick(now));
    }

    /// Takes one step with each group and does what that says.
    fn each(&mut self, mut step: impl FnMut(&mut Group, Moment, &mut Vec<Router>) -> Vec<(usize, Action)>) {
        let now = self.now();
        for (group, routers) in &mut self.groups {
            let mut has_changed = false;
            for (member, action) in step(group, now, routers) {
                let Some(router) = routers.get_mut(member) else { continue };
                has_changed |= matches!(action, Action::Take | Action::LetGo);
                if let Err(error) = router.perform(action, &mut self.netlink, &self.notes) {
                    self.notes.failure(&router.settings.name, what(action), &error);
                    if action == Action::Take {
                        router.bar(now);
                    }
                }
            }
            if has_changed {
                self.published = self.started;
            }
        }
    }

    fn beat(&mut self) {
        if self.beaten.elapsed() < watchdog::BEAT {
            return;
        }
        self.beaten = Instant::now();
        if let Some(watchdog) = &mut self.watchdog
            && let Err(error) = watchdog.beat()
        {
            self.notes.failure("all", "the watchdog ended: starting another", &error);
            self.watchdog = None;
            // It is not waited for: it takes its time, and this must not.
            match Watchdog::start(&self.traces) {
                Ok(watchdog) => self.watchdog = Some(watchdog),
                Err(error) => self.notes.failure("all", "cannot start a watchdog", &error),
            }
        }
    }

    /// Tells the rest of the proxy, at once where something changed.
    fn publish(&mut self, is_changed: bool) {
        if !is_changed && self.published != self.started && self.published.elapsed() < watchdog::BEAT {
            return;
        }
        self.published = Instant::now();
        let routers = || self.groups.iter().flat_map(|(group, routers)| routers.iter().zip(group.members()));
        self.proxy.vrrp.publish(routers().map(|(router, machine)| router.report(machine)).collect());
        let holds_all = routers().all(|(router, _)| router.holds());
        if self.proxy.holds_vip.swap(holds_all, Ordering::Relaxed) != holds_all {
            self.notes.tell(move || tracing::info!(holds_vip = holds_all, "VIP changed"));
        }
    }
}

/// The routers of each group, in the order of its members; each gateway that they track begins as `gateway`.
pub(super) fn groups(settings: Vec<VirtualRouter>, gateway: Gateway) -> Vec<(Group, Vec<Router>)> {
    let all_vips = all_vips(&settings);
    let group = |routers: Vec<VirtualRouter>| {
        let rules: Vec<Rules> = routers.iter().map(|router| router.rules).collect();
        let new = |router| Router::new(router, Arc::clone(&all_vips), gateway);
        (Group::new(&rules), routers.into_iter().map(new).collect())
    };
    together(settings).into_iter().map(group).collect()
}

fn all_vips(settings: &[VirtualRouter]) -> Arc<[IpAddr]> {
    settings.iter().flat_map(|router| router.vips.iter().copied()).collect()
}

/// Those that rise and fall together.
fn together(settings: Vec<VirtualRouter>) -> Vec<Vec<VirtualRouter>> {
    let mut named: BTreeMap<String, Vec<VirtualRouter>> = BTreeMap::new();
    let mut all: Vec<Vec<VirtualRouter>> = Vec::new();
    for router in settings {
        match router.group.clone() {
            Some(group) => named.entry(group).or_default().push(router),
            None => all.push(vec![router]),
        }
    }
    all.extend(named.into_values());
    all
}

/// What could not be done.
fn what(action: Action) -> &'static str {
    match action {
        Action::Advertise(_) => "cannot advertise",
        Action::Take => "cannot take the VIPs",
        Action::LetGo => "cannot take the VIPs off: two may hold them",
        Action::Announce => "cannot announce the VIPs",
        Action::Note(_) => "cannot tell",
    }
}
