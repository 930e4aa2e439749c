//! What threads count of requests, for those who tell of it: nothing here is waited for, locked or shared on the path.

use std::time::Duration;

use crate::relay::record::Cause;

mod own;
mod pages;
mod recent;
mod server;
mod service;

pub use own::{OwnCounts, OwnTally};
pub use recent::Lately;
pub use server::{ServerCounts, ServerTally};
pub use service::{ServiceCounts, ServiceTally};

use pages::Pages;

/// Statuses by their first digit; 0 stands for none.
pub const CLASSES: usize = 6;

/// The upper ends of the buckets of times, in milliseconds; one without end follows.
///
/// The clock of the request path counts in steps of about 4 ms: finer buckets would say what nobody knows.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Causes that are counted apart, in the order of [`Cause::ALL`].
pub const CAUSES: usize = Cause::ALL.len();

/// Times by bucket, with their sum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// How many fell into each.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper end of the bucket that the `share`, of 1, of them are in or below; `None` where there are none, or where
    /// that has no end.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted.max(1)
        });
        BOUNDS_MS.get(at?).copied().map(Duration::from_millis)
    }

    /// The mean; `None` where there are none.
    pub fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        self.sum.checked_div(count)
    }
}

fn observe<const N: usize>(pages: &Pages<N>, thread: usize, at: usize, span: Duration) {
    pages.add(thread, at + bucket(span), 1);
    pages.add(thread, at + BUCKETS, millis(span));
}

fn histogram<const N: usize>(pages: &Pages<N>, at: usize) -> Histogram {
    Histogram { buckets: several(pages, at), sum: Duration::from_millis(pages.sum(at + BUCKETS)) }
}

fn several<const N: usize, const M: usize>(pages: &Pages<N>, at: usize) -> [u64; M] {
    std::array::from_fn(|index| pages.sum(at + index))
}

/// The index of the class of `status`.
fn class(status: u16) -> usize {
    let class = usize::from(status / 100);
    if class < CLASSES { class } else { 0 }
}

/// The index of the bucket of `span`.
fn bucket(span: Duration) -> usize {
    BOUNDS_MS.iter().position(|bound| millis(span) <= *bound).unwrap_or(BOUNDS_MS.len())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A histogram and the sum of its times.
const TIMES: usize = BUCKETS + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_fits_into() {
        let at = |ms| bucket(Duration::from_millis(ms));
        assert_eq!([at(0), at(5), at(6), at(10_000), at(10_001)], [0, 0, 1, 10, 11]);
    }

    #[test]
    fn a_status_that_is_none_has_a_class_too() {
        assert_eq!([class(0), class(101), class(204), class(599), class(999)], [0, 1, 2, 5, 0]);
    }
}
