//! Where all requests end: they are counted, and written down where that is wanted.

use std::net::SocketAddr;

use rustls::ProtocolVersion;

use super::record::{Record, Times};
use crate::access::Line;
use crate::clock::{Tick, unix_ms};
use crate::config::AccessLog;
use crate::live::Server;
use crate::local::Flight;
use crate::worker::Worker;

/// Who tells of a request.
#[derive(Clone, Copy, Debug)]
pub struct Teller<'t> {
    /// The thread that it was served by.
    pub worker: &'t Worker,
    /// Where its client is.
    pub address: SocketAddr,
    /// What TLS its client speaks to the proxy.
    pub tls: Option<ProtocolVersion>,
}

/// Tells of a request that has ended; `flight` is that of one that was admitted.
pub fn tell(record: &mut Record, teller: Teller<'_>, flight: Option<&Flight>) {
    let times = record.times(Tick::now());
    let worker = teller.worker;
    count(record, times, worker, flight);
    let current;
    let live = match flight {
        Some(flight) => flight.live(),
        None => {
            current = worker.current();
            &current.live
        }
    };
    if let Some(log) = &live.config.access_log {
        teller.write(log, live.config.proxy.as_str(), record, times, flight);
    }
    if let Some(text) = record.text.take() {
        worker.buffers.give_back(text.into_octets());
    }
}

/// Tells of a connection that passed as it is, or was to; `flight` is that of one whose service is known.
pub fn tell_connection(record: &Record, teller: Teller<'_>, flight: Option<&Flight>) {
    let times = record.times(Tick::now());
    let current = teller.worker.current();
    let live = flight.map_or(&*current.live, Flight::live);
    if let Some(log) = &live.config.access_log {
        teller.write(log, live.config.proxy.as_str(), record, times, flight);
    }
}

impl Teller<'_> {
    #[cold]
    fn write(self, log: &AccessLog, proxy: &str, record: &Record, times: Times, flight: Option<&Flight>) {
        let worker = self.worker;
        let service = flight.map(Flight::service);
        let server = flight.and_then(|flight| server(record, flight));
        let spent = u64::try_from(times.total.as_millis()).unwrap_or(u64::MAX);
        let line = Line {
            began_unix_ms: unix_ms().saturating_sub(spent),
            client: SocketAddr::new(
                record.client.as_deref().copied().unwrap_or(self.address.ip()),
                self.address.port(),
            ),
            peer: record.client.as_ref().map(|_| self.address.ip()),
            tls: self.tls.map(version),
            proxy,
            service: service.map(|service| service.name.as_str()),
            server: server.map(|server| server.name.as_str()),
            times,
            clients: worker.proxy.tally.open(),
            service_in_flight: service.map_or(0, |service| service.in_flight()),
            server_in_flight: server.map_or(0, |server| server.tally.in_flight()),
        };
        worker.pen.write(&worker.proxy.access, log, record, &line);
        if worker.is_stopping() {
            worker.pen.flush(&worker.proxy.access);
        }
    }
}

fn count(record: &Record, times: Times, worker: &Worker, flight: Option<&Flight>) {
    let thread = worker.number;
    let Some(flight) = flight else {
        return worker.proxy.tally.answer(thread, record.status, record.cause, record.refusal);
    };
    flight.service().tally().answer(thread, record.status, record.cause, record.is_redispatched);
    if let Some(server) = server(record, flight) {
        server.tally.pass(thread, record.octets_up, record.octets_down);
        if record.is_answered() {
            server.tally.answer(thread, record.status, times.response, times.served.unwrap_or_default());
        }
    }
}

/// Its last server.
fn server<'f>(record: &Record, flight: &'f Flight) -> Option<&'f Server> {
    flight.service().servers.get(record.server?).map(AsRef::as_ref)
}

fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2",
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => "unknown",
    }
}
