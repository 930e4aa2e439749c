//! One law a check; all mistakes at once; any text; what is written is what is read.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::place::{Continent, Country};
use crate::topology::*;

mod written;

/// Every key there is.
const FULL: &str = r#"
[probe]
interval = "1s"
deciding_interval = "250ms"
time_limit = "2s"
rise = 3
fall = 4

[regions.seoul]
coordinates = [37.57, 126.98]
bias_km = -50
vips = ["192.0.2.10", "2001:db8:1::10"]
min_proxies = 2
proxies = { seoul-2 = "http://192.0.2.12:8081/status", seoul-1 = "https://[2001:db8:1::11]/status" }

[regions.frankfurt]
coordinates = [50.11, 8.68]
vips = ["198.51.100.10", "2001:db8:2::10"]
proxies = { frankfurt-1 = "http://198.51.100.11:8081/status" }

[regions.virginia]
coordinates = [39, -77.49]
vips = ["203.0.113.10", "2001:db8:3::10"]
proxies.virginia-1 = "http://203.0.113.11:8081/status"

[services."WWW.Example.com."]
policy = "nearest"
tiers = [["seoul"], ["virginia", "frankfurt"]]
weights = { seoul = 50, virginia = 0 }
vips = { seoul = ["192.0.2.20", "2001:db8:1::20"] }
min_servers = 3
ttl = 20
ttl_degraded = 5
last_resort = ["virginia", "seoul"]
https = { alpn = ["h2", "http/1.1"], port = 8443 }
failback = { mode = "manual", delay = "10s", ramp_step_percent = 5 }
flap = { half_life = "1m", suppress = 3000, reuse = 500 }
prefer = [ { clients = { countries = ["br"], networks = ["192.0.2.0/24"], asns = [64500], continents = ["SA"] }, regions = ["virginia"] } ]

[[services."WWW.Example.com.".keep_within]]
clients = { countries = ["DE"] }
regions = ["frankfurt"]
fence = "soft"

[services."api.example.com"]
txt = { seoul = ["served by seoul", ""], frankfurt = ["x"], virginia = ["x"] }
[services."static.example.com"]
[services."files.example.com"]
cname = { seoul = "Seoul.CDN.example.net.", frankfurt = "cdn.example.net", virginia = "cdn.example.net" }
"#;

/// Two regions, to which each test adds or from which it takes.
const REGIONS: &str = r#"
[regions.a]
coordinates = [1, 2]
vips = ["192.0.2.1"]
proxies = { a-1 = "http://192.0.2.2/" }
[regions.b]
coordinates = [3, 4]
vips = ["192.0.2.3"]
proxies = { b-1 = "http://192.0.2.4/" }
"#;

fn found(text: &str) -> Vec<String> {
    let problems = parse_topology("t.toml", text).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

/// What is wrong with a service of these `keys` over regions a and b.
fn found_in_service(keys: &str) -> Vec<String> {
    found(&format!("{REGIONS}[services.s]\n{keys}\n"))
}

/// What is wrong with the region c of these `keys`; `vips`, `coordinates` and `proxies` are right unless among them.
fn found_in_region(keys: &str) -> Vec<String> {
    let defaults = [
        ("vips", "vips = [\"192.0.2.5\"]\n"),
        ("coordinates", "coordinates = [5, 6]\n"),
        ("proxies", "proxies = { c-1 = \"http://192.0.2.6/\" }\n"),
    ];
    let missing = defaults.iter().filter(|(key, _)| !keys.starts_with(&format!("{key} ="))).map(|(_, line)| *line);
    found(&format!("[regions.c]\n{keys}\n{}", missing.collect::<String>()))
}

/// Each text has exactly one mistake, at this key and with these words.
fn assert_each(find: fn(&str) -> Vec<String>, table: &[(&str, &str, &str)]) {
    for (keys, key, words) in table {
        let found = find(keys);
        let is_it = |problem: &String| problem.contains(&format!(": {key}: ")) && problem.contains(words);
        assert!(found.len() == 1 && found.iter().all(is_it), "{keys}\nwanted {key}: {words}\nfound {found:#?}");
    }
}

#[test]
fn every_key_is_read() {
    let topology = parse_topology("t.toml", FULL).expect("no mistake");
    let names: Vec<&str> = topology.regions.iter().map(|region| region.name.as_str()).collect();
    assert_eq!(names, ["frankfurt", "seoul", "virginia"]);
    let seoul = &topology.regions[1];
    assert_eq!((seoul.bias_km, seoul.min_proxies, seoul.vips.len()), (-50, 2, 2));
    assert_eq!(seoul.proxies[0].status_url, "https://[2001:db8:1::11]/status");
    assert_eq!(topology.regions[2].coordinates.map(|place| place.longitude()), Some(-77.49));
    let probe = &topology.probe;
    assert_eq!((probe.interval, probe.deciding_interval), (Duration::from_secs(1), Duration::from_millis(250)));
    assert_eq!((probe.time_limit, probe.rise, probe.fall), (Duration::from_secs(2), 3, 4));

    let [api, files, _, www] = topology.services.as_slice() else { panic!("four services") };
    assert_eq!(api.txt_of(MemberId(1)), Some(&["served by seoul".to_owned(), String::new()][..]));
    assert_eq!((files.txt_of(MemberId(0)), files.vips_of(MemberId(0)), files.min_servers), (None, &[][..], 0));
    assert_eq!(files.cname_of(MemberId(1)).map(|name| name.as_str()), Some("seoul.cdn.example.net"));
    assert_eq!((www.name.as_str(), www.min_servers, www.ttl, www.ttl_degraded), ("www.example.com", 3, 20, 5));
    assert_eq!(www.last_resort, LastResort::Regions(vec![MemberId(1), MemberId(0)]));
    assert_eq!(www.https, Some(HttpsSettings { alpn: vec!["h2".into(), "http/1.1".into()], port: Some(8443) }));
    assert_eq!(www.vips_of(MemberId(0))[0].to_string(), "192.0.2.20");
    assert_eq!(www.vips_of(MemberId(1))[0].to_string(), "203.0.113.10");
    let failback = &www.failback;
    assert_eq!((failback.mode, failback.ramp_step_percent), (FailbackMode::Manual, 5));
    assert_eq!((failback.flap.suppress, failback.flap.reuse), (3000, 500));

    let steering = topology.steering(www);
    let members: Vec<_> = steering.members.iter().map(|member| (member.region.0, member.tier, member.weight)).collect();
    assert_eq!(members, [(1, 0, 50), (2, 1, 0), (0, 1, 100)]);
    let rule = &steering.prefer[0];
    assert_eq!(rule.regions, [MemberId(1)]);
    assert_eq!((rule.clients.countries[0], rule.clients.asns[0]), (Country::parse("BR").expect("a code"), 64500));
    assert_eq!(rule.clients.continents, [Continent::Sa]);
    assert_eq!(steering.keep_within[0].strength, FenceStrength::Soft);
}

#[test]
fn absent_keys_have_their_defaults() {
    let topology = parse_topology("t.toml", &format!("{REGIONS}[services.s]\n")).expect("no mistake");
    assert_eq!(topology.probe, ProbeSettings::default());
    let service = &topology.services[0];
    assert_eq!((service.ttl, service.ttl_degraded, service.min_servers), (30, 10, 1));
    assert_eq!((&service.last_resort, &service.https), (&LastResort::All, &None));
    let flap = FlapSettings { half_life: Duration::from_secs(600), suppress: 2500, reuse: 1000 };
    let delay = Duration::from_secs(60);
    assert_eq!(service.failback, Failback { mode: FailbackMode::Auto, delay, ramp_step_percent: 25, flap });
    let steering = topology.steering(service);
    let members: Vec<_> = steering.members.iter().map(|member| (member.region.0, member.tier, member.weight)).collect();
    assert_eq!((steering.policy, members), (Policy::Nearest, vec![(0, 0, 100), (1, 0, 100)]));
}

#[test]
fn nothing_at_all_is_an_empty_topology() {
    assert_eq!(parse_topology("t.toml", ""), Ok(Topology::default()));
}

#[test]
fn services_that_are_steered_alike_share_a_steering() {
    let topology = parse_topology("t.toml", FULL).expect("no mistake");
    let [api, _, stat, www] = topology.services.as_slice() else { panic!("four services") };
    assert_eq!(api.steering, stat.steering);
    assert_ne!(api.steering, www.steering);
    assert_eq!(topology.steerings.len(), 2);
}

#[test]
fn defaults_give_way_to_what_they_must_not_exceed() {
    let text = format!("[probe]\ninterval = \"100ms\"\n{REGIONS}[services.s]\nttl = 3\nflap = {{ suppress = 700 }}\n");
    let topology = parse_topology("t.toml", &text).expect("no mistake");
    assert_eq!(topology.probe.deciding_interval, Duration::from_millis(100));
    assert_eq!((topology.services[0].ttl_degraded, topology.services[0].failback.flap.reuse), (3, 700));
}

#[test]
fn wrong_probe_settings_are_refused() {
    assert_each(
        |keys| found(&format!("[probe]\n{keys}\n")),
        &[
            ("interval = \"1ms\"", "probe.interval", "from 10ms to 1h"),
            ("interval = 500", "probe.interval", "a time with its unit"),
            ("deciding_interval = \"600ms\"", "probe.deciding_interval", "longer than `interval`"),
            ("time_limit = \"2m\"", "probe.time_limit", "from 10ms to 1m"),
            ("rise = 0", "probe.rise", "from 1 to 100"),
            ("fall = 101", "probe.fall", "from 1 to 100"),
            ("falls = 3", "probe.falls", "unknown key: did you mean fall?"),
        ],
    );
}

#[test]
fn wrong_regions_are_refused() {
    assert_each(
        found_in_region,
        &[
            ("coordinates = [91, 0]", "regions.c.coordinates", "no place on Earth"),
            ("coordinates = [nan, 0]", "regions.c.coordinates", "no place on Earth"),
            ("coordinates = [1]", "regions.c.coordinates", "1 numbers: expected its place"),
            ("coordinates = [\"1\", 2]", "regions.c.coordinates[0]", "is not a number"),
            ("bias_km = 30000", "regions.c.bias_km", "from -20040 to 20040"),
            ("vips = []", "regions.c.vips", "empty: expected at least one address"),
            ("vips = [\"192.0.2.300\"]", "regions.c.vips[0]", "is not an IPv4 or IPv6 address"),
            ("vips = [\"192.0.2.1\", \"192.0.2.1\"]", "regions.c.vips[1]", "listed twice"),
            ("vips = [\"0.0.0.0\"]", "regions.c.vips[0]", "no address to connect to"),
            ("vips = [\"::\"]", "regions.c.vips[0]", "no address to connect to"),
            ("vips = [\"224.0.0.1\"]", "regions.c.vips[0]", "no address to connect to"),
            ("vips = [\"ff02::1\"]", "regions.c.vips[0]", "no address to connect to"),
            ("vips = [\"255.255.255.255\"]", "regions.c.vips[0]", "no address to connect to"),
            ("vips = [\"::ffff:192.0.2.1\"]", "regions.c.vips[0]", "IPv4-mapped address: expected 192.0.2.1"),
            ("proxies = {}", "regions.c.proxies", "empty: expected at least one proxy"),
            ("proxies = { C-1 = \"http://192.0.2.6/\" }", "regions.c.proxies.C-1", "is not a name"),
            ("proxies = { c-1 = \"192.0.2.6\" }", "regions.c.proxies.c-1", "begins with http://"),
            ("proxies = { c-1 = \"http://h/\", c-2 = \"http://h/\" }", "regions.c.proxies.c-2", "of another proxy too"),
            ("min_proxies = 0", "regions.c.min_proxies", "from 1 to 1"),
            ("min_proxies = 2", "regions.c.min_proxies", "from 1 to 1"),
            ("colour = \"red\"", "regions.c.colour", "unknown key"),
        ],
    );
}

#[test]
fn very_long_lists_are_refused_without_comparing_all() {
    let vips: String = (0..200_000_u32).map(|n| format!("\"10.{}.{}.{}\",", n >> 16, n >> 8 & 255, n & 255)).collect();
    let found = found_in_region(&format!("vips = [{vips}]"));
    assert!(found.iter().any(|problem| problem.contains("200000 addresses: expected at most 16")), "{}", found.len());
    let ids: String = (0..50_000).map(|n| format!("\"x{n}\",")).collect();
    let found = found_in_service(&format!("https = {{ alpn = [{ids}] }}"));
    assert!(found.iter().any(|problem| problem.contains("50000 protocol ids: expected at most 16")), "{}", found.len());
}

#[test]
fn what_a_region_needs_is_asked_for() {
    assert_eq!(
        found("[regions.c]\n"),
        [
            "t.toml:1: regions.c.vips: missing: expected a list of addresses that clients connect to",
            "t.toml:1: regions.c.proxies: missing: expected a table of proxies, each with the URL of its status",
            "t.toml:1: regions.c.coordinates: missing: expected its place as [latitude, longitude] in degrees, such as [37.57, 126.98]",
        ]
    );
}

#[test]
fn wrong_services_are_refused() {
    assert_each(
        found_in_service,
        &[
            ("policy = \"closest\"", "services.s.policy", "\"nearest\" or \"weighted\" or \"ordered\" or \"all\""),
            ("regions = []", "services.s.regions", "empty: expected at least one region"),
            ("regions = [\"a\", \"z\"]", "services.s.regions[1]", "is not a region: expected one of a, b"),
            ("regions = [\"a\", \"B\"]", "services.s.regions[1]", "is not a region"),
            ("regions = [\"a\", \"a\"]", "services.s.regions[1]", "listed twice"),
            ("regions = [1, \"a\"]", "services.s.regions[0]", "not a text"),
            ("regions = [\"a\"]\ntiers = [[\"b\"]]", "services.s.tiers", "given beside `regions`"),
            ("tiers = []", "services.s.tiers", "empty: expected at least one tier"),
            ("tiers = [[\"a\"], []]", "services.s.tiers[1]", "empty: expected at least one region"),
            ("tiers = [[\"a\"], [\"a\"]]", "services.s.tiers[1][0]", "listed twice"),
            ("tiers = [\"a\", [\"b\"]]", "services.s.tiers[0]", "not a list of regions"),
            ("weights = { a = 1001 }", "services.s.weights.a", "from 0 to 1000"),
            ("weights = { a = 1.5 }", "services.s.weights.a", "a whole number"),
            ("regions = [\"a\"]\nweights = { b = 1 }", "services.s.weights.b", "is not a region of this service"),
            ("policy = \"weighted\"\nweights = { a = 0, b = 0 }", "services.s.weights", "all are 0"),
            ("ttl = -1", "services.s.ttl", "from 0 to 2147483647"),
            ("ttl = 2147483648", "services.s.ttl", "from 0 to 2147483647"),
            ("ttl = 5\nttl_degraded = 6", "services.s.ttl_degraded", "expected 0 to 5"),
            ("min_servers = -1", "services.s.min_servers", "from 0"),
            ("failback = { mode = \"maybe\" }", "services.s.failback.mode", "\"auto\" or \"manual\""),
            ("failback = { delay = \"31d\" }", "services.s.failback.delay", "from 0ms to 30d"),
            ("failback = { ramp_step_percent = 0 }", "services.s.failback.ramp_step_percent", "from 1 to 25"),
            ("failback = { ramp_step_percent = 26 }", "services.s.failback.ramp_step_percent", "from 1 to 25"),
            ("flap = { half_life = \"0s\" }", "services.s.flap.half_life", "from 1ms to 30d"),
            ("flap = { suppress = 10, reuse = 11 }", "services.s.flap.reuse", "above `suppress`: expected 1 to 10"),
            ("flap = { reuse = 0 }", "services.s.flap.reuse", "from 1 to"),
            ("last_resort = \"some\"", "services.s.last_resort", "\"all\", \"none\" or a list of regions"),
            ("last_resort = 1", "services.s.last_resort", "\"all\", \"none\" or a list of regions"),
            ("last_resort = []", "services.s.last_resort", "empty: expected at least one region"),
            (
                "regions = [\"a\"]\nlast_resort = [\"b\"]",
                "services.s.last_resort[0]",
                "is not a region of this service",
            ),
            ("https = { alpn = [\"\"] }", "services.s.https.alpn[0]", "1 to 255 octets"),
            ("https = { alpn = [\"h2\", \"h2\"] }", "services.s.https.alpn[1]", "listed twice"),
            ("https = { port = 0 }", "services.s.https.port", "from 1 to 65535"),
            ("vips = { z = [\"192.0.2.9\"] }", "services.s.vips.z", "is not a region"),
            ("vips = { a = [] }", "services.s.vips.a", "empty: expected at least one address"),
            (
                "vips = { a = [\"::1\"], b = [\"::2\", \"192.0.2.9\"] }",
                "services.s.vips",
                "a has no IPv4 address but b has",
            ),
            ("vips = { b = [\"::2\", \"192.0.2.9\"] }", "services.s.vips", "a has no IPv6 address but b has"),
            ("polciy = \"all\"", "services.s.polciy", "unknown key"),
        ],
    );
}

#[test]
fn regions_of_other_families_are_one_mistake() {
    let found = found_in_service("vips = { a = [\"192.0.2.8\"], b = [\"::2\"] }");
    assert_eq!(found.iter().filter(|problem| problem.contains("address but")).count(), 1, "{found:?}");
}

#[test]
fn wrong_records_of_regions_are_refused() {
    let many = (0..17).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let long = "x".repeat(2049);
    assert_each(
        found_in_service,
        &[
            ("txt = { a = [\"x\"] }", "services.s.txt", "b has none: expected TXT records for every region"),
            ("txt = { a = [], b = [\"x\"] }", "services.s.txt.a", "empty: expected at least one text"),
            ("txt = { a = \"x\", b = [\"x\"] }", "services.s.txt.a", "is not a list of texts"),
            ("txt = { a = [\"x\", \"x\"], b = [\"x\"] }", "services.s.txt.a[1]", "listed twice"),
            ("txt = { a = [1], b = [\"x\"] }", "services.s.txt.a[0]", "not a text"),
            ("txt = { a = [\"x\"], b = [\"x\"], z = [\"x\"] }", "services.s.txt.z", "is not a region"),
            (&format!("txt = {{ a = [{many}], b = [\"x\"] }}"), "services.s.txt.a", "17 texts: expected at most 16"),
            (&format!("txt = {{ a = [\"{long}\"], b = [\"x\"] }}"), "services.s.txt.a[0]", "expected at most 2048"),
            ("cname = { a = \"x.example\" }", "services.s.cname", "b has none: expected a name for every region"),
            ("cname = { a = \"x..y\", b = \"x\" }", "services.s.cname.a", "is not an owner name"),
            ("cname = { a = \"S.\", b = \"x\" }", "services.s.cname", "leads back to the service itself"),
            ("cname = { a = \"x\", b = \"x\" }\npolicy = \"all\"", "services.s.cname", "can get one CNAME only"),
            ("cname = { a = \"x\", b = \"x\" }\nhttps = {}", "services.s.https", "given beside `cname`"),
            ("cname = { a = \"x\", b = \"x\" }\nvips = {}", "services.s.vips", "has no other data"),
            ("cname = { a = \"x\", b = \"x\" }\ntxt = {}", "services.s.txt", "has no other data"),
        ],
    );
    let texts = (0..16).map(|n| format!("\"{n:02000}\"")).collect::<Vec<_>>().join(", ");
    let both = format!("txt = {{ a = [{texts}], b = [{texts}] }}");
    assert!(found_in_service(&both).is_empty());
    let found = found_in_service(&format!("policy = \"all\"\n{both}"));
    assert!(found.len() == 1 && found[0].contains("gives at most 60000 at once"), "{found:?}");
}

#[test]
fn wrong_client_rules_are_refused() {
    let with_clients = |clients: &str| {
        let rule = format!("prefer = [ {{ clients = {{ {clients} }}, regions = [\"a\"] }} ]");
        found_in_service(&rule)
    };
    for (clients, at, words) in [
        ("", "", "selects nobody: expected at least one of networks, asns, countries, continents"),
        ("countries = []", "", "selects nobody"),
        ("networks = [\"192.0.2.1/24\"]", ".networks[0]", "bits set beyond its prefix length: expected 192.0.2.0/24"),
        ("networks = [\"2001:db8::1/32\"]", ".networks[0]", "expected 2001:db8::/32"),
        ("networks = [\"192.0.2.1\"]", ".networks[0]", "is not a network"),
        ("networks = [\"192.0.2.0/33\"]", ".networks[0]", "is not a network"),
        ("networks = [\"::ffff:192.0.2.0/120\"]", ".networks[0]", "IPv4-mapped"),
        ("asns = [0]", ".asns[0]", "from 1 to 4294967295"),
        ("asns = [4294967296]", ".asns[0]", "from 1 to 4294967295"),
        ("countries = [\"KOR\"]", ".countries[0]", "two letters"),
        ("countries = [\"UK\"]", ".countries[0]", "expected GB"),
        ("continents = [\"XX\"]", ".continents[0]", "one of AF, AN, AS, EU, NA, OC, SA"),
        ("cities = [\"Seoul\"]", "", "selects nobody"),
    ] {
        let found = with_clients(clients);
        let key = format!(": services.s.prefer[0].clients{at}: ");
        assert!(found.iter().any(|problem| problem.contains(&key) && problem.contains(words)), "{clients}: {found:?}");
    }
    let fence = |keys: &str| found_in_service(&format!("regions = [\"a\"]\nkeep_within = [ {{ {keys} }} ]"));
    assert_each_fence(fence);
}

fn assert_each_fence(fence: impl Fn(&str) -> Vec<String>) {
    let clients = "clients = { asns = [1] }";
    for (keys, key, words) in [
        (format!("{clients}, regions = [\"b\"]"), "regions[0]", "is not a region of this service"),
        (format!("{clients}, regions = []"), "regions", "empty: expected at least one region"),
        (format!("{clients}, regions = [\"a\"], fence = \"firm\""), "fence", "\"hard\" or \"soft\""),
        (clients.to_owned(), "regions", "missing: expected a list of regions of this service"),
        ("regions = [\"a\"]".to_owned(), "clients", "missing: expected a table"),
    ] {
        let found = fence(&keys);
        let key = format!(": services.s.keep_within[0].{key}: ");
        assert!(found.len() == 1 && found[0].contains(&key) && found[0].contains(words), "{keys}: {found:?}");
    }
}

#[test]
fn names_are_checked_and_told_apart() {
    let twice = format!("{REGIONS}[services.s]\n[services.\"S.\"]\n");
    assert_eq!(
        found(&twice),
        ["t.toml:11: services.\"S.\": s is given twice (case and a final dot do not tell names apart)"]
    );
    let wrong = format!("{REGIONS}[regions.Seoul]\nvips = 1\n[services.\"*.s\"]\nttl = -1\n");
    let keys = [
        "regions.Seoul: \"Seoul\" is not a name",
        "regions.Seoul.vips: 1 is not",
        "\"*.s\": \"*.s\" is not an owner name",
    ];
    for key in keys {
        assert!(found(&wrong).iter().any(|problem| problem.contains(key)), "{key}: {:?}", found(&wrong));
    }
}

#[test]
fn a_service_without_any_region_is_refused() {
    assert_eq!(
        found("[services.s]\n"),
        ["t.toml:1: services.s.regions: there is no region to choose from: expected at least one under [regions]"]
    );
}

#[test]
fn more_regions_than_a_set_holds_are_refused() {
    let region =
        |n| format!("[regions.r{n}]\ncoordinates = [0, 0]\nvips = [\"192.0.2.1\"]\nproxies.p = \"http://h/\"\n");
    let regions: String = (0..65).map(region).collect();
    let found = found(&format!("{regions}[services.s]\n"));
    assert_eq!(found, ["t.toml:261: services.s.regions: 65 regions: expected at most 64 in one service"]);
}

#[test]
fn all_mistakes_are_found_at_once_each_at_its_line() {
    let text = r#"[probe]
rise = 0
[regions.seoul]
coordinates = [37.57, 526.98]
vips = ["192.0.2.10", "2001:db8::10"]
proxies = { seoul-1 = "gopher://192.0.2.11" }
[regions.frankfurt]
coordinates = [50.11, 8.68]
vips = ["198.51.100.10"]
min_proxies = 3
proxies = { frankfurt-1 = "http://198.51.100.11/" }
[services."www.example.com"]
regions = ["seul", "frankfurt", "seoul"]
ttl = 20
ttl_degraded = 30
prefer = [
  { clients = { networks = ["10.0.0.1/8"] }, regions = ["seoul"] },
]
[service]
"#;
    let lines: Vec<String> =
        found(text).iter().map(|problem| problem.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "t.toml:2 probe.rise",
            "t.toml:4 regions.seoul.coordinates",
            "t.toml:6 regions.seoul.proxies.seoul-1",
            "t.toml:10 regions.frankfurt.min_proxies",
            "t.toml:12 services.\"www.example.com\".vips",
            "t.toml:13 services.\"www.example.com\".regions[0]",
            "t.toml:15 services.\"www.example.com\".ttl_degraded",
            "t.toml:17 services.\"www.example.com\".prefer[0].clients.networks[0]",
            "t.toml:19 service",
        ]
    );
}

#[test]
fn other_tables_of_the_root_are_left_alone() {
    let text = format!("[server]\nlisten = []\n{REGIONS}");
    let problems = Problems::new("t.toml", &text);
    let document = Document::parse(&text, &problems);
    let root = document.root(&problems);
    assert!(read_topology(&root).is_some());
    assert!(root.value("server").is_some());
    drop(root);
    assert!(problems.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_safe_to_read(text in "\\PC*") {
        let _ = parse_topology("t.toml", &text);
    }

    #[test]
    fn any_damage_to_a_right_text_is_safe_to_read(cuts in prop::collection::vec((0..FULL.len(), 0..40_usize, "[\\[\\]{}=\",.a-z0-9\n-]{0,6}"), 1..6)) {
        let mut text = FULL.to_owned();
        for (at, len, insert) in cuts {
            let start = at.min(text.len());
            let end = (start + len).min(text.len());
            text.replace_range(start..end, &insert);
        }
        let _ = parse_topology("t.toml", &text);
    }
}
