//! Options of answers that few queries ask for, and the reasons of answers that nobody likes. Out of the line: an answer
//! without them costs nothing.

use std::time::Duration;

use super::{Decided, Identity, Peer, Snapshot, Turn, limit};
use crate::wire::{
    CLASS_IN, Extras, OPTION_ERROR, OPTION_KEEPALIVE, OPTION_NSID, OPTION_ZONEVERSION, Query, Rcode, Reply, Rtype,
};

/// An answer as far as its options depend on it.
pub(super) struct Said<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) turn: &'a Turn<'a>,
    pub(super) peer: &'a Peer,
    pub(super) query: &'a Query,
    pub(super) rcode: Rcode,
    pub(super) steered: Option<Decided>,
    pub(super) is_limited: bool,
}

/// Options in the making.
struct Options {
    octets: [u8; ASKED_LEN_MAX],
    len: usize,
}

/// Why an answer is what it is (RFC 8914).
struct Reason {
    code: u16,
    text: &'static str,
}

/// Judges a broken cookie where cookies are known, and gives how many octets the options that `query` asks for take at
/// most: room for them is kept, whatever the records are.
#[cold]
pub(super) fn prepare(snapshot: &Snapshot, turn: &Turn<'_>, query: &mut Query) -> usize {
    if snapshot.cookies.is_some() {
        query.judge_cookie();
    }
    let extras = query.extras;
    let nsid = snapshot.identity.nsid.as_deref().filter(|_| extras.contains(Extras::NSID));
    let nsid_len = nsid.map_or(0, |nsid| HEAD_LEN + nsid.len().min(Identity::NSID_LEN_MAX));
    let keepalive_len = if turn.idle.is_some() && extras.contains(Extras::KEEPALIVE) { KEEPALIVE_LEN } else { 0 };
    nsid_len + keepalive_len + if extras.contains(Extras::ZONEVERSION) { ZONEVERSION_LEN } else { 0 }
}

impl Said<'_> {
    /// Adds the options to the message of `len` octets at the start of `out`, where it has an OPT record, which stands last;
    /// gives its length then. One that is limited stays as short as it is, and a reason that would make it too long is left
    /// out (RFC 8914, section 3).
    #[cold]
    pub(super) fn append(&self, out: &mut [u8], len: usize) -> usize {
        if self.is_limited || self.query.edns.is_none() {
            return len;
        }
        let limit = limit(self.query, self.peer.transport);
        let has_cookie = self.snapshot.cookies.is_some() && self.query.cookie().is_some();
        let data_len = Reply::options_len(self.query, has_cookie);
        let asked = self.asked();
        let asked = &asked.octets[..asked.len];
        let len = Reply::append_options(out, len, limit, data_len, asked);
        let Some(Reason { code, text }) = self.reason() else { return len };
        let mut octets = [0; REASON_LEN_MAX];
        let text = &text.as_bytes()[..text.len().min(REASON_LEN_MAX - HEAD_LEN - 2)];
        let data = 2 + text.len();
        for (at, word) in [OPTION_ERROR, data as u16, code].into_iter().enumerate() {
            octets[2 * at..2 * at + 2].copy_from_slice(&word.to_be_bytes());
        }
        octets[HEAD_LEN + 2..HEAD_LEN + data].copy_from_slice(text);
        Reply::append_options(out, len, limit, data_len + asked.len(), &octets[..HEAD_LEN + data])
    }

    fn asked(&self) -> Options {
        let mut options = Options { octets: [0; ASKED_LEN_MAX], len: 0 };
        let extras = self.query.extras;
        if let Some(nsid) = self.snapshot.identity.nsid.as_deref().filter(|_| extras.contains(Extras::NSID)) {
            options.push(OPTION_NSID, &nsid.as_bytes()[..nsid.len().min(Identity::NSID_LEN_MAX)]);
        }
        if let Some(idle) = self.turn.idle.filter(|_| extras.contains(Extras::KEEPALIVE)) {
            options.push(OPTION_KEEPALIVE, &tenths(idle).to_be_bytes());
        }
        if let Some((labels, serial)) = self.zone_version().filter(|_| extras.contains(Extras::ZONEVERSION)) {
            let [a, b, c, d] = serial.to_be_bytes();
            options.push(OPTION_ZONEVERSION, &[labels as u8, SOA_SERIAL, a, b, c, d]);
        }
        options
    }

    /// Of the zone that the answer is from, which a refusal or a fault has not.
    fn zone_version(&self) -> Option<(usize, u32)> {
        let is_from_zone = matches!(self.rcode, Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::YXDOMAIN)
            && self.query.question_len > 0
            && self.query.qclass == CLASS_IN;
        self.snapshot.zones.version_for(self.query.qname(), self.query.qtype).filter(|_| is_from_zone)
    }

    /// ```text
    /// REFUSED: type AXFR or IXFR       18, Prohibited
    /// REFUSED: anything else           20, Not Authoritative
    /// nobody may serve the client       0, Other, and what it is: no code is for that
    /// the last resort answers           0, the same
    /// ```
    fn reason(&self) -> Option<Reason> {
        let is_transfer = matches!(self.query.qtype, Rtype::AXFR | Rtype::IXFR);
        match (self.rcode, self.steered) {
            (Rcode::REFUSED, _) if is_transfer => Some(Reason { code: 18, text: "" }),
            (Rcode::REFUSED, _) => Some(Reason { code: 20, text: "" }),
            (_, Some(Decided { region: None, .. })) => {
                Some(Reason { code: 0, text: "no region may serve this client" })
            }
            (_, Some(Decided { is_last_resort: true, .. })) => {
                Some(Reason { code: 0, text: "no region is fit to serve, the last resort answers" })
            }
            _ => None,
        }
    }
}

impl Options {
    fn push(&mut self, code: u16, data: &[u8]) {
        let end = self.len + HEAD_LEN + data.len();
        let Some(room) = self.octets.get_mut(self.len..end) else { return };
        room[..2].copy_from_slice(&code.to_be_bytes());
        room[2..HEAD_LEN].copy_from_slice(&(data.len() as u16).to_be_bytes());
        room[HEAD_LEN..].copy_from_slice(data);
        self.len = end;
    }
}

/// In units of 100 ms, rounded down (RFC 7828, section 3.1).
fn tenths(idle: Duration) -> u16 {
    u16::try_from(idle.as_millis() / 100).unwrap_or(u16::MAX)
}

/// Octets of code and length.
const HEAD_LEN: usize = 4;
const KEEPALIVE_LEN: usize = HEAD_LEN + 2;
const ZONEVERSION_LEN: usize = HEAD_LEN + 6;
const ASKED_LEN_MAX: usize = HEAD_LEN + Identity::NSID_LEN_MAX + KEEPALIVE_LEN + ZONEVERSION_LEN;
const REASON_LEN_MAX: usize = 64;
/// The one type of version there is (RFC 9660, section 2.1).
const SOA_SERIAL: u8 = 0;
