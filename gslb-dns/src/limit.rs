//! Limits on answers by network: a query may bear the address of somebody else, who must not be flooded with our answers.
//!
//! ```text
//! network (/24 or /56) ─┐
//! what is answered ─────┴─ seeded hash ─► bucket: when it is empty again ─► pass, or slip or drop
//!                                                                           │
//! network ──────────────── seeded hash ─► bucket of all its answers ◄───────┘ ─► pass, or slip or drop
//! ```
//! Fixed tables that all threads share without locks; the time is an argument.

use std::fmt;
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shared::moment::Moment;
use shared::place::ClientBlock;
use siphasher::sip::SipHasher13;

/// How much is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Answers to one network for one account a second; as many at once after a quiet second. At most
    /// [`Limits::RATE_MAX`].
    pub responses_per_second: NonZeroU32,
    /// Answers to one network a second in all, whatever is asked, which the limit above lets pass; as many at once after a
    /// quiet second. At most [`Limits::RATE_MAX`]; `None`: no such limit.
    pub responses_per_second_in_all: Option<NonZeroU32>,
    /// Of the answers beyond, every n-th is sent truncated, or as BADCOOKIE, and the others are not; 0: none is sent.
    ///
    /// Half a cookie is no exception (RFC 7873, section 5.2.3, leaves the choice; BIND does the same): whoever forges an
    /// address can forge that too, and would get as many answers to the victim as with `slip` 1.
    pub slip: u8,
    /// Networks that are not limited.
    pub exempt: Vec<IpNet>,
    /// Buckets, 8 octets each; rounded up to a power of two. There are a quarter as many for what networks get in all.
    pub buckets: usize,
}

/// What the answers to every network are counted in.
///
/// Networks or accounts that meet in one bucket share it: the bucket of a key sees all that the key gets, so nobody gets
/// more by a collision, nor by pushing others out; the seed is secret, so that nobody can tell who meets whom. Who forges
/// a resolver's own address does use up its share: therefore a limited client is told how to get through, by a cookie or
/// by TCP.
pub struct Limiter {
    /// By network and account.
    buckets: Box<[AtomicU64]>,
    /// By network; empty where there is no limit in all.
    sums: Box<[AtomicU64]>,
    seed: [u8; Limiter::SEED_LEN],
    /// For the hash of a network alone, which costs less; as secret as the seed.
    sum_seed: u64,
    sum_shared_seed: SharedSeed,
    pace: Pace,
    sum_pace: Pace,
    slip: u8,
    exempt: Exempt,
    /// A network that was limited since the last look, as [`ClientBlock::as_u64`]; 0: none.
    limited: AtomicU64,
}

/// How fast buckets fill.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Ticks from one answer to the next at the full rate.
    interval: u64,
    /// Ticks that a bucket may be ahead of the time.
    window: u64,
}

/// A limiter at one time.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    limiter: &'a Limiter,
    now: u64,
}

/// What an answer is counted under: the records that it is made of, whatever name was asked.
///
/// So all that a wildcard answers is one account, and so are all names of a zone that do not exist, all referrals at one
/// delegation, and all refusals and errors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Account(u32);

/// What to do with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Send it.
    Pass,
    /// Send it without its records, with a hint how to get them.
    Slip,
    /// Send nothing.
    Drop,
}

impl Account {
    /// Answers that come from no records.
    pub const ERROR: Self = Self(0);

    /// Answers made of `records`, told apart by where these lie in memory.
    pub fn of<T>(records: &T) -> Self {
        Self(std::ptr::from_ref(records).addr() as u32)
    }
}

impl Limits {
    /// The highest rate: to the limits of the arithmetic, and more than any honest resolver asks.
    pub const RATE_MAX: u32 = 1_000_000;
    /// The highest slip that says anything: beyond, hardly any client notices.
    pub const SLIP_MAX: u8 = 10;
}

impl Pace {
    fn of(rate: NonZeroU32) -> Self {
        let rate = rate.get().min(Limits::RATE_MAX);
        let interval = TICKS_PER_SEC.div_ceil(u64::from(rate));
        Self { interval, window: interval * u64::from(rate) }
    }
}

impl Limiter {
    /// Octets of a seed.
    pub const SEED_LEN: usize = 16;

    /// An empty table; `seed` must be hard to guess.
    pub fn new(limits: &Limits, seed: [u8; Self::SEED_LEN]) -> Self {
        let count = limits.buckets.max(1).next_power_of_two();
        let sum_count = limits.responses_per_second_in_all.map_or(0, |_| (count / 4).max(1));
        let empty = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            buckets: empty(count),
            sums: empty(sum_count),
            seed,
            sum_seed: SipHasher13::new_with_key(&seed).hash(b"sum"),
            sum_shared_seed: SharedSeed::from_u64(SipHasher13::new_with_key(&seed).hash(b"shared")),
            pace: Pace::of(limits.responses_per_second),
            sum_pace: Pace::of(limits.responses_per_second_in_all.unwrap_or(NonZeroU32::MAX)),
            slip: limits.slip,
            exempt: Exempt::new(&limits.exempt),
            limited: AtomicU64::new(0),
        }
    }

    /// Octets of its tables, which never grow.
    pub fn size(&self) -> usize {
        size_of_val(&*self.buckets) + size_of_val(&*self.sums)
    }

    /// One of the networks that were limited since this was asked last: the first, which most likely is limited most.
    pub fn take_limited(&self) -> Option<IpNet> {
        // 0 would be 0.0.0.0/24, where nobody is.
        let block = Some(self.limited.swap(0, Ordering::Relaxed)).filter(|&block| block > 0)?;
        Some(ClientBlock::from_u64(block).network())
    }

    /// Notes who is limited, where none is noted: so that threads in a flood share the line and do not write to it.
    #[cold]
    fn note_limited(&self, block: ClientBlock) {
        if self.limited.load(Ordering::Relaxed) == 0 {
            self.limited.store(block.as_u64(), Ordering::Relaxed);
        }
    }

    /// The limiter at `now`.
    pub fn at(&self, now: Moment) -> Gate<'_> {
        let elapsed = now.elapsed();
        let ticks =
            elapsed.as_secs() * TICKS_PER_SEC + u64::from(elapsed.subsec_nanos()) * TICKS_PER_SEC / 1_000_000_000;
        Gate { limiter: self, now: ticks }
    }

    fn bucket(&self, block: ClientBlock, account: Account) -> &AtomicU64 {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&block.as_u64().to_ne_bytes());
        key[8..].copy_from_slice(&account.0.to_ne_bytes());
        let hash = SipHasher13::new_with_key(&self.seed).hash(&key);
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// The bucket of all that `block` gets, where that is limited.
    fn sum(&self, block: ClientBlock) -> Option<&AtomicU64> {
        let mut hasher = FoldHasher::with_seed(self.sum_seed, &self.sum_shared_seed);
        hasher.write_u64(block.as_u64());
        self.sums.get(hasher.finish() as usize & self.sums.len().wrapping_sub(1))
    }

    /// What becomes of `bucket` when one more answer is due at `now`.
    ///
    /// A bucket holds the tick at which it will have been idle for as long as its answers allow: each adds an interval, and
    /// it may not get further ahead of the time than the window. The low octet counts what was not sent since the last
    /// slip.
    fn step(&self, bucket: u64, pace: Pace, now: u64) -> (u64, Verdict) {
        let (due, skipped) = (bucket >> SKIPPED_BITS, bucket & SKIPPED_MASK);
        let next_due = due.max(now) + pace.interval;
        if next_due <= now + pace.window {
            return (next_due << SKIPPED_BITS | skipped, Verdict::Pass);
        }
        match u64::from(self.slip) {
            0 => (bucket, Verdict::Drop),
            slip if skipped + 1 >= slip => (due << SKIPPED_BITS, Verdict::Slip),
            _ => (bucket + 1, Verdict::Drop),
        }
    }
}

/// Without the seed: who knows it can make networks meet. Nor every bucket.
impl fmt::Debug for Limiter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limiter").field("buckets", &self.buckets.len()).finish_non_exhaustive()
    }
}

impl Gate<'_> {
    /// Counts an answer of `account` to `address`, and says what to do with it.
    ///
    /// Never waits for another thread; two cache lines are read, and written unless the answer is beyond the limit.
    pub fn judge(&self, address: IpAddr, account: Account) -> Verdict {
        let address = address.to_canonical();
        if self.limiter.exempt.holds(address) {
            return Verdict::Pass;
        }
        let block = ClientBlock::of(address);
        let mut verdict = self.count(self.limiter.bucket(block, account), self.limiter.pace);
        if verdict == Verdict::Pass
            && let Some(sum) = self.limiter.sum(block)
        {
            verdict = self.count(sum, self.limiter.sum_pace);
        }
        if verdict != Verdict::Pass {
            self.limiter.note_limited(block);
        }
        verdict
    }

    fn count(&self, bucket: &AtomicU64, pace: Pace) -> Verdict {
        let mut held = bucket.load(Ordering::Relaxed);
        loop {
            let (next, verdict) = self.limiter.step(held, pace, self.now);
            if next == held {
                return verdict;
            }
            match bucket.compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return verdict,
                Err(other) => held = other,
            }
        }
    }
}

/// Networks in order, none within another.
#[derive(Debug)]
struct Exempt {
    v4: Box<[Ipv4Net]>,
    v6: Box<[Ipv6Net]>,
}

impl Exempt {
    fn new(networks: &[IpNet]) -> Self {
        let v4: Vec<Ipv4Net> =
            networks.iter().filter_map(|net| if let IpNet::V4(v4) = net { Some(*v4) } else { None }).collect();
        let v6: Vec<Ipv6Net> =
            networks.iter().filter_map(|net| if let IpNet::V6(v6) = net { Some(*v6) } else { None }).collect();
        let (mut v4, mut v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        v4.sort_unstable_by_key(Ipv4Net::network);
        v6.sort_unstable_by_key(Ipv6Net::network);
        Self { v4: v4.into(), v6: v6.into() }
    }

    fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.holds_v4(v4),
            IpAddr::V6(v6) => self.holds_v6(v6),
        }
    }

    fn holds_v4(&self, address: Ipv4Addr) -> bool {
        let after = self.v4.partition_point(|net| net.network() <= address);
        self.v4[..after].last().is_some_and(|net| net.contains(&address))
    }

    fn holds_v6(&self, address: Ipv6Addr) -> bool {
        let after = self.v6.partition_point(|net| net.network() <= address);
        self.v6[..after].last().is_some_and(|net| net.contains(&address))
    }
}

/// Sixteen to the microsecond: fine enough for every rate, and 56 bits of them last for a century.
const TICKS_PER_SEC: u64 = 16_000_000;
const SKIPPED_BITS: u32 = 8;
const SKIPPED_MASK: u64 = (1 << SKIPPED_BITS) - 1;

#[cfg(test)]
mod tests;
