//! With keepalived as the other router.

use std::time::Duration;

use gslb_tests::net::until;

use crate::peers::Peer;
use crate::{VIP, beside_others, pair_net, vip, web};

/// What keepalived is told for the same.
fn keepalived(priority: u8, more: &str) -> String {
    format!("priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n {VIP}/32\n }}\n{more}")
}

#[test]
fn keepalived_and_a_proxy_hand_a_vip_over_both_ways() {
    let Some(_turn) = beside_others() else { return };
    let net = pair_net();
    // The only form that keepalived of Debian 12 takes.
    let ours = |priority| format!("{}checksum = \"pseudo_header\"\n", web(priority, "200ms"));
    let b = Peer::keepalived(&net, "b", &keepalived(150, ""));
    until("keepalived is active", || net.holders(VIP) == ["b"]);
    // Ours preempts, and stays while keepalived hears it.
    let a = Peer::proxy(&net, "a", &ours(200));
    a.until_state(&net, "active");
    until("keepalived let go", || net.holders(VIP) == ["a"]);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(net.holders(VIP), ["a"], "{}", b.log());
    // Ours leaves by priority 0: keepalived does not wait for its silence.
    let probe = net.probe("client", vip());
    std::thread::sleep(Duration::from_millis(100));
    a.stop();
    until("keepalived took over", || net.holders(VIP) == ["b"]);
    std::thread::sleep(Duration::from_millis(50));
    let seen = probe.finish();
    println!("keepalived follows a proxy: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(250), "{:?}", seen.gap());
    // Without preemption keepalived waits until ours dies; ours, cut off, yields when it hears that one's higher priority.
    let a = Peer::proxy(&net, "a", &ours(200));
    a.until_state(&net, "active");
    until("keepalived let go", || net.holders(VIP) == ["a"]);
    let probe = net.probe("client", vip());
    std::thread::sleep(Duration::from_millis(100));
    net.cut("a");
    until("keepalived took over", || net.holders(VIP) == ["a", "b"]);
    std::thread::sleep(Duration::from_millis(50));
    println!("keepalived misses a proxy: gap {:?}", probe.finish().gap());
    net.mend("a");
    until("keepalived let go", || net.holders(VIP) == ["a"]);
}

#[test]
fn a_proxy_is_backup_to_a_better_keepalived() {
    let Some(_turn) = beside_others() else { return };
    let net = pair_net();
    let b = Peer::keepalived(&net, "b", &keepalived(150, ""));
    until("keepalived is active", || net.holders(VIP) == ["b"]);
    // What keepalived sends has the form with the pseudo-header: both are heard, whatever is sent.
    let a = Peer::proxy(&net, "a", &web(100, "200ms"));
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(net.holders(VIP), ["b"], "{}", a.log());
    assert_eq!(a.router(&net).expect("a status")["holder"], "192.0.2.3");
    let probe = net.probe("client", vip());
    std::thread::sleep(Duration::from_millis(100));
    b.stop();
    a.until_state(&net, "active");
    std::thread::sleep(Duration::from_millis(50));
    let seen = probe.finish();
    println!("a proxy of priority 100 follows keepalived: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(200), "{:?}", seen.gap());
    // keepalived preempts.
    let b = Peer::keepalived(&net, "b", &keepalived(150, ""));
    a.until_state(&net, "backup");
    until("there is one holder", || net.holders(VIP) == ["b"]);
    let probe = net.probe("client", vip());
    std::thread::sleep(Duration::from_millis(100));
    net.cut("b");
    a.until_state(&net, "active");
    std::thread::sleep(Duration::from_millis(50));
    let seen = probe.finish();
    println!("a proxy of priority 100 misses keepalived: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(800), "{:?}", seen.gap());
    net.mend("b");
    until("there is one holder", || net.holders(VIP) == ["b"]);
    drop(b);
}
