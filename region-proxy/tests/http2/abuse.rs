//! Clients of HTTP/2 that want much work for little.

use region_proxy::http2::frame::{self, Code, flag, kind};
use tokio::io::AsyncWriteExt;

use crate::common::{Origin, Proxy, settings, unchecked, until};
use crate::raw::{GET, Raw, block, post, with};

const CALM: u32 = Code::EnhanceYourCalm as u32;
const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

async fn site(rest: &str) -> (Origin, Proxy) {
    let origin = Origin::start("a").await;
    let services = unchecked("www.gslb.test", &[("a", origin.address)]);
    let proxy = Proxy::start(&settings("", &format!("{rest}\n{services}"))).await;
    (origin, proxy)
}

/// Sends `octets` again and again, until the proxy has had enough; others are served all the while.
async fn flood(proxy: &Proxy, first: &[u8], octets: impl Fn(u32) -> Vec<u8>) -> u32 {
    let mut raw = Raw::connect(proxy.listen).await;
    raw.stream.write_all(first).await.expect("sent");
    for round in 0..3000 {
        if raw.stream.write_all(&octets(round)).await.is_err() {
            break;
        }
    }
    assert_eq!(proxy.get("/").await.status, 200);
    raw.goaway().await
}

fn one(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, kind, flags, stream, payload);
    out
}

/// CVE-2023-44487.
#[tokio::test]
async fn who_resets_what_it_has_asked_for_again_and_again_is_cut() {
    let (origin, proxy) = site("").await;
    let head = block(&with("/slow", &[]));
    let code = flood(&proxy, &[], |round| {
        let stream = round * 2 + 1;
        [one(kind::HEADERS, ALL, stream, &head), one(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    assert_eq!(code.await, CALM);
    assert!(origin.requests() < 500, "{}", origin.requests());
}

#[tokio::test]
async fn who_has_streams_refused_again_and_again_is_cut() {
    let (_origin, proxy) = site("").await;
    let head = block(&with("/slow", &[]));
    let code = flood(&proxy, &[], |round| one(kind::HEADERS, ALL, round * 2 + 1, &head)).await;
    assert_eq!(code, CALM);
    let malformed = block(&[GET[0]]);
    let code = flood(&proxy, &[], |round| one(kind::HEADERS, ALL, round * 2 + 1, &malformed)).await;
    assert_eq!(code, CALM);
}

/// CVE-2024-27316 and its kin.
#[tokio::test]
async fn a_header_block_without_end_is_cut() {
    let (_origin, proxy) = site("").await;
    let begin = one(kind::HEADERS, flag::END_STREAM, 1, &block(&GET));
    assert_eq!(flood(&proxy, &begin, |_| one(kind::CONTINUATION, 0, 1, &[])).await, CALM);
    let field = block(&[("x", &"y".repeat(10_000))]);
    assert_eq!(flood(&proxy, &begin, |_| one(kind::CONTINUATION, 0, 1, &field)).await, CALM);
}

/// CVE-2019-9512, -9513, -9515, -9518.
#[tokio::test]
async fn floods_of_frames_that_move_nothing_are_cut() {
    let (_origin, proxy) = site("").await;
    let begin = one(kind::HEADERS, flag::END_HEADERS, 1, &block(&post("/echo", &[])));
    let dribble = 1_u32.to_be_bytes();
    for (what, frame) in [
        ("PING", one(kind::PING, 0, 0, &[0; 8])),
        ("SETTINGS", one(kind::SETTINGS, 0, 0, &[])),
        ("PRIORITY", one(kind::PRIORITY, 0, 3, &[0; 5])),
        ("empty DATA", one(kind::DATA, 0, 1, &[])),
        ("windows opened by one octet", one(kind::WINDOW_UPDATE, 0, 1, &dribble)),
        ("frames that nobody knows", one(0xfa, 0, 0, &[])),
    ] {
        assert_eq!(flood(&proxy, &begin, |_| frame.clone()).await, CALM, "{what}");
    }
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_can_be_asked_again() {
    let (origin, proxy) = site("[http2]\nstreams = 2\n").await;
    let mut raw = Raw::connect(proxy.listen).await;
    for stream in [1, 3, 5] {
        raw.ask(stream, &with("/slow", &[])).await;
    }
    assert_eq!(raw.answer(5).await.reset, Some(Code::RefusedStream as u32));
    until("two requests are under way", async || origin.requests() == 2).await;
    origin.shared.release.notify_waiters();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let frame = raw.next().await.expect("the connection goes on");
        if frame.kind == kind::DATA && frame.flags & flag::END_STREAM != 0 {
            ended.push(frame.stream);
        }
    }
    raw.ask(7, &GET).await;
    assert_eq!(raw.next_of(kind::HEADERS).await.stream, 7);
}

#[tokio::test]
async fn more_data_than_its_window_ends_a_stream_or_the_connection() {
    let (_origin, proxy) = site("[http2]\nstream_window = 65535\nconnection_window = 131072\n").await;
    let data = vec![0; 16_384];
    let mut raw = Raw::connect(proxy.listen).await;
    // The server never takes the body.
    raw.begin(1, &post("/slow", &[])).await;
    raw.begin(3, &post("/slow", &[])).await;
    let mut reset = None;
    for round in 0..2000 {
        raw.send(kind::DATA, 0, 1 + round % 2 * 2, &data).await;
    }
    while let Some(frame) = raw.next().await {
        match frame.kind {
            kind::RST_STREAM => reset = reset.or(frame::number(&frame.payload)),
            kind::GOAWAY => reset = reset.or(frame::number(&frame.payload[4..])),
            _ => {}
        }
    }
    assert_eq!(reset, Some(Code::FlowControlError as u32));
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answers_is_cut() {
    let (_origin, proxy) = site("[limits]\nclient_stall = \"1s\"\n").await;
    let mut raw = Raw::connect(proxy.listen).await;
    raw.ask(1, &with("/flood", &[])).await;
    // Its window of 65,535 octets is never opened again.
    assert_eq!(raw.next_of(kind::RST_STREAM).await.stream, 1);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_told_that_it_ends() {
    let (_origin, proxy) = site("[limits]\nrequest_head = \"300ms\"\n").await;
    let mut raw = Raw::connect(proxy.listen).await;
    assert_eq!(raw.goaway().await, Code::NoError as u32);
    let mut raw = Raw::connect(proxy.listen).await;
    raw.send(kind::HEADERS, 0, 1, &block(&GET)).await;
    assert_eq!(raw.goaway().await, Code::NoError as u32);
}
