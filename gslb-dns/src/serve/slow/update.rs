//! Updates (RFC 2136): who has signed one gets it done, and everybody else nothing.

use super::{Answers, SlowPath, pad_answer, refusal, refused, rejected};
use crate::answer::Peer;
use crate::reload::unix_secs;
use crate::tsig::Request;
use crate::wire::{Query, Rcode};

impl SlowPath {
    /// Answers the update `message`, once it is on the disk and served.
    pub(super) async fn answer_update(&self, message: &[u8], query: Query, peer: Peer) -> (Answers, Rcode) {
        let refused = |rcode| refused(rcode, &query, message, peer);
        let request = match Request::split(message) {
            Ok(Some(request)) => request,
            // Whoever it is must say so by a key.
            Ok(None) => return refused(Rcode::REFUSED),
            Err(rcode) => return refused(rcode),
        };
        let verified = request.verify(&self.live.load().world.tsig_keys, unix_secs());
        let mut session = match verified {
            Ok(session) => session,
            Err(rejection) => return rejected(*rejection, &query, message, peer, unix_secs()),
        };
        let rcode = self.updates.ask(session.key().name().clone(), peer.address, request.message().to_vec()).await;
        let mut answer = refusal(&query, request.message(), rcode);
        pad_answer(message, peer, &mut answer, session.record_len());
        session.sign(&mut answer, unix_secs());
        (Answers::one(answer), rcode)
    }
}
