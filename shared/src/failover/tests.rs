//! Laws of the choice.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::place::{ClientBlock, Country, Place};
use crate::sample::{REGIONS, WEB, place, standings, tokyo, topology, topology_with};
use crate::snapshot::{ServiceView, Share, Standing, Verdict};
use crate::topology::{Clients, Fence, FenceStrength, LastResort, MemberId, Policy, Rule, Topology};

use super::{Because, Decision, decide, rank};

const FRANKFURT: MemberId = MemberId(0);
const SEOUL: MemberId = MemberId(1);
const VIRGINIA: MemberId = MemberId(2);
use Verdict::{Down, Draining, Ramping, Recovering, Serving};

fn client(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + (n << 8)).into()
}

fn decide_at(topology: &Topology, view: &ServiceView, place: &Place, address: IpAddr) -> Decision {
    let order = rank(topology, &topology.steerings[0], place, address).order();
    decide(topology, WEB, view, &order, ClientBlock::of(address))
}

fn first(topology: &Topology, verdicts: &[Verdict]) -> Option<MemberId> {
    decide_at(topology, &standings(verdicts), &tokyo(), client(1)).first
}

fn members(topology: &Topology, place: &Place) -> Vec<MemberId> {
    let order = rank(topology, &topology.steerings[0], place, client(1)).order();
    order.members().iter().map(|placed| placed.member).collect()
}

fn koreans() -> Clients {
    Clients { countries: vec![Country::parse("KR").expect("two letters")], ..Clients::default() }
}

fn korean() -> Place {
    Place { country: Country::parse("KR"), ..tokyo() }
}

fn share_of(topology: &Topology, view: &ServiceView, member: MemberId) -> f64 {
    let hits = (0..4000).filter(|&n| decide_at(topology, view, &tokyo(), client(n)).first == Some(member)).count();
    hits as f64 / 40.0
}

#[test]
fn nearest_region_comes_first() {
    assert_eq!(members(&topology(), &tokyo()), [SEOUL, FRANKFURT, VIRGINIA]);
    assert_eq!(members(&topology(), &place(-15.8, -47.9)), [VIRGINIA, FRANKFURT, SEOUL]);
}

#[test]
fn bias_makes_a_region_nearer() {
    let topology = topology_with(|t| t.regions[2].bias_km = 3000);
    assert_eq!(members(&topology, &tokyo()), [SEOUL, VIRGINIA, FRANKFURT]);
}

#[test]
fn unknown_place_is_ordered_by_weight_then_name() {
    let topology = topology_with(|t| t.steerings[0].members[2].weight = 200);
    assert_eq!(members(&topology, &Place::default()), [VIRGINIA, FRANKFURT, SEOUL]);
}

#[test]
fn later_tier_waits_for_the_one_before() {
    let topology = topology_with(|t| t.steerings[0].members[1].tier = 1);
    assert_eq!(members(&topology, &tokyo()), [FRANKFURT, VIRGINIA, SEOUL]);
    assert_eq!(first(&topology, &[Down, Serving, Serving]), Some(VIRGINIA));
    assert_eq!(first(&topology, &[Down, Serving, Down]), Some(SEOUL));
}

#[test]
fn ordered_policy_keeps_the_order_of_the_settings() {
    let topology = topology_with(|t| t.steerings[0].policy = Policy::Ordered);
    assert_eq!(members(&topology, &tokyo()), [FRANKFURT, SEOUL, VIRGINIA]);
}

#[test]
fn preferred_regions_come_before_nearer_ones() {
    let rule = Rule { clients: koreans(), regions: vec![VIRGINIA] };
    let topology = topology_with(|t| t.steerings[0].prefer = vec![rule]);
    assert_eq!(members(&topology, &korean()), [VIRGINIA, SEOUL, FRANKFURT]);
    assert_eq!(members(&topology, &tokyo()), [SEOUL, FRANKFURT, VIRGINIA]);
}

#[test]
fn hard_fence_is_never_crossed_and_soft_fence_last() {
    let fence = |strength| Fence { rule: Rule { clients: koreans(), regions: vec![SEOUL] }, strength };
    let hard = topology_with(|t| t.steerings[0].keep_within = vec![fence(FenceStrength::Hard)]);
    assert_eq!(members(&hard, &korean()), [SEOUL]);
    let ranking = rank(&hard, &hard.steerings[0], &korean(), client(1));
    assert_eq!(ranking.entries.iter().filter(|ranked| ranked.because == Because::OutsideFence).count(), 2);
    let soft = topology_with(|t| t.steerings[0].keep_within = vec![fence(FenceStrength::Soft)]);
    assert_eq!(members(&soft, &korean()), [SEOUL, FRANKFURT, VIRGINIA]);
    assert_eq!(decide_at(&hard, &standings(&[Serving, Down, Serving]), &korean(), client(1)).first, Some(SEOUL));
    assert_eq!(decide_at(&soft, &standings(&[Serving, Down, Serving]), &korean(), client(1)).first, Some(FRANKFURT));
}

#[test]
fn first_matching_network_rule_counts() {
    let networks = |text: &str| Clients { networks: vec![text.parse().expect("a network")], ..Clients::default() };
    let rules = vec![
        Rule { clients: networks("10.0.1.0/24"), regions: vec![VIRGINIA] },
        Rule { clients: networks("10.0.0.0/8"), regions: vec![FRANKFURT] },
    ];
    let topology = topology_with(|t| t.steerings[0].prefer = rules);
    let first = |n| rank(&topology, &topology.steerings[0], &tokyo(), client(n)).entries[0].member;
    assert_eq!((first(1), first(2)), (VIRGINIA, FRANKFURT));
}

#[test]
fn next_region_answers_when_the_nearest_may_not() {
    let topology = topology();
    assert_eq!(first(&topology, &[Serving, Serving, Serving]), Some(SEOUL));
    for verdict in [Down, Draining, Recovering] {
        assert_eq!(first(&topology, &[Serving, verdict, Serving]), Some(FRANKFURT));
    }
    assert_eq!(first(&topology, &[Down, Down, Serving]), Some(VIRGINIA));
}

#[test]
fn ramping_region_takes_its_share_and_splits_the_scope() {
    let topology = topology();
    let view = standings(&[Serving, Ramping, Serving]);
    assert!(decide_at(&topology, &view, &tokyo(), client(1)).is_split);
    let share = share_of(&topology, &view, SEOUL);
    assert!((share - 50.0).abs() < 3.0, "{share} %");
    let behind = standings(&[Ramping, Serving, Serving]);
    assert!(!decide_at(&topology, &behind, &tokyo(), client(1)).is_split);
}

#[test]
fn growing_share_keeps_the_clients_it_has() {
    let topology = topology();
    let at = |percent| {
        let mut view = standings(&[Serving, Ramping, Serving]);
        view.standings[1].share = Share::from_percent(percent);
        (0..500).filter(|&n| decide_at(&topology, &view, &tokyo(), client(n)).first == Some(SEOUL)).collect::<Vec<_>>()
    };
    let (quarter, half) = (at(25), at(50));
    assert!(quarter.iter().all(|n| half.contains(n)) && quarter.len() < half.len());
}

#[test]
fn weighted_policy_shares_blocks_by_weight_and_moves_only_those_it_must() {
    let topology = topology_with(|t| {
        t.steerings[0].policy = Policy::Weighted;
        for (member, weight) in t.steerings[0].members.iter_mut().zip([60, 30, 10]) {
            member.weight = weight;
        }
    });
    let all = standings(&[Serving, Serving, Serving]);
    for (member, weight) in [(FRANKFURT, 60.0), (SEOUL, 30.0), (VIRGINIA, 10.0)] {
        let share = share_of(&topology, &all, member);
        assert!((share - weight).abs() < 3.0, "{member:?}: {share} %");
    }
    let without = standings(&[Serving, Down, Serving]);
    for n in 0..500 {
        let before = decide_at(&topology, &all, &tokyo(), client(n)).first;
        let after = decide_at(&topology, &without, &tokyo(), client(n)).first;
        assert!(before == after || before == Some(SEOUL), "client {n}");
    }
}

#[test]
fn weighted_ramp_takes_its_share_of_its_own_blocks() {
    let topology = topology_with(|t| t.steerings[0].policy = Policy::Weighted);
    let share = share_of(&topology, &standings(&[Serving, Ramping, Serving]), SEOUL);
    assert!((share - 100.0 / 6.0).abs() < 3.0, "{share} %");
}

#[test]
fn policy_all_answers_every_admitted_region_of_a_tier() {
    let topology = topology_with(|t| t.steerings[0].policy = Policy::All);
    let decision = decide_at(&topology, &standings(&[Serving, Down, Serving]), &tokyo(), client(1));
    assert_eq!(decision.members, [FRANKFURT, VIRGINIA].into_iter().collect());
}

#[test]
fn last_resort_prefers_the_healthy_then_the_drained_then_the_down() {
    let topology = topology();
    assert_eq!(first(&topology, &[Recovering, Down, Down]), Some(FRANKFURT));
    assert_eq!(first(&topology, &[Draining, Down, Recovering]), Some(VIRGINIA));
    assert_eq!(first(&topology, &[Draining, Down, Down]), Some(FRANKFURT));
    let mut forced_down = standings(&[Down, Down, Down]);
    forced_down.standings[1].is_taken_out = true;
    assert_eq!(decide_at(&topology, &forced_down, &tokyo(), client(1)).first, Some(FRANKFURT));
    assert_eq!(first(&topology, &[Draining, Draining, Draining]), Some(SEOUL));
}

#[test]
fn last_resort_is_who_the_settings_say() {
    let with = |last_resort| topology_with(|t| t.services[0].last_resort = last_resort);
    assert_eq!(first(&with(LastResort::None), &[Down, Down, Down]), None);
    let named = with(LastResort::Regions(vec![VIRGINIA, SEOUL]));
    assert_eq!(first(&named, &[Down, Down, Down]), Some(VIRGINIA));
    assert_eq!(first(&named, &[Serving, Down, Down]), Some(FRANKFURT));
}

#[test]
fn last_resort_takes_the_forced_down_only_when_nothing_else_is_left() {
    let topology = topology_with(|t| t.services[0].last_resort = LastResort::Regions(vec![VIRGINIA]));
    let mut view = standings(&[Down, Down, Down]);
    view.standings[2].is_taken_out = true;
    assert_eq!(decide_at(&topology, &view, &tokyo(), client(1)).first, Some(SEOUL));
    view.standings.iter_mut().for_each(|standing| standing.is_taken_out = true);
    assert_eq!(decide_at(&topology, &view, &tokyo(), client(1)).first, Some(VIRGINIA));
    assert_eq!(first(&topology, &[Down, Down, Draining]), Some(VIRGINIA));
}

#[test]
fn ramping_region_takes_everybody_when_nobody_else_serves() {
    for last_resort in [LastResort::All, LastResort::None, LastResort::Regions(vec![VIRGINIA])] {
        let topology = topology_with(|t| t.services[0].last_resort = last_resort);
        assert_eq!(share_of(&topology, &standings(&[Down, Ramping, Recovering]), SEOUL), 100.0);
    }
}

#[test]
fn order_of_the_regions_in_one_place_does_not_depend_on_the_address() {
    let topology = topology();
    let order = |n| rank(&topology, &topology.steerings[0], &tokyo(), client(n)).order();
    assert_eq!(order(1), order(77));
}

fn any_standing() -> impl Strategy<Value = Standing> {
    let ramping = (1_u8..100).prop_map(|percent| (Ramping, Share::from_percent(percent)));
    let others = prop_oneof![
        Just((Serving, Share::ALL)),
        Just((Draining, Share::NONE)),
        Just((Recovering, Share::NONE)),
        Just((Down, Share::NONE))
    ];
    (prop_oneof![others, ramping], any::<bool>()).prop_map(|((verdict, share), is_down_by_order)| Standing {
        verdict,
        share,
        is_taken_out: verdict == Draining || verdict == Down && is_down_by_order,
        ..Standing::default()
    })
}

prop_compose! {
    fn any_case()(
        policy in prop::sample::select(vec![Policy::Nearest, Policy::Weighted, Policy::Ordered, Policy::All]),
        tiers in prop::array::uniform3(0_u8..2),
        weights in prop::array::uniform3(1_u32..100),
        fence in prop::option::of((prop::collection::vec(0_u8..3, 1..3), any::<bool>())),
        last_resort in prop::sample::select(vec![
            LastResort::All, LastResort::None, LastResort::Regions(vec![VIRGINIA])
        ]),
        standings in prop::collection::vec(any_standing(), 3),
    ) -> (Topology, ServiceView) {
        let mut topology = topology();
        let steering = &mut topology.steerings[0];
        steering.policy = policy;
        for (member, (tier, weight)) in steering.members.iter_mut().zip(tiers.into_iter().zip(weights)) {
            (member.tier, member.weight) = (tier, weight);
        }
        steering.keep_within = fence.into_iter().map(|(regions, is_hard)| Fence {
            rule: Rule { clients: koreans(), regions: regions.into_iter().map(MemberId).collect() },
            strength: if is_hard { FenceStrength::Hard } else { FenceStrength::Soft },
        }).collect();
        topology.services[0].last_resort = last_resort;
        (topology, ServiceView { standings })
    }
}

proptest! {
    #[test]
    fn answer_is_empty_only_where_the_settings_allow_it((topology, view) in any_case(), n in 0_u32..60_000) {
        let decision = decide_at(&topology, &view, &korean(), client(n));
        let may_be_empty = topology.services[0].last_resort == LastResort::None;
        prop_assert!(decision.first.is_some() || may_be_empty);
        prop_assert_eq!(decision.first.is_none(), decision.members.is_empty());
        prop_assert!(decision.first.is_none_or(|first| decision.members.contains(first)));
    }

    #[test]
    fn nobody_unfit_answers_while_another_is_admitted((topology, view) in any_case(), n in 0_u32..60_000) {
        let decision = decide_at(&topology, &view, &korean(), client(n));
        let order = rank(&topology, &topology.steerings[0], &korean(), client(n)).order();
        let serves = |member: MemberId| view.standing(member).verdict == Serving;
        prop_assert!(!decision.is_last_resort || !order.members().iter().any(|placed| serves(placed.member)));
        if !decision.is_last_resort {
            for member in decision.members.iter() {
                prop_assert!(view.standing(member).share > Share::NONE);
            }
        }
    }

    #[test]
    fn hard_fence_holds_whatever_the_health((topology, view) in any_case(), n in 0_u32..60_000) {
        let decision = decide_at(&topology, &view, &korean(), client(n));
        for fence in topology.steerings[0].keep_within.iter().filter(|fence| fence.strength == FenceStrength::Hard) {
            prop_assert!(decision.members.iter().all(|member| fence.rule.regions.contains(&member)));
        }
    }

    #[test]
    fn undivided_answer_is_the_same_for_every_block((topology, view) in any_case(), a in 0_u32..60_000, b in 0_u32..60_000) {
        let (one, other) = (
            decide_at(&topology, &view, &korean(), client(a)),
            decide_at(&topology, &view, &korean(), client(b)),
        );
        prop_assert!(one.is_split || one == other, "{one:?} {other:?}");
        prop_assert_eq!(one, decide_at(&topology, &view, &korean(), client(a)));
    }

    #[test]
    fn explanation_says_what_is_decided((topology, view) in any_case(), n in 0_u32..60_000) {
        let decision = decide_at(&topology, &view, &korean(), client(n));
        let view = crate::snapshot::View {
            topology: std::sync::Arc::new(topology), services: vec![view], vips: Vec::new(), doubts_itself_since: None,
        };
        let explanation = super::explain(&view, WEB, &korean(), client(n));
        prop_assert_eq!(explanation.decision, decision);
        prop_assert_eq!(explanation.regions.len(), REGIONS.len());
        for region in &explanation.regions {
            let answers = matches!(region.outcome, super::Outcome::Chosen | super::Outcome::LastResort);
            prop_assert_eq!(answers, decision.members.contains(region.member));
        }
    }
}
