//! The topology: regions, services and the settings of the DR rules, checked.
//!
//! Built by [`crate::config`] from TOML; immutable. Ids are positions in it and mean nothing across a reload, names do.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::name::{OwnerName, ProxyName, RegionName};
use crate::place::{Continent, Coordinates, Country};

/// Most regions that one service may have: a set of them fits a [`MemberSet`].
pub const MEMBERS_MAX: usize = 64;

/// Regions and services, checked against each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Sorted by name; a [`RegionId`] is a position in it.
    pub regions: Vec<Region>,
    /// Sorted by name; a [`ServiceId`] is a position in it.
    pub services: Vec<Service>,
    /// The distinct ways in which services order their regions; a [`SteeringId`] is a position in it.
    pub steerings: Vec<Steering>,
    /// How proxies are asked for their status.
    pub probe: ProbeSettings,
}

/// Position of a region in [`Topology::regions`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegionId(pub u16);

/// Position of a service in [`Topology::services`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceId(pub u32);

/// Position of a steering in [`Topology::steerings`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SteeringId(pub u32);

/// Position of a region among the members of one steering (and so of its services); below [`MEMBERS_MAX`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(pub u8);

/// A set of members of one service, a bit each.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MemberSet(u64);

/// One data centre.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// Where it is; `None` puts it behind every region whose distance is known.
    pub coordinates: Option<Coordinates>,
    /// Kilometres taken off its distance to every client (negative: added).
    pub bias_km: i32,
    /// The addresses that its clients connect to; never empty. A service may have its own.
    pub vips: Vec<IpAddr>,
    /// Fewer healthy proxies than this, and the region may not serve; at least 1.
    pub min_proxies: u32,
    /// Its proxies, never empty, sorted by name.
    pub proxies: Vec<Proxy>,
}

/// One `region-proxy` of a region.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// Its name.
    pub name: ProxyName,
    /// Where its status is asked: an `http` or `https` URL.
    pub status_url: String,
}

/// How proxies are asked for their status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeSettings {
    /// Time from one probe of a proxy to the next.
    pub interval: Duration,
    /// The same while a streak of successes or failures is being decided.
    pub deciding_interval: Duration,
    /// A probe that takes longer has failed.
    pub time_limit: Duration,
    /// Successes in a row that make a proxy healthy; at least 1.
    pub rise: u32,
    /// Failures, not broken by `rise` successes, that make it unhealthy; at least 1.
    pub fall: u32,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            deciding_interval: Duration::from_millis(200),
            time_limit: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        }
    }
}

/// A steered owner name and how its regions stand in for each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The owner name.
    pub name: OwnerName,
    /// How its regions are ordered for a client.
    pub steering: SteeringId,
    /// The VIPs of each member, at the member's position; every member has the same address families, and none has any
    /// where there is a `cname`.
    pub vips: Vec<Vec<IpAddr>>,
    /// The TXT records of each member, at the member's position; empty: those of the zone stay.
    pub txt: Vec<Vec<String>>,
    /// Where each member's clients are sent in place of addresses, at the member's position; empty: there are addresses.
    pub cname: Vec<OwnerName>,
    /// Fewer origin servers up than this, and a region may not serve it; 0 asks for none.
    pub min_servers: u32,
    /// Who answers when no region may.
    pub last_resort: LastResort,
    /// TTL of its answers, in seconds, while every member serves.
    pub ttl: u32,
    /// TTL while some member does not; at most `ttl`.
    pub ttl_degraded: u32,
    /// How a region comes back.
    pub failback: Failback,
    /// The answer to HTTPS queries (RFC 9460); `None`: none is given.
    pub https: Option<HttpsSettings>,
}

/// What a service puts at its owner name beside addresses, whatever it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceOutline {
    /// The owner name.
    pub name: OwnerName,
    /// Whether it has TXT records.
    pub has_txt: bool,
    /// Whether it has CNAMEs, and so nothing else.
    pub has_cname: bool,
}

/// What an HTTPS record of a service says beside the address hints.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpsSettings {
    /// Protocol ids in the order of preference, such as `h2`; empty: the parameter is left out.
    pub alpn: Vec<String>,
    /// The port, when it is not 443.
    pub port: Option<u16>,
}

/// Everything that orders the regions of a service for a client. Services that are steered alike share one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Steering {
    /// The order inside a tier.
    pub policy: Policy,
    /// The regions, in the order of the settings; 1 to [`MEMBERS_MAX`].
    pub members: Vec<Member>,
    /// Regions that come first for some clients; the first rule that matches counts.
    pub prefer: Vec<Rule>,
    /// Regions that some clients must not leave; the first rule that matches counts.
    pub keep_within: Vec<Fence>,
}

/// One region of a service.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The region.
    pub region: RegionId,
    /// Its tier, from 0; a later tier is used when no region of the one before may serve.
    pub tier: u8,
    /// Its share under [`Policy::Weighted`], and who comes first at equal distance; 0 to 1000.
    pub weight: u32,
}

/// How regions of the same tier are ordered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Policy {
    /// The nearest first.
    Nearest,
    /// By a hash of the client's block, so that each gets its share by weight.
    Weighted,
    /// As written.
    Ordered,
    /// All of them in one answer.
    All,
}

impl Policy {
    /// The word in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Weighted => "weighted",
            Self::Ordered => "ordered",
            Self::All => "all",
        }
    }
}

/// Regions for the clients that it matches.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Rule {
    /// Whom it is for.
    pub clients: Clients,
    /// The regions, in the order of preference; never empty.
    pub regions: Vec<MemberId>,
}

/// A rule whose clients stay within its regions.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fence {
    /// Who stays within which regions.
    pub rule: Rule,
    /// Whether failover may cross it.
    pub strength: FenceStrength,
}

/// Whether failover may cross a fence.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FenceStrength {
    /// Never.
    Hard,
    /// When no region within may serve.
    Soft,
}

/// Clients by where they are; one match of any kind is enough.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Clients {
    /// Networks.
    pub networks: Vec<IpNet>,
    /// Autonomous systems.
    pub asns: Vec<u32>,
    /// Countries.
    pub countries: Vec<Country>,
    /// Continents.
    pub continents: Vec<Continent>,
}

/// Who answers when no region may serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LastResort {
    /// The best of all regions: some answer beats none.
    All,
    /// Nobody, but for who ramps: else the answer is empty.
    None,
    /// These, the first first; others before those that an operator forced down.
    Regions(Vec<MemberId>),
}

/// How a region comes back after a fall.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failback {
    /// By itself or by an operator.
    pub mode: FailbackMode,
    /// Time that a region must stay healthy before it takes clients again.
    pub delay: Duration,
    /// Points of share added at each step of the ramp, 1 to 25; a step lasts one `ttl_degraded`, at least a second.
    pub ramp_step_percent: u8,
    /// How repeated falls delay it.
    pub flap: FlapSettings,
}

/// Who ends the recovery of a region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailbackMode {
    /// The delay.
    Auto,
    /// An operator, by `resume`.
    Manual,
}

/// The penalty for falls: each adds [`FlapSettings::FALL`]; it halves every `half_life`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlapSettings {
    /// Time in which a penalty halves; not zero.
    pub half_life: Duration,
    /// Above this penalty a region stays recovering …
    pub suppress: u32,
    /// … until the penalty is below this; at most `suppress`.
    pub reuse: u32,
}

impl FlapSettings {
    /// What one fall adds.
    pub const FALL: u32 = 1000;
}

impl Topology {
    /// Ids of all regions, in the order of their names.
    pub fn region_ids(&self) -> impl Iterator<Item = RegionId> + use<> {
        (0..self.regions.len() as u16).map(RegionId)
    }

    /// The region at `id`.
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[usize::from(id.0)]
    }

    /// The service at `id`.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0 as usize]
    }

    /// The steering of `service`.
    pub fn steering(&self, service: &Service) -> &Steering {
        &self.steerings[service.steering.0 as usize]
    }

    /// The region called `name`.
    pub fn find_region(&self, name: &RegionName) -> Option<RegionId> {
        self.regions.binary_search_by(|region| region.name.cmp(name)).ok().map(|at| RegionId(at as u16))
    }

    /// The service called `name`.
    pub fn find_service(&self, name: &OwnerName) -> Option<ServiceId> {
        self.services.binary_search_by(|service| service.name.cmp(name)).ok().map(|at| ServiceId(at as u32))
    }

    /// The name of the region that is `member` of `service`.
    pub fn member_name(&self, service: &Service, member: MemberId) -> &RegionName {
        &self.region(self.steering(service).member(member).region).name
    }
}

impl Service {
    /// What it puts at its owner name.
    pub fn outline(&self) -> ServiceOutline {
        ServiceOutline { name: self.name.clone(), has_txt: !self.txt.is_empty(), has_cname: !self.cname.is_empty() }
    }

    /// The TXT records of `member`; `None`: the service has none.
    pub fn txt_of(&self, member: MemberId) -> Option<&[String]> {
        self.txt.get(usize::from(member.0)).map(Vec::as_slice)
    }

    /// Where clients of `member` are sent in place of addresses.
    pub fn cname_of(&self, member: MemberId) -> Option<&OwnerName> {
        self.cname.get(usize::from(member.0))
    }

    /// The VIPs of `member`.
    pub fn vips_of(&self, member: MemberId) -> &[IpAddr] {
        &self.vips[usize::from(member.0)]
    }
}

impl Steering {
    /// The member at `id`.
    pub fn member(&self, id: MemberId) -> &Member {
        &self.members[usize::from(id.0)]
    }

    /// Ids of all members, in the order of the settings.
    pub fn member_ids(&self) -> impl DoubleEndedIterator<Item = MemberId> + use<> {
        (0..self.members.len() as u8).map(MemberId)
    }

    /// The member that is `region`.
    pub fn find_member(&self, region: RegionId) -> Option<MemberId> {
        self.member_ids().find(|&id| self.member(id).region == region)
    }
}

impl MemberSet {
    /// No member.
    pub const EMPTY: Self = Self(0);

    /// Only `member`.
    pub fn only(member: MemberId) -> Self {
        Self(1 << member.0)
    }

    /// This set and `member`.
    #[must_use]
    pub fn with(self, member: MemberId) -> Self {
        Self(self.0 | 1 << member.0)
    }

    /// Whether `member` is in it.
    pub fn contains(self, member: MemberId) -> bool {
        self.0 & 1 << member.0 != 0
    }

    /// Whether some member is in both.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it holds nobody.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many it holds.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// A bit for each member, that of the lowest id lowest.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The set that has these bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its members, lowest id first.
    pub fn iter(self) -> impl Iterator<Item = MemberId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let lowest = left.trailing_zeros() as u8;
            // Without its lowest bit; what is 0 stays 0.
            left &= left.wrapping_sub(1);
            (usize::from(lowest) < MEMBERS_MAX).then_some(MemberId(lowest))
        })
    }
}

impl FromIterator<MemberId> for MemberSet {
    fn from_iter<I: IntoIterator<Item = MemberId>>(members: I) -> Self {
        members.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_gives_its_members_lowest_first() {
        for ids in [&[][..], &[0], &[63], &[0, 1, 5, 62, 63]] {
            let members: Vec<MemberId> = ids.iter().copied().map(MemberId).collect();
            let set: MemberSet = members.iter().rev().copied().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), members);
        }
    }
}
