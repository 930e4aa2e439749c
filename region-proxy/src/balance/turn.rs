//! The choice for one request where nothing is kept between requests but their number.

use super::{Health, Policy};

/// What the choice needs to know of one server.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its health.
    pub health: Health,
    /// Requests that it answers now.
    pub in_flight: u64,
    /// Whether this request already failed there.
    pub is_tried: bool,
}

/// The index of the server that takes the request numbered `turn`; `None` when no server may.
///
/// ```text
/// some up and untried               one of those
/// none up, some unknown, untried    one of those: a request may find out sooner than a check
/// else                              none; a server that is down gets nothing
/// ```
/// With an unchanged set, each of `n` eligible servers is chosen once in `n` turns of [`Policy::RoundRobin`].
pub fn choose(policy: Policy, candidates: impl Iterator<Item = Candidate> + Clone, turn: u64) -> Option<usize> {
    let of = |health| {
        let eligible = candidates.clone().enumerate();
        eligible.filter(move |(_, candidate)| candidate.health == health && !candidate.is_tried)
    };
    pick(policy, of(Health::Up), turn).or_else(|| pick(policy, of(Health::Unknown), turn))
}

fn pick(policy: Policy, eligible: impl Iterator<Item = (usize, Candidate)> + Clone, turn: u64) -> Option<usize> {
    let least = match policy {
        Policy::LeastConnections => eligible.clone().map(|(_, candidate)| candidate.in_flight).min()?,
        // All others need what a [`super::Balancer`] keeps.
        _ => u64::MAX,
    };
    let equals = eligible.filter(|(_, candidate)| candidate.in_flight <= least);
    let count = equals.clone().count() as u64;
    let place = turn.checked_rem(count)?;
    equals.map(|(index, _)| index).nth(place as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server(health: Health, in_flight: u64) -> Candidate {
        Candidate { health, in_flight, is_tried: false }
    }

    fn any_servers() -> impl Strategy<Value = Vec<Candidate>> {
        let health = prop_oneof![Just(Health::Up), Just(Health::Unknown), Just(Health::Down)];
        let one = (health, 0..4_u64, any::<bool>());
        proptest::collection::vec(
            one.prop_map(|(health, in_flight, is_tried)| Candidate { health, in_flight, is_tried }),
            0..9,
        )
    }

    #[test]
    fn all_down_chooses_none() {
        let servers = [server(Health::Down, 0), server(Health::Down, 0)];
        for policy in [Policy::RoundRobin, Policy::LeastConnections] {
            assert_eq!(choose(policy, servers.iter().copied(), 7), None);
            assert_eq!(choose(policy, std::iter::empty(), 7), None);
        }
    }

    #[test]
    fn unknown_servers_are_used_only_when_none_is_up() {
        let servers = [server(Health::Unknown, 0), server(Health::Up, 9), server(Health::Down, 0)];
        assert_eq!(choose(Policy::LeastConnections, servers.iter().copied(), 0), Some(1));
        assert_eq!(choose(Policy::RoundRobin, servers[..1].iter().copied(), 5), Some(0));
    }

    #[test]
    fn least_connections_takes_the_least_loaded_and_turns_among_equals() {
        let servers = [server(Health::Up, 2), server(Health::Up, 1), server(Health::Up, 1)];
        let chosen: Vec<_> =
            (0..4).map(|turn| choose(Policy::LeastConnections, servers.iter().copied(), turn)).collect();
        assert_eq!(chosen, [Some(1), Some(2), Some(1), Some(2)]);
    }

    proptest! {
        #[test]
        fn round_robin_gives_each_eligible_server_one_request_in_each_round(servers in any_servers(), start in 0..u64::from(u32::MAX)) {
            let is_eligible = |health| servers.iter().filter(move |one| one.health == health && !one.is_tried).count();
            let count = if is_eligible(Health::Up) > 0 { is_eligible(Health::Up) } else { is_eligible(Health::Unknown) };
            let mut chosen: Vec<_> = (0..count as u64)
                .filter_map(|turn| choose(Policy::RoundRobin, servers.iter().copied(), start + turn))
                .collect();
            chosen.sort_unstable();
            chosen.dedup();
            prop_assert_eq!(chosen.len(), count);
        }

        #[test]
        fn a_tried_or_down_server_is_never_chosen(servers in any_servers(), turn: u64) {
            for policy in [Policy::RoundRobin, Policy::LeastConnections] {
                if let Some(index) = choose(policy, servers.iter().copied(), turn) {
                    prop_assert!(!servers[index].is_tried && servers[index].health != Health::Down);
                } else {
                    prop_assert!(servers.iter().all(|one| one.is_tried || one.health == Health::Down));
                }
            }
        }
    }
}
