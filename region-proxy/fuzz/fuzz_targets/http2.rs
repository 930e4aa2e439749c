//! Any octets as HTTP/2: as what a client sends behind its preface and SETTINGS, and as what a server does.
//!
//! ```text
//! octet 0    who sends, modulo 2
//! octet 1    the size of the pieces in which they come, less 1
//! the rest   the octets
//! ```
//! Nothing panics, and pieces lead to the same as the whole.
#![no_main]

use std::io::IoSlice;
use std::task::{Context, Waker};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use region_proxy::http1::{Framing, HTTP2_PREFACE};
use region_proxy::http2::{Block, Event, Expected, Limits, Role, Session, frame, join_cookies, read_request};
use shared::moment::Moment;

fuzz_target!(|input: &[u8]| {
    let [who, step, octets @ ..] = input else { return };
    let role = if who % 2 == 0 { Role::Server } else { Role::Client };
    let mut all = if role == Role::Server { HTTP2_PREFACE.to_vec() } else { Vec::new() };
    frame::put_settings(&mut all, &[]);
    all.extend_from_slice(octets);
    assert_eq!(fate(role, &all, usize::from(*step) + 1), fate(role, &all, all.len()));
});

/// All that is sent, and how it ends.
fn fate(role: Role, octets: &[u8], step: usize) -> (Vec<u8>, bool) {
    let limits = Limits { streams: 3, head_octets: 4096, stream_window: 65_535, connection_window: 65_535 };
    let now = Moment::from_start(Duration::ZERO);
    let (mut session, mut block) = (Session::new(role, limits, now), Block::new(4096));
    let mut cx = Context::from_waker(Waker::noop());
    if role == Role::Client {
        let stream = session.open().expect("a stream");
        let _ = session.poll_write(stream, &mut cx, &[IoSlice::new(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")]);
    }
    for piece in octets.chunks(step) {
        let mut rest = piece;
        loop {
            match session.step(&mut rest, &mut block, now) {
                Ok(None) => break,
                Ok(Some(Event::Ended { .. })) => {}
                Ok(Some(Event::Request { stream, is_end })) => {
                    join_cookies(&mut block);
                    let _ = read_request(&block, &mut [httparse::EMPTY_HEADER; 129], is_end, "key");
                    session.accept(stream, Framing::Chunked, Expected::default());
                    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
                    let _ = session.poll_write(stream, &mut cx, &[IoSlice::new(text)]);
                }
                Err(_) => return (session.unsent().to_vec(), false),
            }
        }
    }
    let mut room = [0; 4096];
    let _ = session.poll_read(1, &mut cx, &mut room);
    session.forget(1);
    (session.unsent().to_vec(), true)
}
