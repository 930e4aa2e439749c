//! Answers that say no more than why there is none.

use crate::answer::Peer;
use crate::transfer::OPT;
use crate::wire::{HEADER_LEN, Name, OPTION_ERROR, Query, Rcode, Reply, is_padded, pad_unsigned};

/// Why an answer is what it is (RFC 8914).
#[derive(Clone, Copy, Debug)]
pub(super) struct ExtendedError {
    pub(super) code: u16,
    pub(super) text: &'static str,
}

impl ExtendedError {
    /// Adds it to `answer`, which ends with an OPT record without options, where that leaves at most `limit` octets.
    pub(super) fn append_to(&self, answer: &mut Vec<u8>, limit: usize) {
        let head = [OPTION_ERROR, 2 + self.text.len() as u16, self.code].map(u16::to_be_bytes);
        let option = [head.as_flattened(), self.text.as_bytes()].concat();
        let len = answer.len();
        answer.resize(len + option.len(), 0);
        let len = Reply::append_options(answer, len, limit, 0, &option);
        answer.truncate(len);
    }
}

/// The answer `rcode` to `query`, which stands in `message`: header, question, and OPT where the query has it (RFC 6891,
/// section 7).
pub(super) fn refusal(query: &Query, message: &[u8], rcode: Rcode) -> Vec<u8> {
    let question = question(message).unwrap_or_default();
    let flags = FLAG_QR | query.flags & (MASK_OPCODE | FLAG_RD) | rcode.as_u16() & 0x0F;
    let mut answer = Vec::with_capacity(HEADER_LEN + question.len());
    let has_edns = query.edns.is_some();
    for word in [query.id, flags, u16::from(!question.is_empty()), 0, 0, u16::from(has_edns)] {
        answer.extend_from_slice(&word.to_be_bytes());
    }
    answer.extend_from_slice(question);
    if has_edns {
        answer.extend_from_slice(&OPT);
    }
    answer
}

/// Whether the answer to `message` of `peer` is to be padded: where that is, and nobody between can read it (RFC 7830,
/// section 4).
pub(super) fn is_padding_due(message: &[u8], peer: Peer) -> bool {
    peer.transport.is_encrypted() && is_padded(message)
}

/// Pads `answer`, which is not signed yet, where that is due by `message` of `peer`; `signature_len` octets will come behind
/// it.
pub(super) fn pad_answer(message: &[u8], peer: Peer, answer: &mut Vec<u8>, signature_len: usize) {
    if is_padding_due(message, peer) {
        pad_unsigned(answer, signature_len);
    }
}

/// The one question of `message` as it stands there, or the zone of an update; `None`: there is none, or several.
pub(super) fn question(message: &[u8]) -> Option<&[u8]> {
    let count = message.get(4..6)?;
    let body = message.get(HEADER_LEN..)?;
    let (name, _) = Name::split_from(body).filter(|_| count == [0, 1])?;
    body.get(..name.len() + 4)
}

/// The name in the question of `message`, or of the zone that is to be updated.
pub(super) fn zone_of(message: &[u8]) -> Option<Name> {
    let (name, _) = Name::split_from(question(message)?)?;
    Some(Name::from_wire(name))
}

const FLAG_QR: u16 = 0x8000;
const MASK_OPCODE: u16 = 0x7800;
const FLAG_RD: u16 = 0x0100;
