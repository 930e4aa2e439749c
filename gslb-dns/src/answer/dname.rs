//! Names below a DNAME (RFC 6672).

use super::{Answered, Peer, Snapshot, steered};
use crate::limit::Account;
use crate::wire::{NAME_LEN_MAX, Query, Rcode, Reply, Rtype};
use crate::zone::{Dname, Found, NamePlace, POINTED_MAX};

/// Answers with the DNAME and the CNAME made from it, and goes on with the new name where that is ours too (RFC 6672,
/// section 3.2). The last name decides the response code; whatever is not followed is left to the resolver.
pub(super) fn answer<'a>(
    dname: Dname<'a>,
    snapshot: &'a Snapshot,
    peer: &Peer,
    query: &Query,
    reply: &mut Reply<'_>,
) -> Answered {
    follow_all(dname, query, reply, |walk, reply| step(snapshot, peer, query, walk, reply))
}

/// What comes of the name that a DNAME led to.
pub(super) enum Step<'a> {
    /// Another one.
    Redirected(Dname<'a>),
    /// An answer, which is written.
    Answered(Answered),
    /// Nothing that is answered here.
    Left,
}

/// The same, by the `step` from each name to what comes of it.
pub(super) fn follow_all<'a>(
    dname: Dname<'a>,
    query: &Query,
    reply: &mut Reply<'_>,
    step: impl Fn(&Walk, &mut Reply<'_>) -> Step<'a>,
) -> Answered {
    let mut walk = Walk::start(query);
    let mut used: [Option<Dname<'_>>; DNAMES_MAX] = [None; DNAMES_MAX];
    let mut dname = dname;
    for at in 0..DNAMES_MAX {
        used[at] = Some(dname);
        if walk.follow(dname, reply).is_err() {
            return walk.end(dname, Rcode::YXDOMAIN);
        }
        // What leads back to the owner of a DNAME would say that DNAME twice: it is left to the resolver who asks for one.
        if matches!(query.qtype, Rtype::CNAME | Rtype::ANY | Rtype::DNAME) {
            break;
        }
        match step(&walk, reply) {
            // One that comes a second time leads round in a circle, or to ever longer names.
            Step::Redirected(next) if used.iter().flatten().any(|used| used.is(next)) => break,
            Step::Redirected(next) => dname = next,
            Step::Answered(last) => return walk.join(last),
            Step::Left => break,
        }
    }
    walk.end(dname, Rcode::NOERROR)
}

/// What the zones say without signatures.
pub(super) fn step<'a>(
    snapshot: &'a Snapshot,
    peer: &Peer,
    query: &Query,
    walk: &Walk,
    reply: &mut Reply<'_>,
) -> Step<'a> {
    match snapshot.zones.find(walk.name(), query.qtype) {
        Found::Redirected(next) => Step::Redirected(next),
        Found::Static(tail) if is_in_reach(tail.len(), reply) => {
            let counts = tail.write(walk.place, reply);
            Step::Answered(Answered::untailored(tail, counts))
        }
        Found::Steered { steered, offer, chain, empty } if is_in_reach(empty.len(), reply) => {
            let asked = steered::Asked { snapshot, peer, query, name: walk.place, steered, offer };
            Step::Answered(asked.answer(chain, empty, reply))
        }
        Found::Outside | Found::Static(_) | Found::Steered { .. } => Step::Left,
    }
}

/// Whether pointers reach all of `len` octets more.
pub(super) fn is_in_reach(len: usize, reply: &Reply<'_>) -> bool {
    reply.position() + len <= POINTED_MAX
}

/// The name that is asked for at last, and what was written on the way to it.
pub(super) struct Walk {
    /// In lower case.
    octets: [u8; NAME_LEN_MAX],
    /// Where it stands in the reply.
    pub(super) place: NamePlace,
    answers: u16,
}

/// The name would be too long.
struct TooLong;

impl Walk {
    fn start(query: &Query) -> Self {
        let qname = query.qname();
        let mut octets = [0; NAME_LEN_MAX];
        octets[..qname.len()].copy_from_slice(qname);
        Self { octets, place: NamePlace::question(qname.len()), answers: 0 }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.octets[..self.place.len]
    }

    /// Writes `dname`, which is above the name, and the CNAME made from it, and takes the name in that.
    fn follow(&mut self, dname: Dname<'_>, reply: &mut Reply<'_>) -> Result<(), TooLong> {
        let [dnames, ..] = dname.tail.write(self.place, reply);
        self.answers += dnames;
        let kept_len = self.place.len - dname.owner_len;
        let target = dname.target;
        let name_len = kept_len + target.len();
        if name_len > NAME_LEN_MAX {
            return Err(TooLong);
        }
        reply.push(&self.place.pointer().to_be_bytes());
        reply.push(&Rtype::CNAME.0.to_be_bytes());
        reply.push(&[0, 1]);
        reply.push(&dname.ttl.to_be_bytes());
        reply.push(&(name_len as u16).to_be_bytes());
        self.place = NamePlace { at: reply.position(), len: name_len };
        self.octets[kept_len..name_len].copy_from_slice(target);
        reply.push(self.name());
        self.octets[kept_len..name_len].make_ascii_lowercase();
        self.answers += 1;
        Ok(())
    }

    /// The answer for the last name, behind what was written on the way.
    fn join(&self, last: Answered) -> Answered {
        let [answers, authorities, additionals] = last.counts;
        Answered { is_authoritative: true, counts: [self.answers + answers, authorities, additionals], ..last }
    }

    /// The answer that ends with what was written on the way, `last` the last of it.
    fn end(&self, last: Dname<'_>, rcode: Rcode) -> Answered {
        self.join(Answered { account: Account::of(last.tail.start()), ..Answered::without_records(rcode) })
    }
}

/// More than anybody needs; with the longest names they take less than 7 KiB, so that pointers reach all of it.
const DNAMES_MAX: usize = 8;
