//! Dates of lines, put together once a second.

use std::cell::{Ref, RefCell};

use jiff::Timestamp;

use super::octets;

/// The dates of one thread.
#[derive(Debug, Default)]
pub(super) struct Dates(RefCell<Second>);

#[derive(Debug, Default)]
struct Second {
    unix_secs: Option<u64>,
    iso: String,
    haproxy: String,
}

/// One moment, in UTC.
#[derive(Debug)]
pub(super) struct Date<'d> {
    second: Ref<'d, Second>,
    ms: u64,
}

impl Dates {
    /// The moment so many milliseconds after 1970 began.
    pub(super) fn at(&self, unix_ms: u64) -> Date<'_> {
        let (unix_secs, ms) = (unix_ms / 1000, unix_ms % 1000);
        if self.0.borrow().unix_secs != Some(unix_secs) {
            *self.0.borrow_mut() = Second::new(unix_secs);
        }
        Date { second: self.0.borrow(), ms }
    }
}

impl Second {
    fn new(unix_secs: u64) -> Self {
        let at = i64::try_from(unix_secs).ok().and_then(|secs| Timestamp::from_second(secs).ok()).unwrap_or_default();
        let shown = |format: &str| at.strftime(format).to_string();
        Self { unix_secs: Some(unix_secs), iso: shown("%Y-%m-%dT%H:%M:%S"), haproxy: shown("%d/%b/%Y:%H:%M:%S") }
    }
}

impl Date<'_> {
    /// As RFC 3339 has it.
    pub(super) fn write_iso(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.second.iso.as_bytes());
        self.write_ms(out);
        out.push(b'Z');
    }

    /// As HAProxy's `%tr` has it.
    pub(super) fn write_haproxy(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.second.haproxy.as_bytes());
        self.write_ms(out);
    }

    fn write_ms(&self, out: &mut Vec<u8>) {
        out.push(b'.');
        if self.ms < 100 {
            out.push(b'0');
        }
        if self.ms < 10 {
            out.push(b'0');
        }
        octets::number(out, self.ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_both_ways() {
        let dates = Dates::default();
        let (mut iso, mut haproxy) = (Vec::new(), Vec::new());
        dates.at(1_066_206_717_007).write_iso(&mut iso);
        dates.at(1_066_206_717_130).write_haproxy(&mut haproxy);
        assert_eq!(iso, b"2003-10-15T08:31:57.007Z");
        assert_eq!(haproxy, b"15/Oct/2003:08:31:57.130");
    }
}
