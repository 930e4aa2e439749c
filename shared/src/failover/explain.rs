//! The decision for one client with a reason for each region: what `explain` prints.

use std::net::IpAddr;

use crate::name::RegionName;
use crate::place::{ClientBlock, Place};
use crate::snapshot::{Share, Verdict, View};
use crate::topology::{MemberId, ServiceId};

use super::decide::{Decision, decide, share_hash};
use super::rank::{Because, Ranked, rank};

/// Why a client gets the answer it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Who answers.
    pub decision: Decision,
    /// Every region of the service, best first.
    pub regions: Vec<ExplainedRegion>,
}

/// What became of one region, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedRegion {
    /// The member.
    pub member: MemberId,
    /// Its name.
    pub region: RegionName,
    /// Kilometres from the client; `None`: one of the two places is not known.
    pub distance_km: Option<u32>,
    /// What put it at its place in the order.
    pub because: Because,
    /// What it may do.
    pub verdict: Verdict,
    /// Share of its clients that it takes.
    pub share: Share,
    /// Why it has this verdict.
    pub reason: String,
    /// What the decision made of it.
    pub outcome: Outcome,
}

/// What a decision made of a region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It answers.
    Chosen,
    /// It answers though nobody is admitted.
    LastResort,
    /// It would, but a better one does.
    Standby,
    /// It ramps, and this client is not in its share yet.
    NotInShare,
    /// Its verdict keeps it out.
    Unfit,
    /// A hard fence keeps it out.
    OutsideFence,
}

impl Outcome {
    /// The word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::LastResort => "last-resort",
            Self::Standby => "standby",
            Self::NotInShare => "not-in-share",
            Self::Unfit => "unfit",
            Self::OutsideFence => "outside-fence",
        }
    }
}

/// Explains the decision for a client at `place` with `address`: exactly what a query from there is answered by.
///
/// `address` stands for the client's block too.
pub fn explain(view: &View, service: ServiceId, place: &Place, address: IpAddr) -> Explanation {
    let topology = &*view.topology;
    let steering = topology.steering(topology.service(service));
    let ranking = rank(topology, steering, place, address);
    let decision = decide(topology, service, view.service(service), &ranking.order(), ClientBlock::of(address));
    let explained = |ranked: &Ranked| explain_region(view, service, &decision, ranked, ClientBlock::of(address));
    Explanation { decision, regions: ranking.entries.iter().map(explained).collect() }
}

fn explain_region(
    view: &View,
    id: ServiceId,
    decision: &Decision,
    ranked: &Ranked,
    block: ClientBlock,
) -> ExplainedRegion {
    let (topology, service) = (&*view.topology, view.topology.service(id));
    let standing = view.service(id).standing(ranked.member);
    let is_admitted = standing.share.admits(share_hash(topology, service, ranked.member, block));
    let outcome = match (decision.members.contains(ranked.member), ranked.because) {
        (true, _) if decision.is_last_resort => Outcome::LastResort,
        (true, _) => Outcome::Chosen,
        (false, Because::OutsideFence) => Outcome::OutsideFence,
        (false, _) if is_admitted => Outcome::Standby,
        (false, _) if standing.share == Share::NONE => Outcome::Unfit,
        (false, _) => Outcome::NotInShare,
    };
    ExplainedRegion {
        member: ranked.member,
        region: topology.member_name(service, ranked.member).clone(),
        distance_km: ranked.distance_km,
        because: ranked.because,
        verdict: standing.verdict,
        share: standing.share,
        reason: standing.reason.to_string(),
        outcome,
    }
}
