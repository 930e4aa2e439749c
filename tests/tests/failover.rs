//! How fast and how gently clients move, measured at real sockets with the default `[probe]` settings.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gslb_tests::harness::POLL;
use gslb_tests::harness::dns::DnsClient;
use gslb_tests::harness::tools::dig_short;
use gslb_tests::harness::within;
use gslb_tests::harness::world::World;

type Held = Result<(), String>;

const NAME: &str = "www.gslb.test";
const KOREAN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 208, 0, 1));

#[test]
fn killed_region_loses_its_clients_within_a_second_and_a_half_and_gets_them_back_in_steps() -> Held {
    let mut world = World::start(|settings| settings)?;
    let asker = Asker::start(world.dns());
    world.kill_proxies("seoul")?;
    let took = move_to(&world, "frankfurt", Duration::from_millis(1500))?;
    println!("clients of a killed region moved after {took:?}");
    world.start_proxies("seoul")?;
    let restarted = Instant::now();
    let levels = watch_ramp(&world, restarted)?;
    println!("shares seen on the way back: {levels:?}");
    for expected in [0, 25, 50, 75, 100] {
        let is_seen = levels.iter().any(|(_, level)| level.abs_diff(expected) <= TOLERANCE);
        assert!(is_seen, "no share near {expected} % in {levels:?}");
    }
    let first = levels.iter().find(|(_, level)| *level > 0).map(|(at, _)| *at).unwrap_or_default();
    assert!(first >= Duration::from_secs(10), "clients came back {first:?} after the restart, the delay is 10 s");
    asker.stop()
}

#[test]
fn frozen_region_loses_its_clients_within_three_seconds() -> Held {
    let mut world = World::start(|settings| settings)?;
    let asker = Asker::start(world.dns());
    world.freeze_proxies("seoul")?;
    let took = move_to(&world, "frankfurt", Duration::from_secs(3))?;
    println!("clients of a frozen region moved after {took:?}");
    world.thaw_proxies("seoul")?;
    within(Duration::from_secs(3), || verdict_is(&world, "seoul", "recovering"))?;
    asker.stop()
}

#[test]
fn region_without_origin_servers_loses_its_clients() -> Held {
    let mut world = World::start(|settings| settings)?;
    let asker = Asker::start(world.dns());
    world.fail_origins("seoul", true)?;
    // The proxies' own checks first: three failures half a second apart.
    let took = move_to(&world, "frankfurt", Duration::from_secs(5))?;
    println!("clients of a region without servers moved after {took:?}");
    let (_, failure) = (world.verdict(NAME, "seoul")?, reason(&world, "seoul")?);
    assert!(failure.contains("0 of 2 servers up"), "{failure}");
    asker.stop()
}

#[test]
fn manual_recovery_outlives_restarts_of_the_node_and_ends_by_an_operator() -> Held {
    let mut world = World::start(|settings| {
        let settings =
            settings.replace("# state_file = \"/var/lib/gslb-dns/state.json\"", "state_file = \"state.json\"");
        settings.replace("mode = \"auto\", delay = \"10s\"", "mode = \"manual\", delay = \"1s\"")
    })?;
    world.kill_proxies("seoul")?;
    within(Duration::from_secs(3), || verdict_is(&world, "seoul", "down"))?;
    world.start_proxies("seoul")?;
    within(Duration::from_secs(3), || verdict_is(&world, "seoul", "recovering"))?;
    world.override_region("drain", "virginia", None, "1h")?;
    world.stop_node()?;
    world.start_node()?;
    for _ in 0..20 {
        verdict_is(&world, "seoul", "recovering")?;
        verdict_is(&world, "virginia", "draining")?;
        thread::sleep(POLL);
    }
    // A crash loses nothing either.
    world.node()?.kill();
    world.start_node()?;
    verdict_is(&world, "seoul", "recovering")?;
    verdict_is(&world, "virginia", "draining")?;
    world.override_region("resume", "seoul", None, "1m")?;
    within(Duration::from_secs(1), || verdict_is(&world, "seoul", "ramping"))?;
    within(Duration::from_secs(10), || verdict_is(&world, "seoul", "serving"))?;
    Ok(())
}

/// How long it takes until `dig` gets `region` for a Korean client, looked at every 50 ms.
fn move_to(world: &World, region: &str, limit: Duration) -> Result<Duration, String> {
    let look = || match dig_short(world.server(), &[NAME, "A", "+subnet=1.208.0.0/24"])?.as_slice() {
        [address] if *address == world.vip(region) => Ok(()),
        other => Err(format!("{other:?} is answered")),
    };
    within(limit, look).map(|((), took)| took)
}

/// The share of Korean blocks that Seoul has, whenever it is another, until it has all of them.
fn watch_ramp(world: &World, restarted: Instant) -> Result<Vec<(Duration, u32)>, String> {
    let mut levels: Vec<(Duration, u32)> = Vec::new();
    while restarted.elapsed() < Duration::from_secs(40) {
        let level = share_of_seoul(world)?;
        let before = levels.last().map(|(_, level)| *level);
        let is_new = before.is_none_or(|before| before.abs_diff(level) > 2);
        if is_new {
            assert!(level <= before.unwrap_or(0) + 25 + TOLERANCE, "from {before:?} % to {level} % at once");
            assert!(before.is_none_or(|before| before < level), "from {before:?} % back to {level} %");
            levels.push((restarted.elapsed(), level));
        }
        if level == 100 {
            return Ok(levels);
        }
        thread::sleep(POLL);
    }
    Err(format!("Seoul has not got its clients back after 40 s: {levels:?}"))
}

/// In percent, of [`BLOCKS`] Korean /24 blocks.
fn share_of_seoul(world: &World) -> Result<u32, String> {
    let mut count = 0;
    for block in 0..BLOCKS {
        let client = IpAddr::from((0x01d0_0000_u32 + (block << 8)).to_be_bytes());
        count += u32::from(world.dns().ask_for(NAME, client)?.address()? == world.vip("seoul"));
    }
    Ok(count * 100 / BLOCKS)
}

fn verdict_is(world: &World, region: &str, expected: &str) -> Held {
    let (verdict, share) = world.verdict(NAME, region)?;
    if verdict == expected { Ok(()) } else { Err(format!("{region} is {verdict} ({share} %), expected {expected}")) }
}

fn reason(world: &World, region: &str) -> Result<String, String> {
    let explained = world.explain(NAME, KOREAN)?;
    let regions = explained["service"]["regions"].as_array().cloned().unwrap_or_default();
    let found = regions.iter().find(|line| line["region"] == region);
    Ok(found.map(|line| line["reason"].to_string()).unwrap_or_default())
}

/// Asks every few milliseconds; not one query may go unanswered.
struct Asker {
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Asker {
    fn start(dns: DnsClient) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let thread = thread::spawn(move || {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                dns.ask_for(NAME, KOREAN)?.address()?;
                asked += 1;
                thread::sleep(Duration::from_millis(5));
            }
            Ok(asked)
        });
        Self { is_stopped, thread }
    }

    fn stop(self) -> Held {
        self.is_stopped.store(true, Ordering::Relaxed);
        let asked = self.thread.join().map_err(|_| "the asker has panicked")??;
        println!("{asked} queries, each answered");
        if asked > 100 { Ok(()) } else { Err(format!("only {asked} queries were asked")) }
    }
}

const BLOCKS: u32 = 480;
/// Points by which a share of 480 blocks may miss the share meant: more than three standard deviations.
const TOLERANCE: u32 = 7;
