//! What operators and `gslb-dns` are told of virtual routers.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::published::{VirtualRouterState, VirtualRouterStatus};

use crate::vrrp::packet::Refusal;

/// One virtual router at one time.
#[derive(Clone, Debug)]
pub struct RouterReport {
    /// What `gslb-dns` is told.
    pub status: VirtualRouterStatus,
    /// What it counted.
    pub figures: Figures,
}

/// What a virtual router counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements of others for it.
    pub received: u64,
    /// Those from addresses that are not among its peers, or not to the group.
    pub strangers: u64,
    /// By [`Refusal::index`].
    pub refused: [u64; Refusal::NAMES.len()],
    /// How often it took the VIPs.
    pub takeovers: u64,
    /// How often it began to hear another that held them too.
    pub two_actives: u64,
}

/// All virtual routers of a proxy; the thread that runs them writes, without ever waiting for who reads.
#[derive(Debug, Default)]
pub struct Reports {
    routers: ArcSwap<Vec<RouterReport>>,
}

impl Reports {
    /// Replaces what is told.
    pub fn publish(&self, routers: Vec<RouterReport>) {
        self.routers.store(Arc::new(routers));
    }

    /// Whether there are virtual routers.
    pub fn has_any(&self) -> bool {
        !self.routers.load().is_empty()
    }

    /// What `gslb-dns` is told.
    pub fn statuses(&self) -> Vec<VirtualRouterStatus> {
        self.routers.load().iter().map(|router| router.status.clone()).collect()
    }

    /// Appends its metrics to `text`, in the text format of Prometheus; none without virtual routers.
    pub fn write_metrics(&self, text: &mut String) {
        let routers = self.routers.load();
        if routers.is_empty() {
            return;
        }
        type Read = fn(&RouterReport) -> u64;
        let metrics: [(&str, &str, &str, Read); 7] = [
            ("holds_vips", "gauge", "Whether the VIPs of the virtual router are here.", |r| r.status.holds_vips.into()),
            ("state", "gauge", "Its state: 0 initialize, 1 backup, 2 active.", |r| match r.status.state {
                VirtualRouterState::Initialize => 0,
                VirtualRouterState::Backup => 1,
                VirtualRouterState::Active => 2,
            }),
            ("priority", "gauge", "Its priority now; 0 where it takes no part.", |r| r.status.priority.into()),
            ("two_actives", "gauge", "Whether another active one is heard.", |r| r.status.hears_other_active.into()),
            ("takeovers_total", "counter", "How often it took the VIPs.", |r| r.figures.takeovers),
            ("advertisements_sent_total", "counter", "Advertisements that it sent.", |r| r.figures.sent),
            ("advertisements_received_total", "counter", "Those of others for it.", |r| r.figures.received),
        ];
        for (name, kind, help, read) in metrics {
            head(text, name, kind, help);
            for router in routers.iter() {
                line(text, name, &router.status.name, "", read(router));
            }
        }
        head(text, "refused_total", "counter", "Packets that were no advertisement that counts, by what was wrong.");
        for router in routers.iter() {
            for (cause, count) in Refusal::NAMES.iter().zip(router.figures.refused) {
                line(text, "refused_total", &router.status.name, &format!(",cause=\"{cause}\""), count);
            }
            line(text, "refused_total", &router.status.name, ",cause=\"stranger\"", router.figures.strangers);
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let family = name.strip_suffix("_total").unwrap_or(name);
    // Writing to a text does not fail.
    let _ = writeln!(text, "# HELP region_proxy_vrrp_{family} {help}\n# TYPE region_proxy_vrrp_{family} {kind}");
}

fn line(text: &mut String, name: &str, router: &str, labels: &str, value: u64) {
    let router = router.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let _ = writeln!(text, "region_proxy_vrrp_{name}{{router=\"{router}\"{labels}}} {value}");
}
