//! How handshakes with clients went, counted.

use std::io;

use rustls::Error;

use crate::count::Counts;

/// Handshakes by outcome.
#[derive(Debug)]
pub struct Tally {
    /// With a certificate.
    pub full: Counts,
    /// By a ticket of an earlier one.
    pub resumed: Counts,
    /// Not brought to an end, in the order of [`Reason::ALL`].
    failed: [Counts; Reason::ALL.len()],
}

/// Why a handshake with a client was not brought to an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Reason {
    /// No PROXY header came, where one must.
    NoHeader,
    /// It took too long.
    Late,
    /// It made room for newer ones, or the proxy stopped.
    Crowded,
    /// The client went away.
    Gone,
    /// What the client sent is not TLS.
    NotTls,
    /// There is no common version or cipher suite.
    Incompatible,
    /// There is no common protocol (ALPN).
    NoProtocol,
    /// There is no certificate for what the client asks for.
    NoCertificate,
    /// The client did not show a certificate that is trusted.
    ClientCertificate,
    /// The client sent an alert: mostly it does not trust the certificate that it was shown.
    Alert,
    /// Anything else.
    Other,
}

impl Reason {
    /// All, in their order.
    pub const ALL: [Self; 11] = [
        Self::NoHeader,
        Self::Late,
        Self::Crowded,
        Self::Gone,
        Self::NotTls,
        Self::Incompatible,
        Self::NoProtocol,
        Self::NoCertificate,
        Self::ClientCertificate,
        Self::Alert,
        Self::Other,
    ];

    /// Its word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoHeader => "no_proxy_header",
            Self::Late => "timeout",
            Self::Crowded => "crowded",
            Self::Gone => "client_gone",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::NoProtocol => "no_protocol",
            Self::NoCertificate => "no_certificate",
            Self::ClientCertificate => "client_certificate",
            Self::Alert => "client_alert",
            Self::Other => "other",
        }
    }

    /// That of a handshake which `failure` of TLS ended, or else `error` of the connection.
    pub fn of(failure: Option<&Error>, error: &io::Error) -> Self {
        match failure {
            Some(
                Error::InvalidMessage(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. },
            ) => Self::NotTls,
            Some(Error::PeerIncompatible(_)) => Self::Incompatible,
            Some(Error::NoApplicationProtocol) => Self::NoProtocol,
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Self::ClientCertificate,
            Some(Error::AlertReceived(_)) => Self::Alert,
            // What rustls says when the resolver has none.
            Some(Error::General(what)) if what.starts_with("no server certificate chain resolved") => {
                Self::NoCertificate
            }
            Some(_) => Self::Other,
            None if error.kind() == io::ErrorKind::InvalidData => Self::Other,
            None => Self::Gone,
        }
    }
}

impl Tally {
    /// Zero, for so many threads.
    pub fn new(threads: usize) -> Self {
        let count = || Counts::new(threads);
        Self { full: count(), resumed: count(), failed: std::array::from_fn(|_| count()) }
    }

    /// `thread` had one that failed for `reason`.
    #[cold]
    pub fn fail(&self, thread: usize, reason: Reason) {
        self.failed[reason as usize].begin(thread);
    }

    /// Those that failed, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(&self.failed).map(|(reason, count)| (reason, count.begun()))
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, InvalidMessage};

    use super::*;

    #[test]
    fn every_reason_is_counted_apart() {
        let tally = Tally::new(2);
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            (0..=at).for_each(|thread| tally.fail(thread % 2, reason));
        }
        let counts: Vec<u64> = tally.failures().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=Reason::ALL.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_reason_is_told_by_the_failure_of_tls_and_else_by_that_of_the_connection() {
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        let reason = |failure: Error| Reason::of(Some(&failure), &broken);
        assert_eq!(reason(Error::InvalidMessage(InvalidMessage::InvalidContentType)), Reason::NotTls);
        assert_eq!(reason(Error::AlertReceived(AlertDescription::UnknownCA)), Reason::Alert);
        assert_eq!(reason(Error::NoCertificatesPresented), Reason::ClientCertificate);
        assert_eq!(reason(Error::DecryptError), Reason::Other);
        assert_eq!(Reason::of(None, &broken), Reason::Gone);
    }
}
