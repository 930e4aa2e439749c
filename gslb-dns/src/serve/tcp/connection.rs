//! One TCP connection: reads what is there, answers it, sends the answers, and holds nothing while it waits.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::task::yield_now;
use tracing::error;

use super::Lane;
use super::aside::{Aside, Next};
use super::stream::Stream;
use crate::answer::{Outcome, Peer, Turn, answer};
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
    /// Messages that the engine leaves to the edge.
    aside: Aside,
    /// Whether something whole was left unread, for want of room among these.
    is_halted: bool,
    /// Octets of queries and answers since others on the thread last had their turn.
    work: usize,
    /// Messages in a row that got no answer.
    unanswered: u32,
}

/// What all queries that were read at once are answered with.
struct Round<'a> {
    counters: &'a Counters,
    live: &'a Live,
    turn: Turn<'static>,
    peer: Peer,
}

/// What became of one query.
enum Answered {
    /// So many octets of length and answer are written; 0 where there is no answer.
    Written(usize),
    /// The edge answers it.
    Later,
}

/// What a connection goes on with.
enum Event {
    /// Queries came, and are answered so far.
    Read(Flow),
    /// What was left unread can be answered.
    Room,
    /// An answer that took its time is there.
    Aside,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flow {
    /// All that came is answered, and the answers are sent.
    Open,
    /// The client must take answers first.
    Blocked,
    /// A message must be answered first that takes its time.
    Full,
    /// Others on the thread must have their turn first.
    Busy,
    /// Nothing more will come, or nothing that is worth to wait for.
    Over,
}

impl<S: Stream> Connection<S> {
    /// One that has come so far as to bring its first query.
    pub(super) fn new(lane: Arc<Lane>, seat: Seat, stream: S, peer: IpAddr) -> Self {
        let (unread, unsent) = (Vec::new(), Vec::new());
        let awaited = Awaited::RestOfQuery;
        Self {
            lane,
            seat,
            stream,
            peer,
            awaited,
            unread,
            unsent,
            aside: Aside::default(),
            is_halted: false,
            work: 0,
            unanswered: 0,
        }
    }

    /// Answers until the client or somebody else ends it.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let (mut last_reads, mut is_over) = (0, false);
        while !is_over || !self.aside.is_empty() {
            match poll_fn(|context| self.poll_event(context, is_over)).await? {
                Event::Read(flow) => {
                    is_over = self.answer_rest(flow).await? == Flow::Over;
                    // What has come is answered still; a client that never stops to send is not waited for.
                    last_reads += u32::from(self.seat.is_ending());
                    is_over |= last_reads > LAST_READS_MAX;
                }
                Event::Room => is_over = self.answer_rest(Flow::Full).await? == Flow::Over,
                Event::Aside => {}
            }
            is_over |= self.go_on_aside().await? == Flow::Over;
        }
        self.stream.end();
        Ok(())
    }

    /// Waits for queries, unless there will be none or none can be taken, and for answers that take their time.
    fn poll_event(&mut self, context: &mut Context<'_>, is_over: bool) -> Poll<io::Result<Event>> {
        let (slow, channel) = (&self.lane.slow, self.stream.channel());
        let peer = Peer { address: self.peer, transport: self.lane.transport };
        let aside = self.aside.poll(context, |message| {
            let slow = Arc::clone(slow);
            Box::pin(async move { slow.answer(&message, peer, channel).await })
        });
        if !is_over && !self.aside.is_full() {
            if self.is_halted {
                return Poll::Ready(Ok(Event::Room));
            }
            if let Poll::Ready(flow) = self.poll_answer(context) {
                return Poll::Ready(flow.map(Event::Read));
            }
        }
        aside.map(|()| Ok(Event::Aside))
    }

    /// Answers all that was read, where `flow` says that there may be more of it.
    async fn answer_rest(&mut self, mut flow: Flow) -> io::Result<Flow> {
        loop {
            match flow {
                Flow::Open | Flow::Over => return Ok(flow),
                Flow::Full if self.aside.is_full() => {
                    self.is_halted = true;
                    return Ok(flow);
                }
                Flow::Full => self.is_halted = false,
                Flow::Blocked => self.send_unsent().await?,
                Flow::Busy => {
                    self.work = 0;
                    yield_now().await;
                }
            }
            flow = ROOMS.with_borrow_mut(|rooms| self.answer_unread(&mut rooms.answers))?;
        }
    }

    /// Reads once and answers what is whole then, as far as the turn of the connection goes.
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
        self.note(used > 0 && self.unanswered == 0);
        Ok(flow)
    }

    fn answer_unread(&mut self, room: &mut [u8]) -> io::Result<Flow> {
        let mut unread = std::mem::take(&mut self.unread);
        let (used, flow) = self.answer_whole(&unread, room)?;
        unread.drain(..used);
        self.unread = unread;
        self.note(used > 0 && self.unanswered == 0);
        Ok(flow)
    }

    /// Answers the whole messages in `octets` in their order; gives how many octets they took. What is written to
    /// `room` is sent whenever it is full, and at the end: who does not take answers gets nothing more answered, nor does
    /// who sends nothing that has an answer.
    fn answer_whole(&mut self, octets: &[u8], room: &mut [u8]) -> io::Result<(usize, Flow)> {
        let lane = Arc::clone(&self.lane);
        let live = lane.live.load();
        let turn = Turn::unlimited(self.seat.unix_secs()).on_connection(self.seat.idle());
        let peer = Peer { address: self.peer, transport: lane.transport };
        let round = Round { counters: &lane.counters, live: &live, turn, peer };
        let (mut used, mut len) = (0, 0);
        while let Some(query) = first_message(&octets[used..]) {
            if self.aside.is_full() {
                return Ok((used, self.send(&room[..len])?.or(Flow::Full)));
            }
            if self.work >= WORK_AT_ONCE {
                return Ok((used, self.send(&room[..len])?.or(Flow::Busy)));
            }
            used += LENGTH + query.len();
            let answer_len = match round.answer::<S>(query, &mut room[len..]) {
                Answered::Written(octets) => octets,
                Answered::Later => {
                    self.work += LENGTH + query.len();
                    self.aside.put(query);
                    continue;
                }
            };
            len += answer_len;
            self.work += LENGTH + query.len() + answer_len;
            self.unanswered = if answer_len > 0 { 0 } else { self.unanswered + 1 };
            if self.unanswered > UNANSWERED_MAX {
                return Ok((used, self.send(&room[..len])?.or(Flow::Over)));
            }
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

    /// Waits until the client has taken everything.
    async fn send_unsent(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() || self.stream.waiting() > 0 {
            if self.seat.is_lost() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            poll_fn(|context| self.stream.poll_room(context)).await?;
            sent += self.stream.send(&self.unsent[sent..])?;
        }
        self.unsent.clear();
        Ok(())
    }

    /// Sends the next message of an answer that took its time, where there is one. Each must be taken in the time of one,
    /// and none is made before the one before it is taken.
    async fn go_on_aside(&mut self) -> io::Result<Flow> {
        let answer = match self.aside.next() {
            None => return Ok(Flow::Open),
            Some(Next::Message(answer)) => answer,
            Some(Next::End { is_silent }) => {
                self.unanswered = if is_silent { self.unanswered + 1 } else { 0 };
                self.note(!is_silent);
                return Ok(if self.unanswered > UNANSWERED_MAX { Flow::Over } else { Flow::Open });
            }
        };
        // None is longer: room is left for signatures.
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        // In one piece, so that it leaves in one.
        self.send(&[&len.to_be_bytes()[..], &answer].concat())?;
        self.note(true);
        self.send_unsent().await?;
        // Others of this thread have their turn: one such message takes as long as many queries.
        self.work = 0;
        yield_now().await;
        Ok(Flow::Open)
    }

    /// Notes what is waited for from here on and what is held meanwhile; `has_answered` says whether the wait is
    /// another one than before. Messages that get no answer are no reason to wait longer.
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
        self.seat.hold(self.unread.capacity() + self.unsent.capacity() + waiting + self.aside.octets());
    }
}

impl Flow {
    /// What `next` says, once the client has taken what was sent.
    fn or(self, next: Self) -> Self {
        if self == Self::Open { next } else { self }
    }
}

/// The message at the start of `octets`, without its length, once it is whole (RFC 1035, section 4.2.2).
fn first_message(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk::<LENGTH>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

impl Round<'_> {
    /// Writes the answer to `query` at the start of `room`, with its length in front.
    fn answer<S: Stream>(&self, query: &[u8], room: &mut [u8]) -> Answered {
        let Self { counters, live, turn, peer } = self;
        let Some((length, room)) = room.split_first_chunk_mut::<LENGTH>() else { return Answered::Written(0) };
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&live.snapshot, turn, peer, query, room)));
        let Ok(outcome) = outcome else {
            counters.count_panic();
            error!(address = %peer.address, "a query broke the engine: a bug, please report it");
            return Answered::Written(0);
        };
        let len = counters.count(&outcome, &live.region_slots);
        let len = if S::IS_ENCRYPTED { len.map(|len| pad(query, room, len)) } else { len };
        match len.map(u16::try_from) {
            Some(Ok(len)) => {
                *length = len.to_be_bytes();
                Answered::Written(LENGTH + usize::from(len))
            }
            _ if outcome == Outcome::Slow => Answered::Later,
            _ => Answered::Written(0),
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
/// Octets of queries and answers after which others on the thread have their turn: what takes about a millisecond when
/// they are short. All that is read at once is usually less.
const WORK_AT_ONCE: usize = 256 << 10;
/// No client sends responses, or less than a header, by chance.
const UNANSWERED_MAX: u32 = 4;
/// What a connection may keep for its next query that comes in pieces: as long as queries are.
const KEPT_MAX: usize = 512;
/// A client that never stops to send must not keep a connection that is to end.
const LAST_READS_MAX: u32 = 64;
