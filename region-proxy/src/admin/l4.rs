//! The metrics of L4 services.

use std::fmt;

use super::sheet::{Row, Sheet};
use crate::switching::report::{Figures, L4Report, ServiceReport};

type Metric = (&'static str, &'static str, fn(&Figures) -> Option<u64>);

/// Those of all services in `report`; none where there are none. `counts` are changes of the kernel that were made, and
/// those that were not.
pub(super) fn encode(report: &L4Report, counts: [u64; 2], sheet: &mut Sheet<'_>) -> fmt::Result {
    if report.services.is_empty() && counts == [0; 2] {
        return Ok(());
    }
    let [applies, failures] = counts;
    sheet.counter("region_proxy_l4_applies", "Changes of the kernel's rules for L4 services", applies)?;
    sheet.counter("region_proxy_l4_apply_failures", "Changes that were refused", failures)?;
    let help = "Whether the kernel does not do as the settings and the health of servers say";
    sheet.gauge("region_proxy_l4_failing", help, report.failure.is_some().into())?;
    let problems = report
        .services
        .iter()
        .map(|service| (vec![("l4", service.name.as_str())], u64::from(service.problem.is_some())));
    let help = "Whether an L4 service passes nothing on, or not all; `region-proxy l4 show` says why";
    sheet.gauges("region_proxy_l4_problem", help, problems)?;
    let open = report.services.iter().map(|service| {
        let open = service.servers.iter().filter(|server| server.state == "open" && server.reason.is_none());
        (vec![("l4", service.name.as_str())], open.count() as u64)
    });
    sheet.gauges("region_proxy_l4_servers_open", "Servers of an L4 service that take new flows", open)?;
    for (name, help, read) in COUNTERS {
        sheet.counters(name, help, services(report, read))?;
    }
    for (name, help, read) in SERVER_COUNTERS {
        sheet.counters(name, help, servers(report, read))?;
    }
    let help = "Flows that an L4 service has";
    sheet.gauges("region_proxy_l4_flows", help, services(report, |figures| figures.flows))?;
    let help = "Flows that a server of an L4 service has";
    sheet.gauges("region_proxy_l4_server_flows", help, servers(report, |figures| figures.flows))
}

fn services(report: &L4Report, read: fn(&Figures) -> Option<u64>) -> impl Iterator<Item = Row<'_, u64>> {
    let row = move |service: &ServiceReport| read(&service.figures);
    report.services.iter().filter_map(move |service| Some((vec![("l4", service.name.as_str())], row(service)?)))
}

fn servers(report: &L4Report, read: fn(&Figures) -> Option<u64>) -> impl Iterator<Item = Row<'_, u64>> {
    report.services.iter().flat_map(move |service| {
        service.servers.iter().filter_map(move |server| {
            let labels = vec![("l4", service.name.as_str()), ("server", server.server.as_str())];
            Some((labels, read(&server.figures)?))
        })
    })
}

const COUNTERS: [Metric; 2] = [
    ("region_proxy_l4_packets", "Packets of an L4 service", |figures| figures.packets),
    ("region_proxy_l4_bytes", "Their octets, with IP headers", |figures| figures.bytes),
];

const SERVER_COUNTERS: [Metric; 2] = [
    ("region_proxy_l4_server_packets", "Packets of an L4 service to and from a server", |figures| figures.packets),
    ("region_proxy_l4_server_bytes", "Their octets, with IP headers", |figures| figures.bytes),
];
