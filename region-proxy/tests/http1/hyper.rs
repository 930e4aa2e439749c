//! hyper as a second reader: it must find the same requests on a connection, and the same response.
//! Shared with the fuzz target.

use std::cell::RefCell;
use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::rc::Rc;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use region_proxy::http1::{
    Asked, ChunkLimits, Chunked, Framing, HeadLimits, Header, Persistence, Scheme, Target, Version, read_request,
    read_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A request as a reader finds it.
#[derive(Debug, Eq, PartialEq)]
struct Found {
    method: String,
    uri: String,
    version: &'static str,
    /// By name, which is in lower case; of one name in their order.
    fields: Vec<(String, Vec<u8>)>,
    /// `None`: the connection ended before it did.
    body: Option<Vec<u8>>,
}

/// Why a reader stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// Nothing that is whole is left, or the connection ends here.
    Done,
    /// It refused what came next.
    Refused,
}

/// All requests that `http1` reads in `octets` are found by hyper, too, with the same fields and bodies; and where it refuses
/// nothing, hyper finds no more.
///
/// It panics where that is not so.
pub(crate) fn check_requests(octets: &[u8]) {
    let (ours, end) = read_all(octets);
    let theirs = hyper_reads_all(octets);
    let common = &theirs[..theirs.len().min(ours.len())];
    assert_eq!(common, ours, "hyper finds other requests in {}", octets.escape_ascii());
    assert!(
        end == End::Refused || theirs.len() == ours.len(),
        "hyper finds more: {theirs:?} in {}",
        octets.escape_ascii()
    );
}

fn read_all(octets: &[u8]) -> (Vec<Found>, End) {
    let (mut found, mut rest) = (Vec::new(), octets);
    loop {
        let mut slots = [MaybeUninit::<Header<'_>>::uninit(); 100];
        let request = match read_request(rest, &mut slots, HeadLimits::DEFAULT) {
            Err(_) => return (found, End::Refused),
            Ok(None) => return (found, End::Done),
            Ok(Some(request)) if request.method == "CONNECT" => return (found, End::Refused),
            Ok(Some(request)) => request,
        };
        let Ok((body, len)) = read_body(request.body, &rest[request.len..]) else { return (found, End::Refused) };
        let is_last = body.is_none() || request.persistence == Persistence::Close;
        found.push(Found {
            method: request.method.to_owned(),
            uri: uri(request.target),
            version: if request.version == Version::V10 { "HTTP/1.0" } else { "HTTP/1.1" },
            fields: by_name(request.fields.iter().map(pair)),
            body,
        });
        if is_last {
            return (found, End::Done);
        }
        rest = &rest[request.len + len..];
    }
}

fn pair(field: &Header<'_>) -> (String, Vec<u8>) {
    (field.name.to_ascii_lowercase(), field.value.to_vec())
}

fn by_name(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// As `http::Uri` writes it.
fn uri(target: Target<'_>) -> String {
    let Target::Absolute { scheme, authority, path_and_query } = target else {
        return target.path_and_query().to_owned();
    };
    let scheme = if scheme == Scheme::Http { "http" } else { "https" };
    let slash = if path_and_query.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{path_and_query}", authority.as_str())
}

/// The body at the front of `octets`, `None` when it is not whole, and its length; `Err` when it is refused.
fn read_body(framing: Framing, octets: &[u8]) -> Result<(Option<Vec<u8>>, usize), ()> {
    match framing {
        Framing::Empty | Framing::UntilClose => Ok((Some(Vec::new()), 0)),
        Framing::Length(length) => {
            let body = usize::try_from(length).ok().and_then(|length| octets.get(..length));
            Ok((body.map(<[u8]>::to_vec), body.map_or(0, <[u8]>::len)))
        }
        Framing::Chunked => {
            let mut body = Chunked::new(ChunkLimits::DEFAULT);
            let (mut data, mut rest) = (Vec::new(), octets);
            while !rest.is_empty() && !body.is_done() {
                let step = body.step(rest).map_err(|_| ())?;
                data.extend_from_slice(&rest[step.data]);
                rest = &rest[step.consumed..];
            }
            Ok((body.is_done().then_some(data), octets.len() - rest.len()))
        }
    }
}

/// The response that `http1` reads in `octets`, after interim ones, is the one that hyper finds, with the same fields and
/// body.
///
/// It panics where that is not so.
pub(crate) fn check_response(octets: &[u8]) {
    for method in ["GET", "HEAD"] {
        if let Some(ours) = read_final(octets, method) {
            let theirs = hyper_reads_final(octets, method);
            assert_eq!(theirs, Some(ours), "hyper finds another response to {method} in {}", octets.escape_ascii());
        }
    }
}

/// A response as a reader finds it.
#[derive(Debug, Eq, PartialEq)]
struct FoundResponse {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    /// `None`: the connection ended before it did.
    body: Option<Vec<u8>>,
}

/// `None` when it is refused or not whole.
fn read_final(octets: &[u8], method: &str) -> Option<FoundResponse> {
    let mut rest = octets;
    loop {
        let mut slots = [MaybeUninit::<Header<'_>>::uninit(); 100];
        let asked = Asked { method, upgrade: false };
        let response = read_response(rest, &mut slots, asked, HeadLimits::DEFAULT).ok()??;
        rest = &rest[response.len..];
        if !response.is_interim() {
            let body = match response.body {
                Framing::UntilClose => Some(rest.to_vec()),
                framing => read_body(framing, rest).ok()?.0,
            };
            return Some(FoundResponse {
                status: response.status,
                fields: by_name(response.fields.iter().map(pair)),
                body,
            });
        }
    }
}

fn hyper_reads_final(octets: &[u8], method: &str) -> Option<FoundResponse> {
    let (here, mut there) = tokio::io::duplex(64 * 1024);
    let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new()).expect("a request");
    let client = async {
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(here)).await.ok()?;
        let response = async {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            let fields =
                by_name(head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())));
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            Some(FoundResponse { status: head.status.as_u16(), fields, body })
        };
        tokio::join!(response, connection).0
    };
    let server = async move {
        // hyper takes what comes before its request for a fault.
        let mut request = [0; 1024];
        let _ = there.read(&mut request).await;
        let _ = there.write_all(octets).await;
    };
    runtime().block_on(async { tokio::join!(client, server).0 })
}

fn hyper_reads_all(octets: &[u8]) -> Vec<Found> {
    let found = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let found = Rc::clone(&found);
        async move {
            let (head, body) = request.into_parts();
            let fields = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
            let mut request = Found {
                method: head.method.to_string(),
                uri: head.uri.to_string(),
                version: if head.version == hyper::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
                fields: by_name(fields),
                body: None,
            };
            request.body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            found.borrow_mut().push(request);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = TokioIo::new(tokio::io::join(octets, tokio::io::sink()));
    // What it refuses ends the connection; what it read before that counts.
    let _ =
        runtime().block_on(server::conn::http1::Builder::new().half_close(true).serve_connection(connection, service));
    found.take()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
