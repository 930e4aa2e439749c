//! Clients and servers that mean harm: slow ones, crowds, smugglers, and servers that say what nobody asked for.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{GET, LAST, client_of, proxy_of, read_head, rest, server};
use common::{DEADLINE, Origin, Proxy, ask, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Sends `parts` with a pause before each, and gives what comes back until the connection ends.
async fn drip(address: SocketAddr, parts: impl IntoIterator<Item = String>, pause: Duration) -> (String, Duration) {
    let start = Instant::now();
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut reader, mut writer) = stream.into_split();
    let parts: Vec<String> = parts.into_iter().collect();
    let sending = tokio::spawn(async move {
        for part in parts {
            sleep(pause).await;
            if writer.write_all(part.as_bytes()).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut bytes = Vec::new();
    let _ = timeout(DEADLINE, reader.read_to_end(&mut bytes)).await.expect("in time");
    sending.abort();
    (String::from_utf8_lossy(&bytes).into_owned(), start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_come_octet_by_octet_are_cut_by_their_limits() {
    let origin = Origin::start("one").await;
    let root = "limits.request_head = \"400ms\"\nlimits.body_stall = \"300ms\"";
    let proxy = proxy_of(root, origin.address).await;
    let endless = (0..1000).map(|at| format!("X-{at}: 1\r\n"));
    let head = std::iter::once("GET / HTTP/1.1\r\nHost: www.gslb.test\r\n".to_owned()).chain(endless);
    let (answer, took) = drip(proxy.listen, head, Duration::from_millis(10)).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && took < Duration::from_secs(5), "{took:?}: {answer}");
    let body = ["POST / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 9\r\n\r\nabc".to_owned()];
    let (answer, took) = drip(proxy.listen, body, Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && took < Duration::from_secs(5), "{took:?}: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_cut_and_its_server_is_free_again() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("limits.client_stall = \"1s\"", origin.address).await;
    let _deaf = client_of(&proxy, &GET.replace("/ ", "/flood ")).await;
    until("in flight", async || proxy.service_status().await.connections == 1).await;
    until("cut", async || proxy.service_status().await.connections == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_half_open_connections_leave_service_untouched() {
    let origin = Origin::start("one").await;
    let proxy = proxy_of("", origin.address).await;
    let mut crowd = Vec::new();
    for at in 0..2000 {
        // As far as one process may open files.
        let Ok(mut stream) = TcpStream::connect(proxy.listen).await else { break };
        let start = ["", "GET / HT", "POST / HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: 5\r\n\r\nab"][at % 3];
        stream.write_all(start.as_bytes()).await.expect("sent");
        crowd.push(stream);
    }
    assert!(crowd.len() >= 500, "{}", crowd.len());
    for _ in 0..50 {
        let start = Instant::now();
        assert_eq!(proxy.get("/").await.status, 200);
        assert!(start.elapsed() < Duration::from_secs(2));
    }
}

/// A server that notes all that it gets, and answers each head with its number.
async fn recorder() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&seen);
    let address = server(move |mut stream: TcpStream, mut head: String| {
        let noting = Arc::clone(&noting);
        async move {
            while !head.is_empty() {
                let length = head.split("content-length: ").nth(1).and_then(|text| text.split("\r\n").next());
                let mut body = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
                stream.read_exact(&mut body).await.expect("a body");
                if head.contains("transfer-encoding: chunked") {
                    while !body.ends_with(b"0\r\n\r\n") {
                        body.push(stream.read_u8().await.expect("a chunk"));
                    }
                }
                let line = head.lines().next().unwrap_or_default().to_owned();
                noting.lock().expect("not poisoned").push(line.clone());
                let text = format!("{line} {}", String::from_utf8_lossy(&body).replace("\r\n", "|"));
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                stream.write_all(reply.as_bytes()).await.expect("sent");
                head = read_head(&mut stream).await;
            }
        }
    })
    .await;
    (address, seen)
}

/// Pairs in which a careless reader finds a request for `/evil` where a strict one finds none.
const SMUGGLERS: [&str; 16] = [
    "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 44\r\n\r\n0\r\n\r\n",
    "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "Content-Length: 44\r\nContent-Length: 0\r\n\r\n",
    "Content-Length: 0, 44\r\n\r\n",
    "Content-Length: +0\r\n\r\n",
    "Content-Length: 0x0\r\n\r\n",
    "Content-Length : 44\r\n\r\n",
    " Content-Length: 44\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_smuggled_request_reaches_a_server() {
    let (address, seen) = recorder().await;
    let proxy = proxy_of("threads = 1", address).await;
    for fields in SMUGGLERS {
        let evil = "GET /evil HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n";
        let raw = format!("POST /first HTTP/1.1\r\nHost: www.gslb.test\r\n{fields}{evil}");
        let answers = rest(&mut client_of(&proxy, &raw).await).await;
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {answers}");
        assert!(answers.starts_with("HTTP/1.1 400 ") || answers.starts_with("HTTP/1.1 501 "), "{fields:?}: {answers}");
        // Who comes next over the same connection to the server gets their own answer.
        let next = ask(proxy.listen, LAST).await;
        assert!(next.body.starts_with("get /last http/1.1"), "{fields:?}: {next:?}");
    }
    assert!(!seen.lock().expect("not poisoned").iter().any(|line| line.contains("evil")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_request_within_a_body_stays_a_body() {
    let (address, seen) = recorder().await;
    let proxy = proxy_of("threads = 1", address).await;
    let evil = "GET /evil HTTP/1.1\r\nHost: www.gslb.test\r\n\r\n";
    let plain = format!("POST /a HTTP/1.1\r\nHost: www.gslb.test\r\nContent-Length: {}\r\n\r\n{evil}", evil.len());
    let chunked = format!(
        "POST /b HTTP/1.1\r\nHost: www.gslb.test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{evil}\r\n0\r\n\r\n",
        evil.len()
    );
    let answers = rest(&mut client_of(&proxy, &format!("{plain}{chunked}{LAST}")).await).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    let expected = ["post /a http/1.1", "post /b http/1.1", "get /last http/1.1"];
    assert_eq!(*seen.lock().expect("not poisoned"), expected);
}

/// A server that speaks as soon as it is connected to, and goes on as `rude` says.
async fn rude(reply: &'static [u8], is_early: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                if is_early {
                    let _ = stream.write_all(reply).await;
                    let _ = stream.read(&mut bytes).await;
                } else {
                    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(reply).await;
                    }
                }
            });
        }
    });
    address
}

/// What clients get of a server that answers `reply`: ten of them, one after the other, over kept connections.
async fn answers_of(proxy: &Proxy) -> Vec<String> {
    let mut answers = Vec::new();
    for at in 0..10 {
        let raw = LAST.replace("/last", &format!("/{at}"));
        answers.push(rest(&mut client_of(proxy, &raw).await).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_sends_beyond_its_response_reaches_no_client() {
    const EXTRA: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 100 Continue\r\n\r\nevil",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood\0evil",
    ];
    for reply in EXTRA {
        let proxy = proxy_of("threads = 1", rude(reply, false).await).await;
        for answer in answers_of(&proxy).await {
            let text = String::from_utf8_lossy(reply);
            assert!(answer.contains("good") && !answer.contains("evil"), "{text:?}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_end_or_sense_is_never_taken_for_whole() {
    const BROKEN: [&[u8]; 8] = [
        b"\x00\x01\x02\x03garbage",
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!",
        b"HTTP/1.1 999 What\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/2 200\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nevil\r\n",
    ];
    for reply in BROKEN {
        let proxy = proxy_of("threads = 1", rude(reply, false).await).await;
        for answer in answers_of(&proxy).await {
            let text = String::from_utf8_lossy(reply);
            assert!(answer.starts_with("HTTP/1.1 502 ") && !answer.contains("evil"), "{text:?}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_before_it_is_asked_serves_nobody_twice() {
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let proxy = proxy_of("threads = 1", rude(reply, true).await).await;
    for answer in answers_of(&proxy).await {
        assert!(!answer.contains("evil"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_whose_servers_die_under_load_never_get_the_answer_of_another() {
    // Echoes the target, and dies at every third request: before, within or after its answer.
    let address = server(async |mut stream: TcpStream, mut head: String| {
        let mut count = 0;
        while !head.is_empty() {
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
            count += 1;
            let cut = [reply.len(), reply.len(), [0, reply.len() - 2, reply.len()][count % 3]][count % 3];
            if stream.write_all(&reply.as_bytes()[..cut]).await.is_err() || count % 3 == 2 {
                return;
            }
            head = read_head(&mut stream).await;
        }
    })
    .await;
    let proxy = Arc::new(proxy_of("threads = 1", address).await);
    let clients = (0..8).map(|client| {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            for at in 0..60 {
                let target = format!("/{client}-{at}-");
                let answer = ask(proxy.listen, &LAST.replace("/last", &target)).await;
                let is_own = target.starts_with(&answer.body) && !answer.body.is_empty();
                assert!(is_own || answer.status == 502 || answer.status == 0 || answer.body.is_empty(), "{answer:?}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("its own answers alone");
    }
}
