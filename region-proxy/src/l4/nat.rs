//! NAT and one-arm: the first packet of a flow gets another destination, and connection tracking sees to the rest.
//!
//! ```text
//! hook.dnat  ─► l4.NAME.v4 ─► a slot ─► l4.NAME.v4.to.SERVER: dnat      first packets alone
//! hook.count ─► l4.NAME.v4.count: by the server that answers           all packets, both ways
//! hook.refuse ─► l4.NAME.v4.refuse: nobody serves                       first packets alone
//! hook.snat: a source of the pool, by one-arm                           first packets alone
//! ```

use super::choice::Servers;
use super::draft::Draft;
use super::words::{Family, LAST, REFUSE, comes_in, numbered, one_of, protocols, set, to_each, to_ports};
use super::{Backend, Interface, Pool, Service};

/// Has `draft` pass on flows to the VIPs of `family`; `pools` are empty for plain NAT.
pub(super) fn draft(
    service: &Service,
    family: Family,
    interface: Option<&Interface>,
    pools: &[Pool],
    draft: &mut Draft,
) {
    let servers = Servers::of(service, family);
    let base = format!("l4.{}.{}", service.name, family.suffix());
    let to = |backend: &Backend| format!("{base}.to.{}", backend.name);
    for backend in &servers.open {
        let rewrite = rewrite(service, family, backend);
        let rules = service.protocols.iter().map(|protocol| format!("meta l4proto {} {rewrite}", protocol.as_str()));
        draft.chain(to(backend), rules.chain([LAST.to_owned()]).collect());
    }
    let choice = match (servers.slots(service.balance, family), &servers.open[..]) {
        (Some(_), [only]) => vec![format!("goto {}", to(only))],
        (Some(slots), _) => {
            let by_slot = numbered(slots.servers.iter().map(|backend| format!("goto {}", to(backend))));
            vec![format!("{} vmap {by_slot}", slots.by), LAST.to_owned()]
        }
        (None, _) => Vec::new(),
    };
    draft.chain(base.clone(), choice);
    draft.chain(format!("{base}.count"), count(service, family, &servers));
    let (come, vips) = (comes_in(interface), family.to_vips(service));
    for to in to_each(service, family) {
        draft.hooked("hook.dnat", DNAT, format!("{come}{to} goto {base}"));
    }
    if servers.open.is_empty() {
        draft.chain(format!("{base}.refuse"), REFUSE.map(str::to_owned).to_vec());
        let first = format!("{} ct state new", to_ports(service));
        draft.hooked("hook.refuse", REFUSAL, format!("{come}{vips} {first} goto {base}.refuse"));
    }
    for ours in original(service, family) {
        draft.hooked("hook.count", COUNT, format!("{ours} goto {base}.count"));
        for pool in pools.iter().filter(|pool| family.has(pool.first)) {
            draft.hooked("hook.snat", SNAT, format!("{ours} snat {} to {pool}", family.ip()));
        }
    }
}

/// The new destination. A flow keeps its port where the service has several.
fn rewrite(service: &Service, family: Family, backend: &Backend) -> String {
    let (ip, address) = (family.ip(), backend.address);
    match service.ports[..] {
        [ports] if ports.is_one() => format!("dnat {ip} to {address}"),
        _ => format!("dnat {ip} to {}", address.ip()),
    }
}

/// What is counted of packets that came to the VIPs, or answer such.
fn count(service: &Service, family: Family, servers: &Servers<'_>) -> Vec<String> {
    let ip = family.ip();
    let mut rules = vec![format!("counter name l4.{}", service.name)];
    let same =
        |backend: &Backend| servers.kept.iter().filter(|other| other.address.ip() == backend.address.ip()).count();
    let (alone, shared): (Vec<&Backend>, Vec<&Backend>) = servers.kept.iter().partition(|backend| same(backend) == 1);
    let by_address =
        alone.iter().map(|backend| format!("{} : \"l4.{}.{}\"", backend.address.ip(), service.name, backend.name));
    if !alone.is_empty() {
        rules.push(format!("counter name ct reply {ip} saddr map {}", set(by_address)));
    }
    for backend in shared {
        let server = format!("ct reply {ip} saddr {}", backend.address.ip());
        let port = format!("{} ct reply proto-src {}", protocols(service), backend.address.port());
        rules.push(format!("{server} {port} counter name l4.{}.{}", service.name, backend.name));
    }
    rules
}

/// A packet of a flow that was to the VIPs and ports of `service` when it began, either way; by each protocol.
fn original(service: &Service, family: Family) -> impl Iterator<Item = String> {
    let to = format!("ct status dnat ct original {} daddr {}", family.ip(), family.vips(service));
    let ports = format!("ct original proto-dst {}", one_of(&service.ports));
    service.protocols.iter().map(move |protocol| format!("{to} meta l4proto {} {ports}", protocol.as_str()))
}

const DNAT: &str = "nat hook prerouting priority dstnat";
/// Chains for NAT may not refuse: one that comes just before must.
const REFUSAL: &str = "filter hook prerouting priority mangle";
const COUNT: &str = "filter hook forward priority filter";
const SNAT: &str = "nat hook postrouting priority srcnat";
