//! One connection: what comes in becomes events and the state of streams, what goes out is put together here.

use std::collections::VecDeque;
use std::task::Waker;

use shared::moment::Moment;

use super::block::Block;
use super::frame::{self, Code, Head, PAYLOAD_MAX, STREAM_MAX, WINDOW_MAX, flag, kind, setting};
use super::guard::{Deed, Guard};
use super::hpack::Decoder;

mod flow;
mod heads;
mod receive;
mod speak;
mod stream;

pub use stream::Expected;

use stream::Stream;

/// One side of a connection.
#[derive(Debug)]
pub struct Session {
    role: Role,
    limits: Limits,
    stage: Stage,
    /// The beginning of a frame that is not whole.
    partial: Vec<u8>,
    out: Vec<u8>,
    /// How many octets of `out` were sent.
    sent: usize,
    decoder: Decoder,
    has_written_block: bool,
    /// A header block that goes on in CONTINUATION.
    open_block: Option<OpenBlock>,
    /// By their numbers.
    streams: Vec<(u32, Box<Stream>)>,
    peer: Peer,
    send_window: i64,
    receive_window: i64,
    /// Octets that were taken out of the window and are to be allowed again.
    owed: u32,
    /// The highest number of a stream so far.
    last: u32,
    /// Streams that ended here while the peer may still have been sending.
    ended_early: VecDeque<u32>,
    /// The highest number of a stream that is still served, as the peer was told.
    goaway_sent: Option<u32>,
    has_goaway: bool,
    guard: Guard,
    now: Moment,
    /// The scheme of requests that are sent.
    scheme: &'static str,
    /// Sends what is put together, where that is another's task than the streams'.
    driver: Option<Waker>,
}

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It is asked.
    Server,
    /// It asks.
    Client,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Streams at one time.
    pub streams: u32,
    /// Octets of a head, each field counted with 32 more.
    pub head_octets: usize,
    /// Octets that it may send on a stream before they are taken.
    pub stream_window: u32,
    /// The same of all streams together.
    pub connection_window: u32,
}

/// What has come that others must know of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The head of a request is in the block; with `is_end` there is no more.
    Request {
        /// Its stream.
        stream: u32,
        /// Whether nothing follows.
        is_end: bool,
    },
    /// The stream has ended before its time: nothing more is read from it or written to it.
    Ended {
        /// Its number.
        stream: u32,
    },
}

/// What ends a connection: the peer is told `code`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} ({code:?})")]
pub struct Fatal {
    /// The error of RFC 9113, section 7.
    pub code: Code,
    /// What is wrong.
    pub what: &'static str,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The first octets of a client must come.
    Preface,
    /// The first frame must come, which is SETTINGS.
    Settings,
    Open,
}

#[derive(Debug)]
struct OpenBlock {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
    continuations: usize,
}

/// What the peer has said of itself.
#[derive(Clone, Copy, Debug)]
struct Peer {
    stream_window: i64,
    streams_max: u32,
}

impl Session {
    /// The connection that begins now; its first octets are to be sent.
    pub fn new(role: Role, limits: Limits, now: Moment) -> Self {
        let stage = if role == Role::Server { Stage::Preface } else { Stage::Settings };
        let mut session = Self {
            role,
            limits,
            stage,
            partial: Vec::new(),
            out: Vec::new(),
            sent: 0,
            decoder: Decoder::default(),
            has_written_block: false,
            open_block: None,
            streams: Vec::new(),
            peer: Peer { stream_window: WINDOW_FIRST, streams_max: STREAMS_FIRST },
            send_window: WINDOW_FIRST,
            receive_window: WINDOW_FIRST,
            owed: 0,
            last: 0,
            ended_early: VecDeque::new(),
            goaway_sent: None,
            has_goaway: false,
            guard: Guard::new(now),
            now,
            scheme: "http",
            driver: None,
        };
        session.introduce();
        session
    }

    /// The preface of this side (RFC 9113, section 3.4), and as large a window as the limits say.
    fn introduce(&mut self) {
        let head_octets = u32::try_from(self.limits.head_octets).unwrap_or(u32::MAX);
        let common =
            [(setting::INITIAL_WINDOW_SIZE, self.limits.stream_window), (setting::MAX_HEADER_LIST_SIZE, head_octets)];
        let own = match self.role {
            Role::Server => {
                [(setting::MAX_CONCURRENT_STREAMS, self.limits.streams), (setting::ENABLE_CONNECT_PROTOCOL, 1)]
            }
            Role::Client => {
                self.out.extend_from_slice(crate::http1::HTTP2_PREFACE);
                [(setting::ENABLE_PUSH, 0), (setting::MAX_CONCURRENT_STREAMS, 0)]
            }
        };
        frame::put_settings(&mut self.out, &[common, own].concat());
        let more = i64::from(self.limits.connection_window) - self.receive_window;
        if more > 0 {
            frame::put_window_update(&mut self.out, 0, more as u32);
            self.receive_window += more;
        }
    }

    /// What is to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    /// Notes that so many octets of [`Self::unsent`] were sent.
    pub fn note_sent(&mut self, count: usize) {
        let was_full = self.is_full();
        self.sent += count;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent >= self.out.len() - self.sent {
            // No more is moved than was sent, and what was sent is not held for as long as there is more.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if was_full && !self.is_full() {
            self.wake_writers();
        }
    }

    /// Whether so much is to be sent that nothing more should be read or written before.
    pub fn is_full(&self) -> bool {
        self.out.len() - self.sent >= OUT_MAX
    }

    /// Frees what is empty, for a connection that waits.
    pub fn settle(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        self.streams.shrink_to_fit();
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether the peer has said that it takes no further streams.
    pub fn is_going(&self) -> bool {
        self.has_goaway
    }

    /// Tells the peer that no stream begins any more, but those that are on their way now.
    pub fn warn(&mut self) {
        if self.goaway_sent.is_none() {
            frame::put_goaway(&mut self.out, STREAM_MAX, Code::NoError);
            self.goaway_sent = Some(STREAM_MAX);
        }
    }

    /// Tells the peer that the streams there are now are the last, and why.
    pub fn close(&mut self, code: Code) {
        if self.goaway_sent.is_none_or(|last| last == STREAM_MAX) || code != Code::NoError {
            let last = if self.role == Role::Server { self.last } else { 0 };
            frame::put_goaway(&mut self.out, last, code);
            self.goaway_sent = Some(last);
        }
    }

    fn find(&mut self, stream: u32) -> Option<&mut Stream> {
        let at = self.streams.binary_search_by_key(&stream, |(number, _)| *number).ok()?;
        Some(&mut self.streams[at].1)
    }

    /// Ends a stream because of what came on it.
    fn refuse(&mut self, stream: u32, code: Code) -> Result<Option<Event>, Fatal> {
        frame::put_reset(&mut self.out, stream, code);
        self.note_early_end(stream);
        self.allow(Deed::FutileStream)?;
        Ok(self.cut(stream, code as u32))
    }

    /// The stream has been reset, by whomever.
    fn cut(&mut self, stream: u32, code: u32) -> Option<Event> {
        let found = self.find(stream)?;
        found.cut(code);
        let unread = found.take_unread();
        self.allow_again(0, unread);
        Some(Event::Ended { stream })
    }

    /// The requests that are sent go over TLS.
    pub fn set_secure(&mut self) {
        self.scheme = "https";
    }

    /// Begins no more streams.
    pub fn retire(&mut self) {
        self.has_goaway = true;
        self.wake_driver();
    }

    /// Nothing more will come or go.
    pub fn break_all(&mut self) {
        self.has_goaway = true;
        for (_, stream) in &mut self.streams {
            if stream.has_ended {
                stream.is_deaf = true;
                stream.wake_writer();
            } else {
                stream.cut(Code::InternalError as u32);
            }
        }
    }

    fn note_early_end(&mut self, stream: u32) {
        if self.ended_early.len() == ENDED_EARLY_MAX {
            self.ended_early.pop_front();
        }
        self.ended_early.push_back(stream);
    }

    fn allow(&mut self, deed: Deed) -> Result<(), Fatal> {
        let what = match deed {
            Deed::FutileStream => "too many streams come to nothing",
            Deed::Control => "too many frames that move nothing",
        };
        // A server may end what it likes.
        let is_free = deed == Deed::FutileStream && self.role == Role::Client;
        if is_free || self.guard.allows(deed, self.now) {
            Ok(())
        } else {
            Err(Fatal { code: Code::EnhanceYourCalm, what })
        }
    }

    fn wake_writers(&mut self) {
        for (_, stream) in &mut self.streams {
            stream.wake_writer();
        }
    }

    fn wake_driver(&self) {
        self.driver.iter().for_each(Waker::wake_by_ref);
    }

    /// Has `driver` woken when there is something to be sent.
    pub fn set_driver(&mut self, driver: &Waker) {
        if !self.driver.as_ref().is_some_and(|before| before.will_wake(driver)) {
            self.driver = Some(driver.clone());
        }
    }
}

fn protocol(what: &'static str) -> Fatal {
    Fatal { code: Code::ProtocolError, what }
}

/// Windows of connections and streams, until other is said (RFC 9113, section 6.9.2).
const WINDOW_FIRST: i64 = 65_535;

/// Streams that a server is believed to take until it says how many (RFC 9113, section 6.5.2).
const STREAMS_FIRST: u32 = 100;

/// More is not put together while nothing is sent: two answers of a whole read each.
const OUT_MAX: usize = 256 * 1024;

/// As many of the streams that were reset are remembered, so that what was on its way is no mistake.
const ENDED_EARLY_MAX: usize = 128;

#[cfg(test)]
mod tests;
