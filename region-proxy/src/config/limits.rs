//! `[limits]`.

use std::time::Duration;

use shared::settings::Table;

/// Bounds that keep one client or server from hurting the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Client connections served at one time, over all addresses; beyond them an idle one makes room, or newcomers wait.
    pub connections: usize,
    /// The longest head of a request or response, in octets.
    pub head_octets: usize,
    /// Fields that a head may have.
    pub fields: usize,
    /// The largest body of a request, in octets of data; `None`: any. A route may say otherwise.
    pub body_octets: Option<u64>,
    /// Requests that one connection may carry; `None`: any number.
    pub requests_per_connection: Option<u32>,
    /// From the start of a connection, or the first octet of a later request, to the whole head of the request.
    pub request_head: Duration,
    /// From the end of a response to the first octet of the next request.
    pub keep_alive: Duration,
    /// How late a thread may be twice in a row before it answers 503 at once; zero: however late.
    pub lag: Duration,
    /// From the start of a connection to the end of its TLS handshake.
    pub handshake: Duration,
    /// TLS handshakes under way at one time; the oldest makes room for one more.
    pub handshakes: usize,
    /// To connect to a server.
    pub connect: Duration,
    /// From the last octet of the request to the head of the response; a pause in the body of the request before that is
    /// bound by it too.
    pub response_head: Duration,
    /// How long either side may pause in a body that the other waits for.
    pub body_stall: Duration,
    /// How long an unused connection to a server is kept.
    pub upstream_idle: Duration,
    /// How long a client may leave sent octets unacknowledged.
    pub client_stall: Duration,
    /// How long a connection that has changed its protocol, as WebSocket does, may carry nothing.
    pub tunnel: Duration,
    /// How long requests in flight may take to finish when the proxy stops.
    pub stop: Duration,
    /// How long connections may take to finish once another process has taken over.
    pub handover: Duration,
}

impl Limits {
    /// More fields than this no head may have.
    pub const FIELDS_MAX: usize = 256;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_octets: 64 * 1024,
            fields: 128,
            body_octets: None,
            requests_per_connection: None,
            request_head: Duration::from_secs(30),
            keep_alive: Duration::from_secs(30),
            lag: Duration::from_secs(1),
            handshake: Duration::from_secs(10),
            handshakes: 1000,
            connect: Duration::from_secs(1),
            response_head: Duration::from_secs(30),
            body_stall: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(15),
            client_stall: Duration::from_secs(30),
            tunnel: Duration::from_secs(3600),
            stop: Duration::from_secs(10),
            handover: Duration::from_secs(600),
        }
    }
}

/// The largest body of a request: `body_octets` of `table`, `[limits]` or a route.
pub(super) fn body_octets(table: &Table<'_>) -> Option<u64> {
    table.value("body_octets").and_then(|value| value.integer(0..=i64::MAX)).map(|most| most as u64)
}

pub(super) fn limits(table: &Table<'_>) -> Limits {
    let default = Limits::default();
    let second = Duration::from_secs(1);
    let span = |key: &str, least: Duration, default: Duration| {
        table.value(key).and_then(|value| value.duration(least..=3600 * second)).unwrap_or(default)
    };
    let count = |key: &str, range, default: usize| {
        table.value(key).and_then(|value| value.integer(range)).map_or(default, |count| count as usize)
    };
    Limits {
        connections: count("connections", 1..=1_000_000, default.connections),
        head_octets: count("head_octets", 8192..=1_048_576, default.head_octets),
        fields: count("fields", 16..=Limits::FIELDS_MAX as i64, default.fields),
        body_octets: body_octets(table),
        requests_per_connection: table
            .value("requests_per_connection")
            .and_then(|value| value.integer(1..=1_000_000_000))
            .map(|most| most as u32),
        request_head: span("request_head", second / 10, default.request_head),
        keep_alive: span("keep_alive", second / 10, default.keep_alive),
        lag: span("lag", Duration::ZERO, default.lag),
        handshake: span("handshake", second / 10, default.handshake),
        handshakes: count("handshakes", 1..=1_000_000, default.handshakes),
        connect: span("connect", second / 100, default.connect),
        response_head: span("response_head", second / 10, default.response_head),
        body_stall: span("body_stall", second / 10, default.body_stall),
        upstream_idle: span("upstream_idle", Duration::ZERO, default.upstream_idle),
        client_stall: span("client_stall", second, default.client_stall),
        tunnel: span("tunnel", second, default.tunnel),
        stop: span("stop", Duration::ZERO, default.stop),
        handover: span("handover", Duration::ZERO, default.handover),
    }
}
