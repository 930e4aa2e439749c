//! Messages that take their time: they hold up nothing, and nobody gets more by sending many.

use hickory_proto::op::Message;
use hickory_proto::op::update_message::append;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, TSigner};

use super::*;
use crate::reload::unix_secs;
use crate::serve::updates::Updater;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Threads whose updates nobody does until the end of what is given too.
fn front(settings: &TcpSettings) -> (Front, Updates, Updater) {
    let site = Site::new();
    site.write_secret("any.key", &data_encoding::BASE64.encode(SECRET));
    site.write("topology.toml", &(site.settings() + "\n[tsig_keys.any]\nsecret_file = \"any.key\"\n"));
    let (updates, updater) = Updates::new(Arc::default(), tokio::sync::mpsc::channel(1).0, Arc::default());
    let lanes = lanes_of(&site, &CounterBook::default(), updates.clone()).take(1).collect();
    (Front::start_with(settings, lanes), updates, updater)
}

fn update(id: u16) -> Vec<u8> {
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let record = Record::from_rdata(name("a.example.com."), 60, RData::TXT(TXT::new(vec!["x".to_owned()])));
    let mut message: Message = append(RecordSet::from(record), name("example.com."), false, false);
    message.metadata.id = id;
    let key = TSigner::new(SECRET.to_vec(), TsigAlgorithm::HmacSha256, name("any."), 300).expect("a key");
    message.finalize(&key, unix_secs()).expect("signed");
    let message = message.to_vec().expect("encoded");
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

fn id_of(stream: &mut StdStream) -> u16 {
    let answer = read_answer(stream).expect("answered");
    u16::from_be_bytes([answer[0], answer[1]])
}

/// RFC 7766, section 6.2.1.1.
#[test]
fn update_under_way_holds_up_no_query_behind_it() {
    let (front, updates, updater) = front(&wide());
    let mut stream = front.connect();
    stream.write_all(&update(1000)).expect("sent");
    until("under way", || updates.waiting() == 1);
    for id in 0..100 {
        stream.write_all(&framed(id, "ns1.example.com")).expect("sent");
        assert_eq!(id_of(&mut stream), id);
    }
    // Whoever waited is told that it was not done.
    drop(updater);
    assert_eq!(id_of(&mut stream), 1000);
    front.stop();
}

#[test]
fn connection_with_many_updates_has_one_under_way_and_few_in_memory() {
    let (front, updates, updater) = front(&wide());
    let mut stream = front.connect();
    let sent: Vec<u8> =
        (1000..1020).flat_map(|id| [update(id), framed(id - 1000, "ns1.example.com")].concat()).collect();
    stream.write_all(&sent).expect("sent");
    // One is under way and eight wait: what is behind these is not even read.
    for id in 0..8 {
        assert_eq!(id_of(&mut stream), id);
    }
    assert_eq!(updates.waiting(), 1);
    assert!(count(&front.counters.bytes_in_flight) > 8 * update(0).len() as u64);
    // Another connection has its own.
    let mut other = front.connect();
    other.write_all(&update(7)).expect("sent");
    until("under way", || updates.waiting() == 2);
    drop(updater);
    assert_eq!(id_of(&mut other), 7);
    let mut ids: Vec<u16> = (0..32).map(|_| id_of(&mut stream)).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq((8..20).chain(1000..1020)));
    drop((stream, other));
    until("given back", || count(&front.counters.open) == 0 && count(&front.counters.bytes_in_flight) == 0);
    front.stop();
}

#[test]
fn client_that_has_sent_all_gets_what_takes_its_time_too() {
    let (front, updates, updater) = front(&wide());
    let mut stream = front.connect();
    stream.write_all(&[update(1000), framed(0, "ns1.example.com"), update(1001)].concat()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    assert_eq!(id_of(&mut stream), 0);
    until("under way", || updates.waiting() == 1);
    drop(updater);
    assert_eq!([id_of(&mut stream), id_of(&mut stream)], [1000, 1001]);
    assert!(is_closed(&mut stream));
    front.stop();
}

#[test]
fn client_with_many_of_them_leaves_others_on_its_thread_their_turn() {
    let longest = longest_turn(update(7).repeat(100), 80);
    assert!((1..=16).contains(&longest), "{longest} at one turn");
}
