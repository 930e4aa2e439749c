//! Lines as HAProxy's `option httplog` has them (its manual, section 8.2.3), and for connections that pass as they are as
//! its `option tcplog` does (section 8.2.2).

use std::io::Write as _;
use std::time::Duration;

use super::date::Date;
use super::line::Line;
use super::octets::number;
use crate::config::AccessLog;
use crate::relay::record::{Protocol, Record};

/// Appends the line of `record`, without its end.
pub(super) fn write(out: &mut Vec<u8>, log: &AccessLog, record: &Record, line: &Line<'_>, date: &Date<'_>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{}:{} [", line.client.ip(), line.client.port());
    date.write_haproxy(out);
    out.extend_from_slice(b"] ");
    out.extend_from_slice(line.proxy.as_bytes());
    if line.tls.is_some() {
        out.push(b'~');
    }
    for (name, before) in [(line.service.unwrap_or(line.proxy), b' '), (line.server.unwrap_or("<NOSRV>"), b'/')] {
        out.push(before);
        out.extend_from_slice(name.as_bytes());
    }
    if record.version == Some(Protocol::Tcp) {
        write_tcp_outcome(out, record, line);
        return write_counts(out, record, line);
    }
    write_times(out, line);
    write_outcome(out, record);
    write_counts(out, record, line);
    write_texts(out, log, record);
}

/// Tw, Tc, Tt, octets, and the termination state without the letters of cookies.
fn write_tcp_outcome(out: &mut Vec<u8>, record: &Record, line: &Line<'_>) {
    for (span, before) in [(line.times.queue, b' '), (line.times.connect, b'/')] {
        out.push(before);
        span_or_none(out, span);
    }
    out.push(b'/');
    number(out, millis(line.times.total));
    out.push(b' ');
    number(out, record.octets_down);
    out.push(b' ');
    out.extend(record.termination().into_iter().take(2).map(|letter| letter as u8));
}

fn write_times(out: &mut Vec<u8>, line: &Line<'_>) {
    let times = &line.times;
    for (span, before) in [(times.request, b' '), (times.queue, b'/'), (times.connect, b'/'), (times.response, b'/')] {
        out.push(before);
        span_or_none(out, span);
    }
    out.push(b'/');
    number(out, millis(times.total));
}

fn span_or_none(out: &mut Vec<u8>, span: Option<Duration>) {
    match span {
        Some(span) => number(out, millis(span)),
        None => out.extend_from_slice(b"-1"),
    }
}

/// Status, octets, two cookies that are never captured, termination state.
fn write_outcome(out: &mut Vec<u8>, record: &Record) {
    out.push(b' ');
    match record.status {
        0 => out.extend_from_slice(b"-1"),
        status => number(out, status.into()),
    }
    out.push(b' ');
    number(out, record.octets_down);
    out.extend_from_slice(b" - - ");
    out.extend(record.termination().map(|letter| letter as u8));
}

fn write_counts(out: &mut Vec<u8>, record: &Record, line: &Line<'_>) {
    let counts = [line.clients, line.clients, line.service_in_flight, line.server_in_flight];
    for (index, count) in counts.into_iter().enumerate() {
        out.push(if index == 0 { b' ' } else { b'/' });
        number(out, count);
    }
    out.extend_from_slice(if record.is_redispatched { b"/+" } else { b"/" });
    number(out, record.retries.into());
    let behind = u64::from(record.queued_behind.unwrap_or_default());
    let (of_server, of_service) = if record.is_queued_for_server { (behind, 0) } else { (0, behind) };
    out.push(b' ');
    number(out, of_server);
    out.push(b'/');
    number(out, of_service);
}

/// Fields where some are wanted, and the request line.
fn write_texts(out: &mut Vec<u8>, log: &AccessLog, record: &Record) {
    let Some(text) = &record.text else {
        for names in [&log.request, &log.response] {
            empty_block(out, names.len());
        }
        return out.extend_from_slice(b" \"<BADREQ>\"");
    };
    if !text.request().is_empty() {
        out.push(b' ');
        out.extend_from_slice(text.request());
    }
    if text.response().is_empty() {
        empty_block(out, log.response.len());
    } else {
        out.push(b' ');
        out.extend_from_slice(text.response());
    }
    out.extend_from_slice(b" \"");
    out.extend_from_slice(text.asked());
    out.push(b'"');
}

/// The block of so many fields of which there is none.
fn empty_block(out: &mut Vec<u8>, names: usize) {
    if names > 0 {
        out.extend_from_slice(b" {");
        out.extend(std::iter::repeat_n(b'|', names - 1));
        out.push(b'}');
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
