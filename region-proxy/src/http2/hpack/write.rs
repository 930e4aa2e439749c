//! Header blocks, written.
//!
//! Nothing is ever put into the table of the peer: that saves looking through it for each field of each message, and
//! the peer the memory.

use super::table::STATIC;

/// Appends what the first block of a connection begins with: that its table stays empty (RFC 7541, section 4.2).
pub fn put_unindexed_start(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Appends `:status`.
pub fn put_status(out: &mut Vec<u8>, status: u16) {
    let indexed = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => 0,
    };
    if indexed > 0 {
        return out.push(0x80 | indexed);
    }
    let digit = |number: u16| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[8, 3, digit(status / 100), digit(status / 10), digit(status)]);
}

/// Appends a field; its name is written in lower case.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut lower = [0; NAME_MAX];
    let name = match lower.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            &*lower
        }
        None => return put_long(out, name, value),
    };
    let is_secret = matches!(name, b"authorization" | b"cookie" | b"set-cookie" | b"proxy-authorization");
    // Section 7.1.3: no one on the way puts a secret into a table.
    let kind = if is_secret { 0x10 } else { 0 };
    match index(name) {
        0 => {
            out.push(kind);
            put_string(out, name);
        }
        index => put_integer(out, kind, 4, index.into()),
    }
    put_string(out, value);
}

#[cold]
fn put_long(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    put_string(out, &name.to_ascii_lowercase());
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

fn put_integer(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Where in the static table `name` stands; 0: nowhere.
fn index(name: &[u8]) -> u8 {
    let Some(&(start, end)) = BY_LENGTH.get(name.len()) else { return 0 };
    let found = SORTED[usize::from(start)..usize::from(end)]
        .iter()
        .find(|index| STATIC[usize::from(**index) - 1].0.as_bytes() == name);
    found.copied().unwrap_or(0)
}

/// No name that anybody uses is longer.
const NAME_MAX: usize = 64;

/// The first entry of each name of the static table, by the length of the name.
static SORTED: [u8; 61] = sorted().0;

/// Which of [`SORTED`] have names of this length.
static BY_LENGTH: [(u8, u8); 28] = sorted().1;

const fn sorted() -> ([u8; 61], [(u8, u8); 28]) {
    let (mut sorted, mut by_length) = ([0; 61], [(0, 0); 28]);
    let (mut len, mut at) = (0, 0);
    while len < by_length.len() {
        by_length[len].0 = at;
        let mut index = 0;
        while index < STATIC.len() {
            let is_first = index == 0 || !is_same(STATIC[index - 1].0, STATIC[index].0);
            if STATIC[index].0.len() == len && is_first {
                sorted[at as usize] = index as u8 + 1;
                at += 1;
            }
            index += 1;
        }
        by_length[len].1 = at;
        len += 1;
    }
    (sorted, by_length)
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::block::Block;
    use crate::http2::hpack::Decoder;

    fn back(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut block = Block::new(100_000);
        Decoder::default().read(bytes, &mut block).expect("a block");
        block.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn every_name_of_the_static_table_is_found_in_it() {
        for (at, (name, _)) in STATIC.iter().enumerate() {
            let found = usize::from(index(name.as_bytes()));
            assert!(found >= 1 && found <= at + 1 && STATIC[found - 1].0 == *name, "{name}");
        }
        assert_eq!(index(b"x-none"), 0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (name, value) = ("X-".repeat(90), "v".repeat(5000));
        let mut out = Vec::new();
        put_unindexed_start(&mut out);
        put_status(&mut out, 200);
        put_status(&mut out, 503);
        put_field(&mut out, b"Content-Type", b"text/plain");
        put_field(&mut out, b"X-One", b"");
        put_field(&mut out, name.as_bytes(), value.as_bytes());
        let expected = [
            (":status", "200"),
            (":status", "503"),
            ("content-type", "text/plain"),
            ("x-one", ""),
            (&name.to_lowercase(), &value),
        ];
        assert_eq!(back(&out), expected.map(|(name, value)| (name.into(), value.into())));
    }
}
