//! VRRP with real sockets: pairs of region-proxies, and of one with keepalived, on links of their own.
//!
//! Needs root, iproute2 and keepalived; says so where it is left out.

mod net;
mod peers;

use std::net::IpAddr;
use std::time::Duration;

use net::{Net, left_out, until};
use nix::sys::signal::Signal;
use peers::Peer;

const VIP: &str = "192.0.2.10";

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// What a proxy is told, with this priority and interval.
fn web(priority: u8, interval: &str) -> String {
    format!("priority = {priority}\ninterval = \"{interval}\"\nvips = [\"{VIP}\"]\n")
}

fn pair_net() -> Net {
    let net = Net::new(&["a", "b", "client"]);
    net.echo("a");
    net.echo("b");
    net
}

#[test]
fn a_pair_hands_its_vip_over_and_back() {
    if left_out().is_some() {
        return;
    }
    for (interval, limit_ms, dead_ms) in [("200ms", 60, 650), ("30ms", 60, 110)] {
        let net = pair_net();
        let a = Peer::proxy(&net, "a", &web(250, interval));
        a.until_state(&net, "active");
        let b = Peer::proxy(&net, "b", &web(220, interval));
        b.until_state(&net, "backup");
        assert_eq!(net.holders(VIP), ["a"]);

        let probe = net.probe("client", vip());
        std::thread::sleep(Duration::from_millis(100));
        a.stop();
        until("b holds the VIP", || net.holders(VIP) == ["b"]);
        std::thread::sleep(Duration::from_millis(100));
        let seen = probe.finish();
        println!("{interval}: stopped in order: gap {:?}", seen.gap());
        assert!(seen.gap() <= Duration::from_millis(limit_ms), "{:?}", seen.gap());
        assert_eq!(seen.last, "b");

        let probe = net.probe("client", vip());
        let a = Peer::proxy(&net, "a", &web(250, interval));
        a.until_state(&net, "active");
        until("b let go", || net.holders(VIP) == ["a"]);
        std::thread::sleep(Duration::from_millis(100));
        let seen = probe.finish();
        println!("{interval}: taken back: gap {:?}", seen.gap());
        assert!(seen.gap() <= Duration::from_millis(limit_ms), "{:?}", seen.gap());
        assert_eq!(seen.last, "a");

        let probe = net.probe("client", vip());
        std::thread::sleep(Duration::from_millis(137));
        net.cut("a");
        b.until_state(&net, "active");
        std::thread::sleep(Duration::from_millis(100));
        let seen = probe.finish();
        println!("{interval}: dead host: gap {:?}", seen.gap());
        assert!(seen.gap() <= Duration::from_millis(dead_ms), "{:?}", seen.gap());
        assert_eq!((seen.last.as_str(), net.holders(VIP)), ("b", vec!["a", "b"]));

        // The split heals: the better one stays, and clients find it.
        let probe = net.probe("client", vip());
        net.mend("a");
        b.until_state(&net, "backup");
        until("b let go", || net.holders(VIP) == ["a"]);
        std::thread::sleep(Duration::from_millis(200));
        let seen = probe.finish();
        println!("{interval}: healed: gap {:?}", seen.gap());
        assert_eq!(seen.last, "a", "{}\n{}", a.log(), b.log());
        assert!(seen.gap() <= Duration::from_millis(limit_ms), "{:?}", seen.gap());
    }
}

#[test]
fn a_killed_proxy_leaves_no_vip_behind() {
    if left_out().is_some() {
        return;
    }
    let net = pair_net();
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    let b = Peer::proxy(&net, "b", &web(220, "200ms"));
    b.until_state(&net, "backup");
    a.signal(Signal::SIGKILL);
    let gone = until("the watchdog took the VIP off", || !net.holders(VIP).contains(&"a"));
    println!("killed: the VIP was off after {gone:?}");
    assert!(gone < Duration::from_secs(1), "{gone:?}");
    b.until_state(&net, "active");

    // One that hangs loses it too, and is not heard of when it wakes until it has the better right again.
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    until("b let go", || net.holders(VIP) == ["a"]);
    a.signal(Signal::SIGSTOP);
    let gone = until("the watchdog took the VIP off", || !net.holders(VIP).contains(&"a"));
    println!("hangs: the VIP was off after {gone:?}");
    assert!(gone < Duration::from_secs(1), "{gone:?}");
    b.until_state(&net, "active");
    a.signal(Signal::SIGCONT);
    until("a has the VIP again, alone", || net.holders(VIP) == ["a"]);
}

#[test]
fn a_vip_that_was_left_is_cleaned_at_the_next_start() {
    if left_out().is_some() {
        return;
    }
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
fn twenty_takeovers_in_a_row_leave_one_holder_each_time() {
    if left_out().is_some() {
        return;
    }
    let net = Net::new(&["a", "b"]);
    let a = Peer::proxy(&net, "a", &format!("{}track = {{ drain = 100 }}\n", web(250, "30ms")));
    a.until_state(&net, "active");
    let b = Peer::proxy(&net, "b", &web(200, "30ms"));
    b.until_state(&net, "backup");
    for turn in 0..20 {
        let (request, holder) = if turn % 2 == 0 { ("POST /drain", "b") } else { ("POST /undrain", "a") };
        a.ask(&net, request).expect("it answers");
        until("there is one holder", || net.holders(VIP) == [holder]);
    }
    assert_eq!(
        (a.metric(&net, "region_proxy_vrrp_takeovers_total"), b.metric(&net, "region_proxy_vrrp_takeovers_total")),
        (11, 10)
    );
    assert_eq!(a.router(&net).expect("a status")["hears_other_active"], false);
}

#[test]
fn a_cable_that_is_pulled_and_a_failing_service_make_room() {
    if left_out().is_some() {
        return;
    }
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
