//! What goes out: text of HTTP/1.1 becomes HEADERS and DATA.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::task::{Context, Poll};

use super::flow::broken;
use super::stream::{Expected, Listening, Speaking};
use super::*;
use crate::http1::{
    Asked, ChunkLimits, Chunked, Framing, HeadLimits, Header, Request, Response, read_request, read_response,
};
use crate::http2::{hpack, websocket};

impl Session {
    /// Notes what the request on `stream` is: how its content is read, and what the answer to it may be.
    pub fn accept(&mut self, stream: u32, body: Framing, expected: Expected) {
        let Some(found) = self.find(stream) else { return };
        found.expected = expected;
        found.listening = if body == Framing::Chunked { Listening::Chunks } else { Listening::Plain };
        if let Framing::Length(length) = body {
            found.length_left = Some(length);
        }
    }

    /// Notes what the server must say to accept the WebSocket that is asked for on `stream` with `key`.
    pub fn expect_switch(&mut self, stream: u32, key: &str) {
        if let Some(found) = self.find(stream) {
            found.switch = Some(websocket::accept(key));
        }
    }

    /// A stream for a request, to be written to; `None` when the peer takes no more at this time.
    pub fn open(&mut self) -> Option<u32> {
        if self.has_goaway || self.streams.len() >= self.peer.streams_max as usize || self.last >= STREAM_MAX - 2 {
            return None;
        }
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let stream = Stream::new(self.peer.stream_window, self.limits.stream_window.into());
        self.streams.push((self.last, Box::new(stream)));
        Some(self.last)
    }

    /// Whether no further stream can ever be opened.
    pub fn is_used_up(&self) -> bool {
        self.has_goaway || self.last >= STREAM_MAX - 2
    }

    /// Writes some of `parts`, which are text of HTTP/1.1 with whole heads; how many octets of it.
    pub fn poll_write(&mut self, stream: u32, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(found) = self.find(stream) else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if let Some(code) = found.reset {
            return Poll::Ready(Err(broken(code, found.is_unprocessed)));
        }
        if found.is_deaf {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut taken = 0;
        'parts: for part in parts {
            let mut at = 0;
            while at < part.len() {
                let count = self.write(stream, &part[at..])?;
                (at, taken) = (at + count, taken + count);
                if count == 0 {
                    break 'parts;
                }
            }
        }
        if taken == 0 {
            if let Some(found) = self.find(stream) {
                found.writer = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        self.wake_driver();
        Poll::Ready(Ok(taken))
    }

    /// How much of a body can be written to `stream`, once that is something; a head always can.
    pub fn poll_room(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<usize> {
        let room = self.room(stream);
        match self.find(stream) {
            Some(found) if room == 0 && found.reset.is_none() && !matches!(found.speaking, Speaking::Head) => {
                found.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(room),
        }
    }

    /// Writes from the front of `text`, which is not empty; 0 when the windows are closed.
    fn write(&mut self, number: u32, text: &[u8]) -> io::Result<usize> {
        let room = self.room(number);
        let Some(stream) = self.find(number) else { return Err(io::ErrorKind::NotConnected.into()) };
        match &mut stream.speaking {
            Speaking::Head => match self.role {
                Role::Server => self.write_response(number, text),
                Role::Client => self.write_request(number, text),
            },
            Speaking::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len()).min(room);
                *left -= count as u64;
                let is_end = *left == 0;
                if is_end {
                    stream.speaking = Speaking::Over;
                }
                self.put_data(number, &text[..count], is_end);
                Ok(count)
            }
            Speaking::Chunks(chunked) => {
                if room == 0 && chunked.is_within_data() {
                    return Ok(0);
                }
                // What is around the data needs no window.
                let text = &text[..text.len().min(room.max(1))];
                let step = chunked.step(text).map_err(|error| io::Error::other(error.to_string()))?;
                let is_end = chunked.is_done();
                let trailers = if is_end { chunked.trailers().to_vec() } else { Vec::new() };
                if is_end {
                    stream.speaking = Speaking::Over;
                }
                self.put_data(number, &text[step.data], false);
                if is_end {
                    self.put_end(number, &trailers);
                }
                Ok(step.consumed)
            }
            Speaking::Raw => {
                let count = text.len().min(room);
                self.put_data(number, &text[..count], false);
                Ok(count)
            }
            // Whatever it is, it belongs to nobody.
            Speaking::Over => Ok(text.len()),
        }
    }

    /// How many octets of data the windows, and what waits to be sent, let through.
    fn room(&mut self, stream: u32) -> usize {
        let of_out = OUT_MAX.saturating_sub(self.out.len() - self.sent);
        let of_all = self.send_window;
        let of_stream = self.find(stream).map_or(0, |stream| stream.send_window);
        usize::try_from(of_all.min(of_stream)).unwrap_or(0).min(of_out)
    }

    fn put_data(&mut self, number: u32, data: &[u8], is_end: bool) {
        if let Some(stream) = self.find(number) {
            stream.send_window -= data.len() as i64;
        }
        self.send_window -= data.len() as i64;
        self.guard.note_data();
        let mut rest = data;
        while !rest.is_empty() {
            let (front, behind) = rest.split_at(rest.len().min(PAYLOAD_MAX));
            rest = behind;
            let flags = if rest.is_empty() && is_end { flag::END_STREAM } else { 0 };
            frame::put(&mut self.out, kind::DATA, flags, number, front);
        }
    }

    /// Ends the stream, with `trailers` if there are any.
    fn put_end(&mut self, number: u32, trailers: &[u8]) {
        if trailers.is_empty() {
            return frame::put(&mut self.out, kind::DATA, flag::END_STREAM, number, &[]);
        }
        self.put_block(number, true, |out| {
            for line in trailers.split(|octet| *octet == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if let Some(colon) = memchr::memchr(b':', line) {
                    hpack::put_field(out, &line[..colon], line[colon + 1..].trim_ascii());
                }
            }
        });
    }

    /// The head of a response at the front of `text`.
    fn write_response(&mut self, number: u32, text: &[u8]) -> io::Result<usize> {
        let expected = self.find(number).map_or(Expected::default(), |stream| stream.expected);
        let asked = Asked { method: if expected.is_head { "HEAD" } else { "GET" }, upgrade: expected.is_upgrade };
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let response =
            read_response(text, &mut slots, asked, WHOLE).map_err(|error| io::Error::other(error.to_string()))?;
        let Some(response) = response else { return Err(io::Error::other("half a head")) };
        let is_switch = response.status == 101;
        let switch = if is_switch { self.find(number).and_then(|stream| stream.switch.take()) } else { None };
        if is_switch && !is_accepted(&response, switch.as_deref()) {
            return Err(io::Error::other("a switch to WebSocket without the right Sec-WebSocket-Accept"));
        }
        // RFC 8441, section 5: its client would take any success for a WebSocket.
        if expected.is_upgrade && (200..300).contains(&response.status) {
            return Err(io::Error::other("no switch to WebSocket"));
        }
        let speaking = if response.is_interim() { Speaking::Head } else { Speaking::of(is_switch, response.body) };
        let is_end = matches!(speaking, Speaking::Over);
        self.put_block(number, is_end, |out| put_response(out, &response, is_switch));
        if let Some(stream) = self.find(number) {
            stream.speaking = speaking;
        }
        Ok(response.len)
    }

    /// The head of a request at the front of `text`.
    fn write_request(&mut self, number: u32, text: &[u8]) -> io::Result<usize> {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
        let request = read_request(text, &mut slots, WHOLE).map_err(|error| io::Error::other(error.to_string()))?;
        let Some(request) = request else { return Err(io::Error::other("half a head")) };
        let speaking = Speaking::of(false, request.body);
        let is_end = matches!(speaking, Speaking::Over);
        let scheme = self.scheme;
        self.put_block(number, is_end, |out| put_request(out, &request, scheme));
        if let Some(stream) = self.find(number) {
            stream.speaking = speaking;
            stream.expected = Expected { is_head: request.method == "HEAD", is_upgrade: false };
        }
        Ok(request.len)
    }

    /// One header block, which `put` writes, in as many frames as it needs.
    fn put_block(&mut self, number: u32, is_end: bool, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        let mut head = Head { len: 0, kind: kind::HEADERS, flags: 0, stream: number };
        head.flags = if is_end { flag::END_STREAM | flag::END_HEADERS } else { flag::END_HEADERS };
        head.put(&mut self.out);
        if !std::mem::replace(&mut self.has_written_block, true) {
            hpack::put_unindexed_start(&mut self.out);
        }
        put(&mut self.out);
        head.len = self.out.len() - start - Head::LEN;
        if head.len > PAYLOAD_MAX {
            return self.split_block(start, head);
        }
        self.out[start..start + 3].copy_from_slice(&(head.len as u32).to_be_bytes()[1..]);
    }

    #[cold]
    fn split_block(&mut self, start: usize, mut head: Head) {
        let block = self.out.split_off(start + Head::LEN);
        self.out.truncate(start);
        let count = block.len().div_ceil(PAYLOAD_MAX);
        for (index, piece) in block.chunks(PAYLOAD_MAX).enumerate() {
            if index + 1 < count {
                head.flags &= !flag::END_HEADERS;
            } else {
                head.flags |= flag::END_HEADERS;
            }
            head.len = piece.len();
            head.put(&mut self.out);
            self.out.extend_from_slice(piece);
            head.kind = kind::CONTINUATION;
            head.flags = 0;
        }
    }

    /// Whether `stream` was reset by either side.
    pub fn is_reset(&mut self, stream: u32) -> bool {
        self.find(stream).is_none_or(|found| found.reset.is_some())
    }

    /// Nothing more is written to `stream`.
    pub fn end(&mut self, stream: u32) {
        let Some(found) = self.find(stream).filter(|found| found.reset.is_none()) else { return };
        if matches!(found.speaking, Speaking::Raw) {
            found.speaking = Speaking::Over;
            self.put_end(stream, &[]);
            self.wake_driver();
        }
    }

    /// Nobody holds `stream` any more: what is not whole is broken off.
    ///
    /// Source: RFC 9113, section 8.1: a server that has answered in full asks with NO_ERROR for nothing more.
    pub fn forget(&mut self, stream: u32) {
        let Ok(at) = self.streams.binary_search_by_key(&stream, |(number, _)| *number) else { return };
        let (_, mut found) = self.streams.remove(at);
        if self.role == Role::Client && self.streams.is_empty() {
            // From here on the connection is idle.
            self.wake_driver();
        }
        let unread = found.take_unread();
        self.allow_again(0, unread);
        if found.reset.is_some() || found.is_deaf {
            return;
        }
        let code = match (found.is_over(), found.has_ended) {
            (true, true) => return self.guard.note_answer(),
            (true, false) if self.role == Role::Server => Code::NoError,
            _ if self.role == Role::Client => Code::Cancel,
            _ => Code::InternalError,
        };
        // A stream on which nothing was written was never begun.
        if self.role == Role::Server || !matches!(found.speaking, Speaking::Head) {
            frame::put_reset(&mut self.out, stream, code);
            self.note_early_end(stream);
            self.wake_driver();
        }
    }

    /// Ends `stream` because its head is malformed.
    ///
    /// # Errors
    /// After too many of them.
    pub fn refuse_malformed(&mut self, stream: u32) -> Result<(), Fatal> {
        self.refuse(stream, Code::ProtocolError)?;
        self.forget(stream);
        Ok(())
    }
}

impl Speaking {
    fn of(is_switch: bool, body: Framing) -> Self {
        match body {
            _ if is_switch => Self::Raw,
            Framing::Empty | Framing::Length(0) => Self::Over,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunks(Box::new(Chunked::new(ChunkLimits::DEFAULT))),
            Framing::UntilClose => Self::Raw,
        }
    }
}

/// RFC 9113, section 8.3.2; a switch to a WebSocket is a plain success (RFC 8441, section 5).
fn put_response(out: &mut Vec<u8>, response: &Response<'_>, is_switch: bool) {
    hpack::put_status(out, if is_switch { 200 } else { response.status });
    for field in response.fields.iter().filter(|field| !is_of_http1(field.name)) {
        if !is_switch || !field.name.eq_ignore_ascii_case("sec-websocket-accept") {
            hpack::put_field(out, field.name.as_bytes(), field.value);
        }
    }
}

/// Whether the server has understood that it is to speak WebSocket (RFC 6455, section 4.1).
fn is_accepted(response: &Response<'_>, accept: Option<&str>) -> bool {
    let mut fields = response.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("sec-websocket-accept"));
    fields.next().is_some_and(|field| Some(field.value) == accept.map(str::as_bytes)) && fields.next().is_none()
}

/// RFC 9113, section 8.3.1.
fn put_request(out: &mut Vec<u8>, request: &Request<'_>, scheme: &str) {
    hpack::put_field(out, b":method", request.method.as_bytes());
    hpack::put_field(out, b":scheme", scheme.as_bytes());
    hpack::put_field(out, b":path", request.target.path_and_query().as_bytes());
    if let Some(host) = request.host {
        hpack::put_field(out, b":authority", host.as_str().as_bytes());
    }
    for field in request.fields.iter().filter(|field| !is_of_http1(field.name)) {
        if !field.name.eq_ignore_ascii_case("host") {
            hpack::put_field(out, field.name.as_bytes(), field.value);
        }
    }
}

/// Fields of the text that frame it or belong to its connection.
fn is_of_http1(name: &str) -> bool {
    match name.len() {
        7 => name.eq_ignore_ascii_case("upgrade"),
        10 => name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("keep-alive"),
        16 => name.eq_ignore_ascii_case("proxy-connection"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// Heads that this program has written are as long as they are.
const WHOLE: HeadLimits = HeadLimits { head: usize::MAX, target: usize::MAX };

/// As many fields as settings may let a head have, and those that were added to it.
const FIELDS_MAX: usize = 320;
