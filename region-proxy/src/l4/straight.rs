//! DSR and tunnels: packets of clients come by, answers do not, so that flows are remembered here and not by connection
//! tracking, which would take half a flow for a broken one.
//!
//! ```text
//! hook ─► l4.NAME.v4 ─► in the map ──► .known ─► its server ─► .to.SERVER
//!                    │                       └─► it is gone, or drains and this opens a flow ─► .again: forget
//!                    └► not in the map ─► .new ◄─────────────────────────────────────────────────────┘
//! .new   opens a flow, as each packet of UDP does: by turn, chance or hash ─► into the map
//!        else, or the map is full: by hash, so that a flow stays where it is without being remembered
//! hook ─► .error     an ICMP error goes where the flow goes that it is about
//! hook ─► .fragment  a part of a UDP datagram goes by its client's address: only the first has ports (DSR)
//! ```
//! What no server takes is refused.

use std::time::Duration;

use shared::settings::show_duration;

use super::choice::Servers;
use super::draft::Draft;
use super::words::{Family, LAST, REFUSE, SYN, comes_in, numbered, set, to_each};
use super::{Backend, Balance, Flows, Interface, Mac, Protocol, Service};

/// How packets leave for their server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exit<'p> {
    /// On the link that they came from.
    Link(&'p Interface, Mac),
    /// By a route for their mark.
    Mark {
        /// Where they come in, where that is said.
        interface: Option<&'p Interface>,
        /// The MTU of where they go.
        mtu: u16,
    },
}

/// Has `draft` pass on packets to the VIPs of `family`.
pub(super) fn draft(service: &Service, family: Family, exit: Exit<'_>, flows: Flows, draft: &mut Draft) {
    let servers = Servers::of(service, family);
    let base = format!("l4.{}.{}", service.name, family.suffix());
    let chains = Chains { service, family, servers: &servers, flows, map: flow_map(service, flows), base: &base };
    for backend in &servers.kept {
        draft.chain(chains.to(backend), vec![leave(service, backend, exit)]);
    }
    draft.chain(format!("{base}.to"), chains.by_number());
    draft.chain(format!("{base}.hash"), chains.hash());
    draft.chain(format!("{base}.new"), chains.new_flow());
    draft.chain(format!("{base}.again"), chains.again());
    draft.chain(format!("{base}.known"), chains.known());
    draft.chain(base.clone(), chains.entry(exit));
    draft.chain(format!("{base}.error"), chains.error(exit));
    if matches!(exit, Exit::Link(..)) && service.protocols.contains(&Protocol::Udp) {
        draft.chain(format!("{base}.fragment"), chains.fragment());
    }
    match exit {
        Exit::Link(interface, own) => hook_link(service, family, (interface, own), &base, draft),
        Exit::Mark { interface, mtu } => hook_routing(service, family, (interface, mtu), &base, draft),
    }
}

/// Has packets that come in by `interface`, whose address is `own`, go to the chains under `base`.
fn hook_link(service: &Service, family: Family, (interface, own): (&Interface, Mac), base: &str, draft: &mut Draft) {
    let name = format!("hook.{}", interface.as_str().replace('@', "/"));
    let hook = format!("filter hook ingress device \"{interface}\" priority filter");
    if !draft.has(&name) {
        // What a switch sends everywhere is not for us; else both of a pair would pass it on.
        draft.hooked(&name, &hook, format!("ether daddr != {own} ether daddr != {VIRTUAL_MACS} accept"));
    }
    draft.hooked(&name, &hook, format!("{} goto {base}.error", family.error(service)));
    let to = family.to_vips(service);
    if service.protocols.contains(&Protocol::Udp) {
        let is_part = match family {
            Family::V4 => "ip protocol udp ip frag-off & 0x3fff != 0",
            Family::V6 => "meta l4proto udp exthdr frag exists",
        };
        draft.hooked(&name, &hook, format!("{to} {is_part} goto {base}.fragment"));
    }
    for to in to_each(service, family) {
        draft.hooked(&name, &hook, format!("{to} goto {base}"));
    }
}

/// Has packets go to the chains under `base` before they are routed.
fn hook_routing(
    service: &Service,
    family: Family,
    (interface, mtu): (Option<&Interface>, u16),
    base: &str,
    draft: &mut Draft,
) {
    let come = comes_in(interface);
    if service.protocols.contains(&Protocol::Udp) {
        draft.defragmented();
    }
    draft.hooked("hook.mark", MARK, format!("{come}{} goto {base}.error", family.error(service)));
    for to in to_each(service, family) {
        draft.hooked("hook.mark", MARK, format!("{come}{to} goto {base}"));
    }
    if service.protocols.contains(&Protocol::Tcp) {
        draft.hooked("hook.mss", MSS, clamp(service, family, mtu));
    }
}

/// The map of all flows of `service`.
pub(super) fn flow_map(service: &Service, flows: Flows) -> String {
    format!("l4.{}.flows.{}", service.name, flows.most)
}

/// The chains of one service for one family.
struct Chains<'p> {
    service: &'p Service,
    family: Family,
    servers: &'p Servers<'p>,
    flows: Flows,
    map: String,
    base: &'p str,
}

impl Chains<'_> {
    fn entry(&self, exit: Exit<'_>) -> Vec<String> {
        let (base, flow) = (self.base, self.family.flow());
        let mut rules = untracked(exit);
        rules.push(format!("counter name l4.{}", self.service.name));
        rules.push(format!("meta mark set {flow} map @{} goto {base}.known", self.map));
        rules.push(format!("goto {base}.new"));
        rules
    }

    fn known(&self) -> Vec<String> {
        let base = self.base;
        let draining: Vec<u32> = self.servers.draining().map(|backend| backend.number.get()).collect();
        let mut rules = Vec::new();
        if !draining.is_empty() && self.service.protocols.contains(&Protocol::Tcp) {
            rules.push(format!("{SYN} meta mark {} goto {base}.again", set(draining)));
        }
        rules.push(self.remember(self.flows.idle));
        let to = |backend: &&Backend| format!("{} : goto {}", backend.number, self.to(backend));
        let kept = self.servers.kept.iter().map(to);
        let again = format!("* : goto {base}.again");
        rules.push(format!("meta mark vmap {}", set(kept.chain([again]))));
        rules.push(LAST.to_owned());
        rules
    }

    fn again(&self) -> Vec<String> {
        let forget = format!("delete @{} {{ {} : meta mark }}", self.map, self.family.flow());
        vec![forget, format!("goto {}.new", self.base)]
    }

    fn new_flow(&self) -> Vec<String> {
        let base = self.base;
        let Some(slots) = self.servers.slots(self.service.balance, self.family) else {
            return REFUSE.map(str::to_owned).to_vec();
        };
        let (idle, opening) = (self.flows.idle, self.flows.idle.min(OPENING));
        let has = |protocol| self.service.protocols.contains(&protocol);
        let mut rules = Vec::new();
        if !self.is_hashed() {
            let choose = format!("meta mark set {} map {}", slots.by, numbers(&slots.servers));
            // A map that is full ends the rule before it leads anywhere.
            if has(Protocol::Tcp) {
                rules.push(format!("{SYN} {choose} {} jump {base}.to", self.remember(opening)));
            }
            if has(Protocol::Udp) {
                rules.push(format!("meta l4proto udp {choose} {} jump {base}.to", self.remember(idle)));
            }
        }
        rules.push(format!("meta mark set {}", self.family.slot(self.service.balance, self.servers.hashed().len())));
        rules.push(format!("jump {base}.hash"));
        if has(Protocol::Tcp) {
            rules.push(format!("{SYN} {} jump {base}.to", self.remember(opening)));
        }
        rules.push(self.remember(idle));
        rules.push(format!("jump {base}.to"));
        rules.push(LAST.to_owned());
        rules
    }

    /// From the number of a slot, in the mark, to that of its server.
    fn hash(&self) -> Vec<String> {
        match (&self.servers.open[..], self.servers.hashed()) {
            ([], _) => vec![UNMARK.to_owned()],
            ([only], _) => vec![format!("meta mark set {}", only.number)],
            (_, slots) => vec![format!("meta mark set meta mark map {}", numbers(&slots))],
        }
    }

    /// From the number of a server to itself; back where it is gone.
    fn by_number(&self) -> Vec<String> {
        let to = |backend: &&Backend| format!("{} : goto {}", backend.number, self.to(backend));
        let kept: Vec<String> = self.servers.kept.iter().map(to).collect();
        if kept.is_empty() { Vec::new() } else { vec![format!("meta mark vmap {}", set(kept))] }
    }

    fn error(&self, exit: Exit<'_>) -> Vec<String> {
        let (base, family) = (self.base, self.family);
        let mut rules = untracked(exit);
        rules.push(format!("meta mark set {} map @{} jump {base}.to", family.flow_of_error(), self.map));
        if !self.servers.open.is_empty() {
            let slot = family.slot_of_error(self.service.balance, self.servers.hashed().len());
            rules.push(format!("meta mark set {slot}"));
            rules.push(format!("jump {base}.hash"));
            rules.push(format!("jump {base}.to"));
        }
        rules.push(UNMARK.to_owned());
        rules
    }

    fn fragment(&self) -> Vec<String> {
        if self.servers.open.is_empty() {
            return vec!["drop".to_owned()];
        }
        let slot = self.family.slot(Balance::Source, self.servers.hashed().len());
        let count = format!("counter name l4.{}", self.service.name);
        vec![
            count,
            format!("meta mark set {slot}"),
            format!("jump {}.hash", self.base),
            format!("jump {}.to", self.base),
        ]
    }

    /// Puts the flow into the map, with the number in the mark, or has it stay there for `time` from now.
    fn remember(&self, time: Duration) -> String {
        let time = show_duration(time);
        format!("update @{} {{ {} timeout {time} : meta mark }}", self.map, self.family.flow())
    }

    fn is_hashed(&self) -> bool {
        matches!(self.service.balance, Balance::Source | Balance::Maglev)
    }

    fn to(&self, backend: &Backend) -> String {
        format!("{}.to.{}", self.base, backend.name)
    }
}

fn numbers(slots: &[&Backend]) -> String {
    numbered(slots.iter().map(|backend| backend.number))
}

/// The last rule of a packet for `backend`.
fn leave(service: &Service, backend: &Backend, exit: Exit<'_>) -> String {
    let count = format!("counter name l4.{}.{}", service.name, backend.name);
    match (exit, backend.mac) {
        (Exit::Link(interface, own), Some(mac)) => {
            format!("{count} ether saddr set {own} ether daddr set {mac} fwd to \"{interface}\"")
        }
        _ => format!("{count} accept"),
    }
}

fn untracked(exit: Exit<'_>) -> Vec<String> {
    if matches!(exit, Exit::Mark { .. }) { vec!["notrack".to_owned()] } else { Vec::new() }
}

/// Has clients send segments that the tunnel can carry, where servers' answers come by here.
fn clamp(service: &Service, family: Family, mtu: u16) -> String {
    let (ip, vips) = (family.ip(), family.vips(service));
    let headers = if family == Family::V4 { 40 } else { 60 };
    let from = format!("{ip} saddr {vips} meta l4proto tcp th sport {}", set(&service.ports));
    let answer = "tcp flags & (syn | ack) == syn | ack";
    format!("{from} {answer} tcp option maxseg size set {}", mtu.saturating_sub(headers).max(MSS_MIN))
}

/// How long a client may take to say more than that it wants to connect: those who never do must not fill the map.
const OPENING: Duration = Duration::from_secs(30);

/// What goes on without us goes on without a mark.
const UNMARK: &str = "meta mark set 0";

/// Where a VIP may be besides (RFC 9568, section 7.3).
const VIRTUAL_MACS: &str = "00:00:5e:00:01:00-00:00:5e:00:02:ff";

/// Linux takes no less for its own either (`tcp_min_snd_mss`).
const MSS_MIN: u16 = 48;

const MARK: &str = "filter hook prerouting priority raw";
const MSS: &str = "filter hook forward priority mangle";
