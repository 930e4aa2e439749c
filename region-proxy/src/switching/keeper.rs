//! The thread that keeps the kernel true.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::look::{self, View};
use super::nft::{self, NftError};
use super::plan::Numbers;
use super::report::{L4Report, ServiceReport};
use super::sysctl::Sysctls;
use super::tunnel::Ways;
use super::{COALESCE, L4Error, Word, bell, flows, needs};
use crate::config::Config;
use crate::l4::{self, Object, Plan};
use crate::live::{Live, Proxy};
use crate::netlink::{Monitor, Netlink, TableMonitor};
use crate::takeover::Lock;

/// All that the thread has.
pub(super) struct Keeper {
    proxy: Arc<Proxy>,
    word: UnixStream,
    netlink: Netlink,
    monitor: Monitor,
    tables: TableMonitor,
    numbers: Numbers,
    sysctls: Sysctls,
    lock: Option<Lock>,
    /// The text that is in force, and the numbers of the interfaces that it names.
    applied: Option<(String, BTreeSet<u32>)>,
    /// What the kernel has of ours.
    present: BTreeSet<Object>,
    /// Who had flows after the last change.
    holders: BTreeSet<flows::Holder>,
    applied_at: Option<Timestamp>,
    failure: Option<String>,
    /// When the addresses of servers were asked for last.
    resolved: Instant,
}

impl Keeper {
    pub(super) fn new(proxy: Arc<Proxy>, word: UnixStream) -> io::Result<Self> {
        word.set_nonblocking(true)?;
        proxy.bell.listen()?;
        Ok(Self {
            proxy,
            word,
            netlink: Netlink::open()?,
            monitor: Monitor::of_neighbours()?,
            tables: TableMonitor::open()?,
            numbers: Numbers::default(),
            sysctls: Sysctls::default(),
            lock: None,
            applied: None,
            present: BTreeSet::new(),
            holders: BTreeSet::new(),
            applied_at: None,
            failure: None,
            resolved: Instant::now(),
        })
    }

    /// Makes sure that no other process does the same.
    pub(super) fn lock(&mut self) -> Result<(), L4Error> {
        self.lock = Some(take_lock().map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => L4Error::Taken,
            _ => L4Error::Kernel { what: "cannot lock".to_owned(), error },
        })?);
        Ok(())
    }

    /// Goes on with what is in the kernel, whoever left it, and changes it as it must be.
    pub(super) fn begin(&mut self) -> Result<(), L4Error> {
        self.present = look::present()?;
        self.sysctls = Sysctls::left();
        let outcome = self.change();
        self.tell(&outcome);
        outcome
    }

    /// Keeps it true until it is told to end.
    pub(super) fn run(mut self) {
        if self.lock.is_none() && !self.inherit() {
            return;
        }
        loop {
            let changed = Instant::now();
            if let Some(word) = self.wait() {
                return self.end(word);
            }
            std::thread::sleep(COALESCE.saturating_sub(changed.elapsed()));
            self.drain();
            let outcome = self.change();
            self.tell(&outcome);
        }
    }

    /// Waits until the process before has let go; says whether it is to go on.
    fn inherit(&mut self) -> bool {
        while let Err(error) = self.lock() {
            if !matches!(error, L4Error::Taken) {
                tracing::error!(%error, "L4 services are not kept true");
            }
            if self.pause(LOCK_PAUSE).is_some() {
                return false;
            }
        }
        // It has told of what is wrong, and tries again.
        let _ = self.begin();
        true
    }

    /// Waits for a change, or for a while in which nothing changes that tells of itself.
    fn wait(&mut self) -> Option<Word> {
        self.pause(if self.failure.is_some() { RETRY } else { RESOLVE })
    }

    fn pause(&mut self, limit: Duration) -> Option<Word> {
        let bell = self.proxy.bell.listen().ok();
        let mut fds = vec![PollFd::new(&self.word, PollFlags::IN), PollFd::new(&self.monitor, PollFlags::IN)];
        fds.push(PollFd::new(&self.tables, PollFlags::IN));
        fds.extend(bell.map(|bell| PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)));
        let limit = Timespec::try_from(limit).ok();
        // A signal ends it early, which harms nothing.
        let _ = poll(&mut fds, limit.as_ref());
        if fds[0].revents().is_empty() {
            return None;
        }
        let mut word = [0];
        let is_handed_over = self.word.read(&mut word).is_ok() && word == [Word::HandOver as u8];
        Some(if is_handed_over { Word::HandOver } else { Word::Stop })
    }

    /// Forgets what it was woken by: all is looked at.
    fn drain(&mut self) {
        self.monitor.drain();
        if self.tables.drain() && self.applied.is_some() && look::present().is_ok_and(|there| there != self.present) {
            tracing::warn!("l4: rules were removed by another program: put back");
            self.applied = None;
            self.sysctls.note();
        }
        if let Ok(bell) = self.proxy.bell.listen() {
            bell::hear(bell);
        }
    }

    /// Makes the kernel do as everything says now.
    fn change(&mut self) -> Result<(), L4Error> {
        let live = self.proxy.live.load_full();
        let view = self.look(&live)?;
        let kernel = |what: &str| {
            let what = what.to_owned();
            move |error| L4Error::Kernel { what, error }
        };
        let needed = needs::set(&mut self.sysctls, &live.config, &mut self.netlink)?;
        view.ways.open(&mut self.netlink).map_err(kernel("tunnels"))?;
        let plan = Plan { services: view.services.clone(), present: self.present.clone() };
        self.apply(&plan, &view)?;
        let holders = flows::holders(&view.services);
        if self.applied_at.is_none() || !self.holders.is_subset(&holders) {
            flows::end_others(&view.services).map_err(kernel("connections of servers that are gone"))?;
        }
        self.holders = holders;
        self.applied_at = self.applied_at.or_else(|| Some(Timestamp::now()));
        view.ways.tidy(&mut self.netlink).map_err(kernel("what is left of tunnels"))?;
        self.sysctls.restore(&needed);
        self.publish(&view);
        Ok(())
    }

    fn look(&mut self, live: &Live) -> Result<View, L4Error> {
        let kernel = |error| L4Error::Kernel { what: "interfaces and neighbours".to_owned(), error };
        let is_due = self.applied.is_none() || self.resolved.elapsed() >= RESOLVE;
        if is_due {
            self.resolved = Instant::now();
        }
        View::of(live, &mut self.netlink, &mut self.numbers, is_due).map_err(kernel)
    }

    fn apply(&mut self, plan: &Plan, view: &View) -> Result<(), NftError> {
        // Nothing is deleted twice: what counts is what the plan makes of a kernel that is as it should be.
        let objects = plan.objects();
        let steady = l4::rules(&Plan { services: plan.services.clone(), present: objects.clone() });
        let next = (steady, view.interfaces.clone());
        if self.applied.as_ref() == Some(&next) {
            return Ok(());
        }
        let text = if plan.services.is_empty() { l4::removal() } else { l4::rules(plan) };
        let started = Instant::now();
        let outcome = nft::apply(&text);
        self.proxy.l4.count(outcome.is_ok());
        outcome?;
        let (services, took) = (plan.services.len(), started.elapsed());
        tracing::info!(services, ?took, "l4: rules are in force");
        (self.applied, self.present) = (Some(next), objects);
        self.applied_at = Some(Timestamp::now());
        Ok(())
    }

    fn publish(&self, view: &View) {
        let services = view.reports.clone();
        tell_problems(&self.proxy.l4.load().services, &services);
        self.proxy.l4.publish(L4Report { services, applied: self.applied_at, failure: None });
    }

    /// Tells of what went wrong, once, and that it is over.
    fn tell(&mut self, outcome: &Result<(), L4Error>) {
        let failure = outcome.as_ref().err().map(ToString::to_string);
        if failure == self.failure {
            return;
        }
        match &failure {
            Some(error) => tracing::error!(error, "L4 services are not as they should be: what was in force stays"),
            None => tracing::info!("L4 services are as they should be again"),
        }
        let last = self.proxy.l4.load();
        self.proxy.l4.publish(L4Report { failure: failure.clone(), ..(*last).clone() });
        self.failure = failure;
    }

    fn end(mut self, word: Word) {
        if word == Word::HandOver {
            return;
        }
        remove(&mut self.netlink, &mut self.sysctls);
    }
}

fn remove(netlink: &mut Netlink, sysctls: &mut Sysctls) {
    if let Err(error) = nft::apply(&l4::removal()) {
        tracing::error!(%error, "l4: rules may be left in the kernel");
    }
    if let Err(error) = Ways::default().tidy(netlink) {
        tracing::error!(%error, "l4: ways into tunnels may be left in the kernel");
    }
    sysctls.restore(&[]);
}

/// Logs what is wrong with services now, and was not before, or was something else.
fn tell_problems(before: &[ServiceReport], now: &[ServiceReport]) {
    for service in now {
        let was = before.iter().find(|was| was.name == service.name).and_then(|was| was.problem.as_ref());
        match &service.problem {
            Some(problem) if was != Some(problem) => {
                tracing::warn!(l4 = service.name, problem, "l4: not as it should be")
            }
            None if was.is_some() => tracing::info!(l4 = service.name, "l4: as it should be again"),
            _ => {}
        }
    }
}

/// Removes what a process that was killed has left, where that can be seen; nobody wants anything here.
pub(super) fn clean() {
    // Who may not look has left nothing either.
    let (Ok(_lock), Ok(present)) = (take_lock(), look::present()) else { return };
    let mut sysctls = Sysctls::left();
    if (!present.is_empty() || !sysctls.is_empty())
        && let Ok(mut netlink) = Netlink::open()
    {
        tracing::warn!("l4: removing what was left in the kernel by a process that was killed");
        remove(&mut netlink, &mut sysctls);
    }
}

/// Whether `next` could run here.
pub(super) fn preflight(next: &Config) -> Result<(), L4Error> {
    let failed = |error| L4Error::Kernel { what: "cannot look at the kernel".to_owned(), error };
    let mut netlink = Netlink::open().map_err(failed)?;
    let live = Live::new(next.clone(), 1);
    let mut view = View::of(&live, &mut netlink, &mut Numbers::default(), false).map_err(failed)?;
    let text = l4::rules(&Plan { services: std::mem::take(&mut view.services), present: look::present()? });
    nft::check(&text)?;
    view.ways.probe(&mut netlink).map_err(|error| L4Error::Kernel { what: "tunnels".to_owned(), error })?;
    needs::check(next)
}

fn take_lock() -> io::Result<Lock> {
    Lock::take(&["region-proxy/l4".to_owned()], "proxy")
}

/// Addresses of servers by interface are found by these.
pub(super) type Macs = BTreeMap<IpAddr, l4::Mac>;

/// A process that hands over lets go within a moment.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What failed may go well later, whatever was wrong.
const RETRY: Duration = Duration::from_secs(5);

/// How often the addresses of servers are asked for, so that one that moves is followed.
const RESOLVE: Duration = Duration::from_secs(2);
