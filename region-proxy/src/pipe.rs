//! Pipes, through which large bodies go from socket to socket without being copied to this program and back.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::socket::{self, Socket};

/// A pipe that one body uses.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Octets in it.
    len: usize,
}

/// Whether more of a body follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// The kernel may wait for it to fill a packet, if much comes at a time.
    More,
    /// This is the end.
    Nothing,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A smaller one does, where a user may not have so much.
        let _ = fcntl_setpipe_size(&write, PIPE_OCTETS);
        Ok(Self { read, write, len: 0 })
    }

    /// Octets in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes at most `max` octets from `source`; 0 at its end. To be called when empty.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, source: &mut Socket, max: u64) -> Poll<io::Result<usize>> {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(PIPE_OCTETS);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = ready!(source.poll_take(cx, |fd| {
            let count = splice(fd, None, &self.write, None, max, flags)?;
            Ok((count, socket::Then::Unknown))
        }))?;
        self.len += count;
        Poll::Ready(Ok(count))
    }

    /// Gives all that is in it to `target`.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, target: &mut Socket, then: Then) -> Poll<io::Result<()>> {
        while self.len > 0 {
            let mut flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            if then == Then::More && self.len >= MORE_MIN {
                flags |= SpliceFlags::MORE;
            }
            let len = self.len;
            let count = ready!(target.poll_put(cx, |fd| splice(&self.read, None, fd, None, len, flags)))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.len -= count;
        }
        Poll::Ready(Ok(()))
    }
}

/// Empty pipes of one thread.
#[derive(Debug, Default)]
pub struct Pipes(RefCell<Vec<Pipe>>);

impl Pipes {
    /// An empty pipe.
    pub fn take(&self) -> io::Result<Pipe> {
        self.0.borrow_mut().pop().map_or_else(Pipe::new, Ok)
    }

    /// Takes a pipe back; one that is not empty is closed.
    pub fn give_back(&self, pipe: Option<Pipe>) {
        let mut pipes = self.0.borrow_mut();
        if pipes.len() < SPARE_MAX {
            pipes.extend(pipe.filter(Pipe::is_empty));
        }
    }
}

/// What the kernel allows every user.
const PIPE_OCTETS: usize = 1 << 20;

/// Less than this is not held back for what follows.
const MORE_MIN: usize = 16 * 1024;

/// Pipes that are kept for the next bodies.
const SPARE_MAX: usize = 64;
