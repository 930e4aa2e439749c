//! Runs of equal value in few octets each: for the data that are read in order, or seldom.
//!
//! ```text
//! blocks of 256 runs:  start of the first │ octets of all:  value, then step and value of each that follows
//! step   octet: shift of 0 to 15 octets, and 1 to 15; or 0 and the rest as a number of 7 bits an octet
//! value  octet below 128: that of so many runs before, less 1; or 3 octets, or 5
//! ```
//! In a city database most networks begin 256 addresses (or a /48) after the last and many have the value of a recent
//! one, so that a run takes 3 to 4 octets, where start and value as they are take 8 or 20.

use std::net::IpAddr;

use super::partition::{Bits, prefix_len};
use super::room;

/// A whole address space cut into runs of equal value, packed. Finding an address takes about a microsecond.
#[derive(Debug)]
pub(super) struct Coded<A> {
    /// The first starts of the blocks, and where their octets begin.
    heads: Vec<(A, usize)>,
    octets: Vec<u8>,
    /// How many runs there are.
    len: usize,
}

impl<A: Bits> Default for Coded<A> {
    fn default() -> Self {
        Coder::default().finish()
    }
}

impl<A: Bits> Coded<A> {
    /// The starts of all runs with their values, in order; the first is at zero.
    pub(super) fn iter(&self) -> Decoder<'_, A> {
        self.iter_from(0)
    }

    /// The value at `address`, and the length of the largest prefix around it that has this value throughout.
    pub(super) fn locate(&self, address: A) -> (u32, u8) {
        // The first head is at zero, so at least one is not above the address.
        let block = self.heads.partition_point(|&(start, _)| start <= address) - 1;
        let mut found = (A::ZERO, 0);
        let mut runs = self.iter_from(block);
        let next = runs.find_map(|(start, value)| {
            let is_past = start > address;
            if !is_past {
                found = (start, value);
            }
            is_past.then_some(start)
        });
        (found.1, prefix_len(address, found.0, next))
    }

    /// Octets held.
    pub(super) fn size(&self) -> usize {
        size_of_val(self.heads.as_slice()) + self.octets.len()
    }

    fn iter_from(&self, block: usize) -> Decoder<'_, A> {
        Decoder { runs: self, at: block * BLOCK_LEN, next: 0, start: A::ZERO, values: [0; BLOCK_LEN] }
    }
}

/// Codes runs as they come.
#[derive(Debug)]
pub(super) struct Coder<A> {
    coded: Coded<A>,
    /// The run reached, not coded yet.
    last: (A, u32),
    /// The run coded last, if any.
    before: Option<(A, u32)>,
    /// Where some values were last: the values, and how many runs were coded before each.
    recent: Box<[(u32, usize)]>,
}

impl<A: Bits> Default for Coder<A> {
    /// The whole space has the value 0 until something is pushed.
    fn default() -> Self {
        let coded = Coded { heads: Vec::new(), octets: Vec::new(), len: 0 };
        // A position beyond all others is never a recent one.
        let recent = vec![(0, usize::MAX); RECENT_LEN].into_boxed_slice();
        Self { coded, last: (A::ZERO, 0), before: None, recent }
    }
}

impl<A: Bits> Coder<A> {
    /// From `start` on the value is `value`. Starts never fall from call to call; of equal ones the last counts.
    pub(super) fn push(&mut self, start: A, value: u32) {
        if start != self.last.0 {
            self.code_last();
        }
        self.last = (start, value);
    }

    /// The runs pushed.
    pub(super) fn finish(mut self) -> Coded<A> {
        self.code_last();
        room::fit(&mut self.coded.heads);
        room::fit(&mut self.coded.octets);
        self.coded
    }

    fn code_last(&mut self) {
        let (start, value) = self.last;
        if self.before.is_some_and(|(_, before)| before == value) {
            return;
        }
        let Coded { heads, octets, len } = &mut self.coded;
        match self.before {
            Some((before, _)) if !len.is_multiple_of(BLOCK_LEN) => code_step(octets, before.steps_to(start)),
            _ => room::push(heads, (start, octets.len())),
        }
        let recent = &mut self.recent[value as usize % RECENT_LEN];
        let back = match *recent {
            // Only what is in the same block can be seen by who reads it.
            (known, at) if known == value && at / BLOCK_LEN == *len / BLOCK_LEN => Some(*len - at - 1),
            _ => None,
        };
        code_value(octets, back, value);
        *recent = (value, *len);
        self.before = Some((start, value));
        *len += 1;
    }
}

/// Codes the way from one start to the next; never 0.
fn code_step(octets: &mut Vec<u8>, step: u128) {
    let shift = step.trailing_zeros() / 8;
    let count = step >> (8 * shift);
    let is_short = count < u128::from(STEP_SHORT_END);
    room::push(octets, (shift as u8) << 4 | if is_short { count as u8 } else { 0 });
    if is_short {
        return;
    }
    let mut rest = count - u128::from(STEP_SHORT_END);
    while rest >= 0x80 {
        room::push(octets, rest as u8 | 0x80);
        rest >>= 7;
    }
    room::push(octets, rest as u8);
}

/// Codes `value`, which a run has that is `back` runs before the last one.
fn code_value(octets: &mut Vec<u8>, back: Option<usize>, value: u32) {
    match (back, value.to_be_bytes()) {
        (Some(back), _) if back < usize::from(VALUE_WIDE) => room::push(octets, back as u8),
        (_, [0, high, middle, low]) if high < VALUE_FULL - VALUE_WIDE => {
            room::extend(octets, &[VALUE_WIDE + high, middle, low]);
        }
        (_, [a, b, c, d]) => room::extend(octets, &[VALUE_FULL, a, b, c, d]),
    }
}

/// Reads runs in order.
pub(super) struct Decoder<'a, A> {
    runs: &'a Coded<A>,
    /// The number of the next run …
    at: usize,
    /// … where its octets are, within a block …
    next: usize,
    /// … the start of the one before …
    start: A,
    /// … and the values of its block so far.
    values: [u32; BLOCK_LEN],
}

impl<A: Bits> Iterator for Decoder<'_, A> {
    type Item = (A, u32);

    #[inline]
    fn next(&mut self) -> Option<(A, u32)> {
        if self.at == self.runs.len {
            return None;
        }
        let at = self.at % BLOCK_LEN;
        if at == 0 {
            (self.start, self.next) = self.runs.heads[self.at / BLOCK_LEN];
        } else {
            self.start = self.start.forward(self.step());
        }
        let value = self.value(at);
        self.values[at] = value;
        self.at += 1;
        Some((self.start, value))
    }
}

impl<A: Bits> Decoder<'_, A> {
    fn octet(&mut self) -> u8 {
        // What a coder wrote is whole.
        let octet = self.runs.octets[self.next];
        self.next += 1;
        octet
    }

    fn step(&mut self) -> u128 {
        let first = self.octet();
        let mut count = u128::from(first & 0x0f);
        if count == 0 {
            count = u128::from(STEP_SHORT_END);
            for place in (0..).step_by(7) {
                let octet = self.octet();
                count += u128::from(octet & 0x7f) << place;
                if octet < 0x80 {
                    break;
                }
            }
        }
        count << (8 * (first >> 4))
    }

    /// The value of the run at `at` in its block.
    fn value(&mut self, at: usize) -> u32 {
        match self.octet() {
            back @ ..VALUE_WIDE => self.values[at - 1 - usize::from(back)],
            VALUE_FULL => u32::from_be_bytes([self.octet(), self.octet(), self.octet(), self.octet()]),
            wide => u32::from_be_bytes([0, wide - VALUE_WIDE, self.octet(), self.octet()]),
        }
    }
}

/// Runs of both families, packed.
#[derive(Debug, Default)]
pub(super) struct CodedRuns {
    pub(super) v4: Coded<u32>,
    pub(super) v6: Coded<u128>,
}

impl CodedRuns {
    /// As [`Coded::locate`], at `address`, which is canonical.
    pub(super) fn locate(&self, address: IpAddr) -> (u32, u8) {
        match address {
            IpAddr::V4(v4) => self.v4.locate(v4.into()),
            IpAddr::V6(v6) => self.v6.locate(v6.into()),
        }
    }

    /// Octets held.
    pub(super) fn size(&self) -> usize {
        self.v4.size() + self.v6.size()
    }
}

/// Runs in a block: longer ones take less, shorter ones are found sooner.
const BLOCK_LEN: usize = 256;
/// Values whose last place is known; of those that are alike modulo this the last one counts.
const RECENT_LEN: usize = 1024;
/// From here on a step takes more than one octet.
const STEP_SHORT_END: u8 = 16;
/// From here on the octet begins a value of 3 octets …
const VALUE_WIDE: u8 = 0x80;
/// … and here one of 4 that follow.
const VALUE_FULL: u8 = 0xff;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::geo::partition::{Partition, Partition6, Runs};

    /// Steps of all sizes, and values near and far, few and many.
    fn histories() -> impl Strategy<Value = Vec<(u128, u32)>> {
        let step = (0_u32..128, 1_u128..=40, prop::sample::select(vec![1_u128, 255, 256, 257, 65_536, 1 << 80]));
        let step = step.prop_map(|(shift, count, factor)| count.wrapping_mul(factor).wrapping_shl(shift));
        // A step of 0 starts where the last one did.
        let small = (1_u128..300).prop_map(|step| step << 8);
        let value =
            prop_oneof![0_u32..4, 0_u32..100_000, Just(0x7e_ffff), Just(0x7f_0000), Just(u32::MAX), any::<u32>()];
        vec((prop_oneof![3 => small, 1 => step], value), 0..700)
    }

    /// The runs that `history` makes, as far as the address space goes.
    fn runs<A: Bits>(history: &[(u128, u32)], end: u128, from: impl Fn(u128) -> A) -> Vec<(A, u32)> {
        let starts = history.iter().scan(0_u128, |at, &(step, value)| {
            *at = at.checked_add(step).filter(|&at| at <= end)?;
            Some((from(*at), value))
        });
        starts.collect()
    }

    /// The last of those that start alike.
    fn last_of_each<A: Bits>(pushed: &[(A, u32)]) -> impl Iterator<Item = (A, u32)> {
        let is_last = move |at: &usize| pushed.get(at + 1).is_none_or(|next| next.0 != pushed[*at].0);
        (0..pushed.len()).filter(is_last).map(|at| pushed[at])
    }

    fn coded<A: Bits>(pushed: &[(A, u32)]) -> Coded<A> {
        let mut coder = Coder::default();
        pushed.iter().for_each(|&(start, value)| coder.push(start, value));
        coder.finish()
    }

    proptest! {
        #[test]
        fn coded_runs_of_ipv4_are_the_runs(history in histories()) {
            let pushed = runs(&history, u128::from(u32::MAX), |at| at as u32);
            let (coded, mut plain) = (coded(&pushed), Partition::default());
            last_of_each(&pushed).for_each(|(start, value)| plain.push(start, value));
            prop_assert!(coded.iter().eq(plain.iter()));
            for at in pushed.iter().flat_map(|&(start, _)| [start.wrapping_sub(1), start, start.wrapping_add(1)]) {
                prop_assert_eq!(coded.locate(at), plain.locate(at));
            }
        }

        #[test]
        fn coded_runs_of_ipv6_are_the_runs(history in histories()) {
            // The plain runs keep one value for themselves.
            let pushed: Vec<_> = runs(&history, u128::MAX, |at| at).into_iter().filter(|run| run.1 != u32::MAX).collect();
            let (coded, mut plain) = (coded(&pushed), Partition6::default());
            last_of_each(&pushed).for_each(|(start, value)| plain.push(start, value));
            prop_assert!(coded.iter().eq(merged(plain.iter())));
            for at in pushed.iter().flat_map(|&(start, _)| [start.wrapping_sub(1), start, start.wrapping_add(1)]) {
                prop_assert_eq!(coded.locate(at), plain.locate(at));
            }
        }
    }

    /// Plain runs of IPv6 begin anew where a /64 is cut, though the value stays.
    fn merged(runs: impl Iterator<Item = (u128, u32)>) -> impl Iterator<Item = (u128, u32)> {
        let mut last = None;
        runs.filter(move |&(_, value)| last.replace(value) != Some(value))
    }

    #[test]
    fn networks_of_one_size_with_recent_values_take_two_octets_each() {
        let pushed: Vec<_> = (0..100_000_u32).map(|at| (at << 8, at % 10)).collect();
        let coded = coded(&pushed);
        assert!(coded.size() < pushed.len() * 9 / 4, "{} octets", coded.size());
    }
}
