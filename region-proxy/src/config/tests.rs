use std::time::Duration;

use proptest::prelude::*;
use shared::moment::Moment;
use shared::published::{STATUS_SIZE_MAX, ServiceStatus};

use super::*;
use crate::balance::hash::HashOf;
use crate::balance::{Ask, Choice, Drained, Policy, Sticky};
use crate::forwarded::{Family, Untrusted};
use crate::network::Prefixes;
use crate::routes::Action;
use crate::stick::table::Bounds;
use crate::stick::{Mode, Stick};

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
    assert_eq!((www.servers.len(), www.capacity, www.balance.rules.policy), (2, Some(1000), Policy::LeastConnections));
    let Probe::Http(question) = &www.check.probe else { panic!("{:?}", www.check.probe) };
    assert!(&*question.path == "/health" && question.statuses.has(204) && !question.statuses.has(200));
    assert_eq!((www.check.rise, www.check.fall, www.check.interval), (1, 4, Duration::from_millis(500)));
    assert_eq!(config.services["api.gslb.test"].check.probe, Probe::Connect);
}

const RICH: &str = r#"
region = "seoul"
proxy = "seoul-1"
listen = ["127.0.1.10:8080", "127.0.1.10:8081"]
status = "127.0.1.11:8081"
cookie_secret_file = "token"
[forwarded]
trusted = ["192.0.2.0/24", "2001:db8::/32"]
read = "forwarded"
write = ["x_forwarded", "forwarded"]
untrusted = "keep"
[proxy_protocol]
listen = ["127.0.1.10:8081"]
from = ["198.51.100.7"]
[[routes]]
host = ["shop.example.com", "*.shop.example.com"]
redirect = "https"
status = 301
port = 8443
[[routes]]
path = "/api/"
method = "GET"
header = { X-Beta = "1", Accept = true }
service = "api.gslb.test"
request = { set = { X-Pool = "api" }, remove = ["X-Debug"] }
response = { add = { Strict-Transport-Security = "max-age=31536000" }, remove = "Server" }
[services."www.gslb.test"]
balance = "hash"
hash = "header:X-User"
hash_bound = 0
slow_start = "30s"
drained = "move"
send_proxy = "v2"
queue = { length = 10, time_limit = "2s" }
retry_budget = { percent = 5, per_second = 1 }
stick = { cookie = "SRV", mode = "insert", indirect = true, nocache = true, preserve = true, httponly = true, secure = true, samesite = "none", domain = ".Example.com", path = "/app", maxidle = "30m", maxlife = "8h" }
[services."www.gslb.test".servers]
app-1 = "127.0.1.21:9000"
app-2 = { address = "127.0.1.22:9000", weight = 3, connections = 100, key = "two" }
app-3 = { address = "127.0.1.23:9000", weight = 0, backup = true }
[services."api.gslb.test"]
servers = { api-1 = "127.0.1.24:9000" }
stick = "source"
source_prefix = { ipv4 = 24, ipv6 = 48 }
"#;

#[test]
fn stickiness_and_balancing_are_read() {
    let config = read(RICH).expect("no mistake");
    let www = &config.services["www.gslb.test"];
    let rules = www.balance.rules;
    assert_eq!((rules.policy, rules.bound_percent, rules.waiting_max), (Policy::Hash, None, 10));
    assert_eq!((rules.slow_start, rules.drained), (Duration::from_secs(30), Drained::MovesClients));
    assert_eq!(www.balance.hash, HashOf::Header("X-User".into()));
    assert_eq!((www.balance.queue_time, www.balance.retries.percent), (Duration::from_secs(2), 5));
    let Some(Stick::Cookie(cookie)) = &www.stick else { panic!("{:?}", www.stick) };
    assert_eq!((&*cookie.name, cookie.mode, cookie.max_life), ("SRV", Mode::Insert, Some(Duration::from_secs(28_800))));
    assert!(cookie.indirect && cookie.nocache && cookie.preserve && cookie.attributes.secure);
    assert_eq!(cookie.attributes.domain.as_deref(), Some("example.com"));
    assert_eq!((www.keys.server(b"two"), www.send_proxy), (Some(1), Some(ProxyHeader::V2)));
    let two = &www.servers["app-2"];
    assert_eq!((two.weight, two.connections, www.servers["app-3"].is_backup), (3, Some(100), true));
    let prefixes = Prefixes { ipv4: 24, ipv6: 48 };
    assert_eq!(config.services["api.gslb.test"].stick, Some(Stick::Source(prefixes)));
}

#[test]
fn what_is_believed_of_peers_is_read() {
    let config = read(RICH).expect("no mistake");
    let forwarded = &config.forwarded;
    assert!(forwarded.is_trusted("192.0.2.9".parse().expect("an address")));
    assert_eq!((forwarded.read, forwarded.untrusted), (Family::Forwarded, Untrusted::Kept));
    assert!(forwarded.writes_x_forwarded && forwarded.writes_forwarded);
    assert_eq!(config.proxy_protocol.listen, [config.listen[1]]);
    assert_eq!(config.proxy_protocol.from.len(), 1);
}

#[test]
fn routes_are_read_in_their_order() {
    let config = read(RICH).expect("no mistake");
    let [redirect, api] = &config.routes.routes[..] else { panic!("{:?}", config.routes) };
    assert_eq!(redirect.action, Action::RedirectToHttps { status: 301, port: 8443 });
    assert_eq!(redirect.hosts.len(), 2);
    assert!(matches!(&api.action, Action::Service(name) if name.as_str() == "api.gslb.test"));
    assert_eq!((api.methods.len(), api.fields.len(), api.request.set.len(), api.response.remove.len()), (1, 2, 1, 1));
}

#[test]
fn without_a_secret_keys_are_the_same_in_every_proxy_and_with_one_they_are_its_own() {
    let keys = |text: &str| read(text).expect("no mistake").services["www.gslb.test"].keys.clone();
    assert_eq!(keys(GOOD), keys(&GOOD.replace("seoul-1", "seoul-2")));
    assert_ne!(keys(GOOD), keys(&GOOD.replace("state_file = \"state.json\"", "cookie_secret_file = \"token\"")));
}

#[test]
fn a_balancer_has_the_servers_in_the_order_of_their_names() {
    let config = read(
        &RICH
            .replace("drained = \"move\"", "")
            .replace("balance = \"hash\"\nhash = \"header:X-User\"\nhash_bound = 0", ""),
    )
    .expect("no mistake");
    let mut balancer = config.services["www.gslb.test"].balancer(2, 0);
    let ask = Ask { sticky: Sticky::Server(2), hash: None, tried: &[] };
    assert_eq!(balancer.choose(&ask, Moment::START, 0), Choice::Server(2));
    let free = Ask { sticky: Sticky::Nothing, ..ask };
    let chosen = (0..8).filter(|_| balancer.choose(&free, Moment::START, 0) == Choice::Server(1)).count();
    assert_eq!(chosen, 6, "three of four");
}

#[test]
fn each_mistake_in_them_says_what_would_be_right() {
    for (right, wrong, place, part) in [
        ("\"SRV\"", "\"a b\"", "stick.cookie: \"a b\" is not the name of a cookie", "letters"),
        ("mode = \"insert\"", "mode = \"x\"", "stick.mode: \"x\" is not", "\"insert\" or \"prefix\""),
        ("mode = \"insert\", ", "", "stick.mode: missing", "\"insert\""),
        ("secure = true, ", "", "stick.samesite: browsers refuse", "secure"),
        ("\"SRV\"", "\"__Host-SRV\"", "stick.cookie: browsers refuse", "`domain`"),
        ("/app", "app", "stick.path: \"app\" is not a path", "first slash"),
        ("/app", "/a;b", "stick.path: \"/a;b\" is not a path", "semicolons"),
        (".Example.com", "a b", "stick.domain: \"a b\" is not an owner name", "labels"),
        ("\"30m\"", "30", "stick.maxidle: 30 is not a time", "from 1s"),
        ("\"two\"", "\"a~b\"", "servers.app-2.key: not a key", "1 to 32"),
        ("weight = 3", "weight = 257", "servers.app-2.weight: 257 is not", "from 0 to 256"),
        ("connections = 100", "connections = 0", "servers.app-2.connections: 0 is not", "from 1"),
        ("balance = \"hash\"", "balance = \"first\"", "hash: nothing is hashed", "`balance = \"hash\"`"),
        ("hash_bound = 0", "hash_bound = 99", "hash_bound: 99 per cent", "100 to 1000"),
        ("header:X-User", "header:", "hash: \"header:\" is not", "\"header:NAME\""),
        ("stick = \"source\"", "stick = \"x\"", "stick: \"x\" is not \"source\"", "a table"),
        ("ipv4 = 24", "ipv4 = 0", "source_prefix.ipv4: 0 is not", "from 1 to 32"),
        ("\"192.0.2.0/24\"", "\"192.0.2.1/24\"", "forwarded.trusted[0]: not the start of a network", "192.0.2.0/24"),
        ("read = \"forwarded\"", "read = \"x\"", "forwarded.read: \"x\" is not", "\"x_forwarded\""),
        (
            "[\"127.0.1.10:8081\"]",
            "[\"127.0.1.10:8082\"]",
            "proxy_protocol.listen[0]: 127.0.1.10:8082 is not in",
            "one of its",
        ),
        ("send_proxy = \"v2\"", "send_proxy = \"v3\"", "send_proxy: \"v3\" is not", "\"v1\" or \"v2\""),
        ("status = 301", "status = 304", "routes[0].status: 304 redirects nobody", "308"),
        ("redirect = \"https\"\n", "", "routes[0].status: nothing is redirected", "`redirect = \"https\"`"),
        ("port = 8443", "service = \"api.gslb.test\"", "routes[0].redirect: a request is either", "no `service`"),
        ("*.shop", "*shop", "routes[0].host[1]: \"*shop.example.com\" is not an owner name", "labels"),
        ("/api/", "/api?x", "routes[1].path: \"/api?x\" is not a path", "without query"),
        ("\"GET\"", "[]", "routes[1].method: empty", "at least a method"),
        (
            "service = \"api.gslb.test\"",
            "service = \"x.test\"",
            "routes[1].service: x.test is not a service",
            "www.gslb.test",
        ),
        ("X-Pool = \"api\"", "Host = \"x\"", "routes[1].request.set.Host: Host is the proxy's own", "another"),
        ("\"max-age=31536000\"", "\"a\\nb\"", "Strict-Transport-Security: \"a\\nb\" is not the value", "printable"),
        ("Accept = true", "Accept = false", "routes[1].header.Accept: ", "true for any"),
        ("X-Beta =", "\"X Beta\" =", "\"X Beta\" is not the name of a field", "hyphens"),
        ("length = 10", "lenght = 10", "queue.lenght: unknown key", "length"),
    ] {
        let text = RICH.replace(right, wrong);
        assert_ne!(text, RICH, "{right}");
        let found = read(&text).expect_err(wrong);
        assert!(found.iter().any(|one| one.contains(place) && one.contains(part)), "{place} … {part} in {found:#?}");
    }
}

#[test]
fn one_mistake_in_stick_makes_no_other_key_unknown() {
    let with = |stick: &str| read(&RICH.replace("stick = \"source\"", &format!("stick = {stick}"))).err();
    let more = "indirect = true, nocache = true, preserve = true, httponly = true, secure = true, \
                samesite = \"lax\", domain = \"example.com\", path = \"/\", maxidle = \"1h\", maxlife = \"2h\"";
    for (stick, key) in [
        (format!("{{ cookie = \"S\", mode = \"x\", {more} }}"), "stick.mode: \"x\""),
        (format!("{{ cookie = \"S\", {more} }}"), "stick.mode: missing"),
        (format!("{{ cookie = \"a b\", mode = \"insert\", {more} }}"), "stick.cookie: \"a b\""),
        ("{ by = \"x\", lifetime = \"30m\", entries = 5000 }".to_owned(), "stick.by: \"x\""),
        ("\"x\"".to_owned(), "stick: \"x\""),
    ] {
        let found = with(&stick).unwrap_or_default();
        assert!(found.len() == 1 && found[0].contains(key), "{stick}: {found:#?}");
    }
}

#[test]
fn options_that_mean_nothing_in_a_mode_are_mistakes() {
    let with = |stick: &str| {
        let found = read(&RICH.replace("stick = \"source\"", &format!("stick = {{ cookie = \"S\", {stick} }}")));
        found.err().unwrap_or_default()
    };
    assert!(with("mode = \"prefix\"").is_empty());
    assert!(with("mode = \"rewrite\", indirect = true, preserve = true").is_empty());
    for (stick, key) in [
        ("mode = \"prefix\", indirect = true", "stick.indirect: "),
        ("mode = \"rewrite\", preserve = true", "stick.preserve: "),
        ("mode = \"prefix\", maxidle = \"1h\"", "stick.maxidle: "),
        ("mode = \"rewrite\", secure = true", "stick.secure: "),
        ("mode = \"passive\"", "stick: passive, but api-1 has no `key`"),
    ] {
        let found = with(stick);
        assert!(found.len() == 1 && found[0].contains(key), "{stick}: {found:#?}");
    }
}

#[test]
fn servers_that_cannot_be_told_apart_or_are_all_backups_are_mistakes() {
    let found = read(&RICH.replace("weight = 0, backup = true", "key = \"two\"")).expect_err("one key twice");
    assert!(found.len() == 1 && found[0].contains("servers: app-2 and app-3 have the same `key`"), "{found:?}");
    let all = "{ api-1 = { address = \"127.0.1.24:9000\", backup = true } }";
    let found = read(&RICH.replace("{ api-1 = \"127.0.1.24:9000\" }", all)).expect_err("only backups");
    assert!(found.len() == 1 && found[0].contains("servers: all are backups"), "{found:?}");
}

#[test]
fn a_stick_table_has_a_lifetime_and_a_bound() {
    let with = |stick: &str| read(&RICH.replace("stick = \"source\"", &format!("stick = {{ {stick} }}")));
    let stick = |text: &str| with(text).expect("right").services["api.gslb.test"].stick.clone();
    let bounds = Bounds { lifetime: Duration::from_secs(3600), entries: 5000 };
    let prefixes = Prefixes { ipv4: 24, ipv6: 48 };
    assert_eq!(stick("by = \"source\", lifetime = \"1h\", entries = 5000"), Some(Stick::Table(prefixes, bounds)));
    assert_eq!(stick("by = \"source\""), Some(Stick::Table(prefixes, Bounds::default())));
    for (wrong, expected) in [
        ("by = \"cookie\"", "stick.by: \"cookie\" is not"),
        ("by = \"source\", lifetime = \"90d\"", "stick.lifetime: \"90d\" is not a time"),
        ("by = \"source\", entries = 10", "stick.entries: 10 is not"),
        ("by = \"source\", mode = \"insert\"", "stick.mode: unknown key"),
    ] {
        let found = with(wrong).expect_err(wrong);
        assert!(found.len() == 1 && found[0].contains(expected), "{wrong}: {found:#?}");
    }
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
        ("conf/p.toml:4: status: \"127.0.0.1\" is not", "names are not looked up"),
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
fn a_mistake_in_a_route_makes_no_other_key_of_it_unknown() {
    let route = "[[routes]]\npath = \"api\"\nservice = \"api.gslb.test\"\nbody_octets = 1\nrequest = { remove = [] }\n";
    let found = problems(|text| text.replace("[services.\"www", &format!("{route}[services.\"www")));
    let [path, remove] = &found[..] else { panic!("{found:#?}") };
    assert!(path.contains("routes[0].path: \"api\" is not a path") && remove.contains("remove: empty"), "{found:#?}");
}

#[test]
fn what_is_not_toml_is_all_that_is_told_of_a_text() {
    let found = problems(|text| text.replace("proxy = \"seoul-1\"", "proxy = \"seoul-1"));
    assert!(!found.is_empty() && found.iter().all(|problem| problem.contains("not TOML")), "{found:#?}");
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

const TLS: &str = r#"
[tls]
listen = ["127.0.1.10:8443"]
min_version = "1.3"
client_certificates = { ca = "clients.pem", required = false }
[[tls.certificates]]
certificate = "one.pem"
key = "one.key"
[[tls.certificates]]
certificate = "/etc/two.pem"
key = "two.key"
ocsp = "two.ocsp"
"#;

#[test]
fn tls_is_read_and_may_stand_alone() {
    let alone = format!("{}{TLS}", GOOD.replace("listen = [\"127.0.1.10:8080\", \"[::1]:8080\"]\n", ""));
    let config = read(&alone).expect("no mistake");
    assert!(config.listen.is_empty() && config.tls_listen() == ["127.0.1.10:8443".parse().expect("an address")]);
    let tls = config.tls.expect("it is there");
    assert_eq!((tls.min_version, tls.certificates.len()), (TlsVersion::V13, 2));
    assert_eq!(tls.certificates[1].certificate, Path::new("/etc/two.pem"));
    assert_eq!(tls.clients.as_ref().map(|clients| clients.is_required), Some(false));
    let files: Vec<_> = tls.files().map(|file| file.display().to_string()).collect();
    let expected =
        ["conf/one.pem", "conf/one.key", "/etc/two.pem", "conf/two.key", "conf/two.ocsp", "conf/clients.pem"];
    assert_eq!(files, expected);
}

#[test]
fn each_mistake_in_tls_says_what_would_be_right() {
    for (right, wrong, expected) in [
        ("listen = [\"127.0.1.10:8443\"]", "", "tls.listen: missing: expected a list of addresses"),
        ("127.0.1.10:8443", "127.0.1.10:8080", "tls.listen: 127.0.1.10:8080 is in `listen` of the root too"),
        ("127.0.1.10:8443", "127.0.1.11:8081", "status: 127.0.1.11:8081 is in `listen` too"),
        ("127.0.1.10:8443", "127.0.1.21:9000", "servers.app-1: 127.0.1.21:9000 is in `listen`"),
        ("\"1.3\"", "\"1.1\"", "tls.min_version: \"1.1\" is not \"1.2\" or \"1.3\""),
        ("ca = \"clients.pem\", ", "", "tls.client_certificates.ca: missing: expected the file"),
        ("key = \"one.key\"", "", "tls.certificates[0].key: missing: expected the file of its private key"),
        ("\"/etc/two.pem\"", "\"\"", "tls.certificates[1].certificate: empty: expected a path"),
        ("ocsp =", "staple =", "tls.certificates[1].staple: unknown key: expected one of certificate, key, ocsp"),
    ] {
        let found = read(&format!("{GOOD}{}", TLS.replace(right, wrong))).expect_err(wrong);
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    let none = format!("{GOOD}[tls]\nlisten = [\"127.0.1.10:8443\"]\n");
    let found = read(&none).expect_err("no certificate");
    assert!(
        found[0].contains("tls.certificates: missing: expected at least one, as [[tls.certificates]]"),
        "{found:?}"
    );
    let found = read(&format!("{none}certificates = []\n")).expect_err("no certificate");
    assert!(found[0].contains("tls.certificates: empty"), "{found:?}");
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
    fn any_damage_is_read_or_refused_with_reasons(at in 0..RICH.len(), len in 0..40_usize, put in "[ -~\n]{0,6}") {
        let end = (at + len).min(RICH.len());
        let text = format!("{}{put}{}", &RICH[..at], &RICH[end..]);
        if let Err(found) = read(&text) {
            prop_assert!(!found.is_empty());
        }
    }
}

/// What a check, an agent and an observation with these keys lead to, or the mistakes in them.
fn checked(keys: &str) -> Result<ServiceConfig, Vec<String>> {
    read(&GOOD.replace("[services.\"api.gslb.test\"]\n", &format!("[services.\"api.gslb.test\"]\n{keys}\n")))
        .map(|config| config.services["api.gslb.test"].clone())
}

#[test]
fn a_check_asks_what_it_is_told_and_takes_the_answers_that_are_right() {
    let service = checked(
        r#"check = { method = "POST", path = "/ready?deep=1", host = "db.example.com:8080", fields = { X-Check = "1" },
           status = ["200-299", 304, "404"], body_matches = "^ok \\d+$", body_octets = 100, port = 9001,
           address = "192.0.2.9", fast_interval = "100ms", down_interval = "5s" }"#
            .replace('\n', " ")
            .as_str(),
    )
    .expect("no mistake");
    let Probe::Http(question) = &service.check.probe else { panic!("{:?}", service.check.probe) };
    assert_eq!((&*question.method, question.host.as_deref()), ("POST", Some("db.example.com:8080")));
    assert_eq!([200, 299, 304, 404].map(|status| question.statuses.has(status)), [true; 4]);
    assert_eq!([300, 303, 305, 500].map(|status| question.statuses.has(status)), [false; 4]);
    assert_eq!(question.statuses.to_string(), "200-299 or 304 or 404");
    let body = question.body.as_ref().expect("a pattern");
    assert!(body.is_in(b"ok 12") && !body.is_in(b"ok \xff") && !body.is_in(b"not ok 12"));
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    assert_eq!(service.check.place.of(address).to_string(), "192.0.2.9:9001");
    let second = Duration::from_secs(1);
    assert_eq!((service.check.interval, service.check.fast_interval), (second, second / 10));
    assert_eq!(service.check.down_interval, 5 * second);
}

#[test]
fn traffic_is_observed_and_agents_are_asked_only_where_that_is_said() {
    let service = checked("").expect("no mistake");
    assert!(service.agent.is_none() && service.observe.is_none());
    let service = checked("observe = {}\nagent = { port = 9777, send = \"app\\n\" }").expect("no mistake");
    let observe = service.observe.expect("observed");
    assert_eq!((observe.limits.in_a_row, observe.limits.share, observe.then), (Some(10), None, Then::Down));
    let agent = service.agent.expect("an agent");
    assert_eq!((agent.place.port, &*agent.send, agent.interval), (Some(9777), "app\n", Duration::from_secs(2)));
    let service = checked("observe = { percent = 50, statuses = true, then = \"check\" }").expect("no mistake");
    let observe = service.observe.expect("observed");
    assert!(observe.limits.in_a_row.is_none() && observe.counts_statuses && observe.then == Then::Check);
    assert_eq!(observe.limits.share.map(|share| (share.percent, share.requests)), Some((50, 20)));
}

#[test]
fn mistakes_about_health_say_what_would_be_right() {
    for (keys, key, right) in [
        ("check = { body = \"ok\" }", "check.body: without `path`", "expected `path` too"),
        ("check = { path = \"/\", body_matches = \"(\" }", "check.body_matches: not a regular expression", "\"^ok\""),
        ("check = { path = \"/\", body_matches = \"(\\\\w{100}){100}{100}\" }", "check.body_matches:", "expected"),
        ("check = { path = \"/\", body = \"a\", body_matches = \"b\" }", "check.body:", "one of them"),
        ("check = { path = \"/\", body = \"a\", method = \"HEAD\" }", "check.method:", "another method"),
        ("check = { path = \"/\", method = \"CONNECT\" }", "check.method:", "\"GET\""),
        ("check = { path = \"/\", host = \"a b\" }", "check.host:", "\"www.example.com\""),
        ("check = { path = \"/\", status = \"399-200\" }", "check.status:", "\"200-399\""),
        ("check = { path = \"/\", status = [] }", "check.status: empty", "a range"),
        ("check = { path = \"/\", status = [200, 600] }", "check.status[1]:", "200 to 599"),
        ("check = { path = \"/\", fields = { Host = \"a\" } }", "check.fields.Host:", "another field"),
        ("check = { path = \"/\", body_octets = 1048577 }", "check.body_octets:", "1 to 1048576"),
        ("check = { port = 0 }", "check.port:", "1 to 65535"),
        ("check = { address = \"0.0.0.0\" }", "check.address:", "without port"),
        ("agent = {}", "agent.port: missing", "where the agents"),
        ("observe = { window = \"1s\" }", "observe.window:", "`percent` too"),
        ("observe = { failures = 0 }", "observe.failures:", "1 to 1000000"),
        ("observe = { then = \"kill\" }", "observe.then:", "\"down\" or \"check\""),
    ] {
        let found = checked(keys).expect_err(keys);
        assert!(found.len() == 1 && found[0].contains(key) && found[0].contains(right), "{keys}: {found:?}");
    }
}

#[test]
fn a_server_may_start_drained_and_be_checked_elsewhere() {
    let text = GOOD.replace(
        "api-1 = \"127.0.1.23:9000\"",
        "api-1 = { address = \"127.0.1.23:9000\", mode = \"drain\", check = \"127.0.1.24:9001\" }",
    );
    let server = &read(&text).expect("no mistake").services["api.gslb.test"].servers["api-1"];
    assert_eq!(server.mode, crate::balance::Mode::Drain);
    assert_eq!(server.check, Some(SocketAddr::from(([127, 0, 1, 24], 9001))));
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let long = problems(|text| format!("admin_socket = \"{}\"\n{text}", "x".repeat(101)));
    assert!(long.len() == 1 && long[0].contains("admin_socket:") && long[0].contains("at most 100"), "{long:?}");
    let config = read(&format!("admin_socket = \"admin.sock\"\n{GOOD}")).expect("no mistake");
    assert_eq!(config.admin_socket.as_deref(), Some(Path::new("conf/admin.sock")));
}

fn peers_of(proxies: &str) -> Result<Config, String> {
    let text = format!(
        "region = \"r\"\nproxy = \"a\"\nlisten = [\"192.0.2.10:80\"]\nstatus = \"192.0.2.1:81\"\n\
         services.s.servers.one = \"192.0.2.21:80\"\n[peers]\nsecret_file = \"secret\"\nproxies = {proxies}\n"
    );
    let read = Config::parse(Path::new("p.toml"), &text, &|_| Ok("0123456789abcdef".to_owned()));
    read.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[test]
fn peers_are_all_who_are_named_but_oneself() {
    let config = peers_of("{ a = \"192.0.2.1:82\", b = \"192.0.2.2:82\", c = \"192.0.2.3:82\" }").expect("right");
    let peers = config.peers.expect("peers");
    assert_eq!(peers.own.to_string(), "192.0.2.1:82");
    assert_eq!(peers.others.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert!(config.secret_files.iter().any(|file| file.ends_with("secret")), "its mode is looked at");
}

#[test]
fn mistakes_in_peers_are_told_with_what_would_be_right() {
    let many: Vec<_> = (1..=9).map(|one| format!("b{one} = \"192.0.2.{}:82\"", 100 + one)).collect();
    for (proxies, expected) in [
        ("{ b = \"192.0.2.2:82\" }", "a is not among them"),
        ("{ a = \"192.0.2.1:82\" }", "nobody else"),
        ("{ a = \"192.0.2.1:82\", b = \"192.0.2.1:82\" }", "192.0.2.1:82 is there twice"),
        ("{ a = \"192.0.2.1:82\", b = \"[2001:db8::2]:82\" }", "all of them to be IPv4, or all IPv6"),
        ("{ a = \"192.0.2.1:81\", b = \"192.0.2.2:82\" }", "192.0.2.1:81 is listened on already"),
        ("{ a = \"192.0.2.10:80\", b = \"192.0.2.2:82\" }", "192.0.2.10:80 is listened on already"),
        ("{ a = \"0.0.0.0:82\", b = \"192.0.2.2:82\" }", "the address of one machine"),
        ("{ a = \"192.0.2.1:82\", b = \"192.0.2.2:0\" }", "the address of one machine, and a port"),
        ("{ a = \"192.0.2.1:82\", b = \"b.example.com:82\" }", "is not an IP address with port"),
        ("{ a = \"192.0.2.1:82\", B_ = \"192.0.2.2:82\" }", "is not a name"),
        (&format!("{{ a = \"192.0.2.1:82\", {} }}", many.join(", ")), "9 beside this one: expected 8 at most"),
        ("[\"192.0.2.1:82\"]", "table"),
    ] {
        let problems = peers_of(proxies).expect_err(proxies);
        assert!(problems.contains(expected) && problems.contains("p.toml:"), "{proxies}: {problems}");
    }
}
