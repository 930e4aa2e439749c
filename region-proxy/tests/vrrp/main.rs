//! VRRP with real sockets: pairs of region-proxies, and of one with keepalived, on links of their own.
//!
//! Needs root, iproute2 and keepalived; says so where it is left out.

mod net;
mod peers;

use std::net::{IpAddr, Ipv4Addr};
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
        assert_eq!(seen.last, "a");
        assert!(seen.gap() <= Duration::from_millis(limit_ms), "{:?}", seen.gap());
    }
}
