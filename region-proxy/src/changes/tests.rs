use std::path::Path;

use proptest::prelude::*;

use super::*;

/// A service `s` of which `servers` are the lines.
fn config(servers: &str) -> Config {
    let text = format!(
        "region = \"r\"\nproxy = \"p\"\nlisten = [\"127.0.0.1:80\"]\nstatus = \"127.0.0.1:81\"\n\
         [services.s]\nstick = {{ cookie = \"SRV\", mode = \"insert\" }}\n[services.s.servers]\n{servers}"
    );
    Config::parse(Path::new("p.toml"), &text, &|_| Err(String::new())).expect("right")
}

const TWO: &str = "a = \"192.0.2.1:80\"\nb = { address = \"192.0.2.2:80\", key = \"blue\" }\n";

fn changes(json: &str) -> Changes {
    serde_json::from_str(json).expect("changes")
}

fn names(config: &Config) -> Vec<&str> {
    config.services["s"].servers.keys().map(ServerName::as_str).collect()
}

fn key<'c>(config: &'c Config, server: &str) -> &'c str {
    let service = &config.services["s"];
    let index = service.servers.keys().position(|name| name.as_str() == server).expect("a server");
    service.keys.of(index).expect("a key").as_str()
}

fn dropped(file: &Config, json: &str) -> String {
    let laid = changes(json).over(file);
    assert_eq!((&laid.config, laid.changes.count(), laid.dropped.len()), (file, 0, 1), "{:?}", laid.dropped);
    laid.dropped[0].to_string()
}

#[test]
fn without_changes_the_settings_hold() {
    let file = config(TWO);
    let laid = Changes::default().over(&file);
    assert!(laid.config == file && laid.changes.is_empty() && laid.dropped.is_empty());
}

#[test]
fn servers_come_and_go_and_each_keeps_its_key() {
    let file = config(TWO);
    let laid =
        changes(r#"{"s": {"a": {"is_removed": true}, "aa": {"added": {"address": "192.0.2.1:80"}}}}"#).over(&file);
    assert_eq!((names(&laid.config), laid.dropped.len()), (vec!["aa", "b"], 0), "the address is free again");
    assert_eq!(key(&laid.config, "b"), "blue");
    let like_in_a_file = config(&TWO.replace("a =", "aa ="));
    assert_eq!(key(&laid.config, "aa"), key(&like_in_a_file, "aa"));
    assert_eq!(laid.config.services["s"].servers, like_in_a_file.services["s"].servers);
}

#[test]
fn a_reload_keeps_what_has_a_meaning_and_tells_what_has_none() {
    let all = changes(
        r#"{"s": {"a": {"mode": "drain", "weight": 3}, "b": {"is_removed": true}, "c": {"added": {"address": "192.0.2.3:80"}}}}"#,
    );
    let laid = all.over(&config("a = \"192.0.2.9:80\"\nc = \"192.0.2.4:80\"\n"));
    assert_eq!(laid.changes.order("s", "a"), Order { mode: Some(Mode::Drain), weight: Some(3) });
    assert_eq!(laid.changes.count(), 1);
    let told: Vec<_> = laid.dropped.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("b is not a server of s: expected one of a, c"), "{told:?}");
    assert!(told[1].contains("c is in the settings of s already"), "{told:?}");
}

#[test]
fn what_cannot_be_says_what_would_be_right() {
    let file = config(TWO);
    let add = |rest: &str| dropped(&file, &format!("{{\"s\": {{\"c\": {{\"added\": {{{rest}}}}}}}}}"));
    for (rest, what) in [
        ("\"address\": \"192.0.2.1:80\"", "address: 192.0.2.1:80 is already the address of a"),
        ("\"address\": \"127.0.0.1:80\"", "is in `listen`"),
        ("\"address\": \"0.0.0.0:80\"", "expected a server's own address and port"),
        ("\"address\": \"192.0.2.3:80\", \"weight\": 257", "weight: 257: expected a whole number from 0 to 256"),
        ("\"address\": \"192.0.2.3:80\", \"connections\": 0", "from 1 to 1000000"),
        ("\"address\": \"192.0.2.3:80\", \"key\": \"a b\"", "not a key"),
        ("\"address\": \"192.0.2.3:80\", \"key\": \"blue\"", "b and c have the same"),
    ] {
        let told = add(rest);
        assert!(told.starts_with("c: ") && told.contains(what), "{told}");
    }
    assert!(dropped(&file, r#"{"s": {"a": {"weight": 257}}}"#).contains("0 to 256"));
    assert!(dropped(&file, r#"{"t": {"a": {"weight": 1}}}"#).contains("t is not a service: expected one of s"));
}

#[test]
fn the_last_server_that_is_no_backup_cannot_go() {
    let file = config("a = \"192.0.2.1:80\"\nb = { address = \"192.0.2.2:80\", backup = true }\n");
    assert!(dropped(&file, r#"{"s": {"a": {"is_removed": true}}}"#).contains("maintenance instead"));
}

#[test]
fn a_change_that_says_nothing_is_none() {
    let mut changes = changes(r#"{"s": {"a": {"weight": 1}}}"#);
    let (service, server) = (OwnerName::parse("s").expect("a name"), ServerName::parse("a").expect("a name"));
    changes.set(&service, &server, Change::default());
    assert!(changes.is_empty());
    assert_eq!(serde_json::to_string(&changes).expect("JSON"), "{}");
}

fn any_change() -> impl Strategy<Value = Change> {
    let mode = prop::option::of(prop::sample::select(vec![Mode::Ready, Mode::Drain, Mode::Maintenance]));
    let added = (0_u8..8, any::<u16>(), any::<bool>(), prop::option::of(0..3_u32)).prop_map(
        |(host, weight, backup, connections)| {
            let (address, key, check) = (SocketAddr::from(([192, 0, 2, host], 80)), None, None);
            Added { address, weight, backup, connections, key, check }
        },
    );
    let parts = (mode, prop::option::of(0..300_u16), prop::option::of(added), any::<bool>());
    parts.prop_map(|(mode, weight, added, is_removed)| Change { mode, weight, added, is_removed })
}

proptest! {
    #[test]
    fn whatever_was_changed_what_is_left_has_a_meaning(list in prop::collection::vec(("[a-e]", any_change()), 0..8)) {
        let file = config(TWO);
        let mut changes = Changes::default();
        let service = OwnerName::parse("s").expect("a name");
        for (name, change) in list {
            changes.set(&service, &ServerName::parse(&name).expect("a name"), change);
        }
        let laid = changes.over(&file);
        let again = laid.changes.over(&file);
        prop_assert!(again.dropped.is_empty() && again.config == laid.config && again.changes == laid.changes);
        let servers = &laid.config.services["s"].servers;
        prop_assert!(servers.values().any(|server| !server.is_backup));
        prop_assert!(servers.values().all(|server| server.weight <= WEIGHT_MAX));
        let read: Changes = serde_json::from_str(&serde_json::to_string(&changes).expect("JSON")).expect("read");
        prop_assert_eq!(read, changes);
    }
}
