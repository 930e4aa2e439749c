//! A client's connection of HTTP/2: one task reads its frames, goes on with the requests that can go on, and sends what
//! all of them have put together in one write.

use std::cell::RefCell;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::admit::{self, Admission};
use super::answer::{Answer, Own};
use super::client::{After, Client, Next};
use super::exchange::Exchange;
use super::record::{Protocol, Record};
use crate::clock::{Tick, Waiting};
use crate::http1::{self, Framing, Reason};
use crate::http2::{
    self, Block, Code, Event, Expected, Fatal, Fault, Role, Session, join_cookies, read_request, websocket,
};
use crate::lane::Lane;
use crate::stream::Stream;
use crate::worker::Worker;

mod ready;

use ready::{Ready, SlotWaker};

/// The requests of one connection.
pub(super) struct Http2 {
    session: Rc<RefCell<Session>>,
    slots: Vec<Slot>,
    /// Which of them are free.
    free: Vec<usize>,
    ready: Ready,
    /// The slots of a turn; here to keep its memory.
    turn: Vec<usize>,
    /// When the last request ended, or something was last sent for one, or had to wait for the first time.
    since: Tick,
    /// Whether octets wait that the client does not take.
    is_held_up: bool,
    /// Whether a request came before.
    has_served: bool,
}

/// A place for a request.
struct Slot {
    waker: SlotWaker,
    request: Option<Request>,
}

struct Request {
    stream: u32,
    /// As if it had a connection of its own.
    client: Client,
    stage: Stage,
}

enum Stage {
    Exchanging(Box<Exchange>),
    /// Is answered by the proxy itself: so many octets are sent, the last since then.
    Answering(Box<Own>, usize, Tick),
}

/// Why nothing more is read.
enum End {
    /// The client is gone.
    Gone,
    /// It has broken the rules.
    Fatal(Fatal),
}

impl From<Fatal> for End {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl Http2 {
    /// The connection of `client`, which has said that it speaks HTTP/2.
    pub(super) fn new(client: &Client) -> Self {
        let config = &client.worker.current().live.config;
        let limits = http2::Limits {
            streams: config.http2.streams,
            head_octets: config.limits.head_octets,
            stream_window: config.http2.stream_window,
            connection_window: config.http2.connection_window,
        };
        let session = Session::new(Role::Server, limits, Tick::now().moment());
        Self {
            session: Rc::new(RefCell::new(session)),
            slots: Vec::new(),
            free: Vec::new(),
            ready: Ready::default(),
            turn: Vec::new(),
            since: Tick::now(),
            is_held_up: false,
            has_served: false,
        }
    }

    /// Goes on with all of it, up to what follows on the connection of `client`.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<After> {
        self.ready.begin(cx.waker());
        loop {
            let has_all = match self.receive(cx, client) {
                Ok(has_all) => has_all,
                Err(end) => return Poll::Ready(self.break_off(cx, client, end)),
            };
            self.go_on();
            self.say_goodbye(client);
            match self.flush(cx, client) {
                Poll::Ready(Err(())) => return Poll::Ready(self.break_off(cx, client, End::Gone)),
                Poll::Ready(Ok(())) if self.is_over(client) => return Poll::Ready(After::Linger),
                // What was sent made room for what was not read.
                Poll::Ready(Ok(())) if !has_all => continue,
                _ => {}
            }
            if self.ready.is_done() {
                return self.poll_limits(cx, client);
            }
        }
    }

    /// Takes what has come; `false` when there may be more, for which there is no room.
    fn receive(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Result<bool, End> {
        let worker = Rc::clone(&client.worker);
        if !client.unread.is_empty() {
            let unread = std::mem::take(&mut client.unread).into_bytes();
            self.take(&worker, client, &unread)?;
        }
        let mut buffer = worker.buffers.read.borrow_mut();
        while !self.session.borrow().is_full() {
            match client.socket.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Gone),
                Poll::Ready(Ok(count)) => self.take(&worker, client, &buffer[..count])?,
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    fn take(&mut self, worker: &Rc<Worker>, client: &Client, mut bytes: &[u8]) -> Result<(), Fatal> {
        let mut block = worker.buffers.block.borrow_mut();
        block.set_limit(worker.current().live.config.limits.head_octets);
        let now = Tick::now().moment();
        loop {
            let event = self.session.borrow_mut().step(&mut bytes, &mut block, now)?;
            match event {
                None => return Ok(()),
                Some(Event::Request { stream, is_end }) => self.begin(worker, client, &mut block, stream, is_end)?,
                Some(Event::Ended { stream }) => self.drop_stream(stream),
            }
        }
    }

    /// Takes on the request whose head is in `block`.
    fn begin(
        &mut self,
        worker: &Rc<Worker>,
        client: &Client,
        block: &mut Block,
        stream: u32,
        is_end: bool,
    ) -> Result<(), Fatal> {
        self.has_served = true;
        let mut peer = client.peer;
        peer.is_http2 = true;
        peer.tls = client.teller().tls;
        let mut record = Record::new(None);
        join_cookies(block);
        let key = websocket_key(block);
        let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let is_head = block.iter().take(PSEUDO_MAX).any(|field| field == (b":method", b"HEAD"));
        // Until more is known.
        let expected = Expected { is_head, is_upgrade: false };
        self.session.borrow_mut().accept(stream, Framing::Empty, expected);
        let fields = block.iter().filter(|(name, _)| !name.starts_with(b":")).count();
        let stage = if block.is_too_large() || fields > worker.current().live.config.limits.fields {
            record.admit(Protocol::Http2);
            record.refuse(Reason::HeadTooLong, String::new());
            answering(Own::new(Answer::refusal(431, "head is too long"), record))
        } else {
            match read_request(block, &mut slots, is_end, &key) {
                Ok(request) => self.admit(worker, peer, stream, record, &request, &key),
                Err(Fault::Refused(refusal)) => {
                    let answer = admit::refuse(&mut record, refusal);
                    answering(Own::new(answer, record))
                }
                Err(Fault::Malformed(what)) => {
                    tracing::debug!(peer = %peer.address, what, "malformed request");
                    return self.session.borrow_mut().refuse_malformed(stream);
                }
            }
        };
        let lane = Stream::Lane(Lane::new(Rc::clone(&self.session), stream));
        let client = Client::new(Rc::clone(worker), lane, peer, false, None);
        self.place(Request { stream, client, stage });
        Ok(())
    }

    /// Gives `request` a slot, and its first turn.
    fn place(&mut self, request: Request) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { waker: self.ready.waker(self.slots.len()), request: None });
            self.slots.len() - 1
        });
        self.slots[slot].request = Some(request);
        self.slots[slot].waker.wake();
    }

    fn admit(
        &self,
        worker: &Rc<Worker>,
        peer: super::Peer,
        stream: u32,
        record: Record,
        request: &http1::Request<'_>,
        key: &str,
    ) -> Stage {
        let expected = Expected { is_head: request.method == "HEAD", is_upgrade: request.upgrade.is_some() };
        self.session.borrow_mut().accept(stream, request.body, expected);
        if expected.is_upgrade {
            self.session.borrow_mut().expect_switch(stream, key);
        }
        match admit::admit_stream(worker, peer, record, request) {
            Admission::Next(Next::Exchange(exchange), _) => Stage::Exchanging(exchange),
            Admission::Next(Next::Answer(own), _) => Stage::Answering(own, 0, Tick::now()),
            // The head was whole.
            Admission::Next(Next::Http2 | Next::Closed, _) | Admission::Partial(_) => {
                answering(Own::new(Answer::refusal(400, ""), Record::new(None)))
            }
        }
    }

    /// The client wants nothing more of a request.
    fn drop_stream(&mut self, stream: u32) {
        let is_it = |slot: &Slot| slot.request.as_ref().is_some_and(|request| request.stream == stream);
        if let Some(slot) = self.slots.iter().position(is_it) {
            self.cancel(slot);
        }
    }

    /// Nobody waits for the answer to the request in `slot`.
    fn cancel(&mut self, slot: usize) {
        match &mut self.slots[slot].request {
            Some(Request { client, stage: Stage::Exchanging(exchange), .. }) => exchange.cancel(client),
            Some(Request { client, stage: Stage::Answering(own, sent, _), .. }) => {
                own.end(client, *sent, false);
            }
            None => {}
        }
        self.leave(slot);
    }

    /// The request in `slot` has ended.
    fn leave(&mut self, slot: usize) {
        if self.slots[slot].request.take().is_some() {
            self.free.push(slot);
            self.since = Tick::now();
        }
    }

    /// Goes on with the requests that can.
    fn go_on(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        self.ready.take(&mut turn);
        for slot in turn.drain(..) {
            // A waker may outlive its slot.
            let Some(Slot { waker, request }) = self.slots.get_mut(slot) else { continue };
            waker.is_taken();
            let Some(request) = request else { continue };
            if request.poll(&mut Context::from_waker(waker.waker())).is_ready() {
                self.leave(slot);
            }
        }
        self.turn = turn;
    }

    /// Tells the client of an end that is near.
    fn say_goodbye(&mut self, client: &Client) {
        let worker = &client.worker;
        if worker.is_over() {
            self.session.borrow_mut().close(Code::NoError);
        } else if worker.is_stopping() {
            self.session.borrow_mut().warn();
        }
    }

    /// Whether nothing is left to do.
    fn is_over(&self, client: &Client) -> bool {
        let session = self.session.borrow();
        session.is_empty() && (session.is_going() || session.is_used_up() || client.worker.is_over())
    }

    /// Sends what was put together.
    fn flush(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), ()>> {
        loop {
            let mut session = self.session.borrow_mut();
            if session.unsent().is_empty() {
                self.is_held_up = false;
                return Poll::Ready(Ok(()));
            }
            match client.socket.poll_write(cx, &[IoSlice::new(session.unsent())]) {
                Poll::Ready(Ok(count)) => {
                    session.note_sent(count);
                    // What an idle connection is told, as the answer to a PING, does not keep it.
                    if self.is_held_up || !session.is_empty() {
                        self.since = Tick::now();
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {
                    if !std::mem::replace(&mut self.is_held_up, true) {
                        self.since = Tick::now();
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Ends the connection at once.
    fn break_off(&mut self, cx: &mut Context<'_>, client: &mut Client, end: End) -> After {
        (0..self.slots.len()).for_each(|slot| self.cancel(slot));
        let End::Fatal(fatal) = end else { return After::Close };
        tracing::debug!(peer = %client.peer.address, cause = %fatal, "connection of HTTP/2 ended");
        self.session.borrow_mut().close(fatal.code);
        match self.flush(cx, client) {
            Poll::Ready(Ok(())) => After::Linger,
            _ => After::Close,
        }
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<After> {
        let worker = Rc::clone(&client.worker);
        let limits = worker.current().live.config.limits;
        let now = Tick::now();
        let mut session = self.session.borrow_mut();
        if !session.unsent().is_empty() {
            if now.since(self.since) >= limits.client_stall {
                drop(session);
                return Poll::Ready(self.break_off(cx, client, End::Gone));
            }
        } else if session.is_empty() {
            let limit = if self.has_served { limits.keep_alive } else { limits.request_head };
            let is_late = now.since(self.since) >= limit;
            if is_late || worker.is_over() || worker.deadlines.is_dismissed(client.place) {
                session.close(Code::NoError);
                drop(session);
                let _ = self.flush(cx, client);
                return Poll::Ready(After::Linger);
            }
            session.settle();
            if self.slots.len() > SLOTS_KEPT {
                (self.slots, self.free, self.turn) = (Vec::new(), Vec::new(), Vec::new());
                self.ready.forget();
            }
            worker.deadlines.arm(client.place, self.since.after(limit), Waiting::Idle, cx.waker());
            return Poll::Pending;
        }
        let end = if session.unsent().is_empty() { Tick::NEVER } else { self.since.after(limits.client_stall) };
        worker.deadlines.arm(client.place, end, Waiting::Busy, cx.waker());
        Poll::Pending
    }
}

impl Request {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stage {
            Stage::Exchanging(exchange) => exchange.poll(cx, &mut self.client).map(drop),
            Stage::Answering(own, sent, since) => {
                let is_sent = ready!(self.client.poll_send(cx, &own.answer, sent, *since)).is_ok();
                own.end(&self.client, *sent, is_sent);
                Poll::Ready(())
            }
        }
    }
}

fn answering(own: Own) -> Stage {
    Stage::Answering(Box::new(own), 0, Tick::now())
}

/// A Sec-WebSocket-Key (RFC 6455, section 4.1), where there is need of one.
fn websocket_key(block: &Block) -> String {
    if !block.iter().take(PSEUDO_MAX).any(|(name, _)| name == b":protocol") {
        return String::new();
    }
    websocket::key(fastrand::u128(..).to_be_bytes())
}

/// The fields of a block, and one more.
const FIELDS_MAX: usize = 262;

/// As many pseudo-header fields may a request have.
const PSEUDO_MAX: usize = 5;

/// More places for requests are not kept while there is none.
const SLOTS_KEPT: usize = 2;
