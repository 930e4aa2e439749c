//! Servers that speak HTTP/2: what gRPC needs, from clients of both versions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Proxy, ask, service, settings, unchecked, until};

/// What a server has seen.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    resets: AtomicUsize,
}

async fn server() -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Seen::default());
    let noting = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&noting)));
        }
    });
    (address, seen)
}

async fn connection(stream: TcpStream, seen: Arc<Seen>) {
    // A check only connects.
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let number = seen.connections.fetch_add(1, Ordering::SeqCst);
    while let Some(Ok((request, respond))) = connection.accept().await {
        let count = seen.requests.fetch_add(1, Ordering::SeqCst);
        if request.uri().path() == "/last" {
            connection.graceful_shutdown();
        }
        tokio::spawn(answer(request, respond, Arc::clone(&seen), number, count));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: Arc<Seen>,
    number: usize,
    count: usize,
) {
    let (parts, mut body) = request.into_parts();
    match parts.uri.path() {
        "/refuse" if count == 0 => return respond.send_reset(Reason::REFUSED_STREAM),
        "/trailers-only" => {
            let head = Response::builder().header("grpc-status", "5").body(()).expect("a head");
            respond.send_response(head, true).expect("sent");
            return;
        }
        "/wait" => {
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert!(reset.is_ok());
            seen.resets.fetch_add(1, Ordering::SeqCst);
            return;
        }
        _ => {}
    }
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .header("x-connection", number)
        .header("x-te", parts.headers.get("te").map_or("none", |te| te.to_str().expect("text")))
        .body(())
        .expect("a head");
    let mut send = respond.send_response(head, false).expect("sent");
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        send_all(&mut send, data).await;
    }
    let up = body.trailers().await.ok().flatten();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    if let Some(sum) = up.and_then(|up| up.get("x-sum").cloned()) {
        trailers.insert("x-sum", sum);
    }
    let _ = send.send_trailers(trailers);
}

async fn send_all(send: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let Some(Ok(count)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else { return };
        if send.send_data(data.split_to(count.min(data.len())), false).is_err() {
            return;
        }
    }
}

async fn site() -> (Arc<Seen>, Proxy) {
    let (address, seen) = server().await;
    let service = unchecked("www.gslb.test", &[("a", address)]) + "protocol = \"h2\"\n";
    (seen, Proxy::start(&settings("", &service)).await)
}

async fn client(proxy: &Proxy) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy.listen).await.expect("connected");
    let (send, connection) = h2::client::handshake(stream).await.expect("prefaces");
    tokio::spawn(connection);
    send
}

fn call(path: &str) -> Request<()> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://www.gslb.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

#[tokio::test]
async fn a_stream_of_messages_goes_both_ways_and_ends_in_trailers() {
    let (_seen, proxy) = site().await;
    let mut client = client(&proxy).await;
    let (response, mut send) = client.send_request(call("/echo"), false).expect("sent");
    let response = response.await.expect("a head before the first message");
    assert_eq!(response.headers()["x-te"], "trailers");
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        send.send_data(Bytes::from(message), false).expect("sent");
        assert_eq!(body.data().await.expect("a message").expect("a message"), message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "3".parse().expect("a value"));
    send.send_trailers(trailers).expect("sent");
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.expect("an end").expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-sum"]),
        (&"0".parse().expect("a value"), &"3".parse().expect("a value"))
    );
}

#[tokio::test]
async fn an_answer_of_trailers_alone_is_passed_on() {
    let (_seen, proxy) = site().await;
    let (response, _) = client(&proxy).await.send_request(call("/trailers-only"), true).expect("sent");
    let response = response.await.expect("a head");
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.into_body().is_end_stream());
}

#[tokio::test]
async fn a_large_body_comes_back_whole() {
    let (_seen, proxy) = site().await;
    let mut client = client(&proxy).await;
    let (response, mut send) = client.send_request(call("/echo"), false).expect("sent");
    let data: Bytes = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into();
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        send_all(&mut send, sent).await;
        send.send_data(Bytes::new(), true).expect("sent");
    });
    let mut body = response.await.expect("a head").into_body();
    let mut got = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("a window");
        got.extend_from_slice(&data);
    }
    sending.await.expect("all sent");
    assert!(got == data);
}

#[tokio::test]
async fn checks_ask_in_http_2_too() {
    let (address, seen) = server().await;
    let check = "{ path = \"/trailers-only\", interval = \"20ms\", rise = 1 }";
    let service = service("www.gslb.test", &[("a", address)], check) + "protocol = \"h2\"\n";
    let proxy = Proxy::start(&settings("", &service)).await;
    until("the server is up", async || proxy.service_status().await.servers_up == 1).await;
    assert!(seen.requests.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn requests_share_connections() {
    let (seen, proxy) = site().await;
    let mut client = client(&proxy).await;
    for _ in 0..20 {
        let (response, _) = client.send_request(call("/"), true).expect("sent");
        assert_eq!(response.await.expect("a head").headers()["x-connection"], "0");
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_client_of_http_1_1_gets_what_a_server_of_http_2_says() {
    let (_seen, proxy) = site().await;
    let head = "POST /echo HTTP/1.1\r\nHost: www.gslb.test\r\nTE: trailers\r\nConnection: te, close\r\n";
    let answer = ask(proxy.listen, &format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    assert!(answer.head.starts_with("http/1.1 200") && answer.head.contains("x-te: trailers"), "{answer:?}");
    assert_eq!(answer.body, "5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n");
    let answer = ask(proxy.listen, "GET / HTTP/1.1\r\nHost: www.gslb.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.head.contains("x-te: none"), "{answer:?}");
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_is_asked_again() {
    let (seen, proxy) = site().await;
    let (response, _) = client(&proxy).await.send_request(call("/refuse"), true).expect("sent");
    assert_eq!(response.await.expect("a head").status(), 200);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_goes_away_gets_no_more_and_loses_nothing() {
    let (seen, proxy) = site().await;
    let mut client = client(&proxy).await;
    for (path, connections) in [("/", 1), ("/last", 1), ("/", 2), ("/", 2)] {
        let (response, _) = client.send_request(call(path), true).expect("sent");
        let response = response.await.expect("a head");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        assert!(body.data().await.is_none());
        if path == "/last" {
            until("the server has gone", async || true).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(seen.connections.load(Ordering::SeqCst), connections, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_cancels_frees_the_server() {
    let (seen, proxy) = site().await;
    let mut client = client(&proxy).await;
    let (response, mut send) = client.send_request(call("/wait"), false).expect("sent");
    until("the server has it", async || seen.requests.load(Ordering::SeqCst) == 1).await;
    send.send_reset(Reason::CANCEL);
    drop(response);
    until("the server is told", async || seen.resets.load(Ordering::SeqCst) == 1).await;
}
