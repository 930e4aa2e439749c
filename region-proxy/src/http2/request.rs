//! Requests of HTTP/2 as the rest of the proxy knows requests.

use super::block::Block;
use crate::http1::{Framing, Header, Parts, Refusal, Request, compose_request, is_field_value, is_lower_token};

/// Why a header block is no request that goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It is malformed: its stream ends with PROTOCOL_ERROR (RFC 9113, section 8.1.1).
    Malformed(&'static str),
    /// It is answered.
    Refused(Refusal),
}

/// Makes one field of several of Cookie (RFC 9113, section 8.2.3).
pub fn join_cookies(block: &mut Block) {
    block.join(b"cookie", b"; ");
}

/// The request of `block`, with whose head the stream ends if `is_end`; `key` is what an HTTP/1.1 server needs as
/// Sec-WebSocket-Key where it asks for a WebSocket (RFC 8441).
///
/// In `slots` there must be room for as many fields as a block may have.
pub fn read_request<'h, 'b: 'h>(
    block: &'b Block,
    slots: &'h mut [Header<'b>],
    is_end: bool,
    key: &'b str,
) -> Result<Request<'h>, Fault> {
    let mut pseudo = Pseudo::default();
    let mut count = 0;
    for (name, value) in block.iter() {
        if name.first() == Some(&b':') {
            if count > 0 {
                return Err(Fault::Malformed("a pseudo-header field behind other fields"));
            }
            pseudo.note(name, value)?;
            continue;
        }
        let field = regular(name, value)?;
        if pseudo.protocol.is_some() && is_of_handshake(field.name) {
            continue;
        }
        let slot = slots.get_mut(count).ok_or(Fault::Malformed("too many fields"))?;
        (*slot, count) = (field, count + 1);
    }
    if pseudo.protocol.is_some() {
        let slot = slots.get_mut(count).ok_or(Fault::Malformed("too many fields"))?;
        (*slot, count) = (Header { name: "sec-websocket-key", value: key.as_bytes() }, count + 1);
    }
    let parts = pseudo.parts(block.len(), is_end)?;
    let request = compose_request(parts, &slots[..count]).map_err(Fault::Refused)?;
    match request.body {
        Framing::Length(1..) if is_end => Err(Fault::Malformed("content-length, and no content")),
        _ => Ok(request),
    }
}

/// A field that is no pseudo-header field (RFC 9113, sections 8.2.1 and 8.2.2).
fn regular<'b>(name: &'b [u8], value: &'b [u8]) -> Result<Header<'b>, Fault> {
    if !is_lower_token(name) {
        return Err(Fault::Malformed("a field name that is no token in lower case"));
    }
    if !is_field_value(value) {
        return Err(Fault::Malformed("a field value that none may have"));
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(Fault::Malformed("a field of HTTP/1.1's connections"))
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err(Fault::Malformed("te of other than trailers")),
        // A token is ASCII.
        _ => Ok(Header { name: str::from_utf8(name).unwrap_or_default(), value }),
    }
}

/// What belongs to the handshake of HTTP/1.1, and is none of an extended CONNECT (RFC 8441, section 5).
fn is_of_handshake(name: &str) -> bool {
    name == "sec-websocket-key"
}

#[derive(Default)]
struct Pseudo<'b> {
    method: Option<&'b str>,
    scheme: Option<&'b str>,
    authority: Option<&'b str>,
    path: Option<&'b str>,
    protocol: Option<&'b str>,
}

impl<'b> Pseudo<'b> {
    fn note(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Fault> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(Fault::Malformed("a pseudo-header field that is none of a request")),
        };
        let value = str::from_utf8(value).map_err(|_| Fault::Malformed("a pseudo-header field that is no text"))?;
        if place.replace(value).is_some() {
            return Err(Fault::Malformed("a pseudo-header field twice"));
        }
        Ok(())
    }

    /// RFC 9113, sections 8.3.1 and 8.5; RFC 8441, section 4.
    fn parts(&self, len: usize, is_end: bool) -> Result<Parts<'b>, Fault> {
        let method = self.method.ok_or(Fault::Malformed("no :method"))?;
        if self.protocol.is_some() && method != "CONNECT" {
            return Err(Fault::Malformed(":protocol, and not CONNECT"));
        }
        let parts = |method, path, upgrade| Parts {
            method,
            path,
            authority: self.authority,
            upgrade,
            has_body: !is_end && upgrade.is_none(),
            len,
        };
        if method == "CONNECT" && self.protocol.is_none() {
            let (None, None, Some(authority)) = (self.scheme, self.path, self.authority) else {
                return Err(Fault::Malformed("CONNECT with :scheme or :path, or without :authority"));
            };
            return Ok(parts(method, authority, None));
        }
        match (self.scheme, self.path) {
            (Some("http" | "https"), Some("")) => Err(Fault::Malformed("an empty :path")),
            (Some("http" | "https"), Some(path)) => match self.protocol {
                None => Ok(parts(method, path, None)),
                Some(protocol) => Ok(parts("GET", path, Some(protocol.as_bytes()))),
            },
            (Some(_), Some(_)) => Err(Fault::Malformed("a :scheme that is not known here")),
            _ => Err(Fault::Malformed("no :scheme or no :path")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "www.example.com")];

    fn with<T>(fields: &[(&str, &str)], is_end: bool, see: impl FnOnce(Result<Request<'_>, Fault>) -> T) -> T {
        let mut block = Block::new(10_000);
        for (name, value) in fields {
            block.push(name.as_bytes(), value.as_bytes()).expect("room");
        }
        join_cookies(&mut block);
        see(read_request(&block, &mut [httparse::EMPTY_HEADER; 129], is_end, "a2V5"))
    }

    fn is_malformed(fields: &[(&str, &str)]) -> bool {
        with(fields, true, |read| matches!(read, Err(Fault::Malformed(_))))
    }

    #[test]
    fn a_request_names_its_method_authority_and_path() {
        with(&GET, true, |read| {
            let request = read.expect("a request");
            assert_eq!((request.method, request.target.path_and_query()), ("GET", "/a?b"));
            assert_eq!(request.host.map(|host| host.as_str()), Some("www.example.com"));
            assert_eq!(request.body, Framing::Empty);
        });
        with(&GET, false, |read| assert_eq!(read.expect("a request").body, Framing::Chunked));
        let long = [GET.as_slice(), &[("content-length", "5")]].concat();
        with(&long, false, |read| assert_eq!(read.expect("a request").body, Framing::Length(5)));
        assert!(is_malformed(&long));
    }

    #[test]
    fn requests_lack_and_repeat_no_pseudo_header_field() {
        for (at, field) in GET[..3].iter().enumerate() {
            let mut fields = GET.to_vec();
            fields.remove(at);
            assert!(is_malformed(&fields), "{field:?}");
            assert!(is_malformed(&[GET.as_slice(), &[*field]].concat()), "{field:?}");
        }
        for more in [(":status", "200"), (":x", "y"), (":protocol", "websocket")] {
            assert!(is_malformed(&[GET.as_slice(), &[more]].concat()), "{more:?}");
        }
        let late = [&GET[..3], &[("a", "b")], &GET[3..]].concat();
        assert!(is_malformed(&late));
        assert!(is_malformed(&[GET[0], GET[1], (":path", ""), GET[3]]));
        assert!(is_malformed(&[GET[0], (":scheme", "ftp"), GET[2], GET[3]]));
        assert!(is_malformed(&[(":method", "CONNECT"), GET[1], GET[2], GET[3]]));
    }

    #[test]
    fn fields_of_connections_and_bad_fields_are_malformed() {
        for field in [
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("te", "gzip"),
            ("Upper", "x"),
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("a", "b\rc"),
            ("a", "b\nc"),
            ("a", "b\0c"),
            ("a", " b"),
            ("a", "b\t"),
        ] {
            assert!(is_malformed(&[GET.as_slice(), &[field]].concat()), "{field:?}");
        }
        with(&[GET.as_slice(), &[("te", "trailers")]].concat(), true, |read| assert!(read.is_ok()));
    }

    #[test]
    fn host_and_authority_must_agree_and_one_must_be_there() {
        let refused = |fields: &[(&str, &str)]| {
            with(fields, true, |read| matches!(read, Err(Fault::Refused(Refusal { status: 400, .. }))))
        };
        assert!(refused(&GET[..3]));
        assert!(refused(&[GET.as_slice(), &[("host", "evil.example.com")]].concat()));
        assert!(refused(&[GET[0], GET[1], GET[2], (":authority", "user@host")]));
        assert!(!refused(&[GET.as_slice(), &[("host", "WWW.example.com")]].concat()));
        assert!(!refused(&[GET[0], GET[1], GET[2], ("host", "www.example.com")]));
    }

    #[test]
    fn crumbs_of_cookies_are_one_field() {
        let fields = [GET.as_slice(), &[("cookie", "a=1"), ("cookie", "b=2")]].concat();
        with(&fields, true, |read| {
            let fields = read.expect("a request").fields;
            assert_eq!((fields.len(), fields[0].value), (1, &b"a=1; b=2"[..]));
        });
    }

    #[test]
    fn an_extended_connect_is_an_upgrade_with_a_key_of_the_proxy() {
        let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], GET[3]];
        with(&[connect.as_slice(), &[("sec-websocket-key", "evil")]].concat(), false, |read| {
            let request = read.expect("a request");
            assert_eq!(
                (request.method, request.upgrade, request.body),
                ("GET", Some(&b"websocket"[..]), Framing::Empty)
            );
            assert_eq!((request.fields[0].name, request.fields[0].value), ("sec-websocket-key", &b"a2V5"[..]));
        });
        assert!(is_malformed(&connect[..3]));
    }
}
