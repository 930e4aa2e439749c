use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use hickory_proto::dnssec::Verifier as _;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use super::*;
use crate::serve::sample::{Site, ask, ask_for, ask_signed, data, query, until};
use crate::sign::tests::reader;
use crate::sign::{KeyTimes, Role, ZoneKey};

const SEOUL: &str = "198.51.100.1";
const VIRGINIA: &str = "198.51.100.2";

fn start(site: &Site) -> Node {
    Node::start(&site.config()).expect("started")
}

#[test]
fn first_answer_comes_after_the_first_probe_round() {
    let site = Site::new();
    site.set_up("seoul", false);
    let node = start(&site);
    assert_eq!(ask(node.addresses()[0], "www.example.com"), [VIRGINIA]);
    node.stop();
}

#[test]
fn node_that_reaches_nobody_answers_all_the_same() {
    let site = Site::new();
    site.set_up("seoul", false);
    site.set_up("virginia", false);
    let node = start(&site);
    assert_eq!(ask(node.addresses()[0], "www.example.com"), [SEOUL]);
    let admin = node.admin_address().expect("there is one");
    assert_eq!(crate::serve::sample::http(admin, "GET", "/ready", "", "").0, 200);
    node.stop();
}

#[test]
fn region_that_dies_is_answered_no_more() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    assert_eq!(ask(server, "www.example.com"), [SEOUL]);
    site.set_up("seoul", false);
    until("failover", || ask(server, "www.example.com") == [VIRGINIA]);
    node.stop();
}

#[test]
fn pipelined_tcp_queries_are_answered_in_order() {
    let site = Site::new();
    let node = start(&site);
    let mut stream = TcpStream::connect(node.addresses()[0]).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let mut sent = Vec::new();
    for id in 0..100 {
        let query = query(id, if id % 2 == 0 { "www.example.com" } else { "api.example.com" }, RecordType::A);
        sent.extend_from_slice(&(query.len() as u16).to_be_bytes());
        sent.extend_from_slice(&query);
    }
    // In two pieces, cut within a message.
    stream.write_all(&sent[..777]).expect("sent");
    thread::sleep(Duration::from_millis(50));
    stream.write_all(&sent[777..]).expect("sent");
    for id in 0..100_u16 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("answered");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(answer[..2], id.to_be_bytes());
        assert_eq!(data(&answer), [if id % 2 == 0 { SEOUL } else { VIRGINIA }]);
    }
    drop(stream);
    node.stop();
}

#[test]
fn changed_file_is_taken_over_and_a_broken_one_is_not() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    site.write("topology.toml", &site.settings().replace("198.51.100.1", "198.51.100.7"));
    until("reload", || ask(server, "www.example.com") == ["198.51.100.7"]);
    // Health goes on: nobody was probed anew before the answer.
    assert!(!node.live().snapshot.view().services.iter().any(|service| service.is_degraded()));
    let hash = node.live().world.hash;
    site.write("topology.toml", &site.settings().replace("198.51.100.1", "no address"));
    site.write("example.com.zone", "nonsense");
    let admin = node.admin_address().expect("there is one");
    let problems = || {
        let (_, status) = crate::serve::sample::http(admin, "GET", "/status", "", "");
        let page: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        page["last_reload_failure"]["problems"].to_string()
    };
    until("refusal", || problems().contains("example.com.zone"));
    let problems = problems();
    assert!(problems.contains("no address") && problems.contains("example.com.zone"), "{problems}");
    assert_eq!((ask(server, "www.example.com"), node.live().world.hash), (vec!["198.51.100.7".to_owned()], hash));
    node.stop();
}

#[test]
fn keys_and_signatures_show_and_new_keys_are_served_without_a_restart() {
    let site = Site::new();
    let key = site.add_key(Role::Csk, KeyTimes::default());
    site.write("topology.toml", &site.signed_settings());
    let node = start(&site);
    let (server, admin) = (node.addresses()[0], node.admin_address().expect("there is one"));
    assert_eq!(ask_for(server, "example.com", RecordType::DNSKEY).len(), 1);
    site.add_key(Role::Ksk, KeyTimes::default());
    until("a second key", || ask_for(server, "example.com", RecordType::DNSKEY).len() == 2);
    let (_, status) = crate::serve::sample::http(admin, "GET", "/status", "", "");
    let page: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let dnssec = &page["zones"][0]["dnssec"];
    assert_eq!(dnssec["keys"].as_array().map(Vec::len), Some(2), "{dnssec}");
    assert!(dnssec["signatures"].as_u64() > Some(3) && dnssec["earliest_expiration"].is_string(), "{dnssec}");
    let (_, metrics) = crate::serve::sample::http(admin, "GET", "/metrics", "", "");
    let line = format!("gslb_key{{zone=\"example.com.\",tag=\"{}\",role=\"csk\",state=\"active\"}} 1", key.tag());
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("gslb_signature_expiration_seconds{zone=\"example.com.\"}"), "{metrics}");
    assert!(metrics.contains("gslb_keys_unusable{zone=\"example.com.\"} 0"), "{metrics}");
    node.stop();
}

/// Checks every RRset in `section` by `key`; gives how many there were.
fn verified(section: &[Record], key: &ZoneKey) -> usize {
    let dnskey = reader::dnskey(key.key.public().dnskey());
    let mut count = 0;
    for record in section {
        let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { continue };
        let covered = rrsig.input().type_covered;
        let rrset = section.iter().filter(|other| other.name == record.name && other.record_type() == covered);
        dnskey.verify_rrsig(&record.name, DNSClass::IN, rrsig, rrset).expect("it holds");
        count += 1;
    }
    let owns = |record: &&Record| (record.name.clone(), record.record_type());
    let rrsets: std::collections::HashSet<_> =
        section.iter().filter(|record| record.record_type() != RecordType::RRSIG).map(|r| owns(&r)).collect();
    assert_eq!(count, rrsets.len(), "each RRset has one signature: {section:?}");
    count
}

#[test]
fn answers_of_a_signed_zone_verify_with_the_second_reader_before_and_after_a_failover() {
    let site = Site::new();
    let key = site.add_key(Role::Csk, KeyTimes::default());
    site.write("topology.toml", &site.signed_settings());
    let node = start(&site);
    let server = node.addresses()[0];
    let look = || {
        for (name, rtype, answers, proofs) in [
            ("www.example.com", RecordType::A, 1, 0),
            ("www.example.com", RecordType::AAAA, 0, 2),
            ("example.com", RecordType::DNSKEY, 1, 0),
            ("example.com", RecordType::CDS, 1, 0),
            ("example.com", RecordType::SOA, 1, 0),
            ("nowhere.example.com", RecordType::A, 0, 3),
        ] {
            let message = ask_signed(server, name, rtype);
            let found = (verified(&message.answers, &key), verified(&message.authorities, &key));
            assert_eq!(found, (answers, proofs), "{name} {rtype}: {message:?}");
        }
    };
    look();
    site.set_up("seoul", false);
    until("failover", || ask(server, "www.example.com") == [VIRGINIA]);
    look();
    node.stop();
}

#[test]
fn key_that_goes_at_its_time_goes_without_a_reload() {
    let site = Site::new();
    let soon = Some(crate::reload::unix_secs() + 3);
    site.add_key(
        Role::Csk,
        KeyTimes { publish: Some(0), activate: Some(0), delete: soon, inactive: soon, ..Default::default() },
    );
    site.add_key(Role::Csk, KeyTimes::default());
    site.write("topology.toml", &site.signed_settings());
    let node = start(&site);
    let server = node.addresses()[0];
    site.write("example.com.zone", "nonsense");
    until("one key", || ask_for(server, "example.com", RecordType::DNSKEY).len() == 1);
    assert_eq!(node.live().world.signed_zones[0].keys.keys.len(), 2, "its files are still there");
    node.stop();
}

#[test]
fn no_query_is_lost_over_reloads() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_over);
    let client = thread::spawn(move || {
        let mut asked = 0;
        while !seen.load(Ordering::Relaxed) {
            let answer = ask(server, "www.example.com");
            assert!(answer == [SEOUL] || answer == ["198.51.100.7"], "{answer:?}");
            asked += 1;
        }
        asked
    });
    for round in 0..4 {
        let vip = if round % 2 == 0 { "198.51.100.7" } else { SEOUL };
        site.write("topology.toml", &site.settings().replace(SEOUL, vip));
        node.reload();
        until("reload", || ask(server, "www.example.com") == [vip]);
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(client.join().expect("every query was answered") > 0);
    node.stop();
}

#[test]
fn verdicts_survive_a_restart() {
    let site = Site::new();
    let node = start(&site);
    site.set_up("seoul", false);
    until("failover", || ask(node.addresses()[0], "www.example.com") == [VIRGINIA]);
    node.stop();
    site.set_up("seoul", true);
    let node = start(&site);
    // Without its past it would be taken for serving at once.
    assert_eq!(ask(node.addresses()[0], "www.example.com"), [VIRGINIA]);
    node.stop();
}

#[test]
fn broken_state_file_does_not_keep_a_node_from_starting() {
    let site = Site::new();
    site.write("state.json", "{");
    let node = start(&site);
    assert_eq!(ask(node.addresses()[0], "www.example.com"), [SEOUL]);
    node.stop();
}

#[test]
fn start_fails_with_every_mistake() {
    let site = Site::new();
    site.write("topology.toml", &site.settings().replace("threads = 1", "threads = \"x\""));
    site.write("overrides.csv", "192.0.2.0/33,KR\n");
    site.write("token", "short");
    let Err(StartError::Problems(problems)) = Node::start(&site.config()) else { panic!("it must not start") };
    for file in ["topology.toml", "overrides.csv", "token"] {
        assert!(problems.iter().any(|problem| problem.file.ends_with(file)), "{file}: {problems:?}");
    }
}

#[test]
fn queries_that_wait_in_the_socket_are_answered_at_the_stop() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    for id in 0..50 {
        socket.send_to(&query(id, "www.example.com", RecordType::A), server).expect("sent");
    }
    node.stop();
    for _ in 0..50 {
        assert!(socket.recv(&mut [0; 512]).expect("answered") > 12);
    }
}

#[test]
fn clients_that_never_stop_to_ask_do_not_hold_up_a_stop() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    let begun = std::time::Instant::now();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
                let query = query(1, "www.example.com", RecordType::A);
                while begun.elapsed() < Duration::from_secs(8) {
                    let _ = socket.send_to(&query, server);
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    node.stop();
    assert!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
    clients.into_iter().for_each(|client| client.join().expect("ended"));
}

/// Asks over UDP with a COOKIE option of `cookie`, where it is not empty; gives rcode, whether TC is set, the number of
/// answers, and the cookie that came back.
fn ask_with_cookie(server: SocketAddr, cookie: &[u8]) -> (u16, bool, u16, Vec<u8>) {
    let mut packet = query(1, "ns1.example.com", RecordType::A);
    if !cookie.is_empty() {
        packet[11] = 1;
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4 + cookie.len() as u8, 0, 10, 0, cookie.len() as u8]);
        packet.extend(cookie);
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    // A machine with two cores runs many tests at once.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    socket.send_to(&packet, server).expect("sent");
    let mut answer = vec![0; 1500];
    let len = socket.recv(&mut answer).expect("answered");
    answer.truncate(len);
    let has_opt = answer[11] == 1;
    // The cookie is the only option of the last record.
    let (extended, cookie) = if has_opt { (answer[len - 34], answer[len - 24..].to_vec()) } else { (0, Vec::new()) };
    let rcode = u16::from(extended) << 4 | u16::from(answer[3] & 15);
    (rcode, answer[2] & 2 != 0, u16::from_be_bytes([answer[6], answer[7]]), cookie)
}

#[test]
fn limited_client_gets_through_by_cookie_and_by_tcp() {
    let site = Site::new();
    let limits = "[server.rate_limit]\nresponses_per_second = 1\nexempt = []\n[[zones]]";
    site.write("topology.toml", &site.settings().replacen("[[zones]]", limits, 1));
    let node = start(&site);
    let server = node.addresses()[0];
    until("limit", || ask_with_cookie(server, &[]) == (0, true, 0, Vec::new()));
    let (rcode, is_truncated, answers, cookie) = ask_with_cookie(server, &[7; 8]);
    assert_eq!((rcode, is_truncated, answers, &cookie[..8]), (23, false, 0, &[7; 8][..]));
    for _ in 0..20 {
        assert_eq!(ask_with_cookie(server, &cookie), (0, false, 1, cookie.clone()));
    }
    let mut stream = TcpStream::connect(server).expect("connected");
    let query = query(3, "ns1.example.com", RecordType::A);
    stream.write_all(&[&(query.len() as u16).to_be_bytes(), &query[..]].concat()).expect("sent");
    let mut answer = [0; 512];
    let len = stream.read(&mut answer).expect("answered");
    assert_eq!(data(&answer[2..len]), ["192.0.2.53"]);
    let (_, metrics) =
        crate::serve::sample::http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
    for line in [
        "gslb_limited_answers_total{how=\"badcookie\"} 1",
        "gslb_cookies_total{cookie=\"valid\"} 20",
        "rcode=\"BADCOOKIE\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    drop(stream);
    node.stop();
}

#[test]
fn cookies_outlive_a_reload_and_follow_their_file() {
    let site = Site::new();
    let node = start(&site);
    let server = node.addresses()[0];
    let (_, _, answers, by_chance) = ask_with_cookie(server, &[7; 8]);
    assert_eq!(answers, 1);
    site.write("topology.toml", &site.settings().replace(SEOUL, "198.51.100.7"));
    until("reload", || ask(server, "www.example.com") == ["198.51.100.7"]);
    assert_eq!(ask_with_cookie(server, &by_chance).3, by_chance);
    site.write("secret", "000102030405060708090a0b0c0d0e0f\n");
    let with_file = "cookies = { secret_file = \"secret\" }\n[[zones]]";
    site.write("topology.toml", &site.settings().replacen("[[zones]]", with_file, 1));
    until("the secret of the file", || ask_with_cookie(server, &by_chance).3 != by_chance);
    let (.., old) = ask_with_cookie(server, &[7; 8]);
    assert_eq!(ask_with_cookie(server, &old).3, old);
    site.write("secret", "0f0102030405060708090a0b0c0d0e0f\n000102030405060708090a0b0c0d0e0f\n");
    until("the next secret", || ask_with_cookie(server, &old).3 != old);
    let page = || crate::serve::sample::http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "").1;
    assert!(page().contains("gslb_cookies_total{cookie=\"valid\"}"));
    site.write("secret", "0f0102030405060708090a0b0c0d0e0f\nshort\n");
    until("refusal", || page().contains("gslb_last_reload_failed 1"));
    node.stop();
}
