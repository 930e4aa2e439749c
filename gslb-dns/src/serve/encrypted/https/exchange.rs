//! One request and its response (RFC 8484, sections 4 to 6).

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};

use crate::serve::encrypted::requests::{Request, Requests};
use crate::serve::encrypted::respond::respond;
use crate::serve::tcp::Lane;
use crate::wire::freshness_secs;

/// The content of a response: an answer, or nothing.
pub(super) struct Content(Option<Held>);

/// An answer that waits to be taken: its request is open for as long.
pub(super) struct Held {
    octets: Bytes,
    _request: Request,
}

/// Answers one request.
///
/// ```text
/// path other than /dns-query                           404
/// method other than GET and POST                       405
/// POST: content of another type; none; too long        415; 400; 413
/// GET: no dns=, or not base64url without padding       400
/// what is no query                                     400
/// any query, whatever its rcode                        200
/// ```
pub(super) async fn exchange(
    lane: &Lane,
    requests: &Arc<Requests>,
    peer: IpAddr,
    http: HttpRequest<Incoming>,
) -> Response<Content> {
    let mut request = requests.begin();
    let query = match query_of(http, &mut request).await {
        Ok(query) => query,
        Err(status) => return refusal(status),
    };
    let Some(answer) = respond(lane, peer, requests.unix_secs(), &query).await else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    request.hold(answer.len());
    let freshness = format!("private, max-age={}", freshness_secs(&answer));
    let mut response = Response::new(Content(Some(Held { octets: answer.into(), _request: request })));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    // Private, since another client may get another answer.
    headers.extend(HeaderValue::try_from(freshness).ok().map(|freshness| (CACHE_CONTROL, freshness)));
    response
}

fn refusal(status: StatusCode) -> Response<Content> {
    let mut response = Response::new(Content(None));
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

/// The message that `http` brings.
async fn query_of(http: HttpRequest<Incoming>, request: &mut Request) -> Result<Bytes, StatusCode> {
    if http.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match *http.method() {
        Method::GET => decoded(http.uri().query().unwrap_or_default()).ok_or(StatusCode::BAD_REQUEST),
        Method::POST => {
            let content_type = http.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            if !is_dns_message(content_type) {
                return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            }
            content_of(http.into_body(), request).await
        }
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// All that `body` brings, unless that is longer than any message.
async fn content_of(mut body: Incoming, request: &mut Request) -> Result<Bytes, StatusCode> {
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Some(octets) = frame.data_ref() else { continue };
        if content.len() + octets.len() > usize::from(u16::MAX) {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        content.extend_from_slice(octets);
        request.grow(octets.len());
    }
    Ok(content.into())
}

/// The message in the variable `dns` of `query` (RFC 8484, section 6).
fn decoded(query: &str) -> Option<Bytes> {
    let text = query.split('&').find_map(|variable| variable.strip_prefix("dns="))?;
    BASE64URL_NOPAD.decode(text.as_bytes()).ok().map(Bytes::from)
}

/// Whether it names messages, whatever its parameters.
fn is_dns_message(content_type: &[u8]) -> bool {
    let name = content_type.split(|octet| *octet == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(DNS_MESSAGE.as_bytes())
}

impl Body for Content {
    type Data = Held;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Held>, Infallible>>> {
        Poll::Ready(self.0.take().map(|held| Ok(Frame::data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |held| held.octets.len() as u64))
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.octets.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.octets.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.octets.advance(count);
    }
}

const PATH: &str = "/dns-query";
const DNS_MESSAGE: &str = "application/dns-message";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn message_is_read_from_its_variable_without_padding() {
        assert_eq!(decoded("dns=AAAB").as_deref(), Some(&[0, 0, 1][..]));
        assert_eq!(decoded("x=1&dns=-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        for wrong in ["", "dns", "dnss=AAAB", "dns=AA==", "dns=+/8", "dns=A"] {
            assert_eq!(decoded(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn type_of_content_may_have_parameters_and_any_case() {
        assert!(is_dns_message(b"Application/DNS-Message; x=y") && is_dns_message(b" application/dns-message"));
        assert!(!is_dns_message(b"application/json") && !is_dns_message(b""));
    }

    proptest! {
        #[test]
        fn any_variables_are_a_message_or_none(text in "\\PC*") {
            let _ = (decoded(&text), decoded(&format!("dns={text}")), is_dns_message(text.as_bytes()));
        }
    }
}
