//! DNS over TLS (RFC 7858).

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned, SupportedProtocolVersion};

use super::*;
use crate::serve::sample::{ask, data, query, until};

pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect_with(config: &Arc<ClientConfig>, server: SocketAddr) -> io::Result<Stream> {
    let name = ServerName::try_from("ns1.example.com").expect("a name");
    let mut session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

pub(super) fn connect(shop: &Shop) -> Stream {
    connect_with(&Arc::new(shop.client_config(b"dot")), dot(shop)).expect("connected")
}

fn dot(shop: &Shop) -> SocketAddr {
    shop.node.encrypted_addresses().dot[0]
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes(), query].concat()
}

fn read_answer(stream: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map(|()| answer)
}

pub(super) fn exchange(stream: &mut Stream, query: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(query)).expect("sent");
    read_answer(stream).expect("answered")
}

#[test]
fn same_records_come_over_tls_as_over_udp() {
    let shop = Shop::open();
    let mut stream = connect(&shop);
    for name in ["www.example.com", "api.example.com", "ns1.example.com", "none.example.com"] {
        assert_eq!(data(&exchange(&mut stream, &query(7, name, RecordType::A))), ask(shop.udp(), name));
    }
    assert_eq!(shop.metric("gslb_queries_total{transport=\"tls\"}"), Some(4));
    shop.node.stop();
}

/// Without ALPN.
fn config_of(shop: &Shop, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(shop.certificate.as_bytes()).expect("read")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).expect("a version");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection by `version` of TLS.
pub(super) fn connect_by(shop: &Shop, version: &'static SupportedProtocolVersion) -> Stream {
    connect_with(&config_of(shop, version), dot(shop)).expect("connected")
}

#[test]
fn versions_1_2_and_1_3_are_spoken_and_sessions_resumed() {
    let shop = Shop::open();
    for (version, name) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let config = config_of(&shop, version);
        let kinds = [0; 2].map(|_| {
            let mut stream = connect_with(&config, dot(&shop)).expect("connected, without ALPN too");
            assert_eq!(exchange(&mut stream, &query(7, "ns1.example.com", RecordType::A))[..2], [0, 7]);
            assert_eq!(stream.conn.protocol_version(), Some(name));
            stream.conn.handshake_kind()
        });
        assert_eq!(kinds[1], Some(HandshakeKind::Resumed), "{name:?}");
    }
    shop.node.stop();
}

#[test]
fn padded_queries_alone_get_padded_answers() {
    let shop = Shop::open();
    let mut stream = connect(&shop);
    assert_eq!(exchange(&mut stream, &padded_query(7, "www.example.com")).len(), 468);
    assert!(exchange(&mut stream, &query(7, "www.example.com", RecordType::A)).len() < 100);
    let mut plain = TcpStream::connect(shop.udp()).expect("connected");
    plain.write_all(&framed(&padded_query(7, "www.example.com"))).expect("sent");
    assert!(read_answer(&mut plain).expect("answered").len() < 100, "everybody can read it as it is");
    drop(plain);
    shop.node.stop();
}

/// Sends what the socket takes now of what is left of `octets`.
fn send_some<'a>(stream: &mut Stream, mut octets: &'a [u8]) -> &'a [u8] {
    while stream.conn.wants_write() || !octets.is_empty() {
        if !stream.conn.wants_write() {
            let taken = stream.conn.writer().write(&octets[..octets.len().min(16 << 10)]).expect("taken");
            octets = &octets[taken..];
        }
        match stream.conn.write_tls(&mut stream.sock) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            result => result.expect("sent"),
        };
    }
    octets
}

/// Adds what has come to `received`.
fn receive_some(stream: &mut Stream, received: &mut Vec<u8>) {
    match stream.conn.read_tls(&mut stream.sock) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return thread::sleep(Duration::from_millis(1)),
        result => assert_ne!(result.expect("received"), 0),
    }
    let state = stream.conn.process_new_packets().expect("right");
    let mut plain = vec![0; state.plaintext_bytes_to_read()];
    stream.conn.reader().read_exact(&mut plain).expect("there");
    received.extend_from_slice(&plain);
}

#[test]
fn client_that_reads_late_gets_all_its_answers_in_their_order() {
    const QUERIES: u16 = 10_000;
    let shop = Shop::open_with("tcp = { message = \"60s\", idle = \"60s\" }");
    let mut stream = connect(&shop);
    socket2::SockRef::from(&stream.sock).set_recv_buffer_size(16 << 10).expect("set");
    stream.sock.set_nonblocking(true).expect("set");
    let queries: Vec<u8> = (0..QUERIES).flat_map(|id| framed(&padded_query(id, "www.example.com"))).collect();
    let mut unsent = &*queries;
    until("answers wait", || {
        unsent = send_some(&mut stream, unsent);
        shop.metric("gslb_tcp_bytes_in_flight") > Some(0)
    });
    let mut received = Vec::new();
    while received.len() < usize::from(QUERIES) * (2 + 468) {
        unsent = send_some(&mut stream, unsent);
        receive_some(&mut stream, &mut received);
    }
    let mut answers = &*received;
    for id in 0..QUERIES {
        assert_eq!(read_answer(&mut answers).expect("whole")[..2], id.to_be_bytes());
    }
    drop(stream);
    shop.node.stop();
}

#[test]
fn silent_clients_are_closed_in_time_and_delay_nobody() {
    let shop = Shop::open_with("tcp = { message = \"500ms\" }");
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(dot(&shop)).expect("connected")).collect();
    exchange(&mut connect(&shop), &query(7, "ns1.example.com", RecordType::A));
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0)), "closed without a word");
    }
    assert_eq!(shop.metric("gslb_tcp_timeouts_total{awaited=\"query\"}"), Some(50));
    shop.node.stop();
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    let shop = Shop::open();
    let mut stream = TcpStream::connect(dot(&shop)).expect("connected");
    stream.write_all(&framed(&query(7, "ns1.example.com", RecordType::A))).expect("sent");
    let mut answer = Vec::new();
    // The kernel may add that it was reset.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    let error = connect_with(&Arc::new(shop.client_config(b"h2")), dot(&shop)).expect_err("another protocol");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    shop.node.stop();
}

#[test]
fn client_that_has_sent_all_gets_all_its_answers_and_the_end() {
    let shop = Shop::open();
    let mut stream = connect(&shop);
    stream.write_all(&framed(&query(7, "www.example.com", RecordType::A)).repeat(200)).expect("sent");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    for _ in 0..200 {
        read_answer(&mut stream).expect("answered");
    }
    assert_eq!(stream.read(&mut [0; 16]).expect("ended by TLS itself"), 0);
    // Without a word of TLS too.
    let mut stream = connect(&shop);
    stream.write_all(&framed(&query(7, "www.example.com", RecordType::A))).expect("sent");
    stream.sock.shutdown(Shutdown::Write).expect("closed");
    read_answer(&mut stream).expect("answered");
    shop.node.stop();
}

#[test]
fn queries_sent_before_the_stop_are_answered() {
    let shop = Shop::open();
    let mut streams: Vec<Stream> = (0..20).map(|_| connect(&shop)).collect();
    for stream in &mut streams {
        stream.write_all(&framed(&query(7, "ns1.example.com", RecordType::A))).expect("sent");
    }
    shop.node.stop();
    for mut stream in streams {
        assert_eq!(read_answer(&mut stream).expect("answered")[..2], [0, 7]);
        assert_eq!(stream.read(&mut [0; 16]).expect("ended by TLS itself"), 0);
    }
}

#[test]
fn new_certificate_is_shown_at_once_and_a_broken_one_leaves_the_old_and_holds_up_nothing() {
    let shop = Shop::open();
    let shown = |certificate: &str| {
        let config = client_config(certificate, b"dot");
        connect_with(&Arc::new(config), dot(&shop)).is_ok()
    };
    let admin = shop.node.admin_address().expect("there is one");
    let mut old = connect(&shop);
    shop.site.write("cert.pem", "nothing");
    until("refused", || http(admin, "GET", "/status", "", "").1.contains("cert.pem: no certificate in it"));
    assert!(shown(&shop.certificate));
    assert_eq!(shop.metric("gslb_certificate_refused"), Some(1));
    assert_eq!((shop.metric("gslb_last_reload_failed"), shop.metric("gslb_reload_failures_total")), (Some(0), Some(0)));
    shop.site.write("example.com.zone", &shop.site.zone().replace("192.0.2.53", "192.0.2.54"));
    until("the zone is served", || ask(shop.udp(), "ns1.example.com") == ["192.0.2.54"]);
    let pair = tls_pair();
    shop.site.write_tls(&pair);
    until("shown", || shown(&pair.0));
    assert_eq!(shop.metric("gslb_certificate_refused"), Some(0));
    assert!(!shown(&shop.certificate));
    exchange(&mut old, &query(7, "ns1.example.com", RecordType::A));
    drop(old);
    shop.node.stop();
}
