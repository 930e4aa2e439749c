//! VRRP with real sockets: pairs of region-proxies, and of one with keepalived, on links of their own.
//!
//! Needs root, iproute2 and keepalived; says so where it is left out.

mod peers;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gslb_tests::net::{self, Net, until};
use nix::sys::signal::Signal;
use peers::Peer;
use socket2::{Domain, Protocol, Socket, Type};

const VIP: &str = "192.0.2.10";

fn vip() -> IpAddr {
    VIP.parse().expect("an address")
}

/// What a proxy is told, with this priority and interval.
fn web(priority: u8, interval: &str) -> String {
    format!("priority = {priority}\ninterval = \"{interval}\"\nvips = [\"{VIP}\"]\n")
}

fn is_left_out() -> bool {
    net::left_out("virtual routers", &["keepalived"]).is_some()
}

fn pair_net() -> Net {
    let net = Net::new(&["a", "b", "client"]);
    net.echo("a");
    net.echo("b");
    net
}

/// Proxies on hosts a and b, told this, of which the first is active and the other its backup.
fn pair(net: &Net, a: &str, b: &str) -> (Peer, Peer) {
    let a = Peer::proxy(net, "a", a);
    a.until_state(net, "active");
    let b = Peer::proxy(net, "b", b);
    b.until_state(net, "backup");
    (a, b)
}

/// What clients of a pair miss, in turn: a stop in order, the return, a dead host, the end of a split.
fn gaps(interval: &str) -> [Duration; 4] {
    let net = pair_net();
    let (a, b) = pair(&net, &web(250, interval), &web(220, interval));
    assert_eq!(net.holders(VIP), ["a"]);

    let stopped = net.seen(vip(), || {
        a.stop();
        until("b holds the VIP", || net.holders(VIP) == ["b"]);
    });
    let mut a = None;
    let returned = net.seen(vip(), || {
        a = Some(Peer::proxy(&net, "a", &web(250, interval)));
        until("a holds the VIP, alone", || net.holders(VIP) == ["a"]);
    });
    let dead = net.seen(vip(), || {
        net.cut("a");
        b.until_state(&net, "active");
    });
    assert_eq!(net.holders(VIP), ["a", "b"]);
    let healed = net.seen(vip(), || {
        net.mend("a");
        b.until_state(&net, "backup");
        until("b let go", || net.holders(VIP) == ["a"]);
    });
    let last = [&stopped, &returned, &dead, &healed].map(|seen| seen.last.as_str());
    assert_eq!(last, ["b", "a", "b", "a"], "clients find who holds the VIP");
    [stopped, returned, dead, healed].map(|seen| seen.gap())
}

#[test]
fn a_pair_hands_its_vip_over_and_back_in_time() {
    if is_left_out() {
        return;
    }
    for (interval, in_order, dead) in [("200ms", 60, 650), ("30ms", 60, 110)] {
        let limits = [in_order, in_order, dead, in_order].map(Duration::from_millis);
        // A machine that has other work at the moment says nothing of the program.
        let is_in_time = (0..3).any(|_| {
            let gaps = gaps(interval);
            println!("{interval}: stopped, returned, dead, healed: {gaps:?}");
            gaps.iter().zip(limits).all(|(gap, limit)| *gap <= limit)
        });
        assert!(is_in_time, "{interval}: expected at most {limits:?}");
    }
}

#[test]
fn an_upgrade_does_not_move_the_vip() {
    if is_left_out() {
        return;
    }
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
    if is_left_out() {
        return;
    }
    let net = Net::new(&["a"]);
    let other = web(250, "200ms").replace(VIP, "192.0.2.11");
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    a.upgrade_to(&other);
    until("only the new VIP is there", || net.holders("192.0.2.11") == ["a"] && net.holders(VIP).is_empty());
}

#[test]
fn an_upgrade_that_cannot_hold_the_vip_takes_it_off() {
    if is_left_out() {
        return;
    }
    let net = Net::new(&["a"]);
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    a.upgrade_to(&format!("{}track = {{ interfaces = {{ eth9 = \"let_go\" }} }}\n", web(250, "200ms")));
    until("the VIP is off", || net.holders(VIP).is_empty());
    a.until_state(&net, "initialize");
}

#[test]
fn a_killed_proxy_leaves_no_vip_behind() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let (a, b) = pair(&net, &web(250, "200ms"), &web(220, "200ms"));
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
    if is_left_out() {
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
    if is_left_out() {
        return;
    }
    let net = Net::new(&["a", "b"]);
    let (a, b) = pair(&net, &format!("{}track = {{ drain = 100 }}\n", web(250, "30ms")), &web(200, "30ms"));
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
    if is_left_out() {
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

/// What keepalived is told for the same.
fn keepalived(priority: u8, more: &str) -> String {
    format!("priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n {VIP}/32\n }}\n{more}")
}

#[test]
fn keepalived_and_a_proxy_hand_a_vip_over_both_ways() {
    if is_left_out() {
        return;
    }
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
    if is_left_out() {
        return;
    }
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

#[test]
fn unicast_without_preemption_goes_with_keepalived() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let unicast = "unicast_src_ip 192.0.2.3\n unicast_peer {\n 192.0.2.2\n }\n nopreempt\n";
    let ours = |priority, more: &str| {
        let settings = "checksum = \"pseudo_header\"\npeers = [\"192.0.2.3\"]\n";
        format!("{}{settings}{more}", web(priority, "200ms"))
    };
    let a = Peer::proxy(&net, "a", &ours(100, ""));
    a.until_state(&net, "active");
    let b = Peer::keepalived(&net, "b", &keepalived(150, unicast));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(net.holders(VIP), ["a"], "{}", b.log());
    a.stop();
    until("keepalived took over", || net.holders(VIP) == ["b"]);
    let a = Peer::proxy(&net, "a", &ours(200, "preempt = false\n"));
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(net.holders(VIP), ["b"], "{}", a.log());
    b.stop();
    a.until_state(&net, "active");
    assert_eq!(net.holders(VIP), ["a"]);
}

/// What keepalived and a proxy share on IPv6.
const VIPS_V6: [&str; 2] = ["fe80::10", "2001:db8::10"];

#[test]
fn ipv6_goes_with_keepalived_and_among_proxies() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let [link_local, global] = VIPS_V6;
    net.ip("client", "addr add 2001:db8::4/64 dev eth0 nodad");
    for host in ["a", "b"] {
        net.ip(host, "route add 2001:db8::/64 dev eth0");
    }
    let ours =
        |priority| format!("priority = {priority}\ninterval = \"200ms\"\nvips = [\"{link_local}\", \"{global}\"]\n");
    let theirs =
        format!("priority 150\n advert_int 0.2\n virtual_ipaddress {{\n {link_local}/128\n {global}/128\n }}\n");
    let b = Peer::keepalived(&net, "b", &theirs);
    until("keepalived is active", || net.holders(global) == ["b"]);
    let a = Peer::proxy(&net, "a", &ours(100));
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(net.holders(global), ["b"], "{}", a.log());
    b.stop();
    a.until_state(&net, "active");
    let b = Peer::keepalived(&net, "b", &theirs);
    a.until_state(&net, "backup");
    until("there is one holder", || net.holders(global) == ["b"]);
    b.stop();
    a.until_state(&net, "active");

    let b = Peer::proxy(&net, "b", &ours(220));
    b.until_state(&net, "active");
    until("there is one holder", || net.holders(global) == ["b"] && net.holders(link_local) == ["b"]);
    let probe = net.probe("client", global.parse().expect("an address"));
    std::thread::sleep(Duration::from_millis(100));
    net.cut("b");
    a.until_state(&net, "active");
    std::thread::sleep(Duration::from_millis(100));
    let seen = probe.finish();
    println!("IPv6, dead host, priority 100 behind it: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(800) && seen.last == "a", "{:?} {}", seen.gap(), seen.last);
    let probe = net.probe("client", global.parse().expect("an address"));
    net.mend("b");
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_millis(200));
    let seen = probe.finish();
    assert_eq!((net.holders(global), seen.last.as_str()), (vec!["b"], "b"));
}

#[test]
fn with_a_virtual_mac_clients_notice_no_other_address() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let ours = |priority| format!("{}mac = \"virtual\"\n", web(priority, "100ms"));
    let (a, b) = pair(&net, &ours(250), &ours(220));
    let neighbour = || net.ip("client", "neigh show 192.0.2.10");
    let probe = net.probe("client", vip());
    until("the client knows the VIP", || neighbour().contains("00:00:5e:00:01:33"));
    std::thread::sleep(Duration::from_millis(100));
    net.cut("a");
    b.until_state(&net, "active");
    std::thread::sleep(Duration::from_millis(200));
    let seen = probe.finish();
    println!("virtual MAC: dead host: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(400) && seen.last == "b", "{:?} {}", seen.gap(), seen.last);
    // Both send from the same MAC: they must hear each other all the same.
    let probe = net.probe("client", vip());
    net.mend("a");
    b.until_state(&net, "backup");
    std::thread::sleep(Duration::from_millis(300));
    let seen = probe.finish();
    assert_eq!((net.holders(VIP), seen.last.as_str()), (vec!["a"], "a"));
    assert!(neighbour().contains("00:00:5e:00:01:33"), "{}", neighbour());
    a.stop();
    b.until_state(&net, "active");
    assert!(!net.ip("a", "link show").contains("vrrp4.51"), "nothing is left of it");
}

/// Sends advertisements of the highest priority from the client's host, which a better router would yield to.
fn forge(net: &Net, router: u8, hop_limit: u32) {
    use region_proxy::vrrp::packet;
    let forging = net.within("client", move || {
        let (source, destination) = ([192, 0, 2, 4].into(), packet::GROUP_V4);
        let interval = packet::Interval::from_centis(20).expect("it is in range");
        let router = packet::RouterId::from_number(router).expect("it is not 0");
        let sent = packet::Advertisement { router, priority: 255, interval, addresses: vec![vip()] };
        let message = packet::write(&sent, packet::Path::V4 { source, destination }, packet::ChecksumForm::Message);
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).expect("root may");
        socket.set_multicast_ttl_v4(hop_limit).expect("it is a TTL");
        socket.set_multicast_if_v4(&source).expect("it is its own");
        for _ in 0..10 {
            socket.send_to(&message, &SocketAddr::from((destination, 0)).into()).expect("it is sent");
        }
    });
    forging.join().expect("it ends well");
}

#[test]
fn forged_advertisements_and_those_of_others_count_for_nothing() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    let refused = "region_proxy_vrrp_refused_total{router=\"web\",cause=\"hop_limit\"}";
    forge(&net, 51, 254);
    until("they are refused", || a.metric(&net, refused) == 10);
    forge(&net, 52, 255);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(net.holders(VIP), ["a"]);
    assert_eq!(a.metric(&net, "region_proxy_vrrp_advertisements_received_total"), 0);
    // The same with nothing wrong is believed.
    forge(&net, 51, 255);
    a.until_state(&net, "backup");
}

#[test]
fn two_of_the_same_priority_are_told_apart_by_their_addresses() {
    if is_left_out() {
        return;
    }
    let net = pair_net();
    let b = Peer::keepalived(&net, "b", &keepalived(150, ""));
    until("keepalived is active", || net.holders(VIP) == ["b"]);
    // Cut off from each other both are active; the higher address wins, and no preemption of equals comes before.
    net.cut("a");
    let a = Peer::proxy(&net, "a", &format!("{}checksum = \"pseudo_header\"\n", web(150, "200ms")));
    a.until_state(&net, "active");
    net.mend("a");
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(net.holders(VIP), ["b"], "{}", b.log());
}
