//! One request from a client to a server and the response back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};

use crate::body::{Body, Upload};
use crate::forward::{self, Origin};
use crate::live::{Flight, Live, Proxy, Server, Service};
use crate::plan::{self, Answer, Connection, Failure, Next};
use crate::route;
use crate::upstream::Failed;

/// Answers one request of the client at `peer`.
pub async fn relay(proxy: Arc<Proxy>, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let live = proxy.live.load_full();
    let version = request.version();
    match admit(&live, peer, request) {
        Ok((flight, request)) => {
            let method = request.method().clone();
            Exchange { live: &live, flight, method, version, tried: Vec::new() }.run(request).await
        }
        Err(refusal) => *refusal,
    }
}

/// The request as a server shall see it, and the service that it is for; or the answer that refuses it.
fn admit(
    live: &Live,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<(Flight, Request<Upload>), Box<Response<Body>>> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return Err(refuse(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"));
    }
    if !route::is_target(&head.method, &head.uri) {
        return Err(refuse(StatusCode::BAD_REQUEST, "not a target: expected a path or an absolute URI"));
    }
    if !forward::is_coding_known(&head.headers) {
        return Err(refuse(StatusCode::NOT_IMPLEMENTED, "transfer coding is not supported: expected chunked alone"));
    }
    let bad_host = |error: route::BadHost| refuse(StatusCode::BAD_REQUEST, &error.to_string());
    let authority = route::authority(head.version, &head.uri, &head.headers).map_err(bad_host)?;
    let host = authority.map(route::host).transpose().map_err(bad_host)?;
    let Some(service) = live.service(host.as_deref()) else {
        return Err(Box::new(own(StatusCode::MISDIRECTED_REQUEST, "no such service here")));
    };
    let flight = Flight::new(Arc::clone(service));
    let authority = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    if !forward::count_forward(&head.method, &mut head.headers) {
        return Err(Box::new(own(StatusCode::OK, "")));
    }
    let origin = Origin { client: peer.ip(), scheme: "http", authority: authority.as_ref(), version: head.version };
    forward::to_server(&mut head.headers, origin, live.config.proxy.as_str());
    if body.size_hint().exact().is_none() {
        // hyper would take GET and HEAD to have no body.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let path = head.uri.path_and_query().cloned();
    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    Ok((flight, Request::from_parts(head, Upload::new(body, live.config.limits.body_stall))))
}

/// A request that was admitted.
struct Exchange<'l> {
    live: &'l Live,
    flight: Flight,
    method: Method,
    version: Version,
    tried: Vec<usize>,
}

impl Exchange<'_> {
    async fn run(mut self, mut request: Request<Upload>) -> Response<Body> {
        let service = Arc::clone(self.flight.service());
        let is_replayable = plan::is_replayable(&self.method, !request.body().is_end_stream());
        let Some(mut chosen) = service.choose(&self.tried) else { return self.no_server() };
        let mut may_reuse = true;
        loop {
            let server = &service.servers[chosen];
            self.flight.move_to(server);
            let failed = match self.attempt(server, request, is_replayable, may_reuse).await {
                Ok(response) => return self.deliver(response),
                Err(failed) => failed,
            };
            let retries_left = self.live.config.retries.saturating_sub(self.tried.len() as u32);
            let next = plan::next(failed.failure, retries_left, is_replayable);
            log(&service, server, &failed, next);
            match (next, failed.request) {
                (Next::Answer(answer), _) => return give_up(answer),
                (Next::NewConnection, Some(again)) => {
                    may_reuse = false;
                    request = again;
                }
                (Next::AnotherServer(answer), Some(again)) => {
                    self.tried.push(chosen);
                    let Some(other) = service.choose(&self.tried) else { return give_up(answer) };
                    (chosen, may_reuse, request) = (other, true, again);
                }
                (Next::NewConnection | Next::AnotherServer(_), None) => return give_up(Answer::BadGateway),
            }
        }
    }

    /// One attempt on one server.
    async fn attempt(
        &self,
        server: &Arc<Server>,
        request: Request<Upload>,
        is_replayable: bool,
        may_reuse: bool,
    ) -> Result<Response<Incoming>, Failed> {
        let limits = &self.live.config.limits;
        let kept = if may_reuse { server.pool.kept(limits.upstream_idle) } else { None };
        let lease = match kept {
            Some(lease) => lease,
            None => match server.pool.connect(limits).await {
                Ok(lease) => lease,
                Err((failure, cause)) => return Err(Failed { failure, cause, request: Some(request) }),
            },
        };
        let spare = (is_replayable && lease.connection() == Connection::Kept).then(|| spare(&request));
        match lease.send(server, request, limits.response_head).await {
            Ok(response) => match why_unfit(&response) {
                None => Ok(response),
                // The server has acted on the request: it is not for another connection.
                Some(cause) => {
                    Err(Failed { failure: Failure::Broken(Connection::New), cause: cause.to_owned(), request: None })
                }
            },
            Err(failed) => Err(Failed { request: failed.request.or(spare), ..failed }),
        }
    }

    fn deliver(self, response: Response<Incoming>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        tracing::debug!(service = %self.flight.service().name, status = head.status.as_u16(), "answered");
        forward::to_client(&mut head.headers, &self.method, head.version, self.live.config.proxy.as_str());
        head.version = self.version;
        Response::from_parts(head, Body::relayed(body, self.live.config.limits.body_stall, self.flight))
    }

    fn no_server(&self) -> Response<Body> {
        let service = self.flight.service();
        if let Some(left_out) = service.refusals.pass(Instant::now()) {
            tracing::warn!(service = %service.name, left_out, "request failed: no server is up");
        }
        let mut response = own(StatusCode::SERVICE_UNAVAILABLE, "no server is up");
        // The soonest that its checks can bring a server back.
        let soonest = service.config.check.interval.saturating_mul(service.config.check.rise);
        let secs = soonest.as_secs() + u64::from(soonest.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
        response
    }
}

/// One line a second for a server, whatever happens; what clients do is told only to those who ask for it.
fn log(service: &Service, server: &Server, failed: &Failed, next: Next) {
    let (service, cause) = (service.name.as_str(), failed.cause.as_str());
    if failed.failure.is_of_client() {
        tracing::debug!(service, server = %server.name, cause, ?next, "request failed");
    } else if let Some(left_out) = server.failures.pass(Instant::now()) {
        tracing::warn!(service, server = %server.name, cause, ?next, left_out, "request failed");
    }
}

/// Why no client may get `response`; `None` when it may.
fn why_unfit(response: &Response<Incoming>) -> Option<&'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Upgrade is not forwarded.
        Some("status 101 without an upgrade")
    } else if !forward::is_coding_known(response.headers()) {
        Some("transfer coding that nobody asked for: expected chunked alone")
    } else {
        None
    }
}

/// The same request without a body, to be sent again.
fn spare(request: &Request<Upload>) -> Request<Upload> {
    let mut spare = Request::new(Upload::empty());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.headers_mut() = request.headers().clone();
    spare
}

fn give_up(answer: Answer) -> Response<Body> {
    match answer {
        Answer::BadGateway => own(StatusCode::BAD_GATEWAY, "the server failed"),
        Answer::GatewayTimeout => own(StatusCode::GATEWAY_TIMEOUT, "the server did not answer in time"),
        Answer::RequestTimeout => *refuse(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time"),
        Answer::BadRequest => *refuse(StatusCode::BAD_REQUEST, "the body of the request is broken"),
    }
}

/// An answer after which nothing more is read from the client.
fn refuse(status: StatusCode, text: &str) -> Box<Response<Body>> {
    let mut response = own(status, text);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Box::new(response)
}

/// An answer of the proxy itself: one line of text.
pub fn own(status: StatusCode, text: &str) -> Response<Body> {
    let text = if text.is_empty() { String::new() } else { format!("{text}\n") };
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
