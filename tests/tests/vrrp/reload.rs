//! Other settings in a proxy that runs.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use gslb_tests::net::{Net, seen_by, until};
use nix::sys::signal::Signal;

use crate::peers::Peer;
use crate::{VIP, beside_others, pair, pair_net, until_held, vip, web};

const SECOND_VIP: &str = "192.0.2.11";
const THIRD_VIP: &str = "192.0.2.12";

/// The first router with both of the first VIPs.
fn with_second_vip(web: &str) -> String {
    web.replace("vips = [\"192.0.2.10\"]", "vips = [\"192.0.2.11\", \"192.0.2.10\"]")
}

/// Another router beside it.
fn app(vips: &[&str]) -> String {
    format!("[vrrp.app]\ninterface = \"eth0\"\nid = 52\npriority = 250\nvips = {vips:?}\n")
}

#[test]
fn no_vip_that_stays_moves_when_settings_change() {
    let Some(_turn) = beside_others() else { return };
    let net = pair_net();
    let (a, b) = pair(&net, &web(250, "200ms"), &web(220, "200ms"));
    let expect = |vip: &str, hosts: &[&str]| until(&format!("{vip} is on {hosts:?}"), || net.holders(vip) == hosts);
    let seen = seen_by([net.probe("client", vip()), net.requests("client", vip())], || {
        // What others are told, and what they go by.
        let quick =
            format!("{}peers = [\"192.0.2.3\"]\nchecksum = \"pseudo_header\"\npreempt = false\n", web(240, "30ms"));
        assert!(a.reload_to(&quick));
        assert!(b.reload_to(&format!("{}peers = [\"192.0.2.2\"]\n", web(220, "200ms"))));
        until("the new priority is told", || a.router(&net).is_some_and(|router| router["priority"] == 240));
        assert!(b.reload_to(&web(220, "200ms")));
        assert!(a.reload_to(&format!("{}track = {{ interfaces = {{ eth9 = 10 }} }}\n", web(250, "200ms"))));
        until("what is tracked counts", || a.router(&net).is_some_and(|router| router["priority"] == 240));
        // VIPs come and go.
        assert!(a.reload_to(&with_second_vip(&web(250, "200ms"))));
        expect(SECOND_VIP, &["a"]);
        let two = format!("{}{}", with_second_vip(&web(250, "200ms")), app(&[THIRD_VIP]));
        assert!(a.reload_to(&two));
        expect(THIRD_VIP, &["a"]);
        // One goes over to another router of the same machine.
        assert!(a.reload_to(&format!("{}{}", web(250, "200ms"), app(&[SECOND_VIP, THIRD_VIP]))));
        expect(SECOND_VIP, &["a"]);
        assert!(a.reload_to(&format!("{}{}", web(250, "200ms"), app(&[THIRD_VIP]))));
        expect(SECOND_VIP, &[]);
        // Both become a group, which a third joins; then it is no more.
        let grouped = format!("{}group = \"all\"\n{}group = \"all\"\n", web(250, "200ms"), app(&[THIRD_VIP]));
        assert!(a.reload_to(&grouped));
        let third = app(&[SECOND_VIP]).replace("app", "third").replace("52", "53");
        assert!(a.reload_to(&format!("{grouped}{third}group = \"all\"\n")));
        assert_eq!(net.holders(SECOND_VIP), ["a"], "it does not wait");
        assert!(a.reload_to(&web(250, "200ms")));
        expect(THIRD_VIP, &[]);
        expect(SECOND_VIP, &[]);
    });
    let gaps = seen.each_ref().map(|seen| seen.gap());
    println!("settings changed: gaps {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_millis(100)), "{gaps:?}");
    let takeovers = [&a, &b].map(|peer| peer.metric(&net, "region_proxy_vrrp_takeovers_total{router=\"web\"}"));
    assert_eq!((net.holders(VIP), takeovers), (vec!["a"], [1, 0]), "{}", a.log());
    assert!(!a.log().contains("ERROR"), "{}", a.log());

    // The better one is another now.
    let seen = net.seen(vip(), || {
        assert!(a.reload_to(&web(200, "200ms")));
        until_held(&net, vip(), &["b"]);
    });
    println!("less priority by a reload: gap {:?}", seen.gap());
    assert!(seen.gap() < Duration::from_millis(200) && seen.last == "b", "{:?}", seen.gap());
}

#[test]
fn what_makes_another_router_lets_go_and_says_so() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b"]);
    let (a, b) = pair(&net, &web(250, "100ms"), &web(220, "100ms"));
    assert!(a.reload_to(&format!("{}mac = \"virtual\"\n", web(250, "100ms"))));
    until("it lets go", || a.log().contains("cannot change in place"));
    until("it has the VIP again", || net.ip("a", "-br addr show").contains("vrrp4.51"));
    until_held(&net, vip(), &["a"]);
    b.until_state(&net, "backup");
    assert!(a.reload_to(&web(250, "100ms")));
    until("the interface is gone", || !net.ip("a", "link show").contains("vrrp4.51"));
    a.until_state(&net, "active");
    until_held(&net, vip(), &["a"]);
}

#[test]
fn virtual_routers_come_and_go_by_reload() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b"]);
    let (a, _b) = pair(&net, &web(250, "100ms"), &web(220, "100ms"));
    for _ in 0..2 {
        assert!(a.reload_to_none());
        until_held(&net, vip(), &["b"]);
        assert_eq!(a.routers(&net), Some(Vec::new()));
        assert!(a.reload_to(&web(250, "100ms")));
        until_held(&net, vip(), &["a"]);
    }
    // What came so is handed over and taken off as what was there from the start.
    a.signal(Signal::SIGUSR2);
    until("the new process goes on", || a.log().matches("vrrp: active").count() == 4);
    until_held(&net, vip(), &["a"]);
}

#[test]
fn a_router_that_another_process_runs_keeps_all_settings_as_they_were() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a"]);
    let a = Peer::proxy(&net, "a", &web(250, "200ms"));
    a.until_state(&net, "active");
    let other = net.within("a", || {
        let name = SocketAddr::from_abstract_name(b"region-proxy/vrrp/eth0/4/52/proxy").expect("a name");
        UnixDatagram::bind_addr(&name).expect("nobody has it")
    });
    let other = other.join().expect("it ends well");
    let next = format!("{}{}", with_second_vip(&web(240, "200ms")), app(&[THIRD_VIP]));
    assert!(!a.reload_to(&next));
    assert!(a.log().contains("vrrp: another process of this machine"), "{}", a.log());
    assert_eq!(a.router(&net).map(|router| router["priority"].clone()), Some(250.into()));
    assert_eq!((net.holders(VIP), net.holders(SECOND_VIP)), (vec!["a"], Vec::new()));
    drop(other);
    assert!(a.reload_to(&next));
    until("all is as it says", || net.holders(SECOND_VIP) == ["a"] && net.holders(THIRD_VIP) == ["a"]);

    // The watchdog knows of it.
    a.signal(Signal::SIGKILL);
    let start = Instant::now();
    let is_left = || [VIP, SECOND_VIP, THIRD_VIP].iter().any(|vip| !net.holders(vip).is_empty());
    until("nothing is left", || !is_left());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
