//! A valid topology, written down and read back, says the same.

use std::fmt::Write;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::config::parse_topology;
use crate::topology::{LastResort, Topology};

/// A region as an operator might want it; its name is `r` and its position.
#[derive(Clone, Debug)]
struct WantedRegion {
    latitude: i32,
    bias_km: i32,
    vips: usize,
    proxies: usize,
}

/// A service over some of the regions; its name is `s` and its position.
#[derive(Clone, Debug)]
struct WantedService {
    policy: &'static str,
    tiers: Vec<Vec<usize>>,
    weights: Vec<u32>,
    ttl: u32,
    step: u8,
    last_resort: Option<usize>,
    fence: Option<u32>,
}

fn wanted_region() -> impl Strategy<Value = WantedRegion> {
    (-90..=90, -500..=500, 1..4_usize, 1..5_usize).prop_map(|(latitude, bias_km, vips, proxies)| WantedRegion {
        latitude,
        bias_km,
        vips,
        proxies,
    })
}

fn wanted_service(regions: usize) -> impl Strategy<Value = WantedService> {
    let members = subsequence((0..regions).collect::<Vec<_>>(), 1..=regions).prop_shuffle();
    let policies = prop::sample::select(vec!["nearest", "weighted", "ordered", "all"]);
    let rest = (policies, vec(1..=1000_u32, regions), 0..100_000_u32, 1..=25_u8);
    (members, 1..4_usize, rest, prop::option::of(0..regions), prop::option::of(1..=u32::MAX)).prop_map(
        |(members, tier_len, (policy, weights, ttl, step), last_resort, fence)| {
            let last_resort = last_resort.map(|at| members[at % members.len()]);
            let tiers = members.chunks(tier_len).map(<[usize]>::to_vec).collect();
            WantedService { policy, tiers, weights, ttl, step, last_resort, fence }
        },
    )
}

fn wanted() -> impl Strategy<Value = (Vec<WantedRegion>, Vec<WantedService>)> {
    vec(wanted_region(), 1..12).prop_flat_map(|regions| {
        let services = vec(wanted_service(regions.len()), 0..8);
        (Just(regions), services)
    })
}

fn write(regions: &[WantedRegion], services: &[WantedService]) -> String {
    let mut text = String::new();
    for (at, region) in regions.iter().enumerate() {
        let vips: Vec<String> = (0..region.vips).map(|vip| format!("\"10.{at}.{vip}.1\"")).collect();
        let proxies: Vec<String> =
            (0..region.proxies).map(|proxy| format!("p{proxy} = \"http://10.{at}.9.{proxy}:1/\"")).collect();
        let WantedRegion { latitude, bias_km, proxies: count, .. } = region;
        let _ = writeln!(
            text,
            "[regions.r{at}]\ncoordinates = [{latitude}.5e-1, 1]\nbias_km = {bias_km}\nvips = [{}]\n\
             min_proxies = {count}\nproxies = {{ {} }}",
            vips.join(", "),
            proxies.join(", ")
        );
    }
    for (at, service) in services.iter().enumerate() {
        write_service(&mut text, at, service);
    }
    text
}

fn write_service(text: &mut String, at: usize, service: &WantedService) {
    let named = |tier: &Vec<usize>| tier.iter().map(|at| format!("\"r{at}\"")).collect::<Vec<_>>().join(", ");
    let tiers: Vec<String> = service.tiers.iter().map(|tier| format!("[{}]", named(tier))).collect();
    let weights: Vec<String> =
        service.tiers.iter().flatten().map(|&at| format!("r{at} = {}", service.weights[at])).collect();
    let WantedService { policy, ttl, step, .. } = service;
    let _ = writeln!(
        text,
        "[services.\"S{at}.Example.\"]\npolicy = \"{policy}\"\ntiers = [{}]\nweights = {{ {} }}\nttl = {ttl}\n\
         failback = {{ ramp_step_percent = {step} }}",
        tiers.join(", "),
        weights.join(", ")
    );
    if let Some(region) = service.last_resort {
        let _ = writeln!(text, "last_resort = [\"r{region}\"]");
    }
    if let Some(asn) = service.fence {
        let region = service.tiers[0][0];
        let _ = writeln!(text, "keep_within = [{{ clients = {{ asns = [{asn}] }}, regions = [\"r{region}\"] }}]");
    }
}

fn assert_regions_as_wanted(topology: &Topology, regions: &[WantedRegion]) {
    assert_eq!(topology.regions.len(), regions.len());
    assert!(topology.regions.is_sorted_by(|a, b| a.name < b.name));
    for (at, wanted) in regions.iter().enumerate() {
        let name = format!("r{at}").parse().expect("a label");
        let region = topology.region(topology.find_region(&name).expect("it was written"));
        assert_eq!((region.vips.len(), region.proxies.len()), (wanted.vips, wanted.proxies));
        assert_eq!((region.bias_km, region.min_proxies as usize), (wanted.bias_km, wanted.proxies));
        assert!(region.proxies.is_sorted_by(|a, b| a.name < b.name));
    }
}

fn assert_service_as_wanted(topology: &Topology, at: usize, wanted: &WantedService) {
    let name = format!("s{at}.example").parse().expect("an owner name");
    let service = topology.service(topology.find_service(&name).expect("it was written"));
    let steering = topology.steering(service);
    let region = |member| topology.member_name(service, member).to_string();
    assert_eq!(
        (steering.policy.as_str(), service.ttl, service.failback.ramp_step_percent),
        (wanted.policy, wanted.ttl, wanted.step)
    );
    assert!(service.ttl_degraded <= service.ttl);
    let flat = wanted.tiers.iter().enumerate().flat_map(|(tier, members)| members.iter().map(move |at| (tier, *at)));
    let flat: Vec<(usize, usize)> = flat.collect();
    assert_eq!(steering.members.len(), flat.len());
    assert_eq!(service.vips.len(), flat.len());
    for (member, (tier, at)) in steering.member_ids().zip(flat) {
        let read = steering.member(member);
        assert_eq!((region(member), usize::from(read.tier), read.weight), (format!("r{at}"), tier, wanted.weights[at]));
        assert_eq!(service.vips_of(member), topology.region(read.region).vips);
    }
    match (&service.last_resort, wanted.last_resort) {
        (LastResort::All, None) => {}
        (LastResort::Regions(named), Some(at)) => {
            assert_eq!(named.iter().map(|&id| region(id)).collect::<Vec<_>>(), [format!("r{at}")])
        }
        other => panic!("{other:?}"),
    }
    let fences: Vec<u32> = steering.keep_within.iter().flat_map(|fence| fence.rule.clients.asns.clone()).collect();
    assert_eq!(fences, Vec::from_iter(wanted.fence));
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read((regions, services) in wanted()) {
        let text = write(&regions, &services);
        let topology = parse_topology("t.toml", &text).map_err(|problems| TestCaseError::fail(format!("{problems:?}\n{text}")))?;
        assert_regions_as_wanted(&topology, &regions);
        assert_eq!(topology.services.len(), services.len());
        for (at, wanted) in services.iter().enumerate() {
            assert_service_as_wanted(&topology, at, wanted);
        }
        for (at, steering) in topology.steerings.iter().enumerate() {
            assert!(!topology.steerings[..at].contains(steering), "each is kept once");
        }
    }
}
