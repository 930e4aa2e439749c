//! What is explained is what is served: 10,000 random clients under 100 random states of the regions' health.

use std::net::IpAddr;

use fastrand::Rng;
use gslb_tests::harness::dns::{Answer, subnet_of};
use gslb_tests::harness::world::{REGIONS, SERVICES, World};
use hickory_proto::rr::RecordType;
use serde_json::Value;

type Held = Result<(), String>;

#[test]
fn ten_thousand_random_clients_are_answered_as_explained() -> Held {
    // Short delays, so that recovering and ramping regions are among the states.
    let world = World::start(|settings| {
        let settings = settings.replace("delay = \"10s\"", "delay = \"1s\"");
        settings.replace("policy = \"all\"\n", "policy = \"all\"\nfailback = { delay = \"1s\" }\n")
    })?;
    let mut chance = Rng::with_seed(SEED);
    let (mut compared, mut outcomes) = (0, std::collections::BTreeMap::new());
    for _ in 0..STATES {
        change_health(&world, &mut chance)?;
        for _ in 0..CLIENTS / STATES {
            let (name, client) = (SERVICES[chance.usize(..SERVICES.len())], any_client(&mut chance));
            for outcome in compare(&world, name, client)? {
                *outcomes.entry(outcome).or_insert(0_u32) += 1;
            }
            compared += 1;
        }
    }
    println!("{compared} answers were as explained; regions were {outcomes:?}");
    let kinds = ["chosen", "standby", "unfit", "not-in-share", "last-resort", "outside-fence"];
    let missing: Vec<_> = kinds.iter().filter(|kind| !outcomes.contains_key(**kind)).collect();
    assert!(missing.is_empty(), "these never came up: {missing:?}");
    Ok(())
}

/// An override, or the end of one, for a random region.
fn change_health(world: &World, chance: &mut Rng) -> Held {
    let (region, _) = REGIONS[chance.usize(..REGIONS.len())];
    let service = SERVICES[chance.usize(..SERVICES.len())];
    match chance.u8(..12) {
        0 | 1 => world.override_region("drain", region, None, "1h"),
        2 => world.override_region("down", region, None, "1h"),
        3 | 4 => world.override_region("up", region, None, "1h"),
        5 => world.override_region("down", region, Some(service), "3s"),
        // Refused when there is none to take back, which is as good a state as any.
        _ => world.clear_override(region).or(Ok(())),
    }
}

fn any_client(chance: &mut Rng) -> IpAddr {
    match chance.u8(..4) {
        0 => IpAddr::from((0x2000_0000_0000_0000_u128 << 64 | chance.u128(..) >> 3).to_be_bytes()),
        _ => IpAddr::from(chance.u32(0x0100_0000..0xdfff_ffff).to_be_bytes()),
    }
}

/// Compares one answer with its explanation and gives what became of each region. The state may move by itself between
/// the two, so an answer counts only when it is the same before and after.
fn compare(world: &World, name: &str, client: IpAddr) -> Result<Vec<String>, String> {
    let ask = || world.dns().ask(name, RecordType::A, Some(subnet_of(client)?));
    for _ in 0..10 {
        let (before, explained, after) = (ask()?, world.explain(name, client)?, ask()?);
        if summary(&before) != summary(&after) {
            continue;
        }
        let told = told(&explained);
        if told != summary(&before) {
            return Err(format!(
                "{name} for {client}: answered {:?}, explained {told:?}\n{explained:#}",
                summary(&before)
            ));
        }
        let lines = explained["service"]["regions"].as_array().cloned().unwrap_or_default();
        let chosen = |line: &&Value| line["outcome"] == "chosen" || line["outcome"] == "last-resort";
        let vips = lines.iter().filter(chosen).flat_map(|line| line["vips"].as_array().cloned().unwrap_or_default());
        let mut vips: Vec<IpAddr> = vips.filter_map(|vip| vip.as_str()?.parse().ok()).filter(IpAddr::is_ipv4).collect();
        vips.sort();
        assert_eq!(vips, before.addresses(), "{name} for {client}: {explained:#}");
        return Ok(lines.iter().filter_map(|line| line["outcome"].as_str().map(str::to_owned)).collect());
    }
    Err(format!("{name} for {client}: ten answers in a row were changed by the next"))
}

/// Addresses, TTL and scope.
type Summary = (Vec<IpAddr>, Option<u64>, Option<u64>);

fn summary(answer: &Answer) -> Summary {
    (answer.addresses(), answer.ttl().map(u64::from), answer.scope().map(u64::from))
}

fn told(explained: &Value) -> Summary {
    let records = explained["answer"]["records"].as_array().cloned().unwrap_or_default();
    let mut addresses: Vec<IpAddr> =
        records.iter().filter_map(|record| record["data"].as_str()?.parse().ok()).collect();
    addresses.sort();
    (addresses, records.first().and_then(|record| record["ttl"].as_u64()), explained["answer"]["scope"].as_u64())
}

const CLIENTS: usize = 10_000;
const STATES: usize = 100;
const SEED: u64 = 20_260_101;
