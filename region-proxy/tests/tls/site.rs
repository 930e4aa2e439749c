//! Certificates in files, and the clients that look at them.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::{DEADLINE, Origin, Proxy, settings, unchecked};

/// A folder with a certificate for each of some names.
pub(crate) struct Site {
    folder: Arc<TempDir>,
    names: Vec<String>,
}

impl Site {
    pub(crate) fn new(names: &[&str]) -> Self {
        let folder = Arc::new(TempDir::new().expect("a folder"));
        let site = Self { folder, names: names.iter().map(|name| (*name).to_owned()).collect() };
        for name in names {
            site.write_identity(name);
        }
        site
    }

    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// Puts a file in place as programs that renew certificates do.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let (path, new) = (self.folder.path().join(file), self.folder.path().join(format!("{file}.new")));
        let mut options = std::fs::OpenOptions::new();
        let mut opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new).expect("opened");
        std::io::Write::write_all(&mut opened, text.as_bytes()).expect("written");
        std::fs::rename(new, path).expect("renamed");
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).expect("read")
    }

    /// Writes a new certificate for `name`, its own root, and the key; returns the certificate.
    pub(crate) fn write_identity(&self, name: &str) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.pem"), &certificate.pem());
        certificate.der().to_vec()
    }

    pub(crate) fn tls(&self, rest: &str) -> String {
        self.tls_at("127.0.0.1:0", rest)
    }

    /// `[tls]` with all certificates, and with their OCSP responses where there are any.
    pub(crate) fn tls_at(&self, address: &str, rest: &str) -> String {
        let mut text = format!("[tls]\nlisten = [\"{address}\"]\n{rest}\n");
        for name in &self.names {
            text += &format!("[[tls.certificates]]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n");
            if self.folder.path().join(format!("{name}.ocsp")).exists() {
                text += &format!("ocsp = \"{name}.ocsp\"\n");
            }
        }
        text
    }

    pub(crate) async fn start(&self, root: &str, tls: &str, origin: &Origin) -> Proxy {
        self.start_with(root, tls, &unchecked("www.gslb.test", &[("app-1", origin.address)])).await
    }

    pub(crate) async fn start_with(&self, root: &str, tls: &str, services: &str) -> Proxy {
        let root = format!("default_service = \"www.gslb.test\"\n{root}");
        Proxy::start_in(self.folder(), &settings(&root, &(self.tls(tls) + services))).await
    }
}

/// One who signs certificates of clients.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    /// A certificate of a client and its key.
    pub(crate) fn client(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// What curl gets from `https://host/`, and what it says of how.
pub(crate) async fn curl(site: &Site, proxy: &Proxy, host: &str, args: &str) -> Result<(String, String), String> {
    let port = proxy.tls[0].port();
    let output = Command::new("curl")
        .current_dir(site.folder.path())
        .args(["-sS", "--http1.1", "--max-time", "20", "--resolve", &format!("{host}:{port}:127.0.0.1")])
        .args(args.split_whitespace())
        .arg(format!("https://{host}:{port}/"))
        .output();
    let output = output.await.expect("curl runs");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok((String::from_utf8_lossy(&output.stdout).into_owned(), log)) } else { Err(log) }
}

/// All that openssl says when it is given `input`.
pub(crate) async fn openssl(site: &Site, args: &[&str], input: &str) -> String {
    let child = Command::new("openssl")
        .current_dir(site.folder.path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.expect("openssl runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("written");
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("in time").expect("an end");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A connection after its handshake, and the certificate that was shown.
pub(crate) async fn connect(address: SocketAddr) -> (TlsStream<TcpStream>, Vec<u8>) {
    handshake(TcpStream::connect(address).await.expect("connected")).await
}

pub(crate) async fn handshake(stream: TcpStream) -> (TlsStream<TcpStream>, Vec<u8>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let any = Arc::new(AnyServer(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
    let name = ServerName::try_from("www.gslb.test").expect("a name");
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = timeout(DEADLINE, connecting).await.expect("in time").expect("a handshake");
    let certificate = stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec();
    (stream, certificate)
}

/// Takes any certificate.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The data of a body in chunks.
pub(crate) fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").expect("a size");
        let size = std::str::from_utf8(&bytes[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a number");
        if size == 0 {
            return data;
        }
        data.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + size + 4..];
    }
}
