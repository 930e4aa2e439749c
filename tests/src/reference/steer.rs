//! Answers that depend on who asks: the client, its region, the records, and for whom they hold (RFC 7871, section 7).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;
use shared::failover::{Decision, decide};
use shared::place::ClientBlock;
use shared::snapshot::{Verdict, View};
use shared::topology::{Service, ServiceId};

use super::Reference;
use super::asked::{Asked, Subnet};
use super::places::Depth;

/// Who asks, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The client subnet option.
    pub(super) subnet: Option<&'a Subnet>,
    peer: IpAddr,
}

/// Who answers a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    /// Addresses of how many bits the answer holds for.
    pub(super) scope_len: u8,
    decision: Decision,
}

impl Chosen {
    /// What the client is told when no region is fit to serve it.
    pub(super) fn complaint(&self) -> Option<&'static str> {
        match (self.decision.first, self.decision.is_last_resort) {
            (None, _) => Some("no region may serve this client"),
            (Some(_), true) => Some("no region is fit to serve, the last resort answers"),
            (Some(_), false) => None,
        }
    }
}

impl<'a> Asker<'a> {
    pub(super) fn new(asked: &'a Asked, peer: IpAddr) -> Self {
        Self { subnet: asked.opt.as_ref().and_then(|opt| opt.subnet.as_ref()), peer }
    }

    /// The client's block where the resolver tells it, else the resolver itself.
    fn client(&self) -> (IpAddr, Depth) {
        match self.subnet.and_then(Subnet::address) {
            Some(address) => {
                let block = IpNet::new(address, block_len(address)).map(|block| block.trunc().addr());
                (block.unwrap_or(address), Depth::Subnet)
            }
            None => (canonical(self.peer), Depth::Resolver),
        }
    }
}

/// The types of `service` that depend on the region, as ANY prefers them.
pub(super) fn offers(view: &View, service: ServiceId) -> Vec<RecordType> {
    let service = view.topology.service(service);
    let has = |is_wanted: fn(&IpAddr) -> bool| service.vips.iter().flatten().any(is_wanted);
    let offered = [
        (RecordType::A, has(IpAddr::is_ipv4)),
        (RecordType::AAAA, has(IpAddr::is_ipv6)),
        (RecordType::HTTPS, service.https.is_some()),
        (RecordType::TXT, !service.txt.is_empty()),
        (RecordType::CNAME, !service.cname.is_empty()),
    ];
    offered.into_iter().filter_map(|(rtype, is_offered)| is_offered.then_some(rtype)).collect()
}

/// Decides for the client, and how far the decision holds.
///
/// ```text
/// the client is not told            0
/// clients of one order are split    the block
/// one order for everybody           0
/// else                              the largest prefix whose clients all have the same orders
/// ```
pub(super) fn choose(reference: &Reference<'_>, id: ServiceId, asker: &Asker<'_>) -> Chosen {
    let (topology, places) = (&reference.view.topology, reference.places);
    let (address, depth) = asker.client();
    let steering = topology.service(id).steering;
    let order = places.order(address, depth, steering);
    let decision = decide(topology, id, reference.view.service(id), order, ClientBlock::of(address));
    let scope_len = match depth {
        Depth::Resolver => 0,
        Depth::Subnet if decision.is_split => block_len(address),
        Depth::Subnet if places.is_uniform(steering) => 0,
        Depth::Subnet => places.leaf_len(address),
    };
    Chosen { scope_len, decision }
}

/// The records of type `qtype` that the chosen regions answer with.
pub(super) fn records(view: &View, id: ServiceId, chosen: &Chosen, qtype: RecordType, name: &Name) -> Vec<Record> {
    let service = view.topology.service(id);
    let mut vips: Vec<IpAddr> = Vec::new();
    for vip in chosen.decision.members.iter().flat_map(|member| service.vips_of(member)) {
        if !vips.contains(vip) {
            vips.push(*vip);
        }
    }
    let data: Vec<RData> = match qtype {
        RecordType::TXT => {
            let texts: BTreeSet<&String> =
                chosen.decision.members.iter().flat_map(|member| service.txt_of(member).unwrap_or_default()).collect();
            texts.into_iter().map(|text| RData::TXT(TXT::from_bytes(strings_of(text)))).collect()
        }
        RecordType::CNAME => {
            let target = chosen.decision.first.and_then(|member| service.cname_of(member));
            let target = target.and_then(|target| Name::from_labels(target.labels().map(str::as_bytes)).ok());
            target.map(|target| RData::CNAME(CNAME(target))).into_iter().collect()
        }
        RecordType::HTTPS if vips.is_empty() => Vec::new(),
        RecordType::HTTPS => vec![RData::HTTPS(HTTPS(https(service, &vips)))],
        _ => vips.iter().copied().map(address).filter(|data| data.record_type() == qtype).collect(),
    };
    let is_degraded = view.service(id).standings.iter().any(|standing| standing.verdict != Verdict::Serving);
    let ttl = if is_degraded { service.ttl_degraded } else { service.ttl };
    data.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)).collect()
}

/// Character-strings of at most 255 octets (RFC 1035, section 3.3.14).
fn strings_of(text: &str) -> Vec<&[u8]> {
    if text.is_empty() { vec![b""] } else { text.as_bytes().chunks(255).collect() }
}

fn address(vip: IpAddr) -> RData {
    match vip {
        IpAddr::V4(vip) => RData::A(A(vip)),
        IpAddr::V6(vip) => RData::AAAA(AAAA(vip)),
    }
}

/// A service in service mode at its own name, with hints of the chosen addresses (RFC 9460).
fn https(service: &Service, vips: &[IpAddr]) -> SVCB {
    let settings = service.https.clone().unwrap_or_default();
    let mut parameters = Vec::new();
    if !settings.alpn.is_empty() {
        parameters.push((SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(settings.alpn))));
    }
    parameters.extend(settings.port.map(|port| (SvcParamKey::Port, SvcParamValue::Port(port))));
    let v4: Vec<A> =
        vips.iter().filter_map(|vip| if let IpAddr::V4(vip) = vip { Some(A(*vip)) } else { None }).collect();
    let v6: Vec<AAAA> =
        vips.iter().filter_map(|vip| if let IpAddr::V6(vip) = vip { Some(AAAA(*vip)) } else { None }).collect();
    if !v4.is_empty() {
        parameters.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
    }
    if !v6.is_empty() {
        parameters.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
    }
    SVCB::new(1, Name::root(), parameters)
}

/// IPv4 in IPv6 form is IPv4.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => Ipv6Addr::to_ipv4_mapped(&v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

fn block_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 56 }
}
