//! Who holds the VIP while proxies come, go, hang, and become others.

use std::time::Duration;

use gslb_tests::net::{Net, seen_by, until};
use nix::sys::signal::Signal;

use crate::peers::Peer;
use crate::{VIP, alone, beside_others, in_each, pair, pair_net, until_held, vip, web};

#[test]
fn a_hundred_takeovers_leave_one_holder_each_time() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b"]);
    let better = format!("{}track = {{ drain = 100 }}\n", web(250, "30ms"));
    let (mut a, b) = pair(&net, &better, &web(200, "30ms"));
    let watch = net.watch(vip());
    let until_holder = |holder| until_held(&net, vip(), &[holder]);
    // Half of them are back to the better one.
    for turn in 0..50 {
        a = if turn % 3 == 0 {
            a.ask(&net, "POST /drain").expect("it answers");
            until_holder("b");
            a.ask(&net, "POST /undrain").expect("it answers");
            a
        } else {
            a.end(if turn % 3 == 1 { Signal::SIGTERM } else { Signal::SIGKILL });
            until_holder("b");
            Peer::proxy(&net, "a", &better)
        };
        until_holder("a");
    }
    let doubled = watch.finish();
    println!("a hundred takeovers: the VIP was on both for {doubled:?} at most");
    assert!(doubled < Duration::from_secs(1), "{doubled:?}");
    assert_eq!(b.router(&net).expect("a status")["state"], "backup");
    assert_eq!(a.router(&net).expect("a status")["hears_other_active"], false);
}

#[test]
fn a_killed_proxy_leaves_no_vip_behind() {
    let Some(_turn) = alone() else { return };
    let ways =
        [Signal::SIGKILL, Signal::SIGSTOP].into_iter().flat_map(|signal| ["200ms", "30ms"].map(|span| (signal, span)));
    in_each(ways, |(signal, interval)| {
        let net = pair_net();
        let (a, b) = pair(&net, &web(250, interval), &web(220, interval));
        let watch = net.watch(vip());
        let mut gone = Duration::MAX;
        let seen = seen_by([net.probe("client", vip()), net.requests("client", vip())], || {
            a.signal(signal);
            gone = until("the watchdog took the VIP off", || !net.holders(VIP).contains(&"a"));
            b.until_state(&net, "active");
        });
        let doubled = watch.finish();
        let gaps = seen.each_ref().map(|seen| seen.gap());
        println!("{signal} at {interval}: off after {gone:?}, on both for {doubled:?}, clients waited {gaps:?}");
        assert!([gone, doubled, gaps[0], gaps[1]].iter().all(|span| *span < Duration::from_secs(1)));
        assert_eq!((net.holders(VIP), seen.map(|seen| seen.last)), (vec!["b"], ["b", "b"].map(str::to_owned)));
        if signal == Signal::SIGSTOP {
            a.signal(Signal::SIGCONT);
            until("a has the VIP again, alone", || net.holders(VIP) == ["a"]);
        }
    });
}

#[test]
fn an_upgrade_does_not_move_the_vip() {
    let Some(_turn) = beside_others() else { return };
    let net = pair_net();
    let (a, b) = pair(&net, &web(250, "200ms"), &web(220, "200ms"));
    let seen = net.seen(vip(), || {
        a.signal(Signal::SIGUSR2);
        until("the new process goes on", || a.log().matches("vrrp: active").count() == 2);
        std::thread::sleep(Duration::from_millis(800));
    });
    println!("upgraded: gap {:?}", seen.gap());
    assert!(seen.last == "a" && seen.gap() < Duration::from_millis(200), "{:?}\n{}", seen.gap(), a.log());
    assert_eq!(b.metric(&net, "region_proxy_vrrp_takeovers_total"), 0, "{}\n{}", a.log(), b.log());
    assert_eq!(net.holders(VIP), ["a"]);
}

#[test]
fn an_upgrade_to_other_settings_leaves_no_vip_without_an_owner() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a"]);
    let other = web(250, "200ms").replace(VIP, "192.0.2.11");
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    a.upgrade_to(&other);
    until("only the new VIP is there", || net.holders("192.0.2.11") == ["a"] && net.holders(VIP).is_empty());
}

#[test]
fn an_upgrade_that_cannot_hold_the_vip_takes_it_off() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a"]);
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    a.upgrade_to(&format!("{}track = {{ interfaces = {{ eth9 = \"let_go\" }} }}\n", web(250, "200ms")));
    until("the VIP is off", || net.holders(VIP).is_empty());
    a.until_state(&net, "initialize");
}

#[test]
fn a_vip_that_was_left_is_cleaned_at_the_next_start() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b"]);
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    net.ip("b", "addr add 192.0.2.10/32 dev eth0");
    let b = Peer::proxy(&net, "b", &web(220, "200ms"));
    b.until_state(&net, "backup");
    assert_eq!(net.holders(VIP), ["a"]);
    // Whoever takes it off the holder's interface does not keep it from its clients.
    net.ip("a", "addr del 192.0.2.10/32 dev eth0");
    until("it is put back", || net.holders(VIP) == ["a"]);
}

#[test]
fn a_second_process_waits_for_the_end_of_the_first_and_has_nothing_to_do() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a"]);
    let first = Peer::proxy(&net, "a", &web(250, "100ms"));
    first.until_state(&net, "active");
    let second = Peer::second(&net, "a", &web(250, "100ms"));
    until("it waits", || second.log().contains("waiting for its end"));
    // Interfaces that change are no reason to look without a pause.
    net.ip("a", "addr add 192.0.2.77/32 dev eth0");
    let before = second.busy();
    std::thread::sleep(Duration::from_millis(500));
    assert!(second.busy() - before <= Duration::from_millis(100), "{:?}", second.busy() - before);
    assert!(!second.log().contains("vrrp: active"), "{}", second.log());
    first.end(Signal::SIGKILL);
    until("it goes on", || second.log().contains("vrrp: active"));
    until_held(&net, vip(), &["a"]);
    second.stop();
    assert_eq!(net.holders(VIP), [""; 0]);
}

#[test]
fn a_cable_that_is_pulled_and_a_failing_service_make_room() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b"]);
    // The only server is down: its loss makes 150 of 250.
    let track = "track = { services = { \"www.example.com\" = { loss = 100 } } }\n";
    let a = Peer::proxy(&net, "a", &format!("{}{track}", web(250, "100ms")));
    a.until_state(&net, "active");
    let b = Peer::proxy(&net, "b", &web(200, "100ms"));
    b.until_state(&net, "active");
    until("a let go", || net.holders(VIP) == ["b"]);
    net.ip("b", "link set eth0 down");
    b.until_state(&net, "initialize");
    a.until_state(&net, "active");
    assert_eq!(b.router(&net).expect("a status")["holds_vips"], false);
    net.ip("b", "link set eth0 up");
    b.until_state(&net, "active");
    until("there is one holder", || net.holders(VIP) == ["b"]);
}
