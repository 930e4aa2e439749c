//! The TCP connections that there are: each in a seat, which is taken from it when a newcomer needs it more, when it
//! has waited for its client for too long, or when the node stops.
//!
//! Ending a connection from outside is shutting its socket down for reading: its task then finds what has come already,
//! answers it, finds the end of the stream, and goes. So a connection needs no timer, no signal and no lock of its own;
//! it notes only what it waits for, and time passes in ticks for all at once. A connection that belongs to a library is
//! told instead, and ends itself.

mod book;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::unix_secs;
use crate::settings::TcpSettings;
use book::{Book, BookLimits, Id, Line, Tick, Wait};

pub(super) use book::Awaited;

/// What happened to connections.
#[derive(Debug, Default)]
pub(crate) struct TcpCounters {
    /// Connections that are open.
    pub(crate) open: AtomicU64,
    /// Octets of queries that are not whole and of answers that are not taken.
    pub(crate) bytes_in_flight: AtomicU64,
    /// Connections ever taken.
    pub(crate) accepted: AtomicU64,
    /// Closed for a newcomer: there were as many as there may be in all, or of its client.
    pub(crate) evicted: AtomicU64,
    /// Closed because all together held too many octets.
    pub(crate) evicted_bytes: AtomicU64,
    /// Not taken for want of files.
    pub(crate) refused: AtomicU64,
    /// Closed because no query came in time.
    pub(crate) timed_out_idle: AtomicU64,
    /// Closed because a query was not whole in time, or none came on a new connection.
    pub(crate) timed_out_query: AtomicU64,
    /// Closed because answers were not taken in time.
    pub(crate) timed_out_answer: AtomicU64,
}

/// All seats.
pub(super) struct Seats {
    counters: Arc<TcpCounters>,
    book: Mutex<Book<Arc<Call>>>,
    start: Instant,
    tick: Duration,
    answer_wait: Duration,
    idle: Duration,
    now: AtomicU64,
    /// Seconds since 1970, modulo 2^32.
    unix_secs: AtomicU32,
}

/// A connection as others see it.
struct Call {
    /// [`Awaited`] in the last two bits, before them the tick since when.
    wait: AtomicU64,
    is_ending: AtomicBool,
    is_lost: AtomicBool,
    /// Held to shut it down until it is dropped; `None`: who has the seat ends by itself.
    socket: Option<OwnedWriteHalf>,
    /// Rung when it is to end.
    bell: Notify,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Its seat is lost.
    Lost,
    /// Once what has come is answered: the node stops.
    AfterAnswers,
}

/// The right to one open connection, until it is dropped or taken away.
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: Id,
    call: Arc<Call>,
    held: usize,
}

impl Seats {
    /// Seats with the limits of `settings`, of which there are at most `connections`.
    pub(super) fn new(settings: &TcpSettings, connections: usize, counters: Arc<TcpCounters>) -> Self {
        let tick = (settings.idle.min(settings.message) / TICKS_MIN).clamp(Duration::from_millis(1), TICK_MAX);
        // One more, since a wait may have begun at the end of its tick.
        let ticks = |time: Duration| time.as_nanos().div_ceil(tick.as_nanos()) as Tick + 1;
        let limits = BookLimits {
            total: settings.connections.min(connections).max(1),
            per_client: settings.connections_per_client,
            octets: settings.bytes_in_flight,
            idle: ticks(settings.idle),
            message: ticks(settings.message),
            patience: ticks(PATIENCE),
        };
        let book = Mutex::new(Book::new(limits));
        let (now, unix_secs) = (AtomicU64::new(0), AtomicU32::new(unix_secs()));
        let (answer_wait, idle) = (settings.message, settings.idle);
        Self { counters, book, start: Instant::now(), tick, answer_wait, idle, now, unix_secs }
    }

    /// How long clients may take to take answers.
    pub(super) fn answer_wait(&self) -> Duration {
        self.answer_wait
    }

    /// A seat for the connection of `peer` behind `socket`, which waits for its first query.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, socket: OwnedWriteHalf) -> Seat {
        self.seat(peer, Some(socket))
    }

    /// A seat for a connection of `peer` that watches [`Seat::ended`].
    pub(super) fn take_watching(self: &Arc<Self>, peer: IpAddr) -> Seat {
        self.seat(peer, None)
    }

    fn seat(self: &Arc<Self>, peer: IpAddr, socket: Option<OwnedWriteHalf>) -> Seat {
        let now = self.now();
        let call = Arc::new(Call {
            wait: AtomicU64::new(packed(Awaited::RestOfQuery, now)),
            is_ending: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            socket,
            bell: Notify::new(),
        });
        let mut book = self.lock();
        let (id, victim) = book.join(peer, now, Arc::clone(&call));
        self.show(&book);
        drop(book);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(victim) = victim {
            self.counters.evicted.fetch_add(1, Ordering::Relaxed);
            victim.end();
        }
        Seat { seats: Arc::clone(self), id, call, held: 0 }
    }

    /// Lets time pass, for ever.
    pub(super) async fn keep_time(self: Arc<Self>) {
        let mut ticks = interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = (self.start.elapsed().as_nanos() / self.tick.as_nanos()) as Tick;
            self.now.store(now, Ordering::Relaxed);
            self.unix_secs.store(unix_secs(), Ordering::Relaxed);
            self.end_late(now);
        }
    }

    fn end_late(&self, now: Tick) {
        let mut book = self.lock();
        let late = book.expire(now);
        if late.is_empty() {
            return;
        }
        self.show(&book);
        drop(book);
        for (call, awaited) in late {
            let counter = match awaited {
                Awaited::Query => &self.counters.timed_out_idle,
                Awaited::RestOfQuery => &self.counters.timed_out_query,
                Awaited::Room => &self.counters.timed_out_answer,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            call.end();
        }
    }

    /// Ends all connections once they have answered what has come; who must wait for room to send may, for its time.
    pub(super) fn end_all(&self) {
        let calls: Vec<Arc<Call>> = self.lock().lines().cloned().collect();
        calls.iter().for_each(|call| call.stop_reading());
    }

    /// Counts a connection that could not be taken for want of files.
    pub(super) fn count_refused(&self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> Tick {
        self.now.load(Ordering::Relaxed)
    }

    /// Shows the sums of `book`.
    fn show(&self, book: &Book<Arc<Call>>) {
        self.counters.open.store(book.len() as u64, Ordering::Relaxed);
        self.counters.bytes_in_flight.store(book.held() as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Book<Arc<Call>>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Notes that the connection waits from now on. Costs neither a lock nor a look at a clock.
    pub(super) fn wait_for(&self, awaited: Awaited) {
        let order = match awaited {
            // Either the next look at `is_lost` sees it, or who cuts sees this.
            Awaited::Room => Ordering::SeqCst,
            Awaited::Query | Awaited::RestOfQuery => Ordering::Relaxed,
        };
        self.call.wait.store(packed(awaited, self.seats.now()), order);
    }

    /// How long it may wait for its next query.
    pub(super) fn idle(&self) -> Duration {
        self.seats.idle
    }

    /// Seconds since 1970 by the wall clock, modulo 2^32, as of the last tick.
    pub(super) fn unix_secs(&self) -> u32 {
        self.seats.unix_secs.load(Ordering::Relaxed)
    }

    /// Ends when the connection is to end; tells how.
    pub(super) fn ended(&self) -> impl Future<Output = Ending> + Send + use<> {
        let call = Arc::clone(&self.call);
        async move {
            call.bell.notified().await;
            if call.is_lost.load(Ordering::SeqCst) { Ending::Lost } else { Ending::AfterAnswers }
        }
    }

    /// Whether the connection is to end after what has come already.
    pub(super) fn is_ending(&self) -> bool {
        self.call.is_ending.load(Ordering::Relaxed)
    }

    /// Whether the seat is lost, so that nobody watches over the connection any more: it must wait for nothing.
    pub(super) fn is_lost(&self) -> bool {
        self.call.is_lost.load(Ordering::SeqCst)
    }

    /// Notes how many octets the connection holds. Takes a lock where that is another number than before.
    pub(super) fn hold(&mut self, octets: usize) {
        if self.held == octets {
            return;
        }
        self.held = octets;
        let mut book = self.seats.lock();
        let gone = book.hold(self.id, octets);
        self.seats.show(&book);
        drop(book);
        for call in gone {
            self.seats.counters.evicted_bytes.fetch_add(1, Ordering::Relaxed);
            call.cut();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut book = self.seats.lock();
        book.leave(self.id);
        self.seats.show(&book);
    }
}

impl Line for Arc<Call> {
    fn wait(&self) -> Wait {
        let packed = self.wait.load(Ordering::SeqCst);
        let awaited = match packed & 3 {
            0 => Awaited::Query,
            1 => Awaited::RestOfQuery,
            _ => Awaited::Room,
        };
        Wait { awaited, since: packed >> 2 }
    }
}

impl Call {
    /// Lets it answer what has come, then go; at once where that could take for ever.
    fn end(self: &Arc<Self>) {
        self.is_lost.store(true, Ordering::SeqCst);
        match self.wait().awaited {
            Awaited::Room => self.cut(),
            Awaited::Query | Awaited::RestOfQuery => self.stop_reading(),
        }
    }

    fn stop_reading(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(socket) = &self.socket {
            // Fails where the client has gone already, which ends it too.
            let _ = SockRef::from(socket.as_ref()).shutdown(std::net::Shutdown::Read);
        }
        self.bell.notify_one();
    }

    /// Ends it at once; what the client has not taken is lost, and the kernel keeps none of it.
    fn cut(&self) {
        self.is_lost.store(true, Ordering::SeqCst);
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(socket) = &self.socket {
            let socket = SockRef::from(socket.as_ref());
            // The same.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        self.bell.notify_one();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Closing the socket says what is to be said; otherwise it would be shut down for writing before.
        if let Some(socket) = self.socket.take() {
            socket.forget();
        }
    }
}

fn packed(awaited: Awaited, since: Tick) -> u64 {
    let awaited = match awaited {
        Awaited::Query => 0,
        Awaited::RestOfQuery => 1,
        Awaited::Room => 2,
    };
    since << 2 | awaited
}

/// Into how many ticks the shortest time is cut at least.
const TICKS_MIN: u32 = 20;
/// No limit needs to be kept better than this.
const TICK_MAX: Duration = Duration::from_millis(100);
/// A connection without a query for so long is not busy: its client loses little if it has to open another one.
const PATIENCE: Duration = Duration::from_secs(1);
