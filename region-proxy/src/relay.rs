//! The requests of a client's connection, one after the other.
//!
//! ```text
//! client ─► admit ─► exchange ─► upload ───► server
//!    ▲                  │  ▲                   │
//!    └── answer ◄───────┘  └──── download ◄────┘       after 101: tunnel
//! ```
//! All of it is polled by hand: between two waits every connection of a thread uses the same buffers, and one that waits
//! for its next request holds none.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;

use crate::clock::Tick;
use crate::listen::Permit;
use crate::socket::Socket;
use crate::stream::Stream;
use crate::worker::Worker;

mod admit;
mod answer;
mod body;
mod client;
mod download;
mod exchange;
mod greet;
mod http2;
pub mod record;
pub mod tell;
mod tunnel;
mod unread;
mod upload;

pub use client::Peer;

use answer::Own;
use client::{After, Client, Next};
use exchange::Exchange;
use greet::Greeting;
use http2::Http2;

/// Serves the connection of a client to its end; `permit` is its place among all connections.
///
/// With `is_unintroduced` it begins with a PROXY header.
pub fn connection(
    worker: Rc<Worker>,
    socket: Socket,
    peer: Peer,
    is_unintroduced: bool,
    permit: Permit,
) -> impl Future<Output = ()> {
    let client = Client::new(worker, Stream::Plain(socket), peer, is_unintroduced, Some(permit));
    Connection { client, stage: Stage::Waiting(Tick::now()) }
}

/// Does the same for a connection with TLS by `config`.
pub fn secure_connection(
    worker: Rc<Worker>,
    socket: Socket,
    peer: Peer,
    is_unintroduced: bool,
    config: Arc<ServerConfig>,
    permit: Permit,
) -> impl Future<Output = ()> {
    let client = Client::new(worker, Stream::Plain(socket), peer, is_unintroduced, Some(permit));
    let stage = Stage::Greeting(Box::new(Greeting::new(&client, config)));
    Connection { client, stage }
}

/// A client's connection, written as a future of its own so that it is no larger than what it holds.
struct Connection {
    client: Client,
    stage: Stage,
}

/// Where a connection is.
enum Stage {
    /// Has its TLS handshake.
    Greeting(Box<Greeting>),
    /// Waits for a request since then.
    Waiting(Tick),
    /// Has one forwarded.
    Exchanging(Box<Exchange>),
    /// Has many requests at a time.
    Http2(Box<Http2>),
    /// Is answered by the proxy itself: so many octets are sent, the last since then.
    Answering(Box<Own>, usize, Tick),
    /// Was told the last; so many octets may still come, since then.
    Lingering(usize, Tick),
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { client, stage, .. } = self.get_mut();
        loop {
            let after = match stage {
                Stage::Greeting(greeting) => match ready!(greeting.poll(cx, client)) {
                    Ok(())
                        if client
                            .socket
                            .session()
                            .is_some_and(|tls| tls.connection().alpn_protocol() == Some(b"h2")) =>
                    {
                        *stage = Stage::Http2(Box::new(Http2::new(client)));
                        continue;
                    }
                    Ok(()) => After::Next,
                    // It may still be sending, and would lose the alert that tells it why.
                    Err(unmet) if unmet.is_of_peer() => After::Linger,
                    Err(_) => After::Close,
                },
                Stage::Waiting(since) => match ready!(client.poll_next(cx, since)) {
                    Next::Closed => return Poll::Ready(()),
                    Next::Exchange(exchange) => {
                        client.worker.deadlines.set_busy(client.place);
                        *stage = Stage::Exchanging(exchange);
                        continue;
                    }
                    Next::Http2 => {
                        *stage = Stage::Http2(Box::new(Http2::new(client)));
                        continue;
                    }
                    Next::Answer(answer) => {
                        *stage = Stage::Answering(answer, 0, Tick::now());
                        continue;
                    }
                },
                Stage::Exchanging(exchange) => ready!(exchange.poll(cx, client)),
                Stage::Http2(http2) => ready!(http2.poll(cx, client)),
                Stage::Answering(own, sent, since) => {
                    let is_sent = ready!(client.poll_send(cx, &own.answer, sent, *since)).is_ok();
                    own.end(client, *sent, is_sent)
                }
                Stage::Lingering(left, since) => return client.poll_linger(cx, *since, left),
            };
            match after {
                After::Next => *stage = Stage::Waiting(Tick::now()),
                // With octets in it that nobody read, its end would be a reset, which may cost the client the answer.
                After::Close if !client.has_unread() => return Poll::Ready(()),
                After::Reset => {
                    client.socket.reset_on_close();
                    return Poll::Ready(());
                }
                After::Close | After::Linger => {
                    client.socket.end_writing();
                    *stage = Stage::Lingering(client::LINGER_OCTETS, Tick::now());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_connection_is_small() {
        assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
    }
}
