//! Numbers in the octets of the served table: little-endian, at any place.

/// The number at `at`.
pub(super) fn u16_at(octets: &[u8], at: usize) -> u16 {
    octets[at..].first_chunk().map_or(0, |&number| u16::from_le_bytes(number))
}

/// The number at `at`.
pub(super) fn u32_at(octets: &[u8], at: usize) -> u32 {
    octets[at..].first_chunk().map_or(0, |&number| u32::from_le_bytes(number))
}

/// Each of `numbers`.
pub(super) fn u16s(numbers: &[[u8; 2]]) -> impl Iterator<Item = u16> {
    numbers.iter().map(|&number| u16::from_le_bytes(number))
}

pub(super) fn push_u16(out: &mut Vec<u8>, number: u16) {
    out.extend(number.to_le_bytes());
}

pub(super) fn push_u32(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_le_bytes());
}
