//! How a service chooses among its servers.

use std::time::Duration;

use shared::settings::{Table, Value};

use crate::balance::budget::Allowance;
use crate::balance::hash::HashOf;
use crate::balance::{Drained, Policy, Rules};
use crate::http1::is_token;
use crate::network::Prefixes;

/// How a service chooses among its servers, and what it does when they are busy or fail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Balance {
    /// How one is chosen.
    pub rules: Rules,
    /// What [`Policy::Hash`] goes by.
    pub hash: HashOf,
    /// How long a request waits for a server that is full.
    pub queue_time: Duration,
    /// How many retries are affordable.
    pub retries: Allowance,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            hash: HashOf::Source(Prefixes::default()),
            queue_time: Duration::from_secs(5),
            retries: Allowance::default(),
        }
    }
}

/// Reads the keys of `table`, a service, that are about its choice.
pub(super) fn balance(table: &Table<'_>) -> Balance {
    let default = Balance::default();
    let policy = table.value("balance").and_then(|value| value.choice(&POLICIES)).unwrap_or_default();
    let hash = table.value("hash").and_then(|value| hash_of(&value, prefixes(table)));
    let bound = table.value("hash_bound").and_then(|value| bound(&value));
    if policy != Policy::Hash {
        for key in ["hash", "hash_bound"].into_iter().filter(|key| table.value(key).is_some()) {
            table.problem(key, "nothing is hashed: expected `balance = \"hash\"` too");
        }
    }
    let span =
        |key: &str| table.value(key).and_then(|value| value.duration(Duration::ZERO..=Duration::from_secs(3600)));
    let drained = [("keep", Drained::KeepsClients), ("move", Drained::MovesClients)];
    let mut balance = Balance {
        rules: Rules {
            policy,
            bound_percent: bound.unwrap_or(default.rules.bound_percent),
            slow_start: span("slow_start").unwrap_or(default.rules.slow_start),
            drained: table.value("drained").and_then(|value| value.choice(&drained)).unwrap_or_default(),
            ..default.rules
        },
        hash: hash.unwrap_or(HashOf::Source(prefixes(table))),
        ..default
    };
    if let Some(queue) = table.table("queue") {
        let length = queue.value("length").and_then(|value| value.integer(0..=1_000_000));
        balance.rules.waiting_max = length.map_or(balance.rules.waiting_max, |length| length as usize);
        let range = Duration::from_millis(10)..=Duration::from_secs(3600);
        let time = queue.value("time_limit").and_then(|value| value.duration(range));
        balance.queue_time = time.unwrap_or(balance.queue_time);
    }
    if let Some(budget) = table.table("retry_budget") {
        let count = |key: &str, most, default: u32| {
            budget.value(key).and_then(|value| value.integer(0..=most)).map_or(default, |count| count as u32)
        };
        balance.retries = Allowance {
            percent: count("percent", 1000, balance.retries.percent),
            per_sec: count("per_second", 1_000_000, balance.retries.per_sec),
        };
    }
    balance
}

/// How much of an address tells clients apart: `source_prefix` of `table`, a service.
pub(super) fn prefixes(table: &Table<'_>) -> Prefixes {
    let default = Prefixes::default();
    let Some(table) = table.table("source_prefix") else { return default };
    let length = |key: &str, most: u8, default| {
        table.value(key).and_then(|value| value.integer(1..=most.into())).map_or(default, |length| length as u8)
    };
    Prefixes { ipv4: length("ipv4", 32, default.ipv4), ipv6: length("ipv6", 128, default.ipv6) }
}

fn hash_of(value: &Value<'_>, prefixes: Prefixes) -> Option<HashOf> {
    let expected = "\"source\", \"uri\", \"path\" or \"header:NAME\"";
    value.parsed_as(expected, |text| match text {
        "source" => Some(HashOf::Source(prefixes)),
        "uri" => Some(HashOf::Uri),
        "path" => Some(HashOf::Path),
        _ => {
            let name = text.strip_prefix("header:")?;
            is_token(name.as_bytes()).then(|| HashOf::Header(name.into()))
        }
    })
}

/// Outer `None` after a problem; inner `None` for no bound.
fn bound(value: &Value<'_>) -> Option<Option<u32>> {
    let percent = value.integer(0..=1000)?;
    if (1..100).contains(&percent) {
        value.problem(format_args!(
            "{percent} per cent of a fair share cannot hold all: expected 0 for no bound, or 100 to 1000"
        ));
        return None;
    }
    Some((percent > 0).then_some(percent as u32))
}

const POLICIES: [(&str, Policy); 6] = [
    ("round_robin", Policy::RoundRobin),
    ("least_connections", Policy::LeastConnections),
    ("random_of_two", Policy::RandomOfTwo),
    ("first", Policy::First),
    ("ewma", Policy::Ewma),
    ("hash", Policy::Hash),
];
