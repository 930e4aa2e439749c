//! Active checks of servers: one task each, never two checks of one server at a time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::balance::Health;
use crate::config::{Probe, ProxyHeader};
use crate::live::{Live, Proxy, Server, Service};
use crate::once::{self, Once};
use crate::proxy_protocol;

/// The running checks of one [`Live`]; they end when this is dropped.
#[derive(Debug)]
pub struct Checks {
    _tasks: JoinSet<()>,
    first_round: mpsc::Receiver<()>,
}

impl Checks {
    /// Starts to check every server of `live`, now.
    pub fn start(live: &Live, proxy: &Arc<Proxy>) -> Self {
        let (done, first_round) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for service in live.services() {
            for server in &service.servers {
                tasks.spawn(check_for_ever(Arc::clone(proxy), Arc::clone(service), Arc::clone(server), done.clone()));
            }
        }
        Self { _tasks: tasks, first_round }
    }

    /// Waits until every server was checked once; each check ends by its time limit.
    pub async fn first_round(&mut self) {
        while self.first_round.recv().await.is_some() {}
    }
}

async fn check_for_ever(proxy: Arc<Proxy>, service: Arc<Service>, server: Arc<Server>, first_done: mpsc::Sender<()>) {
    let check = &service.config.check;
    let mut first_done = Some(first_done);
    loop {
        let started = Instant::now();
        let outcome = check_once(&service, &server).await;
        if let Some(change) = server.observe(outcome.is_ok(), check, Timestamp::now()) {
            proxy.note_change();
            let reason = outcome.err().unwrap_or_else(|| "check succeeded".to_owned());
            log(&service, &server, change, &reason);
        }
        first_done = first_done.and(None);
        sleep_until(started + jittered(check.interval)).await;
    }
}

async fn check_once(service: &Service, server: &Server) -> Result<(), String> {
    let check = &service.config.check;
    let probe = async {
        match &check.probe {
            Probe::Connect => connect(server).await,
            Probe::Http { path, status } => ask(service, server, path, *status).await,
        }
    };
    timeout(check.time_limit, probe).await.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.time_limit)))
}

async fn connect(server: &Server) -> Result<(), String> {
    let stream = once::connect(server.address).await?;
    match &server.tls {
        None => Ok(()),
        Some(equipment) => equipment.greet(stream).await.map(drop),
    }
}

async fn ask(service: &Service, server: &Server, path: &str, expected: u16) -> Result<(), String> {
    let fields = [("User-Agent", concat!("region-proxy/", env!("CARGO_PKG_VERSION")))];
    let mut preface = Vec::new();
    match service.config.send_proxy {
        None => {}
        Some(ProxyHeader::V1) => proxy_protocol::write_v1(None, &mut preface),
        Some(ProxyHeader::V2) => proxy_protocol::write_v2(None, &mut preface),
    }
    let mut request = Once { method: "GET", path, host: service.name.as_str(), preface: &preface, fields: &fields };
    let mut stream = once::connect(server.address).await?;
    let (status, _) = match &server.tls {
        None => once::fetch_over(&mut stream, request, 0).await?,
        Some(equipment) => {
            let preface = std::mem::take(&mut request.preface);
            stream.write_all(preface).await.map_err(|error| format!("request: {error}"))?;
            once::fetch_over(&mut equipment.greet(stream).await?, request, 0).await?
        }
    };
    if status == expected { Ok(()) } else { Err(format!("status {status}, expected {expected}")) }
}

/// Within a tenth of `interval`, so that proxies started together do not check together for ever.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}

fn log(service: &Service, server: &Server, change: crate::live::Change, reason: &str) {
    let (from, to) = (word(change.from), word(change.to));
    let since = format!("{:.3}", change.since);
    let (service, server) = (service.name.as_str(), server.name.as_str());
    if change.to == Health::Up {
        tracing::info!(service, server, from, to, reason, from_since = since, "server is up");
    } else {
        tracing::warn!(service, server, from, to, reason, from_since = since, "server is down");
    }
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Up => "up",
        Health::Unknown => "unknown",
        Health::Down => "down",
    }
}
