//! All records of a signed zone in one row, as its secondaries get them.

use shared::topology::Topology;

use super::super::Content;
use super::super::compile::Compiler;
use super::super::content::{Collector, default_rrsets};
use super::denial::Proofs;
use super::piece::{self, Piece};
use super::{Signing, ttls};
use crate::wire::Rtype;

/// All that the zone of `compiler` says, with the signatures of what it answers for (RFC 4035, section 2.2), and the chain
/// of its denial records, whose pieces are in `octets`; steered names as [`Content::of`] has them.
pub(super) fn content(
    compiler: &Compiler<'_>,
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
    for (owner, rrsets) in &zone.nodes {
        let cut = zone.cut_of(owner);
        for rrset in rrsets {
            let rdatas: Vec<&[u8]> = rrset.rdatas().collect();
            // At a delegation only DS is ours; below one nothing is.
            let is_signed = cut.is_none_or(|cut| rrset.rtype == Rtype::DS && cut.len() == owner.len());
            add(owner, rrset.rtype, rrset.ttl, &rdatas, is_signed);
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
