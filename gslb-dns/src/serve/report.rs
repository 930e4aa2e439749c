//! What changes say in the log: one line for each region that moved, however many services moved with it.

use std::collections::BTreeMap;

use shared::moment::Moment;
use shared::name::{OwnerName, ProxyName, RegionName};
use shared::snapshot::Verdict;
use shared::state::{Change, Changes, Doubt, Event, ProbeFailure, VipChange, VipNews};
use tracing::{error, info, warn};

use super::clock::Clock;
use crate::keys::show_time;
use crate::reload::World;

/// Changes of one region that are alike.
struct Line<'a> {
    region: &'a RegionName,
    from: Verdict,
    to: Verdict,
    share: u8,
    why: &'a str,
    since: Moment,
    services: Vec<&'a str>,
}

/// Logs `changes`.
pub(super) fn log(changes: &Changes, clock: &Clock) {
    match changes.doubt {
        Some(Doubt::Began) => {
            error!(
                "all regions are unreachable: this node doubts itself, verdicts are frozen, and it answers by them; look \
                 whether it reaches the addresses in `proxies`, and whether region-proxy runs there"
            )
        }
        Some(Doubt::Ended) => info!("a region can be reached again: this node trusts itself again, verdicts move"),
        None => {}
    }
    log_vips(&changes.vips, clock);
    for line in lines(&changes.verdicts) {
        let Line { region, from, to, share, why, since, .. } = line;
        let since = clock.wall(since);
        let services = shown(&line.services);
        match to {
            _ if from == to => info!(%region, verdict = %to, share, why, services, "share changed"),
            Verdict::Down | Verdict::Draining => {
                warn!(%region, %from, %to, why, %since, services, "failover: the region takes no new clients");
            }
            Verdict::Serving | Verdict::Ramping => {
                info!(%region, %from, %to, share, why, %since, services, "the region takes clients");
            }
            Verdict::Recovering => info!(%region, %from, %to, why, %since, services, "the region recovers"),
        }
    }
}

/// One line for all VIPs of which the same is told.
fn log_vips(changes: &[VipChange], clock: &Clock) {
    for (at, VipChange { region, news, .. }) in changes.iter().enumerate() {
        let is_alike = |other: &&VipChange| (&other.region, &other.news) == (region, news);
        if changes[..at].iter().any(|other| is_alike(&other)) {
            continue;
        }
        let vips = changes.iter().filter(is_alike).map(|change| change.vip.to_string()).collect::<Vec<_>>().join(", ");
        match news {
            VipNews::ChangedHands { from: None, to } => info!(%region, vips, holder = %to, "a proxy holds the VIP"),
            VipNews::ChangedHands { from: Some(from), to } => info!(%region, vips, %from, %to, "the VIP changed hands"),
            VipNews::TwoActives { holders, hearers } => {
                let [holders, hearers] = [holders, hearers].map(|proxies| names(proxies));
                error!(
                    %region, vips, holders, hearers,
                    "two hold the VIP at the same time: clients reach the one or the other; look whether they hear each \
                     other's advertisements"
                );
            }
            VipNews::OneActive { holder, since } => {
                let (holder, since) = (holder.as_ref().map(ProxyName::as_str), clock.wall(*since));
                info!(%region, vips, holder, %since, "no two hold the VIP any more");
            }
        }
    }
}

/// `None`: nobody.
fn names(proxies: &[ProxyName]) -> Option<String> {
    let names: Vec<&str> = proxies.iter().map(ProxyName::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Logs whose keys have run out between `before` and `world`, and whose have not any more.
pub(super) fn log_held(before: &World, world: &World) {
    for zone in &world.signed_zones {
        let known = before.signed_zones.iter().find(|known| known.apex == zone.apex).and_then(|known| known.held);
        let apex = &zone.apex;
        match (known.map(|held| held.why), zone.held.map(|held| held.why)) {
            (before, Some(why)) if before != Some(why) => error!(
                zone = %apex, %why,
                "the keys of the zone cannot sign it any more, by their times: it is signed on by those of before"
            ),
            (Some(_), None) => info!(zone = %apex, "the keys of the zone can sign it again"),
            _ => {}
        }
    }
}

/// Logs that zones were signed again.
pub(super) fn log_signed(world: &World) {
    for zone in &world.signed_zones {
        let expires = zone.earliest_expiration.map(show_time).unwrap_or_default();
        info!(zone = %zone.apex, signatures = zone.signatures.len(), expires, "signed again");
    }
}

/// Logs that a proxy was found up or down; `failure` is that of its last probe.
pub(super) fn log_proxy(region: &RegionName, proxy: &ProxyName, is_up: Option<bool>, failure: Option<&ProbeFailure>) {
    match is_up {
        Some(true) => info!(%region, %proxy, "proxy is up"),
        Some(false) => {
            let why = failure.map(ToString::to_string).unwrap_or_default();
            warn!(%region, %proxy, why, "proxy is down");
        }
        None => {}
    }
}

/// An operator's event in a few words.
pub(super) fn command_line(event: &Event) -> String {
    let scope = |region: &RegionName, service: &Option<OwnerName>| match service {
        Some(service) => format!("{region} for {service}"),
        None => region.to_string(),
    };
    match event {
        Event::Override(order) => {
            let what = scope(&order.region, &order.service);
            format!("{} {what} by {}: {}", order.action.as_str(), order.who, order.why)
        }
        Event::Clear { region, service } => format!("clear {}", scope(region, service)),
        _ => String::new(),
    }
}

fn lines(changes: &[Change]) -> Vec<Line<'_>> {
    let mut lines: BTreeMap<_, Line<'_>> = BTreeMap::new();
    for change in changes {
        let key = (&change.region, change.from.as_str(), change.to.as_str(), change.share, &*change.reason);
        let line = lines.entry(key).or_insert_with(|| Line {
            region: &change.region,
            from: change.from,
            to: change.to,
            share: change.share.percent(),
            why: &change.reason,
            since: change.previous_since,
            services: Vec::new(),
        });
        line.since = line.since.min(change.previous_since);
        line.services.push(change.service.as_str());
    }
    lines.into_values().collect()
}

/// The names of a few services, the number of many.
fn shown(services: &[&str]) -> String {
    if services.len() <= SERVICES_SHOWN { services.join(", ") } else { format!("{} services", services.len()) }
}

const SERVICES_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use shared::snapshot::Share;

    use super::*;

    fn change(service: usize, region: &str, reason: &str) -> Change {
        Change {
            service: OwnerName::parse(&format!("s{service}.example.com")).expect("a name"),
            region: RegionName::parse(region).expect("a name"),
            from: Verdict::Serving,
            to: Verdict::Down,
            share: Share::NONE,
            reason: reason.into(),
            previous_since: Moment::START,
        }
    }

    #[test]
    fn failover_of_a_region_is_one_line_however_many_services() {
        let changes: Vec<Change> =
            (0..1000).map(|service| change(service, "seoul", "0 of 2 proxies healthy")).collect();
        let lines = lines(&changes);
        assert_eq!(lines.len(), 1);
        assert_eq!(shown(&lines[0].services), "1000 services");
    }

    #[test]
    fn regions_and_reasons_have_their_own_lines() {
        let changes = [change(1, "seoul", "a"), change(2, "seoul", "b"), change(3, "virginia", "a")];
        let lines = lines(&changes);
        assert_eq!(lines.len(), 3);
        assert_eq!(shown(&lines[0].services), "s1.example.com");
    }
}
