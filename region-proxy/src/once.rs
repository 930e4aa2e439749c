//! One request over a connection of its own: for checks of servers, for `drain` and for `ctl`.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http1::{Asked, ChunkLimits, Chunked, Framing, HeadLimits, Header, read_response};
use crate::tls::failure;

mod http2;

pub use http2::OverHttp2;

/// A request that is sent over a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Once<'r> {
    /// The method, which has an answer with a body.
    pub method: &'r str,
    /// Path and query.
    pub path: &'r str,
    /// The value of Host.
    pub host: &'r str,
    /// What is sent before the request.
    pub preface: &'r [u8],
    /// Further fields, none of them of framing or connection.
    pub fields: &'r [(&'r str, &'r str)],
    /// The body; empty: none.
    pub body: &'r [u8],
}

/// What was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
    /// Whether there is more of it.
    pub is_cut: bool,
}

/// What the server at `address` answers; of the body at most about `body_max` octets are read: none when it is 0.
///
/// Fails with a text that says at which step. Has no time limit of its own.
pub async fn fetch(address: SocketAddr, request: Once<'_>, body_max: usize) -> Result<Answer, String> {
    fetch_over(&mut connect(address).await?, request, body_max).await
}

/// A connection to `address`; fails with what is the matter with it.
pub async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("connect: {}", in_words(&error)))
}

/// What is answered over `stream`.
pub async fn fetch_over(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: Once<'_>,
    body_max: usize,
) -> Result<Answer, String> {
    let Once { method, path, host, preface, fields, body } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "Connection: close\r\n\r\n";
    let octets = [preface, head.as_bytes(), body].concat();
    stream.write_all(&octets).await.map_err(|error| format!("request: {}", in_words(&error)))?;
    let mut bytes = Vec::new();
    let (status, framing) = loop {
        if let Some((status, framing, len)) = final_head(&bytes, method)? {
            bytes.drain(..len);
            if status >= 200 {
                break (status, framing);
            }
            continue;
        }
        read_more(stream, &mut bytes).await.and_then(|count| match count {
            0 => Err("response: connection closed before the end of its head".to_owned()),
            _ => Ok(()),
        })?;
    };
    if body_max == 0 {
        return Ok(Answer { status, body: Vec::new(), is_cut: false });
    }
    let (body, is_cut) = read_body(stream, bytes, framing, body_max).await?;
    Ok(Answer { status, body, is_cut })
}

/// Status, framing and length of the head at the front of `bytes`, if it is whole.
fn final_head(bytes: &[u8], method: &str) -> Result<Option<(u16, Framing, usize)>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; 128];
    let limits = HeadLimits { head: 64 * 1024, target: 0 };
    let response = read_response(bytes, &mut slots, Asked { method, upgrade: false }, limits);
    let response = response.map_err(|error| format!("response: {error}"))?;
    Ok(response.map(|response| (response.status, response.body, response.len)))
}

/// The body that begins with `bytes`, without its framing, and whether it was cut after `body_max` octets.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: Vec<u8>,
    framing: Framing,
    body_max: usize,
) -> Result<(Vec<u8>, bool), String> {
    let mut chunked = Chunked::new(ChunkLimits::DEFAULT);
    let mut body = Vec::new();
    loop {
        let is_whole = match framing {
            Framing::Empty => true,
            Framing::Length(length) => {
                body.append(&mut bytes);
                body.len() as u64 >= length
            }
            Framing::Chunked => {
                while !bytes.is_empty() && !chunked.is_done() {
                    let step = chunked.step(&bytes).map_err(|error| format!("body: {error}"))?;
                    body.extend_from_slice(&bytes[step.data]);
                    bytes.drain(..step.consumed);
                }
                chunked.is_done()
            }
            Framing::UntilClose => {
                body.append(&mut bytes);
                false
            }
        };
        if body.len() > body_max {
            body.truncate(body_max);
            return Ok((body, true));
        }
        if is_whole {
            return Ok((body, false));
        }
        if read_more(stream, &mut bytes).await? == 0 {
            let is_end = framing == Framing::UntilClose;
            return if is_end { Ok((body, false)) } else { Err("body: connection closed before its end".to_owned()) };
        }
    }
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<usize, String> {
    stream.read_buf(bytes).await.map_err(|error| format!("response: {}", in_words(&error)))
}

/// The commonest errors in one word; what the system says of others.
pub fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => failure::of_io(error),
    }
}
