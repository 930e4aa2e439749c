//! Messages filled with records, whose names are compressed (RFC 1035, section 4.1.4).

use std::collections::BTreeMap;

use crate::wire::{HEADER_LEN, parent};
use crate::zone::ContentRecord;

/// A message in the making: header and question are there, the records of its answer section come.
pub(super) struct Writer {
    octets: Vec<u8>,
    records: u16,
    /// Where records must end.
    end: usize,
    /// Where names stand, in the case they were written.
    names: BTreeMap<Box<[u8]>, u16>,
}

impl Writer {
    /// Starts with `header`, whose counts are set at the end, and `question`, which may be empty; `end` is where records
    /// must end.
    pub(super) fn new(id: u16, flags: u16, question: &[u8], end: usize) -> Self {
        let mut writer = Self { octets: Vec::with_capacity(end), records: 0, end, names: BTreeMap::new() };
        for word in [id, flags, u16::from(!question.is_empty()), 0, 0, 0] {
            writer.octets.extend_from_slice(&word.to_be_bytes());
        }
        // The name of the question is the first one that others point to.
        let (name, rest) = question.split_at(question.len().saturating_sub(4));
        writer.put_name(name);
        writer.octets.extend_from_slice(rest);
        writer
    }

    /// Whether no record is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds `record`; `false`, and nothing added, where there is no room. One that is too long for any message of this
    /// size is let in alone.
    pub(super) fn push(&mut self, record: &ContentRecord<'_>) -> bool {
        let end = if self.is_empty() { LEN_MAX } else { self.end };
        // No longer with its names compressed than without.
        if self.octets.len() + record.octets().len() > end || self.records == u16::MAX {
            return false;
        }
        self.put_name(record.owner());
        self.octets.extend_from_slice(record.type_class_ttl());
        let length_at = self.octets.len();
        self.octets.extend_from_slice(&[0; 2]);
        let (head, names, rest) = record.rdata();
        self.octets.extend_from_slice(head);
        names.into_iter().for_each(|name| self.put_name(name));
        self.octets.extend_from_slice(rest);
        let len = (self.octets.len() - length_at - 2) as u16;
        self.octets[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
        self.records += 1;
        true
    }

    /// The message, with `additional` behind its records, which is one record or empty.
    pub(super) fn finish(mut self, additional: &[u8]) -> Vec<u8> {
        self.octets[6..8].copy_from_slice(&self.records.to_be_bytes());
        self.octets[HEADER_LEN - 1] = u8::from(!additional.is_empty());
        self.octets.extend_from_slice(additional);
        self.octets
    }

    fn put_name(&mut self, name: &[u8]) {
        let mut rest = Some(name).filter(|name| !name.is_empty());
        while let Some(suffix) = rest {
            if let Some(at) = self.names.get(suffix) {
                self.octets.extend_from_slice(&(POINTER | at).to_be_bytes());
                return;
            }
            let Some(after) = parent(suffix) else {
                self.octets.push(0);
                return;
            };
            if let Ok(at) = u16::try_from(self.octets.len())
                && at < POINTER_END
            {
                self.names.insert(suffix.into(), at);
            }
            self.octets.extend_from_slice(&suffix[..suffix.len() - after.len()]);
            rest = Some(after);
        }
    }
}

const POINTER: u16 = 0xC000;
/// What a pointer can reach.
const POINTER_END: u16 = 0x4000;
/// The longest message (65535), without room for OPT and TSIG.
const LEN_MAX: usize = 64_500;
