//! Connections of HTTP/2 to servers: each carries many requests at one time, and is one task of its thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::clock::Tick;
use crate::http2::{Code, Limits, Role, Session};
use crate::lane::Lane;
use crate::stream::Stream;
use crate::worker::Worker;

/// The connections of one thread, by the numbers of their servers.
#[derive(Debug, Default)]
pub struct Links(Rc<RefCell<Vec<Vec<Link>>>>);

type Link = Rc<RefCell<Session>>;

impl Links {
    /// A stream for one request to the server numbered `server`; `None` where another connection is needed for it.
    pub fn lane(&self, server: u32) -> Option<Lane> {
        let links = self.0.borrow();
        let mut sessions = links.get(server as usize)?.iter();
        sessions.find_map(|session| {
            let stream = session.borrow_mut().open()?;
            Some(Lane::new(Rc::clone(session), stream))
        })
    }

    /// The same on the connection `socket`, which was just made and speaks HTTP/2, or on another that has room by now.
    ///
    /// It is closed when it carries nothing for as long as other idle connections are kept.
    pub fn start(&self, worker: &Rc<Worker>, server: u32, socket: Stream) -> Option<Lane> {
        if let Some(lane) = self.lane(server) {
            return Some(lane);
        }
        let config = worker.current().live.config.limits;
        let limits = Limits {
            streams: 0,
            head_octets: config.head_octets,
            stream_window: STREAM_WINDOW,
            connection_window: WINDOW,
        };
        let mut session = Session::new(Role::Client, limits, Tick::now().moment());
        if socket.session_to_server().is_some() {
            session.set_secure();
        }
        let session = Rc::new(RefCell::new(session));
        let mut links = self.0.borrow_mut();
        if links.len() <= server as usize {
            links.resize_with(server as usize + 1, Vec::new);
        }
        links[server as usize].push(Rc::clone(&session));
        drop(links);
        let (links, driven) = (Rc::clone(&self.0), Rc::clone(&session));
        let (worker, idle_max) = (Rc::clone(worker), config.upstream_idle);
        let mut driver = Driver { worker, session: driven, socket, is_unread: false, idle: None, idle_max };
        tokio::task::spawn_local(async move {
            poll_fn(|cx| driver.poll(cx)).await;
            if let Some(sessions) = links.borrow_mut().get_mut(server as usize) {
                sessions.retain(|session| !Rc::ptr_eq(session, &driver.session));
            }
            driver.session.borrow_mut().break_all();
        });
        self.lane(server)
    }

    /// How many connections there are to the server numbered `server`.
    pub fn count(&self, server: u32) -> usize {
        self.0.borrow().get(server as usize).map_or(0, Vec::len)
    }
}

/// What reads and writes one connection.
struct Driver {
    worker: Rc<Worker>,
    session: Link,
    socket: Stream,
    /// Whether more may have come, for which there was no room.
    is_unread: bool,
    /// Runs while it carries nothing.
    idle: Option<std::pin::Pin<Box<Sleep>>>,
    idle_max: Duration,
}

impl Driver {
    /// Reads and sends until the connection is of no more use.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.borrow_mut().set_driver(cx.waker());
        let mut is_alive = self.receive(cx) && self.flush(cx);
        // What was sent made room for what was not read.
        while is_alive && self.is_unread && self.session.borrow().unsent().is_empty() {
            is_alive = self.receive(cx) && self.flush(cx);
        }
        let session = self.session.borrow();
        if !is_alive || (session.is_empty() && session.is_used_up()) {
            return Poll::Ready(());
        }
        if !session.is_empty() {
            self.idle = None;
            return Poll::Pending;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(self.idle_max)));
        idle.as_mut().poll(cx)
    }

    /// Takes all that has come; `false` when the connection has ended.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        let worker = Rc::clone(&self.worker);
        let mut buffer = worker.buffers.read.borrow_mut();
        let mut block = worker.buffers.block.borrow_mut();
        block.set_limit(worker.current().live.config.limits.head_octets);
        while !self.session.borrow().is_full() {
            let count = match self.socket.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return false,
                Poll::Ready(Ok(count)) => count,
                Poll::Pending => {
                    self.is_unread = false;
                    return true;
                }
            };
            let mut bytes = &buffer[..count];
            let mut session = self.session.borrow_mut();
            loop {
                match session.step(&mut bytes, &mut block, Tick::now().moment()) {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(fatal) => {
                        tracing::debug!(cause = %fatal, "connection of HTTP/2 to a server ended");
                        session.close(fatal.code);
                        drop(session);
                        self.flush(cx);
                        return false;
                    }
                }
            }
        }
        self.is_unread = true;
        true
    }

    /// Sends what was put together; `false` when the connection has ended.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut session = self.session.borrow_mut();
        while !session.unsent().is_empty() {
            match self.socket.poll_write(cx, &[IoSlice::new(session.unsent())]) {
                Poll::Ready(Ok(count)) => session.note_sent(count),
                Poll::Ready(Err(_)) => return false,
                Poll::Pending => return true,
            }
        }
        true
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // So that a server knows that nothing follows.
        if let Ok(mut session) = self.session.try_borrow_mut() {
            session.close(Code::NoError);
        }
        self.flush(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

/// What a server may send on a stream before it is taken, and on all: what it sends waits for slow clients here.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;
