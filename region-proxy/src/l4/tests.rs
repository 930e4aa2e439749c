//! Laws of the rules, and the rules of a table of cases as they are written down in `golden/`.
//!
//! `GOLDEN=renew cargo test -p region-proxy --lib l4::` writes them down anew.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use proptest::prelude::*;

use super::listing::Listing;
use super::*;

/// A service with the servers app-1 to app-3 of each family, as settings of few words make it.
fn service(way: Way, balance: Balance) -> Service {
    let port = |port| Ports { first: port, last: port };
    let backend = |(at, address): (usize, &str)| Backend {
        name: ServerName::parse(&format!("app-{}", at + 1)).expect("a name"),
        address: address.parse().expect("an address"),
        number: NonZeroU32::new(at as u32 + 101).expect("not 0"),
        weight: [1, 1, 2][at % 3],
        fate: Fate::Open,
        mac: Some(Mac([2, 0, 0, 0, 0, at as u8 + 0x11])),
    };
    let addresses = [
        "192.0.2.21:8080",
        "192.0.2.22:8080",
        "192.0.2.23:8080",
        "[2001:db8::21]:8080",
        "[2001:db8::22]:8080",
        "[2001:db8::23]:8080",
    ];
    Service {
        name: Name::parse("web").expect("a name"),
        way,
        vips: ["192.0.2.10", "2001:db8::10"].map(|vip| vip.parse().expect("an address")).to_vec(),
        ports: vec![port(80)],
        protocols: vec![Protocol::Tcp],
        balance,
        backends: addresses.into_iter().enumerate().map(backend).collect(),
    }
}

fn interface() -> Interface {
    // There is one in each namespace.
    Interface::parse("lo").expect("a name")
}

const FLOWS: Flows = Flows { most: 65_536, idle: Duration::from_secs(300) };

/// Each way with its name.
fn ways() -> [(&'static str, Way); 4] {
    let pool = |first: &str, last: &str| Pool {
        first: first.parse().expect("an address"),
        last: last.parse().expect("an address"),
    };
    let pools = vec![pool("192.0.2.200", "192.0.2.203"), pool("2001:db8::200", "2001:db8::200")];
    [
        ("nat", Way::Nat { interface: None }),
        ("one-arm", Way::OneArm { interface: Some(interface()), pools }),
        ("dsr", Way::Dsr { interface: interface(), mac: Mac([2, 0, 0, 0, 0, 2]), flows: FLOWS }),
        ("tunnel", Way::Tunnel { interface: Some(interface()), mtu: 1450, flows: FLOWS }),
    ]
}

const BALANCES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("source", Balance::Source),
    ("maglev", Balance::Maglev),
];

fn plan(services: Vec<Service>) -> Plan {
    Plan { services, present: BTreeSet::new() }
}

/// Every case with the name of its file.
fn cases() -> Vec<(String, Plan)> {
    let mut cases = Vec::new();
    for (way_name, way) in ways() {
        for (balance_name, balance) in BALANCES {
            cases.push((format!("{way_name}-{balance_name}"), plan(vec![service(way.clone(), balance)])));
        }
        let mut changed = service(way.clone(), Balance::RoundRobin);
        changed.ports = vec![Ports { first: 53, last: 53 }, Ports { first: 8000, last: 8099 }];
        changed.protocols = vec![Protocol::Tcp, Protocol::Udp];
        changed.backends[0].fate = Fate::Draining;
        changed.backends[4].fate = Fate::Gone;
        cases.push((format!("{way_name}-ranges-drained-gone"), plan(vec![changed.clone()])));
        changed.vips.pop();
        changed.backends.iter_mut().for_each(|backend| backend.fate = Fate::Gone);
        cases.push((format!("{way_name}-nobody"), plan(vec![changed])));
    }
    cases
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/l4/golden").join(format!("{name}.nft"))
}

#[test]
fn the_rules_of_each_case_are_as_they_are_written_down() {
    let is_renewed = env::var_os("GOLDEN").is_some_and(|wish| wish == "renew");
    for (name, plan) in cases() {
        let (path, text) = (golden(&name), rules(&plan));
        if is_renewed {
            fs::write(&path, &text).expect("a file that can be written");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == text, "{}: not as it was: look at it after GOLDEN=renew", path.display());
    }
}

/// Has nft take each of `texts`, one after the other, in a network of its own; what the command `last` writes then.
fn nft(texts: &[&str], last: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut script = "set -e\n".to_owned();
    for (at, text) in texts.iter().enumerate() {
        let path = folder.path().join(format!("{at}.nft"));
        fs::write(&path, text).expect("a file that can be written");
        script += &format!("nft -f {}\n", path.display());
    }
    let mut child = Command::new("unshare")
        .args(["--net", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let stdin = child.stdin.take().map(|mut stdin| stdin.write_all(format!("{script}{last}\n").as_bytes()));
    stdin.expect("it is piped").map_err(|error| error.to_string())?;
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let [out, err] = [output.stdout, output.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
    if output.status.success() { Ok(out) } else { Err(err) }
}

/// Whether there is a kernel to ask; says so where there is none.
fn has_nft() -> bool {
    let found = nft(&[], "nft list tables");
    if let Err(error) = &found {
        eprintln!("LEFT OUT: what the kernel says of rules: needs root, unshare and nft (Debian: nftables): {error}");
    }
    found.is_ok()
}

#[test]
fn the_kernel_takes_the_rules_of_each_case_and_holds_what_they_say() {
    if !has_nft() {
        return;
    }
    for (name, plan) in cases() {
        let listed = nft(&[&rules(&plan)], &list()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let listing = Listing::parse(&listed).expect("a listing");
        assert_eq!(listing.objects, plan.objects(), "{name}");
        let removed = nft(&[&rules(&plan), &removal()], "nft list tables").expect("it can be removed");
        assert_eq!(removed, "", "{name}");
    }
}

#[test]
fn other_tables_are_left_alone_and_ours_comes_back_when_others_flush_it() {
    if !has_nft() {
        return;
    }
    let plan = plan(ways().map(|(name, way)| named(name, service(way, Balance::RoundRobin))).to_vec());
    let others = "table inet mine { chain c { accept; }\n }\n";
    let again = Plan { present: plan.objects(), ..plan.clone() };
    let listed = nft(&[others, &rules(&plan), &rules(&again)], "nft list table inet mine").expect("it is there");
    assert!(listed.contains("chain c"));
    let listed = nft(&[&rules(&plan), "flush ruleset\n", &rules(&again)], &list()).expect("it is taken");
    assert_eq!(Listing::parse(&listed).expect("a listing").objects, plan.objects());
    let listed = nft(&[others, &rules(&plan), &removal()], "nft list tables").expect("it is taken");
    assert_eq!(listed, "table inet mine\n");
}

#[test]
fn counters_and_flows_outlive_a_change_of_everything_else() {
    if !has_nft() {
        return;
    }
    let before = plan(vec![service(ways()[2].1.clone(), Balance::RoundRobin)]);
    let mut after = plan(vec![service(ways()[2].1.clone(), Balance::Maglev)]);
    after.services[0].backends[0].fate = Fate::Gone;
    after.present = before.objects();
    let flow = "add element netdev region_proxy l4.web.flows.65536 { 5 timeout 5m : 102 }\n\
                delete counter netdev region_proxy l4.web.app-1\n\
                add counter netdev region_proxy l4.web.app-1 { packets 3 bytes 180 }\n";
    // What uses a counter must go before it can be replaced by one that has counted.
    let flow = format!("flush table netdev region_proxy\n{flow}");
    let listed = nft(&[&rules(&before), &flow, &rules(&after)], &list()).expect("it is taken");
    let listing = Listing::parse(&listed).expect("a listing");
    let service = &after.services[0];
    assert_eq!(listing.flows(&service.name).collect::<Vec<_>>(), [(102, 1)]);
    let counted = listing.backend(&service.name, &service.backends[0].name).expect("it is there");
    assert_eq!((counted.packets, counted.bytes), (3, 180));
}

#[test]
fn both_of_a_pair_have_the_same_slots() {
    for (_, way) in ways() {
        for balance in [Balance::Source, Balance::Maglev] {
            let one = service(way.clone(), balance);
            let mut other = one.clone();
            other.backends.reverse();
            assert!(rules(&plan(vec![one])) == rules(&plan(vec![other])));
        }
    }
}

#[test]
fn a_server_without_ethernet_address_gets_nothing_by_dsr() {
    let mut dsr = service(ways()[2].1.clone(), Balance::Maglev);
    dsr.backends[1].mac = None;
    let text = rules(&plan(vec![dsr]));
    assert!(!text.contains(".to.app-2 ") && !text.contains(": 102"));
}

fn list() -> String {
    format!("nft -j '{}'", Listing::REQUEST)
}

fn named(name: &str, service: Service) -> Service {
    // Each at a port of its own.
    let port = 80 + name.len() as u16;
    Service { name: Name::parse(name).expect("a name"), ports: vec![Ports { first: port, last: port }], ..service }
}

/// Any service that settings may make, with servers as they may be.
fn any_service(number: u16) -> impl Strategy<Value = Service> {
    let balances = prop::sample::select(BALANCES.map(|(_, balance)| balance).to_vec());
    let protocols =
        prop::sample::select(vec![vec![Protocol::Tcp], vec![Protocol::Udp], vec![Protocol::Udp, Protocol::Tcp]]);
    let vips = prop::sample::subsequence(all_vips(), 1..=4);
    let backends = prop::collection::vec(any_backend(number), 0..12);
    let parts = (prop::sample::select(ways().to_vec()), balances, protocols, vips, any_ports(number), backends);
    parts.prop_map(move |((_, way), balance, protocols, vips, ports, mut backends)| {
        for (at, backend) in backends.iter_mut().enumerate() {
            backend.name = ServerName::parse(&format!("s{at}")).expect("a name");
            backend.number = backend.number.saturating_add(at as u32);
        }
        backends.dedup_by_key(|backend| backend.address);
        let name = Name::parse(&format!("svc_{number}")).expect("a name");
        Service { name, way, vips, ports, protocols, balance, backends }
    })
}

fn any_backend(service: u16) -> impl Strategy<Value = Backend> {
    let fate = prop::sample::select(vec![Fate::Open, Fate::Draining, Fate::Gone]);
    let port = prop::sample::select(vec![80, 8080]);
    let parts = (any::<bool>(), any::<u8>(), port, 0_u16..=256, fate, prop::option::of(any::<[u8; 6]>()));
    parts.prop_map(move |(is_v4, host, port, weight, fate, mac)| Backend {
        name: ServerName::parse("s").expect("a name"),
        address: match is_v4 {
            true => SocketAddr::from(([192, 0, 2, host], port)),
            false => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)], port)),
        },
        number: NonZeroU32::MIN.saturating_add(u32::from(service) * 100),
        weight,
        fate,
        mac: mac.map(Mac),
    })
}

/// Ports that no service of another number has.
fn any_ports(service: u16) -> impl Strategy<Value = Vec<Ports>> {
    (1_u16..100, 0_u16..3, any::<bool>()).prop_map(move |(first, count, is_two)| {
        let first = service * 1000 + first;
        let second = Ports { first: first + 10, last: first + 10 };
        let one = Ports { first, last: first + count };
        if is_two { vec![one, second] } else { vec![one] }
    })
}

fn all_vips() -> Vec<IpAddr> {
    ["192.0.2.10", "192.0.2.11", "2001:db8::10", "2001:db8::11"].map(|vip| vip.parse().expect("an address")).to_vec()
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (any_service(1), any_service(2), 0_usize..=2)
        .prop_map(|(one, other, count)| plan([one, other].into_iter().take(count).collect()))
}

/// The words that follow each `word` of `text`.
fn after<'t>(text: &'t str, word: &str) -> BTreeSet<&'t str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == word).map(|pair| pair[1].trim_end_matches(',')).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_plan_gives_text_that_is_whole_and_of_our_tables_alone(before in any_plan(), mut now in any_plan()) {
        now.present = before.objects();
        let text = rules(&now);
        prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
        for line in text.lines().filter(|line| !line.starts_with(['\t', '}'])) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ours = ["inet region_proxy", "netdev region_proxy"];
            prop_assert!(ours.iter().any(|table| words.join(" ").contains(table)), "{}", line);
        }
        let chains = after(&text, "chain");
        prop_assert!(after(&text, "goto").is_subset(&chains), "{}", text);
        prop_assert!(after(&text, "jump").is_subset(&chains), "{}", text);
        prop_assert_eq!(rules(&now), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_holds_what_the_last_of_any_plans_says(before in any_plan(), mut now in any_plan()) {
        if !*HAS_NFT {
            return Ok(());
        }
        now.present = before.objects();
        let listed = nft(&[&rules(&before), &rules(&now)], &list());
        let listed = listed.map_err(|error| TestCaseError::fail(format!("{error}\n{}", rules(&now))))?;
        prop_assert_eq!(Listing::parse(&listed).expect("a listing").objects, now.objects());
    }
}

static HAS_NFT: std::sync::LazyLock<bool> = std::sync::LazyLock::new(has_nft);
