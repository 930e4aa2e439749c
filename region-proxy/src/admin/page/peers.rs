//! The proxies beside this one on the page: who is told what is learned here, and who tells.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::super::html::Text;
use super::{pill, span, whole};
use crate::peering::report::{PeerReport, SideReport};

/// All `peers`; nothing where there are none.
pub(super) fn write(out: &mut String, peers: &[PeerReport], now: Timestamp) -> fmt::Result {
    if peers.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<section><div class=\"head\"><h2>Peers</h2></div><table class=\"wide\"><thead><tr><th>Peer</th>\
         <th>Is told</th><th>Is heard</th><th class=\"n\">Changes told, heard</th>\
         <th class=\"n\">Clients told, heard</th></tr></thead><tbody>",
    )?;
    peers.iter().try_for_each(|peer| write_peer(out, peer, now))?;
    out.write_str("</tbody></table></section>\n")
}

fn write_peer(out: &mut String, peer: &PeerReport, now: Timestamp) -> fmt::Result {
    let PeerReport { proxy, address, told, heard } = peer;
    write!(out, "<tr><td class=\"full\"><b>{}</b><small>{address}</small></td>", Text(proxy.as_str()))?;
    write_side(out, "Is told", told, now)?;
    write_side(out, "Is heard", heard, now)?;
    for (name, told, heard) in [("Changes", told.words, heard.words), ("Clients", told.clients, heard.clients)] {
        write!(out, "<td class=\"n\" data-name=\"{name} told, heard\">{}, {}</td>", whole(told), whole(heard))?;
    }
    out.write_str("</tr>\n")
}

fn write_side(out: &mut String, name: &str, side: &SideReport, now: Timestamp) -> fmt::Result {
    write!(out, "<td class=\"full\" data-name=\"{name}\">")?;
    match side.is_open {
        true => pill(out, "good", "yes")?,
        false => pill(out, "bad", "no")?,
    }
    write!(out, "<small>for {}</small>", span(side.since, now))?;
    if !side.why.is_empty() {
        write!(out, "<small class=\"bad-text\">{}</small>", Text(&side.why))?;
    }
    out.write_str("</td>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(why: &str) -> SideReport {
        let since = "2026-01-01T00:00:00Z".parse().expect("a time");
        SideReport { is_open: why.is_empty(), since, why: why.to_owned(), words: 2, clients: 1234 }
    }

    fn page(peers: &[PeerReport]) -> String {
        let mut out = String::new();
        write(&mut out, peers, "2026-01-01T00:01:05Z".parse().expect("a time")).expect("written");
        out
    }

    #[test]
    fn a_peer_shows_both_directions_and_why_one_is_broken() {
        let proxy = "seoul-2".parse().expect("a name");
        let address = "192.0.2.12:8082".parse().expect("an address");
        let page = page(&[PeerReport { proxy, address, told: side("refused <i>"), heard: side("") }]);
        let parts =
            ["<b>seoul-2</b><small>192.0.2.12:8082", ">no<", "refused &lt;i&gt;", ">yes<", "for 1 min 5 s", ">2, 2<"];
        for part in parts {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn without_peers_there_is_nothing() {
        assert_eq!(page(&[]), "");
    }
}
