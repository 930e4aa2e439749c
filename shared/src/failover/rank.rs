//! Who comes first for a client's place, whatever anybody's health.

use std::net::IpAddr;

use serde::Serialize;

use crate::place::Place;
use crate::topology::{Clients, Fence, FenceStrength, MemberId, Policy, Region, Rule, Steering, Topology};

/// All members of a steering for one place, best first; those outside a hard fence last.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// One entry a member.
    pub entries: Vec<Ranked>,
}

/// Where one member stands for one place, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The member.
    pub member: MemberId,
    /// Members of the same group compete by the policy; a lower group comes first. `None`: outside a hard fence.
    pub group: Option<u8>,
    /// Kilometres from the client, without the bias; `None`: one of the two places is not known.
    pub distance_km: Option<u32>,
    /// What put it into its group.
    pub because: Because,
}

/// What put a member into its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// A `prefer` rule.
    Preferred,
    /// Its tier.
    Tier,
    /// A soft fence: only after everybody within.
    BeyondSoftFence,
    /// A hard fence: never.
    OutsideFence,
}

/// What of a [`Ranking`] decides: equal for two places when each of their clients gets the same answer, always.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Order(Box<[Placed]>);

/// One member in an [`Order`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Placed {
    /// The member.
    pub member: MemberId,
    /// Its group; groups never decrease along an order.
    pub group: u8,
}

impl Ranking {
    /// The members that may ever serve this place, best first; never empty.
    pub fn order(&self) -> Order {
        let placed = |ranked: &Ranked| Some(Placed { member: ranked.member, group: ranked.group? });
        Order(self.entries.iter().filter_map(placed).collect())
    }
}

impl Order {
    /// The members, best first.
    pub fn members(&self) -> &[Placed] {
        &self.0
    }
}

/// Ranks the members of `steering` for clients at `place` whose address is `address`.
///
/// ```text
/// hard fence   groups
/// none         preferred, tier 0, tier 1, …
/// hard         the same within the fence; the others get no group
/// soft         the same within the fence, then the same beyond it
/// ```
/// Inside a tier: `nearest` by distance less bias, then weight, then region name; `weighted` and `all` the heavier
/// first (the hash of the client's block, and everybody, decide later); `ordered` as written. Preferred members stay as the rule has them.
/// All addresses for which no network in a rule of the steering tells them apart are ranked alike at one place.
pub fn rank(topology: &Topology, steering: &Steering, place: &Place, address: IpAddr) -> Ranking {
    let preferred = steering.prefer.iter().find(|rule| rule.clients.hold(place, address));
    let fence = steering.keep_within.iter().find(|fence| fence.rule.clients.hold(place, address));
    let mut entries: Vec<(SortKey<'_>, Ranked)> =
        steering.member_ids().map(|member| place_member(topology, steering, place, preferred, fence, member)).collect();
    entries.sort_unstable_by_key(|(a, _)| *a);
    Ranking { entries: number_groups(entries) }
}

/// Fence side (0 within, 1 beyond, 2 never), stage (0 preferred, else tier + 1), then what orders inside a stage:
/// biased distance or position, heavier first, region name.
type SortKey<'a> = ((u8, u16), i64, std::cmp::Reverse<u32>, &'a str);

fn place_member<'a>(
    topology: &'a Topology,
    steering: &Steering,
    place: &Place,
    preferred: Option<&Rule>,
    fence: Option<&Fence>,
    id: MemberId,
) -> (SortKey<'a>, Ranked) {
    let member = steering.member(id);
    let region = topology.region(member.region);
    let distance_km = place.coordinates.zip(region.coordinates).map(|(client, region)| client.distance_km(region));
    let wish = preferred.and_then(|rule| rule.regions.iter().position(|&wanted| wanted == id));
    let side = fence.map_or(0, |fence| fence.side(id));
    let (stage, place_in_stage) = match wish {
        Some(at) => (0, at as i64),
        None => (u16::from(member.tier) + 1, place_in_tier(steering.policy, region, distance_km, id)),
    };
    let because = match (side, wish) {
        (2, _) => Because::OutsideFence,
        (1, _) => Because::BeyondSoftFence,
        (_, Some(_)) => Because::Preferred,
        (_, None) => Because::Tier,
    };
    let key = ((side, stage), place_in_stage, std::cmp::Reverse(member.weight), region.name.as_str());
    (key, Ranked { member: id, group: None, distance_km, because })
}

fn place_in_tier(policy: Policy, region: &Region, distance_km: Option<u32>, id: MemberId) -> i64 {
    match policy {
        // An unknown distance is farther than any known one.
        Policy::Nearest => distance_km.map_or(i64::MAX, |km| i64::from(km) - i64::from(region.bias_km)),
        Policy::Weighted | Policy::All => 0,
        // The settings list the regions of a tier in their order, so the id is the position.
        Policy::Ordered => i64::from(id.0),
    }
}

fn number_groups(entries: Vec<(SortKey<'_>, Ranked)>) -> Vec<Ranked> {
    let mut group = 0;
    let mut last_stage = None;
    let number = |((stage, ..), mut ranked): (SortKey<'_>, Ranked)| {
        if last_stage.is_some_and(|last| last != stage) {
            group += 1;
        }
        last_stage = Some(stage);
        ranked.group = (ranked.because != Because::OutsideFence).then_some(group);
        ranked
    };
    entries.into_iter().map(number).collect()
}

impl Fence {
    /// 0 within, 1 beyond a soft fence, 2 outside a hard one.
    fn side(&self, member: MemberId) -> u8 {
        match (self.rule.regions.contains(&member), self.strength) {
            (true, _) => 0,
            (false, FenceStrength::Soft) => 1,
            (false, FenceStrength::Hard) => 2,
        }
    }
}

impl Clients {
    /// Whether a client at `place` with `address` is one of them.
    pub fn hold(&self, place: &Place, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
            || place.asn.is_some_and(|asn| self.asns.contains(&asn))
            || place.country.is_some_and(|country| self.countries.contains(&country))
            || place.continent.is_some_and(|continent| self.continents.contains(&continent))
    }
}
