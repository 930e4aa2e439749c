//! Journals: cut anywhere, replayed over an edited file, and rewritten.

use super::*;

proptest! {
    #[test]
    fn replay_over_the_same_file_gives_what_was_served(updates in prop::collection::vec(rows(), 1..6)) {
        let (zones, entries) = history(&updates);
        for (at, served) in zones.iter().enumerate().skip(1) {
            let (replayed, standing) = replayed(&zone(), &entries[..at]);
            prop_assert_eq!((replayed.digest(), replayed.serial()), (served.digest(), served.serial()));
            prop_assert_eq!(standing, Standing::AsServed);
        }
    }

    #[test]
    fn merged_entries_do_what_they_did_one_by_one(updates in prop::collection::vec(rows(), 1..6)) {
        let (zones, entries) = history(&updates);
        let merged = Entry::merged(&entries);
        if !merged.is_empty() {
            let served = zones.last().expect("there is one");
            let (replayed, standing) = replayed(&zone(), &merged);
            prop_assert_eq!((replayed.digest(), replayed.serial()), (served.digest(), served.serial()));
            prop_assert_eq!(standing, Standing::AsServed);
        }
    }

    #[test]
    fn merged_entries_do_the_same_over_a_file_that_was_edited_between_them(
        before in prop::collection::vec(rows(), 1..4),
        after in prop::collection::vec(rows(), 1..4),
        taken in any::<u8>(),
        compacted in any::<bool>(),
    ) {
        let (zones, mut entries) = history(&before);
        // The operator takes some of what the updates made into the file.
        let served = zones.last().expect("there is one").clone();
        let mut file = zone();
        let made = OWNERS.iter().flat_map(|owner| served.records_of(&name(owner)));
        let made = made.filter(|record| matches!(record.rtype, Rtype::A | Rtype::AAAA | Rtype::TXT));
        made.enumerate().filter(|(at, _)| taken >> (at % 8) & 1 == 1).for_each(|(_, record)| file.put(record));
        entries.push(Entry::mark(&replayed(&file, &entries).0));
        if compacted { entries = Entry::merged(&entries); }
        let (mut last, _) = replayed(&file, &entries);
        let (policy, key) = (open(), name("key."));
        let access = Access { policy: &policy, key: &key, keys: Keys::Foreign };
        for rows in &after {
            let update = Update::parse(&message(&[], rows)).expect("an update");
            if let Some((next, delta)) = update.apply(&last, &access).expect("accepted") {
                entries.push(Entry { delta, digest: next.digest() });
                last = next;
            }
        }
        entries.push(Entry::mark(&last));
        let (one_by_one, merged) = (replayed(&file, &entries).0, replayed(&file, &Entry::merged(&entries)).0);
        prop_assert_eq!((one_by_one.digest(), one_by_one.serial()), (last.digest(), last.serial()));
        prop_assert_eq!((merged.digest(), merged.serial()), (last.digest(), last.serial()));
    }

    #[test]
    fn any_octets_are_a_journal_or_a_fault(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let header = journal::header(&name("@"));
        let _ = journal::read(&name("@"), &octets);
        let _ = journal::read(&name("@"), &[header, octets].concat());
    }
}

/// A journal of three frames, of one, two and one entries, and where each ends.
fn written() -> (Vec<u8>, Vec<Entry>, [usize; 4]) {
    let updates = ["a", "b.a", "c.b.a", "d"].map(|owner| vec![(owner, Rtype::TXT, IN, 60, txt("x"))]);
    let (_, entries) = history(&updates);
    let mut octets = journal::header(&name("@"));
    let mut ends = [octets.len(); 4];
    for (at, entries) in [&entries[..1], &entries[1..3], &entries[3..]].into_iter().enumerate() {
        octets.extend(journal::frame(octets.len(), entries));
        ends[at + 1] = octets.len();
    }
    (octets, entries, ends)
}

#[test]
fn journal_cut_anywhere_gives_every_update_of_the_whole_frames_before() {
    let (octets, entries, ends) = written();
    for cut in 0..=octets.len() {
        let journal = journal::read(&name("@"), &octets[..cut]).expect("a journal");
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (len, count) = match whole {
            0 => (0, 0),
            frames => (ends[frames - 1], [0, 1, 3, 4][frames - 1]),
        };
        assert_eq!((journal.len, journal.len + journal.torn), (len, cut));
        assert_eq!(journal.entries, entries[..count]);
    }
}

#[test]
fn journal_that_ends_in_zeros_was_cut_by_a_crash() {
    let (octets, entries, _) = written();
    let journal = journal::read(&name("@"), &[&octets[..], &[0; 40]].concat()).expect("a journal");
    assert_eq!((journal.entries, journal.len, journal.torn), (entries, octets.len(), 40));
}

#[test]
fn broken_octet_before_the_last_frame_is_a_fault_that_says_where() {
    let (octets, _, ends) = written();
    for at in 0..ends[2] {
        let mut broken = octets.clone();
        broken[at] ^= 0x10;
        let fault = journal::read(&name("@"), &broken).expect_err("a fault");
        let frame = ends.iter().rfind(|end| **end <= at).copied().unwrap_or(0);
        assert_eq!(fault.offset, frame, "{at}");
    }
}

#[test]
fn broken_octet_in_the_last_frame_never_gives_another_update() {
    let (octets, entries, ends) = written();
    for at in ends[2]..octets.len() {
        let mut broken = octets.clone();
        broken[at] ^= 0x10;
        if let Ok(journal) = journal::read(&name("@"), &broken) {
            assert_eq!(journal.entries, entries[..3], "{at}");
        }
    }
}

#[test]
fn journal_of_another_zone_is_a_fault() {
    let octets = journal::header(&name("sub"));
    assert_eq!(journal::read(&name("@"), &octets).expect_err("a fault").what, "the journal of another zone");
    assert_eq!(journal::read(&name("@"), b"$TTL 300\n").expect_err("a fault").what, "no journal");
}

fn edited(serial: u32, lines: &str) -> Zone {
    parse(&format!("{}{lines}", ZONE.replace(" 7 3600", &format!(" {serial} 3600"))))
}

#[test]
fn serial_over_an_edited_file_is_never_one_that_was_served_with_other_content() {
    let (zones, entries) = history(&[vec![("new", Rtype::A, IN, 60, a(1))], vec![("new", Rtype::A, IN, 60, a(2))]]);
    let last = zones.last().expect("there is one").serial();
    let serial = |file: &Zone| {
        let (zone, standing) = replayed(file, &entries);
        assert_eq!(rdatas(&zone, "new", Rtype::A), [a(1), a(2)]);
        (zone.serial(), standing)
    };
    assert_eq!(serial(&edited(7, "")), (last, Standing::AsServed));
    assert_eq!(serial(&edited(8, "")), (last, Standing::AsServed));
    assert_eq!(serial(&edited(20, "")), (20, Standing::Edited));
    assert_eq!(serial(&edited(7, "x A 192.0.2.1\n")), (last + 1, Standing::Edited));
    assert_eq!(serial(&edited(last, "x A 192.0.2.1\n")), (last + 1, Standing::Edited));
    assert_eq!(serial(&edited(20, "x A 192.0.2.1\n")), (20, Standing::Edited));
}

#[test]
fn marked_edit_keeps_its_serial_and_the_next_edit_gets_another() {
    let (_, mut entries) = history(&[vec![("new", Rtype::A, IN, 60, a(1))]]);
    let (first, _) = replayed(&edited(7, "x A 192.0.2.1\n"), &entries);
    entries.push(Entry::mark(&first));
    let (again, standing) = replayed(&edited(7, "x A 192.0.2.1\n"), &entries);
    assert_eq!((again.serial(), standing), (first.serial(), Standing::AsServed));
    let (next, _) = replayed(&edited(7, "x A 192.0.2.2\n"), &entries);
    assert_eq!(next.serial(), first.serial() + 1);
}

#[test]
fn updates_over_an_edited_file_skip_what_is_done_already() {
    let (_, entries) = history(&[vec![("mail", Rtype::TXT, ANY, 0, vec![]), ("new", Rtype::A, IN, 60, a(1))]]);
    let file = parse(&format!("{}new 60 A 192.0.2.1\n", ZONE.replace("mail TXT \"x\"\n", "")));
    let (zone, _) = replayed(&file, &entries);
    assert_eq!((types(&zone, "mail"), rdatas(&zone, "new", Rtype::A)), (vec![Rtype::A], vec![a(1)]));
}

#[test]
fn update_of_the_soa_holds_until_the_file_has_another() {
    let (_, entries) = history(&[vec![("@", Rtype::SOA, IN, 300, soa(9))]]);
    let minimum = |zone: &Zone| rdatas(zone, "@", Rtype::SOA)[0].last().copied();
    assert_eq!(minimum(&replayed(&zone(), &entries).0), Some(4));
    assert_eq!(minimum(&replayed(&parse(&ZONE.replace(" 60\n@ NS", " 61\n@ NS")), &entries).0), Some(61));
}
