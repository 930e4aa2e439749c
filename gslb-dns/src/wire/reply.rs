//! Replies, written into a given buffer.

use super::{HEADER_LEN, Query, Rcode, ReplyCookie, UDP_PAYLOAD_MAX};

/// A reply in the making: the question is there, room for the OPT record is kept, the records come.
///
/// What no longer fits makes the whole reply a truncated one: no part of an RRset is ever sent (RFC 2181, section 9).
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut [u8],
    query: &'a Query,
    cookie: Option<&'a ReplyCookie>,
    len: usize,
    /// Where records must end.
    end: usize,
    is_overfull: bool,
}

impl<'a> Reply<'a> {
    /// Starts the reply to `query`, which was read from `packet`, with at most `limit` octets in all; `cookie` goes into
    /// its OPT record.
    ///
    /// `None` when `out` cannot even hold question and OPT.
    pub fn new(
        query: &'a Query,
        packet: &[u8],
        out: &'a mut [u8],
        limit: usize,
        cookie: Option<&'a ReplyCookie>,
    ) -> Option<Self> {
        let len = HEADER_LEN + query.question_len;
        let end = out.len().min(limit).checked_sub(opt_len(query, cookie)).filter(|&end| end >= len)?;
        out[HEADER_LEN..len].copy_from_slice(packet.get(HEADER_LEN..len)?);
        Some(Self { out, query, cookie, len, end, is_overfull: false })
    }

    /// Whether `len` more octets fit.
    pub fn has_room(&self, len: usize) -> bool {
        !self.is_overfull && len <= self.end - self.len
    }

    /// Octets of data in the OPT record of the reply to `query`; `has_cookie` says whether there is a cookie in it.
    #[inline]
    pub fn options_len(query: &Query, has_cookie: bool) -> usize {
        let ecs = query.edns.as_ref().and_then(|edns| edns.ecs.as_ref());
        ecs.map_or(0, |ecs| ecs.encoded_len()) + if has_cookie { ReplyCookie::ENCODED_LEN } else { 0 }
    }

    /// Adds `options` to the OPT record that ends the message of `len` octets at the start of `out`, where `limit` allows,
    /// and that has `data_len` octets of data; gives the length of the message then.
    #[cold]
    pub fn append_options(out: &mut [u8], len: usize, limit: usize, data_len: usize, options: &[u8]) -> usize {
        let end = len + options.len();
        let (Some(room), true) = (out.get_mut(len..end), end <= limit) else { return len };
        room.copy_from_slice(options);
        let data_len_at = len - data_len - 2;
        let data_len = (data_len + options.len()) as u16;
        out[data_len_at..data_len_at + 2].copy_from_slice(&data_len.to_be_bytes());
        end
    }

    /// Where the next octet comes, counted from the start of the message.
    pub fn position(&self) -> usize {
        self.len
    }

    /// Adds `octets` and gives them back for patching; empty when they do not fit, and then the reply is truncated.
    pub fn push(&mut self, octets: &[u8]) -> &mut [u8] {
        if !self.has_room(octets.len()) {
            self.is_overfull = true;
            return &mut [];
        }
        let start = self.len;
        self.len += octets.len();
        let room = &mut self.out[start..self.len];
        room.copy_from_slice(octets);
        room
    }

    /// Takes all records out again: the reply is a truncated one, however much room there was.
    pub fn truncate(&mut self) {
        self.is_overfull = true;
    }

    /// Takes all records out again, and says nothing about it.
    pub fn clear(&mut self) {
        self.len = HEADER_LEN + self.query.question_len;
        self.is_overfull = false;
    }

    /// Completes the reply: OPT where the query had it, header. `counts` are the records pushed in answer, authority
    /// and additional section, without OPT. Gives the length, and whether it was truncated.
    pub fn finish(mut self, rcode: Rcode, is_authoritative: bool, counts: [u16; 3], scope_len: u8) -> (usize, bool) {
        let mut counts = counts;
        if self.is_overfull {
            self.len = HEADER_LEN + self.query.question_len;
            counts = [0; 3];
        }
        if self.query.edns.is_some() {
            self.write_opt(rcode, scope_len);
            counts[2] += 1;
        }
        let asked = self.query.flags & (MASK_OPCODE | FLAG_RD);
        let authority = if is_authoritative { FLAG_AA } else { 0 };
        let truncation = if self.is_overfull { FLAG_TC } else { 0 };
        let flags = FLAG_QR | asked | authority | truncation | rcode.as_u16() & 0x0F;
        let questions = u16::from(self.query.question_len > 0);
        for (at, word) in [self.query.id, flags, questions, counts[0], counts[1], counts[2]].into_iter().enumerate() {
            self.out[2 * at..2 * at + 2].copy_from_slice(&word.to_be_bytes());
        }
        (self.len, self.is_overfull)
    }

    fn write_opt(&mut self, rcode: Rcode, scope_len: u8) {
        let Some(edns) = &self.query.edns else { return };
        let opt = &mut self.out[self.len..self.len + opt_len(self.query, self.cookie)];
        self.len += opt.len();
        let [payload_high, payload_low] = UDP_PAYLOAD_MAX.to_be_bytes();
        let dnssec_ok = if edns.is_dnssec_ok { 0x80 } else { 0 };
        let rdata_len = (opt.len() - OPT_LEN) as u8;
        let extended_rcode = (rcode.as_u16() >> 4) as u8;
        let head = [0, 0, 41, payload_high, payload_low, extended_rcode, 0, dnssec_ok, 0, 0, rdata_len];
        opt[..OPT_LEN].copy_from_slice(&head);
        let mut options = &mut opt[OPT_LEN..];
        if let Some(ecs) = &edns.ecs {
            ecs.write(scope_len, options);
            options = &mut options[ecs.encoded_len()..];
        }
        if let Some(cookie) = self.cookie {
            cookie.write(options);
        }
    }
}

fn opt_len(query: &Query, cookie: Option<&ReplyCookie>) -> usize {
    if query.edns.is_some() { OPT_LEN + Reply::options_len(query, cookie.is_some()) } else { 0 }
}

/// Octets of an OPT record without options.
const OPT_LEN: usize = 11;
const FLAG_QR: u16 = 0x8000;
const MASK_OPCODE: u16 = 0x7800;
const FLAG_AA: u16 = 0x0400;
const FLAG_TC: u16 = 0x0200;
const FLAG_RD: u16 = 0x0100;
