//! Certificates, their keys and OCSP responses, read from files and checked.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use shared::certificate::{Certificate, is_ocsp_response};
use shared::problem::Problem;

use crate::config::{CertificateFiles, ClientIdentity};

/// One certificate as it is shown, with the key that proves it. Its `Debug` tells no key.
#[derive(Clone)]
pub struct Identity {
    /// Where it was read.
    pub files: CertificateFiles,
    /// What it says of itself.
    pub about: Certificate,
    /// The chain, the key and the OCSP response.
    pub(super) key: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads `files`; fails with every mistake in them.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        let identity = reader.identity(files);
        identity.filter(|_| reader.0.is_empty()).ok_or(reader.0)
    }

    /// The last moment at which clients take it.
    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_second(self.about.not_after).unwrap_or(Timestamp::MAX)
    }

    /// What operators should know of its time at `now`.
    pub(super) fn warning(&self, now: Timestamp) -> Option<Problem> {
        let (not_before, not_after) = (self.about.not_before, self.about.not_after);
        let shown = |secs| Timestamp::from_second(secs).unwrap_or(Timestamp::MAX);
        let now = now.as_second();
        let what = if now > not_after {
            let end = shown(not_after);
            format!("expired at {end}: clients refuse it; expected one that is valid now")
        } else if now < not_before {
            let start = shown(not_before);
            format!("not valid before {start}: clients refuse it until then; expected one that is valid now")
        } else if not_after - now < (not_after - not_before) / SPARE {
            let left = SignedDuration::from_hours((not_after - now) / 3600);
            format!("expires at {}, in {left:#}: expected a new one by now", shown(not_after))
        } else {
            return None;
        };
        Some(self.problem(what))
    }

    pub(super) fn problem(&self, what: String) -> Problem {
        problem(&self.files.certificate, what)
    }
}

impl PartialEq for Identity {
    /// The keys are of the certificates, so these tell all.
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.key.cert == other.key.cert && self.key.ocsp == other.key.ocsp
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).field("about", &self.about).finish_non_exhaustive()
    }
}

/// Those who may have signed the certificates of clients, or of servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Authorities {
    pub(super) file: PathBuf,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads `file`; `whom` is what they sign for.
    pub(super) fn read(file: &Path, whom: &str) -> Result<Self, Problem> {
        let expected = &format!("the certificates of those who sign for {whom}, each from -----BEGIN CERTIFICATE-----");
        let mut reader = Reader::default();
        let certificates = reader.certificates(file, expected);
        let Some(certificates) = certificates else {
            let unknown = || problem(file, format!("cannot be read: expected {expected}"));
            return Err(reader.0.pop().unwrap_or_else(unknown));
        };
        let mut roots = RootCertStore::empty();
        for (at, certificate) in certificates.iter().enumerate() {
            if let Err(error) = roots.add(certificate.clone()) {
                return Err(problem(
                    file,
                    format!("certificate {} cannot be used ({error}): expected {expected}", at + 1),
                ));
            }
        }
        Ok(Self { file: file.to_owned(), certificates })
    }
}

/// What servers are shown, with the key that proves it. Its `Debug` tells no key.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) files: ClientIdentity,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Arc<PrivateKeyDer<'static>>,
}

impl Shown {
    /// Reads `files`; fails with every mistake in them.
    pub(super) fn read(files: &ClientIdentity) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        let expected = "a certificate for servers to see and then those that lead to its root";
        let found = reader.certificates(&files.certificate, expected).zip(reader.private_key(&files.key));
        let Some((chain, key)) = found.filter(|_| reader.0.is_empty()) else { return Err(reader.0) };
        match any_supported_type(&key).map(|key| CertifiedKey::new(chain.clone(), key).keys_match()) {
            Ok(Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown))) => {}
            Ok(Err(error)) => {
                let what =
                    format!("the key does not belong to the first certificate in it ({error}): expected its own");
                return Err(vec![problem(&files.certificate, what)]);
            }
            Err(_) => return Err(vec![problem(&files.key, format!("not known here: expected {KEY_EXPECTED}"))]),
        }
        Ok(Self { files: files.clone(), chain, key: Arc::new(key) })
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.chain == other.chain
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Reads files and collects what is wrong with them.
#[derive(Default)]
struct Reader(Vec<Problem>);

impl Reader {
    fn identity(&mut self, files: &CertificateFiles) -> Option<Identity> {
        let (file, key_file) = (&files.certificate, &files.key);
        let (chain, key) = (self.certificates(file, CHAIN_EXPECTED), self.private_key(key_file));
        let ocsp = files.ocsp.as_deref().map(|path| self.ocsp(path));
        let (chain, key) = chain.zip(key)?;
        let Some(about) = chain.first().and_then(|first| Certificate::from_der(first)) else {
            self.add(file, "the first certificate is not X.509: expected the one of this server".to_owned());
            return None;
        };
        if about.names.is_empty() {
            let what = "the first certificate has no DNS name in subjectAltName, and clients look nowhere else: expected \
                        the names of services, as from -addext subjectAltName=DNS:www.example.com";
            self.add(file, what.to_owned());
        }
        let Ok(key) = any_supported_type(&key) else {
            let what = format!(
                "the key is of no kind that is known here: expected {KEY_EXPECTED}; as from openssl genpkey -algorithm EC \
                 -pkeyopt ec_paramgen_curve:P-256, and a certificate for it"
            );
            self.add(key_file, what);
            return None;
        };
        let mut key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let file = file.display();
                let what =
                    format!("does not belong to the first certificate in {file}: expected the key it was made for");
                self.add(key_file, what);
            }
            Err(error) => {
                self.add(file, format!("the first certificate cannot be used ({error}): expected one of a server"));
            }
        }
        key.ocsp = ocsp.flatten();
        Some(Identity { files: files.clone(), about, key: Arc::new(key) })
    }

    fn certificates(&mut self, path: &Path, expected: &str) -> Option<Vec<CertificateDer<'static>>> {
        let text = fs::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => return Some(chain),
            Ok(_) => self.add(path, format!("no certificate in it: expected {expected}")),
            Err(error) => self.add(path, format!("not PEM ({error}): expected {expected}")),
        }
        None
    }

    fn private_key(&mut self, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let (content, mode) = read_with_mode(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        let shown = path.display();
        if mode & OTHERS != 0 {
            let what =
                format!("has mode {mode:04o}, so that others can get at the secret in it: run chmod 600 {shown}");
            self.add(path, what);
        }
        if has_password(&content) {
            let what = format!(
                "the key has a password, and nobody is there to type it: expected one without, as from (umask 077; openssl \
                 pkey -in {shown} -out {shown}.new), which takes its place then"
            );
            self.add(path, what);
            return None;
        }
        match PrivateKeyDer::from_pem_slice(&content) {
            Ok(key) => return Some(key),
            Err(pem::Error::NoItemsFound) => {
                self.add(path, format!("no private key in it: expected {KEY_EXPECTED}"));
            }
            // Its words could hold a piece of the key.
            Err(_) => self.add(path, format!("not PEM: expected {KEY_EXPECTED}")),
        }
        None
    }

    fn ocsp(&mut self, path: &Path) -> Option<Vec<u8>> {
        let response = fs::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        if is_ocsp_response(&response) {
            return Some(response);
        }
        let what = "no OCSP response with a status: expected one in DER, as from openssl ocsp -respout";
        self.add(path, what.to_owned());
        None
    }

    fn add(&mut self, path: &Path, what: String) {
        self.0.push(problem(path, what));
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.add(path, format!("cannot be read: {error}"));
    }
}

fn problem(path: &Path, what: String) -> Problem {
    Problem { file: path.display().to_string(), line: None, key: String::new(), what }
}

/// Content and mode, both of the file that is opened once, whatever takes its place meanwhile.
fn read_with_mode(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok((content, mode))
}

/// Whether `pem` holds a private key that is encrypted: in PKCS#8 (RFC 7468, section 11), or as in RFC 1421.
fn has_password(pem: &[u8]) -> bool {
    let is_so = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    };
    pem.split(|octet| *octet == b'\n').any(is_so)
}

/// Who is neither the owner nor, as root, above all that.
const OTHERS: u32 = 0o077;

/// A certificate of which less than one part in so many is left should have been renewed.
const SPARE: i64 = 10;

const CHAIN_EXPECTED: &str =
    "the certificate of this server and then those that lead to its root, each from -----BEGIN CERTIFICATE-----";
const KEY_EXPECTED: &str =
    "one in PKCS#8, SEC1 or PKCS#1 (ECDSA with P-256, P-384 or P-521, Ed25519 or RSA, without a password), in PEM";
