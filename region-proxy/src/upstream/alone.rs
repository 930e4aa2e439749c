//! A connection of HTTP/2 for one request, in the shape of one of HTTP/1.1: for checks of servers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Tick;
use crate::http2::{Block, Limits, Role, Session};

/// What is written is the text of one request of HTTP/1.1, what is read that of its answer.
pub struct Alone<S> {
    connection: S,
    session: Session,
    stream: u32,
    block: Block,
    /// What was read and its reader had no room for.
    left: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Alone<S> {
    /// Over `connection`, which has TLS or not, and on which nothing was said.
    pub fn new(connection: S, is_secure: bool) -> Self {
        let limits = Limits { streams: 0, head_octets: HEAD_OCTETS, stream_window: WINDOW, connection_window: WINDOW };
        let mut session = Session::new(Role::Client, limits, Tick::now().moment());
        if is_secure {
            session.set_secure();
        }
        // Never absent on a connection that is new.
        let stream = session.open().unwrap_or(1);
        Self { connection, session, stream, block: Block::new(HEAD_OCTETS), left: Vec::new() }
    }

    /// Takes what has come; an error at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut octets = [0; 4096];
        let mut buffer = ReadBuf::new(&mut octets);
        ready!(Pin::new(&mut self.connection).poll_read(cx, &mut buffer))?;
        let mut bytes = buffer.filled();
        if bytes.is_empty() {
            self.session.break_all();
        }
        while !bytes.is_empty() {
            let step = self.session.step(&mut bytes, &mut self.block, Tick::now().moment());
            step.map_err(|fatal| io::Error::new(io::ErrorKind::InvalidData, format!("HTTP/2: {fatal}")))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            let count = ready!(Pin::new(&mut self.connection).poll_write(cx, self.session.unsent()))?;
            self.session.note_sent(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Alone<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            // Whether it must wait or not, what comes wakes it.
            if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if this.left.is_empty() {
                let mut octets = [0; 4096];
                match this.session.poll_read(this.stream, cx, &mut octets) {
                    Poll::Ready(count) => this.left.extend_from_slice(&octets[..count?]),
                    Poll::Pending => {
                        ready!(this.poll_receive(cx))?;
                        continue;
                    }
                }
            }
            let count = this.left.len().min(buffer.remaining());
            buffer.put_slice(&this.left[..count]);
            this.left.drain(..count);
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Alone<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(count) = this.session.poll_write(this.stream, cx, &[IoSlice::new(text)]) {
                return Poll::Ready(count);
            }
            if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(this.poll_receive(cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }
}

/// As long may the head of an answer be.
const HEAD_OCTETS: usize = 64 * 1024;

/// What a server may send before it is taken.
const WINDOW: u32 = 65_535;

#[cfg(test)]
mod tests {
    use h2::server::handshake;
    use http::{HeaderMap, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_request_in_text_is_answered_in_text() {
        let (near, far) = duplex(100);
        let server = tokio::spawn(async move {
            let mut connection = handshake(far).await.expect("prefaces");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri(), "https://www.example.com/health");
                let mut send = respond.send_response(Response::new(()), false).expect("sent");
                send.send_data(vec![b'x'; 5000].into(), false).expect("sent");
                send.send_trailers(HeaderMap::new()).expect("sent");
            }
        });
        let mut alone = Alone::new(near, true);
        alone.write_all(b"GET /health HTTP/1.1\r\nHost: www.example.com\r\n\r\n").await.expect("written");
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(alone.read_buf(&mut text).await.expect("read"), 0, "{}", String::from_utf8_lossy(&text));
        }
        assert!(text.starts_with(b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert_eq!(text.iter().filter(|octet| **octet == b'x').count(), 5000);
        drop(alone);
        server.await.expect("an end");
    }
}
