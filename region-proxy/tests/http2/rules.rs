//! What RFC 9113 says of frames and streams, and what follows when a client does otherwise.

use region_proxy::http2::frame::{Code, flag, kind};

use crate::common::{Origin, Proxy, ask, settings, unchecked};
use crate::raw::{GET, Raw, block, post, with};

const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

async fn site() -> (Origin, Proxy) {
    let origin = Origin::start("a").await;
    let proxy = Proxy::start(&settings("", &unchecked("www.gslb.test", &[("a", origin.address)]))).await;
    (origin, proxy)
}

#[tokio::test]
async fn who_breaks_the_rules_of_the_connection_loses_it() {
    let (_origin, proxy) = site().await;
    let long = vec![0; 16_385];
    let head = block(&GET);
    let half = &head[..5];
    let huge_window = [0, 4, 0x80, 0, 0, 0];
    let push = [0, 2, 0, 0, 0, 2];
    let small_frames = [0, 5, 0, 0, 0x3f, 0xff];
    type Sent<'s> = (u8, u8, u32, &'s [u8]);
    // Sections of RFC 9113.
    let cases: &[(&str, Code, &[Sent<'_>])] = &[
        ("4.2: a frame beyond its largest size", Code::FrameSizeError, &[(kind::DATA, 0, 1, &long)]),
        ("4.3: a block that cannot be read", Code::CompressionError, &[(kind::HEADERS, ALL, 1, &[0x80])]),
        ("5.1: DATA on an idle stream", Code::ProtocolError, &[(kind::DATA, 0, 1, b"x")]),
        ("5.1: RST_STREAM on an idle stream", Code::ProtocolError, &[(kind::RST_STREAM, 0, 1, &[0; 4])]),
        ("5.1: WINDOW_UPDATE on an idle stream", Code::ProtocolError, &[(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 1, 0])]),
        ("5.1.1: a stream of an even number", Code::ProtocolError, &[(kind::HEADERS, ALL, 2, &head)]),
        (
            "5.1.1: a stream of a lower number",
            Code::StreamClosed,
            &[(kind::HEADERS, ALL, 5, &head), (kind::HEADERS, ALL, 3, &head)],
        ),
        ("6.1: DATA on no stream", Code::ProtocolError, &[(kind::DATA, 0, 0, b"x")]),
        (
            "6.1: padding as long as its frame",
            Code::ProtocolError,
            &[(kind::HEADERS, flag::END_HEADERS, 1, &head), (kind::DATA, flag::PADDED, 1, &[5, 0, 0, 0, 0])],
        ),
        ("6.2: HEADERS on no stream", Code::ProtocolError, &[(kind::HEADERS, ALL, 0, &head)]),
        (
            "6.2: another frame in a block",
            Code::ProtocolError,
            &[(kind::HEADERS, 0, 1, half), (kind::PING, 0, 0, &[0; 8])],
        ),
        (
            "6.2: a block of another stream in a block",
            Code::ProtocolError,
            &[(kind::HEADERS, 0, 1, half), (kind::CONTINUATION, flag::END_HEADERS, 3, &head[5..])],
        ),
        ("6.3: PRIORITY on no stream", Code::ProtocolError, &[(kind::PRIORITY, 0, 0, &[0; 5])]),
        ("6.3: PRIORITY of 4 octets", Code::FrameSizeError, &[(kind::PRIORITY, 0, 1, &[0; 4])]),
        (
            "6.4: RST_STREAM of 3 octets",
            Code::FrameSizeError,
            &[(kind::HEADERS, flag::END_HEADERS, 1, &head), (kind::RST_STREAM, 0, 1, &[0; 3])],
        ),
        ("6.4: RST_STREAM on no stream", Code::ProtocolError, &[(kind::RST_STREAM, 0, 0, &[0; 4])]),
        ("6.5: SETTINGS on a stream", Code::ProtocolError, &[(kind::SETTINGS, 0, 1, &[])]),
        ("6.5: SETTINGS of 5 octets", Code::FrameSizeError, &[(kind::SETTINGS, 0, 0, &[0; 5])]),
        ("6.5: an acknowledgement with content", Code::FrameSizeError, &[(kind::SETTINGS, flag::ACK, 0, &[0; 6])]),
        ("6.5.2: ENABLE_PUSH of 2", Code::ProtocolError, &[(kind::SETTINGS, 0, 0, &push)]),
        ("6.5.2: a window of 2^31", Code::FlowControlError, &[(kind::SETTINGS, 0, 0, &huge_window)]),
        ("6.5.2: frames of less than 16,384", Code::ProtocolError, &[(kind::SETTINGS, 0, 0, &small_frames)]),
        ("6.6: PUSH_PROMISE of a client", Code::ProtocolError, &[(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])]),
        ("6.7: PING on a stream", Code::ProtocolError, &[(kind::PING, 0, 1, &[0; 8])]),
        ("6.7: PING of 6 octets", Code::FrameSizeError, &[(kind::PING, 0, 0, &[0; 6])]),
        ("6.8: GOAWAY on a stream", Code::ProtocolError, &[(kind::GOAWAY, 0, 1, &[0; 8])]),
        ("6.9: WINDOW_UPDATE of 3 octets", Code::FrameSizeError, &[(kind::WINDOW_UPDATE, 0, 0, &[0; 3])]),
        ("6.9: WINDOW_UPDATE by nothing", Code::ProtocolError, &[(kind::WINDOW_UPDATE, 0, 0, &[0; 4])]),
        (
            "6.9.1: a window beyond 2^31 - 1",
            Code::FlowControlError,
            &[(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
        ),
        ("6.10: CONTINUATION of nothing", Code::ProtocolError, &[(kind::CONTINUATION, 4, 1, &head)]),
        (
            "6.10: CONTINUATION of a block that has ended",
            Code::ProtocolError,
            &[(kind::HEADERS, flag::END_HEADERS, 1, &head), (kind::CONTINUATION, 4, 1, &head)],
        ),
    ];
    for (what, code, frames) in cases {
        let mut raw = Raw::connect(proxy.listen).await;
        for (kind, flags, stream, payload) in *frames {
            raw.send(*kind, *flags, *stream, payload).await;
        }
        assert_eq!(raw.goaway().await, *code as u32, "{what}");
    }
}

#[tokio::test]
async fn what_is_wrong_on_one_stream_ends_that_stream_alone() {
    let (_origin, proxy) = site().await;
    type Sent<'s> = (u8, u8, &'s [u8]);
    let echo = block(&post("/echo", &[("content-length", "5")]));
    let plain = block(&post("/echo", &[]));
    let trailers = block(&[("x-sum", "1")]);
    let wrong_trailers = block(&[(":path", "/")]);
    let upper = [&block(&GET)[..], &[0, 1, b'A', 1, b'b']].concat();
    let window = [0x7f, 0xff, 0xff, 0xff];
    // Sections of RFC 9113.
    let cases: &[(&str, Code, &[Sent<'_>])] = &[
        ("6.9: WINDOW_UPDATE by nothing", Code::ProtocolError, &[(1, 4, &echo), (kind::WINDOW_UPDATE, 0, &[0; 4])]),
        ("6.9.1: too large a window", Code::FlowControlError, &[(1, 4, &echo), (kind::WINDOW_UPDATE, 0, &window)]),
        ("8.1: trailers that do not end", Code::ProtocolError, &[(1, 4, &plain), (1, 4, &trailers)]),
        ("8.1: trailers with :path", Code::ProtocolError, &[(1, 4, &plain), (1, 5, &wrong_trailers)]),
        ("8.1.1: more than content-length", Code::ProtocolError, &[(1, 4, &echo), (0, 1, b"123456")]),
        ("8.1.1: less than content-length", Code::ProtocolError, &[(1, 4, &echo), (0, 1, b"1234")]),
        ("8.1.1: content-length of nothing", Code::ProtocolError, &[(1, 5, &echo)]),
        ("8.2.1: a name with capitals", Code::ProtocolError, &[(1, 5, &upper)]),
        ("8.2.2: connection", Code::ProtocolError, &[(1, 5, &block(&with("/", &[("connection", "close")])))]),
        ("8.3.1: no :path", Code::ProtocolError, &[(1, 5, &block(&[GET[0], GET[1], GET[3]]))]),
    ];
    let mut raw = Raw::connect(proxy.listen).await;
    let mut stream = 1;
    for (what, code, frames) in cases {
        for (kind, flags, payload) in *frames {
            raw.send(*kind, *flags, stream, payload).await;
        }
        assert_eq!(raw.answer(stream).await.reset, Some(*code as u32), "{what}");
        stream += 2;
    }
    raw.ask(stream, &GET).await;
    assert_eq!(raw.answer(stream).await.status, "200");
}

#[tokio::test]
async fn frames_and_fields_that_nobody_knows_are_passed_over() {
    let (_origin, proxy) = site().await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.send(0xbe, 0xff, 0, b"what is this").await;
    raw.send(kind::SETTINGS, 0, 0, &[0, 0xbe, 0, 0, 0, 1]).await;
    raw.send(kind::PRIORITY, 0, 7, &[0, 0, 0, 7, 0]).await;
    raw.send(kind::PING, 0, 0, b"12345678").await;
    let pong = raw.next_of(kind::PING).await;
    assert_eq!((pong.flags, pong.payload.as_slice()), (flag::ACK, &b"12345678"[..]));
    let padded = [&[3][..], &[0, 0, 0, 0, 5], &block(&GET), &[0, 0, 0]].concat();
    raw.send(kind::HEADERS, ALL | flag::PADDED | flag::PRIORITY, 9, &padded).await;
    assert_eq!(raw.answer(9).await.status, "200");
}

#[tokio::test]
async fn a_head_in_many_frames_and_octets_one_by_one_are_read() {
    use tokio::io::AsyncWriteExt;
    let (_origin, proxy) = site().await;
    let mut raw = Raw::bare(proxy.listen).await;
    let mut octets = region_proxy::http1::HTTP2_PREFACE.to_vec();
    region_proxy::http2::frame::put_settings(&mut octets, &[]);
    let head = block(&GET);
    region_proxy::http2::frame::put(&mut octets, kind::HEADERS, flag::END_STREAM, 1, &head[..3]);
    region_proxy::http2::frame::put(&mut octets, kind::CONTINUATION, 0, 1, &head[3..7]);
    region_proxy::http2::frame::put(&mut octets, kind::CONTINUATION, flag::END_HEADERS, 1, &head[7..]);
    for octet in octets {
        raw.stream.write_all(&[octet]).await.expect("sent");
        raw.stream.flush().await.expect("sent");
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.answer(1).await.status, "200");
}

#[tokio::test]
async fn a_connection_begins_with_the_whole_preface_and_settings() {
    use tokio::io::AsyncWriteExt;
    let (_origin, proxy) = site().await;
    let mut raw = Raw::bare(proxy.listen).await;
    raw.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut raw.stream, &mut answer).await.expect("an end");
    assert!(answer.starts_with(b"HTTP/1.1 505"), "{}", String::from_utf8_lossy(&answer));
    let mut raw = Raw::bare(proxy.listen).await;
    raw.stream.write_all(region_proxy::http1::HTTP2_PREFACE).await.expect("sent");
    raw.send(kind::PING, 0, 0, &[0; 8]).await;
    assert_eq!(raw.goaway().await, Code::ProtocolError as u32);
}

#[tokio::test]
async fn where_it_is_switched_off_the_preface_is_refused() {
    let origin = Origin::start("a").await;
    let services = unchecked("www.gslb.test", &[("a", origin.address)]);
    let proxy = Proxy::start(&settings("", &format!("[http2]\ncleartext = false\n{services}"))).await;
    assert_eq!(ask(proxy.listen, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.status, 505);
    assert_eq!(proxy.get("/").await.status, 200);
}
