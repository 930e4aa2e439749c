//! Answers with signatures, for who asks for them (RFC 4035, section 3).

use super::dname::{DNAMES_MAX, Walk};
use super::{Answered, Peer, Snapshot, steered};
use crate::limit::Account;
use crate::wire::{Query, Rcode, Reply, Rtype};
use crate::zone::{Dname, Found, FoundSigned, NamePlace, POINTED_MAX, Signed};

/// The records of the answer, with signatures as far as the zone is signed.
#[inline(never)]
pub(super) fn records(snapshot: &Snapshot, peer: &Peer, query: &Query, reply: &mut Reply<'_>) -> Answered {
    let name = NamePlace::question(query.qname().len());
    match snapshot.zones.find_signed(query.qname(), query.qtype) {
        FoundSigned::Unsigned => match snapshot.zones.find(query.qname(), query.qtype) {
            // It may lead into a zone that is signed.
            Found::Redirected(dname) => redirected(dname, snapshot, peer, query, reply),
            _ => super::plain_records(snapshot, peer, query, reply),
        },
        FoundSigned::Static(signed) => Answered::signed(&signed, signed.write(query.qname(), name, reply)),
        FoundSigned::Redirected(dname) => redirected(dname, snapshot, peer, query, reply),
        FoundSigned::Steered { steered, offer, signed } => {
            let asked = steered::Asked { snapshot, peer, query, name, steered, offer };
            asked.answer_signed(&signed, query.qname(), reply)
        }
    }
}

/// As `dname::answer` does; the CNAME made from a signed DNAME has no signature (RFC 6672, section 5.3.1).
fn redirected<'a>(
    dname: Dname<'a>,
    snapshot: &'a Snapshot,
    peer: &Peer,
    query: &Query,
    reply: &mut Reply<'_>,
) -> Answered {
    let mut walk = Walk::start(query);
    let mut used: [Option<Dname<'_>>; DNAMES_MAX] = [None; DNAMES_MAX];
    let mut dname = dname;
    for at in 0..DNAMES_MAX {
        used[at] = Some(dname);
        if walk.follow(dname, reply).is_err() {
            return walk.end(dname, Rcode::YXDOMAIN);
        }
        if matches!(query.qtype, Rtype::CNAME | Rtype::ANY) {
            break;
        }
        let is_used = |next: Dname<'_>| used.iter().flatten().any(|used| used.is(next));
        let is_in_reach = |len: usize, reply: &Reply<'_>| reply.position() + len <= POINTED_MAX;
        let qname = walk.name();
        dname = match snapshot.zones.find_signed(qname, query.qtype) {
            FoundSigned::Redirected(next) if !is_used(next) => next,
            FoundSigned::Static(signed) if is_in_reach(signed.tail().len(), reply) => {
                let counts = signed.write(qname, walk.place, reply);
                return walk.join(Answered::signed(&signed, counts));
            }
            FoundSigned::Steered { steered, offer, signed } if is_in_reach(signed.tail().len(), reply) => {
                let asked = steered::Asked { snapshot, peer, query, name: walk.place, steered, offer };
                return walk.join(asked.answer_signed(&signed, qname, reply));
            }
            FoundSigned::Unsigned => match snapshot.zones.find(qname, query.qtype) {
                Found::Redirected(next) if !is_used(next) => next,
                Found::Static(tail) if is_in_reach(tail.len(), reply) => {
                    let counts = tail.write(walk.place, reply);
                    return walk.join(Answered::untailored(tail, counts));
                }
                Found::Steered { steered, offer, chain, empty } if is_in_reach(empty.len(), reply) => {
                    let asked = steered::Asked { snapshot, peer, query, name: walk.place, steered, offer };
                    return walk.join(asked.answer(chain, empty, reply));
                }
                _ => break,
            },
            FoundSigned::Redirected(_) | FoundSigned::Static(_) | FoundSigned::Steered { .. } => break,
        };
    }
    walk.end(dname, Rcode::NOERROR)
}

impl Answered {
    fn signed(signed: &Signed<'_>, counts: [u16; 3]) -> Self {
        let (rcode, is_authoritative) = (signed.rcode(), signed.is_authoritative());
        Self { rcode, is_authoritative, counts, scope_len: 0, steered: None, account: Account::of(signed.start()) }
    }
}
