//! All records of a signed zone in one row, as its secondaries get them.

use shared::topology::Topology;

use super::super::compile::Compiler;
use super::super::content::{Collector, default_rrsets};
use super::super::rdata::target_of;
use super::super::{Content, Zone};
use super::denial::Proofs;
use super::piece::{self, Piece};
use super::{Signing, ttls};
use crate::wire::Rtype;

/// All that the zone of `compiler` says, with the signatures of what it answers for (RFC 4035, section 2.2), and the chain
/// of its denial records, whose pieces are in `octets`; steered names as [`Content::of`] has them.
///
/// The denial records say that the zones `children` are delegated. Where this one has no records that do it, those of the
/// child stand in.
pub(super) fn content(
    compiler: &Compiler<'_>,
    children: &[&Zone],
    signing: &Signing,
    (proofs, octets): (&Proofs, &[u8]),
    topology: &Topology,
) -> Content {
    let (zone, apex) = (compiler.zone, compiler.apex());
    let mut collector = Collector::new();
    let mut add = |owner: &[u8], rtype: Rtype, ttl: u32, rdatas: &[&[u8]], is_signed: bool| {
        rdatas.iter().for_each(|rdata| collector.add(owner, rtype, ttl, rdata));
        let rrsigs = if is_signed { (signing.sign)(owner, rtype, ttl, rdatas) } else { Vec::new() };
        rrsigs.iter().for_each(|rrsig| collector.add(owner, Rtype::RRSIG, ttl, rrsig));
    };
    for (owner, rrsets) in &*zone.nodes {
        let cut = zone.cut_of(owner);
        for rrset in rrsets {
            let rdatas: Vec<&[u8]> = rrset.rdatas().collect();
            // At a delegation only DS is ours; below one nothing is.
            let is_signed = cut.is_none_or(|cut| rrset.rtype == Rtype::DS && cut.len() == owner.len());
            add(owner, rrset.rtype, rrset.ttl, &rdatas, is_signed);
        }
    }
    for child in children.iter().filter(|child| zone.cut_of(child.apex.as_wire()).is_none()) {
        let Some(delegation) = child.rrset(child.apex.as_wire(), Rtype::NS) else { continue };
        let targets = delegation.rdatas().filter_map(|rdata| target_of(Rtype::NS, rdata)).map(|target| target.folded());
        let glue = targets.flat_map(|target| [Rtype::A, Rtype::AAAA].map(|rtype| (target.clone(), rtype)));
        let glue = glue.filter_map(|(target, rtype)| Some((child.rrset(target.as_wire(), rtype)?, target)));
        for (rrset, owner) in std::iter::once((delegation, child.apex.clone())).chain(glue) {
            let rdatas: Vec<&[u8]> = rrset.rdatas().collect();
            add(owner.as_wire(), rrset.rtype, rrset.ttl, &rdatas, false);
        }
    }
    for (owner, &at) in compiler.names {
        let steered = &compiler.steered[at as usize];
        let [ttl, _] = ttls(steered, topology);
        for (rtype, rdatas) in default_rrsets(steered, topology) {
            let rdatas: Vec<&[u8]> = rdatas.iter().map(|rdata| &**rdata).collect();
            add(owner, rtype, ttl, &rdatas, true);
        }
    }
    for &at in proofs.pieces() {
        let piece = Piece::at(octets, at);
        let owner = [piece.prefix(), apex].concat();
        for (rtype, ttl, rdata) in piece.records().filter_map(piece::read_record) {
            collector.add(&owner, rtype, ttl, rdata);
        }
    }
    collector.finish(zone.apex.clone())
}
