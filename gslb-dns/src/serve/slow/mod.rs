//! What the engine leaves to the edge: updates, notifications, transfers, and whatever is signed by a key.
//!
//! Over UDP such messages wait in a bounded queue for a few tasks; over TCP their connection waits. Neither holds up the
//! line of queries.

mod mailbox;
mod message;
mod transfer;
mod update;

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Live;
use super::counters::{SlowCounters, SlowKind};
use super::refusals::{Reason, Refusals, Refused};
use super::updates::Updates;
use crate::answer::{Outcome, Peer, Transport, Turn, answer};
use crate::reload::unix_secs;
use crate::transfer::Transfer;
use crate::tsig::{Rejection, Request, Session};
use crate::wire::{CLASS_IN, DropReason, Name, OPCODE_NOTIFY, OPCODE_UPDATE, Query, Rcode, Rtype};
#[cfg(test)]
mod tests;

use message::{ExtendedError, pad_answer, refusal, zone_of};

pub(super) use mailbox::{Full, Mailbox};

/// Answers one message after the other, for any number of askers at once.
pub(super) struct SlowPath {
    live: Arc<ArcSwap<Live>>,
    counters: Arc<SlowCounters>,
    updates: Updates,
}

/// What a message came by, as far as transfers depend on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Channel {
    /// TCP, or TLS 1.3 over it: as many messages as it takes.
    Stream,
    /// TLS before version 1.3, which no transfer may use (RFC 9103, section 7.2).
    OldTls,
    /// UDP or QUIC: one message, as it is done here.
    OneMessage,
    /// HTTPS, of which no RFC has transfers.
    Web,
}

/// The messages that answer one.
pub(super) struct Answers {
    first: Option<Vec<u8>>,
    rest: Option<Box<Transfer>>,
}

/// A message to answer, and who asks.
struct Asked<'a> {
    live: &'a Live,
    refusals: &'a Refusals,
    peer: Peer,
    channel: Channel,
    /// Without its TSIG record.
    message: &'a [u8],
    query: Query,
    session: Option<Session>,
}

impl SlowPath {
    pub(super) fn new(live: Arc<ArcSwap<Live>>, counters: Arc<SlowCounters>, updates: Updates) -> Self {
        Self { live, counters, updates }
    }

    /// Answers `message` of `peer`.
    pub(super) async fn answer(&self, message: &[u8], peer: Peer, channel: Channel) -> Answers {
        let Ok(query) = Query::parse(message) else { return Answers::none() };
        let kind = kind_of(&query);
        let (answers, rcode) = match query.opcode() {
            OPCODE_UPDATE => self.answer_update(message, query, peer).await,
            _ => self.answer_query(message, query, peer, channel),
        };
        if answers.first.is_some() || answers.rest.is_some() {
            self.counters.count(peer.transport, kind, rcode);
        }
        answers
    }

    fn answer_query(&self, message: &[u8], query: Query, peer: Peer, channel: Channel) -> (Answers, Rcode) {
        let live = self.live.load();
        let now = unix_secs();
        let request = match Request::split(message) {
            Ok(request) => request,
            Err(rcode) => {
                self.note(Reason::BrokenTsig, peer, message, None, "its TSIG record, or the message, is broken");
                return refused(rcode, &query, message, peer);
            }
        };
        let refusals = &self.counters.refusals;
        let Some(request) = request else {
            return Asked { live: &live, refusals, peer, channel, message, query, session: None }.answer(now);
        };
        match request.verify(&live.world.tsig_keys, now) {
            Ok(session) => {
                let Ok(query) = Query::parse(request.message()) else { return (Answers::none(), Rcode::FORMERR) };
                let (message, session) = (request.message(), Some(session));
                Asked { live: &live, refusals, peer, channel, message, query, session }.answer(now)
            }
            Err(rejection) => self.rejected(*rejection, &query, message, peer, now),
        }
    }

    /// What is answered to who signed with the wrong key, or at the wrong time (RFC 8945, section 5.2).
    fn rejected(&self, rejection: Rejection, query: &Query, message: &[u8], peer: Peer, now: u64) -> (Answers, Rcode) {
        let (reason, why) = Reason::of_tsig(rejection.error);
        self.note(reason, peer, message, Some(rejection.key()), why);
        let mut answer = refusal(query, message, Rcode::NOTAUTH);
        pad_answer(message, peer, &mut answer, rejection.record_len());
        rejection.append_to(&mut answer, now);
        (Answers::one(answer), Rcode::NOTAUTH)
    }

    /// Takes note that `message` is refused.
    fn note(&self, reason: Reason, peer: Peer, message: &[u8], key: Option<&Name>, why: &str) {
        let zone = zone_of(message);
        self.counters.refusals.note(&Refused { reason, client: peer.address, zone, key, why: &why });
    }
}

impl Asked<'_> {
    fn answer(self, now: u64) -> (Answers, Rcode) {
        match self.query.opcode() {
            // We are the primary of all our zones, and take no word of others on them.
            OPCODE_NOTIFY => self.refused(Rcode::NOTIMP, now),
            _ if self.query.fault.is_some() => self.answer_signed(now),
            _ if matches!(self.query.qtype, Rtype::AXFR | Rtype::IXFR) && self.query.qclass == CLASS_IN => {
                self.answer_transfer(now)
            }
            _ => self.answer_signed(now),
        }
    }

    /// Says `rcode` alone, signed where the message was.
    fn refused(self, rcode: Rcode, now: u64) -> (Answers, Rcode) {
        self.refused_for(rcode, None, now)
    }

    /// The same with an extended error.
    fn refused_for(self, rcode: Rcode, error: Option<ExtendedError>, now: u64) -> (Answers, Rcode) {
        let mut answer = refusal(&self.query, self.message, rcode);
        if let Some(error) = error.filter(|_| self.query.edns.is_some()) {
            let room = self.limit().saturating_sub(self.session.as_ref().map_or(0, Session::record_len));
            error.append_to(&mut answer, room);
        }
        (Answers::one(self.finished(answer, now)), rcode)
    }

    /// `answer` padded and signed, each where the message was.
    fn finished(mut self, mut answer: Vec<u8>, now: u64) -> Vec<u8> {
        pad_answer(self.message, self.peer, &mut answer, self.session.as_ref().map_or(0, Session::record_len));
        if let Some(session) = &mut self.session {
            session.sign(&mut answer, now);
        }
        answer
    }

    /// Answers as if it were not signed, and signs that.
    fn answer_signed(self, now: u64) -> (Answers, Rcode) {
        let Some((answer, rcode)) = self.answer_as_query() else { return (Answers::none(), Rcode::NOERROR) };
        (Answers::one(self.finished(answer, now)), rcode)
    }

    /// The longest answer in octets.
    fn limit(&self) -> usize {
        if self.peer.transport == Transport::Udp { self.query.udp_limit() } else { usize::from(u16::MAX) }
    }

    /// What the engine answers; room for a signature is left.
    fn answer_as_query(&self) -> Option<(Vec<u8>, Rcode)> {
        let len = self.limit().saturating_sub(self.session.as_ref().map_or(0, Session::record_len));
        let mut room = vec![0; len];
        // Who shows by a key who he is needs no cookie, and no limit.
        let turn = Turn::unlimited(unix_secs() as u32);
        match answer(&self.live.snapshot, &turn, &self.peer, self.message, &mut room) {
            Outcome::Sent { len, rcode, .. } => {
                room.truncate(len);
                Some((room, rcode))
            }
            Outcome::Dropped(DropReason::Short | DropReason::Response | DropReason::NoRoom | DropReason::Limited)
            | Outcome::Slow => None,
        }
    }
}

impl Answers {
    fn none() -> Self {
        Self { first: None, rest: None }
    }

    fn one(message: Vec<u8>) -> Self {
        Self { first: Some(message), rest: None }
    }

    fn many(transfer: Transfer) -> Self {
        Self { first: None, rest: Some(Box::new(transfer)) }
    }

    /// The next message, made now.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.first.take().or_else(|| self.rest.as_mut()?.next(unix_secs()))
    }
}

/// The answer `rcode` to what is not signed, or in no way that could be.
fn refused(rcode: Rcode, query: &Query, message: &[u8], peer: Peer) -> (Answers, Rcode) {
    let mut answer = refusal(query, message, rcode);
    pad_answer(message, peer, &mut answer, 0);
    (Answers::one(answer), rcode)
}

fn kind_of(query: &Query) -> SlowKind {
    match (query.opcode(), query.qtype) {
        (OPCODE_UPDATE, _) => SlowKind::Update,
        (OPCODE_NOTIFY, _) => SlowKind::Notify,
        (_, Rtype::AXFR) => SlowKind::Axfr,
        (_, Rtype::IXFR) => SlowKind::Ixfr,
        _ => SlowKind::Query,
    }
}
