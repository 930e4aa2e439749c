//! Laws of VIPs that proxies hold in turn.

use super::*;
use crate::name::RegionName;
use crate::published::VirtualRouterState::{self, Active, Backup};
use crate::published::VirtualRouterStatus;
use crate::snapshot::{TwoActives, VipStanding};
use crate::state::VipNews;

/// What proxy `n` of Seoul says of its virtual router: the first is the better one.
fn says(n: u8, state: VirtualRouterState) -> impl Fn(Status) -> Result<Status, ProbeFailure> {
    move |status| {
        let holds_vips = state == VirtualRouterState::Active;
        let router = VirtualRouterStatus {
            name: "web".to_owned(),
            vips: vec![std::net::Ipv4Addr::new(192, 0, 2, 2).into()],
            state,
            holds_vips,
            holder: Some(std::net::Ipv4Addr::new(198, 51, 100, n).into()),
            priority: 250 - n,
            last_takeover: holds_vips.then_some(1_800_000_000 + u64::from(n)),
            hears_other_active: false,
            failing: Vec::new(),
        };
        Ok(Status { holds_vip: holds_vips, virtual_routers: vec![router], ..status })
    }
}

fn hears_another(status: Status) -> Result<Status, ProbeFailure> {
    let mut status = says(1, Active)(status)?;
    status.virtual_routers.iter_mut().for_each(|router| router.hears_other_active = true);
    Ok(status)
}

/// Seoul's VIP is at its first proxy.
fn pair() -> Drill {
    let mut drill = drill();
    drill.probe_one("seoul", 2, says(2, Backup));
    drill.probe_one("seoul", 1, says(1, Active));
    drill
}

/// Rounds of probes 200 ms apart, in which the two of Seoul say this; all that was told of its VIP meanwhile.
fn rounds(drill: &mut Drill, count: u64, first: VirtualRouterState, second: VirtualRouterState) -> Vec<VipNews> {
    let mut news = Vec::new();
    for _ in 0..count {
        drill.now = drill.now + Duration::from_millis(200);
        for (n, state) in [(1, first), (2, second)] {
            news.extend(drill.probe_one("seoul", n, says(n, state)).vips.into_iter().map(|change| change.news));
        }
    }
    news
}

fn vip(drill: &Drill) -> VipStanding {
    let id = drill.state.topology().find_region(&region("seoul")).expect("a region");
    drill.state.view().vips(id)[0].clone()
}

fn name(n: u8) -> ProxyName {
    ProxyName::parse(&format!("seoul-{n}")).expect("a label")
}

#[test]
fn holder_is_shown_with_its_last_takeover_and_when_it_changed() {
    let mut drill = pair();
    let shown = vip(&drill);
    assert_eq!((shown.holder(), shown.last_takeover, shown.changed_hands), (Some(&name(1)), Some(1_800_000_001), None));
    assert_eq!(&*drill.standing("seoul").reason, "2 of 2 proxies healthy, seoul-1 holds the VIP, 2 of 2 servers up");
    let news = rounds(&mut drill, 1, Backup, Active);
    assert_eq!(news, [VipNews::ChangedHands { from: Some(name(1)), to: name(2) }]);
    let shown = vip(&drill);
    assert_eq!((shown.holder(), shown.last_takeover), (Some(&name(2)), Some(1_800_000_002)));
    assert_eq!(shown.changed_hands, Some(drill.now));
    assert_eq!(drill.verdict("seoul"), Serving);
}

#[test]
fn two_that_hold_it_for_long_raise_one_alarm_and_the_region_serves() {
    let mut drill = pair();
    assert_eq!(rounds(&mut drill, 3, Active, Active), [], "a takeover may look so for a moment");
    assert!(drill.state.is_deciding(&region("seoul")), "so it is looked at more often");
    let since = drill.now + Duration::from_millis(200);
    let both = vec![name(1), name(2)];
    let alarm = VipNews::TwoActives { holders: both.clone(), hearers: Vec::new() };
    assert_eq!(rounds(&mut drill, 20, Active, Active), [alarm]);
    assert_eq!(vip(&drill).two_actives, Some(TwoActives { since, holders: both, hearers: Vec::new() }));
    assert_eq!((drill.verdict("seoul"), vip(&drill).holder()), (Serving, Some(&name(1))));
    assert_eq!(rounds(&mut drill, 2, Active, Backup), [], "they may say a little later what they heard");
    assert_eq!(rounds(&mut drill, 3, Active, Backup), [VipNews::OneActive { holder: Some(name(1)), since }]);
    assert_eq!(vip(&drill).two_actives, None);
}

#[test]
fn of_two_actives_only_the_one_that_will_win_counts() {
    let mut drill = pair();
    let without_servers = |n| move |status| no_servers(says(n, Active)(status)?);
    drill.probe_one("seoul", 2, without_servers(2));
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Serving);
    drill.probe_one("seoul", 2, says(2, Active));
    drill.probe_one("seoul", 1, without_servers(1));
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Down);
}

#[test]
fn dead_holder_that_cannot_say_that_it_let_go_raises_no_alarm() {
    let mut drill = pair();
    for _ in 0..20 {
        drill.now = drill.now + Duration::from_millis(200);
        let changes = drill.probe_one("seoul", 2, says(2, Active));
        assert!(!changes.vips.iter().any(|change| matches!(change.news, VipNews::TwoActives { .. })), "{changes:?}");
        drill.probe_one("seoul", 1, refused);
    }
    assert_eq!((vip(&drill).holder(), vip(&drill).two_actives), (Some(&name(2)), None));
    // What it says first, when a split ends, may be said before it has heard that it has lost.
    assert_eq!(drill.probe_one("seoul", 1, says(1, Active)).vips, []);
}

#[test]
fn who_answers_counts_before_who_does_not() {
    let mut drill = pair();
    drill.probe_one("seoul", 1, refused);
    drill.probe_one("seoul", 2, says(2, Active));
    assert_eq!(vip(&drill).holder(), Some(&name(2)));
}

#[test]
fn alarm_ends_when_one_of_the_two_is_down() {
    let mut drill = pair();
    rounds(&mut drill, 10, Active, Active);
    for _ in 0..5 {
        assert!(vip(&drill).two_actives.is_some());
        drill.now = drill.now + Duration::from_millis(200);
        drill.probe_one("seoul", 1, refused);
    }
    assert_eq!(vip(&drill).two_actives, None);
}

#[test]
fn one_that_hears_another_raises_the_alarm_at_once() {
    let mut drill = pair();
    let alarm = VipNews::TwoActives { holders: Vec::new(), hearers: vec![name(1)] };
    let told = drill.probe_one("seoul", 1, hears_another).vips;
    assert_eq!(told.into_iter().map(|change| change.news).collect::<Vec<_>>(), [alarm]);
    assert_eq!(drill.probe_one("seoul", 1, hears_another).vips, []);
    assert_eq!(drill.verdict("seoul"), Serving);
}

#[test]
fn alarm_that_one_still_hears_of_when_the_other_has_let_go_is_the_same_one() {
    let mut drill = pair();
    rounds(&mut drill, 10, Active, Active);
    drill.probe_one("seoul", 2, says(2, Backup));
    drill.now = drill.now + Duration::from_millis(200);
    assert_eq!(drill.probe_one("seoul", 1, hears_another).vips, []);
    assert_eq!(rounds(&mut drill, 10, Active, Backup).len(), 1, "it ends once");
}

#[test]
fn one_that_drains_and_hands_the_vip_over_drains_no_region() {
    let drains = |state| move |status| Ok(Status { is_draining: true, ..says(1, state)(status)? });
    let mut drill = pair();
    drill.probe_one("seoul", 1, drains(Active));
    assert!(drill.state.is_deciding(&region("seoul")));
    drill.wait_until(at(4));
    drill.probe_one("seoul", 2, says(2, Active));
    drill.probe_one("seoul", 1, drains(Backup));
    drill.wait(5);
    assert_eq!(drill.verdict("seoul"), Serving);
    // One that keeps it does, and so do both together, at once.
    drill.probe_one("seoul", 2, says(2, Backup));
    drill.probe_one("seoul", 1, drains(Active));
    assert_eq!(drill.verdict("seoul"), Serving);
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Draining);
    drill.probe("seoul", |status| says(1, Active)(status));
    assert_eq!(drill.verdict("seoul"), Ramping);
    drill.probe_one("seoul", 2, |status| Ok(Status { is_draining: true, ..says(2, Backup)(status)? }));
    drill.probe_one("seoul", 1, drains(Active));
    assert_eq!(drill.verdict("seoul"), Draining);
}

#[test]
fn nobody_that_holds_it_is_a_fall_only_when_it_lasts() {
    let mut drill = pair();
    rounds(&mut drill, 1, Backup, Backup);
    assert_eq!((drill.verdict("seoul"), vip(&drill).holder()), (Serving, None));
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Down);
    assert_eq!(&*drill.standing("seoul").reason, "2 of 2 proxies healthy, none holds the VIP");
    // The same one again is no change of hands.
    assert_eq!(rounds(&mut drill, 1, Active, Backup), []);
}

#[test]
fn vips_may_be_at_different_proxies_but_each_must_be_held() {
    let second: std::net::IpAddr = std::net::Ipv4Addr::new(192, 0, 2, 99).into();
    let mut drill = Drill::new(topology_with(|t| {
        t.regions[1].vips.push(second);
        t.services[0].vips[1].push(second);
    }));
    let also = |n: u8, first, other: VirtualRouterState| {
        move |status| {
            let mut status = says(n, first)(status)?;
            let mut router = status.virtual_routers[0].clone();
            (router.vips, router.holds_vips) = (vec![second], other == Active);
            status.virtual_routers.push(router);
            Ok(Status { holds_vip: false, ..status })
        }
    };
    drill.probe_one("seoul", 1, also(1, Active, Backup));
    drill.probe_one("seoul", 2, also(2, Backup, Active));
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Serving);
    assert!(
        drill.standing("seoul").reason.contains("seoul-1 and seoul-2 hold the VIPs"),
        "{:?}",
        drill.standing("seoul")
    );
    drill.probe_one("seoul", 2, also(2, Backup, Backup));
    drill.wait(1);
    assert_eq!(drill.verdict("seoul"), Down);
    assert!(drill.standing("seoul").reason.ends_with("none holds 192.0.2.99"), "{:?}", drill.standing("seoul"));
}

#[test]
fn proxies_without_virtual_routers_may_all_hold_the_vip() {
    let mut drill = drill();
    for _ in 0..10 {
        drill.now = drill.now + Duration::from_millis(500);
        assert_eq!(drill.probe("seoul", Ok).vips, []);
    }
    let shown = vip(&drill);
    assert_eq!((shown.holder(), shown.holders.len(), &shown.two_actives), (None, 2, &None));
}

#[test]
fn reload_keeps_the_alarm() {
    let mut drill = pair();
    rounds(&mut drill, 10, Active, Active);
    let before = vip(&drill);
    drill.apply(Event::Reload(topology_with(|t| t.regions[0].bias_km = 1)));
    assert_eq!(vip(&drill), before);
    assert_eq!(rounds(&mut drill, 2, Active, Active), []);
}

proptest! {
    #[test]
    fn at_most_one_counts_and_alarms_begin_and_end_in_turn(
        steps in prop::collection::vec((1..=2_u8, 0..4_u8, 0..800_u64), 1..120),
    ) {
        let mut drill = pair();
        let mut is_raised = false;
        for (n, kind, pause) in steps {
            drill.now = drill.now + Duration::from_millis(pause);
            let changes = match kind {
                0 => drill.probe_one("seoul", n, refused),
                1 => drill.probe_one("seoul", n, says(n, Backup)),
                _ => drill.probe_one("seoul", n, says(n, Active)),
            };
            for change in changes.vips {
                prop_assert_eq!(&change.region, &RegionName::parse("seoul").expect("a label"));
                match change.news {
                    VipNews::TwoActives { holders, .. } => {
                        prop_assert!(!is_raised && holders.len() == 2, "{holders:?}");
                        is_raised = true;
                    }
                    VipNews::OneActive { .. } => {
                        prop_assert!(is_raised);
                        is_raised = false;
                    }
                    VipNews::ChangedHands { from, to } => prop_assert!(from.as_ref() != Some(&to)),
                }
            }
            let shown = vip(&drill);
            prop_assert_eq!(shown.two_actives.is_some(), is_raised);
            prop_assert!(shown.holder().is_none_or(|holder| shown.holders.contains(holder)));
        }
    }
}
