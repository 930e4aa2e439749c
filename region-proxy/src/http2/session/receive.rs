//! Frames that come in (RFC 9113, section 6).

use super::*;
use crate::http1::HTTP2_PREFACE;

impl Session {
    /// Goes on with `input`, up to the next event; `None`: all of it was taken. The head of a request is in `block` then.
    ///
    /// # Errors
    /// What the connection cannot go on after: [`Self::close`] tells the peer.
    pub fn step(&mut self, input: &mut &[u8], block: &mut Block, now: Moment) -> Result<Option<Event>, Fatal> {
        self.now = now;
        loop {
            if self.stage == Stage::Preface && !self.take_preface(input)? {
                return Ok(None);
            }
            let event = if self.partial.is_empty() {
                let Some((head, payload)) = whole(input)? else {
                    self.partial.extend_from_slice(input);
                    *input = &[];
                    return Ok(None);
                };
                *input = &input[Head::LEN + head.len..];
                self.take(head, payload, block)?
            } else {
                let Some(bytes) = self.complete(input)? else { return Ok(None) };
                let (head, payload) = whole(&bytes)?.ok_or(protocol("a frame that is not whole"))?;
                let event = self.take(head, payload, block)?;
                self.partial = bytes;
                self.partial.clear();
                event
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Whether the preface is done with.
    fn take_preface(&mut self, input: &mut &[u8]) -> Result<bool, Fatal> {
        let left = &HTTP2_PREFACE[self.partial.len()..];
        let count = left.len().min(input.len());
        if input[..count] != left[..count] {
            return Err(protocol("no preface of HTTP/2"));
        }
        self.partial.extend_from_slice(&input[..count]);
        *input = &input[count..];
        if count < left.len() {
            return Ok(false);
        }
        self.partial.clear();
        self.stage = Stage::Settings;
        Ok(true)
    }

    /// A whole frame of what was there and the front of `input`.
    fn complete(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
        loop {
            let wanted = match Head::read(&self.partial) {
                None => Head::LEN,
                Some(head) => Head::LEN + checked(head)?.len,
            };
            let count = (wanted - self.partial.len()).min(input.len());
            self.partial.extend_from_slice(&input[..count]);
            *input = &input[count..];
            match Head::read(&self.partial) {
                Some(head) if self.partial.len() == Head::LEN + checked(head)?.len => {
                    return Ok(Some(std::mem::take(&mut self.partial)));
                }
                _ if input.is_empty() => return Ok(None),
                _ => {}
            }
        }
    }

    fn take(&mut self, head: Head, payload: &[u8], block: &mut Block) -> Result<Option<Event>, Fatal> {
        if let Some(open) = &self.open_block
            && (head.kind != kind::CONTINUATION || head.stream != open.stream)
        {
            return Err(protocol("another frame within a header block"));
        }
        if self.stage == Stage::Settings {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(protocol("the first frame is not SETTINGS"));
            }
            self.stage = Stage::Open;
        }
        match head.kind {
            kind::DATA => self.take_data(head, payload),
            kind::HEADERS => self.take_headers(head, payload, block),
            kind::CONTINUATION => self.take_continuation(head, payload, block),
            kind::RST_STREAM => self.take_reset(head, payload),
            kind::SETTINGS => self.take_settings(head, payload).map(|()| None),
            kind::WINDOW_UPDATE => self.take_window_update(head, payload),
            kind::PING => self.take_ping(head, payload).map(|()| None),
            kind::PRIORITY => self.take_priority(head),
            kind::GOAWAY => self.take_goaway(head, payload).map(|()| None),
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE")),
            // Section 4.1: what is not known is passed over.
            _ => self.allow(Deed::Control).map(|()| None),
        }
    }

    /// A stream on which nothing can have come yet.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.last
    }

    fn take_reset(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event>, Fatal> {
        let Some(code) = frame::number(payload).filter(|_| payload.len() == 4) else {
            return Err(Fatal { code: Code::FrameSizeError, what: "RST_STREAM of other than 4 octets" });
        };
        if self.is_idle(head.stream) {
            return Err(protocol("RST_STREAM on a stream that is idle"));
        }
        let role = self.role;
        let Some(stream) = self.find(head.stream) else {
            return self.allow(Deed::Control).map(|()| None);
        };
        if role == Role::Client && stream.has_ended {
            // RFC 9113, section 8.1: the answer counts all the same.
            stream.is_deaf = true;
            stream.wake_writer();
            return Ok(None);
        }
        let is_futile = !stream.is_over();
        stream.has_ended = true;
        stream.is_unprocessed = code == Code::RefusedStream as u32;
        if is_futile {
            self.allow(Deed::FutileStream)?;
        }
        Ok(self.cut(head.stream, code))
    }

    fn take_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        let is_ack = head.has(flag::ACK);
        if !payload.len().is_multiple_of(6) || (is_ack && !payload.is_empty()) {
            return Err(Fatal { code: Code::FrameSizeError, what: "SETTINGS of a size that it cannot have" });
        }
        self.allow(Deed::Control)?;
        if is_ack {
            return Ok(());
        }
        for setting in payload.as_chunks::<6>().0 {
            let [k1, k0, value @ ..] = *setting;
            self.take_setting(u16::from_be_bytes([k1, k0]), u32::from_be_bytes(value))?;
        }
        frame::put(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn take_setting(&mut self, key: u16, value: u32) -> Result<(), Fatal> {
        match key {
            setting::ENABLE_PUSH if value > 1 => Err(protocol("ENABLE_PUSH of other than 0 and 1")),
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                Err(protocol("ENABLE_CONNECT_PROTOCOL of other than 0 and 1"))
            }
            setting::MAX_FRAME_SIZE if !(PAYLOAD_MAX..1 << 24).contains(&(value as usize)) => {
                Err(protocol("MAX_FRAME_SIZE of what it cannot be"))
            }
            setting::MAX_CONCURRENT_STREAMS => {
                self.peer.streams_max = value;
                Ok(())
            }
            setting::INITIAL_WINDOW_SIZE => self.take_first_window(value),
            _ => Ok(()),
        }
    }

    fn take_first_window(&mut self, value: u32) -> Result<(), Fatal> {
        let too_large = Fatal { code: Code::FlowControlError, what: "a window of 2^31 or more" };
        if i64::from(value) > WINDOW_MAX {
            return Err(too_large);
        }
        let more = i64::from(value) - self.peer.stream_window;
        self.peer.stream_window = value.into();
        for (_, stream) in &mut self.streams {
            stream.send_window += more;
            if stream.send_window > WINDOW_MAX {
                return Err(too_large);
            }
        }
        if more > 0 {
            self.wake_writers();
        }
        Ok(())
    }

    fn take_ping(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(Fatal { code: Code::FrameSizeError, what: "PING of other than 8 octets" });
        }
        self.allow(Deed::Control)?;
        if !head.has(flag::ACK) {
            frame::put(&mut self.out, kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    fn take_priority(&mut self, head: Head) -> Result<Option<Event>, Fatal> {
        if head.stream == 0 {
            return Err(protocol("PRIORITY on no stream"));
        }
        if head.len != 5 {
            return Err(Fatal { code: Code::FrameSizeError, what: "PRIORITY of other than 5 octets" });
        }
        self.allow(Deed::Control).map(|()| None)
    }

    fn take_goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        let Some(last) = frame::number(payload).filter(|_| payload.len() >= 8) else {
            return Err(Fatal { code: Code::FrameSizeError, what: "GOAWAY of less than 8 octets" });
        };
        self.has_goaway = true;
        if self.role == Role::Client {
            for (_, stream) in self.streams.iter_mut().filter(|(number, _)| *number > last & STREAM_MAX) {
                stream.is_unprocessed = true;
                stream.cut(Code::RefusedStream as u32);
            }
        }
        Ok(())
    }
}

/// The frame at the front of `bytes`; `None` while it is not whole.
fn whole(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, Fatal> {
    let Some(head) = Head::read(bytes) else { return Ok(None) };
    let end = Head::LEN + checked(head)?.len;
    Ok(bytes.get(Head::LEN..end).map(|payload| (head, payload)))
}

fn checked(head: Head) -> Result<Head, Fatal> {
    if head.len > PAYLOAD_MAX {
        return Err(Fatal { code: Code::FrameSizeError, what: "a frame of more than 16,384 octets" });
    }
    Ok(head)
}
