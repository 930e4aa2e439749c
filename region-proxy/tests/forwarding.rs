//! What passes through the proxy, and how it is changed on the way.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::{ANY_PORT, Origin, Proxy, ask, hold, read_answer, settings, unchecked, until};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn proxy_of(origin: &Origin, root: &str) -> Proxy {
    Proxy::start(&settings(root, &unchecked("www.gslb.test", &[("app-1", origin.address)]))).await
}

async fn connect(proxy: &Proxy) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(proxy.listen).await.expect("connected");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("shaken");
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_the_server_with_forwarding_fields() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "forwarded.untrusted = \"keep\"").await;
    let raw = "GET /path?q=1 HTTP/1.1\r\nHost: WWW.gslb.test:81\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close, x-private\r\n\
               X-Private: 1\r\nUpgrade: websocket\r\nCookie: a=b\r\n\r\n";
    let answer = ask(proxy.listen, raw).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("one GET /path?q=1\n"), "{}", answer.body);
    for line in [
        "host: WWW.gslb.test:81",
        "x-forwarded-for: 192.0.2.1, 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: WWW.gslb.test:81",
        "via: 1.1 seoul-1",
        "cookie: a=b",
    ] {
        assert!(answer.body.lines().any(|found| found == line), "{line} in {}", answer.body);
    }
    for name in ["x-private", "upgrade", "connection"] {
        assert!(!answer.body.contains(&format!("\n{name}:")), "{name} in {}", answer.body);
    }
    assert!(answer.head.contains("via: 1.1 seoul-1"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_of_the_server_stay_behind() {
    let origin = Origin::start("one").await;
    let answer = proxy_of(&origin, "").await.get("/hop").await;
    assert!(answer.head.contains("x-public: 1") && !answer.head.contains("x-private"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again_on_both_sides() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "").await;
    let mut client = connect(&proxy).await;
    for _ in 0..20 {
        client.ready().await.expect("kept open");
        let request = Request::get("/").header("host", "www.gslb.test").body(Full::default()).expect("a request");
        let response = client.send_request(request).await.expect("a response");
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.expect("a body");
        // The connection to the server is free again a moment after the body ended.
        until("free", async || proxy.service_status().await.connections == 0).await;
    }
    assert_eq!(origin.requests(), 20);
    let connections = origin.shared.connections.load(Ordering::SeqCst);
    assert!(connections <= 2, "{connections} connections for 20 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_both_ways_in_little_memory() {
    const SIZE: usize = 96 << 20;
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "").await;
    let stream = TcpStream::connect(proxy.listen).await.expect("connected");
    let (mut reader, mut writer) = stream.into_split();
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n");
    let sending = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.expect("sent");
        let block: Vec<u8> = (0..=255).cycle().take(1 << 16).collect();
        for _ in 0..SIZE / block.len() {
            writer.write_all(&block).await.expect("sent");
        }
        writer
    });
    let mut bytes = vec![0; 1 << 16];
    let (mut received, mut head) = (0_usize, Vec::new());
    loop {
        let count = reader.read(&mut bytes).await.expect("read");
        if count == 0 {
            break;
        }
        if received == 0 && head.len() < 4096 {
            head.extend_from_slice(&bytes[..count]);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            received = head.len() - end - 4;
        } else {
            received += count;
        }
    }
    sending.await.expect("all sent");
    // The echo has no known length, so it comes in chunks: at least as long as what was sent.
    assert!(head.starts_with(b"HTTP/1.1 200") && received >= SIZE, "{received}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("it runs");
    let peak_kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak_kib.is_some_and(|peak| peak < 64 << 10), "{peak_kib:?} KiB for a body of {} KiB", SIZE >> 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_of_a_response_is_relayed_as_it_comes() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "").await;
    let mut client = connect(&proxy).await;
    let request = Request::get("/drip").header("host", "www.gslb.test").body(Full::default()).expect("a request");
    let mut body = client.send_request(request).await.expect("a response").into_body();
    let first = body.frame().await.expect("a part").expect("whole").into_data().expect("data");
    assert_eq!(first, "first");
    origin.shared.release.notify_one();
    assert_eq!(body.collect().await.expect("a body").to_bytes(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_misdirected_unless_there_is_a_default() {
    let origin = Origin::start("one").await;
    let raw = "GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let proxy = proxy_of(&origin, "").await;
    assert_eq!(ask(proxy.listen, raw).await.status, 421);
    let proxy = proxy_of(&origin, "default_service = \"www.gslb.test\"").await;
    assert_eq!(ask(proxy.listen, raw).await.status, 200);
    let old = ask(proxy.listen, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.status, 200);
    assert!(old.body.contains("via: 1.0 seoul-1"), "{}", old.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_refused_and_never_forwarded() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "limits.head_octets = 8192").await;
    let long = "a".repeat(20_000);
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: www.gslb.test\r\nHost: www.gslb.test\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: user@www.gslb.test\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 1, 2\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: www.gslb.test\r\nBad Name: 1\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: www.gslb.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: www.gslb.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(), 501),
        ("CONNECT www.gslb.test:443 HTTP/1.1\r\nHost: www.gslb.test:443\r\n\r\n".to_owned(), 501),
        (format!("GET / HTTP/1.1\r\nHost: www.gslb.test\r\nX: {long}\r\n\r\n"), 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET * HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n".to_owned(), 400),
        ("GET www.gslb.test:80 HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n".to_owned(), 400),
    ];
    for (raw, status) in cases {
        let raw = raw.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        assert_eq!(ask(proxy.listen, &raw).await.status, status, "{raw:.90}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_options_are_asked_by_an_asterisk() {
    let (address, seen) = common::scripted("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", address)]))).await;
    let raw = "OPTIONS * HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(proxy.listen, raw).await.status, 204);
    assert!(seen.lock().expect("not poisoned").starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_its_head_is_cut() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "limits.request_head = \"200ms\"").await;
    for start in ["", "GET / HTTP/1.1\r\nHost: www"] {
        let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
        stream.write_all(start.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "still open after {start:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_continue_is_told_to() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "").await;
    let mut stream = TcpStream::connect(proxy.listen).await.expect("connected");
    let head = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.expect("an interim response");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("sent");
    let answer = read_answer(&mut stream).await;
    assert!(answer.status == 200 && answer.body.contains("body Ok(5)"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_tells_the_length_without_a_body() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(&origin, "").await;
    let head = |method: &str, end: &str| format!("{method} /hop HTTP/1.1\r\nHost: www.gslb.test\r\n{end}\r\n");
    let raw = head("HEAD", "") + &head("GET", "Connection: close\r\n");
    let answer = ask(proxy.listen, &raw).await;
    assert!(answer.head.contains("content-length: 3"), "{answer:?}");
    assert!(answer.body.starts_with("HTTP/1.1 200 OK") && answer.body.ends_with("hop"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_back_the_rest_until_the_first_part_is_acknowledged_does_not_wait() {
    let origin = Origin::start("one").await;
    let plain = proxy_of(&origin, "").await;
    let (_held, free) = hold(ANY_PORT);
    let services = unchecked("www.gslb.test", &[("app-1", origin.address)]);
    let text = settings(&format!("proxy_protocol.listen = [\"{free}\"]"), &services);
    let _behind = Proxy::start(&text.replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{free}\"]"))).await;
    let head = "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nContent-Length: 4\r\n";
    for (address, parts) in [
        (plain.listen, [head, "\r\nbody"]),
        (plain.listen, [&format!("{head}\r\n"), "body"]),
        (free, ["PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", &format!("{head}\r\nbody")]),
        (free, ["PROXY TCP4 192.0.2.1 192.0", &format!(".2.2 1 2\r\n{head}\r\nbody")]),
    ] {
        let mut quickest = Duration::MAX;
        for _ in 0..10 {
            // It sends no small segment while another is not acknowledged (RFC 9293, section 3.7.4).
            let mut client = TcpStream::connect(address).await.expect("connected");
            let began = std::time::Instant::now();
            for part in parts {
                client.write_all(part.as_bytes()).await.expect("sent");
            }
            assert_eq!(read_answer(&mut client).await.status, 200);
            quickest = quickest.min(began.elapsed());
        }
        assert!(quickest < Duration::from_millis(35), "the kernel's own time came: {quickest:?}: {parts:?}");
    }
}
