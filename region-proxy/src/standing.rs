//! How a server stands: what follows from the settings, an operator, its agent and its checks.
//!
//! ```text
//! health       down when the checks or the agent say so; else what the checks say
//! mode         the operator's, else that of the settings; the stricter of this and the agent's
//! weight       the operator's, else that of the settings; of it the per cent that the agent gives, 256 at most
//! connections  the agent's, else that of the settings
//! ```

use crate::balance::{Health, Mode};

pub mod agent;
pub mod traffic;

use agent::Agent;

/// The largest weight.
pub const WEIGHT_MAX: u16 = 256;

/// What the settings say of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Whether it serves.
    pub mode: Mode,
    /// Its share: 0 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// Requests that it may have at one time.
    pub connections: Option<u32>,
}

/// What an operator wants at run time; `None`: what the settings say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Order {
    /// Whether it serves.
    pub mode: Option<Mode>,
    /// Its share: 0 to [`WEIGHT_MAX`].
    pub weight: Option<u16>,
}

/// What balancers go by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Whether it can serve.
    pub health: Health,
    /// Whether it shall.
    pub mode: Mode,
    /// Its share.
    pub weight: u16,
    /// Requests that it may have at one time.
    pub connections: Option<u32>,
}

impl Standing {
    /// What follows from all that is known; `checks` is what checks and traffic say.
    pub fn of(wanted: Wanted, order: Order, agent: &Agent, checks: Health) -> Self {
        let mode = order.mode.unwrap_or(wanted.mode);
        Self {
            health: if agent.is_down { Health::Down } else { checks },
            mode: agent.mode.map_or(mode, |agent| agent.max(mode)),
            weight: part(order.weight.unwrap_or(wanted.weight), agent.percent),
            connections: agent.connections.or(wanted.connections),
        }
    }

    /// Whether it is up and takes new clients.
    pub fn is_open(&self) -> bool {
        self.health == Health::Up && self.mode == Mode::Ready && self.weight > 0
    }

    /// All of it in one number, so that it can be swapped at once.
    pub fn to_bits(self) -> u64 {
        let health = HEALTHS.iter().position(|health| *health == self.health).unwrap_or_default() as u64;
        let mode = MODES.iter().position(|mode| *mode == self.mode).unwrap_or_default() as u64;
        // No server is allowed none: 0 is free for "no bound".
        let connections = u64::from(self.connections.unwrap_or(0));
        connections << 32 | u64::from(self.weight) << 8 | mode << 4 | health
    }

    /// What [`Self::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Self {
        let connections = (bits >> 32) as u32;
        Self {
            health: HEALTHS[(bits & 0xf) as usize % HEALTHS.len()],
            mode: MODES[(bits >> 4 & 0xf) as usize % MODES.len()],
            weight: (bits >> 8 & 0xffff) as u16,
            connections: (connections > 0).then_some(connections),
        }
    }
}

/// `percent` of `weight`; what is not nothing stays so.
fn part(weight: u16, percent: Option<u32>) -> u16 {
    let Some(percent) = percent else { return weight };
    let part = u64::from(weight) * u64::from(percent) / 100;
    let least = u64::from(weight > 0 && percent > 0);
    part.clamp(least, WEIGHT_MAX.into()) as u16
}

const HEALTHS: [Health; 3] = [Health::Unknown, Health::Up, Health::Down];
const MODES: [Mode; 3] = [Mode::Ready, Mode::Drain, Mode::Maintenance];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WANTED: Wanted = Wanted { mode: Mode::Ready, weight: 10, connections: Some(100) };

    fn of(order: Order, agent: Agent, checks: Health) -> Standing {
        Standing::of(WANTED, order, &agent, checks)
    }

    fn any_mode() -> impl Strategy<Value = Mode> {
        prop::sample::select(MODES.to_vec())
    }

    fn any_health() -> impl Strategy<Value = Health> {
        prop::sample::select(HEALTHS.to_vec())
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let parts = (any_health(), any_mode(), 0..=WEIGHT_MAX, prop::option::of(1_u32..));
        parts.prop_map(|(health, mode, weight, connections)| Standing { health, mode, weight, connections })
    }

    #[test]
    fn without_orders_and_agent_the_settings_and_checks_hold() {
        let standing = of(Order::default(), Agent::default(), Health::Up);
        assert_eq!(standing, Standing { health: Health::Up, mode: Mode::Ready, weight: 10, connections: Some(100) });
    }

    #[test]
    fn an_agent_takes_a_server_down_and_never_up() {
        let down = Agent { is_down: true, ..Agent::default() };
        for checks in HEALTHS {
            assert_eq!(of(Order::default(), down, checks).health, Health::Down);
            assert_eq!(of(Order::default(), Agent::default(), checks).health, checks);
        }
    }

    #[test]
    fn an_operator_overrules_the_settings_and_the_stricter_mode_holds_against_the_agent() {
        for operator in MODES {
            let order = Order { mode: Some(operator), weight: Some(3) };
            let stopped = Wanted { mode: Mode::Maintenance, ..WANTED };
            assert_eq!(Standing::of(stopped, order, &Agent::default(), Health::Up).mode, operator);
            for agent in MODES {
                let standing = of(order, Agent { mode: Some(agent), ..Agent::default() }, Health::Up);
                assert_eq!((standing.mode, standing.weight), (operator.max(agent), 3));
            }
        }
    }

    #[test]
    fn an_agents_weight_is_a_part_of_the_operators_or_of_that_in_the_settings() {
        let weight = |order: Option<u16>, percent| {
            let agent = Agent { percent: Some(percent), ..Agent::default() };
            of(Order { mode: None, weight: order }, agent, Health::Up).weight
        };
        assert_eq!([weight(None, 50), weight(Some(200), 50), weight(Some(200), 200)], [5, 100, 256]);
        assert_eq!([weight(None, 1), weight(None, 0), weight(Some(0), 100)], [1, 0, 0]);
    }

    #[test]
    fn new_clients_come_only_to_what_is_up_ready_and_has_a_weight() {
        for (health, mode, weight) in [
            (Health::Down, Mode::Ready, 1),
            (Health::Unknown, Mode::Ready, 1),
            (Health::Up, Mode::Drain, 1),
            (Health::Up, Mode::Maintenance, 1),
            (Health::Up, Mode::Ready, 0),
        ] {
            assert!(!Standing { health, mode, weight, connections: None }.is_open());
        }
        assert!(Standing { health: Health::Up, mode: Mode::Ready, weight: 1, connections: None }.is_open());
    }

    proptest! {
        #[test]
        fn its_number_holds_all_of_it(standing in any_standing()) {
            prop_assert_eq!(Standing::from_bits(standing.to_bits()), standing);
        }

        #[test]
        fn a_weight_never_leaves_its_range(weight in 0..=WEIGHT_MAX, percent in any::<u32>()) {
            prop_assert!(part(weight, Some(percent)) <= WEIGHT_MAX);
        }
    }
}
