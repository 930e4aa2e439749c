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

    /// Its members, in the order of their rules.
    pub fn members(&self) -> &[Machine] {
        &self.members
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
        let interval = Interval::from_centis(20).expect("it is in range");
        let rules = Rules { interval, preempt: Preempt::After(Duration::ZERO) };
        let mut group = Group::new(&[rules, rules]);
        for member in 0..2 {
            group.stand(at(0), member, Standing::Able { address: OWN, priority: 200 });
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
