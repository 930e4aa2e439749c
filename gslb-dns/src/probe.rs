//! Asking the proxies of all regions for their status, over and over.
//!
//! ```text
//! for each proxy:  start ──interval──► start ──interval──► start ──►     probes overlap, so that a hanging one delays none
//!                    └──► outcome 1      └──► outcome 2                  counted in the order of their starts
//! ```
//! An older probe that ends after a newer one is never counted after it: what the newer one found waits for the older
//! one, which takes at most the time limit. So a slow answer cannot bring back a state that is over, and a lost one
//! still counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::io;
use std::iter::successors;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, StatusCode, redirect};
use shared::name::{ProxyName, RegionName};
use shared::published::{STATUS_SIZE_MAX, Status};
use shared::state::ProbeFailure;
use shared::topology::{ProbeSettings, Region, Topology};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// What one probe found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The region asked.
    pub region: RegionName,
    /// The proxy asked.
    pub proxy: ProxyName,
    /// What it said, or why that does not count.
    pub outcome: Result<Status, ProbeFailure>,
}

/// Which proxy is asked, and where.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Target {
    region: RegionName,
    proxy: ProxyName,
    status_url: String,
}

/// All tasks that probe; those of a topology that is no more are stopped, the others go on undisturbed.
pub struct Prober {
    plain: Client,
    /// Made for the first `https` URL: it needs the certificates of the machine.
    tls: Option<Result<Client, String>>,
    runtime: Handle,
    outcomes: mpsc::Sender<Probed>,
    settings: ProbeSettings,
    tasks: BTreeMap<Target, Task>,
    /// Whether something about a region is being decided.
    deciding: BTreeMap<RegionName, watch::Sender<bool>>,
}

/// Stops with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prober {
    /// Probes nothing yet; what it finds goes to `outcomes`, tasks run on `runtime`.
    ///
    /// Fails when the machine lacks what an HTTP client needs.
    pub fn new(runtime: Handle, outcomes: mpsc::Sender<Probed>) -> Result<Self, reqwest::Error> {
        let (tasks, deciding) = Default::default();
        Ok(Self {
            plain: base_client().tls_certs_only([]).build()?,
            tls: None,
            runtime,
            outcomes,
            settings: ProbeSettings::default(),
            tasks,
            deciding,
        })
    }

    /// Probes the proxies of `topology`, and no others.
    pub fn follow(&mut self, topology: &Topology) {
        let targets: BTreeSet<Target> = topology.regions.iter().flat_map(targets_of).collect();
        if self.settings != topology.probe {
            self.settings = topology.probe.clone();
            self.tasks.clear();
        }
        self.tasks.retain(|target, _| targets.contains(target));
        self.deciding.retain(|name, _| topology.find_region(name).is_some());
        for target in targets {
            if !self.tasks.contains_key(&target) {
                let task = self.start(&target);
                self.tasks.insert(target, task);
            }
        }
    }

    fn start(&mut self, target: &Target) -> Task {
        // Nothing is known of a new region, so that it is being decided.
        let deciding = self.deciding.entry(target.region.clone()).or_insert_with(|| watch::Sender::new(true));
        let client = match target.status_url.starts_with("https:") {
            false => Ok(self.plain.clone()),
            true => self.tls.get_or_insert_with(|| base_client().build().map_err(|error| innermost(&error))).clone(),
        };
        let task = ProxyTask {
            client,
            target: target.clone(),
            settings: self.settings.clone(),
            is_deciding: deciding.subscribe(),
            outcomes: self.outcomes.clone(),
        };
        Task(self.runtime.spawn(task.run()))
    }

    /// Sets whether something about `region` is being decided, so that its proxies are asked more often.
    pub fn set_deciding(&self, region: &RegionName, is_deciding: bool) {
        if let Some(sender) = self.deciding.get(region) {
            sender.send_if_modified(|was| std::mem::replace(was, is_deciding) != is_deciding);
        }
    }
}

fn targets_of(region: &Region) -> impl Iterator<Item = Target> {
    region.proxies.iter().map(|proxy| Target {
        region: region.name.clone(),
        proxy: proxy.name.clone(),
        status_url: proxy.status_url.clone(),
    })
}

/// Probes one proxy for ever.
struct ProxyTask {
    /// Or why there is none.
    client: Result<Client, String>,
    target: Target,
    settings: ProbeSettings,
    is_deciding: watch::Receiver<bool>,
    outcomes: mpsc::Sender<Probed>,
}

/// One probe under way; stops with its owner.
struct InFlight(JoinHandle<Result<Status, ProbeFailure>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ProxyTask {
    async fn run(mut self) {
        let mut in_flight: VecDeque<InFlight> = VecDeque::new();
        let mut last_start = None;
        let mut jitter = draw_jitter();
        loop {
            let due = last_start.map_or_else(Instant::now, |start| start + self.pause(&in_flight).mul_f64(jitter));
            tokio::select! {
                () = sleep_until(due), if in_flight.len() < IN_FLIGHT_MAX => {
                    last_start = Some(Instant::now());
                    jitter = draw_jitter();
                    let probe = probe(self.client.clone(), self.target.clone(), self.settings.time_limit);
                    in_flight.push_back(InFlight(tokio::spawn(probe)));
                }
                outcome = end_of(in_flight.front_mut()) => {
                    in_flight.pop_front();
                    let Target { region, proxy, .. } = self.target.clone();
                    if self.outcomes.send(Probed { region, proxy, outcome }).await.is_err() {
                        return;
                    }
                }
                changed = self.is_deciding.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Time from the last start to the next. A probe that is not answered by then may be the first of a streak, so the
    /// next ones come as when one is being decided.
    fn pause(&mut self, in_flight: &VecDeque<InFlight>) -> Duration {
        let is_urgent = *self.is_deciding.borrow_and_update() || !in_flight.is_empty();
        let ProbeSettings { interval, deciding_interval, .. } = self.settings;
        if is_urgent { interval.min(deciding_interval) } else { interval }
    }
}

/// Waits for the end of a probe; for ever when there is none.
async fn end_of(probe: Option<&mut InFlight>) -> Result<Status, ProbeFailure> {
    match probe {
        Some(InFlight(task)) => task.await.unwrap_or_else(|_| Err(ProbeFailure::Unreachable("probe broke off".into()))),
        None => pending().await,
    }
}

/// Nodes and proxies must not beat in time: 0.9 to 1.1.
fn draw_jitter() -> f64 {
    0.9 + 0.2 * fastrand::f64()
}

/// What asks: connections are kept, no proxy of the environment and no redirect is followed.
fn base_client() -> ClientBuilder {
    // HTTP/1.1 keeps probes apart: a stalled connection holds up only one.
    Client::builder()
        .user_agent(concat!("gslb-dns/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .http1_only()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(2)
}

/// Asks once, for `time_limit` at most.
async fn probe(client: Result<Client, String>, target: Target, time_limit: Duration) -> Result<Status, ProbeFailure> {
    let client = client.map_err(ProbeFailure::Unreachable)?;
    timeout(time_limit, ask(&client, &target)).await.unwrap_or(Err(ProbeFailure::Late(time_limit)))
}

async fn ask(client: &Client, target: &Target) -> Result<Status, ProbeFailure> {
    let response = client.get(&target.status_url).send().await.map_err(|error| unreachable(&error))?;
    if response.status() != StatusCode::OK {
        return Err(ProbeFailure::BadStatus(response.status().as_u16()));
    }
    let body = read_body(response).await?;
    let status: Status =
        serde_json::from_slice(&body).map_err(|error| ProbeFailure::NotJson(short(&error.to_string())))?;
    match () {
        () if status.region != target.region => Err(ProbeFailure::WrongRegion(status.region)),
        () if status.proxy != target.proxy => Err(ProbeFailure::WrongProxy(status.proxy)),
        () => Ok(status),
    }
}

async fn read_body(mut response: Response) -> Result<Vec<u8>, ProbeFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > STATUS_SIZE_MAX {
            return Err(ProbeFailure::TooLarge(STATUS_SIZE_MAX));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn unreachable(error: &reqwest::Error) -> ProbeFailure {
    ProbeFailure::Unreachable(describe(error))
}

/// What went wrong at the bottom, in a few words.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = successors(Some(error), |error| error.source());
    let kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).filter_map(|io| word_for(io.kind()));
    let in_words = || tls_word(&innermost(error)).unwrap_or_else(|| innermost(error));
    kinds.last().map_or_else(in_words, str::to_owned)
}

/// What `message` of rustls means, where it is written for who programs it: its types are not among our dependencies' own.
fn tls_word(message: &str) -> Option<String> {
    let what = message.strip_prefix("invalid peer certificate: ")?;
    let what = match what {
        what if what.contains("CaUsedAsEndEntity") => {
            "it is its own authority: expected one of a server, from an authority"
        }
        what if what.contains("UnknownIssuer") => "nobody whom this machine trusts has issued it",
        what if what.contains("NotValidForName") => "it is for another name than that in the URL",
        what if what.contains("NotValidYet") => "it is not valid yet",
        what if what.contains("Expired") => "it has expired",
        _ => what,
    };
    Some(format!("the certificate is refused: {what}"))
}

fn word_for(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset => Some("connection reset"),
        io::ErrorKind::ConnectionAborted => Some("connection aborted"),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => Some("connection closed early"),
        io::ErrorKind::HostUnreachable => Some("no route to the host"),
        io::ErrorKind::NetworkUnreachable => Some("no route to the network"),
        io::ErrorKind::TimedOut => Some("connection timed out"),
        io::ErrorKind::AddrNotAvailable => Some("no local address or port left to connect from"),
        _ => None,
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    successors(Some(error), |error| error.source()).last().map_or_else(String::new, |cause| short(&cause.to_string()))
}

/// Messages may quote what the other side sent; a reason is one line.
fn short(message: &str) -> String {
    let line = message.replace(|c: char| c.is_control(), " ");
    line.chars().take(REASON_CHARS_MAX).collect()
}

/// Probes of one proxy that may be under way; a time limit that is many intervals long must not pile up more.
const IN_FLIGHT_MAX: usize = 16;
const REASON_CHARS_MAX: usize = 160;

#[cfg(test)]
mod tests;
