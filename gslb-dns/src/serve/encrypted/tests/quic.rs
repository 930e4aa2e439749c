//! DNS over QUIC (RFC 9250).

use std::net::UdpSocket;

use hickory_proto::rr::RecordType;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig as QuicConfig, Connection, ConnectionError, Endpoint};
use tokio::runtime::Runtime;

use super::*;
use crate::serve::sample::{ask, data, query, until};

/// A client with one connection.
struct Client {
    runtime: Runtime,
    connection: Connection,
    _endpoint: Endpoint,
}

impl Client {
    fn connect(shop: &Shop) -> Self {
        Self::connect_with(shop, b"doq").expect("connected")
    }

    fn connect_with(shop: &Shop, alpn: &[u8]) -> Result<Self, ConnectionError> {
        let runtime = Runtime::new().expect("a runtime");
        let config = QuicClientConfig::try_from(shop.client_config(alpn)).expect("TLS 1.3");
        let address = doq(shop);
        let (endpoint, connection) = runtime.block_on(async move {
            let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bound");
            let config = QuicConfig::new(Arc::new(config));
            let connecting = endpoint.connect_with(config, address, "ns1.example.com").expect("a name");
            (endpoint, connecting.await)
        });
        Ok(Self { runtime, connection: connection?, _endpoint: endpoint })
    }

    /// What comes back on a stream of its own for `octets`.
    fn exchange(&self, octets: &[u8]) -> Option<Vec<u8>> {
        self.runtime.block_on(exchange(&self.connection, octets))
    }

    fn ask(&self, query: &[u8]) -> Vec<u8> {
        unframed(&self.exchange(&framed(query)).expect("answered"))
    }
}

async fn exchange(connection: &Connection, octets: &[u8]) -> Option<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(octets).await.ok()?;
    send.finish().ok()?;
    receive.read_to_end(65_537).await.ok()
}

fn doq(shop: &Shop) -> SocketAddr {
    shop.node.encrypted_addresses().doq[0]
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

fn unframed(octets: &[u8]) -> Vec<u8> {
    let (length, answer) = octets.split_first_chunk().expect("a length");
    assert_eq!(usize::from(u16::from_be_bytes(*length)), answer.len());
    answer.to_vec()
}

#[test]
fn same_records_come_over_quic_as_over_udp() {
    let shop = Shop::open();
    let client = Client::connect(&shop);
    for name in ["www.example.com", "api.example.com", "ns1.example.com", "none.example.com"] {
        let answer = client.ask(&query(0, name, RecordType::A));
        assert_eq!((&answer[..2], data(&answer)), (&[0, 0][..], ask(shop.udp(), name)));
    }
    assert_eq!(client.ask(&padded_query(0, "www.example.com")).len(), 468);
    assert_eq!(shop.metric("gslb_queries_total{transport=\"quic\"}"), Some(5));
    shop.node.stop();
}

#[test]
fn many_queries_are_under_way_at_once() {
    let shop = Shop::open();
    let client = Client::connect(&shop);
    let framed = framed(&query(0, "www.example.com", RecordType::A));
    let asked: Vec<_> = (0..500)
        .map(|_| {
            let (connection, framed) = (client.connection.clone(), framed.clone());
            client.runtime.spawn(async move { exchange(&connection, &framed).await })
        })
        .collect();
    for asked in asked {
        assert!(client.runtime.block_on(asked).expect("no panic").is_some_and(|answer| answer.len() > 14));
    }
    shop.node.stop();
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_with_its_code() {
    let shop = Shop::open();
    for octets in [framed(&query(7, "www.example.com", RecordType::A)), vec![0; 1], vec![0; 70_000]] {
        let client = Client::connect(&shop);
        assert_eq!(client.exchange(&octets), None);
        let reason = client.runtime.block_on(client.connection.closed());
        let ConnectionError::ApplicationClosed(closed) = reason else { panic!("{reason}") };
        assert_eq!(closed.error_code.into_inner(), 2, "DOQ_PROTOCOL_ERROR");
    }
    assert!(Client::connect_with(&shop, b"h3").is_err(), "another protocol");
    shop.node.stop();
}

#[test]
fn silent_clients_are_closed_in_time_and_delay_nobody() {
    let shop = Shop::open_with("tcp = { message = \"500ms\", idle = \"500ms\" }");
    // The first datagram of a handshake each, after which nothing comes.
    let first = {
        let runtime = Runtime::new().expect("a runtime");
        let catcher = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let (config, address) = (shop.client_config(b"doq"), catcher.local_addr().expect("bound"));
        let _connecting = runtime.block_on(async {
            let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("bound");
            let config = QuicConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3")));
            let connecting = endpoint.connect_with(config, address, "ns1.example.com").expect("a name");
            (endpoint, connecting)
        });
        let mut datagram = vec![0; 2000];
        let len = catcher.recv(&mut datagram).expect("came");
        datagram.truncate(len);
        datagram
    };
    let silent: Vec<UdpSocket> = (0..50).map(|_| UdpSocket::bind("127.0.0.1:0").expect("bound")).collect();
    for socket in &silent {
        socket.send_to(&first, doq(&shop)).expect("sent");
    }
    let client = Client::connect(&shop);
    client.ask(&query(0, "ns1.example.com", RecordType::A));
    client.runtime.block_on(client.connection.closed());
    until("closed", || shop.metric("gslb_tcp_open_connections") == Some(0));
    shop.node.stop();
}

#[test]
fn client_at_its_limit_loses_its_own_longest_idle_connection() {
    let shop = Shop::open_with("tcp = { connections_per_client = 2 }");
    let [first, second, third] = [0; 3].map(|_| {
        let client = Client::connect(&shop);
        client.ask(&query(0, "ns1.example.com", RecordType::A));
        client
    });
    let reason = first.runtime.block_on(first.connection.closed());
    assert!(matches!(reason, ConnectionError::ApplicationClosed(_)), "{reason}");
    for client in [second, third] {
        client.ask(&query(0, "ns1.example.com", RecordType::A));
    }
    shop.node.stop();
}

#[test]
fn clients_hear_of_the_stop() {
    let shop = Shop::open();
    let client = Client::connect(&shop);
    client.ask(&query(0, "ns1.example.com", RecordType::A));
    shop.node.stop();
    let reason = client.runtime.block_on(client.connection.closed());
    let ConnectionError::ApplicationClosed(closed) = reason else { panic!("{reason}") };
    assert_eq!(closed.error_code.into_inner(), 0, "DOQ_NO_ERROR");
}
