use proptest::prelude::*;

use super::key::Secret;
use super::*;

const NOW: u64 = 1_800_000_000;

fn cookie(mode: Mode) -> Cookie {
    let name = if mode == Mode::Prefix { "JSESSIONID" } else { "SRV" };
    Cookie {
        name: name.into(),
        mode,
        indirect: false,
        nocache: false,
        preserve: false,
        attributes: Attributes::default(),
        max_idle: None,
        max_life: None,
    }
}

fn dated() -> Cookie {
    Cookie {
        max_idle: Some(Duration::from_secs(600)),
        max_life: Some(Duration::from_secs(3600)),
        ..cookie(Mode::Insert)
    }
}

fn keys() -> Keys {
    Keys::from_keys(["s1", "s2", "s3"].map(|key| Key::parse(key).expect("a key")).into()).expect("no two alike")
}

/// What is asked, and the fields as the server gets them.
fn ask(cookie: &Cookie, values: &[&str]) -> (Asked, String) {
    let fields: Vec<_> = values.iter().map(|value| Header { name: "cookie", value: value.as_bytes() }).collect();
    let (mut edits, mut out) = (Edits::new(), Vec::new());
    let asked = cookie.ask(&keys(), &fields, NOW, &mut edits);
    edits.write(&fields, |_| false, &mut out);
    (asked, String::from_utf8(out).expect("text"))
}

/// What is told, and the fields as the client gets them.
fn tell_at(cookie: &Cookie, asked: &Asked, server: usize, fields: &[(&str, &str)], now: u64) -> (Told, String) {
    let fields: Vec<_> = fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let (mut edits, mut out) = (Edits::new(), Vec::new());
    let told = cookie.tell(&keys(), asked, server, &fields, now, &mut edits);
    edits.write(&fields, |_| false, &mut out);
    (told, String::from_utf8(out).expect("text"))
}

fn tell(cookie: &Cookie, asked: &Asked, server: usize, fields: &[(&str, &str)]) -> (Told, String) {
    tell_at(cookie, asked, server, fields, NOW)
}

fn dates(last: u64, first: u64) -> String {
    let mut out = b"s2|".to_vec();
    Date::at(last).write(&mut out);
    out.push(b'|');
    Date::at(first).write(&mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn a_new_client_gets_a_cookie_and_comes_back_to_its_server() {
    let cookie = cookie(Mode::Insert);
    let (asked, _) = ask(&cookie, &["a=b"]);
    assert_eq!((asked.server, asked.seen), (None, Seen::Nothing));
    assert_eq!(tell(&cookie, &asked, 1, &[]), (Told::Inserted, "Set-Cookie: SRV=s2; path=/\r\n".to_owned()));
    let (asked, seen) = ask(&cookie, &["a=b; SRV=s2"]);
    assert_eq!((asked.server, asked.seen), (Some(1), Seen::Known));
    assert_eq!(seen, "cookie: a=b; SRV=s2\r\n");
    assert_eq!(tell(&cookie, &asked, 1, &[]), (Told::Nothing, String::new()));
}

#[test]
fn a_client_that_was_moved_gets_a_cookie_of_its_new_server() {
    let cookie = cookie(Mode::Insert);
    let (asked, _) = ask(&cookie, &["SRV=s2"]);
    assert_eq!(tell(&cookie, &asked, 2, &[]), (Told::Inserted, "Set-Cookie: SRV=s3; path=/\r\n".to_owned()));
}

#[test]
fn a_key_that_no_server_has_is_unknown() {
    for value in ["SRV=s9", "SRV=", "SRV=s1x", "SRV=S1", "SRV=\"s1", "SRV=192.0.2.1"] {
        let (asked, _) = ask(&cookie(Mode::Insert), &[value]);
        assert_eq!((asked.server, asked.seen), (None, Seen::Unknown), "{value}");
    }
}

#[test]
fn the_first_cookie_that_names_a_server_counts() {
    let server = |values: &[&str]| ask(&cookie(Mode::Insert), values).0.server;
    assert_eq!(server(&["SRV=s9; SRV=s2; SRV=s1"]), Some(1));
    assert_eq!(server(&["a=b", "SRV=s9", "c=d; SRV=\"s3\""]), Some(2));
    assert_eq!(server(&["XSRV=s1; srv=s1; SRV2=s1; SRV"]), None);
}

#[test]
fn with_indirect_servers_see_nothing_of_the_cookie() {
    let cookie = Cookie { indirect: true, ..cookie(Mode::Insert) };
    let seen = |values: &[&str]| ask(&cookie, values).1;
    assert_eq!(seen(&["SRV=s1"]), "");
    assert_eq!(seen(&["SRV=s1; a=b"]), "cookie: a=b\r\n");
    assert_eq!(seen(&["a=b; SRV=s1; c=d"]), "cookie: a=b; c=d\r\n");
    assert_eq!(seen(&["a=b; SRV=s1; SRV=zz", "SRV=s9;", "c=\"d;e\""]), "cookie: a=b\r\ncookie: c=\"d;e\"\r\n");
}

#[test]
fn a_cookie_that_a_server_inserts_itself_is_left_out_unless_preserved() {
    let own = [("Set-Cookie", "SRV=mine; path=/x"), ("Set-Cookie", "a=b")];
    let (told, fields) = tell(&cookie(Mode::Insert), &Asked::NOTHING, 0, &own);
    assert_eq!((told, fields.as_str()), (Told::Inserted, "Set-Cookie: a=b\r\nSet-Cookie: SRV=s1; path=/\r\n"));
    let preserving = Cookie { preserve: true, ..cookie(Mode::Insert) };
    let (told, fields) = tell(&preserving, &Asked::NOTHING, 0, &own);
    assert_eq!((told, fields.as_str()), (Told::Passed, "Set-Cookie: SRV=mine; path=/x\r\nSet-Cookie: a=b\r\n"));
}

#[test]
fn an_inserted_cookie_has_the_attributes_that_are_asked_for() {
    let attributes = Attributes {
        http_only: true,
        secure: true,
        same_site: Some(SameSite::Lax),
        domain: Some("example.com".into()),
        path: "/app".into(),
    };
    let (_, fields) = tell(&Cookie { attributes, ..cookie(Mode::Insert) }, &Asked::NOTHING, 0, &[]);
    assert_eq!(fields, "Set-Cookie: SRV=s1; path=/app; domain=example.com; HttpOnly; Secure; SameSite=Lax\r\n");
}

#[test]
fn with_nocache_only_responses_that_get_a_cookie_are_private() {
    let cookie = Cookie { nocache: true, ..cookie(Mode::Insert) };
    assert!(tell(&cookie, &Asked::NOTHING, 0, &[]).1.ends_with("Cache-Control: private\r\n"));
    let already = [("cache-control", "max-age=0, Private")];
    assert!(!tell(&cookie, &Asked::NOTHING, 0, &already).1.contains("Cache-Control"));
    assert_eq!(tell(&cookie, &ask(&cookie, &["SRV=s1"]).0, 0, &[]).1, "");
}

#[test]
fn a_cookie_counts_until_it_is_idle_or_old() {
    let seen = |last, first| {
        let (asked, _) = ask(&dated(), &[&format!("SRV={}", dates(last, first))]);
        assert_eq!(asked.server.is_some(), asked.seen == Seen::Known);
        asked.seen
    };
    assert_eq!(seen(NOW, NOW), Seen::Known);
    assert_eq!(seen(NOW - 600, NOW - 3600), Seen::Known);
    assert_eq!(seen(NOW - 608, NOW - 3600), Seen::Expired);
    assert_eq!(seen(NOW, NOW - 3608), Seen::Old);
    assert_eq!(seen(NOW + 100_000, NOW), Seen::Expired);
    assert_eq!(seen(NOW, NOW + 100_000), Seen::Old);
    assert_eq!(ask(&dated(), &["SRV=s2|~~~~~|"]).0.server, Some(1));
}

#[test]
fn dates_are_sent_again_when_they_move_on_and_the_first_stays() {
    let (told, fields) = tell(&dated(), &Asked::NOTHING, 1, &[]);
    assert_eq!((told, fields), (Told::Inserted, format!("Set-Cookie: SRV={}; path=/\r\n", dates(NOW, NOW))));
    let (asked, _) = ask(&dated(), &[&format!("SRV={}", dates(NOW, NOW))]);
    assert_eq!(tell(&dated(), &asked, 1, &[]).0, Told::Nothing);
    let later = tell_at(&dated(), &asked, 1, &[], NOW + 60);
    assert_eq!(later, (Told::Updated, format!("Set-Cookie: SRV={}; path=/\r\n", dates(NOW + 60, NOW))));
    let moved = tell_at(&dated(), &asked, 0, &[], NOW + 60).1;
    assert_eq!(moved, format!("Set-Cookie: SRV={}; path=/\r\n", dates(NOW + 60, NOW + 60).replace("s2", "s1")));
}

#[test]
fn dates_come_and_go_with_the_settings() {
    let (undated, _) = ask(&dated(), &["SRV=s2"]);
    assert_eq!(tell(&dated(), &undated, 1, &[]).0, Told::Updated);
    let plain = cookie(Mode::Insert);
    let (asked, _) = ask(&plain, &[&format!("SRV={}", dates(NOW, NOW))]);
    assert_eq!(tell(&plain, &asked, 1, &[]), (Told::Updated, "Set-Cookie: SRV=s2; path=/\r\n".to_owned()));
}

#[test]
fn a_session_cookie_of_the_server_carries_the_key_as_its_prefix() {
    let cookie = cookie(Mode::Prefix);
    let (asked, _) = ask(&cookie, &["theme=dark"]);
    assert_eq!(tell(&cookie, &asked, 0, &[]), (Told::Nothing, String::new()), "nothing is set at first");
    let set = [("Set-Cookie", "JSESSIONID=0A1B; Path=/; HttpOnly"), ("Set-Cookie", "theme=dark")];
    let (told, fields) = tell(&cookie, &asked, 0, &set);
    assert_eq!(told, Told::Rewritten);
    assert_eq!(fields, "Set-Cookie: JSESSIONID=s1~0A1B; Path=/; HttpOnly\r\nSet-Cookie: theme=dark\r\n");
    let (asked, seen) = ask(&cookie, &["theme=dark; JSESSIONID=s1~0A1B"]);
    assert_eq!((asked.server, seen.as_str()), (Some(0), "cookie: theme=dark; JSESSIONID=0A1B\r\n"));
}

#[test]
fn the_prefix_of_a_server_that_is_gone_is_stripped_too() {
    let (asked, seen) = ask(&cookie(Mode::Prefix), &["JSESSIONID=s9~0A1B"]);
    assert_eq!((asked.server, asked.seen, seen.as_str()), (None, Seen::Unknown, "cookie: JSESSIONID=0A1B\r\n"));
}

#[test]
fn a_value_without_prefix_reaches_the_server_as_it_is() {
    for value in ["JSESSIONID=0A1B", "JSESSIONID=~x", "JSESSIONID=a b~x", "JSESSIONID="] {
        assert_eq!(ask(&cookie(Mode::Prefix), &[value]).1, format!("cookie: {value}\r\n"));
    }
    assert_eq!(ask(&cookie(Mode::Prefix), &["JSESSIONID=s1~a~b"]).1, "cookie: JSESSIONID=a~b\r\n");
}

#[test]
fn prefixes_stand_inside_quotes() {
    let cookie = cookie(Mode::Prefix);
    let set = [("set-cookie", "JSESSIONID = \"a b\" ; Path=/")];
    assert_eq!(tell(&cookie, &Asked::NOTHING, 0, &set).1, "set-cookie: JSESSIONID = \"s1~a b\" ; Path=/\r\n");
    let (asked, seen) = ask(&cookie, &["JSESSIONID=\"s1~a b\"; x=y; JSESSIONID=s2~c"]);
    assert_eq!((asked.server, seen.as_str()), (Some(0), "cookie: JSESSIONID=\"a b\"; x=y; JSESSIONID=c\r\n"));
}

#[test]
fn rewrite_puts_the_key_in_what_the_server_sets_and_sets_nothing_itself() {
    let cookie = cookie(Mode::Rewrite);
    assert_eq!(tell(&cookie, &Asked::NOTHING, 0, &[]), (Told::Nothing, String::new()));
    let set = [("Set-Cookie", "SRV=any; Path=/")];
    let rewritten = (Told::Rewritten, "Set-Cookie: SRV=s2; Path=/\r\n".to_owned());
    assert_eq!(tell(&cookie, &Asked::NOTHING, 1, &set), rewritten);
    let (asked, seen) = ask(&cookie, &["SRV=s2"]);
    assert_eq!((asked.server, seen.as_str()), (Some(1), "cookie: SRV=s2\r\n"));
    let indirect = Cookie { indirect: true, ..cookie };
    assert_eq!(tell(&indirect, &asked, 1, &set), (Told::Deleted, String::new()));
    assert_eq!(tell(&indirect, &asked, 0, &set).0, Told::Rewritten);
}

#[test]
fn passive_leaves_all_to_the_server() {
    let cookie = cookie(Mode::Passive);
    let set = [("Set-Cookie", "SRV=s2; Path=/")];
    assert_eq!(tell(&cookie, &Asked::NOTHING, 1, &set), (Told::Passed, "Set-Cookie: SRV=s2; Path=/\r\n".to_owned()));
    assert_eq!(ask(&cookie, &["SRV=s2"]).0.server, Some(1));
}

fn any_mode() -> impl Strategy<Value = Cookie> {
    let mode = prop_oneof![Just(Mode::Insert), Just(Mode::Prefix), Just(Mode::Rewrite), Just(Mode::Passive)];
    (mode, any::<bool>(), any::<bool>()).prop_map(|(mode, indirect, is_dated)| {
        let limits = if is_dated { dated() } else { cookie(mode) };
        Cookie { indirect, mode, name: "SRV".into(), ..limits }
    })
}

fn hostile_value() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just("SRV=".to_owned()),
            Just("s1".to_owned()),
            Just("~".to_owned()),
            Just("|".to_owned()),
            Just("; ".to_owned()),
            Just("\"".to_owned()),
            Just("=".to_owned()),
            "[ -~é\t]{0,6}",
        ],
        0..14,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn cookies_of_others_reach_the_server_unchanged(cookie in any_mode(), values in proptest::collection::vec(hostile_value(), 0..4)) {
        let is_other = |part: &&str| part.split('=').next().is_none_or(|name| name.trim_matches([' ', '\t']) != "SRV") || !part.contains('=');
        let others = |text: &str| -> Vec<String> {
            text.split(';').filter(is_other).map(|part| part.trim_matches([' ', '\t']).to_owned()).filter(|part| !part.is_empty()).collect()
        };
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let (_, seen) = ask(&cookie, &texts);
        let before: Vec<_> = values.iter().flat_map(|value| others(value)).collect();
        let after: Vec<_> = seen.lines().filter_map(|line| line.strip_prefix("cookie: ")).flat_map(others).collect();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn what_is_told_leads_back_to_the_server(cookie in any_mode(), server in 0..3_usize, set in "[a-zA-Z0-9]{1,9}") {
        let set = if cookie.mode == Mode::Passive { format!("s{}", server + 1) } else { set };
        let (_, fields) = tell(&cookie, &Asked::NOTHING, server, &[("Set-Cookie", &format!("SRV={set}; path=/"))]);
        let pair = fields.trim_start_matches("Set-Cookie: ").split(';').next().expect("a pair");
        prop_assert_eq!(ask(&cookie, &[pair]).0.server, Some(server));
        if cookie.mode == Mode::Prefix {
            prop_assert_eq!(ask(&cookie, &[pair]).1, format!("cookie: SRV={set}\r\n"));
        }
    }

    #[test]
    fn any_set_cookie_is_passed_or_changed_without_a_new_line(cookie in any_mode(), value in hostile_value(), server in 0..5_usize) {
        let (_, fields) = tell(&cookie, &Asked::NOTHING, server, &[("Set-Cookie", &value)]);
        prop_assert!(fields.lines().count() <= 2);
    }

    #[test]
    fn a_derived_key_says_nothing_but_leads_back(service in "[a-z.]{1,20}", names in proptest::collection::btree_set("[a-z0-9-]{1,12}", 1..20)) {
        let all: Vec<Key> = names.iter().map(|name| Key::derive(&Secret::PUBLIC, &service, name)).collect();
        let keys = Keys::from_keys(all.clone()).expect("no two alike");
        for (server, key) in all.iter().enumerate() {
            prop_assert_eq!(keys.server(key.as_str().as_bytes()), Some(server));
        }
    }
}
