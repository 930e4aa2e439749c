//! Resolvers that validate (RFC 4035) from a root of our own down to signed zones of a node: unbound, named, Knot Resolver
//! and PowerDNS Recursor.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gslb_tests::harness::dns::Answer;
use gslb_tests::harness::globe::{Globe, REGIONS, region_at};
use gslb_tests::harness::process::{Process, program};
use gslb_tests::harness::resolver::Resolver;
use gslb_tests::harness::tools::delv;
use gslb_tests::harness::tree::{Delegation, SignedZone, Tree, is_possible, serve};
use gslb_tests::harness::within;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

type Held = Result<(), String>;

/// What a resolver must make of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expect {
    /// Records, validated.
    Records,
    /// The name is there, not the type; validated.
    NoData,
    /// No such name; validated.
    NoName,
    /// Records of a zone that is not signed.
    Unsigned,
    /// Records until seoul is down, then NODATA; validated.
    Strict,
}

/// Every kind of name and type of the zone.
const QUESTIONS: [(&str, RecordType, Expect); 78] = [
    ("", RecordType::SOA, Expect::Records),
    ("", RecordType::NS, Expect::Records),
    ("", RecordType::DNSKEY, Expect::Records),
    ("", RecordType::DS, Expect::Records),
    ("", RecordType::MX, Expect::Records),
    ("", RecordType::TXT, Expect::Records),
    ("", RecordType::CAA, Expect::Records),
    ("", RecordType::A, Expect::Records),
    ("", RecordType::AAAA, Expect::Records),
    ("", RecordType::SRV, Expect::NoData),
    ("ns1", RecordType::A, Expect::Records),
    ("ns1", RecordType::AAAA, Expect::NoData),
    ("ns2", RecordType::A, Expect::Records),
    ("www", RecordType::A, Expect::Records),
    ("www", RecordType::AAAA, Expect::Records),
    ("www", RecordType::HTTPS, Expect::Records),
    ("www", RecordType::TXT, Expect::Records),
    ("www", RecordType::MX, Expect::NoData),
    ("www", RecordType::CNAME, Expect::NoData),
    ("below.www", RecordType::A, Expect::NoName),
    ("api", RecordType::A, Expect::Records),
    ("api", RecordType::AAAA, Expect::Records),
    ("api", RecordType::HTTPS, Expect::NoData),
    ("all", RecordType::A, Expect::Records),
    ("all", RecordType::AAAA, Expect::Records),
    ("strict", RecordType::A, Expect::Strict),
    ("strict", RecordType::AAAA, Expect::Strict),
    ("strict", RecordType::TXT, Expect::NoData),
    ("told", RecordType::TXT, Expect::Records),
    ("told", RecordType::A, Expect::Records),
    ("told", RecordType::MX, Expect::NoData),
    ("files", RecordType::CNAME, Expect::Records),
    ("files", RecordType::A, Expect::Records),
    ("mail", RecordType::A, Expect::Records),
    ("mail", RecordType::AAAA, Expect::Records),
    ("_dmarc", RecordType::TXT, Expect::Records),
    ("_https._tcp", RecordType::SRV, Expect::Records),
    ("_443._tcp.mail", RecordType::TLSA, Expect::Records),
    ("_tcp", RecordType::A, Expect::NoData),
    ("host", RecordType::SSHFP, Expect::Records),
    ("host", RecordType::Unknown(65_300), Expect::Records),
    ("host", RecordType::NAPTR, Expect::Records),
    ("notes", RecordType::TXT, Expect::Records),
    ("notes", RecordType::A, Expect::NoData),
    ("six", RecordType::AAAA, Expect::Records),
    ("six", RecordType::A, Expect::NoData),
    ("CaMeL", RecordType::A, Expect::Records),
    ("_acme-challenge.www", RecordType::TXT, Expect::Records),
    ("cdn", RecordType::A, Expect::Records),
    ("cdn", RecordType::CNAME, Expect::Records),
    ("assets", RecordType::AAAA, Expect::Records),
    ("deep", RecordType::A, Expect::Records),
    ("deep", RecordType::MX, Expect::Records),
    ("dangling", RecordType::A, Expect::NoName),
    ("away", RecordType::A, Expect::Records),
    ("astray", RecordType::A, Expect::Unsigned),
    ("x.old", RecordType::A, Expect::Records),
    ("x.old", RecordType::TXT, Expect::Records),
    ("old", RecordType::DNAME, Expect::Records),
    ("old", RecordType::A, Expect::NoData),
    ("y.old", RecordType::A, Expect::NoName),
    ("any.dev", RecordType::A, Expect::Records),
    ("some.other.dev", RecordType::AAAA, Expect::Records),
    ("any.dev", RecordType::MX, Expect::NoData),
    ("*.dev", RecordType::A, Expect::Records),
    ("dev", RecordType::A, Expect::NoData),
    ("x.dev", RecordType::A, Expect::NoData),
    ("y.x.dev", RecordType::A, Expect::NoName),
    ("any.alias", RecordType::A, Expect::Records),
    ("a.b.ent", RecordType::A, Expect::Records),
    ("b.ent", RecordType::A, Expect::NoData),
    ("ent", RecordType::TXT, Expect::NoData),
    ("c.ent", RecordType::A, Expect::NoName),
    ("www.signed", RecordType::A, Expect::Records),
    ("none.signed", RecordType::A, Expect::NoName),
    ("www.unsigned", RecordType::A, Expect::Unsigned),
    ("unsigned", RecordType::DS, Expect::NoData),
    ("nothing", RecordType::A, Expect::NoName),
];

/// What is not steered. `{N}` is the number of the world, `{DS}` belongs to the signed child.
const ZONE: &str = r#"$TTL 2
@ SOA ns1 hostmaster 1 14400 3600 1209600 2
@ NS ns1
@ NS ns2
@ MX 10 mail
@ TXT "v=spf1 mx -all"
@ CAA 0 issue "letsencrypt.org"
ns1 A 127.{N}.0.1
ns2 A 127.{N}.0.2
www TXT "beside steered addresses"
_acme-challenge.www TXT "a challenge"
mail A 192.0.2.25
mail AAAA 2001:db8:25::25
_dmarc TXT "v=DMARC1; p=reject"
_https._tcp SRV 10 5 8443 www
_443._tcp.mail TLSA 3 1 1 0b9fa5a59eed715c26c1020c711b4f6ec42d58b0015e14337a39dad301c5afc3
host SSHFP 4 2 a87f1b687ac0e57d2a081a2f282672334d90ed316d2b818ca9580ea384d92401
host TYPE65300 \# 4 0a000001
host NAPTR 10 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
notes TXT "no address here" "in two strings"
six AAAA 2001:db8:6::6
CaMeL A 192.0.2.7
cdn CNAME www
assets CNAME cdn
deep CNAME to-mail
to-mail CNAME mail-too
mail-too A 192.0.2.26
mail-too MX 5 mail
dangling CNAME nowhere
away CNAME ns.test.
astray CNAME www.plain.test.
old DNAME new
x.new A 192.0.2.8
x.new TXT "new"
*.dev A 192.0.2.80
*.dev AAAA 2001:db8:80::80
x.dev TXT "no wildcard here"
*.alias CNAME mail
a.b.ent A 192.0.2.81
signed NS ns.signed
signed DS {DS}
ns.signed A 127.{N}.0.12
unsigned NS ns.unsigned
ns.unsigned A 127.{N}.0.12
"#;

/// The zones of the node, all alike, and how each proves that something does not exist. The parent has a wrong DS record of
/// the last.
const ZONES: [(&str, &str); 4] =
    [("gslb.test", "nsec"), ("hashed.test", "nsec3"), ("compact.test", "compact"), ("bogus.test", "nsec")];

#[test]
fn every_answer_validates_in_four_resolvers_before_and_after_a_failover_and_across_roll_overs() -> Held {
    let Some(mut bed) = Bed::start()? else { return Ok(()) };
    every_answer_validates(&bed.resolvers, Phase::AllServe)?;
    bed.wrong_ds_is_refused_by_all()?;
    bed.delv_agrees()?;
    bed.globe.take_down("seoul")?;
    bed.wait_until_caches_know()?;
    every_answer_validates(&bed.resolvers, Phase::SeoulIsDown)?;
    bed.roll_over()
}

/// A node that signs, with its parents, a child, and the resolvers.
struct Bed {
    resolvers: Vec<Resolver>,
    tree: Tree,
    _child: Process,
    globe: Globe,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    AllServe,
    SeoulIsDown,
}

impl Bed {
    /// `None` where it cannot be, which is said.
    fn start() -> Result<Option<Self>, String> {
        let names: Vec<_> = STEERED.iter().flat_map(|name| ZONES.map(|(zone, _)| owner(name, zone))).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut globe = Globe::new(53, &names)?;
        let number = globe.number();
        if let Err(why) = is_possible(number) {
            // Not by a macro, whose output the test runner keeps to itself.
            let _ = writeln!(std::io::stderr(), "LEFT OUT: no DNS tree of our own, so nothing is validated: {why}");
            return Ok(None);
        }
        // The resolvers are in Korea.
        globe.write("overrides.csv", format!("127.{number}.0.0/16,,,,,37.5,127\n127.0.0.1/32,,,,,37.5,127\n"))?;
        let child = start_child(&globe)?;
        write_node(&globe, &child.ds)?;
        globe.start_node()?;
        let tree = Tree::start(number, &globe.path(""), &delegations(&globe)?)?;
        let resolvers = Resolver::validating(number, &globe.path(""), &tree)?;
        Ok(Some(Self { resolvers, tree, _child: child.server, globe }))
    }
}

fn every_answer_validates(resolvers: &[Resolver], phase: Phase) -> Held {
    let answers = thread::scope(|scope| {
        let threads: Vec<_> =
            resolvers.iter().map(|resolver| scope.spawn(move || ask_everything(resolver, phase))).collect();
        let answers = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?);
        answers.collect::<Result<Vec<_>, _>>()
    })?;
    for (resolver, other) in resolvers.iter().zip(&answers) {
        for (question, records) in other {
            assert_eq!(Some(records), answers[0].get(question), "{question}: {} in {phase:?}", resolver.name());
        }
    }
    Ok(())
}

/// What a resolver has made of each question: the records without TTL.
type Answers = BTreeMap<String, BTreeSet<String>>;

/// The answers of `resolver` to all questions, each with its records; fails with all that are not as expected.
fn ask_everything(resolver: &Resolver, phase: Phase) -> Result<Answers, String> {
    let (mut answers, mut wrong) = (Answers::new(), Vec::new());
    for (zone, denial) in ZONES.into_iter().filter(|(zone, _)| *zone != "bogus.test") {
        for (name, rtype, expected) in QUESTIONS {
            if resolver.name() == "pdns_recursor" && denial == "nsec3" && name.ends_with(".old") {
                // Below a DNAME it gives NXDOMAIN out of NSEC3 records that it has kept, though their bitmap says DNAME
                // (PowerDNS/pdns, issue 17137; RFC 6672, section 5.3.2).
                continue;
            }
            let name = owner(name, zone);
            let question = format!("{name} {rtype}");
            match resolver.dns().wants_validation().ask(&name, rtype, None) {
                Ok(answer) => {
                    if let Err(why) = expected.holds(&answer, denial, phase) {
                        wrong.push(format!("{question}: expected {expected:?}, but {why}:\n{}", answer.message));
                    }
                    // In a roll-over some may have kept the old ones.
                    if ![RecordType::DNSKEY, RecordType::DS].contains(&rtype) {
                        answers.insert(question, records(&answer));
                    }
                }
                Err(why) => wrong.push(format!("{question}: {why}")),
            }
        }
    }
    match wrong.len() {
        0 => Ok(answers),
        count => {
            wrong.truncate(8);
            Err(format!("{} in {phase:?}, {count} wrong:\n{}", resolver.name(), wrong.join("\n")))
        }
    }
}

impl Expect {
    fn holds(self, answer: &Answer, denial: &str, phase: Phase) -> Held {
        let is_validated = answer.message.metadata.authentic_data;
        let this = match (self, phase) {
            (Self::Strict, Phase::AllServe) => Self::Records,
            (Self::Strict, Phase::SeoulIsDown) => Self::NoData,
            (this, _) => this,
        };
        let rcode = match this {
            // Compact denial has only the type NXNAME to tell it by (RFC 9824, section 3.1).
            Self::NoName if denial == "compact" => answer.rcode(),
            Self::NoName => ResponseCode::NXDomain,
            _ => ResponseCode::NoError,
        };
        // A chain of aliases may lead to nothing.
        let has_records = !answer.message.answers.is_empty();
        let wants_records = matches!(this, Self::Records | Self::Unsigned);
        if answer.rcode() != rcode {
            Err(format!("{} came", answer.rcode()))
        } else if is_validated == (this == Self::Unsigned) {
            Err(format!("AD is {is_validated}"))
        } else if this != Self::NoName && has_records != wants_records {
            Err("the answer section is not so".to_owned())
        } else {
            Ok(())
        }
    }
}

/// The records of the answer, without TTL.
fn records(answer: &Answer) -> BTreeSet<String> {
    let records = answer.message.answers.iter();
    records.map(|record| format!("{} {}", record.record_type(), record.data).to_lowercase()).collect()
}

impl Bed {
    fn wrong_ds_is_refused_by_all(&self) -> Held {
        for resolver in &self.resolvers {
            for (name, rtype) in [("www", RecordType::A), ("", RecordType::SOA), ("nothing", RecordType::A)] {
                let name = owner(name, "bogus.test");
                let answer = resolver.dns().wants_validation().ask(&name, rtype, None)?;
                let context = format!("{} {name} {rtype}: {}", resolver.name(), answer.message);
                assert_eq!(answer.rcode(), ResponseCode::ServFail, "{context}");
            }
        }
        Ok(())
    }

    /// delv asks unbound and validates for itself.
    fn delv_agrees(&self) -> Held {
        let anchor = self.globe.path("delv.keys");
        let dnskey: Vec<_> = self.tree.anchor().dnskey.split_whitespace().map(str::to_owned).collect();
        let (flags, key) = dnskey.split_at_checked(3).ok_or("not a DNSKEY")?;
        let text = format!("trust-anchors {{ . static-key {} \"{}\"; }};\n", flags.join(" "), key.concat());
        self.globe.write("delv.keys", text)?;
        for (name, zone, verdict) in [
            ("www", "gslb.test", "; fully validated"),
            ("deep", "hashed.test", "; fully validated"),
            ("x.old", "compact.test", "; fully validated"),
            ("any.dev", "gslb.test", "; fully validated"),
            ("six", "hashed.test", "; negative response, fully validated"),
            ("nothing", "gslb.test", "; negative response, fully validated"),
            ("nothing", "hashed.test", "; negative response, fully validated"),
            ("nothing", "compact.test", "; negative response, fully validated"),
            ("www.signed", "gslb.test", "; fully validated"),
            ("www.unsigned", "gslb.test", "; unsigned answer"),
            ("www", "bogus.test", "resolution failed: "),
        ] {
            let name = owner(name, zone);
            let text = delv(self.resolvers[0].address(), ".", &anchor, &[&name, "A"])?;
            assert!(text.contains(verdict), "{name}: expected {verdict:?}, got {text}");
        }
        Ok(())
    }

    /// What a resolver keeps, it keeps for two seconds, counted in whole ones.
    fn wait_until_caches_know(&self) -> Held {
        let seoul = |resolver: &Resolver| {
            let address = resolver.dns().ask("www.gslb.test", RecordType::A, None)?.address()?;
            if region_at(address) == Some("seoul") { Err(format!("{} gives seoul", resolver.name())) } else { Ok(()) }
        };
        within(Duration::from_secs(5), || self.resolvers.iter().try_for_each(seoul))?;
        thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Every zone but the bogus one gets new keys, twice, while clients ask all the time.
    fn roll_over(&mut self) -> Held {
        let Self { resolvers, tree, globe, .. } = self;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                let mut rounds = 0;
                while !is_over.load(Ordering::Relaxed) {
                    every_answer_validates(resolvers, Phase::SeoulIsDown)?;
                    rounds += 1;
                }
                Ok::<_, String>(rounds)
            });
            let rolled = roll_keys(globe, tree);
            is_over.store(true, Ordering::Relaxed);
            let rounds: u32 = clients.join().map_err(|_| "a client panicked".to_owned())??;
            rolled?;
            if rounds < 2 { Err(format!("all was asked {rounds} times during the roll-over")) } else { Ok(()) }
        })?;
        self.wait_until_caches_know()?;
        every_answer_validates(&self.resolvers, Phase::SeoulIsDown)
    }
}

/// How the keys of zones are replaced, one round after the other, and how many each has in the end.
const ROLLS: [[(&str, &[&str], usize); 3]; 2] = [
    [
        ("gslb.test", &["roll"], 1),
        ("hashed.test", &["roll --role ksk", "roll --role zsk"], 2),
        ("compact.test", &["roll --algorithm 15"], 1),
    ],
    [
        ("gslb.test", &["roll --to ksk+zsk"], 2),
        ("hashed.test", &["roll --to csk"], 1),
        ("compact.test", &["roll --to ksk+zsk --algorithm 13"], 2),
    ],
];

fn roll_keys(globe: &Globe, tree: &mut Tree) -> Held {
    let confirm = |zone: &str| run_keys(globe, "confirm", zone);
    for (zone, ..) in ROLLS[0] {
        // Not before caches have forgotten that the zone was not signed.
        within(ROLL_OVER, || confirm(zone))?;
    }
    ROLLS.iter().try_for_each(|rolls| roll_all(globe, tree, rolls))
}

fn roll_all(globe: &Globe, tree: &mut Tree, rolls: &[(&str, &[&str], usize)]) -> Held {
    let keys = |action: &str, zone: &str| run_keys(globe, action, zone);
    let old = delegations(globe)?;
    for (zone, actions, _) in rolls {
        // Not before signatures of an algorithm of before are gone.
        actions.iter().try_for_each(|action| within(ROLL_OVER, || keys(action, zone)).map(drop))?;
    }
    let is_due = |(zone, ..): &(&str, &[&str], usize)| {
        let listed = keys("list", zone)?;
        if listed.contains("must come to the parent") { Ok(()) } else { Err(listed) }
    };
    within(ROLL_OVER, || rolls.iter().try_for_each(is_due))?;
    let new = delegations(globe)?;
    let is_new = |(old, new): (&Delegation, &Delegation)| old.ds != new.ds;
    assert_eq!(old.iter().zip(&new).filter(|pair| is_new(*pair)).count(), rolls.len(), "{old:?} {new:?}");
    tree.delegate(&new)?;
    rolls.iter().try_for_each(|(zone, ..)| keys("confirm", zone).map(drop))?;
    let is_over = |(zone, _, count): &(&str, &[&str], usize)| {
        let served = globe.dns().ask(zone, RecordType::DNSKEY, None)?.message.answers.len();
        if served == *count { Ok(()) } else { Err(format!("{zone} has {served} keys:\n{}", keys("list", zone)?)) }
    };
    within(ROLL_OVER, || rolls.iter().try_for_each(is_over)).map(drop)
}

/// The zones below ours, signed and not, and one that is not signed beside ours.
struct Child {
    server: Process,
    /// RDATA of the DS record of the signed child of each of [`ZONES`].
    ds: Vec<String>,
}

fn start_child(globe: &Globe) -> Result<Child, String> {
    let text = |zone: &str| {
        let address = child_address(globe);
        format!(
            "$ORIGIN {zone}.\n$TTL 2\n@ SOA ns hostmaster 1 14400 3600 1209600 2\n@ NS ns\n@ NS ns1\nns A {address}\n\
             ns1 A {address}\nwww A 192.0.2.90\n"
        )
    };
    let folder = globe.path("");
    let (mut zones, mut ds) = (Vec::new(), Vec::new());
    for (zone, _) in ZONES {
        let signed = SignedZone::sign(&folder, &format!("signed.{zone}."), &text(&format!("signed.{zone}")))?;
        zones.push((format!("signed.{zone}."), signed.file));
        ds.push(signed.ds);
    }
    for zone in ZONES.map(|(zone, _)| format!("unsigned.{zone}")).into_iter().chain(["plain.test".to_owned()]) {
        let file = format!("{zone}.zone");
        globe.write(&file, text(&zone))?;
        zones.push((zone + ".", globe.path(&file)));
    }
    let zones: Vec<_> = zones.iter().map(|(zone, file)| (zone.as_str(), file.as_path())).collect();
    Ok(Child { server: serve("child", &folder, &[child_address(globe)], &zones)?, ds })
}

/// The files of the node; keys of its zones are new.
fn write_node(globe: &Globe, child_ds: &[String]) -> Held {
    let mut settings = globe.settings();
    for ((zone, denial), ds) in ZONES.into_iter().zip(child_ds) {
        settings += &format!("[[zones]]\nname = \"{zone}\"\nfile = \"{zone}.db\"\n[zones.dnssec]\nkeys = \"keys\"\n");
        settings +=
            &format!("denial = \"{denial}\"\ndnskey_ttl = \"2s\"\npropagation = \"1s\"\nparent_ds_ttl = \"1s\"\n");
        globe.write(&format!("{zone}.db"), ZONE.replace("{N}", &globe.number().to_string()).replace("{DS}", ds))?;
        for name in STEERED {
            settings += &format!("[services.\"{}\"]\nttl = 2\nttl_degraded = 2\n", owner(name, zone));
            settings += &match name {
                "www" => "https = { alpn = [\"h2\"] }\n".to_owned(),
                "api" => "policy = \"ordered\"\ntiers = [[\"seoul\"], [\"frankfurt\", \"virginia\"]]\n".to_owned(),
                "all" => "policy = \"all\"\n".to_owned(),
                "strict" => "regions = [\"seoul\"]\nlast_resort = \"none\"\n".to_owned(),
                "told" => of_each("txt", |region| format!("[\"served by {region}\"]")),
                "files" => of_each("cname", |region| {
                    let target = if region == "seoul" { "mail" } else { "mail-too" };
                    format!("\"{}\"", owner(target, zone))
                }),
                _ => String::new(),
            };
        }
    }
    globe.write("topology.toml", settings)?;
    for (zone, _) in ZONES {
        let roles = if zone == "hashed.test" { &["ksk", "zsk"][..] } else { &["csk"] };
        roles.iter().try_for_each(|role| run_keys(globe, &format!("new --role {role}"), zone).map(drop))?;
    }
    Ok(())
}

/// The key of a service that says something for each region.
fn of_each(key: &str, value: impl Fn(&str) -> String) -> String {
    let values: Vec<_> = REGIONS.iter().map(|(region, ..)| format!("{region} = {}", value(region))).collect();
    format!("{key} = {{ {} }}\n", values.join(", "))
}

/// `gslb-dns keys ACTION ZONE`, where the action may have options: what it prints.
fn run_keys(globe: &Globe, action: &str, zone: &str) -> Result<String, String> {
    let mut command = Command::new(program("gslb-dns")?);
    command.arg("keys").args(action.split(' ')).args([zone, "--config"]).arg(globe.path("topology.toml"));
    let output = command.output().map_err(|error| error.to_string())?;
    let [out, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("keys {action} {zone}: {out}{errors}")) }
}

/// What the parent tells of our zones now.
fn delegations(globe: &Globe) -> Result<Vec<Delegation>, String> {
    let ours = ZONES.into_iter().map(|(zone, _)| {
        let text = run_keys(globe, "ds", zone)?;
        let mut ds: Vec<_> = text.lines().filter_map(|line| Some(line.split_once(" DS ")?.1.to_owned())).collect();
        if zone == "bogus.test" {
            ds.iter_mut().for_each(tamper);
        }
        Ok(Delegation { zone: zone.to_owned(), servers: globe.servers().map(|server| server.ip()).to_vec(), ds })
    });
    let plain = Delegation { zone: "plain.test".to_owned(), servers: vec![child_address(globe)], ds: Vec::new() };
    ours.chain([Ok(plain)]).collect()
}

/// Makes the last digit of a digest another.
fn tamper(ds: &mut String) {
    let other = if ds.ends_with('0') { '1' } else { '0' };
    ds.pop();
    ds.push(other);
}

fn child_address(globe: &Globe) -> IpAddr {
    IpAddr::from([127, globe.number(), 0, 12])
}

fn owner(name: &str, zone: &str) -> String {
    if name.is_empty() { zone.to_owned() } else { format!("{name}.{zone}") }
}

/// In each zone, the apex too.
const STEERED: [&str; 7] = ["", "www", "api", "all", "strict", "told", "files"];
/// With the times in the settings a few seconds.
const ROLL_OVER: Duration = Duration::from_secs(30);
