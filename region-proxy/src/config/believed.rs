//! What is believed of those who connect: `[forwarded]` and `[proxy_protocol]`.

use std::net::SocketAddr;

use shared::settings::{Table, Value};

use crate::forwarded::{Family, Forwarded, Untrusted};
use crate::network::Network;

/// Where connections begin with a PROXY header, and from whom.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyProtocol {
    /// Those of `listen` where each connection must begin with one.
    pub listen: Vec<SocketAddr>,
    /// Who may connect there; empty: any.
    pub from: Vec<Network>,
}

/// Reads `[forwarded]`.
pub(super) fn forwarded(root: &Table<'_>) -> Forwarded {
    let default = Forwarded::default();
    let Some(table) = root.table("forwarded") else { return default };
    let families = [("x_forwarded", Family::XForwarded), ("forwarded", Family::Forwarded)];
    let written = table.value("write").map(|value| {
        let items = value.items("a list of \"x_forwarded\" and \"forwarded\"").unwrap_or_default();
        items.iter().filter_map(|item| item.choice(&families)).collect::<Vec<_>>()
    });
    let written = written.unwrap_or_else(|| vec![Family::XForwarded]);
    let untrusted = [("drop", Untrusted::Dropped), ("keep", Untrusted::Kept)];
    Forwarded {
        trusted: table.value("trusted").map(|value| networks(&value)).unwrap_or_default(),
        read: table.value("read").and_then(|value| value.choice(&families)).unwrap_or(default.read),
        writes_x_forwarded: written.contains(&Family::XForwarded),
        writes_forwarded: written.contains(&Family::Forwarded),
        untrusted: table.value("untrusted").and_then(|value| value.choice(&untrusted)).unwrap_or_default(),
    }
}

/// Reads `[proxy_protocol]`, whose addresses must be in `listen`.
pub(super) fn proxy_protocol(root: &Table<'_>, listen: &[SocketAddr]) -> ProxyProtocol {
    let Some(table) = root.table("proxy_protocol") else { return ProxyProtocol::default() };
    let value = table.required("listen", "those addresses of `listen` where connections begin with a PROXY header");
    let items = value.and_then(|value| value.items("a list of addresses with ports")).unwrap_or_default();
    let mut own = Vec::new();
    for item in items {
        match super::address(&item) {
            Some(address) if listen.contains(&address) => own.push(address),
            Some(address) => item.problem(format_args!("{address} is not in `listen`: expected one of its addresses")),
            None => {}
        }
    }
    ProxyProtocol { listen: own, from: table.value("from").map(|value| networks(&value)).unwrap_or_default() }
}

pub(super) fn networks(value: &Value<'_>) -> Vec<Network> {
    let items = value.items("a list of networks, such as \"192.0.2.0/24\"").unwrap_or_default();
    let mut networks: Vec<Network> = Vec::new();
    for item in items {
        match item.parsed(Network::parse) {
            Some(network) if networks.contains(&network) => item.problem(format_args!("{network} is there twice")),
            Some(network) => networks.push(network),
            None => {}
        }
    }
    networks
}
