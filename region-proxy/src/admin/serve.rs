//! The connections of the status listener.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::local::LocalListener;
use super::{Asked, Peer, Reply, answer};
use crate::http1::{Framing, HeadLimits, Header, Persistence, Refusal, read_request};
use crate::listen::{Phase, stopped};
use crate::live::Proxy;

/// Where those connect who ask.
pub trait Door: Sized {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection, and who is at its other end.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        self.accept().await.map(|(stream, address)| (stream, Peer::Remote(address)))
    }
}

impl Door for LocalListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        self.accept().await.map(|(stream, user)| (stream, Peer::Local(user)))
    }
}

/// Serves the connections of `listener` until `stop` says to take no more.
pub async fn serve(listener: impl Door, proxy: Arc<Proxy>, stop: watch::Receiver<Phase>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            accepted = listener.next() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (proxy, mut stop) = (Arc::clone(&proxy), stop.clone());
        tokio::spawn(async move {
            // A broken connection is its client's affair.
            let _ = connection(stream, peer, proxy, &mut stop).await;
            drop(place);
        });
    }
}

/// Answers the requests of one connection.
async fn connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    proxy: Arc<Proxy>,
    stop: &mut watch::Receiver<Phase>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let asking = timeout(HEAD_LIMIT, read_head(&mut stream, &mut bytes));
        let head = tokio::select! {
            biased;
            head = asking => head??,
            () = last_words(stop) => return Ok(()),
        };
        let (reply, is_head, is_last) = match head {
            None => return Ok(()),
            Some(Err(refusal)) => (Reply::text(refusal.status, &refusal.to_string()), false, true),
            Some(Ok(head)) => {
                let is_last = head.is_last || *stop.borrow() != Phase::Serving;
                match timeout(HEAD_LIMIT, read_body(&mut stream, &mut bytes, head.body)).await?? {
                    Err(refusal) => (refusal, false, true),
                    Ok(body) => (ask(&proxy, peer, &head, &body).await, head.method == "HEAD", is_last),
                }
            }
        };
        timeout(HEAD_LIMIT, stream.write_all(&written(&reply, is_head, is_last))).await??;
        if is_last {
            stream.shutdown().await?;
            // So that what the client still sends does not reset what it has not read yet.
            return timeout(LINGER, discard(&mut stream)).await.unwrap_or(Ok(()));
        }
    }
}

/// Waits for the word to take no more, and a moment more, in which what was sent before is read and answered.
async fn last_words(stop: &mut watch::Receiver<Phase>) {
    stopped(stop).await;
    sleep(LAST_WORDS).await;
}

async fn ask(proxy: &Arc<Proxy>, peer: Peer, head: &Head, body: &[u8]) -> Reply {
    let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
    let authorization = head.authorization.as_deref();
    answer(Arc::clone(proxy), peer, Asked { method: &head.method, path, query, authorization, body }).await
}

/// The head of a request, on its own.
struct Head {
    method: String,
    /// With its query.
    path: String,
    body: Framing,
    authorization: Option<Vec<u8>>,
    is_last: bool,
}

/// The next head, read on in `bytes`; `None` at the end of the connection.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<Option<Result<Head, Refusal>>> {
    loop {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; 64];
        match read_request(bytes, &mut slots, HeadLimits::DEFAULT) {
            Err(refusal) => return Ok(Some(Err(refusal))),
            Ok(Some(request)) => {
                let field = request.fields.iter().find(|field| field.name.eq_ignore_ascii_case("authorization"));
                let path = request.target.path_and_query();
                let head = Head {
                    method: request.method.to_owned(),
                    path: path.to_owned(),
                    body: request.body,
                    authorization: field.map(|field| field.value.to_vec()),
                    is_last: request.persistence == Persistence::Close,
                };
                let len = request.len;
                bytes.drain(..len);
                return Ok(Some(Ok(head)));
            }
            Ok(None) => {}
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The body of a request, read on in `bytes`; or the answer that refuses it.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    framing: Framing,
) -> io::Result<Result<Vec<u8>, Reply>> {
    let length = match framing {
        Framing::Empty => 0,
        Framing::Length(length) => length,
        _ => return Ok(Err(Reply::error(411, "a body without Content-Length: expected one with it"))),
    };
    if length > BODY_MAX {
        let what = format_args!("a body of {length} octets: expected {BODY_MAX} at most");
        return Ok(Err(Reply::error(413, what)));
    }
    let length = length as usize;
    while bytes.len() < length {
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Ok(bytes.drain(..length).collect()))
}

fn written(reply: &Reply, is_head: bool, is_last: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", status_line(reply.status), reply.body.len());
    for (name, value) in &reply.fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += if is_last { "Connection: close\r\n\r\n" } else { "\r\n" };
    let mut octets = head.into_bytes();
    if !is_head {
        octets.extend_from_slice(&reply.body);
    }
    octets
}

fn status_line(status: u16) -> String {
    let phrase = match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    };
    format!("{status} {phrase}")
}

async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// The longest body that is read, in octets: no order needs more.
const BODY_MAX: u64 = 64 * 1024;

/// A few gslb-dns nodes, each with a connection or two, and operators.
const CONNECTIONS_MAX: usize = 256;

/// Whatever binds clients, gslb-dns keeps its connections between two probes.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Longer than the kernel takes to hand over what a client has sent already.
const LAST_WORDS: Duration = Duration::from_millis(50);

const LINGER: Duration = Duration::from_secs(1);
