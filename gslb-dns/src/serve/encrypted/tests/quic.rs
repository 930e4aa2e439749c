//! DNS over QUIC (RFC 9250).

use std::collections::BTreeMap;
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
        Self::connect_from(shop, "127.0.0.1:0", alpn)
    }

    fn connect_from(shop: &Shop, client: &str, alpn: &[u8]) -> Result<Self, ConnectionError> {
        let client = client.parse().expect("an address");
        let runtime = Runtime::new().expect("a runtime");
        let config = QuicClientConfig::try_from(shop.client_config(alpn)).expect("TLS 1.3");
        let address = doq(shop);
        let (endpoint, connection) = runtime.block_on(async move {
            let endpoint = Endpoint::client(client).expect("bound");
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

/// The first datagrams of so many handshakes, after which nothing comes.
fn first_datagrams(shop: &Shop, count: usize) -> Vec<Vec<u8>> {
    let runtime = Runtime::new().expect("a runtime");
    let catcher = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = catcher.local_addr().expect("bound");
    let endpoint = runtime.block_on(async { Endpoint::client("127.0.0.1:0".parse().expect("an address")) });
    let endpoint = endpoint.expect("bound");
    let config = QuicConfig::new(Arc::new(QuicClientConfig::try_from(shop.client_config(b"doq")).expect("TLS 1.3")));
    let (mut kept, mut firsts) = (Vec::new(), BTreeMap::new());
    for _ in 0..count {
        let _context = runtime.enter();
        // Given up, it would say so.
        kept.push(endpoint.connect_with(config.clone(), address, "ns1.example.com").expect("a name"));
        let before = firsts.len();
        while firsts.len() == before {
            let mut datagram = vec![0; 2000];
            let len = catcher.recv(&mut datagram).expect("came");
            datagram.truncate(len);
            // The id of the connection tells others from what follows (RFC 9000, section 17.2).
            firsts.entry(datagram[6..14].to_vec()).or_insert(datagram);
        }
    }
    firsts.into_values().collect()
}

/// Sends `datagrams`, each from a socket of its own, which is kept.
fn send_all(shop: &Shop, datagrams: &[Vec<u8>]) -> Vec<UdpSocket> {
    let send = |datagram: &Vec<u8>| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.send_to(datagram, doq(shop)).expect("sent");
        // The server has seen it, and there is room for the next.
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
        socket.recv(&mut [0; 2000]).expect("answered");
        socket
    };
    datagrams.iter().map(send).collect()
}

#[test]
fn silent_clients_are_closed_in_time_and_delay_nobody() {
    let shop = Shop::open_with("tcp = { message = \"500ms\", idle = \"500ms\" }");
    let _silent = send_all(&shop, &first_datagrams(&shop, 20));
    let client = Client::connect(&shop);
    client.ask(&query(0, "ns1.example.com", RecordType::A));
    client.runtime.block_on(client.connection.closed());
    until("closed", || shop.metric("gslb_tcp_open_connections") == Some(0));
    shop.node.stop();
}

/// Carries datagrams of clients to `server`, and back to them nothing but Retry packets (RFC 9000, section 17.2.5): who
/// connects through it shows its address and never ends its handshake. Ends when nothing comes for a while.
fn half_open(server: SocketAddr) -> SocketAddr {
    let [inside, outside] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").expect("bound"));
    let while_something_comes = Some(std::time::Duration::from_secs(20));
    for socket in [&inside, &outside] {
        socket.set_read_timeout(while_something_comes).expect("set");
    }
    let address = inside.local_addr().expect("bound");
    let back = [&inside, &outside].map(|socket| socket.try_clone().expect("cloned"));
    let client = Arc::new(std::sync::Mutex::new(None));
    let known = Arc::clone(&client);
    std::thread::spawn(move || {
        let mut datagram = [0; 2000];
        while let Ok((len, from)) = inside.recv_from(&mut datagram) {
            *known.lock().expect("not poisoned") = Some(from);
            let _ = outside.send_to(&datagram[..len], server);
        }
    });
    std::thread::spawn(move || {
        let [inside, outside] = back;
        let mut datagram = [0; 2000];
        while let Ok(len) = outside.recv(&mut datagram) {
            let client = *client.lock().expect("not poisoned");
            if let Some(client) = client.filter(|_| datagram[0] & 0xF0 == 0xF0) {
                let _ = inside.send_to(&datagram[..len], client);
            }
        }
    });
    address
}

#[test]
fn half_open_handshakes_of_one_address_take_no_more_than_its_share() {
    let shop = Shop::open_with("tcp = { message = \"60s\", idle = \"60s\", connections_per_client = 3 }");
    // So many that the next has to show its address.
    let _silent = send_all(&shop, &first_datagrams(&shop, 110));
    assert_eq!(shop.metric("gslb_tcp_open_connections"), Some(0), "nobody has shown his address yet");
    let relay = half_open(doq(&shop));
    let runtime = Runtime::new().expect("a runtime");
    let endpoint = runtime.block_on(async { Endpoint::client("127.0.0.1:0".parse().expect("an address")) });
    let endpoint = endpoint.expect("bound");
    let config = QuicConfig::new(Arc::new(QuicClientConfig::try_from(shop.client_config(b"doq")).expect("TLS 1.3")));
    let connect = |_| {
        let _context = runtime.enter();
        endpoint.connect_with(config.clone(), relay, "ns1.example.com").expect("a name")
    };
    let _connecting: Vec<_> = (0..8).map(connect).collect();
    until("others have gone for it", || shop.metric("gslb_tcp_evicted_connections_total") >= Some(5));
    assert_eq!(shop.metric("gslb_tcp_open_connections"), Some(3));
    for newcomer in ["127.0.0.9:0", "127.0.0.1:0"] {
        let client = Client::connect_from(&shop, newcomer, b"doq").expect("connected");
        client.ask(&query(0, "ns1.example.com", RecordType::A));
        assert!(shop.metric("gslb_tcp_open_connections") <= Some(4), "the share of one, and the newcomer");
    }
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
