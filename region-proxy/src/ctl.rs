//! `region-proxy ctl`: asks the running proxy about its servers, and has them changed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use shared::name::{OwnerName, ServerName};
use shared::settings::show_duration;
use tokio::time::timeout;

use crate::admin::servers::{NewServer, ServerReport, Servers, Services};
use crate::admin::stick::{Clients, Tables};
use crate::balance::Mode;
use crate::changes::Added;
use crate::health::{mode_word, word};

mod door;
mod l4;
mod peers;

pub use door::Door;

/// What is asked, and of whom.
#[derive(Args, Debug)]
pub struct Ctl {
    /// The socket of the running proxy.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// Its settings, which say where the socket is, or else where its status is and the token for it.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print the answer as it came.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    order: Order,
}

impl Ctl {
    /// Asks how L4 services stand.
    pub fn l4(socket: Option<PathBuf>, config: Option<PathBuf>, json: bool) -> Self {
        Self { socket, config, json, order: Order::L4 }
    }

    /// Has the proxy whose settings are in `config` drain, or no more.
    pub fn drain(config: PathBuf, is_draining: bool) -> Self {
        let order = if is_draining { Order::DrainAll } else { Order::UndrainAll };
        Self { socket: None, config: Some(config), json: false, order }
    }
}

/// What is asked.
#[derive(Debug, Subcommand)]
enum Order {
    /// How servers stand, and why.
    Servers {
        /// A service, or one server of it; without it all.
        #[arg(value_name = "SERVICE[/SERVER]")]
        of: Option<String>,
    },
    /// What is forwarded, and how it goes.
    Services,
    /// A server takes no new clients; those that it has go on.
    Drain {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Target,
    },
    /// A server is left alone: no clients and no checks.
    Maintenance {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Target,
    },
    /// A server serves.
    Ready {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Target,
    },
    /// A server gets another share of the requests.
    Weight {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Target,
        /// 0 to 256; at 0 it takes no new clients.
        #[arg(value_parser = weight)]
        weight: u16,
    },
    /// Add a server that the settings do not have.
    Add(New),
    /// Take a server away that is drained and has no requests.
    Remove {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Target,
        /// Whatever it is doing.
        #[arg(long)]
        force: bool,
    },
    /// Take back what was changed: of a server, or of all.
    Reset {
        #[arg(value_name = "SERVICE/SERVER")]
        server: Option<Target>,
    },
    /// What stick tables there are, and how full; of a service, which client has which server.
    Stick {
        /// A service with a table.
        service: Option<String>,
    },
    /// Have a stick table forget all of its clients, or one.
    StickClear {
        /// The service with the table.
        service: String,
        /// The client's address.
        client: Option<IpAddr>,
    },
    /// The proxies beside this one: whether they are told what is learned here, and tell what they learn.
    Peers,
    /// How L4 services stand: `region-proxy l4 show`.
    #[command(skip)]
    L4,
    /// Have the settings read again; exit 1 when there is a mistake in them.
    Reload,
    /// Start the program anew, as it is on the disk now, in the place of the running one, without losing a connection;
    /// exit 1 when it cannot start, and the running one serves on.
    Upgrade,
    /// The proxy wants no new clients: it serves on, and gslb-dns sends clients elsewhere.
    DrainAll,
    /// Take that back.
    UndrainAll,
}

/// A server to be added.
#[derive(Args, Debug)]
struct New {
    #[arg(value_name = "SERVICE/SERVER")]
    server: Target,
    /// Where it listens, such as 192.0.2.23:9000.
    address: SocketAddr,
    /// Its share, 0 to 256.
    #[arg(long, default_value_t = 1, value_parser = weight)]
    weight: u16,
    /// It serves only when the others cannot.
    #[arg(long)]
    backup: bool,
    /// Requests that it may have at one time.
    #[arg(long)]
    connections: Option<u32>,
    /// What cookies call it.
    #[arg(long)]
    key: Option<String>,
    /// Where its checks go.
    #[arg(long, value_name = "ADDRESS")]
    check: Option<SocketAddr>,
    /// Whether it serves.
    #[arg(long, value_enum)]
    mode: Option<ModeWord>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeWord {
    Ready,
    Drain,
    Maintenance,
}

fn weight(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|weight| *weight <= 256).ok_or("expected 0 to 256, as in the settings")
}

/// `SERVICE/SERVER`.
#[derive(Clone, Debug)]
struct Target(String);

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, server) = text.split_once('/').ok_or("expected SERVICE/SERVER, such as www.example.com/app-1")?;
        let service = OwnerName::parse(service).map_err(|error| error.to_string())?;
        let server = ServerName::parse(server).map_err(|error| error.to_string())?;
        Ok(Self(format!("/servers/{service}/{server}")))
    }
}

/// A request.
struct Ask {
    method: &'static str,
    path: String,
    body: String,
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: String::new() }
    }

    fn change(server: &Target, wish: serde_json::Value) -> Self {
        Self { body: wish.to_string(), ..Self::new("POST", &server.0) }
    }
}

impl Order {
    fn ask(&self) -> Result<Ask, String> {
        let mode = |server, mode| Ask::change(server, serde_json::json!({ "mode": mode_word(mode) }));
        Ok(match self {
            Self::Servers { of: None } => Ask::new("GET", "/servers"),
            Self::Servers { of: Some(of) } => Ask::new("GET", format!("/servers/{}", readable(of)?)),
            Self::Services => Ask::new("GET", "/services"),
            Self::L4 => Ask::new("GET", "/l4"),
            Self::Drain { server } => mode(server, Mode::Drain),
            Self::Maintenance { server } => mode(server, Mode::Maintenance),
            Self::Ready { server } => mode(server, Mode::Ready),
            Self::Weight { server, weight } => Ask::change(server, serde_json::json!({ "weight": weight })),
            Self::Add(new) => {
                let body = serde_json::to_string(&new.read()).map_err(|error| error.to_string())?;
                Ask { body, ..Ask::new("PUT", &new.server.0) }
            }
            Self::Remove { server, force: false } => Ask::new("DELETE", &server.0),
            Self::Remove { server, force: true } => Ask::new("DELETE", format!("{}?force=true", server.0)),
            Self::Reset { server: Some(server) } => Ask::change(server, serde_json::json!({ "reset": true })),
            Self::Reset { server: None } => Ask::new("POST", "/reset"),
            Self::Stick { service: None } => Ask::new("GET", "/stick"),
            Self::Stick { service: Some(service) } => Ask::new("GET", format!("/stick/{}", name_of(service)?)),
            Self::StickClear { service, client } => {
                let client = client.map(|client| format!("/{client}")).unwrap_or_default();
                Ask::new("DELETE", format!("/stick/{}{client}", name_of(service)?))
            }
            Self::Peers => Ask::new("GET", "/peers"),
            Self::Reload => Ask::new("POST", "/reload"),
            Self::Upgrade => Ask::new("POST", "/upgrade"),
            Self::DrainAll => Ask::new("POST", "/drain"),
            Self::UndrainAll => Ask::new("POST", "/undrain"),
        })
    }

    /// Whether it asks for what everybody is told who may come to the status address.
    fn only_looks(&self) -> bool {
        matches!(self, Self::L4)
    }

    /// The answer, for people.
    fn show(&self, body: &[u8]) -> Result<String, String> {
        Ok(match self {
            Self::Servers { .. } => servers(&read(body)?),
            Self::Services => services(&read(body)?),
            Self::L4 => l4::show(&read(body)?),
            Self::Drain { .. } | Self::Maintenance { .. } | Self::Ready { .. } | Self::Weight { .. } | Self::Add(_) => {
                table(&SERVER_COLUMNS, &[server(&read(body)?)])
            }
            Self::Remove { server, .. } => format!("removed {}\n", server.0.trim_start_matches("/servers/")),
            Self::Reset { .. } => "as in the settings\n".to_owned(),
            Self::Stick { service: None } => tables(&read(body)?),
            Self::Stick { service: Some(_) } => clients(&read(body)?),
            Self::StickClear { .. } => "forgotten\n".to_owned(),
            Self::Peers => peers::show(&read(body)?),
            Self::Reload => reloaded(&read(body)?),
            Self::Upgrade => "upgraded\n".to_owned(),
            Self::DrainAll | Self::UndrainAll => String::from_utf8_lossy(body).into_owned(),
        })
    }
}

impl New {
    fn read(&self) -> NewServer {
        let mode = self.mode.map(|mode| match mode {
            ModeWord::Ready => Mode::Ready,
            ModeWord::Drain => Mode::Drain,
            ModeWord::Maintenance => Mode::Maintenance,
        });
        let server = Added {
            address: self.address,
            weight: self.weight,
            backup: self.backup,
            connections: self.connections,
            key: self.key.clone(),
            check: self.check,
        };
        NewServer { mode, server }
    }
}

/// Names alone, so that what is sent is a path.
fn readable(of: &str) -> Result<&str, String> {
    let (service, server) = of.split_once('/').map_or((of, None), |(service, server)| (service, Some(server)));
    OwnerName::parse(service).map_err(|error| error.to_string())?;
    server.map(ServerName::parse).transpose().map_err(|error| error.to_string())?;
    Ok(of)
}

fn name_of(service: &str) -> Result<OwnerName, String> {
    OwnerName::parse(service).map_err(|error| error.to_string())
}

/// Asks the proxy behind `door`, and prints the answer.
pub fn run(ctl: &Ctl, door: &Door) -> Result<(), String> {
    let ask = ctl.order.ask()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let limit = if matches!(ctl.order, Order::Upgrade) { UPGRADE_LIMIT } else { ANSWER_LIMIT };
    let answer = runtime.block_on(async { timeout(limit, door.send(&ask)).await });
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))?;
    if !(200..300).contains(&answer.status) {
        return Err(refusal(&answer.body));
    }
    match ctl.json {
        true => print!("{}", String::from_utf8_lossy(&answer.body)),
        false => print!("{}", ctl.order.show(&answer.body)?),
    }
    Ok(())
}

/// What is wrong, by an answer that says so in JSON or in text.
fn refusal(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return text.trim_end().to_owned() };
    let error = json["error"].as_str().unwrap_or(text.trim_end()).to_owned();
    let problems = json["problems"].as_array().into_iter().flatten();
    problems.filter_map(|problem| problem.as_str()).fold(error, |all, problem| format!("{all}\n  {problem}"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("an answer that cannot be read: {error}"))
}

fn reloaded(answer: &serde_json::Value) -> String {
    let keys = answer["restart_keys"].as_array().into_iter().flatten().filter_map(|key| key.as_str());
    keys.fold("reloaded\n".to_owned(), |all, key| {
        all + &format!("{key}: takes effect only after a restart or an upgrade\n")
    })
}

fn servers(all: &Servers) -> String {
    let mut text = table(&SERVER_COLUMNS, &all.servers.iter().map(server).collect::<Vec<_>>());
    for removed in &all.removed {
        text += &format!("{removed} is in the settings and was removed\n");
    }
    text
}

fn server(report: &ServerReport) -> [String; 10] {
    let ServerReport { service, server, address, requests, weight, .. } = report;
    let of = |most: u32| format!("{requests}/{most}");
    let mut mode = mode_word(report.mode).to_owned();
    if report.mode_by != "settings" {
        mode += &format!(" ({})", report.mode_by);
    }
    let mut kind = if report.backup { "backup".to_owned() } else { String::new() };
    if report.is_added {
        kind += if kind.is_empty() { "added" } else { ", added" };
    }
    [
        service.to_string(),
        server.to_string(),
        address.to_string(),
        word(report.health).to_owned(),
        mode,
        weight.to_string(),
        report.connections.map_or_else(|| requests.to_string(), of),
        kind,
        report.since.clone(),
        report.reason.clone(),
    ]
}

const SERVER_COLUMNS: [&str; 10] =
    ["SERVICE", "SERVER", "ADDRESS", "HEALTH", "MODE", "WEIGHT", "UNDER WAY", "KIND", "SINCE", "REASON"];

fn services(all: &Services) -> String {
    let row = |report: &crate::admin::servers::ServiceReport| {
        [
            report.service.to_string(),
            format!("{}/{}", report.servers_up, report.servers_total),
            format!("{:.1}", report.requests_per_sec),
            report.connections.to_string(),
            report.capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.to_string()),
        ]
    };
    table(&["SERVICE", "UP", "REQUESTS/S", "UNDER WAY", "CAPACITY"], &all.services.iter().map(row).collect::<Vec<_>>())
}

fn tables(all: &Tables) -> String {
    let row = |report: &crate::admin::stick::TableReport| {
        [
            report.service.to_string(),
            format!("{}/{}", report.entries, report.entries_max),
            show_duration(Duration::from_secs(report.lifetime_secs)),
            report.evicted.to_string(),
        ]
    };
    table(&["SERVICE", "CLIENTS", "LIFETIME", "EVICTED"], &all.tables.iter().map(row).collect::<Vec<_>>())
}

fn clients(all: &Clients) -> String {
    let row = |report: &crate::admin::stick::ClientReport| {
        [report.client.to_string(), report.server.clone(), show_duration(Duration::from_secs(report.age_secs))]
    };
    table(&["CLIENT", "SERVER", "AGE"], &all.clients.iter().map(row).collect::<Vec<_>>())
}

/// Columns as wide as they must be, the last as it is.
fn table<const N: usize>(columns: &[&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = std::iter::once(columns.map(str::to_owned)).chain(rows.iter().cloned()).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A proxy that takes longer is not well; a reload reads files.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A new program checks all servers before it serves, and is given up after a minute.
const UPGRADE_LIMIT: Duration = Duration::from_secs(70);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["app-1", "up"], ["a", "not checked yet"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&["SERVER", "REASON"], &rows), "SERVER  REASON\napp-1   up\na       not checked yet\n");
    }

    #[test]
    fn a_target_is_a_service_and_a_server() {
        let path = |text: &str| text.parse::<Target>().map(|target| target.0);
        assert_eq!(path("www.example.com/app-1"), Ok("/servers/www.example.com/app-1".to_owned()));
        for bad in ["app-1", "/app-1", "www.example.com/", "www.example.com/app 1", "a/b/c", "a/b?force=true"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_is_shown_with_every_mistake() {
        let body = br#"{"error": "2 mistakes", "problems": ["p.toml:1: a", "p.toml:2: b"]}"#;
        assert_eq!(refusal(body), "2 mistakes\n  p.toml:1: a\n  p.toml:2: b");
        assert_eq!(refusal(b"refused: why\n"), "refused: why");
    }
}
