//! Updates (RFC 2136): who has signed one gets it done, and everybody else nothing.

use super::{Answers, SlowPath, pad_answer, refusal, refused};
use crate::answer::Peer;
use crate::reload::unix_secs;
use crate::serve::refusals::Reason;
use crate::serve::updates::UpdateRequest;
use crate::tsig::Request;
use crate::wire::{Query, Rcode};

impl SlowPath {
    /// Answers the update `message`, once it is on the disk and served.
    pub(super) async fn answer_update(&self, message: &[u8], query: Query, peer: Peer) -> (Answers, Rcode) {
        let refused = |rcode| refused(rcode, &query, message, peer);
        let request = match Request::split(message) {
            Ok(Some(request)) => request,
            // Whoever it is must say so by a key.
            Ok(None) => {
                self.note(Reason::UnsignedUpdate, peer, message, None, "an update must be signed by a key");
                return refused(Rcode::REFUSED);
            }
            Err(rcode) => {
                self.note(Reason::BrokenTsig, peer, message, None, "its TSIG record, or the message, is broken");
                return refused(rcode);
            }
        };
        let verified = request.verify(&self.live.load().world.tsig_keys, unix_secs());
        let mut session = match verified {
            Ok(session) => session,
            Err(rejection) => return self.rejected(*rejection, &query, message, peer, unix_secs()),
        };
        let asked = UpdateRequest {
            key: session.key().name().clone(),
            mac: request.mac().into(),
            end: request.end(),
            peer: peer.address,
            message: request.message().to_vec(),
        };
        let rcode = self.updates.ask(asked).await;
        let mut answer = refusal(&query, request.message(), rcode);
        pad_answer(message, peer, &mut answer, session.record_len());
        session.sign(&mut answer, unix_secs());
        (Answers::one(answer), rcode)
    }
}
