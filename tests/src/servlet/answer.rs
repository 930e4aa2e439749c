//! Answers.

use std::io::{self, Write};

use super::octets;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
    is_chunked: bool,
}

impl Answer {
    fn new(content_type: &str, body: Vec<u8>) -> Self {
        let fields = vec![("Content-Type", content_type.to_owned())];
        Self { status: "200 OK", fields, body, is_chunked: false }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::new("text/plain", text.as_bytes().to_vec())
    }

    /// A page that is asked for each time.
    pub(super) fn html(text: String) -> Self {
        let mut answer = Self::new("text/html; charset=utf-8", text.into_bytes());
        answer.set("Cache-Control", "no-cache".to_owned());
        answer
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::new("application/json", format!("{value:#}\n").into_bytes())
    }

    pub(super) fn of_body(body: Vec<u8>) -> Self {
        Self::new("application/octet-stream", body)
    }

    pub(super) fn chunked(body: Vec<u8>) -> Self {
        Self { is_chunked: true, ..Self::of_body(body) }
    }

    /// The first `len` of [`octets`], or what is asked of them by `range` and `if_none_match`.
    pub(super) fn of_octets(len: usize, range: Option<&str>, if_none_match: Option<&str>) -> Self {
        let tag = format!("\"{len}\"");
        let mut answer = if if_none_match == Some(&tag) {
            Self { status: "304 Not Modified", ..Self::of_body(Vec::new()) }
        } else if let Some((from, to)) = range.and_then(|range| read_range(range, len)) {
            let mut part = Self::of_body(octets(from, to - from + 1));
            part.status = "206 Partial Content";
            part.set("Content-Range", format!("bytes {from}-{to}/{len}"));
            part
        } else {
            Self::of_body(octets(0, len))
        };
        answer.set("ETag", tag);
        answer.set("Accept-Ranges", "bytes".to_owned());
        answer
    }

    pub(super) fn set(&mut self, name: &'static str, value: String) {
        self.fields.push((name, value));
    }

    pub(super) fn write(&self, writer: &mut impl Write, is_head: bool) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        let has_none = self.status.starts_with("304");
        match self.is_chunked {
            _ if has_none => {}
            true => head += "Transfer-Encoding: chunked\r\n",
            false => head += &format!("Content-Length: {}\r\n", self.body.len()),
        }
        writer.write_all((head + "\r\n").as_bytes())?;
        match self.is_chunked {
            _ if has_none || is_head => Ok(()),
            true => self.write_chunks(writer),
            false => writer.write_all(&self.body),
        }
    }

    fn write_chunks(&self, writer: &mut impl Write) -> io::Result<()> {
        for chunk in self.body.chunks(CHUNK) {
            write!(writer, "{:x}\r\n", chunk.len())?;
            writer.write_all(chunk)?;
            writer.write_all(b"\r\n")?;
        }
        writer.write_all(b"0\r\n\r\n")
    }
}

/// The first and the last octet of `bytes=FROM-TO`; `None`: all.
fn read_range(range: &str, len: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().unwrap_or(usize::MAX).min(len.checked_sub(1)?));
    (from <= to).then_some((from, to))
}

/// No power of two, so that chunks never fit what they are read into.
const CHUNK: usize = 7001;
