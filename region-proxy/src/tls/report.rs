//! What operators are told of TLS: in `/status` and as metrics.

use std::fmt::Write as _;
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

    /// Appends its metrics to `text`, in the text format of Prometheus.
    pub fn write_metrics(&self, text: &mut String) {
        let front = self.front.load();
        let Some(front) = front.as_ref() else { return };
        text.push_str(
            "# HELP region_proxy_certificate_expiry_seconds When a certificate ends, in seconds since 1970.\n",
        );
        text.push_str("# TYPE region_proxy_certificate_expiry_seconds gauge\n");
        for identity in front.identities() {
            let file = identity.files.certificate.display().to_string();
            let file = file.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let end = identity.about.not_after;
            // Writing to a text does not fail.
            let _ = writeln!(text, "region_proxy_certificate_expiry_seconds{{file=\"{file}\"}} {end}");
        }
        let broken = front.broken.len();
        text.push_str(
            "# HELP region_proxy_certificate_problems Mistakes in files in whose place older ones serve on.\n",
        );
        text.push_str("# TYPE region_proxy_certificate_problems gauge\n");
        let _ = writeln!(text, "region_proxy_certificate_problems {broken}");
        text.push_str("# HELP region_proxy_tls_handshakes Handshakes with clients, by outcome.\n");
        text.push_str("# TYPE region_proxy_tls_handshakes counter\n");
        let Tally { full, resumed, failed } = &self.tally;
        for (outcome, counts) in [("full", full), ("resumed", resumed), ("failed", failed)] {
            let count = counts.begun();
            let _ = writeln!(text, "region_proxy_tls_handshakes_total{{outcome=\"{outcome}\"}} {count}");
        }
    }
}

/// A status is read whole by `gslb-dns`: it must not grow without bound.
const SHOWN_MAX: usize = 100;
const NAMES_MAX: usize = 10;
