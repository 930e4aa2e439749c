//! The table of messages in cases.txt, and what `http1` makes of octets in its words.

use std::mem::MaybeUninit;

use region_proxy::http1::{
    Asked, ChunkLimits, Chunked, Framing, HeadLimits, Header, Persistence, read_request, read_response,
};

pub(crate) const FIELDS_MAX: usize = 100;

/// One line of the table.
pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) verdict: Vec<u8>,
    pub(crate) octets: Vec<u8>,
}

pub(crate) fn cases() -> Vec<Case> {
    let mut section = "";
    let mut cases = Vec::new();
    for line in include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[') {
            section = title.trim_end_matches(']');
            continue;
        }
        let columns: Vec<&str> =
            line.splitn(4, " |").map(|column| column.strip_prefix(' ').unwrap_or(column)).collect();
        let [name, rfc, verdict, octets] = columns[..] else { panic!("not four columns: {line}") };
        assert!(rfc.starts_with(|first: char| first.is_ascii_digit()), "no RFC section: {line}");
        cases.push(Case { section, name, verdict: unescape(verdict), octets: unescape(octets) });
    }
    cases
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let len = match escape.as_bytes()[0] {
            b'x' => {
                out.push(u8::from_str_radix(&escape[1..3], 16).expect("two digits"));
                3
            }
            b'{' => {
                let end = escape.find('}').expect("braces that close");
                let (what, times) = escape[1..end].rsplit_once('*').expect("text and times");
                out.extend(unescape(what).repeat(times.parse().expect("a number")));
                end + 1
            }
            single => {
                out.push(match single {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    _ => single,
                });
                1
            }
        };
        rest = &escape[len..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// What becomes of `octets` in a `section` of the table, in its words.
pub(crate) fn verdict(section: &str, octets: &[u8]) -> Vec<u8> {
    match section {
        "requests" => request_verdict(octets).into_bytes(),
        "responses to GET" => response_verdict(octets, Asked { method: "GET", upgrade: false }).into_bytes(),
        "responses to HEAD" => response_verdict(octets, Asked { method: "HEAD", upgrade: false }).into_bytes(),
        "responses to upgrade" => response_verdict(octets, Asked { method: "GET", upgrade: true }).into_bytes(),
        "chunked bodies" => body_verdict(&[octets]),
        other => panic!("no such section: {other}"),
    }
}

fn request_verdict(octets: &[u8]) -> String {
    let mut slots = [MaybeUninit::<Header<'_>>::uninit(); FIELDS_MAX];
    let request = match read_request(octets, &mut slots, HeadLimits::DEFAULT) {
        Err(refusal) => return format!("{} {:?}", refusal.status, refusal.reason),
        Ok(None) => return "more".to_owned(),
        Ok(Some(request)) => request,
    };
    assert!(octets[..request.len].ends_with(b"\r\n\r\n"));
    let host = request.host.map_or("", |host| host.as_str());
    let path = request.target.path_and_query();
    let mut text = format!("read {} {path} @{host} {}", request.method, framing(request.body));
    text += persistence(request.persistence);
    if request.options.names_fields {
        text += " names";
    }
    if request.expects_continue {
        text += " continue";
    }
    text + &upgrade(request.upgrade)
}

fn response_verdict(octets: &[u8], asked: Asked<'_>) -> String {
    let mut slots = [MaybeUninit::<Header<'_>>::uninit(); FIELDS_MAX];
    match read_response(octets, &mut slots, asked, HeadLimits::DEFAULT) {
        Err(bad) => format!("bad {:?}", bad.reason),
        Ok(None) => "more".to_owned(),
        Ok(Some(response)) => {
            assert!(octets[..response.len].ends_with(b"\r\n\r\n"));
            let persistence = persistence(response.persistence);
            format!("read {} {}{persistence}{}", response.status, framing(response.body), upgrade(response.upgrade))
        }
    }
}

fn framing(framing: Framing) -> String {
    match framing {
        Framing::Empty => "none".to_owned(),
        Framing::Length(length) => format!("length {length}"),
        Framing::Chunked => "chunked".to_owned(),
        Framing::UntilClose => "close".to_owned(),
    }
}

fn persistence(persistence: Persistence) -> &'static str {
    match persistence {
        Persistence::KeepAlive => " keep",
        Persistence::Close => " close",
    }
}

fn upgrade(upgrade: Option<&[u8]>) -> String {
    upgrade.map(|value| format!(" upgrade={}", value.escape_ascii())).unwrap_or_default()
}

/// What becomes of a chunked body that comes in these pieces.
pub(crate) fn body_verdict(pieces: &[&[u8]]) -> Vec<u8> {
    let mut body = Chunked::new(ChunkLimits::DEFAULT);
    let (mut data, mut left) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() && !body.is_done() {
            let step = match body.step(rest) {
                Ok(step) => step,
                Err(refusal) => return format!("{} {:?}", refusal.status, refusal.reason).into_bytes(),
            };
            assert!(step.consumed > 0 && step.data.end <= step.consumed);
            data.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
        }
        left += rest.len();
    }
    if !body.is_done() {
        return [b"more ".as_slice(), &data].concat();
    }
    let space = if body.trailers().is_empty() { "" } else { " " };
    [b"done ".as_slice(), &data, format!(" {left}{space}").as_bytes(), body.trailers()].concat()
}
