//! The signatures of steered RRsets: one set for every answer that a decision can give.

use std::fmt;
use std::sync::OnceLock;

use shared::topology::{MemberId, MemberSet};

use super::super::steered::{Offer, SteeredName};
use super::{Signing, piece};
use crate::wire::Reply;

/// The signatures of one steered name.
///
/// Which members answer, of which type and with which TTL tells them apart. What health can bring about is signed when
/// the zones are built, so that a failover signs nothing; only of the sets that a policy which answers with several
/// members makes of many of them there are too many: each is signed when it is answered first, and kept while there is
/// room.
pub(super) struct Variants {
    owner: Box<[u8]>,
    signing: Signing,
    /// When all is well, and when it is not.
    ttls: [u32; 2],
    /// What is answered while nobody serves, for each type.
    pub(super) empty: [Option<Empty>; Offer::ALL.len()],
    members: usize,
    ahead: Ahead,
    /// Signed when the zones were built, for each type and TTL in turn; `None`: no such records.
    signed: Box<[Option<Box<[u8]>>]>,
    /// Signed since, by what tells them apart.
    later: Box<[OnceLock<Later>]>,
}

/// The pieces of an empty answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Empty {
    pub(super) soa: u32,
    pub(super) denial: u32,
}

/// Which sets of members are signed ahead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ahead {
    /// Those of one member.
    Single,
    /// Every one.
    All,
}

/// What tells the signatures made later apart.
type Key = (MemberSet, Offer, bool);

/// Signatures made later.
type Later = (Key, Box<[u8]>);

impl Variants {
    /// Signs what may be answered for `steered`, whose name is `owner`; `ttls` are those when all is well and when it is
    /// not.
    pub(super) fn new(
        owner: &[u8],
        steered: &SteeredName,
        ttls: [u32; 2],
        empty: [Option<Empty>; Offer::ALL.len()],
        signing: &Signing,
    ) -> Self {
        let members = steered.member_count();
        let is_few = members <= SETS_AHEAD_MAX.ilog2() as usize;
        let ahead = if steered.answers_with_several && is_few { Ahead::All } else { Ahead::Single };
        let is_lazy = steered.answers_with_several && ahead == Ahead::Single;
        let later = (0..if is_lazy { LATER_MAX } else { 0 }).map(|_| OnceLock::new()).collect();
        let (owner, signing) = (owner.into(), signing.clone());
        let mut variants = Self { owner, signing, ttls, empty, members, ahead, signed: Box::new([]), later };
        let everybody: MemberSet = (0..members).map(|member| MemberId(member as u8)).collect();
        let mut signed = Vec::new();
        for offer in Offer::ALL {
            for is_degraded in [false, true] {
                let sign = |set: MemberSet| variants.sign(steered, (set, offer, is_degraded));
                let slots = (0..variants.slots()).map(|slot| match (ahead, slot) {
                    (Ahead::All, bits) => MemberSet::from_bits(bits as u64),
                    (Ahead::Single, 0) if steered.answers_with_several => everybody,
                    (Ahead::Single, 0) => MemberSet::EMPTY,
                    (Ahead::Single, member) => MemberSet::only(MemberId(member as u8 - 1)),
                });
                let is_needed = steered.offers(offer) && !(is_degraded && ttls[0] == ttls[1]);
                signed.extend(slots.map(|set| if is_needed { sign(set) } else { None }));
            }
        }
        variants.signed = signed.into();
        variants
    }

    /// Adds the signatures of the RRset that `members` answer with, owned by the name that the pointer `owner` leads to;
    /// gives how many.
    pub(super) fn write(
        &self,
        steered: &SteeredName,
        (offer, members, ttl): (Offer, MemberSet, u32),
        owner: u16,
        reply: &mut Reply<'_>,
    ) -> u16 {
        let is_degraded = ttl != self.ttls[0];
        let slot = match self.ahead {
            Ahead::All => members.bits() as usize,
            Ahead::Single if members.len() == 1 => members.bits().trailing_zeros() as usize + 1,
            Ahead::Single if members.len() == self.members => 0,
            Ahead::Single => return self.write_later(steered, (members, offer, is_degraded), owner, reply),
        };
        let at = (offer as usize * 2 + usize::from(is_degraded)) * self.slots() + slot;
        let signed = self.signed.get(at).and_then(Option::as_ref);
        signed.map_or(0, |records| piece::write_records(records, owner, reply))
    }

    /// The same for what was not signed ahead.
    #[cold]
    fn write_later(&self, steered: &SteeredName, key: Key, owner: u16, reply: &mut Reply<'_>) -> u16 {
        let (members, offer, is_degraded) = key;
        let hash = members.bits().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        let start = hash as usize * 16 + offer as usize * 2 + usize::from(is_degraded);
        // Without room for any there is none of these either.
        for slot in (0..PROBES).filter_map(|probe| self.later.get((start + probe * STEP) % LATER_MAX)) {
            let Some((known, records)) = slot.get() else {
                let records = self.sign(steered, key).unwrap_or_default();
                let count = piece::write_records(&records, owner, reply);
                // Where another thread signed the same meanwhile, its word stands: nobody waits for anybody.
                let _ = slot.set((key, records));
                return count;
            };
            if *known == key {
                return piece::write_records(records, owner, reply);
            }
        }
        let records = self.sign(steered, key).unwrap_or_default();
        piece::write_records(&records, owner, reply)
    }

    /// Adds the signatures of one RRset, whichever; gives how many.
    pub(super) fn write_any(&self, owner: u16, reply: &mut Reply<'_>) -> u16 {
        let signed = self.signed.iter().flatten().next();
        signed.map_or(0, |records| piece::write_records(records, owner, reply))
    }

    /// The signatures for `key`, as [`piece::push_record`] has them; `None`: there are no such records.
    fn sign(&self, steered: &SteeredName, (members, offer, is_degraded): Key) -> Option<Box<[u8]>> {
        let rdatas = steered.rdatas(offer, members);
        if rdatas.is_empty() || members.is_empty() {
            return None;
        }
        let ttl = self.ttls[usize::from(is_degraded)];
        let rdatas: Vec<&[u8]> = rdatas.iter().map(|rdata| &**rdata).collect();
        let mut out = Vec::new();
        for rrsig in (self.signing.sign)(&self.owner, offer.rtype(), ttl, &rdatas) {
            piece::push_record(&mut out, crate::wire::Rtype::RRSIG, ttl, &rrsig);
        }
        Some(out.into())
    }

    fn slots(&self) -> usize {
        match self.ahead {
            Ahead::All => 1 << self.members,
            Ahead::Single => self.members + 1,
        }
    }
}

impl fmt::Debug for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variants({} ahead)", self.signed.iter().flatten().count())
    }
}

/// Most sets of members that are signed ahead for each type and TTL.
const SETS_AHEAD_MAX: usize = 64;
/// Room for sets signed later, for each name: they change with health and with load, few at a time.
const LATER_MAX: usize = 256;
const PROBES: usize = 4;
const STEP: usize = 61;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use shared::name::OwnerName;
    use shared::topology::{Failback, FailbackMode, FlapSettings, LastResort, Policy, Service, ServiceId, SteeringId};

    use super::*;
    use crate::wire::Query;
    use crate::zone::Denial;

    fn service() -> Service {
        Service {
            name: OwnerName::parse("a.test").expect("a name"),
            steering: SteeringId(0),
            vips: (1..=3).map(|at| vec![[192, 0, 2, at].into()]).collect(),
            min_servers: 0,
            last_resort: LastResort::All,
            ttl: 30,
            ttl_degraded: 5,
            failback: Failback {
                mode: FailbackMode::Auto,
                delay: Duration::from_secs(60),
                ramp_step_percent: 25,
                flap: FlapSettings { half_life: Duration::from_secs(600), suppress: 2500, reuse: 1000 },
            },
            txt: Vec::new(),
            cname: Vec::new(),
            https: None,
        }
    }

    #[test]
    fn members_that_never_answer_together_are_signed_when_they_do() {
        let steered = SteeredName::new(ServiceId(0), &service(), Policy::Nearest);
        let sign = Arc::new(|_: &[u8], _, _, rdatas: &[&[u8]]| vec![rdatas.concat().into()]);
        let signing = Signing { denial: Denial::Nsec, sign, is_transferred: false };
        let variants = Variants::new(b"\x01a\x04test\0", &steered, [30, 5], [None; Offer::ALL.len()], &signing);
        assert!(variants.later.is_empty());
        let packet = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
        let (query, mut out) = (Query::parse(packet).expect("a query"), [0; 512]);
        let mut reply = Reply::new(&query, packet, &mut out, 512, None).expect("room");
        let two = [0, 1].into_iter().map(MemberId).collect();
        assert_eq!(variants.write(&steered, (Offer::A, two, 30), 0xC00C, &mut reply), 1);
        assert!(out.ends_with(&[0; 8]) && out.windows(8).any(|octets| octets == [192, 0, 2, 1, 192, 0, 2, 2]));
    }
}
