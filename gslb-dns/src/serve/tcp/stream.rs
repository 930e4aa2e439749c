//! What a connection reads from and writes to: the socket itself, or TLS over it. Neither waits when it sends, so that a
//! connection knows what its client has not taken.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;

use crate::serve::slow::Channel;

/// A stream of octets to a client and back.
pub(super) trait Stream: Send {
    /// Whether nobody between can read what is sent.
    const IS_ENCRYPTED: bool;

    /// Which transfers it may carry.
    fn channel(&self) -> Channel;

    /// Reads what there is; nothing at the end.
    fn poll_read(&mut self, context: &mut Context<'_>, received: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Sends as much of `octets` as can be sent now; gives their number. Without any it sends what waits here.
    fn send(&mut self, octets: &[u8]) -> io::Result<usize>;

    /// Ready when more can be sent.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Octets, at most, of what was taken to be sent and waits here still.
    fn waiting(&self) -> usize;

    /// Says that nothing more will be sent, where that goes at once.
    fn end(&mut self);
}

/// The socket of a connection; its other half, which only shuts it down, is held by the seat.
#[derive(Debug)]
pub(super) struct Socket(pub(super) OwnedReadHalf);

impl Stream for Socket {
    const IS_ENCRYPTED: bool = false;

    fn channel(&self) -> Channel {
        Channel::Stream
    }

    fn poll_read(&mut self, context: &mut Context<'_>, received: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, received)
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < octets.len() {
            match self.0.as_ref().try_write(&octets[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_ref().poll_write_ready(context)
    }

    fn waiting(&self) -> usize {
        0
    }

    // Closing it says so.
    fn end(&mut self) {}
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        received: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, received)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.as_ref().poll_write_ready(context))?;
            match self.0.as_ref().try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the connection closes it.
        Poll::Ready(Ok(()))
    }
}

/// TLS over a socket, after its handshake. Holds at most one record that the kernel has not taken.
pub(super) struct TlsStream {
    socket: Socket,
    session: ServerConnection,
    /// Reads in a row that brought nothing for the one above.
    idle_reads: u32,
}

impl TlsStream {
    pub(super) fn new(socket: Socket, session: ServerConnection) -> Self {
        Self { socket, session, idle_reads: 0 }
    }

    /// Gives the kernel what it takes now.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Octets(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in what the kernel has.
    fn take_in(&mut self) -> io::Result<()> {
        match self.session.read_tls(&mut Octets(&self.socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        };
        // A client that only exchanges keys, or sends records without content, gets none of our time.
        self.idle_reads += 1;
        if self.idle_reads > IDLE_READS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "much TLS and nothing in it"));
        }
        self.session.process_new_packets().map(drop).map_err(|error| {
            // The alert says why.
            let _ = self.flush();
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }
}

impl Stream for TlsStream {
    const IS_ENCRYPTED: bool = true;

    fn channel(&self) -> Channel {
        match self.session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Channel::Stream,
            _ => Channel::OldTls,
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, received: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().read(received.initialize_unfilled()) {
                Ok(count) => {
                    received.advance(count);
                    self.idle_reads = 0;
                    return Poll::Ready(Ok(()));
                }
                // Many close without a word of TLS; queries that are whole are whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            self.flush()?;
            if self.session.wants_write() && self.poll_room(context)?.is_ready() {
                continue;
            }
            ready!(self.socket.0.as_ref().poll_read_ready(context))?;
            self.take_in()?;
        }
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        self.flush()?;
        while sent < octets.len() && !self.session.wants_write() {
            let record = &octets[sent..octets.len().min(sent + RECORD_MAX)];
            sent += self.session.writer().write(record)?;
            self.flush()?;
        }
        Ok(sent)
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_room(context)
    }

    fn waiting(&self) -> usize {
        if self.session.wants_write() { RECORD_MAX + RECORD_OVERHEAD } else { 0 }
    }

    fn end(&mut self) {
        self.session.send_close_notify();
        // The client may be gone, or take nothing more.
        let _ = self.flush();
    }
}

/// The octets of a socket as they come, without waiting.
struct Octets<'a>(&'a Socket);

impl io::Read for Octets<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.0.try_read(room)
    }
}

impl io::Write for Octets<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.0.as_ref().try_write(octets)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.0.as_ref().try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Octets of a record (RFC 8446, section 5.1).
const RECORD_MAX: usize = 16 << 10;
/// What TLS adds to it at most (RFC 8446, section 5.2).
const RECORD_OVERHEAD: usize = 5 + 256;
/// More than any honest client sends between two queries.
const IDLE_READS_MAX: u32 = 256;
