//! From the octets of a request to what is sent to a server, or to the answer that refuses it.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::rc::Rc;

use super::answer::{Answer, Own, Saying};
use super::body::Body;
use super::client::{After, Next, Peer};
use super::exchange::{Asked, Exchange, Wish};
use super::record::{By, Cause, Protocol, Record};
use super::upload::Upload;
use crate::access::Captured;
use crate::balance::{Policy, Sticky, hash};
use crate::clock::unix_secs;
use crate::config::{Config, Limits, ServerProtocol, ServiceConfig};
use crate::forward;
use crate::forwarded::Seen;
use crate::http1::{
    Edits, Framing, HeadLimits, Header, Hop, Persistence, Refusal, Request, Version, list, read_request, write_request,
};
use crate::local::{Flight, Local};
use crate::plan;
use crate::route;
use crate::routes::{self, Action, Route, Routes, write_location};
use crate::stick::{self, Stick};
use crate::worker::Worker;

/// What becomes of the octets of a request.
pub(super) enum Admission {
    /// Its head is not whole; it began when this says.
    Partial(Record),
    /// It is answered here or forwarded; so many octets are done with.
    Next(Next, usize),
}

/// A request as far as its head goes.
struct Admitted {
    flight: Flight,
    asked: Asked,
    wish: Wish,
    head: Vec<u8>,
    head_len: usize,
    body: Body,
}

/// The bounds on a head.
pub(super) fn limits(config: &Config) -> HeadLimits {
    let head = config.limits.head_octets;
    HeadLimits { head, target: head / 2 }
}

/// Reads the request at the front of `bytes`, which came from `peer`.
///
/// `before` it its connection has carried so many others.
pub(super) fn admit(worker: &Rc<Worker>, peer: Peer, mut record: Record, bytes: &mut [u8], before: u32) -> Admission {
    let local = worker.current();
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; Limits::FIELDS_MAX];
    let slots = &mut slots[..local.live.config.limits.fields.min(Limits::FIELDS_MAX)];
    let admitted = match read_request(bytes, slots, limits(&local.live.config)) {
        Ok(None) => return Admission::Partial(record),
        Ok(Some(mut request)) => {
            let most = local.live.config.limits.requests_per_connection;
            if worker.is_stopping() || most.is_some_and(|most| before + 1 >= most) {
                request.persistence = Persistence::Close;
            }
            admit_head(worker, &local, peer, &mut record, &request)
        }
        Err(refusal) => Err((refuse(&mut record, refusal), bytes.len())),
    };
    match admitted {
        Ok(admitted) => admit_body(worker, admitted, record, bytes),
        Err((answer, consumed)) => Admission::Next(Next::Answer(Box::new(Own::new(answer, record))), consumed),
    }
}

/// Takes the head of a request that came in HTTP/2, whose body is read as that of one in HTTP/1.1; never partial.
pub(super) fn admit_stream(worker: &Rc<Worker>, peer: Peer, mut record: Record, request: &Request<'_>) -> Admission {
    let local = worker.current();
    match admit_head(worker, &local, peer, &mut record, request) {
        Ok(admitted) => admit_body(worker, admitted, record, &mut []),
        Err((answer, consumed)) => Admission::Next(Next::Answer(Box::new(Own::new(answer, record))), consumed),
    }
}

/// What a request is answered that is refused for what it says.
pub(super) fn refuse(record: &mut Record, refusal: Refusal) -> Answer {
    let text = refusal.to_string();
    let answer = Answer::refusal(refusal.status, &text);
    record.refuse(refusal.reason, text);
    answer
}

/// Writes the head for a server; or the answer, with the octets that are done with then.
fn admit_head(
    worker: &Worker,
    local: &Rc<Local>,
    peer: Peer,
    record: &mut Record,
    request: &Request<'_>,
) -> Result<Admitted, (Answer, usize)> {
    let protocol = if peer.is_http2 { Protocol::Http2 } else { request.version.into() };
    record.admit(protocol);
    if let Some(log) = &local.live.config.access_log {
        record.text = Some(Captured::of(request, protocol, log, worker.buffers.take()));
    }
    let is_head = request.method == "HEAD";
    // With a body on its way the next request is nowhere to be found.
    let after = match (request.body, request.persistence, request.version) {
        (Framing::Empty, Persistence::KeepAlive, Version::V11) => After::Next,
        (Framing::Empty, _, _) => After::Close,
        _ => After::Linger,
    };
    let own = |status, text| (Answer::new(Saying { status, text, lines: "", is_head, after }), request.len);
    if request.method == "CONNECT" {
        record.end(By::Proxy, Cause::Refused, "CONNECT is not supported");
        return Err((Answer::refusal(501, "CONNECT is not supported"), request.len));
    }
    let seen = Seen {
        peer: peer.address.ip(),
        scheme: if peer.is_secure { "https" } else { "http" },
        authority: request.host.map(|host| host.as_str()),
    };
    let mut edits = worker.buffers.edits.borrow_mut();
    edits.clear();
    let config = &local.live.config;
    let origin = config.forwarded.trace(seen, request.fields, &mut edits);
    if origin.client != seen.peer && config.access_log.is_some() {
        record.client = Some(Box::new(origin.client));
    }
    if let Some((status, text, lines)) = shed(worker, config, origin.client, record) {
        return Err((Answer::new(Saying { status, text, lines: &lines, is_head, after }), request.len));
    }
    let host = request.host.map(|authority| route::host(authority.host()));
    let route = find_route(&config.routes, request, host.as_deref(), origin.scheme == "https");
    let service = match route.map(|(_, route)| &route.action) {
        None | Some(Action::ByHost) => local.live.service(host.as_deref()),
        Some(Action::Service(name)) => local.live.service(Some(name.as_str())),
        Some(Action::RedirectToHttps { status, port }) => return Err(redirect(request, *status, *port, after)),
    };
    let body_max = route.and_then(|(_, route)| route.body_octets).or(config.limits.body_octets).unwrap_or(u64::MAX);
    if let Framing::Length(length) = request.body
        && length > body_max
    {
        record.end(By::Proxy, Cause::TooLarge, format!("body of more than {body_max} octets"));
        return Err(own(413, "the body of the request is too large"));
    }
    let Some(mut flight) = service.and_then(|service| Flight::new(Rc::clone(local), service)) else {
        record.end(By::Proxy, Cause::NoService, "");
        return Err(own(421, "no such service here"));
    };
    if !forward::count_forward(request, &mut edits) {
        return Err(own(200, ""));
    }
    forward::to_server(request, peer.is_http2, config.proxy.as_str(), &mut edits);
    if flight.service().config.protocol == ServerProtocol::Http2 && takes_trailers(request) {
        edits.append("TE", &[b"trailers"]);
    }
    if let Some(Stick::Table(prefixes, _)) = flight.service().config.stick {
        flight.remember(prefixes.of(origin.client));
    }
    let mut wish = Wish::of(&flight.service().config, origin.client, request, &mut edits);
    if let Some((index, route)) = route {
        route.request.apply(request.fields, &mut edits);
        wish.route = Some(index);
    }
    let mut admitted = write_head(worker, peer, request, &edits, flight, wish);
    admitted.asked.body_max = body_max;
    Ok(admitted)
}

/// The status, text and further lines of the answer to a request of `client` that is refused however good it is: there is
/// more to do than time for it, or its client asks too often.
fn shed(worker: &Worker, config: &Config, client: IpAddr, record: &mut Record) -> Option<(u16, &'static str, String)> {
    if worker.is_overloaded() {
        record.end(By::Proxy, Cause::Overloaded, "");
        return Some((503, "too much to do", "Retry-After: 1\r\n".to_owned()));
    }
    let wait = worker.guests.ask(client, &config.clients).err()?;
    record.end(By::Proxy, Cause::TooMany, "");
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Some((429, "too many requests", format!("Retry-After: {secs}\r\n")))
}

/// Writes the head of an admitted request as its server shall see it.
fn write_head(
    worker: &Worker,
    peer: Peer,
    request: &Request<'_>,
    edits: &Edits,
    flight: Flight,
    wish: Wish,
) -> Admitted {
    let is_http1 = flight.service().config.protocol == ServerProtocol::Http1;
    let upgrade = request.upgrade.filter(|protocols| is_http1 && is_upgrade_allowed(request, protocols));
    let mut head = worker.buffers.take();
    if let Some(version) = flight.service().config.send_proxy {
        peer.introduce(version, &mut head);
    }
    write_request(&mut head, request, edits, request.body, upgrade.map_or(Hop::Persistent, Hop::Upgrade));
    let asked = Asked {
        is_head: request.method == "HEAD",
        is_idempotent: plan::is_idempotent(request.method),
        is_upgrade: upgrade.is_some(),
        expects_continue: request.expects_continue,
        version: request.version,
        persistence: request.persistence,
        body_max: u64::MAX,
    };
    let body = Body::new(request.body, request.body);
    Admitted { flight, asked, wish, head, head_len: request.len, body }
}

/// The route of a request and its index.
fn find_route<'c>(
    routes: &'c Routes,
    request: &Request<'_>,
    host: Option<&str>,
    is_https: bool,
) -> Option<(usize, &'c Route)> {
    if routes.routes.is_empty() {
        return None;
    }
    let (method, path_and_query, fields) = (request.method, request.target.path_and_query(), request.fields);
    let route = routes.find(&routes::Ask { method, host, path_and_query, fields, is_https })?;
    let index = routes.routes.iter().position(|one| std::ptr::eq(one, route))?;
    Some((index, route))
}

/// Sends the client to the same place over TLS.
fn redirect(request: &Request<'_>, status: u16, port: u16, after: After) -> (Answer, usize) {
    let Some(host) = request.host else { return (Answer::refusal(400, "no Host to be sent to"), request.len) };
    let mut location = Vec::new();
    write_location(host.host(), port, request.target.path_and_query(), &mut location);
    // A host and a target are of visible ASCII characters.
    let lines = format!("Location: {}\r\n", String::from_utf8_lossy(&location));
    let is_head = request.method == "HEAD";
    (Answer::new(Saying { status, text: "", lines: &lines, is_head, after }), request.len)
}

impl Wish {
    /// What a request of `client` wishes of `service`; `edits` gets what its server must see of that.
    fn of(service: &ServiceConfig, client: IpAddr, request: &Request<'_>, edits: &mut Edits) -> Self {
        let mut wish = Self { sticky: Sticky::Nothing, hash: None, cookie: stick::Asked::NOTHING, route: None };
        match &service.stick {
            None | Some(Stick::Table(..)) => {}
            Some(Stick::Source(prefixes)) => wish.sticky = Sticky::Hash(hash::of_address(prefixes.of(client))),
            Some(Stick::Cookie(cookie)) => {
                wish.cookie = cookie.ask(&service.keys, request.fields, unix_secs(), edits);
                wish.sticky = wish.cookie.server.map_or(Sticky::Nothing, Sticky::Server);
            }
        }
        if service.balance.rules.policy == Policy::Hash {
            wish.hash = service.balance.hash.request(client, request.target.path_and_query(), request.fields);
        }
        wish
    }
}

/// Adds what is there of the body.
fn admit_body(worker: &Rc<Worker>, admitted: Admitted, mut record: Record, bytes: &mut [u8]) -> Admission {
    let Admitted { flight, mut asked, wish, mut head, head_len, mut body } = admitted;
    let (mut consumed, mut room) = (head_len, asked.body_max);
    if !body.is_done() && bytes.len() > head_len {
        let rest = &mut bytes[head_len..];
        let mut after = worker.buffers.take();
        let part = match body.take(rest, &mut head, &mut after) {
            Ok(part) => part,
            Err(refusal) => {
                let answer = refuse(&mut record, refusal);
                return Admission::Next(Next::Answer(Box::new(Own::new(answer, record))), bytes.len());
            }
        };
        let Some(left) = room.checked_sub(part.data.len() as u64) else {
            record.end(By::Proxy, Cause::TooLarge, format!("body of more than {} octets", asked.body_max));
            let answer = Answer::refusal(413, "the body of the request is too large");
            return Admission::Next(Next::Answer(Box::new(Own::new(answer, record))), bytes.len());
        };
        room = left;
        head.extend_from_slice(&rest[part.data]);
        head.extend_from_slice(&after);
        worker.buffers.give_back(after);
        consumed += part.consumed;
    }
    asked.expects_continue &= !body.is_done();
    let upload = Upload::new(head, body, room);
    let exchange = Exchange::new(Rc::clone(worker), flight, asked, wish, upload, record);
    Admission::Next(Next::Exchange(Box::new(exchange)), consumed)
}

/// Whether the client says so, as gRPC has it do.
fn takes_trailers(request: &Request<'_>) -> bool {
    let is_te = |field: &&Header<'_>| field.name.eq_ignore_ascii_case("te");
    let mut options = request.fields.iter().filter(is_te).flat_map(|field| list(field.value));
    options.any(|option| option.eq_ignore_ascii_case(b"trailers"))
}

/// WebSocket alone: of other protocols this proxy does not know what they would let pass.
fn is_upgrade_allowed(request: &Request<'_>, protocols: &[u8]) -> bool {
    request.method == "GET" && request.body == Framing::Empty && protocols.eq_ignore_ascii_case(b"websocket")
}
