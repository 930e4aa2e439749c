//! A whole address space cut into runs of equal value, and the network around an address in its run.

use std::net::IpAddr;

use super::room;

/// An address, or the upper part of one, as a number.
pub(super) trait Bits: Copy + Ord {
    /// How many bits it has.
    const LEN: u8;
    /// The first address.
    const ZERO: Self;

    /// The address before; `None` before the first.
    fn before(self) -> Option<Self>;

    /// The address after; `None` after the last.
    fn after(self) -> Option<Self>;

    /// How many leading bits it has in common with `other`.
    fn common_len(self, other: Self) -> u8;

    /// This address without the lowest `count` bits, `count` below [`Bits::LEN`].
    fn floor(self, count: u8) -> Self;

    /// This address with the lowest `count` bits set, `count` at most [`Bits::LEN`].
    fn ceil(self, count: u8) -> Self;

    /// How far `later` is from this one.
    fn steps_to(self, later: Self) -> u128;

    /// How many addresses there are from this one up to `last`; only for less than the whole space of IPv6.
    fn count_to(self, last: Self) -> u128 {
        self.steps_to(last) + 1
    }

    /// The address `steps` after this one, which there is.
    fn forward(self, steps: u128) -> Self;

    /// Position in the index: never decreases as addresses grow, below [`BUCKETS`].
    fn bucket(self) -> usize;
}

macro_rules! bits {
    ($number:ty, $bucket:expr) => {
        impl Bits for $number {
            const LEN: u8 = <$number>::BITS as u8;
            const ZERO: Self = 0;

            fn before(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn after(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn common_len(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            fn floor(self, count: u8) -> Self {
                self >> count << count
            }

            fn ceil(self, count: u8) -> Self {
                self | <$number>::MAX.checked_shr(u32::from(Self::LEN - count)).unwrap_or(0)
            }

            fn steps_to(self, later: Self) -> u128 {
                u128::from(later - self)
            }

            fn forward(self, steps: u128) -> Self {
                self.wrapping_add(steps as Self)
            }

            fn bucket(self) -> usize {
                let bucket: fn($number) -> usize = $bucket;
                bucket(self)
            }
        }
    };
}

bits!(u32, |address| (address >> 16) as usize);
// Nearly all of IPv6 that is in use is in 2000::/3: its next 16 bits are the index, what lies below or above counts to
// the first or last bucket.
bits!(u64, |upper| ((upper >> 45).clamp(1 << 16, (1 << 17) - 1) - (1 << 16)) as usize);
bits!(u128, |address| ((address >> 64) as u64).bucket());

/// How many parts the index cuts the address space into.
const BUCKETS: usize = 1 << 16;

/// What runs are stored in: a [`Partition`] for IPv4, a [`Partition6`] for IPv6.
pub(super) trait Runs<A: Bits>: Default {
    /// From `start` on the value is `value`. Starts grow from call to call.
    fn push(&mut self, start: A, value: u32);

    /// The starts of all runs with their values, in order; the first is at zero.
    fn iter(&self) -> impl Iterator<Item = (A, u32)> + '_;

    /// The value at `address`, and the length of the largest prefix around it that has this value throughout.
    fn locate(&self, address: A) -> (u32, u8);

    /// The lowest address from `first` to `last` whose value is `value`.
    fn find(&self, first: A, last: A, value: u32) -> Option<A>;
}

/// Runs by sorted starts. The whole space has the value 0 until something is pushed.
#[derive(Clone, Debug)]
pub(super) struct Partition<A> {
    starts: Vec<A>,
    values: Vec<u32>,
    /// For each bucket, and one past the last, how many starts are in those below it; empty until [`Partition::index`].
    index: Box<[u32]>,
}

impl<A: Bits> Default for Partition<A> {
    fn default() -> Self {
        Self { starts: vec![A::ZERO], values: vec![0], index: Box::default() }
    }
}

impl<A: Bits> Partition<A> {
    /// Gives back spare memory.
    fn shrink(&mut self) {
        room::fit(&mut self.starts);
        room::fit(&mut self.values);
    }

    /// Gives back spare memory and makes [`Runs::locate`] fast, for 256 KiB.
    pub(super) fn index(&mut self) {
        self.shrink();
        let mut at = 0;
        let below = |bucket: usize| {
            at += self.starts[at..].iter().take_while(|start| start.bucket() < bucket).count();
            at as u32
        };
        self.index = (0..=BUCKETS).map(below).collect();
    }

    /// Octets held.
    pub(super) fn size(&self) -> usize {
        self.starts.len() * size_of::<A>() + self.values.len() * 4 + self.index.len() * 4
    }

    /// Position of the run that holds `address`.
    fn position(&self, address: A) -> usize {
        let (from, to) = match self.index.get(address.bucket()..address.bucket() + 2) {
            Some(bounds) => (bounds[0] as usize, bounds[1] as usize),
            None => (0, self.starts.len()),
        };
        // The first start is zero, so at least one is not above the address.
        from + self.starts[from..to].partition_point(|&start| start <= address) - 1
    }

    /// Adds a run even where the value stays the same.
    fn push_run(&mut self, start: A, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        room::push(&mut self.starts, start);
        room::push(&mut self.values, value);
    }

    fn last(&self) -> (A, u32) {
        let at = self.starts.len() - 1;
        (self.starts[at], self.values[at])
    }
}

impl<A: Bits> Runs<A> for Partition<A> {
    fn push(&mut self, start: A, value: u32) {
        if start == A::ZERO || self.last().1 != value {
            self.push_run(start, value);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (A, u32)> + '_ {
        self.starts.iter().copied().zip(self.values.iter().copied())
    }

    #[inline]
    fn locate(&self, address: A) -> (u32, u8) {
        let at = self.position(address);
        (self.values[at], prefix_len(address, self.starts[at], self.starts.get(at + 1).copied()))
    }

    fn find(&self, first: A, last: A, value: u32) -> Option<A> {
        let from = self.position(first);
        let runs = self.starts[from..].iter().zip(&self.values[from..]).take_while(|&(&start, _)| start <= last);
        runs.filter(|&(_, &at)| at == value).map(|(&start, _)| start.max(first)).next()
    }
}

/// Runs of IPv6: by the upper 64 bits, and by all 128 for the few /64 that are cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Partition6 {
    upper: Partition<u64>,
    deep: Partition<u128>,
}

/// The value in `upper` of a /64 that is cut: `deep` knows more. No other run has it.
const CUT: u32 = u32::MAX;

impl Partition6 {
    /// As [`Partition::index`].
    pub(super) fn index(&mut self) {
        self.upper.index();
        self.deep.shrink();
    }

    /// Octets held.
    pub(super) fn size(&self) -> usize {
        self.upper.size() + self.deep.size()
    }

    /// The runs inside the /64 `upper`, which is cut.
    fn inside(&self, upper: u64) -> impl Iterator<Item = (u128, u32)> + '_ {
        let from = self.deep.starts.partition_point(|&start| upper_of(start) < upper);
        let runs = self.deep.starts[from..].iter().copied().zip(self.deep.values[from..].iter().copied());
        runs.take_while(move |&(start, _)| upper_of(start) == upper)
    }
}

impl Runs<u128> for Partition6 {
    fn push(&mut self, start: u128, value: u32) {
        let upper = upper_of(start);
        if start != 0 && self.upper.last().1 == value {
            return;
        }
        if self.upper.last().0 > upper {
            // The /64 before went on with its last value, as far as was known then.
            self.upper.starts.pop();
            self.upper.values.pop();
        }
        if start == lowest_in(upper) {
            self.upper.push(upper, value);
            return;
        }
        let (_, before) = self.upper.last();
        if self.upper.last() != (upper, CUT) {
            self.upper.push_run(upper, CUT);
            self.deep.push_run(lowest_in(upper), before);
        }
        self.deep.push_run(start, value);
        if let Some(next) = upper.after() {
            self.upper.push(next, value);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.upper.iter().flat_map(|(upper, value)| {
            let whole = (value != CUT).then_some((lowest_in(upper), value));
            let parts = (value == CUT).then(|| self.inside(upper));
            whole.into_iter().chain(parts.into_iter().flatten())
        })
    }

    #[inline]
    fn locate(&self, address: u128) -> (u32, u8) {
        match self.upper.locate(upper_of(address)) {
            // A run in a cut /64 has a neighbour in it, so its prefixes are longer than 64 bits.
            (CUT, _) => self.deep.locate(address),
            whole => whole,
        }
    }

    fn find(&self, first: u128, last: u128, value: u32) -> Option<u128> {
        let from = self.upper.position(upper_of(first));
        let runs = self.upper.starts[from..].iter().zip(&self.upper.values[from..]);
        let mut reached = runs.take_while(|&(&upper, _)| lowest_in(upper) <= last);
        reached.find_map(|(&upper, &at)| match at {
            CUT => {
                self.deep.find(first.max(lowest_in(upper)), last.min(lowest_in(upper) | u128::from(u64::MAX)), value)
            }
            _ => (at == value).then(|| first.max(lowest_in(upper))),
        })
    }
}

/// Length of the largest prefix around `address` in the run that starts at `start` and ends before `next`, if anywhere.
///
/// A prefix stays in the run as long as it excludes its two neighbours, each of which the first bit that differs from
/// the address does.
#[inline]
pub(super) fn prefix_len<A: Bits>(address: A, start: A, next: Option<A>) -> u8 {
    let excluding = |neighbour: Option<A>| neighbour.map_or(0, |neighbour| address.common_len(neighbour) + 1);
    excluding(start.before()).max(excluding(next))
}

fn upper_of(address: u128) -> u64 {
    (address >> 64) as u64
}

fn lowest_in(upper: u64) -> u128 {
    u128::from(upper) << 64
}

/// Runs of both families.
#[derive(Clone, Debug, Default)]
pub(super) struct Partitions {
    pub(super) v4: Partition<u32>,
    pub(super) v6: Partition6,
}

impl Partitions {
    /// The value at `address`, which is canonical, and the length of the prefix around it; see [`Runs::locate`].
    #[inline]
    pub(super) fn locate(&self, address: IpAddr) -> (u32, u8) {
        match address {
            IpAddr::V4(v4) => self.v4.locate(v4.into()),
            IpAddr::V6(v6) => self.v6.locate(v6.into()),
        }
    }

    /// Gives back spare memory and makes [`Partitions::locate`] fast, for 512 KiB.
    pub(super) fn index(&mut self) {
        self.v4.index();
        self.v6.index();
    }

    /// Octets held.
    pub(super) fn size(&self) -> usize {
        self.v4.size() + self.v6.size()
    }
}
