//! What clients miss of a pair of proxies.

use std::time::Duration;

use gslb_tests::net::seen_by;
use region_proxy::config::VipMac;

use crate::peers::Peer;
use crate::way::{Family, Way};
use crate::{alone, in_each, pair, pair_net, until_held};

/// What clients of a pair miss by UDP and by TCP, in turn: a stop in order, the return, a dead host, the end of a split.
fn gaps(way: Way, interval: &str) -> [[Duration; 2]; 4] {
    let net = pair_net();
    let vip = way.vip();
    let (better, worse) = (way.proxy("a", 250, interval), way.proxy("b", 220, interval));
    let (a, b) = pair(&net, &better, &worse);
    let probes = || [net.probe("client", vip), net.requests("client", vip)];

    let stopped = seen_by(probes(), || {
        a.stop();
        until_held(&net, vip, &["b"]);
        assert!(!net.ip("a", "link show").contains("vrrp"), "nothing is left of it");
    });
    let mut a = None;
    let returned = seen_by(probes(), || {
        a = Some(Peer::proxy(&net, "a", &better));
        until_held(&net, vip, &["a"]);
    });
    let dead = seen_by(probes(), || {
        net.cut("a");
        until_held(&net, vip, &["a", "b"]);
    });
    let healed = seen_by(probes(), || {
        net.mend("a");
        until_held(&net, vip, &["a"]);
        b.until_state(&net, "backup");
    });
    let phases = [stopped, returned, dead, healed];
    let last = phases.each_ref().map(|seen| seen.each_ref().map(|seen| seen.last.as_str()));
    assert_eq!(last, [["b"; 2], ["a"; 2], ["b"; 2], ["a"; 2]], "clients find who holds the VIP");
    let neighbour = net.ip("client", &format!("neigh show {vip}"));
    assert_eq!(neighbour.contains(way.virtual_mac()), way.mac == VipMac::Virtual, "{neighbour}");
    phases.map(|seen| seen.map(|seen| seen.gap()))
}

/// Clients miss no more than this of a stop in order and of a dead host, with adverts at this interval.
fn expect_gaps(interval: &str, in_order: u64, dead: u64) {
    let Some(_turn) = alone() else { return };
    let limits = [in_order, in_order, dead, in_order].map(Duration::from_millis);
    let ways = [Way::plain(Family::V4), Way::plain(Family::V6), Way { mac: VipMac::Virtual, ..Way::plain(Family::V4) }];
    in_each(ways, |way| {
        // A machine that has other work at the moment says nothing of the program.
        let is_in_time = (0..3).any(|_| {
            let gaps = gaps(way, interval);
            println!("{interval}, {:?}, {:?} MAC: stopped, returned, dead, healed: {gaps:?}", way.family, way.mac);
            gaps.iter().zip(limits).all(|(gaps, limit)| gaps.iter().all(|gap| *gap <= limit))
        });
        assert!(is_in_time, "{interval}, {way:?}: expected at most {limits:?}");
    });
}

#[test]
fn with_adverts_every_200_ms_clients_miss_60_ms_of_a_stop_and_650_ms_of_a_dead_host() {
    expect_gaps("200ms", 60, 650);
}

#[test]
fn with_adverts_every_30_ms_clients_miss_60_ms_of_a_stop_and_110_ms_of_a_dead_host() {
    expect_gaps("30ms", 60, 110);
}
