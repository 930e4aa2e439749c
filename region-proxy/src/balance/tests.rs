use proptest::prelude::*;

use super::*;

const START: Moment = Moment::START;

const ALL_POLICIES: [Policy; 6] =
    [Policy::RoundRobin, Policy::LeastConnections, Policy::RandomOfTwo, Policy::First, Policy::Ewma, Policy::Hash];

fn at(secs: u64) -> Moment {
    Moment::from_start(Duration::from_secs(secs))
}

fn server(name: u64, weight: u16) -> Server {
    Server { hash: hash::of(&name.to_be_bytes()), weight, is_backup: false, in_flight_max: None }
}

fn balancer_of(rules: Rules, servers: &[Server]) -> Balancer {
    let mut balancer = Balancer::new(rules, servers);
    for index in 0..servers.len() {
        balancer.set_standing(index, Health::Up, Mode::Ready, START);
    }
    balancer
}

/// All up, with these weights.
fn balancer(policy: Policy, weights: &[u16]) -> Balancer {
    let servers: Vec<_> = weights.iter().enumerate().map(|(name, weight)| server(name as u64, *weight)).collect();
    balancer_of(Rules { policy, ..Rules::default() }, &servers)
}

const PLAIN: Ask<'_> = Ask { sticky: Sticky::Nothing, hash: None, tried: &[] };

fn sticky(server: usize) -> Ask<'static> {
    Ask { sticky: Sticky::Server(server), ..PLAIN }
}

fn hashed(key: u64) -> Ask<'static> {
    Ask { hash: Some(hash::of(&key.to_be_bytes())), ..PLAIN }
}

/// Requests that end before the next one comes.
fn choices(balancer: &mut Balancer, count: u64) -> Vec<usize> {
    let mut mixer = 1_u64;
    let mut one = |key| {
        mixer = mixer.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match balancer.choose(&hashed(key), START, mixer ^ mixer.rotate_right(32)) {
            Choice::Server(server) => {
                balancer.end(server, Outcome::Unused, START);
                server
            }
            other => panic!("{other:?}"),
        }
    };
    (0..count).map(&mut one).collect()
}

fn count(chosen: &[usize], server: usize) -> usize {
    chosen.iter().filter(|one| **one == server).count()
}

#[test]
fn round_robin_mixes_weights_evenly() {
    assert_eq!(choices(&mut balancer(Policy::RoundRobin, &[5, 1, 1]), 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(choices(&mut balancer(Policy::RoundRobin, &[1, 1, 1]), 4), [0, 1, 2, 0]);
}

#[test]
fn the_first_requests_of_threads_that_begin_together_go_to_different_servers() {
    for policy in [Policy::RoundRobin, Policy::LeastConnections] {
        let first = |thread| {
            let mut balancer = balancer(policy, &[1, 1, 1]);
            balancer.skip(thread);
            choices(&mut balancer, 4)
        };
        assert_eq!([first(0), first(1), first(2), first(3)], [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2], [0, 1, 2, 0]]);
    }
}

#[test]
fn least_connections_goes_by_load_for_weight_and_equals_take_turns() {
    let mut balancer = balancer(Policy::LeastConnections, &[1, 2]);
    let chosen: Vec<_> = (0..6).map(|_| balancer.choose(&PLAIN, START, 0)).collect();
    assert_eq!((balancer.in_flight(0), balancer.in_flight(1)), (2, 4), "{chosen:?}");
    assert_eq!(choices(&mut super::tests::balancer(Policy::LeastConnections, &[1, 1, 1]), 4), [0, 1, 2, 0]);
}

#[test]
fn random_of_two_keeps_to_weights_and_avoids_the_loaded() {
    let mut even = balancer(Policy::RandomOfTwo, &[1, 1, 1, 1]);
    let chosen = choices(&mut even, 4000);
    assert!((0..4).all(|server| (800..1200).contains(&count(&chosen, server))));
    let mut loaded = balancer(Policy::RandomOfTwo, &[1, 1]);
    loaded.choose(&sticky(0), START, 0);
    assert!(choices(&mut loaded, 100).iter().all(|server| *server == 1));
}

#[test]
fn first_fills_one_after_the_other() {
    let servers = [1, 2].map(|name| Server { in_flight_max: Some(2), ..server(name, 1) });
    let mut balancer = balancer_of(Rules { policy: Policy::First, ..Rules::default() }, &servers);
    let chosen: Vec<_> = (0..5).map(|_| balancer.choose(&PLAIN, START, 0)).collect();
    assert_eq!(chosen[..4], [0, 0, 1, 1].map(Choice::Server));
    assert_eq!(chosen[4], Choice::Wait(None));
}

#[test]
fn ewma_prefers_who_answers_sooner_and_shuns_who_fails_fast() {
    let mut balancer = balancer(Policy::Ewma, &[1, 1]);
    for (server, outcome) in [(0, Outcome::Failed(Duration::ZERO)), (1, Outcome::Answered(Duration::from_millis(200)))]
    {
        balancer.choose(&sticky(server), START, 0);
        balancer.end(server, outcome, START);
    }
    assert!(choices(&mut balancer, 50).iter().all(|server| *server == 1));
}

#[test]
fn a_hash_leads_to_one_server_by_weight() {
    let mut first = balancer(Policy::Hash, &[1, 1, 2]);
    let chosen = choices(&mut first, 4000);
    assert_eq!(chosen, choices(&mut balancer(Policy::Hash, &[1, 1, 2]), 4000));
    assert!(
        (900..1100).contains(&count(&chosen, 0)) && (1850..2150).contains(&count(&chosen, 2)),
        "{}",
        count(&chosen, 2)
    );
}

#[test]
fn a_server_that_goes_gives_away_only_its_own_keys() {
    let mut balancer = balancer(Policy::Hash, &[1, 2, 3, 1]);
    let before = choices(&mut balancer, 1000);
    balancer.set_standing(2, Health::Down, Mode::Ready, START);
    let after = choices(&mut balancer, 1000);
    for (before, after) in before.iter().zip(&after) {
        assert!(*before == 2 && *after != 2 || before == after);
    }
}

#[test]
fn a_greater_weight_takes_keys_and_gives_none() {
    let mut balancer = balancer(Policy::Hash, &[1, 1, 1]);
    let before = choices(&mut balancer, 1000);
    balancer.set_weight(1, 2);
    let after = choices(&mut balancer, 1000);
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 1));
    assert!(count(&after, 1) > count(&before, 1));
}

#[test]
fn one_key_cannot_crowd_a_server_beyond_the_bound() {
    let mut balancer = balancer(Policy::Hash, &[1, 1, 1, 1]);
    for _ in 0..400 {
        assert!(matches!(balancer.choose(&hashed(7), START, 0), Choice::Server(_)));
    }
    assert!((0..4).all(|server| balancer.in_flight(server) <= 126), "125 per cent of 100, and the one more");
}

#[test]
fn a_request_without_the_hashed_field_is_served_by_turn() {
    let mut balancer = balancer(Policy::Hash, &[1, 1]);
    assert_eq!([0; 2].map(|_| balancer.choose(&PLAIN, START, 0)), [Choice::Server(0), Choice::Server(1)]);
}

#[test]
fn backups_serve_only_when_no_other_can() {
    let servers = [server(1, 1), Server { is_backup: true, ..server(2, 1) }];
    for policy in ALL_POLICIES {
        let mut balancer = balancer_of(Rules { policy, ..Rules::default() }, &servers);
        assert!(choices(&mut balancer, 10).iter().all(|server| *server == 0), "{policy:?}");
        balancer.set_standing(0, Health::Down, Mode::Ready, START);
        assert!(choices(&mut balancer, 10).iter().all(|server| *server == 1), "{policy:?}");
        balancer.set_standing(0, Health::Up, Mode::Ready, START);
        assert!(choices(&mut balancer, 10).iter().all(|server| *server == 0), "{policy:?}");
    }
}

#[test]
fn a_backup_is_tried_once_all_others_were() {
    let servers = [server(1, 1), Server { is_backup: true, ..server(2, 1) }];
    let mut balancer = balancer_of(Rules::default(), &servers);
    assert_eq!(balancer.choose(&Ask { tried: &[0], ..PLAIN }, START, 0), Choice::Server(1));
    assert_eq!(balancer.choose(&Ask { tried: &[0, 1], ..PLAIN }, START, 0), Choice::Nobody);
}

#[test]
fn unknown_servers_are_used_only_when_none_is_up() {
    let mut balancer = Balancer::new(Rules::default(), &[server(1, 1), server(2, 1)]);
    assert!(matches!(balancer.choose(&PLAIN, START, 0), Choice::Server(_)));
    balancer.set_standing(1, Health::Up, Mode::Ready, START);
    assert_eq!(choices(&mut balancer, 3), [1, 1, 1]);
}

#[test]
fn a_client_stays_with_its_server_while_that_may_have_it() {
    let mut balancer = balancer(Policy::RoundRobin, &[1, 0, 1]);
    assert_eq!(
        balancer.choose(&sticky(1), START, 0),
        Choice::Server(1),
        "weight 0 takes no new clients, but keeps its own"
    );
    balancer.set_standing(1, Health::Up, Mode::Drain, START);
    assert_eq!(balancer.choose(&sticky(1), START, 0), Choice::Server(1));
    for (health, mode) in [(Health::Down, Mode::Ready), (Health::Up, Mode::Maintenance), (Health::Down, Mode::Drain)] {
        balancer.set_standing(1, health, mode, START);
        assert!(matches!(balancer.choose(&sticky(1), START, 0), Choice::Server(0 | 2)), "{health:?} {mode:?}");
    }
    assert!(matches!(balancer.choose(&sticky(9), START, 0), Choice::Server(0 | 2)), "a server that is gone");
}

#[test]
fn a_drained_server_gives_its_clients_away_where_that_is_asked_for() {
    let rules = Rules { drained: Drained::MovesClients, ..Rules::default() };
    let mut balancer = balancer_of(rules, &[server(1, 1), server(2, 1)]);
    balancer.set_standing(0, Health::Up, Mode::Drain, START);
    assert_eq!(balancer.choose(&sticky(0), START, 0), Choice::Server(1));
}

#[test]
fn a_retry_leaves_the_server_that_it_stuck_to() {
    let mut balancer = balancer(Policy::RoundRobin, &[1, 1]);
    assert_eq!(balancer.choose(&Ask { tried: &[0], ..sticky(0) }, START, 0), Choice::Server(1));
}

#[test]
fn a_source_stays_with_its_server_however_loaded_that_is() {
    let mut balancer = balancer(Policy::RoundRobin, &[1, 1, 1]);
    let ask = Ask { sticky: Sticky::Hash(hash::of_address([192, 0, 2, 1].into())), ..PLAIN };
    let first = balancer.choose(&ask, START, 0);
    assert!((0..50).all(|_| balancer.choose(&ask, START, 0) == first));
}

#[test]
fn a_server_that_comes_up_starts_slowly() {
    let rules = Rules { slow_start: Duration::from_secs(100), ..Rules::default() };
    let mut balancer = balancer_of(rules, &[server(1, 1), server(2, 1)]);
    let share = |balancer: &mut Balancer, now| {
        let chosen = (0..1000).filter(|_| balancer.choose(&PLAIN, now, 0) == Choice::Server(1));
        chosen.count()
    };
    assert_eq!(share(&mut balancer, START), 500, "not at first");
    balancer.set_standing(1, Health::Down, Mode::Ready, at(10));
    balancer.set_standing(1, Health::Up, Mode::Ready, at(20));
    assert!(share(&mut balancer, at(20)) <= 10);
    assert!((88..=94).contains(&share(&mut balancer, at(30))), "a tenth of the other's");
    assert_eq!(share(&mut balancer, at(120)), 500);
}

#[test]
fn who_waits_for_a_place_gets_the_next_one() {
    let servers = [1, 2].map(|name| Server { in_flight_max: Some(1), ..server(name, 1) });
    let mut balancer = balancer_of(Rules { waiting_max: 2, ..Rules::default() }, &servers);
    assert_eq!([0; 2].map(|_| balancer.choose(&PLAIN, START, 0)), [Choice::Server(0), Choice::Server(1)]);
    assert_eq!(balancer.choose(&PLAIN, START, 0), Choice::Wait(None));
    assert_eq!(balancer.choose(&sticky(1), START, 0), Choice::Wait(Some(1)));
    let any = balancer.join(None, &[]).expect("room in the queue");
    let bound = balancer.join(Some(1), &[]).expect("room in the queue");
    assert_eq!(balancer.join(None, &[]), None, "the queue is full");
    assert_eq!(balancer.next_waiting(), None);
    balancer.end(1, Outcome::Unused, START);
    assert_eq!(balancer.next_waiting(), Some((any, 1)), "the oldest first");
    assert_eq!(balancer.next_waiting(), None);
    balancer.end(0, Outcome::Unused, START);
    assert_eq!(balancer.next_waiting(), None, "the other waits for its own server");
    balancer.end(1, Outcome::Unused, START);
    assert_eq!(balancer.next_waiting(), Some((bound, 1)));
    assert_eq!((balancer.in_flight(0), balancer.in_flight(1), balancer.waiting()), (0, 1, 0));
}

#[test]
fn who_leaves_the_queue_is_not_called() {
    let mut balancer = balancer_of(Rules::default(), &[Server { in_flight_max: Some(1), ..server(1, 1) }]);
    balancer.choose(&PLAIN, START, 0);
    let ticket = balancer.join(None, &[]).expect("room in the queue");
    assert!(balancer.leave(ticket) && !balancer.leave(ticket));
    balancer.end(0, Outcome::Unused, START);
    assert_eq!(balancer.next_waiting(), None);
}

#[test]
fn who_waits_for_a_server_that_goes_down_chooses_again() {
    let servers = [1, 2].map(|name| Server { in_flight_max: Some(1), ..server(name, 1) });
    let mut balancer = balancer_of(Rules::default(), &servers);
    balancer.choose(&sticky(1), START, 0);
    let ticket = balancer.join(Some(1), &[]).expect("room in the queue");
    assert_eq!(balancer.next_orphan(), None);
    balancer.set_standing(1, Health::Down, Mode::Ready, START);
    assert_eq!(balancer.next_orphan(), Some(ticket));
    assert_eq!(balancer.next_orphan(), None);
    assert_eq!(balancer.choose(&sticky(1), START, 0), Choice::Server(0));
}

#[test]
fn what_is_known_survives_new_settings() {
    let mut old = balancer(Policy::RoundRobin, &[1, 1]);
    old.set_standing(0, Health::Down, Mode::Ready, START);
    let mut new = Balancer::new(Rules::default(), &[server(9, 1), server(1, 1), server(0, 1)]);
    new.inherit(&old, |index| [None, Some(1), Some(0)][index]);
    assert_eq!(choices(&mut new, 3), [1, 1, 1]);
}

#[test]
fn the_shares_of_threads_are_the_whole() {
    for (most, threads) in [(10, 3), (3, 3), (100, 7), (1, 1)] {
        assert_eq!((0..threads).map(|thread| share(most, threads, thread)).sum::<u32>(), most);
    }
    assert_eq!(share(1, 4, 3), 1, "no thread goes without");
}

#[derive(Clone, Debug)]
enum Event {
    Choose(Option<usize>, Vec<usize>, u64),
    End,
    Stand(usize, Health, Mode),
    Weigh(usize, u16),
}

fn any_event() -> impl Strategy<Value = Event> {
    let health = prop_oneof![Just(Health::Up), Just(Health::Unknown), Just(Health::Down)];
    let mode = prop_oneof![3 => Just(Mode::Ready), 1 => Just(Mode::Drain), 1 => Just(Mode::Maintenance)];
    prop_oneof![
        6 => (proptest::option::of(0..6_usize), proptest::collection::vec(0..5_usize, 0..3), any::<u64>()).prop_map(|(sticky, tried, chance)| Event::Choose(sticky, tried, chance)),
        4 => Just(Event::End),
        2 => (0..5_usize, health, mode).prop_map(|(server, health, mode)| Event::Stand(server, health, mode)),
        1 => (0..5_usize, 0..9_u16).prop_map(|(server, weight)| Event::Weigh(server, weight)),
    ]
}

proptest! {
    #[test]
    fn in_any_history_only_servers_that_may_take_requests_get_them(
        policy in proptest::sample::select(&ALL_POLICIES[..]),
        servers in proptest::collection::vec((0..4_u16, any::<bool>(), proptest::option::of(1..4_u32)), 1..5),
        events in proptest::collection::vec(any_event(), 0..80),
    ) {
        let servers: Vec<Server> = servers.iter().zip(0..)
            .map(|(&(weight, is_backup, in_flight_max), name)| Server { is_backup, in_flight_max, ..server(name, weight) })
            .collect();
        let rules = Rules { policy, slow_start: Duration::from_secs(5), ..Rules::default() };
        let mut balancer = Balancer::new(rules, &servers);
        let mut under_way: Vec<usize> = Vec::new();
        for (secs, event) in (0..).zip(events) {
            match event {
                Event::Choose(to, tried, chance) => {
                    let sticky = to.map_or(Sticky::Nothing, Sticky::Server);
                    let ask = Ask { sticky, hash: Some(chance), tried: &tried };
                    let choice = balancer.choose(&ask, at(secs), chance);
                    let may = |index: usize, slot: &Slot| !tried.contains(&index) && (slot.tier.is_some() || to == Some(index) && slot.holds_clients(rules.drained));
                    match choice {
                        Choice::Server(server) => {
                            let slot = &balancer.slots[server];
                            prop_assert!(may(server, slot));
                            prop_assert!(slot.server.in_flight_max.is_none_or(|most| slot.in_flight() <= most));
                            under_way.push(server);
                        }
                        Choice::Wait(Some(server)) => prop_assert!(!balancer.slots[server].has_room() && to == Some(server)),
                        Choice::Wait(None) => prop_assert!(balancer.slots.iter().enumerate().any(|(index, slot)| may(index, slot) && !slot.has_room())),
                        Choice::Nobody => prop_assert!(!balancer.slots.iter().enumerate().any(|(index, slot)| may(index, slot))),
                    }
                }
                Event::End => if let Some(server) = under_way.pop() {
                    balancer.end(server, Outcome::Answered(Duration::from_millis(secs * 7 % 90)), at(secs));
                },
                Event::Stand(server, health, mode) => balancer.set_standing(server, health, mode, at(secs)),
                Event::Weigh(server, weight) => balancer.set_weight(server, weight),
            }
            for (index, slot) in balancer.slots.iter().enumerate() {
                prop_assert_eq!(slot.in_flight() as usize, under_way.iter().filter(|one| **one == index).count());
            }
        }
    }

    #[test]
    fn round_robin_keeps_exactly_to_weights(weights in proptest::collection::vec(1..20_u16, 1..6)) {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let chosen = choices(&mut balancer(Policy::RoundRobin, &weights), total);
        for (server, weight) in weights.iter().enumerate() {
            prop_assert_eq!(count(&chosen, server), usize::from(*weight));
        }
    }
}

#[test]
fn a_server_that_is_added_gets_its_share_slowly() {
    let rules = Rules { slow_start: Duration::from_secs(60), ..Rules::default() };
    let before = balancer_of(rules, &[server(0, 1)]);
    let mut balancer = Balancer::new(rules, &[server(0, 1), server(1, 1)]);
    balancer.inherit(&before, |index| (index == 0).then_some(0));
    for index in 0..2 {
        balancer.set_standing(index, Health::Up, Mode::Ready, START);
    }
    let chosen = choices(&mut balancer, 100);
    assert!(count(&chosen, 1) <= 2, "{}", count(&chosen, 1));
}
