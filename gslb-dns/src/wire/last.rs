//! The record that ends a message.

use super::query::Reader;
use super::{HEADER_LEN, Name, Rcode, Rtype};

/// The last record of a message, where it is a TSIG record (RFC 8945, section 4.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastTsig<'a> {
    /// Where it starts: the message without it ends there.
    pub start: usize,
    /// Its owner, in lower case: the name of the key.
    pub owner: Name,
    /// Its data.
    pub rdata: &'a [u8],
}

impl<'a> LastTsig<'a> {
    /// Finds it at the end of `message`; `None` where there is none.
    ///
    /// Fails with FORMERR when the message is not made of the records that its header counts, or when a TSIG record stands
    /// anywhere else, or has another class than ANY or a TTL (RFC 8945, sections 4.2 and 5.1).
    pub fn find(message: &'a [u8]) -> Result<Option<Self>, Rcode> {
        Self::read(message).ok_or(Rcode::FORMERR)
    }

    fn read(message: &'a [u8]) -> Option<Option<Self>> {
        let header = message.first_chunk::<HEADER_LEN>()?;
        let count = |at: usize| u32::from(u16::from_be_bytes([header[at], header[at + 1]]));
        let mut reader = Reader { packet: message, at: HEADER_LEN };
        for _ in 0..count(4) {
            reader.skip_name()?;
            reader.take(4)?;
        }
        let additionals = count(10);
        let mut found = None;
        for left in (0..count(6) + count(8) + additionals).rev() {
            let start = reader.at;
            let record = reader.record()?;
            if record.rtype != Rtype::TSIG {
                continue;
            }
            if left > 0 || additionals == 0 || record.class != CLASS_ANY || record.ttl != [0; 4] {
                return None;
            }
            let owner = Name::read(message, start)?.folded();
            found = Some(Self { start, owner, rdata: record.rdata });
        }
        (reader.at == message.len()).then_some(found)
    }
}

const CLASS_ANY: u16 = 255;
