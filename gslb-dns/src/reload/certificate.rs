//! The certificate of encrypted transports and its private key, from their files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use shared::certificate::Certificate as Shown;
use shared::problem::Problem;

use super::{Reader, Stamp, World};
use crate::secret_file::SecretFile;
use crate::settings::NamedFiles;

/// What a node shows to who connects over an encrypted transport, and the key that proves it. Its `Debug` tells no key.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
    file: PathBuf,
}

impl Certificate {
    /// The chain and its key.
    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// The file of the chain.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// When it ends.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// What an operator should know of it at `now`.
    fn warning(&self, now: Timestamp) -> Option<Problem> {
        let Self { not_before, not_after, .. } = self;
        let what = if now > *not_after {
            format!("expired at {not_after}: clients refuse it; expected one that is valid now")
        } else if now < *not_before {
            format!("not valid before {not_before}: clients refuse it until then; expected one that is valid now")
        } else {
            return None;
        };
        Some(Problem { file: self.file.display().to_string(), line: None, key: String::new(), what })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("file", &self.file)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// The certificate and the key that the settings name, and what is wrong with them beside a world that serves: then
    /// the one of `last` goes on, and so does the reload. At a start it is a mistake like any other.
    pub(super) fn read_certificate_beside(
        &mut self,
        named: &NamedFiles,
        last: Option<&World>,
    ) -> (Option<Certificate>, Vec<Problem>) {
        let found_before = self.problems.len();
        let certificate = self.read_certificate(named);
        let problems = if last.is_some() { self.problems.split_off(found_before) } else { Vec::new() };
        (certificate.filter(|_| problems.is_empty()), problems)
    }

    /// The certificate and the key that the settings name.
    fn read_certificate(&mut self, named: &NamedFiles) -> Option<Certificate> {
        let (file, key_file) = named.certificate.as_ref()?;
        let (file, key_file) = (self.folder.join(file), self.folder.join(key_file));
        for path in [&file, &key_file] {
            self.files.stamps.push((path.clone(), Stamp::of(path)));
        }
        let (chain, key) = (self.read_chain(&file), self.read_private_key(&key_file));
        let (chain, key) = chain.zip(key)?;
        let second = |secs| Timestamp::from_second(secs).ok();
        let times = |shown: &Shown| Some((second(shown.not_before)?, second(shown.not_after)?));
        let shown = chain.first().and_then(|first| Shown::from_der(first));
        let Some((not_before, not_after)) = shown.as_ref().and_then(times) else {
            self.problem(&file, "the first certificate is not X.509: expected the one of this node".to_owned());
            return None;
        };
        if shown.is_some_and(|shown| shown.is_version_1) {
            let key_file = key_file.display();
            let what = format!(
                "the first certificate is of X.509 version 1, which no client takes: expected version 3 with the name of \
                 this node; one that is its own root comes from openssl req -x509 -key {key_file} -days 365 -subj /CN=gslb \
                 -addext subjectAltName=DNS:ns1.example.com"
            );
            self.problem(&file, what);
            return None;
        }
        let key = match any_supported_type(&key) {
            Ok(key) => CertifiedKey::new(chain, key),
            Err(_) => {
                let what = format!(
                    "the key is of no kind that is known here: expected {KEY_EXPECTED}; as from openssl genpkey -algorithm \
                     EC -pkeyopt ec_paramgen_curve:P-256, and a certificate for it"
                );
                self.problem(&key_file, what);
                return None;
            }
        };
        match key.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                let file = file.display();
                let what =
                    format!("does not belong to the first certificate in {file}: expected the key it was made for");
                self.problem(&key_file, what);
                return None;
            }
            Err(error) => {
                self.problem(
                    &file,
                    format!("the first certificate cannot be used ({error}): expected one of a server"),
                );
                return None;
            }
        }
        Some(Certificate { key: Arc::new(key), not_before, not_after, file })
    }

    /// What is served by `read`; settings without a certificate leave the one of before, since what is bound stays bound.
    pub(super) fn certificate_in_force(read: Option<Certificate>, last: Option<&World>) -> Option<Certificate> {
        read.or_else(|| last?.certificate.clone())
    }

    fn read_chain(&mut self, path: &Path) -> Option<Vec<CertificateDer<'static>>> {
        let text = fs::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                self.problem(path, format!("no certificate in it: expected {CHAIN_EXPECTED}"));
                None
            }
            Err(error) => {
                self.problem(path, format!("not PEM ({error}): expected {CHAIN_EXPECTED}"));
                None
            }
        }
    }

    fn read_private_key(&mut self, path: &Path) -> Option<PrivateKeyDer<'static>> {
        let SecretFile { content, exposed } =
            SecretFile::read(path).map_err(|error| self.unreadable(path, &error)).ok()?;
        if let Some(exposed) = exposed {
            self.problem(path, exposed.to_string());
        }
        if has_password(&content) {
            let path_shown = path.display();
            let what = format!(
                "the key has a password, and nobody is there to type it: expected one without, as from (umask 077; openssl \
                 pkey -in {path_shown} -out {path_shown}.new), which takes its place then"
            );
            self.problem(path, what);
            return None;
        }
        match PrivateKeyDer::from_pem_slice(&content) {
            Ok(key) => Some(key),
            Err(pem::Error::NoItemsFound) => {
                self.problem(path, format!("no private key in it: expected {KEY_EXPECTED}"));
                None
            }
            Err(_) => {
                // Its words could hold a piece of the key.
                self.problem(path, format!("not PEM: expected {KEY_EXPECTED}"));
                None
            }
        }
    }
}

/// Whether `pem` holds a private key that is encrypted: in PKCS#8 (RFC 7468, section 11), or as in RFC 1421.
fn has_password(pem: &[u8]) -> bool {
    let is_so = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    };
    pem.split(|octet| *octet == b'\n').any(is_so)
}

/// What an operator should know of `certificate` now.
pub(super) fn warning(certificate: Option<&Certificate>) -> Option<Problem> {
    certificate?.warning(Timestamp::now())
}

const CHAIN_EXPECTED: &str =
    "the certificate of this node and then those that lead to its root, each from -----BEGIN CERTIFICATE-----";
const KEY_EXPECTED: &str =
    "one in PKCS#8, SEC1 or PKCS#1 (ECDSA with P-256, P-384 or P-521, Ed25519 or RSA, without a password), in PEM";

#[cfg(test)]
mod tests;
