//! Every course that two or three routers can take over a link that delays and loses: checked, not sampled.
//!
//! Time goes in ticks of 10 ms. Between two ticks what is on the way arrives in any order, or one tick later, or never;
//! routers are cut off, crash, leave and come back. Moments are kept relative to the present, so that states recur.

use std::net::Ipv4Addr;

use stateright::{Checker, Model, Property};

use super::*;

const TICK: Duration = Duration::from_millis(10);

/// The present of every state.
const NOW: Moment = Moment::from_start(Duration::from_secs(3600));

/// What goes wrong, how often.
#[derive(Clone, Debug)]
struct Link {
    priorities: Vec<u8>,
    preempt: Preempt,
    /// Whether what is sent may arrive after the next tick.
    delays: bool,
    losses_max: u8,
    cuts_max: u8,
    falls_max: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    /// `None`: crashed or gone.
    routers: Vec<Option<Machine>>,
    under_way: Vec<Letter>,
    /// The router that is cut off.
    cut: Option<usize>,
    losses: u8,
    cuts: u8,
    falls: u8,
    /// Ticks since something went wrong.
    calm: u8,
    /// Ticks for which two were active while nothing was lost.
    dual: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Letter {
    to: usize,
    from: usize,
    priority: u8,
    is_late: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Tick,
    Deliver(Letter),
    Lose(Letter),
    Cut(usize),
    Mend,
    Crash(usize),
    Leave(usize),
    Return(usize),
}

impl Link {
    fn interval() -> Interval {
        Interval::from_centis(2).expect("it is in range")
    }

    fn address(router: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, router as u8))
    }

    fn standing(&self, router: usize) -> Standing {
        Standing::Able { address: Self::address(router), priority: self.priorities[router] }
    }

    fn newcomer(&self, router: usize) -> Machine {
        let mut machine = Machine::new(Rules { interval: Self::interval(), preempt: self.preempt }, false);
        machine.stand(NOW, self.standing(router));
        machine
    }

    /// Puts what `router` sends on the way.
    fn carry_out(&self, world: &mut World, router: usize, actions: &[Action]) {
        for action in actions {
            let Action::Advertise(priority) = *action else { continue };
            for to in (0..self.priorities.len()).filter(|to| *to != router) {
                if world.cut != Some(to) && world.cut != Some(router) && world.routers[to].is_some() {
                    world.under_way.push(Letter { to, from: router, priority, is_late: false });
                }
            }
        }
    }

    fn deliver(&self, world: &mut World, letter: Letter) {
        let heard = Heard { from: Self::address(letter.from), priority: letter.priority, interval: Self::interval() };
        if let Some(machine) = &mut world.routers[letter.to] {
            let actions = machine.hear(NOW, heard);
            self.carry_out(world, letter.to, &actions);
        }
    }

    fn tick(&self, world: &mut World) {
        for letter in &mut world.under_way {
            letter.is_late = true;
        }
        for router in 0..world.routers.len() {
            if let Some(machine) = &mut world.routers[router] {
                machine.age();
                let actions = machine.tick(NOW);
                self.carry_out(world, router, &actions);
            }
        }
        world.calm = world.calm.saturating_add(1).min(self.settled());
        world.dual = if world.actives() > 1 && world.cut.is_none() { world.dual + 1 } else { 0 };
    }

    /// Ticks within which all is well again: the longest patience, what comes after it on its way, and the delay of
    /// preemption, which begins and ends with an advertisement.
    fn settled(&self) -> u8 {
        let lowest = self.priorities.iter().min().expect("there are routers");
        let skew = Self::interval().duration() * (256 - u32::from(*lowest)) / 256;
        let mut longest = 3 * Self::interval().duration() + skew;
        if let Preempt::After(delay) = self.preempt
            && !delay.is_zero()
        {
            longest += delay + 2 * Self::interval().duration();
        }
        (longest.as_millis().div_ceil(10) as u8) + HEALING
    }

    fn check(self) -> usize {
        let checker = self.checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        checker.unique_state_count()
    }
}

impl Machine {
    /// A tick passes.
    fn age(&mut self) {
        self.deadline = self.deadline.map(|deadline| deadline.before(TICK));
        self.lower_since = self.lower_since.map(|since| since.before(TICK).max(NOW.before(Duration::from_millis(100))));
    }

    /// Announcements and alarms change nothing on the link: states that differ in them alone are one.
    fn forget(&mut self) {
        self.announcements = Announcements::default();
        (self.risen, self.other_heard) = (Moment::START, None);
    }
}

impl World {
    fn actives(&self) -> usize {
        self.routers.iter().flatten().filter(|machine| machine.state() == State::Active).count()
    }

    fn trouble(&mut self) {
        (self.calm, self.dual) = (0, 0);
    }
}

impl Model for Link {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let routers = (0..self.priorities.len()).map(|router| Some(self.newcomer(router))).collect();
        vec![World { routers, under_way: Vec::new(), cut: None, losses: 0, cuts: 0, falls: 0, calm: 0, dual: 0 }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let letters = world.under_way.iter();
        steps.extend(letters.clone().map(|letter| Step::Deliver(*letter)));
        if world.losses < self.losses_max {
            steps.extend(letters.clone().map(|letter| Step::Lose(*letter)));
        }
        if !letters.clone().any(|letter| letter.is_late || !self.delays) {
            steps.push(Step::Tick);
        }
        if world.cut.is_some() {
            steps.push(Step::Mend);
        } else if world.cuts < self.cuts_max {
            steps.extend((0..world.routers.len()).map(Step::Cut));
        }
        for (router, machine) in world.routers.iter().enumerate() {
            match machine {
                None => steps.push(Step::Return(router)),
                Some(_) if world.falls < self.falls_max => {
                    steps.extend([Step::Crash(router), Step::Leave(router)]);
                }
                Some(_) => {}
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        if let Step::Deliver(letter) | Step::Lose(letter) = step {
            let at = world.under_way.iter().position(|other| *other == letter)?;
            world.under_way.swap_remove(at);
        }
        match step {
            Step::Tick => self.tick(&mut world),
            Step::Deliver(letter) => self.deliver(&mut world, letter),
            Step::Lose(_) => world.losses += 1,
            Step::Cut(router) => (world.cut, world.cuts) = (Some(router), world.cuts + 1),
            Step::Mend => world.cut = None,
            Step::Return(router) => world.routers[router] = Some(self.newcomer(router)),
            Step::Crash(router) | Step::Leave(router) => {
                let machine = world.routers[router].take();
                world.falls += 1;
                world.under_way.retain(|letter| letter.to != router);
                if let (Step::Leave(_), Some(mut machine)) = (step, machine) {
                    let actions = machine.stop(NOW);
                    self.carry_out(&mut world, router, &actions);
                }
            }
        }
        if !matches!(step, Step::Tick | Step::Deliver(_)) {
            world.trouble();
        }
        world.under_way.sort_unstable();
        world.routers.iter_mut().flatten().for_each(Machine::forget);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("two are not active for longer than healing takes", |_, world: &World| {
                world.dual <= HEALING
            }),
            Property::always("in the end there is exactly one active", |link: &Self, world: &World| {
                let is_settled = world.calm >= link.settled() && world.cut.is_none();
                !is_settled || world.actives() == 1 || world.routers.iter().all(Option::is_none)
            }),
            Property::sometimes("two are active while they cannot hear each other", |_, world: &World| {
                world.actives() > 1
            }),
        ]
    }
}

/// Ticks until the next advertisement of the better one is heard: an interval, and the longest way.
const HEALING: u8 = 4;

#[test]
fn two_routers_over_a_link_that_loses_and_delays_agree_again() {
    for (priorities, preempt) in [
        (vec![128, 64], Preempt::After(Duration::ZERO)),
        (vec![128, 64], Preempt::Never),
        (vec![128, 64], Preempt::After(Duration::from_millis(50))),
        (vec![128, 128], Preempt::After(Duration::ZERO)),
        (vec![255, 128], Preempt::Never),
    ] {
        let link = Link { priorities, preempt, delays: true, losses_max: 4, cuts_max: 1, falls_max: 1 };
        assert!(link.check() > 1000);
    }
}

#[test]
fn three_routers_of_which_one_is_cut_off_or_falls_agree_again() {
    for (preempt, cuts_max, falls_max) in [(Preempt::After(Duration::ZERO), 1, 0), (Preempt::Never, 1, 1)] {
        let link = Link { priorities: vec![192, 128, 64], preempt, delays: false, losses_max: 2, cuts_max, falls_max };
        assert!(link.check() > 1000);
    }
}
