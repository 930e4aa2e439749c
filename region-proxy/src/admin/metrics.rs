//! The text of `/metrics`, put together anew for each scrape. Counts are of all threads since the start.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::registry::Registry;

use super::sheet::{Row, Sheet};
use super::stats::state_of;
use super::{l4, peers, tables, vips};
use crate::balance::Health;
use crate::live::{Live, Proxy, Server, Service};
use crate::relay::record::Cause;
use crate::switching::report::L4Report;
use crate::tally::{CAUSES, CLASSES, ServerCounts, ServiceCounts};

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics at this moment.
pub(super) fn encode(proxy: &Arc<Proxy>, l4: L4Report) -> String {
    let live = proxy.live.load_full();
    let services = live.services().map(Counted::of).collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { proxy: Arc::clone(proxy), live, services, l4 }));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = encode_text(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    proxy: Arc<Proxy>,
    live: Arc<Live>,
    services: Vec<Counted>,
    l4: L4Report,
}

/// A service and its counts, all of one moment.
#[derive(Debug)]
struct Counted {
    service: Arc<Service>,
    counts: ServiceCounts,
    servers: Vec<(Arc<Server>, ServerCounts)>,
}

impl Counted {
    fn of(service: &Arc<Service>) -> Self {
        let servers = service.servers.iter().map(|server| (Arc::clone(server), server.tally.read())).collect();
        Self { service: Arc::clone(service), counts: service.tally().read(), servers }
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        self.encode_services(&mut sheet)?;
        self.encode_queues(&mut sheet)?;
        self.encode_answers(&mut sheet)?;
        self.encode_connections(&mut sheet)?;
        self.encode_times(&mut sheet)?;
        self.encode_health(&mut sheet)?;
        self.encode_clients(&mut sheet)?;
        self.encode_tls(&mut sheet)?;
        tables::encode(&self.live, &mut sheet)?;
        peers::encode(&self.proxy, &mut sheet)?;
        vips::encode(&self.proxy.vrrp.load(), &mut sheet)?;
        l4::encode(&self.l4, self.proxy.l4.counts(), &mut sheet)?;
        self.encode_operation(&mut sheet)
    }
}

impl Scrape {
    fn encode_services(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let by_class = self.services.iter().flat_map(|one| classes(&one.counts.responses, one.labels()));
        sheet.counters(
            "region_proxy_requests",
            "Requests of a service that were answered, by the class of the status; none: the client got no answer",
            by_class,
        )?;
        let by_cause = self.services.iter().flat_map(|one| causes(&one.counts.failures, one.labels()));
        let help = "Requests of a service that failed in the end, by cause";
        sheet.counters("region_proxy_request_failures", help, by_cause)?;
        let flights = self.services.iter().map(|one| (one.labels().to_vec(), one.service.in_flight()));
        sheet.gauges("region_proxy_requests_in_flight", "Requests of a service that are under way", flights)?;
        let capacities =
            self.services.iter().filter_map(|one| Some((one.labels().to_vec(), one.service.config.capacity?)));
        let help = "Requests a second that the settings say a service can bear here";
        sheet.gauges("region_proxy_capacity_requests_per_second", help, capacities)
    }

    fn encode_queues(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let queued = self.services.iter().map(|one| (one.labels().to_vec(), one.counts.queued));
        sheet.gauges("region_proxy_queue_length", "Requests that wait for a server with room", queued)?;
        let times = self.services.iter().map(|one| (one.labels().to_vec(), one.counts.queue));
        let help = "How long requests waited that had to wait for a server";
        sheet.histograms("region_proxy_queue_wait_seconds", help, times)?;
        let redispatched = self.services.iter().map(|one| (one.labels().to_vec(), one.counts.redispatched));
        let help = "Requests that another server got than the one before";
        sheet.counters("region_proxy_redispatches", help, redispatched)
    }

    fn encode_answers(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let by_class = self.servers().flat_map(|(labels, _, counts)| classes(&counts.responses, labels));
        sheet.counters("region_proxy_server_responses", "Responses of a server, by class", by_class)?;
        let by_cause = self.servers().flat_map(|(labels, _, counts)| causes(&counts.failures, labels));
        let help = "Attempts that a server failed, by cause, those among them that another followed";
        sheet.counters("region_proxy_server_failures", help, by_cause)?;
        let help = "Attempts that a server failed and that another followed";
        self.count(sheet, "region_proxy_server_retries", help, |counts| counts.retries)?;
        let help = "Octets that a server was sent";
        self.count(sheet, "region_proxy_server_sent_bytes", help, |counts| counts.octets_up)?;
        let help = "Octets of a server's responses that clients got";
        self.count(sheet, "region_proxy_server_received_bytes", help, |counts| counts.octets_down)
    }

    fn encode_connections(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let flights = self.servers().map(|(labels, _, counts)| (labels.to_vec(), counts.in_flight));
        sheet.gauges("region_proxy_server_requests_in_flight", "Requests that a server has in hand", flights)?;
        let help = "Connections made to a server";
        self.count(sheet, "region_proxy_server_connections_opened", help, |counts| counts.opened)?;
        let help = "Requests that a server got over a connection that had served another";
        self.count(sheet, "region_proxy_server_connections_reused", help, |counts| counts.reused)?;
        let idle = self.servers().map(|(labels, _, counts)| (labels.to_vec(), counts.idle));
        sheet.gauges("region_proxy_server_idle_connections", "Connections to a server that wait for a request", idle)
    }

    fn encode_times(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let heads = self.servers().map(|(labels, _, counts)| (labels.to_vec(), counts.head));
        let help = "From a server's connection to the head of its response, in steps of about 4 ms";
        sheet.histograms("region_proxy_server_response_head_seconds", help, heads)?;
        let totals = self.servers().map(|(labels, _, counts)| (labels.to_vec(), counts.total));
        let help = "From the choice of a server to the end of its response";
        sheet.histograms("region_proxy_server_response_seconds", help, totals)
    }

    fn encode_health(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let states: Vec<_> = self.servers().map(|(labels, server, _)| (labels, state_of(server))).collect();
        let up = states.iter().map(|(labels, state)| (labels.to_vec(), u64::from(state.health == Health::Up)));
        sheet.gauges("region_proxy_server_up", "Whether a server is up", up)?;
        let words = states.iter().map(|(labels, state)| ([&labels[..], &[("state", state.word())]].concat(), 1));
        sheet.gauges("region_proxy_server_state", "How a server stands, as a label", words)?;
        let since = states.iter().map(|(labels, state)| (labels.to_vec(), unix_secs(state.since)));
        let help = "Since when a server is up or down, in seconds since 1970";
        sheet.gauges("region_proxy_server_state_since_seconds", help, since)?;
        let weights = states.iter().map(|(labels, state)| (labels.to_vec(), state.weight));
        sheet.gauges("region_proxy_server_weight", "The weight of a server", weights)
    }

    fn encode_clients(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let own = self.proxy.tally.read();
        sheet.gauge("region_proxy_client_connections", "Connections of clients that are open", own.open)?;
        let limit = self.live.config.limits.connections as u64;
        sheet.gauge("region_proxy_client_connections_limit", "How many may be open", limit)?;
        sheet.counter("region_proxy_client_connections_accepted", "Connections of clients", own.accepted)?;
        let help = "Connections that had to wait for a place at limits.connections";
        sheet.counter("region_proxy_client_connections_delayed", help, own.waited)?;
        let help = "Connections closed at once: not from where a PROXY header may come";
        sheet.counter("region_proxy_client_connections_refused", help, own.turned_away)?;
        let help = "Connections closed at once: their client had as many as clients.connections";
        sheet.counter("region_proxy_client_connections_crowded", help, own.crowded)?;
        let help = "Requests of no service that the proxy answered itself, by class of the status";
        sheet.counters("region_proxy_own_answers", help, classes(&own.responses, []))?;
        let help = "Requests of no service that failed, by cause";
        sheet.counters("region_proxy_own_failures", help, causes(&own.failures, []))?;
        let refusals = own.refusals.iter().map(|(reason, count)| (vec![("reason", reason.as_str())], *count));
        sheet.counters("region_proxy_refusals", "Requests refused for what they say, by what is wrong", refusals)
    }

    fn encode_tls(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (front, back) = (self.proxy.tls.front.load(), self.proxy.tls.back.load());
        let broken = front.as_ref().map_or(0, |front| front.broken.len()) + back.broken.len();
        if front.is_some() || !back.is_empty() {
            let help = "Mistakes in files in whose place older ones serve on";
            sheet.gauge("region_proxy_certificate_problems", help, broken as u64)?;
        }
        let Some(front) = front.as_ref() else { return Ok(()) };
        let ends = front.identities().iter().map(|identity| {
            (identity.files.certificate.display().to_string(), u64::try_from(identity.about.not_after).unwrap_or(0))
        });
        let ends: Vec<_> = ends.collect();
        let rows = ends.iter().map(|(file, end)| (vec![("file", file.as_str())], *end));
        let help = "When a certificate ends, in seconds since 1970";
        sheet.gauges("region_proxy_certificate_expiry_seconds", help, rows)?;
        let tally = &self.proxy.tls.tally;
        let failed = tally.failures().map(|(_, count)| count).sum();
        let outcomes = [("full", tally.full.begun()), ("resumed", tally.resumed.begun()), ("failed", failed)];
        let rows = outcomes.map(|(outcome, count)| (vec![("outcome", outcome)], count));
        sheet.counters("region_proxy_tls_handshakes", "Handshakes with clients, by outcome", rows)?;
        let rows = tally.failures().map(|(reason, count)| (vec![("reason", reason.as_str())], count));
        let help = "Handshakes with clients that failed, by what ended them";
        sheet.counters("region_proxy_tls_handshake_failures", help, rows)
    }

    fn encode_operation(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let lines = self.proxy.access.counts();
        let lines = [("written", lines.written), ("left_out", lines.left_out), ("failed", lines.failed)];
        let rows = lines.map(|(outcome, count)| (vec![("outcome", outcome)], count));
        let help =
            "Lines of the access log: left out where the writer was too far behind, failed where the file took none";
        sheet.counters("region_proxy_access_log_lines", help, rows)?;
        let [taken, refused] = self.proxy.reload_counts.counts();
        let rows = [("taken", taken), ("refused", refused)].map(|(outcome, count)| (vec![("outcome", outcome)], count));
        sheet.counters("region_proxy_reloads", "Settings that were read anew, by outcome", rows)?;
        let last = self.proxy.reload_counts.last();
        let is_failed = last.as_ref().is_some_and(|last| !last.problems.is_empty());
        sheet.gauge("region_proxy_last_reload_failed", "Whether the last reload was refused", is_failed.into())?;
        let at = last.map_or(self.proxy.started, |last| last.at);
        let help = "When settings were last read, in seconds since 1970";
        sheet.gauge("region_proxy_last_reload_seconds", help, unix_secs(at))?;
        let status = self.proxy.status();
        sheet.gauge("region_proxy_draining", "Whether an operator drains the proxy", status.is_draining.into())?;
        sheet.gauge("region_proxy_holds_vip", "Whether the VIP is on this machine", status.holds_vip.into())?;
        let started = unix_secs(self.proxy.started);
        sheet.gauge("region_proxy_start_time_seconds", "When it started, in seconds since 1970", started)?;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        sheet.gauges("region_proxy_build_info", "The version of the program, as a label", [(version, 1)])
    }

    fn servers(&self) -> impl Iterator<Item = ([(&str, &str); 2], &Server, &ServerCounts)> {
        self.services.iter().flat_map(|one| {
            one.servers.iter().map(|(server, counts)| {
                ([("service", one.service.name.as_str()), ("server", server.name.as_str())], &**server, counts)
            })
        })
    }

    fn count(&self, sheet: &mut Sheet<'_>, name: &str, help: &str, of: fn(&ServerCounts) -> u64) -> fmt::Result {
        sheet.counters(name, help, self.servers().map(|(labels, _, counts)| (labels.to_vec(), of(counts))))
    }
}

impl Counted {
    fn labels(&self) -> [(&str, &str); 1] {
        [("service", self.service.name.as_str())]
    }
}

/// A row for each class that is not zero.
fn classes<'l, const N: usize>(counts: &[u64; CLASSES], labels: [(&'l str, &'l str); N]) -> Vec<Row<'l, u64>> {
    const WORDS: [&str; CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
    let rows = WORDS.iter().zip(counts).filter(|(_, count)| **count > 0);
    rows.map(|(class, count)| ([&labels[..], &[("class", *class)]].concat(), *count)).collect()
}

/// A row for each cause that there was.
fn causes<'l, const N: usize>(counts: &[u64; CAUSES], labels: [(&'l str, &'l str); N]) -> Vec<Row<'l, u64>> {
    let rows = Cause::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
    rows.map(|(cause, count)| ([&labels[..], &[("cause", cause.as_str())]].concat(), *count)).collect()
}

fn unix_secs(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or_default()
}
