//! Signed zones with secondaries: their serial is in the journal before it is served.

use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::rdata::NULL;

use super::*;
use crate::journal;
use crate::serve::sample::apex;
use crate::sign::{KeyTimes, Role};

/// A site whose zone is signed, has a secondary that never answers, and may be updated with the key `any`.
fn signed_site() -> Site {
    let site = site();
    site.add_key(Role::Csk, KeyTimes::default());
    let signed =
        "dnssec = { keys = \"keys\" }\nsecondaries = [{ address = \"127.0.0.1:9\", key = \"none\" }]\njournal =";
    let settings = fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("journal =", signed));
    site
}

/// The serial that a restart would go on from.
fn written(site: &Site) -> Option<u32> {
    let journal = journal::read(&site.path("journal"), &apex()).expect("readable");
    journal.entries.last().map(|entry| entry.delta.to)
}

/// All records as secondaries get them, but for the SOA at the end; their signatures are checked elsewhere.
fn transferred(node: &Node) -> Vec<Record> {
    let answer = exchange(node.addresses()[0], &query(1, "example.com.", RecordType::AXFR));
    let mut records = Message::from_vec(&answer).expect("readable").answers;
    assert_eq!(records.pop().as_ref(), records.first());
    records
}

/// Which types the RRSIG records of `owner` cover.
fn covered(records: &[Record], owner: &str) -> Vec<RecordType> {
    let of_owner = records.iter().filter(|record| record.name == name(owner));
    let mut types: Vec<_> = of_owner
        .filter_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input().type_covered),
            _ => None,
        })
        .collect();
    types.sort();
    types
}

#[test]
fn each_start_has_a_serial_of_its_own_since_signatures_are_new() {
    let site = signed_site();
    for expected in 1..4 {
        let node = start(&site);
        assert_eq!((serial(&node), written(&site)), (expected, Some(expected)));
        let records = transferred(&node);
        assert!(matches!(&records[0].data, RData::SOA(soa) if soa.serial == expected), "{:?}", records[0]);
        assert_eq!(covered(&records, "ns1.example.com."), [RecordType::A, RecordType::NSEC]);
        assert_eq!(covered(&records, "www.example.com."), [RecordType::A, RecordType::NSEC]);
        node.stop();
    }
}

#[test]
fn key_that_goes_raises_the_serial_once() {
    let site = signed_site();
    let soon = Some(unix_secs() + 3);
    let times = KeyTimes { publish: Some(0), activate: Some(0), delete: soon, inactive: soon, ..Default::default() };
    site.add_key(Role::Csk, times);
    let node = start(&site);
    let keys = |node: &Node| found(node, "example.com.", RecordType::DNSKEY).len();
    let before = serial(&node);
    until("one key", || keys(&node) == 1);
    assert_eq!((serial(&node), written(&site)), (before + 1, Some(before + 1)));
    node.reload();
    assert_eq!(covered(&transferred(&node), "ns1.example.com.").len(), 2);
    let generation = || node.live().world.transfers[0].zone.content().serial();
    assert_eq!(generation(), before + 1);
    node.stop();
}

#[test]
fn update_is_signed_and_transferred_with_the_next_serial_and_survives_a_restart() {
    let site = signed_site();
    let node = start(&site);
    assert_eq!(send(node.addresses()[0], "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    assert_eq!((serial(&node), written(&site)), (2, Some(2)));
    assert_eq!(covered(&transferred(&node), "a.example.com."), [RecordType::TXT, RecordType::NSEC]);
    let changes = node.live().world.transfers[0].zone.history().len();
    assert_eq!(changes, 1, "one difference, and not the zone");
    node.stop();
    let node = start(&site);
    assert_eq!((serial(&node), written(&site)), (3, Some(3)));
    assert_eq!(covered(&transferred(&node), "a.example.com."), [RecordType::TXT, RecordType::NSEC]);
    node.stop();
}

#[test]
fn what_regions_change_raises_the_serial_too() {
    let site = signed_site();
    let node = start(&site);
    let settings = fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("198.51.100.1", "198.51.100.9"));
    until("the new VIP", || found(&node, "www.example.com.", RecordType::A) == ["198.51.100.9"]);
    assert_eq!((serial(&node), written(&site)), (2, Some(2)));
    assert!(node.live().world.warnings.iter().all(|warning| !warning.what.contains("is no newer")));
    node.stop();
}

#[test]
fn zone_that_had_secondaries_and_no_journal_gets_the_next_serial_when_it_is_signed() {
    let site = signed_site();
    let settings = fs::read_to_string(site.config()).expect("readable");
    let unsigned = settings.lines().filter(|line| !line.starts_with("dnssec") && !line.starts_with("updates"));
    let unsigned = unsigned.map(|line| if line.starts_with("journal") { "" } else { line });
    site.write("topology.toml", &unsigned.collect::<Vec<_>>().join("\n"));
    let first = load(&site.config(), None).world.expect("no mistakes");
    assert_eq!((first.transfers[0].zone.content().serial(), first.journals.len()), (1, 0));
    site.write("topology.toml", &settings);
    let second = load(&site.config(), Some(&first)).world.expect("no mistakes");
    assert_eq!(second.transfers[0].zone.content().serial(), 2, "{:?}", second.warnings);
    let mut journals = crate::serve::updates::Journals::default();
    journals.follow(&second).expect("opened");
    assert_eq!(written(&site), Some(2));
}

#[test]
fn csync_that_is_made_here_is_refused_to_updates() {
    let site = signed_site();
    let settings = fs::read_to_string(site.config()).expect("readable");
    site.write("topology.toml", &settings.replace("\"keys\" }", "\"keys\", csync = [\"NS\"] }"));
    let node = start(&site);
    let csync = RData::Unknown { code: RecordType::CSYNC, rdata: NULL::with(vec![0, 0, 0, 1, 0, 2, 0, 1, 0x20]) };
    assert_eq!(send(node.addresses()[0], "any.", adding(set("example.com.", csync))), ResponseCode::Refused);
    node.stop();
}

#[test]
fn journal_that_cannot_be_written_leaves_the_old_signatures_serving() {
    let site = signed_site();
    let world = load(&site.config(), None).world.expect("no mistakes");
    let due = world.signing_due().expect("it is signed");
    let again = world.signed_again(due).expect("signed");
    let mut journals = crate::serve::updates::Journals::default();
    let problems = journals.note_raised(&world, &again).expect_err("no journal is open");
    assert!(problems[0].file.ends_with("/journal"), "{problems:?}");
    journals.follow(&world).expect("opened");
    journals.note_raised(&world, &again).expect("written");
    assert_eq!(written(&site), Some(2));
    journals.note_raised(&world, &world).expect("nothing to do");
    assert_eq!(written(&site), Some(2));
}

#[test]
fn journal_that_was_removed_begins_anew_once_the_zone_file_has_the_updates() {
    let site = signed_site();
    let node = start(&site);
    let server = node.addresses()[0];
    assert_eq!(send(server, "any.", adding(txt("a.example.com.", "x"))), ResponseCode::NoError);
    let (served, last) = (node.live(), serial(&node));
    let settings = fs::read_to_string(site.config()).expect("readable");
    let rules = settings.lines().find(|line| line.starts_with("updates =")).expect("there are some");
    site.write("topology.toml", &settings.replace(rules, ""));
    site.write("example.com.zone", &served.world.kept[0].to_master().to_string());
    fs::remove_file(site.path("journal")).expect("removed");
    node.reload();
    until("a new one is begun", || site.path("journal").exists());
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT), serial(&node)), (vec!["x".to_owned()], last));
    node.stop();
    let node = start(&site);
    assert_eq!((found(&node, "a.example.com.", RecordType::TXT), serial(&node)), (vec!["x".to_owned()], last + 1));
    assert_eq!(written(&site), Some(last + 1));
    node.stop();
}
