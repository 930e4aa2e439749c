//! Sessions through region-proxy, with curl and its cookie jar: plain cookie insert, and JSESSIONID with a prefix.

use std::collections::BTreeSet;

use gslb_tests::harness::curl::{Answer, curl};
use gslb_tests::harness::site::{ROOT, SERVERS, SERVICE, SERVICES, Site};
use serde_json::Value;

type Held = Result<(), String>;

/// A client that keeps its cookies, in a file of this name.
struct Visitor(&'static str);

/// What a visit showed: what the client got, and what the server saw.
#[derive(Debug)]
struct Visit {
    answer: Answer,
    seen: Value,
}

impl Visitor {
    fn visit(&self, site: &Site, path: &str) -> Result<Visit, String> {
        let jar = site.path(self.0).display().to_string();
        let answer = curl(site, &format!("http://{SERVICE}{path}"), &["--cookie", &jar, "--cookie-jar", &jar])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Ok(Visit { seen: answer.json()?, answer })
    }

    /// The value of its cookie `name`.
    fn cookie(&self, site: &Site, name: &str) -> Option<String> {
        let jar = std::fs::read_to_string(site.path(self.0)).ok()?;
        let mut cookies = jar.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let cookie = cookies.find(|cookie| cookie.get(5) == Some(&name))?;
        cookie.get(6).map(|value| (*value).to_owned())
    }
}

impl Visit {
    fn server(&self) -> &str {
        self.seen["server"].as_str().unwrap_or_default()
    }

    /// The values of the field `name` that the server saw.
    fn field(&self, name: &str) -> Vec<&str> {
        self.seen["fields"][name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn set_cookies(&self) -> Vec<&str> {
        self.answer.fields("set-cookie").collect()
    }

    fn saw_the_client(&self) -> bool {
        self.field("x-forwarded-for") == ["127.0.0.1"]
    }
}

fn insert() -> String {
    let stick =
        "stick = { cookie = \"SERVERID\", mode = \"insert\", indirect = true, nocache = true, httponly = true }\n";
    format!("{ROOT}{SERVICES}{stick}")
}

fn prefix() -> String {
    format!("{ROOT}{SERVICES}stick = {{ cookie = \"JSESSIONID\", mode = \"prefix\" }}\n")
}

/// The same without checks, so that a death shows by the next request alone.
fn unchecked(settings: &str) -> String {
    settings.replace("interval = \"50ms\"", "interval = \"1h\"").replace("rise = 2", "rise = 1")
}

#[test]
fn first_answer_sets_a_cookie_and_all_that_follow_stay_with_its_server() -> Held {
    let site = Site::start(&insert())?;
    let client = Visitor("jar");
    let first = client.visit(&site, "/")?;
    let [cookie] = first.set_cookies()[..] else { return Err(format!("one cookie was expected: {first:?}")) };
    assert!(cookie.starts_with("SERVERID=") && cookie.ends_with("; path=/; HttpOnly"), "{cookie}");
    assert!(!cookie.contains(first.server()) && !cookie.contains("127."), "{cookie} tells which server it is");
    assert_eq!(first.answer.fields("cache-control").collect::<Vec<_>>(), ["private"]);
    for _ in 0..12 {
        let next = client.visit(&site, "/shop?page=2")?;
        assert_eq!(next.server(), first.server());
        assert!(next.set_cookies().is_empty() && next.answer.fields("cache-control").next().is_none(), "{next:?}");
        assert!(next.field("cookie").is_empty(), "the server sees nothing of it: {next:?}");
        assert!(next.saw_the_client(), "{next:?}");
    }
    Ok(())
}

#[test]
fn clients_without_a_cookie_come_to_all_servers() -> Held {
    let site = Site::start(&insert())?;
    // Each of the two threads goes round on its own, and one of them has three of the five.
    let jars = ["jar-1", "jar-2", "jar-3", "jar-4", "jar-5"];
    let visits = jars.iter().map(|jar| Visitor(jar).visit(&site, "/"));
    let servers: BTreeSet<String> =
        visits.map(|visit| Ok(visit?.server().to_owned())).collect::<Result<_, String>>()?;
    assert_eq!(servers.len(), SERVERS.len(), "{servers:?}");
    Ok(())
}

#[test]
fn death_of_a_server_moves_its_client_which_stays_when_it_is_back() -> Held {
    let mut site = Site::start(&insert())?;
    let client = Visitor("jar");
    let before = client.visit(&site, "/")?;
    let cookie = client.cookie(&site, "SERVERID");
    site.kill_server(before.server())?;
    // No check has told of it yet, or one has: the client must not notice either way.
    let moved = client.visit(&site, "/")?;
    assert_ne!(moved.server(), before.server());
    assert_eq!(moved.set_cookies().len(), 1, "{moved:?}");
    assert_ne!(client.cookie(&site, "SERVERID"), cookie);
    site.wait_for_servers(2)?;
    assert_eq!(client.visit(&site, "/")?.server(), moved.server());
    site.start_server(before.server())?;
    site.wait_for_servers(3)?;
    for _ in 0..6 {
        let after = client.visit(&site, "/")?;
        assert_eq!(after.server(), moved.server());
        assert!(after.set_cookies().is_empty(), "{after:?}");
    }
    Ok(())
}

#[test]
fn a_death_that_no_check_has_seen_costs_no_request() -> Held {
    for settings in [insert(), prefix()] {
        let mut site = Site::start(&unchecked(&settings))?;
        let client = Visitor("jar");
        let before = client.visit(&site, "/session")?;
        assert_eq!(client.visit(&site, "/session")?.server(), before.server());
        site.kill_server(before.server())?;
        let moved = client.visit(&site, "/session")?;
        assert_ne!(moved.server(), before.server());
        for _ in 0..3 {
            assert_eq!(client.visit(&site, "/session")?.server(), moved.server());
        }
    }
    Ok(())
}

#[test]
fn nothing_is_set_before_the_server_makes_a_session() -> Held {
    let site = Site::start(&prefix())?;
    let client = Visitor("jar");
    for _ in 0..4 {
        let visit = client.visit(&site, "/")?;
        assert!(visit.set_cookies().is_empty() && visit.field("cookie").is_empty(), "{visit:?}");
        assert!(visit.saw_the_client(), "{visit:?}");
    }
    Ok(())
}

#[test]
fn jsessionid_gets_a_prefix_on_its_way_out_and_loses_it_on_its_way_in() -> Held {
    let site = Site::start(&prefix())?;
    let client = Visitor("jar");
    let first = client.visit(&site, "/session/login")?;
    let session = first.seen["session"].as_str().unwrap_or_default();
    let cookie = client.cookie(&site, "JSESSIONID").ok_or("a cookie was expected")?;
    let [set] = first.set_cookies()[..] else { return Err(format!("one cookie was expected: {first:?}")) };
    assert_eq!(set, format!("JSESSIONID={cookie}; Path=/; HttpOnly"), "the attributes stay the server's");
    let (key, value) = cookie.split_once('~').ok_or("a prefix was expected")?;
    assert_eq!(value, session);
    assert!(
        !key.is_empty() && !key.contains(first.server()) && !key.contains("127."),
        "{key} tells which server it is"
    );
    for visits in 2..10 {
        let next = client.visit(&site, "/session/cart")?;
        assert_eq!(
            (next.server(), &next.seen["session"], &next.seen["visits"]),
            (first.server(), &session.into(), &visits.into())
        );
        assert_eq!(next.field("cookie"), [format!("JSESSIONID={session}")]);
        assert!(next.set_cookies().is_empty() && next.saw_the_client(), "{next:?}");
    }
    Ok(())
}

#[test]
fn death_in_the_middle_of_a_session_gives_a_new_one_elsewhere_which_lasts() -> Held {
    let mut site = Site::start(&prefix())?;
    let client = Visitor("jar");
    let before = client.visit(&site, "/session/login")?;
    client.visit(&site, "/session/cart")?;
    site.kill_server(before.server())?;
    let moved = client.visit(&site, "/session/cart")?;
    assert_ne!(moved.server(), before.server());
    assert_eq!(moved.seen["visits"], 1, "the session died with its server");
    assert_eq!(moved.field("cookie"), [format!("JSESSIONID={}", before.seen["session"].as_str().unwrap_or_default())]);
    site.start_server(before.server())?;
    site.wait_for_servers(3)?;
    for visits in 2..8 {
        let after = client.visit(&site, "/session/cart")?;
        assert_eq!((after.server(), &after.seen["visits"]), (moved.server(), &visits.into()));
        assert!(after.set_cookies().is_empty(), "{after:?}");
    }
    Ok(())
}
