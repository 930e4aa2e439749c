//! Requests of HTTP/2 on their way to servers of HTTP/1.1, and back.

use region_proxy::http2::frame::{Code, flag, kind};
use region_proxy::http2::websocket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{Origin, Proxy, scripted, settings, unchecked, until};
use crate::raw::{GET, Raw, block, post, with};

async fn site() -> (Origin, Proxy) {
    let origin = Origin::start("a").await;
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", origin.address)]))).await;
    (origin, proxy)
}

async fn before(reply: &'static str) -> Proxy {
    let (address, _) = scripted(reply).await;
    Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", address)]))).await
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[tokio::test]
async fn a_server_sees_a_request_of_http_1_1() {
    let (_origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &with("/a?b", &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-one", "1")])).await;
    let answer = raw.answer(1).await;
    let body = text(&answer.body);
    assert!(body.starts_with("a GET /a?b\nhost: www.gslb.test\n"), "{body}");
    for line in ["cookie: a=1; b=2\n", "x-one: 1\n", "via: 2.0 seoul-1\n", "x-forwarded-for: 127.0.0.1\n"] {
        assert!(body.contains(line), "{line} in {body}");
    }
    assert!(!body.contains("te: "), "{body}");
    let is_of_http1 = |(name, _): &(String, String)| matches!(name.as_str(), "connection" | "transfer-encoding");
    assert!(!answer.fields.iter().any(is_of_http1), "{:?}", answer.fields);
}

#[tokio::test]
async fn bodies_larger_than_all_windows_come_back_as_they_went() {
    let (_origin, proxy) = site().await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    for length in [Some("1000000"), None] {
        let mut raw = Raw::connect(proxy.listen).await;
        let length: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
        raw.begin(1, &post("/echo", &length)).await;
        // The window of a stream is as the proxy's SETTINGS say.
        let (mut sent, mut of_stream, mut of_all) = (0, 131_072_usize, 65_535_usize);
        let mut got = Vec::new();
        while got.len() < body.len() {
            let count = of_stream.min(of_all).min(16_384).min(body.len() - sent);
            if count > 0 {
                let flags = if sent + count == body.len() { flag::END_STREAM } else { 0 };
                raw.send(kind::DATA, flags, 1, &body[sent..sent + count]).await;
                (sent, of_stream, of_all) = (sent + count, of_stream - count, of_all - count);
                continue;
            }
            let frame = raw.next().await.expect("the connection goes on");
            let more = u32::from_be_bytes(frame.payload.first_chunk().copied().unwrap_or_default());
            match (frame.kind, frame.stream) {
                (kind::WINDOW_UPDATE, 0) => of_all += more as usize,
                (kind::WINDOW_UPDATE, _) => of_stream += more as usize,
                (kind::DATA, _) => {
                    got.extend_from_slice(&frame.payload);
                    let count = (frame.payload.len() as u32).to_be_bytes();
                    raw.send(kind::WINDOW_UPDATE, 0, 0, &count).await;
                    raw.send(kind::WINDOW_UPDATE, 0, 1, &count).await;
                }
                (kind::RST_STREAM | kind::GOAWAY, _) => panic!("{frame:?}"),
                _ => {}
            }
        }
        assert!(got == body);
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut stream = loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            // The first check only connects.
            if stream.read_buf(&mut seen).await.expect("octets or the end") > 0 {
                break stream;
            }
        };
        while !seen.ends_with(b"\r\nx-up: 1\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut seen).await.expect("octets"), 0, "{}", text(&seen));
        }
        let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Down: 2\r\n\r\n";
        stream.write_all(reply).await.expect("sent");
        stream
    });
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", address)]))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.begin(1, &post("/", &[])).await;
    raw.send(kind::DATA, 0, 1, b"hello").await;
    raw.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[("x-up", "1")])).await;
    let answer = raw.answer(1).await;
    assert_eq!(answer.body, b"abc");
    assert_eq!(answer.fields, [("x-down".to_owned(), "2".to_owned())]);
    drop(raw);
    server.await.expect("a server that saw all");
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for (method, reply, status) in [
        ("HEAD", length, "200"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304"),
    ] {
        let proxy = before(reply).await;
        let mut raw = Raw::connect(proxy.listen).await;
        raw.ask(1, &[(":method", method), GET[1], GET[2], GET[3]]).await;
        let head = raw.next_of(kind::HEADERS).await;
        assert_ne!(head.flags & flag::END_STREAM, 0, "{method} {status}");
        assert!(raw.fields(&head).contains(&(":status".to_owned(), status.to_owned())));
    }
}

#[tokio::test]
async fn interim_responses_are_passed_on() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let proxy = before(hints).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &GET).await;
    let interim = raw.next_of(kind::HEADERS).await;
    assert_eq!(interim.flags & flag::END_STREAM, 0);
    assert_eq!(raw.fields(&interim)[..2], [(":status".into(), "103".into()), ("link".into(), "</a>".into())]);
    let answer = raw.answer(1).await;
    assert_eq!((answer.status.as_str(), answer.body.as_slice()), ("200", &b"ok"[..]));
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_from_the_server() {
    let (_origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.begin(1, &post("/", &[("expect", "100-continue"), ("content-length", "2")])).await;
    let interim = raw.next_of(kind::HEADERS).await;
    assert!(raw.fields(&interim).contains(&(":status".to_owned(), "100".to_owned())));
    raw.send(kind::DATA, flag::END_STREAM, 1, b"ok").await;
    assert!(text(&raw.answer(1).await.body).contains("body Ok(2)"));
}

#[tokio::test]
async fn own_answers_end_their_stream_alone() {
    let (_origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    let elsewhere = [GET[0], GET[1], GET[2], (":authority", "other.example.com")];
    raw.ask(1, &elsewhere).await;
    assert_eq!(raw.answer(1).await.status, "421");
    raw.ask(3, &[(":method", "CONNECT"), (":authority", "www.gslb.test:443")]).await;
    assert_eq!(raw.answer(3).await.status, "501");
    raw.ask(5, &with("/", &[("host", "evil.example.com")])).await;
    assert_eq!(raw.answer(5).await.status, "400");
    let long = "x".repeat(10_000);
    let fields: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, long.as_str())).into();
    let many = block(&with("/", &fields));
    raw.send(kind::HEADERS, flag::END_STREAM, 7, &many[..16_000]).await;
    let mut rest = many[16_000..].chunks(16_000).peekable();
    let head_octets = 65_536;
    assert!(many.len() > head_octets);
    while let Some(piece) = rest.next() {
        let flags = if rest.peek().is_none() { flag::END_HEADERS } else { 0 };
        raw.send(kind::CONTINUATION, flags, 7, piece).await;
    }
    assert_eq!(raw.goaway().await, Code::EnhanceYourCalm as u32);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_431() {
    let (_origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    // Each field counts with 32 octets more.
    let names: Vec<String> = (0..120).map(|number| format!("x-{number}")).collect();
    let value = "v".repeat(520);
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let head = block(&with("/", &fields));
    let mut pieces = head.chunks(16_384).enumerate().peekable();
    while let Some((at, piece)) = pieces.next() {
        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
        let end = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
        raw.send(kind, if at == 0 { end | flag::END_STREAM } else { end }, 1, piece).await;
    }
    assert_eq!(raw.answer(1).await.status, "431");
    raw.ask(3, &GET).await;
    assert_eq!(raw.answer(3).await.status, "200");
}

#[tokio::test]
async fn a_head_has_as_many_fields_as_the_settings_allow() {
    let origin = Origin::start("a").await;
    let services = unchecked("www.gslb.test", &[("a", origin.address)]);
    let proxy = Proxy::start(&settings("limits.fields = 40", &services)).await;
    let mut raw = Raw::connect(proxy.listen).await;
    let names: Vec<String> = (0..41).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    raw.ask(1, &with("/", &fields[..40])).await;
    assert_eq!(raw.answer(1).await.status, "200");
    raw.ask(3, &with("/", &fields)).await;
    assert_eq!(raw.answer(3).await.status, "431");
}

#[tokio::test]
async fn a_stream_that_is_slow_holds_up_no_other() {
    let (origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &with("/slow", &[])).await;
    raw.ask(3, &with("/flood", &[])).await;
    until("the flood has filled its window", async || origin.requests() == 2).await;
    raw.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]).await;
    let mut flooded = 0;
    while flooded < 65_535 {
        flooded += raw.next_of(kind::DATA).await.payload.len();
    }
    assert_eq!(flooded, 65_535, "as much as its window, and no more");
    raw.ask(5, &GET).await;
    assert_eq!(raw.answer(5).await.status, "200");
    origin.shared.release.notify_waiters();
    assert_eq!(raw.answer(1).await.body, b"slow");
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all_and_can_ask_again() {
    let (origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.send(kind::WINDOW_UPDATE, 0, 0, &[0, 0x7f, 0, 0]).await;
    let streams: Vec<u32> = (0..40).map(|number| number * 2 + 1).collect();
    for stream in &streams {
        raw.ask(*stream, &with("/flood", &[])).await;
    }
    until("all are under way", async || origin.requests() == 40).await;
    let mut left = 40 * 65_535;
    while left > 0 {
        left -= raw.next_of(kind::DATA).await.payload.len();
    }
    raw.ask(81, &GET).await;
    assert_eq!(raw.answer(81).await.status, "200");
}

#[tokio::test]
async fn a_client_that_cancels_frees_the_connection_to_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", address)]))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &GET).await;
    let mut server = loop {
        // The first check only connects.
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if stream.read(&mut [0; 1000]).await.expect("octets or the end") > 0 {
            break stream;
        }
    };
    raw.reset(1).await;
    assert_eq!(server.read(&mut [0; 10]).await.expect("the end"), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read(&mut [0; 1000]).await.is_ok_and(|count| count > 0) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
            }
        }
    });
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", address)]))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &GET).await;
    let answer = raw.answer(1).await;
    assert_eq!((answer.body.as_slice(), answer.reset), (&b"half"[..], Some(Code::InternalError as u32)));
}

#[tokio::test]
async fn a_websocket_runs_through_a_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") && stream.read_buf(&mut seen).await.expect("octets") > 0 {}
            if seen.is_empty() {
                continue;
            }
            let key = text(&seen).lines().find_map(|line| Some(line.strip_prefix("sec-websocket-key: ")?.to_owned()));
            let switch = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello",
                websocket::accept(&key.expect("a key"))
            );
            stream.write_all(switch.as_bytes()).await.expect("sent");
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.expect("octets");
            stream.write_all(&ping).await.expect("sent");
            assert_eq!(stream.read(&mut ping).await.expect("the end"), 0);
            return text(&seen);
        }
    });
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", address)]))).await;
    let mut raw = Raw::connect(proxy.listen).await;
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], (":path", "/chat"), GET[3]];
    raw.begin(1, &[&connect[..], &[("sec-websocket-version", "13")]].concat()).await;
    let head = raw.next_of(kind::HEADERS).await;
    let fields = raw.fields(&head);
    assert_eq!(fields[0], (":status".to_owned(), "200".to_owned()));
    assert!(fields.contains(&("sec-websocket-protocol".to_owned(), "chat".to_owned())));
    assert!(!fields.iter().any(|(name, _)| name == "sec-websocket-accept" || name == "upgrade"), "{fields:?}");
    assert_eq!(raw.next_of(kind::DATA).await.payload, b"hello");
    raw.send(kind::DATA, 0, 1, b"ping").await;
    assert_eq!(raw.next_of(kind::DATA).await.payload, b"ping");
    raw.send(kind::DATA, flag::END_STREAM, 1, b"").await;
    let seen = server.await.expect("a server that saw all").to_ascii_lowercase();
    assert!(seen.starts_with("get /chat http/1.1\r\n"), "{seen}");
    let key = seen.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
    assert_eq!((key.len(), &key[22..]), (24, "=="));
    assert!(seen.contains("upgrade: websocket\r\n") && seen.contains("sec-websocket-version: 13\r\n"));
}

#[tokio::test]
async fn a_server_that_accepts_no_websocket_gets_none() {
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], (":path", "/chat"), GET[3]];
    let wrong = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let proxy = before(wrong).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.begin(1, &connect).await;
    assert_eq!(raw.answer(1).await.reset, Some(Code::InternalError as u32));
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let proxy = before(refused).await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.begin(1, &connect).await;
    let answer = raw.answer(1).await;
    assert_eq!((answer.status.as_str(), answer.body.as_slice()), ("403", &b"no"[..]));
}
