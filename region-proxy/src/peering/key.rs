//! How two proxies make sure of each other: TLS 1.3 with raw public keys (RFC 7250) on both sides, of the one key that
//! follows from the secret which both know.
//!
//! Who shows that key and signs by it knows the secret; nothing else is looked at. The secret itself is never sent, but who
//! listens in the place of a proxy sees the public key, and could try guesses of a short secret on it.

use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::signature::Ed25519KeyPair;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use shared::token::Token;

/// TLS with those who know the same secret.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For connections that are made.
    pub client: Arc<ClientConfig>,
    /// For connections that are taken.
    pub server: Arc<ServerConfig>,
}

impl Keys {
    /// Those of `secret`; fails where the library cannot make any.
    pub fn of(secret: &Token) -> Result<Self, Error> {
        let provider = Arc::new(default_provider());
        let key = any_supported_type(&private_key(secret).map_err(|_| failed())?.into())?;
        let public = key.public_key().ok_or_else(failed)?.to_vec();
        let own = Arc::new(CertifiedKey::new(vec![CertificateDer::from(public.clone())], key));
        let same = Arc::new(SameKey { public, algorithms: provider.signature_verification_algorithms });
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&same) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&own))));
        // Connections last; each proves anew that the secret is the same.
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(same)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(own)));
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

/// The key of all who know `secret`, in PKCS #8.
fn private_key(secret: &Token) -> Result<PrivatePkcs8KeyDer<'static>, Unspecified> {
    let mut seed = [0; 32];
    let known = Salt::new(HKDF_SHA256, b"region-proxy peers").extract(secret.reveal().as_bytes());
    known.expand(&[b"Ed25519 seed"], HKDF_SHA256)?.fill(&mut seed)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Unspecified)?;
    Ok(PrivatePkcs8KeyDer::from(pair.to_pkcs8()?.as_ref().to_vec()))
}

fn failed() -> Error {
    Error::General("no key can be made of the secret".to_owned())
}

/// Takes whoever has the same key.
#[derive(Debug)]
struct SameKey {
    /// The public key, as a SubjectPublicKeyInfo.
    public: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SameKey {
    fn check(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        match shown.as_ref() == self.public {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let public = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &public, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for SameKey {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for SameKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    fn keys(secret: &str) -> Keys {
        Keys::of(&Token::parse(secret).expect("a secret")).expect("keys")
    }

    /// What each side says of a connection from one to the other.
    async fn meet(client: &Keys, server: &Keys) -> [Result<(), String>; 2] {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("192.0.2.1").expect("an address");
        let connecting = async {
            let mut stream = TlsConnector::from(Arc::clone(&client.client)).connect(name, near).await?;
            stream.write_all(b"a").await?;
            stream.flush().await?;
            stream.read_u8().await.map(drop)
        };
        let taking = async {
            let mut stream = TlsAcceptor::from(Arc::clone(&server.server)).accept(far).await?;
            stream.write_all(b"b").await?;
            stream.flush().await?;
            stream.read_u8().await.map(drop)
        };
        let (one, other) = tokio::join!(connecting, taking);
        [one, other].map(|side| side.map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn those_who_know_the_same_secret_come_together() {
        let met = meet(&keys("0123456789abcdef"), &keys(" 0123456789abcdef\n")).await;
        assert_eq!(met, [Ok(()), Ok(())]);
    }

    #[tokio::test]
    async fn those_who_know_another_do_not() {
        let [one, other] = meet(&keys("0123456789abcdef"), &keys("0123456789abcdeg")).await;
        assert!(one.is_err() && other.is_err(), "{one:?} {other:?}");
    }

    #[tokio::test]
    async fn a_client_without_a_key_is_refused() {
        let known = keys("0123456789abcdef");
        let anyone =
            SameKey { public: public_of(&known), algorithms: default_provider().signature_verification_algorithms };
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone))
            .with_no_client_auth();
        let [_, other] = meet(&Keys { client: Arc::new(client), server: Arc::clone(&known.server) }, &known).await;
        assert!(other.is_err());
    }

    fn public_of(_: &Keys) -> Vec<u8> {
        let secret = Token::parse("0123456789abcdef").expect("a secret");
        let key = any_supported_type(&private_key(&secret).expect("a key").into()).expect("a key");
        key.public_key().expect("its public half").to_vec()
    }
}
