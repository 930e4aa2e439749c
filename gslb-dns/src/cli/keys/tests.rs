//! Keys made, rolled and withdrawn by commands, and commands that a crash broke off.

use std::io::ErrorKind;

use super::*;
use crate::keys::KeyFolder;
use crate::settings::DnssecSettings;
use crate::wire::Name;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn ring(folder: &tempfile::TempDir) -> Ring {
    let dir = folder.path().join("keys");
    let timing = DnssecSettings::with_keys(dir.clone()).timing(300);
    let apex = Name::parse("example.com.", &Name::root()).expect("a name");
    Ring { apex, folder: KeyFolder::new(dir), timing, user: None, _lock: None }
}

fn roles(ring: &Ring, now: u64) -> Vec<(Role, sign::KeyState)> {
    let mut roles: Vec<_> =
        ring.keys().expect("right").iter().map(|key| (key.times.created, key.role, key.standing(now).state)).collect();
    roles.sort_by_key(|(created, ..)| *created);
    roles.into_iter().map(|(_, role, state)| (role, state)).collect()
}

#[test]
fn csk_is_made_and_rolled_by_commands_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    assert!(ring.listed(NOW).is_err_and(|failure| failure.to_string().contains("keys new example.com")));
    let text = new(&ring, Algorithm::EcdsaP256Sha256, Role::Csk, NOW).expect("made");
    assert!(text.contains("next: 2027-01-15T10:00:00Z"), "{text}");
    assert!(new(&ring, Algorithm::Ed25519, Role::Csk, NOW).is_err_and(|f| f.to_string().contains("keys roll")));
    let before = ds(&ring, NOW + DAY).expect("a DS");
    assert!(before.starts_with("example.com. IN DS ") && before.lines().count() == 1, "{before}");
    let listed = ring.listed(NOW + DAY).expect("listed");
    assert!(listed.contains("keys confirm example.com") && listed.contains("yes  -\n"), "{listed}");
    let listed = confirm(&ring, NOW + DAY).expect("confirmed");
    assert!(listed.contains("yes  confirmed\n"), "{listed}");
    assert!(confirm(&ring, NOW + DAY).is_err());
    let text = roll(&ring, Which::Of(None), None, NOW + 2 * DAY).expect("begun");
    assert!(text.contains("the roll-over has begun"), "{text}");
    assert!(
        roll(&ring, Which::Of(None), None, NOW + 2 * DAY)
            .is_err_and(|failure| failure.to_string().contains("under way"))
    );
    assert_eq!(ds(&ring, NOW + 2 * DAY).expect("a DS"), before);
    assert_ne!(ds(&ring, NOW + 3 * DAY).expect("a DS"), before);
    confirm(&ring, NOW + 4 * DAY).expect("confirmed");
    assert_eq!(roles(&ring, NOW + 4 * DAY), [(Role::Csk, sign::KeyState::Active); 2]);
    let after = [(Role::Csk, sign::KeyState::Removed), (Role::Csk, sign::KeyState::Active)];
    assert_eq!(roles(&ring, NOW + 5 * DAY), after);
}

#[test]
fn ksk_and_zsk_are_made_and_rolled_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    let text = new(&ring, Algorithm::Ed25519, Role::Ksk, NOW).expect("made");
    let missing = "keys new example.com --role zsk";
    assert!(text.contains(missing), "{text}");
    let csk = new(&ring, Algorithm::Ed25519, Role::Csk, NOW);
    assert!(csk.is_err_and(|failure| failure.to_string().contains(missing)));
    let other = new(&ring, Algorithm::EcdsaP256Sha256, Role::Zsk, NOW);
    assert!(other.is_err_and(|failure| failure.to_string().contains("of algorithm ED25519: expected the same, 15")));
    new(&ring, Algorithm::Ed25519, Role::Zsk, NOW).expect("made");
    assert!(new(&ring, Algorithm::Ed25519, Role::Csk, NOW).is_err());
    assert!(roll(&ring, Which::Of(None), None, NOW + DAY).is_err_and(|failure| failure.to_string().contains("--role")));
    roll(&ring, Which::Of(Some(Role::Zsk)), None, NOW + DAY).expect("begun");
    assert!(roll(&ring, Which::Of(Some(Role::Csk)), None, NOW + DAY).is_err());
    assert_eq!(roles(&ring, NOW + 2 * DAY).iter().filter(|(role, _)| *role == Role::Zsk).count(), 2);
}

/// A zone with keys of these roles, whose DS the parent has.
fn settled(roles: &[Role]) -> (tempfile::TempDir, Ring) {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    for &role in roles {
        new(&ring, Algorithm::Ed25519, role, NOW).expect("made");
    }
    confirm(&ring, NOW + DAY).expect("confirmed");
    (folder, ring)
}

/// What a node makes of the keys in the folder: they sign now and whenever something changes.
fn signs_on(ring: &Ring, now: u64) {
    let keys = ring.keys().expect("right at any time");
    for at in sign::upcoming(&keys, now).into_iter().map(|(at, ..)| at).chain([now, now + 9 * DAY]) {
        let signer = sign::signer(&ring.apex, &keys, at, sign::Lifetime { now: at, validity_secs: 86_400 });
        assert!(signer.is_ok(), "{:?} at {}", signer.err(), at - now);
    }
}

/// Begins a roll-over at a zone with keys of `roles` and breaks off after each of its steps, for good and then not.
fn break_off(roles: &[Role], which: Which, algorithm: Algorithm, expected: &[(Role, sign::KeyState)]) {
    let now = NOW + 2 * DAY;
    for done in 0.. {
        let (_folder, ring) = settled(roles);
        let Rolling { steps, .. } = rolling(&ring, which, Some(algorithm), now).expect("planned");
        steps[..done].iter().try_for_each(Step::take).expect("done");
        // The moment between two keys that come together; a node sees it for hours at most where they are of another
        // algorithm.
        let is_between =
            algorithm != Algorithm::Ed25519 && sign::broken_off(&ring.keys().expect("right"), now).is_some();
        if !is_between {
            signs_on(&ring, now);
        }
        let is_over = done == steps.len();
        if !is_over {
            // Another day, another process.
            let cleaning = ring.folder.cleaning(&ring.apex).expect("planned");
            cleaning.iter().try_for_each(Step::take).expect("clean");
            let rolled = roll(&ring, which, Some(algorithm), now + 60);
            // All that counts was done, or it is done now.
            let refusal = rolled.err().map(|failure| failure.to_string());
            assert!(refusal.as_ref().is_none_or(|why| why.contains("under way")), "step {done}: {refusal:?}");
        }
        assert_eq!(sign::broken_off(&ring.keys().expect("right"), now + 60), None, "step {done}");
        signs_on(&ring, now + 60);
        let mut states: Vec<_> = roles_at(&ring, now + 3 * DAY);
        if which != Which::Of(Some(Role::Zsk)) {
            confirm(&ring, now + 3 * DAY).expect("confirmed");
            states = roles_at(&ring, now + 9 * DAY);
        }
        assert_eq!(states, expected, "step {done}");
        let files = std::fs::read_dir(ring.folder.path()).expect("readable").count();
        assert_eq!(files, 2 * expected.len(), "step {done}: nothing else is left");
        if is_over {
            return;
        }
    }
}

fn roles_at(ring: &Ring, now: u64) -> Vec<(Role, sign::KeyState)> {
    let mut found = roles(ring, now);
    found.sort_by_key(|(role, state)| (role.as_str(), *state));
    found
}

use sign::KeyState::{Active, Removed};

#[test]
fn roll_over_that_a_crash_broke_off_is_completed_by_the_same_command() {
    let (csk, both) = (&[Role::Csk][..], &[Role::Ksk, Role::Zsk][..]);
    let same = Algorithm::Ed25519;
    let rolled = [(Role::Csk, Active), (Role::Csk, Removed)];
    break_off(csk, Which::Of(None), same, &rolled);
    break_off(csk, Which::Of(None), Algorithm::EcdsaP256Sha256, &rolled);
    let rolled = [(Role::Ksk, Active), (Role::Ksk, Removed), (Role::Zsk, Active)];
    break_off(both, Which::Of(Some(Role::Ksk)), same, &rolled);
    let rolled = [(Role::Ksk, Active), (Role::Zsk, Active), (Role::Zsk, Removed)];
    break_off(both, Which::Of(Some(Role::Zsk)), same, &rolled);
}

#[test]
fn change_of_all_keys_that_a_crash_broke_off_is_completed_by_the_same_command() {
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
        let split = [(Role::Csk, Removed), (Role::Ksk, Active), (Role::Zsk, Active)];
        break_off(&[Role::Csk], Which::All(Scheme::KskAndZsk), algorithm, &split);
        let joined = [(Role::Csk, Active), (Role::Ksk, Removed), (Role::Zsk, Removed)];
        break_off(&[Role::Ksk, Role::Zsk], Which::All(Scheme::Csk), algorithm, &joined);
    }
}

#[test]
fn confirmation_that_a_crash_broke_off_is_completed_by_the_same_command() {
    let now = NOW + 4 * DAY;
    for done in 0.. {
        let (_folder, ring) = settled(&[Role::Ksk, Role::Zsk]);
        roll(&ring, Which::All(Scheme::Csk), None, NOW + 2 * DAY).expect("begun");
        let steps = confirming(&ring, now).expect("planned");
        steps[..done].iter().try_for_each(Step::take).expect("done");
        signs_on(&ring, now);
        if done == steps.len() {
            return;
        }
        confirm(&ring, now + 60).expect("confirmed");
        let expected = [(Role::Csk, Active), (Role::Ksk, Removed), (Role::Zsk, Removed)];
        assert_eq!(roles_at(&ring, now + 2 * DAY), expected, "step {done}");
    }
}

#[test]
fn half_a_roll_over_is_not_confirmed_but_shown_with_what_to_do() {
    let (_folder, ring) = settled(&[Role::Csk]);
    let now = NOW + 2 * DAY;
    let Rolling { steps, made } = rolling(&ring, Which::Of(None), None, now).expect("planned");
    // All but the new times of the old key.
    steps[..steps.len() - 4].iter().try_for_each(Step::take).expect("done");
    let told = format!("the roll-over to key {} was begun and broken off", made[0]);
    assert!(confirm(&ring, now + DAY).is_err_and(|failure| failure.to_string().contains(&told)));
    assert!(ring.listed(now).expect("listed").contains(&told));
    let text = roll(&ring, Which::Of(None), None, now + DAY).expect("goes on");
    assert!(text.contains("had been broken off") && !text.contains(&told), "{text}");
}

#[test]
fn key_whose_ds_was_never_confirmed_is_not_rolled_but_the_command_to_run_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
    let refusal = roll(&ring, Which::Of(None), None, NOW + DAY).expect_err("refused").to_string();
    assert!(refusal.contains("`gslb-dns keys confirm example.com` first"), "{refusal}");
    assert!(refusal.contains("keys new example.com"), "{refusal}");
}

#[test]
fn first_ds_waits_from_when_signing_really_began() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
    let later = NOW + 30 * DAY;
    let text = start(&ring, later).expect("said");
    assert!(text.contains("next: 2027-02-14T10:00:00Z"), "two hours later: {text}");
    assert!(text.contains("counted from 2027-02-14T08:00:00Z"), "{text}");
    let early = confirm(&ring, later + 60).expect_err("too early").to_string();
    assert!(early.contains("not be at the parent before 2027-02-14T10:00:00Z"), "{early}");
    confirm(&ring, later + DAY).expect("confirmed");
    assert!(start(&ring, later + DAY).is_err_and(|failure| failure.to_string().contains("signed for long")));
    assert!(!ring.listed(later + DAY).expect("listed").contains("counted from"));
}

#[test]
fn withdrawn_ds_is_asked_for_no_more_until_signing_starts_again() {
    let (_folder, ring) = settled(&[Role::Csk]);
    let now = NOW + 2 * DAY;
    let state = |now| sign::parent_ds(&ring.keys().expect("right"), 86_400, now);
    assert!(matches!(state(now), sign::ParentDs::Confirmed { since, .. } if since == NOW + DAY));
    let text = withdraw(&ring, now).expect("said");
    assert!(text.contains("from 2027-01-18T08:00:00Z on, not before") && text.contains("keys start"), "{text}");
    assert_eq!(ring.listed(now + 60).expect("listed"), text.split_once('\n').expect("lines").1, "as long as it holds");
    assert!(ring.listed(now + DAY).expect("listed").contains("`dnssec` may leave the settings now"));
    assert!(ds(&ring, now).is_err_and(|failure| failure.to_string().contains("keys start example.com")));
    let of_others = sign::parent_ds(&ring.keys().expect("right"), 5, now);
    assert_eq!(of_others, sign::ParentDs::Cached { until: now + DAY }, "whatever the settings say by then");
    assert_eq!(state(now), sign::ParentDs::Cached { until: now + DAY });
    assert_eq!(state(now + DAY), sign::ParentDs::Absent);
    signs_on(&ring, now);
    assert!(confirm(&ring, now + DAY).is_err(), "no DS is awaited");
    start(&ring, now + 9 * DAY).expect("said");
    assert!(confirm(&ring, now + 10 * DAY).is_ok());
}

#[test]
fn withdrawal_before_any_ds_takes_back_that_cds_will_ask_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    new(&ring, Algorithm::Ed25519, Role::Csk, NOW).expect("made");
    let text = withdraw(&ring, NOW + 60).expect("said");
    assert!(text.contains("next: no DS is asked for") && !text.contains("CDS and"), "{text}");
}

#[test]
fn withdrawal_in_a_roll_over_ends_it() {
    let now = NOW + 2 * DAY;
    for (roles, which, algorithm) in [
        (&[Role::Csk][..], Which::Of(None), Algorithm::Ed25519),
        (&[Role::Csk], Which::Of(None), Algorithm::EcdsaP256Sha256),
        (&[Role::Csk], Which::All(Scheme::KskAndZsk), Algorithm::Ed25519),
        (&[Role::Ksk, Role::Zsk], Which::All(Scheme::Csk), Algorithm::EcdsaP256Sha256),
    ] {
        for after in [60, DAY] {
            let (_folder, ring) = settled(roles);
            roll(&ring, which, Some(algorithm), now).expect("begun");
            withdraw(&ring, now + after).expect("said");
            signs_on(&ring, now + after);
            let later = now + 9 * DAY;
            let removed = roles_at(&ring, later).into_iter().filter(|(_, state)| *state == Removed).count();
            assert_eq!(removed, roles.len(), "{which:?} after {after}");
            start(&ring, later).expect("said");
            confirm(&ring, later + DAY).expect("confirmed");
            signs_on(&ring, later + DAY);
        }
    }
}

#[test]
fn two_commands_do_not_change_keys_at_the_same_time() {
    let (_folder, ring) = settled(&[Role::Csk]);
    let held = ring.folder.lock().expect("nobody has it");
    assert!(ring.folder.lock().is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    drop(held);
    assert!(ring.folder.lock().is_ok());
}

#[test]
fn pem_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let ring = ring(&folder);
    let file = folder.path().join("key.pem");
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    std::fs::write(&file, pem).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
    assert!(import(&ring, &file, Role::Csk, NOW).is_err_and(|failure| failure.to_string().contains("chmod 600")));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let text = import(&ring, &file, Role::Csk, NOW).expect("taken over");
    assert!(text.contains("ED25519"), "{text}");
}
