//! The proxies, and how each is told to do the same with one thread.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};

use super::case::{Ability, Case};
use super::origins::{HEALTH, Origins};
use super::tls::Certificate;
use super::verify::Proof;
use crate::harness::process::program;
use crate::harness::tools::find;

/// A proxy that can be measured.
#[derive(Debug)]
pub struct Proxy {
    /// What it is called here.
    pub name: &'static str,
    /// Its executable.
    program: &'static str,
    /// The Debian package of it; `None`: it is built here.
    package: Option<&'static str>,
    /// What it can do.
    abilities: &'static [Ability],
    /// The cases for which it is made; `None`: all that it can do.
    only: Option<&'static [Case]>,
    /// What it cannot prove, as a tables' note says; all others must.
    pub lacks: &'static [Proof],
    /// Whether it is measured when no proxies are named.
    pub is_usual: bool,
    settings: Settings,
}

/// A file of settings with marks in it, and the arguments, with `@settings@` for its path.
#[derive(Debug)]
struct Settings {
    file: &'static str,
    template: &'static str,
    more: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
}

/// Where a proxy listens: ports of 127.0.0.1 that were free.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    http: u16,
    tls: u16,
    h2c: u16,
    /// TCP to what echoes.
    pub echo: u16,
    /// TCP to what sends much.
    pub download: u16,
    status: u16,
}

/// All proxies. The first one is what ratios are to.
pub static PROXIES: [Proxy; 4] = [
    Proxy {
        name: BASE,
        program: "haproxy",
        package: Some("haproxy"),
        abilities: EVERYTHING,
        only: None,
        lacks: &[Proof::NominatedFields],
        is_usual: true,
        settings: HAPROXY,
    },
    Proxy {
        name: BASE_SPLICE,
        program: "haproxy",
        package: Some("haproxy"),
        abilities: EVERYTHING,
        only: Some(&[Case::KeepAlive64k, Case::KeepAlive1m, Case::TcpBulk]),
        lacks: &[Proof::NominatedFields],
        is_usual: true,
        settings: Settings { more: &[("@splice@", SPLICE)], ..HAPROXY },
    },
    Proxy {
        name: OURS,
        program: OURS,
        package: None,
        abilities: EVERYTHING,
        only: None,
        lacks: &[],
        is_usual: true,
        settings: Settings {
            file: "region-proxy.toml",
            template: include_str!("region-proxy.toml"),
            more: &[],
            arguments: &["serve", "--config", "@settings@"],
        },
    },
    Proxy {
        name: "nginx",
        program: "nginx",
        package: Some("nginx-light"),
        abilities: &[Ability::Http, Ability::Tls, Ability::H2c, Ability::H2Tls],
        only: None,
        lacks: &[Proof::CookieIsStripped, Proof::HealthChecks, Proof::NominatedFields],
        is_usual: false,
        settings: Settings {
            file: "nginx.conf",
            template: include_str!("nginx.conf"),
            more: &[],
            arguments: &["-c", "@settings@", "-p", "@folder@"],
        },
    },
];

/// The proxy that ratios are to.
pub const BASE: &str = "haproxy";
/// The same with splicing, which is for what is large.
pub const BASE_SPLICE: &str = "haproxy-splice";
/// The proxy of this project.
pub const OURS: &str = "region-proxy";

const HAPROXY: Settings = Settings {
    file: "haproxy.cfg",
    template: include_str!("haproxy.cfg"),
    more: &[("@splice@", "")],
    arguments: &["-db", "-f", "@settings@"],
};
const SPLICE: &str = "    option splice-request\n    option splice-response";
const EVERYTHING: &[Ability] = &[Ability::Http, Ability::Tls, Ability::H2c, Ability::H2Tls, Ability::Tcp];

impl Proxy {
    /// The one with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PROXIES.iter().find(|proxy| proxy.name == name)
    }

    /// Whether it is measured with `case`.
    pub fn can(&self, case: Case) -> bool {
        self.abilities.contains(&case.needs()) && self.only.is_none_or(|only| only.contains(&case))
    }

    /// Its executable on this machine; fails with the package that holds it.
    pub fn executable(&self) -> Result<PathBuf, String> {
        match self.package {
            None => program(self.program),
            Some(package) => find(self.program).ok_or_else(|| {
                format!("{} is missing: install the Debian package {package}, or run tests/bench/proxy", self.program)
            }),
        }
    }

    /// Writes its settings to `folder` and gives its arguments.
    pub fn prepare(
        &self,
        folder: &Path,
        ports: Ports,
        origins: &Origins,
        certificate: &Certificate,
    ) -> Result<Vec<String>, String> {
        let Settings { file, template, more, arguments } = self.settings;
        let path = folder.join(file);
        let [s1, s2] = origins.http;
        let marks = [
            ("@http@", ports.http.to_string()),
            ("@tls@", ports.tls.to_string()),
            ("@h2c@", ports.h2c.to_string()),
            ("@echo@", ports.echo.to_string()),
            ("@download@", ports.download.to_string()),
            ("@status@", ports.status.to_string()),
            ("@s1@", s1.to_string()),
            ("@s2@", s2.to_string()),
            ("@echo-origin@", origins.echo.to_string()),
            ("@download-origin@", origins.download.to_string()),
            ("@health@", HEALTH.to_owned()),
            ("@folder@", folder.display().to_string()),
            ("@settings@", path.display().to_string()),
            ("@certificate@", certificate.certificate.display().to_string()),
            ("@key@", certificate.key.display().to_string()),
            ("@both@", certificate.both.display().to_string()),
        ];
        let more = more.iter().map(|(mark, value)| (*mark, (*value).to_owned()));
        let marks: Vec<(&str, String)> = marks.into_iter().chain(more).collect();
        let fill = |text: &str| marks.iter().fold(text.to_owned(), |text, (mark, value)| text.replace(mark, value));
        fs::write(&path, fill(template)).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(arguments.iter().map(|argument| fill(argument)).collect())
    }
}

impl Ports {
    /// Ports that nobody uses now.
    pub fn find() -> Result<Self, String> {
        // All are held until all are found, so that they differ.
        let listeners = [(); 6].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let mut ports = [0; 6];
        for (port, listener) in ports.iter_mut().zip(listeners) {
            let address = listener.and_then(|listener| listener.local_addr());
            *port = address.map_err(|error| format!("a free port: {error}"))?.port();
        }
        let [http, tls, h2c, echo, download, status] = ports;
        Ok(Self { http, tls, h2c, echo, download, status })
    }

    /// Where the proxy does what `ability` says; TCP has two more.
    pub fn of(&self, ability: Ability) -> u16 {
        match ability {
            Ability::Http => self.http,
            Ability::Tls | Ability::H2Tls => self.tls,
            Ability::H2c => self.h2c,
            Ability::Tcp => self.echo,
        }
    }
}

/// A port of this machine.
pub fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}
