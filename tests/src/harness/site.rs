//! One region seen from its clients: a proxy, three origin servers with sessions, and what else a test wants beside them.
//!
//! Addresses are as in `region-proxy/example.toml`, but that `127.0.` becomes `127.N.` with a number of this site's own:
//! clients at 127.N.1.10:8080, with TLS at 8443; status at 127.N.1.11:8081; servers at 127.N.1.21:9000 and after it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::certificates::{Authority, Identity};
use super::http::get_json;
use super::process::{Folder, Process, program};
use super::within;
use super::world::{START, TOKEN, claim, wait_for_answer};

/// The service that all settings here have.
pub const SERVICE: &str = "www.gslb.test";

/// Names of the origin servers.
pub const SERVERS: [&str; 3] = ["app-1", "app-2", "app-3"];

/// What settings begin with: the keys of the root.
pub const ROOT: &str = r#"
region = "seoul"
proxy = "seoul-1"
listen = ["127.0.1.10:8080"]
status = "127.0.1.11:8081"
admin_token_file = "token"
default_service = "www.gslb.test"
threads = 2
"#;

/// What they end with: the service, to whose table more keys may be added.
pub const SERVICES: &str = r#"
[services."www.gslb.test"]
servers = { app-1 = "127.0.1.21:9000", app-2 = "127.0.1.22:9000", app-3 = "127.0.1.23:9000" }
check = { path = "/health", interval = "50ms", time_limit = "2s", rise = 2, fall = 2 }
"#;

/// What is between them where clients come with TLS too.
pub const TLS: &str = r#"
[tls]
listen = ["127.0.1.10:8443"]
[[tls.certificates]]
certificate = "www.gslb.test.pem"
key = "www.gslb.test.key"
"#;

/// A site that runs; everything in it ends when this is dropped.
#[derive(Debug)]
pub struct Site {
    number: u8,
    /// Held as long as the site lives, so that no other takes its number.
    _claim: TcpListener,
    folder: Folder,
    servers: [Option<Process>; 3],
    proxy: Option<Process>,
}

impl Site {
    /// A folder with a token and no process yet.
    pub fn new() -> Result<Self, String> {
        let (number, claim) = claim()?;
        let site = Self {
            number,
            _claim: claim,
            folder: Folder::new("gslb-site-")?,
            servers: [const { None }; 3],
            proxy: None,
        };
        site.write("token", TOKEN)?;
        Ok(site)
    }

    /// A site with all servers, and a proxy with `settings`, given with the addresses `127.0.`; each server is up.
    pub fn start(settings: &str) -> Result<Self, String> {
        let mut site = Self::new()?;
        site.run(settings)?;
        Ok(site)
    }

    /// Starts all servers and the proxy, and waits until it has found each server well.
    pub fn run(&mut self, settings: &str) -> Result<(), String> {
        SERVERS.into_iter().try_for_each(|server| self.start_server(server))?;
        self.start_proxy(settings)?;
        self.wait_for_servers(SERVERS.len())
    }

    /// Starts the proxy with `settings` and waits until it answers.
    pub fn start_proxy(&mut self, settings: &str) -> Result<(), String> {
        self.write("proxy.toml", self.at_home(settings))?;
        let arguments = ["serve".into(), "--config".into(), self.path("proxy.toml")];
        let proxy = Process::start("region-proxy", &program("region-proxy")?, &arguments);
        let mut proxy = proxy.map_err(|error| error.to_string())?;
        wait_for_answer(&mut proxy, self.status_address(), "/status")?;
        self.proxy = Some(proxy);
        Ok(())
    }

    /// Starts `server`, which does not run, without sessions.
    pub fn start_server(&mut self, server: &str) -> Result<(), String> {
        let address = self.address(21 + u8::try_from(place(server)?).unwrap_or(0), 9000).to_string();
        let process = Process::start(server, &program("servlet")?, &[server, &address]);
        let process = process.map_err(|error| error.to_string())?;
        process.wait_for_line("listening on", 0, START)?;
        self.servers[place(server)?] = Some(process);
        Ok(())
    }

    /// Kills `server` (SIGKILL).
    pub fn kill_server(&mut self, server: &str) -> Result<(), String> {
        let process = self.servers[place(server)?].take();
        process.ok_or_else(|| format!("{server} does not run")).map(|mut process| process.kill())
    }

    /// Waits until the proxy finds `up` servers well.
    pub fn wait_for_servers(&self, up: usize) -> Result<(), String> {
        let look = || {
            let status = self.status()?;
            let found = &status["services"][SERVICE]["servers_up"];
            if *found == up { Ok(()) } else { Err(format!("{found} servers are up, expected {up}")) }
        };
        within(START, look).map(drop)
    }

    /// The proxy's `/status`.
    pub fn status(&self) -> Result<Value, String> {
        get_json(self.status_address(), "/status")
    }

    /// Where the proxy tells its status.
    pub fn status_address(&self) -> SocketAddr {
        self.address(11, 8081)
    }

    /// Where clients connect.
    pub fn http(&self) -> SocketAddr {
        self.address(10, 8080)
    }

    /// Where they connect with TLS.
    pub fn https(&self) -> SocketAddr {
        self.address(10, 8443)
    }

    /// An address of this site.
    pub fn address(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([127, self.number, 1, host], port))
    }

    /// `text` with the addresses of this site in place of `127.0.`.
    pub fn at_home(&self, text: &str) -> String {
        text.replace("127.0.", &format!("127.{}.", self.number))
    }

    /// The running proxy.
    pub fn proxy(&mut self) -> Result<&mut Process, String> {
        self.proxy.as_mut().ok_or_else(|| "the proxy does not run".to_owned())
    }

    /// The path of `file` in the folder of this site.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces `file` whole; nobody else may read it.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> Result<(), String> {
        let (path, new) = (self.path(file), self.path(&format!(".{file}.new")));
        let only_owner = || fs::set_permissions(&new, fs::Permissions::from_mode(0o600));
        let written = fs::write(&new, text).and_then(|()| only_owner()).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{file}: {error}"))
    }

    /// Writes the identity of a server for [`TLS`], signed by `authority`, and `ca.pem`.
    pub fn write_certificate(&self, authority: &Authority, name: &str) -> Result<(), String> {
        let Identity { certificate, key } = authority.server(name)?;
        self.write(&format!("{name}.key"), key)?;
        self.write(&format!("{name}.pem"), certificate)?;
        self.write("ca.pem", authority.pem())
    }
}

fn place(server: &str) -> Result<usize, String> {
    let place = SERVERS.iter().position(|name| *name == server);
    place.ok_or_else(|| format!("{server} is not a server: expected one of {SERVERS:?}"))
}
