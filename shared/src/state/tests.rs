//! Laws of the verdicts.

mod vips;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName};
use crate::published::Status;
use crate::sample::{REGIONS, at, healthy, region, topology, topology_with};
use crate::snapshot::{Share, Standing, Verdict};
use crate::topology::{FailbackMode, Topology};

use super::{Action, Changes, Doubt, Event, Override, ProbeFailure, Refused, State};
use Verdict::{Down, Draining, Ramping, Recovering, Serving};

/// A state with a clock, driven by whole probe rounds.
struct Drill {
    state: State,
    now: Moment,
}

impl Drill {
    /// All regions healthy and serving.
    fn new(topology: Arc<Topology>) -> Self {
        let mut drill = Self { state: State::new(topology, Moment::START), now: Moment::START };
        for (name, ..) in REGIONS {
            drill.probe(name, Ok);
        }
        assert!(drill.state.is_settled());
        drill
    }

    fn apply(&mut self, event: Event) -> Changes {
        self.state.apply(event, self.now).expect("the event can be done")
    }

    /// Both proxies of `name` answer alike.
    fn probe(&mut self, name: &str, answer: impl Fn(Status) -> Result<Status, ProbeFailure>) -> Changes {
        self.probe_one(name, 1, &answer);
        self.probe_one(name, 2, &answer)
    }

    fn probe_one(&mut self, name: &str, n: u8, answer: impl Fn(Status) -> Result<Status, ProbeFailure>) -> Changes {
        let status = healthy(self.state.topology(), name, n);
        let (region, proxy) = (status.region.clone(), status.proxy.clone());
        self.apply(Event::Probed { region, proxy, outcome: answer(status) })
    }

    fn fail(&mut self, name: &str, times: usize) {
        for _ in 0..times {
            self.probe(name, refused);
        }
    }

    fn heal(&mut self, name: &str) {
        self.probe(name, Ok);
        self.probe(name, Ok);
    }

    /// Lets time pass to `now`, with every tick that is due on the way.
    fn wait_until(&mut self, now: Moment) {
        while let Some(due) = self.state.next_tick().filter(|&due| due <= now) {
            self.now = due;
            self.apply(Event::Tick);
        }
        self.now = now;
        self.apply(Event::Tick);
    }

    fn wait(&mut self, secs: u64) {
        self.wait_until(self.now + Duration::from_secs(secs));
    }

    fn standing(&self, name: &str) -> Standing {
        let at = REGIONS.iter().position(|(region, ..)| *region == name).expect("a region");
        self.state.view().services[0].standings[at].clone()
    }

    fn verdict(&self, name: &str) -> Verdict {
        self.standing(name).verdict
    }

    fn order(&mut self, action: Action, name: &str) -> Result<Changes, Refused> {
        let expires = self.now + Duration::from_secs(3600);
        let (who, why) = ("anna".to_owned(), "works".to_owned());
        let order = Override { region: region(name), service: None, action, who, why, expires };
        self.state.apply(Event::Override(order), self.now)
    }
}

fn refused(_: Status) -> Result<Status, ProbeFailure> {
    Err(ProbeFailure::Unreachable("connection refused".to_owned()))
}

fn no_servers(mut status: Status) -> Result<Status, ProbeFailure> {
    status.services.values_mut().for_each(|service| service.servers_up = 0);
    Ok(status)
}

fn drill() -> Drill {
    Drill::new(Arc::new(topology()))
}

#[test]
fn first_answer_of_a_fit_region_makes_it_serve() {
    let mut state = State::new(Arc::new(topology()), Moment::START);
    assert!(!state.is_settled());
    let status = healthy(state.topology(), "seoul", 1);
    let (region, proxy) = (status.region.clone(), status.proxy.clone());
    let changes = state.apply(Event::Probed { region, proxy, outcome: Ok(status) }, at(1)).expect("done");
    assert_eq!(changes.verdicts.len(), 1);
    assert_eq!((changes.verdicts[0].from, changes.verdicts[0].to), (Down, Serving));
}

#[test]
fn servers_that_are_not_checked_yet_at_the_start_cost_no_delay() {
    let mut state = State::new(Arc::new(topology()), Moment::START);
    let mut status = healthy(state.topology(), "seoul", 1);
    let probed = |status: &Status| {
        let (region, proxy) = (status.region.clone(), status.proxy.clone());
        Event::Probed { region, proxy, outcome: Ok(status.clone()) }
    };
    status.services.values_mut().for_each(|service| service.servers_up = 0);
    state.apply(probed(&status), at(0)).expect("done");
    state.apply(probed(&healthy(state.topology(), "seoul", 2)), at(1)).expect("done");
    assert_eq!(state.view().services[0].standings[1].verdict, Serving);
}

#[test]
fn region_falls_after_fall_failures_of_all_its_proxies() {
    let mut drill = drill();
    drill.fail("seoul", 2);
    assert_eq!(drill.verdict("seoul"), Serving);
    drill.probe_one("seoul", 1, refused);
    assert_eq!(drill.verdict("seoul"), Serving);
    let changes = drill.probe_one("seoul", 2, refused);
    assert_eq!(drill.verdict("seoul"), Down);
    assert_eq!((changes.verdicts[0].from, changes.verdicts[0].to), (Serving, Down));
    assert!(changes.verdicts[0].reason.contains("seoul-1 unreachable: connection refused"), "{changes:?}");
}

#[test]
fn probes_that_say_nothing_new_change_nothing() {
    let mut drill = drill();
    let changes = drill.probe("seoul", |mut status| {
        status.services.values_mut().for_each(|service| service.requests_per_sec = 99.0);
        Ok(status)
    });
    assert_eq!(changes, Changes::default());
}

#[test]
fn healthy_region_waits_the_delay_then_ramps_in_steps_of_one_ttl() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    drill.heal("seoul");
    assert_eq!(drill.verdict("seoul"), Recovering);
    drill.wait(59);
    assert_eq!(drill.verdict("seoul"), Recovering);
    drill.wait(1);
    let mut shares = Vec::new();
    while drill.verdict("seoul") == Ramping {
        shares.push(drill.standing("seoul").share.percent());
        drill.wait(5);
    }
    assert_eq!(shares, [25, 50, 75]);
    assert_eq!(drill.verdict("seoul"), Serving);
}

#[test]
fn fall_while_recovering_starts_the_delay_anew() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    drill.heal("seoul");
    drill.wait(50);
    drill.fail("seoul", 3);
    assert_eq!(drill.verdict("seoul"), Down);
    drill.heal("seoul");
    drill.wait(59);
    assert_eq!(drill.verdict("seoul"), Recovering);
}

#[test]
fn manual_failback_waits_for_an_operator() {
    let mut drill = Drill::new(topology_with(|t| t.services[0].failback.mode = FailbackMode::Manual));
    assert!(matches!(drill.order(Action::Resume, "seoul"), Err(Refused::NothingToResume { .. })));
    drill.fail("seoul", 3);
    drill.heal("seoul");
    drill.wait(100_000);
    assert_eq!(drill.verdict("seoul"), Recovering);
    drill.order(Action::Resume, "seoul").expect("it recovers");
    assert_eq!((drill.verdict("seoul"), drill.standing("seoul").share), (Ramping, Share::from_percent(25)));
}

#[test]
fn change_of_the_failback_mode_counts_for_who_is_recovering() {
    let with = |mode| topology_with(|t| t.services[0].failback.mode = mode);
    let recovering = |mode| {
        let mut drill = Drill::new(with(mode));
        drill.fail("seoul", 3);
        drill.heal("seoul");
        drill
    };
    let mut drill = recovering(FailbackMode::Auto);
    drill.apply(Event::Reload(with(FailbackMode::Manual)));
    drill.wait(100_000);
    assert_eq!(drill.verdict("seoul"), Recovering);
    assert_eq!(&*drill.standing("seoul").reason, "healthy again, waits for an operator");
    drill.apply(Event::Reload(with(FailbackMode::Auto)));
    drill.wait(59);
    assert_eq!(drill.verdict("seoul"), Recovering);
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Ramping);
}

#[test]
fn ramp_takes_its_steps_even_where_answers_are_not_cached() {
    let mut drill = Drill::new(topology_with(|t| (t.services[0].ttl, t.services[0].ttl_degraded) = (0, 0)));
    drill.probe("seoul", |status| Ok(Status { is_draining: true, ..status }));
    drill.probe("seoul", Ok);
    assert!(drill.state.next_tick().is_some_and(|due| due > drill.now));
    drill.apply(Event::Tick);
    drill.apply(Event::Tick);
    assert_eq!(drill.standing("seoul").share, Share::from_percent(25));
}

#[test]
fn region_that_falls_too_often_is_held_until_its_penalty_is_low() {
    let mut drill = drill();
    for _ in 0..3 {
        drill.fail("seoul", 3);
        drill.heal("seoul");
    }
    drill.wait(600);
    assert_eq!(drill.verdict("seoul"), Recovering);
    // 3000 is below 1000 after more than 3/2 half-lives of 600 s.
    drill.wait(410);
    assert_eq!(drill.verdict("seoul"), Ramping);
}

#[test]
fn region_that_is_drained_before_it_stops_does_not_flap() {
    let mut drill = drill();
    for _ in 0..5 {
        drill.probe("seoul", |status| Ok(Status { is_draining: true, ..status }));
        drill.fail("seoul", 3);
        drill.heal("seoul");
        drill.wait(60);
        assert_eq!(drill.verdict("seoul"), Ramping);
    }
}

#[test]
fn loss_of_the_vip_or_servers_counts_only_when_it_lasts() {
    let mut drill = drill();
    drill.probe("seoul", |status| Ok(Status { holds_vip: false, ..status }));
    assert_eq!(drill.verdict("seoul"), Serving);
    assert!(drill.state.is_deciding(&region("seoul")));
    drill.wait_until(at(5));
    drill.probe("seoul", Ok);
    drill.wait(10);
    assert_eq!(drill.verdict("seoul"), Serving);
    drill.probe("seoul", no_servers);
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Down);
    assert!(drill.standing("seoul").reason.contains("0 of 2 servers up"));
}

#[test]
fn region_needs_its_minimum_of_proxies() {
    let mut drill = Drill::new(topology_with(|t| t.regions[1].min_proxies = 2));
    for _ in 0..3 {
        drill.probe_one("seoul", 1, refused);
    }
    assert_eq!(drill.verdict("seoul"), Down);
}

#[test]
fn region_that_its_proxies_drain_takes_nobody_and_comes_back_by_a_ramp() {
    let mut drill = drill();
    drill.probe("seoul", |status| Ok(Status { is_draining: true, ..status }));
    assert_eq!((drill.verdict("seoul"), drill.standing("seoul").share), (Draining, Share::NONE));
    drill.probe("seoul", Ok);
    assert_eq!((drill.verdict("seoul"), drill.standing("seoul").share), (Ramping, Share::from_percent(25)));
}

#[test]
fn one_draining_proxy_of_two_does_not_drain_the_region() {
    let mut drill = drill();
    drill.probe_one("seoul", 1, |status| Ok(Status { is_draining: true, ..status }));
    assert_eq!(drill.verdict("seoul"), Serving);
}

#[test]
fn override_wins_says_who_and_why_and_expires() {
    let mut drill = drill();
    drill.order(Action::Down, "seoul").expect("it can be done");
    assert_eq!(drill.verdict("seoul"), Down);
    assert_eq!(&*drill.standing("seoul").reason, "down by anna: works");
    assert!(drill.standing("seoul").is_taken_out);
    drill.wait(3600);
    assert_eq!(drill.verdict("seoul"), Recovering);
    assert!(drill.state.overrides().is_empty());
}

#[test]
fn override_that_expires_ends_even_when_news_of_another_region_come_first() {
    let mut drill = drill();
    drill.order(Action::Drain, "seoul").expect("it can be done");
    drill.now = at(36_000);
    drill.probe("frankfurt", |status| Ok(Status { is_draining: true, ..status }));
    assert_eq!((drill.verdict("seoul"), drill.standing("seoul").share), (Ramping, Share::from_percent(25)));
}

#[test]
fn forced_up_region_serves_whatever_its_health() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    drill.order(Action::Up, "seoul").expect("it can be done");
    assert_eq!((drill.verdict("seoul"), drill.standing("seoul").share), (Serving, Share::ALL));
    let clear = Event::Clear { region: region("seoul"), service: None };
    drill.apply(clear.clone());
    assert_eq!(drill.verdict("seoul"), Down);
    assert!(matches!(drill.state.apply(clear, drill.now), Err(Refused::NoOverride { .. })));
}

#[test]
fn override_of_a_service_comes_before_that_of_its_region() {
    let mut drill = drill();
    drill.order(Action::Down, "seoul").expect("it can be done");
    let service = Some(OwnerName::parse("www.example.com").expect("a name"));
    let expires = drill.now + Duration::from_secs(60);
    let (who, why) = ("anna".to_owned(), "works".to_owned());
    drill.apply(Event::Override(Override { region: region("seoul"), service, action: Action::Up, who, why, expires }));
    assert_eq!(drill.verdict("seoul"), Serving);
}

#[test]
fn override_of_nothing_is_refused() {
    let mut drill = drill();
    assert!(matches!(drill.order(Action::Drain, "paris"), Err(Refused::UnknownRegion { .. })));
}

#[test]
fn all_regions_unreachable_at_once_is_this_nodes_own_fault() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    assert_eq!(drill.verdict("seoul"), Down);
    drill.now = at(10);
    drill.fail("frankfurt", 3);
    drill.probe_one("virginia", 1, refused);
    assert_eq!(drill.probe_one("virginia", 2, refused).doubt, Some(Doubt::Began));
    drill.fail("virginia", 9);
    for (name, ..) in REGIONS {
        assert_eq!(drill.verdict(name), Serving, "{name} falls back to what it was");
        assert!(drill.standing(name).reason.starts_with("frozen, since all regions are unreachable"));
    }
    assert_eq!(drill.probe_one("virginia", 1, Ok).doubt, Some(Doubt::Ended));
    drill.probe("virginia", Ok);
    for (name, ..) in REGIONS {
        assert_eq!(drill.verdict(name), Serving, "what failed meanwhile is not held against {name}");
    }
    drill.fail("seoul", 3);
    drill.fail("frankfurt", 3);
    assert_eq!((drill.verdict("seoul"), drill.verdict("frankfurt")), (Down, Down), "counted anew");
}

#[test]
fn region_that_fell_long_before_stays_down_when_the_others_vanish() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    drill.wait(60);
    drill.fail("frankfurt", 1);
    drill.fail("virginia", 9);
    assert_eq!(
        (drill.verdict("seoul"), drill.verdict("frankfurt"), drill.verdict("virginia")),
        (Down, Serving, Serving)
    );
}

#[test]
fn all_regions_without_servers_are_down_without_doubt() {
    let mut drill = drill();
    for (name, ..) in REGIONS {
        drill.probe(name, no_servers);
    }
    drill.wait(1);
    assert!(REGIONS.iter().all(|(name, ..)| drill.verdict(name) == Down));
    assert_eq!(drill.state.view().doubts_itself_since, None);
}

#[test]
fn reload_keeps_health_and_verdicts_by_name() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    let mut with_paris = topology();
    let mut paris = with_paris.regions[0].clone();
    paris.name = region("paris");
    with_paris.regions.insert(1, paris);
    for member in &mut with_paris.steerings[0].members {
        member.region.0 += u16::from(member.region.0 > 0);
    }
    let changes = drill.apply(Event::Reload(Arc::new(with_paris)));
    assert!(changes.is_view_changed && changes.verdicts.is_empty());
    assert_eq!((drill.verdict("seoul"), drill.verdict("frankfurt")), (Down, Serving));
    assert_eq!(drill.state.proxies().count(), 4);
}

#[test]
fn doubt_that_a_reload_ends_is_told() {
    let mut drill = drill();
    drill.now = at(50);
    for (name, ..) in REGIONS {
        drill.fail(name, 1);
    }
    assert!(drill.state.view().doubts_itself_since.is_some());
    let mut changed = topology();
    for proxy in &mut changed.regions[0].proxies {
        proxy.name = ProxyName::parse(&format!("new-{}", proxy.name)).expect("a label");
    }
    assert_eq!(drill.apply(Event::Reload(Arc::new(changed))).doubt, Some(Doubt::Ended));
    assert_eq!(drill.state.view().doubts_itself_since, None);
    let late = |_| Err(ProbeFailure::Late(Duration::from_secs(1)));
    drill.probe("seoul", late);
    assert_eq!(drill.state.proxies().nth(1).expect("seoul").1[0].health.failures(), 0, "it began in the doubt");
}

#[test]
fn state_file_with_impossible_values_is_refused() {
    let saved = |share: &str, action: &str| {
        format!(
            "{{\"verdicts\":[{{\"service\":\"www.example.com\",\"region\":\"seoul\",\"verdict\":\"ramping\",\
             \"share\":{share},\"remaining_ms\":0,\"reason\":\"\",\"penalty\":0}}],\"overrides\":[{{\"region\":\"seoul\",\
             \"service\":null,\"action\":\"{action}\",\"who\":\"anna\",\"why\":\"works\",\"remaining_ms\":9000}}]}}"
        )
    };
    let read = |text: String| serde_json::from_str::<super::Saved>(&text);
    assert!(read(saved("101", "drain")).is_err() && read(saved("250", "drain")).is_err());
    let mut state = State::new(Arc::new(topology()), Moment::START);
    let restore = |text| Event::Restore { saved: read(text).expect("possible values"), elapsed: Duration::ZERO };
    state.apply(restore(saved("100", "resume")), at(0)).expect("done");
    assert!(state.overrides().is_empty(), "a resume happens once and is not kept");
}

#[test]
fn restored_state_goes_on_where_it_was() {
    let mut drill = Drill::new(topology_with(|t| t.services[0].failback.mode = FailbackMode::Manual));
    drill.fail("seoul", 3);
    drill.heal("seoul");
    drill.order(Action::Drain, "virginia").expect("it can be done");
    let saved = drill.state.save(drill.now);
    let mut state = State::new(Arc::clone(drill.state.topology()), Moment::START);
    state.apply(Event::Restore { saved: saved.clone(), elapsed: Duration::from_secs(5) }, at(0)).expect("done");
    let mut later = Drill { state, now: at(0) };
    let verdicts = |drill: &Drill| REGIONS.map(|(name, ..)| drill.verdict(name));
    assert_eq!(verdicts(&later), [Serving, Recovering, Draining]);
    later.probe("frankfurt", refused);
    later.probe("seoul", Ok);
    assert_eq!(verdicts(&later), [Serving, Recovering, Draining]);
    assert_eq!(later.state.overrides()[0].expires, at(35_950));
    let json = serde_json::to_string(&saved).expect("plain data");
    assert_eq!(serde_json::from_str::<super::Saved>(&json).expect("the same data"), saved);
}

#[test]
fn restored_region_takes_clients_again_only_when_a_probe_says_that_it_is_fit() {
    let mut drill = drill();
    drill.fail("seoul", 3);
    drill.heal("seoul");
    let saved = drill.state.save(drill.now);
    let state = State::new(Arc::clone(drill.state.topology()), Moment::START);
    let mut later = Drill { state, now: at(0) };
    later.apply(Event::Restore { saved, elapsed: Duration::from_secs(3600) });
    later.wait(1);
    assert_eq!(later.verdict("seoul"), Recovering);
    later.probe("seoul", Ok);
    assert_eq!((later.verdict("seoul"), later.standing("seoul").share), (Ramping, Share::from_percent(25)));
}

#[derive(Clone, Debug)]
enum Step {
    Probe { region: usize, proxy: u8, kind: u8 },
    Wait { ms: u64 },
    Order { region: usize, action: Action },
    Clear { region: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let actions = prop::sample::select(vec![Action::Drain, Action::Down, Action::Resume]);
    prop_oneof![
        12 => (0..3_usize, 1..=2_u8, 0..6_u8).prop_map(|(region, proxy, kind)| Step::Probe { region, proxy, kind }),
        6 => prop_oneof![0..2000_u64, 2000..90_000_u64].prop_map(|ms| Step::Wait { ms }),
        1 => (0..3_usize, actions).prop_map(|(region, action)| Step::Order { region, action }),
        1 => (0..3_usize).prop_map(|region| Step::Clear { region }),
    ]
}

fn answer(kind: u8, status: Status) -> Result<Status, ProbeFailure> {
    match kind {
        0 | 1 => refused(status),
        2 => no_servers(status),
        3 => Ok(Status { is_draining: true, ..status }),
        _ => Ok(status),
    }
}

fn take(drill: &mut Drill, step: &Step) {
    match *step {
        Step::Probe { region, proxy, kind } => {
            drill.probe_one(REGIONS[region].0, proxy, |status| answer(kind, status));
        }
        Step::Wait { ms } => drill.now = drill.now + Duration::from_millis(ms),
        Step::Order { region, action } => drop(drill.order(action, REGIONS[region].0)),
        Step::Clear { region: at } => {
            let clear = Event::Clear { region: region(REGIONS[at].0), service: None };
            drop(drill.state.apply(clear, drill.now));
        }
    }
}

proptest! {
    #[test]
    fn share_never_jumps_up_by_more_than_a_step(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut drill = drill();
        for step in &steps {
            let before: Vec<_> = REGIONS.iter().map(|(name, ..)| drill.standing(name)).collect();
            let blind = drill.state.view().doubts_itself_since;
            take(&mut drill, step);
            let began_to_doubt = blind.is_none() && drill.state.view().doubts_itself_since.is_some();
            for (before, (name, ..)) in before.iter().zip(REGIONS) {
                let after = drill.standing(name);
                // What a node in doubt takes back had not been lost by the region.
                prop_assert!(began_to_doubt || after.share.percent() <= before.share.percent() + 25, "{before:?} {after:?}");
                prop_assert_eq!(after.share == Share::ALL, after.verdict == Serving);
                prop_assert_eq!(after.share > Share::NONE, matches!(after.verdict, Serving | Ramping));
            }
        }
    }

    #[test]
    fn no_failback_before_its_delay_but_by_an_operator(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut drill = drill();
        // A drain may hide a recovery, so that counts from the end of the fall.
        let (mut last_down, mut down_before) = ([at(0); 3], [at(0); 3]);
        for step in &steps {
            let before: Vec<_> = REGIONS.iter().map(|(name, ..)| drill.standing(name)).collect();
            let blind = drill.state.view().doubts_itself_since;
            take(&mut drill, step);
            let began_to_doubt = blind.is_none() && drill.state.view().doubts_itself_since.is_some();
            let times = last_down.iter_mut().zip(&mut down_before);
            for ((before, (name, ..)), (last_down, down_before)) in before.iter().zip(REGIONS).zip(times) {
                let after = drill.standing(name);
                match (before.verdict, after.verdict) {
                    // A fall that a node in doubt takes back was none.
                    (Down, after) if began_to_doubt && after != Down => *last_down = *down_before,
                    (Down, _) => *last_down = drill.now,
                    (_, Down) => *down_before = *last_down,
                    _ => {}
                }
                if before.verdict == Recovering && after.verdict == Ramping && !matches!(step, Step::Order { .. }) {
                    prop_assert!(drill.now.since(*last_down) >= Duration::from_secs(60), "{before:?} {after:?}");
                }
                prop_assert!(!(before.verdict == Recovering && after.verdict == Serving));
            }
        }
    }

    #[test]
    fn same_events_give_the_same_verdicts(steps in prop::collection::vec(any_step(), 1..60)) {
        let (mut one, mut other) = (drill(), drill());
        for step in &steps {
            take(&mut one, step);
            take(&mut other, step);
        }
        prop_assert_eq!(one.state.view().services, other.state.view().services);
        prop_assert_eq!(one.state.next_tick(), other.state.next_tick());
    }

    #[test]
    fn a_tick_is_never_due_in_the_past(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut drill = drill();
        for step in &steps {
            take(&mut drill, step);
            drill.apply(Event::Tick);
            prop_assert!(drill.state.next_tick().is_none_or(|due| due > drill.now));
        }
    }

    #[test]
    fn unknown_proxies_change_nothing(name in "[a-z]{1,8}") {
        let mut drill = drill();
        let status = healthy(drill.state.topology(), "seoul", 1);
        let proxy = ProxyName::parse(&name).expect("a label");
        let changes = drill.apply(Event::Probed { region: region("seoul"), proxy, outcome: Ok(status.clone()) });
        prop_assert_eq!(changes, Changes::default());
        let event = Event::Probed { region: region(&format!("x-{name}")), proxy: status.proxy.clone(), outcome: Ok(status) };
        prop_assert_eq!(drill.apply(event), Changes::default());
    }
}
