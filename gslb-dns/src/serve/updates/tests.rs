//! Over real sockets: who may update, what is served afterwards, and what is left after a restart.

mod signed;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hickory_proto::op::update_message::{append, compare_and_swap, create, delete_rrset};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};

use super::{Job, Journals, UpdateRequest, Updates, Verdict, work};
use crate::reload::{World, load, unix_secs};
use crate::serve::refusals::Refusals;
use crate::serve::sample::{Site, data, http, query, until};
use crate::serve::{Node, StartError};
use crate::update::journal::Entry;
use crate::wire::{self, Rcode};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A site whose zone the key `any` may update, and the key `acme` where certificates need it.
fn site() -> Site {
    let site = Site::new();
    for key in ["any.key", "acme.key"] {
        site.write(key, &data_encoding::BASE64.encode(SECRET));
        fs::set_permissions(site.path(key), Permissions::from_mode(0o600)).expect("set");
    }
    let updates = "file = \"example.com.zone\"\njournal = \"journal\"\nupdates = [\
                   { key = \"any\", names = [\"@\", \"*\"], types = [\"ANY\"] }, \
                   { key = \"acme\", names = [\"_acme-challenge.*\"], types = [\"TXT\"] }]";
    let keys = "\n[tsig_keys.any]\nsecret_file = \"any.key\"\n[tsig_keys.acme]\nsecret_file = \"acme.key\"\n";
    site.write("topology.toml", &(site.settings().replace("file = \"example.com.zone\"", updates) + keys));
    site
}

fn start(site: &Site) -> Node {
    Node::start(&site.config()).expect("started")
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn set(owner: &str, rdata: RData) -> RecordSet {
    RecordSet::from(Record::from_rdata(name(owner), 60, rdata))
}

fn txt(owner: &str, text: &str) -> RecordSet {
    set(owner, RData::TXT(TXT::new(vec![text.to_owned()])))
}

fn adding(records: RecordSet) -> Message {
    append(records, name("example.com."), false, false)
}

/// What the server at `server` says to `message`, signed with `key`; the answer is signed with it too.
fn send(server: SocketAddr, key: &str, message: Message) -> ResponseCode {
    send_with(server, key, SECRET, message)
}

fn send_with(server: SocketAddr, key: &str, secret: &[u8], mut message: Message) -> ResponseCode {
    let key = TSigner::new(secret.to_vec(), TsigAlgorithm::HmacSha256, name(key), 300).expect("a key");
    let mut verifier = message.finalize(&key, unix_secs()).expect("signed").expect("a verifier");
    let answer = exchange(server, &message.to_vec().expect("encoded"));
    let read = Message::from_vec(&answer).expect("readable");
    if read.response_code != ResponseCode::NotAuth {
        verifier.verify(&answer).expect("a right signature");
    }
    read.response_code
}

fn exchange(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat()).expect("sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("answered");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("answered");
    answer
}

fn found(node: &Node, owner: &str, rtype: RecordType) -> Vec<String> {
    data(&exchange(node.addresses()[0], &query(1, owner, rtype)))
}

fn serial(node: &Node) -> u32 {
    node.live().world.zones.zones().next().map_or(0, |(_, serial)| serial)
}

#[test]
fn acknowledged_update_is_served_at_once_and_after_a_restart() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    for at in 0..20 {
        let owner = format!("n{at}.example.com.");
        assert_eq!(send(server, "any.", adding(txt(&owner, "x"))), ResponseCode::NoError);
        assert_eq!(found(&node, &owner, RecordType::TXT), ["x"]);
    }
    assert_eq!(
        send(
            server,
            "any.",
            delete_rrset(Record::update0(name("n3.example.com."), 0, RecordType::TXT), name("example.com."), false)
        ),
        ResponseCode::NoError
    );
    assert_eq!((serial(&node), found(&node, "n3.example.com.", RecordType::TXT).len()), (22, 0));
    // With the mark of the first start.
    let admin = node.admin_address().expect("there is one");
    let octets = fs::metadata(site.path("journal")).expect("a file").len();
    let status: serde_json::Value = serde_json::from_str(&http(admin, "GET", "/status", "", "").1).expect("JSON");
    assert_eq!(status["zones"][0]["journal"], serde_json::json!({ "bytes": octets, "entries": 22 }));
    let metrics = http(admin, "GET", "/metrics", "", "").1;
    assert!(metrics.contains("gslb_journal_entries{zone=\"example.com.\"} 22\n"), "{metrics}");
    assert!(metrics.contains(&format!("gslb_journal_bytes{{zone=\"example.com.\"}} {octets}\n")), "{metrics}");
    node.stop();
    let node = start(&site);
    assert_eq!((serial(&node), found(&node, "n3.example.com.", RecordType::TXT).len()), (22, 0));
    assert_eq!(found(&node, "n19.example.com.", RecordType::TXT), ["x"]);
    node.stop();
}

/// The answer to a message that was lost, or that somebody else has seen pass (RFC 8945, section 10.2).
#[test]
fn copy_of_an_update_is_answered_alike_and_not_done_again() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let key = TSigner::new(SECRET.to_vec(), TsigAlgorithm::HmacSha256, name("any."), 300).expect("a key");
    let mut adding = create(txt("a.example.com.", "x"), name("example.com."), false);
    adding.finalize(&key, unix_secs()).expect("signed");
    let adding = adding.to_vec().expect("encoded");
    let rcode = || Message::from_vec(&exchange(server, &adding)).expect("readable").response_code;
    assert_eq!((rcode(), rcode()), (ResponseCode::NoError, ResponseCode::NoError));
    let removing =
        delete_rrset(Record::update0(name("a.example.com."), 0, RecordType::TXT), name("example.com."), false);
    assert_eq!(send(server, "any.", removing), ResponseCode::NoError);
    assert_eq!(rcode(), ResponseCode::NoError);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT).len(), serial(&node)), (0, 3));
    // Many at once are one, too: else the prerequisite would hold for the first alone.
    let mut message = create(txt("b.example.com.", "x"), name("example.com."), false);
    message.finalize(&key, unix_secs()).expect("signed");
    let message = message.to_vec().expect("encoded");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = Message::from_vec(&exchange(server, &message)).expect("readable");
                assert_eq!(answer.response_code, ResponseCode::NoError);
            });
        }
    });
    assert_eq!(serial(&node), 4);
    node.stop();
}

/// A job that adds a TXT record, signed with `mac` up to `end`.
fn job(owner: &str, mac: u8, end: u64) -> Job {
    let key = wire::Name::parse("any.", &wire::Name::root()).expect("a name");
    let message = adding(txt(owner, "x")).to_vec().expect("encoded");
    let request = UpdateRequest { key, mac: [mac].into(), end, peer: [192, 0, 2, 1].into(), message };
    Job { request, done: tokio::sync::oneshot::channel().0 }
}

/// It may have been done already, by a message that is remembered no longer than it holds.
#[test]
fn update_whose_signature_ended_while_it_waited_is_not_done() {
    let (_, updater) = Updates::new(std::sync::Arc::default(), tokio::sync::mpsc::channel(1).0, Default::default());
    let now = unix_secs();
    let (jobs, others) =
        updater.first_of_each([job("a.example.com.", 1, now - 1), job("a.example.com.", 2, now + 300)].into_iter());
    assert_eq!((jobs.len(), others.len()), (1, 1));
    assert_eq!(jobs[0].request.mac[0], 2);
}

#[test]
fn update_that_changed_nothing_over_one_that_failed_is_not_acknowledged() {
    let site = site();
    let world = read_world(&site);
    // The second finds what the first has made, which is written nowhere.
    let jobs = [job("static.example.com.", 0, 0), job("a.example.com.", 1, 0), job("a.example.com.", 2, 0)];
    let worked = work(&world, &mut Journals::default(), &jobs, &Refusals::default());
    assert!(worked.world.is_none());
    for verdict in worked.verdicts {
        assert!(matches!(verdict, Verdict::Refused(Rcode::SERVFAIL)));
    }
}

#[test]
fn prerequisites_are_looked_at() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let first = || create(txt("a.example.com.", "1"), name("example.com."), false);
    assert_eq!(send(server, "any.", first()), ResponseCode::NoError);
    assert_eq!(send(server, "any.", first()), ResponseCode::YXRRSet);
    let swap = || compare_and_swap(txt("a.example.com.", "1"), txt("a.example.com.", "2"), name("example.com."), false);
    assert_eq!(send(server, "any.", swap()), ResponseCode::NoError);
    assert_eq!(send(server, "any.", swap()), ResponseCode::NXRRSet);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT), serial(&node)), (vec!["2".to_owned()], 3));
    node.stop();
}

/// RFC 2136, section 3.3; RFC 8945, section 5.2.
#[test]
fn who_may_not_changes_nothing() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let message = || adding(txt("a.example.com.", "x"));
    assert_eq!(send(server, "acme.", message()), ResponseCode::Refused);
    assert_eq!(send(server, "nobody.", message()), ResponseCode::NotAuth);
    assert_eq!(send_with(server, "any.", b"another secret of thirty octets", message()), ResponseCode::NotAuth);
    let unsigned = exchange(server, &message().to_vec().expect("encoded"));
    assert_eq!(Message::from_vec(&unsigned).expect("readable").response_code, ResponseCode::Refused);
    let other_zone = append(txt("a.example.net.", "x"), name("example.net."), false, false);
    assert_eq!(send(server, "any.", other_zone), ResponseCode::NotAuth);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT).len(), serial(&node)), (0, 1));
    assert_eq!(send(server, "acme.", adding(txt("_acme-challenge.a.example.com.", "x"))), ResponseCode::NoError);
    let (_, metrics) = http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
    for reason in ["update-forbidden", "tsig-badkey", "tsig-badsig", "update-unsigned"] {
        assert!(metrics.contains(&format!("gslb_refused_total{{reason=\"{reason}\"}} 1")), "{reason}: {metrics}");
    }
    node.stop();
}

#[test]
fn address_at_a_steered_name_is_refused() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let address = |owner: &str| adding(set(owner, RData::A(A::new(192, 0, 2, 9))));
    assert_eq!(send(server, "any.", address("www.example.com.")), ResponseCode::Refused);
    assert_eq!(send(server, "any.", adding(txt("www.example.com.", "x"))), ResponseCode::NoError);
    assert_eq!(send(server, "any.", address("static.example.com.")), ResponseCode::NoError);
    assert_eq!(found(&node, "www.example.com.", RecordType::A), ["198.51.100.1"]);
    let (_, metrics) = http(node.admin_address().expect("there is one"), "GET", "/metrics", "", "");
    assert!(metrics.contains("gslb_refused_total{reason=\"update-invalid\"} 1"), "{metrics}");
    node.stop();
}

/// A node that has taken one update, and its site, whose journal is named `a.journal`.
fn updated() -> (Site, Node) {
    let site = site();
    let settings = fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("\"journal\"", "\"a.journal\""));
    let node = start(&site);
    assert_eq!(send(node.addresses()[0], "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    (site, node)
}

#[test]
fn journal_is_not_left_while_the_zone_file_lacks_what_is_in_it() {
    let (site, node) = updated();
    let served = node.live();
    node.stop();
    let reload = || load(&site.config(), Some(&served.world)).world;
    let with_journal = fs::read_to_string(site.config()).expect("readable");
    for settings in [site.settings(), with_journal.replace("a.journal", "b.journal")] {
        site.write("topology.toml", &settings);
        let problems = reload().expect_err("it would be lost");
        let (at, told) = (site.config().display().to_string(), problems[0].to_string());
        assert!(
            told.starts_with(&at) && told.contains("zones.\"example.com\".journal: the zone file has not"),
            "{told}"
        );
    }
    fs::rename(site.path("a.journal"), site.path("b.journal")).expect("moved");
    assert_eq!(reload().expect("the same journal").zones.zones().next().map(|(_, serial)| serial), Some(2));
    fs::rename(site.path("b.journal"), site.path("a.journal")).expect("moved");
    site.write("topology.toml", &site.settings());
    site.write("example.com.zone", &served.world.kept[0].to_master().to_string());
    let world = reload().expect("the zone file has all");
    assert!(!world.warnings.iter().any(|warning| warning.what.contains("serial")), "{:?}", world.warnings);
}

#[test]
fn journal_that_was_removed_is_given_up_and_the_serial_that_fell_is_told() {
    let (site, node) = updated();
    let served = node.live();
    node.stop();
    site.write("topology.toml", &site.settings());
    fs::remove_file(site.path("a.journal")).expect("removed");
    let world = load(&site.config(), Some(&served.world)).world.expect("as asked for");
    let told: Vec<String> = world.warnings.iter().map(ToString::to_string).collect();
    let serials: Vec<_> = told.iter().filter(|told| told.contains("serial")).collect();
    assert!(serials.len() == 1 && serials[0].contains("the serial has fallen from 2 to 1"), "{told:?}");
}

#[test]
fn journal_that_no_zone_has_any_more_is_pointed_at() {
    let (site, node) = updated();
    node.stop();
    site.write("topology.toml", &site.settings());
    let warnings = read_world(&site).warnings;
    let told = warnings.first().expect("a warning").to_string();
    assert!(
        told.contains("1 updates have changed, up to serial 2 in ") && told.contains("/a.journal, which no zone"),
        "{told}"
    );
}

#[test]
fn empty_journal_is_pointed_at() {
    let (site, node) = updated();
    node.stop();
    fs::write(site.path("a.journal"), "").expect("written");
    let warnings = read_world(&site).warnings;
    let told = warnings.first().expect("a warning").to_string();
    assert!(told.contains("a.journal: is empty"), "{told}");
}

#[test]
fn edited_file_keeps_the_updates_and_gets_a_later_serial() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    assert_eq!(send(server, "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    let file = fs::read_to_string(site.path("example.com.zone")).expect("readable");
    site.write("example.com.zone", &format!("{file}b TXT \"y\"\n"));
    until("the file is served", || found(&node, "b.example.com.", RecordType::TXT) == ["y"]);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT), serial(&node)), (vec!["x".to_owned()], 3));
    assert_eq!(send(server, "any.", adding(txt("c.example.com.", "z"))), ResponseCode::NoError);
    assert_eq!(serial(&node), 4);
    node.stop();
    let node = start(&site);
    assert_eq!(serial(&node), 4);
    let all: Vec<usize> =
        ["a", "b", "c"].map(|owner| found(&node, &format!("{owner}.example.com."), RecordType::TXT).len()).into();
    assert_eq!(all, [1, 1, 1]);
    node.stop();
}

#[test]
fn updates_and_reloads_at_the_same_time_lose_nothing() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let file = fs::read_to_string(site.path("example.com.zone")).expect("readable");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for at in 0..25 {
                    let owner = format!("n{at}.t{thread}.example.com.");
                    assert_eq!(send(server, "any.", adding(txt(&owner, "x"))), ResponseCode::NoError);
                    assert_eq!(data(&exchange(server, &query(1, &owner, RecordType::TXT))), ["x"], "{owner}");
                }
            });
        }
        for at in 0..10 {
            site.write("example.com.zone", &format!("{file}edit TXT \"{at}\"\n"));
            node.reload();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let count = |node: &Node| {
        let owners = (0..4).flat_map(|thread| (0..25).map(move |at| format!("n{at}.t{thread}.example.com.")));
        owners.filter(|owner| found(node, owner, RecordType::TXT) == ["x"]).count()
    };
    assert_eq!(count(&node), 100);
    node.stop();
    let node = start(&site);
    assert_eq!(count(&node), 100);
    node.stop();
}

/// What the files of `site` say.
fn read_world(site: &Site) -> World {
    load(&site.config(), None).world.expect("no mistakes")
}

#[test]
fn journals_that_cannot_all_be_followed_stay_as_they_were() {
    let site = site();
    let (mut journals, world) = (Journals::default(), read_world(&site));
    journals.follow(&world).expect("followed");
    let before = fs::read(site.path("journal")).expect("readable");
    let settings = fs::read_to_string(site.config()).expect("readable");
    let file = fs::read_to_string(site.path("example.com.zone")).expect("readable");
    site.write("example.com.zone", &format!("{file}edit TXT \"y\"\n"));
    site.write("other.zone", &file);
    // The first could be followed, with a mark in it; the second cannot be made.
    let other = "\n[[zones]]\nname = \"example.net\"\nfile = \"other.zone\"\njournal = \"missing/journal\"\n";
    for journal in ["journal", "moved"] {
        let settings = settings.replace("journal = \"journal\"", &format!("journal = \"{journal}\""));
        site.write("topology.toml", &(settings + other));
        let problems = journals.follow(&read_world(&site)).expect_err("the second cannot be made");
        assert!(problems.len() == 1 && problems[0].file.ends_with("/missing/journal"), "{problems:?}");
        assert_eq!(fs::read(site.path("journal")).expect("readable"), before, "{journal}");
    }
    assert!(!site.path("moved").exists());
    let entries = BTreeMap::from([(0, vec![Entry::mark(&world.kept[0])])]);
    journals.append(&world, &entries).expect("the old one is open still");
    site.write("topology.toml", &settings);
    journals.follow(&read_world(&site)).expect("followed");
    assert!(fs::read(site.path("journal")).expect("readable").len() > before.len());
}

#[test]
fn journal_that_was_cut_is_followed_under_the_lock_that_is_held() {
    let site = site();
    let (mut journals, world) = (Journals::default(), read_world(&site));
    journals.follow(&world).expect("followed");
    let entries = BTreeMap::from([(0, vec![Entry::mark(&world.kept[0])])]);
    journals.append(&world, &entries).expect("added");
    let len = fs::metadata(site.path("journal")).expect("there").len();
    fs::OpenOptions::new().write(true).open(site.path("journal")).expect("opened").set_len(len - 9).expect("cut");
    assert!(journals.append(&world, &entries).is_err(), "it would be lost in a hole");
    let world = read_world(&site);
    journals.follow(&world).expect("followed");
    journals.append(&world, &entries).expect("added");
    assert_eq!(read_world(&site).journals[0].journal.torn, 0);
}

#[test]
fn second_node_cannot_have_the_journal_of_the_first_and_reading_it_is_free() {
    let site = site();
    let node = start(&site);
    assert_eq!(send(node.addresses()[0], "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    let world = load(&site.config(), None).world.expect("no mistakes");
    assert_eq!(world.zones.zones().next().map(|(_, serial)| serial), Some(2));
    let Err(StartError::Problems(problems)) = Node::start(&site.config()) else { panic!("it started") };
    assert!(problems[0].to_string().contains("is written by another process"), "{problems:?}");
    node.stop();
}

#[test]
fn broken_journal_is_a_mistake_that_names_file_and_place() {
    let site = site();
    let node = start(&site);
    for text in ["x", "y"] {
        assert_eq!(send(node.addresses()[0], "any.", adding(txt("a.example.com.", text))), ResponseCode::NoError);
    }
    node.stop();
    let mut octets = fs::read(site.path("journal")).expect("readable");
    // In the mark after the header.
    octets[60] ^= 1;
    fs::write(site.path("journal"), octets).expect("written");
    let problems = load(&site.config(), None).world.expect_err("a mistake");
    let shown = problems[0].to_string();
    assert!(shown.contains("/journal: is broken: ") && shown.contains(" at octet 31"), "{shown}");
}

#[test]
fn file_that_does_not_go_with_the_updates_is_refused() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    assert_eq!(send(server, "any.", adding(txt("a.sub.example.com.", "x"))), ResponseCode::NoError);
    node.stop();
    let file = fs::read_to_string(site.path("example.com.zone")).expect("readable");
    site.write("example.com.zone", &format!("{file}sub DNAME example.net.\n"));
    let problems = load(&site.config(), None).world.expect_err("a mistake");
    assert!(problems.iter().any(|problem| problem.what.starts_with("with the updates in ")), "{problems:?}");
}

#[test]
fn journal_of_many_changes_stays_short_and_is_served_after_a_restart() {
    let site = site();
    let node = start(&site);
    let server = node.addresses()[0];
    let long = |at: usize| {
        let strings = (0..32).map(|_| format!("{at:0>250}")).collect();
        set("a.example.com.", RData::TXT(TXT::new(strings)))
    };
    assert_eq!(send(server, "any.", adding(long(0))), ResponseCode::NoError);
    for at in 0..60 {
        let swap = compare_and_swap(long(at), long(at + 1), name("example.com."), false);
        assert_eq!(send(server, "any.", swap), ResponseCode::NoError);
    }
    let (served, last) = (found(&node, "a.example.com.", RecordType::TXT), serial(&node));
    node.stop();
    // All of them take 60 times 16 KiB.
    let len = fs::metadata(site.path("journal")).expect("a file").len();
    assert!(len < 512 * 1024, "{len}");
    let node = start(&site);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT), serial(&node)), (served, last));
    node.stop();
}

/// RFC 2136, section 3.7; RFC 1996, section 3.1.
#[test]
fn secondaries_are_told_of_an_update() {
    let site = site();
    let secondary = UdpSocket::bind("127.0.0.1:0").expect("bound");
    secondary.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let address = secondary.local_addr().expect("bound");
    let settings = fs::read_to_string(site.config()).expect("readable");
    let with_secondary = format!("secondaries = [{{ address = \"{address}\", key = \"none\" }}]\njournal =");
    site.write("topology.toml", &settings.replace("journal =", &with_secondary));
    let node = start(&site);
    let told = || {
        let mut buffer = [0; 1500];
        let (len, from) = secondary.recv_from(&mut buffer).expect("a notification");
        let mut message = Message::from_vec(&buffer[..len]).expect("readable");
        let RData::SOA(soa) = message.answers.remove(0).data else { panic!("no SOA record") };
        buffer[2] |= 0x80;
        secondary.send_to(&buffer[..len], from).expect("sent");
        soa.serial
    };
    assert_eq!(told(), 1);
    assert_eq!(send(node.addresses()[0], "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    // Those of before may come twice.
    while told() != 2 {}
    let transfer = found(&node, "example.com.", RecordType::AXFR);
    assert!(transfer.iter().any(|data| data == "x"), "{transfer:?}");
    node.stop();
}
