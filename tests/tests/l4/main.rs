//! L4 load balancing with real packets: each mode on links of its own, the real program, and clients that notice everything.
//!
//! Needs root, iproute2 and nftables; says so where it is left out.

mod bed;
mod proxy;

use std::net::IpAddr;

use bed::{Bed, Mode, SERVERS};
use gslb_tests::net::{self, until};
use gslb_tests::traffic::{Protocol, Seen};
use proxy::Proxy;

/// Flows and an upload through a proxy in `mode`; nothing of it is left in the end.
fn passes(mode: Mode) {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let bed = Bed::new(mode);
    let proxy = Proxy::start(&bed);
    for is_v4 in [true, false] {
        // Rules follow checks in a moment.
        until("flows are passed on", || {
            let seen = bed.traffic(Protocol::Udp, is_v4).flows(&bed.net, 12);
            seen.failures.is_empty() && SERVERS.iter().all(|server| share(&seen, server) > 0.0)
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let seen = bed.traffic(protocol, is_v4).flows(&bed.net, FLOWS);
            let what = format!("{mode:?}, {protocol:?}, IPv4: {is_v4}");
            assert!(seen.failures.is_empty(), "{what}: {:?}\n{}", seen.failures, proxy.log());
            assert_eq!(seen.answers.len(), FLOWS, "{what}");
            assert!(
                seen.answers.iter().all(|answer| is_seen_right(&bed, answer.peer, is_v4)),
                "{what}: {:?}",
                seen.peers()
            );
            for (server, expected) in SERVERS.iter().zip([50.0, 25.0, 25.0]) {
                let share = share(&seen, server);
                assert!((share - expected).abs() <= 3.0, "{what}: {server} has {share} %, expected {expected} %");
            }
        }
        let seen = bed.traffic(Protocol::Tcp, is_v4).upload(&bed.net, UPLOAD);
        let arrived: Vec<usize> = seen.answers.iter().map(|answer| answer.octets).collect();
        assert_eq!(arrived, [UPLOAD], "{mode:?}, IPv4: {is_v4}: {:?}", seen.failures);
    }
    proxy.stop();
    let left = bed.net.command("lb", "nft").args(["list", "ruleset"]).output().expect("nft is there");
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

/// In percent.
fn share(seen: &Seen, server: &str) -> f64 {
    let count = seen.answers.iter().filter(|answer| answer.server == server).count();
    count as f64 * 100.0 / seen.answers.len().max(1) as f64
}

/// Whether servers see the client as they should in this mode.
fn is_seen_right(bed: &Bed, peer: IpAddr, is_v4: bool) -> bool {
    match bed.mode {
        Mode::OneArm => bed::is_of_pool(peer),
        _ => peer == bed.client(is_v4),
    }
}

#[test]
fn a_router_passes_flows_on_and_servers_see_their_clients() {
    passes(Mode::Router);
}

#[test]
fn a_bridge_passes_flows_on_and_servers_see_their_clients() {
    passes(Mode::Bridge);
}

#[test]
fn one_arm_passes_flows_on_from_its_own_addresses() {
    passes(Mode::OneArm);
}

#[test]
fn direct_server_return_passes_flows_on_and_servers_see_their_clients() {
    passes(Mode::Dsr);
}

#[test]
fn a_tunnel_passes_flows_on_and_servers_see_their_clients() {
    passes(Mode::Tunnel);
}

const FLOWS: usize = 1000;
const UPLOAD: usize = 100_000_000;
