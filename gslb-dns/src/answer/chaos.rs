//! What a node says of itself in class CHAOS (RFC 4892).

use super::{Answered, Identity, Snapshot};
use crate::wire::{CLASS_CHAOS, Query, Rcode, Reply, Rtype};

/// The answer to a query that would get `refusal` alone: a TXT record, where one of class CHAOS is asked for and the
/// operator wants it to be said.
#[cold]
pub(super) fn answer(snapshot: &Snapshot, query: &Query, refusal: Rcode, reply: &mut Reply<'_>) -> Answered {
    let is_asked = query.fault.is_none() && query.qclass == CLASS_CHAOS;
    let is_asked = is_asked && matches!(query.qtype, Rtype::TXT | Rtype::ANY);
    let Some(text) = text(&snapshot.identity, query.qname()).filter(|_| is_asked) else {
        return Answered::without_records(refusal);
    };
    let string_len = text.len().min(usize::from(u8::MAX));
    reply.push(&[0xC0, 12]);
    for word in [Rtype::TXT.0, CLASS_CHAOS, 0, 0, string_len as u16 + 1] {
        reply.push(&word.to_be_bytes());
    }
    reply.push(&[string_len as u8]);
    reply.push(&text.as_bytes()[..string_len]);
    Answered { is_authoritative: true, counts: [1, 0, 0], ..Answered::without_records(Rcode::NOERROR) }
}

fn text<'a>(identity: &'a Identity, qname: &[u8]) -> Option<&'a str> {
    match qname {
        b"\x07version\x04bind\0" | b"\x07version\x06server\0" => identity.version.as_deref(),
        b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => identity.hostname.as_deref(),
        _ => None,
    }
}
