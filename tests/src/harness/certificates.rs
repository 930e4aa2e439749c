//! Certificates of servers and clients, and who signs them.

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// One who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?;
        // OpenSSL takes who is named as its signer for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).map_err(|error| error.to_string())?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, which is the root.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// An identity of a server with this `name`.
    pub fn server(&self, name: &str) -> Result<Identity, String> {
        self.sign(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// An identity of a client with this `name`.
    pub fn client(&self, name: &str) -> Result<Identity, String> {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<Identity, String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|error| error.to_string())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| error.to_string())?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
