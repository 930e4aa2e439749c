//! The records of a whole message, one after the other: for what is done with few messages only.

use super::query::{Reader, Record};
use super::{HEADER_LEN, Rtype};

/// Where a record stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// The records of `message` with their sections and where they start. Ends before one that is broken.
pub(super) fn records(message: &[u8]) -> impl Iterator<Item = (Section, usize, Record<'_>)> {
    let count = |at: usize| match message.get(at..HEADER_LEN) {
        Some([high, low, ..]) => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(count);
    let mut reader = Reader { packet: message, at: HEADER_LEN };
    let questions_are_whole = (0..questions).all(|_| reader.skip_name().and_then(|()| reader.take(4)).is_some());
    let all = if questions_are_whole { answers + authorities + additionals } else { 0 };
    (0..all).map_while(move |at| {
        let section = match at {
            _ if at < answers => Section::Answer,
            _ if at < answers + authorities => Section::Authority,
            _ => Section::Additional,
        };
        let start = reader.at;
        Some((section, start, reader.record()?))
    })
}

/// Whether the OPT record of `message` has an option `code`.
pub fn has_option(message: &[u8], code: u16) -> bool {
    let opt = records(message).find(|(_, _, record)| record.rtype == Rtype::OPT);
    opt.is_some_and(|(_, _, opt)| options(opt.rdata).any(|option| option == code))
}

/// The codes of `options`.
fn options(mut options: &[u8]) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let &[c0, c1, l0, l1, ref rest @ ..] = options else { return None };
        options = rest.get(usize::from(u16::from_be_bytes([l0, l1]))..)?;
        Some(u16::from_be_bytes([c0, c1]))
    })
}
