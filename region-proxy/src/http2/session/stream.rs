//! One stream.

use std::task::Waker;

use crate::http1::Chunked;

/// A stream while somebody holds it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    /// Octets that were taken out of the window and are to be allowed again.
    pub(super) owed: u32,
    /// Text of HTTP/1.1 that comes before `data`: the heads of responses.
    pub(super) text: Vec<u8>,
    /// What has come and was not read, from `read` on.
    pub(super) data: Vec<u8>,
    pub(super) read: usize,
    /// How the data is read.
    pub(super) listening: Listening,
    /// Octets that must still come, where the head said how many.
    pub(super) length_left: Option<u64>,
    /// Field lines behind the data.
    pub(super) trailers: Vec<u8>,
    /// The peer sends no more.
    pub(super) has_ended: bool,
    /// What is written next.
    pub(super) speaking: Speaking,
    /// The error that it was reset with, by either side.
    pub(super) reset: Option<u32>,
    /// The peer takes nothing more, though its answer is whole.
    pub(super) is_deaf: bool,
    /// The peer has never looked at it.
    pub(super) is_unprocessed: bool,
    /// What a switch to WebSocket must be accepted with.
    pub(super) switch: Option<String>,
    /// What the request asks for.
    pub(super) expected: Expected,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// What the answer to a request may be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expected {
    /// It has no content.
    pub is_head: bool,
    /// Status 101.
    pub is_upgrade: bool,
}

/// As what data is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listening {
    /// The head has not come.
    Head,
    /// As it is.
    Plain,
    /// In chunks.
    Chunks,
    /// The last chunk was read.
    Over,
}

/// What is written.
#[derive(Debug)]
pub(super) enum Speaking {
    /// A head.
    Head,
    /// So many octets.
    Length(u64),
    Chunks(Box<Chunked>),
    /// A protocol of its own.
    Raw,
    /// Nothing more: the stream was ended.
    Over,
}

impl Stream {
    pub(super) fn new(send_window: i64, receive_window: i64) -> Self {
        Self {
            send_window,
            receive_window,
            owed: 0,
            text: Vec::new(),
            data: Vec::new(),
            read: 0,
            listening: Listening::Head,
            length_left: None,
            trailers: Vec::new(),
            has_ended: false,
            speaking: Speaking::Head,
            reset: None,
            is_deaf: false,
            is_unprocessed: false,
            switch: None,
            expected: Expected::default(),
            reader: None,
            writer: None,
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn cut(&mut self, code: u32) {
        self.reset = Some(code);
        self.wake_reader();
        self.wake_writer();
    }

    /// Forgets what was not read; so many octets of the window that was.
    pub(super) fn take_unread(&mut self) -> u32 {
        let unread = self.data.len() - self.read;
        (self.data, self.read) = (Vec::new(), 0);
        unread as u32
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.speaking, Speaking::Over)
    }
}
