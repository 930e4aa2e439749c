//! Who of an order serves a client now.

use crate::place::ClientBlock;
use crate::snapshot::{ServiceView, Share, Verdict};
use crate::topology::{LastResort, MemberId, MemberSet, Policy, Service, ServiceId, Topology};

use super::rank::{Order, Placed};

/// Who answers one client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The member whose VIPs are answered; with [`Policy::All`] the best of [`Decision::members`]. `None`: the answer is empty.
    pub first: Option<MemberId>,
    /// All members whose VIPs are answered: one, or more with [`Policy::All`].
    pub members: MemberSet,
    /// Whether clients of the same order are split by block, so that the answer holds for the client's block only.
    pub is_split: bool,
    /// Whether nobody was admitted and the last resort answers.
    pub is_last_resort: bool,
}

/// Decides who serves the clients of `block` whose order is `order`.
///
/// Groups are tried in turn; in each, those whose verdict and share admit the client compete by the policy. The same
/// input gives the same decision on every node. Costs no allocation.
///
/// ```text
/// nobody admitted, last resort   who answers, never anybody outside the order
/// any                            who ramps: a share is for sharing with somebody, and there is nobody
/// else, all                      the best of: recovering; else draining; else down; else forced down
/// else, regions                  the same among those named, but of those forced down only when all are
/// else, none                     nobody
/// ```
pub fn decide(
    topology: &Topology,
    service: ServiceId,
    view: &ServiceView,
    order: &Order,
    block: ClientBlock,
) -> Decision {
    let service = topology.service(service);
    let ask = Ask { topology, service, policy: topology.steering(service).policy, order, block };
    let mut is_split = false;
    let admitted = ask.best(|member| {
        let share = view.standing(member).share;
        let is_partial = share != Share::NONE && share != Share::ALL;
        is_split |= is_partial;
        // Only a part needs the hash.
        if is_partial { share.admits(ask.hash(member)) } else { share == Share::ALL }
    });
    if let Some(pick) = admitted {
        return Decision { is_split: is_split || pick.is_split, ..pick };
    }
    let ramping = || ask.best(|member| view.standing(member).share != Share::NONE);
    let rescued = ramping().or_else(|| match &service.last_resort {
        LastResort::None => None,
        LastResort::All => RESCUE.iter().find_map(|classes| ask.rescue(view, classes, |_| true)),
        LastResort::Regions(named) => RESCUE
            .iter()
            .find_map(|classes| ask.rescue_named(view, classes, named).or_else(|| ask.rescue(view, classes, |_| true))),
    });
    let nobody = Decision { first: None, members: MemberSet::EMPTY, is_split: false, is_last_resort: true };
    let pick = rescued.unwrap_or(nobody);
    Decision { is_split: is_split || pick.is_split, is_last_resort: true, ..pick }
}

struct Ask<'a> {
    topology: &'a Topology,
    service: &'a Service,
    policy: Policy,
    order: &'a Order,
    block: ClientBlock,
}

impl Ask<'_> {
    /// The winners of the first group that has somebody whom `admits` lets in.
    fn best(&self, mut admits: impl FnMut(MemberId) -> bool) -> Option<Decision> {
        self.order.members().chunk_by(|a, b| a.group == b.group).find_map(|group| match self.policy {
            Policy::Nearest | Policy::Ordered => {
                group.iter().map(|placed| placed.member).find(|&member| admits(member)).map(alone)
            }
            Policy::All => {
                let members: MemberSet =
                    group.iter().map(|placed| placed.member).filter(|&member| admits(member)).collect();
                let first = group.iter().map(|placed| placed.member).find(|&member| members.contains(member))?;
                Some(Decision { members, ..alone(first) })
            }
            Policy::Weighted => self.heaviest(group, admits_set(group, &mut admits)),
        })
    }

    /// The winner of the rendezvous among `candidates`: each member wins as many blocks as its weight says, and loses
    /// none to another when a third comes or goes.
    fn heaviest(&self, group: &[Placed], candidates: MemberSet) -> Option<Decision> {
        let weight = |member| u128::from(self.topology.steering(self.service).member(member).weight);
        let mut contest = group.iter().map(|placed| placed.member).filter(|&member| candidates.contains(member));
        // Mixed once more, for who wins must not depend on who is in a share.
        let cost_of = |member| neg_log2(mix(self.hash(member)));
        let mut best = contest.next()?;
        let mut best_cost = cost_of(best);
        for member in contest {
            let cost = cost_of(member);
            // cost / weight is smaller, without the division; a weight of 0 never wins.
            if cost * weight(best) < best_cost * weight(member) {
                (best, best_cost) = (member, cost);
            }
        }
        let is_split = candidates.iter().filter(|&member| weight(member) > 0).count() > 1;
        Some(Decision { is_split, ..alone(best) })
    }

    /// Who of `classes`, the first first, answers when nobody is admitted.
    fn rescue(&self, view: &ServiceView, classes: &[Rescue], is_wanted: impl Fn(MemberId) -> bool) -> Option<Decision> {
        classes.iter().find_map(|&class| self.best(|member| is_wanted(member) && rescue_class(view, member) == class))
    }

    /// The same among `named`, in their order.
    fn rescue_named(&self, view: &ServiceView, classes: &[Rescue], named: &[MemberId]) -> Option<Decision> {
        if self.policy == Policy::All {
            return self.rescue(view, classes, |member| named.contains(&member));
        }
        let is_allowed = |member: MemberId| self.order.members().iter().any(|placed| placed.member == member);
        let of_class =
            |class| named.iter().copied().find(|&member| is_allowed(member) && rescue_class(view, member) == class);
        classes.iter().find_map(|&class| of_class(class)).map(alone)
    }

    fn hash(&self, member: MemberId) -> u64 {
        share_hash(self.topology, self.service, member, self.block)
    }
}

/// What [`crate::snapshot::Share::admits`] decides by: the same for one block, service and region on every node.
pub(super) fn share_hash(topology: &Topology, service: &Service, member: MemberId, block: ClientBlock) -> u64 {
    let region = topology.member_name(service, member);
    mix(stable_hash(service.name.as_str()) ^ mix(stable_hash(region.as_str()) ^ mix(block.as_u64())))
}

fn alone(member: MemberId) -> Decision {
    Decision { first: Some(member), members: MemberSet::only(member), is_split: false, is_last_resort: false }
}

fn admits_set(group: &[Placed], admits: &mut impl FnMut(MemberId) -> bool) -> MemberSet {
    group.iter().map(|placed| placed.member).filter(|&member| admits(member)).collect()
}

/// Order in which regions are called as last resort: a region that is drained still serves who comes, one that is down
/// does not; one that an operator calls down is called only when nothing else is left.
const RESCUE: [&[Rescue]; 2] = [&[Rescue::Healthy, Rescue::Drained, Rescue::Down], &[Rescue::ForcedDown]];

#[derive(Clone, Copy, Eq, PartialEq)]
enum Rescue {
    Healthy,
    Drained,
    Down,
    ForcedDown,
}

fn rescue_class(view: &ServiceView, member: MemberId) -> Rescue {
    let standing = view.standing(member);
    match (standing.verdict, standing.is_taken_out) {
        (Verdict::Down, true) => Rescue::ForcedDown,
        (Verdict::Down, false) => Rescue::Down,
        (_, true) => Rescue::Drained,
        (_, false) => Rescue::Healthy,
    }
}

/// FNV-1a: short, and the same on every node and in every version.
fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads every bit of `value` over all bits (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// −log2 of `hash` as a fraction of 2^64, times 2^24: in integers, so that nodes agree to the last bit.
fn neg_log2(hash: u64) -> u128 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    let mut mantissa = u128::from(hash << zeros);
    let mut fraction = 0_u128;
    for _ in 0..LOG_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    ((u128::from(zeros) + 1) << LOG_BITS) - fraction
}

const LOG_BITS: u32 = 24;
