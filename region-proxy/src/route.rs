//! From the request's target and Host to the name of a service.

use std::borrow::Cow;

use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Uri, Version};

/// Why a request cannot be routed: answered 400 (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHost {
    /// HTTP/1.1 demands one.
    #[error("no Host field: expected one")]
    Missing,
    /// More than one, of which another server might believe another.
    #[error("more than one Host field: expected one")]
    Repeated,
    /// Not a host with an optional port.
    #[error("not a host: expected a name or address with an optional port")]
    Invalid,
}

/// Whether `target` is one that a request of `method` may have: a path, an absolute URI, or `*` for OPTIONS alone.
///
/// Source: RFC 9112, section 3.2.
pub fn is_target(method: &Method, target: &Uri) -> bool {
    match (target.scheme(), target.path()) {
        (Some(_), _) => true,
        (None, "*") => *method == Method::OPTIONS,
        (None, path) => target.authority().is_none() && path.starts_with('/'),
    }
}

/// The authority that a request asks for, as the client wrote it; `None` when it names none.
///
/// That of an absolute target wins over Host (RFC 9112, section 3.2.2). HTTP/1.0 may go without.
pub fn authority<'r>(version: Version, uri: &'r Uri, headers: &'r HeaderMap) -> Result<Option<&'r str>, BadHost> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    match (uri.authority(), first, second) {
        (_, _, Some(_)) => Err(BadHost::Repeated),
        (_, None, _) if version >= Version::HTTP_11 => Err(BadHost::Missing),
        (Some(authority), _, _) => Ok(Some(authority.as_str())),
        (None, None, _) => Ok(None),
        (None, Some(host), _) => host_text(host).map(|host| Some(host).filter(|host| !host.is_empty())),
    }
}

/// The host of `authority` in the form that services are named: lower case, without port and final dot.
///
/// Allocates only for upper case. An IPv6 address keeps its brackets. Fails unless it is a host of RFC 3986, section
/// 3.2.2, with an optional port; user information is refused (RFC 9110, section 4.2.4).
pub fn host(authority: &str) -> Result<Cow<'_, str>, BadHost> {
    let (host, port) = split_port(authority).ok_or(BadHost::Invalid)?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
    if !is_port || !(is_bracketed_address(host) || is_reg_name(host)) {
        return Err(BadHost::Invalid);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let has_upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if has_upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

fn host_text(value: &HeaderValue) -> Result<&str, BadHost> {
    value.to_str().map_err(|_| BadHost::Invalid)
}

/// Host and port, which may be empty; `None` when a bracket is left open or followed by something else.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let host_len = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    if rest.is_empty() { Some((host, "")) } else { Some((host, rest.strip_prefix(':')?)) }
}

fn is_bracketed_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_reg_name(host: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    !host.is_empty() && host.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (HOST, HeaderValue::from_static(value))).collect()
    }

    fn asked(version: Version, target: &'static str, values: &[&'static str]) -> Result<Option<String>, BadHost> {
        authority(version, &Uri::from_static(target), &hosts(values)).map(|found| found.map(str::to_owned))
    }

    #[test]
    fn host_is_compared_without_case_port_and_final_dot() {
        for text in
            ["www.example.com", "WWW.Example.com:8080", "www.example.com.", "www.example.com.:", "www.EXAMPLE.com:80"]
        {
            assert_eq!(host(text).as_deref(), Ok("www.example.com"), "{text}");
        }
        assert_eq!(host("[2001:DB8::1]:80").as_deref(), Ok("[2001:db8::1]"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["", ":80", "a b", "user@a", "a:x", "a:999999", "[::1", "[::1]x", "[www]", "a/b", "a\\b", "a:80:80", "é"]
        {
            assert_eq!(host(text), Err(BadHost::Invalid), "{text}");
        }
    }

    #[test]
    fn http_1_1_needs_exactly_one_host() {
        assert_eq!(asked(Version::HTTP_11, "/", &[]), Err(BadHost::Missing));
        assert_eq!(asked(Version::HTTP_11, "/", &["a", "a"]), Err(BadHost::Repeated));
        assert_eq!(asked(Version::HTTP_11, "http://a/", &["a", "b"]), Err(BadHost::Repeated));
        assert_eq!(asked(Version::HTTP_11, "/", &["a"]), Ok(Some("a".to_owned())));
        assert_eq!(asked(Version::HTTP_11, "/", &[""]), Ok(None));
        assert_eq!(asked(Version::HTTP_10, "/", &[]), Ok(None));
    }

    #[test]
    fn a_target_is_a_path_or_absolute_or_the_asterisk_of_options() {
        for target in ["/", "/a?b", "//a", "http://a", "http://a/b"] {
            assert!(is_target(&Method::GET, &Uri::from_static(target)), "{target}");
        }
        for target in ["*", "a:80", "a"] {
            assert!(!is_target(&Method::GET, &Uri::from_static(target)), "{target}");
        }
        assert!(is_target(&Method::OPTIONS, &Uri::from_static("*")));
    }

    #[test]
    fn an_absolute_target_wins_over_host() {
        assert_eq!(asked(Version::HTTP_11, "http://b:81/x", &["a"]), Ok(Some("b:81".to_owned())));
    }

    proptest! {
        #[test]
        fn any_text_is_a_normal_host_or_refused(text in "\\PC*") {
            if let Ok(found) = host(&text) {
                prop_assert!(!found.bytes().any(|byte| byte.is_ascii_uppercase()));
                prop_assert!(found.starts_with('[') || !found.contains(':'));
            }
        }
    }
}
