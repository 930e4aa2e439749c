//! What a router's priority hangs on.

use std::time::{Duration, Instant};

use gslb_tests::net::{Net, until};

use crate::peers::Peer;
use crate::way::{Family, Way};
use crate::{beside_others, in_each, until_held, web};

#[test]
fn a_gateway_that_answers_no_more_costs_what_the_settings_say() {
    let Some(_turn) = beside_others() else { return };
    in_each([Family::V4, Family::V6], |family| {
        let (way, gateway) = (Way::plain(family), if family == Family::V4 { "192.0.2.4" } else { "2001:db8::4" });
        let net = Net::new(&["a", "b", "gateway"]).with_ipv6();
        let tracked = |cost: &str| format!("track = {{ gateways = {{ \"{gateway}\" = {cost} }} }}\n");
        let a = Peer::proxy(&net, "a", &format!("{}{}", way.proxy("a", 250, "200ms"), tracked("100")));
        a.until_state(&net, "active");
        assert!(!a.log().contains("tracks fails"), "{}", a.log());
        let b = Peer::proxy(&net, "b", &format!("{}{}", way.proxy("b", 200, "200ms"), tracked("\"let_go\"")));
        b.until_state(&net, "backup");

        // Both miss it: 150 of 250 is more than nothing.
        let (metric, start) = (
            format!("region_proxy_vrrp_tracked{{router=\"web\",kind=\"gateway\",name=\"{gateway}\"}}"),
            Instant::now(),
        );
        net.cut("gateway");
        b.until_state(&net, "initialize");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        until("a says what fails", || {
            a.router(&net)
                .is_some_and(|router| router["failing"][0] == format!("gateway {gateway}") && router["priority"] == 150)
        });
        until_held(&net, way.vip(), &["a"]);
        assert_eq!((a.metric(&net, &metric), b.metric(&net, &metric)), (0, 0));
        let line = format!("vrrp: what it tracks fails router=\"web\" failing=\"gateway {gateway}\"");
        assert!(a.log().contains(&line), "{}", a.log());

        net.mend("gateway");
        b.until_state(&net, "backup");
        until("all is well", || a.router(&net).is_some_and(|router| router["priority"] == 250));
        assert_eq!((a.metric(&net, &metric), b.metric(&net, &metric)), (1, 1));
        until_held(&net, way.vip(), &["a"]);
        assert_eq!(a.metric(&net, "region_proxy_vrrp_takeovers_total"), 1);
    });
}

#[test]
fn who_starts_without_its_gateway_does_not_take_the_vip_from_one_that_has_it() {
    let Some(_turn) = beside_others() else { return };
    let net = Net::new(&["a", "b", "gateway"]);
    let tracked = "track = { gateways = { \"192.0.2.4\" = 100 } }\n";
    net.cut("gateway");
    let b = Peer::proxy(&net, "b", &web(200, "200ms"));
    b.until_state(&net, "active");
    let a = Peer::proxy(&net, "a", &format!("{}{tracked}", web(250, "200ms")));
    a.until_state(&net, "backup");
    std::thread::sleep(Duration::from_secs(2));
    until_held(&net, crate::vip(), &["b"]);
    assert_eq!(a.metric(&net, "region_proxy_vrrp_takeovers_total"), 0);
    net.mend("gateway");
    a.until_state(&net, "active");
}
