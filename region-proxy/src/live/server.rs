//! A server at run time: how it stands, and why.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use shared::name::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::seen::Seen;
use super::throttle::Throttle;
use crate::balance::{Health, Mode};
use crate::config::Check;
use crate::standing::agent::{Agent, Line};
use crate::standing::{Order, Standing, Wanted};
use crate::tally::ServerTally;
use crate::tls::back::Equipment;

/// A server at run time; it survives reloads that keep its service, name and address.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its number among all servers that ever were, by which each thread keeps its connections.
    pub number: u32,
    /// What connections to it begin with, where it speaks TLS.
    pub tls: Option<Equipment>,
    /// Bounds the lines about the requests that it failed.
    pub failures: Throttle,
    /// Bounds the lines about checks out of turn that these led to.
    pub verdicts: Throttle,
    /// What is counted of its requests.
    pub tally: ServerTally,
    /// What they tell of it, where its service observes them.
    pub seen: Seen,
    /// [`Standing::to_bits`].
    standing: AtomicU64,
    known: Mutex<Known>,
    /// Told when it is to be checked at once.
    word: Notify,
}

/// What its standing follows from.
#[derive(Debug)]
struct Known {
    wanted: Wanted,
    order: Order,
    agent: Agent,
    checks: shared::health::Health,
    /// Since when its health is what it is.
    since: Timestamp,
    /// Why it is so.
    reason: String,
    last_check: Option<Told>,
    last_agent: Option<Told>,
    /// When it is to be checked next.
    due: Option<Instant>,
}

/// Something that was found out, and when it was found first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// Whether it is good.
    pub is_ok: bool,
    /// In words.
    pub what: String,
    /// The first moment of this.
    pub at: Timestamp,
}

/// A server's standing changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What it was.
    pub from: Standing,
    /// What it is.
    pub to: Standing,
    /// Since when its health had been as in `from`.
    pub since: Timestamp,
    /// Why it is as in `to`.
    pub reason: String,
}

/// How a server stands and why, for people.
#[derive(Clone, Debug)]
pub struct Account {
    /// How it stands.
    pub standing: Standing,
    /// Since when its health is so.
    pub since: Timestamp,
    /// Why it is so.
    pub reason: String,
    /// Who says that it has its mode.
    pub mode_by: &'static str,
    /// What its checks found last.
    pub last_check: Option<Told>,
    /// What its agent said last.
    pub last_agent: Option<Told>,
}

impl Server {
    /// Nothing is known of it but what the settings want.
    pub(super) fn new(
        name: ServerName,
        address: SocketAddr,
        number: u32,
        wanted: Wanted,
        tls: Option<Equipment>,
        threads: usize,
    ) -> Self {
        let known = Known {
            wanted,
            order: Order::default(),
            agent: Agent::default(),
            checks: shared::health::Health::new(),
            since: Timestamp::now(),
            reason: UNCHECKED.to_owned(),
            last_check: None,
            last_agent: None,
            due: None,
        };
        Self {
            name,
            address,
            number,
            tls,
            failures: Throttle::default(),
            verdicts: Throttle::default(),
            tally: ServerTally::new(threads),
            seen: Seen::new(threads),
            standing: AtomicU64::new(known.standing().to_bits()),
            known: Mutex::new(known),
            word: Notify::new(),
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        Standing::from_bits(self.standing.load(Ordering::Relaxed))
    }

    /// Whether it can serve.
    pub fn health(&self) -> Health {
        self.standing().health
    }

    /// Takes over what the settings and an operator say; without `has_agent` what an agent said counts no longer.
    pub fn want(&self, wanted: Wanted, order: Order, has_agent: bool, now: Timestamp) -> Option<Change> {
        self.change(now, |known| {
            let (before, was_down) = (known.standing().mode, known.agent.is_down);
            (known.wanted, known.order) = (wanted, order);
            if !has_agent {
                (known.agent, known.last_agent) = (Agent::default(), None);
            }
            let checked = || known.last_check.as_ref().map_or(UNCHECKED, |told| &told.what).to_owned();
            let uncovered = (was_down && !known.agent.is_down).then(checked);
            known.leave_maintenance(before).or(uncovered)
        })
    }

    /// Counts one check.
    pub fn observe(&self, outcome: &Result<(), String>, check: &Check, now: Timestamp) -> Option<Change> {
        self.change(now, |known| {
            known.checks.observe(outcome.is_ok(), check.rise, check.fall);
            let what = outcome.as_ref().err().map_or("check succeeded", String::as_str);
            tell(&mut known.last_check, outcome.is_ok(), what, now);
            // A failure more is a better reason for being down, a success is none.
            let is_reason = outcome.is_ok() == (known.checks.is_up() == Some(true));
            is_reason.then(|| what.to_owned())
        })
    }

    /// Takes over what its agent says, or notes why it says nothing.
    pub fn hear(&self, outcome: &Result<Line, String>, now: Timestamp) -> Option<Change> {
        self.change(now, |known| {
            let line = match outcome {
                Ok(line) => line,
                Err(why) => {
                    tell(&mut known.last_agent, false, why, now);
                    return None;
                }
            };
            let before = (known.standing().mode, known.agent.is_down);
            known.agent.hear(line);
            let what = line.serves.as_ref().map_or("heard", |(_, word)| word.as_str());
            tell(&mut known.last_agent, true, what, now);
            match (before.1, known.agent.is_down) {
                (_, true) => Some(format!("agent: {what}")),
                (true, false) => Some(known.last_check.as_ref().map_or(UNCHECKED, |told| &told.what).to_owned()),
                (false, false) => known.leave_maintenance(before.0),
            }
        })
    }

    /// Takes it down, until its checks bring it up.
    pub fn convict(&self, reason: String, now: Timestamp) -> Option<Change> {
        self.change(now, |known| {
            known.checks.take_down();
            Some(reason)
        })
    }

    /// How it stands and why.
    pub fn account(&self) -> Account {
        let known = self.known();
        let standing = known.standing();
        let operator = known.order.mode.unwrap_or(known.wanted.mode);
        let mode_by = match (known.agent.mode, known.order.mode) {
            (Some(agent), _) if agent > operator => "agent",
            (_, Some(_)) => "operator",
            _ => "settings",
        };
        Account {
            standing,
            since: known.since,
            reason: known.reason.clone(),
            mode_by,
            last_check: known.last_check.clone(),
            last_agent: known.last_agent.clone(),
        }
    }

    /// What its agent said last, where it said anything.
    pub fn last_agent(&self) -> Option<Told> {
        self.known().last_agent.clone()
    }

    /// Requests that it has now.
    pub fn in_flight(&self) -> u64 {
        self.tally.in_flight()
    }

    /// How its checks stand: whether it is up by them, and whether that may change soon.
    pub fn checked(&self) -> (Option<bool>, bool) {
        let known = self.known();
        (known.checks.is_up(), known.checks.is_deciding())
    }

    /// When it is to be checked next; `None`: it never was.
    pub fn due(&self) -> Option<Instant> {
        self.known().due
    }

    /// Has it checked at `due` next.
    pub fn set_due(&self, due: Instant) {
        self.known().due = Some(due);
    }

    /// Has it checked at once.
    pub fn check_now(&self) {
        self.word.notify_one();
    }

    /// Waits for [`Self::check_now`].
    pub async fn asked_for(&self) {
        self.word.notified().await;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change of what is known, which gives the reason for its health where it tells one.
    fn change(&self, now: Timestamp, make: impl FnOnce(&mut Known) -> Option<String>) -> Option<Change> {
        let mut known = self.known();
        let from = known.standing();
        let reason = make(&mut known);
        let to = known.standing();
        if let Some(reason) = reason {
            known.reason = reason;
        }
        if from == to {
            return None;
        }
        self.standing.store(to.to_bits(), Ordering::Relaxed);
        if from.mode == Mode::Maintenance && to.mode != Mode::Maintenance {
            self.word.notify_one();
        }
        let since = known.since;
        if from.health != to.health {
            known.since = now;
        }
        Some(Change { from, to, since, reason: known.reason.clone() })
    }
}

impl Known {
    fn standing(&self) -> Standing {
        let checks = match self.checks.is_up() {
            None => Health::Unknown,
            Some(true) => Health::Up,
            Some(false) => Health::Down,
        };
        Standing::of(self.wanted, self.order, &self.agent, checks)
    }

    /// Nobody knows how a server is that was left alone.
    fn leave_maintenance(&mut self, before: Mode) -> Option<String> {
        let has_left = before == Mode::Maintenance && self.standing().mode != Mode::Maintenance;
        has_left.then(|| {
            (self.checks, self.due) = (shared::health::Health::new(), None);
            "not checked since its maintenance".to_owned()
        })
    }
}

fn tell(told: &mut Option<Told>, is_ok: bool, what: &str, at: Timestamp) {
    if told.as_ref().is_none_or(|told| told.is_ok != is_ok || told.what != what) {
        *told = Some(Told { is_ok, what: what.to_owned(), at });
    }
}

const UNCHECKED: &str = "not checked yet";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Place, Probe};
    use std::time::Duration;

    const WANTED: Wanted = Wanted { mode: Mode::Ready, weight: 1, connections: None };

    fn server() -> Server {
        let name = ServerName::parse("app-1").expect("a name");
        Server::new(name, SocketAddr::from(([192, 0, 2, 1], 80)), 0, WANTED, None, 1)
    }

    fn check(server: &Server, outcome: Result<(), &str>) -> Option<Change> {
        let second = Duration::from_secs(1);
        let check = Check {
            probe: Probe::Connect,
            place: Place::default(),
            interval: second,
            fast_interval: second,
            down_interval: second,
            time_limit: second,
            rise: 2,
            fall: 2,
        };
        server.observe(&outcome.map_err(str::to_owned), &check, Timestamp::now())
    }

    fn order(server: &Server, mode: Mode) -> Option<Change> {
        server.want(WANTED, Order { mode: Some(mode), weight: None }, true, Timestamp::now())
    }

    fn hear(server: &Server, line: &str) -> Option<Change> {
        server.hear(&Ok(Line::parse(line.as_bytes()).expect("a line")), Timestamp::now())
    }

    fn told(server: &Server) -> (Health, String) {
        let account = server.account();
        (account.standing.health, account.reason)
    }

    #[test]
    fn the_reason_is_why_it_is_as_it_is() {
        let server = server();
        assert_eq!(told(&server), (Health::Unknown, "not checked yet".to_owned()));
        assert_eq!(check(&server, Ok(())).map(|change| change.to.health), Some(Health::Up));
        assert_eq!(check(&server, Err("connect: refused")), None);
        assert_eq!(told(&server), (Health::Up, "check succeeded".to_owned()));
        let change = check(&server, Err("status 503, expected 200")).expect("down");
        assert_eq!((change.from.health, change.to.health), (Health::Up, Health::Down));
        check(&server, Err("no answer within 1s"));
        check(&server, Ok(()));
        assert_eq!(told(&server), (Health::Down, "no answer within 1s".to_owned()));
    }

    #[test]
    fn one_that_traffic_took_down_comes_back_by_its_checks() {
        let server = server();
        check(&server, Ok(()));
        assert!(server.convict("by traffic: 10 failures in a row".to_owned(), Timestamp::now()).is_some());
        assert_eq!(check(&server, Ok(())), None);
        assert_eq!(told(&server), (Health::Down, "by traffic: 10 failures in a row".to_owned()));
        assert_eq!(check(&server, Ok(())).map(|change| change.to.health), Some(Health::Up));
    }

    #[test]
    fn what_an_agent_took_down_is_up_again_by_its_word_and_as_its_checks_say() {
        let server = server();
        check(&server, Ok(()));
        assert_eq!(
            hear(&server, "stopped#backup").map(|change| change.reason),
            Some("agent: stopped: backup".to_owned())
        );
        assert_eq!(check(&server, Ok(())), None);
        assert_eq!(server.health(), Health::Down);
        assert_eq!(hear(&server, "up").map(|change| change.to.health), Some(Health::Up));
    }

    #[test]
    fn an_agent_without_an_answer_changes_nothing() {
        let server = server();
        hear(&server, "drain 50%");
        let before = server.standing();
        assert_eq!(server.hear(&Err("connect: refused".to_owned()), Timestamp::now()), None);
        assert_eq!(server.standing(), before);
        assert!(server.account().last_agent.is_some_and(|told| !told.is_ok && told.what == "connect: refused"));
    }

    #[test]
    fn nothing_is_known_of_one_that_leaves_maintenance() {
        let server = server();
        check(&server, Ok(()));
        assert_eq!(order(&server, Mode::Maintenance).map(|change| change.to.mode), Some(Mode::Maintenance));
        assert_eq!(server.account().mode_by, "operator");
        let change = order(&server, Mode::Ready).expect("a change");
        assert_eq!((change.to.health, change.to.mode), (Health::Unknown, Mode::Ready));
        assert_eq!(check(&server, Ok(())).map(|change| change.to.health), Some(Health::Up));
    }

    #[test]
    fn the_last_word_of_an_agent_that_is_asked_no_longer_counts_no_longer() {
        let server = server();
        check(&server, Ok(()));
        hear(&server, "down");
        assert_eq!(server.health(), Health::Down);
        server.want(WANTED, Order::default(), false, Timestamp::now());
        assert_eq!(told(&server), (Health::Up, "check succeeded".to_owned()));
        assert_eq!(server.account().mode_by, "settings");
    }
}
