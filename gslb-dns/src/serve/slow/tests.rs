//! Over real sockets: what comes back, and that nobody is held up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RecordType, TSigner};

use crate::serve::Node;
use crate::serve::sample::{Site, data, http, query};

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
    message.finalize(&key.expect("a key"), super::unix_secs_whole()).expect("signed");
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
fn slow_answer_keeps_its_place_among_pipelined_ones() {
    let site = Site::new();
    let node = start(&site);
    let mut stream = connect(node.addresses()[0]);
    let mut sent = Vec::new();
    for id in 0..50 {
        sent.extend(framed(&query(2 * id, "www.example.com", RecordType::A)));
        let slow = if id % 2 == 0 { query(7, "example.com", RecordType::AXFR) } else { signed_by_nobody() };
        sent.extend(framed(&slow));
    }
    stream.write_all(&sent).expect("sent");
    for id in 0..50_u16 {
        let answer = read(&mut stream);
        assert_eq!(answer[..2], (2 * id).to_be_bytes());
        assert_eq!(data(&answer), ["198.51.100.1"]);
        assert_eq!(read(&mut stream)[..2], 7_u16.to_be_bytes());
    }
    drop(stream);
    node.stop();
}
