//! Servers that die, hang, or close connections under a request.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Origin, Proxy, QUICK, ask, read_answer, scripted, service, settings, unchecked, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn proxy_of(root: &str, one: SocketAddr, two: SocketAddr) -> Proxy {
    Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", one), ("app-2", two)]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_a_killed_server_go_to_the_next() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    // Each thread takes turns of its own.
    let proxy = proxy_of("threads = 1", one.address, two.address).await;
    for _ in 0..4 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    assert_eq!((one.requests(), two.requests()), (2, 2));
    one.kill().await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.status, 200);
        let post = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        let answer = ask(proxy.listen, post).await;
        assert!(answer.status == 200 && answer.body.contains("body Ok(5)"), "{answer:?}");
    }
    assert_eq!(two.requests(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_or_another_server_the_answer_is_502() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let proxy = proxy_of("retries = 0\nthreads = 1", one.address, two.address).await;
    one.kill().await;
    let mut statuses = [proxy.get("/").await.status, proxy.get("/").await.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    let proxy_with_retry = proxy_of("", two.address, SocketAddr::from(([127, 0, 0, 1], 1))).await;
    two.kill().await;
    assert_eq!(proxy_with_retry.get("/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_take_a_server_out_and_back() {
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let servers = [("app-1", one.address), ("app-2", two.address)];
    let proxy = Proxy::start(&settings("", &service("www.gslb.test", &servers, QUICK))).await;
    assert_eq!(proxy.service_status().await.servers_up, 2);

    one.shared.health.store(500, Ordering::SeqCst);
    let line = proxy.logged("server is down").await;
    for part in ["www.gslb.test", "app-1", "from=\"up\"", "to=\"down\"", "status 500, expected 200", "from_since="] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(proxy.service_status().await.servers_up, 1);
    let before = one.requests();
    for _ in 0..6 {
        assert!(proxy.get("/").await.body.starts_with("two "));
    }
    assert_eq!(one.requests(), before);

    let address = two.kill().await;
    until("no server is up", async || proxy.service_status().await.servers_up == 0).await;
    let answer = proxy.get("/").await;
    assert!(answer.status == 503 && answer.head.contains("retry-after: 1"), "{answer:?}");

    one.shared.health.store(200, Ordering::SeqCst);
    let _two = Origin::start_at("two", address).await;
    until("both are up", async || proxy.service_status().await.servers_up == 2).await;
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_answered_504_and_a_silent_client_408() {
    let origin = Origin::start("one").await;
    let servers = [("app-1", origin.address)];
    let root = "limits.response_head = \"200ms\"\nlimits.body_stall = \"1s\"";
    let proxy = Proxy::start(&settings(root, &unchecked("www.gslb.test", &servers))).await;
    assert_eq!(proxy.get("/slow").await.status, 504);
    let unfinished = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 9\r\n\r\nabc";
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    stream.write_all(unfinished.as_bytes()).await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.status, 408);
    until("nothing in flight", async || proxy.service_status().await.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_pause_in_its_body_for_longer_than_a_server_may_think() {
    let origin = Origin::start("one").await;
    let servers = [("app-1", origin.address)];
    let root = "limits.response_head = \"200ms\"\nlimits.body_stall = \"5s\"";
    let proxy = Proxy::start(&settings(root, &unchecked("www.gslb.test", &servers))).await;
    let head = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabc";
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(600)).await;
    stream.write_all(b"def").await.expect("sent");
    assert_eq!(read_answer(&mut stream).await.status, 200);
}

/// A server that closes each connection when a second request comes on it.
async fn forgetful() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                if stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    let _ = stream.read(&mut bytes).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_under_a_request_is_replaced_when_it_may_be_sent_again() {
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", forgetful().await)]))).await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    let post = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(ask(proxy.listen, post).await.status);
    }
    assert!(statuses.contains(&502), "a POST that was sent must not be sent again: {statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await;
            }
        }
    });
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", address)]))).await;
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    assert!(text.contains("content-length: 100") && text.ends_with("part"), "{text}");
    proxy.logged("response broke off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings("limits.client_stall = \"1s\"", &services)).await;
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    stream.write_all(b"GET /flood HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
    until("in flight", async || proxy.service_status().await.connections == 1).await;
    until("cut", async || proxy.service_status().await.connections == 0).await;
    drop(stream);
}

/// A server that sends two responses to each request.
async fn talkative() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                    let one = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
                    let two = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                    let _ = stream.write_all(format!("{one}{two}").as_bytes()).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_response_of_a_server_reaches_nobody() {
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", talkative().await)]))).await;
    for _ in 0..50 {
        let answer = proxy.get("/").await;
        assert!(answer.status == 200 && answer.body == "good", "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_no_http_is_answered_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            }
        }
    });
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", address)]))).await;
    assert_eq!(proxy.get("/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_write_one_line_a_second_for_their_server() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings("", &services)).await;
    origin.kill().await;
    let start = Instant::now();
    let mut requests = 0;
    while start.elapsed() < Duration::from_millis(1300) {
        assert_eq!(proxy.get("/").await.status, 502);
        requests += 1;
    }
    proxy.logged("left_out=0").await;
    let lines = proxy.log.lock().expect("not poisoned").iter().filter(|line| line.contains("request failed")).count();
    let seconds = start.elapsed().as_secs() as usize;
    assert!((2..=seconds + 1).contains(&lines) && requests > lines, "{lines} lines, {requests} requests, {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_pauses_in_its_body_for_too_long_is_cut_off() {
    let origin = Origin::start("one").await;
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let proxy = Proxy::start(&settings("limits.body_stall = \"200ms\"", &services)).await;
    let answer = proxy.get("/drip").await;
    assert!(answer.body.contains("first") && !answer.body.contains("\r\n0\r\n"), "{answer:?}");
    assert!(proxy.logged("response broke off").await.contains("200ms"));
    until("nothing in flight", async || proxy.service_status().await.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pauses_in_its_body_after_an_early_answer_is_cut() {
    let (address, _) = scripted("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    let services = unchecked("www.gslb.test", &[("app-1", address)]);
    let proxy = Proxy::start(&settings("limits.body_stall = \"200ms\"", &services)).await;
    let answer = ask(proxy.listen, "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 100000\r\n\r\na").await;
    assert_eq!((answer.status, answer.body.as_str()), (401, "no"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_but_steadily_is_not_cut() {
    const SIZE: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
                let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; SIZE]].concat()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let root = "limits.client_stall = \"1s\"";
    let proxy = Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", address)]))).await;
    let mut client = TcpStream::connect(proxy.listen).await.expect("connected");
    socket2::SockRef::from(&client).set_recv_buffer_size(16 * 1024).expect("set");
    client.write_all(b"GET / HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n").await.expect("sent");
    let (mut received, mut bytes) = (0, vec![0; 32 * 1024]);
    // So slow that what the proxy holds takes several times the limit; then as fast as may be.
    let end = Instant::now() + Duration::from_secs(6);
    while received < SIZE {
        let count = client.read(&mut bytes).await.expect("not cut");
        assert!(count > 0, "cut after {received}");
        received += count;
        if Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
