use proptest::prelude::*;

use super::*;
use crate::sign::bind::*;

/// As BIND 9.18's dnssec-keygen writes it, with the key of RFC 6605, section 6.1.
const BIND_PUBLIC: &str = "\
; This is a key-signing key, keyid 55648, for example.net.
; Created: 20260101000000 (Thu Jan  1 00:00:00 2026)
; Publish: 20260101000000 (Thu Jan  1 00:00:00 2026)
example.net. IN DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edb krSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==
";
const BIND_PRIVATE: &str = "\
Private-key-format: v1.3
Algorithm: 13 (ECDSAP256SHA256)
PrivateKey: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=
Created: 20260101000000
Publish: 20260101000000
Activate: 20260102030405
Predecessor: 12345
";
/// openssl genpkey -algorithm ED25519
const PEM: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

fn read(apex: &Name, public: &str, private: &str) -> Result<ZoneKey, BadText> {
    let PublicText { key, role, ds_cached_until } = read_public(apex, public)?;
    let (key, times) = read_private(&key, private)?;
    let times = KeyTimes { ds_cached_until, ..times };
    Ok(ZoneKey { key: Arc::new(key), role: role.unwrap_or(Role::Csk), times })
}

#[test]
fn files_of_bind_are_read() {
    let key = read(&name("Example.net."), BIND_PUBLIC, BIND_PRIVATE).expect("it is right");
    assert_eq!((key.tag(), key.times.publish), (55648, Some(1_767_225_600)));
    assert_eq!(key.times.activate, Some(1_767_225_600 + 86_400 + 3 * 3600 + 4 * 60 + 5));
    assert_eq!(key.times.inactive, None);
    assert_eq!(file_stem(&name("Example.net."), key.key.public()), "Kexample.net.+013+55648");
}

#[test]
fn what_is_written_is_read_again() {
    for algorithm in [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519] {
        for role in [Role::Csk, Role::Ksk, Role::Zsk] {
            let key = Arc::new(SigningKey::generate(algorithm, role).expect("a key"));
            let (created, publish, ds_cached_until) = (Some(1_800_000_000), Some(0), Some(1_800_086_400));
            let times = KeyTimes { created, publish, ds_publish: Some(7), ds_cached_until, ..Default::default() };
            let texts = write(&name("a.example."), &ZoneKey { key: key.clone(), role, times }, 60).expect("it shows");
            let found = read(&name("a.example."), &texts.public, &texts.private).expect("it is right");
            assert_eq!((found.role, found.times, found.key.public()), (role, times, key.public()));
            assert_eq!(found.key.secret(), key.secret());
        }
    }
}

#[test]
fn pem_of_openssl_is_read() {
    // The secret key of RFC 8410, section 10.3, and its public half.
    let key = read_pem(PEM, Role::Csk).expect("it is right");
    let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    assert_eq!(data_encoding::HEXLOWER.encode(&key.public().dnskey()[4..]), public);
    assert!(read_pem("", Role::Csk).is_err());
    assert!(read_pem(&PEM.replace("VhC", "VhD"), Role::Csk).is_ok_and(|other| other.public() != key.public()));
}

#[test]
fn mistakes_are_named_with_their_line_and_never_show_the_secret() {
    let apex = name("example.net.");
    let cases = [
        (BIND_PUBLIC, BIND_PRIVATE.replace("20260102030405", "2026"), Some(6), "expected a time such as"),
        (BIND_PUBLIC, BIND_PRIVATE.replace("20260102030405", "20261302030405"), Some(6), "expected a time such as"),
        (BIND_PUBLIC, BIND_PRIVATE.replace(": 13", ": 15"), Some(2), "expected 13"),
        (BIND_PUBLIC, BIND_PRIVATE.replace("GU6S", "GU6%"), Some(3), "not base64"),
        (BIND_PUBLIC, BIND_PRIVATE.replace("GU6S", "GU6T"), None, "does not belong to the public key"),
        (BIND_PUBLIC, BIND_PRIVATE.replace("Private-key-format: v1.3\n", ""), None, "is no private key of BIND"),
        (BIND_PUBLIC, "Private-key-format: v1.3\nGU6S".to_owned(), Some(2), "expected a name, a colon"),
        ("; nothing", String::new(), None, "holds no DNSKEY record"),
        ("example.com. IN DNSKEY 257 3 13 AA==", String::new(), Some(1), "expected one of example.net."),
        ("example.net. IN DNSKEY 257 3 8 AA==", String::new(), Some(1), "algorithm 8 is not supported"),
        ("example.net. IN A 192.0.2.1", String::new(), Some(1), "expected: zone [TTL]"),
    ];
    for (public, private, line, expected) in cases {
        let bad = read(&apex, public, &private).expect_err(expected);
        assert!(bad.line == line && bad.what.contains(expected), "{expected}: {bad:?}");
        assert!(!format!("{bad:?}").contains("GU6"));
    }
}

proptest! {
    #[test]
    fn any_texts_are_safe(public in "\\PC{0,80}", private in "\\PC{0,80}", cut in 0..400_usize) {
        let apex = name("example.net.");
        let _ = (read_public(&apex, &public), read_pem(&private, Role::Ksk));
        let key = read_public(&apex, BIND_PUBLIC).expect("right").key;
        let _ = read_private(&key, &private);
        let _ = read_private(&key, &BIND_PRIVATE[..cut.min(BIND_PRIVATE.len())]);
        let _ = read_public(&apex, &BIND_PUBLIC[..cut.min(BIND_PUBLIC.len())]);
    }
}
