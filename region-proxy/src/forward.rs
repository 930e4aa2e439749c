//! What a proxy says of itself in a head. (Fields of one connection are never copied: [`crate::http1`]. What is said of the
//! client: [`crate::forwarded`].)

use crate::http1::{Edits, Header, Request, Response, Version};

/// Makes a client's request head fit for a server: `via` is this proxy's name, `is_http2` whether it came in HTTP/2.
pub fn to_server(request: &Request<'_>, is_http2: bool, via: &str, edits: &mut Edits) {
    let version = if is_http2 { b"2.0 " } else { received(request.version) };
    append_via(version, via, request.fields, edits);
}

/// Makes the head of a server's response fit for a client.
pub fn to_client(response: &Response<'_>, via: &str, edits: &mut Edits) {
    append_via(received(response.version), via, response.fields, edits);
}

/// Counts `Max-Forwards` of OPTIONS and TRACE down; `false` when the request must not go further.
///
/// Source: RFC 9110, section 7.6.2.
pub fn count_forward(request: &Request<'_>, edits: &mut Edits) -> bool {
    if request.method != "OPTIONS" && request.method != "TRACE" {
        return true;
    }
    let found = request.fields.iter().position(|field| field.name.eq_ignore_ascii_case("max-forwards"));
    let Some(index) = found else { return true };
    let left = std::str::from_utf8(request.fields[index].value).ok().and_then(|value| value.parse::<u32>().ok());
    match left {
        None => true,
        Some(0) => false,
        Some(left) => {
            edits.replace(index, &[(left - 1).to_string().as_bytes()]);
            true
        }
    }
}

fn received(version: Version) -> &'static [u8; 4] {
    if version == Version::V10 { b"1.0 " } else { b"1.1 " }
}

/// RFC 9110, section 7.6.3: the version received and a pseudonym, the last of the list.
fn append_via(version: &[u8], via: &str, fields: &[Header<'_>], edits: &mut Edits) {
    let last = fields.iter().rposition(|field| field.name.eq_ignore_ascii_case("via"));
    match last.filter(|&index| !fields[index].value.is_empty()) {
        Some(index) => edits.replace(index, &[fields[index].value, b", ", version, via.as_bytes()]),
        None => edits.append("Via", &[version, via.as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::http1::{Asked, Framing, HeadLimits, Hop, read_request, read_response, write_request, write_response};

    fn sent(head: &str) -> Option<Vec<String>> {
        let mut slots = [const { MaybeUninit::uninit() }; 32];
        let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT).expect("a head").expect("whole");
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        if !count_forward(&request, &mut edits) {
            return None;
        }
        to_server(&request, false, "seoul-1", &mut edits);
        write_request(&mut out, &request, &edits, Framing::Empty, Hop::Persistent);
        Some(String::from_utf8(out).expect("text").lines().map(str::to_ascii_lowercase).collect())
    }

    fn with(fields: &str) -> Vec<String> {
        sent(&format!("GET / HTTP/1.1\r\nHost: www.example.com:80\r\n{fields}\r\n")).expect("goes on")
    }

    fn values<'l>(lines: &'l [String], name: &str) -> Vec<&'l str> {
        lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    }

    #[test]
    fn connection_cannot_take_via_away() {
        let lines = with("Via: 1.0 before\r\nConnection: via\r\n");
        assert_eq!(values(&lines, "via"), ["1.0 before, 1.1 seoul-1"]);
    }

    #[test]
    fn via_names_the_version_received_after_those_before() {
        let head = b"HTTP/1.0 200 OK\r\nVia: 1.1 cdn\r\nContent-Length: 0\r\n\r\n";
        let mut slots = [const { MaybeUninit::uninit() }; 32];
        let asked = Asked { method: "GET", upgrade: false };
        let response = read_response(head, &mut slots, asked, HeadLimits::DEFAULT).expect("a head").expect("whole");
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        to_client(&response, "seoul-1", &mut edits);
        write_response(&mut out, &response, &edits, Framing::Empty, Hop::Persistent);
        assert!(String::from_utf8_lossy(&out).contains("Via: 1.1 cdn, 1.0 seoul-1\r\n"));
    }

    #[test]
    fn max_forwards_is_counted_down_to_zero() {
        let head = |left: u32| format!("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: {left}\r\n\r\n");
        assert_eq!(values(&sent(&head(1)).expect("goes on"), "max-forwards"), ["0"]);
        assert_eq!(sent(&head(0)), None);
    }
}
