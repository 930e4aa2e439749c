//! Turns: servers one after the other, each as often as its weight says, evenly mixed.

/// Whose turn each slot is, by index into `weights`: as often as their ratio says, and never two close by that could be
/// further apart.
///
/// Empty when all weights are 0. The same on every machine.
pub(super) fn turns(weights: &[u16]) -> Vec<usize> {
    let shares = shares(weights);
    let total: i64 = shares.iter().sum();
    let mut credit = vec![0; shares.len()];
    let mut turns = Vec::with_capacity(total as usize);
    for _ in 0..total {
        // Each earns its share; the one that has most pays for a turn. The first of equals has it.
        let mut best = 0;
        for (index, share) in shares.iter().enumerate() {
            credit[index] += share;
            if credit[index] > credit[best] {
                best = index;
            }
        }
        credit[best] -= total;
        turns.push(best);
    }
    turns
}

/// The ratio of `weights` in the least whole numbers, or in coarser ones of [`TURNS_MAX`] in all.
fn shares(weights: &[u16]) -> Vec<i64> {
    let unit = weights.iter().fold(0, |unit, weight| common_divisor(unit, i64::from(*weight))).max(1);
    let exact: Vec<i64> = weights.iter().map(|weight| i64::from(*weight) / unit).collect();
    let total: i64 = exact.iter().sum();
    if total <= TURNS_MAX {
        return exact;
    }
    // What has a weight keeps a turn.
    let coarse = |share: &i64| (share * TURNS_MAX / total).max((*share).min(1));
    exact.iter().map(coarse).collect()
}

fn common_divisor(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

/// More would say more exactly what nobody can tell apart: a part in two thousand.
const TURNS_MAX: i64 = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(turns: &[usize], who: usize) -> usize {
        turns.iter().filter(|turn| **turn == who).count()
    }

    #[test]
    fn turns_are_mixed() {
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[100, 100]), [0, 1]);
        assert_eq!(turns(&[0, 3]), [1]);
        assert_eq!(turns(&[0, 0]), [0; 0]);
        assert_eq!(turns(&[]), [0; 0]);
    }

    #[test]
    fn many_servers_have_few_turns_each_and_none_is_left_out() {
        let mut weights = [255; 655];
        weights[0] = 1;
        let turns = turns(&weights);
        assert!(turns.len() < 4096, "{}", turns.len());
        assert!((0..weights.len()).all(|who| count(&turns, who) > 0));
    }

    proptest! {
        #[test]
        fn each_has_as_many_turns_as_its_weight_says(weights in prop::collection::vec(0_u16..=256, 1..8)) {
            let turns = turns(&weights);
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for (who, weight) in weights.iter().enumerate() {
                prop_assert_eq!(count(&turns, who) * total, turns.len() * usize::from(*weight));
            }
        }

        #[test]
        fn no_part_of_the_round_is_far_from_the_weights(weights in prop::collection::vec(1_u16..=20, 2..6)) {
            let turns = turns(&weights);
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for end in 1..=turns.len() {
                for (who, weight) in weights.iter().enumerate() {
                    let fair = end as f64 * f64::from(*weight) / total as f64;
                    prop_assert!((count(&turns[..end], who) as f64 - fair).abs() <= weights.len() as f64);
                }
            }
        }
    }
}
