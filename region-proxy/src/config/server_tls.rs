//! `tls` of services and servers: how servers are spoken to over TLS.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use shared::name::OwnerName;
use shared::settings::{Table, Value};

use super::not_empty;
use super::tls::{TlsVersion, VERSIONS};

/// How a server is spoken to over TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTls {
    /// What it is asked for (SNI), and what its certificate must be for: a host name or an address.
    pub name: Box<str>,
    /// Whether its certificate must be right.
    pub is_verified: bool,
    /// Those who may have signed it, in PEM; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// What it is shown where it asks for that.
    pub identity: Option<ClientIdentity>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// The files of the certificate that servers are shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientIdentity {
    /// It and those that lead to its root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// Reads `tls` of `table`, a service or server; paths are relative to `folder`, and without `name` the servers are called
/// `default_name`.
///
/// Outer `None` where there is no such key; inner `None` for `false`, and after a problem was reported.
pub(super) fn server_tls(table: &Table<'_>, folder: &Path, default_name: &str) -> Option<Option<ServerTls>> {
    let value = table.value("tls")?;
    if value.is_table() {
        return Some(value.table().map(|table| one(&table, folder, default_name)));
    }
    let is_on = value.flag().unwrap_or_default();
    Some(is_on.then(|| ServerTls::new(default_name)))
}

fn one(table: &Table<'_>, folder: &Path, default_name: &str) -> ServerTls {
    let default = ServerTls::new(default_name);
    let is_verified = table.value("verify").and_then(|value| value.flag()).unwrap_or(true);
    let path = |key: &str| table.value(key).and_then(|value| Some(folder.join(not_empty(&value, "a path")?)));
    let (ca, certificate, key) = (path("ca"), path("client_certificate"), path("client_key"));
    if !is_verified && table.value("ca").is_some() {
        table.problem("ca", "means nothing with `verify = false`: expected either");
    }
    for (one, other) in [("client_certificate", "client_key"), ("client_key", "client_certificate")] {
        if table.value(one).is_some() && table.value(other).is_none() {
            table.problem(other, format_args!("missing: expected it beside `{one}`"));
        }
    }
    let identity = certificate.zip(key).map(|(certificate, key)| ClientIdentity { certificate, key });
    let min_version = table.value("min_version").and_then(|value| value.choice(&VERSIONS));
    ServerTls {
        name: table.value("name").and_then(|value| name(&value)).unwrap_or(default.name),
        is_verified,
        ca,
        identity,
        min_version: min_version.unwrap_or(default.min_version),
    }
}

impl ServerTls {
    /// Servers that are called `name`, with certificates that the system trusts.
    fn new(name: &str) -> Self {
        Self { name: name.into(), is_verified: true, ca: None, identity: None, min_version: TlsVersion::V12 }
    }

    /// All files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let identity =
            self.identity.iter().flat_map(|identity| [identity.certificate.as_path(), identity.key.as_path()]);
        self.ca.as_deref().into_iter().chain(identity)
    }
}

fn name(value: &Value<'_>) -> Option<Box<str>> {
    value.parsed_as("a host name or an address, as in the certificates of the servers", |text| {
        let is_name = OwnerName::parse(text).is_ok() || text.parse::<IpAddr>().is_ok();
        is_name.then(|| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().into_boxed_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(service: &str, server: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.1.1:80\"]\nstatus = \"127.0.1.2:81\"\n\
             [services.\"Www.example.com\"]\n{service}\nservers.a = \"127.0.1.3:443\"\n\
             servers.b = {{ address = \"127.0.1.4:443\", {server} }}\n"
        );
        let read = Config::parse(Path::new("conf/p.toml"), &text, &|_| Err("no such file".to_owned()));
        read.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_server_has_that_of_its_service_or_its_own() {
        let tls = |service: &str, server: &str| {
            let config = read(service, server).expect("no mistake");
            config.services["www.example.com"].servers.values().map(|server| server.tls.clone()).collect::<Vec<_>>()
        };
        assert_eq!(tls("", "weight = 1"), [None, None]);
        let of = |name: &str| Some(ServerTls::new(name));
        assert_eq!(tls("tls = true", "weight = 1"), [of("www.example.com"), of("www.example.com")]);
        assert_eq!(tls("tls = true", "tls = false"), [of("www.example.com"), None]);
        assert_eq!(tls("", "tls = { name = \"B.test.\" }"), [None, of("b.test")]);
        let whole = "tls = { ca = \"/ca.pem\", client_certificate = \"c.pem\", client_key = \"c.key\", name = \"192.0.2.1\", min_version = \"1.3\" }";
        let found = tls(whole, "tls = false")[0].clone().expect("TLS");
        assert_eq!((&*found.name, found.is_verified, found.min_version), ("192.0.2.1", true, TlsVersion::V13));
        let files: Vec<_> = found.files().map(|file| file.display().to_string()).collect();
        assert_eq!(files, ["/ca.pem", "conf/c.pem", "conf/c.key"]);
    }

    #[test]
    fn each_mistake_says_what_would_be_right() {
        for (service, expected) in [
            ("tls = 1", "tls: 1 is not true or false"),
            ("tls = { verify = false, ca = \"ca.pem\" }", "tls.ca: means nothing with `verify = false`"),
            ("tls = { client_certificate = \"c.pem\" }", "tls.client_key: missing: expected it beside"),
            ("tls = { client_key = \"c.pem\" }", "tls.client_certificate: missing: expected it beside"),
            ("tls = { name = \"a b\" }", "tls.name: \"a b\" is not a host name or an address"),
            ("tls = { min_version = \"1.1\" }", "tls.min_version: \"1.1\" is not \"1.2\" or \"1.3\""),
            ("tls = { key = \"\" }", "tls.key: unknown key: expected one of ca, client_certificate, client_key"),
            ("tls = true\nsend_proxy = \"v2\"", "send_proxy: requests over TLS cannot have it yet"),
        ] {
            let found = read(service, "weight = 1").expect_err(service);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}: {found:#?}");
        }
    }
}
