//! Where all requests end: they are counted.

use std::net::SocketAddr;

use rustls::ProtocolVersion;

use super::record::Record;
use crate::clock::Tick;
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
    count(record, teller.worker, flight);
}

fn count(record: &Record, worker: &Worker, flight: Option<&Flight>) {
    let thread = worker.number;
    let Some(flight) = flight else {
        return worker.proxy.tally.answer(thread, record.status, record.cause, record.refusal);
    };
    let service = flight.service();
    service.tally().answer(thread, record.status, record.cause, record.is_redispatched);
    if let Some(server) = record.server.and_then(|server| service.servers.get(server)) {
        server.tally.pass(thread, record.octets_up, record.octets_down);
        if record.is_answered() {
            let times = record.times(Tick::now());
            server.tally.answer(thread, record.status, times.response, times.served.unwrap_or_default());
        }
    }
}
