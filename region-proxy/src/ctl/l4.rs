//! L4 services, for people.

use super::table;
use crate::switching::report::{Figures, L4Report, ServiceReport};

/// A table of all services, each with its servers below it, and what is wrong.
pub(super) fn show(report: &L4Report) -> String {
    if report.services.is_empty() {
        return "no L4 services\n".to_owned();
    }
    let rows: Vec<_> = report.services.iter().flat_map(rows).collect();
    let mut text =
        table(&["L4", "SERVER", "ADDRESS", "STATE", "WEIGHT", "PACKETS", "OCTETS", "FLOWS", "REASON"], &rows);
    if let Some(failure) = &report.failure {
        text += &format!("the kernel does not do so: {failure}\n");
    }
    text
}

fn rows(service: &ServiceReport) -> Vec<[String; 9]> {
    let [packets, bytes, flows] = figures(&service.figures);
    let problem = service.problem.clone().unwrap_or_default();
    let to = service.flows_to.join(" ");
    let own = [service.name.clone(), String::new(), to, service.mode.clone(), String::new()];
    let own = [&own[..], &[packets, bytes, flows, problem]].concat();
    let servers = service.servers.iter().map(|server| {
        let [packets, bytes, flows] = figures(&server.figures);
        let address = match &server.mac {
            Some(mac) => format!("{} {mac}", server.address),
            None => server.address.clone(),
        };
        let (name, state, weight) = (server.server.to_string(), server.state.clone(), server.weight.to_string());
        let reason = server.reason.clone().unwrap_or_default();
        [String::new(), name, address, state, weight, packets, bytes, flows, reason]
    });
    own.try_into().into_iter().chain(servers).collect()
}

fn figures(figures: &Figures) -> [String; 3] {
    let text = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    [figures.packets, figures.bytes, figures.flows].map(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_stand_below_their_service_and_what_is_wrong_beside_it() {
        let report = r#"{"failure": "nft is not installed", "services": [{"name": "web", "mode": "dsr",
            "service": "www.example.com", "flows_to": ["192.0.2.10:80/tcp"], "packets": 7, "bytes": 700, "flows": 2,
            "servers": [{"server": "app-1", "address": "192.0.2.21:80", "state": "open", "weight": 1,
                         "reason": "no MAC is known"}]}]}"#;
        let report: L4Report = serde_json::from_str(report).expect("a report");
        let expected = "\
L4   SERVER  ADDRESS            STATE  WEIGHT  PACKETS  OCTETS  FLOWS  REASON
web          192.0.2.10:80/tcp  dsr            7        700     2
     app-1   192.0.2.21:80      open   1       -        -       -      no MAC is known
the kernel does not do so: nft is not installed
";
        assert_eq!(show(&report), expected);
    }
}
