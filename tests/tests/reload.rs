//! Reloads: ten of them under load lose nothing and answer nothing wrong; a bad one changes nothing and says why.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use gslb_tests::harness::dns::query;
use gslb_tests::harness::generator::{Generator, Report};
use gslb_tests::harness::within;
use gslb_tests::harness::world::World;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use nix::sys::signal::Signal;

type Held = Result<(), String>;

const RATE: u32 = 20_000;

#[test]
fn ten_reloads_under_load_lose_no_query_and_give_no_wrong_answer() -> Held {
    let mut world = World::start(|settings| settings)?;
    let questions = questions(&world)?;
    let queries = questions.iter().map(|question| question.query.clone()).collect();
    let load = Generator::start(world.server(), queries, RATE)?;
    within(Duration::from_secs(5), || {
        if load.sent() > 10_000 { Ok(()) } else { Err("the load does not start".to_owned()) }
    })?;
    let files = [world.topology()?, world.read("gslb.test.zone")?, world.read("overrides.csv")?];
    for round in 0..10 {
        let before = generation(&world)?;
        reload(&mut world, round, &files)?;
        within(Duration::from_secs(10), || match generation(&world)? {
            now if now > before => Ok(()),
            now => Err(format!("reload {round} is not taken over: generation {now}")),
        })?;
        let sent = load.sent();
        within(Duration::from_secs(5), || {
            if load.sent() > sent + 2_000 { Ok(()) } else { Err("the load stands".to_owned()) }
        })?;
    }
    let report = load.stop()?;
    judge(&report, &questions)
}

/// One of the ten: topology, zone, places, or nothing at all but SIGHUP. `files` are the first three as they were.
fn reload(world: &mut World, round: usize, files: &[String; 3]) -> Held {
    let [topology, zone, overrides] = files;
    match round % 4 {
        0 => world.write("topology.toml", topology.replace("bias_km = 0", &format!("bias_km = {}", 10 * (round + 1)))),
        1 => world.write("gslb.test.zone", zone.replace("2026010101", &format!("20260102{round:02}"))),
        2 => world.write("overrides.csv", format!("{overrides}203.0.113.{}/28,US,,,\n", 16 * round)),
        _ => world.node()?.signal(Signal::SIGHUP),
    }
}

struct Question {
    query: Vec<u8>,
    name: &'static str,
    rcode: ResponseCode,
    /// The one address that is right; `None`: there is none, or it is not an address.
    address: Option<IpAddr>,
}

fn questions(world: &World) -> Result<Vec<Question>, String> {
    let question = |name, rtype, client: Option<&str>, rcode, address| {
        let subnet = client.map(|net| net.parse().map_err(|_| format!("{net} is no network"))).transpose()?;
        Ok(Question { query: query(name, rtype, subnet)?, name, rcode, address })
    };
    let steered = |client, region| {
        question("www.gslb.test", RecordType::A, Some(client), ResponseCode::NoError, Some(world.vip(region)))
    };
    [
        steered("1.208.0.0/24", "seoul"),
        steered("91.0.0.0/24", "frankfurt"),
        steered("12.0.0.0/24", "virginia"),
        question("mail.gslb.test", RecordType::A, None, ResponseCode::NoError, Some(IpAddr::from([192, 0, 2, 25]))),
        question("gslb.test", RecordType::SOA, None, ResponseCode::NoError, None),
        question("nothing.gslb.test", RecordType::A, None, ResponseCode::NXDomain, None),
    ]
    .into_iter()
    .collect()
}

fn judge(report: &Report, questions: &[Question]) -> Held {
    let rate = report.sent as f64 / report.took.as_secs_f64();
    println!("{} queries at {rate:.0}/s, {} lost", report.sent, report.lost);
    for (question, answers) in questions.iter().zip(&report.answers) {
        for (bytes, count) in answers {
            // The id was cut off.
            let message =
                Message::from_vec(&[&[0, 0], bytes.as_slice()].concat()).map_err(|error| error.to_string())?;
            let address = message.answers.iter().find_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                _ => None,
            });
            let is_right = message.metadata.response_code == question.rcode && address == question.address;
            assert!(is_right, "{count} times for {}: {message}", question.name);
        }
    }
    let answered: u64 = report.answers.iter().flat_map(HashMap::values).sum();
    assert_eq!((report.lost, answered), (0, report.sent));
    assert!(rate > f64::from(RATE) * 0.9, "only {rate:.0} queries/s were sent: this machine is too slow or too busy");
    Ok(())
}

#[test]
fn mistakes_in_a_reload_change_nothing_and_are_shown() -> Held {
    let mut world = World::start(|settings| settings)?;
    let korean = IpAddr::from([1, 208, 0, 1]);
    let broken: [(&str, &[u8], &str); 5] = [
        ("topology.toml", b"[server]\nlisten = [\"nowhere\"]\n[services.x]\npolicy = \"best\"\n", "listen"),
        ("gslb.test.zone", b"@ SOA ns1 hostmaster 1 2 3 4 5\n@ NS ns1\nbad A 300.1.2.3\n", "gslb.test.zone"),
        ("overrides.csv", b"1.2.3.0/24,Nowhere,,,\n", "overrides.csv"),
        ("countries.csv", b"KR,AS,91,181\n", "countries.csv"),
        ("geo-whois-asn-country.mmdb", b"this is no database", "geo-whois-asn-country.mmdb"),
    ];
    for (file, content, named) in broken {
        let good = std::fs::read(world.path(file)).map_err(|error| error.to_string())?;
        let (generation_before, failures) = (generation(&world)?, failures(&world)?);
        let logged = world.node()?.log().len();
        world.write(file, content)?;
        let ((), _) = within(Duration::from_secs(10), || match self::failures(&world)? {
            now if now > failures => Ok(()),
            _ => Err(format!("{file}: no failure is shown")),
        })?;
        let shown = world.status()?["last_reload_failure"]["problems"].to_string();
        assert!(shown.contains(named), "{file}: {shown}");
        world.node()?.wait_for_line(named, logged, Duration::from_secs(5))?;
        assert_eq!(generation(&world)?, generation_before, "{file}");
        assert_eq!(world.dns().ask_for("www.gslb.test", korean)?.address()?, world.vip("seoul"), "{file}");
        world.write(file, good)?;
        world.node()?.signal(Signal::SIGHUP)?;
        let repaired = || match world.status()?["last_reload_failure"].is_null() {
            true => Ok(()),
            false => Err(format!("{file}: the failure is still shown")),
        };
        within(Duration::from_secs(10), repaired)?;
    }
    Ok(())
}

fn generation(world: &World) -> Result<u64, String> {
    world.status()?["generation"].as_u64().ok_or_else(|| "no generation in /status".to_owned())
}

fn failures(world: &World) -> Result<u64, String> {
    world.status()?["reload_failures"].as_u64().ok_or_else(|| "no reload_failures in /status".to_owned())
}
