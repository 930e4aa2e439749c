//! What people are told of the proxy: the content of `/stats` and `/stats.json`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use shared::published::VirtualRouterStatus;

use crate::balance::{Health, Mode};
use crate::health::mode_word;
use crate::live::server::{Account, Server};
use crate::live::{Live, Proxy, Service};
use crate::peering::report::PeerReport;
use crate::relay::record::Cause;
use crate::switching::report::L4Report;
use crate::tally::{CAUSES, CLASSES};
use crate::tls::report::Report;

/// All that is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stats {
    pub(super) region: String,
    pub(super) proxy: String,
    pub(super) version: &'static str,
    pub(super) now: Timestamp,
    pub(super) started: Timestamp,
    pub(super) is_draining: bool,
    pub(super) holds_vip: bool,
    pub(super) threads: usize,
    pub(super) clients: Clients,
    /// As in `/status`.
    pub(super) virtual_routers: Vec<VirtualRouterStatus>,
    /// As in `/peers`.
    pub(super) peers: Vec<PeerReport>,
    /// As in `/l4`.
    pub(super) l4: L4Report,
    pub(super) services: Vec<Pool>,
    pub(super) certificates: Vec<Shown>,
    pub(super) certificate_problems: Vec<String>,
    pub(super) reloads: Reloads,
    pub(super) access_log: Option<Lines>,
}

/// Connections of clients, and their requests that are of no service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Clients {
    pub(super) open: u64,
    pub(super) most: usize,
    pub(super) accepted: u64,
    pub(super) delayed: u64,
    pub(super) own_answers: BTreeMap<&'static str, u64>,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) refusals: BTreeMap<String, u64>,
}

/// A service.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) mode: &'static str,
    pub(super) servers_up: u32,
    pub(super) servers_total: u32,
    pub(super) requests_per_sec: f64,
    pub(super) capacity: Option<u64>,
    pub(super) in_flight: u64,
    pub(super) queued: u64,
    pub(super) queue_ms_mean: Option<u64>,
    pub(super) redispatched: u64,
    pub(super) responses: BTreeMap<&'static str, u64>,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) servers: Vec<Member>,
}

/// A server. What is called recent is of the last minute.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) state: &'static str,
    pub(super) since: Timestamp,
    pub(super) reason: String,
    pub(super) weight: u64,
    pub(super) is_backup: bool,
    pub(super) requests_per_sec: f64,
    pub(super) in_flight: u64,
    pub(super) connections_max: Option<u32>,
    pub(super) head_ms_mean: Option<u64>,
    /// The upper end of the bucket that 95 in 100 are in or below.
    pub(super) head_ms_p95: Option<u64>,
    pub(super) recent_errors: u64,
    pub(super) responses: BTreeMap<&'static str, u64>,
    pub(super) failures: BTreeMap<&'static str, u64>,
    pub(super) retries: u64,
    pub(super) octets_up: u64,
    pub(super) octets_down: u64,
    pub(super) connections_opened: u64,
    pub(super) connections_reused: u64,
    pub(super) connections_idle: u64,
    pub(super) last_failure: Option<Failure>,
}

/// The last time that a server failed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    pub(super) at: Timestamp,
    pub(super) what: String,
}

/// A certificate.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Shown {
    pub(super) names: Vec<String>,
    pub(super) file: String,
    pub(super) not_after: Option<Timestamp>,
    pub(super) days_left: Option<i64>,
}

/// How reloads went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reloads {
    pub(super) taken: u64,
    pub(super) refused: u64,
    pub(super) last: Option<Timestamp>,
    pub(super) problems: Vec<String>,
}

/// Lines of the access log.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Lines {
    pub(super) written: u64,
    pub(super) left_out: u64,
    pub(super) failed: u64,
}

/// How a server stands.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) health: Health,
    pub(super) mode: Mode,
    pub(super) since: Timestamp,
    pub(super) reason: String,
    pub(super) weight: u64,
}

impl State {
    /// The one word for it.
    pub(super) fn word(&self) -> &'static str {
        match (self.mode, self.health) {
            (Mode::Maintenance, _) => "maintenance",
            (_, Health::Down) => "down",
            (_, Health::Unknown) => "unknown",
            (Mode::Drain, Health::Up) => "draining",
            (Mode::Ready, Health::Up) => "up",
        }
    }
}

/// How `server` stands.
pub(super) fn state_of(server: &Server) -> State {
    let Account { standing, since, mut reason, mode_by, .. } = server.account();
    if standing.mode != Mode::Ready {
        reason = format!("{} by {mode_by}; {reason}", mode_word(standing.mode));
    }
    State { health: standing.health, mode: standing.mode, since, reason, weight: standing.weight.into() }
}

impl Stats {
    /// Of `proxy`, whose L4 services are as in `l4`, at `now`.
    pub(super) fn of(proxy: &Proxy, l4: L4Report, now: Timestamp) -> Self {
        let live = proxy.live.load();
        let report = proxy.tls.report(now);
        Self {
            region: live.config.region.to_string(),
            proxy: live.config.proxy.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            now,
            started: proxy.started,
            is_draining: proxy.is_draining.load(Ordering::Relaxed),
            holds_vip: proxy.holds_vip.load(Ordering::Relaxed),
            threads: live.threads(),
            clients: Clients::of(proxy, &live),
            virtual_routers: proxy.vrrp.statuses(),
            peers: proxy.peering.reports(),
            l4,
            services: live.services().map(|service| Pool::of(service)).collect(),
            certificates: report.iter().flat_map(|report| certificates(report, now)).collect(),
            certificate_problems: report.map(|report| [report.problems, report.warnings].concat()).unwrap_or_default(),
            reloads: Reloads::of(proxy),
            access_log: live.config.access_log.as_ref().map(|_| Lines::of(proxy)),
        }
    }
}

impl Clients {
    fn of(proxy: &Proxy, live: &Live) -> Self {
        let counts = proxy.tally.read();
        Self {
            open: counts.open,
            most: live.config.limits.connections,
            accepted: counts.accepted,
            delayed: counts.waited,
            own_answers: classes(&counts.responses),
            failures: causes(&counts.failures),
            refusals: counts.refusals.into_iter().collect(),
        }
    }
}

impl Pool {
    fn of(service: &Service) -> Self {
        let (status, counts) = (service.status(), service.tally().read());
        let members = service.servers.iter().map(|server| Member::of(service, server));
        Self {
            name: service.name.to_string(),
            mode: service.config.mode.as_str(),
            servers_up: status.servers_up,
            servers_total: status.servers_total,
            requests_per_sec: status.requests_per_sec,
            capacity: status.capacity,
            in_flight: status.connections,
            queued: counts.queued,
            queue_ms_mean: counts.queue.mean().map(millis),
            redispatched: counts.redispatched,
            responses: classes(&counts.responses),
            failures: causes(&counts.failures),
            servers: members.collect(),
        }
    }
}

impl Member {
    fn of(service: &Service, server: &Server) -> Self {
        let (state, counts, lately) = (state_of(server), server.tally.read(), server.tally.recent());
        let settings = service.config.servers.get(&server.name);
        Self {
            name: server.name.to_string(),
            address: server.address.to_string(),
            state: state.word(),
            since: state.since,
            reason: state.reason,
            weight: state.weight,
            is_backup: settings.is_some_and(|settings| settings.is_backup),
            requests_per_sec: lately.requests_per_sec,
            in_flight: counts.in_flight,
            connections_max: settings.and_then(|settings| settings.connections),
            head_ms_mean: lately.head.mean().map(millis),
            head_ms_p95: lately.head.quantile(0.95).map(millis),
            recent_errors: lately.failures + lately.responses[5],
            responses: classes(&counts.responses),
            failures: causes(&counts.failures),
            retries: counts.retries,
            octets_up: counts.octets_up,
            octets_down: counts.octets_down,
            connections_opened: counts.opened,
            connections_reused: counts.reused,
            connections_idle: counts.idle,
            last_failure: server.tally.last_failure().map(|(at, what)| Failure { at, what }),
        }
    }
}

impl Reloads {
    fn of(proxy: &Proxy) -> Self {
        let [taken, refused] = proxy.reload_counts.counts();
        let last = proxy.reload_counts.last();
        let problems = last.as_ref().map(|last| last.problems.clone()).unwrap_or_default();
        Self { taken, refused, last: last.map(|last| last.at), problems }
    }
}

impl Lines {
    fn of(proxy: &Proxy) -> Self {
        let counts = proxy.access.counts();
        Self { written: counts.written, left_out: counts.left_out, failed: counts.failed }
    }
}

fn certificates(report: &Report, now: Timestamp) -> Vec<Shown> {
    let shown = report.certificates.iter().map(|certificate| {
        let not_after: Option<Timestamp> = certificate.not_after.parse().ok();
        let days_left = not_after.map(|end| (end.as_second() - now.as_second()).div_euclid(24 * 3600));
        Shown { names: certificate.names.clone(), file: certificate.file.clone(), not_after, days_left }
    });
    shown.collect()
}

/// Those that there were.
fn classes(counts: &[u64; CLASSES]) -> BTreeMap<&'static str, u64> {
    let words = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
    words.into_iter().zip(*counts).filter(|(_, count)| *count > 0).collect()
}

fn causes(counts: &[u64; CAUSES]) -> BTreeMap<&'static str, u64> {
    let words = Cause::ALL.into_iter().map(Cause::as_str);
    words.zip(*counts).filter(|(_, count)| *count > 0).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
