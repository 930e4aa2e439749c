//! A connection that carries HTTP, over TCP alone, with TLS, or within one of HTTP/2.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::lane::Lane;
use crate::socket::Socket;
use crate::tls::session::Session;

/// One connection.
#[derive(Debug)]
pub enum Stream {
    /// What is sent is what the kernel gets.
    Plain(Socket),
    /// With TLS between.
    Secure(Box<Secure>),
    /// One stream among others.
    Lane(Lane),
}

/// A socket and its TLS. When it is dropped, the peer is told that it ends, if that needs no waiting.
#[derive(Debug)]
pub struct Secure {
    socket: Socket,
    session: Session,
}

impl Stream {
    /// From here on `session` lies between; one that has one already keeps it.
    pub fn secure(&mut self, session: Session) {
        if let Self::Plain(socket) = self {
            *self = Self::Secure(Box::new(Secure { socket: socket.take(), session }));
        }
    }

    /// Goes through the handshake, where there is one; then so many octets that came with its end lie at the front of
    /// `buffer`.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(_) | Self::Lane(_) => Poll::Ready(Ok(0)),
            Self::Secure(secure) => secure.session.poll_handshake(cx, &mut secure.socket, buffer),
        }
    }

    /// Reads into `buffer`, of at least [`crate::tls::session::BUFFER_MIN`] octets; 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buffer),
            Self::Secure(secure) => secure.session.poll_read(cx, &mut secure.socket, buffer),
            Self::Lane(lane) => lane.poll_read(cx, buffer),
        }
    }

    /// Reads what nobody wants to know: whatever the state of its TLS, and without looking into it.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buffer),
            Self::Secure(secure) => {
                // What the peer is still to be told, such as why its handshake failed.
                if let Poll::Ready(Err(error)) = secure.session.poll_flush(cx, &mut secure.socket) {
                    return Poll::Ready(Err(error));
                }
                secure.socket.poll_read(cx, buffer)
            }
            Self::Lane(lane) => lane.poll_read(cx, buffer),
        }
    }

    /// Writes some of `parts`, of which not all are empty. When it has to wait it must be given the same octets again.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write(cx, parts),
            Self::Secure(secure) => secure.session.poll_write(cx, &mut secure.socket, parts),
            Self::Lane(lane) => lane.poll_write(cx, parts),
        }
    }

    /// How much of a body its windows let through, once that is something; without windows any number of octets.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match self {
            Self::Plain(_) | Self::Secure(_) => Poll::Ready(usize::MAX),
            Self::Lane(lane) => lane.poll_room(cx),
        }
    }

    /// Writes some of `bytes`, the last before [`Self::end_writing`] or the drop that must follow at once.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write_last(cx, bytes),
            Self::Secure(_) | Self::Lane(_) => self.poll_write(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// Tells the other side that no more will come.
    pub fn end_writing(&mut self) {
        match self {
            Self::Plain(socket) => socket.end_writing(),
            Self::Secure(secure) => {
                if secure.session.end(&mut secure.socket) {
                    secure.socket.end_writing();
                }
            }
            Self::Lane(lane) => lane.end_writing(),
        }
    }

    /// Has it end in a reset when it is dropped, so that the peer takes nothing for the end in order.
    pub fn reset_on_close(&mut self) {
        match self {
            Self::Plain(socket) => socket.reset_on_close(),
            Self::Secure(secure) => secure.socket.reset_on_close(),
            // What is not whole is broken off.
            Self::Lane(_) => {}
        }
    }

    /// Whether nothing has come since all was read: neither octets nor the end. To be asked of servers, which have no TLS.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Secure(_) | Self::Lane(_) => false,
        }
    }

    /// The same, by what the kernel knows at this moment. One system call.
    pub fn is_surely_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_surely_quiet(),
            Self::Secure(_) | Self::Lane(_) => false,
        }
    }

    /// Whether octets have come that nobody read, of TLS or within it.
    pub fn has_unread(&self) -> bool {
        self.socket().is_some_and(Socket::has_unread)
    }

    /// Whether the other side is gone, which is more than that it sends no more. One system call.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Lane(lane) => lane.is_gone(),
            _ => self.socket().is_none_or(Socket::is_gone),
        }
    }

    /// Has the connection reset when it is dropped.
    pub fn reset(&self) {
        self.socket().inspect(|socket| socket.reset());
    }

    fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Secure(secure) => Some(&secure.socket),
            Self::Lane(_) => None,
        }
    }

    /// The socket, where octets pass unchanged.
    pub fn plain(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Secure(_) | Self::Lane(_) => None,
        }
    }

    /// Its TLS.
    pub fn session(&self) -> Option<&Session> {
        match self {
            Self::Plain(_) | Self::Lane(_) => None,
            Self::Secure(secure) => Some(&secure.session),
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        // RFC 8446, section 6.1: else the peer could not tell the end from an attacker's.
        self.session.end(&mut self.socket);
    }
}
