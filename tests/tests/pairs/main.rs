//! Pairs of proxies as regions have them, with real programs on links of their own: what clients see while proxies, pairs and
//! whole regions come and go.
//!
//! Needs root, iproute2 and curl; says so where it is left out.

mod client;
mod node;
mod region;
mod tier;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use client::{Connection, Visitor, server_by};
use gslb_tests::harness::process::{Folder, program, repository};
use gslb_tests::net::{self, Net, until};
use node::{Crowd, GERMAN, KOREAN, Node, Sight, answered_after, gap};
use region::{JAVA, LIMIT, PLAIN, Region, WWW, hosts, start_in};
use tier::Tier;

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

#[test]
fn what_only_one_knew_holds_after_a_takeover() {
    if is_left_out() {
        return;
    }
    let region_hosts = hosts("seoul");
    let net = Net::new(&[&region_hosts[0], &region_hosts[1], &region_hosts[2], "client"]);
    let vip = [192, 0, 2, 100].into();
    let mut seoul = Region::start(&net, "seoul", vip, 51);
    let addresses: Vec<IpAddr> = (200..230).map(|last| [192, 0, 2, last].into()).collect();
    for address in &addresses {
        net.ip("client", &format!("addr add {address}/24 dev eth0"));
    }
    let (old, new) = addresses.split_at(20);
    let servers = |addresses: &[IpAddr]| -> Vec<String> {
        addresses.iter().map(|address| server_by(&net, PLAIN, vip, *address)).collect()
    };
    let before = servers(old);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3, "they are spread over all servers: {before:?}");
    seoul.ctl(0, &["drain", &format!("{PLAIN}/app-1")]);
    seoul.until_known(1, old.len());
    seoul.kill_proxy(0);
    seoul.until_holder(1);
    assert_eq!(servers(old), before, "each keeps its server, the drained one too");
    let others = servers(new);
    assert!(!others.contains(&"seoul-app-1".to_owned()), "it is drained: {others:?}");

    // The first comes back knowing nothing, and takes the VIP from the second.
    seoul.start_proxy(0);
    seoul.until_holder(0);
    assert_eq!(servers(&addresses), [before, others].concat());
    let server = seoul.ctl(0, &["servers", &format!("{PLAIN}/app-1")]);
    assert!(server.contains("\"mode\":\"drain\""), "{server}");
}

#[test]
fn settings_of_the_readme_make_a_pair() {
    if is_left_out() {
        return;
    }
    let first = &settings_of("Two proxies, one VIP");
    // As the comments say.
    let second = first
        .replace("proxy = \"seoul-1\"", "proxy = \"seoul-2\"")
        .replace("status = \"192.0.2.11", "status = \"192.0.2.12")
        .replace("priority = 250", "priority = 230");
    let net = Net::new(&["a", "b"]);
    let folder = Folder::new("gslb-readme-").expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    for secret in ["token", "cookie-secret", "peers-secret"] {
        std::fs::write(file(secret), "0123456789abcdef").expect("it can be written");
    }
    let proxies = [("a", "192.0.2.11", first), ("b", "192.0.2.12", &second)].map(|(host, address, settings)| {
        net.ip(host, &format!("addr add {address}/24 dev eth0"));
        std::fs::write(file(host), settings).expect("it can be written");
        start_in(&net, host, host, "region-proxy", &["serve".to_owned(), "--config".to_owned(), file(host)])
    });
    proxies[0].wait_for_line("vrrp: active", 0, LIMIT).expect("the first is active");
    until("it alone has the VIP", || net.holders("192.0.2.10") == ["a"]);
    for proxy in &proxies {
        proxy.wait_for_line("a peer tells what it learns", 0, LIMIT).expect("they tell each other");
    }
}

#[test]
fn settings_of_the_readme_make_an_l4_tier() {
    let folder = Folder::new("gslb-readme-").expect("a folder");
    let file = folder.path().join("lb-1.toml");
    std::fs::write(&file, settings_of("L4 in front of proxies")).expect("it can be written");
    std::fs::write(folder.path().join("token"), "0123456789abcdef").expect("it can be written");
    let mut command = std::process::Command::new(program("region-proxy").expect("it is built"));
    let checked = command.args(["check", "--config"]).arg(&file).output().expect("it can be started");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The first settings in a chapter of the README.
fn settings_of(chapter: &str) -> String {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("it is there");
    let chapter = readme.split_once(&format!("\n## {chapter}\n")).expect("a chapter").1;
    let settings = chapter.split_once("```toml\n").and_then(|(_, rest)| rest.split("```").next());
    settings.expect("settings").to_owned()
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
    crowd.until_seen(3);
    let began = Instant::now();
    event();
    crowd.until_seen(3);
    (crowd.stop(), began)
}

/// Tries it three times: a machine that has other work at the moment says nothing of the programs.
fn try_thrice(scenario: impl Fn() -> Result<(), String>) {
    let failures: Vec<String> = (0..3).map_while(|_| scenario().err()).collect();
    assert!(failures.len() < 3, "{failures:#?}");
}

fn ensure(is_so: bool, what: &str, shown: impl std::fmt::Debug) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(format!("{what}: {shown:?}")) }
}

/// Fails unless all were answered with `vip`.
fn all_at(vip: IpAddr, sights: &[Sight]) -> Result<(), String> {
    let other = sights.iter().find(|sight| sight.vip != Ok(vip));
    ensure(other.is_none(), &format!("all are answered with {vip}"), other)
}

/// Fails unless all were served.
fn all_served(sights: &[Sight]) -> Result<(), String> {
    let other = sights.iter().find(|sight| sight.server.is_err());
    ensure(other.is_none(), "all are served", other)
}

#[test]
fn clients_lose_a_proxy_then_a_pair_then_a_region_and_get_each_back() {
    if !is_left_out() {
        try_thrice(lose_and_get_back);
    }
}

fn lose_and_get_back() -> Result<(), String> {
    let net = two_regions();
    let [here, there]: [IpAddr; 2] = [[192, 0, 2, 100].into(), [192, 0, 2, 200].into()];
    let mut seoul = Region::start(&net, "seoul", here, 51);
    let frankfurt = Region::start(&net, "frankfurt", there, 52);
    let node = Node::start(&net, &[seoul.in_topology(), frankfurt.in_topology()]);
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
    all_at(here, &sights)?;
    ensure(gap(&sights) < Duration::from_secs(1), "the other takes over in time", gap(&sights))?;
    node.until_logged(&["the VIP changed hands", "from=seoul-1", "to=seoul-2"]);

    // The other too: the region has nobody left.
    let (sights, began) = seen(&net, || {
        seoul.kill_proxy(1);
        node.until_verdict("seoul", "down");
    });
    let moved = answered_after(&sights, there, began);
    println!("the pair killed: another region after {moved:?}, gap {:?}", gap(&sights));
    ensure(moved.is_some_and(|moved| moved < KILLED), "clients of a pair that was killed move in time", moved)?;

    // Both come back: clients return when the region has stayed well for a while, and no request fails.
    let (sights, _) = seen(&net, || {
        (0..2).for_each(|at| seoul.start_proxy(at));
        seoul.until_holder(0);
        node.until_verdict("seoul", "serving");
    });
    all_served(&sights)?;
    all_at(here, &sights[sights.len() - 1..])?;
    node.until_holder("seoul", "seoul-1");

    // The region's link: nobody hears of its pair, which goes on.
    let (sights, began) = seen(&net, || {
        net.cut("seoul");
        node.until_verdict("seoul", "down");
    });
    let moved = answered_after(&sights, there, began);
    println!("the region cut off: another region after {moved:?}, gap {:?}", gap(&sights));
    ensure(moved.is_some_and(|moved| moved < CUT_OFF), "clients of a region that is cut off move in time", moved)?;
    ensure(seoul.holders() == ["seoul-1"], "the pair does not notice", seoul.holders())?;
    let (sights, _) = seen(&net, || {
        net.mend("seoul");
        node.until_verdict("seoul", "serving");
    });
    all_served(&sights)?;
    all_at(here, &sights[sights.len() - 1..])?;

    let german = german.stop();
    all_at(there, &german).and(all_served(&german))?;
    ensure(node.count_logged("two hold the VIP") == 0, "no takeover is taken for a split", node.log())
}

#[test]
fn two_that_do_not_hear_each_other_raise_one_alarm_and_serve() {
    if net::left_out("two actives", &["bridge", "curl", "nft"]).is_some() {
        return;
    }
    let net = Net::new(&["seoul-1", "seoul-2", "seoul-app", "dns", "client"]);
    let vip: IpAddr = [192, 0, 2, 100].into();
    let mut seoul = Region::start(&net, "seoul", vip, 51);
    let node = Node::start(&net, &[seoul.in_topology()]);
    node.until_holder("seoul", "seoul-1");
    let crowd = Crowd::start(&net, KOREAN);

    let switch = |rules: &str| {
        let done = net.command("switch", "nft").arg(rules).output().expect("nft is there");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let deafen = || {
        switch(
            "add table bridge deaf; add chain bridge deaf between { type filter hook forward priority 0; }; \
             add rule bridge deaf between ip protocol 112 drop",
        );
        node.within("an alarm with both names", || {
            let vip = node.vip("seoul")?;
            let is_raised = vip["two_actives"]["holders"] == serde_json::json!(["seoul-1", "seoul-2"]);
            // One of them counts.
            if is_raised && vip["holder"] == "seoul-1" { Ok(()) } else { Err(vip.to_string()) }
        });
    };
    let alarm = "two hold the VIP at the same time";

    deafen();
    node.until_logged(&["ERROR", alarm, "region=seoul", "holders=\"seoul-1, seoul-2\""]);
    node.until_verdict("seoul", "serving");
    let explained = node.command(&["explain", WWW, "--client", "198.51.100.1", "--node", node::ADMIN_URL]);
    assert!(explained.starts_with("ALARM   seoul: 192.0.2.100: seoul-1 and seoul-2 hold it"), "{explained}");
    // They hear each other again.
    switch("delete table bridge deaf");
    node.until_holder("seoul", "seoul-1");
    seoul.until_holder(0);
    node.until_logged(&["no two hold the VIP any more", "holder=\"seoul-1\""]);
    assert_eq!(node.count_logged(alarm), 1);

    // What the README says of three o'clock: the worse one is stopped, and started when they can hear each other.
    deafen();
    assert_eq!(node.count_logged(alarm), 2);
    seoul.stop_proxy(1);
    node.until_holder("seoul", "seoul-1");
    assert_eq!(seoul.holders(), ["seoul-1"]);
    switch("delete table bridge deaf");
    seoul.start_proxy(1);
    node.within("seoul-2 is up", || {
        let log = node.count_logged("proxy is up region=seoul proxy=seoul-2");
        if log == 2 { Ok(()) } else { Err(node.log()) }
    });
    assert_eq!(node.count_logged(alarm), 2);

    let sights = crowd.stop();
    assert!(sights.iter().all(|sight| sight.vip == Ok(vip)), "{sights:?}");
    let served = sights.iter().filter(|sight| sight.server.is_ok()).count();
    println!("two actives: {served} of {} requests served", sights.len());
    assert!(served * 10 > sights.len() * 9, "{sights:?}");
}

#[test]
fn drain_of_one_proxy_moves_the_vip_and_drain_of_the_pair_moves_its_clients() {
    if !is_left_out() {
        try_thrice(drain);
    }
}

fn drain() -> Result<(), String> {
    let net = two_regions();
    let [here, there]: [IpAddr; 2] = [[192, 0, 2, 100].into(), [192, 0, 2, 200].into()];
    let seoul = Region::start(&net, "seoul", here, 51);
    let frankfurt = Region::start(&net, "frankfurt", there, 52);
    let node = Node::start(&net, &[seoul.in_topology(), frankfurt.in_topology()]);
    let tell = |words: &[&str]| {
        let told = node.command(&[words, &["--token-file", &seoul.token(), "--config", &node.config()]].concat());
        told.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (sights, _) = seen(&net, || {
        assert_eq!(tell(&["proxies", "drain", "seoul", "seoul-1"]), ["seoul-1: drain"]);
        seoul.until_holder(1);
        node.until_holder("seoul", "seoul-2");
    });
    println!("a proxy drained: gap {:?}", gap(&sights));
    all_at(here, &sights)?;
    ensure(gap(&sights) < Duration::from_secs(1), "the other takes over at once", gap(&sights))?;
    ensure(node.count_logged("failover") == 0, "a takeover is no failover", node.log())?;

    let (sights, _) = seen(&net, || {
        assert_eq!(tell(&["proxies", "drain", "seoul"]), ["seoul-1: drain", "seoul-2: drain"]);
        node.until_verdict("seoul", "draining");
        // Both have lost as much, so the better one has it again, and serves who still comes.
        seoul.until_holder(0);
    });
    all_at(there, &sights[sights.len() - 1..])?;
    let (sights, _) = seen(&net, || {
        assert_eq!(tell(&["proxies", "undrain", "seoul"]), ["seoul-1: undrain", "seoul-2: undrain"]);
        node.until_verdict("seoul", "serving");
    });
    all_at(here, &sights[sights.len() - 1..]).and(all_served(&sights))
}

#[test]
fn clients_of_an_l4_tier_lose_neither_addresses_nor_sessions_when_proxies_die() {
    if net::left_out("an L4 tier in front of proxies", &["bridge", "curl", "nft"]).is_none() {
        try_thrice(scale_out);
    }
}

fn scale_out() -> Result<(), String> {
    let net = Net::new(&[&tier::HOSTS[..], &["dns", "client"]].concat());
    let vip: IpAddr = [192, 0, 2, 100].into();
    let mut seoul = Tier::start(&net, vip);
    let node = Node::start(&net, &[("seoul", seoul.in_topology())]);
    node.until_holder("seoul", "lb-1");
    // Which see the client's own address.
    let clients: Vec<Visitor<'_>> = (0..4).map(|_| Visitor::new(&net, WWW, vip)).collect();
    let all_go_on = || clients.iter().for_each(Visitor::go_on);
    all_go_on();
    let (sights, _) = seen(&net, || ["l7-1", "l7-2"].iter().for_each(|host| seoul.until_busy(host)));
    all_served(&sights)?;

    let (sights, began) = seen(&net, || {
        seoul.kill_proxy("l7-1");
        seoul.until_up("lb-1", 1);
    });
    let last = sights.iter().rev().find(|sight| sight.server.is_err()).map(|sight| sight.at - began);
    println!("an L7 proxy killed: the last client that meets it comes after {last:?}");
    all_at(vip, &sights)?;
    ensure(last.is_none_or(|last| last < CHECKED), "it is left within its checks", last)?;
    let (sights, _) = seen(&net, all_go_on);
    all_served(&sights)?;

    let (sights, _) = seen(&net, || {
        seoul.start_proxy("l7-1");
        seoul.until_up("lb-1", 2);
        seoul.until_up("lb-2", 2);
    });
    all_served(&sights)?;
    // Its machine dies, not its program alone, whose rules would pass packets on.
    let held: Vec<Connection> = (0..8).map(|_| Connection::open(&net, WWW, vip)).collect();
    let (sights, _) = seen(&net, || {
        net.cut("lb-1");
        node.until_holder("seoul", "lb-2");
    });
    println!("an L4 proxy cut off: gap {:?}", gap(&sights));
    all_at(vip, &sights)?;
    ensure(gap(&sights) < Duration::from_secs(1), "the other takes over in time", gap(&sights))?;
    all_go_on();
    let broken = held.iter().find_map(|connection| connection.ask().err());
    ensure(broken.is_none(), "the other passes on what the first did", broken)?;
    ensure(node.count_logged("failover") == 0, "the region serves all the time", node.log())
}

/// Within which a server that was killed is left: two checks 200 ms apart, and what it takes to find a way around them.
const CHECKED: Duration = Duration::from_millis(700);
/// Within which clients lose a region whose proxies are killed, and one that is silent (README, Operating).
const KILLED: Duration = Duration::from_millis(1500);
const CUT_OFF: Duration = Duration::from_secs(3);
