//! The JSON of `/status`: everything as it stands.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use shared::name::RegionName;
use shared::snapshot::{View, VipStanding};
use shared::state::ProxyFacts;
use shared::topology::{Region, ServiceId};

use super::ZoneBooks;
use crate::explain::alarms;
use crate::journal::Extent;
use crate::keys::{next_text, show_time};
use crate::reload::unix_secs;
use crate::serve::{Clock, Look, NotifyEntry};
use crate::wire::Name;

/// The page. Keys are stable; readers ignore those they do not know.
pub(super) fn page(look: &Look, books: &ZoneBooks, clock: Clock, config: &Path) -> Value {
    let view = look.live.snapshot.view();
    let failure = look.reloads.failure.as_ref().map(|(at, problems)| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        json!({ "at": at.to_string(), "problems": problems })
    });
    let files: Vec<String> = look.live.world.files().paths().map(|path| path.display().to_string()).collect();
    let zones: Vec<Value> = look
        .live
        .world
        .zones
        .zones()
        .map(|(name, serial)| {
            let (dnssec, name) = (dnssec(look, name), name.to_string());
            let secondaries = secondaries(&name, serial, &books.secondaries);
            let journal = books.journals.iter().find(|(zone, _)| *zone == name);
            let journal = journal.map(|(_, Extent { octets, entries })| json!({ "bytes": octets, "entries": entries }));
            json!({ "name": name, "serial": serial, "dnssec": dnssec, "secondaries": secondaries, "journal": journal })
        })
        .collect();
    let certificate = look.live.world.certificate.as_ref().map(|certificate| {
        json!({
            "file": certificate.file().display().to_string(),
            "not_after": certificate.not_after().to_string(),
            "problems": look.live.world.certificate_problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let doubts_since = view.doubts_itself_since.map(|since| clock.wall(since).to_string());
    json!({
        // The first in order, as it is in what matters.
        "alarm": alarm(view, clock),
        "version": env!("CARGO_PKG_VERSION"),
        "now": clock.wall(clock.now()).to_string(),
        "started": clock.wall(shared::moment::Moment::START).to_string(),
        "settings": config.display().to_string(),
        "generation": look.reloads.generation,
        "generation_since": look.reloads.since.to_string(),
        "content_hash": format!("{:016x}", look.live.world.hash),
        "files": files,
        "reload_failures": look.reloads.failures,
        "last_reload_failure": failure,
        "doubts_itself_since": doubts_since,
        "certificate": certificate,
        "zones": zones,
        "regions": regions(look, clock),
        "services": services(look, clock),
        "overrides": overrides(look, clock),
    })
}

/// What an operator must know before all else; null: nothing.
fn alarm(view: &View, clock: Clock) -> Option<String> {
    let shown = alarms(view).into_iter().map(|(since, what)| format!("since {}: {what}", clock.wall(since)));
    shown.reduce(|all, next| format!("{all}; {next}"))
}

/// Who was told that the zone `name` has `serial`.
fn secondaries(name: &str, serial: u32, standings: &[NotifyEntry]) -> Vec<Value> {
    let of_zone = standings.iter().filter(|((zone, _), _)| zone == name);
    let shown = of_zone.map(|((_, address), standing)| {
        json!({
            "address": address.to_string(),
            "is_told": standing.acknowledged == Some(serial),
            "notified_serial": standing.notified,
            "acknowledged_serial": standing.acknowledged,
            "acknowledged": standing.acknowledged_at.map(|at| at.to_string()),
            "failures": standing.failures,
            "failure": standing.failure,
        })
    });
    shown.collect()
}

/// How the zone `name` is signed; null: it is not.
fn dnssec(look: &Look, name: &Name) -> Option<Value> {
    let zone = look.live.world.signed_zones.iter().find(|zone| zone.apex == *name)?;
    let (keys, now) = (&zone.keys.keys, unix_secs());
    let shown = keys.iter().map(|key| {
        let standing = key.standing(zone.as_of(now));
        json!({
            "tag": key.tag(),
            "algorithm": key.key.public().algorithm().number(),
            "role": key.role.as_str(),
            "state": standing.state.as_str(),
            "is_published": standing.is_published,
            "is_signing": standing.duty.is_some(),
            "is_ds_asked_for": standing.is_synced,
        })
    });
    Some(json!({
        // The first in order, as it is in what matters.
        "alarm": zone.held.map(|held| format!("{}, by the times of its keys: it is signed on by those of before", held.why)),
        "signatures": zone.signatures.len(),
        "earliest_expiration": zone.earliest_expiration.map(show_time),
        "signed_again_at": zone.due().map(show_time),
        "keys": shown.collect::<Vec<_>>(),
        "next": next_text(keys, name.to_string().trim_end_matches('.'), now),
    }))
}

fn regions(look: &Look, clock: Clock) -> Value {
    let find = |name: &RegionName| {
        let topology = look.state.topology();
        topology.find_region(name).map(|id| topology.region(id))
    };
    let view = look.live.snapshot.view();
    let is_frozen = view.doubts_itself_since.is_some();
    let holders = |name, clock| -> Vec<Value> {
        let id = view.topology.find_region(name);
        id.map_or(&[][..], |id| view.vips(id)).iter().map(|standing| holder(standing, clock)).collect()
    };
    let shown = look.state.proxies().map(|(name, proxies)| {
        let urls = |facts: &ProxyFacts| find(name).and_then(|region| status_url(region, facts));
        let proxies: Vec<Value> = proxies.iter().map(|facts| proxy(facts, urls(facts), is_frozen, clock)).collect();
        json!({
            "name": name,
            "vips": find(name).map(|region| region.vips.clone()),
            "vip_holders": holders(name, clock),
            "is_deciding": look.state.is_deciding(name),
            "proxies": proxies,
        })
    });
    shown.collect()
}

/// Who holds a VIP. Where proxies do so in turn it is `holder`, else all of `holders`.
fn holder(standing: &VipStanding, clock: Clock) -> Value {
    let taken = standing.last_takeover.and_then(|secs| Timestamp::from_second(i64::try_from(secs).ok()?).ok());
    let two_actives = standing.two_actives.as_ref().map(|alarm| {
        json!({ "since": clock.wall(alarm.since).to_string(), "holders": alarm.holders, "hearers": alarm.hearers })
    });
    json!({
        "vip": standing.vip,
        "is_in_turn": standing.is_in_turn,
        "holder": standing.holder(),
        "holders": standing.holders,
        "last_takeover": taken.map(|at| at.to_string()),
        "changed_hands": standing.changed_hands.map(|at| clock.wall(at).to_string()),
        "two_actives": two_actives,
    })
}

fn status_url<'a>(region: &'a Region, facts: &ProxyFacts) -> Option<&'a str> {
    region.proxies.iter().find(|proxy| proxy.name == facts.proxy).map(|proxy| proxy.status_url.as_str())
}

fn proxy(facts: &ProxyFacts, status_url: Option<&str>, is_frozen: bool, clock: Clock) -> Value {
    let wall = |moment| clock.wall(moment).to_string();
    json!({
        "name": facts.proxy,
        "status_url": status_url,
        "is_up": facts.health.is_up(),
        // Then no verdict follows from it: that it is not reached may be this node's own fault.
        "is_frozen": is_frozen,
        "failure": facts.failure.as_ref().map(ToString::to_string),
        "failing_since": facts.failing_since.map(wall),
        "probed": facts.probed.map(wall),
        "status": facts.status,
    })
}

fn services(look: &Look, clock: Clock) -> Value {
    let view = look.live.snapshot.view();
    let topology = &view.topology;
    let shown = (0..).map(ServiceId).zip(&topology.services).map(|(id, service)| {
        let steering = topology.steering(service);
        let standing = |member| {
            let standing = view.service(id).standing(member);
            json!({
                "region": topology.member_name(service, member),
                "verdict": standing.verdict,
                "share_percent": standing.share.percent(),
                "is_taken_out": standing.is_taken_out,
                "reason": &*standing.reason,
                "since": clock.wall(standing.since).to_string(),
            })
        };
        let is_degraded = view.service(id).is_degraded();
        json!({
            "name": service.name,
            "policy": steering.policy.as_str(),
            "ttl": if is_degraded { service.ttl_degraded } else { service.ttl },
            "is_degraded": is_degraded,
            "regions": steering.member_ids().map(standing).collect::<Vec<_>>(),
        })
    });
    shown.collect()
}

fn overrides(look: &Look, clock: Clock) -> Value {
    let shown = look.state.overrides().iter().map(|order| {
        json!({
            "region": order.region,
            "service": order.service,
            "action": order.action,
            "who": order.who,
            "why": order.why,
            "expires": clock.wall(order.expires).to_string(),
        })
    });
    shown.collect()
}
