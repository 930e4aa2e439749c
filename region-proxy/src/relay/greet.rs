//! What comes before the first request of a connection with TLS: a PROXY header, where there must be one, and the handshake.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::{HandshakeKind, ServerConfig};

use super::client::Client;
use crate::clock::{Tick, Waiting};
use crate::tls::handshakes::Turn;
use crate::tls::session::Session;
use crate::tls::tally::Reason;

/// The beginning of a connection with TLS.
pub(super) struct Greeting {
    since: Tick,
    /// `None` once the handshake has begun.
    config: Option<Arc<ServerConfig>>,
    turn: Turn,
}

/// Why a connection ends before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmet {
    #[error("no PROXY header")]
    NoHeader,
    #[error("TLS handshake: {0}")]
    Handshake(#[from] io::Error),
    #[error("TLS handshake: not done within the time limit")]
    Late,
    #[error("TLS handshake: makes room for newer ones")]
    Crowded,
}

impl Unmet {
    /// Whether the peer has done what no handshake allows, and was told so.
    pub(super) fn is_of_peer(&self) -> bool {
        matches!(self, Self::Handshake(error) if error.kind() == io::ErrorKind::InvalidData)
    }

    /// What it is counted as; `failure` is that of TLS, where there is one.
    fn reason(&self, failure: Option<&rustls::Error>) -> Reason {
        match self {
            Self::NoHeader => Reason::NoHeader,
            Self::Handshake(error) => Reason::of(failure, error),
            Self::Late => Reason::Late,
            Self::Crowded => Reason::Crowded,
        }
    }
}

impl Greeting {
    /// Of `client`, by `config`.
    pub(super) fn new(client: &Client, config: Arc<ServerConfig>) -> Self {
        let worker = &client.worker;
        let current = worker.current();
        let most = current.live.config.limits.handshakes.div_ceil(current.live.threads().max(1));
        let (turn, oldest) = worker.handshakes.begin(client.place, most);
        if let Some(place) = oldest {
            worker.deadlines.wake(place);
        }
        Self { since: Tick::now(), config: Some(config), turn }
    }

    /// Waits for its end; what came with that is unread then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), Unmet>> {
        let outcome = ready!(self.poll_end(cx, client));
        self.end(client, outcome.as_ref().copied());
        Poll::Ready(outcome)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<Result<(), Unmet>> {
        let worker = Rc::clone(&client.worker);
        let mut buffer = worker.buffers.read.borrow_mut();
        loop {
            if client.is_unintroduced {
                match client.meet() {
                    Some(true) => continue,
                    Some(false) => return Poll::Ready(Err(Unmet::NoHeader)),
                    None => {}
                }
                match client.socket.poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Unmet::NoHeader)),
                    Poll::Ready(Ok(count)) => client.unread.extend(&buffer[..count], &worker.buffers),
                    Poll::Pending => return self.poll_patience(cx, client),
                }
            } else if let Some(config) = self.config.take() {
                let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
                let first = std::mem::take(&mut client.unread).into_bytes();
                client.socket.secure(Session::new(connection, Rc::clone(&worker.tls_scratch), first));
            } else {
                match client.socket.poll_handshake(cx, &mut buffer) {
                    Poll::Ready(Ok(count)) => {
                        client.unread.extend(&buffer[..count], &worker.buffers);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => return self.poll_patience(cx, client),
                }
            }
        }
    }

    fn poll_patience(&self, cx: &mut Context<'_>, client: &Client) -> Poll<Result<(), Unmet>> {
        let worker = &client.worker;
        let limit = worker.current().live.config.limits.handshake;
        let is_dismissed = worker.is_over() || worker.deadlines.is_dismissed(client.place);
        if is_dismissed || !worker.handshakes.is_under_way(self.turn) {
            return Poll::Ready(Err(Unmet::Crowded));
        }
        if Tick::now().since(self.since) >= limit {
            return Poll::Ready(Err(Unmet::Late));
        }
        worker.deadlines.arm(client.place, self.since.after(limit), Waiting::Idle, cx.waker());
        Poll::Pending
    }

    /// Notes how it went.
    fn end(&self, client: &Client, outcome: Result<(), &Unmet>) {
        let worker = &client.worker;
        worker.handshakes.end(self.turn);
        let kind = client.socket.session().and_then(|session| session.connection().handshake_kind());
        let tally = &worker.proxy.tls.tally;
        match (outcome, kind) {
            (Ok(()), Some(HandshakeKind::Resumed)) => {
                tally.resumed.begin(worker.number);
            }
            (Ok(()), _) => {
                tally.full.begin(worker.number);
            }
            (Err(cause), _) => {
                tracing::debug!(peer = %client.peer.address, %cause, "connection closed before its first request");
                let failure = client.socket.session().and_then(Session::failure);
                tally.fail(worker.number, cause.reason(failure));
            }
        }
    }
}
