//! A second, naive answer to every query, for comparing with the engine's: hickory's records, walked one by one.
//!
//! ```text
//! octets ─► asked ─► walk ─► steer, places ─► Expected ─► judge(what the engine gave)
//!           1035     1034    7871                          sections as sets, octets, limits
//!           6891     2308    RFC numbers
//!           7871     4592
//!                    6672
//!                    8482
//! ```
//! It shares nothing with the engine but the decision of `shared::failover`. It is slow, and that is its worth: no
//! ready-made answers, no tables, no pointers. [`world`] makes random worlds and [`queries`] random queries for them.

pub mod asked;
pub mod judge;
pub mod places;
pub mod queries;
pub mod steer;
pub mod walk;
pub mod world;
mod zones;

use std::net::IpAddr;

use gslb_dns::answer::{Outcome, Peer, Snapshot, Transport, Turn, answer};
use hickory_proto::rr::{Name, Record, RecordType};
use shared::snapshot::View;
use shared::topology::ServiceId;

use asked::{Asked, Question};
use places::Places;

/// One zone: its records, and the steered names that lie in it.
#[derive(Clone, Debug)]
pub struct ReferenceZone {
    /// The name of the zone.
    pub apex: Name,
    /// All records of its file.
    pub records: Vec<Record>,
    /// The steered names in it.
    pub services: Vec<(Name, ServiceId)>,
}

/// Everything that answers come from.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The zones.
    pub zones: &'a [ReferenceZone],
    /// Where clients are.
    pub places: &'a Places,
    /// Topology and health.
    pub view: &'a View,
}

/// What must be answered.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The message id.
    pub id: u16,
    /// Opcode and RD as asked, QR, AA; the response code is added.
    pub flags: u16,
    /// Octets of the question, in the case that was asked; empty: none is repeated.
    pub question: Vec<u8>,
    /// The response code, the EDNS part included.
    pub rcode: u16,
    /// The answer section, as a set.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authorities: Vec<Record>,
    /// What of the additional section must come, or else the answer is truncated.
    pub additionals: Vec<Record>,
    /// What of the additional section is left out, all of it, when it does not fit.
    pub optional: Vec<Record>,
    /// The OPT record; `None`: the query had none.
    pub opt: Option<ExpectedOpt>,
}

/// The OPT record of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExpectedOpt {
    /// The longest UDP answer that the client takes.
    pub udp_payload: u16,
    /// DO, as asked.
    pub is_dnssec_ok: bool,
    /// Data of the client subnet option.
    pub subnet: Option<Vec<u8>>,
    /// Data of the zone version option.
    pub zone_version: Option<Vec<u8>>,
    /// Data of the extended error, which is left out where it does not fit.
    pub error: Option<Vec<u8>>,
}

/// What engine and reference both answer.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The answer.
    pub expected: Expected,
    /// Whether it did not fit a datagram, so that TC was set.
    pub is_truncated: bool,
    /// Whether the answer by UDP was shorter than that by TCP.
    pub is_shortened: bool,
}

impl Reference<'_> {
    /// The answer to `packet` from `peer`; `None`: it gets none, or one that is not made by the engine.
    ///
    /// A question for ANY is answered by one of several RRsets (RFC 8482, section 4.1); `any` says which one was chosen.
    pub fn answer(&self, peer: IpAddr, packet: &[u8], any: Option<RecordType>) -> Option<Expected> {
        let asked = Asked::read(packet).filter(|asked| !asked.is_slow())?;
        let mut expected = Expected {
            id: asked.id,
            flags: 0x8000 | asked.flags & 0x7900,
            question: asked.question.as_ref().map(|question| question.octets.clone()).unwrap_or_default(),
            opt: asked.opt.as_ref().map(|opt| ExpectedOpt {
                udp_payload: opt.udp_payload,
                is_dnssec_ok: opt.is_dnssec_ok,
                subnet: opt.subnet.as_ref().map(|subnet| subnet.repeated(0)),
                zone_version: None,
                error: None,
            }),
            ..Expected::default()
        };
        match (asked.fault, &asked.question) {
            (Some(fault), _) => expected.rcode = fault,
            // RFC 9824, section 3.5.
            (None, Some(question)) if u16::from(question.rtype) == NXNAME => expected.rcode = FORMERR,
            (None, Some(question)) if question.is_refused() => expected.rcode = REFUSED,
            (None, Some(question)) => walk::walk(self, &asked, question, peer, any, &mut expected),
            (None, None) => expected.rcode = FORMERR,
        }
        if let (REFUSED, Some(opt)) = (expected.rcode, &mut expected.opt) {
            let is_transfer = asked.question.as_ref().is_some_and(Question::is_transfer);
            opt.error = Some(vec![0, if is_transfer { PROHIBITED } else { NOT_AUTHORITATIVE }]);
        }
        Some(expected)
    }
}

/// Asks the engine by UDP and by TCP and compares both answers with the reference's; gives what both agree on, `None`
/// when no answer is due, and fails with what differs.
pub fn compare(
    snapshot: &Snapshot,
    reference: &Reference<'_>,
    peer: IpAddr,
    packet: &[u8],
) -> Result<Option<Agreed>, String> {
    let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(|transport| ask(snapshot, peer, transport, packet));
    let any = tcp.as_deref().and_then(judge::first_answer_type);
    match (reference.answer(peer, packet, any), udp, tcp) {
        (None, None, None) => Ok(None),
        (Some(expected), Some(udp), Some(tcp)) => {
            judge::judge(&expected, &udp, &tcp)?;
            let (is_truncated, is_shortened) = (udp[2] & 0x02 != 0, udp.len() < tcp.len());
            Ok(Some(Agreed { expected, is_truncated, is_shortened }))
        }
        (expected, udp, tcp) => Err(format!(
            "expected {}, got {} by UDP and {} by TCP",
            said(expected.is_some()),
            said(udp.is_some()),
            said(tcp.is_some())
        )),
    }
}

fn said(is_answered: bool) -> &'static str {
    if is_answered { "an answer" } else { "none" }
}

/// What the engine answers; `None`: nothing.
pub fn ask(snapshot: &Snapshot, address: IpAddr, transport: Transport, packet: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0xAA; if transport == Transport::Udp { 1232 } else { 65_535 }];
    match answer(snapshot, &Turn::unlimited(0), &Peer { address, transport }, packet, &mut out) {
        Outcome::Sent { len, .. } => {
            out.truncate(len);
            Some(out)
        }
        Outcome::Dropped(_) | Outcome::Slow => None,
    }
}

/// `octets` in hexadecimal digits.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A type that is only ever in bitmaps.
const NXNAME: u16 = 128;
const FORMERR: u16 = 1;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const YXDOMAIN: u16 = 6;
const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;
/// Extended errors (RFC 8914).
const PROHIBITED: u8 = 18;
const NOT_AUTHORITATIVE: u8 = 20;
