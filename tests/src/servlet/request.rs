//! Requests, as a server behind a proxy gets them.

use std::io::{self, BufRead, Read, Write};

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// Names and values, in their order.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The next request of a connection; `None` at its end. Who expects it is told to go on before the body is read.
    pub(super) fn read(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<Option<Self>> {
        let Some(first) = line(reader)? else { return Ok(None) };
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next().filter(|target| target.starts_with('/'))) else {
            return Err(wrong(&first));
        };
        let mut fields = Vec::new();
        while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(&line))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut request = Self { method, target, fields, body: Vec::new() };
        if request.field("expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        request.body = request.read_body(reader)?;
        Ok(Some(request))
    }

    fn read_body(&self, reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.field("transfer-encoding").is_none() {
            let len = self.field("content-length").map_or(Ok(0), str::parse).map_err(|_| wrong("Content-Length"))?;
            body.resize(len, 0);
            reader.read_exact(&mut body)?;
            return Ok(body);
        }
        loop {
            let size = line(reader)?.unwrap_or_default();
            let len = usize::from_str_radix(&size, 16).map_err(|_| wrong(&size))?;
            let read = reader.by_ref().take(len as u64).read_to_end(&mut body)?;
            // After the chunk, or in place of the trailers.
            let end = line(reader)?;
            if read < len || end.as_deref() != Some("") {
                return Err(wrong("a chunk"));
            }
            if len == 0 {
                return Ok(body);
            }
        }
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of the first field with `name`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The value of the cookie with `name`.
    pub(super) fn cookie(&self, name: &str) -> Option<String> {
        let pairs = self.field("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find(|(one, _)| *one == name).map(|(_, value)| value.to_owned())
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    pub(super) fn ends_connection(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A line without its end; `None` at the end of the connection.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    // As long as heads are anywhere.
    if reader.by_ref().take(64 * 1024).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let line = line.strip_suffix("\r\n").ok_or_else(|| wrong(&line))?;
    Ok(Some(line.to_owned()))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not understood: {what}"))
}
