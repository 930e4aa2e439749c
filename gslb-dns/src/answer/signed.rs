//! Answers with signatures, for who asks for them (RFC 4035, section 3).

use super::dname::{Step, Walk, is_in_reach};
use super::{Answered, Peer, Snapshot, dname, steered};
use crate::limit::Account;
use crate::wire::{Query, Reply};
use crate::zone::{Dname, Found, FoundSigned, NamePlace, Signed};

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

/// The records of DNSSEC itself that are asked for without DO: they come all the same (RFC 4035, section 3.1). `None`: there
/// are none at the name.
#[cold]
pub(super) fn asked_for(snapshot: &Snapshot, query: &Query, reply: &mut Reply<'_>) -> Option<Answered> {
    let FoundSigned::Static(signed) = snapshot.zones.find_signed(query.qname(), query.qtype) else { return None };
    let name = NamePlace::question(query.qname().len());
    signed.is_of_dnssec().then(|| Answered::signed(&signed, signed.write(query.qname(), name, reply)))
}

/// As [`dname::answer`] does; the CNAME made from a signed DNAME has no signature (RFC 6672, section 5.3.1).
fn redirected<'a>(
    dname: Dname<'a>,
    snapshot: &'a Snapshot,
    peer: &Peer,
    query: &Query,
    reply: &mut Reply<'_>,
) -> Answered {
    dname::follow_all(dname, query, reply, |walk, reply| step(snapshot, peer, query, walk, reply))
}

/// What the zones say, with signatures as far as they are signed.
fn step<'a>(snapshot: &'a Snapshot, peer: &Peer, query: &Query, walk: &Walk, reply: &mut Reply<'_>) -> Step<'a> {
    let qname = walk.name();
    match snapshot.zones.find_signed(qname, query.qtype) {
        FoundSigned::Unsigned => dname::step(snapshot, peer, query, walk, reply),
        FoundSigned::Redirected(next) => Step::Redirected(next),
        FoundSigned::Static(signed) if is_in_reach(signed.tail().len(), reply) => {
            let counts = signed.write(qname, walk.place, reply);
            Step::Answered(Answered::signed(&signed, counts))
        }
        FoundSigned::Steered { steered, offer, signed } if is_in_reach(signed.tail().len(), reply) => {
            let asked = steered::Asked { snapshot, peer, query, name: walk.place, steered, offer };
            Step::Answered(asked.answer_signed(&signed, qname, reply))
        }
        FoundSigned::Static(_) | FoundSigned::Steered { .. } => Step::Left,
    }
}

impl Answered {
    fn signed(signed: &Signed<'_>, counts: [u16; 3]) -> Self {
        let (rcode, is_authoritative) = (signed.rcode(), signed.is_authoritative());
        Self { rcode, is_authoritative, counts, scope_len: 0, steered: None, account: Account::of(signed.start()) }
    }
}
