//! Roll-overs over simulated months, read by a resolver with whatever old records its caches may hold.

use std::collections::HashMap;

use super::reader::{digest, is_signed, rrsig};
use super::*;
use crate::wire::Rtype;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_800_000_000;
const VALIDITY: u32 = (14 * DAY) as u32;
const TIMING: Timing = Timing {
    dnskey_ttl: HOUR as u32,
    max_ttl: 4 * HOUR as u32,
    propagation: HOUR as u32 / 2,
    parent_ds_ttl: DAY as u32,
};
const WWW: &[u8] = b"\x03www\x07example\x03com\0";
const ADDRESS: &[&[u8]] = &[&[192, 0, 2, 1]];

/// Records and their signatures as a cache holds them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Signed {
    rdatas: Vec<Box<[u8]>>,
    rrsigs: Vec<Box<[u8]>>,
}

impl Signed {
    /// Whether `dnskey` signed them, and that holds at `now`.
    fn is_by(&self, dnskey: &[u8], owner: &[u8], rtype: Rtype, ttl: u32, now: u64) -> bool {
        let rdatas: Vec<&[u8]> = self.rdatas.iter().map(|rdata| &**rdata).collect();
        self.rrsigs.iter().any(|signature| {
            let input = rrsig(signature).input().clone();
            let is_in_time = (input.sig_inception.get()..=input.sig_expiration.get()).contains(&(now as u32));
            is_in_time && is_signed(dnskey, signature, owner, rtype, ttl, &rdatas)
        })
    }
}

/// What was to be had from when on.
struct History<T>(Vec<(u64, T)>);

impl<T: Clone + PartialEq> History<T> {
    fn add(&mut self, now: u64, value: T) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((now, value));
        }
    }

    /// All that a cache may hold at `now` that keeps it for `ttl`.
    fn held(&self, now: u64, ttl: u64) -> impl Iterator<Item = &T> {
        let ends = self.0.iter().skip(1).map(|(start, _)| *start).chain([u64::MAX]);
        self.0
            .iter()
            .zip(ends)
            .filter(move |((start, _), end)| *start <= now && end.saturating_add(ttl) > now)
            .map(|((_, value), _)| value)
    }
}

/// A zone, its keys, its parent and who looks at them.
struct World {
    now: u64,
    apex: Name,
    keys: Vec<ZoneKey>,
    known: Signatures,
    ds: History<Vec<Box<[u8]>>>,
    dnskeys: History<Signed>,
    addresses: History<Signed>,
    builds: usize,
    verified: HashMap<(Box<[u8]>, Signed, u64), bool>,
}

impl World {
    fn new(roles: &[Role]) -> Self {
        let empty = || History(Vec::new());
        let mut world = Self {
            now: START,
            apex: name("example.com."),
            keys: Vec::new(),
            known: Signatures::default(),
            ds: History(Vec::new()),
            dnskeys: empty(),
            addresses: empty(),
            builds: 0,
            verified: HashMap::new(),
        };
        for &role in roles {
            world.add(role, Algorithm::Ed25519, KeyTimes::first(role, &TIMING, START));
        }
        world.build();
        world
    }

    fn add(&mut self, role: Role, algorithm: Algorithm, times: KeyTimes) {
        let key = Arc::new(SigningKey::generate(algorithm, role).expect("a key"));
        self.keys.push(ZoneKey { key, role, times });
    }

    fn change(&mut self, changed: Vec<(usize, KeyTimes)>) {
        changed.into_iter().for_each(|(at, times)| self.keys[at].times = times);
    }

    fn roll(&mut self, role: Role, algorithm: Algorithm) {
        let plan = begin(&self.keys, role, algorithm, &TIMING, self.now);
        self.follow(plan.expect("it may begin"));
    }

    fn roll_all(&mut self, scheme: Scheme, algorithm: Algorithm) {
        let plan = begin_all(&self.keys, scheme, algorithm, &TIMING, self.now);
        self.follow(plan.expect("it may begin"));
    }

    fn follow(&mut self, plan: Plan) {
        let Plan { algorithm, new, changed } = plan;
        new.into_iter().for_each(|(role, times)| self.add(role, algorithm, times));
        self.change(changed);
        self.build();
    }

    /// What a node does now: it signs, with what it signed before.
    fn build(&mut self) {
        let lifetime = Lifetime { now: self.now, validity_secs: VALIDITY };
        let signer = signer(&self.apex, &self.keys, lifetime.now, lifetime).expect("keys that sign");
        let records = KeyRecords::new(&self.apex, &self.keys, Sync::Publish, self.now);
        let mut kept = Signatures::default();
        let mut sign = |owner: &[u8], rtype, ttl, rdatas: &[&[u8]]| {
            let keep = |fingerprint, rrsig: &[u8]| kept.insert(fingerprint, rrsig);
            let recall = |fingerprint: &Fingerprint| self.known.find(fingerprint).map(Box::from);
            let rrsigs = signer.sign_reusing(recall, owner, rtype, ttl, rdatas, keep);
            Signed { rdatas: rdatas.iter().map(|&rdata| rdata.into()).collect(), rrsigs }
        };
        let dnskeys: Vec<&[u8]> = records.dnskey.iter().map(|rdata| &**rdata).collect();
        let dnskeys = sign(self.apex.as_wire(), Rtype::DNSKEY, TIMING.dnskey_ttl, &dnskeys);
        let addresses = sign(WWW, Rtype::A, TIMING.max_ttl, ADDRESS);
        self.dnskeys.add(self.now, dnskeys);
        self.addresses.add(self.now, addresses);
        self.known = kept;
        self.builds += 1;
    }

    /// When the node builds the next time by itself.
    fn next_build(&self) -> u64 {
        let lifetime = Lifetime { now: self.now, validity_secs: VALIDITY };
        let renewal = lifetime.renewal(self.known.earliest_expiration(self.now).expect("it signed"));
        next_change(&self.keys, self.now).map_or(renewal, |change| change.min(renewal)).max(self.now + 1)
    }

    /// Lets time pass, and looks often enough to see everything.
    fn pass(&mut self, secs: u64) {
        let end = self.now + secs;
        while self.now < end {
            let build = self.next_build();
            let look = (self.now / HOUR + 1) * HOUR;
            self.now = build.min(look).min(end);
            if self.now == build {
                self.build();
            }
            self.look();
        }
    }

    /// The parent does what CDS asks for; it has yet to be confirmed.
    fn take_ds(&mut self) {
        let records = KeyRecords::new(&self.apex, &self.keys, Sync::Publish, self.now);
        assert!(!records.cds.is_empty() && records.cds.len() == records.cdnskey.len());
        self.ds.add(self.now, records.cds);
    }

    fn confirm(&mut self) {
        let changed = confirm(&self.keys, &TIMING, self.now).expect("there is something to confirm");
        self.change(changed);
        self.build();
    }

    /// Whatever DS, DNSKEY and address records a resolver has from before, it finds that they hold, and that each algorithm
    /// of the DNSKEY set signed them (RFC 4035, section 2.2).
    fn look(&mut self) {
        let (now, slack) = (self.now, u64::from(TIMING.propagation));
        let mut verified = std::mem::take(&mut self.verified);
        let mut is_by = |dnskey: &[u8], signed: &Signed, owner: &[u8], rtype, ttl| {
            // Expiration moves by days, so that a look a day is enough.
            let key = (dnskey.into(), signed.clone(), now / DAY);
            *verified.entry(key).or_insert_with(|| signed.is_by(dnskey, owner, rtype, ttl, now))
        };
        for dnskeys in self.dnskeys.held(now, u64::from(TIMING.dnskey_ttl) + slack) {
            let mut is_by_key = |key: &[u8]| is_by(key, dnskeys, self.apex.as_wire(), Rtype::DNSKEY, TIMING.dnskey_ttl);
            let entries: Vec<_> = dnskeys.rdatas.iter().filter(|key| is_by_key(key)).collect();
            for ds in self.ds.held(now, u64::from(TIMING.parent_ds_ttl)).filter(|ds| !ds.is_empty()) {
                let is_named = |key: &[u8]| ds.iter().any(|ds| ds[4..] == digest(key, &self.apex)[..] && ds[3] == 2);
                assert!(entries.iter().copied().any(|key| is_named(key)), "day {}: no key for a DS", self.day());
            }
            for addresses in self.addresses.held(now, u64::from(TIMING.max_ttl) + slack) {
                for algorithm in dnskeys.rdatas.iter().map(|key| key[3]) {
                    let of_it = dnskeys.rdatas.iter().filter(|key| key[3] == algorithm);
                    let is_held = of_it.into_iter().any(|key| is_by(key, addresses, WWW, Rtype::A, TIMING.max_ttl));
                    assert!(is_held, "day {}: no signature of algorithm {algorithm}", self.day());
                }
            }
        }
        self.verified = verified;
    }

    fn day(&self) -> f64 {
        (self.now - START) as f64 / DAY as f64
    }

    fn states(&self) -> Vec<KeyState> {
        self.keys.iter().map(|key| key.standing(self.now).state).collect()
    }

    /// A zone whose DS the parent has had for long.
    fn settled(roles: &[Role]) -> Self {
        let mut world = Self::new(roles);
        world.pass(DAY);
        world.take_ds();
        world.pass(DAY);
        world.confirm();
        world.pass(10 * DAY);
        assert_eq!(next(&world.keys, world.now), Next::Nothing);
        world
    }
}

use KeyState::{Active, Introduced, Removed, Retired};

#[test]
fn csk_rolls_by_double_signature_once_the_operator_confirms_its_ds() {
    let mut world = World::settled(&[Role::Csk]);
    for round in 1..4 {
        world.roll(Role::Csk, Algorithm::Ed25519);
        let new = world.keys[round].tag();
        assert_eq!(world.states()[round - 1..], [Active, Active]);
        let soon = world.now + 4 * HOUR + HOUR / 2;
        assert_eq!(next(&world.keys, world.now), Next::Change { at: soon, tag: new, change: Change::Synced });
        world.pass(30 * DAY);
        assert_eq!(next(&world.keys, world.now), Next::AwaitDs { tag: new }, "it waits as long as it takes");
        assert_eq!(world.states()[round - 1..], [Active, Active]);
        world.take_ds();
        world.pass(DAY);
        world.confirm();
        world.pass(DAY - 1);
        assert_eq!(world.states()[round - 1..], [Active, Active]);
        world.pass(1);
        assert_eq!(world.states()[round - 1..], [Removed, Active]);
        world.pass(20 * DAY);
    }
}

#[test]
fn ksk_rolls_by_double_signature_and_leaves_the_zsk_alone() {
    let mut world = World::settled(&[Role::Ksk, Role::Zsk]);
    let before = world.addresses.0.last().map(|(_, signed)| signed.clone());
    world.roll(Role::Ksk, Algorithm::Ed25519);
    assert_eq!(world.addresses.0.last().map(|(_, signed)| signed.clone()), before);
    world.pass(DAY);
    world.take_ds();
    world.pass(HOUR);
    world.confirm();
    world.pass(30 * DAY);
    assert_eq!(world.states(), [Removed, Active, Active]);
}

#[test]
fn word_that_the_ds_is_there_is_not_taken_before_it_may_be() {
    let mut world = World::settled(&[Role::Csk]);
    world.roll(Role::Csk, Algorithm::Ed25519);
    let refused = confirm(&world.keys, &TIMING, world.now);
    assert!(matches!(refused, Err(Refused::TooEarly { from }) if from > world.now), "{refused:?}");
    world.pass(DAY);
    world.take_ds();
    world.confirm();
}

#[test]
fn zsk_rolls_by_pre_publication_without_anybody() {
    let mut world = World::settled(&[Role::Ksk, Role::Zsk]);
    for round in 1..4 {
        world.roll(Role::Zsk, Algorithm::Ed25519);
        assert_eq!(world.states()[round..], [Active, Introduced]);
        world.pass(HOUR + HOUR / 2);
        assert_eq!(world.states()[round..], [Retired, Active]);
        assert_eq!(world.addresses.0.last().map(|(_, signed)| signed.rrsigs.len()), Some(1), "never signed twice");
        world.pass(4 * HOUR + HOUR / 2);
        assert_eq!(world.states()[round..], [Removed, Active]);
        world.pass(30 * DAY);
    }
}

#[test]
fn csk_rolls_to_another_algorithm_with_all_signatures_there_first() {
    let mut world = World::settled(&[Role::Csk]);
    world.roll(Role::Csk, Algorithm::EcdsaP256Sha256);
    assert_eq!(world.states(), [Active, Introduced]);
    world.pass(5 * HOUR);
    assert_eq!(world.states(), [Active, Active]);
    world.pass(DAY);
    world.take_ds();
    world.pass(2 * DAY);
    world.confirm();
    world.pass(DAY);
    assert_eq!(world.states(), [Retired, Active], "its signatures stay while caches have its DNSKEY");
    let early = begin(&world.keys, Role::Csk, Algorithm::Ed25519, &TIMING, world.now);
    assert!(matches!(early, Err(Refused::StillSigning { .. })), "with those of a third key they would be too many");
    world.pass(DAY);
    assert_eq!(world.states(), [Removed, Active]);
    world.pass(30 * DAY);
}

/// What a zone has after it had `from`, long after a change of all keys to `scheme` and `algorithm`.
fn changed(from: &[Role], scheme: Scheme, algorithm: Algorithm) -> Vec<(Role, KeyState)> {
    let mut world = World::settled(from);
    world.roll_all(scheme, algorithm);
    assert_eq!(broken_off(&world.keys, world.now), None);
    world.pass(2 * DAY);
    assert!(world.states().iter().all(|state| *state == Active), "all are there until the DS is");
    world.take_ds();
    world.pass(2 * DAY);
    world.confirm();
    world.pass(40 * DAY);
    world.keys.iter().map(|key| (key.role, key.standing(world.now).state)).collect()
}

#[test]
fn csk_becomes_ksk_and_zsk_and_back_with_or_without_another_algorithm() {
    let (csk, both) = (&[Role::Csk][..], &[Role::Ksk, Role::Zsk][..]);
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
        let split = changed(csk, Scheme::KskAndZsk, algorithm);
        assert_eq!(split, [(Role::Csk, Removed), (Role::Zsk, Active), (Role::Ksk, Active)]);
        let joined = changed(both, Scheme::Csk, algorithm);
        assert_eq!(joined, [(Role::Ksk, Removed), (Role::Zsk, Removed), (Role::Csk, Active)]);
    }
    let other = changed(both, Scheme::KskAndZsk, Algorithm::EcdsaP256Sha256);
    assert_eq!(other, [(Role::Ksk, Removed), (Role::Zsk, Removed), (Role::Zsk, Active), (Role::Ksk, Active)]);
    let same = World::settled(both);
    let refused = begin_all(&same.keys, Scheme::KskAndZsk, Algorithm::Ed25519, &TIMING, same.now);
    assert_eq!(refused, Err(Refused::NothingToChange(Scheme::KskAndZsk)));
}

#[test]
fn nothing_rolls_while_all_keys_change() {
    let mut world = World::settled(&[Role::Csk]);
    world.roll_all(Scheme::KskAndZsk, Algorithm::Ed25519);
    for role in [Role::Csk, Role::Ksk, Role::Zsk] {
        let refused = begin(&world.keys, role, Algorithm::Ed25519, &TIMING, world.now);
        assert!(matches!(refused, Err(Refused::UnderWay(_))), "{role:?}: {refused:?}");
    }
    for scheme in [Scheme::Csk, Scheme::KskAndZsk] {
        let refused = begin_all(&world.keys, scheme, Algorithm::Ed25519, &TIMING, world.now);
        assert!(matches!(refused, Err(Refused::UnderWay(_) | Refused::Unconfirmed(_))), "{scheme:?}: {refused:?}");
    }
}

#[test]
fn key_whose_ds_was_never_confirmed_is_not_rolled() {
    for roles in [&[Role::Csk][..], &[Role::Ksk, Role::Zsk]] {
        let mut world = World::new(roles);
        world.pass(2 * DAY);
        let refused = begin(&world.keys, roles[0], Algorithm::Ed25519, &TIMING, world.now);
        assert_eq!(refused, Err(Refused::Unconfirmed(world.keys[0].tag())));
        let scheme = if roles.len() == 1 { Scheme::KskAndZsk } else { Scheme::Csk };
        let refused = begin_all(&world.keys, scheme, Algorithm::Ed25519, &TIMING, world.now);
        assert_eq!(refused, Err(Refused::Unconfirmed(world.keys[0].tag())));
    }
}

#[test]
#[should_panic(expected = "no key for a DS")]
fn resolver_with_an_old_ds_finds_a_key_that_goes_too_early() {
    let mut world = World::settled(&[Role::Csk]);
    world.roll(Role::Csk, Algorithm::Ed25519);
    world.pass(DAY);
    world.take_ds();
    world.keys[0].times.delete = Some(world.now);
    world.build();
    world.pass(DAY);
}

#[test]
#[should_panic(expected = "no signature of algorithm")]
fn resolver_with_old_keys_finds_a_zsk_that_signs_too_early() {
    let mut world = World::settled(&[Role::Ksk, Role::Zsk]);
    world.roll(Role::Zsk, Algorithm::Ed25519);
    (world.keys[1].times.inactive, world.keys[2].times.activate) = (Some(world.now), Some(world.now));
    world.build();
    world.pass(DAY);
}

#[test]
fn year_without_an_operator_keeps_all_signatures_good() {
    let mut world = World::settled(&[Role::Csk]);
    world.pass(365 * DAY);
    assert!((30..80).contains(&world.builds), "{} builds: one in some ten days", world.builds);
}

#[test]
fn withdrawal_in_a_roll_over_is_seen_by_no_resolver_that_has_the_ds_still() {
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
        for (wait, is_taken) in [(HOUR, false), (DAY, false), (DAY, true)] {
            let mut world = World::settled(&[Role::Csk]);
            world.roll(Role::Csk, algorithm);
            world.pass(wait);
            if is_taken {
                world.take_ds();
                world.pass(HOUR);
            }
            world.ds.add(world.now, Vec::new());
            let changed = withdraw(&world.keys, &TIMING, world.now).expect("said");
            world.change(changed);
            world.build();
            world.pass(10 * DAY);
            assert_eq!(world.states(), [Removed, Active]);
        }
    }
}

#[test]
fn second_roll_waits_for_the_first() {
    let mut world = World::settled(&[Role::Ksk, Role::Zsk]);
    let begun = |world: &World, role| begin(&world.keys, role, Algorithm::Ed25519, &TIMING, world.now);
    world.roll(Role::Ksk, Algorithm::Ed25519);
    world.roll(Role::Zsk, Algorithm::Ed25519);
    assert_eq!(begun(&world, Role::Ksk), Err(Refused::UnderWay(world.keys[2].tag())));
    assert_eq!(begun(&world, Role::Zsk), Err(Refused::UnderWay(world.keys[3].tag())));
    assert_eq!(begun(&world, Role::Csk), Err(Refused::NoKey(Role::Csk)));
    world.pass(DAY);
    let other = begin(&world.keys, Role::Zsk, Algorithm::EcdsaP256Sha256, &TIMING, world.now);
    assert_eq!(other, Err(Refused::OtherAlgorithm(Algorithm::EcdsaP256Sha256)));
    assert!(begun(&world, Role::Zsk).is_ok());
    world.take_ds();
    world.confirm();
    assert_eq!(confirm(&world.keys, &TIMING, world.now), Err(Refused::NothingToConfirm));
}

#[test]
fn key_without_times_is_in_use_and_can_be_rolled() {
    let mut world = World::new(&[Role::Csk]);
    world.keys[0].times = KeyTimes::default();
    world.build();
    world.take_ds();
    world.pass(10 * DAY);
    assert_eq!((world.states(), next(&world.keys, world.now)), (vec![Active], Next::Nothing));
    world.roll(Role::Csk, Algorithm::Ed25519);
    world.pass(HOUR);
    let asked = KeyRecords::new(&world.apex, &world.keys, Sync::Publish, world.now).cds;
    assert_eq!(asked, [world.keys[0].key.public().ds(&world.apex)], "the parent is asked for the old one still");
    world.pass(DAY);
    world.take_ds();
    world.confirm();
    world.pass(10 * DAY);
    assert_eq!(world.states(), [Removed, Active]);
}

#[test]
fn parent_is_asked_for_the_ds_only_once_no_cache_has_unsigned_records() {
    let world = World::new(&[Role::Csk]);
    let asked = |after| KeyRecords::new(&world.apex, &world.keys, Sync::Publish, START + after).cds.len();
    assert_eq!((asked(0), asked(4 * HOUR), asked(5 * HOUR)), (0, 0, 1));
    let delete = KeyRecords::new(&world.apex, &world.keys, Sync::Delete, START);
    assert_eq!((&*delete.cds[0], &*delete.cdnskey[0]), (&[0, 0, 0, 0, 0][..], &[0, 0, 3, 0, 0][..]));
    let absent = KeyRecords::new(&world.apex, &world.keys, Sync::Absent, START + DAY);
    assert_eq!((absent.dnskey.len(), absent.cds.len(), absent.cdnskey.len()), (1, 0, 0));
}

#[test]
fn keys_that_cannot_sign_are_refused_with_what_is_missing() {
    let lifetime = Lifetime { now: START, validity_secs: VALIDITY };
    let of = |roles: &[Role], now| {
        let world = World::new(&[Role::Csk]);
        let key =
            |&role: &Role| ZoneKey { role, times: KeyTimes::first(role, &TIMING, START), ..world.keys[0].clone() };
        signer(&world.apex, &roles.iter().map(key).collect::<Vec<_>>(), now, lifetime).err()
    };
    assert_eq!(of(&[], START), Some(Unusable::Absent));
    assert_eq!(of(&[Role::Ksk], START), Some(Unusable::NoZoneKey));
    assert_eq!(of(&[Role::Zsk], START), Some(Unusable::NoEntryPoint));
    assert_eq!(of(&[Role::Csk], START - 1), Some(Unusable::NoEntryPoint));
    assert_eq!(of(&[Role::Ksk, Role::Zsk], START), None);
}

/// RFC 4035, section 2.2: each algorithm in DNSKEY signs all of the zone.
#[test]
fn keys_of_two_algorithms_that_share_the_work_are_refused() {
    let world = World::settled(&[Role::Ksk, Role::Zsk]);
    let mut keys = world.keys.clone();
    let other = SigningKey::generate(Algorithm::EcdsaP256Sha256, Role::Zsk).expect("a key");
    let own = keys[0].key.public().algorithm();
    assert_ne!(own, Algorithm::EcdsaP256Sha256);
    let zsk = keys.iter_mut().find(|key| key.role == Role::Zsk).expect("a ZSK");
    zsk.key = Arc::new(other);
    let lifetime = Lifetime { now: world.now, validity_secs: VALIDITY };
    assert!(matches!(signer(&world.apex, &keys, START, lifetime), Err(Unusable::Split(_))));
}

#[test]
fn keys_whose_times_have_run_out_go_on_as_they_were_last() {
    let mut key = World::new(&[Role::Csk]).keys.remove(0);
    key.times = KeyTimes { inactive: Some(START + DAY), delete: Some(START + 2 * DAY), ..key.times };
    let keys = [key];
    let held = |now| hold(&keys, now).expect("there is a time in which they sign");
    assert_eq!((held(START), held(START + DAY - 1)), (None, None));
    let from = unusable_from(&keys, START).expect("it stops signing");
    assert_eq!(from, (START + DAY, Unusable::NoEntryPoint));
    for now in [START - 1, START + DAY, START + 9 * DAY] {
        let Held { as_of, why } = held(now).expect("they do not sign");
        assert_eq!(why, Unusable::NoEntryPoint);
        assert!((START..START + DAY).contains(&as_of), "{as_of}");
        assert!(keys[0].standing(as_of).is_published);
    }
    assert_eq!(hold(&[], START), Err(Unusable::Absent));
}
