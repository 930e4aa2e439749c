//! All records of a message, off the line of queries.

use super::query::Reader;
use super::{HEADER_LEN, Name, Rtype};

/// The question of a message and the records of its first two sections; those of the third are passed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sections {
    /// Name, type and class of each question: of an update, its zone.
    pub questions: Vec<(Name, Rtype, u16)>,
    /// The first section after the question: of an update, its prerequisites.
    pub answers: Vec<PlacedRecord>,
    /// The second: of an update, the changes.
    pub authorities: Vec<PlacedRecord>,
}

/// A record of a message, and where its data stands there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlacedRecord {
    /// The owner, in the case of the message.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its class.
    pub class: u16,
    /// Its TTL.
    pub ttl: u32,
    /// Where its data starts.
    pub rdata_at: usize,
    /// Octets of its data, as it stands there.
    pub rdata_len: usize,
}

impl Sections {
    /// Takes `message` apart. `None` when it is not made of the records that its header counts.
    pub fn read(message: &[u8]) -> Option<Self> {
        let header = message.first_chunk::<HEADER_LEN>()?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let mut reader = Reader { packet: message, at: HEADER_LEN };
        let mut sections = Self { questions: Vec::new(), answers: Vec::new(), authorities: Vec::new() };
        for _ in 0..count(4) {
            let name = Name::read(message, reader.at)?;
            reader.skip_name()?;
            let &[t0, t1, c0, c1] = reader.take(4)?.first_chunk()?;
            sections.questions.push((name, Rtype(u16::from_be_bytes([t0, t1])), u16::from_be_bytes([c0, c1])));
        }
        for _ in 0..count(6) {
            sections.answers.push(PlacedRecord::read(&mut reader)?);
        }
        for _ in 0..count(8) {
            sections.authorities.push(PlacedRecord::read(&mut reader)?);
        }
        for _ in 0..count(10) {
            reader.record()?;
        }
        (reader.at == message.len()).then_some(sections)
    }
}

impl PlacedRecord {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let owner = Name::read(reader.packet, reader.at)?;
        let record = reader.record()?;
        let (rtype, class, ttl) = (record.rtype, record.class, u32::from_be_bytes(record.ttl));
        let rdata_len = record.rdata.len();
        Some(Self { owner, rtype, class, ttl, rdata_at: reader.at - rdata_len, rdata_len })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_octets_are_safe(octets in prop::collection::vec(any::<u8>(), 0..100), counts in prop::array::uniform4(0_u8..3)) {
            let [a, b, c, d] = counts;
            let _ = Sections::read(&octets);
            let _ = Sections::read(&[&[0, 0, 0, 0, 0, a, 0, b, 0, c, 0, d], &octets[..]].concat());
        }
    }
}
