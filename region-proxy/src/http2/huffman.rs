//! The Huffman code of field names and values (RFC 7541, section 5.2).

mod lengths;

use lengths::LENGTHS;

/// Appends what `text` says to `out`; `false` when it is no whole text in this code.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut octets = text.iter();
    loop {
        // 40 bits at least, unless the text ends: longer than any code.
        while count <= 40 {
            let Some(&octet) = octets.next() else { break };
            bits = bits << 8 | u64::from(octet);
            count += 8;
        }
        if count == 0 {
            return true;
        }
        let front =
            if count >= 32 { (bits >> (count - 32)) as u32 } else { ((bits << (32 - count)) as u32) | padding(count) };
        let (octet, len) = match SHORT[(front >> 24) as usize] {
            (_, 0) => match long(front) {
                Some(found) => found,
                // Only ones are left: the end of the text, if they are fewer than an octet.
                None => return count < 8 && front == u32::MAX,
            },
            found => found,
        };
        if u32::from(len) > count {
            return count < 8 && front == u32::MAX;
        }
        out.push(octet);
        count -= u32::from(len);
        bits &= (1 << count) - 1;
    }
}

/// Ones behind `count` bits, as the end of a text is filled up.
fn padding(count: u32) -> u32 {
    u32::MAX.checked_shr(count).unwrap_or(0)
}

/// The octet whose code, of more than 8 bits, `front` begins with, and the length of the code.
fn long(front: u32) -> Option<(u8, u8)> {
    for len in SHORT_MAX + 1..=LEN_MAX {
        let code = front >> (32 - len);
        let first = CODES.first[len];
        let count = CODES.count[len];
        if code >= first && code - first < count {
            return Some((CODES.by_code[(CODES.start[len] + (code - first)) as usize], len as u8));
        }
    }
    None
}

/// The octets by their codes.
struct Codes {
    by_code: [u8; 256],
    /// For each length: its first code, how many there are, and where in `by_code` they begin.
    first: [u32; LEN_MAX + 1],
    count: [u32; LEN_MAX + 1],
    start: [u32; LEN_MAX + 1],
}

const LEN_MAX: usize = 30;

/// Codes of so many bits are found at once.
const SHORT_MAX: usize = 8;

static CODES: Codes = codes();

/// The octet and the length of its code by the next 8 bits; 0: it is longer.
static SHORT: [(u8, u8); 256] = short();

const fn codes() -> Codes {
    let zero = [0; LEN_MAX + 1];
    let mut codes = Codes { by_code: [0; 256], first: zero, count: zero, start: zero };
    let (mut len, mut code, mut at) = (1, 0, 0);
    while len <= LEN_MAX {
        code <<= 1;
        (codes.first[len], codes.start[len]) = (code, at);
        let mut octet = 0;
        while octet < 256 {
            if LENGTHS[octet] as usize == len {
                codes.by_code[at as usize] = octet as u8;
                codes.count[len] += 1;
                at += 1;
                code += 1;
            }
            octet += 1;
        }
        len += 1;
    }
    codes
}

const fn short() -> [(u8, u8); 256] {
    let codes = codes();
    let mut short = [(0, 0); 256];
    let mut front = 0;
    while front < 256 {
        let mut len = 1;
        while len <= SHORT_MAX {
            let code = (front >> (SHORT_MAX - len)) as u32;
            if code >= codes.first[len] && code - codes.first[len] < codes.count[len] {
                short[front] = (codes.by_code[(codes.start[len] + code - codes.first[len]) as usize], len as u8);
                break;
            }
            len += 1;
        }
        front += 1;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    fn decoded(text: &str) -> Option<String> {
        let mut out = Vec::new();
        decode(&hex(text), &mut out).then(|| String::from_utf8_lossy(&out).into_owned())
    }

    /// Encodes by the same table, bit by bit.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &octet in text {
            let len = LENGTHS[octet as usize] as usize;
            let at = CODES.by_code.iter().position(|one| *one == octet).expect("every octet") as u32;
            let code = CODES.first[len] + at - CODES.start[len];
            bits.extend((0..len).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|octet| octet.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn texts_of_rfc_7541_are_read() {
        assert_eq!(decoded("f1e3c2e5f23a6ba0ab90f4ff").as_deref(), Some("www.example.com"));
        assert_eq!(decoded("25a849e95ba97d7f").as_deref(), Some("custom-key"));
        assert_eq!(decoded("25a849e95bb8e8b4bf").as_deref(), Some("custom-value"));
        assert_eq!(decoded("9d29ad171863c78f0b97c8e9ae82ae43d3").as_deref(), Some("https://www.example.com"));
    }

    #[test]
    fn every_octet_is_read_alone_and_among_others() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut out = Vec::new();
        assert!(decode(&encoded(&all), &mut out));
        assert_eq!(out, all);
        for octet in 0..=255 {
            let mut out = Vec::new();
            assert!(decode(&encoded(&[octet]), &mut out));
            assert_eq!(out, [octet]);
        }
    }

    #[test]
    fn padding_is_of_ones_and_less_than_an_octet() {
        assert_eq!(decoded("").as_deref(), Some(""));
        assert_eq!(decoded("ff"), None);
        assert_eq!(decoded("25a849e95ba97d7fff"), None);
        // "0" is 00000; the rest must be ones.
        assert_eq!(decoded("07").as_deref(), Some("0"));
        assert_eq!(decoded("06"), None);
        assert_eq!(decoded("3fffffff"), None, "the end of a string in it");
    }
}
