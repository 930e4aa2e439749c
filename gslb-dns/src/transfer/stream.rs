//! The messages of a transfer, made one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use super::writer::Writer;
use super::{Delta, Transferable};
use crate::tsig::Session;
use crate::wire::{UDP_PAYLOAD_MAX, pad_unsigned};
use crate::zone::{Content, Records, is_newer};

/// What a secondary asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The whole zone (RFC 5936).
    Whole,
    /// What has changed since this serial (RFC 1995).
    Since(u32),
}

/// A transfer under way. It holds on to the zone as it was when it began, and makes each message when it is wanted.
#[derive(Debug)]
pub struct Transfer {
    parts: VecDeque<Part>,
    /// Octets of the first part that are in messages already.
    done: usize,
    id: u16,
    flags: u16,
    /// Of the query; in the first message alone (RFC 5936, section 2.2.1).
    question: Vec<u8>,
    opt: Opt,
    session: Option<Session>,
}

/// The OPT record of a transfer, which stands in the first message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opt {
    /// None, as in the query.
    Absent,
    /// Without options.
    Plain,
    /// Padded (RFC 7830), as the query is.
    Padded,
}

/// Records that are sent one after the other.
#[derive(Clone, Debug)]
enum Part {
    Soa(Arc<Content>),
    Rest(Arc<Content>),
    Removed(Arc<Delta>),
    Added(Arc<Delta>),
}

impl Part {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Soa(content) => content.soa(),
            Self::Rest(content) => content.rest(),
            Self::Removed(delta) => delta.removed(),
            Self::Added(delta) => delta.added(),
        }
    }
}

impl Transfer {
    /// Answers `asked`, the query with `id` and `question`, with such an OPT record; what `session` is given for is signed
    /// with it.
    ///
    /// ```text
    /// Whole                                    SOA, everything else, SOA
    /// Since a serial that is not older         SOA
    /// Since one that the history knows         SOA, for each change: old SOA, removed, new SOA, added; SOA
    /// Since any other, or that would be more   as Whole
    /// ```
    pub fn new(
        zone: &Transferable,
        asked: Asked,
        id: u16,
        question: &[u8],
        opt: Opt,
        session: Option<Session>,
    ) -> Self {
        let parts = parts(zone, asked);
        Self { parts, done: 0, id, flags: FLAGS, question: question.to_vec(), opt, session }
    }

    /// The next message, signed with the time `now`, in seconds since 1970; `None` behind the last.
    ///
    /// As long as names in it can be pointed to, 16 KiB, unless one record is longer.
    pub fn next(&mut self, now: u64) -> Option<Vec<u8>> {
        self.next_within(MESSAGE_LEN, now)
    }

    /// The whole of it as one message of at most `limit` octets, signature and OPT record among them; where it takes more,
    /// the SOA record alone, which says that it is to be had over TCP (RFC 1995, section 2); where even that takes more,
    /// no record, and TC (RFC 2181, section 9).
    pub fn into_datagram(mut self, limit: usize, now: u64) -> Option<Vec<u8>> {
        let last = self.parts.back().cloned();
        let session = self.session.clone();
        let signature_len = session.as_ref().map_or(0, Session::record_len);
        let opt_len = if self.opt == Opt::Absent { 0 } else { OPT.len() };
        let message = self.next_within(limit.saturating_sub(signature_len + opt_len), now)?;
        // A record that is too long for a datagram was let in all the same.
        if self.parts.is_empty() && message.len() <= limit {
            return Some(message);
        }
        let (parts, done, question) = (last.into_iter().collect(), 0, question_of(&message)?.to_vec());
        let mut soa_alone = Self { parts, done, session: session.clone(), question: question.clone(), ..self };
        let message = soa_alone.next_within(0, now)?;
        if message.len() <= limit {
            return Some(message);
        }
        let nothing = Writer::new(self.id, FLAGS | FLAG_TC, &question, 0);
        Some(Self { session, ..soa_alone }.finish(nothing, true, now))
    }

    fn next_within(&mut self, end: usize, now: u64) -> Option<Vec<u8>> {
        if self.parts.is_empty() {
            return None;
        }
        let question = std::mem::take(&mut self.question);
        let mut writer = Writer::new(self.id, self.flags, &question, end);
        while let Some(part) = self.parts.front() {
            for record in Records::new(&part.octets()[self.done..]) {
                if !writer.push(&record) {
                    break;
                }
                self.done += record.octets().len();
            }
            if self.done < part.octets().len() {
                break;
            }
            self.parts.pop_front();
            self.done = 0;
        }
        if writer.is_empty() && !self.parts.is_empty() {
            // Longer than any message: the files are checked for that, so that nothing is lost by giving up.
            self.parts.clear();
            return None;
        }
        Some(self.finish(writer, !question.is_empty(), now))
    }

    /// The message with what `writer` has written.
    fn finish(&mut self, writer: Writer, is_first: bool, now: u64) -> Vec<u8> {
        let opt = if is_first { self.opt } else { Opt::Absent };
        let mut message = writer.finish(if opt == Opt::Absent { &[] } else { &OPT });
        if opt == Opt::Padded {
            pad_unsigned(&mut message, self.session.as_ref().map_or(0, Session::record_len));
        }
        if let Some(session) = &mut self.session {
            session.sign(&mut message, now);
        }
        message
    }
}

fn parts(zone: &Transferable, asked: Asked) -> VecDeque<Part> {
    let content = zone.content();
    let soa = Part::Soa(Arc::clone(content));
    if let Asked::Since(serial) = asked {
        if !is_newer(content.serial(), serial) {
            return [soa].into();
        }
        let deltas = zone.history().since(serial);
        let deltas = deltas.filter(|deltas| deltas.iter().map(|delta| delta.len()).sum::<usize>() <= content.len());
        if let Some(deltas) = deltas {
            let changes = deltas.into_iter().flat_map(|delta| [Part::Removed(Arc::clone(&delta)), Part::Added(delta)]);
            return [soa.clone()].into_iter().chain(changes).chain([soa]).collect();
        }
    }
    [soa.clone(), Part::Rest(Arc::clone(content)), soa].into()
}

/// The question of a message that has one.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let body = message.get(crate::wire::HEADER_LEN..)?;
    let (name, _) = crate::wire::Name::split_from(body)?;
    body.get(..name.len() + 4)
}

/// A response with authority.
const FLAGS: u16 = 0x8400;
const FLAG_TC: u16 = 0x0200;
const MESSAGE_LEN: usize = 16 << 10;
/// An OPT record without options (RFC 6891, section 6.1.2).
pub const OPT: [u8; 11] = {
    let [high, low] = UDP_PAYLOAD_MAX.to_be_bytes();
    [0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]
};
