//! One stream of HTTP/2 in the shape of a connection of HTTP/1.1 that carries one request.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::http2::Session;

/// A stream; when it is dropped, what is not whole of it is broken off.
#[derive(Debug)]
pub struct Lane {
    session: Rc<RefCell<Session>>,
    stream: u32,
}

impl Lane {
    /// The stream numbered `stream` of `session`.
    pub fn new(session: Rc<RefCell<Session>>, stream: u32) -> Self {
        Self { session, stream }
    }

    /// Reads text of HTTP/1.1; 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.session.borrow_mut().poll_read(self.stream, cx, buffer)
    }

    /// Writes some of `parts`, which are text of HTTP/1.1 with whole heads.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.session.borrow_mut().poll_write(self.stream, cx, parts)
    }

    /// How much can be written, once that is something.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.session.borrow_mut().poll_room(self.stream, cx)
    }

    /// Whether it was reset.
    pub fn is_gone(&self) -> bool {
        self.session.borrow_mut().is_reset(self.stream)
    }

    /// Has no more streams begin beside it: the connection may be dead.
    pub fn retire(&mut self) {
        self.session.borrow_mut().retire();
    }

    /// Tells the other side that no more will come.
    pub fn end_writing(&mut self) {
        self.session.borrow_mut().end(self.stream);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Ok(mut session) = self.session.try_borrow_mut() {
            session.forget(self.stream);
        }
    }
}
