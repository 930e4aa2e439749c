//! A client of HTTP/2 that sends whatever it is told to, and tells what it gets frame by frame.

#![allow(unreachable_pub, reason = "a test file has no other crate")]

use std::net::SocketAddr;

use region_proxy::http1::HTTP2_PREFACE;
use region_proxy::http2::frame::{self, Head, flag, kind};
use region_proxy::http2::{Block, hpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::DEADLINE;

/// A connection whose prefaces have been exchanged.
pub struct Raw {
    pub stream: TcpStream,
    bytes: Vec<u8>,
    decoder: hpack::Decoder,
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What a stream has come to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    pub status: String,
    /// The fields of the last block, trailers after a body.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The error that it was reset with.
    pub reset: Option<u32>,
}

pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.gslb.test")];

pub fn with<'f>(path: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    [&[GET[0], GET[1], (":path", path), GET[3]], more].concat()
}

pub fn post<'f>(path: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    [&[(":method", "POST"), GET[1], (":path", path), GET[3]], more].concat()
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|(name, value)| hpack::put_field(&mut out, name.as_bytes(), value.as_bytes()));
    out
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::bare(address).await;
        raw.stream.write_all(HTTP2_PREFACE).await.expect("sent");
        raw.send(kind::SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// A connection on which nothing was said.
    pub async fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        Self { stream, bytes: Vec::new(), decoder: hpack::Decoder::default() }
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut out = Vec::new();
        frame::put(&mut out, kind, flags, stream, payload);
        // The proxy may have closed already, as it should after what was sent before.
        let _ = self.stream.write_all(&out).await;
    }

    /// Sends the head of a request with which its stream ends.
    pub async fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block(fields)).await;
    }

    /// Sends the head of a request that goes on.
    pub async fn begin(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(kind::HEADERS, flag::END_HEADERS, stream, &block(fields)).await;
    }

    pub async fn reset(&mut self, stream: u32) {
        self.send(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("in time")
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = Head::read(&self.bytes)
                && self.bytes.len() >= Head::LEN + head.len
            {
                let payload = self.bytes[Head::LEN..Head::LEN + head.len].to_vec();
                self.bytes.drain(..Head::LEN + head.len);
                return Some(Frame { kind: head.kind, flags: head.flags, stream: head.stream, payload });
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    /// The next frame of `kind`.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads until `stream` has ended, and opens windows as data comes.
    pub async fn answer(&mut self, stream: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if self.note(&frame, stream, &mut answer).await {
                return answer;
            }
        }
    }

    /// Whether `stream` has ended with `frame`.
    async fn note(&mut self, frame: &Frame, stream: u32, answer: &mut Answer) -> bool {
        if frame.kind == kind::HEADERS {
            // Each block is read, so that the next one can be.
            let fields = self.fields(frame);
            if frame.stream != stream {
                return false;
            }
            answer.fields = fields;
            if let Some((_, status)) = answer.fields.iter().find(|(name, _)| name == ":status") {
                answer.status = status.clone();
            }
        } else if frame.stream != stream {
            return false;
        } else if frame.kind == kind::DATA {
            answer.body.extend_from_slice(&frame.payload);
            if !frame.payload.is_empty() {
                let count = (frame.payload.len() as u32).to_be_bytes();
                self.send(kind::WINDOW_UPDATE, 0, 0, &count).await;
                self.send(kind::WINDOW_UPDATE, 0, stream, &count).await;
            }
        } else if frame.kind == kind::RST_STREAM {
            answer.reset = frame::number(&frame.payload);
            return true;
        }
        matches!(frame.kind, kind::DATA | kind::HEADERS) && frame.flags & flag::END_STREAM != 0
    }

    pub fn fields(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let mut block = Block::new(1 << 20);
        self.decoder.read(&frame.payload, &mut block).expect("a header block");
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).expect("text");
        block.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The error of the GOAWAY with which the connection ends.
    pub async fn goaway(&mut self) -> u32 {
        let mut error = None;
        while let Some(frame) = self.next().await {
            if frame.kind == kind::GOAWAY {
                error = frame::number(&frame.payload[4..]);
            }
        }
        error.expect("a GOAWAY before the end")
    }
}
