//! Latencies, counted in buckets that are at most 1.6 % wide.

use std::time::Duration;

/// How often each latency came.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; (64 << STEP_BITS) as usize], count: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, nanos: u64) {
        // The position has a bucket: `bucket` is below 64 << STEP_BITS.
        if let Some(bucket) = self.buckets.get_mut(bucket(nanos)) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// The latency that `share` (0 to 1) of them do not exceed; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut left = ((self.count as f64 * share).ceil() as u64).max(1);
        for (at, count) in self.buckets.iter().enumerate() {
            if *count >= left {
                return Some(Duration::from_nanos(highest(at)));
            }
            left -= count;
        }
        None
    }
}

/// Each power of two is cut into [`STEPS`] buckets.
fn bucket(nanos: u64) -> usize {
    let exponent = nanos.max(STEPS).ilog2() - STEP_BITS;
    ((u64::from(exponent) << STEP_BITS) + (nanos >> exponent)) as usize
}

/// The highest latency of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let exponent = (bucket >> STEP_BITS).saturating_sub(1);
    ((bucket - (exponent << STEP_BITS) + 1) << exponent) - 1
}

const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_latency_is_told_at_most_two_percent_too_high(nanos in 0_u64..1 << 40) {
            let mut histogram = Histogram::default();
            histogram.add(nanos);
            let told = histogram.quantile(0.5).expect("one latency").as_nanos() as u64;
            prop_assert!(told >= nanos && told <= nanos + nanos / 50, "{nanos} {told}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_latencies() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=50).for_each(|nanos| histogram.add(nanos));
        let [half, most] = [0.5, 1.0].map(|share| histogram.quantile(share));
        assert_eq!((half, most), (Some(Duration::from_nanos(25)), Some(Duration::from_nanos(50))));
    }
}
