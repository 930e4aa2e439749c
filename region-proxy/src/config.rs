//! The settings of a proxy: one TOML text becomes a [`Config`] or all of its mistakes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::name::{OwnerName, ProxyName, RegionName, ServerName};
use shared::problem::{Problem, Problems};
use shared::published::STATUS_SIZE_MAX;
use shared::settings::{Document, Table, Value};

use crate::balance::Policy;
use crate::http1::{self, HeadLimits, Target};
use shared::token::Token;

/// Everything that an operator says about one proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The region that it serves.
    pub region: RegionName,
    /// Its own name.
    pub proxy: ProxyName,
    /// Threads that serve; `None`: one a core.
    pub threads: Option<usize>,
    /// Where clients connect; never empty.
    pub listen: Vec<SocketAddr>,
    /// Where `gslb-dns` asks for the status and operators drain.
    pub status: SocketAddr,
    /// Addresses that must all be on this machine for "holds the VIP"; empty: always held.
    pub vips: Vec<IpAddr>,
    /// What drain and undrain must show; `None`: both are refused.
    pub token: Option<Token>,
    /// Where the drain is kept over a restart.
    pub state_file: Option<PathBuf>,
    /// The service of requests whose Host is no service.
    pub default_service: Option<OwnerName>,
    /// Further servers that one request may be tried on.
    pub retries: u32,
    /// Bounds on connections, heads and waiting.
    pub limits: Limits,
    /// What is forwarded; never empty.
    pub services: BTreeMap<OwnerName, ServiceConfig>,
}

/// Bounds that keep one client or server from hurting the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Client connections served at one time, over all addresses; more wait.
    pub connections: usize,
    /// The longest head of a request or response, in octets.
    pub head_octets: usize,
    /// From the start of a connection, or the end of its last response, to the whole head of its next request: bounds
    /// both idle clients and those that send a head octet by octet.
    pub request_head: Duration,
    /// To connect to a server.
    pub connect: Duration,
    /// From the last octet of the request to the head of the response; a pause in the body of the request before that is
    /// bound by it too.
    pub response_head: Duration,
    /// How long either side may pause in a body that the other waits for.
    pub body_stall: Duration,
    /// How long an unused connection to a server is kept.
    pub upstream_idle: Duration,
    /// How long a client may leave sent octets unacknowledged.
    pub client_stall: Duration,
    /// How long a connection that has changed its protocol, as WebSocket does, may carry nothing.
    pub tunnel: Duration,
    /// How long requests in flight may take to finish when the proxy stops.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_octets: 64 * 1024,
            request_head: Duration::from_secs(30),
            connect: Duration::from_secs(1),
            response_head: Duration::from_secs(30),
            body_stall: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(15),
            client_stall: Duration::from_secs(30),
            tunnel: Duration::from_secs(3600),
            stop: Duration::from_secs(10),
        }
    }
}

/// One service: a host name and the servers behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceConfig {
    /// Origin servers by name; never empty.
    pub servers: BTreeMap<ServerName, SocketAddr>,
    /// How their health is found.
    pub check: Check,
    /// How one of them is chosen.
    pub balance: Policy,
    /// Requests per second that the service can bear here, where known.
    pub capacity: Option<u64>,
}

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

impl Config {
    /// Reads `text`, the content of `file`; relative paths in it are relative to the folder of `file`.
    ///
    /// `read` gives the content of a file that the settings name (the token), or says why it cannot. Fails with every
    /// mistake, by line; never with an empty list.
    pub fn parse(
        file: &Path,
        text: &str,
        read: &dyn Fn(&Path) -> Result<String, String>,
    ) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new(&file.display().to_string(), text);
        let config = {
            let document = Document::parse(text, &problems);
            let root = document.root(&problems);
            Reader { folder: file.parent().unwrap_or(Path::new("")), read }.config(&root)
        };
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_vec()),
        }
    }

    /// The keys whose new value in `next` takes effect only after a restart.
    pub fn restart_keys(&self, next: &Self) -> Vec<&'static str> {
        let changed = [
            ("threads", self.threads != next.threads),
            ("listen", self.listen != next.listen),
            ("status", self.status != next.status),
            ("limits.connections", self.limits.connections != next.limits.connections),
        ];
        changed.iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| *key).collect()
    }
}

struct Reader<'r> {
    folder: &'r Path,
    read: &'r dyn Fn(&Path) -> Result<String, String>,
}

impl Reader<'_> {
    /// `None` only after a problem was reported.
    fn config(&self, root: &Table<'_>) -> Option<Config> {
        let region =
            root.required("region", "the name of its region").and_then(|value| value.parsed(RegionName::parse));
        let proxy = root.required("proxy", "its own name").and_then(|value| value.parsed(ProxyName::parse));
        let threads = root.value("threads").and_then(|value| value.integer(1..=256)).map(|count| count as usize);
        let listen = root.required("listen", "a list of addresses with ports").map(|value| addresses(&value));
        let status = root.required("status", "an address with port").and_then(|value| address(&value));
        let vips = root.value("vips").map(|value| vips(&value)).unwrap_or_default();
        let token = root.value("admin_token_file").and_then(|value| self.token(&value));
        let state_file =
            root.value("state_file").and_then(|value| Some(self.folder.join(not_empty(&value, "a path")?)));
        let retries = root.value("retries").and_then(|value| value.integer(0..=10)).map_or(1, |count| count as u32);
        let limits = root.table("limits").map(|table| limits(&table)).unwrap_or_default();
        let services = services(root, listen.as_deref().unwrap_or_default());
        let default_service = root.value("default_service").and_then(|value| default_service(&value, &services));
        if let (Some(status), Some(listen)) = (status, &listen)
            && listen.iter().any(|&listen| clash(listen, status))
        {
            root.problem("status", format_args!("{status} is in `listen` too: expected an address of its own"));
        }
        let listen = listen?;
        let (region, proxy, status) = (region?, proxy?, status?);
        Some(Config {
            region,
            proxy,
            threads,
            listen,
            status,
            vips,
            token,
            state_file,
            default_service,
            retries,
            limits,
            services,
        })
    }

    fn token(&self, value: &Value<'_>) -> Option<Token> {
        let path = self.folder.join(not_empty(value, "a path")?);
        let read = (self.read)(&path).map_err(|error| value.problem(format_args!("{}: {error}", path.display())));
        let token = Token::parse(&read.ok()?);
        token.map_err(|error| value.problem(format_args!("{}: {error}", path.display()))).ok()
    }
}

fn not_empty<'a>(value: &Value<'a>, expected: &str) -> Option<&'a str> {
    let text = value.text()?;
    if text.is_empty() {
        value.problem(format_args!("empty: expected {expected}"));
        return None;
    }
    Some(text)
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let expected = "an IP address with port, such as \"192.0.2.10:80\" or \"[2001:db8::10]:80\"";
    value.parsed_as(expected, |text| text.parse().ok())
}

fn addresses(value: &Value<'_>) -> Vec<SocketAddr> {
    let items = value.items("a list of IP addresses with ports").unwrap_or_default();
    if items.is_empty() {
        value.problem("empty: expected at least one address");
    }
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(items.len());
    for item in items {
        match address(&item) {
            Some(address) if address.port() != 0 && addresses.contains(&address) => {
                item.problem(format_args!("{address} is there twice"));
            }
            Some(address) => addresses.push(address),
            None => {}
        }
    }
    addresses
}

fn vips(value: &Value<'_>) -> Vec<IpAddr> {
    let mut vips: Vec<IpAddr> = Vec::new();
    for item in value.items("a list of IP addresses").unwrap_or_default() {
        match item.parsed_as("an IP address", |text| text.parse::<IpAddr>().ok()) {
            Some(vip) if vip.is_unspecified() || vip.is_multicast() => {
                item.problem(format_args!(
                    "{vip} is not an address that a machine can hold: expected a unicast address"
                ));
            }
            Some(vip) if vips.contains(&vip) => item.problem(format_args!("{vip} is there twice")),
            Some(vip) => vips.push(vip),
            None => {}
        }
    }
    vips
}

/// Whether both addresses take the same connections.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let is_same_family = one.is_ipv4() == other.is_ipv4();
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || is_same_family && is_any)
}

/// Whether a connection to `server` certainly ends at the listener on `listen`.
fn is_itself(listen: SocketAddr, server: SocketAddr) -> bool {
    listen == server || server.ip().is_loopback() && clash(listen, server)
}

fn limits(table: &Table<'_>) -> Limits {
    let default = Limits::default();
    let second = Duration::from_secs(1);
    let span = |key: &str, least: Duration, default: Duration| {
        table.value(key).and_then(|value| value.duration(least..=3600 * second)).unwrap_or(default)
    };
    let count = |key: &str, range, default: usize| {
        table.value(key).and_then(|value| value.integer(range)).map_or(default, |count| count as usize)
    };
    Limits {
        connections: count("connections", 1..=1_000_000, default.connections),
        head_octets: count("head_octets", 8192..=1_048_576, default.head_octets),
        request_head: span("request_head", second / 10, default.request_head),
        connect: span("connect", second / 100, default.connect),
        response_head: span("response_head", second / 10, default.response_head),
        body_stall: span("body_stall", second / 10, default.body_stall),
        upstream_idle: span("upstream_idle", Duration::ZERO, default.upstream_idle),
        client_stall: span("client_stall", second, default.client_stall),
        tunnel: span("tunnel", second, default.tunnel),
        stop: span("stop", Duration::ZERO, default.stop),
    }
}

fn services(root: &Table<'_>, listen: &[SocketAddr]) -> BTreeMap<OwnerName, ServiceConfig> {
    let mut services = BTreeMap::new();
    let tables = root.tables("services");
    if tables.is_empty() {
        root.problem("services", "no service: expected at least one, such as [services.\"www.example.com\"]");
    }
    if tables.iter().map(|(key, _)| key.len() + SERVICE_STATUS_LEN_MAX).sum::<usize>() > STATUS_SIZE_MAX - 1024 {
        let what = format_args!("too many: expected as many as a status of {STATUS_SIZE_MAX} octets can tell of");
        root.problem("services", what);
    }
    for (key, table) in tables {
        let name = OwnerName::parse(key).map_err(|error| table.problem("", error)).ok();
        let service = service(&table, listen);
        let Some(name) = name else { continue };
        match services.entry(name) {
            Entry::Vacant(place) => {
                place.insert(service);
            }
            Entry::Occupied(taken) => {
                table.problem(
                    "",
                    format_args!("{} is there twice: names do not differ by case or a final dot", taken.key()),
                );
            }
        }
    }
    services
}

fn service(table: &Table<'_>, listen: &[SocketAddr]) -> ServiceConfig {
    let servers = table.required("servers", "a table of server names and addresses").and_then(|value| value.table());
    let servers = servers.map(|servers| self::servers(&servers, listen)).unwrap_or_default();
    let check = table.table("check").map_or_else(|| check(None), |table| check(Some(&table)));
    let policies = [("round_robin", Policy::RoundRobin), ("least_connections", Policy::LeastConnections)];
    let balance = table.value("balance").and_then(|value| value.choice(&policies)).unwrap_or_default();
    let capacity = table.value("capacity").and_then(|value| value.integer(1..=1_000_000_000));
    ServiceConfig { servers, check, balance, capacity: capacity.map(|capacity| capacity as u64) }
}

fn servers(table: &Table<'_>, listen: &[SocketAddr]) -> BTreeMap<ServerName, SocketAddr> {
    let mut servers: BTreeMap<ServerName, SocketAddr> = BTreeMap::new();
    let entries = table.entries();
    if entries.is_empty() {
        table.problem("", "no server: expected at least one, such as app-1 = \"192.0.2.21:8080\"");
    }
    for (key, value) in entries {
        let name = ServerName::parse(key).map_err(|error| value.problem(error)).ok();
        let Some(address) = address(&value) else { continue };
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            value.problem(format_args!("{address} cannot be connected to: expected a server's own address and port"));
        } else if listen.iter().any(|&listen| is_itself(listen, address)) {
            value.problem(format_args!("{address} is in `listen`: requests would go round for ever"));
        } else if let Some((other, _)) = servers.iter().find(|(_, other)| **other == address) {
            value.problem(format_args!("{address} is already the address of {other}"));
        } else if let Some(name) = name {
            servers.insert(name, address);
        }
    }
    servers
}

fn check(table: Option<&Table<'_>>) -> Check {
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

/// A service in the JSON of a status, without its name.
const SERVICE_STATUS_LEN_MAX: usize = 200;

const PATH: &str = "a path from its first slash, such as \"/health\"";

fn is_path(text: &str) -> bool {
    let head = format!("GET {text} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut slots = [const { MaybeUninit::uninit() }; 2];
    let request = http1::read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT);
    request
        .is_ok_and(|request| request.is_some_and(|request| request.target == Target::Origin { path_and_query: text }))
}

fn default_service(value: &Value<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<OwnerName> {
    let name = value.parsed(OwnerName::parse)?;
    if !services.contains_key(&name) {
        let known: Vec<&str> = services.keys().map(OwnerName::as_str).collect();
        value.problem(format_args!("{name} is not a service: expected one of {}", known.join(", ")));
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests;
