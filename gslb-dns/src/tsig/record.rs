//! The TSIG record as octets, and what of it is signed (RFC 8945, sections 4.2 and 4.3).

use crate::wire::{Name, Rtype};

/// The data of a TSIG record.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    /// In lower case.
    pub(super) algorithm: Name,
    /// Seconds since 1970; 48 bits.
    pub(super) time_signed: u64,
    pub(super) fudge: u16,
    pub(super) mac: &'a [u8],
    pub(super) original_id: u16,
    pub(super) error: u16,
    pub(super) other: &'a [u8],
}

/// What is signed beside the message.
pub(super) struct Variables<'a> {
    key: &'a Name,
    fields: &'a Fields<'a>,
}

impl<'a> Fields<'a> {
    /// `None` where a part is missing, or something stands behind the last.
    pub(super) fn parse(rdata: &'a [u8]) -> Option<Self> {
        let (algorithm, rest) = Name::split_from(rdata)?;
        let (&[a, b, c, d, e, f, f0, f1, m0, m1], rest) = rest.split_first_chunk()?;
        let (mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([m0, m1])))?;
        let (&[i0, i1, e0, e1, o0, o1], other) = rest.split_first_chunk()?;
        if other.len() != usize::from(u16::from_be_bytes([o0, o1])) {
            return None;
        }
        Some(Self {
            algorithm: Name::from_wire(algorithm).folded(),
            time_signed: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
            fudge: u16::from_be_bytes([f0, f1]),
            mac,
            original_id: u16::from_be_bytes([i0, i1]),
            error: u16::from_be_bytes([e0, e1]),
            other,
        })
    }

    /// Adds the record to `message`, and counts it there.
    pub(super) fn append_to(&self, message: &mut Vec<u8>, key: &Name) {
        let Self { algorithm, mac, original_id, error, other, .. } = self;
        message.extend_from_slice(key.as_wire());
        message.extend_from_slice(&Rtype::TSIG.0.to_be_bytes());
        message.extend_from_slice(&CLASS_AND_TTL);
        let rdata_len = algorithm.as_wire().len() + 16 + mac.len() + other.len();
        message.extend_from_slice(&(rdata_len as u16).to_be_bytes());
        message.extend_from_slice(algorithm.as_wire());
        message.extend_from_slice(&self.timers());
        message.extend_from_slice(&(mac.len() as u16).to_be_bytes());
        message.extend_from_slice(mac);
        for number in [*original_id, *error, other.len() as u16] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(other);
        if let Some([.., high, low]) = message.first_chunk_mut::<12>() {
            [*high, *low] = (u16::from_be_bytes([*high, *low]).wrapping_add(1)).to_be_bytes();
        }
    }

    fn timers(&self) -> [u8; 8] {
        let [_, _, a, b, c, d, e, f] = self.time_signed.to_be_bytes();
        let [f0, f1] = self.fudge.to_be_bytes();
        [a, b, c, d, e, f, f0, f1]
    }
}

impl<'a> Variables<'a> {
    pub(super) fn of(key: &'a Name, fields: &'a Fields<'a>) -> Self {
        Self { key, fields }
    }

    /// Gives their octets one after the other (RFC 8945, section 4.3.3).
    pub(super) fn write(&self, mut add: impl FnMut(&[u8])) {
        let Self { key, fields } = self;
        add(key.as_wire());
        add(&CLASS_AND_TTL);
        add(fields.algorithm.as_wire());
        add(&fields.timers());
        add(&fields.error.to_be_bytes());
        add(&(fields.other.len() as u16).to_be_bytes());
        add(fields.other);
    }

    /// The same for the second and later messages of an answer (RFC 8945, section 5.3.1).
    pub(super) fn write_timers(&self, mut add: impl FnMut(&[u8])) {
        add(&self.fields.timers());
    }
}

/// Octets of the record beside its names and the MAC.
pub(super) const FIXED_LEN: usize = 10 + 16;
/// ANY, and no TTL.
const CLASS_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];
