//! Lines of JSON: each has all of these keys, in this order.
//!
//! ```text
//! time client client_port peer proxy tls protocol method host target service server status octets_up octets_down
//! request_ms queue_ms connect_ms response_ms total_ms reused retries redispatched queued_behind
//! clients service_in_flight server_in_flight termination cause detail request response
//! ```

use std::io::Write as _;
use std::time::Duration;

use super::date::Date;
use super::line::Line;
use super::octets;
use crate::relay::record::{Cause, Protocol, Record};

/// Appends the line of `record`, without its end.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, line: &Line<'_>, date: &Date<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    date.write_iso(out);
    // Writing to memory does not fail.
    let _ = write!(out, "\",\"client\":\"{}\"", line.client.ip());
    number(out, ",\"client_port\":", Some(line.client.port().into()));
    match line.peer {
        Some(peer) => {
            let _ = write!(out, ",\"peer\":\"{peer}\"");
        }
        None => out.extend_from_slice(b",\"peer\":null"),
    }
    text(out, ",\"proxy\":", Some(line.proxy));
    text(out, ",\"tls\":", line.tls);
    text(out, ",\"protocol\":", record.version.map(Protocol::as_str));
    out.push(b',');
    out.extend_from_slice(
        record.text.as_ref().map_or(b"\"method\":null,\"host\":null,\"target\":null", |text| text.asked()),
    );
    text(out, ",\"service\":", line.service);
    text(out, ",\"server\":", line.server);
    number(out, ",\"status\":", Some(record.status.into()).filter(|status| *status != 0));
    number(out, ",\"octets_up\":", Some(record.octets_up));
    number(out, ",\"octets_down\":", Some(record.octets_down));
    write_times(out, line);
    write_course(out, record, line);
    write_end(out, record);
    for (key, fields) in [
        (&b",\"request\":"[..], record.text.as_ref().map(|text| text.request())),
        (b",\"response\":", record.text.as_ref().map(|text| text.response())),
    ] {
        out.extend_from_slice(key);
        out.extend_from_slice(fields.filter(|fields| !fields.is_empty()).unwrap_or(b"{}"));
    }
    out.push(b'}');
}

fn write_times(out: &mut Vec<u8>, line: &Line<'_>) {
    let times = &line.times;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    number(out, ",\"request_ms\":", times.request.map(millis));
    number(out, ",\"queue_ms\":", times.queue.map(millis));
    number(out, ",\"connect_ms\":", times.connect.map(millis));
    number(out, ",\"response_ms\":", times.response.map(millis));
    number(out, ",\"total_ms\":", Some(millis(times.total)));
}

fn write_course(out: &mut Vec<u8>, record: &Record, line: &Line<'_>) {
    flag(out, ",\"reused\":", record.is_reused);
    number(out, ",\"retries\":", Some(record.retries.into()));
    flag(out, ",\"redispatched\":", record.is_redispatched);
    number(out, ",\"queued_behind\":", record.queued_behind.map(u64::from));
    number(out, ",\"clients\":", Some(line.clients));
    number(out, ",\"service_in_flight\":", line.service.map(|_| line.service_in_flight));
    number(out, ",\"server_in_flight\":", line.server.map(|_| line.server_in_flight));
}

fn write_end(out: &mut Vec<u8>, record: &Record) {
    let letters = record.termination().map(|letter| letter as u8);
    text(out, ",\"termination\":", std::str::from_utf8(&letters).ok());
    text(out, ",\"cause\":", record.cause.map(Cause::as_str));
    out.extend_from_slice(b",\"detail\":");
    if record.detail.is_empty() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        octets::json(out, record.detail.as_bytes());
        out.push(b'"');
    }
}

/// A text that is nobody's but ours: names from the settings, words.
fn text(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => {
            out.push(b'"');
            out.extend_from_slice(value.as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, key: &str, value: Option<u64>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => octets::number(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}
