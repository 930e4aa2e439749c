//! Heads and chunks, written.
//!
//! What belongs to one connection is never copied: the framing and Connection are written anew, and Host is the authority in
//! force.

use httparse::Header;

use super::Framing;
use super::edits::{Edits, Fate};
use super::fields::{Known, Options, is_named};
use super::request::Request;
use super::response::Response;
use super::target::Target;

/// What a head says about the connection that it is written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hop<'h> {
    /// Nothing: between peers of HTTP/1.1 it persists.
    Persistent,
    /// That it persists, as a client of HTTP/1.0 must be told.
    KeepAlive,
    /// That it ends with this exchange.
    Close,
    /// That these protocols are wanted, or that one is spoken from here on (RFC 9110, section 7.8).
    Upgrade(&'h [u8]),
}

/// Appends the head of `request`, with `edits`, to `out`.
///
/// It is of HTTP/1.1, its target in the form for a server, and Host comes first: empty where there is no authority.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>, edits: &Edits, body: Framing, hop: Hop<'_>) {
    out.reserve(request.len + edits.len() + SPARE);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    write_target(out, request);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(request.host.map_or(&[], |host| host.as_str().as_bytes()));
    out.extend_from_slice(b"\r\n");
    write_fields(out, request.fields, request.options, edits);
    write_framing(out, body);
    write_hop(out, hop);
}

/// Appends the head of `response`, with `edits`, to `out`.
///
/// It is of HTTP/1.1 whatever the client speaks (RFC 9110, section 6.2). For answers without a body Content-Length is passed
/// on where it tells of the body that is not sent: for HEAD and 304.
pub fn write_response(out: &mut Vec<u8>, response: &Response<'_>, edits: &Edits, body: Framing, hop: Hop<'_>) {
    out.reserve(response.len + edits.len() + SPARE);
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number::<10>(out, u64::from(response.status));
    out.push(b' ');
    out.extend_from_slice(response.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    write_fields(out, response.fields, response.options, edits);
    let has_length = response.status >= 200 && response.status != 204;
    match (body, response.length) {
        (Framing::Empty, Some(length)) if has_length => write_framing(out, Framing::Length(length)),
        _ => write_framing(out, body),
    }
    write_hop(out, hop);
}

/// The form for a server, which is not a proxy: a path, or `*` (RFC 9112, sections 3.2.1 and 3.2.4).
fn write_target(out: &mut Vec<u8>, request: &Request<'_>) {
    match request.target {
        Target::Authority(authority) => out.extend_from_slice(authority.as_str().as_bytes()),
        Target::Absolute { path_and_query: "", .. } if request.method == "OPTIONS" => out.push(b'*'),
        target => {
            let text = target.path_and_query();
            if !text.starts_with(['/', '*']) {
                out.push(b'/');
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn write_fields(out: &mut Vec<u8>, fields: &[Header<'_>], options: Options, edits: &Edits) {
    let is_skipped = |index: usize| match Known::of(fields[index].name) {
        Some(known) if known != Known::Expect => true,
        _ => options.names_fields && edits.fate(index) == Fate::Unchanged && is_named(fields, fields[index].name),
    };
    edits.write(fields, is_skipped, out);
}

fn write_framing(out: &mut Vec<u8>, body: Framing) {
    match body {
        Framing::Empty | Framing::UntilClose => {}
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_number::<10>(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What is said of the connection, and the empty line.
fn write_hop(out: &mut Vec<u8>, hop: Hop<'_>) {
    match hop {
        Hop::Persistent => out.extend_from_slice(b"\r\n"),
        Hop::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
        Hop::Close => out.extend_from_slice(b"Connection: close\r\n\r\n"),
        Hop::Upgrade(protocols) => {
            out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
            out.extend_from_slice(protocols);
            out.extend_from_slice(b"\r\n\r\n");
        }
    }
}

/// Appends the size line of a chunk of `len` octets, which is not 0; the data and CRLF must follow.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "a chunk of no octets would be the last");
    write_number::<16>(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends `data` as a chunk; nothing for no data, which would be the last chunk.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the end of a chunked body with `trailers`, which are those of [`Chunked`](super::Chunked::trailers).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

fn write_number<const RADIX: u64>(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(rest % RADIX) as usize];
        rest /= RADIX;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Octets that are written beside what was read: Host, framing, Connection.
const SPARE: usize = 192;

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::http1::{Asked, HeadLimits, Version, read_request, read_response};

    fn request(octets: &str, edit: impl FnOnce(&mut Edits), hop: Hop<'_>) -> String {
        let mut slots = [MaybeUninit::uninit(); 16];
        let request = read_request(octets.as_bytes(), &mut slots, HeadLimits::DEFAULT);
        let request = request.expect("a sound head").expect("a whole head");
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        edit(&mut edits);
        write_request(&mut out, &request, &edits, request.body, hop);
        String::from_utf8(out).expect("text")
    }

    fn response(octets: &str, method: &str, hop: Hop<'_>) -> String {
        let mut slots = [MaybeUninit::uninit(); 16];
        let asked = Asked { method, upgrade: true };
        let response = read_response(octets.as_bytes(), &mut slots, asked, HeadLimits::DEFAULT);
        let response = response.expect("a sound head").expect("a whole head");
        let mut out = Vec::new();
        write_response(&mut out, &response, &Edits::new(), response.body.for_client(Version::V11), hop);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_belongs_to_one_connection_is_not_passed_on() {
        let head = "GET / HTTP/1.1\r\nX-Kept: 1\r\nhost: a\r\nConnection: X-Private, close\r\nKeep-Alive: 5\r\n\
            x-private: 1\r\nTE: trailers\r\nUpgrade: x\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\n\r\n";
        assert_eq!(request(head, |_| {}, Hop::Persistent), "GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\n\r\n");
    }

    #[test]
    fn what_a_server_may_take_for_framing_is_not_passed_on() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTRANSFER_ENCODING: chunked\r\nX_Kept: 1\r\n\r\n";
        assert_eq!(request(head, |_| {}, Hop::Persistent), "GET / HTTP/1.1\r\nHost: a\r\nX_Kept: 1\r\n\r\n");
    }

    #[test]
    fn edits_are_applied_in_place_and_new_fields_come_last() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nConnection: c\r\nD: 4\r\n\r\n";
        let edit = |edits: &mut Edits| {
            edits.append("E", &[b"5"]);
            edits.replace(1, &[b"one"]);
            edits.leave_out(2);
            // What is set here is wanted, whatever Connection says.
            edits.replace(3, &[b"three"]);
        };
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nA: one\r\nC: three\r\nD: 4\r\nE: 5\r\n\r\n";
        assert_eq!(request(head, edit, Hop::Persistent), expected);
    }

    #[test]
    fn a_server_is_asked_for_a_path_or_the_asterisk() {
        for (line, expected) in [
            ("GET http://a/b?c", "GET /b?c"),
            ("GET http://a", "GET /"),
            ("GET http://a?c", "GET /?c"),
            ("OPTIONS http://a", "OPTIONS *"),
            ("OPTIONS http://a?c", "OPTIONS /?c"),
            ("OPTIONS *", "OPTIONS *"),
        ] {
            let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(request(&head, |_| {}, Hop::Persistent), format!("{expected} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
    }

    #[test]
    fn http_1_0_without_host_goes_on_as_http_1_1_with_an_empty_one() {
        assert_eq!(
            request("GET / HTTP/1.0\r\n\r\n", |_| {}, Hop::Close),
            "GET / HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn framing_is_written_anew() {
        let head = "POST / HTTP/1.1\r\nCONTENT-LENGTH: 007\r\nHost: a\r\n\r\n";
        assert_eq!(request(head, |_| {}, Hop::Persistent), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n");
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding:\t CHUNKED \r\nHost: a\r\n\r\n";
        let expected = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(request(head, |_| {}, Hop::Persistent), expected);
    }

    #[test]
    fn a_length_is_passed_on_only_where_it_tells_of_a_body() {
        for (method, status, is_passed) in
            [("HEAD", 200, true), ("GET", 304, true), ("GET", 204, false), ("GET", 103, false)]
        {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            let length = if is_passed { "Content-Length: 5\r\n" } else { "" };
            let expected = format!("HTTP/1.1 {status} X\r\n{length}\r\n");
            assert_eq!(response(&head, method, Hop::Persistent), expected);
        }
    }

    #[test]
    fn a_body_of_unknown_length_goes_in_chunks() {
        let expected = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(response("HTTP/1.0 200 OK\r\n\r\n", "GET", Hop::KeepAlive), expected);
    }

    #[test]
    fn a_switch_of_protocols_is_told_anew() {
        let head = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade, x\r\nX: 1\r\n\r\n";
        let expected = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(response(head, "GET", Hop::Upgrade(b"websocket")), expected);
    }

    #[test]
    fn no_data_is_no_chunk() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        write_chunk(&mut out, &[b'x'; 26]);
        write_last_chunk(&mut out, b"A: b\r\n");
        assert_eq!(out, [b"1a\r\n", &[b'x'; 26][..], b"\r\n0\r\nA: b\r\n\r\n"].concat());
    }
}
