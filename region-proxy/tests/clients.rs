//! Bounds on what one client, one connection and one request may take.

mod common;

use std::time::{Duration, Instant};

use common::raw::{GET, LAST, client_of, proxy_of, read_head, rest};
use common::{Origin, Proxy, ask, settings, unchecked, until};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let origin = Origin::start("one").await;
    let root = "threads = 1\n[clients]\nrequests_per_second = 1\nburst = 3\n";
    let proxy = proxy_of(root, origin.address).await;
    let mut client = client_of(&proxy, &format!("{GET}{GET}{GET}{GET}{LAST}")).await;
    let answers = rest(&mut client).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 429 Too Many Requests\r\n").count(), 2, "{answers}");
    assert!(answers.contains("Retry-After: 1\r\n"), "{answers}");
    until("let in again", async || proxy.get("/").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_apart_by_what_trusted_peers_say() {
    let origin = Origin::start("one").await;
    let root = "threads = 1\n[forwarded]\ntrusted = [\"127.0.0.0/8\"]\n[clients]\nrequests_per_second = 1\nburst = 1\n";
    let proxy = proxy_of(root, origin.address).await;
    for (address, status) in [("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
        let raw = LAST.replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n\r\n"));
        assert_eq!(ask(proxy.listen, &raw).await.status, status, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_no_more_connections_than_it_may() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("threads = 1\n[clients]\nconnections = 2\n", origin.address).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = client_of(&proxy, GET).await;
        assert!(read_head(&mut client).await.starts_with("http/1.1 200"));
        kept.push(client);
    }
    let mut third = TcpStream::connect(proxy.listen).await.expect("connected");
    assert!(!matches!(third.read(&mut [0; 16]).await, Ok(1..)), "closed at once");
    kept.pop();
    until("a place is free", async || {
        let mut client = TcpStream::connect(proxy.listen).await.expect("connected");
        let _ = client.write_all(LAST.as_bytes()).await;
        read_head(&mut client).await.starts_with("http/1.1 200")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_exempt_is_not_bound() {
    let origin = Origin::start("one").await;
    let root =
        "threads = 1\n[clients]\nrequests_per_second = 1\nburst = 1\nconnections = 1\nexempt = [\"127.0.0.1\"]\n";
    let proxy = proxy_of(root, origin.address).await;
    let _kept = client_of(&proxy, GET).await;
    for _ in 0..5 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_answered_413_in_either_framing() {
    let origin = Origin::start("one").await;
    let root = "limits.body_octets = 10\n[[routes]]\npath = \"/large\"\nbody_octets = 20\n";
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings(root, &services)).await;
    for (path, len, status) in [("/", 10, 200), ("/", 11, 413), ("/large", 20, 200), ("/large", 21, 413)] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n");
        let body = "x".repeat(len);
        let plain = format!("{head}Content-Length: {len}\r\n\r\n{body}");
        assert_eq!(ask(proxy.listen, &plain).await.status, status, "{path} {len}");
        let chunks: String = body.bytes().map(|_| "1\r\nx\r\n").collect();
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        assert_eq!(ask(proxy.listen, &chunked).await.status, status, "{path} {len} in chunks");
        // In two reads.
        let mut client = client_of(&proxy, &chunked[..chunked.len() - 40]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = client.write_all(&chunked.as_bytes()[chunked.len() - 40..]).await;
        assert_eq!(common::read_answer(&mut client).await.status, status, "{path} {len} in two reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_that_a_connection_may_carry_closes_it() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("limits.requests_per_connection = 2", origin.address).await;
    let answers = rest(&mut client_of(&proxy, &format!("{GET}{GET}{GET}")).await).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(answers.matches("Connection: close\r\n").count(), 1, "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_no_more_fields_than_it_may() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("limits.fields = 16", origin.address).await;
    for (more, status) in [(14, 200), (15, 431)] {
        let fields = (0..more).map(|at| format!("X-{at}: 1\r\n")).collect::<String>();
        let raw = LAST.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"));
        assert_eq!(ask(proxy.listen, &raw).await.status, status, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_ends_by_its_own_limit_and_a_slow_head_by_another() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("limits.keep_alive = \"200ms\"\nlimits.request_head = \"1s\"", origin.address).await;
    let start = Instant::now();
    let mut idle = client_of(&proxy, GET).await;
    rest(&mut idle).await;
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    let mut slow = client_of(&proxy, &format!("{GET}GET / HT")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    slow.write_all(&LAST.as_bytes()["GET /last HT".len()..]).await.expect("not closed");
    assert_eq!(rest(&mut slow).await.matches("HTTP/1.1 200 OK").count(), 2);
    let mut slower = client_of(&proxy, &format!("{GET}GET / HT")).await;
    let answers = rest(&mut slower).await;
    assert!(answers.contains("HTTP/1.1 408 "), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_late_all_the_time_refuses_at_once_until_it_has_time_again() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("threads = 1\nlimits.lag = \"50ms\"", origin.address).await;
    let start = Instant::now();
    let mut is_refused = false;
    while !is_refused && start.elapsed() < Duration::from_secs(10) {
        // As on a machine that has no time for it.
        proxy.signal(Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.signal(Signal::SIGCONT);
        let answer = tokio::time::timeout(Duration::from_millis(8), proxy.get("/")).await;
        is_refused = answer.is_ok_and(|answer| answer.status == 503 && answer.head.contains("retry-after: 1"));
    }
    assert!(is_refused);
    until("it has time again", async || proxy.get("/").await.status == 200).await;
}
