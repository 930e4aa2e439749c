//! Padding (RFC 7830), so that who sees an encrypted answer learns little from its length.

use super::Rtype;
use super::records::{has_option, records};

/// Pads the answer to `query`, the first `len` octets of `out`, up to a multiple of 468 octets (RFC 8467, section 4.1)
/// where the query is padded itself; gives its length now.
///
/// An answer that is too long for a whole block, or for `out`, is padded as far as it goes.
pub fn pad(query: &[u8], out: &mut [u8], len: usize) -> usize {
    if !has_option(query, PADDING) {
        return len;
    }
    let Some(answer) = out.get(..len) else { return len };
    // A signature behind it covers all.
    let Some((_, start, opt)) = records(answer).last().filter(|(_, _, record)| record.rtype == Rtype::OPT) else {
        return len;
    };
    let (data_len, most) = (opt.rdata.len(), out.len().min(usize::from(u16::MAX)));
    let padded = (len + OPTION_LEN).next_multiple_of(BLOCK).min(most);
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
