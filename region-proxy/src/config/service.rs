//! `[services]`: what is forwarded, and to which servers.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::path::Path;

use shared::name::{OwnerName, ServerName};
use shared::published::STATUS_SIZE_MAX;
use shared::settings::{Table, Value};

use super::balance::{Balance, balance};
use super::check::{AgentCheck, Check, Observe, agent, check, observe};
use super::server_tls::{ServerTls, server_tls};
use super::stick::stick;
use super::{address, clash};
use crate::balance::hash::HashOf;
use crate::balance::{self, Balancer, Server, hash, share};
use crate::standing::Wanted;
use crate::stick::key::{Key, Keys, Secret};
use crate::stick::{Mode, Stick};

/// One service: a host name and the servers behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceConfig {
    /// What its servers take.
    pub mode: ServiceMode,
    /// Origin servers by name; never empty.
    pub servers: BTreeMap<ServerName, ServerConfig>,
    /// How servers are spoken to over TLS of which nothing else is said.
    pub tls: Option<ServerTls>,
    /// How their health is found.
    pub check: Check,
    /// How their agents are asked, where they have any.
    pub agent: Option<AgentCheck>,
    /// How failures of requests count against them, where they do.
    pub observe: Option<Observe>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// How clients are kept on theirs, where they are.
    pub stick: Option<Stick>,
    /// What cookies call the servers by, in the order of their names.
    pub keys: Keys,
    /// What its servers speak.
    pub protocol: ServerProtocol,
    /// What servers are told of a connection before its first octet.
    pub send_proxy: Option<ProxyHeader>,
    /// Requests per second that the service can bear here, where known.
    pub capacity: Option<u64>,
}

/// What the servers of a service take: nobody comes to a database by a Host field.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ServiceMode {
    /// Requests of HTTP.
    #[default]
    Http,
    /// Connections of `[[tcp]]`, as they are.
    Tcp,
    /// Either.
    Both,
}

impl ServiceMode {
    /// Its word in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Both => "both",
        }
    }

    /// Whether requests may come to it.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }

    /// Whether connections may as they are.
    pub fn is_tcp(self) -> bool {
        self != Self::Http
    }
}

/// One origin server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share: 0, which takes no new clients, to 256.
    pub weight: u16,
    /// Whether it serves only when the others cannot.
    pub is_backup: bool,
    /// Requests that it may have at one time; more wait.
    pub connections: Option<u32>,
    /// How it is spoken to over TLS, where it is.
    pub tls: Option<ServerTls>,
    /// Whether it serves, unless an operator says otherwise.
    pub mode: balance::Mode,
    /// Where its checks go, in place of what the check of its service says.
    pub check: Option<SocketAddr>,
}

impl ServerConfig {
    /// The server at `address`, as one of which nothing else is said but what its service says of TLS.
    pub fn new(address: SocketAddr, tls: Option<ServerTls>) -> Self {
        let mode = balance::Mode::Ready;
        Self { address, weight: 1, is_backup: false, connections: None, tls, mode, check: None }
    }

    /// What it wants of its standing.
    pub fn wanted(&self) -> Wanted {
        Wanted { mode: self.mode, weight: self.weight, connections: self.connections }
    }
}

/// What servers speak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ServerProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, from the first octet (RFC 9113, section 3.3).
    Http2,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyHeader {
    /// In text.
    V1,
    /// In binary.
    V2,
}

impl ServiceConfig {
    /// The balancer of the thread numbered `thread` of `threads`; servers have the order of their names.
    pub fn balancer(&self, threads: u32, thread: u32) -> Balancer {
        let server = |(name, server): (&ServerName, &ServerConfig)| Server {
            hash: hash::of(name.as_str().as_bytes()),
            weight: server.weight,
            is_backup: server.is_backup,
            in_flight_max: server.connections.map(|most| share(most, threads, thread)),
        };
        let mut balancer = Balancer::new(self.balance.rules, &self.servers.iter().map(server).collect::<Vec<_>>());
        balancer.skip(thread);
        balancer
    }
}

/// What the services of `root` are, of whose servers none may be in `listen`; `secret` names them in cookies.
pub(super) fn services(
    root: &Table<'_>,
    folder: &Path,
    listen: &[SocketAddr],
    secret: &Secret,
) -> BTreeMap<OwnerName, ServiceConfig> {
    let mut services = BTreeMap::new();
    let tables = root.tables("services");
    if tables.is_empty() {
        root.problem("services", "no service: expected at least one, such as [services.\"www.example.com\"]");
    }
    if tables.iter().map(|(key, _)| key.len() + SERVICE_STATUS_LEN_MAX).sum::<usize>() > STATUS_SIZE_MAX - REST_LEN_MAX
    {
        let what = format_args!("too many: expected as many as a status of {STATUS_SIZE_MAX} octets can tell of");
        root.problem("services", what);
    }
    for (key, table) in tables {
        let name = OwnerName::parse(key).map_err(|error| table.problem("", error)).ok();
        let service = service(&table, name.as_ref(), (folder, listen), secret);
        let (Some(name), Some(service)) = (name, service) else { continue };
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

/// `None` only after a problem was reported.
fn service(
    table: &Table<'_>,
    name: Option<&OwnerName>,
    (folder, listen): (&Path, &[SocketAddr]),
    secret: &Secret,
) -> Option<ServiceConfig> {
    let found = table.required("servers", "a table of server names and addresses").and_then(|value| value.table());
    let tls = server_tls(table, folder, name.map_or("", OwnerName::as_str)).flatten();
    let around = Around { folder, listen, name: name.map_or("", OwnerName::as_str), tls: tls.as_ref() };
    let found = found.map(|found| servers(&found, around)).unwrap_or_default();
    let check = table.table("check").map_or_else(|| check(None), |table| check(Some(&table)));
    let (agent, observe) = (agent(table), observe(table));
    let modes = [("http", ServiceMode::Http), ("tcp", ServiceMode::Tcp), ("both", ServiceMode::Both)];
    let mode = table.value("mode").and_then(|value| value.choice(&modes)).unwrap_or_default();
    let balance = balance(table);
    let stick = stick(table);
    if !mode.is_http() {
        check_plain(table, &balance, stick.as_ref());
    }
    let keys = keys(table, name.map_or("", OwnerName::as_str), &found, stick.as_ref(), secret);
    let versions = [("v1", ProxyHeader::V1), ("v2", ProxyHeader::V2)];
    let send_proxy = table.value("send_proxy").and_then(|value| value.choice(&versions));
    if send_proxy.is_some() && mode.is_http() && found.values().any(|(server, _)| server.tls.is_some()) {
        table.problem("send_proxy", "requests over TLS cannot have it yet: expected either, or `mode = \"tcp\"`");
    }
    let protocols = [("http1", ServerProtocol::Http1), ("h2", ServerProtocol::Http2)];
    let protocol = table.value("protocol").and_then(|value| value.choice(&protocols)).unwrap_or_default();
    if protocol == ServerProtocol::Http2 && send_proxy.is_some() {
        table.problem(
            "send_proxy",
            "a connection of HTTP/2 carries requests of many clients: expected protocol = \"http1\"",
        );
    }
    let capacity = table.value("capacity").and_then(|value| value.integer(1..=1_000_000_000));
    let servers = found.into_iter().map(|(name, (server, _))| (name, server)).collect();
    let capacity = capacity.map(|capacity| capacity as u64);
    Some(ServiceConfig {
        mode,
        servers,
        tls,
        check,
        agent,
        observe,
        balance,
        stick,
        keys: keys?,
        protocol,
        send_proxy,
        capacity,
    })
}

/// What only requests have is of no use to a service for TCP alone.
fn check_plain(table: &Table<'_>, balance: &Balance, stick: Option<&Stick>) {
    if matches!(stick, Some(Stick::Cookie(_))) {
        table.problem("stick", "cookies are of HTTP, and the service is for TCP alone: expected \"source\"");
    }
    if !matches!(balance.hash, HashOf::Source(_)) {
        table.problem("hash", "of HTTP, and the service is for TCP alone: expected \"source\"");
    }
}

/// Servers by name, each with the key that it was given.
type Found = BTreeMap<ServerName, (ServerConfig, Option<Key>)>;

/// What is said around the servers of a service.
#[derive(Clone, Copy)]
struct Around<'s> {
    folder: &'s Path,
    listen: &'s [SocketAddr],
    name: &'s str,
    tls: Option<&'s ServerTls>,
}

fn servers(table: &Table<'_>, around: Around<'_>) -> Found {
    let mut servers = Found::new();
    let entries = table.entries();
    if entries.is_empty() {
        table.problem("", "no server: expected at least one, such as app-1 = \"192.0.2.21:8080\"");
    }
    for (key, value) in entries {
        let name = ServerName::parse(key).map_err(|error| value.problem(error)).ok();
        let Some((server, key)) = server(&value, around) else { continue };
        let taken = servers.iter().map(|(name, (server, _))| (name, server.address));
        if let Some(what) = unfit_address(server.address, around.listen, taken) {
            value.problem(what);
        } else if let Some(name) = name {
            servers.insert(name, (server, key));
        }
    }
    if !servers.is_empty() && servers.values().all(|(server, _)| server.is_backup) {
        table.problem("", "all are backups: expected at least one that is not");
    }
    servers
}

/// What keeps a server from being at `address`, beside the listeners on `listen` and the servers that are `taken`.
pub fn unfit_address<'s>(
    address: SocketAddr,
    listen: &[SocketAddr],
    mut taken: impl Iterator<Item = (&'s ServerName, SocketAddr)>,
) -> Option<String> {
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Some(format!("{address} cannot be connected to: expected a server's own address and port"));
    }
    if listen.iter().any(|&listen| is_itself(listen, address)) {
        return Some(format!("{address} is in `listen`: requests would go round for ever"));
    }
    let (other, _) = taken.find(|(_, other)| *other == address)?;
    Some(format!("{address} is already the address of {other}"))
}

/// An address alone, or a table with one.
fn server(value: &Value<'_>, around: Around<'_>) -> Option<(ServerConfig, Option<Key>)> {
    if !value.is_table() {
        let address = address(value)?;
        return Some((ServerConfig::new(address, around.tls.cloned()), None));
    }
    let table = value.table()?;
    let address = table.required("address", "an IP address with port").and_then(|value| super::address(&value));
    let weight = table.value("weight").and_then(|value| value.integer(0..=256)).map_or(1, |weight| weight as u16);
    let is_backup = table.value("backup").and_then(|value| value.flag()).unwrap_or_default();
    let connections = table.value("connections").and_then(|value| value.integer(1..=1_000_000));
    let connections = connections.map(|connections| connections as u32);
    let modes =
        [("ready", balance::Mode::Ready), ("drain", balance::Mode::Drain), ("maintenance", balance::Mode::Maintenance)];
    let mode = table.value("mode").and_then(|value| value.choice(&modes)).unwrap_or_default();
    let check = table.value("check").and_then(|value| super::address(&value));
    let key = table.value("key").and_then(|value| value.parsed(Key::parse));
    let tls = server_tls(&table, around.folder, around.name).unwrap_or_else(|| around.tls.cloned());
    Some((ServerConfig { address: address?, weight, is_backup, connections, tls, mode, check }, key))
}

/// The keys of `servers`: those that were given, or derived ones.
fn keys(table: &Table<'_>, service: &str, servers: &Found, stick: Option<&Stick>, secret: &Secret) -> Option<Keys> {
    let mut keys = Vec::with_capacity(servers.len());
    let is_passive = matches!(stick, Some(Stick::Cookie(cookie)) if cookie.mode == Mode::Passive);
    for (name, (_, key)) in servers {
        if key.is_none() && is_passive {
            table.problem(
                "stick",
                format_args!("passive, but {name} has no `key`: expected what it sets in its cookie"),
            );
        }
        keys.push(key.clone().unwrap_or_else(|| Key::derive(secret, service, name.as_str())));
    }
    let name_of = |server: usize| servers.keys().nth(server).map_or("", ServerName::as_str);
    let same = |same: crate::stick::key::SameKey| {
        let what =
            format_args!("{} and {} have the same `key`: expected one each", name_of(same.one), name_of(same.other));
        table.problem("servers", what);
    };
    Keys::from_keys(keys).map_err(same).ok()
}

/// Whether a connection to `server` certainly ends at the listener on `listen`.
fn is_itself(listen: SocketAddr, server: SocketAddr) -> bool {
    listen == server || server.ip().is_loopback() && clash(listen, server)
}

/// What else is in it: names, and what is told of certificates.
const REST_LEN_MAX: usize = 128 * 1024;

/// A service in the JSON of a status, without its name.
const SERVICE_STATUS_LEN_MAX: usize = 200;
