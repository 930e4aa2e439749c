use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::cli::suppose;
use crate::reload::{World, load};
use crate::serve::sample::Site;

#[test]
fn questions_are_read_as_people_write_them() {
    for (name, client, qtype) in [
        ("www.example.com", "192.0.2.1", "A"),
        ("WWW.example.com.", "2001:db8::1", "https"),
        ("example.com", "::1", "TYPE65280"),
    ] {
        assert!(Question::parse(name, client, qtype).is_ok(), "{name} {client} {qtype}");
    }
    assert_eq!(Question::parse("", "192.0.2.1", "A"), Err(QuestionError::Name(String::new())));
    assert_eq!(Question::parse("a..b", "192.0.2.1", "A"), Err(QuestionError::Name("a..b".to_owned())));
    assert_eq!(Question::parse("a", "192.0.2", "A"), Err(QuestionError::Client("192.0.2".to_owned())));
    assert_eq!(Question::parse("a", "192.0.2.1", "AX"), Err(QuestionError::Type("AX".to_owned())));
    assert_eq!(Question::parse("a", "192.0.2.1", "OPT"), Err(QuestionError::Type("OPT".to_owned())));
}

#[test]
fn mapped_client_is_an_ipv4_client() {
    let mapped = Question::parse("a", "::ffff:192.0.2.1", "A").expect("valid");
    assert_eq!(mapped, Question::parse("a.", "192.0.2.1", "A").expect("valid"));
}

/// A world with the shipped places: three regions, services of every policy and a fence.
fn world(site: &Site) -> World {
    let geo = concat!(env!("CARGO_MANIFEST_DIR"), "/../geo");
    let settings = format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
[[zones]]
name = "example.com"
file = "example.com.zone"
[geo]
database = "{geo}/geo-whois-asn-country.mmdb"
countries = "{geo}/countries.csv"
[regions.frankfurt]
coordinates = [50.11, 8.68]
vips = ["192.0.2.1", "2001:db8::1"]
proxies = {{ frankfurt-1 = "http://192.0.2.11/" }}
[regions.seoul]
coordinates = [37.57, 126.98]
vips = ["192.0.2.2", "2001:db8::2"]
proxies = {{ seoul-1 = "http://192.0.2.12/" }}
[regions.virginia]
coordinates = [39.04, -77.49]
vips = ["192.0.2.3", "2001:db8::3"]
proxies = {{ virginia-1 = "http://192.0.2.13/" }}
[services."www.example.com"]
https = {{ alpn = ["h2", "http/1.1"], port = 8443 }}
[services."weighted.example.com"]
policy = "weighted"
weights = {{ frankfurt = 100, seoul = 50, virginia = 50 }}
[services."all.example.com"]
policy = "all"
[services."txt.example.com"]
txt = {{ frankfurt = ["served by frankfurt", "b"], seoul = ["a"], virginia = ["a"] }}
[services."files.example.com"]
cname = {{ frankfurt = "eu.cdn.example.net", seoul = "cdn.example.net", virginia = "cdn.example.net" }}
[services."fenced.example.com"]
last_resort = "none"
keep_within = [{{ clients = {{ continents = ["EU"] }}, regions = ["frankfurt"] }}]
"#
    );
    site.write("topology.toml", &settings);
    load(&site.config(), None).world.expect("no mistakes")
}

fn client(random: &mut fastrand::Rng) -> IpAddr {
    match random.bool() {
        true => Ipv4Addr::from(random.u32(..)).into(),
        // Where addresses are given out.
        false => Ipv6Addr::from(random.u128(..) >> 3 | 1 << 125).into(),
    }
}

#[test]
fn explanation_says_what_is_answered() {
    let site = Site::new();
    let world = world(&site);
    let mut random = fastrand::Rng::with_seed(7);
    let regions: Vec<_> = world.settings.topology.regions.iter().map(|region| region.name.clone()).collect();
    let services = ["www", "weighted", "all", "fenced"];
    for _ in 0..10_000 {
        let down: Vec<_> = regions.iter().filter(|_| random.u8(..4) == 0).cloned().collect();
        let drain: Vec<_> = regions.iter().filter(|_| random.u8(..6) == 0).cloned().collect();
        let client = client(&mut random);
        let name = format!("{}.example.com", services[random.usize(..services.len())]);
        let qtype = if random.bool() { "A" } else { "AAAA" };
        let question = Question::parse(&name, &client.to_string(), qtype).expect("valid");
        let explained = suppose(&world, &down, &drain, &question).expect("regions that exist");
        let service = explained.service.as_ref().expect("a steered name");
        let is_chosen = |line: &&RegionLine| matches!(line.outcome, "chosen" | "last-resort");
        let is_asked = |vip: &&IpAddr| vip.is_ipv4() == (qtype == "A");
        let chosen = service.regions.iter().filter(is_chosen).flat_map(|line| line.vips.iter().filter(is_asked));
        let mut chosen: Vec<String> = chosen.map(ToString::to_string).collect();
        let mut answered: Vec<String> = explained.answer.records.iter().map(|record| record.data.clone()).collect();
        let marked = service.regions.iter().filter(is_chosen).map(|line| &line.region);
        assert!(marked.eq(&service.chosen), "{explained}");
        chosen.sort_unstable();
        answered.sort_unstable();
        assert_eq!(chosen, answered, "{explained}");
    }
}

#[test]
fn alias_is_explained_by_the_service_it_leads_to() {
    let site = Site::new();
    let zone = std::fs::read_to_string(site.path("example.com.zone")).expect("there");
    site.write("example.com.zone", &format!("{zone}shop IN CNAME www\n"));
    let world = world(&site);
    let ask =
        |name| suppose(&world, &[], &[], &Question::parse(name, "192.0.2.1", "A").expect("valid")).expect("no names");
    let explained = ask("shop.example.com");
    assert_eq!(explained.service.as_ref().map(|service| service.name.as_str()), Some("www.example.com"));
    assert_eq!(explained.answer.records.len(), 2);
    let plain = ask("ns1.example.com");
    assert!(plain.service.is_none() && plain.to_string().contains("everybody gets the same"));
    assert_eq!(ask("nowhere.example.com").answer.rcode, "NXDOMAIN");
}

fn explained(world: &World, name: &str, qtype: &str, down: &[&str]) -> Explained {
    let down: Vec<_> = down.iter().map(|name| shared::name::RegionName::parse(name).expect("a name")).collect();
    let question = Question::parse(name, "192.0.2.1", qtype).expect("valid");
    suppose(world, &down, &[], &question).expect("served")
}

#[test]
fn records_of_regions_are_explained() {
    let site = Site::new();
    let world = world(&site);
    let txt = explained(&world, "txt.example.com", "TXT", &["seoul", "virginia"]);
    let data: Vec<&str> = txt.answer.records.iter().map(|record| record.data.as_str()).collect();
    assert_eq!(data, ["\"served by frankfurt\"", "b"]);
    let service = txt.service.expect("steered");
    assert_eq!(service.regions[0].txt.as_ref().map(Vec::len), Some(2));
    let files = explained(&world, "files.example.com", "A", &["seoul", "virginia"]);
    assert!(files.to_string().contains("files.example.com. 10 IN CNAME eu.cdn.example.net."), "{files}");
    let service = files.service.expect("steered");
    let first = &service.regions[0];
    assert_eq!(first.cname.as_ref().map(OwnerName::as_str), Some("eu.cdn.example.net"));
    assert!(first.vips.is_empty() && first.txt.is_none());
}

#[test]
fn weighted_choice_shows_weights_and_the_region_chosen() {
    let site = Site::new();
    let world = world(&site);
    let text = explained(&world, "weighted.example.com", "A", &[]).to_string();
    let by = ": by hash of the client's block 192.0.2.0/24, weights frankfurt 100, seoul 50, virginia 50";
    assert!(text.contains(by) && text.contains("  weight  "), "{text}");
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with("> ")).collect();
    assert!(marked.len() == 1 && marked[0].contains("chosen"), "{text}");
    let alone = explained(&world, "weighted.example.com", "A", &["seoul", "virginia"]).to_string();
    assert!(alone.contains("chosen  frankfurt: no other region"), "{alone}");
    assert!(!explained(&world, "www.example.com", "A", &[]).to_string().contains("weight  "));
}

#[test]
fn https_data_is_as_in_a_master_file() {
    let site = Site::new();
    let world = world(&site);
    let data = explained(&world, "www.example.com", "HTTPS", &["seoul", "virginia"]).answer.records[0].data.clone();
    assert_eq!(data, "1 . alpn=h2,http/1.1 port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1");
}

#[test]
fn name_in_no_zone_is_refused_with_those_that_there_are() {
    let site = Site::new();
    let world = world(&site);
    for (name, expected) in [
        ("www", "www lies in no zone served here: expected a name in example.com, such as www.example.com"),
        ("example.org", "example.org lies in no zone served here: expected a name in example.com"),
        (".", ". lies in no zone served here: expected a name in example.com"),
    ] {
        let question = Question::parse(name, "192.0.2.1", "A").expect("valid");
        assert_eq!(suppose(&world, &[], &[], &question).expect_err("outside").to_string(), expected);
    }
}
