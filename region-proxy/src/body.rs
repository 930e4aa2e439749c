//! The bodies that pass through: streamed both ways, never held whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use tokio::time::{Sleep, sleep};

use crate::live::Flight;

/// The body of an answer to a client.
#[derive(Debug)]
pub enum Body {
    /// The proxy's own words.
    Own(Full<Bytes>),
    /// What a server sends.
    Relayed(Relayed),
}

/// A server's body on its way to a client; the request counts as in flight until it ends.
#[derive(Debug)]
pub struct Relayed {
    incoming: Patient,
    flight: Flight,
}

/// A client's body on its way to a server.
#[derive(Debug)]
pub struct Upload {
    incoming: Option<Patient>,
    progress: Arc<Progress>,
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke off or is malformed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It paused for too long.
    #[error("nothing of the body came for {0:?}")]
    Late(Duration),
}

/// A body that may pause for so long between two parts, counted from when the next part is asked for.
#[derive(Debug)]
struct Patient {
    incoming: Incoming,
    pause_max: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How far an upload is, for those who wait for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    frames: AtomicU32,
    is_waiting_for_client: AtomicBool,
}

impl Body {
    /// A text of the proxy's own.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::Own(Full::new(text.into()))
    }

    /// What a server sends, pausing for at most `pause_max`, for the request of `flight`.
    pub fn relayed(incoming: Incoming, pause_max: Duration, flight: Flight) -> Self {
        Self::Relayed(Relayed { incoming: Patient::new(incoming, pause_max), flight })
    }
}

impl Upload {
    /// The client's body, which may pause for at most `pause_max`.
    pub fn new(incoming: Incoming, pause_max: Duration) -> Self {
        Self { incoming: Some(Patient::new(incoming, pause_max)), progress: Arc::default() }
    }

    /// No body.
    pub fn empty() -> Self {
        Self { incoming: None, progress: Arc::default() }
    }

    /// Its progress, to be kept while it is sent.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Progress {
    /// Parts handed on so far, the end counting as one more.
    pub fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Whether the server wants more of it and the client has sent none.
    pub fn is_waiting_for_client(&self) -> bool {
        self.is_waiting_for_client.load(Ordering::Relaxed)
    }
}

impl Patient {
    fn new(incoming: Incoming, pause_max: Duration) -> Self {
        Self { incoming, pause_max, pause: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(self.pause_max)));
        pause.as_mut().poll(cx).map(|()| Some(Err(BodyError::Late(self.pause_max))))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Relayed(Relayed { incoming, flight }) => {
                let frame = ready!(incoming.poll_frame(cx));
                if let Some(Err(error)) = &frame {
                    flight.broke_off(error);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Relayed(relayed) => relayed.incoming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Relayed(relayed) => relayed.incoming.incoming.size_hint(),
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let polled = incoming.poll_frame(cx);
        let is_waiting = matches!(polled, Poll::Pending | Poll::Ready(Some(Err(BodyError::Late(_)))));
        this.progress.is_waiting_for_client.store(is_waiting, Ordering::Relaxed);
        if polled.is_ready() {
            this.progress.frames.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(|body| body.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), |body| body.incoming.size_hint())
    }
}
