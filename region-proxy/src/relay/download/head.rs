//! The heads of a response: read from a server, changed by the settings, written for the client.

use std::mem::MaybeUninit;

use super::{Download, DownloadError, Outcome, Passing, Phase, Sent};
use crate::access::capture_response;
use crate::clock::unix_secs;
use crate::config::Limits;
use crate::forward;
use crate::http1::{self, Framing, Header, Hop, Persistence, Response, Version, read_response, write_response};
use crate::relay::admit;
use crate::relay::body::Body;
use crate::stick::Stick;
use crate::worker::Worker;

impl Download {
    /// Takes one head off the front of `bytes` and writes it for the client; its length, or `None` if it is not whole.
    pub(super) fn take_head(
        &mut self,
        worker: &Worker,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        passing: Passing<'_>,
    ) -> Result<Option<usize>, DownloadError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let config = &passing.flight.live().config;
        let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; Limits::FIELDS_MAX];
        let slots = &mut slots[..config.limits.fields.min(Limits::FIELDS_MAX)];
        let method = if self.asked.is_head { "HEAD" } else { "GET" };
        let asked = http1::Asked { method, upgrade: self.asked.is_upgrade };
        let read = read_response(bytes, slots, asked, admit::limits(config));
        let Some(response) = read.map_err(|error| DownloadError::Bad(error.to_string()))? else { return Ok(None) };
        if response.is_interim() {
            self.interims += 1;
            if self.interims > INTERIMS_MAX {
                return Err(DownloadError::Bad(format!("more than {INTERIMS_MAX} interim responses")));
            }
            self.pass_interim(worker, &response, scratch);
        } else {
            self.pass_final(worker, &response, scratch, passing);
        }
        Ok(Some(response.len))
    }

    /// RFC 9110, section 15.2: passed on, but not to HTTP/1.0, which knows none.
    fn pass_interim(&mut self, worker: &Worker, response: &Response<'_>, scratch: &mut Vec<u8>) {
        self.has_continued |= response.status == 100;
        if self.asked.version == Version::V11 {
            let mut edits = worker.buffers.edits.borrow_mut();
            edits.clear();
            write_response(scratch, response, &edits, Framing::Empty, Hop::Persistent);
        }
    }

    fn pass_final(&mut self, worker: &Worker, response: &Response<'_>, scratch: &mut Vec<u8>, passing: Passing<'_>) {
        let outgoing = response.body.for_client(self.asked.version);
        self.status = response.status;
        if let Some(log) = passing.flight.live().config.access_log.as_ref().filter(|log| !log.response.is_empty()) {
            capture_response(log, response.fields, &mut self.shown);
        }
        self.keeps_server = response.persistence == Persistence::KeepAlive;
        let finds_next = match passing.sent {
            Sent::Whole => true,
            Sent::Partly => self.keeps_server,
            Sent::Cut => false,
        };
        self.keeps_client &= outgoing != Framing::UntilClose && finds_next && !worker.is_stopping();
        self.keeps_client &= !self.holds_body_back();
        let hop = match (response.upgrade, self.keeps_client, self.asked.version) {
            (Some(protocol), _, _) => Hop::Upgrade(protocol),
            (None, false, _) => Hop::Close,
            (None, true, Version::V11) => Hop::Persistent,
            (None, true, Version::V10) => Hop::KeepAlive,
        };
        self.ends_by_close = outgoing == Framing::UntilClose;
        let mut edits = worker.buffers.edits.borrow_mut();
        edits.clear();
        forward::to_client(response, passing.flight.live().config.proxy.as_str(), &mut edits);
        let service = &passing.flight.service().config;
        if let (Some(Stick::Cookie(cookie)), Some(server)) = (&service.stick, passing.flight.server_index()) {
            let told =
                cookie.tell(&service.keys, &passing.wish.cookie, server, response.fields, unix_secs(), &mut edits);
            self.told = Some(told);
        }
        let routes = &passing.flight.live().config.routes.routes;
        if let Some(route) = passing.wish.route.and_then(|index| routes.get(index)) {
            route.response.apply(response.fields, &mut edits);
        }
        write_response(scratch, response, &edits, outgoing, hop);
        self.phase = if response.upgrade.is_some() {
            Phase::Done(Outcome::Switched)
        } else {
            Phase::Body(Body::new(response.body, outgoing))
        };
    }
}

/// Interim responses to one request: far more than hints and words of patience need.
const INTERIMS_MAX: u8 = 32;
