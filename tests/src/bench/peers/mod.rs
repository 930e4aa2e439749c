//! The servers, and how each is told to do the same with one worker.

mod gdnsd;
mod gslb_dns;
mod knot;
mod nsd;
mod powerdns;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::Scenario;
use super::zone::{Host, ZONE};
use crate::harness::process::program;
use crate::harness::tools::find;

/// A server that can be measured.
#[derive(Debug)]
pub struct Peer {
    /// What it is called here.
    pub name: &'static str,
    /// Its executable.
    pub program: &'static str,
    /// The Debian package of it; `None`: it is built here.
    pub package: Option<&'static str>,
    /// What it can do.
    pub scenarios: &'static [Scenario],
    /// Whether it is measured when no servers are named.
    pub is_usual: bool,
    /// Writes its settings and gives the arguments with which it runs in the foreground.
    prepare: fn(&Site<'_>) -> Result<Vec<String>, String>,
}

/// Where and with what a server shall run.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// A folder of its own, empty.
    pub folder: &'a Path,
    /// Where it answers, UDP and TCP: a port of 127.0.0.1.
    pub port: u16,
    /// Hosts of its zone, beside the fixed names; empty: the small zone.
    pub hosts: &'a [Host],
    /// Whether its zone is signed, by one key of algorithm 13.
    pub is_signed: bool,
    /// The geo database.
    pub geo: &'a Path,
    /// Where regions tell their status.
    pub status: SocketAddr,
}

/// All servers.
pub static PEERS: [Peer; 8] = [
    Peer {
        name: "gslb-dns",
        program: "gslb-dns",
        package: None,
        scenarios: SIGNING,
        is_usual: true,
        prepare: gslb_dns::prepare,
    },
    Peer {
        name: "gdnsd",
        program: "gdnsd",
        package: Some("gdnsd"),
        scenarios: ALL,
        is_usual: true,
        prepare: gdnsd::prepare,
    },
    Peer {
        name: "knot",
        program: "knotd",
        package: Some("knot"),
        scenarios: SIGNING,
        is_usual: true,
        prepare: knot::prepare,
    },
    Peer { name: "nsd", program: "nsd", package: Some("nsd"), scenarios: PLAIN, is_usual: true, prepare: nsd::prepare },
    Peer {
        name: "pdns",
        program: "pdns_server",
        package: Some("pdns-server"),
        scenarios: SMALL,
        is_usual: true,
        prepare: powerdns::prepare,
    },
    Peer {
        name: "reflector",
        program: "bench",
        package: None,
        scenarios: REFLECTED,
        is_usual: true,
        prepare: |site| Ok(vec!["reflector".to_owned(), site.address().to_string()]),
    },
    Peer {
        name: "gslb-dns-limit",
        program: "gslb-dns",
        package: None,
        scenarios: &[Scenario::Static, Scenario::Spread],
        is_usual: false,
        prepare: gslb_dns::prepare_limited,
    },
    Peer {
        name: "gslb-dns-cookies",
        program: "gslb-dns",
        package: None,
        scenarios: &[Scenario::Static, Scenario::Cookies],
        is_usual: false,
        prepare: gslb_dns::prepare_with_cookies,
    },
];

const ALL: &[Scenario] = &[
    Scenario::Static,
    Scenario::Nx,
    Scenario::GeoSrc,
    Scenario::GeoEcs,
    Scenario::Spread,
    Scenario::Tcp,
    Scenario::Open,
    Scenario::Steady,
    Scenario::Big,
];
/// With signing of steered answers too.
const SIGNING: &[Scenario] = &[
    Scenario::Static,
    Scenario::Nx,
    Scenario::GeoSrc,
    Scenario::GeoEcs,
    Scenario::Spread,
    Scenario::Tcp,
    Scenario::Open,
    Scenario::Steady,
    Scenario::Signed,
    Scenario::GeoSigned,
    Scenario::Big,
];
/// Without geo.
const PLAIN: &[Scenario] =
    &[Scenario::Static, Scenario::Nx, Scenario::Spread, Scenario::Tcp, Scenario::Open, Scenario::Steady, Scenario::Big];
/// With zones from a file that is not made for many names.
const SMALL: &[Scenario] = &[
    Scenario::Static,
    Scenario::Nx,
    Scenario::GeoSrc,
    Scenario::GeoEcs,
    Scenario::Spread,
    Scenario::Tcp,
    Scenario::Open,
    Scenario::Steady,
];
/// It knows one answer, and no TCP.
const REFLECTED: &[Scenario] = &[Scenario::Static, Scenario::Spread, Scenario::Open, Scenario::Steady];

impl Peer {
    /// The one with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// Its executable on this machine; fails with the package that holds it.
    pub fn executable(&self) -> Result<PathBuf, String> {
        match self.package {
            None => program(self.program),
            Some(package) => find(self.program).ok_or_else(|| {
                format!("{} is missing: install the Debian package {package}, or run tests/bench/run", self.program)
            }),
        }
    }

    /// Writes its settings for `site` and gives its arguments.
    pub fn prepare(&self, site: &Site<'_>) -> Result<Vec<String>, String> {
        (self.prepare)(site)
    }
}

impl Site<'_> {
    /// Where the server answers.
    pub fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }

    /// A path in its folder, as text for a settings file.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// `template` with `@port@`, `@folder@`, `@geo@` and `@zone@` as they are here, and with `more`.
    pub fn fill(&self, template: &str, more: &[(&str, &str)]) -> String {
        let (port, folder) = (self.port.to_string(), self.folder.display().to_string());
        let geo = self.geo.display().to_string();
        let common = [("@port@", port.as_str()), ("@folder@", &folder), ("@geo@", &geo), ("@zone@", ZONE)];
        let fill = |text: String, (mark, value): &(&str, &str)| text.replace(mark, value);
        common.iter().chain(more).fold(template.to_owned(), fill)
    }

    /// Writes a file to its folder, and the folders above it.
    pub fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(self.folder);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Runs a program that belongs to the server, to its end.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Result<(), String> {
        let name = program.display();
        let done = Command::new(program).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("{name} {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr)))
    }

    /// Makes a folder in its folder.
    pub fn make_folder(&self, name: &str) -> Result<(), String> {
        fs::create_dir_all(self.folder.join(name)).map_err(|error| format!("{name}: {error}"))
    }
}
