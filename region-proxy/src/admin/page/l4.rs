//! L4 services on the page: a table of each, and why the kernel does not do as it should.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::super::html::Text;
use super::{octets, pill, span, whole};
use crate::switching::report::{BackendReport, Figures, L4Report, ServiceReport};

/// All of `report`; nothing where there are no L4 services.
pub(super) fn write(out: &mut String, report: &L4Report, now: Timestamp) -> fmt::Result {
    if let Some(failure) = &report.failure {
        write_failure(out, failure, report.applied, now)?;
    }
    report.services.iter().try_for_each(|service| write_service(out, service))
}

fn write_failure(out: &mut String, failure: &str, applied: Option<Timestamp>, now: Timestamp) -> fmt::Result {
    out.write_str("<section><div class=\"head\"><h2>L4 rules</h2>")?;
    pill(out, "bad", "not applied")?;
    let old = applied
        .map_or_else(|| "there are none yet".to_owned(), |at| format!("those of {} ago are in force", span(at, now)));
    write!(out, "<span class=\"dim push\">{old}</span></div>")?;
    writeln!(out, "<div class=\"foot\"><span class=\"bad-text\">{}</span></div></section>", Text(failure))
}

fn write_service(out: &mut String, service: &ServiceReport) -> fmt::Result {
    let open = service.servers.iter().filter(|server| is_open(server)).count();
    let class = match open {
        0 => "bad",
        open if open < service.servers.len() => "warn",
        _ => "good",
    };
    write!(out, "<section><div class=\"head\"><h2>L4 {}</h2>", Text(&service.name))?;
    pill(out, "", &service.mode)?;
    pill(out, class, &format!("{open} of {} take new flows", service.servers.len()))?;
    let [packets, bytes, flows] = figures(&service.figures);
    write!(out, "<span class=\"dim push\">{flows} flows · {packets} packets · {bytes}</span></div>")?;
    out.write_str(
        "<table class=\"wide\"><thead><tr><th>Server</th><th>State</th><th class=\"n\">Weight</th>\
         <th class=\"n\">Flows</th><th class=\"n\">Packets</th><th class=\"n\">Traffic</th></tr></thead><tbody>",
    )?;
    service.servers.iter().try_for_each(|server| write_server(out, server))?;
    write!(out, "</tbody></table><div class=\"foot\">{}", Text(&service.flows_to.join(", ")))?;
    write!(out, " to the servers of {} by {}", Text(service.service.as_str()), Text(&service.balance))?;
    if let Some(problem) = &service.problem {
        write!(out, " · <span class=\"bad-text\">{}</span>", Text(problem))?;
    }
    out.write_str("</div></section>\n")
}

fn write_server(out: &mut String, server: &BackendReport) -> fmt::Result {
    write!(out, "<tr><td class=\"full\"><b>{}</b><small>{}", Text(server.server.as_str()), Text(&server.address))?;
    if let Some(mac) = &server.mac {
        write!(out, " · {}", Text(mac))?;
    }
    out.write_str("</small></td><td class=\"full\">")?;
    let class = match &*server.state {
        "gone" => "bad",
        _ if is_open(server) => "good",
        _ => "warn",
    };
    pill(out, class, &server.state)?;
    if let Some(reason) = &server.reason {
        write!(out, "<small>{}</small>", Text(reason))?;
    }
    let [packets, bytes, flows] = figures(&server.figures);
    writeln!(
        out,
        "</td><td class=\"n\" data-name=\"Weight\">{}</td><td class=\"n\" data-name=\"Flows\">{flows}</td>\
         <td class=\"n\" data-name=\"Packets\">{packets}</td><td class=\"n\" data-name=\"Traffic\">{bytes}</td></tr>",
        server.weight
    )
}

/// Whether it gets new flows.
fn is_open(server: &BackendReport) -> bool {
    server.state == "open" && server.reason.is_none()
}

fn figures(figures: &Figures) -> [String; 3] {
    let text = |count: Option<u64>, show: fn(u64) -> String| count.map_or_else(|| "–".to_owned(), show);
    [text(figures.packets, whole), text(figures.bytes, octets), text(figures.flows, whole)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> L4Report {
        let report = r#"{"services": [{"name": "web", "mode": "dsr", "balance": "maglev",
            "service": "www.example.com", "flows_to": ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"],
            "packets": 7000, "bytes": 2048, "flows": 2, "servers": [
                {"server": "app-1", "address": "192.0.2.21:80", "state": "open", "weight": 3,
                 "mac": "02:00:00:00:00:01", "packets": 7000, "bytes": 2048, "flows": 2},
                {"server": "app-2", "address": "192.0.2.22:80", "state": "gone", "weight": 1}]}]}"#;
        serde_json::from_str(report).expect("a report")
    }

    fn page(report: &L4Report) -> String {
        let mut out = String::new();
        write(&mut out, report, "2026-01-01T00:01:05Z".parse().expect("a time")).expect("written");
        out
    }

    #[test]
    fn each_service_has_a_table_with_what_its_servers_get() {
        let page = page(&report());
        let parts = [
            "<h2>L4 web</h2>",
            ">dsr<",
            "1 of 2 take new flows",
            "2 flows · 7,000 packets · 2.0 KiB",
            "<b>app-1</b><small>192.0.2.21:80 · 02:00:00:00:00:01</small>",
            ">gone<",
            "data-name=\"Weight\">3<",
            "192.0.2.10:80/tcp, [2001:db8::10]:80/tcp to the servers of www.example.com by maglev",
        ];
        for part in parts {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("L4 rules"), "{page}");
    }

    #[test]
    fn what_cannot_be_read_is_no_zero() {
        let page = page(&report());
        assert!(page.contains("data-name=\"Flows\">–<") && !page.contains("data-name=\"Flows\">0<"), "{page}");
    }

    #[test]
    fn the_last_error_of_the_kernel_stands_first_with_what_is_in_force() {
        let applied = Some("2026-01-01T00:00:00Z".parse().expect("a time"));
        let page = page(&L4Report { failure: Some("nft: <syntax> error".to_owned()), applied, ..report() });
        assert!(page.starts_with("<section><div class=\"head\"><h2>L4 rules</h2>"), "{page}");
        assert!(page.contains("nft: &lt;syntax&gt; error") && page.contains("those of 1 min 5 s ago"), "{page}");
    }

    #[test]
    fn no_text_of_a_report_is_taken_for_html() {
        let mut report = report();
        let service = &mut report.services[0];
        let texts = [&mut service.name, &mut service.mode, &mut service.balance, &mut service.flows_to[0]];
        texts.into_iter().for_each(|text| *text = "<i>&".to_owned());
        service.problem = Some("<i>&".to_owned());
        let server = &mut service.servers[0];
        (server.address, server.state) = ("<i>&".to_owned(), "<i>&".to_owned());
        (server.mac, server.reason) = (Some("<i>&".to_owned()), Some("<i>&".to_owned()));
        let page = page(&report);
        assert_eq!((page.matches("<i>").count(), page.matches("&lt;i&gt;&amp;").count()), (0, 9), "{page}");
    }

    #[test]
    fn without_services_there_is_nothing() {
        assert_eq!(page(&L4Report::default()), "");
    }
}
