//! Over real sockets: what comes back, and that nobody is held up.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use socket2::{Domain, Socket, Type};

use crate::serve::Node;
use crate::serve::sample::{Site, data, http, query, until};
use crate::tsig::Request;
use crate::wire::Query;

fn start(site: &Site) -> Node {
    Node::start(&site.config()).expect("started")
}

fn by_udp(server: SocketAddr, message: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.send_to(message, server).expect("sent");
    let mut buffer = [0; 1500];
    let (len, from) = socket.recv_from(&mut buffer).expect("answered");
    assert_eq!(from, server);
    Message::from_vec(&buffer[..len]).expect("readable")
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("answered");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("answered");
    answer
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    stream
}

/// A query with another opcode.
fn with_opcode(opcode: OpCode) -> Vec<u8> {
    let mut message = query(7, "example.com", RecordType::SOA);
    message[2] = u8::from(opcode) << 3;
    message
}

fn signed_by_nobody() -> Vec<u8> {
    let key = TSigner::new(vec![1; 32], TsigAlgorithm::HmacSha256, Name::from_ascii("no.").expect("a name"), 300);
    let mut message = Message::from_vec(&query(7, "www.example.com", RecordType::A)).expect("readable");
    message.finalize(&key.expect("a key"), super::unix_secs()).expect("signed");
    message.to_vec().expect("encoded")
}

#[test]
fn transfers_and_updates_are_refused_where_nobody_may() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    let transfers = [RecordType::AXFR, RecordType::IXFR].map(|rtype| query(7, "example.com", rtype));
    for message in transfers.into_iter().chain([with_opcode(OpCode::Update)]) {
        let mut stream = connect(server);
        stream.write_all(&framed(&message)).expect("sent");
        let by_tcp = Message::from_vec(&read(&mut stream)).expect("readable");
        for answer in [by_udp(server, &message), by_tcp] {
            assert_eq!((answer.id, answer.response_code), (7, ResponseCode::Refused));
            assert_eq!(answer.queries, Message::from_vec(&message).expect("readable").queries);
        }
    }
    assert_eq!(by_udp(server, &with_opcode(OpCode::Notify)).response_code, ResponseCode::NotImp);
    let (_, metrics) = http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
    assert!(metrics.contains("gslb_slow_answers_total{kind=\"axfr\",rcode=\"REFUSED\"} 2"), "{metrics}");
    assert!(metrics.contains("gslb_queries_total{transport=\"udp\"} 4"), "{metrics}");
    assert!(metrics.contains("gslb_refused_total{reason=\"transfer\"} 4"), "{metrics}");
    node.stop();
}

/// RFC 8945, section 5.2.1.
#[test]
fn key_that_is_not_known_is_told_so_without_a_signature() {
    let site = Site::new();
    let node = start(&site);
    let answer = by_udp(node.addresses()[0], &signed_by_nobody());
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NotAuth, 0));
    let tsig = answer.signature().expect("a TSIG record");
    assert_eq!((tsig.data.mac.len(), tsig.data.error.map(u16::from)), (0, Some(17)));
    node.stop();
}

#[test]
fn every_message_is_answered_among_pipelined_ones_slow_ones_in_their_order_and_others_in_theirs() {
    let site = Site::new();
    let node = start(&site);
    let mut stream = connect(node.addresses()[0]);
    let mut sent = Vec::new();
    for id in 0..50 {
        sent.extend(framed(&query(id, "www.example.com", RecordType::A)));
        let mut slow = if id % 2 == 0 { query(7, "example.com", RecordType::AXFR) } else { signed_by_nobody() };
        slow[..2].copy_from_slice(&(1000 + id).to_be_bytes());
        sent.extend(framed(&slow));
    }
    stream.write_all(&sent).expect("sent");
    let answers: Vec<Vec<u8>> = (0..100).map(|_| read(&mut stream)).collect();
    let ids = answers.iter().map(|answer| u16::from_be_bytes([answer[0], answer[1]]));
    let (slow, quick): (Vec<u16>, Vec<u16>) = ids.partition(|&id| id >= 1000);
    assert!(quick.into_iter().eq(0..50) && slow.into_iter().eq(1000..1050));
    assert!(answers.iter().filter(|answer| answer[0] == 0).all(|answer| data(answer) == ["198.51.100.1"]));
    drop(stream);
    node.stop();
}

/// A site whose zone has a secondary with a key, and one without.
fn site_with_secondaries(notified: SocketAddr) -> Site {
    let site = Site::new();
    site.write("xfr.key", &data_encoding::BASE64.encode(SECRET));
    fs::set_permissions(site.path("xfr.key"), Permissions::from_mode(0o600)).expect("set");
    let secondaries = format!(
        "file = \"example.com.zone\"\nsecondaries = [{{ address = \"{notified}\", key = \"xfr\" }}, \
         {{ address = \"127.0.0.9:53\", key = \"none\" }}]"
    );
    let keys = "\n[tsig_keys.xfr]\nsecret_file = \"xfr.key\"\n";
    site.write("topology.toml", &(site.settings().replace("file = \"example.com.zone\"", &secondaries) + keys));
    site
}

fn zone_with(serial: u32, lines: &str) -> String {
    format!("$TTL 300\n@ IN SOA ns1 hostmaster {serial} 3600 600 86400 60\n@ IN NS ns1\nns1 IN A 192.0.2.53\n{lines}")
}

fn signer(secret: &[u8]) -> TSigner {
    let name = Name::from_ascii("xfr.").expect("a name");
    TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, name, 300).expect("a key")
}

/// A query for a transfer; with a serial for what has changed since then.
fn wanted(serial: Option<u32>) -> Message {
    let rtype = if serial.is_some() { RecordType::IXFR } else { RecordType::AXFR };
    let mut message = Message::from_vec(&query(7, "example.com", rtype)).expect("readable");
    if let Some(serial) = serial {
        let name = Name::from_ascii("example.com.").expect("a name");
        let soa = SOA::new(name.clone(), name.clone(), serial, 0, 0, 0, 0);
        message.authorities.push(Record::from_rdata(name, 0, RData::SOA(soa)));
    }
    message
}

/// The records that come over TCP, up to the second one of the newest SOA, each message with a right signature.
fn transferred(server: SocketAddr, mut message: Message) -> Vec<Record> {
    let mut verifier = message.finalize(&signer(SECRET), super::unix_secs()).expect("signed").expect("a verifier");
    let mut stream = connect(server);
    stream.write_all(&framed(&message.to_vec().expect("encoded"))).expect("sent");
    let mut records: Vec<Record> = Vec::new();
    while records.len() < 2 || records[records.len() - 1] != records[0] {
        let answer = read(&mut stream);
        verifier.verify(&answer).expect("a right signature");
        let answer = Message::from_vec(&answer).expect("readable");
        assert_eq!(answer.response_code, ResponseCode::NoError);
        records.extend(answer.answers);
    }
    records
}

#[test]
fn who_has_the_key_gets_the_zone_with_steered_names_as_they_are_by_default() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    let lines: String = (0..3000).map(|number| format!("n{number} IN TXT text-{number}\n")).collect();
    site.write("example.com.zone", &zone_with(1, &lines));
    let node = start(&site);
    let shown: Vec<String> = transferred(node.addresses()[0], wanted(None)).iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2 + 2 + 3000 + 2);
    for expected in ["www.example.com. 30 IN A 198.51.100.1", "api.example.com. 30 IN A 198.51.100.2"] {
        assert!(shown.iter().any(|record| record == expected), "{expected} is not there");
    }
    node.stop();
}

#[test]
fn wrong_key_no_key_and_other_addresses_get_nothing() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    let node = start(&site);
    let server = node.addresses()[0];
    let asked = |message: &Message, from: [u8; 4]| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
        socket.connect(&server.into()).expect("connected");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        stream.write_all(&framed(&message.to_vec().expect("encoded"))).expect("sent");
        Message::from_vec(&read(&mut stream)).expect("readable")
    };
    assert_eq!(asked(&wanted(None), [127, 0, 0, 1]).response_code, ResponseCode::Refused);
    let by_address = asked(&wanted(None), [127, 0, 0, 9]);
    assert_eq!((by_address.response_code, by_address.answers.len()), (ResponseCode::NoError, 2 + 2 + 2));
    let mut wrong = wanted(None);
    wrong.finalize(&signer(b"another secret of some length..."), super::unix_secs()).expect("signed");
    let answer = asked(&wrong, [127, 0, 0, 9]);
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NotAuth, 0));
    assert_eq!(answer.signature().expect("a TSIG record").data.error.map(u16::from), Some(16));
    // Right, but of long ago.
    let mut late = wanted(None);
    late.finalize(&signer(SECRET), super::unix_secs() - 10_000).expect("signed");
    let answer = asked(&late, [127, 0, 0, 1]);
    assert_eq!(answer.signature().expect("a TSIG record").data.error.map(u16::from), Some(18));
    // Elsewhere than here.
    let mut foreign = Message::from_vec(&query(7, "example.net", RecordType::AXFR)).expect("readable");
    foreign.finalize(&signer(SECRET), super::unix_secs()).expect("signed");
    assert_eq!(asked(&foreign, [127, 0, 0, 1]).response_code, ResponseCode::NotAuth);
    node.stop();
}

#[test]
fn ordinary_query_that_is_signed_is_answered_and_the_answer_signed() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    let node = start(&site);
    let server = node.addresses()[0];
    let mut message = Message::from_vec(&query(7, "www.example.com", RecordType::A)).expect("readable");
    let mut verifier = message.finalize(&signer(SECRET), super::unix_secs()).expect("signed").expect("a verifier");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.send_to(&message.to_vec().expect("encoded"), server).expect("sent");
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).expect("answered");
    let answer = verifier.verify(&buffer[..len]).expect("a right signature");
    assert_eq!(answer.answers[0].data.to_string(), "198.51.100.1");
    node.stop();
}

#[test]
fn changed_zone_is_notified_and_its_changes_alone_are_sent() {
    let secondary = UdpSocket::bind("127.0.0.1:0").expect("bound");
    secondary.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let site = site_with_secondaries(secondary.local_addr().expect("bound"));
    let lines: String = (0..100).map(|number| format!("n{number} IN TXT text-{number}\n")).collect();
    site.write("example.com.zone", &zone_with(1, &lines));
    let node = start(&site);
    let server = node.addresses()[0];
    let notified = |is_answered: bool| {
        let mut buffer = [0; 1500];
        let (len, from) = secondary.recv_from(&mut buffer).expect("a notification");
        let mut answer = Message::from_vec(&buffer[..len]).expect("readable");
        let RData::SOA(soa) = answer.answers.remove(0).data else { panic!("no SOA record") };
        assert!(answer.signature().is_some());
        if is_answered {
            // Signed as an answer is, by our own hand.
            let keys = crate::tsig::KeySet::from_iter([crate::tsig::Key::parse(
                &crate::wire::Name::parse("xfr", &crate::wire::Name::root()).expect("a name"),
                crate::tsig::Algorithm::Sha256,
                &data_encoding::BASE64.encode(SECRET),
            )
            .expect("a key")]);
            let request = Request::split(&buffer[..len]).expect("well formed").expect("signed");
            let mut session = request.verify(&keys, super::unix_secs()).expect("right");
            let mut answer = super::refusal(
                &Query::parse(request.message()).expect("a query"),
                request.message(),
                crate::wire::Rcode::NOERROR,
            );
            session.sign(&mut answer, super::unix_secs());
            secondary.send_to(&answer, from).expect("sent");
        }
        soa.serial
    };
    // The first one is lost on its way back, so that there is another.
    assert_eq!((notified(false), notified(true)), (1, 1));
    until("the acknowledgement is shown", || {
        let (_, status) = http(node.admin_address().expect("there is one"), "GET", "/status", "", "");
        status.contains("\"acknowledged_serial\":1")
    });
    site.write("example.com.zone", &zone_with(2, &lines.replace("text-50", "other-50")));
    assert_eq!(notified(true), 2);
    let shown: Vec<String> =
        transferred(server, wanted(Some(1))).iter().map(|record| record.data.to_string()).collect();
    assert_eq!(shown.len(), 6, "{shown:?}");
    assert_eq!([&shown[2], &shown[4]], ["text-50", "other-50"]);
    let (_, metrics) = http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
    let address = secondary.local_addr().expect("bound");
    let line = format!("gslb_acknowledged_serial{{zone=\"example.com.\",secondary=\"{address}\"}} ");
    assert!(metrics.contains(&line), "{metrics}");
    node.stop();
}

#[test]
fn secondary_that_takes_nothing_is_cut_in_time_and_holds_up_nobody() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    let settings = std::fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("threads = 1", "threads = 1\ntcp = { message = \"500ms\" }"));
    let text = "x".repeat(250);
    let lines: String = (0..8000).map(|number| format!("n{number} IN TXT {text}\n")).collect();
    site.write("example.com.zone", &zone_with(1, &lines));
    let node = start(&site);
    let server = node.addresses()[0];
    let mut message = wanted(None);
    message.finalize(&signer(SECRET), super::unix_secs()).expect("signed");
    let mut idle = connect(server);
    idle.write_all(&framed(&message.to_vec().expect("encoded"))).expect("sent");
    let metric = |name: &str| {
        let (_, metrics) = http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
        let line = metrics.lines().find(|line| line.starts_with(name)).expect("a metric").to_owned();
        line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a number")
    };
    until("the answer is stuck", || metric("gslb_tcp_bytes_in_flight") > 0);
    // One message of it, not the zone.
    assert!(metric("gslb_tcp_bytes_in_flight") < 64 << 10);
    let mut other = connect(server);
    other.write_all(&framed(&query(3, "www.example.com", RecordType::A))).expect("sent");
    assert_eq!(data(&read(&mut other)), ["198.51.100.1"]);
    until("the end", || metric("gslb_tcp_timeouts_total{awaited=\"answer\"}") == 1);
    node.stop();
}

#[test]
fn change_that_secondaries_cannot_hear_of_is_warned_of() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    let last = crate::reload::load(&site.config(), None).world.expect("right");
    let settings = std::fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("198.51.100.1\"", "198.51.100.7\""));
    let warned = |last| {
        let world = crate::reload::load(&site.config(), Some(last)).world.expect("right");
        world.warnings.iter().any(|warning| warning.what.starts_with("what secondaries of example.com. get"))
    };
    assert!(warned(&last));
    site.write("example.com.zone", &zone_with(2, ""));
    assert!(!warned(&last));
}

#[test]
fn opt_is_in_a_refusal_where_it_is_in_the_query() {
    let site = Site::new();
    let node = start(&site);
    let mut message = Message::from_vec(&query(7, "example.com", RecordType::AXFR)).expect("readable");
    message.set_edns(hickory_proto::op::Edns::new());
    let answer = by_udp(node.addresses()[0], &message.to_vec().expect("encoded"));
    assert_eq!((answer.response_code, answer.edns.is_some()), (ResponseCode::Refused, true));
    node.stop();
}

#[test]
fn key_file_that_others_can_read_is_refused_with_what_to_run() {
    let site = site_with_secondaries("127.0.0.1:9".parse().expect("an address"));
    fs::set_permissions(site.path("xfr.key"), Permissions::from_mode(0o640)).expect("set");
    let problems = crate::reload::load(&site.config(), None).world.expect_err("refused");
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        shown.iter().any(|problem| problem.contains("has mode 0640") && problem.contains("chmod 600 ")),
        "{shown:?}"
    );
}

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
