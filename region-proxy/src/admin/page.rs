//! The page at `/stats`: one piece of HTML that needs no script and nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::html::Text;
use super::stats::{Member, Pool, Shown, Stats};

mod l4;
mod peers;
mod vips;

/// The page that shows `stats`.
pub(super) fn page(stats: &Stats) -> String {
    let mut page = String::with_capacity(16 * 1024);
    // Writing to a text does not fail.
    let _ = write_page(&mut page, stats);
    page
}

fn write_page(out: &mut String, stats: &Stats) -> fmt::Result {
    let (proxy, region) = (Text(&stats.proxy), Text(&stats.region));
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECS}\">\
         <title>{proxy} · region-proxy</title><style>{STYLE}</style></head><body><main>\n\
         <header><h1>{proxy}</h1><span class=\"dim\">region {region}</span>"
    )?;
    match stats.is_draining {
        true => pill(out, "warn", "draining")?,
        false => pill(out, "good", "serving")?,
    }
    match stats.holds_vip {
        true => pill(out, "good", "holds the VIP")?,
        false => pill(out, "", "VIP is elsewhere")?,
    }
    if vips::has_two_actives(&stats.virtual_routers) {
        pill(out, "bad", "another holds it too")?;
    }
    let up = span(stats.started, stats.now);
    let (version, threads) = (Text(stats.version), stats.threads);
    let many = if threads == 1 { "thread" } else { "threads" };
    writeln!(out, "<span class=\"dim push\">up {up} · {threads} {many} · region-proxy {version}</span></header>")?;
    write_tiles(out, stats)?;
    vips::write(out, &stats.virtual_routers, stats.now)?;
    peers::write(out, &stats.peers, stats.now)?;
    l4::write(out, &stats.l4, stats.now)?;
    stats.services.iter().try_for_each(|service| write_service(out, service, stats.now))?;
    out.write_str("<div class=\"split\">\n")?;
    write_certificates(out, stats)?;
    write_clients(out, stats)?;
    write_operation(out, stats)?;
    let now = stats.now.strftime("%Y-%m-%d %H:%M:%S UTC");
    writeln!(
        out,
        "</div>\n<small>{now} · renewed every {REFRESH_SECS} s · the same as <a href=\"/stats.json\">JSON</a>, for machines at <a href=\"/metrics\">/metrics</a></small>\n</main></body></html>"
    )
}

fn write_tiles(out: &mut String, stats: &Stats) -> fmt::Result {
    let sum = |of: fn(&Pool) -> u64| stats.services.iter().map(of).sum::<u64>();
    let rate: f64 = stats.services.iter().map(|service| service.requests_per_sec).sum();
    let errors = sum(|service| service.servers.iter().map(|server| server.recent_errors).sum());
    let (up, total) = (sum(|service| service.servers_up.into()), sum(|service| service.servers_total.into()));
    let queued = sum(|service| service.queued);
    out.write_str("<div class=\"tiles\">")?;
    tile(out, "requests a second", &decimal(rate), "")?;
    tile(out, "under way", &whole(sum(|service| service.in_flight)), "")?;
    tile(out, "waiting for a server", &whole(queued), if queued > 0 { "warn-text" } else { "" })?;
    tile(out, "errors in the last minute", &whole(errors), if errors > 0 { "bad-text" } else { "" })?;
    tile(out, "servers up", &format!("{up} / {total}"), if up < total { "bad-text" } else { "" })?;
    let clients = &stats.clients;
    write!(out, "<div class=\"tile\"><small>client connections</small><b>{}</b>", whole(clients.open))?;
    bar(out, clients.open as f64, clients.most as f64)?;
    out.write_str("</div></div>\n")
}

fn tile(out: &mut String, name: &str, value: &str, class: &str) -> fmt::Result {
    write!(out, "<div class=\"tile\"><small>{}</small><b class=\"{class}\">{}</b></div>", Text(name), Text(value))
}

fn write_service(out: &mut String, service: &Pool, now: Timestamp) -> fmt::Result {
    let (up, total) = (service.servers_up, service.servers_total);
    let class = if up == total {
        "good"
    } else if up > 0 {
        "warn"
    } else {
        "bad"
    };
    write!(out, "<section><div class=\"head\"><h2>{}</h2>", Text(&service.name))?;
    pill(out, class, &format!("{up} of {total} up"))?;
    let rate = decimal(service.requests_per_sec);
    let capacity = service.capacity.map(|most| format!(" of {}", whole(most))).unwrap_or_default();
    let what = if service.mode == "tcp" { "connections" } else { "requests" };
    write!(out, "<span class=\"dim push\">{rate}{capacity} {what}/s · {} under way", whole(service.in_flight))?;
    if service.queued > 0 {
        write!(out, " · <span class=\"warn-text\">{} waiting</span>", whole(service.queued))?;
    }
    out.write_str("</span></div>")?;
    out.write_str(
        "<table class=\"wide\"><thead><tr><th>Server</th><th>State</th><th class=\"n\">Requests/s</th>\
         <th class=\"n\">Under way</th><th class=\"n\">Response</th><th class=\"n\">Connections</th>\
         <th class=\"n\">Traffic</th><th class=\"n\">Errors, 1 min</th><th>Last failure</th></tr></thead><tbody>",
    )?;
    service.servers.iter().try_for_each(|server| write_server(out, server, now))?;
    out.write_str("</tbody></table>")?;
    if service.mode == "tcp" {
        let connections = service.servers.iter().map(|server| server.connections_opened).sum();
        write!(out, "<div class=\"foot\">Connections since the start: {}", whole(connections))?;
    } else {
        let answers = list(&service.responses);
        write!(out, "<div class=\"foot\">Answers since the start: {}", answers.unwrap_or_else(|| "none".to_owned()))?;
    }
    if let Some(failures) = list(&service.failures) {
        write!(out, " · failed: {failures}")?;
    }
    if let Some(mean) = service.queue_ms_mean {
        write!(out, " · mean wait of those that waited: {mean} ms")?;
    }
    out.write_str("</div></section>\n")
}

fn write_server(out: &mut String, server: &Member, now: Timestamp) -> fmt::Result {
    let (name, address) = (Text(&server.name), Text(&server.address));
    let backup = if server.is_backup { " · backup" } else { "" };
    let weight = server.weight;
    write!(
        out,
        "<tr><td class=\"full\"><b>{name}</b><small>{address} · weight {weight}{backup}</small></td><td class=\"full\">"
    )?;
    pill(out, state_class(server.state), server.state)?;
    write!(out, " <span class=\"dim\">for {}</span>", span(server.since, now))?;
    write!(out, "<small>{}</small></td>", Text(&server.reason))?;
    write!(out, "<td class=\"n\" data-name=\"Requests/s\">{}</td>", decimal(server.requests_per_sec))?;
    write!(out, "<td class=\"n\" data-name=\"Under way\">{}", whole(server.in_flight))?;
    if let Some(most) = server.connections_max {
        write!(out, " / {}", whole(most.into()))?;
        bar(out, server.in_flight as f64, most.into())?;
    }
    let head = match (server.head_ms_mean, server.head_ms_p95) {
        (Some(mean), Some(most)) => format!("{mean} ms<small>p95 ≤ {most} ms</small>"),
        (Some(mean), None) => format!("{mean} ms"),
        (None, _) => "–".to_owned(),
    };
    write!(out, "</td><td class=\"n\" data-name=\"Response\">{head}</td>")?;
    let (idle, reused) = (whole(server.connections_idle), share(server));
    write!(out, "<td class=\"n\" data-name=\"Connections\">{idle} idle<small>{reused} reused</small></td>")?;
    let (up, down) = (octets(server.octets_up), octets(server.octets_down));
    write!(out, "<td class=\"n\" data-name=\"Traffic\">↓ {down}<small>↑ {up}</small></td>")?;
    let class = if server.recent_errors > 0 { "bad-text" } else { "dim" };
    let (errors, retries) = (whole(server.recent_errors), whole(server.retries));
    write!(
        out,
        "<td class=\"n\" data-name=\"Errors, 1 min\"><span class=\"{class}\">{errors}</span><small>{retries} retried</small></td>"
    )?;
    match &server.last_failure {
        Some(failure) => {
            let (what, ago) = (Text(&failure.what), span(failure.at, now));
            writeln!(out, "<td class=\"full\" data-name=\"Last failure\">{what}<small>{ago} ago</small></td></tr>")
        }
        None => out.write_str("<td class=\"none dim\">none</td></tr>\n"),
    }
}

fn write_certificates(out: &mut String, stats: &Stats) -> fmt::Result {
    if stats.certificates.is_empty() && stats.certificate_problems.is_empty() {
        return Ok(());
    }
    out.write_str("<section><div class=\"head\"><h2>Certificates</h2></div><table><tbody>")?;
    stats.certificates.iter().try_for_each(|certificate| write_certificate(out, certificate))?;
    out.write_str("</tbody></table>")?;
    write_problems(out, &stats.certificate_problems)?;
    out.write_str("</section>\n")
}

fn write_certificate(out: &mut String, certificate: &Shown) -> fmt::Result {
    let names = certificate.names.join(", ");
    write!(out, "<tr><td>{}<small>{}</small></td><td class=\"n\">", Text(&names), Text(&certificate.file))?;
    match certificate.days_left {
        Some(days) if days < 0 => pill(out, "bad", "expired")?,
        Some(days) => {
            let class = if days < 7 {
                "bad"
            } else if days < 21 {
                "warn"
            } else {
                "good"
            };
            pill(out, class, &format!("{days} days left"))?;
        }
        None => pill(out, "", "unknown")?,
    }
    if let Some(end) = certificate.not_after {
        write!(out, "<small>{}</small>", end.strftime("%Y-%m-%d"))?;
    }
    out.write_str("</td></tr>")
}

fn write_clients(out: &mut String, stats: &Stats) -> fmt::Result {
    let clients = &stats.clients;
    out.write_str("<section><div class=\"head\"><h2>Clients</h2></div><table><tbody>")?;
    row(out, "Connections accepted", &whole(clients.accepted))?;
    row(out, "Connections that waited for a place", &whole(clients.delayed))?;
    row(out, "Answered by the proxy itself", &list(&clients.own_answers).unwrap_or_else(|| "none".to_owned()))?;
    if let Some(failures) = list(&clients.failures) {
        row(out, "Of these, failed", &failures)?;
    }
    if !clients.refusals.is_empty() {
        let refusals: Vec<String> = clients
            .refusals
            .iter()
            .map(|(reason, count)| format!("{} × {}", whole(*count), reason.replace('_', " ")))
            .collect();
        row(out, "Refused", &refusals.join(", "))?;
    }
    out.write_str("</tbody></table></section>\n")
}

fn write_operation(out: &mut String, stats: &Stats) -> fmt::Result {
    out.write_str("<section><div class=\"head\"><h2>Operation</h2>")?;
    if !stats.reloads.problems.is_empty() {
        pill(out, "bad", "the last reload was refused")?;
    }
    out.write_str("</div><table><tbody>")?;
    let reloads = &stats.reloads;
    let ago = reloads.last.map(|at| format!(", the last {} ago", span(at, stats.now))).unwrap_or_default();
    row(out, "Reloads", &format!("{} taken, {} refused{ago}", reloads.taken, reloads.refused))?;
    match &stats.access_log {
        Some(lines) => {
            let lost = lines.left_out + lines.failed;
            let lost = if lost > 0 { format!(", {} lost", whole(lost)) } else { String::new() };
            row(out, "Access log", &format!("{} lines written{lost}", whole(lines.written)))?;
        }
        None => row(out, "Access log", "off")?,
    }
    out.write_str("</tbody></table>")?;
    write_problems(out, &reloads.problems)?;
    out.write_str("</section>\n")
}

fn write_problems(out: &mut String, problems: &[String]) -> fmt::Result {
    if problems.is_empty() {
        return Ok(());
    }
    out.write_str("<div class=\"foot\"><ul class=\"bad-text\">")?;
    problems.iter().try_for_each(|problem| write!(out, "<li>{}</li>", Text(problem)))?;
    out.write_str("</ul></div>")
}

fn row(out: &mut String, name: &str, value: &str) -> fmt::Result {
    write!(out, "<tr><td class=\"dim\">{}</td><td>{}</td></tr>", Text(name), Text(value))
}

fn pill(out: &mut String, class: &str, text: &str) -> fmt::Result {
    write!(out, "<span class=\"pill {class}\">{}</span>", Text(text))
}

fn bar(out: &mut String, value: f64, most: f64) -> fmt::Result {
    let percent = if most > 0.0 { (100.0 * value / most).clamp(0.0, 100.0) } else { 0.0 };
    let class = if percent >= 90.0 { " class=\"high\"" } else { "" };
    write!(out, "<div class=\"bar\"><i{class} style=\"width:{percent:.0}%\"></i></div>")
}

fn state_class(state: &str) -> &'static str {
    match state {
        "up" => "good",
        "down" => "bad",
        "unknown" => "",
        _ => "warn",
    }
}

/// How many of its requests a server got over a connection that was there already.
fn share(server: &Member) -> String {
    let all = server.connections_opened + server.connections_reused;
    let percent = (server.connections_reused * 100).checked_div(all);
    percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent} %"))
}

/// `3,000 of 2xx, 1 of 5xx`; `None` where there is nothing.
fn list(counts: &BTreeMap<&'static str, u64>) -> Option<String> {
    let all: Vec<String> =
        counts.iter().map(|(name, count)| format!("{} × {}", whole(*count), name.replace('_', " "))).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// With separators of thousands.
fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With one decimal where it is small.
fn decimal(number: f64) -> String {
    if number > 0.0 && number < 10.0 { format!("{number:.1}") } else { whole(number.round() as u64) }
}

fn octets(count: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| count >> bits > 0) {
        Some((unit, bits)) => format!("{:.1} {unit}", count as f64 / (1u64 << bits) as f64),
        None => format!("{count} B"),
    }
}

/// How long it is from `start` to `end`, in its two largest units.
fn span(start: Timestamp, end: Timestamp) -> String {
    let secs = end.as_second().saturating_sub(start.as_second()).max(0);
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

const STYLE: &str = include_str!("page.css");

/// How often browsers load it anew.
const REFRESH_SECS: u32 = 5;
