//! Who holds the VIPs: VRRP at the sockets, on a thread of its own.
//!
//! ```text
//! packets, interfaces, what is tracked, time ─► crate::vrrp ─► packets, addresses, announcements
//! ```
//! The thread has real-time priority where that is allowed, waits for nothing but the kernel, and never for the log or for
//! who reads its reports. A watchdog process beside it removes the VIPs when it dies.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shared::moment::Moment;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::config::{Track, VirtualRouter};
use crate::live::Proxy;
use crate::vrrp::group::Group;
use crate::vrrp::machine::{Action, Rules, State};
use crate::vrrp::track::{Loss, standing};

mod macvlan;

mod notes;
pub mod report;
mod router;
mod sweep;
pub mod watchdog;
mod wire;

use crate::netlink::{self, Monitor, Netlink};
use notes::Notes;
use router::Router;
use watchdog::Watchdog;

pub use sweep::{Lock, Traces};

/// The running virtual routers.
#[derive(Debug)]
pub struct Takeover {
    thread: JoinHandle<()>,
    log: JoinHandle<()>,
    stop: UnixStream,
    traces: Traces,
}

impl Takeover {
    /// Runs the virtual routers of `proxy`; `None` where its settings have none. `listens` says whether clients can connect.
    pub fn start(
        proxy: Arc<Proxy>,
        arrival: Arrival,
        listens: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Option<Self>> {
        let settings = proxy.live.load().config.vrrp.clone();
        if settings.is_empty() {
            return Ok(None);
        }
        let (stop, stopped) = UnixStream::pair()?;
        stopped.set_nonblocking(true)?;
        let (notes, log) = Notes::start()?;
        let traces = Traces::of(&settings);
        let mut house = House {
            proxy,
            arrival,
            listens: Box::new(listens),
            groups: groups(settings),
            traces: traces.clone(),
            netlink: Netlink::open()?,
            monitor: Monitor::open()?,
            carriers: BTreeMap::new(),
            watchdog: None,
            beaten: Instant::now(),
            published: Instant::now(),
            started: Instant::now(),
            stopped,
            notes,
        };
        // What is not allowed is said before clients come.
        house.groups.iter_mut().for_each(|(_, routers)| house.carriers.extend(tracked(routers)));
        let thread = std::thread::Builder::new().name("vrrp".to_owned()).spawn(move || house.run())?;
        Ok(Some(Self { thread, log, stop, traces }))
    }

    /// Lets go of all VIPs, so that others take them at once; returns once they are off this machine.
    pub fn stop(self) {
        self.end(Word::Stop);
    }

    /// Leaves them to another process of this machine, an [`Arrival::Successor`] that runs `theirs`; lets go where these
    /// are not the same, since nobody would take off what that one does not know of.
    pub fn hand_over(self, theirs: &Traces) {
        let word = if *theirs == self.traces { Word::HandOver } else { Word::Stop };
        self.end(word);
    }

    fn end(mut self, word: Word) {
        // A thread that ended does not hear it.
        let _ = self.stop.write_all(&[word as u8]);
        let _ = self.thread.join();
        let _ = self.log.join();
    }
}

/// How the thread is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Stop = b's' as isize,
    HandOver = b'h' as isize,
}

/// How this process came to run the virtual routers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// By itself: VIPs that are here were left by one that was killed.
    Fresh,
    /// In the place of a running one: VIPs that are here are held.
    Successor,
}

/// The routers of each group, in the order of its members.
fn groups(settings: Vec<VirtualRouter>) -> Vec<(Group, Vec<Router>)> {
    let all_vips: Arc<[IpAddr]> = settings.iter().flat_map(|router| router.vips.iter().copied()).collect();
    let mut named: BTreeMap<String, Vec<VirtualRouter>> = BTreeMap::new();
    let mut all: Vec<Vec<VirtualRouter>> = Vec::new();
    for router in settings {
        match router.group.clone() {
            Some(group) => named.entry(group).or_default().push(router),
            None => all.push(vec![router]),
        }
    }
    all.extend(named.into_values());
    let group = |routers: Vec<VirtualRouter>| {
        let rules: Vec<Rules> = routers.iter().map(|router| router.rules).collect();
        (Group::new(&rules), routers.into_iter().map(|router| Router::new(router, Arc::clone(&all_vips))).collect())
    };
    all.into_iter().map(group).collect()
}

/// The interfaces that `routers` track, none of which has been looked at.
fn tracked(routers: &[Router]) -> impl Iterator<Item = (String, bool)> {
    routers.iter().flat_map(|router| router.settings.track.interfaces.keys()).map(|name| (name.clone(), false))
}

/// All that the thread has.
struct House {
    proxy: Arc<Proxy>,
    arrival: Arrival,
    listens: Box<dyn Fn() -> bool + Send>,
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
    stopped: UnixStream,
    notes: Notes,
}

impl House {
    fn run(mut self) {
        let Some(_lock) = self.take_lock() else { return };
        self.start_watchdog();
        // Only now: the watchdog is no hurry.
        self.hurry();
        if self.arrival == Arrival::Fresh {
            self.sweep();
        }
        self.look();
        self.stand();
        if self.arrival == Arrival::Successor {
            self.resume();
        }
        let word = loop {
            let (is_changed, word) = self.wait(self.pause());
            if let Some(word) = word {
                break word;
            }
            if is_changed {
                self.monitor.drain();
                self.look();
            }
            // What was sent in time is heard before anything is found to be late.
            self.receive();
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

    fn now(&self) -> Moment {
        Moment::from_start(self.started.elapsed())
    }

    /// Waits until no other process runs the same routers; `None`: it is to stop.
    fn take_lock(&mut self) -> Option<Lock> {
        let mut is_told = false;
        loop {
            match Lock::take(&self.traces.routers, "proxy") {
                Ok(lock) => return Some(lock),
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    self.notes.failure("all", "another process runs them here: waiting for its end", &error);
                }
                Err(_) => {}
            }
            let (is_changed, word) = self.wait(LOCK_PAUSE);
            if is_changed {
                // All is looked at later; left there, it would end each wait at once.
                self.monitor.drain();
            }
            if word.is_some() {
                return None;
            }
        }
    }

    fn start_watchdog(&mut self) {
        let started = Watchdog::start(&self.traces).and_then(|mut watchdog| {
            let is_ready = watchdog.is_ready(READY_LIMIT);
            if is_ready { Ok(watchdog) } else { Err(io::ErrorKind::TimedOut.into()) }
        });
        match started {
            Ok(watchdog) => self.watchdog = Some(watchdog),
            Err(error) => self.notes.failure("all", "no watchdog: VIPs would stay when this process is killed", &error),
        }
    }

    /// A busy machine must not miss advertisements, nor the time to send them.
    fn hurry(&self) {
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        let priority = ThreadPriorityValue::try_from(REALTIME_PRIORITY).map(ThreadPriority::Crossplatform);
        let is_set = priority.is_ok_and(|it| set_thread_priority_and_policy(thread_native_id(), it, fifo).is_ok());
        if !is_set {
            let line = || tracing::warn!("vrrp: no real-time priority: a busy machine may lose its VIPs");
            self.notes.tell(line);
        }
    }

    /// Removes what a process that was killed has left.
    fn sweep(&mut self) {
        let (removed, failure) = self.traces.sweep(&mut self.netlink);
        if !removed.is_empty() {
            let removed = removed.join(", ");
            self.notes.tell(move || tracing::warn!(removed, "vrrp: took VIPs off that were left here"));
        }
        if let Some(error) = failure {
            self.notes.failure("all", "cannot look for VIPs that were left here", &error);
        }
    }

    /// Goes on with what the process before held; takes off what this one cannot go on with, which nobody else would.
    fn resume(&mut self) {
        let now = self.now();
        for (group, routers) in &mut self.groups {
            let finds_all = routers.iter().all(|router| router.finds_vips(&mut self.netlink));
            let mut actions = if finds_all { group.resume(now) } else { Vec::new() };
            if actions.is_empty() {
                let members = group.members().iter().enumerate();
                let idle = members.filter(|(_, machine)| machine.state() != State::Active);
                actions = idle.map(|(member, _)| (member, Action::LetGo)).collect();
            }
            for (member, action) in actions {
                if let Some(router) = routers.get_mut(member)
                    && let Err(error) = router.perform(action, &mut self.netlink, &self.notes)
                {
                    self.notes.failure(&router.settings.name, what(action), &error);
                }
            }
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let due = self.groups.iter().filter_map(|(group, _)| group.due()).min();
        due.map_or(watchdog::BEAT, |due| due.since(self.now())).min(watchdog::BEAT)
    }

    /// Waits for at most `limit`; says whether interfaces changed, and how it is to end, if it is.
    fn wait(&mut self, limit: Duration) -> (bool, Option<Word>) {
        let wires = self.groups.iter().flat_map(|(_, routers)| routers).filter_map(|router| router.wire.as_ref());
        let mut fds = vec![PollFd::new(&self.stopped, PollFlags::IN), PollFd::new(&self.monitor, PollFlags::IN)];
        fds.extend(wires.map(|wire| PollFd::new(wire, PollFlags::IN)));
        let limit = Timespec::try_from(limit).ok();
        // A signal ends it early, which harms nothing.
        let _ = poll(&mut fds, limit.as_ref());
        let is_changed = !fds[1].revents().is_empty();
        if fds[0].revents().is_empty() {
            return (is_changed, None);
        }
        let mut word = [0];
        // Without a word the rest of the process is gone.
        let is_handed_over = self.stopped.read(&mut word).is_ok() && word == [Word::HandOver as u8];
        (is_changed, Some(if is_handed_over { Word::HandOver } else { Word::Stop }))
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

    fn stand(&mut self) {
        let (listens, proxy) = ((self.listens)(), Arc::clone(&self.proxy));
        let carriers = self.carriers.clone();
        self.each(|group, now, routers| {
            let mut actions = Vec::new();
            for (member, router) in routers.iter_mut().enumerate() {
                router.barred_until = router.barred_until.filter(|until| *until > now);
                let mut losses = losses(&router.settings.track, &proxy, &carriers);
                losses.extend((!listens || router.barred_until.is_some()).then_some(Loss::LetGo));
                let standing = standing(router.settings.priority, router.source, losses);
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

/// What fails of what is tracked.
fn losses(track: &Track, proxy: &Proxy, carriers: &BTreeMap<String, bool>) -> Vec<Loss> {
    let has_carrier = |name: &String| carriers.get(name).copied().unwrap_or(false);
    let interfaces = track.interfaces.iter().filter(|(name, _)| !has_carrier(name)).map(|(_, loss)| *loss);
    let drain = track.drain.filter(|_| proxy.is_draining.load(Ordering::Relaxed));
    let mut losses: Vec<Loss> = interfaces.chain(drain).collect();
    if !track.services.is_empty() {
        let live = proxy.live.load();
        // A service that a reload took away has nothing left to fail.
        let tracked = live.services().filter_map(|service| Some((service, track.services.get(&service.name)?)));
        let failed = tracked.filter(|(service, tracked)| service.status().servers_up < tracked.servers_min);
        losses.extend(failed.map(|(_, tracked)| tracked.loss));
    }
    losses
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

/// Between two looks whether the other process has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Longer than the watchdog of a proxy that was killed takes to end.
const READY_LIMIT: Duration = Duration::from_secs(6);

/// Of 0 to 99: above ordinary real-time work, below what the kernel does itself.
const REALTIME_PRIORITY: u8 = 50;
