//! Stickiness: a client stays with the server that it had, told by a cookie or by the client's address; [`table`] remembers
//! which one that was.
//!
//! The modes and options are those of HAProxy's `cookie` keyword, and so are the values, so that clients keep their
//! servers when one proxy takes the place of the other (with the same keys):
//! ```text
//! mode     from server to client                          from client to server
//! insert   NAME=key, NAME=key|last, NAME=key|last|first   as it is; left out with `indirect`
//! prefix   NAME=value becomes NAME=key~value              NAME=key~value becomes NAME=value
//! rewrite  NAME=any becomes NAME=key                      as it is
//! passive  NAME=key, by the server itself                 as it is
//! ```
//! [`Cookie::ask`] reads a request, [`Cookie::tell`] writes a response. Between the two the choice of a server is made:
//! a server that is down, drained for good or unknown breaks stickiness, and the client is told of the other one.

use std::time::Duration;

use httparse::Header;

use crate::http1::Edits;
use crate::network::Prefixes;

pub mod date;
pub mod key;
mod pair;
pub mod table;

use date::Date;
use key::{Key, Keys};
use table::Bounds;

/// How a service keeps clients on their servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stick {
    /// By a cookie.
    Cookie(Cookie),
    /// By the client's address, in these prefixes.
    Source(Prefixes),
    /// The same, by a table of which client was given which server.
    Table(Prefixes, Bounds),
}

/// Stickiness by a cookie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cookie {
    /// The cookie's name, compared with case: a token (RFC 6265, section 4.1.1).
    pub name: Box<str>,
    /// Who sets it, and what is in it.
    pub mode: Mode,
    /// Servers see nothing of an inserted cookie, and what one sets itself does not reach a client that is with it already.
    pub indirect: bool,
    /// A response that gets a cookie is marked `Cache-Control: private`.
    pub nocache: bool,
    /// A cookie that the server sets under this name is left as it is: servers may end stickiness.
    pub preserve: bool,
    /// Attributes of an inserted cookie.
    pub attributes: Attributes,
    /// An inserted cookie last sent longer ago than that does not count.
    pub max_idle: Option<Duration>,
    /// An inserted cookie first sent longer ago than that does not count.
    pub max_life: Option<Duration>,
}

/// Who sets the cookie, and what is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The proxy sets one of its own.
    Insert,
    /// The server sets one of its own, to which the proxy adds the key.
    Prefix,
    /// The server sets one, in which the proxy puts the key.
    Rewrite,
    /// The server sets one with its key in it.
    Passive,
}

/// What an inserted cookie says beside its value (RFC 6265, section 4.1.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attributes {
    /// Scripts do not see it.
    pub http_only: bool,
    /// It is sent over TLS only.
    pub secure: bool,
    /// Whether requests from other sites bring it.
    pub same_site: Option<SameSite>,
    /// Hosts that get it; `None`: only the one that was asked.
    pub domain: Option<Box<str>>,
    /// Paths that get it.
    pub path: Box<str>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { http_only: false, secure: false, same_site: None, domain: None, path: "/".into() }
    }
}

/// Whether requests from other sites bring a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    /// None do.
    Strict,
    /// Only those that open a page.
    Lax,
    /// All do.
    None,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// The server that its cookie names.
    pub server: Option<usize>,
    /// What its cookie is like.
    pub seen: Seen,
    last: Option<Date>,
    first: Option<Date>,
}

/// What the cookie of a request is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// There is none.
    Nothing,
    /// It names no server, or one that is gone.
    Unknown,
    /// It was not sent for too long.
    Expired,
    /// It was set too long ago.
    Old,
    /// It names a server.
    Known,
}

/// What a response tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The server set the cookie, and it was left as it is.
    Passed,
    /// The server set the cookie, and it was left out.
    Deleted,
    /// The server set the cookie, and the key was put in.
    Rewritten,
    /// The client gets a cookie.
    Inserted,
    /// The client gets its cookie again, with new dates.
    Updated,
}

impl Seen {
    /// As HAProxy's log writes it, in the third place of a termination state. Who finds that the server is down writes `D`.
    pub fn letter(self) -> char {
        match self {
            Self::Nothing => 'N',
            Self::Unknown => 'I',
            Self::Expired => 'E',
            Self::Old => 'O',
            Self::Known => 'V',
        }
    }
}

impl Told {
    /// As HAProxy's log writes it, in the fourth place of a termination state.
    pub fn letter(self) -> char {
        match self {
            Self::Nothing => 'N',
            Self::Passed => 'P',
            Self::Deleted => 'D',
            Self::Rewritten => 'R',
            Self::Inserted => 'I',
            Self::Updated => 'U',
        }
    }
}

impl Asked {
    /// What a request without the cookie asks for.
    pub const NOTHING: Self = Self { server: None, seen: Seen::Nothing, last: None, first: None };
}

impl Cookie {
    /// What a request with `fields` asks for at `unix_secs`; `edits` gets what its server must see.
    ///
    /// Of several cookies with the name, the first that names a server counts.
    pub fn ask(&self, keys: &Keys, fields: &[Header<'_>], unix_secs: u64, edits: &mut Edits) -> Asked {
        let mut asked = Asked::NOTHING;
        let cookies = fields.iter().enumerate().filter(|(_, field)| field.name.eq_ignore_ascii_case("cookie"));
        for (at, field) in cookies {
            let is_own = |pair: &pair::Pair<'_>| pair.name == Some(self.name.as_bytes());
            let mut is_in_it = false;
            for pair in pair::all(field.value).filter(is_own) {
                is_in_it = true;
                if asked.server.is_none() {
                    let read = self.read(keys, &field.value[pair.value], unix_secs);
                    // Why a cookie does not count says more than that it is unknown.
                    if read.server.is_some() || matches!(asked.seen, Seen::Nothing | Seen::Unknown) {
                        asked = read;
                    }
                }
            }
            match self.mode {
                Mode::Insert if is_in_it && self.indirect => leave_out(at, field.value, is_own, edits),
                Mode::Prefix if is_in_it => strip_prefixes(at, field.value, is_own, edits),
                _ => {}
            }
        }
        asked
    }

    /// Makes the response of `server` to a request that asked for `asked` tell the client where it is at `unix_secs`.
    ///
    /// For the final response, not for 1xx. `asked` is what [`ask`](Self::ask) gave, whatever server was taken then.
    pub fn tell(
        &self,
        keys: &Keys,
        asked: &Asked,
        server: usize,
        fields: &[Header<'_>],
        unix_secs: u64,
        edits: &mut Edits,
    ) -> Told {
        let Some(key) = keys.of(server) else { return Told::Nothing };
        let is_with_it = asked.server == Some(server);
        let mut told = Told::Nothing;
        let set = fields.iter().enumerate().filter(|(_, field)| field.name.eq_ignore_ascii_case("set-cookie"));
        for (at, field) in set {
            let pair = pair::first(field.value);
            if pair.name != Some(self.name.as_bytes()) {
                continue;
            }
            told = match self.mode {
                _ if self.preserve => Told::Passed,
                Mode::Insert => Told::Deleted,
                _ if self.indirect && is_with_it => Told::Deleted,
                Mode::Passive => Told::Passed,
                Mode::Prefix | Mode::Rewrite => Told::Rewritten,
            };
            match told {
                Told::Deleted => edits.leave_out(at),
                Told::Rewritten => {
                    // A server's value stays behind a prefix; rewritten, the key takes its place.
                    let (end, rest): (&[u8], _) = match self.mode {
                        Mode::Prefix => (&[PREFIX_END], pair.value.start),
                        _ => (b"", pair.value.end),
                    };
                    let (before, rest) = (&field.value[..pair.value.start], &field.value[rest..]);
                    edits.replace(at, &[before, key.as_str().as_bytes(), end, rest]);
                }
                _ => {}
            }
        }
        if self.mode != Mode::Insert || told == Told::Passed || is_with_it && !self.is_stale(asked, unix_secs) {
            return told;
        }
        let first = asked.first.filter(|_| is_with_it);
        self.insert(key, first, unix_secs, edits);
        if self.nocache && !is_private(fields) {
            edits.append("Cache-Control", &[b"private"]);
        }
        if is_with_it { Told::Updated } else { Told::Inserted }
    }

    fn read(&self, keys: &Keys, value: &[u8], unix_secs: u64) -> Asked {
        let (key, last, first) = match self.mode {
            Mode::Prefix => (prefix(value).unwrap_or_default(), None, None),
            _ => split_dates(value),
        };
        let is_beyond = |date: Option<Date>, limit: Option<Duration>| {
            date.zip(limit).is_some_and(|(date, limit)| date.is_beyond(limit.as_secs(), unix_secs))
        };
        let seen = if is_beyond(first, self.max_life) {
            Seen::Old
        } else if is_beyond(last, self.max_idle) {
            Seen::Expired
        } else {
            Seen::Known
        };
        match keys.server(key) {
            Some(server) if seen == Seen::Known => Asked { server: Some(server), seen, last, first },
            Some(_) => Asked { seen, ..Asked::NOTHING },
            None => Asked { seen: Seen::Unknown, ..Asked::NOTHING },
        }
    }

    /// Whether the dates that a client has are not those that it should have.
    fn is_stale(&self, asked: &Asked, unix_secs: u64) -> bool {
        let is_dated = self.max_idle.is_some() || self.max_life.is_some();
        let is_late = asked.last.is_none_or(|last| last < Date::at(unix_secs));
        self.max_idle.is_some() && is_late
            || self.max_life.is_some() != asked.first.is_some()
            || is_dated != asked.last.is_some()
    }

    fn insert(&self, key: &Key, first: Option<Date>, unix_secs: u64, edits: &mut Edits) {
        let now = Date::at(unix_secs);
        edits.append_with("Set-Cookie", |out| {
            out.extend_from_slice(self.name.as_bytes());
            out.push(b'=');
            out.extend_from_slice(key.as_str().as_bytes());
            if self.max_idle.is_some() || self.max_life.is_some() {
                out.push(DATE_START);
                now.write(out);
            }
            if self.max_life.is_some() {
                out.push(DATE_START);
                first.unwrap_or(now).write(out);
            }
            self.attributes.write(out);
        });
    }
}

impl Attributes {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"; path=");
        out.extend_from_slice(self.path.as_bytes());
        if let Some(domain) = &self.domain {
            out.extend_from_slice(b"; domain=");
            out.extend_from_slice(domain.as_bytes());
        }
        if self.http_only {
            out.extend_from_slice(b"; HttpOnly");
        }
        if self.secure {
            out.extend_from_slice(b"; Secure");
        }
        out.extend_from_slice(match self.same_site {
            None => b"",
            Some(SameSite::Strict) => b"; SameSite=Strict",
            Some(SameSite::Lax) => b"; SameSite=Lax",
            Some(SameSite::None) => b"; SameSite=None",
        });
    }
}

/// Between the key and the server's value in a prefixed cookie.
const PREFIX_END: u8 = b'~';

/// Before each date in an inserted cookie.
const DATE_START: u8 = b'|';

/// The key that `value` starts with; `None` when it has no prefix that a proxy may have put there.
fn prefix(value: &[u8]) -> Option<&[u8]> {
    let key = &value[..value.iter().take(Key::LEN_MAX + 1).position(|octet| *octet == PREFIX_END)?];
    Key::is_key(key).then_some(key)
}

/// The key, the date of the last sending and that of the first.
fn split_dates(value: &[u8]) -> (&[u8], Option<Date>, Option<Date>) {
    let mut parts = value.splitn(3, |octet| *octet == DATE_START);
    let key = parts.next().unwrap_or_default();
    (key, parts.next().and_then(Date::parse), parts.next().and_then(Date::parse))
}

fn leave_out(at: usize, value: &[u8], is_own: impl Fn(&pair::Pair<'_>) -> bool, edits: &mut Edits) {
    let kept = || pair::all(value).filter(|pair| !is_own(pair)).map(|pair| &value[pair.whole]);
    if kept().all(|part| part.trim_ascii().is_empty()) {
        edits.leave_out(at);
        return;
    }
    edits.replace_with(at, |out| {
        for (nth, part) in kept().enumerate() {
            if nth == 0 {
                out.extend_from_slice(part.trim_ascii_start());
            } else {
                out.push(b';');
                out.extend_from_slice(part);
            }
        }
    });
}

fn strip_prefixes(at: usize, value: &[u8], is_own: impl Fn(&pair::Pair<'_>) -> bool, edits: &mut Edits) {
    edits.replace_with(at, |out| {
        let mut done = 0;
        for pair in pair::all(value).filter(is_own) {
            if let Some(key) = prefix(&value[pair.value.clone()]) {
                out.extend_from_slice(&value[done..pair.value.start]);
                done = pair.value.start + key.len() + 1;
            }
        }
        out.extend_from_slice(&value[done..]);
    });
}

/// Whether a response already says that no shared cache may keep it (RFC 9111, section 5.2.2).
fn is_private(fields: &[Header<'_>]) -> bool {
    let directives = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("cache-control"))
        .flat_map(|field| field.value.split(|octet| *octet == b','));
    directives
        .map(<[u8]>::trim_ascii)
        .any(|directive| directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store"))
}

#[cfg(test)]
mod tests;
