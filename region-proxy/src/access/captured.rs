//! What is kept of the texts of a request until its line is written: they are gone when it ends.

use crate::config::{AccessLog, LogFormat};
use crate::http1::{Header, Request};
use crate::relay::record::Protocol;

use super::octets;

/// Parts of a line that are texts of the client and the server, as they stand in it.
#[derive(Debug)]
pub struct Captured {
    format: LogFormat,
    octets: Vec<u8>,
    /// Where what was asked for ends, and then where the fields of the request do.
    ends: [usize; 2],
}

impl Captured {
    /// Of `request`, as `log` wants it; `octets` is empty memory.
    pub fn of(request: &Request<'_>, protocol: Protocol, log: &AccessLog, mut octets: Vec<u8>) -> Self {
        write_asked(log.format, request, protocol, &mut octets);
        let asked = octets.len();
        write_fields(log.format, &log.request, request.fields, &mut octets);
        let ends = [asked, octets.len()];
        Self { format: log.format, octets, ends }
    }

    /// Adds the fields of the response, by [`capture_response`].
    pub fn add_response(&mut self, fields: &[u8]) {
        self.octets.truncate(self.ends[1]);
        self.octets.extend_from_slice(fields);
    }

    /// The format that it is made for.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Method, target and what is said of them.
    pub(super) fn asked(&self) -> &[u8] {
        &self.octets[..self.ends[0]]
    }

    /// Fields of the request.
    pub(super) fn request(&self) -> &[u8] {
        &self.octets[self.ends[0]..self.ends[1]]
    }

    /// Fields of the response; empty where there was none.
    pub(super) fn response(&self) -> &[u8] {
        &self.octets[self.ends[1]..]
    }

    /// Its memory, for others.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

/// What `log` wants of the fields of a response, appended to `octets`.
pub fn capture_response(log: &AccessLog, fields: &[Header<'_>], octets: &mut Vec<u8>) {
    write_fields(log.format, &log.response, fields, octets);
}

fn write_asked(format: LogFormat, request: &Request<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let target = &request.target;
    match format {
        LogFormat::Json => {
            out.extend_from_slice(b"\"method\":\"");
            octets::json(out, request.method.as_bytes());
            out.extend_from_slice(b"\",\"host\":");
            match request.host {
                Some(host) => {
                    out.push(b'"');
                    octets::json(out, cut(host.as_str().as_bytes(), TARGET_MAX));
                    out.push(b'"');
                }
                None => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b",\"target\":\"");
            octets::json(out, cut(target.path_and_query().as_bytes(), TARGET_MAX));
            out.push(b'"');
        }
        LogFormat::Httplog => {
            octets::httplog(out, request.method.as_bytes(), false);
            out.push(b' ');
            octets::httplog(out, cut(target.path_and_query().as_bytes(), TARGET_MAX), false);
            out.push(b' ');
            out.extend_from_slice(protocol.as_str().as_bytes());
        }
    }
}

/// The last value of each of `names` counts, as in HAProxy.
fn write_fields(format: LogFormat, names: &[Box<str>], fields: &[Header<'_>], out: &mut Vec<u8>) {
    if format == LogFormat::Httplog && names.is_empty() {
        return;
    }
    out.push(b'{');
    for (index, name) in names.iter().enumerate() {
        let value = fields.iter().rfind(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
        let value = value.map(|value| cut(value, VALUE_MAX));
        match format {
            LogFormat::Json => {
                out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
                octets::json(out, name.as_bytes());
                out.extend_from_slice(b"\":");
                match value {
                    Some(value) => {
                        out.push(b'"');
                        octets::json(out, value);
                        out.push(b'"');
                    }
                    None => out.extend_from_slice(b"null"),
                }
            }
            LogFormat::Httplog => {
                if index > 0 {
                    out.push(b'|');
                }
                octets::httplog(out, value.unwrap_or_default(), true);
            }
        }
    }
    out.push(b'}');
}

fn cut(text: &[u8], most: usize) -> &[u8] {
    &text[..text.len().min(most)]
}

/// What a line shows of a target or a host.
const TARGET_MAX: usize = 4096;

/// What a line shows of the value of a field.
const VALUE_MAX: usize = 512;
