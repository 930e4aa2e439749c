//! A connection of HTTP/2 that carries one request, in the shape of one of HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Tick;
use crate::http2::{Block, Limits, Role, Session};

/// What is written is text of a request, what is read that of its response.
#[derive(Debug)]
pub struct OverHttp2<S> {
    socket: S,
    session: Session,
    stream: u32,
    block: Block,
    buffer: Box<[u8]>,
    /// Text that was read and not yet taken.
    text: Vec<u8>,
    is_closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> OverHttp2<S> {
    /// Speaks HTTP/2 over `socket` from the first octet, which is the server's to know (RFC 9113, section 3.3).
    pub fn new(socket: S) -> io::Result<Self> {
        let limits = Limits { streams: 0, head_octets: HEAD_OCTETS, stream_window: WINDOW, connection_window: WINDOW };
        let mut session = Session::new(Role::Client, limits, Tick::now().moment());
        let stream = session.open().ok_or_else(|| io::Error::other("no stream to be had"))?;
        let buffer = vec![0; BUFFER_OCTETS].into_boxed_slice();
        let block = Block::new(HEAD_OCTETS);
        Ok(Self { socket, session, stream, block, buffer, text: Vec::new(), is_closed: false })
    }

    /// Sends what there is to send.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, self.session.unsent()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.session.note_sent(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what one read gives.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            self.is_closed = true;
            self.session.break_all();
        }
        let mut octets = &self.buffer[..count];
        while self.session.step(&mut octets, &mut self.block, Tick::now().moment()).map_err(io::Error::other)?.is_some()
        {
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for OverHttp2<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.text.is_empty() {
            // What is sent in answer to what came, such as the word that settings were read.
            if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            match this.session.poll_read(this.stream, cx, &mut this.buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) => this.text.extend_from_slice(&this.buffer[..count]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.is_closed => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Pending => ready!(this.poll_take(cx))?,
            }
        }
        let count = this.text.len().min(to.remaining());
        to.put_slice(&this.text[..count]);
        this.text.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for OverHttp2<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(this.session.poll_write(this.stream, cx, &[io::IoSlice::new(text)]))?;
        // What is not sent now is sent with the next read.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// As for heads of HTTP/1.1.
const HEAD_OCTETS: usize = 64 * 1024;

/// More than is looked at of a body at one time.
const WINDOW: u32 = 256 * 1024;

const BUFFER_OCTETS: usize = 16 * 1024;
