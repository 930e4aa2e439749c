//! `[http2]`.

use shared::settings::Table;

/// Where HTTP/2 is spoken to clients, and what one of its connections may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Http2 {
    /// Clients with TLS may choose it (ALPN).
    pub tls: bool,
    /// Clients without TLS may begin with it (RFC 9113, section 3.3).
    pub cleartext: bool,
    /// Requests of one connection at one time.
    pub streams: u32,
    /// Octets of the body of one request that are held while its server takes none.
    pub stream_window: u32,
    /// The same for all requests of a connection together.
    pub connection_window: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { tls: true, cleartext: true, streams: 100, stream_window: 128 * 1024, connection_window: 256 * 1024 }
    }
}

pub(super) fn http2(table: &Table<'_>) -> Http2 {
    let default = Http2::default();
    let flag = |key: &str, default: bool| table.value(key).and_then(|value| value.flag()).unwrap_or(default);
    let count = |key: &str, range, default: u32| {
        let count = table.value(key).and_then(|value| value.integer(range));
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    let windows = 65_535..=16_777_216;
    let stream_window = count("stream_window", windows.clone(), default.stream_window);
    let connection_window = count("connection_window", windows, default.connection_window.max(stream_window));
    if connection_window < stream_window {
        let what =
            format_args!("{connection_window} is less than stream_window, {stream_window}: expected at least that");
        table.problem("connection_window", what);
    }
    Http2 {
        tls: flag("tls", default.tls),
        cleartext: flag("cleartext", default.cleartext),
        streams: count("streams", 1..=1000, default.streams),
        stream_window,
        connection_window,
    }
}
