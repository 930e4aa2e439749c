//! What a request asks for: its target and the authority in force.

use std::net::Ipv6Addr;

use super::refusal::Reason;

/// The target of a request in one of its four forms (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target<'b> {
    /// A path with an optional query.
    Origin {
        /// Begins with a slash.
        path_and_query: &'b str,
    },
    /// A URI.
    Absolute {
        /// Its scheme.
        scheme: Scheme,
        /// Host and optional port.
        authority: Authority<'b>,
        /// May be empty, or begin with the question mark.
        path_and_query: &'b str,
    },
    /// Host and port; of CONNECT and no other method.
    Authority(Authority<'b>),
    /// `*`; of OPTIONS alone.
    Asterisk,
}

/// The scheme of a target in absolute form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

impl<'b> Target<'b> {
    /// The target `text` of a request of `method`.
    ///
    /// Beside what RFC 3986 allows, a path may hold `[ ] ^ { | }` and a query those and a backslash, a backquote and a
    /// percent sign alone, as browsers send them. A fragment, user information and schemes but http and https are refused.
    pub(super) fn parse(method: &str, text: &'b str) -> Result<Self, Reason> {
        if method == "CONNECT" {
            let authority = Authority::parse(text).ok_or(Reason::Target)?;
            return if authority.port().is_empty() { Err(Reason::Target) } else { Ok(Self::Authority(authority)) };
        }
        match text.as_bytes() {
            [b'/', ..] if is_path_and_query(text) => Ok(Self::Origin { path_and_query: text }),
            [b'*'] if method == "OPTIONS" => Ok(Self::Asterisk),
            _ => Self::absolute(text).ok_or(Reason::Target),
        }
    }

    fn absolute(text: &'b str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        let authority = Authority::parse(authority)?;
        is_path_and_query(path_and_query).then_some(Self::Absolute { scheme, authority, path_and_query })
    }

    /// The authority that the target itself names.
    pub fn authority(&self) -> Option<Authority<'b>> {
        match self {
            Self::Absolute { authority, .. } | Self::Authority(authority) => Some(*authority),
            Self::Origin { .. } | Self::Asterisk => None,
        }
    }

    /// Path and query; `*` for the asterisk, empty for an authority, and perhaps empty or without its slash for a URI.
    pub fn path_and_query(&self) -> &'b str {
        match self {
            Self::Origin { path_and_query } | Self::Absolute { path_and_query, .. } => path_and_query,
            Self::Authority(_) => "",
            Self::Asterisk => "*",
        }
    }

    /// Whether `host`, which may be empty, is the authority of this target, or the target names none.
    ///
    /// Compared without case and default port. CONNECT has no default port.
    pub(super) fn agrees_with(&self, host: &str) -> bool {
        let (authority, default) = match self {
            Self::Absolute { scheme, authority, .. } => (authority, scheme.default_port()),
            Self::Authority(authority) => (authority, ""),
            Self::Origin { .. } | Self::Asterisk => return true,
        };
        if authority.as_str().eq_ignore_ascii_case(host) {
            return true;
        }
        let Some(host) = Authority::parse(host) else { return false };
        let port = |of: &Authority<'_>| of.port().parse().ok().or_else(|| default.parse::<u16>().ok());
        authority.host().eq_ignore_ascii_case(host.host()) && port(authority) == port(&host)
    }
}

/// A host with an optional port, as it was written; never empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Authority<'b> {
    text: &'b str,
    host_len: usize,
}

impl<'b> Authority<'b> {
    /// `None` unless it is a registered name or an address of RFC 3986, section 3.2.2, with a port of at most 65,535.
    ///
    /// The port may be missing after its colon. User information is refused (RFC 9110, section 4.2.4), and so is a
    /// percent sign in a name: names are compared as they are written, and no name of DNS needs it.
    pub fn parse(text: &'b str) -> Option<Self> {
        let host_len = if text.starts_with('[') {
            let inner = &text[1..text.find(']')?];
            inner.parse::<Ipv6Addr>().ok()?;
            inner.len() + 2
        } else {
            text.bytes().position(|octet| !is(octet, NAME)).unwrap_or(text.len())
        };
        let port = match &text.as_bytes()[host_len..] {
            [] => "",
            [b':', ..] => &text[host_len + 1..],
            _ => return None,
        };
        let is_port = port.is_empty()
            || (port.len() <= 5 && port.bytes().all(|octet| octet.is_ascii_digit()) && port.parse::<u16>().is_ok());
        (host_len > 0 && is_port).then_some(Self { text, host_len })
    }

    /// As it was written.
    pub fn as_str(&self) -> &'b str {
        self.text
    }

    /// The host; an IPv6 address in its brackets.
    pub fn host(&self) -> &'b str {
        &self.text[..self.host_len]
    }

    /// The digits of the port; empty where there are none.
    pub fn port(&self) -> &'b str {
        self.text.get(self.host_len + 1..).unwrap_or("")
    }
}

/// Whether `text` may be what follows the authority in a URI; it may be empty.
fn is_path_and_query(text: &str) -> bool {
    let octets = text.as_bytes();
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        match octet {
            b'?' => return octets[at + 1..].iter().all(|octet| is(*octet, QUERY)),
            b'%' if !is_escape(&octets[at..]) => return false,
            _ if !is(octet, PATH) => return false,
            _ => at += 1,
        }
    }
    true
}

fn is_escape(octets: &[u8]) -> bool {
    matches!(octets, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn is(octet: u8, class: u8) -> bool {
    CLASSES[usize::from(octet)] & class != 0
}

const NAME: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;

/// What an octet may be part of.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut octet = 0x21;
    while octet < 0x7f {
        let is_unreserved = (octet as u8).is_ascii_alphanumeric() || matches!(octet as u8, b'-' | b'.' | b'_' | b'~');
        let is_sub_delimiter =
            matches!(octet as u8, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        let is_in_query = !matches!(octet as u8, b'"' | b'#' | b'<' | b'>');
        let is_in_path = is_in_query && !matches!(octet as u8, b'?' | b'\\' | b'`');
        classes[octet] = ((is_unreserved || is_sub_delimiter) as u8 * NAME)
            | (is_in_path as u8 * PATH)
            | (is_in_query as u8 * QUERY);
        octet += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_an_authority_are_told_apart() {
        for (text, host, port) in [
            ("a", "a", ""),
            ("a.example:8080", "a.example", "8080"),
            ("a:", "a", ""),
            ("[2001:db8::1]", "[2001:db8::1]", ""),
            ("[::1]:443", "[::1]", "443"),
        ] {
            let authority = Authority::parse(text).expect("an authority");
            assert_eq!((authority.as_str(), authority.host(), authority.port()), (text, host, port));
        }
    }

    #[test]
    fn what_is_no_authority_is_none() {
        for text in
            ["", ":80", "[::1", "[]", "[a]", "[::1]a", "a b", "a/b", "u@a", "a:-1", "a:65536", "a:1:2", "%61", "é"]
        {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_agree_without_case_and_default_port() {
        let agrees = |target, host| Target::parse("GET", target).expect("a target").agrees_with(host);
        for host in ["a", "A", "a:", "a:80", "a:080"] {
            assert!(agrees("http://a/", host), "{host}");
        }
        for host in ["", "b", "a:81", "a:443", "a."] {
            assert!(!agrees("http://a/", host), "{host}");
        }
        assert!(agrees("/", "anything"));
    }
}
