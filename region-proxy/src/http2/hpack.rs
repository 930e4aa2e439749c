//! Header blocks, read and written (RFC 7541).

use super::block::{Block, TooLarge};
use super::huffman;

mod table;
mod write;

pub use write::{put_field, put_status, put_unindexed_start};

use table::{Dynamic, STATIC};

/// What must be remembered of the header blocks of a connection to read the next.
#[derive(Debug, Default)]
pub struct Decoder {
    dynamic: Dynamic,
}

/// A header block that is none: the connection is of no use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Broken;

impl Decoder {
    /// Reads the whole block `bytes` into `block`, which is emptied before.
    ///
    /// What is too much for `block` is left out, and it says so.
    pub fn read(&mut self, mut bytes: &[u8], block: &mut Block) -> Result<(), Broken> {
        block.clear();
        let mut has_fields = false;
        while let Some(&first) = bytes.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut bytes, 5)?;
                if has_fields || size > table::SIZE_MAX {
                    return Err(Broken);
                }
                self.dynamic.set_limit(size);
                continue;
            }
            has_fields = true;
            if first & 0x80 != 0 {
                let index = integer(&mut bytes, 7)?;
                let (name, value) = self.entry(index)?;
                note(block.push(name, value));
            } else if first & 0x40 != 0 {
                self.literal(&mut bytes, 6, block, true)?;
            } else {
                self.literal(&mut bytes, 4, block, false)?;
            }
        }
        Ok(())
    }

    /// A field whose value, and perhaps name, is spelt out.
    fn literal(&mut self, bytes: &mut &[u8], prefix: u32, block: &mut Block, is_kept: bool) -> Result<(), Broken> {
        let index = integer(bytes, prefix)?;
        let mut text = std::mem::take(&mut block.literal);
        text.clear();
        if index == 0 {
            string(bytes, &mut text)?;
        } else {
            text.extend_from_slice(self.entry(index)?.0);
        }
        let name_len = text.len();
        string(bytes, &mut text)?;
        let (name, value) = text.split_at(name_len);
        if is_kept {
            self.dynamic.insert(name, value);
        }
        note(block.push(name, value));
        block.literal = text;
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        match index {
            0 => Err(Broken),
            1..=61 => Ok((STATIC[index - 1].0.as_bytes(), STATIC[index - 1].1.as_bytes())),
            _ => self.dynamic.entry(index - 62).ok_or(Broken),
        }
    }
}

/// That a block is too large is noted in it; it is read to its end all the same, for the sake of the next.
fn note(_pushed: Result<(), TooLarge>) {}

/// An integer whose first octet has `prefix` bits of it (RFC 7541, section 5.1).
fn integer(bytes: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    let mask = (1_usize << prefix) - 1;
    let (&first, mut rest) = bytes.split_first().ok_or(Broken)?;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&octet, after) = rest.split_first().ok_or(Broken)?;
            rest = after;
            // Nothing that long is ever needed.
            if shift > 21 {
                return Err(Broken);
            }
            value += usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(value)
}

/// A string (RFC 7541, section 5.2), appended to `out`.
fn string(bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    let is_huffman = bytes.first().ok_or(Broken)? & 0x80 != 0;
    let len = integer(bytes, 7)?;
    let (text, rest) = bytes.split_at_checked(len).ok_or(Broken)?;
    *bytes = rest;
    if !is_huffman {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(Broken);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
    }

    fn read(decoder: &mut Decoder, text: &str) -> Result<Vec<String>, Broken> {
        let mut block = Block::new(10_000);
        decoder.read(&hex(text), &mut block)?;
        let show = |(name, value): (&[u8], &[u8])| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        Ok(block.iter().map(show).collect())
    }

    #[test]
    fn requests_of_rfc_7541_are_read_one_after_the_other() {
        let mut decoder = Decoder::default();
        let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        let read_first = read(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        assert_eq!(read_first.expect("a block"), first);
        let second = [first.as_slice(), &["cache-control: no-cache"]].concat();
        assert_eq!(read(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf").expect("a block"), second);
        let third = [":method: GET", ":scheme: https", ":path: /index.html", first[3], "custom-key: custom-value"];
        let read_third = read(&mut decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
        assert_eq!(read_third.expect("a block"), third);
    }

    #[test]
    fn what_the_table_has_not_is_broken() {
        for text in ["80", "be", "ff80 8080 8001", "40", "4001", "00 01 61", "3fe2 1f", "82 20", "0085 ffff ffff ff"] {
            assert_eq!(read(&mut Decoder::default(), text), Err(Broken), "{text}");
        }
    }

    #[test]
    fn a_table_of_no_size_keeps_nothing() {
        let mut decoder = Decoder::default();
        assert_eq!(read(&mut decoder, "20 4001 6101 62").expect("a block"), ["a: b"]);
        assert_eq!(read(&mut decoder, "be"), Err(Broken));
        assert_eq!(read(&mut decoder, "3fe1 1f 4001 6101 62").expect("a block"), ["a: b"]);
        assert_eq!(read(&mut decoder, "be").expect("a block"), ["a: b"]);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_the_next_block_is_read() {
        let mut decoder = Decoder::default();
        let mut block = Block::new(40);
        decoder.read(&hex("4001 6101 62 4001 6301 64"), &mut block).expect("a block");
        assert!(block.is_too_large());
        decoder.read(&hex("be"), &mut block).expect("a block");
        assert_eq!(block.iter().collect::<Vec<_>>(), [(&b"c"[..], &b"d"[..])]);
        assert!(!block.is_too_large());
    }

    proptest::proptest! {
        #[test]
        fn any_octets_at_all_are_safe_to_read(bytes: Vec<u8>) {
            let _ = Decoder::default().read(&bytes, &mut Block::new(1000));
        }
    }
}
