//! What becomes of a request when its server or its client fails it: another attempt, an answer of the proxy, or the end of
//! the connection.

use std::io::ErrorKind;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Exchange, Failed, Stage};
use crate::clock::{Tick, Waiting};
use crate::http1::{Persistence, Version};
use crate::plan::{self, Connection, Failure, Next};
use crate::relay::answer::{Answer, Saying};
use crate::relay::client::{After, Client};
use crate::relay::download::DownloadError;
use crate::relay::record::{By, Cause};
use crate::relay::upload::UploadError;
use crate::stream::Stream;

impl Exchange {
    /// What follows when the client does not send its body as it should.
    pub(super) fn blame_client(&mut self, error: UploadError) -> Result<Option<After>, Failed> {
        let (failure, by, why, cause) = match error {
            UploadError::Server(error) | UploadError::ClientGone(error) => {
                (Failure::ClientBroken, By::Client, Cause::ClientGone, error.to_string())
            }
            UploadError::ClientBroken(refusal) => {
                (Failure::ClientBroken, By::Proxy, Cause::ClientBroken, refusal.to_string())
            }
            UploadError::TooLarge => {
                let cause = format!("body of more than {} octets", self.asked.body_max);
                (Failure::ClientTooLarge, By::Proxy, Cause::TooLarge, cause)
            }
        };
        self.record.end(by, why, cause.as_str());
        if self.download.is_answered() { Ok(Some(After::Close)) } else { Err(Failed { failure, cause }) }
    }

    /// What follows when the response cannot be passed on.
    pub(super) fn blame(&mut self, error: DownloadError) -> Result<Option<After>, Failed> {
        let (is_answered, mut is_unseen) = (self.download.is_answered(), false);
        let (cause, is_bad) = match error {
            DownloadError::Client(error) => {
                tracing::debug!(cause = %error, "client gone");
                match self.download.has_all() {
                    true => self.record.end_last(By::Client, Cause::ClientGone, error.to_string()),
                    false => self.record.end(By::Client, Cause::ClientGone, error.to_string()),
                }
                return Ok(Some(After::Close));
            }
            DownloadError::Server(error) => {
                is_unseen = error.kind() == ErrorKind::ConnectionRefused;
                (self.cut.take().unwrap_or_else(|| error.to_string()), false)
            }
            DownloadError::Bad(cause) => (cause, true),
        };
        if is_bad {
            self.record.end(By::Proxy, Cause::BadResponse, cause.as_str());
        }
        if is_answered {
            return Ok(Some(self.break_off(By::Server, Cause::BrokenOff, &cause)));
        }
        let Stage::Relaying(_, connection) = self.stage else { return Ok(Some(After::Close)) };
        // A server that has begun to answer has acted on the request: it is not for another connection.
        let failure = match self.download.has_begun() || is_bad {
            true => Failure::BadResponse,
            // A stream that its server has never looked at: there may be room for it on another connection.
            false if is_unseen && !std::mem::replace(&mut self.was_refused, true) => Failure::Unsent(Connection::Kept),
            false if self.upload.is_unsent() || is_unseen => Failure::Unsent(connection),
            false => Failure::Broken(connection),
        };
        Err(Failed { failure, cause })
    }

    /// Has itself woken at `end`, and looks now and then whether the client has left without waiting for its answer.
    ///
    /// A client that sends no more may still read: only a connection that was reset is one that nobody waits on.
    pub(super) fn poll_client(&mut self, cx: &mut Context<'_>, client: &Client, end: Tick) -> Poll<After> {
        let now = Tick::now();
        if now.since(self.looked) >= LOOK {
            if client.socket.is_gone() {
                return Poll::Ready(self.leave_client(client));
            }
            self.looked = now;
        }
        self.worker.deadlines.arm(client.place, end.min(self.looked.after(LOOK)), Waiting::Busy, cx.waker());
        Poll::Pending
    }

    /// What follows when the proxy stops and waits no longer.
    #[cold]
    pub(super) fn stop(&mut self) -> After {
        self.record.cut();
        After::Reset
    }

    /// What follows when the client has left without waiting for its answer.
    pub(super) fn leave_client(&mut self, client: &Client) -> After {
        let text = "client gone before the end of its answer";
        tracing::debug!(peer = %client.peer.address, "{text}");
        self.record.end(By::Client, Cause::ClientGone, text);
        After::Close
    }

    /// Looks at the time limits, and has itself woken at the next.
    pub(super) fn poll_limits(&mut self, cx: &mut Context<'_>, client: &Client) -> Poll<Result<Option<After>, Failed>> {
        let limits = &self.flight.live().config.limits;
        let now = Tick::now();
        let mut next = Tick::NEVER;
        let mut is_late = |since: Tick, limit: Duration| {
            next = next.min(since.after(limit));
            now.since(since) >= limit
        };
        if !self.download.is_answered() {
            let limit = if self.awaits_client() { limits.body_stall } else { limits.response_head };
            if is_late(self.upload.progress.max(self.download.progress), limit) {
                return Poll::Ready(Err(self.late(limit)));
            }
        } else {
            let (by, why, limit) = match self.download.is_waiting_for_client() {
                true => (By::ClientLate, Cause::ClientLate, limits.client_stall),
                false => (By::ServerLate, Cause::BodyLate, limits.body_stall),
            };
            if !self.download.is_done() && is_late(self.download.progress, limit) {
                let cause = format!("nothing of the body passed for {limit:?}");
                return Poll::Ready(Ok(Some(self.break_off(by, why, &cause))));
            }
            let limit = limits.body_stall;
            if !self.is_upload_over() && is_late(self.upload.progress, limit) {
                if self.download.is_done() {
                    let text = format!("client sent nothing for {limit:?}");
                    self.record.end(By::ClientLate, Cause::ClientLate, text);
                    return Poll::Ready(Ok(Some(After::Close)));
                }
                self.cut = Some("the client sends no more".to_owned());
            }
        }
        self.poll_client(cx, client, next).map(|after| Ok(Some(after)))
    }

    /// Whether the client is to send more of its body, and does not itself wait for the server's word to do so.
    fn awaits_client(&self) -> bool {
        self.upload.is_waiting_for_client() && !self.download.holds_body_back()
    }

    fn late(&self, limit: Duration) -> Failed {
        if self.awaits_client() {
            Failed { failure: Failure::ClientLate, cause: format!("client sent nothing for {limit:?}") }
        } else {
            Failed { failure: Failure::ResponseLate, cause: format!("no response within {limit:?}") }
        }
    }

    /// Follows the plan after a failed attempt.
    pub(super) fn fail(&mut self, failed: Failed) {
        let retries_left = self.flight.live().config.retries.saturating_sub(self.tried.len() as u32);
        let can_repeat = self.asked.is_idempotent && self.upload.is_held();
        let next = plan::next(failed.failure, retries_left, can_repeat);
        self.log_failed(&failed, next);
        let failed_late = failed.failure == Failure::ResponseLate;
        self.record.end(failed.failure.into(), failed.failure.into(), failed.cause);
        if !failed.failure.is_of_client() {
            self.flight.failed();
            self.note_failure();
        }
        if failed_late && let Stage::Relaying(Stream::Lane(lane), _) = &mut self.stage {
            lane.retire();
        }
        self.cut = None;
        match next {
            Next::NewConnection if self.upload.is_replayable() => {
                self.note_retry();
                self.record.assign(self.flight.server_index().unwrap_or_default());
                self.connect();
            }
            Next::AnotherServer(answer) if self.upload.is_replayable() && self.flight.may_retry() => {
                self.note_retry();
                self.tried.extend(self.flight.server_index());
                (self.last_answer, self.stage) = (Some(answer), Stage::Choosing);
            }
            Next::Answer(answer) | Next::AnotherServer(answer) => self.give_up(answer),
            Next::NewConnection => self.give_up(plan::Answer::BadGateway),
        }
    }

    pub(super) fn give_up(&mut self, answer: plan::Answer) {
        let text = match answer {
            plan::Answer::BadGateway => "the server failed",
            plan::Answer::GatewayTimeout => "the server did not answer in time",
            plan::Answer::RequestTimeout => "the rest of the request did not come in time",
            plan::Answer::ContentTooLarge => "the body of the request is too large",
            plan::Answer::BadRequest => "the body of the request is broken",
        };
        self.answer(answer.status(), text, "");
    }

    pub(super) fn answer_no_server(&mut self, cause: Cause, why: &str) {
        let by = if cause == Cause::QueueLate { By::ServerLate } else { By::Server };
        self.record.end(by, cause, why);
        let service = self.flight.service();
        if let Some(left_out) = service.refusals.pass(Instant::now()) {
            tracing::warn!(service = %service.name, left_out, "request failed: {why}");
        }
        // The soonest that its checks can bring a server back.
        let soonest = service.config.check.interval.saturating_mul(service.config.check.rise);
        let secs = soonest.as_secs() + u64::from(soonest.subsec_nanos() > 0);
        self.answer(503, why, &format!("Retry-After: {secs}\r\n"));
    }

    fn answer(&mut self, status: u16, text: &str, lines: &str) {
        // However slowly the client reads this, no server has to do with it.
        self.flight.leave();
        let is_persistent = self.asked.persistence == Persistence::KeepAlive && !self.worker.is_stopping();
        let after = match (self.upload.is_held() || self.upload.is_done(), is_persistent) {
            (true, true) if self.asked.version == Version::V11 => After::Next,
            (true, _) => After::Close,
            (false, _) => After::Linger,
        };
        let answer = Answer::new(Saying { status, text, lines, is_head: self.asked.is_head, after });
        self.record.answer_here(answer.status);
        self.stage = Stage::Answering { answer, sent: 0, since: Tick::now() };
    }

    /// One line a second for a server, whatever happens; what clients do is told only to those who ask for it.
    fn log_failed(&self, failed: &Failed, next: Next) {
        let (service, cause) = (self.flight.service().name.as_str(), failed.cause.as_str());
        let Some(server) = self.flight.server() else { return };
        if failed.failure.is_of_client() {
            tracing::debug!(service, server = %server.name, cause, next = next.to_string(), "request failed");
        } else if let Some(left_out) = server.failures.pass(Instant::now()) {
            tracing::warn!(service, server = %server.name, cause, next = next.to_string(), left_out, "request failed");
            server.tally.note_failure(Timestamp::now(), cause.to_owned());
        }
    }

    /// The response cannot be passed on to its end, for `cause`.
    fn break_off(&mut self, by: By, why: Cause, cause: &str) -> After {
        self.record.end(by, why, cause);
        self.note_failure();
        if matches!(by, By::Server | By::ServerLate) {
            self.flight.failed();
        }
        if let Some(server) = self.flight.server()
            && let Some(left_out) = server.failures.pass(Instant::now())
        {
            let (service, name) = (self.flight.service().name.as_str(), server.name.as_str());
            tracing::warn!(service, server = name, cause, left_out, "response broke off");
            server.tally.note_failure(Timestamp::now(), format!("response broke off: {cause}"));
        }
        if self.download.ends_by_close() { After::Reset } else { After::Close }
    }
}

/// How often it is looked whether the client of a request that waits is still there.
const LOOK: Duration = Duration::from_secs(1);
