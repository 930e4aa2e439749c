//! What is told of a request that was admitted, once it has ended.

use super::{Exchange, Stage};
use crate::relay::client::Client;
use crate::relay::record::{By, Cause};
use crate::relay::tell::tell;
use crate::stick::{Stick, Told};

impl Exchange {
    /// Counts the failure of its server that its record just got.
    pub(super) fn note_failure(&self) {
        if let (Some(server), Some(cause)) = (self.flight.server(), self.record.cause)
            && cause.is_of_server()
        {
            server.tally.fail(self.flight.thread(), cause);
        }
    }

    /// Counts that another attempt follows that of its server.
    pub(super) fn note_retry(&self) {
        if let Some(server) = self.flight.server() {
            server.tally.retry(self.flight.thread());
        }
    }

    /// Tells of it, when its client wants no more of it.
    pub(in crate::relay) fn cancel(&mut self, client: &Client) {
        self.record.end(By::Client, Cause::ClientGone, "stream reset");
        self.report(client);
    }

    /// Tells of it.
    pub(super) fn report(&mut self, client: &Client) {
        let record = &mut self.record;
        match &self.stage {
            Stage::Tunnelling(_, tunnel) => {
                let [up, down] = tunnel.octets();
                record.octets_up += up;
                record.octets_down = down;
            }
            stage => {
                let own = if let Stage::Answering { sent, .. } = stage { *sent as u64 } else { 0 };
                record.octets_up = self.upload.octets();
                record.octets_down = self.download.octets() + own;
            }
        }
        if let Some(Stick::Cookie(_)) = &self.flight.service().config.stick {
            let asked = self.wish.cookie;
            // One that was tried first and failed was not known to be down.
            let is_lost = asked.server.is_some() && asked.server != record.server && !record.is_redispatched;
            let seen = if is_lost { 'D' } else { asked.seen.letter() };
            record.cookie = [seen, self.download.told().map_or('-', Told::letter)];
        }
        if let Some(text) = &mut record.text {
            text.add_response(self.download.shown());
        }
        tell(record, client.teller(), Some(&self.flight));
    }
}
