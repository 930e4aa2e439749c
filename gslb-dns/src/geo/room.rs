//! Large buffers that leave no memory behind when they are dropped.
//!
//! An allocator takes large blocks from the system one by one and gives each back when it is freed; what is smaller it
//! keeps for later. glibc moves that border up with every block it frees, to [`BORDER`] at most, so that after a few
//! reloads of a database most of the process would be memory kept for later. A buffer with room for more than that is
//! on the safe side, and costs no more: pages that are never touched are address space only.

use std::collections::TryReserveError;

/// Adds `item`. A buffer that is no longer small gets room beyond the border.
pub(super) fn push<T>(buffer: &mut Vec<T>, item: T) {
    if buffer.len() == buffer.capacity() {
        reserve(buffer, buffer.len() + 1);
    }
    buffer.push(item);
}

/// Adds `items`, as [`push`] does.
pub(super) fn extend<T: Copy>(buffer: &mut Vec<T>, items: &[T]) {
    if buffer.capacity() - buffer.len() < items.len() {
        reserve(buffer, items.len());
    }
    buffer.extend_from_slice(items);
}

/// A buffer of `len` times `item`, with room beyond the border unless it is small.
pub(super) fn filled<T: Copy>(len: usize, item: T) -> Vec<T> {
    let mut buffer = Vec::with_capacity(capacity::<T>(len));
    buffer.resize(len, item);
    buffer
}

/// An empty buffer with room for `len` octets, and beyond the border unless it is small. Fails where there is no room.
pub(crate) fn for_octets(len: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(capacity::<u8>(len))?;
    Ok(buffer)
}

/// Gives back spare memory, which only a small buffer has: beyond the border, spare room is no memory.
pub(super) fn fit<T>(buffer: &mut Vec<T>) {
    if buffer.capacity() * size_of::<T>() < BORDER {
        buffer.shrink_to_fit();
    }
}

fn reserve<T>(buffer: &mut Vec<T>, more: usize) {
    let wanted = (buffer.len() + more).max(2 * buffer.len()).max(LEN_MIN);
    buffer.reserve_exact(capacity::<T>(wanted) - buffer.len());
}

fn capacity<T>(len: usize) -> usize {
    let is_small = len * size_of::<T>() <= SMALL_MAX;
    if is_small { len } else { len.max(BORDER / size_of::<T>() + 1) }
}

/// Above it glibc keeps nothing for later: its `DEFAULT_MMAP_THRESHOLD_MAX` on machines of 64 bits, in octets.
const BORDER: usize = 32 << 20;
/// Below its smallest border (128 KiB) glibc always keeps, so there is nothing to be won; in octets.
const SMALL_MAX: usize = 64 << 10;
const LEN_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_small_or_beyond_the_border() {
        let mut grown: Vec<u32> = Vec::new();
        for item in 0..200_000_u32 {
            push(&mut grown, item);
            let octets = grown.capacity() * 4;
            assert!(octets <= SMALL_MAX || octets > BORDER, "{octets} octets");
        }
        assert!(grown.iter().copied().eq(0..200_000));
        for len in [0, 1, SMALL_MAX, SMALL_MAX + 1, BORDER, BORDER + 1] {
            let octets = for_octets(len).expect("there is room").capacity();
            assert!(octets >= len && (octets <= SMALL_MAX || octets > BORDER), "{octets} octets for {len}");
        }
    }

    #[test]
    fn only_a_small_buffer_is_cut_to_its_length() {
        let (mut small, mut large) = (Vec::with_capacity(64), filled(SMALL_MAX, 0_u64));
        push(&mut small, 1_u64);
        large.truncate(1);
        extend(&mut large, &[1, 2]);
        fit(&mut small);
        fit(&mut large);
        assert_eq!(small.capacity(), 1);
        assert!(large.capacity() * 8 > BORDER);
    }
}
