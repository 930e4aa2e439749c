//! What operators are told of TLS: in `/status` and as metrics.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde::Serialize;
use shared::problem::Problem;

use super::Front;
use crate::count::Counts;

/// TLS towards clients at run time.
#[derive(Debug)]
pub struct TlsState {
    /// What clients find; `None` without `[tls]`.
    pub front: ArcSwapOption<Front>,
    /// How handshakes went.
    pub tally: Tally,
}

/// Handshakes by outcome.
#[derive(Debug)]
pub struct Tally {
    /// With a certificate.
    pub full: Counts,
    /// By a ticket of an earlier one.
    pub resumed: Counts,
    /// Not brought to an end.
    pub failed: Counts,
}

/// What `/status` says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The first certificates, in the order of the settings.
    pub certificates: Vec<Shown>,
    /// What is wrong with files in whose place older ones serve on.
    pub problems: Vec<String>,
    /// What should be looked after.
    pub warnings: Vec<String>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its file.
    pub file: String,
    /// Its first names.
    pub names: Vec<String>,
    /// Its end.
    pub not_after: String,
    /// Whether it goes with an OCSP response.
    pub has_ocsp: bool,
}

impl TlsState {
    /// With `front`, for so many threads.
    pub fn new(front: Option<Front>, threads: usize) -> Self {
        let count = || Counts::new(threads);
        let tally = Tally { full: count(), resumed: count(), failed: count() };
        Self { front: ArcSwapOption::from(front.map(Arc::new)), tally }
    }

    /// What is shown at `now`; `None` without `[tls]`.
    pub fn report(&self, now: Timestamp) -> Option<Report> {
        let front = self.front.load();
        let front = front.as_ref()?;
        let shown = front.identities().iter().take(SHOWN_MAX).map(|identity| Shown {
            file: identity.files.certificate.display().to_string(),
            names: identity.about.names.iter().take(NAMES_MAX).cloned().collect(),
            not_after: identity.not_after().to_string(),
            has_ocsp: identity.files.ocsp.is_some(),
        });
        let texts = |problems: &[Problem]| problems.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
        Some(Report {
            certificates: shown.collect(),
            problems: texts(&front.broken),
            warnings: texts(&front.warnings(now)),
        })
    }
}

/// A status is read whole by `gslb-dns`: it must not grow without bound.
const SHOWN_MAX: usize = 100;
const NAMES_MAX: usize = 10;
