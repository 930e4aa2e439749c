//! Which regions answer a client, and by what they were chosen, in a few words.

use std::net::IpAddr;

use ipnet::IpNet;
use shared::failover::{Because, ExplainedRegion, Explanation, Outcome, rank};
use shared::place::{ClientBlock, Place};
use shared::topology::{MemberId, Policy, Steering, Topology};

/// Who answers.
pub(super) struct Choice {
    /// The regions, best first.
    pub(super) regions: Vec<String>,
    /// By what.
    pub(super) by: String,
}

impl Choice {
    /// Puts the decision of `explanation`, made for `place` and `address`, into words.
    pub(super) fn new(
        topology: &Topology,
        steering: &Steering,
        explanation: &Explanation,
        place: &Place,
        address: IpAddr,
    ) -> Self {
        let members = explanation.decision.members;
        let chosen = |region: &&ExplainedRegion| members.contains(region.member);
        let regions = explanation.regions.iter().filter(chosen).map(|region| region.region.to_string()).collect();
        let first = explanation.regions.iter().find(|region| Some(region.member) == explanation.decision.first);
        let by = match first {
            None => "no region is fit to serve this client, and there is no last resort".to_owned(),
            Some(_) if explanation.decision.is_last_resort => {
                "last resort, for no region is fit to serve this client".to_owned()
            }
            Some(first) => by(steering, first, &rivals(topology, steering, explanation, place, address), address),
        };
        Self { regions, by }
    }
}

/// The region chosen and those that it was chosen among: fit, of the same group, and taking this client.
fn rivals<'a>(
    topology: &Topology,
    steering: &Steering,
    explanation: &'a Explanation,
    place: &Place,
    address: IpAddr,
) -> Vec<&'a ExplainedRegion> {
    let ranking = rank(topology, steering, place, address);
    let group = |member: MemberId| ranking.entries.iter().find(|ranked| ranked.member == member)?.group;
    let first_group = explanation.decision.first.and_then(group);
    let is_in_contest = |region: &&ExplainedRegion| {
        matches!(region.outcome, Outcome::Chosen | Outcome::Standby) && group(region.member) == first_group
    };
    explanation.regions.iter().filter(is_in_contest).collect()
}

fn by(steering: &Steering, first: &ExplainedRegion, rivals: &[&ExplainedRegion], address: IpAddr) -> String {
    let is_nearer = |rival: &&&ExplainedRegion| rival.distance_km < first.distance_km && rival.distance_km.is_some();
    match (steering.policy, first.because) {
        (Policy::All, _) => "every region that takes this client answers".to_owned(),
        (Policy::Weighted, _) if rivals.len() > 1 => {
            let weights: Vec<String> = rivals
                .iter()
                .map(|rival| format!("{} {}", rival.region, steering.member(rival.member).weight))
                .collect();
            format!("by hash of the client's block {}, weights {}", block(address), weights.join(", "))
        }
        (_, Because::Preferred) => "first of those preferred for this client that takes it".to_owned(),
        (_, _) if rivals.len() == 1 => "no other region of its tier takes this client".to_owned(),
        (Policy::Nearest, _) if first.distance_km.is_none() => {
            "heaviest, then first by name, for distances are not known".to_owned()
        }
        (Policy::Nearest, _) if rivals.iter().any(|rival| is_nearer(&rival)) => {
            "nearest that takes this client, with bias_km counted in".to_owned()
        }
        (Policy::Nearest, _) => "nearest that takes this client".to_owned(),
        (Policy::Ordered | Policy::Weighted, _) => "first in the settings that takes this client".to_owned(),
    }
}

/// The network whose addresses all count as one client.
fn block(address: IpAddr) -> String {
    let len = if address.is_ipv4() { ClientBlock::V4_LEN } else { ClientBlock::V6_LEN };
    IpNet::new(address, len).map_or_else(|_| address.to_string(), |network| network.trunc().to_string())
}
