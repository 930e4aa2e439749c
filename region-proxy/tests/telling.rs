//! What the metrics and the page of the status listener say of what was sent.

mod common;

use std::net::SocketAddr;

use common::{Origin, Proxy, ask, scripted, service, settings, unchecked, until};
use nix::sys::signal::Signal;
use serde_json::Value;

async fn read(proxy: &Proxy, path: &str) -> common::Answer {
    let answer = ask(proxy.status, &format!("GET {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// The value of each sample, by its name and labels.
async fn samples(proxy: &Proxy) -> Vec<(String, f64)> {
    let text = read(proxy, "/metrics").await.body;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn value(samples: &[(String, f64)], name: &str) -> f64 {
    let found = samples.iter().find(|(sample, _)| sample == name);
    found.unwrap_or_else(|| panic!("no {name} in {samples:#?}")).1
}

async fn get(proxy: &Proxy, host: &str, path: &str) -> u16 {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(proxy.listen, &text).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_agree_with_what_was_sent() {
    let origin = Origin::start("one").await;
    let (garbage, _) = scripted("220 mail.example ESMTP\r\n").await;
    let services =
        [unchecked("www.gslb.test", &[("app-1", origin.address)]), unchecked("garbage.test", &[("app-1", garbage)])];
    let root = "limits.response_head = \"200ms\"\nthreads = 2";
    let proxy = Proxy::start(&settings(root, &services.concat())).await;
    for _ in 0..7 {
        assert_eq!(get(&proxy, "www.gslb.test", "/").await, 200);
    }
    assert_eq!(get(&proxy, "www.gslb.test", "/slow").await, 504);
    assert_eq!(get(&proxy, "garbage.test", "/").await, 502);
    assert_eq!(get(&proxy, "unknown.test", "/").await, 421);
    assert_eq!(ask(proxy.listen, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.status, 400);
    let mut all = Vec::new();
    until("all is counted", async || {
        all = samples(&proxy).await;
        value(&all, "region_proxy_client_connections") == 0.0
    })
    .await;
    let of = |name: &str| value(&all, &format!("region_proxy_{name}"));
    assert_eq!(of("requests_total{service=\"www.gslb.test\",class=\"2xx\"}"), 7.0);
    assert_eq!(of("requests_total{service=\"www.gslb.test\",class=\"5xx\"}"), 1.0);
    assert_eq!(of("request_failures_total{service=\"www.gslb.test\",cause=\"response_timeout\"}"), 1.0);
    assert_eq!(of("server_responses_total{service=\"www.gslb.test\",server=\"app-1\",class=\"2xx\"}"), 7.0);
    assert_eq!(of("server_failures_total{service=\"garbage.test\",server=\"app-1\",cause=\"bad_response\"}"), 1.0);
    let server = "service=\"www.gslb.test\",server=\"app-1\"";
    assert_eq!(of(&format!("server_response_head_seconds_count{{{server}}}")), 7.0);
    assert_eq!(of(&format!("server_response_seconds_bucket{{le=\"+Inf\",{server}}}")), 7.0);
    let connections = ["opened", "reused"].map(|kind| of(&format!("server_connections_{kind}_total{{{server}}}")));
    assert_eq!(connections[0] + connections[1], 8.0);
    assert_eq!(connections[0], origin.shared.connections.load(std::sync::atomic::Ordering::SeqCst) as f64);
    assert_eq!(
        (of(&format!("server_up{{{server}}}")), of(&format!("server_requests_in_flight{{{server}}}"))),
        (1.0, 0.0)
    );
    assert_eq!(of("own_answers_total{class=\"4xx\"}"), 2.0);
    assert_eq!(of("refusals_total{reason=\"host_repeated\"}"), 1.0);
    assert_eq!(of("client_connections_accepted_total"), 11.0);
    assert_eq!(of("build_info{version=\"0.1.0\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_queues_and_refused_reloads_are_counted() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let servers = [("app-1", one.address), ("app-2", two.address)];
    let text = settings("threads = 1", &unchecked("www.gslb.test", &servers));
    let proxy = Proxy::start(&text).await;
    one.kill().await;
    for _ in 0..4 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    proxy.rewrite("nonsense");
    proxy.signal(Signal::SIGHUP);
    proxy.logged("settings not reloaded").await;
    let all = samples(&proxy).await;
    let of = |name: &str| value(&all, &format!("region_proxy_{name}"));
    let retries = of("server_retries_total{service=\"www.gslb.test\",server=\"app-1\"}");
    assert!(retries >= 1.0, "{retries}");
    assert_eq!(of("redispatches_total{service=\"www.gslb.test\"}"), retries);
    assert_eq!(of("server_failures_total{service=\"www.gslb.test\",server=\"app-1\",cause=\"connect\"}"), retries);
    assert_eq!(of("last_reload_failed"), 1.0);
    let stats: Value = serde_json::from_str(&read(&proxy, "/stats.json").await.body).expect("an object");
    let server = &stats["services"][0]["servers"][0];
    assert!(server["last_failure"]["what"].as_str().is_some_and(|what| what.contains("refused")), "{server}");
    assert!(stats["reloads"]["problems"][0].as_str().is_some_and(|what| what.contains("proxy.toml")), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_counts_connections_where_they_pass_as_they_are() {
    let origin = Origin::start("one").await;
    let pool = unchecked("db.test", &[("db-1", origin.address)]).replace("]\n", "]\nmode = \"tcp\"\n");
    let tcp = "[[tcp]]\nlisten = [\"127.0.0.1:0\"]\nservice = \"db.test\"\n";
    let proxy = Proxy::start(&settings("", &format!("{tcp}{pool}"))).await;
    for _ in 0..2 {
        ask(proxy.tcp[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    }
    let page = read(&proxy, "/stats").await.body;
    assert!(page.contains("Connections since the start: 2") && !page.contains("Answers since"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_from_elsewhere_and_shows_each_server() {
    let (up, down) = (Origin::start("one").await, SocketAddr::from(([127, 0, 0, 1], 1)));
    let services = service(
        "www.gslb.test",
        &[("app-1", up.address), ("app-2", down)],
        "{ interval = \"1h\", fall = 1, path = \"/health\", rise = 1 }",
    );
    let proxy = Proxy::start(&settings("", &services)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    let page = read(&proxy, "/stats").await;
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(!page.body.contains("<script") && !page.body.contains("src=") && !page.body.contains("http://"));
    for part in ["app-1", "app-2", "1 of 2 up", ">down<", ">up<", "<meta http-equiv=\"refresh\""] {
        assert!(page.body.contains(part), "{part} in {}", page.body);
    }
    let opened = page.body.matches("<td").count();
    assert_eq!(opened, page.body.matches("</td>").count());
    assert_eq!(page.body.matches("<section").count(), page.body.matches("</section>").count());
}
