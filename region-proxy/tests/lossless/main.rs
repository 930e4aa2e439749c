//! Under load no request is lost: over reloads, upgrades, the end of the proxy and the death of a server.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "../tls/site.rs"]
mod site;

mod clients;
mod message;
mod origin;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clients::Crowd;
use common::{Proxy, QUICK, settings, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use origin::Origin;
use site::Site;

/// The settings number `round`: servers, weights, balancing, routes and limits differ from one to the next.
fn variant(site: &Site, round: usize, origins: &[Origin; 3], tls: SocketAddr) -> String {
    let server = |(index, origin): (usize, &Origin)| {
        let weight = 1 + (round + index) % 4;
        format!("app-{index} = {{ address = \"{}\", weight = {weight} }}\n", origin.address)
    };
    let servers = origins.iter().enumerate().filter(|(index, _)| round == 0 || *index != round % 4).map(server);
    let balance = ["round_robin", "least_connections", "random_of_two", "ewma"][round / 2 % 4];
    let root = format!(
        "threads = 2\nlimits.upstream_idle = \"{}s\"\n{}[[routes]]\nresponse = {{ set = {{ X-Round = \"{round}\" }} }}\n",
        1 + round % 3,
        site.tls_at(&tls.to_string(), ""),
    );
    let service = format!("[services.\"www.gslb.test\"]\nbalance = \"{balance}\"\ncheck = {QUICK}\n");
    let servers: String = servers.collect();
    settings(&root, &format!("{service}[services.\"www.gslb.test\".servers]\n{servers}"))
}

async fn three() -> [Origin; 3] {
    [Origin::start().await, Origin::start().await, Origin::start().await]
}

/// Has the proxy take over the settings number `round`, and waits until a request sees them.
async fn reload(proxy: &Proxy, text: &str, round: usize) {
    proxy.rewrite(text);
    proxy.signal(Signal::SIGHUP);
    let expected = format!("x-round: {round}\r\n");
    until("the new settings in force", async || proxy.get("/").await.head.contains(&expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_nothing() {
    let (origins, site) = (three().await, Site::new(&["www.gslb.test"]));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let proxy = Proxy::start_in(site.folder(), &variant(&site, 0, &origins, anywhere)).await;
    let crowd = Crowd::new(proxy.listen, Some(proxy.tls[0]));
    let clients = crowd.all();
    for round in 1..=100 {
        if round % 10 == 0 {
            site.write_identity("www.gslb.test");
        }
        reload(&proxy, &variant(&site, round, &origins, anywhere), round).await;
    }
    crowd.end();
    clients.join_all().await;
    report(&crowd);
    assert!(crowd.failures().is_empty(), "{:#?}", crowd.failures());
    assert!(KINDS.iter().all(|kind| crowd.served(kind) > 0) && crowd.served("TLS") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_upgrades_under_load_lose_nothing() {
    let (origins, site) = (three().await, Site::new(&["www.gslb.test"]));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut proxy = Proxy::start_in(site.folder(), &variant(&site, 0, &origins, anywhere)).await;
    let successors = Successors(Arc::clone(&proxy.log));
    let crowd = Crowd::new(proxy.listen, Some(proxy.tls[0]));
    let mut clients = crowd.all();
    clients.spawn(Arc::clone(&crowd).statuses(proxy.status));
    for upgrade in 1..=3 {
        let served = crowd.served("new");
        until("some load", async || crowd.served("new") > served + 20).await;
        // With other settings, and with more threads or fewer.
        let threads = format!("threads = {}", [2, 3, 1][upgrade % 3]);
        site.write("proxy.toml", &variant(&site, upgrade, &origins, anywhere).replace("threads = 2", &threads));
        let pid = successors.pids().last().copied().unwrap_or_else(|| proxy.pid());
        kill(Pid::from_raw(pid), Signal::SIGUSR2).expect("it runs");
        until("handed over", async || successors.handovers() == upgrade).await;
    }
    let served = crowd.served("new");
    until("some load", async || crowd.served("new") > served + 20).await;
    crowd.end();
    clients.join_all().await;
    report(&crowd);
    assert!(crowd.failures().is_empty(), "{:#?}", crowd.failures());
    assert!(KINDS.iter().all(|kind| crowd.served(kind) > 0) && crowd.served("TLS") > 0);
    assert!(proxy.exit().await.success(), "the first one ends once its last client has gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_cuts_no_request_before_its_time() {
    let origins = three().await;
    let servers: Vec<_> = ["a", "b", "c"].into_iter().zip(origins.iter().map(|origin| origin.address)).collect();
    let services = common::service("www.gslb.test", &servers, QUICK);
    let mut proxy = Proxy::start(&settings("threads = 2\nlimits.stop = \"10s\"", &services)).await;
    let crowd = Crowd::new(proxy.listen, None);
    let mut clients = crowd.all();
    for path in ["/wait/300", "/wait/600", "/wait/900"] {
        clients.spawn(Arc::clone(&crowd).keep_alive(path, Duration::ZERO));
        clients.spawn(Arc::clone(&crowd).posts(path));
    }
    until("some load", async || crowd.served("post") > 10 && crowd.served("new") > 100).await;
    let told = Instant::now();
    proxy.signal(Signal::SIGTERM);
    crowd.end();
    let under_way: usize = origins.iter().map(|origin| origin.book.under_way().len()).sum();
    clients.join_all().await;
    report(&crowd);
    // Who connects at that very moment may find nobody.
    let had = told - Duration::from_millis(20);
    let cut: Vec<_> = crowd.failures().into_iter().filter(|failure| failure.began < had).collect();
    assert!(cut.is_empty() && under_way > 6, "{under_way}: {cut:#?}");
    assert!(proxy.exit().await.success());
    assert!(told.elapsed() < Duration::from_secs(8), "it does not wait longer than it must");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_server_fails_only_what_it_had_and_cannot_be_replayed() {
    let [one, two, victim] = three().await;
    let servers: Vec<_> = ["a", "b", "c"].into_iter().zip([&one, &two, &victim].map(|origin| origin.address)).collect();
    let services =
        common::service("www.gslb.test", &servers, QUICK) + "retry_budget = { percent = 100, per_second = 1000 }\n";
    let proxy = Proxy::start(&settings("threads = 2\nretries = 2", &services)).await;
    let crowd = Crowd::new(proxy.listen, None);
    let mut clients = crowd.all();
    for _ in 0..8 {
        clients.spawn(Arc::clone(&crowd).posts("/wait/30"));
        clients.spawn(Arc::clone(&crowd).keep_alive("/wait/30", Duration::ZERO));
    }
    until("load at the victim", async || {
        let under_way = victim.book.under_way();
        let count = |method: &str| under_way.values().filter(|one| *one == method).count();
        victim.book.ever() > 200 && count("POST") > 1 && count("GET") > 1
    })
    .await;
    let had = victim.kill().await;
    let before = crowd.served("post");
    until("the others serve", async || crowd.served("post") > before + 50).await;
    crowd.end();
    clients.join_all().await;
    report(&crowd);
    let posts = had.values().filter(|method| *method == "POST").count();
    let failures = crowd.failures();
    eprintln!("the victim had {} requests, {posts} of which cannot be replayed; {} failed", had.len(), failures.len());
    for failure in &failures {
        // A tunnel and a response that has begun are not for another server either.
        let is_lost = had.contains_key(&failure.id) && ["post", "upload", "tunnel", "download"].contains(&failure.kind);
        assert!(is_lost, "{failure:?} of {had:?}");
    }
    let lost = failures.iter().filter(|failure| ["post", "upload"].contains(&failure.kind)).count();
    assert!(lost <= posts, "{failures:?} of {had:?}");
}

/// What each kind of client got.
fn report(crowd: &Crowd) {
    let counts = KINDS.map(|kind| format!("{kind} {}", crowd.served(kind))).join(", ");
    eprintln!("served: {counts}, TLS {}", crowd.served("TLS"));
}

const KINDS: [&str; 7] = ["keep-alive", "new", "HTTP/2", "download", "upload", "word", "tunnel"];

/// The programs that took the place of the one that the harness started; they end with this.
struct Successors(Arc<Mutex<Vec<String>>>);

impl Successors {
    /// Their process ids, oldest first.
    fn pids(&self) -> Vec<i32> {
        let log = self.0.lock().expect("not poisoned");
        let started = log.iter().filter(|line| line.contains("upgrading: started"));
        started.filter_map(|line| line.split("pid=").nth(1)?.split_whitespace().next()?.parse().ok()).collect()
    }

    fn handovers(&self) -> usize {
        self.0.lock().expect("not poisoned").iter().filter(|line| line.contains("handed over")).count()
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in self.pids() {
            // It may have ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
