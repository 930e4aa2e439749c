//! The sample in zones/ is right: it is the configuration by example, and what the demo runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hickory_proto::rr::{LowerName, Name, RData, RecordSet, RecordType, RrKey};
use hickory_proto::serialize::txt::Parser;
use shared::config::read_topology;
use shared::problem::Problems;
use shared::settings::Document;
use shared::topology::Topology;

type Records = BTreeMap<RrKey, RecordSet>;

fn sample(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zones").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn topology() -> Topology {
    let text = sample("topology.toml");
    let problems = Problems::new("topology.toml", &text);
    let document = Document::parse(&text, &problems);
    let root = document.root(&problems);
    // Read by gslb-dns.
    for key in ["server", "zones", "geo"] {
        root.required(key, "it in the sample");
    }
    let topology = read_topology(&root);
    drop(root);
    drop(document);
    topology.unwrap_or_else(|| panic!("{:#?}", problems.into_vec()))
}

fn zone() -> Records {
    let apex = Name::from_ascii("gslb.test.").expect("a name");
    let parser = Parser::new(sample("gslb.test.zone"), None::<PathBuf>, Some(apex));
    parser.parse().expect("a master file").1
}

fn rdata<'z>(zone: &'z Records, name: &str, rtype: RecordType) -> Vec<&'z RData> {
    let name = LowerName::from(Name::from_ascii(name).expect("a name"));
    let set = zone.get(&RrKey::new(name, rtype));
    set.into_iter().flat_map(|set| set.records_without_rrsigs()).map(|record| &record.data).collect()
}

#[test]
fn sample_topology_has_no_mistake_and_shows_every_policy() {
    let topology = topology();
    assert_eq!((topology.regions.len(), topology.services.len()), (3, 5));
    let mut policies: Vec<&str> = topology.steerings.iter().map(|steering| steering.policy.as_str()).collect();
    policies.sort_unstable();
    policies.dedup();
    assert_eq!(policies, ["all", "nearest", "ordered", "weighted"]);
}

#[test]
fn settings_in_the_readme_have_no_mistake() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(path).expect("it is there");
    let (_, settings) = readme.split_once("```toml\n").expect("it shows settings");
    let (settings, _) = settings.split_once("```").expect("they end");
    let settings = gslb_dns::settings::Settings::parse("README.md", settings);
    assert!(settings.is_ok(), "{settings:#?}");
}

#[test]
fn files_that_the_sample_names_are_there() {
    let text = sample("topology.toml");
    let named: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = \""))
        .filter(|(key, _)| ["file", "database", "overrides", "countries"].contains(key))
        .filter_map(|(_, rest)| rest.strip_suffix('"'))
        .collect();
    assert_eq!(named.len(), 4);
    for file in named {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zones").join(file);
        assert!(path.is_file(), "{}", path.display());
    }
}

#[test]
fn sample_zone_leaves_steered_names_to_the_topology() {
    let (zone, topology) = (zone(), topology());
    for service in &topology.services {
        for rtype in [RecordType::A, RecordType::AAAA, RecordType::CNAME, RecordType::HTTPS] {
            let name = format!("{}.", service.name);
            assert!(rdata(&zone, &name, rtype).is_empty(), "{name} {rtype}");
        }
    }
}

#[test]
fn sample_zone_passes_what_registrars_test() {
    let zone = zone();
    let [RData::SOA(soa)] = rdata(&zone, "gslb.test.", RecordType::SOA)[..] else { panic!("one SOA") };
    assert!(soa.refresh >= 14_400);
    assert!((3600..soa.refresh).contains(&soa.retry));
    assert!(soa.expire >= 604_800 && soa.expire > soa.refresh);
    assert!((300..=86_400).contains(&soa.minimum));
    let servers = rdata(&zone, "gslb.test.", RecordType::NS);
    assert!(servers.len() >= 2);
    for server in servers {
        let RData::NS(server) = server else { panic!("{server} is no NS") };
        for rtype in [RecordType::A, RecordType::AAAA] {
            assert!(!rdata(&zone, &server.to_string(), rtype).is_empty(), "{server} has no {rtype}");
        }
    }
}

#[test]
fn sample_zone_has_every_kind_of_name() {
    let zone = zone();
    for (name, rtype) in [
        ("gslb.test.", RecordType::MX),
        ("gslb.test.", RecordType::TXT),
        ("gslb.test.", RecordType::CAA),
        ("_https._tcp.gslb.test.", RecordType::SRV),
        ("cdn.gslb.test.", RecordType::CNAME),
        ("*.dev.gslb.test.", RecordType::A),
        ("a.b.ent.gslb.test.", RecordType::A),
        ("child.gslb.test.", RecordType::NS),
        ("ns.child.gslb.test.", RecordType::A),
        ("notes.gslb.test.", RecordType::TXT),
    ] {
        assert!(!rdata(&zone, name, rtype).is_empty(), "{name} {rtype}");
    }
    assert!(zone.keys().all(|key| !["ent.gslb.test.", "b.ent.gslb.test."].contains(&key.name.to_string().as_str())));
}
