//! URLs at which proxies are asked for their status: as much of RFC 3986 as such a URL needs.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text is not the URL of a status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum UrlError {
    /// It does not begin with `http://` or `https://`.
    #[error("expected a URL that begins with http:// or https://, such as \"http://192.0.2.1:8081/status\"")]
    Scheme,
    /// It has a character that no URL may have.
    #[error("holds a blank, a control character or another one that no URL may have: expected it percent-encoded")]
    Character,
    /// A user name or password in it would end up in logs.
    #[error("holds a user name: expected http://HOST:PORT/PATH without one")]
    Credentials,
    /// What follows `#` is never sent.
    #[error("holds a fragment (#…), which is never sent: expected it left out")]
    Fragment,
    /// No host, or what is none.
    #[error("has no valid host: expected a host name, an IPv4 address or an IPv6 address in brackets")]
    Host,
    /// A port outside 1 ..= 65535.
    #[error("has no valid port: expected 1 to 65535")]
    Port,
}

/// `url` itself when it is an `http` or `https` URL that can be asked.
pub(super) fn parse_status_url(url: &str) -> Result<String, UrlError> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).ok_or(UrlError::Scheme)?;
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
        return Err(UrlError::Character);
    }
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(UrlError::Credentials);
    }
    check_authority(authority).map(|()| url.to_owned())
}

fn check_authority(authority: &str) -> Result<(), UrlError> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        return match port.strip_prefix(':') {
            Some(port) => check_port(port),
            None if port.is_empty() => Ok(()),
            None => Err(UrlError::Port),
        };
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    if !is_host(host) {
        return Err(UrlError::Host);
    }
    port.map_or(Ok(()), check_port)
}

fn check_port(port: &str) -> Result<(), UrlError> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = is_number && port.parse::<u16>().is_ok_and(|port| port != 0);
    if is_port { Ok(()) } else { Err(UrlError::Port) }
}

fn is_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    // A client reads a host that ends in a number as an IPv4 address, in whatever odd notation.
    let is_numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
    if is_numeric {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_asked_pass() {
        for url in [
            "http://192.0.2.1:8081/status",
            "https://proxy-1.seoul.example.com/status?full=1",
            "http://[2001:db8::1]:8081/status",
            "http://[::1]",
            "http://localhost.",
            "https://a_b:65535",
        ] {
            assert_eq!(parse_status_url(url).as_deref(), Ok(url));
        }
    }

    #[test]
    fn urls_that_cannot_be_asked_say_why() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("ftp://a/", UrlError::Scheme),
            ("192.0.2.1:8081/status", UrlError::Scheme),
            ("http://a/st atus", UrlError::Character),
            ("http://a/\u{fc}", UrlError::Character),
            ("http://a\\b/", UrlError::Character),
            ("http://user:word@a/", UrlError::Credentials),
            ("http://a/#top", UrlError::Fragment),
            ("http:///status", UrlError::Host),
            ("http://:80/", UrlError::Host),
            ("http://192.0.2.256/", UrlError::Host),
            ("http://0x7f.1/", UrlError::Host),
            ("http://a..b/", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[1.2.3.4]/", UrlError::Host),
            ("http://2001:db8::1/", UrlError::Host),
            ("http://a:/", UrlError::Port),
            ("http://a:0/", UrlError::Port),
            ("http://a:+80/", UrlError::Port),
            ("http://a:65536/", UrlError::Port),
            ("http://[::1]80/", UrlError::Port),
        ] {
            assert_eq!(parse_status_url(url), Err(error), "{url}");
        }
    }
}
