//! The requests of a client's connection, one after the other.
//!
//! ```text
//! client ─► admit ─► exchange ─► upload ───► server
//!    ▲                  │  ▲                   │
//!    └── answer ◄───────┘  └──── download ◄────┘       after 101: tunnel
//! ```
//! All of it is polled by hand: between two waits every connection of a thread uses the same buffers, and one that waits
//! for its next request holds none.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::OwnedSemaphorePermit;

use crate::clock::Tick;
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
mod tunnel;
mod upload;

pub use client::Peer;

use client::{After, Client, Next};
use greet::Greeting;

/// Serves the connection of a client to its end; `permit` is its place among all connections.
///
/// With `is_unintroduced` it begins with a PROXY header.
pub fn connection(
    worker: Rc<Worker>,
    socket: Socket,
    peer: Peer,
    is_unintroduced: bool,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> {
    let client = Client::new(worker, Stream::Plain(socket), peer, is_unintroduced);
    serve(client, permit)
}

/// Does the same for a connection with TLS by `config`.
pub fn secure_connection(
    worker: Rc<Worker>,
    socket: Socket,
    peer: Peer,
    is_unintroduced: bool,
    config: Arc<ServerConfig>,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> {
    let client = Client::new(worker, Stream::Plain(socket), peer, is_unintroduced);
    greet(client, config, permit)
}

async fn greet(mut client: Client, config: Arc<ServerConfig>, permit: OwnedSemaphorePermit) {
    let mut greeting = Greeting::new(&client, config);
    let outcome = poll_fn(|cx| greeting.poll(cx, &mut client)).await;
    greeting.end(&client, outcome.as_ref().copied());
    if outcome.is_ok() {
        // A task of its own: this one is larger than a connection that waits should be.
        tokio::task::spawn_local(serve(client, permit));
    }
}

async fn serve(mut client: Client, permit: OwnedSemaphorePermit) {
    loop {
        let since = Tick::now();
        let after = match poll_fn(|cx| client.poll_next(cx, since)).await {
            Next::Closed => break,
            Next::Exchange(mut exchange) => {
                client.worker.deadlines.set_busy(client.place);
                poll_fn(|cx| exchange.poll(cx, &mut client)).await
            }
            Next::Answer(answer) => {
                let (mut sent, since) = (0, Tick::now());
                let is_sent = poll_fn(|cx| client.poll_send(cx, &answer.octets, &mut sent, since)).await.is_ok();
                if is_sent { answer.after } else { After::Close }
            }
        };
        match after {
            After::Next => {}
            After::Close => break,
            After::Linger => {
                client::linger(&mut client).await;
                break;
            }
        }
    }
    drop(permit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_connection_is_small() {
        fn size<F>(_: impl Fn(Client, OwnedSemaphorePermit) -> F) -> usize {
            size_of::<F>()
        }
        // With what the runtime adds this is one of the classes that the allocator keeps apart.
        assert!(size(serve) <= 256, "{}", size(serve));
    }
}
