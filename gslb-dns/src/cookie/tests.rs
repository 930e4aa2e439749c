use proptest::prelude::*;

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let octets: Vec<u8> =
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect();
    octets.try_into().expect("the length")
}

fn secrets(text: &str) -> Secrets {
    Secrets::parse(text).expect("secrets")
}

/// The secret of the examples for IPv4 in RFC 9018, appendix A.
const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

fn check(secrets: &Secrets, cookie: &str, address: &str, unix_secs: u32) -> (Standing, String) {
    let octets: Vec<u8> =
        (0..cookie.len() / 2).map(|at| u8::from_str_radix(&cookie[2 * at..2 * at + 2], 16).expect("hex")).collect();
    let cookie = Cookie::parse(&octets).expect("a cookie");
    let Checked { standing, reply } = secrets.check(&cookie, address.parse().expect("an address"), unix_secs);
    let octets = [&reply.client[..], &reply.server].concat();
    (standing, octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

#[test]
fn new_client_gets_the_cookie_of_rfc_9018_a1() {
    let (standing, reply) = check(&secrets(SECRET), "2464c4abcf10c957", "198.51.100.100", 1_559_731_985);
    assert_eq!((standing, &*reply), (Standing::New, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
}

#[test]
fn cookie_of_forty_minutes_is_valid_and_renewed_as_in_rfc_9018_a2() {
    let brought = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
    let (standing, reply) = check(&secrets(SECRET), brought, "198.51.100.100", 1_559_734_385);
    assert_eq!((standing, &*reply), (Standing::Valid, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"));
}

#[test]
fn reserved_octets_are_hashed_as_they_came_and_sent_as_zero_as_in_rfc_9018_a3() {
    let brought = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
    assert_eq!(check(&secrets(SECRET), brought, "203.0.113.203", 1_559_727_986).0, Standing::Valid);
    // By the time of the example it is older than an hour.
    let (standing, reply) = check(&secrets(SECRET), brought, "203.0.113.203", 1_559_734_700);
    assert_eq!((standing, &*reply), (Standing::Bad, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"));
}

#[test]
fn cookie_of_the_secret_before_is_valid_and_replaced_as_in_rfc_9018_a4() {
    let both = secrets("445536bcd2513298075a5d379663c962\ndd3bdf9344b678b185a6f5cb60fca715\n");
    let brought = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
    let (standing, reply) = check(&both, brought, "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961);
    assert_eq!((standing, &*reply), (Standing::Valid, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
}

#[test]
fn cookie_holds_from_five_minutes_before_to_one_hour_after_its_time_also_where_the_clock_wraps() {
    let secrets = secrets(SECRET);
    for made_at in [1_700_000_000, 10, u32::MAX - 10] {
        let address = "192.0.2.1";
        let (_, cookie) = check(&secrets, "0001020304050607", address, made_at);
        for (age, standing, is_kept) in [
            (-301, Standing::Bad, false),
            (-300, Standing::Valid, true),
            (0, Standing::Valid, true),
            (1800, Standing::Valid, true),
            (1801, Standing::Valid, false),
            (3600, Standing::Valid, false),
            (3601, Standing::Bad, false),
            (i32::MAX, Standing::Bad, false),
        ] {
            let (found, reply) = check(&secrets, &cookie, address, made_at.wrapping_add_signed(age));
            assert_eq!((found, reply == cookie), (standing, is_kept), "{age} after {made_at}");
        }
    }
}

#[test]
fn client_of_an_ipv4_address_in_ipv6_form_is_the_same() {
    let secrets = secrets(SECRET);
    let (_, cookie) = check(&secrets, "0001020304050607", "192.0.2.1", 1000);
    assert_eq!(check(&secrets, &cookie, "::ffff:192.0.2.1", 1000).0, Standing::Valid);
}

#[test]
fn secrets_are_one_or_two_lines_of_hexadecimal_digits() {
    let one = secrets(&format!("\n  {SECRET}\n\n"));
    assert!(one.also_accepted.is_none() && one.current.0 == hex(SECRET));
    assert!(secrets(&format!("{SECRET}\r\n{}\n", SECRET.to_uppercase())).also_accepted.is_some());
    for (text, expected) in [
        ("", BadSecrets::Missing),
        (" \n\n", BadSecrets::Missing),
        ("e5e973e5a6b2a43f48e7dc849e37bfc", BadSecrets::NotHex { line: 1 }),
        ("e5e973e5a6b2a43f48e7dc849e37bfcg", BadSecrets::NotHex { line: 1 }),
        ("+5e973e5a6b2a43f48e7dc849e37bfcf", BadSecrets::NotHex { line: 1 }),
        (&format!("{SECRET}00"), BadSecrets::NotHex { line: 1 }),
        (&format!("{SECRET}\n\nx"), BadSecrets::NotHex { line: 3 }),
        (&format!("{SECRET}\n{SECRET}\n{SECRET}"), BadSecrets::TooMany { line: 3 }),
    ] {
        assert_eq!(Secrets::parse(text).map(drop), Err(expected), "{text:?}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", secrets(SECRET));
    assert!(shown.contains("Secret(…)") && !shown.contains("229") && !shown.to_lowercase().contains("e5"), "{shown}");
}

proptest! {
    #[test]
    fn cookie_holds_for_its_address_its_client_and_its_secret_only(
        client: [u8; 8], secret: [u8; 16], other_secret: [u8; 16], address: u32, other: u32, v6: u128,
        at: u32, age in 0_u32..3600, flip in 0_usize..24 * 8,
    ) {
        let secrets = |secret| Secrets { current: Secret::new(secret), also_accepted: None };
        let v4 = |address| IpAddr::from(std::net::Ipv4Addr::from(address));
        let fresh = Cookie { client, server: ServerPart::Absent };
        let reply = secrets(secret).check(&fresh, v4(address), at).reply;
        let cookie = Cookie { client, server: ServerPart::Interoperable(reply.server) };
        let standing = |secret, cookie: &Cookie, address| secrets(secret).check(cookie, address, at.wrapping_add(age)).standing;
        prop_assert_eq!(standing(secret, &cookie, v4(address)), Standing::Valid);
        prop_assume!(other != address && other_secret != secret);
        prop_assert_eq!(standing(secret, &cookie, v4(other)), Standing::Bad);
        prop_assert_eq!(standing(secret, &cookie, IpAddr::from(std::net::Ipv6Addr::from(v6 | 1 << 127))), Standing::Bad);
        prop_assert_eq!(standing(other_secret, &cookie, v4(address)), Standing::Bad);
        let mut octets = [&client[..], &reply.server].concat();
        octets[flip / 8] ^= 1 << (flip % 8);
        let forged = Cookie::parse(&octets).expect("a cookie");
        prop_assert_eq!(standing(secret, &forged, v4(address)), Standing::Bad);
    }

    #[test]
    fn any_option_is_checked_safely_and_its_client_part_repeated(option in prop::collection::vec(any::<u8>(), 0..50), at: u32) {
        if let Some(cookie) = Cookie::parse(&option) {
            let secrets = secrets(SECRET);
            let checked = secrets.check(&cookie, IpAddr::from([192, 0, 2, 1]), at);
            prop_assert_ne!(checked.standing, Standing::Absent);
            prop_assert_eq!(&checked.reply.client[..], &option[..8]);
        }
    }

    #[test]
    fn any_text_is_secrets_or_a_mistake(text in "[0-9a-fg\n ]{0,100}|\\PC*") {
        let _ = Secrets::parse(&text);
    }
}
