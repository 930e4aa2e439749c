//! How servers are found to be: checks, agents, and what requests tell.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Origin, Proxy, scripted, service, settings, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A check that takes a server out and back within some tens of milliseconds, with `more` keys.
fn quick(more: &str) -> String {
    format!("{{ interval = \"20ms\", time_limit = \"500ms\", rise = 2, fall = 2{more} }}")
}

async fn proxy(servers: &[(&str, SocketAddr)], check: &str, rest: &str) -> Proxy {
    Proxy::start(&settings("", &(service("www.gslb.test", servers, check) + rest))).await
}

/// An agent that says `lines[at]`, where `at` is what is returned beside its port.
async fn agent(lines: &'static [&'static str]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let port = listener.local_addr().expect("an address").port();
    let at = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&at);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(lines[now.load(Ordering::SeqCst)].as_bytes()).await;
        }
    });
    (port, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_sends_what_it_is_told_and_looks_at_the_body() {
    let (address, seen) = scripted("HTTP/1.1 204 No Content\r\n\r\n").await;
    let check = quick(
        ", path = \"/ready?a=1\", method = \"OPTIONS\", host = \"db.test\", fields = { X-Check = \"1\" }, status = \"200-299\"",
    );
    let proxy = proxy(&[("app-1", address)], &check, "").await;
    assert_eq!(proxy.service_status().await.servers_up, 1);
    let head = seen.lock().expect("not poisoned").clone();
    for part in ["OPTIONS /ready?a=1 HTTP/1.1\r\n", "Host: db.test\r\n", "X-Check: 1\r\n", "User-Agent: region-proxy/"]
    {
        assert!(head.contains(part), "{part} in {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_body_is_wrong_is_down_and_says_so() {
    let (well, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall well").await;
    let (sick, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsick").await;
    let check = quick(", path = \"/\", body_matches = \"^all w\\\\w+$\"");
    let proxy = proxy(&[("app-1", well), ("app-2", sick)], &check, "").await;
    let line = proxy.logged("server is down").await;
    assert!(line.contains("app-2") && line.contains("/^all w\\\\w+$/ is not in the body"), "{line}");
    assert_eq!(proxy.service_status().await.servers_up, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_go_where_they_are_told() {
    let (origin, health) = (Origin::start("one").await, Origin::start("health").await);
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let check = quick(&format!(", path = \"/health\", port = {}", health.address.port()));
    let servers = format!(
        "[services.\"www.gslb.test\"]\ncheck = {check}\n[services.\"www.gslb.test\".servers]\napp-1 = \"{}\"\n\
         app-2 = {{ address = \"127.0.0.2:{}\", check = \"{nobody}\" }}\n",
        origin.address,
        origin.address.port(),
    );
    let proxy = Proxy::start(&settings("", &servers)).await;
    let line = proxy.logged("server is down").await;
    assert!(line.contains("app-2") && line.contains("connect: refused"), "{line}");
    assert!(proxy.get("/").await.body.starts_with("one "));
    health.shared.health.store(503, Ordering::SeqCst);
    until("none is up", async || proxy.service_status().await.servers_up == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_to_checks_are_failures_and_nothing_else() {
    let endless: &'static str = Box::leak(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)).into_boxed_str());
    let (garbage, _) = scripted("\0\u{1}garbage\r\n\r\n").await;
    let (endless_head, _) = scripted(endless).await;
    let (silent, _) = scripted("").await;
    let flood = flood().await;
    let check = quick(", path = \"/\", body = \"ok\", body_octets = 1000").replace("500ms", "200ms");
    let servers = [("a", garbage), ("b", endless_head), ("c", silent), ("d", flood)];
    let proxy = proxy(&servers, &check, "").await;
    for reason in ["response: ", "no answer within 200ms", "is not in the first 1000 octets of its body"] {
        proxy.logged(reason).await;
    }
    until("all are down", async || proxy.service_status().await.servers_up == 0).await;
    assert_eq!(proxy.get("/").await.status, 503);
}

/// A server whose answer never ends.
async fn flood() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_takes_its_server_out_and_back() {
    let (one, two) = (Origin::start("one").await, Origin::start_at("two", SocketAddr::from(([127, 0, 0, 2], 0))).await);
    let lines = &[
        "up\n",
        "stopped#for the night\n",
        "up ready\n",
        "drain\r\n",
        "ready",
        "maint 10%, maxconn:5\n",
        "nonsense\n",
    ];
    let (port, at) = agent(lines).await;
    // The agent of the second listens at an address where nobody does: it says nothing, which changes nothing.
    let rest = format!("agent = {{ port = {port}, interval = \"20ms\" }}\n");
    let proxy = proxy(&[("app-1", one.address), ("app-2", two.address)], &quick(""), &rest).await;
    assert_eq!(proxy.service_status().await.servers_up, 2);
    assert!(proxy.logged("its agent says nothing").await.contains("connect: refused"));
    for (step, up, told) in [
        (1, 1, "agent: stopped: for the night"),
        (2, 2, "server is up"),
        (3, 1, "to=\"drain\""),
        (4, 2, "to=\"ready\""),
        (5, 1, "to=\"maintenance\""),
        (6, 1, "\\\"nonsense\\\" in its line: expected up"),
    ] {
        at.store(step, Ordering::SeqCst);
        until(told, async || proxy.service_status().await.servers_up == up).await;
        proxy.logged(told).await;
    }
    for _ in 0..10 {
        assert!(proxy.get("/").await.body.starts_with("two "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_agents_change_nothing() {
    let origin = Origin::start("one").await;
    let long: &'static str = Box::leak("up ".repeat(1000).into_boxed_str());
    let lines: &'static [&'static str] =
        Box::leak(vec!["up\n", "\u{1}\u{2}\n", long, "99999%\n", ""].into_boxed_slice());
    let (port, at) = agent(lines).await;
    let rest = format!("agent = {{ port = {port}, interval = \"20ms\", time_limit = \"100ms\" }}\n");
    let proxy = proxy(&[("app-1", origin.address)], &quick(""), &rest).await;
    for (step, told) in [
        (1, "not printable ASCII"),
        (2, "longer than 512 octets"),
        (3, "expected a number from 0 to 25600"),
        (4, "an empty line"),
    ] {
        at.store(step, Ordering::SeqCst);
        proxy.logged(told).await;
        assert_eq!(proxy.get("/").await.status, 200);
        at.store(0, Ordering::SeqCst);
        let heard =
            || proxy.log.lock().expect("not poisoned").iter().filter(|line| line.contains("is heard again")).count();
        until("heard again", async || heard() == step).await;
    }
    assert_eq!(proxy.service_status().await.servers_up, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_take_a_server_down_long_before_its_checks_would() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let check = "{ path = \"/health\", interval = \"1h\", down_interval = \"50ms\" }";
    let rest = "observe = { failures = 3 }\n";
    let proxy = proxy(&[("app-1", one.address), ("app-2", two.address)], check, rest).await;
    let address = one.kill().await;
    let line = until_down(&proxy).await;
    for part in ["app-1", "by traffic: ", "failures in a row", "from=\"up\"", "to=\"down\""] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let _one = Origin::start_at("one", address).await;
    until("both are up", async || proxy.service_status().await.servers_up == 2).await;
}

/// Sends requests until the log says that a server is down; none of them fails.
async fn until_down(proxy: &Proxy) -> String {
    let mut line = None;
    until("a server is down", async || {
        assert_eq!(proxy.get("/").await.status, 200);
        let log = proxy.log.lock().expect("not poisoned");
        line = log.iter().find(|line| line.contains("server is down")).cloned();
        line.is_some()
    })
    .await;
    line.expect("just found")
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_count_as_failures_only_where_that_is_asked_for() {
    let (broken, _) = scripted("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await;
    let check = "{ interval = \"1h\" }";
    let deaf = proxy(&[("app-1", broken)], check, "observe = { failures = 3 }\n").await;
    for _ in 0..10 {
        assert_eq!(deaf.get("/").await.status, 500);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(deaf.service_status().await.servers_up, 1);
    let strict = proxy(&[("app-1", broken)], check, "observe = { failures = 3, statuses = true }\n").await;
    until("it is down", async || {
        strict.get("/").await;
        strict.service_status().await.servers_up == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_may_lead_to_a_check_at_once_instead() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let check = "{ path = \"/health\", interval = \"1h\", fast_interval = \"20ms\", fall = 2 }";
    let proxy = proxy(
        &[("app-1", one.address), ("app-2", two.address)],
        check,
        "observe = { failures = 2, then = \"check\" }\n",
    )
    .await;
    one.kill().await;
    assert!(until_down(&proxy).await.contains("connect: refused"));
    assert!(proxy.logged("checked at once").await.contains("by traffic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_die_and_come_back_under_load_without_a_failed_request() {
    let mut origins = vec![Origin::start("one").await, Origin::start("two").await, Origin::start("three").await];
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let servers = [("app-1", addresses[0]), ("app-2", addresses[1]), ("app-3", addresses[2])];
    let rest = "observe = { failures = 3 }\nslow_start = \"200ms\"\nretry_budget = { per_second = 1000 }\n";
    let proxy = Arc::new(proxy(&servers, &quick(", path = \"/health\""), rest).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (proxy, is_over) = (Arc::clone(&proxy), Arc::clone(&is_over));
        clients.spawn(async move {
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                let answer = proxy.get("/").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                count += 1;
            }
            count
        });
    }
    for _ in 0..6 {
        let origin = origins.remove(0);
        let name = origin.shared.name;
        let address = origin.kill().await;
        until("it is down", async || proxy.service_status().await.servers_up == 2).await;
        let origin = Origin::start_at(name, address).await;
        until("it is up", async || proxy.service_status().await.servers_up == 3).await;
        until("it serves", async || origin.requests() > 5).await;
        origins.push(origin);
    }
    is_over.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        assert!(client.expect("no request failed") > 0);
    }
}
