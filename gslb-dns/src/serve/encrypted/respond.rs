//! Answering one message of a transport that a library serves.

use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::error;

use crate::answer::{Outcome, Peer, Transport, Turn, answer};
use crate::serve::slow::Channel;
use crate::serve::tcp::Lane;
use crate::wire::pad;

/// The answer to `query` of `peer`, padded where that is asked for; `None` where none is due. To be called on the thread
/// of `lane` alone.
pub(super) async fn respond(lane: &Lane, peer: IpAddr, unix_secs: u32, query: &[u8]) -> Option<Vec<u8>> {
    let peer = Peer { address: peer, transport: lane.transport };
    match respond_at_once(lane, peer, unix_secs, query) {
        Ok(answer) => answer,
        Err(Later) => {
            let channel = if lane.transport == Transport::Https { Channel::Web } else { Channel::OneMessage };
            lane.slow.answer(query, peer, channel).await.next()
        }
    }
}

/// The answer of the engine, or that it leaves it to the edge.
fn respond_at_once(lane: &Lane, peer: Peer, unix_secs: u32, query: &[u8]) -> Result<Option<Vec<u8>>, Later> {
    let (live, turn) = (lane.live.load(), Turn::unlimited(unix_secs));
    ROOM.with_borrow_mut(|room| {
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&live.snapshot, &turn, &peer, query, room)));
        let Ok(outcome) = outcome else {
            lane.counters.count_panic();
            error!(address = %peer.address, "a query broke the engine: a bug, please report it");
            return Ok(None);
        };
        if outcome == Outcome::Slow {
            return Err(Later);
        }
        let len = lane.counters.count(&outcome, &live.region_slots).map(|len| pad(query, room, len));
        Ok(len.and_then(|len| room.get(..len)).map(<[u8]>::to_vec))
    })
}

/// What the engine leaves to the edge.
struct Later;

thread_local! {
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; usize::from(u16::MAX)].into());
}
