//! Routers of both families that rise and fall together, with and without MACs of their own.

use std::time::Duration;

use gslb_tests::net::{Net, seen_by, until};
use region_proxy::config::VipMac;

use crate::peers::Peer;
use crate::way::{Family, Way};
use crate::{beside_others, in_each, pair_net, until_held};

/// What the proxy on `host` is told: an IPv4 router, of which `more` is said, and one for IPv6, of one group.
fn both(host: &str, mac: VipMac, priority: u8, more: &str) -> String {
    let router = |family| Way { mac, ..Way::plain(family) }.proxy(host, priority, "100ms") + "group = \"pair\"\n";
    format!("{}{more}[vrrp.web6]\ninterface = \"eth0\"\nid = 51\n{}", router(Family::V4), router(Family::V6))
}

fn until_both_are_on(net: &Net, host: &str) {
    [Family::V4, Family::V6].into_iter().for_each(|family| until_held(net, Way::plain(family).vip(), &[host]));
}

#[test]
fn routers_of_a_group_move_together() {
    let Some(_turn) = beside_others() else { return };
    in_each([VipMac::Own, VipMac::Virtual], |mac| {
        let net = pair_net();
        let drained = "track = { drain = 100, interfaces = { eth1 = \"let_go\" } }\n";
        net.ip("a", "link add eth1 type veth peer name eth2");
        ["eth1", "eth2"].into_iter().for_each(|end| drop(net.ip("a", &format!("link set {end} up"))));
        let a = Peer::proxy(&net, "a", &both("a", mac, 250, drained));
        until_both_are_on(&net, "a");
        let b = Peer::proxy(&net, "b", &both("b", mac, 200, ""));
        b.until_state(&net, "backup");
        let probes = || [Family::V4, Family::V6].map(|family| net.probe("client", Way::plain(family).vip()));
        // What only one of them tracks moves both.
        let drained = seen_by(probes(), || {
            a.ask(&net, "POST /drain").expect("it answers");
            until_both_are_on(&net, "b");
            a.ask(&net, "POST /undrain").expect("it answers");
            until_both_are_on(&net, "a");
        });
        let pulled = seen_by(probes(), || {
            net.ip("a", "link set eth2 down");
            until_both_are_on(&net, "b");
            net.ip("a", "link set eth2 up");
            until_both_are_on(&net, "a");
        });
        let dead = seen_by(probes(), || {
            net.cut("a");
            until("b has both", || {
                [Family::V4, Family::V6]
                    .iter()
                    .all(|family| net.holders(&Way::plain(*family).vip().to_string()).contains(&"b"))
            });
            net.mend("a");
            until_both_are_on(&net, "a");
        });
        let gaps = [drained, pulled, dead].map(|seen| seen.map(|seen| seen.gap()));
        println!("a group, {mac:?} MAC: drained, pulled, dead: {gaps:?}");
        assert!(gaps.iter().flatten().all(|gap| *gap < Duration::from_millis(800)), "{gaps:?}");
        let has_own_interfaces = net.ip("a", "link show").contains("vrrp6.51");
        assert_eq!(has_own_interfaces, mac == VipMac::Virtual);
    });
}
