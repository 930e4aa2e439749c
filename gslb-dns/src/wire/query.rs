//! Queries, read in place.

use super::cookie::Cookie;
use super::ecs::Ecs;
use super::name::Name;
use super::{HEADER_LEN, NAME_LEN_MAX, Rcode, Rtype, UDP_PAYLOAD_MAX, UDP_PAYLOAD_PLAIN};

/// What a query asks, on the stack: nothing of it points into the packet.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The message id.
    pub id: u16,
    /// The second pair of header octets: opcode and flags.
    pub flags: u16,
    /// The type asked for; 0 while [`Query::question_len`] is.
    pub qtype: Rtype,
    /// The class asked for.
    pub qclass: u16,
    /// Octets of the question as it stands behind the header; 0: there is none to repeat.
    pub question_len: usize,
    /// What the OPT record says; `None`: the client does not speak EDNS.
    pub edns: Option<Edns>,
    /// What else stands in it.
    pub extras: Extras,
    /// Set when the query is answered by this code alone, whatever it asks.
    pub fault: Option<Rcode>,
    qname: [u8; NAME_LEN_MAX],
    qname_len: u8,
}

/// What the OPT record of a query says (RFC 6891).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Edns {
    /// The longest UDP reply that the client takes.
    pub udp_payload: u16,
    /// The version; we speak 0.
    pub version: u8,
    /// Whether DNSSEC records are wanted.
    pub is_dnssec_ok: bool,
    /// The client subnet.
    pub ecs: Option<Ecs>,
    /// The cookie: the first one, where there are several (RFC 7873, section 5.2).
    pub cookie: Option<Cookie>,
}

/// Options that few queries have, a bit each.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extras(u8);

impl Extras {
    /// The name of the server is asked for (RFC 5001).
    pub const NSID: Self = Self(1);
    /// How long an idle connection is kept is asked for (RFC 7828).
    pub const KEEPALIVE: Self = Self(2);
    /// The version of the zone is asked for (RFC 9660).
    pub const ZONEVERSION: Self = Self(4);
    /// The first cookie has a length that none has, which is a fault where cookies are known (RFC 7873, section 5.2.2).
    pub const BROKEN_COOKIE: Self = Self(8);

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `extra` is among them.
    pub fn contains(self, extra: Self) -> bool {
        self.0 & extra.0 != 0
    }

    fn add(&mut self, extra: Self) {
        self.0 |= extra.0;
    }
}

/// Why a packet gets no answer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum DropReason {
    /// Shorter than a header.
    Short,
    /// A response: answering it could start a loop.
    Response,
    /// The buffer for the answer is too small to repeat the question.
    NoRoom,
    /// The client's network has had its share of answers.
    Limited,
}

impl DropReason {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Response => "response",
            Self::NoRoom => "no-room",
            Self::Limited => "limited",
        }
    }
}

impl Query {
    /// Reads `packet`; fails for what gets no answer at all. Everything else that is wrong is in [`Query::fault`].
    ///
    /// ```text
    /// opcode not QUERY                                        NOTIMP, the header alone (RFC 8906)
    /// QDCOUNT above 1 (RFC 9619), or a broken question        FORMERR without a question
    /// broken records, octets behind the last record           FORMERR
    /// OPT twice, misplaced, or with a broken option           FORMERR
    /// EDNS version above 0                                    BADVERS
    /// TSIG as the last record                                 NOTAUTH: who holds no keys can say no more
    /// ```
    /// A message without a question that brings a cookie asks for one and is no fault (RFC 7873, section 5.4).
    // Inlined, so that it is made where its caller wants it: copying it would take longer than reading a short query.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let header = packet.first_chunk::<HEADER_LEN>().ok_or(DropReason::Short)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if word(2) & FLAG_QR != 0 {
            return Err(DropReason::Response);
        }
        let mut query = Self {
            id: word(0),
            flags: word(2),
            qtype: Rtype(0),
            qclass: 0,
            question_len: 0,
            edns: None,
            extras: Extras::default(),
            fault: None,
            qname: [0; NAME_LEN_MAX],
            qname_len: 0,
        };
        query.fault = if query.flags & MASK_OPCODE != 0 {
            Some(Rcode::NOTIMP)
        } else {
            query.read_body(packet, [word(4), word(6), word(8), word(10)]).err()
        };
        Ok(query)
    }

    /// The name asked for, in lower case; empty while [`Query::question_len`] is 0.
    pub fn qname(&self) -> &[u8] {
        &self.qname[..usize::from(self.qname_len)]
    }

    /// What kind of message it is (RFC 1035, section 4.1.1).
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11) as u8 & 0x0F
    }

    /// The longest UDP reply in octets (RFC 6891, section 6.2.5).
    pub fn udp_limit(&self) -> usize {
        let payload = self.edns.map_or(UDP_PAYLOAD_PLAIN, |edns| edns.udp_payload);
        usize::from(payload.clamp(UDP_PAYLOAD_PLAIN, UDP_PAYLOAD_MAX))
    }

    /// Takes the broken cookie for the fault that it is where cookies are known.
    #[cold]
    pub fn judge_cookie(&mut self) {
        if let Some(edns) = self.edns.as_mut().filter(|_| self.extras.contains(Extras::BROKEN_COOKIE)) {
            edns.ecs = None;
            self.fault = Some(Rcode::FORMERR);
        }
    }

    /// The cookie that the client brings.
    pub fn cookie(&self) -> Option<&Cookie> {
        self.edns.as_ref()?.cookie.as_ref()
    }

    fn read_body(
        &mut self,
        packet: &[u8],
        [questions, answers, authorities, additionals]: [u16; 4],
    ) -> Result<(), Rcode> {
        let mut reader = Reader { packet, at: HEADER_LEN };
        match questions {
            0 => {}
            1 => self.read_question(&mut reader).ok_or(Rcode::FORMERR)?,
            _ => return Err(Rcode::FORMERR),
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            if matches!(record.rtype, Rtype::OPT | Rtype::TSIG) {
                return Err(Rcode::FORMERR);
            }
        }
        let mut is_signed = false;
        for left in (0..additionals).rev() {
            let record = reader.record().ok_or(Rcode::FORMERR)?;
            match record.rtype {
                Rtype::OPT => self.read_opt(&record)?,
                Rtype::TSIG if left > 0 => return Err(Rcode::FORMERR),
                Rtype::TSIG => is_signed = true,
                _ => {}
            }
        }
        // A message that is longer than its counts say is as broken as one that is shorter.
        if reader.at != packet.len() {
            return Err(Rcode::FORMERR);
        }
        // Before the question is missed: a version that we do not know may do without (RFC 6891, section 6.1.3).
        if self.edns.is_some_and(|edns| edns.version > 0) {
            return Err(Rcode::BADVERS);
        }
        if questions == 0 && self.cookie().is_none() {
            return Err(Rcode::FORMERR);
        }
        if is_signed { Err(Rcode::NOTAUTH) } else { Ok(()) }
    }

    fn read_question(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let (name, rest) = Name::split_from(&reader.packet[reader.at..])?;
        let [t0, t1, c0, c1] = *rest.first_chunk()?;
        self.qname[..name.len()].copy_from_slice(name);
        // Length octets are below 64, so they are no letters.
        self.qname[..name.len()].make_ascii_lowercase();
        self.qname_len = name.len() as u8;
        self.qtype = Rtype(u16::from_be_bytes([t0, t1]));
        self.qclass = u16::from_be_bytes([c0, c1]);
        self.question_len = name.len() + 4;
        reader.at += self.question_len;
        Some(())
    }

    fn read_opt(&mut self, record: &Record<'_>) -> Result<(), Rcode> {
        if self.edns.is_some() || !record.is_owner_root {
            return Err(Rcode::FORMERR);
        }
        let [_, version, flags, _] = record.ttl;
        let udp_payload = record.class;
        let is_dnssec_ok = flags & FLAG_DO != 0;
        let edns = self.edns.insert(Edns { udp_payload, version, is_dnssec_ok, ecs: None, cookie: None });
        let read = edns.read_options(record.rdata, &mut self.extras);
        if read.is_none() || version > 0 {
            // The answer is an error, to which no subnet belongs. A cookie does: it shows that the error is our word.
            edns.ecs = None;
        }
        if version > 0 {
            self.extras = Extras::default();
        }
        // Options of a version that we do not know may look different.
        if version == 0 { read.ok_or(Rcode::FORMERR) } else { Ok(()) }
    }
}

impl Edns {
    /// Takes the client subnet and the cookie from `options`, and adds what else is known to `extras`; unknown ones are passed over. `None` where one is broken;
    /// what came before it is kept.
    fn read_options(&mut self, mut options: &[u8], extras: &mut Extras) -> Option<()> {
        while !options.is_empty() {
            let &[c0, c1, l0, l1, ref rest @ ..] = options else { return None };
            let option_len = usize::from(u16::from_be_bytes([l0, l1]));
            let (option, after) = rest.split_at_checked(option_len)?;
            options = after;
            match u16::from_be_bytes([c0, c1]) {
                Ecs::CODE => {
                    let earlier = self.ecs.replace(Ecs::parse(option)?);
                    if earlier.is_some() {
                        return None;
                    }
                }
                Cookie::CODE if self.cookie.is_none() => {
                    self.cookie = Cookie::parse(option).filter(|_| !extras.contains(Extras::BROKEN_COOKIE));
                    if self.cookie.is_none() {
                        extras.add(Extras::BROKEN_COOKIE);
                    }
                }
                // What a query says in them is passed over (RFC 5001, section 2.1).
                OPTION_NSID => extras.add(Extras::NSID),
                OPTION_KEEPALIVE => extras.add(Extras::KEEPALIVE),
                OPTION_ZONEVERSION => extras.add(Extras::ZONEVERSION),
                _ => {}
            }
        }
        Some(())
    }
}

/// Reads records one after the other.
pub(super) struct Reader<'a> {
    pub(super) packet: &'a [u8],
    pub(super) at: usize,
}

/// One record in place.
pub(super) struct Record<'a> {
    pub(super) is_owner_root: bool,
    pub(super) rtype: Rtype,
    pub(super) class: u16,
    pub(super) ttl: [u8; 4],
    pub(super) rdata: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        let is_owner_root = self.packet.get(self.at) == Some(&0);
        self.skip_name()?;
        let &[t0, t1, c0, c1, ttl0, ttl1, ttl2, ttl3, l0, l1] = self.take(10)?.first_chunk()?;
        let rdata = self.take(usize::from(u16::from_be_bytes([l0, l1])))?;
        let (rtype, class) = (Rtype(u16::from_be_bytes([t0, t1])), u16::from_be_bytes([c0, c1]));
        Some(Record { is_owner_root, rtype, class, ttl: [ttl0, ttl1, ttl2, ttl3], rdata })
    }

    /// Passes over a name, which may be compressed; where it points does not matter.
    pub(super) fn skip_name(&mut self) -> Option<()> {
        let start = self.at;
        loop {
            match usize::from(self.take(1)?[0]) {
                0 => break,
                label_len @ 1..=63 => _ = self.take(label_len)?,
                0xC0.. => {
                    self.take(1)?;
                    break;
                }
                _ => return None,
            }
        }
        (self.at - start <= NAME_LEN_MAX).then_some(())
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let octets = self.packet.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(octets)
    }
}

/// The name of the server (RFC 5001).
pub(crate) const OPTION_NSID: u16 = 3;
/// How long an idle connection is kept (RFC 7828).
pub(crate) const OPTION_KEEPALIVE: u16 = 11;
/// Why an answer is what it is (RFC 8914).
pub(crate) const OPTION_ERROR: u16 = 15;
/// The version of the zone (RFC 9660).
pub(crate) const OPTION_ZONEVERSION: u16 = 19;
const FLAG_QR: u16 = 0x8000;
const MASK_OPCODE: u16 = 0x7800;
const FLAG_DO: u8 = 0x80;

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns as HickoryEdns, Message, MessageType, OpCode, Query as Question};
    use hickory_proto::rr::{Name as HickoryName, RecordType};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_hickory_writes_is_read(
            id: u16,
            labels in prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 0..8),
            qtype in 1_u16..60000,
            edns in prop::option::of((512_u16.., any::<bool>())),
        ) {
            let name = HickoryName::from_labels(labels.iter().map(String::as_bytes)).expect("a name");
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.add_query(Question::query(name.clone(), RecordType::from(qtype)));
            if let Some((payload, is_dnssec_ok)) = edns {
                let mut opt = HickoryEdns::new();
                opt.set_max_payload(payload).set_dnssec_ok(is_dnssec_ok);
                message.set_edns(opt);
            }
            let query = Query::parse(&message.to_vec().expect("a message")).expect("a query");
            let expected = Name::parse(&name.to_string().to_ascii_lowercase(), &Name::root()).expect("a name");
            prop_assert_eq!((query.id, query.qtype, query.qclass, query.fault), (id, Rtype(qtype), 1, None));
            prop_assert_eq!(query.qname(), expected.as_wire());
            prop_assert_eq!(query.edns.map(|edns| (edns.udp_payload, edns.is_dnssec_ok)), edns);
        }
    }
}
