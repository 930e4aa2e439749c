//! A small HTTP/1.1 client: one request a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, without the first line.
    pub head: String,
    /// The body, as text.
    pub body: String,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The value of `Host`.
    pub host: &'a str,
    /// For `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// The body; may be empty.
    pub body: &'a str,
    /// How long each of connecting, sending and the answer may take.
    pub limit: Duration,
}

impl<'a> Request<'a> {
    /// `GET path`.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, host: "localhost", token: None, body: "", limit: LIMIT }
    }

    /// `POST path` with a token.
    pub fn post(path: &'a str, token: &'a str) -> Self {
        Self { method: "POST", token: Some(token), ..Self::get(path) }
    }

    /// Sends it to `address` and reads the answer, each within `limit`.
    pub fn send(&self, address: SocketAddr) -> Result<Response, String> {
        let context = |error: std::io::Error| format!("{} http://{address}{}: {error}", self.method, self.path);
        let mut stream = TcpStream::connect_timeout(&address, self.limit).map_err(context)?;
        stream.set_read_timeout(Some(self.limit)).map_err(context)?;
        stream.set_write_timeout(Some(self.limit)).map_err(context)?;
        let token = self.token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let Self { method, path, host, body, .. } = self;
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}Content-Length: {len}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).map_err(context)?;
        let answer = read_answer(&mut stream).map_err(context)?;
        parse(&answer).ok_or_else(|| format!("{method} http://{address}{path}: not an HTTP answer: {answer:?}"))
    }
}

/// The JSON at `path`.
pub fn get_json(address: SocketAddr, path: &str) -> Result<serde_json::Value, String> {
    let response = Request::get(path).send(address)?;
    match response.status {
        200 => serde_json::from_str(&response.body).map_err(|error| format!("http://{address}{path}: {error}")),
        status => Err(format!("http://{address}{path}: status {status}: {}", response.body)),
    }
}

/// Reads to the end of the connection, or of the length that the answer tells: chromedriver's lasts as long as its browser.
fn read_answer(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut part = [0; 64 * 1024];
    while !is_whole(&answer) {
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(answer)
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let len = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    len.is_some_and(|len| answer.len() >= head + 4 + len)
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (first, head) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { join_chunks(body)? } else { body.to_owned() };
    Some(Response { status, head: head.to_owned(), body })
}

fn join_chunks(mut body: &str) -> Option<String> {
    let mut joined = String::new();
    loop {
        let (len, rest) = body.split_once("\r\n")?;
        let len = usize::from_str_radix(len, 16).ok()?;
        if len == 0 {
            return Some(joined);
        }
        joined.push_str(rest.get(..len)?);
        body = rest.get(len + 2..)?;
    }
}

/// How long anything may take, if nothing else is said.
pub const LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_in_chunks() {
        let whole = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("an answer");
        assert_eq!((whole.status, whole.body.as_str()), (200, "ok"));
        let chunked = parse(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
        assert_eq!(chunked.expect("an answer").body, "abc");
        assert!(parse(b"SSH-2.0").is_none());
    }
}
