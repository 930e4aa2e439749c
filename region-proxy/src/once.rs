//! One request over a connection of its own: for checks of servers and for `drain`.

use std::mem::MaybeUninit;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http1::{Asked, ChunkLimits, Chunked, Framing, HeadLimits, Header, read_response};
use crate::tls::failure;

/// A request without a body that is sent over a connection of its own.
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
}

/// Status and body of the answer, of which at most `body_max` octets are read: none when it is 0.
///
/// Fails with a text that says at which step. Has no time limit of its own.
pub async fn fetch(address: SocketAddr, request: Once<'_>, body_max: usize) -> Result<(u16, Vec<u8>), String> {
    fetch_over(&mut connect(address).await?, request, body_max).await
}

/// A connection to `address`; fails with what is the matter with it.
pub async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))
}

/// What is answered over `stream`.
pub async fn fetch_over(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: Once<'_>,
    body_max: usize,
) -> Result<(u16, Vec<u8>), String> {
    let Once { method, path, host, preface, fields } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    head += "Connection: close\r\n\r\n";
    let octets = [preface, head.as_bytes()].concat();
    stream.write_all(&octets).await.map_err(|error| format!("request: {}", failure::of_io(&error)))?;
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
        return Ok((status, Vec::new()));
    }
    read_body(stream, bytes, framing, body_max).await.map(|body| (status, body))
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

/// The body that begins with `bytes`, without its framing.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: Vec<u8>,
    framing: Framing,
    body_max: usize,
) -> Result<Vec<u8>, String> {
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
        if is_whole {
            return Ok(body);
        }
        if body.len() > body_max {
            return Err(format!("body: longer than {body_max} octets"));
        }
        if read_more(stream, &mut bytes).await? == 0 {
            let is_end = framing == Framing::UntilClose;
            return if is_end { Ok(body) } else { Err("body: connection closed before its end".to_owned()) };
        }
    }
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<usize, String> {
    stream.read_buf(bytes).await.map_err(|error| format!("response: {}", failure::of_io(&error)))
}
