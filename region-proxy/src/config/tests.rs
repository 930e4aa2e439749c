use proptest::prelude::*;
use shared::published::ServiceStatus;

use super::*;

const GOOD: &str = r#"
region = "seoul"
proxy = "seoul-1"
listen = ["127.0.1.10:8080", "[::1]:8080"]
status = "127.0.1.11:8081"
vips = ["127.0.1.10"]
admin_token_file = "token"
state_file = "state.json"
default_service = "www.gslb.test"
[services."www.gslb.test"]
servers = { app-1 = "127.0.1.21:9000", app-2 = "127.0.1.22:9000" }
check = { path = "/health", interval = "500ms", time_limit = "2s", rise = 1, fall = 4, status = 204 }
balance = "least_connections"
capacity = 1000
[services."api.gslb.test"]
servers = { api-1 = "127.0.1.23:9000" }
"#;

fn read(text: &str) -> Result<Config, Vec<String>> {
    let secret = |path: &Path| match path.to_str() {
        Some("conf/token") => Ok("0123456789abcdef\n".to_owned()),
        Some("conf/short") => Ok("short".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    Config::parse(Path::new("conf/p.toml"), text, &secret)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn problems(change: impl FnOnce(String) -> String) -> Vec<String> {
    read(&change(GOOD.to_owned())).expect_err("there is a mistake")
}

#[test]
fn the_whole_format_is_read() {
    let config = read(GOOD).expect("no mistake");
    assert_eq!((config.region.as_str(), config.proxy.as_str(), config.retries), ("seoul", "seoul-1", 1));
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.state_file, Some(PathBuf::from("conf/state.json")));
    assert!(config.token.is_some_and(|token| token.reveal() == "0123456789abcdef"));
    let www = &config.services["www.gslb.test"];
    assert_eq!((www.servers.len(), www.capacity, www.balance), (2, Some(1000), Policy::LeastConnections));
    assert_eq!(www.check.probe, Probe::Http { path: "/health".to_owned(), status: 204 });
    assert_eq!((www.check.rise, www.check.fall, www.check.interval), (1, 4, Duration::from_millis(500)));
    assert_eq!(config.services["api.gslb.test"].check.probe, Probe::Connect);
}

#[test]
fn every_mistake_is_reported_with_line_and_key() {
    let text = r#"
region = "Seoul"
listen = []
status = "127.0.0.1"
colour = "red"
retries = 99
admin_token_file = "short"
default_service = "x.test"
[services."www.gslb.test"]
servers = { app-1 = "127.0.1.21:9000", app-2 = "127.0.1.21:9000", App = "127.0.1.29:1" }
check = { path = "health", rise = 0 }
[services."a..b"]
servers = {}
"#;
    let found = read(text).expect_err("there are mistakes");
    let expected = [
        ("conf/p.toml:1: proxy: missing", "its own name"),
        ("conf/p.toml:2: region: \"Seoul\" is not a name", ""),
        ("conf/p.toml:3: listen: empty", "at least one address"),
        ("conf/p.toml:4: status: \"127.0.0.1\" is not", "IP address with port"),
        ("conf/p.toml:5: colour: unknown key", "one of"),
        ("conf/p.toml:6: retries: 99 is not", "from 0 to 10"),
        ("conf/p.toml:7: admin_token_file: conf/short: holds no token", "16 to 1024"),
        ("conf/p.toml:8: default_service: x.test is not a service", "www.gslb.test"),
        ("conf/p.toml:10: services.\"www.gslb.test\".servers.app-2: 127.0.1.21:9000 is already", "app-1"),
        ("conf/p.toml:10: services.\"www.gslb.test\".servers.App: \"App\" is not a name", ""),
        ("conf/p.toml:11: services.\"www.gslb.test\".check.path: \"health\" is not a path", "first slash"),
        ("conf/p.toml:11: services.\"www.gslb.test\".check.rise: 0 is not", "from 1 to 100"),
        ("conf/p.toml:12: services.\"a..b\": \"a..b\" is not an owner name", ""),
        ("conf/p.toml:13: services.\"a..b\".servers: no server", "at least one"),
    ];
    for (start, part) in expected {
        assert!(found.iter().any(|one| one.starts_with(start) && one.contains(part)), "{start} … {part} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_proxy_that_forwards_to_itself_is_a_mistake() {
    let found = problems(|text| text.replace("127.0.1.23:9000", "127.0.1.10:8080"));
    assert!(found.len() == 1 && found[0].contains("api-1: 127.0.1.10:8080 is in `listen`"), "{found:?}");
}

#[test]
fn a_proxy_on_every_address_forwards_to_itself_on_loopback_too() {
    let on_any = |text: String| text.replace("127.0.1.10:8080", "0.0.0.0:8080");
    let found = problems(|text| on_any(text).replace("127.0.1.23:9000", "127.0.0.1:8080"));
    assert!(found.len() == 1 && found[0].contains("api-1: 127.0.0.1:8080 is in `listen`"), "{found:?}");
    assert!(read(&on_any(GOOD.to_owned()).replace("127.0.1.23:9000", "192.0.2.1:8080")).is_ok());
}

#[test]
fn status_needs_an_address_of_its_own() {
    for taken in ["127.0.1.10:8080", "0.0.0.0:8080"] {
        let found = problems(|text| text.replace("127.0.1.11:8081", taken));
        assert!(found.len() == 1 && found[0].contains("status"), "{found:?}");
    }
}

#[test]
fn no_more_services_than_a_status_can_tell_of() {
    let with = |count: usize| {
        let name = |at| format!("[services.\"{at:0>60}.{0}.{0}.{0}\"]\nservers.a = \"192.0.2.1:80\"\n", "x".repeat(63));
        format!("{GOOD}{}", (0..count).map(name).collect::<String>())
    };
    let found = read(&with(2500)).err().unwrap_or_default();
    assert!(found.len() == 1 && found[0].contains(": services: too many"), "{found:?}");
    let config = read(&with(2000)).expect("no mistake");
    let status = ServiceStatus {
        servers_up: u32::MAX,
        servers_total: u32::MAX,
        requests_per_sec: -f64::MIN_POSITIVE,
        connections: u64::MAX,
        capacity: Some(u64::MAX),
    };
    let text = serde_json::to_vec(&config.services.keys().map(|name| (name, status)).collect::<BTreeMap<_, _>>());
    assert!(text.expect("JSON").len() < STATUS_SIZE_MAX);
}

#[test]
fn an_expected_status_needs_a_path() {
    let found = problems(|text| text.replace("path = \"/health\", ", ""));
    assert!(found.len() == 1 && found[0].contains("check.status: without `path`"), "{found:?}");
}

#[test]
fn an_unreadable_token_file_is_a_mistake() {
    let found = problems(|text| text.replace("\"token\"", "\"gone\""));
    assert!(found.len() == 1 && found[0].ends_with("admin_token_file: conf/gone: no such file"), "{found:?}");
}

#[test]
fn the_token_is_never_shown() {
    let config = read(GOOD).expect("no mistake");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let old = read(GOOD).expect("no mistake");
    let new =
        read(&GOOD.replace("127.0.1.11:8081", "127.0.1.11:8082").replace("capacity = 1000", "")).expect("no mistake");
    assert_eq!(old.restart_keys(&new), ["status"]);
    assert!(old.restart_keys(&old).is_empty());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_reasons(text in "\\PC{0,80}") {
        prop_assert!(read(&text).is_err_and(|found| !found.is_empty()));
    }

    #[test]
    fn any_damage_is_read_or_refused_with_reasons(at in 0..GOOD.len(), len in 0..40_usize, put in "[ -~\n]{0,6}") {
        let end = (at + len).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(found) = read(&text) {
            prop_assert!(!found.is_empty());
        }
    }
}
