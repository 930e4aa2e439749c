//! Virtual routers that rise and fall together: all VIPs of a group are on one machine, or none of them.

use shared::moment::Moment;

use super::machine::{Action, Heard, Machine, Rules, Standing, State};

/// One virtual router, or several that are kept in step.
///
/// ```text
/// one falls                         all fall
/// the wait of one is over           it waits for the others: who hears a better one holds all back
/// the waits of all are over         all rise
/// ```
#[derive(Clone, Debug)]
pub struct Group {
    members: Vec<Machine>,
}

impl Group {
    /// One member for each of `rules`.
    pub fn new(rules: &[Rules]) -> Self {
        Self { members: rules.iter().map(|one| Machine::new(*one, rules.len() > 1)).collect() }
    }

    /// Of machines that were in other groups before, or are new; [`Self::meet`] is due.
    pub fn of(members: Vec<Machine>) -> Self {
        Self { members }
    }

    /// Goes on with members that came from other groups or are new, whose standings are these, in their order.
    ///
    /// Where the others are active new ones become so at once, so that nobody lets go for their sake. Who is active tells
    /// what may have changed of it.
    pub fn meet(&mut self, now: Moment, standings: &[Standing]) -> Vec<(usize, Action)> {
        let was_out: Vec<bool> = self.members.iter().map(|machine| machine.state() == State::Initialize).collect();
        let mut actions = Vec::new();
        for (member, (machine, standing)) in self.members.iter_mut().zip(standings).enumerate() {
            let was_active = machine.state() == State::Active;
            let mut step = machine.stand(now, *standing);
            if step.is_empty() && was_active {
                step = machine.advertise(now);
            }
            actions.extend(step.into_iter().map(|action| (member, action)));
        }
        let states = self.members.iter().map(Machine::state).zip(was_out);
        let may_join =
            states.clone().all(|(state, was_out)| state == State::Active || state == State::Backup && was_out);
        if may_join && states.map(|(state, _)| state).any(|state| state == State::Active) {
            let idle = self.members.iter_mut().enumerate().filter(|(_, machine)| machine.state() == State::Backup);
            let risen = idle.flat_map(|(member, machine)| machine.rise(now).into_iter().map(move |it| (member, it)));
            actions.extend(risen);
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Its members, in the order of their rules.
    pub fn members(&self) -> &[Machine] {
        &self.members
    }

    /// The members themselves, to make other groups of.
    pub fn into_members(self) -> Vec<Machine> {
        self.members
    }

    /// When [`Self::tick`] is due.
    pub fn due(&self) -> Option<Moment> {
        self.members.iter().filter_map(Machine::due).min()
    }

    /// Takes the standing of one member into account. What is to be done is told with the member that is to do it.
    pub fn stand(&mut self, now: Moment, member: usize, standing: Standing) -> Vec<(usize, Action)> {
        self.with(now, member, |machine| machine.stand(now, standing))
    }

    /// Takes what one member heard into account.
    pub fn hear(&mut self, now: Moment, member: usize, heard: Heard) -> Vec<(usize, Action)> {
        self.with(now, member, |machine| machine.hear(now, heard))
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) -> Vec<(usize, Action)> {
        (0..self.members.len()).flat_map(|member| self.with(now, member, |machine| machine.tick(now))).collect()
    }

    /// Another process of this machine held the VIPs up to now: all rise that can.
    pub fn resume(&mut self, now: Moment) -> Vec<(usize, Action)> {
        if self.members.iter().any(|machine| machine.state() != State::Backup) {
            return Vec::new();
        }
        let members = self.members.iter_mut().enumerate();
        members
            .flat_map(|(member, machine)| machine.rise(now).into_iter().map(move |action| (member, action)))
            .collect()
    }

    /// The program ends.
    pub fn stop(&mut self, now: Moment) -> Vec<(usize, Action)> {
        (0..self.members.len()).flat_map(|member| self.with(now, member, |machine| machine.stop(now))).collect()
    }

    fn with(
        &mut self,
        now: Moment,
        member: usize,
        step: impl FnOnce(&mut Machine) -> Vec<Action>,
    ) -> Vec<(usize, Action)> {
        let Some(machine) = self.members.get_mut(member) else { return Vec::new() };
        let mut actions: Vec<_> = step(machine).into_iter().map(|action| (member, action)).collect();
        self.settle(now, &mut actions);
        actions
    }

    fn settle(&mut self, now: Moment, actions: &mut Vec<(usize, Action)>) {
        if self.members.len() < 2 {
            return;
        }
        let all_want = self.members.iter().all(Machine::wants);
        let is_torn = self.members.iter().any(|machine| machine.state() != State::Active);
        for (member, machine) in self.members.iter_mut().enumerate() {
            let step = match () {
                () if all_want => machine.rise(now),
                () if is_torn => machine.fall_with_group(now),
                () => continue,
            };
            actions.extend(step.into_iter().map(|action| (member, action)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::vrrp::machine::Preempt;
    use crate::vrrp::packet::Interval;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 3));

    fn at(ms: u64) -> Moment {
        Moment::from_start(Duration::from_millis(ms))
    }

    fn pair() -> Group {
        let mut group = Group::new(&[rules(), rules()]);
        for member in 0..2 {
            group.stand(at(0), member, able(200));
        }
        group
    }

    fn heard(priority: u8) -> Heard {
        Heard { from: PEER, priority, interval: Interval::from_centis(20).expect("it is in range") }
    }

    fn states(group: &Group) -> [State; 2] {
        [group.members[0].state(), group.members[1].state()]
    }

    #[test]
    fn one_that_hears_a_better_one_holds_all_back() {
        let mut group = pair();
        for ms in (0..5000).step_by(100) {
            group.hear(at(ms), 1, heard(250));
            group.tick(at(ms));
        }
        assert_eq!(states(&group), [State::Backup; 2]);
    }

    #[test]
    fn all_rise_when_the_last_wait_is_over() {
        let mut group = pair();
        group.hear(at(100), 1, heard(250));
        group.tick(at(700));
        assert_eq!(states(&group), [State::Backup; 2]);
        let actions = group.tick(at(800));
        assert_eq!(states(&group), [State::Active; 2]);
        let takers: Vec<usize> =
            actions.iter().filter(|(_, action)| *action == Action::Take).map(|(member, _)| *member).collect();
        assert_eq!(takers, [0, 1]);
    }

    fn able(priority: u8) -> Standing {
        Standing::Able { address: OWN, priority }
    }

    fn rules() -> Rules {
        let interval = Interval::from_centis(20).expect("it is in range");
        Rules { interval, preempt: Preempt::After(Duration::ZERO) }
    }

    #[test]
    fn a_new_member_joins_active_ones_without_a_wait() {
        let mut group = pair();
        group.tick(at(900));
        let mut members = group.members;
        members.push(Machine::new(rules(), true));
        let mut group = Group::of(members);
        let actions = group.meet(at(1000), &[able(200); 3]);
        assert!(group.members.iter().all(|machine| machine.state() == State::Active));
        assert!(actions.contains(&(2, Action::Take)) && !actions.iter().any(|(_, action)| *action == Action::LetGo));
    }

    #[test]
    fn a_new_member_that_cannot_hold_its_vips_makes_all_let_go() {
        let mut group = pair();
        group.tick(at(900));
        let mut members = group.members;
        members.push(Machine::new(rules(), true));
        let actions = Group::of(members).meet(at(1000), &[able(200), able(200), Standing::Unable]);
        assert!(actions.contains(&(0, Action::LetGo)) && actions.contains(&(1, Action::LetGo)), "{actions:?}");
    }

    #[test]
    fn an_active_one_and_the_backup_of_another_become_a_group_by_letting_go() {
        let mut apart = [Machine::new(rules(), false), Machine::new(rules(), false)];
        for machine in &mut apart {
            machine.stand(at(0), able(200));
        }
        apart[0].tick(at(900));
        apart[1].hear(at(900), heard(250));
        for machine in &mut apart {
            machine.follow(at(1000), rules(), true);
        }
        let actions = Group::of(apart.to_vec()).meet(at(1000), &[able(200); 2]);
        assert!(actions.contains(&(0, Action::LetGo)) && !actions.contains(&(1, Action::Take)), "{actions:?}");
    }

    #[test]
    fn an_active_one_stays_so_and_tells_at_once_what_changed() {
        let mut machine = Machine::new(rules(), false);
        machine.stand(at(0), able(200));
        machine.tick(at(900));
        let rules = Rules { interval: Interval::from_centis(3).expect("it is in range"), ..rules() };
        machine.follow(at(1000), rules, false);
        let mut group = Group::of(vec![machine]);
        assert_eq!(group.meet(at(1000), &[able(150)]), [(0, Action::Advertise(150))]);
        assert!(group.tick(at(1030)).contains(&(0, Action::Advertise(150))));
    }

    #[test]
    fn who_waited_for_its_group_and_has_none_any_more_rises() {
        let mut group = pair();
        group.hear(at(100), 1, heard(250));
        group.tick(at(700));
        let mut machine = group.members.swap_remove(0);
        machine.follow(at(710), rules(), false);
        let mut group = Group::of(vec![machine]);
        group.meet(at(710), &[able(200)]);
        assert!(group.tick(at(710)).contains(&(0, Action::Take)));
    }

    #[test]
    fn when_one_falls_all_let_go() {
        let better = |group: &mut Group| group.hear(at(1000), 0, heard(250));
        let unable = |group: &mut Group| group.stand(at(1000), 0, Standing::Unable);
        for fall in [&better as &dyn Fn(&mut Group) -> Vec<(usize, Action)>, &unable] {
            let mut group = pair();
            group.tick(at(900));
            assert_eq!(states(&group), [State::Active; 2]);
            let actions = fall(&mut group);
            assert!(actions.contains(&(0, Action::LetGo)) && actions.contains(&(1, Action::LetGo)), "{actions:?}");
            assert!(actions.contains(&(1, Action::Advertise(0))), "others need not wait");
            assert!(!states(&group).contains(&State::Active));
        }
    }
}
