mod transferred;

use crate::serve::sample::apex;
use crate::sign::{Algorithm, KeyTimes, Role, SigningKey};

use super::*;

fn keys() -> ZoneKeys {
    let key = SigningKey::generate(Algorithm::EcdsaP256Sha256, Role::Csk).expect("a key");
    let key = ZoneKey { key: Arc::new(key), role: Role::Csk, times: KeyTimes::default() };
    ZoneKeys { settings: DnssecSettings::with_keys("keys".into()), keys: [key].into(), is_transferred: false }
}

fn zone(names: usize) -> Arc<Zone> {
    let mut text = "$TTL 300\n@ SOA ns1 h 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n".to_owned();
    text.extend((0..names).map(|at| format!("h{at} A 192.0.2.1\n")));
    let name = shared::name::OwnerName::parse("example.com").expect("a name");
    Arc::new(Zone::parse(&name, "zone", &text).expect("right"))
}

#[test]
fn large_zone_is_signed_on_all_cores_and_only_once() {
    let (zones, keys) = ([zone(UNKNOWN_FEW + 10)], [Some(keys())]);
    let topology = Topology::default();
    let now = 1_800_000_000;
    let first = build(&zones, &keys, &topology, &[], now).expect("built").signed_zones;
    assert!(first[0].signatures.len() > UNKNOWN_FEW);
    assert_eq!(first[0].apex, apex());
    let second = build(&zones, &keys, &topology, &first, now + 5).expect("built").signed_zones;
    let [one, other] = [&first, &second].map(|zones| &zones[0].signatures);
    assert_eq!((one.same(other), one.len()), (other.len(), other.len()));
    // Most of it was known: what is new is signed on the way.
    let third = build(&[zone(UNKNOWN_FEW + 20)], &keys, &topology, &first, now + 5).expect("built").signed_zones;
    assert!(third[0].signatures.same(one) > UNKNOWN_FEW && third[0].signatures.len() > one.len());
}

/// How many signatures it is thought that a zone that was signed at `then` needs with `keys` at `now`.
fn unknown(zone: &Arc<Zone>, keys: &ZoneKeys, last: &[SignedZone], now: u64) -> usize {
    Making::begin(zone, keys, last, now).expect("begun").unknown()
}

#[test]
fn renewals_and_new_keys_of_a_large_zone_are_worth_all_cores_and_small_changes_are_not() {
    let (zone, keys) = (zone(UNKNOWN_FEW + 10), keys());
    let (topology, now) = (Topology::default(), 1_800_000_000);
    let signed = |keys: &ZoneKeys, last: &[SignedZone], now| {
        let zones = [Arc::clone(&zone)];
        build(&zones, &[Some(keys.clone())], &topology, last, now).expect("built").signed_zones
    };
    assert!(unknown(&zone, &keys, &[], now) > UNKNOWN_FEW);
    let first = signed(&keys, &[], now);
    assert_eq!(unknown(&zone, &keys, &first, now + 5), 0);
    let due = first[0].due().expect("signed") + 86_400 * 2;
    assert!(unknown(&zone, &keys, &first, due) > UNKNOWN_FEW, "a renewal");
    let rolling = ZoneKeys { keys: keys.keys.iter().chain(&*self::keys().keys).cloned().collect(), ..keys.clone() };
    assert!(unknown(&zone, &rolling, &first, now + 5) > UNKNOWN_FEW, "a roll-over");
    let rolled = signed(&rolling, &first, now + 5);
    assert_eq!(unknown(&zone, &rolling, &rolled, now + 6), 0);
    assert_eq!(unknown(&zone, &keys, &rolled, now + 6), 0, "a key that has left");
}
