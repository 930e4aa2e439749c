//! DNS over HTTPS (RFC 8484).

use std::net::TcpStream;
use std::thread;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use hickory_proto::rr::RecordType;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::*;
use crate::serve::sample::{ask, data, query, until};

/// A client with one connection.
pub(super) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

/// Status, fields of interest, content.
#[derive(Debug)]
pub(super) struct Answered {
    status: StatusCode,
    content_type: String,
    cache_control: String,
    pub(super) content: Vec<u8>,
}

impl Client {
    pub(super) fn connect(shop: &Shop) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let connector = TlsConnector::from(Arc::new(shop.client_config(b"h2")));
        let address = doh(shop);
        let sender = runtime.block_on(async move {
            let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
            let name = ServerName::try_from("ns1.example.com").expect("a name");
            let stream = connector.connect(name, socket).await.expect("a session");
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    fn send(&mut self, method: &str, path: &str, content_type: Option<&str>, content: &[u8]) -> Answered {
        let mut request = Request::builder().method(method).uri(format!("https://ns1.example.com{path}"));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(content))).expect("a request");
        let sending = self.sender.send_request(request);
        self.runtime.block_on(async {
            let response = sending.await.expect("answered");
            let field = |name: &str| {
                let value = response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
                value.unwrap_or_default()
            };
            let (status, content_type, cache_control) =
                (response.status(), field("content-type"), field("cache-control"));
            let content = response.into_body().collect().await.expect("whole").to_bytes().to_vec();
            Answered { status, content_type, cache_control, content }
        })
    }

    fn get(&mut self, query: &[u8]) -> Answered {
        self.send("GET", &format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query)), None, &[])
    }

    pub(super) fn post(&mut self, query: &[u8]) -> Answered {
        self.send("POST", "/dns-query", Some("application/dns-message"), query)
    }
}

fn doh(shop: &Shop) -> SocketAddr {
    shop.node.encrypted_addresses().doh[0]
}

#[test]
fn same_records_come_by_get_and_post_as_over_udp() {
    let shop = Shop::open();
    let mut client = Client::connect(&shop);
    for name in ["www.example.com", "api.example.com", "ns1.example.com", "none.example.com"] {
        let query = query(0, name, RecordType::A);
        let answers = [client.get(&query), client.post(&query)];
        for answer in answers {
            assert_eq!((answer.status.as_u16(), &*answer.content_type), (200, "application/dns-message"));
            assert_eq!(data(&answer.content), ask(shop.udp(), name));
        }
    }
    assert_eq!(shop.metric("gslb_queries_total{transport=\"https\"}"), Some(8));
    shop.node.stop();
}

#[test]
fn answer_is_kept_for_its_least_ttl_and_by_its_client_alone() {
    let shop = Shop::open();
    let mut client = Client::connect(&shop);
    for (name, expected) in [
        ("ns1.example.com", "private, max-age=300"),
        ("none.example.com", "private, max-age=60"),
        ("example.org", "private, max-age=0"),
    ] {
        assert_eq!(client.get(&query(0, name, RecordType::A)).cache_control, expected, "{name}");
    }
    shop.node.stop();
}

#[test]
fn mistakes_have_their_status() {
    let shop = Shop::open();
    let mut client = Client::connect(&shop);
    let right = query(0, "www.example.com", RecordType::A);
    let mut response = right.clone();
    response[2] |= 0x80;
    let message = Some("application/dns-message");
    for (method, path, content_type, content, status) in [
        ("POST", "/", message, &*right, 404),
        ("PUT", "/dns-query", message, &*right, 405),
        ("POST", "/dns-query", Some("text/plain"), &*right, 415),
        ("POST", "/dns-query", None, &*right, 415),
        ("POST", "/dns-query", message, &[0; 65_536], 413),
        ("POST", "/dns-query", message, &[], 400),
        ("POST", "/dns-query", message, &*response, 400),
        ("GET", "/dns-query", None, &[], 400),
        ("GET", "/dns-query?dns=AA==", None, &[], 400),
        ("GET", "/dns-query?dns=AAAA", None, &[], 400),
    ] {
        let answered = client.send(method, path, content_type, content);
        assert_eq!(answered.status.as_u16(), status, "{method} {path} {content_type:?}");
    }
    assert_eq!(client.post(&right[..right.len() - 1]).status.as_u16(), 200, "FORMERR is an answer");
    shop.node.stop();
}

#[test]
fn padded_query_gets_a_padded_answer() {
    let shop = Shop::open();
    assert_eq!(Client::connect(&shop).post(&padded_query(0, "www.example.com")).content.len(), 468);
    shop.node.stop();
}

#[test]
fn silent_clients_are_closed_in_time_and_delay_nobody() {
    let shop = Shop::open_with("tcp = { message = \"500ms\", idle = \"500ms\" }");
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(doh(&shop)).expect("connected")).collect();
    let mut client = Client::connect(&shop);
    assert_eq!(client.get(&query(0, "ns1.example.com", RecordType::A)).status.as_u16(), 200);
    let is_open = || shop.metric("gslb_tcp_open_connections") > Some(0);
    until("all closed", || !is_open());
    assert_eq!(shop.metric("gslb_tcp_timeouts_total{awaited=\"query\"}"), Some(50));
    assert_eq!(shop.metric("gslb_tcp_timeouts_total{awaited=\"idle\"}"), Some(1));
    until("told", || client.sender.is_closed());
    drop(silent);
    shop.node.stop();
}

#[test]
fn client_that_never_reads_is_cut_and_its_octets_are_given_back() {
    let shop = Shop::open_with("tcp = { message = \"500ms\" }");
    let connector = TlsConnector::from(Arc::new(shop.client_config(b"h2")));
    let address = doh(&shop);
    let runtime = Runtime::new().expect("a runtime");
    let _held = runtime.block_on(async move {
        let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("ns1.example.com").expect("a name");
        let stream = connector.connect(name, socket).await.expect("a session");
        // No octet of an answer is wanted.
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(0).initial_connection_window_size(65_535);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        for _ in 0..20 {
            let query = padded_query(0, "www.example.com");
            let request = Request::post("https://ns1.example.com/dns-query");
            let request = request.header("content-type", "application/dns-message");
            let sending = sender.send_request(request.body(Full::new(Bytes::from(query))).expect("a request"));
            tokio::spawn(async move {
                // Dropped, it would be cancelled.
                let _response = sending.await;
                std::future::pending::<()>().await;
            });
        }
        sender
    });
    until("held", || shop.metric("gslb_tcp_bytes_in_flight") == Some(20 * 468));
    until("cut", || shop.metric("gslb_tcp_timeouts_total{awaited=\"answer\"}") == Some(1));
    until("given back", || shop.metric("gslb_tcp_bytes_in_flight") == Some(0));
    shop.node.stop();
}

#[test]
fn queries_sent_before_the_stop_are_answered() {
    let shop = Shop::open();
    let mut client = Client::connect(&shop);
    // The connection is known on both sides from here on.
    client.get(&query(0, "ns1.example.com", RecordType::A));
    let (sender, runtime) = (&mut client.sender, &client.runtime);
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let path = BASE64URL_NOPAD.encode(&query(0, "ns1.example.com", RecordType::A));
            let request = Request::get(format!("https://ns1.example.com/dns-query?dns={path}"));
            let sending = sender.send_request(request.body(Full::default()).expect("a request"));
            runtime.spawn(async move { sending.await.expect("answered").status().as_u16() })
        })
        .collect();
    until("sent", || shop.metric("gslb_queries_total{transport=\"https\"}") > Some(1));
    let stopping = thread::spawn(move || shop.node.stop());
    for answer in answers {
        assert_eq!(runtime.block_on(answer).expect("no panic"), 200);
    }
    stopping.join().expect("stopped");
}
