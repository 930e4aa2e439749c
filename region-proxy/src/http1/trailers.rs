//! Fields after a chunked body (RFC 9112, section 7.1.2).

use super::fields::{Known, is_field_content, is_tchar};
use super::refusal::Reason;

/// The trailers of a body while they come in, kept as they may be passed on.
#[derive(Clone, Debug)]
pub(super) struct Trailers {
    state: State,
    /// Whole lines of fields that may be passed on, and the line that is coming in.
    kept: Vec<u8>,
    /// Where that line begins.
    line: usize,
    /// Where its name ends.
    name_end: usize,
    /// Octets that may still come.
    left: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    LineStart,
    Name,
    /// White space after the colon.
    BeforeValue,
    Value,
    /// After the CR of a line.
    LineEnd,
    /// After the CR of the empty line.
    End,
    Whole,
}

impl Trailers {
    /// None yet, and at most `limit` octets.
    pub(super) fn new(limit: usize) -> Self {
        Self { state: State::LineStart, kept: Vec::new(), line: 0, name_end: 0, left: limit }
    }

    pub(super) fn are_whole(&self) -> bool {
        self.state == State::Whole
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.kept[..self.line]
    }

    /// Reads on, up to the empty line; gives how many octets that were.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        for (at, &octet) in bytes.iter().enumerate() {
            self.state = self.next(octet)?;
            if self.state == State::Whole {
                return Ok(at + 1);
            }
        }
        Ok(bytes.len())
    }

    fn next(&mut self, octet: u8) -> Result<State, Reason> {
        if !matches!((self.state, octet), (State::LineStart, b'\r') | (State::End, _)) {
            self.left = self.left.checked_sub(1).ok_or(Reason::TrailersTooLong)?;
        }
        match (self.state, octet) {
            (State::LineStart, b'\r') => Ok(State::End),
            (State::LineStart, b' ' | b'\t') => Err(Reason::Folding),
            (State::LineStart | State::Name, _) if is_tchar(octet) => {
                self.kept.push(octet);
                Ok(State::Name)
            }
            (State::Name, b':') => {
                self.name_end = self.kept.len();
                self.kept.extend_from_slice(b": ");
                Ok(State::BeforeValue)
            }
            (State::Name, b' ' | b'\t') => Err(Reason::SpaceInName),
            (State::BeforeValue, b' ' | b'\t') => Ok(State::BeforeValue),
            (State::BeforeValue | State::Value, b'\r') => Ok(State::LineEnd),
            (State::BeforeValue | State::Value, _) if is_field_content(octet) => {
                self.kept.push(octet);
                Ok(State::Value)
            }
            (State::LineEnd, b'\n') => {
                self.end_line();
                Ok(State::LineStart)
            }
            (State::End, b'\n') => Ok(State::Whole),
            (State::LineEnd | State::End, _) | (_, b'\n') => Err(Reason::LineEnd),
            (State::BeforeValue | State::Value, _) => Err(Reason::FieldValue),
            (State::LineStart | State::Name | State::Whole, _) => Err(Reason::FieldName),
        }
    }

    fn end_line(&mut self) {
        let name = str::from_utf8(&self.kept[self.line..self.name_end]).unwrap_or_default();
        if is_forbidden(name) {
            self.kept.truncate(self.line);
        } else {
            let value_len = self.kept[self.name_end + 2..].trim_ascii_end().len();
            self.kept.truncate(self.name_end + 2 + value_len);
            self.kept.extend_from_slice(b"\r\n");
            self.line = self.kept.len();
        }
    }
}

/// Whether a field frames, routes, authorises or modifies a message, says what its content is, or tells who sent it: a
/// reader that put it among the others would be misled. Underscores are no disguise.
fn is_forbidden(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    Known::of(&name).is_some()
        || FORBIDDEN.contains(&name.as_str())
        || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

const FORBIDDEN_PREFIXES: [&str; 4] = ["access-control-", "if-", "proxy-", "x-forwarded-"];

const FORBIDDEN: [&str; 27] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expires",
    "forwarded",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "trailer",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-real-ip",
];
