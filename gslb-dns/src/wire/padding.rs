//! Padding (RFC 7830), so that who sees an encrypted answer learns little from its length.

use super::Rtype;
use super::records::{has_option, records};

/// Pads the answer to `query`, the first `len` octets of `out`, up to a multiple of 468 octets (RFC 8467, section 4.1)
/// where the query is padded itself; gives its length now.
///
/// An answer that is too long for a whole block, or for `out`, is padded as far as it goes.
pub fn pad(query: &[u8], out: &mut [u8], len: usize) -> usize {
    if is_padded(query) { pad_before(out, len, 0) } else { len }
}

/// Whether `message` is padded, so that its answer is to be.
pub fn is_padded(message: &[u8]) -> bool {
    has_option(message, PADDING)
}

/// Pads `answer` as [`pad`] does, so that it ends with a block once a signature of `signature_len` octets is behind it
/// (RFC 8945, section 5.1: that is the last record).
pub fn pad_unsigned(answer: &mut Vec<u8>, signature_len: usize) {
    let len = answer.len();
    let most = usize::from(u16::MAX).saturating_sub(signature_len);
    answer.resize((len + OPTION_LEN + BLOCK).min(most).max(len), 0);
    let padded = pad_before(answer, len, signature_len);
    answer.truncate(padded);
}

/// Pads the first `len` octets of `out`, behind which `behind` more come; gives their number then.
fn pad_before(out: &mut [u8], len: usize, behind: usize) -> usize {
    let Some(answer) = out.get(..len) else { return len };
    // A signature behind it covers all.
    let Some((_, start, opt)) = records(answer).last().filter(|(_, _, record)| record.rtype == Rtype::OPT) else {
        return len;
    };
    let (data_len, most) = (opt.rdata.len(), out.len().min(usize::from(u16::MAX)));
    let padded = ((len + OPTION_LEN + behind).next_multiple_of(BLOCK) - behind).min(most);
    let Some(padding) = padded.checked_sub(len + OPTION_LEN) else { return len };
    let [code, padding_len, data_len] =
        [PADDING, padding as u16, (data_len + OPTION_LEN + padding) as u16].map(u16::to_be_bytes);
    out[start + DATA_LEN_AT..start + DATA_LEN_AT + 2].copy_from_slice(&data_len);
    out[len..len + 2].copy_from_slice(&code);
    out[len + 2..len + OPTION_LEN].copy_from_slice(&padding_len);
    out[len + OPTION_LEN..padded].fill(0);
    padded
}

/// The option code.
const PADDING: u16 = 12;
/// Octets of an option without its content.
const OPTION_LEN: usize = 4;
/// Where an OPT record, whose owner is the root, has the length of its data.
const DATA_LEN_AT: usize = 9;
/// Octets to a multiple of which answers are padded.
const BLOCK: usize = 468;

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    use super::*;

    /// A message, with an OPT record where `options` are given.
    fn message(options: Option<&[EdnsOption]>) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("www.example.com").expect("a name"), RecordType::A));
        if let Some(options) = options {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            options.iter().for_each(|option| edns.options_mut().insert(option.clone()));
            message.set_edns(edns);
        }
        message.to_vec().expect("encoded")
    }

    fn padding() -> EdnsOption {
        EdnsOption::Unknown(PADDING, vec![0; 20])
    }

    /// `answer` padded, in a room of `most` octets.
    fn padded(query: &[u8], answer: &[u8], most: usize) -> Vec<u8> {
        let mut out = answer.to_vec();
        out.resize(most, 0xff);
        let len = pad(query, &mut out, answer.len());
        out.truncate(len);
        out
    }

    #[test]
    fn answer_to_a_padded_query_is_a_multiple_of_468_octets() {
        let (query, answer) = (message(Some(&[padding()])), message(Some(&[EdnsOption::Unknown(3, vec![1])])));
        let padded = padded(&query, &answer, 65_535);
        assert_eq!(padded.len(), 468);
        let read = Message::from_vec(&padded).expect("readable");
        let edns = read.edns.as_ref().expect("there");
        assert!(edns.option(EdnsCode::from(3)).is_some());
        let Some(EdnsOption::Unknown(_, zeros)) = edns.option(EdnsCode::Padding) else { panic!("{edns:?}") };
        assert_eq!(zeros.len(), 468 - answer.len() - 4);
        assert!(zeros.iter().all(|octet| *octet == 0));
    }

    #[test]
    fn answer_is_as_it_was_where_padding_is_not_asked_for_or_cannot_be_told() {
        let [bare, plain, asking] = [None, Some(&[][..]), Some(&[padding()][..])].map(message);
        for (query, answer) in [(&bare, &plain), (&plain, &plain), (&asking, &bare)] {
            assert_eq!(&padded(query, answer, 65_535), answer);
        }
        assert_eq!(padded(&asking, &plain, plain.len() + 3), plain, "no room for the option");
        assert_eq!(padded(&asking, &plain, plain.len() + 10).len(), plain.len() + 10, "as far as it goes");
    }

    /// RFC 8945, section 5.1: a signature stands behind it, and covers it.
    #[test]
    fn answer_that_will_be_signed_ends_with_a_block_then() {
        for signature_len in [0, 1, 94, 467, 468, 1000] {
            let mut answer = message(Some(&[]));
            pad_unsigned(&mut answer, signature_len);
            assert!((answer.len() + signature_len).is_multiple_of(468), "{signature_len}");
            assert!(Message::from_vec(&answer).is_ok());
        }
        let mut longest = message(Some(&[EdnsOption::Unknown(65_001, vec![7; 65_380])]));
        pad_unsigned(&mut longest, 94);
        assert_eq!(longest.len() + 94, 65_535, "as far as it goes");
    }

    proptest! {
        #[test]
        fn any_octets_are_padded_or_left(query: Vec<u8>, answer: Vec<u8>, room in 0..1000_usize) {
            padded(&query, &answer, answer.len() + room);
            padded(&message(Some(&[padding()])), &answer, answer.len() + room);
        }

        #[test]
        fn padded_answer_is_readable(len in 0..2000_usize, room in 0..600_usize) {
            let answer = message(Some(&[EdnsOption::Unknown(65_001, vec![7; len])]));
            let padded = padded(&message(Some(&[padding()])), &answer, answer.len() + room);
            prop_assert!(Message::from_vec(&padded).is_ok());
            prop_assert!(padded.len().is_multiple_of(468) || padded.len() == answer.len() + room || room < 4);
        }
    }
}
