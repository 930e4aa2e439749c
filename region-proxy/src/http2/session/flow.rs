//! Data and windows (RFC 9113, sections 5.2, 6.1 and 6.9), and reading what has come.

use std::io::{self, Write};
use std::task::{Context, Poll};

use super::stream::Listening;
use super::*;

impl Session {
    pub(super) fn take_data(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event>, Fatal> {
        if self.is_idle(head.stream) {
            return Err(protocol("DATA on a stream that is idle"));
        }
        let data = frame::unpadded(head, payload).ok_or(protocol("padding longer than its frame"))?;
        let is_end = head.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.allow(Deed::Control)?;
        }
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            return Err(Fatal { code: Code::FlowControlError, what: "more data than the window of the connection" });
        }
        let is_known = self.find(head.stream).is_some_and(|stream| stream.reset.is_none());
        if !is_known {
            self.allow_again(0, payload.len() as u32);
            return self.take_data_of_none(head.stream);
        }
        self.allow_again(head.stream, (payload.len() - data.len()) as u32);
        self.allow_again(0, (payload.len() - data.len()) as u32);
        let Some(stream) = self.find(head.stream) else { return Ok(None) };
        stream.receive_window -= payload.len() as i64;
        let fault = match stream.length_left {
            _ if stream.receive_window < 0 => Some(Code::FlowControlError),
            _ if stream.has_ended => Some(Code::StreamClosed),
            _ if stream.listening == Listening::Head => Some(Code::ProtocolError),
            Some(left) if (data.len() as u64) > left => Some(Code::ProtocolError),
            Some(left) if is_end && (data.len() as u64) < left => Some(Code::ProtocolError),
            _ => None,
        };
        if let Some(code) = fault {
            self.allow_again(0, data.len() as u32);
            return self.refuse(head.stream, code);
        }
        if let Some(left) = &mut stream.length_left {
            *left -= data.len() as u64;
        }
        stream.data.extend_from_slice(data);
        stream.has_ended |= is_end;
        stream.wake_reader();
        if !data.is_empty() {
            self.guard.note_data();
        }
        Ok(None)
    }

    /// Data on a stream that is no more.
    fn take_data_of_none(&mut self, stream: u32) -> Result<Option<Event>, Fatal> {
        self.allow(Deed::Control)?;
        if !self.ended_early.contains(&stream) {
            frame::put_reset(&mut self.out, stream, Code::StreamClosed);
        }
        Ok(None)
    }

    pub(super) fn take_window_update(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event>, Fatal> {
        let Some(number) = frame::number(payload).filter(|_| payload.len() == 4) else {
            return Err(Fatal { code: Code::FrameSizeError, what: "WINDOW_UPDATE of other than 4 octets" });
        };
        let more = i64::from(number & STREAM_MAX);
        if more < DRIBBLE {
            self.allow(Deed::Control)?;
        }
        if head.stream == 0 {
            self.send_window += more;
            if more == 0 {
                return Err(protocol("WINDOW_UPDATE by nothing"));
            }
            if self.send_window > WINDOW_MAX {
                return Err(Fatal { code: Code::FlowControlError, what: "a window of 2^31 or more" });
            }
            self.wake_writers();
            return Ok(None);
        }
        if self.is_idle(head.stream) {
            return Err(protocol("WINDOW_UPDATE on a stream that is idle"));
        }
        let Some(stream) = self.find(head.stream).filter(|stream| stream.reset.is_none()) else { return Ok(None) };
        stream.send_window += more;
        if more == 0 {
            return self.refuse(head.stream, Code::ProtocolError);
        }
        if stream.send_window > WINDOW_MAX {
            return self.refuse(head.stream, Code::FlowControlError);
        }
        stream.wake_writer();
        Ok(None)
    }

    /// Lets the peer send so many octets more, on the connection for 0, some time.
    pub(super) fn allow_again(&mut self, stream: u32, count: u32) {
        if count == 0 {
            return;
        }
        if stream == 0 {
            self.owed += count;
            if self.owed >= self.limits.connection_window / 2 {
                frame::put_window_update(&mut self.out, 0, self.owed);
                self.receive_window += i64::from(self.owed);
                self.owed = 0;
                self.wake_driver();
            }
            return;
        }
        let half = self.limits.stream_window / 2;
        let Some(found) = self.find(stream).filter(|found| !found.has_ended && found.reset.is_none()) else { return };
        found.owed += count;
        if found.owed >= half {
            let owed = std::mem::take(&mut found.owed);
            found.receive_window += i64::from(owed);
            frame::put_window_update(&mut self.out, stream, owed);
            self.wake_driver();
        }
    }

    /// Reads what has come on `stream` as a connection of HTTP/1.1 would give it; 0 at its end.
    pub fn poll_read(&mut self, stream: u32, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(found) = self.find(stream) else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if !found.text.is_empty() {
            let count = found.text.len().min(buffer.len());
            buffer[..count].copy_from_slice(&found.text[..count]);
            found.text.drain(..count);
            return Poll::Ready(Ok(count));
        }
        if let Some(code) = found.reset {
            return Poll::Ready(Err(broken(code, found.is_unprocessed)));
        }
        let unread = found.data.len() - found.read;
        if unread == 0 && !found.has_ended {
            found.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (count, taken) = found.read_into(buffer);
        self.allow_again(stream, taken);
        self.allow_again(0, taken);
        Poll::Ready(Ok(count))
    }
}

impl Stream {
    /// How many octets were written to `buffer`, and how many of the data they hold.
    fn read_into(&mut self, mut buffer: &mut [u8]) -> (usize, u32) {
        let whole = buffer.len();
        let unread = self.data.len() - self.read;
        let is_in_chunks = self.listening == Listening::Chunks;
        let room = if is_in_chunks { whole.saturating_sub(CHUNK_ROOM) } else { whole };
        let count = unread.min(room);
        let data = &self.data[self.read..self.read + count];
        // The buffer has room by the line above; what comes last need not fit.
        if is_in_chunks && count > 0 {
            let _ = write!(buffer, "{count:x}\r\n");
        }
        let _ = buffer.write_all(data);
        if is_in_chunks && count > 0 {
            let _ = buffer.write_all(b"\r\n");
        }
        self.read += count;
        if self.read == self.data.len() {
            self.data.clear();
            self.read = 0;
            if self.has_ended {
                self.data = Vec::new();
                if is_in_chunks && buffer.len() >= self.trailers.len() + CHUNK_ROOM {
                    self.listening = Listening::Over;
                    let _ = buffer.write_all(b"0\r\n");
                    let _ = buffer.write_all(&self.trailers);
                    let _ = buffer.write_all(b"\r\n");
                }
            }
        } else if self.read >= self.data.len() - self.read {
            // No more is moved than was read, and what was read is not held for as long as there is more.
            self.data.drain(..self.read);
            self.read = 0;
        }
        (whole - buffer.len(), count as u32)
    }
}

/// What a stream that was reset says to who reads or writes.
pub(super) fn broken(code: u32, is_unprocessed: bool) -> io::Error {
    let kind = if is_unprocessed { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, format!("stream reset with error {code}"))
}

/// Room for the size of a chunk and what else is around it.
const CHUNK_ROOM: usize = 32;

/// Who opens a window by less wants many frames for little.
const DRIBBLE: i64 = 256;
