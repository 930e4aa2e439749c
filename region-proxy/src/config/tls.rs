//! `[tls]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shared::settings::{Table, Value};

use super::{Reader, addresses, not_empty};

/// What clients that connect with TLS find.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// Where they connect; never empty.
    pub listen: Vec<SocketAddr>,
    /// What is shown to them; never empty. The first is for those who ask for no name that is known.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What they may or must show themselves.
    pub clients: Option<ClientCertificates>,
    /// Whether they may choose HTTP/2.
    pub is_http2: bool,
}

/// The files of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// It and those that lead to its root, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// A recent OCSP response for it, in DER.
    pub ocsp: Option<PathBuf>,
}

/// How clients show who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificates {
    /// Those who may have signed their certificates, in PEM.
    pub ca: PathBuf,
    /// Whether who has none is refused.
    pub is_required: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// RFC 5246; AEAD suites with forward secrecy only.
    V12,
    /// RFC 8446.
    V13,
}

impl Tls {
    /// All files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let certificates = self.certificates.iter().flat_map(|files| {
            [Some(files.certificate.as_path()), Some(files.key.as_path()), files.ocsp.as_deref()].into_iter().flatten()
        });
        certificates.chain(self.clients.iter().map(|clients| clients.ca.as_path()))
    }
}

impl Reader<'_> {
    /// Reads `[tls]`, whose addresses are none of `plain`; `None` only after a problem was reported.
    pub(super) fn tls(&self, table: &Table<'_>, plain: &[SocketAddr], is_http2: bool) -> Option<Tls> {
        let listen = table.required("listen", "a list of addresses with ports").map(|value| addresses(&value));
        for address in listen.iter().flatten().filter(|address| address.port() != 0 && plain.contains(address)) {
            table.problem("listen", format_args!("{address} is in `listen` of the root too: expected either"));
        }
        let min_version = table.value("min_version").and_then(|value| value.choice(&VERSIONS));
        let clients = table.table("client_certificates").and_then(|table| self.clients(&table));
        let items = table.required("certificates", "at least one, as [[tls.certificates]]");
        let items = items.and_then(|value| value.items("a list of tables, each as [[tls.certificates]]"));
        let items = items.unwrap_or_default();
        let mut certificates: Vec<CertificateFiles> = Vec::with_capacity(items.len());
        for item in &items {
            match item.table().and_then(|table| self.certificate(&table)) {
                Some(files) if certificates.contains(&files) => item.problem("is there twice"),
                Some(files) => certificates.push(files),
                None => {}
            }
        }
        if items.is_empty() && table.value("certificates").is_some() {
            table.problem("certificates", "empty: expected at least one, as [[tls.certificates]]");
        }
        let (listen, min_version) = (listen?, min_version.unwrap_or(TlsVersion::V12));
        (!certificates.is_empty()).then_some(Tls { listen, certificates, min_version, clients, is_http2 })
    }

    fn certificate(&self, table: &Table<'_>) -> Option<CertificateFiles> {
        let certificate = table.required("certificate", "the file of a certificate and its chain, in PEM");
        let key = table.required("key", "the file of its private key, in PEM");
        let ocsp = table.value("ocsp").and_then(|value| self.path(&value));
        let certificate = certificate.and_then(|value| self.path(&value));
        let key = key.and_then(|value| self.path(&value));
        Some(CertificateFiles { certificate: certificate?, key: key?, ocsp })
    }

    fn clients(&self, table: &Table<'_>) -> Option<ClientCertificates> {
        let ca = table.required("ca", "the file of those who may have signed the certificates of clients, in PEM");
        let is_required = table.value("required").and_then(|value| value.flag()).unwrap_or(true);
        Some(ClientCertificates { ca: ca.and_then(|value| self.path(&value))?, is_required })
    }

    fn path(&self, value: &Value<'_>) -> Option<PathBuf> {
        Some(self.folder.join(not_empty(value, "a path")?))
    }
}

pub(super) const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];
