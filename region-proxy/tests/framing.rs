//! Where messages begin and end: written anew by the proxy, never copied from a peer.

mod common;

use std::time::Duration;

use common::{Origin, Proxy, ask, scripted, settings, unchecked};

async fn proxy_of(address: std::net::SocketAddr) -> Proxy {
    Proxy::start(&settings("", &unchecked("www.gslb.test", &[("app-1", address)]))).await
}

/// What a server says in two ways would be read in two ways by those behind us.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_with_two_framings_or_lengths_is_answered_502() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let answer = proxy_of(scripted(reply).await.0).await.get("/").await;
        assert!(answer.status == 502 && !answer.body.contains("ok"), "{answer:?}");
    }
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
async fn a_request_with_two_framings_is_refused_and_nothing_is_read_after_it() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of(origin.address).await;
    let next = "GET /next HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n";
    for framing in
        ["Content-Length: 60\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 60"]
    {
        let raw = format!("POST / HTTP/1.1\r\nHost: www.gslb.test\r\n{framing}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{next}");
        let answer = ask(proxy.listen, &raw).await;
        assert!(answer.status == 400 && answer.head.contains("connection: close"), "{answer:?}");
        assert!(!answer.body.contains("/next"), "{answer:?}");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(origin.requests(), 0);
}
