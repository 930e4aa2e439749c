//! Pairs of proxies as regions have them, with real programs on links of their own: what clients see while proxies, pairs and
//! whole regions come and go.
//!
//! Needs root, iproute2 and curl; says so where it is left out.

mod client;
mod node;
mod region;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use client::Visitor;
use gslb_tests::net::{self, Net};
use node::{Crowd, GERMAN, KOREAN, Node, Sight, answered_after, gap};
use region::{JAVA, Region, WWW, hosts};

fn is_left_out() -> bool {
    net::left_out("pairs of proxies", &["bridge", "curl"]).is_some()
}

#[test]
fn sessions_go_on_where_they_were_across_takeovers() {
    if is_left_out() {
        return;
    }
    let region_hosts = hosts("seoul");
    let net = Net::new(&[&region_hosts[0], &region_hosts[1], &region_hosts[2], "client"]);
    let vip = [192, 0, 2, 100].into();
    let mut seoul = Region::start(&net, "seoul", vip, 51);
    let clients: Vec<Visitor<'_>> = [WWW, JAVA]
        .into_iter()
        .flat_map(|service| (0..4).map(|_| Visitor::new(&net, service, vip)).collect::<Vec<_>>())
        .collect();
    let all_go_on = || clients.iter().for_each(Visitor::go_on);
    all_go_on();
    all_go_on();
    assert_eq!(
        clients.iter().map(Visitor::server).collect::<BTreeSet<_>>().len(),
        3,
        "they are spread over all servers"
    );

    seoul.stop_proxy(0);
    seoul.until_holder(1);
    all_go_on();
    seoul.start_proxy(0);
    seoul.until_holder(0);
    all_go_on();
    seoul.kill_proxy(0);
    seoul.until_holder(1);
    all_go_on();
    seoul.start_proxy(0);
    seoul.until_holder(0);
    // An operator moves the VIP by hand.
    seoul.tell(0, "/drain");
    seoul.until_holder(1);
    all_go_on();
}

/// Two regions with a part of the link each, and the others beside them.
fn two_regions() -> Net {
    let [seoul, frankfurt] = ["seoul", "frankfurt"].map(hosts);
    let others = ["dns", "client"].map(str::to_owned);
    let all: Vec<&str> = seoul.iter().chain(&frankfurt).chain(&others).map(String::as_str).collect();
    let net = Net::new(&all);
    for (name, hosts) in [("seoul", &seoul), ("frankfurt", &frankfurt)] {
        net.part(name, &hosts.each_ref().map(String::as_str));
    }
    net
}

/// What clients from Korea see from a moment before `event` to a moment after it; and when it began.
fn seen(net: &Net, event: impl FnOnce()) -> (Vec<Sight>, Instant) {
    let crowd = Crowd::start(net, KOREAN);
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    event();
    std::thread::sleep(Duration::from_millis(200));
    (crowd.stop(), began)
}

#[test]
fn clients_lose_a_proxy_then_a_pair_then_a_region_and_get_each_back() {
    if is_left_out() {
        return;
    }
    let net = two_regions();
    let [here, there]: [IpAddr; 2] = [[192, 0, 2, 100].into(), [192, 0, 2, 200].into()];
    let mut seoul = Region::start(&net, "seoul", here, 51);
    let frankfurt = Region::start(&net, "frankfurt", there, 52);
    let node = Node::start(&net, &[&seoul, &frankfurt]);
    node.until_holder("seoul", "seoul-1");
    node.until_holder("frankfurt", "frankfurt-1");
    let german = Crowd::start(&net, GERMAN);

    // One proxy: the VIP moves, and nobody is told another.
    let (sights, _) = seen(&net, || {
        seoul.kill_proxy(0);
        seoul.until_holder(1);
        node.until_holder("seoul", "seoul-2");
    });
    println!("a proxy killed: gap {:?}", gap(&sights));
    assert!(sights.iter().all(|sight| sight.vip == Ok(here)), "{sights:?}");
    assert!(gap(&sights) < Duration::from_secs(2), "{:?}", gap(&sights));
    node.until_logged(&["the VIP changed hands", "from=seoul-1", "to=seoul-2"]);

    // The other too: the region has nobody left.
    let (sights, began) = seen(&net, || {
        seoul.kill_proxy(1);
        node.until_verdict("seoul", "down");
    });
    let moved = answered_after(&sights, there, began);
    println!("the pair killed: another region after {moved:?}, gap {:?}", gap(&sights));
    assert!(moved.is_some_and(|moved| moved < KILLED + SLACK), "{moved:?}");
    assert!(sights.last().is_some_and(|last| last.server.is_ok()), "{sights:?}");

    // Both come back: clients return when the region has stayed well for a while, and no request fails.
    let (sights, _) = seen(&net, || {
        (0..2).for_each(|at| seoul.start_proxy(at));
        seoul.until_holder(0);
        node.until_verdict("seoul", "serving");
    });
    assert!(sights.iter().all(|sight| sight.server.is_ok()), "{sights:?}");
    assert_eq!(sights.last().map(|last| last.vip.clone()), Some(Ok(here)));
    node.until_holder("seoul", "seoul-1");

    // The region's link: nobody hears of its pair, which goes on.
    let (sights, began) = seen(&net, || {
        net.cut("seoul");
        node.until_verdict("seoul", "down");
    });
    let moved = answered_after(&sights, there, began);
    println!("the region cut off: another region after {moved:?}, gap {:?}", gap(&sights));
    assert!(moved.is_some_and(|moved| moved < CUT_OFF + SLACK), "{moved:?}");
    assert_eq!(seoul.holders(), ["seoul-1"]);
    let (sights, _) = seen(&net, || {
        net.mend("seoul");
        node.until_verdict("seoul", "serving");
    });
    assert!(sights.iter().all(|sight| sight.server.is_ok()), "{sights:?}");
    assert_eq!(sights.last().map(|last| last.vip.clone()), Some(Ok(here)));

    let german = german.stop();
    assert!(german.iter().all(|sight| sight.vip == Ok(there) && sight.server.is_ok()), "{german:?}");
    assert_eq!(node.count_logged("two hold the VIP"), 0, "no takeover is taken for a split");
}

#[test]
fn two_that_do_not_hear_each_other_raise_one_alarm_and_serve() {
    if net::left_out("two actives", &["bridge", "curl", "nft"]).is_some() {
        return;
    }
    let net = Net::new(&["seoul-1", "seoul-2", "seoul-app", "dns", "client"]);
    let vip: IpAddr = [192, 0, 2, 100].into();
    let seoul = Region::start(&net, "seoul", vip, 51);
    let node = Node::start(&net, &[&seoul]);
    node.until_holder("seoul", "seoul-1");
    let crowd = Crowd::start(&net, KOREAN);

    let switch = |rules: &str| {
        let done = net.command("switch", "nft").arg(rules).output().expect("nft is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    switch(
        "add table bridge deaf; add chain bridge deaf between { type filter hook forward priority 0; }; \
         add rule bridge deaf between ip protocol 112 drop",
    );
    node.within("an alarm with both names", || {
        let alarm = node.vip("seoul")?["two_actives"].clone();
        let is_raised = alarm["holders"] == serde_json::json!(["seoul-1", "seoul-2"]);
        if is_raised { Ok(()) } else { Err(alarm.to_string()) }
    });
    let vip_status = node.vip("seoul").expect("a status");
    assert_eq!(vip_status["holder"], "seoul-1", "one of them counts: {vip_status}");
    let line = ["ERROR", "two hold the VIP at the same time", "region=seoul", "holders=\"seoul-1, seoul-2\""];
    node.until_logged(&line);
    node.until_verdict("seoul", "serving");
    let explained = node.command(&["explain", WWW, "--client", "198.51.100.1", "--node", node::ADMIN_URL]);
    assert!(explained.starts_with("ALARM   seoul: 192.0.2.100: seoul-1 and seoul-2 hold it"), "{explained}");

    switch("delete table bridge deaf");
    node.until_holder("seoul", "seoul-1");
    seoul.until_holder(0);
    node.until_logged(&["no two hold the VIP any more", "holder=\"seoul-1\""]);
    assert_eq!(node.count_logged(line[1]), 1);
    let sights = crowd.stop();
    assert!(sights.iter().all(|sight| sight.vip == Ok(vip)), "{sights:?}");
    let served = sights.iter().filter(|sight| sight.server.is_ok()).count();
    println!("two actives: {served} of {} requests served", sights.len());
    assert!(gap(&sights) < Duration::from_secs(1), "{:?}", gap(&sights));
}

#[test]
fn drain_of_one_proxy_moves_the_vip_and_drain_of_the_pair_moves_its_clients() {
    if is_left_out() {
        return;
    }
    let net = two_regions();
    let [here, there]: [IpAddr; 2] = [[192, 0, 2, 100].into(), [192, 0, 2, 200].into()];
    let seoul = Region::start(&net, "seoul", here, 51);
    let frankfurt = Region::start(&net, "frankfurt", there, 52);
    let node = Node::start(&net, &[&seoul, &frankfurt]);
    let tell =
        |words: &[&str]| node.command(&[words, &["--token-file", &seoul.token(), "--config", &node.config()]].concat());
    let crowd = Crowd::start(&net, KOREAN);
    assert_eq!(tell(&["proxies", "drain", "seoul", "seoul-1"]), "seoul-1: drain\n");
    seoul.until_holder(1);
    node.until_holder("seoul", "seoul-2");
    assert_eq!(tell(&["proxies", "drain", "seoul"]), "seoul-1: drain\nseoul-2: drain\n");
    node.until_verdict("seoul", "draining");
    // Both have lost as much, so the better one has it again, and serves who still comes.
    seoul.until_holder(0);
    assert_eq!(tell(&["proxies", "undrain", "seoul"]), "seoul-1: undrain\nseoul-2: undrain\n");
    node.until_verdict("seoul", "serving");
    let sights = crowd.stop();
    assert!(sights.iter().any(|sight| sight.vip == Ok(there)), "{sights:?}");
    assert!(gap(&sights) < Duration::from_secs(1), "{:?}", gap(&sights));
}

/// Within which clients lose a region whose proxies are killed, and one that is silent (README, Operating).
const KILLED: Duration = Duration::from_millis(1500);
const CUT_OFF: Duration = Duration::from_secs(3);
/// What a machine that has other work may take besides.
const SLACK: Duration = Duration::from_secs(1);
