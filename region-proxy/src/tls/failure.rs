//! Why a server cannot be spoken to over TLS, in words that tell an operator where to look.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// `error`, which came up on a connection to a server.
pub fn in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(what) => format!("its certificate {}", certificate(what)),
        Error::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Error::AlertReceived(what) => format!("it refused: {}", alert(*what)),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            format!("what it sends is not TLS: does it speak TLS on this port? ({error})")
        }
        Error::PeerIncompatible(what) => format!("no common version or cipher suite ({what:?})"),
        Error::NoApplicationProtocol => "it speaks none of the protocols that were offered (ALPN)".to_owned(),
        other => other.to_string(),
    }
}

/// The same of what came up while octets passed.
pub fn of_io(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match (inner, error.kind()) {
        (Some(inner), _) => in_words(inner),
        (None, io::ErrorKind::UnexpectedEof) => "it closed the connection too soon".to_owned(),
        (None, _) => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    let at = |time: &UnixTime| {
        let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX)
    };
    match error {
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("has expired at {}", at(not_after)),
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => format!("is not valid before {}", at(not_before)),
        CertificateError::UnknownIssuer => {
            "is signed by nobody who is trusted (unknown issuer): expected one of those in `ca`, or without that of the \
             system's roots"
                .to_owned()
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no host name".to_owned() } else { names.join(", ") };
            format!("is for {names}, not for {}", expected.to_str())
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for servers".to_owned()
        }
        // The one error of webpki's own that operators meet: what `openssl req -x509` makes signs, and is not for servers.
        CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "is one that signs others (CA:TRUE), as `openssl req -x509` makes them: expected one for the server alone, as \
             with `-addext basicConstraints=critical,CA:FALSE`"
                .to_owned()
        }
        CertificateError::BadSignature => "has a wrong signature".to_owned(),
        other => format!("cannot be used ({other})"),
    }
}

/// `www.example.com` of `DnsName("www.example.com")`.
fn bare(name: &str) -> &str {
    name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")")).unwrap_or(name)
}

fn alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it wants a client certificate, and `client_certificate` is not set".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => format!("it does not take the client certificate ({alert:?})"),
        AlertDescription::CertificateExpired => "the client certificate has expired".to_owned(),
        AlertDescription::CertificateRevoked => "the client certificate was revoked".to_owned(),
        AlertDescription::UnknownCA => "the client certificate is signed by nobody whom it trusts".to_owned(),
        AlertDescription::ProtocolVersion => "it speaks no version of TLS from `min_version` on".to_owned(),
        AlertDescription::HandshakeFailure => {
            "no common cipher suite, or it wants a client certificate (handshake failure)".to_owned()
        }
        AlertDescription::UnrecognisedName => "it does not know the name: expected another `name`".to_owned(),
        AlertDescription::NoApplicationProtocol => {
            "it speaks none of the protocols that were offered (ALPN)".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Names of a certificate that are told.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_that_has_ended_tells_when() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let error = CertificateError::ExpiredContext { time: at(1_700_000_000), not_after: at(1_600_000_000) };
        assert_eq!(in_words(&Error::InvalidCertificate(error)), "its certificate has expired at 2020-09-13T12:26:40Z");
    }
}
