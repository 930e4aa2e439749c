//! One TCP connection: reads what is there, answers it, sends the answers, and holds nothing while it waits.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tracing::error;

use super::Lane;
use super::stream::Stream;
use crate::answer::{Peer, Turn, answer};
use crate::serve::Live;
use crate::serve::counters::Counters;
use crate::serve::seats::{Awaited, Seat};
use crate::wire::pad;

/// A connection that is served.
pub(super) struct Connection<S> {
    lane: Arc<Lane>,
    seat: Seat,
    stream: S,
    peer: IpAddr,
    awaited: Awaited,
    /// Octets received and not yet answered: less than one message, save while the client does not take answers.
    unread: Vec<u8>,
    /// Answers that the client has not taken.
    unsent: Vec<u8>,
}

/// What all queries that were read at once are answered with.
struct Round<'a> {
    counters: &'a Counters,
    live: &'a Live,
    turn: Turn<'static>,
    peer: Peer,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flow {
    /// All that came is answered, and the answers are sent.
    Open,
    /// The client must take answers first.
    Blocked,
    /// Nothing more will come.
    Over,
}

impl<S: Stream> Connection<S> {
    /// One that has come so far as to bring its first query.
    pub(super) fn new(lane: Arc<Lane>, seat: Seat, stream: S, peer: IpAddr) -> Self {
        let (unread, unsent) = (Vec::new(), Vec::new());
        Self { lane, seat, stream, peer, awaited: Awaited::RestOfQuery, unread, unsent }
    }

    /// Answers until the client or somebody else ends it.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut last_reads = 0;
        loop {
            match poll_fn(|context| self.poll_answer(context)).await? {
                Flow::Open => {}
                Flow::Blocked => self.send_unsent().await?,
                Flow::Over => break,
            }
            // What has come is answered still; a client that never stops to send is not waited for.
            last_reads += u32::from(self.seat.is_ending());
            if last_reads > LAST_READS_MAX {
                break;
            }
        }
        self.stream.end();
        Ok(())
    }

    /// Reads once and answers all that is whole then.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        ROOMS.with_borrow_mut(|rooms| {
            let mut received = ReadBuf::new(&mut rooms.received);
            ready!(self.stream.poll_read(context, &mut received))?;
            match received.filled() {
                [] => Poll::Ready(Ok(Flow::Over)),
                octets => Poll::Ready(self.take_in(octets, &mut rooms.answers)),
            }
        })
    }

    fn take_in(&mut self, octets: &[u8], room: &mut [u8]) -> io::Result<Flow> {
        if !self.unread.is_empty() {
            self.unread.extend_from_slice(octets);
            return self.answer_unread(room);
        }
        let (used, flow) = self.answer_whole(octets, room)?;
        if used < octets.len() {
            self.unread.reserve(KEPT_MAX);
            self.unread.extend_from_slice(&octets[used..]);
        }
        self.note(used > 0);
        Ok(flow)
    }

    fn answer_unread(&mut self, room: &mut [u8]) -> io::Result<Flow> {
        let mut unread = std::mem::take(&mut self.unread);
        let (used, flow) = self.answer_whole(&unread, room)?;
        unread.drain(..used);
        self.unread = unread;
        self.note(used > 0);
        Ok(flow)
    }

    /// Answers the whole messages in `octets` in their order; gives how many octets they took. What is written to
    /// `room` is sent whenever it is full, and at the end: who does not take answers gets nothing more answered.
    fn answer_whole(&mut self, octets: &[u8], room: &mut [u8]) -> io::Result<(usize, Flow)> {
        let lane = Arc::clone(&self.lane);
        let live = lane.live.load();
        let peer = Peer { address: self.peer, transport: lane.transport };
        let turn = Turn::unlimited(self.seat.unix_secs());
        let round = Round { counters: &lane.counters, live: &live, turn, peer };
        let (mut used, mut len) = (0, 0);
        while let Some(query) = first_message(&octets[used..]) {
            used += LENGTH + query.len();
            len += round.answer::<S>(query, &mut room[len..]);
            if len >= SENT_AT_ONCE {
                if self.send(&room[..len])? == Flow::Blocked {
                    return Ok((used, Flow::Blocked));
                }
                len = 0;
            }
        }
        Ok((used, self.send(&room[..len])?))
    }

    /// Sends `octets`; what the stream does not take is kept.
    fn send(&mut self, octets: &[u8]) -> io::Result<Flow> {
        let sent = self.stream.send(octets)?;
        if sent == octets.len() && self.stream.waiting() == 0 {
            return Ok(Flow::Open);
        }
        self.unsent.extend_from_slice(&octets[sent..]);
        Ok(Flow::Blocked)
    }

    /// Waits until the client has taken everything, and the answers to what came before that too.
    async fn send_unsent(&mut self) -> io::Result<()> {
        loop {
            let mut sent = 0;
            while sent < self.unsent.len() || self.stream.waiting() > 0 {
                if self.seat.is_lost() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                poll_fn(|context| self.stream.poll_room(context)).await?;
                sent += self.stream.send(&self.unsent[sent..])?;
            }
            self.unsent.clear();
            if ROOMS.with_borrow_mut(|rooms| self.answer_unread(&mut rooms.answers))? != Flow::Blocked {
                return Ok(());
            }
        }
    }

    /// Notes what is waited for from here on and what is held meanwhile; `has_answered` says whether the wait is
    /// another one than before.
    fn note(&mut self, has_answered: bool) {
        let waiting = self.stream.waiting();
        let awaited = match (self.unsent.is_empty() && waiting == 0, self.unread.is_empty()) {
            (false, _) => Awaited::Room,
            (true, false) => Awaited::RestOfQuery,
            (true, true) => Awaited::Query,
        };
        // More octets of the same message buy no more time.
        if has_answered || awaited != self.awaited || awaited == Awaited::Room {
            self.awaited = awaited;
            self.seat.wait_for(awaited);
        }
        for kept in [&mut self.unread, &mut self.unsent] {
            if kept.is_empty() && kept.capacity() > KEPT_MAX {
                *kept = Vec::new();
            }
        }
        self.seat.hold(self.unread.capacity() + self.unsent.capacity() + waiting);
    }
}

/// The message at the start of `octets`, without its length, once it is whole (RFC 1035, section 4.2.2).
fn first_message(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

impl Round<'_> {
    /// Writes the answer to `query` at the start of `room`, with its length in front; gives the octets of both: 0 where
    /// there is no answer.
    fn answer<S: Stream>(&self, query: &[u8], room: &mut [u8]) -> usize {
        let Self { counters, live, turn, peer } = self;
        let Some((length, room)) = room.split_first_chunk_mut::<LENGTH>() else { return 0 };
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&live.snapshot, turn, peer, query, room)));
        let Ok(outcome) = outcome else {
            counters.count_panic();
            error!(address = %peer.address, "a query broke the engine: a bug, please report it");
            return 0;
        };
        let len = counters.count(&outcome, &live.region_slots);
        let len = if S::IS_ENCRYPTED { len.map(|len| pad(query, room, len)) } else { len };
        match len.map(u16::try_from) {
            Some(Ok(len)) => {
                *length = len.to_be_bytes();
                LENGTH + usize::from(len)
            }
            _ => 0,
        }
    }
}

/// Where a thread reads and answers, one connection after the other: none has to hold a buffer while it waits.
struct Rooms {
    received: Box<[u8]>,
    answers: Box<[u8]>,
}

thread_local! {
    static ROOMS: RefCell<Rooms> = RefCell::new(Rooms {
        received: vec![0; RECEIVED_AT_ONCE].into(),
        answers: vec![0; SENT_AT_ONCE + LENGTH + usize::from(u16::MAX)].into(),
    });
}

/// The octets of the length in front of a message.
const LENGTH: usize = 2;
/// Some thousand queries.
const RECEIVED_AT_ONCE: usize = 64 << 10;
/// Octets of answers at which they are sent before more are written.
const SENT_AT_ONCE: usize = 64 << 10;
/// What a connection may keep for its next query that comes in pieces: as long as queries are.
const KEPT_MAX: usize = 512;
/// A client that never stops to send must not keep a connection that is to end.
const LAST_READS_MAX: u32 = 64;
