//! The settings of a proxy: one TOML text becomes a [`Config`] or all of its mistakes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use shared::name::{OwnerName, ProxyName, RegionName};
use shared::problem::{Problem, Problems};
use shared::settings::{Document, Table, Value};
use shared::token::Token;

use crate::clients::Rules;
use crate::forwarded::Forwarded;
use crate::routes::Routes;
use crate::stick::key::Secret;

mod access_log;
mod balance;
mod believed;
mod check;
mod clients;
mod contact;
mod doubts;
mod http2;
mod l4;
mod limits;
mod peers;
mod probe;
mod routes;
mod server_tls;
mod service;
mod stick;
mod tcp;
mod tls;
mod vrrp;

pub use access_log::{AccessLog, LogFormat, LogTarget, Only};
pub use balance::Balance;
pub use believed::ProxyProtocol;
pub use check::{AgentCheck, Check, Observe, Place, Then};
pub use contact::Contact;
pub use http2::Http2;
pub use l4::{L4, Mode as L4Mode, Tunnel, TunnelKind};
pub use limits::Limits;
pub use peers::Peers;
pub use probe::{BodyMatch, Probe, Question, Statuses};
pub use server_tls::{ClientIdentity, ServerTls};
pub use service::{ProxyHeader, ServerConfig, ServerProtocol, ServiceConfig, ServiceMode, unfit_address};
pub use tcp::{ByName, Tcp};
pub use tls::{CertificateFiles, ClientCertificates, Tls, TlsVersion};
pub use vrrp::{Track, TrackedService, VipMac, VirtualRouter};

/// Everything that an operator says about one proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The region that it serves.
    pub region: RegionName,
    /// Its own name.
    pub proxy: ProxyName,
    /// Who it runs as once its addresses are bound; `None`: who started it.
    pub user: Option<String>,
    /// Threads that serve; `None`: one a core.
    pub threads: Option<usize>,
    /// Where clients connect without TLS; empty only beside `tls`, `tcp` or `l4`.
    pub listen: Vec<SocketAddr>,
    /// Where they connect with TLS, and what is shown to them there.
    pub tls: Option<Tls>,
    /// Where octets are passed as they are.
    pub tcp: Vec<Tcp>,
    /// What the kernel passes on by itself.
    pub l4: Vec<L4>,
    /// Where `gslb-dns` asks for the status and operators drain.
    pub status: SocketAddr,
    /// Addresses that must all be on this machine for "holds the VIP"; empty: always held.
    pub vips: Vec<IpAddr>,
    /// VIPs that it holds in turn with others; `vips` is empty then.
    pub vrrp: Vec<VirtualRouter>,
    /// The proxies beside this one; `None`: it tells nobody what it learns.
    pub peers: Option<Peers>,
    /// What drain and undrain must show; `None`: both are refused.
    pub token: Option<Token>,
    /// The files that its secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// Where operators reach it on this machine.
    pub admin_socket: Option<PathBuf>,
    /// What keys are derived with.
    pub cookie_secret: Secret,
    /// Where the drain and what operators changed are kept over a restart.
    pub state_file: Option<PathBuf>,
    /// The service of requests whose Host is no service.
    pub default_service: Option<OwnerName>,
    /// Further servers that one request may be tried on.
    pub retries: u32,
    /// What is written of each request; `None`: nothing.
    pub access_log: Option<AccessLog>,
    /// Bounds on connections, heads and waiting.
    pub limits: Limits,
    /// Bounds on each client.
    pub clients: Rules,
    /// Where HTTP/2 is spoken, and its bounds.
    pub http2: Http2,
    /// What is believed and told of where requests come from.
    pub forwarded: Forwarded,
    /// Where connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Which requests go elsewhere than their host says.
    pub routes: Routes,
    /// What is forwarded; never empty.
    pub services: BTreeMap<OwnerName, ServiceConfig>,
}

/// What is spoken where clients connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Whatever it is: the address of a `[[tcp]]`, as in the settings.
    Tcp(SocketAddr),
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
            if !problems.is_empty() {
                // Keys may seem to be missing, or in another table, that the text has.
                return Err(problems.into_vec());
            }
            let root = document.root(&problems);
            Reader { folder: file.parent().unwrap_or(Path::new("")), read }.config(&root)
        };
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_vec()),
        }
    }

    /// Where clients connect with TLS.
    pub fn tls_listen(&self) -> &[SocketAddr] {
        self.tls.as_ref().map_or(&[], |tls| &tls.listen)
    }

    /// All addresses that may be on this machine at one time and not at another.
    pub fn held_vips(&self) -> Vec<IpAddr> {
        self.vrrp.iter().flat_map(|router| router.vips.iter()).chain(&self.vips).copied().collect()
    }

    /// Where clients connect, and what they speak there.
    pub fn entrances(&self) -> impl Iterator<Item = (SocketAddr, Entry)> {
        let http = self.listen.iter().map(|&address| (address, Entry::Http));
        let https = self.tls_listen().iter().map(|&address| (address, Entry::Https));
        let tcp = self.tcp.iter().flat_map(|tcp| tcp.listen.iter().map(|&address| (address, Entry::Tcp(address))));
        http.chain(https).chain(tcp)
    }

    /// All files of certificates that it names, towards clients and servers.
    pub fn certificate_files(&self) -> impl Iterator<Item = &Path> {
        let servers = self.services.values().flat_map(|service| service.servers.values());
        let servers = servers.filter_map(|server| server.tls.as_ref()).flat_map(ServerTls::files);
        self.tls.iter().flat_map(|tls| tls.files()).chain(servers)
    }

    /// The keys whose new value in `next` takes effect only after a restart or an upgrade.
    pub fn restart_keys(&self, next: &Self) -> Vec<&'static str> {
        let changed = [
            ("user", self.user != next.user),
            ("threads", self.threads != next.threads),
            ("status", self.status != next.status),
            ("admin_socket", self.admin_socket != next.admin_socket),
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
        let user = root.value("user").and_then(|value| not_empty(&value, "a user's name").map(str::to_owned));
        let threads = root.value("threads").and_then(|value| value.integer(1..=256)).map(|count| count as usize);
        let tls_table = root.table("tls");
        let listen = match tls_table.is_some() || root.value("tcp").is_some() || root.value("l4").is_some() {
            true => Some(root.value("listen").map(|value| addresses(&value)).unwrap_or_default()),
            false => root.required("listen", "a list of addresses with ports").map(|value| addresses(&value)),
        };
        let http2 = root.table("http2").map(|table| http2::http2(&table)).unwrap_or_default();
        let tls = tls_table.and_then(|table| self.tls(&table, listen.as_deref().unwrap_or_default(), http2.tls));
        let status = root.required("status", "an address with port").and_then(|value| address(&value));
        let vips = root.value("vips").map(|value| vips(&value)).unwrap_or_default();
        let token = root.value("admin_token_file").and_then(|value| self.token(&value));
        let state_file =
            root.value("state_file").and_then(|value| Some(self.folder.join(not_empty(&value, "a path")?)));
        let admin_socket = root.value("admin_socket").and_then(|value| self.admin_socket(&value));
        let retries = root.value("retries").and_then(|value| value.integer(0..=10)).map_or(1, |count| count as u32);
        let limits = root.table("limits").map(|table| limits::limits(&table)).unwrap_or_default();
        let access_log = root.table("access_log").and_then(|table| access_log::access_log(&table, self.folder));
        let clients = clients::clients(root);
        let forwarded = believed::forwarded(root);
        let tls_listen = tls.as_ref().map_or(&[][..], |tls| &tls.listen);
        let tcp_tables = root.table_list("tcp");
        let http = [listen.as_deref().unwrap_or_default(), tls_listen].concat();
        let tcp_listen = tcp::listen(&tcp_tables, &http);
        let own = &[&http[..], &tcp_listen.concat()].concat();
        let proxy_protocol = believed::proxy_protocol(root, own);
        let secret = root.value("cookie_secret_file").and_then(|value| self.token(&value));
        let secret_files = ["admin_token_file", "cookie_secret_file"].into_iter();
        let secret_files = secret_files.filter_map(|key| root.value(key).filter(Value::is_text)?.text());
        let secret_files = secret_files.map(|path| self.folder.join(path)).collect::<Vec<_>>();
        let secret = secret.map_or(Secret::PUBLIC, |secret| Secret::from_text(secret.reveal()));
        let services = service::services(root, self.folder, own, &secret);
        let default_service = root.value("default_service").and_then(|value| known_service(&value, &services));
        let routes = routes::routes(root, &services);
        let vrrp = vrrp::vrrp(root, &services);
        if let (Some(_), Some(router)) = (&user, vrrp.first()) {
            let what = format_args!("[vrrp.{}] needs CAP_NET_ADMIN and CAP_NET_RAW, which this drops", router.name);
            root.problem("user", format_args!("{what}: expected a process that is started with these two alone"));
        }
        let tcp = tcp::tcp(&tcp_tables, tcp_listen, &services);
        let reported = status.filter(|status| !status.ip().is_unspecified());
        let l4 = l4::l4(root, &[own, reported.as_slice()].concat(), &services);
        if let (Some(_), Some(first)) = (&user, l4.first()) {
            let what = format_args!("[l4.{}] needs CAP_NET_ADMIN, which this drops", first.name);
            root.problem("user", format_args!("{what}: expected a process that is started with this alone"));
        }
        if let Some(status) = status
            && own.iter().any(|&listen| clash(listen, status))
        {
            root.problem("status", format_args!("{status} is in `listen` too: expected an address of its own"));
        }
        let taken: Vec<_> = own.iter().copied().chain(status).collect();
        let peers = peers::peers(root, proxy.as_ref(), &taken, self.folder, &|value| self.token(value));
        let secret_files =
            secret_files.into_iter().chain(peers.as_ref().map(|peers| peers.secret_file.clone())).collect();
        let listen = listen?;
        let (region, proxy, status) = (region?, proxy?, status?);
        Some(Config {
            region,
            proxy,
            user,
            threads,
            listen,
            tls,
            tcp,
            l4,
            status,
            vips,
            vrrp,
            peers,
            token,
            secret_files,
            admin_socket,
            cookie_secret: secret,
            state_file,
            default_service,
            retries,
            access_log,
            limits,
            clients,
            http2,
            forwarded,
            proxy_protocol,
            routes,
            services,
        })
    }

    fn admin_socket(&self, value: &Value<'_>) -> Option<PathBuf> {
        let path = self.folder.join(not_empty(value, "a path")?);
        let len = path.as_os_str().len();
        if len > SOCKET_PATH_LEN_MAX {
            value.problem(format_args!(
                "{}: {len} octets: expected a path of at most {SOCKET_PATH_LEN_MAX}",
                path.display()
            ));
            return None;
        }
        Some(path)
    }

    fn token(&self, value: &Value<'_>) -> Option<Token> {
        let path = self.folder.join(not_empty(value, "a path")?);
        let read = (self.read)(&path).map_err(|error| value.problem(format_args!("{}: {error}", path.display())));
        let token = Token::parse(&read.ok()?);
        token.map_err(|error| value.problem(format_args!("{}: {error}", path.display()))).ok()
    }
}

/// What the kernel takes of a socket's path, less what its new one is called before it takes the old one's place.
const SOCKET_PATH_LEN_MAX: usize = 100;

fn not_empty<'a>(value: &Value<'a>, expected: &str) -> Option<&'a str> {
    let text = value.text()?;
    if text.is_empty() {
        value.problem(format_args!("empty: expected {expected}"));
        return None;
    }
    Some(text)
}

fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let expected =
        "an IP address with port, such as \"192.0.2.10:80\" or \"[2001:db8::10]:80\"; names are not looked up";
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

/// A service that takes requests.
fn known_service(value: &Value<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<OwnerName> {
    let name = known(value, services)?;
    if !services.get(&name)?.mode.is_http() {
        value.problem(format_args!("{name} is for TCP alone: expected `mode = \"both\"` there, or another service"));
        return None;
    }
    Some(name)
}

fn known(value: &Value<'_>, services: &BTreeMap<OwnerName, ServiceConfig>) -> Option<OwnerName> {
    let name = value.parsed(OwnerName::parse)?;
    if !services.contains_key(&name) {
        let known: Vec<&str> = services.keys().map(OwnerName::as_str).collect();
        value.problem(format_args!("{name} is not a service: expected one of {}", known.join(", ")));
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
