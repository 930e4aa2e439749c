//! What changes in a head on its way through: hop-by-hop fields go, forwarding fields come.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Version};

/// Fields that belong to one connection and are never relayed (RFC 9110, section 7.6.1).
///
/// `Proxy-Authorization` and `Proxy-Authenticate` are between a client and its own proxy. The framing fields among them
/// are written anew from the body that was read.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'r> {
    /// The client's address.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What it asks for: host with optional port; `None` when it named none.
    pub authority: Option<&'r HeaderValue>,
    /// The version that it spoke.
    pub version: Version,
}

/// Removes the hop-by-hop fields and those that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages carry no more than `keep-alive` or `close`, so this list is nearly always empty.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| headers.contains_key(name))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Makes a client's request head fit for a server.
///
/// `X-Forwarded-For` gets the client's address after what is there already; the other forwarding fields say what this
/// proxy saw. Host is that of `origin` even where `Connection` named it. `via` is this proxy's name.
pub fn to_server(headers: &mut HeaderMap, origin: Origin<'_>, via: &str) {
    strip_hop_by_hop(headers);
    append_list(headers, X_FORWARDED_FOR, &origin.client.to_canonical().to_string());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(origin.scheme));
    match origin.authority {
        Some(authority) => {
            headers.insert(X_FORWARDED_HOST, authority.clone());
            headers.insert(header::HOST, authority.clone());
        }
        None => {
            headers.remove(X_FORWARDED_HOST);
            // HTTP/1.1, which the server is spoken to in, demands the field: empty, as the target has no authority.
            headers.insert(header::HOST, HeaderValue::from_static(""));
        }
    }
    append_via(headers, origin.version, via);
}

/// Makes the head of a server's response to a request of `method` fit for a client.
///
/// The length is taken away, to be written anew from the body. Only the answer to HEAD, which has none, keeps it: where
/// it is told once and no coding contradicts it (RFC 9112, section 6.3).
pub fn to_client(headers: &mut HeaderMap, method: &Method, version: Version, via: &str) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_clear = match (lengths.next(), lengths.next()) {
        (Some(length), None) => length.as_bytes().iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if method != Method::HEAD || !is_clear || headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    append_via(headers, version, via);
}

/// Whether the transfer coding of a message can be relayed: none, or `chunked` alone.
///
/// Another would be lost on the way. A request with one is answered 501 (RFC 9112, section 6.1); a server may not use
/// one, as `TE` is not relayed.
pub fn is_coding_known(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Counts `Max-Forwards` of OPTIONS and TRACE down; `false` when the request must not go further.
///
/// Source: RFC 9110, section 7.6.2.
pub fn count_forward(method: &Method, headers: &mut HeaderMap) -> bool {
    if method != Method::OPTIONS && method != Method::TRACE {
        return true;
    }
    let left = headers.get(header::MAX_FORWARDS).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    match left {
        None => true,
        Some(0) => false,
        Some(left) => {
            headers.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            true
        }
    }
}

/// RFC 9110, section 7.6.3: the version received and a pseudonym.
fn append_via(headers: &mut HeaderMap, version: Version, via: &str) {
    let version = if version == Version::HTTP_10 { "1.0" } else { "1.1" };
    append_list(headers, header::VIA, &format!("{version} {via}"));
}

/// Makes one field line of all lines of `name`, with `item` last.
fn append_list(headers: &mut HeaderMap, name: HeaderName, item: &str) {
    let mut list = Vec::new();
    for value in headers.get_all(&name).iter().filter(|value| !value.is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(item.as_bytes());
    // Made of field values and an address or a name, it is a field value too.
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
        };
        fields.iter().filter_map(field).collect()
    }

    fn origin(authority: Option<&HeaderValue>) -> Origin<'_> {
        Origin { client: IpAddr::from([192, 0, 2, 7]), scheme: "http", authority, version: Version::HTTP_11 }
    }

    #[test]
    fn fields_of_one_connection_and_those_it_names_are_not_relayed() {
        let mut headers = head(&[
            ("connection", "keep-alive, X-Private ,upgrade"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, head(&[("x-kept", "1")]));
    }

    #[test]
    fn the_client_is_the_last_of_x_forwarded_for() {
        let mut headers = head(&[("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "198.51.100.2")]);
        to_server(&mut headers, origin(None), "seoul-1");
        let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        assert_eq!(values, ["198.51.100.1, 198.51.100.2, 192.0.2.7"]);
    }

    #[test]
    fn connection_cannot_take_away_host_or_the_clients_address() {
        let mut headers = head(&[("connection", "host, x-forwarded-for, via"), ("host", "www.example.com:80")]);
        let host = HeaderValue::from_static("www.example.com:80");
        to_server(&mut headers, origin(Some(&host)), "seoul-1");
        assert_eq!(
            headers,
            head(&[
                ("host", "www.example.com:80"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "www.example.com:80"),
                ("x-forwarded-proto", "http"),
                ("via", "1.1 seoul-1"),
            ])
        );
    }

    #[test]
    fn a_claimed_scheme_or_host_is_replaced_by_what_was_seen() {
        let mut headers = head(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")]);
        to_server(&mut headers, origin(None), "seoul-1");
        assert_eq!(headers.get(X_FORWARDED_PROTO), Some(&HeaderValue::from_static("http")));
        assert_eq!(headers.get(X_FORWARDED_HOST), None);
    }

    #[test]
    fn ipv4_clients_of_an_ipv6_socket_are_shown_as_ipv4() {
        let mut headers = HeaderMap::new();
        let mapped = "::ffff:192.0.2.9".parse().expect("an address");
        to_server(&mut headers, Origin { client: mapped, ..origin(None) }, "p");
        assert_eq!(headers.get(X_FORWARDED_FOR), Some(&HeaderValue::from_static("192.0.2.9")));
    }

    #[test]
    fn via_names_the_version_received_after_those_before() {
        let mut headers = head(&[("via", "1.1 cdn")]);
        to_client(&mut headers, &Method::GET, Version::HTTP_10, "seoul-1");
        assert_eq!(headers.get(header::VIA), Some(&HeaderValue::from_static("1.1 cdn, 1.0 seoul-1")));
    }

    #[test]
    fn the_length_of_a_response_is_relayed_only_to_head_and_only_when_it_is_clear() {
        let relayed = |method: Method, fields: &[(&'static str, &str)]| {
            let mut headers = head(fields);
            to_client(&mut headers, &method, Version::HTTP_11, "p");
            headers.contains_key(header::CONTENT_LENGTH)
        };
        assert!(relayed(Method::HEAD, &[("content-length", "5")]));
        assert!(!relayed(Method::GET, &[("content-length", "5")]));
        for unclear in [("content-length", "5, 5"), ("content-length", "5"), ("transfer-encoding", "chunked")] {
            let fields = if unclear.1 == "5, 5" { vec![unclear] } else { vec![("content-length", "5"), unclear] };
            assert!(!relayed(Method::HEAD, &fields), "{fields:?}");
        }
    }

    #[test]
    fn only_chunked_alone_is_a_coding_to_relay() {
        assert!(is_coding_known(&head(&[])));
        assert!(is_coding_known(&head(&[("transfer-encoding", "Chunked")])));
        assert!(!is_coding_known(&head(&[("transfer-encoding", "gzip, chunked")])));
        assert!(!is_coding_known(&head(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")])));
    }

    #[test]
    fn max_forwards_is_counted_down_to_zero() {
        let mut headers = head(&[("max-forwards", "1")]);
        assert!(count_forward(&Method::GET, &mut headers));
        assert!(count_forward(&Method::OPTIONS, &mut headers));
        assert_eq!(headers, head(&[("max-forwards", "0")]));
        assert!(!count_forward(&Method::OPTIONS, &mut headers));
    }

    proptest! {
        #[test]
        fn nothing_that_connection_names_is_left(options in proptest::collection::vec("[a-zA-Z-]{1,9}", 0..6), junk in "[ -~]{0,20}") {
            let mut headers = head(&[("connection", &options.join(" , ")), ("connection", &junk), ("x-kept", "1")]);
            for option in &options {
                headers.insert(HeaderName::from_bytes(option.as_bytes()).expect("a name"), HeaderValue::from_static("1"));
            }
            strip_hop_by_hop(&mut headers);
            for option in &options {
                prop_assert!(!headers.contains_key(option.as_str()), "{}", option);
            }
            for name in &HOP_BY_HOP {
                prop_assert!(!headers.contains_key(name));
            }
        }

        #[test]
        fn the_clients_address_is_always_last(before in proptest::collection::vec("[!-~]{0,12}", 0..4)) {
            let mut headers = HeaderMap::new();
            for value in &before {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).expect("visible"));
            }
            to_server(&mut headers, origin(None), "p");
            let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
            prop_assert_eq!(values.len(), 1);
            let text = values[0].to_str().expect("visible");
            prop_assert_eq!(text.rsplit(", ").next(), Some("192.0.2.7"));
        }
    }
}
