//! Zone transfers to who may have them.

use hickory_proto::op::Message;
use hickory_proto::rr::RData;

use super::{Answers, Asked, Channel};
use crate::transfer::{Asked as Wanted, Opt, Transfer};
use crate::wire::{Rcode, Rtype};

use super::message::{ExtendedError, is_padding_due, question, zone_of};
use crate::serve::refusals::{Reason, Refused};

impl Asked<'_> {
    /// Answers AXFR and IXFR.
    ///
    /// ```text
    /// not one of our zones              NOTAUTH (RFC 5936, section 2.2.1)
    /// nobody who may have it            REFUSED (RFC 5936, section 5)
    /// AXFR over UDP, QUIC               REFUSED: it goes over TCP (RFC 5936, section 4.2) and TLS (RFC 9103) alone
    /// either over TLS 1.2               REFUSED: version 1.3 is a must (RFC 9103, section 7.2)
    /// either over HTTPS                 REFUSED: nobody says how
    /// IXFR without an SOA record        FORMERR (RFC 1995, section 3)
    /// ```
    pub(super) fn answer_transfer(self, now: u64) -> (Answers, Rcode) {
        let zone = self.live.world.transfer_zone(self.query.qname());
        let key = self.session.as_ref().map(|session| session.key().name());
        let is_ours = || self.live.world.zones.zones().any(|(apex, _)| apex.as_wire() == self.query.qname());
        let wanted = match self.query.qtype {
            Rtype::IXFR => serial_of(self.message).map(Wanted::Since),
            _ => Some(Wanted::Whole),
        };
        let is_one_message = self.channel == Channel::OneMessage;
        let (zone, wanted) = match (zone, wanted) {
            (None, _) if !is_ours() => return self.refused(Rcode::NOTAUTH, now),
            (Some(zone), wanted) if zone.admits(self.peer.address, key) => match wanted {
                _ if self.channel == Channel::OldTls => return self.refused_for(Rcode::REFUSED, Some(NEWER_TLS), now),
                _ if self.channel == Channel::Web => return self.refused_for(Rcode::REFUSED, Some(NOT_BY_WEB), now),
                None => return self.refused(Rcode::FORMERR, now),
                Some(Wanted::Whole) if is_one_message => return self.refused(Rcode::REFUSED, now),
                Some(wanted) => (zone, wanted),
            },
            _ => {
                let why = "is no secondary of the zone: see `secondaries`";
                let (reason, client, zone) = (Reason::Transfer, self.peer.address, zone_of(self.message));
                self.refusals.note(&Refused { reason, client, zone, key, why: &why });
                return self.refused(Rcode::REFUSED, now);
            }
        };
        let (id, question) = (self.query.id, question(self.message).unwrap_or_default());
        let limit = self.limit();
        let opt = match self.query.edns {
            None => Opt::Absent,
            Some(_) if is_padding_due(self.message, self.peer) => Opt::Padded,
            Some(_) => Opt::Plain,
        };
        let transfer = Transfer::new(&zone.zone, wanted, id, question, opt, self.session);
        if is_one_message {
            let datagram = transfer.into_datagram(limit, now);
            return (datagram.map_or_else(Answers::none, Answers::one), Rcode::NOERROR);
        }
        (Answers::many(transfer), Rcode::NOERROR)
    }
}

/// The serial that who asks for IXFR has: that of the SOA record in the authority section.
fn serial_of(message: &[u8]) -> Option<u32> {
    let message = Message::from_vec(message).ok()?;
    match &message.authorities.first()?.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

/// RFC 8914, section 4.22.
const NOT_SUPPORTED: u16 = 21;
const NEWER_TLS: ExtendedError = ExtendedError { code: NOT_SUPPORTED, text: "transfers take TLS 1.3 (RFC 9103)" };
const NOT_BY_WEB: ExtendedError = ExtendedError { code: NOT_SUPPORTED, text: "transfers go over TCP and TLS" };
