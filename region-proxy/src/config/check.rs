//! `check`, `agent` and `observe` of a service: how it is found out how its servers are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shared::settings::Table;

use super::probe::{Probe, probe};
use crate::standing::traffic::{Limits, Share};

/// How servers are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What a check does.
    pub probe: Probe,
    /// Where it goes.
    pub place: Place,
    /// From the start of one check to the start of the next, before jitter.
    pub interval: Duration,
    /// The same while a server may be about to go up or down.
    pub fast_interval: Duration,
    /// The same while it is down.
    pub down_interval: Duration,
    /// When a check counts as failed.
    pub time_limit: Duration,
    /// Successes that bring a server up.
    pub rise: u32,
    /// Failures that take it down.
    pub fall: u32,
}

/// Where a check goes, in place of the server's own address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Another address.
    pub ip: Option<IpAddr>,
    /// Another port.
    pub port: Option<u16>,
}

impl Place {
    /// Where it goes for the server at `address`.
    pub fn of(self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(address.ip()), self.port.unwrap_or(address.port()))
    }
}

/// How the agents of servers are asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentCheck {
    /// Where they listen.
    pub place: Place,
    /// What they are sent first.
    pub send: Box<str>,
    /// From the start of one check to the start of the next, before jitter.
    pub interval: Duration,
    /// When one has no answer.
    pub time_limit: Duration,
}

/// How the failures of requests count against a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Observe {
    /// How many are too many.
    pub limits: Limits,
    /// Whether a status of 500 or above is a failure too, but for 501 and 505.
    pub counts_statuses: bool,
    /// What follows.
    pub then: Then,
}

/// What follows from too many failures.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Then {
    /// The server is down, until its checks bring it up.
    #[default]
    Down,
    /// It is checked at once, and by `fast_interval`.
    Check,
}

pub(super) fn check(table: Option<&Table<'_>>) -> Check {
    let interval = span(table, "interval", 3600);
    let count = |key: &str, default: u32| {
        table.and_then(|table| table.value(key)?.integer(1..=100)).map_or(default, |count| count as u32)
    };
    let interval = interval.unwrap_or(SECOND);
    let down_interval = span(table, "down_interval", 3600).unwrap_or(interval);
    Check {
        probe: table.map_or(Probe::Connect, probe),
        place: table.map(place).unwrap_or_default(),
        interval,
        // A server that is coming up is not looked at less often than before.
        fast_interval: span(table, "fast_interval", 3600).unwrap_or(interval.min(down_interval)),
        down_interval,
        time_limit: span(table, "time_limit", 60).unwrap_or(SECOND),
        rise: count("rise", 2),
        fall: count("fall", 3),
    }
}

/// What `agent` of `table`, a service, says. `None` where there is none, or after a problem was reported.
pub(super) fn agent(table: &Table<'_>) -> Option<AgentCheck> {
    let table = table.table("agent")?;
    table.required("port", "where the agents of its servers listen");
    let send = table.value("send").and_then(|value| {
        value.parsed_as("a text of at most 256 octets", |text| (text.len() <= 256).then(|| text.into()))
    });
    Some(AgentCheck {
        place: place(&table),
        send: send.unwrap_or_default(),
        interval: span(Some(&table), "interval", 3600).unwrap_or(2 * SECOND),
        time_limit: span(Some(&table), "time_limit", 60).unwrap_or(SECOND),
    })
}

/// What `observe` of `table`, a service, says.
pub(super) fn observe(table: &Table<'_>) -> Option<Observe> {
    let table = table.table("observe")?;
    let count =
        |key: &str, least, most| table.value(key).and_then(|value| value.integer(least..=most)).map(|n| n as u32);
    let in_a_row = count("failures", 1, 1_000_000);
    let (percent, requests) = (count("percent", 1, 100), count("requests", 1, 1_000_000));
    let range = SECOND..=3600 * SECOND;
    let window = table.value("window").and_then(|value| value.duration(range));
    if percent.is_none() {
        for key in ["requests", "window"].into_iter().filter(|key| table.value(key).is_some()) {
            table.problem(key, "no share is counted: expected `percent` too");
        }
    }
    let (requests, window) = (requests.unwrap_or(20), window.unwrap_or(10 * SECOND));
    let share = percent.map(|percent| Share { percent, requests, window });
    // Where nothing is said, as HAProxy's error-limit.
    let in_a_row = in_a_row.or_else(|| share.is_none().then_some(10));
    let then = [("down", Then::Down), ("check", Then::Check)];
    Some(Observe {
        limits: Limits { in_a_row, share },
        counts_statuses: table.value("statuses").and_then(|value| value.flag()).unwrap_or_default(),
        then: table.value("then").and_then(|value| value.choice(&then)).unwrap_or_default(),
    })
}

fn span(table: Option<&Table<'_>>, key: &str, most: u64) -> Option<Duration> {
    let range = Duration::from_millis(10)..=Duration::from_secs(most);
    table?.value(key)?.duration(range)
}

fn place(table: &Table<'_>) -> Place {
    let ip = table.value("address").and_then(|value| {
        value.parsed_as("an IP address without port", |text| text.parse::<IpAddr>().ok().filter(|ip| is_one(*ip)))
    });
    let port = table.value("port").and_then(|value| value.integer(1..=65_535)).map(|port| port as u16);
    Place { ip, port }
}

fn is_one(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

const SECOND: Duration = Duration::from_secs(1);
