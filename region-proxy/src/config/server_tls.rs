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
