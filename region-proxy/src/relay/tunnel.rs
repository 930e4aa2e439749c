//! Octets both ways, after the protocol has changed.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::body::Outbox;
use super::client::Client;
use crate::clock::{Tick, Waiting};
use crate::stream::Stream;
use crate::worker::Worker;

/// What lies between a client and a server that speak a protocol of their own.
#[derive(Debug)]
pub(super) struct Tunnel {
    to_client: Way,
    to_server: Way,
    limit: Duration,
}

/// One direction.
#[derive(Debug)]
struct Way {
    out: Outbox,
    is_ended: bool,
    progress: Tick,
}

impl Tunnel {
    /// `to_client` and `to_server` are what was read already; it is closed when nothing passes for `limit`.
    pub(super) fn new(to_client: Outbox, to_server: Vec<u8>, limit: Duration) -> Self {
        let way = |out| Way { out, is_ended: false, progress: Tick::now() };
        Self { to_client: way(to_client), to_server: way(Outbox::new(to_server)), limit }
    }

    /// Octets that the server and the client took.
    pub(super) fn octets(&self) -> [u64; 2] {
        [self.to_server.out.passed(), self.to_client.out.passed()]
    }

    /// Passes octets until both sides have ended, one of them breaks, or nothing passes for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client, server: &mut Stream) -> Poll<()> {
        let worker = Rc::clone(&client.worker);
        let down = self.to_client.poll(cx, &worker, server, &mut client.socket);
        let up = self.to_server.poll(cx, &worker, &mut client.socket, server);
        match (down, up) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) | (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(());
            }
            _ => {}
        }
        let since = self.to_client.progress.max(self.to_server.progress);
        if Tick::now().since(since) >= self.limit {
            return Poll::Ready(());
        }
        worker.deadlines.arm(client.place, since.after(self.limit), Waiting::Busy, cx.waker());
        Poll::Pending
    }
}

impl Way {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        source: &mut Stream,
        target: &mut Stream,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.out.is_empty() {
                ready!(self.out.poll_flush(cx, target))?;
                self.progress = Tick::now();
            }
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = worker.buffers.read.borrow_mut();
            let count = ready!(source.poll_read(cx, &mut buffer))?;
            self.progress = Tick::now();
            if count == 0 {
                self.is_ended = true;
                target.end_writing();
            } else {
                self.out.send(cx, target, [&buffer[..count], &[], &[]])?;
            }
        }
    }
}
