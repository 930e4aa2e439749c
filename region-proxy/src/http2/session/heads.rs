//! Header blocks that come in (RFC 9113, sections 4.3, 6.2, 6.10 and 8.1).

use std::io::Write;

use super::stream::Listening;
use super::*;
use crate::http1::{is_field_value, is_lower_token};

impl Session {
    pub(super) fn take_headers(
        &mut self,
        head: Head,
        payload: &[u8],
        block: &mut Block,
    ) -> Result<Option<Event>, Fatal> {
        let is_of_peer = !head.stream.is_multiple_of(2);
        if !is_of_peer || (self.role == Role::Client && head.stream > self.last) {
            return Err(protocol("HEADERS on a stream that none may begin"));
        }
        let mut bytes = frame::unpadded(head, payload).ok_or(protocol("padding longer than its frame"))?;
        if head.has(flag::PRIORITY) {
            bytes = bytes.get(5..).ok_or(Fatal { code: Code::FrameSizeError, what: "HEADERS too short" })?;
        }
        let is_end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.take_block(head.stream, is_end, bytes, block);
        }
        self.open_block = Some(OpenBlock { stream: head.stream, is_end, bytes: bytes.to_vec(), continuations: 0 });
        Ok(None)
    }

    pub(super) fn take_continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        block: &mut Block,
    ) -> Result<Option<Event>, Fatal> {
        let Some(open) = &mut self.open_block else { return Err(protocol("CONTINUATION of nothing")) };
        open.bytes.extend_from_slice(payload);
        open.continuations += 1;
        let most = self.limits.head_octets / PAYLOAD_MAX + CONTINUATIONS_SPARE;
        if open.bytes.len() > self.limits.head_octets || open.continuations > most {
            return Err(Fatal { code: Code::EnhanceYourCalm, what: "a header block that does not end" });
        }
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        match self.open_block.take() {
            Some(open) => self.take_block(open.stream, open.is_end, &open.bytes, block),
            None => Ok(None),
        }
    }

    fn take_block(
        &mut self,
        number: u32,
        is_end: bool,
        bytes: &[u8],
        block: &mut Block,
    ) -> Result<Option<Event>, Fatal> {
        let broken = Fatal { code: Code::CompressionError, what: "a header block that cannot be read" };
        self.decoder.read(bytes, block).map_err(|_| broken)?;
        if self.find(number).is_some_and(|stream| stream.reset.is_none()) {
            let is_response = self.find(number).is_some_and(|stream| stream.listening == Listening::Head);
            return match is_response {
                true => self.take_response(number, is_end, block),
                false => self.take_trailers(number, is_end, block),
            };
        }
        if self.role == Role::Client || self.ended_early.contains(&number) {
            return self.allow(Deed::Control).map(|()| None);
        }
        if number <= self.last {
            return Err(Fatal { code: Code::StreamClosed, what: "HEADERS on a stream that is closed" });
        }
        self.begin(number, is_end)
    }

    /// A new stream of the client.
    fn begin(&mut self, number: u32, is_end: bool) -> Result<Option<Event>, Fatal> {
        self.last = number;
        if self.goaway_sent.is_some_and(|last| number > last) {
            self.note_early_end(number);
            return self.allow(Deed::Control).map(|()| None);
        }
        if self.streams.len() >= self.limits.streams as usize {
            return self.refuse(number, Code::RefusedStream);
        }
        let mut stream = Stream::new(self.peer.stream_window, self.limits.stream_window.into());
        stream.has_ended = is_end;
        stream.listening = Listening::Plain;
        self.streams.push((number, Box::new(stream)));
        Ok(Some(Event::Request { stream: number, is_end }))
    }

    fn take_trailers(&mut self, number: u32, is_end: bool, block: &Block) -> Result<Option<Event>, Fatal> {
        let Some(stream) = self.find(number) else { return Ok(None) };
        if stream.has_ended {
            return self.refuse(number, Code::StreamClosed);
        }
        let is_short = stream.length_left.is_some_and(|left| left > 0);
        let is_sound = |(name, value): (&[u8], &[u8])| is_lower_token(name) && is_field_value(value);
        let is_too_large = block.is_too_large() || block.len() > TRAILERS_MAX;
        if !is_end || is_short || is_too_large || !block.iter().all(is_sound) {
            return self.refuse(number, Code::ProtocolError);
        }
        for (name, value) in block.iter() {
            put_line(&mut stream.trailers, name, value);
        }
        stream.has_ended = true;
        stream.wake_reader();
        Ok(None)
    }

    /// Writes the head of a response as text of HTTP/1.1.
    fn take_response(&mut self, number: u32, is_end: bool, block: &Block) -> Result<Option<Event>, Fatal> {
        let Some(stream) = self.find(number) else { return Ok(None) };
        match stream.answer(is_end, block) {
            true => stream.wake_reader(),
            false => return self.refuse(number, Code::ProtocolError),
        }
        Ok(None)
    }
}

impl Stream {
    /// Takes the head of a response, interim or final; `false` when it is malformed (RFC 9113, section 8.3.2).
    fn answer(&mut self, is_end: bool, block: &Block) -> bool {
        let mut fields = block.iter();
        let Some((b":status", status)) = fields.next() else { return false };
        let Some(status) = str::from_utf8(status).ok().filter(|text| text.len() == 3) else { return false };
        let Ok(number @ (100 | 102..=599)) = status.parse::<u16>() else { return false };
        let is_interim = number < 200;
        if block.is_too_large() || (is_interim && is_end) {
            return false;
        }
        let has_content = !is_interim && !is_end && !self.expected.is_head && !matches!(number, 204 | 304);
        let _ = write!(self.text, "HTTP/1.1 {status} \r\n");
        let mut has_length = false;
        for (name, value) in fields {
            if !is_lower_token(name) || !is_field_value(value) || is_of_connection(name) {
                return false;
            }
            if name == b"content-length" {
                has_length = true;
                if !is_interim {
                    // What is no number the reader of the text refuses.
                    self.length_left = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                }
            }
            put_line(&mut self.text, name, value);
        }
        match has_length {
            false if has_content => self.text.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            false if is_end && !self.expected.is_head && !matches!(number, 204 | 304) => {
                self.text.extend_from_slice(b"Content-Length: 0\r\n")
            }
            _ => {}
        }
        self.text.extend_from_slice(b"\r\n");
        if is_interim {
            return true;
        }
        if !has_content && !is_end {
            self.length_left = Some(0);
        }
        let is_short = has_content && is_end && self.length_left.is_some_and(|left| left > 0);
        self.listening = if has_content && !has_length { Listening::Chunks } else { Listening::Plain };
        self.has_ended = is_end;
        !is_short
    }
}

/// What no message of HTTP/2 has (RFC 9113, section 8.2.2).
fn is_of_connection(name: &[u8]) -> bool {
    matches!(name, b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade")
}

fn put_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Beside full frames: some peers send shorter ones.
const CONTINUATIONS_SPARE: usize = 8;

/// What the chunked coding allows them too.
const TRAILERS_MAX: usize = 4096;
