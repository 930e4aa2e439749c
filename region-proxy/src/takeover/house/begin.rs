//! What is done before virtual routers run.

use std::io;
use std::time::{Duration, Instant};

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::{Change, House, Told, groups, what};
use crate::takeover::router::Router;
use crate::takeover::sweep::{Lock, ROLE, Traces};
use crate::takeover::watchdog::Watchdog;
use crate::vrrp::gateway::Gateway;
use crate::vrrp::machine::{Action, State};

impl House {
    /// Waits until no other process runs the same routers; `false`: it is to end.
    pub(super) fn take_lock(&mut self) -> bool {
        let mut is_told = false;
        loop {
            let missing = self.lock.missing(&self.traces.routers);
            match Lock::take(&missing, ROLE) {
                Ok(lock) => {
                    self.lock.absorb(lock);
                    return true;
                }
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    self.notes.failure("all", "another process runs them here: waiting for its end", &error);
                }
                Err(_) => {}
            }
            let (is_changed, told) = self.wait(LOCK_PAUSE);
            if is_changed {
                // All is looked at later; left there, it would end each wait at once.
                self.monitor.drain();
            }
            match told {
                Some(Told::End(_)) => return false,
                Some(Told::Change(change)) => self.begin_otherwise(change),
                None => {}
            }
        }
    }

    /// Has nothing yet that could be held on to.
    fn begin_otherwise(&mut self, change: Change) {
        let Change { settings, lock, watchdog, done } = change;
        self.traces = Traces::of(&settings);
        self.groups = groups(settings, Gateway::unknown(self.now()));
        self.carriers = self.routers().flat_map(Router::tracked_interfaces).collect();
        self.lock.absorb(lock);
        // It starts one of its own once it may.
        let _ = done.send(watchdog);
    }

    pub(super) fn start_watchdog(&mut self) {
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
    pub(super) fn hurry(&self) {
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        let priority = ThreadPriorityValue::try_from(REALTIME_PRIORITY).map(ThreadPriority::Crossplatform);
        let is_set = priority.is_ok_and(|it| set_thread_priority_and_policy(thread_native_id(), it, fifo).is_ok());
        if !is_set {
            let line = || tracing::warn!("vrrp: no real-time priority: a busy machine may lose its VIPs");
            self.notes.tell(line);
        }
    }

    /// Removes what a process that was killed has left.
    pub(super) fn sweep(&mut self) {
        let (removed, failure) = self.traces.sweep(&mut self.netlink);
        if !removed.is_empty() {
            let removed = removed.join(", ");
            self.notes.tell(move || tracing::warn!(removed, "vrrp: took VIPs off that were left here"));
        }
        if let Some(error) = failure {
            self.notes.failure("all", "cannot look for VIPs that were left here", &error);
        }
    }

    /// Asks the gateways for the first time: on a link that is in order they answer before it matters.
    pub(super) fn meet_gateways(&mut self) {
        self.ask_gateways();
        let started = Instant::now();
        while !self.routers().all(|router| router.gateways.are_reached()) && started.elapsed() < FIRST_ANSWERS {
            std::thread::sleep(Duration::from_millis(1));
            self.routers_mut().for_each(|router| router.gateways.receive());
        }
    }

    /// Goes on with what the process before held; takes off what this one cannot go on with, which nobody else would.
    pub(super) fn resume(&mut self) {
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
}

/// Between two looks whether the other process has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Longer than the watchdog of a proxy that was killed takes to end.
const READY_LIMIT: Duration = Duration::from_secs(6);

/// Of 0 to 99: above ordinary real-time work, below what the kernel does itself.
const REALTIME_PRIORITY: u8 = 50;

/// How long gateways have for an answer before they count as not reached at a start.
const FIRST_ANSWERS: Duration = Duration::from_millis(100);
