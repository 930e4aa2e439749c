//! `check` of a service.

use std::mem::MaybeUninit;
use std::time::Duration;

use shared::settings::Table;

use crate::http1::{HeadLimits, Target, read_request};

/// How servers are checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What a check does.
    pub probe: Probe,
    /// From the start of one check to the start of the next, before jitter.
    pub interval: Duration,
    /// When a check counts as failed.
    pub time_limit: Duration,
    /// Successes that bring a server up.
    pub rise: u32,
    /// Failures that take it down.
    pub fall: u32,
}

/// What one check does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Probe {
    /// Connects and closes.
    Connect,
    /// `GET path` with the service's name as Host; `status` is right.
    Http {
        /// Path and query.
        path: String,
        /// The status of a healthy server.
        status: u16,
    },
}

pub(super) fn check(table: Option<&Table<'_>>) -> Check {
    let span = |key: &str, most: u64| {
        let range = Duration::from_millis(10)..=Duration::from_secs(most);
        table.and_then(|table| table.value(key)?.duration(range)).unwrap_or(Duration::from_secs(1))
    };
    let count = |key: &str, default: u32| {
        table.and_then(|table| table.value(key)?.integer(1..=100)).map_or(default, |count| count as u32)
    };
    let path =
        table.and_then(|table| table.value("path")?.parsed_as(PATH, |text| is_path(text).then(|| text.to_owned())));
    let status = table.and_then(|table| table.value("status")?.integer(200..=599)).map(|status| status as u16);
    if let (Some(table), Some(_)) = (table, status)
        && table.value("path").is_none()
    {
        table.problem("status", "without `path` a check only connects: expected `path` too");
    }
    Check {
        probe: path.map_or(Probe::Connect, |path| Probe::Http { path, status: status.unwrap_or(200) }),
        interval: span("interval", 3600),
        time_limit: span("time_limit", 60),
        rise: count("rise", 2),
        fall: count("fall", 3),
    }
}

const PATH: &str = "a path from its first slash, such as \"/health\"";

fn is_path(text: &str) -> bool {
    let head = format!("GET {text} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut slots = [const { MaybeUninit::uninit() }; 2];
    let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT);
    request
        .is_ok_and(|request| request.is_some_and(|request| request.target == Target::Origin { path_and_query: text }))
}
