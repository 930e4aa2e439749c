use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { lifetime: Duration::from_secs(600), entries: 100 };
const A: NameId = NameId(0);
const B: NameId = NameId(1);

fn client(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

fn at(secs: u64) -> Moment {
    Moment::from_start(Duration::from_secs(secs))
}

fn owed(shard: &mut Shard, link: Links) -> Vec<Entry> {
    let mut out = Vec::new();
    shard.take_owed(link, usize::MAX, &mut out);
    out
}

fn find(shard: &mut Shard, number: u8, now: Moment) -> Option<NameId> {
    shard.find(client(number), BOUNDS.lifetime, now, 0)
}

/// As numbers: the first is the first by name too.
fn learn(shard: &mut Shard, entry: Entry, now: Moment) -> Learned {
    shard.learn(entry, BOUNDS, now, |ours| entry.server < ours)
}

#[test]
fn a_client_keeps_its_server_for_as_long_as_it_comes_in_time() {
    let mut shard = Shard::default();
    assert_eq!(find(&mut shard, 1, at(0)), None);
    shard.keep(client(1), A, BOUNDS, at(0), 0);
    assert_eq!(find(&mut shard, 1, at(599)), Some(A));
    assert_eq!(find(&mut shard, 1, at(1198)), Some(A));
    assert_eq!(find(&mut shard, 1, at(1798)), None);
    assert_eq!((shard.counts().entries, shard.counts().expired), (0, 1));
}

#[test]
fn another_server_takes_the_place_of_the_one_before() {
    let mut shard = Shard::default();
    shard.keep(client(1), A, BOUNDS, at(0), 0);
    shard.keep(client(1), B, BOUNDS, at(1), 0);
    assert_eq!(find(&mut shard, 1, at(2)), Some(B));
    assert_eq!(shard.counts().entries, 1);
}

#[test]
fn no_more_are_held_than_the_bound_allows_and_the_newest_are_among_them() {
    let bounds = Bounds { entries: 10, ..BOUNDS };
    let mut shard = Shard::default();
    for number in 0..200 {
        shard.keep(client(number), A, bounds, at(number.into()), 0);
        assert!(shard.counts().entries <= 10 && shard.slots.len() <= 10);
    }
    assert_eq!(shard.counts().evicted, 190);
    assert_eq!(find(&mut shard, 199, at(200)), Some(A));
    shard.sweep(Bounds { entries: 3, ..bounds }, at(200));
    assert_eq!(shard.counts().entries, 3);
}

#[test]
fn what_was_not_used_for_too_long_is_swept_away() {
    let mut shard = Shard::default();
    shard.keep(client(1), A, BOUNDS, at(0), 0);
    shard.keep(client(2), A, BOUNDS, at(300), 0);
    shard.sweep(BOUNDS, at(600));
    assert_eq!(shard.entries(BOUNDS.lifetime, at(600)).map(|entry| entry.client).collect::<Vec<_>>(), [client(2)]);
}

#[test]
fn each_link_is_told_of_a_change_once_and_of_a_client_that_goes_on_now_and_then() {
    let (one, other) = (1, 2);
    let mut shard = Shard::default();
    shard.keep(client(1), A, BOUNDS, at(0), one | other);
    shard.keep(client(1), B, BOUNDS, at(0), one | other);
    assert_eq!(owed(&mut shard, one).iter().map(|entry| entry.server).collect::<Vec<_>>(), [B], "the last word alone");
    assert_eq!(owed(&mut shard, one), []);
    assert_eq!(owed(&mut shard, other).len(), 1);
    shard.find(client(1), BOUNDS.lifetime, at(10), one);
    assert_eq!(owed(&mut shard, one), [], "a use soon after tells nothing new");
    shard.find(client(1), BOUNDS.lifetime, at(40), one);
    assert_eq!(owed(&mut shard, one).len(), 1);
}

#[test]
fn what_is_owed_never_grows_beyond_the_table() {
    let bounds = Bounds { entries: 10, ..BOUNDS };
    let mut shard = Shard::default();
    for number in 0..=255 {
        shard.keep(client(number), A, bounds, at(number.into()), 1);
    }
    assert!(shard.owing.len() <= 10);
    assert_eq!(owed(&mut shard, 1).len(), 10);
}

#[test]
fn a_new_link_is_owed_all_and_one_that_left_nothing() {
    let mut shard = Shard::default();
    for number in 0..5 {
        shard.keep(client(number), A, BOUNDS, at(0), 0);
    }
    shard.owe_all(4);
    let mut some = Vec::new();
    shard.take_owed(4, 2, &mut some);
    assert_eq!((some.len(), shard.counts().owed), (2, 3));
    shard.owe_nothing(4);
    assert_eq!(owed(&mut shard, 4), []);
    assert_eq!(shard.counts().owed, 0);
}

#[test]
fn what_is_learned_is_owed_to_nobody() {
    let mut shard = Shard::default();
    let entry = Entry { client: client(1), server: A, used: at(5), changes: 1 };
    assert_eq!(learn(&mut shard, entry, at(5)), Learned::Taken);
    assert_eq!(find(&mut shard, 1, at(5)), Some(A));
    assert_eq!(owed(&mut shard, Links::MAX), []);
}

#[test]
fn the_later_use_counts() {
    let mut shard = Shard::default();
    shard.keep(client(1), A, BOUNDS, at(100), 0);
    let theirs = |used| Entry { client: client(1), server: B, used: at(used), changes: 9 };
    assert_eq!(learn(&mut shard, theirs(90), at(110)), Learned::Older);
    assert_eq!(find(&mut shard, 1, at(100)), Some(A));
    assert_eq!(learn(&mut shard, theirs(105), at(110)), Learned::Taken);
    assert_eq!(find(&mut shard, 1, at(110)), Some(B));
    assert_eq!(learn(&mut Shard::default(), theirs(90), at(690)), Learned::Forgotten);
}

#[test]
fn of_uses_at_one_time_the_server_that_was_changed_to_more_often_counts() {
    let mut shard = Shard::default();
    shard.keep(client(1), A, BOUNDS, at(100), 0);
    let theirs = |changes| Entry { client: client(1), server: B, used: at(100), changes };
    assert_eq!(learn(&mut shard, theirs(1), at(100)), Learned::Older, "the name decides");
    assert_eq!(learn(&mut shard, theirs(2), at(100)), Learned::Taken);
}

#[test]
fn something_old_takes_no_room_of_something_newer() {
    let bounds = Bounds { entries: 2, ..BOUNDS };
    let mut shard = Shard::default();
    shard.keep(client(1), A, bounds, at(100), 0);
    shard.keep(client(2), A, bounds, at(100), 0);
    let theirs = Entry { client: client(3), server: B, used: at(50), changes: 1 };
    assert_eq!(shard.learn(theirs, bounds, at(100), |_| true), Learned::Forgotten);
    assert_eq!(shard.counts().evicted, 0);
}

#[test]
fn one_client_or_all_can_be_forgotten() {
    let mut shard = Shard::default();
    for number in 0..5 {
        shard.keep(client(number), A, BOUNDS, at(0), 1);
    }
    assert_eq!((shard.clear(Some(client(1))), shard.clear(Some(client(1)))), (1, 0));
    assert_eq!((shard.clear(None), shard.counts().entries), (4, 0));
    assert_eq!(owed(&mut shard, 1), []);
}

#[test]
fn names_keep_their_numbers() {
    let name = |text: &str| ServerName::parse(text).expect("a name");
    let mut names = Names::default();
    let one = names.add(&name("app-1")).expect("room");
    assert_ne!(names.add(&name("app-2")), Some(one));
    assert_eq!(names.add(&name("app-1")), Some(one));
    assert_eq!(names.of(one), Some(&name("app-1")));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Use(bool, u8, u16),
    Tell(bool),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (any::<bool>(), 0..6_u8, 0..4_u16).prop_map(|(is_left, client, server)| Step::Use(is_left, client, server)),
        any::<bool>().prop_map(Step::Tell),
        (0..90_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..60)
}

fn tell(from: &mut Shard, to: &mut Shard, now: Moment) {
    for entry in owed(from, 1) {
        learn(to, entry, now);
    }
}

fn servers(shard: &Shard, now: Moment) -> BTreeMap<IpAddr, NameId> {
    shard.entries(BOUNDS.lifetime, now).map(|entry| (entry.client, entry.server)).collect()
}

proptest! {
    /// Whatever each used and heard of the other, once they tell each other all they agree.
    #[test]
    fn two_that_tell_each_other_end_with_the_same(steps in steps()) {
        let (mut left, mut right, mut now) = (Shard::default(), Shard::default(), at(1_000_000));
        for step in steps {
            match step {
                Step::Use(true, number, server) => left.keep(client(number), NameId(server), BOUNDS, now, 1),
                Step::Use(false, number, server) => right.keep(client(number), NameId(server), BOUNDS, now, 1),
                Step::Tell(true) => tell(&mut left, &mut right, now),
                Step::Tell(false) => tell(&mut right, &mut left, now),
                Step::Wait(secs) => now = now + Duration::from_secs(secs),
            }
        }
        left.owe_all(1);
        right.owe_all(1);
        tell(&mut left, &mut right, now);
        tell(&mut right, &mut left, now);
        prop_assert_eq!(servers(&left, now), servers(&right, now));
    }

    /// The places, the free ones and the list of those that owe always agree.
    #[test]
    fn a_table_never_loses_a_place(uses in prop::collection::vec((0..40_u8, 0..4_u16, any::<bool>()), 0..200)) {
        let bounds = Bounds { entries: 8, lifetime: Duration::from_secs(30) };
        let mut shard = Shard::default();
        for (second, (number, server, is_kept)) in uses.into_iter().enumerate() {
            let now = at(second as u64);
            match is_kept {
                true => shard.keep(client(number), NameId(server), bounds, now, 1),
                false => { shard.find(client(number), bounds.lifetime, now, 1); }
            }
            let taken = shard.slots.iter().filter(|slot| slot.is_taken).count();
            prop_assert_eq!(taken, shard.places.len());
            prop_assert_eq!(taken + shard.free.len(), shard.slots.len());
            prop_assert!(shard.slots.len() <= bounds.entries && shard.owing.len() <= shard.slots.len());
        }
    }
}
