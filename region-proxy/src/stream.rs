//! A connection that carries HTTP, over TCP alone, with TLS, or within one of HTTP/2.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;

use crate::lane::Lane;
use crate::socket::Socket;
use crate::tls::session::{End, Session};
use crate::upstream::Care;

/// One connection.
#[derive(Debug)]
pub enum Stream {
    /// What is sent is what the kernel gets.
    Plain(Socket),
    /// With TLS between.
    Secure(Box<Secure<UnbufferedServerConnection>>),
    /// The same towards a server.
    ToServer(Box<Secure<UnbufferedClientConnection>>),
    /// One stream among others.
    Lane(Lane),
}

/// A socket and its TLS. When it is dropped, the peer is told that it ends, if that needs no waiting.
pub struct Secure<E: End> {
    socket: Socket,
    session: Session<E>,
    /// What came with the end of the handshake and nobody has read.
    early: Vec<u8>,
}

impl Stream {
    /// From here on `session` lies between; one that has one already keeps it.
    pub fn secure(&mut self, session: Session<UnbufferedServerConnection>) {
        if let Self::Plain(socket) = self {
            *self = Self::Secure(Box::new(Secure { socket: socket.take(), session, early: Vec::new() }));
        }
    }

    /// The same towards a server.
    pub fn secure_to_server(&mut self, session: Session<UnbufferedClientConnection>) {
        if let Self::Plain(socket) = self {
            *self = Self::ToServer(Box::new(Secure { socket: socket.take(), session, early: Vec::new() }));
        }
    }

    /// Goes through the handshake, where there is one; then so many octets that came with its end lie at the front of
    /// `buffer`.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(_) | Self::Lane(_) => Poll::Ready(Ok(0)),
            Self::Secure(secure) => secure.session.poll_handshake(cx, &mut secure.socket, buffer),
            Self::ToServer(secure) => secure.session.poll_handshake(cx, &mut secure.socket, buffer),
        }
    }

    /// Reads into `buffer`, of at least [`crate::tls::session::BUFFER_MIN`] octets; 0 at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buffer),
            Self::Secure(secure) => secure.session.poll_read(cx, &mut secure.socket, buffer),
            Self::ToServer(secure) if !secure.early.is_empty() => Poll::Ready(Ok(secure.take_early(buffer))),
            Self::ToServer(secure) => secure.session.poll_read(cx, &mut secure.socket, buffer),
            Self::Lane(lane) => lane.poll_read(cx, buffer),
        }
    }

    /// Reads what nobody wants to know: whatever the state of its TLS, and without looking into it.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buffer),
            Self::Secure(secure) => secure.poll_discard(cx, buffer),
            Self::ToServer(secure) => secure.poll_discard(cx, buffer),
            Self::Lane(lane) => lane.poll_read(cx, buffer),
        }
    }

    /// Writes some of `parts`, of which not all are empty. When it has to wait it must be given the same octets again.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write(cx, parts),
            Self::Secure(secure) => secure.session.poll_write(cx, &mut secure.socket, parts),
            Self::ToServer(secure) => secure.session.poll_write(cx, &mut secure.socket, parts),
            Self::Lane(lane) => lane.poll_write(cx, parts),
        }
    }

    /// How much of a body its windows let through, once that is something; without windows any number of octets.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match self {
            Self::Plain(_) | Self::Secure(_) | Self::ToServer(_) => Poll::Ready(usize::MAX),
            Self::Lane(lane) => lane.poll_room(cx),
        }
    }

    /// Writes some of `bytes`, the last before [`Self::end_writing`] or the drop that must follow at once.
    pub fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_write_last(cx, bytes),
            Self::Secure(_) | Self::ToServer(_) | Self::Lane(_) => self.poll_write(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// Acknowledges what has come now, where that is not done by itself.
    pub fn acknowledge(&self) {
        if let Self::Plain(socket) = self {
            socket.acknowledge();
        }
    }

    /// Tells the other side that no more will come.
    pub fn end_writing(&mut self) {
        match self {
            Self::Plain(socket) => socket.end_writing(),
            Self::Secure(secure) => secure.end_writing(),
            Self::ToServer(secure) => secure.end_writing(),
            Self::Lane(lane) => lane.end_writing(),
        }
    }

    /// Whether nothing has come since all was read: neither octets nor the end. Of what a server's TLS sends besides, such
    /// as tickets, note is taken, for which `room` is used.
    pub fn is_quiet(&mut self, care: Care, room: &RefCell<Box<[u8]>>) -> bool {
        let is_quiet = match care {
            Care::Usual => self.socket().is_some_and(Socket::is_quiet),
            Care::Utmost => self.socket().is_some_and(Socket::is_surely_quiet),
        };
        match self {
            Self::Plain(_) => is_quiet,
            Self::Secure(_) | Self::Lane(_) => false,
            Self::ToServer(secure) => {
                (is_quiet || secure.has_nothing_to_tell(room)) && secure.session.is_settled() && secure.early.is_empty()
            }
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

    /// Has it end in a reset when it is dropped, so that the peer takes nothing for the end in order.
    pub fn reset_on_close(&self) {
        self.socket().inspect(|socket| socket.reset_on_close());
    }

    fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Secure(secure) => Some(&secure.socket),
            Self::ToServer(secure) => Some(&secure.socket),
            Self::Lane(_) => None,
        }
    }

    /// The socket, where octets pass unchanged.
    pub fn plain(&mut self) -> Option<&mut Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Secure(_) | Self::ToServer(_) | Self::Lane(_) => None,
        }
    }

    /// Keeps `early`, which came with the end of its handshake, for who reads next.
    pub fn keep_early(&mut self, early: &[u8]) {
        if let Self::ToServer(secure) = self {
            secure.early.extend_from_slice(early);
        }
    }

    /// Whether the server has said something before it was asked, as of the end of its handshake.
    pub fn has_early(&self) -> bool {
        matches!(self, Self::ToServer(secure) if !secure.early.is_empty())
    }

    /// Its TLS towards a server.
    pub fn session_to_server(&self) -> Option<&Session<UnbufferedClientConnection>> {
        match self {
            Self::ToServer(secure) => Some(&secure.session),
            Self::Plain(_) | Self::Secure(_) | Self::Lane(_) => None,
        }
    }

    /// Its TLS towards a client.
    pub fn session(&self) -> Option<&Session<UnbufferedServerConnection>> {
        match self {
            Self::Plain(_) | Self::ToServer(_) | Self::Lane(_) => None,
            Self::Secure(secure) => Some(&secure.session),
        }
    }
}

impl<E: End> Secure<E> {
    fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // What the peer is still to be told, such as why its handshake failed.
        if let Poll::Ready(Err(error)) = self.session.poll_flush(cx, &mut self.socket) {
            return Poll::Ready(Err(error));
        }
        self.socket.poll_read(cx, buffer)
    }

    fn take_early(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.early.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.early[..count]);
        self.early.drain(..count);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
        count
    }

    fn end_writing(&mut self) {
        if self.session.end(&mut self.socket) {
            self.socket.end_writing();
        }
    }

    /// Whether what has come is for TLS itself alone.
    fn has_nothing_to_tell(&mut self, room: &RefCell<Box<[u8]>>) -> bool {
        let Ok(mut room) = room.try_borrow_mut() else { return false };
        // Nobody waits for it: whoever uses it next will be woken.
        let mut cx = Context::from_waker(Waker::noop());
        self.session.poll_read(&mut cx, &mut self.socket, &mut room).is_pending()
    }
}

impl<E: End> fmt::Debug for Secure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<E: End> Drop for Secure<E> {
    fn drop(&mut self) {
        // RFC 8446, section 6.1: else the peer could not tell the end from an attacker's.
        self.session.end(&mut self.socket);
    }
}
