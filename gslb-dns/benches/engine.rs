//! How long the engine takes, and whatever is built for it: `cargo bench -p gslb-dns --bench engine`.
//!
//! Each measured call of `answer` and `locate` handles many queries; the figure that counts is items a second.

mod inputs;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fastrand::Rng;
use gslb_dns::answer::Snapshot;
use gslb_dns::geo::{Depth, GeoTables};
use gslb_dns::limit::{Account, Limiter, Limits};
use gslb_dns::zone::ZoneSet;
use inputs::{World, answer_all, hosts, kinds, load, places, random_v4, zone_text};
use shared::moment::Moment;
use shared::state::{Action, Event, Override, State};

fn main() {
    divan::main();
}

const NAMES: [&str; 11] = [
    "static",
    "static-without-edns",
    "nxdomain",
    "nxdomain-deep",
    "referral",
    "wildcard",
    "steered-by-resolver",
    "steered-by-ecs",
    "steered-https",
    "all-of-eight-regions",
    "tcp",
];

const HOSTS: usize = 200_000;

#[divan::bench(args = NAMES)]
fn answer(bencher: Bencher<'_, '_>, name: &str) {
    let world = World::new(2);
    let snapshot = world.snapshot(world.zones(0));
    let kind = kinds(1024).into_iter().find(|kind| kind.name == name).expect("names here are of kinds");
    let mut out = vec![0; 65_535];
    let bencher = bencher.counter(ItemsCount::new(kind.queries.len()));
    bencher.bench_local(|| answer_all(&snapshot, &kind.queries, &mut out));
}

#[divan::bench(sample_count = 20)]
fn answer_among_200_000_names(bencher: Bencher<'_, '_>) {
    let world = World::new(2);
    let snapshot = world.snapshot(world.zones(HOSTS));
    let kind = hosts(HOSTS, 100_000);
    let mut out = vec![0; 1232];
    let bencher = bencher.counter(ItemsCount::new(kind.queries.len()));
    bencher.bench_local(|| answer_all(&snapshot, &kind.queries, &mut out));
}

#[divan::bench(args = [100, 100_000])]
fn judge(bencher: Bencher<'_, '_>, networks: usize) {
    let limits = Limits {
        responses_per_second: NonZeroU32::new(Limits::RATE_MAX).expect("a rate"),
        responses_per_second_in_all: NonZeroU32::new(Limits::RATE_MAX),
        slip: 1,
        exempt: vec!["127.0.0.0/8".parse().expect("a network")],
        buckets: 1 << 16,
    };
    let limiter = Limiter::new(&limits, [7; Limiter::SEED_LEN]);
    let (mut rng, accounts) = (Rng::with_seed(9), [0_u64; 64]);
    let networks: Vec<IpAddr> = (0..networks).map(|_| random_v4(&mut rng).into()).collect();
    let asked: Vec<(IpAddr, Account)> =
        (0..16_384).map(|_| (networks[rng.usize(..networks.len())], Account::of(&accounts[rng.usize(..64)]))).collect();
    let mut now = Moment::START;
    bencher.counter(ItemsCount::new(asked.len())).bench_local(|| {
        now = now + Duration::from_secs(1);
        let gate = limiter.at(now);
        asked.iter().for_each(|&(network, account)| _ = black_box(gate.judge(black_box(network), account)));
    });
}

#[divan::bench(args = ["IPv4, resolver", "IPv4, subnet", "IPv6, resolver", "IPv6, subnet"])]
fn locate(bencher: Bencher<'_, '_>, what: &str) {
    let world = World::new(2);
    let mut rng = Rng::with_seed(9);
    let is_v4 = what.starts_with("IPv4");
    let depth = if what.ends_with("resolver") { Depth::Resolver } else { Depth::Subnet };
    let mut random = || -> IpAddr { if is_v4 { random_v4(&mut rng).into() } else { random_v6(&mut rng).into() } };
    let addresses: Vec<IpAddr> = (0..16_384).map(|_| random()).collect();
    bencher.counter(ItemsCount::new(addresses.len())).bench_local(|| {
        addresses.iter().for_each(|&address| _ = black_box(world.geo.locate(black_box(address), depth)));
    });
}

/// 1,000 services and 8 regions, of which one is one failed probe away from falling.
struct Fall {
    world: World,
    zones: Arc<ZoneSet>,
    state: State,
}

impl Fall {
    fn new() -> Self {
        let world = World::new(1000);
        let mut state = world.state();
        let region = &world.topology.regions[0].name;
        (1..world.topology.probe.fall).for_each(|_| world.probe(&mut state, region, false));
        let zones = world.zones(0);
        Self { world, zones, state }
    }
}

#[divan::bench]
fn fall_of_a_region_taken_in(bencher: Bencher<'_, '_>) {
    let fall = Fall::new();
    let region = &fall.world.topology.regions[0].name;
    bencher.with_inputs(|| fall.state.clone()).bench_local_refs(|state| fall.world.probe(state, region, false));
}

#[divan::bench]
fn order_for_a_region_taken_in(bencher: Bencher<'_, '_>) {
    let fall = Fall::new();
    let order = Override {
        region: fall.world.topology.regions[1].name.clone(),
        service: None,
        action: Action::Down,
        who: "bench".to_owned(),
        why: "bench".to_owned(),
        expires: Moment::START + Duration::from_secs(60),
    };
    bencher
        .with_inputs(|| (fall.state.clone(), Event::Override(order.clone())))
        .bench_local_values(|(mut state, order)| (state.apply(order, Moment::START).is_ok(), state));
}

#[divan::bench]
fn snapshot_after_the_fall(bencher: Bencher<'_, '_>) {
    let mut fall = Fall::new();
    let region = fall.world.topology.regions[0].name.clone();
    fall.world.probe(&mut fall.state, &region, false);
    bencher.bench_local(|| Snapshot::new(Arc::clone(&fall.zones), Arc::clone(&fall.world.geo), fall.state.view()));
}

/// From the failed probe to the first answer that is another than before.
#[divan::bench]
fn event_to_first_changed_answer(bencher: Bencher<'_, '_>) {
    let fall = Fall::new();
    let region = &fall.world.topology.regions[0].name;
    let snapshot = |state: &State| Snapshot::new(Arc::clone(&fall.zones), Arc::clone(&fall.world.geo), state.view());
    let live = ArcSwap::from_pointee(snapshot(&fall.state));
    let query = kinds(1).into_iter().find(|kind| kind.name == "all-of-eight-regions").expect("a kind");
    let mut out = vec![0; 1232];
    let before = answer_all(&live.load(), &query.queries, &mut out);
    let bencher = bencher.with_inputs(|| {
        live.store(Arc::new(snapshot(&fall.state)));
        (fall.state.clone(), fall.world.probed(region, false))
    });
    bencher.bench_local_values(|(mut state, event)| {
        let changes = state.apply(event, Moment::START);
        live.store(Arc::new(snapshot(&state)));
        let after = answer_all(&live.load(), &query.queries, &mut out);
        assert!(after < before, "an answer of seven regions is shorter than one of eight");
        (changes, state)
    });
}

#[divan::bench(sample_count = 10)]
fn geo_tables_built(bencher: Bencher<'_, '_>) {
    let (places, world) = (places(), World::new(2));
    bencher.bench_local(|| GeoTables::build(&places, &world.topology));
}

#[divan::bench(sample_count = 5)]
fn zone_of_200_000_names_loaded(bencher: Bencher<'_, '_>) {
    let world = World::new(2);
    let text = zone_text(HOSTS);
    bencher.bench_local(|| ZoneSet::build(vec![load(&text)], &world.topology).expect("zone and settings go together"));
}

/// An address of 2000::/3.
fn random_v6(rng: &mut Rng) -> [u8; 16] {
    (1 << 125 | rng.u128(..) >> 3).to_be_bytes()
}
