//! Where messages begin and end: written anew by the proxy, never copied from a peer.

mod common;

use std::time::Duration;

use common::{Origin, Proxy, ask, scripted, settings, unchecked};

async fn proxy_of(address: std::net::SocketAddr) -> Proxy {
    Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", address)]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_with_two_framings_is_read_and_written_by_its_chunks() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n";
    let (address, _) = scripted(reply).await;
    let answer = proxy_of(address).await.get("/").await;
    assert!(!answer.head.contains("content-length: 3"), "{answer:?}");
    assert!(answer.body.contains("abcdef"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_told_twice_is_relayed_once() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let answer = proxy_of(scripted(reply).await.0).await.get("/").await;
        let lengths: Vec<&str> = answer.head.lines().filter(|line| line.starts_with("content-length")).collect();
        assert_eq!((lengths, answer.body.as_str()), (vec!["content-length: 2"], "ok"));
    }
    let (address, _) = scripted("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n").await;
    let raw = "HEAD / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(proxy_of(address).await.listen, raw).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_a_coding_that_would_be_lost_is_answered_502() {
    for reply in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    ] {
        let answer = proxy_of(scripted(reply).await.0).await.get("/").await;
        assert_eq!(answer.status, 502, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_reaches_the_server_whatever_the_method() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(origin.address).await;
    for method in ["GET", "POST", "DELETE"] {
        let raw = format!(
            "{method} / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let answer = ask(proxy.listen, &raw).await;
        assert!(answer.body.contains("body Ok(3)"), "{method}: {answer:?}");
    }
}

/// RFC 9112, section 6.1: a front that read the other framing would take the rest for another client's request.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_after_a_body_with_two_framings() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(origin.address).await;
    let next = "GET /next HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    for framing in
        ["Content-Length: 60\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 60"]
    {
        let raw = format!("POST / HTTP/1.1\r\nHost: www.gslb.test\r\n{framing}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{next}");
        let before = origin.requests();
        let answer = ask(proxy.listen, &raw).await;
        assert!(answer.head.contains("connection: close") && !answer.body.contains("/next"), "{answer:?}");
        assert!(answer.body.contains("body Ok(3)") && !answer.body.contains("content-length: 60"), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(origin.requests(), before + 1);
    }
}
