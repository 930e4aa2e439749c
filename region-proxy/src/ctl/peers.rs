//! The proxies beside this one, for people.

use super::table;
use crate::admin::peers::PeerList;
use crate::peering::report::SideReport;

/// A line for each.
pub(super) fn show(list: &PeerList) -> String {
    if list.peers.is_empty() {
        return "no peers: expected [peers] in the settings\n".to_owned();
    }
    let state = |side: &SideReport| match side.is_open {
        true => format!("since {}", side.since.strftime("%Y-%m-%d %H:%M:%S UTC")),
        false => format!("no: {}", side.why),
    };
    let row = |peer: &crate::peering::report::PeerReport| {
        let count = |of: fn(&SideReport) -> u64| format!("{}/{}", of(&peer.told), of(&peer.heard));
        [
            peer.proxy.to_string(),
            peer.address.to_string(),
            count(|side| side.words),
            count(|side| side.clients),
            state(&peer.told),
            state(&peer.heard),
        ]
    };
    let rows: Vec<_> = list.peers.iter().map(row).collect();
    table(&["PEER", "ADDRESS", "CHANGES TOLD/HEARD", "CLIENTS TOLD/HEARD", "IS TOLD", "IS HEARD"], &rows)
}
