//! Heads of responses.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::fields::{Options, Scan, Told};
use super::refusal::{BadResponse, Reason};
use super::request::{field_fault, has_whole_line_ends};
use super::{Framing, HeadLimits, Persistence, Version};

/// The request that a response answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked<'m> {
    /// Its method.
    pub method: &'m str,
    /// Whether it asked for another protocol.
    pub upgrade: bool,
}

/// The head of a response; all of it is slices of the buffer that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Response<'b> {
    /// The version that the server speaks.
    pub version: Version,
    /// From 100 to 599.
    pub status: u16,
    /// The reason phrase; empty also where it is not ASCII.
    pub reason: &'b str,
    /// All fields, in their order, with white space around the values taken off.
    pub fields: &'b [Header<'b>],
    /// Where the body ends; [`Framing::Empty`] for 1xx, 204, 304 and the answer to HEAD.
    pub body: Framing,
    /// What Content-Length says, also where no body follows.
    pub length: Option<u64>,
    /// Whether the server keeps the connection.
    pub persistence: Persistence,
    /// The protocol that is spoken from here on; of status 101 alone.
    pub upgrade: Option<&'b [u8]>,
    /// What Connection says.
    pub options: Options,
    /// Octets of the head with its empty line.
    pub len: usize,
}

impl Response<'_> {
    /// Whether another response to the same request follows (RFC 9110, section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads the head of a response to `asked` at the front of `bytes`; `None` while it is not whole.
///
/// Of `slots` there must be as many as there may be fields; it is left in any state. More octets behind what was read never
/// change the outcome. Where the body ends with the connection, or fields claim one that the status forbids, the
/// connection does not persist.
///
/// # Errors
/// Whatever is not by RFC 9112 or could be read in two ways: most faults as soon as they are seen, the others when the
/// head is whole. A status line may end without the space
/// after the status, as many servers leave it out.
pub fn read_response<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut [MaybeUninit<Header<'b>>],
    asked: Asked<'_>,
    limits: HeadLimits,
) -> Result<Option<Response<'h>>, BadResponse> {
    Ok(read(bytes, slots, asked, limits)?)
}

fn read<'h, 'b: 'h>(
    bytes: &'b [u8],
    slots: &'h mut [MaybeUninit<Header<'b>>],
    asked: Asked<'_>,
    limits: HeadLimits,
) -> Result<Option<Response<'h>>, Reason> {
    let bytes = &bytes[..bytes.len().min(limits.head)];
    if matches!(bytes, [b'\r' | b'\n', ..]) {
        return Err(Reason::EmptyLines);
    }
    let mut head = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, slots);
    if head.code.is_some_and(|status| !(100..600).contains(&status)) {
        return Err(Reason::Status);
    }
    let (Ok(Status::Complete(len)), Some(status), Some(reason), Some(version)) =
        (outcome, head.code, head.reason, head.version)
    else {
        return match outcome {
            Err(error) => Err(field_fault(error, bytes)),
            Ok(_) if bytes.len() >= limits.head => Err(Reason::HeadTooLong),
            Ok(_) => Ok(None),
        };
    };
    let fields: &'h [Header<'b>] = head.headers;
    if !has_whole_line_ends(&bytes[..len], fields.len()) {
        return Err(Reason::LineEnd);
    }
    let version = if version == 0 { Version::V10 } else { Version::V11 };
    let scan = Scan::of(fields);
    let told = scan.framing(version, fields)?;
    let upgrade = if status == 101 { scan.upgrade(version) } else { None };
    if status == 101 && (upgrade.is_none() || !asked.upgrade) {
        return Err(Reason::SwitchUnasked);
    }
    let body = body(status, asked.method, told);
    let is_certain = body != Framing::UntilClose && !claims_too_much(status, told);
    let persistence = if is_certain { scan.options.persistence(version) } else { Persistence::Close };
    let length = if let Told::Length(length) = told { Some(length) } else { None };
    let options = scan.options;
    Ok(Some(Response { version, status, reason, fields, body, length, persistence, upgrade, options, len }))
}

/// RFC 9112, section 6.3.
fn body(status: u16, method: &str, told: Told) -> Framing {
    match told {
        _ if method == "HEAD" || status < 200 || status == 204 || status == 304 => Framing::Empty,
        Told::Length(length) => Framing::Length(length),
        Told::Chunked => Framing::Chunked,
        Told::Nothing => Framing::UntilClose,
    }
}

/// Whether the fields claim a body that this status never has, so that one may follow all the same.
fn claims_too_much(status: u16, told: Told) -> bool {
    (status < 200 || status == 204) && !matches!(told, Told::Nothing | Told::Length(0))
}
