use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 5));
const BELOW: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 4));
const ABOVE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 6));

fn at(ms: u64) -> Moment {
    Moment::from_start(Duration::from_millis(ms))
}

fn interval(ms: u64) -> Interval {
    Interval::from_duration(Duration::from_millis(ms)).expect("it is in range")
}

fn heard(from: IpAddr, priority: u8) -> Heard {
    Heard { from, priority, interval: interval(200) }
}

fn able(priority: u8) -> Standing {
    Standing::Able { address: OWN, priority }
}

/// In `Backup` since the start, with intervals of 200 ms.
fn backup(priority: u8, preempt: Preempt) -> Machine {
    let mut machine = Machine::new(Rules { interval: interval(200), preempt }, false);
    machine.stand(at(0), able(priority));
    machine
}

/// Active since the start.
fn active(priority: u8) -> Machine {
    let mut machine = backup(priority, AT_ONCE);
    machine.rise(at(0));
    machine
}

const AT_ONCE: Preempt = Preempt::After(Duration::ZERO);

#[test]
fn silence_for_three_intervals_and_the_skew_makes_it_active() {
    // (256 − 192) / 256 of 200 ms are 50 ms.
    let mut machine = backup(192, AT_ONCE);
    assert_eq!(machine.due(), Some(at(650)));
    assert!(machine.tick(at(649)).is_empty());
    let actions = machine.tick(at(650));
    let became = Action::Note(Note::Became(State::Active, Why::Silence));
    assert_eq!(actions, [became, Action::Advertise(192), Action::Take]);
}

#[test]
fn an_owner_does_not_wait() {
    assert_eq!(backup(OWNER, Preempt::Never).state(), State::Active);
}

#[test]
fn who_hears_the_holder_stays_backup() {
    let mut machine = backup(100, AT_ONCE);
    for ms in (0..10_000).step_by(200) {
        assert!(machine.hear(at(ms), heard(ABOVE, 100)).is_empty());
        assert!(machine.tick(at(ms + 199)).is_empty());
    }
}

#[test]
fn one_that_lets_go_is_followed_after_the_skew_alone() {
    let mut machine = backup(192, AT_ONCE);
    machine.hear(at(100), heard(ABOVE, 250));
    machine.hear(at(150), heard(ABOVE, 0));
    assert_eq!(machine.due(), Some(at(200)));
    assert_eq!(machine.tick(at(200))[0], Action::Note(Note::Became(State::Active, Why::LetGo)));
}

#[test]
fn the_interval_of_who_is_active_is_waited_by() {
    let mut machine = backup(192, AT_ONCE);
    machine.hear(at(0), Heard { interval: interval(1000), ..heard(ABOVE, 250) });
    assert_eq!(machine.due(), Some(at(3250)));
}

#[test]
fn a_lower_one_is_taken_over_from_by_who_preempts_and_by_owners() {
    for (priority, preempt, due) in [(192, AT_ONCE, 650), (192, Preempt::Never, 750), (255, Preempt::Never, 100)] {
        let mut machine = backup(192, preempt);
        machine.standing = able(priority);
        machine.deadline = machine.deadline.filter(|_| priority != OWNER).or(Some(at(100)));
        machine.hear(at(100), heard(ABOVE, 100));
        assert_eq!(machine.due(), Some(at(due)), "{preempt:?}");
    }
}

#[test]
fn preemption_waits_for_its_delay() {
    let mut machine = backup(192, Preempt::After(Duration::from_secs(2)));
    let mut now = 0;
    while machine.state() == State::Backup && now < 10_000 {
        now += 10;
        if now % 200 == 0 {
            machine.hear(at(now), heard(BELOW, 100));
        }
        machine.tick(at(now));
    }
    // Two seconds from the first that it heard, then no advertisement starts the wait anew.
    assert_eq!(now, 2000 + 650);
}

#[test]
fn an_active_one_steps_down_for_a_better_one_alone() {
    let cases = [(ABOVE, 151, true), (BELOW, 151, true), (ABOVE, 150, true), (BELOW, 150, false), (ABOVE, 149, false)];
    for (from, priority, steps_down) in cases {
        let mut machine = active(150);
        let actions = machine.hear(at(100), heard(from, priority));
        assert_eq!(machine.state() == State::Backup, steps_down, "{from} {priority}");
        assert_eq!(actions.contains(&Action::LetGo), steps_down);
        assert_eq!(actions[0], Action::Advertise(150), "the other learns at once");
    }
}

#[test]
fn a_split_is_told_healed_and_announced_again() {
    let mut machine = active(150);
    let now = at(1000);
    machine.tick(now);
    let actions = machine.hear(now, heard(ABOVE, 100));
    assert_eq!(actions, [Action::Advertise(150), Action::Note(Note::TwoActives(ABOVE))]);
    assert!(machine.tick(now).contains(&Action::Announce), "at once");
    assert!(machine.tick(now + Duration::from_millis(60)).contains(&Action::Announce), "and when the other has let go");
    assert!(machine.hears_other_active());
    let actions = machine.tick(now + Duration::from_millis(600));
    assert!(actions.contains(&Action::Note(Note::OneActive)) && !machine.hears_other_active());
}

#[test]
fn the_last_word_of_one_that_it_took_over_from_is_no_split() {
    let mut machine = backup(150, AT_ONCE);
    machine.rise(at(1000));
    let actions = machine.hear(at(1001), heard(ABOVE, 100));
    assert_eq!((actions, machine.hears_other_active()), (vec![Action::Advertise(150)], false));
    machine.hear(at(1201), heard(ABOVE, 100));
    assert!(machine.hears_other_active());
}

#[test]
fn one_with_the_same_address_is_not_answered() {
    assert!(active(150).hear(at(10), heard(OWN, 150)).is_empty());
}

#[test]
fn who_cannot_hold_the_vips_lets_go_and_returns_as_backup() {
    let mut machine = active(150);
    let actions = machine.stand(at(100), Standing::Unable);
    let became = Action::Note(Note::Became(State::Initialize, Why::Unable));
    assert_eq!(actions, [Action::Advertise(0), Action::LetGo, became]);
    assert_eq!(machine.due(), None);
    machine.stand(at(200), able(150));
    assert_eq!(machine.state(), State::Backup);
}

#[test]
fn a_priority_that_changes_is_told_at_once() {
    let mut machine = active(150);
    assert_eq!(machine.stand(at(100), able(50)), [Action::Advertise(50)]);
    assert!(machine.stand(at(100), able(50)).is_empty());
}

#[test]
fn stopping_lets_go_of_what_is_held_and_of_nothing_else() {
    assert_eq!(active(150).stop(at(1))[..2], [Action::Advertise(0), Action::LetGo]);
    let became = Action::Note(Note::Became(State::Initialize, Why::Stop));
    assert_eq!(backup(150, AT_ONCE).stop(at(1)), [became]);
}

/// Something that happens to a machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    Hear { from: bool, priority: u8, centis: u16 },
    Stand(Option<u8>),
    Stop,
    Tick,
}

fn any_event() -> impl Strategy<Value = (u64, Event)> {
    let event = prop_oneof![
        3 => (any::<bool>(), any::<u8>(), 1..=4095u16)
            .prop_map(|(from, priority, centis)| Event::Hear { from, priority, centis }),
        1 => prop::option::of(1..=255u8).prop_map(Event::Stand),
        1 => Just(Event::Stop),
        4 => Just(Event::Tick),
    ];
    (0..2000u64, event)
}

fn happen(machine: &mut Machine, now: Moment, event: Event) -> Vec<Action> {
    match event {
        Event::Hear { from, priority, centis } => {
            let (from, interval) = (if from { ABOVE } else { BELOW }, Interval::from_centis(centis));
            machine.hear(now, Heard { from, priority, interval: interval.expect("1 to 4095") })
        }
        Event::Stand(priority) => machine.stand(now, priority.map_or(Standing::Unable, able)),
        Event::Stop => machine.stop(now),
        Event::Tick => machine.tick(now),
    }
}

proptest! {
    #[test]
    fn vips_are_held_exactly_while_it_is_active(events in vec(any_event(), 1..60), wait in 0..3000u64) {
        let preempt = Preempt::After(Duration::from_millis(wait));
        let mut machine = Machine::new(Rules { interval: interval(200), preempt }, false);
        let (mut now, mut holds) = (Moment::START, false);
        for (pause, event) in events {
            now = now + Duration::from_millis(pause);
            for action in happen(&mut machine, now, event) {
                match action {
                    Action::Take => prop_assert!(!std::mem::replace(&mut holds, true)),
                    Action::LetGo => prop_assert!(std::mem::replace(&mut holds, false)),
                    Action::Announce => prop_assert!(holds),
                    Action::Advertise(_) | Action::Note(_) => {}
                }
            }
            prop_assert_eq!(holds, machine.state() == State::Active);
            if matches!(event, Event::Tick) {
                prop_assert!(machine.due().is_none_or(|due| due > now), "what was due is done");
            }
            let is_idle = machine.state() == State::Initialize;
            prop_assert_eq!(machine.due().is_none(), is_idle, "who takes part is never without a deadline");
        }
    }
}
