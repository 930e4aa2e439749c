//! Maglev tables: a hash leads to a server, evenly, and to the same one although others come and go.
//!
//! Source: Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// How many slots a table for `servers` has: a prime of at least a hundred each, so that shares are right to a per cent.
///
/// With more than 655 servers the largest: a table of more slots would take the kernel too long to load.
pub(super) fn size(servers: usize) -> usize {
    SIZES.iter().copied().find(|size| *size >= servers * 100).unwrap_or(SIZES[SIZES.len() - 1])
}

/// Which server each of `size` slots leads to, by index into `servers`: their names and weights, no name twice.
///
/// Empty when all weights are 0. It hangs on nothing but names, weights and size, so all machines have the same.
pub(super) fn table(servers: &[(&str, u16)], size: usize) -> Vec<usize> {
    let most = servers.iter().map(|(_, weight)| *weight).max().unwrap_or_default();
    if most == 0 || size < 2 {
        return Vec::new();
    }
    let mut walks: Vec<Walk> = servers.iter().map(|(name, weight)| Walk::new(name, *weight, size)).collect();
    let mut slots = vec![None; size];
    let mut left = size;
    // In each round the heaviest takes a slot, and others in as many rounds as their weights say.
    for round in 1_u64.. {
        for (server, walk) in walks.iter_mut().enumerate() {
            if round * u64::from(walk.weight) < walk.taken * u64::from(most) + u64::from(most) {
                continue;
            }
            walk.taken += 1;
            walk.take(&mut slots, server);
            left -= 1;
            if left == 0 {
                return slots.into_iter().flatten().collect();
            }
        }
    }
    Vec::new()
}

/// The order in which a server wants slots: a walk over all of them.
struct Walk {
    weight: u16,
    taken: u64,
    next: usize,
    skip: usize,
}

impl Walk {
    fn new(name: &str, weight: u16, size: usize) -> Self {
        let hash = |key| {
            let mut hasher = SipHasher13::new_with_key(key);
            hasher.write(name.as_bytes());
            hasher.finish()
        };
        let (size, first) = (size as u64, hash(FIRST) % size as u64);
        // The size is prime, so that any skip comes by all slots.
        Self { weight, taken: 0, next: first as usize, skip: (hash(SKIP) % (size - 1) + 1) as usize }
    }

    /// Takes the next slot that is free; there must be one.
    fn take(&mut self, slots: &mut [Option<usize>], server: usize) {
        loop {
            let at = self.next;
            self.next = (at + self.skip) % slots.len();
            if slots[at].is_none() {
                slots[at] = Some(server);
                return;
            }
        }
    }
}

/// Primes just below powers of two.
const SIZES: [usize; 4] = [1021, 4093, 16_381, 65_521];

/// No secrets: machines must agree.
const FIRST: &[u8; 16] = b"gslb l4 first at";
const SKIP: &[u8; 16] = b"gslb l4 step by ";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("app-{number}")).collect()
    }

    fn equal(names: &[String]) -> Vec<(&str, u16)> {
        names.iter().map(|name| (name.as_str(), 1)).collect()
    }

    fn share(table: &[usize], server: usize) -> f64 {
        table.iter().filter(|slot| **slot == server).count() as f64 / table.len() as f64
    }

    #[test]
    fn a_table_has_a_hundred_slots_a_server_and_a_prime_number_of_them() {
        assert_eq!(
            [0, 1, 10, 11, 40, 41, 163, 164, 655, 656, 10_000].map(size),
            [1021, 1021, 1021, 4093, 4093, 16_381, 16_381, 65_521, 65_521, 65_521, 65_521]
        );
        for size in SIZES {
            assert!((2..size).take_while(|divisor| divisor * divisor <= size).all(|divisor| size % divisor != 0));
        }
    }

    #[test]
    fn tables_are_the_same_for_ever_and_on_all_machines() {
        let table = table(&[("app-1", 1), ("app-2", 1), ("app-3", 2)], 1021);
        assert_eq!(table[..16], [0, 1, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 2]);
    }

    #[test]
    fn without_a_weight_there_is_no_table() {
        assert_eq!(table(&[], 1021), [0; 0]);
        assert_eq!(table(&[("a", 0), ("b", 0)], 1021), [0; 0]);
    }

    #[test]
    fn the_order_of_servers_makes_no_great_difference() {
        let names = names(8);
        let (forward, mut servers) = (table(&equal(&names), 1021), equal(&names));
        servers.reverse();
        let backward = table(&servers, 1021);
        let moved = forward.iter().zip(&backward).filter(|(one, other)| **one != 7 - **other).count();
        assert!(moved < 1021 / 20, "{moved}");
    }

    #[test]
    fn a_large_table_is_even_and_loses_little() {
        let names = names(655);
        let servers = equal(&names);
        let table = table(&servers, size(servers.len()));
        assert!((0..655).all(|server| (share(&table, server) * 655.0 - 1.0).abs() < 0.02));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shares_are_as_the_weights_say(weights in prop::collection::vec(0_u16..=256, 1..10)) {
            let names = names(weights.len());
            let servers: Vec<_> = names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let table = table(&servers, size(servers.len()));
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            prop_assume!(total > 0.0);
            for (server, weight) in weights.iter().enumerate() {
                prop_assert!((share(&table, server) - f64::from(*weight) / total).abs() < 0.01);
            }
        }

        #[test]
        fn who_goes_takes_few_others_flows_along(count in 2_usize..40, gone in 0_usize..40) {
            let (names, gone) = (names(count), gone % count);
            let servers = equal(&names);
            let mut less = servers.clone();
            less[gone].1 = 0;
            let size = size(count);
            let (before, after) = (table(&servers, size), table(&less, size));
            let moved = before.iter().zip(&after).filter(|(one, other)| **one != gone && one != other).count();
            prop_assert!(!after.contains(&gone));
            prop_assert!(moved * 100 < size * 12, "{} of {}", moved, size);
        }

        #[test]
        fn a_server_without_weight_is_as_none(count in 1_usize..20) {
            let names = names(count + 1);
            let mut servers = equal(&names);
            servers[count].1 = 0;
            prop_assert_eq!(table(&servers, 1021), table(&servers[..count], 1021));
        }
    }
}
