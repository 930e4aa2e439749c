//! TLS towards servers: whom they are trusted to be, and what they are shown.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use shared::problem::Problem;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure;
use super::files::{Authorities, Shown};
use crate::config::{Config, ServerProtocol, ServerTls, ServiceConfig, TlsVersion};

/// What settings and files say of TLS towards servers: made whole, and swapped whole.
#[derive(Clone, Debug, Default)]
pub struct Back {
    ways: Vec<Arc<Way>>,
    /// What is wrong with files in whose place older ones serve on.
    pub broken: Vec<Problem>,
}

/// One way to speak to servers, by one set of settings.
pub struct Way {
    settings: ServerTls,
    alpn: &'static [&'static [u8]],
    roots: Roots,
    shown: Option<Shown>,
    name: ServerName<'static>,
    config: ClientConfig,
}

/// Those who may have signed the certificates of servers.
#[derive(Clone, Debug, PartialEq)]
enum Roots {
    Anyone,
    Of(Authorities),
    System(Vec<CertificateDer<'static>>),
}

/// What a server has of all this: its own sessions, which other servers with the same settings could not resume.
#[derive(Debug, Default)]
pub struct Equipment(ArcSwapOption<Equipped>);

/// What a connection to a server begins with.
#[derive(Debug)]
pub struct Equipped {
    way: Arc<Way>,
    /// The configuration, with the server's sessions.
    pub config: Arc<ClientConfig>,
}

impl Equipped {
    /// The name that the server is asked for.
    pub fn name(&self) -> ServerName<'static> {
        self.way.name.clone()
    }

    /// Whether requests can be sent where `agreed` was agreed on: HTTP/1.1 needs no word.
    pub fn takes(&self, agreed: Option<&[u8]>) -> bool {
        !self.way.alpn.contains(&HTTP2) || agreed == Some(HTTP2)
    }
}

impl Equipment {
    /// A connection of a check goes through its handshake over `stream`, for a request in `protocol` or for nothing; fails
    /// in words.
    pub async fn greet(
        &self,
        stream: TcpStream,
        protocol: Option<ServerProtocol>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let Some(equipped) = self.load() else { return Err("TLS: its files were never readable".to_owned()) };
        let connector = TlsConnector::from(Arc::clone(&equipped.config));
        let alpn = protocol.map(|protocol| if protocol == ServerProtocol::Http2 { HTTP2 } else { HTTP1 });
        let connected = match alpn {
            Some(alpn) => connector.with_alpn(vec![alpn.to_vec()]).connect(equipped.name(), stream).await,
            None => connector.connect(equipped.name(), stream).await,
        };
        connected.map_err(|error| format!("TLS: {}", failure::of_io(&error)))
    }

    /// What new connections begin with; `None` where nothing was ever readable.
    pub fn load(&self) -> Option<Arc<Equipped>> {
        self.0.load_full()
    }

    fn store(&self, way: &Arc<Way>) {
        let before = self.0.load();
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(&before.way, way)) {
            return;
        }
        let mut config = way.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        self.0.store(Some(Arc::new(Equipped { way: Arc::clone(way), config: Arc::new(config) })));
    }
}

/// The protocols that servers of `service` are offered.
fn alpn(service: &ServiceConfig) -> &'static [&'static [u8]] {
    match (service.mode.is_http(), service.protocol) {
        (false, _) => &[],
        (true, ServerProtocol::Http1) => &[HTTP1],
        (true, ServerProtocol::Http2) => &[HTTP2],
    }
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

impl Back {
    /// Reads the files that the services of `config` name.
    ///
    /// Where one of them is broken, what `before` has of it serves on and [`Self::broken`] says why; fails with every
    /// mistake where there is nothing from before.
    pub fn read(config: &Config, before: Option<&Self>) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading { before, back: Self::default(), fatal: Vec::new(), system: None };
        for service in config.services.values() {
            let settings = service.servers.values().filter_map(|server| server.tls.as_ref()).chain(&service.tls);
            for settings in settings {
                reading.add(settings, alpn(service));
            }
        }
        if reading.fatal.is_empty() { Ok(reading.back) } else { Err(reading.fatal) }
    }

    /// Gives a server of `service` what it needs by `settings`.
    pub fn equip(&self, service: &ServiceConfig, settings: &ServerTls, equipment: &Equipment) {
        if let Some(way) = self.find(settings, alpn(service)) {
            equipment.store(way);
        }
    }

    /// Whether servers find the same in `other`, and operators read the same of it.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        self.broken == other.broken
            && self.ways.len() == other.ways.len()
            && self.ways.iter().zip(&other.ways).all(is_same)
    }

    /// Whether nothing is spoken to over TLS.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    fn find(&self, settings: &ServerTls, alpn: &[&[u8]]) -> Option<&Arc<Way>> {
        self.ways.iter().find(|way| way.settings == *settings && way.alpn == alpn)
    }
}

/// What is being read.
struct Reading<'b> {
    before: Option<&'b Back>,
    back: Back,
    fatal: Vec<Problem>,
    /// Whom the system trusts, once somebody asked.
    system: Option<Vec<CertificateDer<'static>>>,
}

impl Reading<'_> {
    fn add(&mut self, settings: &ServerTls, alpn: &'static [&'static [u8]]) {
        if self.back.find(settings, alpn).is_some() {
            return;
        }
        let (Some(roots), Some(shown)) = (self.roots(settings), self.shown(settings)) else { return };
        let old = self.before.and_then(|before| before.find(settings, alpn));
        if let Some(old) = old.filter(|old| old.roots == roots && old.shown == shown) {
            return self.back.ways.push(Arc::clone(old));
        }
        match Way::new(settings, alpn, roots, shown) {
            Ok(way) => self.back.ways.push(Arc::new(way)),
            Err(what) => self.fatal.push(problem(settings, format!("cannot be used: {what}"))),
        }
    }

    /// `None` only after a problem was noted.
    fn roots(&mut self, settings: &ServerTls) -> Option<Roots> {
        let Some(ca) = settings.ca.as_ref().filter(|_| settings.is_verified) else {
            return if settings.is_verified { self.system_roots(settings) } else { Some(Roots::Anyone) };
        };
        let old = self.before.into_iter().flat_map(|before| &before.ways).find_map(|way| match &way.roots {
            Roots::Of(old) if old.file == *ca => Some(old),
            _ => None,
        });
        match (Authorities::read(ca, "servers"), old) {
            (Ok(read), _) => Some(Roots::Of(read)),
            (Err(problem), Some(old)) => {
                note(&mut self.back.broken, problem);
                Some(Roots::Of(old.clone()))
            }
            (Err(problem), None) => {
                note(&mut self.fatal, problem);
                None
            }
        }
    }

    fn system_roots(&mut self, settings: &ServerTls) -> Option<Roots> {
        let system = self.system.get_or_insert_with(|| rustls_native_certs::load_native_certs().certs);
        if system.is_empty() {
            let what = "the system trusts nobody: expected `ca`, or the Debian package ca-certificates";
            self.fatal.push(problem(settings, what.to_owned()));
            return None;
        }
        Some(Roots::System(system.clone()))
    }

    /// Outer `None` only after a problem was noted.
    fn shown(&mut self, settings: &ServerTls) -> Option<Option<Shown>> {
        let Some(files) = &settings.identity else { return Some(None) };
        let ways = self.before.into_iter().flat_map(|before| &before.ways);
        let old = ways.filter_map(|way| way.shown.as_ref()).find(|old| old.files == *files);
        match (Shown::read(files), old) {
            (Ok(read), _) => Some(Some(read)),
            (Err(problems), Some(old)) => {
                problems.into_iter().for_each(|problem| note(&mut self.back.broken, problem));
                Some(Some(old.clone()))
            }
            (Err(problems), None) => {
                problems.into_iter().for_each(|problem| note(&mut self.fatal, problem));
                None
            }
        }
    }
}

impl Way {
    fn new(
        settings: &ServerTls,
        alpn: &'static [&'static [u8]],
        roots: Roots,
        shown: Option<Shown>,
    ) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let versions: &[_] = match settings.min_version {
            TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.map_err(|error| error.to_string())?;
        let mut store = RootCertStore::empty();
        let builder = match &roots {
            Roots::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(algorithms))),
            Roots::Of(Authorities { certificates, .. }) | Roots::System(certificates) => {
                // Of the system's some may be of kinds that are not known here.
                store.add_parsable_certificates(certificates.iter().cloned());
                builder.with_root_certificates(store)
            }
        };
        let mut config = match &shown {
            Some(shown) => builder
                .with_client_auth_cert(shown.chain.clone(), shown.key.clone_key())
                .map_err(|error| error.to_string())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(settings.name.to_string()).map_err(|error| error.to_string())?;
        Ok(Self { settings: settings.clone(), alpn, roots, shown, name, config })
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn note(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

fn problem(settings: &ServerTls, what: String) -> Problem {
    Problem { file: format!("tls of {}", settings.name), line: None, key: String::new(), what }
}

/// Takes any certificate, as `verify = false` says, but not for a key that the server does not have.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Sessions that are kept for one server.
const SESSIONS: usize = 64;
