//! Journals: cut anywhere, replayed over an edited file, and rewritten.

use std::time::{Duration, Instant};

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
        if let Some(merged) = Entry::merged(&zone(), &entries) {
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
        if compacted { entries = Entry::merged(&file, &entries).expect("made over this file"); }
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
        let merged = Entry::merged(&file, &entries).expect("made over this file");
        let (one_by_one, merged) = (replayed(&file, &entries).0, replayed(&file, &merged).0);
        prop_assert_eq!((one_by_one.digest(), one_by_one.serial()), (last.digest(), last.serial()));
        prop_assert_eq!((merged.digest(), merged.serial()), (last.digest(), last.serial()));
    }

    #[test]
    fn no_update_is_lost_to_a_rewrite_whatever_the_operator_makes_of_the_file(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut site = Journaled::new();
        for step in &steps {
            site.take(step);
            let served = site.served();
            for (at, record) in candidates().iter().enumerate() {
                match site.last_words.get(&at) {
                    Some(Word::Added) => prop_assert!(served.has_but_ttl(record), "{record:?} was added by an update"),
                    Some(Word::Removed) => prop_assert!(!served.has_but_ttl(record), "{record:?} was removed by an update"),
                    Some(Word::WrittenSince) | None => {}
                }
            }
        }
    }

    #[test]
    fn any_octets_are_a_journal_or_a_fault(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let header = journal::header(&name("@"));
        let _ = journal::read(&name("@"), &octets);
        let _ = journal::read(&name("@"), &[header, octets].concat());
    }
}

/// What happens to a zone with a journal.
#[derive(Clone, Debug)]
enum Step {
    /// An update adds a candidate.
    Add(usize),
    /// An update removes a candidate.
    Remove(usize),
    /// The file has these candidates from now on, and is read again.
    Edit(u8),
    /// The journal is rewritten.
    Rewrite,
}

fn step() -> impl Strategy<Value = Step> {
    let candidate = 0..candidates().len();
    prop_oneof![
        3 => candidate.clone().prop_map(Step::Add),
        3 => candidate.prop_map(Step::Remove),
        2 => any::<u8>().prop_map(Step::Edit),
        2 => Just(Step::Rewrite),
    ]
}

/// Records that come and go.
fn candidates() -> Vec<ZoneRecord> {
    let record =
        |owner: &str, rtype, rdata: Vec<u8>| ZoneRecord { owner: name(owner), rtype, ttl: 60, rdata: rdata.into() };
    let addresses = (1..5).map(|last| record("dyn", Rtype::A, a(last)));
    addresses.chain(["x", "y", "z"].map(|text| record("_acme-challenge", Rtype::TXT, txt(text)))).collect()
}

/// The file with the candidates whose bits are set, under another TTL than updates give them.
fn file_with(bits: u8) -> Zone {
    let mut file = zone();
    let written = candidates().into_iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    written.for_each(|(_, record)| file.put(ZoneRecord { ttl: 300, ..record }));
    file
}

/// The last that was said of a record.
#[derive(Debug)]
enum Word {
    Added,
    Removed,
    /// By the operator, after an update had removed it.
    WrittenSince,
}

/// A zone, its journal, and what was said of the candidates.
struct Journaled {
    bits: u8,
    entries: Vec<Entry>,
    last_words: BTreeMap<usize, Word>,
}

impl Journaled {
    fn new() -> Self {
        Self { bits: 0, entries: Vec::new(), last_words: BTreeMap::new() }
    }

    fn served(&self) -> Zone {
        replayed(&file_with(self.bits), &self.entries).0
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Add(at) => self.update(at, IN, 60),
            Step::Remove(at) => self.update(at, NONE, 0),
            Step::Edit(bits) => {
                let written = |at: &usize| bits >> at & 1 == 1 && self.bits >> at & 1 == 0;
                for (_, word) in self.last_words.iter_mut().filter(|(at, _)| written(at)) {
                    if matches!(word, Word::Removed) {
                        *word = Word::WrittenSince;
                    }
                }
                self.bits = bits;
                let (served, standing) = replayed(&file_with(bits), &self.entries);
                if standing == Standing::Edited {
                    self.entries.push(Entry::mark(&served));
                }
            }
            Step::Rewrite => {
                let before = self.served();
                if self.entries.is_empty() {
                    return;
                }
                self.entries = Entry::merged(&file_with(self.bits), &self.entries).expect("made over this file");
                let (served, standing) = replayed(&file_with(self.bits), &self.entries);
                assert_eq!((served.digest(), served.serial()), (before.digest(), before.serial()));
                assert_eq!(standing, Standing::AsServed);
            }
        }
    }

    fn update(&mut self, at: usize, class: u16, ttl: u32) {
        let ZoneRecord { rtype, rdata, .. } = &candidates()[at];
        let owner = if *rtype == Rtype::A { "dyn" } else { "_acme-challenge" };
        let update = Update::parse(&message(&[], &[(owner, *rtype, class, ttl, rdata.to_vec())])).expect("an update");
        let (policy, key) = (open(), name("key."));
        let access = Access { policy: &policy, key: &key, keys: Keys::Foreign };
        let Some((next, delta)) = update.apply(&self.served(), &access).expect("accepted") else { return };
        for (at, candidate) in candidates().iter().enumerate() {
            let is_in = |records: &[ZoneRecord]| records.iter().any(|record| record.is_same_but_ttl(candidate));
            match (is_in(&delta.added), is_in(&delta.removed)) {
                (true, _) => _ = self.last_words.insert(at, Word::Added),
                (false, true) => _ = self.last_words.insert(at, Word::Removed),
                (false, false) => {}
            }
        }
        self.entries.push(Entry { delta, digest: next.digest() });
    }
}

#[test]
fn record_that_the_operator_took_into_the_file_stays_removed_after_a_rewrite() {
    let mut site = Journaled::new();
    // No serial, and no other content, so that there is no mark.
    let taken = Step::Edit(1);
    for step in [Step::Add(0), taken, Step::Remove(0), Step::Rewrite] {
        site.take(&step);
    }
    assert!(!site.served().has_but_ttl(&candidates()[0]));
}

#[test]
fn records_that_come_and_go_leave_nothing_in_a_rewritten_journal() {
    let mut site = Journaled::new();
    for at in 0..7 {
        site.take(&Step::Add(at));
        site.take(&Step::Remove(at));
    }
    site.take(&Step::Rewrite);
    let changes = site.entries.iter().map(|entry| entry.delta.removed.len() + entry.delta.added.len());
    assert_eq!(changes.sum::<usize>(), 2, "the SOA record");
}

#[test]
fn journal_is_not_rewritten_over_a_file_that_was_edited_and_not_read_again() {
    let mut site = Journaled::new();
    site.take(&Step::Add(0));
    assert_eq!(Entry::merged(&file_with(2), &site.entries), None);
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

/// Updates and reloads wait meanwhile.
#[test]
fn journal_of_many_updates_is_rewritten_in_no_time() {
    let file = zone();
    let soa = file.rrset_of(file.apex(), Rtype::SOA);
    let entry = |at: u32| {
        let added = ZoneRecord { owner: name(&format!("h{at}")), rtype: Rtype::A, ttl: 60, rdata: a(1).into() };
        let delta = Delta { from: at, to: at + 1, removed: soa.clone(), added: [&soa[..], &[added]].concat() };
        Entry { delta, digest: 0 }
    };
    let mut entries: Vec<Entry> = (0..6000).map(entry).collect();
    let served = replayed(&file, &entries).0.digest();
    entries.iter_mut().for_each(|entry| entry.digest = served);
    let start = Instant::now();
    let merged = Entry::merged(&file, &entries).expect("made over this file");
    assert!(merged.len() == 1 && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
