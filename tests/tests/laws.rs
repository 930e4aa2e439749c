//! The laws of the DR rules over random topologies and random scripts: checked at every step of the simulation.

use std::time::Duration;

use gslb_tests::scenario::{Script, Simulation};
use proptest::prelude::*;
use shared::config::parse_topology;
use shared::moment::Moment;
use shared::snapshot::{Share, View};
use shared::topology::Topology;

const REGIONS: [(&str, &str); 4] = [
    ("seoul", "37.57, 126.98"),
    ("frankfurt", "50.11, 8.68"),
    ("virginia", "39.04, -77.49"),
    ("sydney", "-33.87, 151.21"),
];

/// A topology of some of [`REGIONS`], as its text.
fn any_topology() -> impl Strategy<Value = String> {
    let probe = (1..4_u32, 1..4_u32, prop::sample::select(vec!["200ms", "500ms"]));
    (2..=REGIONS.len(), 1..3_usize, probe, prop::collection::vec(any_service(), 1..3)).prop_map(
        |(regions, proxies, (rise, fall, interval), services)| {
            let mut text = format!("[probe]\nrise = {rise}\nfall = {fall}\ninterval = \"{interval}\"\n");
            for (at, (name, place)) in REGIONS.iter().enumerate().take(regions) {
                let proxy = |n| format!("{name}-{n} = \"http://192.0.2.{}{n}:8081/status\"", at + 1);
                let listed: Vec<String> = (1..=proxies).map(proxy).collect();
                text += &format!("[regions.{name}]\ncoordinates = [{place}]\nvips = [\"192.0.2.{}\"]\n", at + 1);
                text += &format!("proxies = {{ {} }}\n", listed.join(", "));
            }
            for (at, service) in services.iter().enumerate() {
                text += &format!("[services.\"s{at}.example.com\"]\n{service}");
            }
            text
        },
    )
}

fn any_service() -> impl Strategy<Value = String> {
    let policy = prop::sample::select(vec!["nearest", "weighted", "ordered", "all"]);
    let last_resort = prop::sample::select(vec!["\"all\"", "\"none\"", "[\"frankfurt\"]"]);
    let fence = prop::sample::select(vec!["", "hard", "soft"]);
    let mode = prop::sample::select(vec!["auto", "manual"]);
    let tiers = prop::sample::select(vec!["", "tiers = [[\"frankfurt\"], [\"seoul\"]]\n"]);
    let ramp = (1..=25_u8, 1..20_u32, 0..20_u32);
    (policy, last_resort, fence, mode, tiers, ramp, 0..3_u32).prop_map(
        |(policy, last_resort, fence, mode, tiers, (step, ttl, delay), min_servers)| {
            let mut text = format!("policy = \"{policy}\"\n{tiers}last_resort = {last_resort}\nttl = 20\n");
            text += &format!("ttl_degraded = {ttl}\nmin_servers = {min_servers}\n");
            text += &format!("failback = {{ mode = \"{mode}\", delay = \"{delay}s\", ramp_step_percent = {step} }}\n");
            text += "flap = { half_life = \"30s\", suppress = 2500, reuse = 1000 }\n";
            text += "prefer = [ { clients = { asns = [64500] }, regions = [\"seoul\"] } ]\n";
            if !fence.is_empty() {
                let rule =
                    "clients = { countries = [\"DE\"], networks = [\"203.0.113.0/24\"] }, regions = [\"frankfurt\"]";
                text += &format!("keep_within = [ {{ {rule}, fence = \"{fence}\" }} ]\n");
            }
            text
        },
    )
}

/// Up to sixty things that happen within two minutes, as the lines of a script.
fn any_script() -> impl Strategy<Value = String> {
    prop::collection::vec((0..120_000_u32, any_action()), 0..60).prop_map(|actions| {
        let lines = actions.iter().map(|(ms, action)| format!("{ms}ms {action}\n"));
        CLIENTS.to_owned() + &lines.collect::<String>() + "140s end\n"
    })
}

const CLIENTS: &str = "client kr 198.51.100.1 at 37.5 127.0 KR in AS\nclient de 198.51.100.200 at 52.5 13.4 DE in EU\n\
    client fenced 203.0.113.9 nowhere\nclient preferred 2001:db8::1 nowhere as64500\n\
    crowd blocks 198.18.0.0/21 at -30.0 150.0 AU in OC\n";

fn any_action() -> impl Strategy<Value = String> {
    let region = prop::sample::select(vec!["seoul", "frankfurt"]);
    let target = prop::sample::select(vec!["seoul", "frankfurt", "seoul-1", "frankfurt-1", "all"]);
    let health = prop::sample::select(vec![
        "live",
        "live",
        "die",
        "freeze",
        "drain",
        "undrain",
        "servers ? s0.example.com 0/2",
        "servers ? s0.example.com 1/2",
        "servers ? s0.example.com 2/2",
        "vip ? lost",
        "vip ? held",
    ]);
    let order = prop::sample::select(vec![
        "override drain ? for 20s by anna: why",
        "override down ? for 9s by anna: why",
        "override up ? for 30s by anna: why",
        "override down ? s0.example.com for 15s by anna: why",
        "resume ? by anna: why",
        "clear ?",
        "clear ? s0.example.com",
    ]);
    let node = prop::sample::select(vec!["node cut off", "node connected", "node connected", "restart after 2s"]);
    let about = |(line, name): (&str, &str)| match line.contains('?') {
        true => line.replace('?', name),
        false => format!("{line} {name}"),
    };
    prop_oneof![10 => (health, target).prop_map(about), 3 => (order, region).prop_map(about), 1 => node.prop_map(str::to_owned)]
}

fn simulate(topology: &str, script: &str) -> (Simulation, Moment) {
    let topology: Topology = parse_topology("topology.toml", topology).expect("topologies here are right");
    let script = Script::parse(script).expect("scripts here are well-formed");
    let mut simulation = Simulation::new(topology, script.askers);
    script.actions.into_iter().for_each(|(at, action)| simulation.schedule(at, action, None));
    (simulation, script.end)
}

fn shares(view: &View) -> Vec<Share> {
    view.services.iter().flat_map(|service| &service.standings).map(|standing| standing.share).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_whatever_happens_and_the_same_happens_again(topology in any_topology(), script in any_script()) {
        let (mut simulation, end) = simulate(&topology, &script);
        let mut again = simulation.clone();
        let broken = simulation.run_until(end).err();
        prop_assert_eq!(broken, None, "{}\n{}", topology, simulation.clone().into_timeline());
        prop_assert!(again.run_until(end).is_ok());
        prop_assert_eq!(simulation.into_timeline(), again.into_timeline());
    }

    #[test]
    fn restored_state_takes_the_same_shares_and_saves_the_same(
        topology in any_topology(), script in any_script(), at_ms in 1_000..140_000_u64,
    ) {
        let (mut simulation, _) = simulate(&topology, &script);
        let at = Moment::from_start(Duration::from_millis(at_ms));
        prop_assert_eq!(simulation.run_until(at), Ok(()));
        prop_assume!(simulation.state().is_settled() && simulation.state().view().doubts_itself_since.is_none());
        let mut restored = simulation.clone();
        prop_assert_eq!(restored.restore(), Ok(()));
        // That proxies drain is known again at their next answer; until then a drained recovery shows as a recovery.
        prop_assert_eq!(shares(&restored.state().view()), shares(&simulation.state().view()));
        prop_assert_eq!(restored.state().save(at), simulation.state().save(at));
    }
}

#[test]
fn a_region_that_lives_on_serves_again_in_the_end() {
    let topology = include_str!("../scenarios/one-region-dies/topology.toml");
    let script =
        "client kr 203.0.113.1 at 37.5 127.0\n0s live all\n5s die seoul\n20s freeze all\n30s live all\n300s end";
    let (mut simulation, end) = simulate(topology, script);
    simulation.run_until(end).expect("no law is broken");
    assert!(shares(&simulation.state().view()).iter().all(|&share| share == Share::ALL));
}
