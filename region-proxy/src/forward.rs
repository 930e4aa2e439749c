//! What changes in a head on its way through: forwarding fields come. (Hop-by-hop fields are never copied: [`crate::http1`].)

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::http1::{Edits, Header, Request, Response, Version};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// Makes a client's request head fit for a server.
///
/// `X-Forwarded-For` gets the client's address after what is there already; the other forwarding fields say what this
/// proxy saw. `via` is this proxy's name.
pub fn to_server(request: &Request<'_>, origin: Origin, via: &str, edits: &mut Edits) {
    let mut places = Places::default();
    for (index, field) in request.fields.iter().enumerate() {
        match field.name.len() {
            3 if field.name.eq_ignore_ascii_case("via") => places.via = Some(index),
            15 if field.name.eq_ignore_ascii_case("x-forwarded-for") => places.client = Some(index),
            16 if field.name.eq_ignore_ascii_case("x-forwarded-host") => edits.leave_out(index),
            17 if field.name.eq_ignore_ascii_case("x-forwarded-proto") => edits.leave_out(index),
            _ => {}
        }
    }
    let mut address = Text { bytes: [0; 46], len: 0 };
    // An address is shorter than the text may be.
    let _ = write!(address, "{}", origin.client);
    append_to(places.client, "X-Forwarded-For", request.fields, &[address.as_bytes()], edits);
    edits.append("X-Forwarded-Proto", &[origin.scheme.as_bytes()]);
    if let Some(host) = request.host {
        edits.append("X-Forwarded-Host", &[host.as_str().as_bytes()]);
    }
    append_via(places.via, request.version, via, request.fields, edits);
}

/// Makes the head of a server's response fit for a client.
pub fn to_client(response: &Response<'_>, via: &str, edits: &mut Edits) {
    let last = response.fields.iter().rposition(|field| field.name.eq_ignore_ascii_case("via"));
    append_via(last, response.version, via, response.fields, edits);
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

/// Where the last lines of the fields stand that get something more.
#[derive(Debug, Default)]
struct Places {
    client: Option<usize>,
    via: Option<usize>,
}

/// RFC 9110, section 7.6.3: the version received and a pseudonym.
fn append_via(last: Option<usize>, version: Version, via: &str, fields: &[Header<'_>], edits: &mut Edits) {
    let version: &[u8] = if version == Version::V10 { b"1.0 " } else { b"1.1 " };
    append_to(last, "Via", fields, &[version, via.as_bytes()], edits);
}

/// Makes `item` the last of the list `name`, whose last line is at the index `last`.
fn append_to(last: Option<usize>, name: &str, fields: &[Header<'_>], item: &[&[u8]], edits: &mut Edits) {
    let mut parts: [&[u8]; 4] = [b"", b"", item[0], item.get(1).copied().unwrap_or_default()];
    match last {
        Some(index) => {
            if !fields[index].value.is_empty() {
                (parts[0], parts[1]) = (fields[index].value, b", ");
            }
            edits.replace(index, &parts);
        }
        None => edits.append(name, &parts),
    }
}

/// A short text that is not on the heap.
#[derive(Debug)]
struct Text {
    bytes: [u8; 46],
    len: usize,
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::http1::{Asked, Framing, HeadLimits, Hop, read_request, read_response, write_request, write_response};

    const ORIGIN: Origin = Origin { client: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), scheme: "http" };

    fn sent(head: &str) -> Option<Vec<String>> {
        let mut slots = [const { MaybeUninit::uninit() }; 32];
        let request = read_request(head.as_bytes(), &mut slots, HeadLimits::DEFAULT).expect("a head").expect("whole");
        let (mut edits, mut out) = (Edits::new(), Vec::new());
        if !count_forward(&request, &mut edits) {
            return None;
        }
        to_server(&request, ORIGIN, "seoul-1", &mut edits);
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
    fn the_client_is_the_last_of_x_forwarded_for() {
        assert_eq!(values(&with(""), "x-forwarded-for"), ["192.0.2.7"]);
        let lines = with("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 198.51.100.2\r\n");
        assert_eq!(values(&lines, "x-forwarded-for").join(", "), "198.51.100.1, 198.51.100.2, 192.0.2.7");
    }

    #[test]
    fn connection_cannot_take_away_host_or_the_clients_address() {
        let lines = with("X-Forwarded-For: 198.51.100.1\r\nConnection: host, x-forwarded-for, via\r\n");
        assert_eq!(values(&lines, "host"), ["www.example.com:80"]);
        assert_eq!(values(&lines, "via"), ["1.1 seoul-1"]);
        assert!(values(&lines, "x-forwarded-for")[0].ends_with("192.0.2.7"));
    }

    #[test]
    fn a_claimed_scheme_or_host_is_replaced_by_what_was_seen() {
        let lines = with("X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n");
        assert_eq!(values(&lines, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&lines, "x-forwarded-host"), ["www.example.com:80"]);
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
