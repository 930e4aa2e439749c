//! Servers and services at run time, in JSON.
//!
//! ```text
//! GET    /services                  what is forwarded, and how it goes
//! GET    /servers[/SERVICE[/NAME]]  how servers stand, and why
//! POST   /servers/SERVICE/NAME      {"mode": "ready" | "drain" | "maintenance", "weight": 0..256} or {"reset": true}
//! PUT    /servers/SERVICE/NAME      {"address": "192.0.2.23:9000", "weight", "backup", "connections", "key", "check", "mode"}
//! DELETE /servers/SERVICE/NAME      one that is drained and has no requests; ?force=true: any
//! POST   /reset                     all servers as the settings say
//! POST   /reload                    the settings are read again
//! POST   /upgrade                   the program is started anew, in the place of the running one
//! ```
//! What is refused has `error`, which says what would be right.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use shared::name::{OwnerName, ServerName};

use super::state::{self, SavedState};
use super::{Asked, Reply, UPGRADING};
use crate::balance::{Health, Mode};
use crate::changes::Added;
use crate::control::{self, Refused, Wish};
use crate::live::server::Told;
use crate::live::{Proxy, Server, Service};
use crate::reload::Reloaded;

/// A server, for operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerReport {
    /// Its service.
    pub service: OwnerName,
    /// Its name.
    pub server: ServerName,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Whether it can serve.
    pub health: Health,
    /// Since when, in RFC 3339.
    pub since: String,
    /// Why.
    pub reason: String,
    /// Whether it shall serve.
    pub mode: Mode,
    /// Who says so: `settings`, `operator` or `agent`.
    pub mode_by: String,
    /// Its share.
    pub weight: u16,
    /// Whether it serves only when the others cannot.
    pub backup: bool,
    /// Requests that it may have at one time.
    pub connections: Option<u32>,
    /// Requests that it has.
    pub requests: u64,
    /// What its checks found last.
    pub last_check: Option<Finding>,
    /// What its agent said last.
    pub last_agent: Option<Finding>,
    /// Whether an operator changed it at run time.
    pub is_changed: bool,
    /// Whether an operator added it at run time.
    pub is_added: bool,
}

/// What was found of a server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finding {
    /// In words.
    pub what: String,
    /// Since when, in RFC 3339.
    pub since: String,
}

/// A service, for operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServiceReport {
    /// Its name.
    pub service: OwnerName,
    /// Servers that are up and take new clients.
    pub servers_up: u32,
    /// All its servers.
    pub servers_total: u32,
    /// Requests a second.
    pub requests_per_sec: f64,
    /// Requests under way.
    pub connections: u64,
    /// Requests a second that it can bear, where known.
    pub capacity: Option<u64>,
}

/// All that is told of servers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Servers {
    /// Each of them.
    pub servers: Vec<ServerReport>,
    /// Those in the settings that an operator removed, as `SERVICE/NAME`.
    pub removed: Vec<String>,
}

/// All that is told of services.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Services {
    /// Each of them.
    pub services: Vec<ServiceReport>,
}

/// A server to be added.
#[derive(Debug, Serialize)]
pub struct NewServer {
    /// Whether it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What the settings could say of it.
    #[serde(flatten)]
    pub server: Added,
}

impl NewServer {
    /// Reads JSON; fails for keys that it does not know, too.
    fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut keys: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
        let mode = keys.remove("mode").map(serde_json::from_value).transpose()?;
        Ok(Self { mode, server: serde_json::from_value(keys.into())? })
    }
}

/// Answers what is asked about servers, by one who may; `None`: it is about something else.
pub(super) async fn answer(proxy: &Arc<Proxy>, who: &str, asked: &Asked<'_>) -> Option<Reply> {
    let mut parts = asked.path.strip_prefix('/')?.split('/');
    let (first, rest): (_, Vec<&str>) = (parts.next()?, parts.collect());
    Some(match (first, &rest[..], asked.method) {
        ("services", [], "GET" | "HEAD") => Reply::json(&services(proxy)),
        ("services", [], _) => Reply::json_not_allowed("GET, HEAD"),
        ("servers", [] | [_] | [_, _], "GET" | "HEAD") => told(proxy, &rest),
        ("servers", [service, server], "POST" | "PUT" | "DELETE") => {
            let (proxy, who) = (Arc::clone(proxy), who.to_owned());
            let names = (OwnerName::parse(service), ServerName::parse(server));
            let (Ok(service), Ok(server)) = names else {
                return Some(Reply::error(404, format_args!("{service}/{server} is no server: expected SERVICE/NAME")));
            };
            let order = match Order::read(asked) {
                Ok(order) => order,
                Err(refusal) => return Some(refusal),
            };
            whole(async move { change(&proxy, &who, &service, &server, order).await }).await
        }
        ("servers", [_, _], _) => Reply::json_not_allowed("GET, HEAD, POST, PUT, DELETE"),
        ("servers", [] | [_], _) => Reply::json_not_allowed("GET, HEAD"),
        ("reset", [], "POST") => {
            let (proxy, who) = (Arc::clone(proxy), who.to_owned());
            whole(async move {
                let _saving = proxy.saving.lock().await;
                if proxy.is_upgrading.load(Ordering::Relaxed) {
                    return Reply::error(503, UPGRADING);
                }
                let servers = control::reset(&proxy, &who);
                saved(&proxy, Reply::json(&serde_json::json!({ "reset": servers }))).await
            })
            .await
        }
        ("reload", [], "POST") => reload(proxy).await,
        ("upgrade", [], "POST") => upgrade(proxy).await,
        ("reset" | "reload" | "upgrade", [], _) => Reply::json_not_allowed("POST"),
        _ => return None,
    })
}

/// What is to be done with a server.
enum Order {
    Change(Wish),
    Add(Box<NewServer>),
    Remove { is_forced: bool },
}

impl Order {
    fn read(asked: &Asked<'_>) -> Result<Self, Reply> {
        match asked.method {
            "POST" => in_json(serde_json::from_slice(asked.body), "{\"mode\": \"drain\"}").map(Self::Change),
            "PUT" => in_json(NewServer::parse(asked.body), "{\"address\": \"192.0.2.23:9000\"}")
                .map(|new| Self::Add(Box::new(new))),
            _ => match asked.query {
                "" | "force=false" => Ok(Self::Remove { is_forced: false }),
                "force=true" => Ok(Self::Remove { is_forced: true }),
                other => Err(Reply::error(400, format_args!("?{other}: expected ?force=true or nothing"))),
            },
        }
    }
}

fn in_json<T>(read: Result<T, serde_json::Error>, expected: &str) -> Result<T, Reply> {
    read.map_err(|error| Reply::error(400, format_args!("the body: {error}: expected JSON such as {expected}")))
}

/// Changes and saves to the end, even when the client does not wait for it.
async fn whole(change: impl Future<Output = Reply> + Send + 'static) -> Reply {
    tokio::spawn(change).await.unwrap_or_else(|error| Reply::error(500, error))
}

async fn change(proxy: &Arc<Proxy>, who: &str, service: &OwnerName, server: &ServerName, order: Order) -> Reply {
    // Taken before the change and held until it is saved, so that the file ends as the last change did.
    let _saving = proxy.saving.lock().await;
    if proxy.is_upgrading.load(Ordering::Relaxed) {
        return Reply::error(503, UPGRADING);
    }
    let (is_new, done) = match order {
        Order::Change(wish) => (false, control::change(proxy, who, service, server, &wish)),
        Order::Add(new) => (true, control::add(proxy, who, service, server, new.server, new.mode)),
        Order::Remove { is_forced } => (false, control::remove(proxy, who, service, server, is_forced)),
    };
    if let Err(refused) = done {
        let status = match &refused {
            Refused::Unfit(unfit) if unfit.is_unknown() => 404,
            Refused::IsThere { .. } | Refused::InUse { .. } => 409,
            _ => 400,
        };
        return Reply::error(status, refused);
    }
    let reply = match report_of(proxy, service, server) {
        Some(report) => Reply { status: if is_new { 201 } else { 200 }, ..Reply::json(&report) },
        None => Reply::json(&serde_json::json!({ "removed": format!("{service}/{server}") })),
    };
    saved(proxy, reply).await
}

/// `reply`, once the state is saved.
async fn saved(proxy: &Proxy, reply: Reply) -> Reply {
    match save(proxy).await {
        Ok(()) => reply,
        Err(error) => Reply::error(500, format_args!("done, but it would not survive a restart: state_file: {error}")),
    }
}

/// Saves what operators changed, where there is a file for it; to be called by who holds [`Proxy::saving`].
pub(crate) async fn save(proxy: &Proxy) -> std::io::Result<()> {
    let Some(file) = proxy.live.load().config.state_file.clone() else { return Ok(()) };
    let (servers, ledger) = proxy.control().said();
    let state = SavedState { is_draining: proxy.is_draining.load(Ordering::Relaxed), servers, ledger };
    let saved = tokio::task::spawn_blocking(move || state::save(&file, &state)).await;
    let saved = saved.unwrap_or_else(|error| Err(error.into()));
    if let Err(error) = &saved {
        tracing::error!(%error, "cannot save the state");
    }
    saved
}

async fn reload(proxy: &Proxy) -> Reply {
    match proxy.reloads.ask().await {
        None => {
            Reply::error(503, "nobody reads settings now: expected a proxy that neither stops nor is being upgraded")
        }
        Some(Reloaded { problems, waiting }) if problems.is_empty() => {
            Reply::json(&serde_json::json!({ "reloaded": true, "restart_keys": waiting }))
        }
        Some(Reloaded { problems, .. }) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let what = if lines.len() == 1 { "mistake" } else { "mistakes" };
            let error = format!("{} {what} in the settings: the old ones stay", lines.len());
            Reply { status: 422, ..Reply::json(&serde_json::json!({ "error": error, "problems": lines })) }
        }
    }
}

async fn upgrade(proxy: &Proxy) -> Reply {
    match proxy.upgrades.ask().await {
        None => Reply::error(503, "nobody upgrades now: expected a proxy that is not stopping"),
        Some(Ok(pid)) => Reply::json(&serde_json::json!({ "upgraded": true, "pid": pid })),
        Some(Err(why)) => Reply::error(422, format!("not upgraded: {why}")),
    }
}

fn services(proxy: &Proxy) -> Services {
    let live = proxy.live.load();
    let report = |service: &Arc<Service>| {
        let status = service.status();
        ServiceReport {
            service: service.name.clone(),
            servers_up: status.servers_up,
            servers_total: status.servers_total,
            requests_per_sec: status.requests_per_sec,
            connections: status.connections,
            capacity: status.capacity,
        }
    };
    Services { services: live.services().map(report).collect() }
}

/// The servers of a service, or one of them, or all.
fn told(proxy: &Proxy, names: &[&str]) -> Reply {
    let servers = servers(proxy, names.first().copied(), names.get(1).copied());
    if servers.servers.is_empty() {
        return Reply::error(404, format_args!("{} is not there: expected {}", names.join("/"), known(proxy, names)));
    }
    Reply::json(&servers)
}

/// What `names` could have been.
fn known(proxy: &Proxy, names: &[&str]) -> String {
    let live = proxy.live.load();
    let of =
        |service: &Arc<Service>| names.first().is_some_and(|name| name.eq_ignore_ascii_case(service.name.as_str()));
    let known: Vec<&str> = match live.services().find(|service| of(service)) {
        Some(service) => service.servers.iter().map(|server| server.name.as_str()).collect(),
        None => live.services().map(|service| service.name.as_str()).collect(),
    };
    format!("one of {}", known.join(", "))
}

/// How the servers stand; of `service` and `server` alone, where these are given.
pub fn servers(proxy: &Proxy, service: Option<&str>, server: Option<&str>) -> Servers {
    let live = proxy.live.load();
    let is_wanted = |name: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name));
    let mut all = Servers { servers: Vec::new(), removed: Vec::new() };
    let control = proxy.control();
    for one in live.services().filter(|one| is_wanted(one.name.as_str(), service)) {
        let wanted = one.servers.iter().filter(|one| is_wanted(one.name.as_str(), server));
        all.servers.extend(wanted.map(|server| report(one, server, control.changes())));
        let gone = control.changes().removed(one.name.as_str());
        all.removed.extend(gone.map(|name| format!("{}/{name}", one.name)));
    }
    all
}

fn report_of(proxy: &Proxy, service: &OwnerName, server: &ServerName) -> Option<ServerReport> {
    let live = proxy.live.load();
    let (service, server) = control::find(&live, service, server)?;
    Some(report(service, server, proxy.control().changes()))
}

fn report(service: &Service, server: &Server, changes: &crate::changes::Changes) -> ServerReport {
    let account = server.account();
    let finding = |told: Told| Finding { what: told.what, since: format!("{:.3}", told.at) };
    let change = changes.of(service.name.as_str(), server.name.as_str());
    ServerReport {
        service: service.name.clone(),
        server: server.name.clone(),
        address: server.address,
        health: account.standing.health,
        since: format!("{:.3}", account.since),
        reason: account.reason,
        mode: account.standing.mode,
        mode_by: account.mode_by.to_owned(),
        weight: account.standing.weight,
        backup: service.config.servers.get(&server.name).is_some_and(|server| server.is_backup),
        connections: account.standing.connections,
        requests: server.in_flight(),
        last_check: account.last_check.map(finding),
        last_agent: account.last_agent.map(finding),
        is_changed: change.is_some_and(|change| change.mode.is_some() || change.weight.is_some()),
        is_added: change.is_some_and(|change| change.added.is_some()),
    }
}
