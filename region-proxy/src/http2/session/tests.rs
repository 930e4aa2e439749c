use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::http1::{Framing, HTTP2_PREFACE};
use crate::http2::hpack;

const LIMITS: Limits = Limits { streams: 3, head_octets: 4096, stream_window: 65_535, connection_window: 65_535 };

fn server() -> Session {
    Session::new(Role::Server, LIMITS, Moment::from_start(Duration::ZERO))
}

/// All that follows from `octets`, in pieces of at most `step`: events, the error, and what is sent.
fn fate(octets: &[u8], step: usize) -> (Vec<Event>, Option<Fatal>, Vec<u8>) {
    let (mut session, mut block, mut events) = (server(), Block::new(4096), Vec::new());
    for piece in octets.chunks(step) {
        let mut input = piece;
        loop {
            match session.step(&mut input, &mut block, Moment::from_start(Duration::ZERO)) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    events.push(event);
                    if let Event::Request { stream, .. } = event {
                        session.accept(stream, Framing::Chunked, Expected::default());
                        let answer = [std::io::IoSlice::new(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")];
                        let _ = session.poll_write(stream, &mut Context::from_waker(Waker::noop()), &answer);
                    }
                }
                Err(fatal) => {
                    session.close(fatal.code);
                    return (events, Some(fatal), session.unsent().to_vec());
                }
            }
        }
    }
    (events, None, session.unsent().to_vec())
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let mut head = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")] {
        hpack::put_field(&mut head, name.as_bytes(), value.as_bytes());
    }
    let payload = prop_oneof![
        Just(head),
        Just(Vec::new()),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0; 8]),
        prop::collection::vec(any::<u8>(), 0..20)
    ];
    let frame = (0_u8..11, any::<u8>(), 0_u32..9, payload).prop_map(|(kind, flags, stream, payload)| {
        let mut out = Vec::new();
        frame::put(&mut out, kind, flags, stream, &payload);
        out
    });
    prop::collection::vec(frame, 0..20).prop_map(|frames| {
        let mut octets = HTTP2_PREFACE.to_vec();
        frame::put_settings(&mut octets, &[]);
        octets.extend(frames.concat());
        octets
    })
}

proptest! {
    #[test]
    fn any_octets_at_all_are_safe_to_take(octets: Vec<u8>, step in 1_usize..50) {
        fate(&octets, step);
        fate(&[HTTP2_PREFACE, &octets].concat(), step);
    }

    #[test]
    fn frames_cut_anywhere_lead_to_the_same(octets in frames(), step in 1_usize..50) {
        prop_assert_eq!(fate(&octets, step), fate(&octets, octets.len()));
    }
}

#[test]
fn windows_are_never_overdrawn() {
    let mut octets = HTTP2_PREFACE.to_vec();
    frame::put_settings(&mut octets, &[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let mut head = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")] {
        hpack::put_field(&mut head, name.as_bytes(), value.as_bytes());
    }
    frame::put(&mut octets, kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &head);
    let (mut session, mut block) = (server(), Block::new(4096));
    let now = Moment::from_start(Duration::ZERO);
    let event = session.step(&mut octets.as_slice(), &mut block, now);
    assert_eq!(event, Ok(Some(Event::Request { stream: 1, is_end: true })));
    session.accept(1, Framing::Empty, Expected::default());
    let mut cx = Context::from_waker(Waker::noop());
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    let mut at = 0;
    while let std::task::Poll::Ready(count) = session.poll_write(1, &mut cx, &[std::io::IoSlice::new(&text[at..])]) {
        at += count.expect("written");
    }
    assert!(text[at..].starts_with(b"abcdef"), "{}", String::from_utf8_lossy(&text[at..]));
    let mut more = Vec::new();
    frame::put_window_update(&mut more, 1, 6);
    assert_eq!(session.step(&mut more.as_slice(), &mut block, now), Ok(None));
    while at < text.len() {
        match session.poll_write(1, &mut cx, &[std::io::IoSlice::new(&text[at..])]) {
            std::task::Poll::Ready(count) => at += count.expect("written"),
            std::task::Poll::Pending => panic!("the end needs no window"),
        }
    }
    session.forget(1);
    assert!(session.is_empty() && session.unsent().ends_with(&[0, 0, 0, 0, 1, 0, 0, 0, 1]));
}

/// A session that has got a request on stream 1, of a client whose windows are as wide as can be.
fn asked(method: &str, flags: u8, body: Framing) -> Session {
    let mut octets = HTTP2_PREFACE.to_vec();
    frame::put_settings(&mut octets, &[(setting::INITIAL_WINDOW_SIZE, 0x7FFF_FFFF)]);
    frame::put_window_update(&mut octets, 0, 0x7FFF_0000);
    let mut head = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "a")] {
        hpack::put_field(&mut head, name.as_bytes(), value.as_bytes());
    }
    frame::put(&mut octets, kind::HEADERS, flag::END_HEADERS | flags, 1, &head);
    let (mut session, mut block) = (server(), Block::new(4096));
    let event = session.step(&mut octets.as_slice(), &mut block, Moment::from_start(Duration::ZERO));
    assert!(matches!(event, Ok(Some(Event::Request { stream: 1, .. }))), "{event:?}");
    session.accept(1, body, Expected::default());
    session
}

#[test]
fn what_was_sent_is_not_held_while_more_is_written() {
    let mut session = asked("GET", flag::END_STREAM, Framing::Empty);
    let mut cx = Context::from_waker(Waker::noop());
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n";
    let written = session.poll_write(1, &mut cx, &[std::io::IoSlice::new(head)]);
    assert!(matches!(written, std::task::Poll::Ready(Ok(count)) if count == head.len()));
    let body = vec![b'x'; 9_000_000];
    let mut at = 0;
    while at < body.len() {
        while let std::task::Poll::Ready(count) = session.poll_write(1, &mut cx, &[std::io::IoSlice::new(&body[at..])])
        {
            at += count.expect("written");
            if at == body.len() {
                break;
            }
        }
        // Never all of it, as with a client that is slower than its server.
        let count = session.unsent().len() / 2 + 1;
        session.note_sent(count);
        assert!(session.out.len() <= 4 * OUT_MAX, "{}", session.out.len());
    }
}

#[test]
fn what_was_read_is_not_held_while_more_comes() {
    let mut session = asked("POST", 0, Framing::Chunked);
    let (mut block, mut cx) = (Block::new(4096), Context::from_waker(Waker::noop()));
    let mut frame = Vec::new();
    frame::put(&mut frame, kind::DATA, 0, 1, &[b'x'; 16_000]);
    let mut buffer = [0; 16_000];
    for _ in 0..300 {
        let now = Moment::from_start(Duration::ZERO);
        while session.step(&mut frame.as_slice(), &mut block, now).expect("within the windows").is_some() {}
        // A chunk has less room than its buffer, so that some octets are always left.
        let read = session.poll_read(1, &mut cx, &mut buffer);
        assert!(matches!(read, std::task::Poll::Ready(Ok(count)) if count > 0), "{read:?}");
        while session.streams[0].1.data.len() - session.streams[0].1.read > 16_000 {
            let _ = session.poll_read(1, &mut cx, &mut buffer);
        }
        assert!(session.streams[0].1.data.len() <= 2 * 65_535, "{}", session.streams[0].1.data.len());
    }
}
