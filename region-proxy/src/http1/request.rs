//! Heads of requests.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::fields::{Options, Scan, Single, Told, is_tchar};
use super::refusal::{Reason, Refusal};
use super::target::{Authority, Target};
use super::{Framing, HeadLimits, Persistence, Version};

/// The head of a request; all of it is slices of the buffer that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    /// The method, whose case matters.
    pub method: &'b str,
    /// What it asks for.
    pub target: Target<'b>,
    /// The version that the client speaks.
    pub version: Version,
    /// The authority in force: that of the target, or else Host; `None` when neither names one.
    pub host: Option<Authority<'b>>,
    /// All fields, in their order, with white space around the values taken off.
    pub fields: &'b [Header<'b>],
    /// Where the body ends; never [`Framing::UntilClose`].
    pub body: Framing,
    /// Whether the client keeps the connection.
    pub persistence: Persistence,
    /// Whether the client waits for status 100 before it sends the body.
    pub expects_continue: bool,
    /// The protocols that the client would rather speak.
    pub upgrade: Option<&'b [u8]>,
    /// What Connection says.
    pub options: Options,
    /// Octets of the head with its empty line, and with one before it if there is one.
    pub len: usize,
}

/// The first octets of an HTTP/2 connection (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads the head of a request at the front of `bytes`; `None` while it is not whole.
///
/// Of `slots` there must be as many as there may be fields; it is left in any state. More octets behind what was read never
/// change the outcome. CONNECT is read, with [`Target::Authority`], and it is for the caller to refuse it.
///
/// # Errors
/// Whatever is not by RFC 9112 or could be read in two ways: most faults as soon as they are seen, the others when the
/// head is whole.
pub fn read_request<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut [MaybeUninit<Header<'b>>],
    limits: HeadLimits,
) -> Result<Option<Request<'h>>, Refusal> {
    Ok(read(bytes, slots, limits)?)
}

fn read<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut [MaybeUninit<Header<'b>>],
    limits: HeadLimits,
) -> Result<Option<Request<'h>>, Reason> {
    let bytes = &bytes[..bytes.len().min(limits.head)];
    let skipped = if bytes.first().is_some_and(|octet| *octet > b' ') { 0 } else { empty_line(bytes)? };
    let text = &bytes[skipped..];
    let mut head = httparse::Request::new(&mut []);
    let outcome = head.parse_with_uninit_headers(text, slots);
    if head.path.is_some_and(|path| path.len() > limits.target) {
        return Err(Reason::TargetTooLong);
    }
    let (Ok(Status::Complete(len)), Some(method), Some(path), Some(version)) =
        (outcome, head.method, head.path, head.version)
    else {
        let line = Line { text, method_len: head.method.map(str::len), has_target: head.path.is_some() };
        return why_not_whole(outcome.err(), line, bytes.len(), limits).map_or(Ok(None), Err);
    };
    let fields: &'h [Header<'b>] = head.headers;
    if !has_whole_line_ends(&text[..len], fields.len()) {
        return Err(Reason::LineEnd);
    }
    let version = if version == 0 { Version::V10 } else { Version::V11 };
    let target = Target::parse(method, path)?;
    let scan = Scan::of(fields);
    let host = host(version, target, scan.host)?;
    let body = match scan.framing(version, fields)? {
        Told::Nothing => Framing::Empty,
        Told::Length(length) => Framing::Length(length),
        Told::Chunked => Framing::Chunked,
    };
    Ok(Some(Request {
        method,
        target,
        version,
        host,
        fields,
        body,
        persistence: scan.options.persistence(version),
        expects_continue: scan.expects_continue && version == Version::V11 && body != Framing::Empty,
        upgrade: scan.upgrade(version),
        options: scan.options,
        len: skipped + len,
    }))
}

/// What is known of a request that came in HTTP/2, apart from its fields.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'b> {
    /// The method.
    pub method: &'b str,
    /// The target as HTTP/1.1 would have it: mostly the path.
    pub path: &'b str,
    /// The authority, where Host alone does not name it.
    pub authority: Option<&'b str>,
    /// The protocol that is asked for.
    pub upgrade: Option<&'b [u8]>,
    /// Whether something follows the head.
    pub has_body: bool,
    /// About as many octets as its head would have in HTTP/1.1.
    pub len: usize,
}

/// The request of `parts` and `fields`, of which none belongs to a connection.
///
/// # Errors
/// What [`read_request`] refuses in methods, targets, Host and Content-Length.
pub fn compose_request<'h, 'b: 'h>(parts: Parts<'b>, fields: &'h [Header<'b>]) -> Result<Request<'h>, Refusal> {
    let Parts { method, path, authority, upgrade, has_body, len } = parts;
    if method.is_empty() || !method.bytes().all(is_tchar) {
        return Err(Reason::Method.into());
    }
    let target = Target::parse(method, path)?;
    let scan = Scan::of(fields);
    let host = match (authority, scan.host) {
        (None, host) => self::host(Version::V11, target, host)?,
        (Some(text), host) => {
            let own = Authority::parse(text).ok_or(Reason::HostInvalid)?;
            let agrees = |value: &[u8]| value.eq_ignore_ascii_case(text.as_bytes());
            match host {
                Single::Several => return Err(Reason::HostRepeated.into()),
                Single::One(value) if !agrees(value) => return Err(Reason::HostMismatch.into()),
                _ => Some(own),
            }
        }
    };
    let body = match scan.framing(Version::V11, fields)? {
        Told::Length(length) => Framing::Length(length),
        _ if has_body => Framing::Chunked,
        _ => Framing::Empty,
    };
    Ok(Request {
        method,
        target,
        version: Version::V11,
        host,
        fields,
        body,
        persistence: Persistence::KeepAlive,
        expects_continue: scan.expects_continue && has_body,
        upgrade,
        options: Options { upgrade: upgrade.is_some(), ..Options::default() },
        len,
    })
}

/// Whether [`read_request`] or [`read_response`](super::read_response) may find a whole head in `bytes`, of which the
/// first `seen` have been read in vain.
///
/// For heads that come in many small pieces: reading each time from the front would take time by the square.
pub fn is_worth_reading(bytes: &[u8], seen: usize, limits: HeadLimits) -> bool {
    let is_end = |at: usize| matches!(bytes[..at], [.., b'\n'] | [.., b'\n', b'\r']);
    bytes.len() >= limits.head
        || memchr::memchr_iter(b'\n', bytes.get(seen..).unwrap_or_default()).any(|at| is_end(seen + at))
}

/// Whether all lines of a whole head with so many fields end in CRLF.
///
/// `httparse` lets CR stand nowhere but before LF, and LF nowhere but at the ends of lines: of the start, of each field,
/// and the empty one.
pub(super) fn has_whole_line_ends(head: &[u8], fields: usize) -> bool {
    memchr::memchr_iter(b'\r', head).count() == fields + 2
}

/// Octets of the empty line before a request, of which one is tolerated (RFC 9112, section 2.2).
#[cold]
fn empty_line(bytes: &[u8]) -> Result<usize, Reason> {
    match bytes {
        [] | [b'\r'] => Ok(0),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Reason::EmptyLines),
        [b'\r', b'\n', ..] => Ok(2),
        [b'\r' | b'\n', ..] => Err(Reason::LineEnd),
        _ => Err(Reason::Method),
    }
}

/// The authority in force: that of the target, with which Host must agree.
///
/// RFC 9112, section 3.2.2, has a proxy ignore Host beside a URI; two that differ are refused here, as another reader may
/// have believed the other one.
fn host<'b>(version: Version, target: Target<'b>, host: Single<'b>) -> Result<Option<Authority<'b>>, Reason> {
    let value = match host {
        Single::Several => return Err(Reason::HostRepeated),
        Single::None if version == Version::V11 => return Err(Reason::HostMissing),
        Single::None => return Ok(target.authority()),
        Single::One(value) => str::from_utf8(value).map_err(|_| Reason::HostInvalid)?,
    };
    let host = match value {
        "" => None,
        value => Some(Authority::parse(value).ok_or(Reason::HostInvalid)?),
    };
    if target.agrees_with(value) { Ok(target.authority().or(host)) } else { Err(Reason::HostMismatch) }
}

/// What of a request line was understood.
struct Line<'b> {
    text: &'b [u8],
    method_len: Option<usize>,
    has_target: bool,
}

/// Why there is no head; `None`: it only lacks octets, of which there are `bytes` with the empty line before it.
#[cold]
fn why_not_whole(error: Option<httparse::Error>, line: Line<'_>, bytes: usize, limits: HeadLimits) -> Option<Reason> {
    let rest = line.method_len.map_or(&[][..], |len| &line.text[len + 1..]);
    if !line.has_target && rest.iter().take_while(|octet| is_in_target(**octet)).count() > limits.target {
        return Some(Reason::TargetTooLong);
    }
    let is_at_limit = bytes >= limits.head;
    let reason = match error {
        None => None,
        Some(httparse::Error::Token) if line.method_len.is_none() => Some(Reason::Method),
        Some(httparse::Error::Token) => Some(Reason::Target),
        Some(httparse::Error::Version) => version_fault(line.text),
        Some(error) => Some(field_fault(error, line.text)),
    };
    reason.or(is_at_limit.then_some(Reason::HeadTooLong))
}

fn is_in_target(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f
}

/// What is wrong with the version in `text`; `None` while it may become one that is merely unknown.
fn version_fault(text: &[u8]) -> Option<Reason> {
    let version = text.splitn(3, |octet| *octet == b' ').nth(2).unwrap_or_default();
    let is_like = |(octet, like): (&u8, &u8)| if *like == b'0' { octet.is_ascii_digit() } else { octet == like };
    if !version.iter().zip(b"HTTP/0.0").all(is_like) {
        return Some(Reason::VersionInvalid);
    }
    match version {
        _ if version.len() < b"HTTP/0.0".len() => None,
        _ if text.starts_with(b"PRI * HTTP/2.0") => Some(Reason::Http2Preface),
        _ => Some(Reason::VersionUnknown),
    }
}

/// The first field line of `head` that is none, by what `error` says of it.
pub(super) fn field_fault(error: httparse::Error, head: &[u8]) -> Reason {
    match error {
        httparse::Error::TooManyHeaders => Reason::TooManyFields,
        httparse::Error::NewLine => Reason::LineEnd,
        httparse::Error::HeaderName => name_fault(head),
        httparse::Error::HeaderValue => value_fault(head),
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => Reason::Status,
    }
}

fn name_fault(head: &[u8]) -> Reason {
    for line in head.split(|octet| *octet == b'\n').skip(1) {
        let name_len = line.iter().position(|octet| !is_tchar(*octet)).unwrap_or(line.len());
        match line.get(name_len) {
            Some(b' ' | b'\t') if name_len == 0 => return Reason::Folding,
            Some(b' ' | b'\t') => return Reason::SpaceInName,
            Some(b':') if name_len > 0 => {}
            _ => return Reason::FieldName,
        }
    }
    Reason::FieldName
}

/// A bare CR, or another control octet: the first of them.
fn value_fault(head: &[u8]) -> Reason {
    let lines = head.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut octets = lines.flatten();
    match octets.find(|octet| (**octet < b' ' && **octet != b'\t') || **octet == 0x7f) {
        Some(b'\r') => Reason::LineEnd,
        _ => Reason::FieldValue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_in_pieces_is_worth_reading_when_its_empty_line_has_come() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
        let limits = HeadLimits::DEFAULT;
        for len in 0..head.len() {
            let is_whole = len >= head.len() - 4;
            assert_eq!(is_worth_reading(&head[..len], 0, limits), is_whole, "{len}");
            assert!(len > 27 || !is_worth_reading(&head[..len], len, limits), "{len}");
        }
        assert!(is_worth_reading(head, 26, limits));
        assert!(is_worth_reading(b"GET / HTTP/1.1", 14, HeadLimits { head: 14, target: 9 }), "it is to be refused");
    }

    #[test]
    fn a_bare_lf_makes_a_head_worth_reading_so_that_it_is_refused() {
        assert!(is_worth_reading(b"GET / HTTP/1.1\n\n", 15, HeadLimits::DEFAULT));
    }
}
