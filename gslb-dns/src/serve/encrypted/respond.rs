//! Answering one message of a transport that a library serves.

use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing::error;

use crate::answer::{Peer, Turn, answer};
use crate::serve::tcp::Lane;
use crate::wire::pad;

/// The answer to `query` of `peer`, padded where that is asked for; `None` where none is due. To be called on the thread
/// of `lane` alone.
///
/// Waits for nothing as yet: what the engine would leave to the edge is to be awaited here.
pub(super) async fn respond(lane: &Lane, peer: IpAddr, unix_secs: u32, query: &[u8]) -> Option<Vec<u8>> {
    let live = lane.live.load();
    let (turn, peer) = (Turn::unlimited(unix_secs), Peer { address: peer, transport: lane.transport });
    ROOM.with_borrow_mut(|room| {
        let outcome = catch_unwind(AssertUnwindSafe(|| answer(&live.snapshot, &turn, &peer, query, room)));
        let Ok(outcome) = outcome else {
            lane.counters.count_panic();
            error!(address = %peer.address, "a query broke the engine: a bug, please report it");
            return None;
        };
        let len = lane.counters.count(&outcome, &live.region_slots)?;
        let len = pad(query, room, len);
        room.get(..len).map(<[u8]>::to_vec)
    })
}

thread_local! {
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; usize::from(u16::MAX)].into());
}
