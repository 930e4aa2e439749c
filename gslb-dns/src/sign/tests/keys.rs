use data_encoding::BASE64;

use super::*;

/// The keys of RFC 6605, section 6.1 and RFC 8080, section 6.1: zone, DNSKEY flags and algorithm, public and private key,
/// DS.
const VECTORS: [(&str, [u8; 4], &str, &str, &str); 2] = [
    (
        "example.net.",
        [1, 1, 3, 13],
        "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
        "GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=",
        "55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17",
    ),
    (
        "example.com.",
        [1, 1, 3, 15],
        "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
        "ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=",
        "3613 15 2 3AA5AB37EFCE57F737FC1627013FEE07BDF241BD10F3B1964AB55C78E79A304B",
    ),
];

fn decoded(text: &str) -> Vec<u8> {
    BASE64.decode(text.as_bytes()).expect("base64")
}

#[test]
fn keys_of_the_rfcs_have_their_tags_and_digests() {
    for (zone, head, public, secret, ds) in VECTORS {
        let public = PublicKey::from_dnskey(&[&head[..], &decoded(public)].concat()).expect("a public key");
        assert_eq!(public.ds_text(&name(zone)), ds);
        let key = SigningKey::from_secret(public.clone(), &decoded(secret)).expect("they belong together");
        assert_eq!((key.public(), key.secret()), (&public, Some(decoded(secret))));
    }
}

#[test]
fn tags_and_digests_of_new_keys_are_those_of_the_second_reader() {
    for algorithm in [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519] {
        for role in [Role::Csk, Role::Zsk] {
            let key = SigningKey::generate(algorithm, role).expect("a key");
            let public = key.public();
            assert_eq!(public.tag(), reader::dnskey(public.dnskey()).calculate_key_tag().expect("a tag"));
            assert_eq!(public.ds(&name("Example.com."))[4..], reader::digest(public.dnskey(), &name("example.com.")));
            assert_eq!(public.is_entry_point(), role == Role::Csk);
        }
    }
}

#[test]
fn secret_that_is_not_of_the_public_key_is_refused() {
    for algorithm in [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519] {
        let new = || SigningKey::generate(algorithm, Role::Csk).expect("a key");
        let refused = BadKey::Private { algorithm: algorithm.number() };
        for secret in [new().secret().expect("a secret"), vec![1; 31], Vec::new()] {
            assert_eq!(SigningKey::from_secret(new().public().clone(), &secret).err(), Some(refused));
        }
    }
}

#[test]
fn dnskeys_that_cannot_be_used_are_refused() {
    for (dnskey, expected) in [
        (&b""[..], BadKey::Dnskey),
        (b"\x01\x01\x03\x0d", BadKey::Dnskey),
        (b"\x01\x01\x03\x08abc", BadKey::Algorithm(8)),
        (&[&b"\x01\x81\x03\x0f"[..], &[7; 32]].concat(), BadKey::Dnskey),
        (&[&b"\x01\x01\x02\x0f"[..], &[7; 32]].concat(), BadKey::Dnskey),
    ] {
        assert_eq!(PublicKey::from_dnskey(dnskey), Err(expected));
    }
}

#[test]
fn secret_of_a_key_never_shows() {
    let key = SigningKey::generate(Algorithm::Ed25519, Role::Csk).expect("a key");
    assert_eq!(format!("{key:?}"), format!("SigningKey(ED25519 {})", key.public().tag()));
}
