//! The metrics of virtual routers.

use std::fmt;

use shared::published::VirtualRouterState;

use super::sheet::Sheet;
use crate::takeover::report::RouterReport;
use crate::vrrp::packet::Refusal;

type Metric = (&'static str, &'static str, fn(&RouterReport) -> u64);

/// Those of all `routers`; none where there are none.
pub(super) fn encode(routers: &[RouterReport], sheet: &mut Sheet<'_>) -> fmt::Result {
    if routers.is_empty() {
        return Ok(());
    }
    let rows = |read: fn(&RouterReport) -> u64| {
        routers.iter().map(move |router| (vec![("router", router.status.name.as_str())], read(router)))
    };
    for (name, help, read) in GAUGES {
        sheet.gauges(name, help, rows(read))?;
    }
    for (name, help, read) in COUNTERS {
        sheet.counters(name, help, rows(read))?;
    }
    let tracked = routers.iter().flat_map(|router| {
        router.tracked.iter().map(|tracked| {
            let labels =
                [("router", router.status.name.as_str()), ("kind", tracked.kind), ("name", tracked.name.as_str())];
            (labels.to_vec(), tracked.is_well.into())
        })
    });
    let help = "Whether what its priority hangs on is as it should be, such as a gateway that answers";
    sheet.gauges("region_proxy_vrrp_tracked", help, tracked)?;
    let refused = routers.iter().flat_map(|router| {
        let causes = Refusal::NAMES.into_iter().zip(router.figures.refused);
        let causes = causes.chain([("stranger", router.figures.strangers)]);
        causes.map(|(cause, count)| (vec![("router", router.status.name.as_str()), ("cause", cause)], count))
    });
    let help = "Packets that were no advertisement that counts, by what was wrong";
    sheet.counters("region_proxy_vrrp_refused", help, refused)
}

const GAUGES: [Metric; 4] = [
    ("region_proxy_vrrp_holds_vips", "Whether the VIPs of a virtual router are here", |router| {
        router.status.holds_vips.into()
    }),
    ("region_proxy_vrrp_state", "Its state: 0 initialize, 1 backup, 2 active", |router| match router.status.state {
        VirtualRouterState::Initialize => 0,
        VirtualRouterState::Backup => 1,
        VirtualRouterState::Active => 2,
    }),
    ("region_proxy_vrrp_priority", "Its priority now; 0 where it takes no part", |router| {
        router.status.priority.into()
    }),
    ("region_proxy_vrrp_hears_other_active", "Whether another that holds the same VIPs was heard lately", |router| {
        router.status.hears_other_active.into()
    }),
];

const COUNTERS: [Metric; 4] = [
    ("region_proxy_vrrp_takeovers", "How often it took the VIPs", |router| router.figures.takeovers),
    ("region_proxy_vrrp_splits", "How often it began to hear another that held them too", |router| {
        router.figures.two_actives
    }),
    ("region_proxy_vrrp_advertisements_sent", "Advertisements that it sent", |router| router.figures.sent),
    ("region_proxy_vrrp_advertisements_received", "Those of others for it", |router| router.figures.received),
];
