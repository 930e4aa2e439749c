//! The fields that say how a message is framed and what belongs to one connection.

use httparse::Header;

use super::refusal::Reason;
use super::{Persistence, Version};

/// Fields that are not simply passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    TransferEncoding,
    Upgrade,
    /// Belongs to one connection and tells this program nothing.
    Hop,
    /// Has underscores where one of the others has hyphens, and so is the same to a server that speaks CGI, WSGI or the
    /// like: it is not believed and not passed on.
    Lookalike,
}

impl Known {
    /// `None` for a field that is passed on.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (text, known) = match (name.len(), name.as_bytes().first()? | 0x20) {
            (2, b't') => ("te", Self::Hop),
            (4, b'h') => ("host", Self::Host),
            (6, b'e') => ("expect", Self::Expect),
            (7, b'u') => ("upgrade", Self::Upgrade),
            (10, b'c') => ("connection", Self::Connection),
            (10, b'k') => ("keep-alive", Self::Hop),
            (14, b'c') => ("content-length", Self::ContentLength),
            (16, b'p') => ("proxy-connection", Self::Hop),
            (17, b't') => ("transfer-encoding", Self::TransferEncoding),
            (18, b'p') => ("proxy-authenticate", Self::Hop),
            (19, b'p') => ("proxy-authorization", Self::Hop),
            _ => return None,
        };
        if name.eq_ignore_ascii_case(text) {
            return Some(known);
        }
        let is_like = |(octet, like): (u8, u8)| octet.eq_ignore_ascii_case(&like) || (octet == b'_' && like == b'-');
        name.bytes().zip(text.bytes()).all(is_like).then_some(Self::Lookalike)
    }
}

/// What `Connection` says (RFC 9110, section 7.6.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// `close` is among its options.
    pub close: bool,
    /// `keep-alive` is among them.
    pub keep_alive: bool,
    /// `upgrade` is among them.
    pub upgrade: bool,
    /// Others are: they may name fields, which then belong to this connection; [`is_named`] says which.
    pub names_fields: bool,
}

impl Options {
    /// Adds those of one field; gives how many they were.
    fn add(&mut self, value: &[u8]) -> usize {
        let mut count = 0;
        for option in list(value) {
            count += 1;
            match option {
                _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                _ => self.names_fields = true,
            }
        }
        count
    }

    /// `close` wins; without a word HTTP/1.1 persists and HTTP/1.0 does not (RFC 9112, section 9.3).
    pub(super) fn persistence(self, version: Version) -> Persistence {
        if self.close || (version == Version::V10 && !self.keep_alive) {
            Persistence::Close
        } else {
            Persistence::KeepAlive
        }
    }
}

/// Whether a `Connection` among `fields` names the field `name`. Looks at all of them.
pub fn is_named(fields: &[Header<'_>], name: &str) -> bool {
    let connections = fields.iter().filter(|field| Known::of(field.name) == Some(Known::Connection));
    connections.flat_map(|field| list(field.value)).any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
}

/// The members of a list in a field value, empty ones left out (RFC 9110, section 5.6.1).
///
/// Quotation marks mean nothing here: for lists of tokens.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// A field that may stand in a message once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Single<'b> {
    #[default]
    None,
    One(&'b [u8]),
    Several,
}

impl<'b> Single<'b> {
    fn add(&mut self, value: &'b [u8]) {
        *self = if *self == Self::None { Self::One(value) } else { Self::Several };
    }
}

/// What the known fields of a head say, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan<'b> {
    pub(super) host: Single<'b>,
    pub(super) length: Single<'b>,
    pub(super) coding: Single<'b>,
    pub(super) upgrade: Single<'b>,
    pub(super) options: Options,
    option_count: usize,
    pub(super) expects_continue: bool,
}

/// What the framing fields say together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    Nothing,
    Length(u64),
    Chunked,
}

impl<'b> Scan<'b> {
    pub(super) fn of(fields: &[Header<'b>]) -> Self {
        let mut scan = Self::default();
        for field in fields {
            match Known::of(field.name) {
                None | Some(Known::Hop | Known::Lookalike) => {}
                Some(Known::Host) => scan.host.add(field.value),
                Some(Known::Connection) => scan.option_count += scan.options.add(field.value),
                Some(Known::ContentLength) => scan.length.add(field.value),
                Some(Known::TransferEncoding) => scan.coding.add(field.value),
                Some(Known::Upgrade) => scan.upgrade.add(field.value),
                Some(Known::Expect) => {
                    scan.expects_continue |= list(field.value).any(|one| one.eq_ignore_ascii_case(b"100-continue"));
                }
            }
        }
        scan
    }

    /// The framing that a message of `version` with these `fields` claims; whatever is ambiguous or beyond measure is a
    /// fault.
    pub(super) fn framing(&self, version: Version, fields: &[Header<'_>]) -> Result<Told, Reason> {
        match (self.length, self.coding) {
            _ if self.option_count > OPTIONS_MAX => Err(Reason::TooManyOptions),
            (Single::None, Single::None) => Ok(Told::Nothing),
            (Single::One(value), Single::None) => length(value).map(Told::Length),
            (Single::Several, Single::None) => Err(Reason::LengthRepeated),
            (Single::None, _) if version == Version::V10 => Err(Reason::CodingInVersion10),
            (Single::None, Single::One(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(Told::Chunked),
            (Single::None, _) => Err(why_coding_is_refused(fields)),
            (Single::One(_) | Single::Several, _) => Err(Reason::LengthAndCoding),
        }
    }

    /// What `Upgrade` says where `Connection` names it: once, and not in HTTP/1.0 (RFC 9110, section 7.8).
    pub(super) fn upgrade(&self, version: Version) -> Option<&'b [u8]> {
        match self.upgrade {
            Single::One(value) if self.options.upgrade && version == Version::V11 && !value.is_empty() => Some(value),
            _ => None,
        }
    }
}

/// Decimal digits and nothing else, at most 2^63 − 1, as readers in many languages hold it in a signed number.
fn length(value: &[u8]) -> Result<u64, Reason> {
    if value.contains(&b',') {
        return Err(Reason::LengthRepeated);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reason::LengthInvalid);
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let sum = value.iter().try_fold(0, add);
    sum.filter(|sum| *sum <= LENGTH_MAX).ok_or(Reason::LengthInvalid)
}

/// Each option is compared with each field; nobody needs as many.
const OPTIONS_MAX: usize = 64;

pub(super) const LENGTH_MAX: u64 = (1 << 63) - 1;

/// Another coding than `chunked` under a last and only `chunked` is unknown; all else leaves the end of the body open.
#[cold]
fn why_coding_is_refused(fields: &[Header<'_>]) -> Reason {
    let lines = fields.iter().filter(|field| Known::of(field.name) == Some(Known::TransferEncoding));
    let mut codings = lines.flat_map(|field| field.value.split(|octet| *octet == b',')).map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let Some(last) = codings.next_back() else { return Reason::CodingInvalid };
    let is_clear = codings.all(|coding| !is_chunked(coding) && is_coding(coding));
    if is_chunked(last) && is_clear { Reason::CodingUnknown } else { Reason::CodingInvalid }
}

/// A token, and perhaps parameters.
fn is_coding(coding: &[u8]) -> bool {
    let token_len = coding.iter().position(|octet| !is_tchar(*octet)).unwrap_or(coding.len());
    token_len > 0 && matches!(coding.get(token_len), None | Some(b';' | b' ' | b'\t'))
}

/// Whether `octet` may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_tchar(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// Whether `text` is a token, as names of methods, fields and cookies are (RFC 9110, section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|octet| is_tchar(*octet))
}

/// Whether `octet` may stand in a field value (RFC 9110, section 5.5).
pub(super) fn is_field_content(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

/// Whether `value` may be that of a field in HTTP/2: without white space around it (RFC 9113, section 8.2.1).
pub fn is_field_value(value: &[u8]) -> bool {
    let is_bare = |octet: Option<&u8>| !matches!(octet, Some(b' ' | b'\t'));
    is_bare(value.first()) && is_bare(value.last()) && value.iter().all(|octet| is_field_content(*octet))
}

/// Whether `name` may be that of a field in HTTP/2: a token without capitals (RFC 9113, section 8.2).
pub fn is_lower_token(name: &[u8]) -> bool {
    is_token(name) && !name.iter().any(u8::is_ascii_uppercase)
}
