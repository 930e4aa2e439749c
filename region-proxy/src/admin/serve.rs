//! The connections of the status listener.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::{Asked, Reply, answer};
use crate::http1::{Framing, HeadLimits, Header, Persistence, Refusal, read_request};
use crate::listen::{Phase, stopped};
use crate::live::Proxy;

/// Serves the connections of `listener` until `stop` says to take no more.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: watch::Receiver<Phase>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            accepted = listener.accept() => accepted,
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
    mut stream: TcpStream,
    peer: SocketAddr,
    proxy: Arc<Proxy>,
    stop: &mut watch::Receiver<Phase>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let asking = timeout(HEAD_LIMIT, read_head(&mut stream, &mut bytes));
        let head = tokio::select! {
            biased;
            head = asking => head??,
            () = stopped(stop) => return Ok(()),
        };
        let (reply, is_head, is_last) = match head {
            None => return Ok(()),
            Some(Err(refusal)) => (Reply::text(refusal.status, &refusal.to_string()), false, true),
            Some(Ok(head)) => {
                let asked =
                    Asked { method: &head.method, path: &head.path, authorization: head.authorization.as_deref() };
                let is_head = head.method == "HEAD";
                (
                    answer(Arc::clone(&proxy), peer, asked).await,
                    is_head,
                    head.is_last || *stop.borrow() != Phase::Serving,
                )
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

/// The head of a request, on its own.
struct Head {
    method: String,
    path: String,
    authorization: Option<Vec<u8>>,
    is_last: bool,
}

/// The next head, read on in `bytes`; `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Option<Result<Head, Refusal>>> {
    loop {
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; 64];
        match read_request(bytes, &mut slots, HeadLimits::DEFAULT) {
            Err(refusal) => return Ok(Some(Err(refusal))),
            Ok(Some(request)) => {
                let field = request.fields.iter().find(|field| field.name.eq_ignore_ascii_case("authorization"));
                let path = request.target.path_and_query();
                // Nothing that is asked here has a body; where one comes, it is not read.
                let has_body = !matches!(request.body, Framing::Empty | Framing::Length(0));
                let head = Head {
                    method: request.method.to_owned(),
                    path: path.split_once('?').map_or(path, |(path, _)| path).to_owned(),
                    authorization: field.map(|field| field.value.to_vec()),
                    is_last: has_body || request.persistence == Persistence::Close,
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
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        _ => "",
    };
    format!("{status} {phrase}")
}

async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// A few gslb-dns nodes, each with a connection or two, and operators.
const CONNECTIONS_MAX: usize = 256;

/// Whatever binds clients, gslb-dns keeps its connections between two probes.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

const LINGER: Duration = Duration::from_secs(1);
