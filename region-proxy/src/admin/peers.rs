//! The proxies beside this one: `GET /peers` for operators, in JSON, and their metrics.

use std::fmt;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::sheet::{Row, Sheet};
use super::{Asked, Reply};
use crate::live::Proxy;
use crate::peering::report::{PeerReport, SideReport};

/// All of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerList {
    /// Each of them.
    pub peers: Vec<PeerReport>,
    /// Connections that were turned away.
    pub strangers: u64,
}

impl PeerList {
    fn of(proxy: &Proxy) -> Self {
        Self { peers: proxy.peering.reports(), strangers: proxy.peering.strangers.load(Ordering::Relaxed) }
    }
}

/// Answers what is asked about peers by one who may; `None`: it is about something else.
pub(super) fn answer(proxy: &Proxy, asked: &Asked<'_>) -> Option<Reply> {
    match (asked.path, asked.method) {
        ("/peers", "GET" | "HEAD") => Some(Reply::json(&PeerList::of(proxy))),
        ("/peers", _) => Some(Reply::json_not_allowed("GET, HEAD")),
        _ => None,
    }
}

/// The metrics of all peers; none where there are none.
pub(super) fn encode(proxy: &Proxy, sheet: &mut Sheet<'_>) -> fmt::Result {
    let list = PeerList::of(proxy);
    if list.peers.is_empty() {
        return Ok(());
    }
    let rows = |read: fn(&SideReport) -> u64| {
        list.peers.iter().flat_map(move |peer| {
            let sides = [("told", &peer.told), ("heard", &peer.heard)];
            sides.map(|(side, report)| -> Row<'_, u64> {
                (vec![("peer", peer.proxy.as_str()), ("direction", side)], read(report))
            })
        })
    };
    let help = "Whether there is a connection by which a peer is told, or heard";
    sheet.gauges("region_proxy_peer_connected", help, rows(|side| side.is_open.into()))?;
    let help = "Changes of servers that a peer was told, or told";
    sheet.counters("region_proxy_peer_changes", help, rows(|side| side.words))?;
    let help = "Clients of stick tables that a peer was told, or told";
    sheet.counters("region_proxy_peer_clients", help, rows(|side| side.clients))?;
    let help = "Connections to the address for peers that were turned away";
    sheet.counter("region_proxy_peer_strangers", help, list.strangers)
}
