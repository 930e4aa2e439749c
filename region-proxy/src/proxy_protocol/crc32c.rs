//! CRC32c (RFC 3720, appendix B.4), by a table: one short header a connection needs nothing faster.

/// The checksum of `parts` in a row.
pub(super) fn of(parts: &[&[u8]]) -> u32 {
    let octets = parts.iter().copied().flatten();
    !octets.fold(u32::MAX, |crc, octet| TABLE[usize::from(crc as u8 ^ octet)] ^ (crc >> 8))
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// Castagnoli's, reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_of_the_rfc_come_out() {
        assert_eq!(of(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(of(&[&[0xff; 32]]), 0x62a8_ab43);
        assert_eq!(of(&[b"1234", b"56789"]), 0xe306_9283);
    }
}
