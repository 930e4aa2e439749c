//! L4 load balancing with real packets: each mode on links of its own, the real program, and clients that notice everything.
//!
//! Needs root, iproute2 and nftables; says so where it is left out.

mod bed;
mod doctor;
mod life;
mod proxy;

use std::net::IpAddr;
use std::time::Duration;

use bed::{Bed, Mode, SERVERS};
use gslb_tests::net::{self, until};
use gslb_tests::traffic::{Flows, Protocol};
use proxy::Proxy;

/// Flows and an upload through a proxy in `mode`; nothing of it is left in the end.
fn passes(mode: Mode) {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let bed = Bed::new(mode);
    let proxy = Proxy::start(&bed);
    for is_v4 in [true, false] {
        until_passed_on(&bed, is_v4, &SERVERS);
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
                let share = seen.share(server);
                assert!((share - expected).abs() <= 3.0, "{what}: {server} has {share} %, expected {expected} %");
            }
        }
        let seen = bed.traffic(Protocol::Tcp, is_v4).upload(&bed.net, UPLOAD);
        let arrived: Vec<usize> = seen.answers.iter().map(|answer| answer.octets).collect();
        assert_eq!(arrived, [UPLOAD], "{mode:?}, IPv4: {is_v4}: {:?}", seen.failures);
    }
    let shown: serde_json::Value = serde_json::from_str(&proxy.show(&["--json"])).expect("JSON");
    let web = &shown["services"][0];
    let servers = web["servers"].as_array().into_iter().flatten();
    let passed: u64 = servers.filter_map(|server| server["bytes"].as_u64()).sum();
    assert!(passed > 2 * UPLOAD as u64 && web["bytes"].as_u64() >= Some(passed), "{mode:?}: {shown}");
    proxy.stop();
    let left = bed.net.command("lb", "nft").args(["list", "ruleset"]).output().expect("nft is there");
    assert!(left.stdout.is_empty(), "{}", String::from_utf8_lossy(&left.stdout));
}

/// Flows of one family that last while servers are drained and die, and rules change.
fn lasts(mode: Mode, is_v4: bool) {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let mut bed = Bed::new(mode);
    let proxy = Proxy::start(&bed);
    until_passed_on(&bed, is_v4, &SERVERS);
    let held = [Protocol::Tcp, Protocol::Udp].map(|protocol| bed.traffic(protocol, is_v4).hold(&bed.net, HELD));
    let all_stay = |when: &str| {
        for flows in &held {
            let now = flows.now();
            let other = now.iter().find(|flow| flow.servers.len() != 1 || flow.failure.is_some() || flow.losses > 0);
            assert!(other.is_none(), "{mode:?}: {when}: {other:?}\n{}", proxy.log());
        }
    };

    // Each change is one transaction, whoever makes it: nobody notices, neither old flows nor new ones.
    let new = bed.traffic(Protocol::Tcp, is_v4).stream(&bed.net);
    for turn in 0..CHANGES {
        match turn % 4 {
            0 | 2 => proxy.tell(&["weight", ["3", "1"][turn / 2 % 2]], &Proxy::server_on(&bed, "s2", is_v4)),
            by_file => proxy.reload(&bed, by_file == 1),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let seen = new.finish();
    let failed = seen.failures.len();
    let some = &seen.failures[..failed.min(5)];
    assert!(failed == 0, "{mode:?}: {failed} of {}: {some:?}\n{}", failed + seen.answers.len(), proxy.log());
    held.iter().for_each(Flows::until_asked_again);
    all_stay("rules changed");

    proxy.tell(&["drain"], &Proxy::server_on(&bed, "s1", is_v4));
    until_passed_on(&bed, is_v4, &SERVERS[1..]);
    held.iter().for_each(Flows::until_asked_again);
    all_stay("a server drains");
    assert!(held.iter().all(|flows| flows.servers().contains_key("s1")), "{mode:?}: its flows are there");

    bed.kill("s3");
    until_passed_on(&bed, is_v4, &SERVERS[1..2]);
    for flows in held.map(Flows::finish) {
        let moved = flows.iter().filter(|flow| flow.servers[0] != "s3").find(|flow| flow.servers.len() != 1);
        assert!(moved.is_none(), "{mode:?}: flows of others stay: {moved:?}");
    }
}

/// Waits until new flows come to these servers, each of them, and to no other.
fn until_passed_on(bed: &Bed, is_v4: bool, servers: &[&str]) {
    until(&format!("flows come to {servers:?}"), || {
        let traffic = |protocol| bed.traffic(protocol, is_v4).flows(&bed.net, 24);
        [Protocol::Tcp, Protocol::Udp].map(traffic).iter().all(|seen| {
            seen.failures.is_empty()
                && SERVERS.iter().all(|server| servers.contains(server) == (seen.share(server) > 0.0))
        })
    });
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

#[test]
fn flows_through_a_router_last() {
    lasts(Mode::Router, true);
}

#[test]
fn flows_through_a_router_last_over_ipv6() {
    lasts(Mode::Router, false);
}

#[test]
fn flows_across_a_bridge_last() {
    lasts(Mode::Bridge, true);
}

#[test]
fn flows_across_a_bridge_last_over_ipv6() {
    lasts(Mode::Bridge, false);
}

#[test]
fn flows_of_one_arm_last() {
    lasts(Mode::OneArm, true);
}

#[test]
fn flows_of_one_arm_last_over_ipv6() {
    lasts(Mode::OneArm, false);
}

#[test]
fn flows_with_direct_server_return_last() {
    lasts(Mode::Dsr, true);
}

#[test]
fn flows_with_direct_server_return_last_over_ipv6() {
    lasts(Mode::Dsr, false);
}

#[test]
fn flows_through_a_tunnel_last() {
    lasts(Mode::Tunnel, true);
}

#[test]
fn flows_through_a_tunnel_last_over_ipv6() {
    lasts(Mode::Tunnel, false);
}

/// Flows that last, of each protocol.
const HELD: usize = 40;
/// So often the rules change.
const CHANGES: usize = 20;
const FLOWS: usize = 1000;
const UPLOAD: usize = 100_000_000;
