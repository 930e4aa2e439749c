//! What the kernel has outlives the program, and goes with it when that is told to end.

use gslb_tests::net::{self, until};
use gslb_tests::traffic::{Flows, Protocol};

use crate::bed::{Bed, Mode, SERVERS};
use crate::proxy::Proxy;
use crate::{HELD, until_passed_on};

/// Flows that last while the program is killed, started again and upgraded, and while others remove its rules.
fn outlives(mode: Mode) {
    if net::left_out("L4 load balancing", &["nft", "bridge"]).is_some() {
        return;
    }
    let bed = Bed::new(mode);
    let before = kernel(&bed);
    let mut proxy = Proxy::start(&bed);
    until_passed_on(&bed, true, &SERVERS);
    let held = bed.traffic(Protocol::Tcp, true).hold(&bed.net, HELD);
    let stream = bed.traffic(Protocol::Tcp, true).stream(&bed.net);
    let all_stay = |when: &str, proxy: &Proxy| {
        held.until_asked_again();
        let lost = held.now().into_iter().find(|flow| flow.servers.len() != 1 || flow.failure.is_some());
        assert!(lost.is_none(), "{mode:?}: {when}: {lost:?}\n{}", proxy.log());
    };
    proxy.kill();
    all_stay("killed", &proxy);
    proxy = proxy.again(&bed);
    all_stay("started again", &proxy);
    proxy.upgrade(&bed);
    all_stay("upgraded", &proxy);
    let seen = stream.finish();
    assert!(seen.failures.is_empty() && !seen.answers.is_empty(), "{mode:?}: {:?}\n{}", seen.failures, proxy.log());

    run(&bed, "nft flush ruleset");
    until("rules are put back", || run(&bed, "nft list tables").contains("region_proxy"));
    until_passed_on(&bed, true, &SERVERS);
    drop(Flows::finish(held));

    let shown: serde_json::Value = serde_json::from_str(&proxy.show(&["--json"])).expect("JSON");
    let web = &shown["services"][0];
    let sum = |key: &str| -> u64 {
        web["servers"].as_array().into_iter().flatten().filter_map(|server| server[key].as_u64()).sum()
    };
    assert!(web["packets"].as_u64() > Some(0) && sum("packets") > 0 && sum("bytes") > 0, "{mode:?}: {shown}");
    assert!(web["flows"].as_u64() > Some(0), "{mode:?}: {shown}");
    assert!(proxy.show(&[]).contains("open"), "{mode:?}: {}", proxy.show(&[]));

    proxy.end_all(&bed);
    assert_eq!(kernel(&bed), before, "{mode:?}");
}

/// All that the program may change.
fn kernel(bed: &Bed) -> String {
    let settings = "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.send_redirects";
    let orders = ["nft list ruleset", "ip rule", "ip -6 rule", "ip -o link show type vxlan", settings];
    orders.map(|order| run(bed, order)).concat()
}

fn run(bed: &Bed, order: &str) -> String {
    let mut words = order.split(' ');
    let output = bed.net.command("lb", words.next().unwrap_or_default()).args(words).output().expect("it starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn flows_with_direct_server_return_outlive_the_program() {
    outlives(Mode::Dsr);
}

#[test]
fn flows_through_a_tunnel_outlive_the_program() {
    outlives(Mode::Tunnel);
}

#[test]
fn flows_of_one_arm_outlive_the_program() {
    outlives(Mode::OneArm);
}
