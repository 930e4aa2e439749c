//! Connections whose octets pass as they are: `[[tcp]]`.
//!
//! ```text
//! client ─► PROXY header, name in the ClientHello ─► reach: choose, queue, connect ─► pass: both ways to the end
//!           where the settings ask for them               ▲ another server on failure, at most `retries`
//! ```
//! As in [`crate::relay`] all is polled by hand. A connection counts as a request of its service from when that is known.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::clock::{Tick, Waiting};
use crate::config::Tcp;
use crate::guests::Guest;
use crate::listen::Permit;
use crate::local::{Flight, Local};
use crate::proxy_protocol;
use crate::relay::Peer;
use crate::relay::record::{By, Cause, Protocol, Record};
use crate::relay::tell::{Teller, tell_connection};
use crate::sni::hello::{self, Hello};
use crate::socket::Socket;
use crate::stream::Stream;
use crate::worker::Worker;

mod pass;
mod reach;

use pass::{End, Pass};
use reach::Reach;

/// Serves a connection to its end that came in at `at`, as the settings have it; `permit` is its place among all.
///
/// With `is_unintroduced` it begins with a PROXY header.
pub fn connection(
    worker: Rc<Worker>,
    socket: Socket,
    peer: Peer,
    at: SocketAddr,
    is_unintroduced: bool,
    permit: Permit,
) -> impl Future<Output = ()> {
    let place = worker.deadlines.take();
    worker.proxy.tally.accept(worker.number);
    let is_logged = worker.current().live.config.access_log.is_some();
    let record = is_logged.then(|| Box::new(Record::of_connection()));
    let client = Client { worker, stream: Stream::Plain(socket), peer, place, record };
    let stage = Stage::Hearing(Hearing { since: Tick::now(), is_unintroduced, unread: Vec::new() });
    Connection { client, at, stage, permit }
}

struct Connection {
    client: Client,
    at: SocketAddr,
    stage: Stage,
    permit: Permit,
}

/// The client's side.
struct Client {
    worker: Rc<Worker>,
    stream: Stream,
    peer: Peer,
    /// Among the deadlines of its thread.
    place: u32,
    /// For the access log, where that was on when it came.
    record: Option<Box<Record>>,
}

/// Where a connection is.
enum Stage {
    /// Must say where it wants to go.
    Hearing(Hearing),
    /// Needs a server.
    Reaching(Box<Reach>),
    /// Has one.
    Passing(Box<Pass>),
    Over,
}

/// What is known before the service.
struct Hearing {
    since: Tick,
    is_unintroduced: bool,
    /// All that was read.
    unread: Vec<u8>,
}

/// Why a connection ends before it has a server.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("the settings have no such [[tcp]] any more")]
    NoFront,
    #[error(transparent)]
    Header(#[from] proxy_protocol::BadHeader),
    #[error(transparent)]
    Hello(#[from] hello::BadHello),
    #[error("no service for {0}")]
    NoService(String),
    #[error("ended before its first words")]
    Gone,
    #[error("no first words within the time limit")]
    Late,
    #[error("its client has as many connections as it may")]
    Crowd,
}

impl Unheard {
    /// Whose fault it is, and why it ends.
    fn blame(&self) -> (By, Cause) {
        match self {
            Self::NoFront | Self::NoService(_) => (By::Proxy, Cause::NoService),
            Self::Header(_) | Self::Hello(_) => (By::Proxy, Cause::Refused),
            Self::Crowd => (By::Proxy, Cause::TooMany),
            Self::Gone => (By::Client, Cause::ClientGone),
            Self::Late => (By::ClientLate, Cause::ClientLate),
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, at, stage, permit } = self.get_mut();
        if client.worker.is_cut() {
            client.cut(stage);
            return Poll::Ready(());
        }
        loop {
            match stage {
                Stage::Hearing(hearing) => match ready!(hearing.poll(cx, client, permit, *at)) {
                    Ok(flight) => {
                        client.worker.deadlines.set_busy(client.place);
                        client.note(|record| record.admit(Protocol::Tcp));
                        let first = std::mem::take(&mut hearing.unread);
                        *stage = Stage::Reaching(Box::new(Reach::new(client, flight, first)));
                    }
                    Err(cause) => {
                        tracing::debug!(peer = %client.peer.address, %cause, "connection closed before it had a server");
                        let (by, what) = cause.blame();
                        client.note(|record| record.end(by, what, cause.to_string()));
                        client.tell(None);
                        return Poll::Ready(());
                    }
                },
                Stage::Reaching(reach) => {
                    let Some(server) = ready!(reach.poll(cx, client)) else {
                        client.tell(Some(reach.flight()));
                        return Poll::Ready(());
                    };
                    client.note(Record::pass);
                    let limits = limits(&client.worker.current(), *at);
                    let Stage::Reaching(reach) = std::mem::replace(stage, Stage::Over) else { return Poll::Ready(()) };
                    *stage = Stage::Passing(Box::new(Pass::new(reach.reached(client, server), limits)));
                }
                Stage::Passing(pass) => {
                    let end = ready!(pass.poll(cx, client));
                    if end != End::Whole {
                        // Neither side may take what it has for all that there was.
                        client.stream.reset_on_close();
                        pass.reset_server(end);
                    }
                    client.note(|record| pass.note(end, record));
                    client.tell(Some(pass.flight()));
                    return Poll::Ready(());
                }
                Stage::Over => return Poll::Ready(()),
            }
        }
    }
}

/// The settings of what came in at `at`.
fn front(local: &Local, at: SocketAddr) -> Option<&Tcp> {
    local.live.config.tcp.iter().find(|tcp| tcp.listen.contains(&at))
}

fn limits(local: &Local, at: SocketAddr) -> pass::Limits {
    let found = front(local, at).map(|tcp| pass::Limits { idle: tcp.idle, half_closed: tcp.half_closed });
    found.unwrap_or_default()
}

impl Hearing {
    /// Waits until the service is known, where its client must say more than that it is there.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        permit: &mut Permit,
        at: SocketAddr,
    ) -> Poll<Result<Flight, Unheard>> {
        let worker = Rc::clone(&client.worker);
        loop {
            let local = worker.current();
            let Some(front) = front(&local, at) else { return Poll::Ready(Err(Unheard::NoFront)) };
            self.meet(&worker, &local, &mut client.peer, permit)?;
            if let Some(found) = self.hear(&local, front)? {
                return Poll::Ready(Ok(found));
            }
            let mut buffer = worker.buffers.read.borrow_mut();
            match client.stream.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Unheard::Gone)),
                Poll::Ready(Ok(count)) => self.unread.extend_from_slice(&buffer[..count]),
                Poll::Pending => {
                    let is_over = worker.is_over() || worker.deadlines.is_dismissed(client.place);
                    if is_over || Tick::now().since(self.since) >= front.hello {
                        return Poll::Ready(Err(Unheard::Late));
                    }
                    worker.deadlines.arm(client.place, self.since.after(front.hello), Waiting::Idle, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads the PROXY header, where there must be one and it is whole.
    fn meet(
        &mut self,
        worker: &Rc<Worker>,
        local: &Local,
        peer: &mut Peer,
        permit: &mut Permit,
    ) -> Result<(), Unheard> {
        if self.is_unintroduced
            && let Some(header) = proxy_protocol::read(&self.unread)?
        {
            if let Some(ends) = header.ends {
                (peer.address, peer.destination) = (ends.source, ends.destination);
            }
            self.unread.drain(..header.len);
            self.is_unintroduced = false;
            let guest = Guest::enter(worker, peer.address.ip(), &local.live.config);
            permit.guest = guest.map_err(|_| Unheard::Crowd)?;
        }
        Ok(())
    }

    /// What follows from what was read; `None` when more is needed.
    fn hear(&mut self, local: &Rc<Local>, front: &Tcp) -> Result<Option<Flight>, Unheard> {
        if self.is_unintroduced {
            return Ok(None);
        }
        let hello = if front.by_name.is_some() { hello::read(&self.unread)? } else { Hello::Nameless };
        let asked = match &hello {
            Hello::Partial => return Ok(None),
            Hello::Named(name) => Some(&**name),
            Hello::Nameless => None,
        };
        let index = front.service(asked).and_then(|name| local.live.service_named(name.as_str()));
        let flight = index.and_then(|index| Flight::new(Rc::clone(local), index));
        let no_service = || Unheard::NoService(asked.unwrap_or("a client that asks for no name").to_owned());
        flight.map(Some).ok_or_else(no_service)
    }
}

impl Client {
    /// Has what becomes of it noted, where it is to be logged.
    fn note(&mut self, what: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            what(record);
        }
    }

    /// Ends it since the proxy stops and waits no longer.
    #[cold]
    fn cut(&mut self, stage: &mut Stage) {
        self.stream.reset_on_close();
        self.note(Record::cut);
        match stage {
            Stage::Hearing(_) => self.tell(None),
            Stage::Reaching(reach) => self.tell(Some(reach.flight())),
            Stage::Passing(pass) => {
                pass.reset_server(End::Cut);
                self.note(|record| pass.note(End::Cut, record));
                self.tell(Some(pass.flight()));
            }
            Stage::Over => {}
        }
    }

    /// Tells of it; `flight` counts it, if its service is known.
    fn tell(&self, flight: Option<&Flight>) {
        if let Some(record) = &self.record {
            tell_connection(record, Teller { worker: &self.worker, address: self.peer.address, tls: None }, flight);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.deadlines.give_back(self.place);
        self.worker.proxy.tally.close(self.worker.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
        assert!(size_of::<Pass>() <= 320, "{}", size_of::<Pass>());
    }
}
