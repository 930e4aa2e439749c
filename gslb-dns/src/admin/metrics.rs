//! The text of `/metrics`, put together anew for each scrape.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use shared::snapshot::VipStanding;
use shared::topology::{Region, ServiceId};

use super::ZoneBooks;
use crate::answer::Transport;
use crate::journal::Extent;
use crate::reload::{SignedZone, unix_secs};
use crate::serve::{Clock, Look, NotifyStanding, RCODES, TcpCounters, Totals};
use crate::wire::Rcode;

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics at this moment.
pub(super) fn encode(look: Look, totals: Totals, tcp: &TcpCounters, zones: ZoneBooks, clock: Clock) -> String {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tcp = Tcp {
        open: read(&tcp.open),
        bytes_in_flight: read(&tcp.bytes_in_flight),
        accepted: read(&tcp.accepted),
        evicted: [("connections", read(&tcp.evicted)), ("bytes", read(&tcp.evicted_bytes))],
        refused: read(&tcp.refused),
        timed_out: [
            ("idle", read(&tcp.timed_out_idle)),
            ("query", read(&tcp.timed_out_query)),
            ("answer", read(&tcp.timed_out_answer)),
        ],
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { look, totals, tcp, zones, clock }));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = encode_text(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    look: Look,
    totals: Totals,
    tcp: Tcp,
    zones: ZoneBooks,
    clock: Clock,
}

#[derive(Debug)]
struct Tcp {
    open: u64,
    bytes_in_flight: u64,
    accepted: u64,
    evicted: [(&'static str, u64); 2],
    refused: u64,
    timed_out: [(&'static str, u64); 3],
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut sheet = Sheet(encoder);
        self.encode_queries(&mut sheet)?;
        self.encode_protection(&mut sheet)?;
        self.encode_tcp(&mut sheet)?;
        self.encode_secondaries(&mut sheet)?;
        self.encode_journals(&mut sheet)?;
        self.encode_health(&mut sheet)?;
        self.encode_vips(&mut sheet)?;
        self.encode_dnssec(&mut sheet)?;
        self.encode_reloads(&mut sheet)
    }
}

impl Scrape {
    fn encode_queries(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let totals = &self.totals;
        let by_transport =
            Transport::ALL.map(|transport| ([("transport", transport.as_str())], totals.queries[transport as usize]));
        sheet.counters("gslb_queries", "Queries received", by_transport)?;
        let answers = Transport::ALL.into_iter().flat_map(|transport| {
            let of_rcode = move |code: usize| {
                (
                    [("transport", transport.as_str()), ("rcode", rcode_word(code))],
                    totals.rcodes[transport as usize][code],
                )
            };
            (0..RCODES).map(of_rcode).filter(|(_, count)| *count > 0)
        });
        sheet.counters("gslb_answers", "Answers sent, by response code", answers)?;
        let slow =
            totals.slow.iter().map(|&(kind, code, count)| ([("kind", kind), ("rcode", rcode_word(code))], count));
        sheet.counters("gslb_slow_answers", "Answers to updates, transfers, and what is signed by a key", slow)?;
        let refused = totals.refused.iter().map(|&(reason, count)| ([("reason", reason)], count));
        sheet.counters(
            "gslb_refused",
            "Messages refused for who sent them or for what would come of them, by reason",
            refused,
        )?;
        let dropped = totals.dropped.iter().map(|&(reason, count)| ([("reason", reason)], count));
        sheet.counters("gslb_dropped", "Queries without an answer, by reason", dropped)?;
        let regions = totals.regions.iter().map(|(region, count)| ([("region", region.as_str())], *count));
        sheet.counters("gslb_steered_answers", "Answers to steered names, by the region chosen", regions)?;
        sheet.counter("gslb_truncated_answers", "Answers cut to fit a datagram", totals.truncated)?;
        sheet.counter(
            "gslb_last_resort_answers",
            "Answers given though no region was fit to serve",
            totals.last_resort,
        )?;
        sheet.counter("gslb_engine_panics", "Queries that broke the engine; each is a bug", totals.panics)
    }

    fn encode_protection(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let limited = self.totals.limited;
        let limited =
            [("truncated", limited.truncated), ("badcookie", limited.bad_cookie), ("dropped", limited.dropped)];
        let limited = limited.map(|(how, count)| ([("how", how)], count));
        sheet.counters(
            "gslb_limited_answers",
            "Answers beyond the rate of their network, by what was sent",
            limited,
        )?;
        let cookies = self.totals.cookies;
        let answers: u64 = self.totals.rcodes.iter().flatten().sum();
        let absent = answers.saturating_sub(cookies.iter().map(|(_, count)| count).sum());
        let cookies =
            cookies.into_iter().chain([("absent", absent)]).map(|(cookie, count)| ([("cookie", cookie)], count));
        sheet.counters("gslb_cookies", "Answers sent, by the cookie that the query brought", cookies)
    }

    fn encode_tcp(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Tcp { open, bytes_in_flight, accepted, evicted, refused, timed_out } = &self.tcp;
        sheet.gauge("gslb_tcp_open_connections", "Connections open, over TCP and all that is encrypted", *open)?;
        let held = "Octets of queries not yet whole and of answers not yet taken, over TCP";
        sheet.gauge("gslb_tcp_bytes_in_flight", held, *bytes_in_flight)?;
        sheet.counter("gslb_tcp_connections", "TCP connections accepted", *accepted)?;
        let evicted = evicted.map(|(limit, count)| ([("limit", limit)], count));
        sheet.counters("gslb_tcp_evicted_connections", "TCP connections closed at a limit", evicted)?;
        sheet.counter("gslb_tcp_refused_connections", "TCP connections refused for want of files", *refused)?;
        let timed_out = timed_out.map(|(awaited, count)| ([("awaited", awaited)], count));
        sheet.counters("gslb_tcp_timeouts", "TCP connections closed because the client let wait", timed_out)
    }

    fn encode_secondaries(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let shown: Vec<(String, String, &NotifyStanding)> = self
            .zones
            .secondaries
            .iter()
            .map(|((zone, address), standing)| (zone.clone(), address.to_string(), standing))
            .collect();
        let rows = |value: fn(&NotifyStanding) -> u64| {
            let row = move |(zone, address, standing): &'_ (String, String, &NotifyStanding)| {
                ([("zone", zone.clone()), ("secondary", address.clone())], value(standing))
            };
            shown.iter().map(row).collect::<Vec<_>>()
        };
        let sent = rows(|standing| standing.sent);
        sheet.counters("gslb_notifications", "NOTIFY messages sent to a secondary", as_labels(&sent))?;
        let failed = rows(|standing| standing.failed);
        sheet.counters(
            "gslb_notification_failures",
            "Of these, those that it did not acknowledge",
            as_labels(&failed),
        )?;
        let serials = rows(|standing| standing.acknowledged.map_or(0, u64::from));
        sheet.gauges(
            "gslb_acknowledged_serial",
            "The last serial that a secondary has acknowledged",
            as_labels(&serials),
        )
    }

    fn encode_journals(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let rows = |value: fn(&Extent) -> usize| {
            let row = move |(zone, extent): &'_ (String, Extent)| ([("zone", zone.clone())], value(extent) as u64);
            self.zones.journals.iter().map(row).collect::<Vec<_>>()
        };
        let bytes = rows(|extent| extent.octets);
        sheet.gauges("gslb_journal_bytes", "Octets in the journal of a zone", as_labels(&bytes))?;
        let entries = rows(|extent| extent.entries);
        sheet.gauges(
            "gslb_journal_entries",
            "Updates in the journal of a zone, and marks of edits",
            as_labels(&entries),
        )
    }

    fn encode_health(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (state, view) = (&self.look.state, self.look.live.snapshot.view());
        let proxies = state.proxies().flat_map(|(region, proxies)| proxies.iter().map(move |facts| (region, facts)));
        let proxies = proxies.map(|(region, facts)| {
            let is_up = facts.health.is_up() == Some(true);
            ([("region", region.as_str()), ("proxy", facts.proxy.as_str())], u64::from(is_up))
        });
        sheet.gauges("gslb_proxy_up", "Whether a proxy is up by its probes", proxies)?;
        let topology = &view.topology;
        let standings = (0..).map(ServiceId).zip(&topology.services).flat_map(|(id, service)| {
            let members = topology.steering(service).member_ids();
            members
                .map(move |member| (service, topology.member_name(service, member), view.service(id).standing(member)))
        });
        let standings: Vec<_> = standings.collect();
        let shares = standings.iter().map(|(service, region, standing)| {
            let labels = [("service", service.name.as_str()), ("region", region.as_str())];
            (labels, u64::from(standing.share.percent()))
        });
        sheet.gauges("gslb_share_percent", "Share of its clients that a region takes for a service", shares)?;
        let verdicts = standings.iter().map(|(service, region, standing)| {
            let verdict = ("verdict", standing.verdict.as_str());
            ([("service", service.name.as_str()), ("region", region.as_str()), verdict], 1)
        });
        sheet.gauges("gslb_verdict", "The verdict on a region for a service, as a label", verdicts)?;
        sheet.gauge("gslb_overrides", "Overrides in force", state.overrides().len() as u64)?;
        sheet.gauge(
            "gslb_doubts_itself",
            "Whether this node doubts itself",
            u64::from(view.doubts_itself_since.is_some()),
        )
    }

    /// Who holds VIPs, where proxies do so in turn.
    fn encode_vips(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let view = self.look.live.snapshot.view();
        let regions = view.topology.region_ids().flat_map(|id| {
            let region = view.topology.region(id);
            view.vips(id).iter().filter(|standing| standing.is_in_turn).map(move |standing| (region, standing))
        });
        let vips: Vec<(&Region, String, &VipStanding)> =
            regions.map(|(region, standing)| (region, standing.vip.to_string(), standing)).collect();
        let holders = vips.iter().flat_map(|(region, vip, standing)| {
            region.proxies.iter().map(move |proxy| {
                let labels = [("region", region.name.as_str()), ("vip", vip.as_str()), ("proxy", proxy.name.as_str())];
                (labels, u64::from(standing.holder() == Some(&proxy.name)))
            })
        });
        sheet.gauges("gslb_vip_holder", "Whether a proxy is the one that counts as the holder of a VIP", holders)?;
        let of_vips = |value: fn(&VipStanding) -> Option<u64>| {
            let rows = vips.iter().filter_map(move |(region, vip, standing)| {
                Some(([("region", region.name.as_str()), ("vip", vip.as_str())], value(standing)?))
            });
            rows.collect::<Vec<_>>()
        };
        let help = "When the holder of a VIP took it, by its own word, in seconds since 1970";
        sheet.gauges("gslb_vip_last_takeover_seconds", help, of_vips(|standing| standing.last_takeover))?;
        let help = "Whether two hold a VIP at the same time; clients reach the one or the other";
        sheet.gauges("gslb_vip_two_actives", help, of_vips(|standing| Some(standing.two_actives.is_some().into())))
    }

    fn encode_dnssec(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let zones = &self.look.live.world.signed_zones;
        let names: Vec<String> = zones.iter().map(|zone| zone.apex.to_string()).collect();
        let of_zones = |value: fn(&SignedZone) -> Option<u64>| {
            let rows =
                names.iter().zip(zones).filter_map(move |(name, zone)| Some(([("zone", name.as_str())], value(zone)?)));
            rows.collect::<Vec<_>>()
        };
        let signatures = of_zones(|zone| Some(zone.signatures.len() as u64));
        sheet.gauges("gslb_signatures", "Signatures of a zone that were made ahead", signatures)?;
        let expirations = of_zones(|zone| zone.earliest_expiration);
        let help = "When the first signature of a zone expires, in seconds since 1970";
        sheet.gauges("gslb_signature_expiration_seconds", help, expirations)?;
        let help = "Whether the keys of a zone cannot sign it any more by their times, so that those of before sign on";
        sheet.gauges("gslb_keys_unusable", help, of_zones(|zone| Some(u64::from(zone.held.is_some()))))?;
        let now = unix_secs();
        let keys = names
            .iter()
            .zip(zones)
            .flat_map(|(name, zone)| zone.keys.keys.iter().map(move |key| (name, key, zone.as_of(now))));
        let keys: Vec<_> =
            keys.map(|(name, key, as_of)| (name, key.tag().to_string(), key, key.standing(as_of).state)).collect();
        let rows = keys.iter().map(|(name, tag, key, state)| {
            let labels = [("tag", tag.as_str()), ("role", key.role.as_str()), ("state", state.as_str())];
            ([("zone", name.as_str()), labels[0], labels[1], labels[2]], 1)
        });
        sheet.gauges("gslb_key", "The state of a key of a zone, as a label", rows)
    }

    fn encode_reloads(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let reloads = &self.look.reloads;
        let hash = format!("{:016x}", self.look.live.world.hash);
        sheet.gauge("gslb_generation", "Counts what was taken into service, from 1", reloads.generation)?;
        let since = u64::try_from(reloads.since.as_second()).unwrap_or_default();
        sheet.gauge("gslb_generation_since_seconds", "When that was, in seconds since 1970", since)?;
        sheet.gauges(
            "gslb_content",
            "The hash of the content that serves, as a label",
            [([("hash", hash.as_str())], 1)],
        )?;
        let certificates = self.look.live.world.certificate.iter().map(|certificate| {
            let not_after = u64::try_from(certificate.not_after().as_second()).unwrap_or_default();
            ([], not_after)
        });
        sheet.gauges(
            "gslb_certificate_expiry_seconds",
            "When the certificate expires, in seconds since 1970",
            certificates,
        )?;
        let world = &self.look.live.world;
        let refused = world.certificate.iter().map(|_| ([], u64::from(!world.certificate_problems.is_empty())));
        let help = "Whether the files hold a certificate that cannot be used, so that the one of before is shown on";
        sheet.gauges("gslb_certificate_refused", help, refused)?;
        sheet.counter("gslb_reload_failures", "Reloads refused for mistakes in the files", reloads.failures)?;
        let is_failed = u64::from(reloads.failure.is_some());
        sheet.gauge("gslb_last_reload_failed", "Whether the last reload was refused", is_failed)?;
        sheet.gauge("gslb_uptime_seconds", "Time since the start", self.clock.now().elapsed().as_secs())
    }
}

/// One metric after the other.
struct Sheet<'a>(DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        rows.into_iter().try_for_each(|(labels, value)| ConstCounter::new(value).encode(family.encode_family(&labels)?))
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let gauge = |value| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        rows.into_iter().try_for_each(|(labels, value)| gauge(value).encode(family.encode_family(&labels)?))
    }
}

/// `rows` with labels that are borrowed.
fn as_labels<'a, const N: usize>(
    rows: &'a [([(&'static str, String); N], u64)],
) -> impl Iterator<Item = ([(&'a str, &'a str); N], u64)> {
    rows.iter().map(|(labels, value)| (labels.each_ref().map(|(name, label)| (*name, label.as_str())), *value))
}

/// The mnemonic of an rcode, or its number where the engine never sends it.
fn rcode_word(code: usize) -> &'static str {
    let known = [
        Rcode::NOERROR,
        Rcode::FORMERR,
        Rcode::SERVFAIL,
        Rcode::NXDOMAIN,
        Rcode::NOTIMP,
        Rcode::REFUSED,
        Rcode::YXDOMAIN,
        Rcode::YXRRSET,
        Rcode::NXRRSET,
        Rcode::NOTAUTH,
        Rcode::NOTZONE,
        Rcode::BADVERS,
        Rcode::BADCOOKIE,
    ];
    known.into_iter().find(|rcode| usize::from(rcode.as_u16()) == code).map_or("other", Rcode::as_str)
}
