//! What operators are told of TLS: in `/status` and as metrics.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use serde::Serialize;
use shared::problem::Problem;

use super::back::Back;
use super::tally::Tally;
use super::{Certificates, Front};

/// TLS at run time.
#[derive(Debug)]
pub struct TlsState {
    /// What clients find; `None` without `[tls]`.
    pub front: ArcSwapOption<Front>,
    /// What servers find.
    pub back: ArcSwap<Back>,
    /// How handshakes went.
    pub tally: Tally,
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
    /// With `certificates`, for so many threads.
    pub fn new(certificates: Certificates, threads: usize) -> Self {
        let Certificates { front, back } = certificates;
        let tally = Tally::new(threads);
        Self { front: ArcSwapOption::from(front.map(Arc::new)), back: ArcSwap::from_pointee(back), tally }
    }

    /// What is shown at `now`; `None` where there is no TLS towards anybody.
    pub fn report(&self, now: Timestamp) -> Option<Report> {
        let (front, back) = (self.front.load(), self.back.load());
        if front.is_none() && back.is_empty() {
            return None;
        }
        let identities = front.as_ref().map_or(&[][..], |front| front.identities());
        let shown = identities.iter().take(SHOWN_MAX).map(|identity| Shown {
            file: identity.files.certificate.display().to_string(),
            names: identity.about.names.iter().take(NAMES_MAX).cloned().collect(),
            not_after: identity.not_after().to_string(),
            has_ocsp: identity.files.ocsp.is_some(),
        });
        let texts = |problems: &[Problem]| problems.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
        let broken = front.as_ref().map_or(&[][..], |front| &front.broken);
        Some(Report {
            certificates: shown.collect(),
            problems: texts(&[broken, &back.broken].concat()),
            warnings: texts(&front.as_ref().map(|front| front.warnings(now)).unwrap_or_default()),
        })
    }
}

/// A status is read whole by `gslb-dns`: it must not grow without bound.
const SHOWN_MAX: usize = 100;
const NAMES_MAX: usize = 10;
