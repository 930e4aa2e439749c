//! TLS towards clients, and towards servers: the certificates of both sides, and the connections that it protects.
//!
//! ```text
//! settings, files ─► files: Identity ─► Front: rustls' configuration ─► session: one connection ─► stream
//!                    files: Shown ────► back: the same for servers ────────┘
//! ```

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use shared::problem::Problem;

use crate::config::{Config, Tls, TlsVersion};
use crate::sni::{DEFAULT, Names};

pub mod back;
pub mod failure;
pub mod files;
pub mod handshakes;
pub mod report;
pub mod session;
pub mod tally;

use back::Back;
use files::{Authorities, Identity};
use report::TlsState;

/// What the settings name of TLS, towards both sides.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Towards clients; `None` without `[tls]`.
    pub front: Option<Front>,
    /// Towards servers.
    pub back: Back,
}

impl Certificates {
    /// Reads the files that `config` names; where one is broken, what `before` has of it serves on.
    ///
    /// Fails with every mistake where there is nothing from before.
    pub fn read(config: &Config, before: Option<&TlsState>) -> Result<Self, Vec<Problem>> {
        let (front, back) = (before.map(|before| before.front.load()), before.map(|before| before.back.load()));
        let front = front.as_ref().and_then(|front| front.as_deref());
        let front = config.tls.as_ref().map(|tls| Front::read(tls, front)).transpose();
        let back = Back::read(config, back.as_deref().map(AsRef::as_ref));
        match (front, back) {
            (Ok(front), Ok(back)) => Ok(Self { front, back }),
            (front, back) => Err([front.err(), back.err()].into_iter().flatten().flatten().collect()),
        }
    }
}

/// What clients find that connect with TLS: made whole of settings and files, and swapped whole.
#[derive(Clone)]
pub struct Front {
    /// What each connection begins with.
    pub config: Arc<ServerConfig>,
    settings: Tls,
    identities: Vec<Identity>,
    authorities: Option<Authorities>,
    tickets: Arc<dyn ProducesTickets>,
    /// What is wrong with files in whose place older ones serve on.
    pub broken: Vec<Problem>,
}

impl Front {
    /// Reads the files of `settings`.
    ///
    /// Where one of them is broken, what `before` has of it serves on and [`Self::broken`] says why; fails with every
    /// mistake where there is nothing from before.
    pub fn read(settings: &Tls, before: Option<&Self>) -> Result<Self, Vec<Problem>> {
        let (mut broken, mut fatal) = (Vec::new(), Vec::new());
        let mut identities = Vec::with_capacity(settings.certificates.len());
        for files in &settings.certificates {
            let old = before.and_then(|before| before.identities.iter().find(|old| old.files == *files));
            match (Identity::read(files), old) {
                (Ok(identity), _) => identities.push(identity),
                (Err(problems), Some(old)) => {
                    broken.extend(problems);
                    identities.push(old.clone());
                }
                (Err(problems), None) => fatal.extend(problems),
            }
        }
        let mut authorities = None;
        if let Some(clients) = &settings.clients {
            let old = before.and_then(|before| before.authorities.as_ref()).filter(|old| old.file == clients.ca);
            match (Authorities::read(&clients.ca, "clients"), old) {
                (Ok(read), _) => authorities = Some(read),
                (Err(problem), Some(old)) => {
                    broken.push(problem);
                    authorities = Some(old.clone());
                }
                (Err(problem), None) => fatal.push(problem),
            }
        }
        if !fatal.is_empty() {
            return Err(fatal);
        }
        Self::build(settings.clone(), identities, authorities, before, broken).map_err(|problem| vec![problem])
    }

    fn build(
        settings: Tls,
        identities: Vec<Identity>,
        authorities: Option<Authorities>,
        before: Option<&Self>,
        broken: Vec<Problem>,
    ) -> Result<Self, Problem> {
        let unusable = |error: &dyn fmt::Display| Problem {
            file: "tls".to_owned(),
            line: None,
            key: String::new(),
            what: format!("cannot be used: {error}"),
        };
        // Who was let in by other rules must show who it is again.
        let kept =
            before.filter(|before| before.authorities == authorities && before.settings.clients == settings.clients);
        let tickets = match kept {
            Some(before) => Arc::clone(&before.tickets),
            None => Ticketer::new().map_err(|error| unusable(&error))?,
        };
        let provider = Arc::new(default_provider());
        let versions: &[_] = match settings.min_version {
            TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.map_err(|error| unusable(&error))?;
        let builder = match (&settings.clients, &authorities) {
            (Some(clients), Some(authorities)) => {
                let verifier =
                    verifier(authorities, clients.is_required, provider).map_err(|error| unusable(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Shown::new(&identities)));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&tickets);
        let protocols: &[&[u8]] = if settings.is_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { config: Arc::new(config), settings, identities, authorities, tickets, broken })
    }

    /// Whether clients find the same in `other`, and operators read the same of it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.identities == other.identities
            && self.authorities == other.authorities
            && self.broken == other.broken
    }

    /// The certificates, in the order of the settings.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// What operators should know of the certificates at `now`, though they are used.
    pub fn warnings(&self, now: Timestamp) -> Vec<Problem> {
        let mut names = Names::default();
        let mut warnings = Vec::new();
        for (index, identity) in self.identities.iter().enumerate() {
            warnings.extend(identity.warning(now));
            for name in &identity.about.names {
                if let Some(holder) = names.insert(name, index) {
                    let holder = self.identities[holder].files.certificate.display();
                    warnings.push(identity.problem(format!("{name} is in {holder} too, which clients are shown")));
                }
            }
        }
        warnings
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("settings", &self.settings).field("broken", &self.broken).finish_non_exhaustive()
    }
}

fn verifier(
    authorities: &Authorities,
    is_required: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, rustls::client::VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    // Those that are no roots were refused when they were read.
    roots.add_parsable_certificates(authorities.certificates.iter().cloned());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if is_required { builder.build() } else { builder.allow_unauthenticated().build() }
}

/// Chooses among the certificates.
#[derive(Debug)]
struct Shown {
    names: Names,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Shown {
    fn new(identities: &[Identity]) -> Self {
        let mut names = Names::default();
        for (index, identity) in identities.iter().enumerate() {
            for name in &identity.about.names {
                names.insert(name, index);
            }
        }
        Self { names, keys: identities.iter().map(|identity| Arc::clone(&identity.key)).collect() }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.keys.get(self.names.choose(hello.server_name())).or(self.keys.get(DEFAULT)).cloned()
    }
}

#[cfg(test)]
mod tests;
