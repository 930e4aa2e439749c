//! The health of everything at one moment, as answers need it: immutable, published whole.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::name::ProxyName;
use crate::topology::{MemberId, RegionId, ServiceId, Topology};

/// What every region may do for every service at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The topology that ids refer to.
    pub topology: Arc<Topology>,
    /// A standing sheet for each service, at its [`ServiceId`].
    pub services: Vec<ServiceView>,
    /// Who holds the VIPs of each region, at its [`RegionId`].
    pub vips: Vec<Vec<VipStanding>>,
    /// Since when all regions are unreachable at once, which is taken for this node's own fault: verdicts are frozen.
    pub doubts_itself_since: Option<Moment>,
}

impl View {
    /// The standings of `service`.
    pub fn service(&self, service: ServiceId) -> &ServiceView {
        &self.services[service.0 as usize]
    }

    /// Who holds the VIPs of `region`: its own, and those that services have in it.
    pub fn vips(&self, region: RegionId) -> &[VipStanding] {
        self.vips.get(usize::from(region.0)).map_or(&[], Vec::as_slice)
    }
}

/// Who holds one VIP of a region.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VipStanding {
    /// The VIP.
    pub vip: IpAddr,
    /// Whether proxies hold it in turn (VRRP, RFC 9568): then only the first of `holders` counts. Otherwise each of them does,
    /// as behind an L4 tier.
    pub is_in_turn: bool,
    /// The healthy proxies that say that they hold it.
    pub holders: Vec<ProxyName>,
    /// When who holds it took it, by its own word, in seconds since 1970.
    pub last_takeover: Option<u64>,
    /// When another held it than before, as seen here; `None`: never since the start.
    pub changed_hands: Option<Moment>,
    /// Alarm: two hold it in turn at the same time.
    pub two_actives: Option<TwoActives>,
}

impl VipStanding {
    /// Nobody has said anything of `vip`.
    pub fn unknown(vip: IpAddr) -> Self {
        Self {
            vip,
            is_in_turn: false,
            holders: Vec::new(),
            last_takeover: None,
            changed_hands: None,
            two_actives: None,
        }
    }

    /// The one that counts, where proxies hold it in turn.
    pub fn holder(&self) -> Option<&ProxyName> {
        self.holders.first().filter(|_| self.is_in_turn)
    }
}

/// Two hold a VIP at the same time, though they should in turn: clients reach the one or the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TwoActives {
    /// Since when that is known.
    pub since: Moment,
    /// Those that say that they hold it; empty where only one of them is a proxy of the region.
    pub holders: Vec<ProxyName>,
    /// Those that hear another one.
    pub hearers: Vec<ProxyName>,
}

impl std::fmt::Display for TwoActives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |names: &[ProxyName]| names.iter().map(ProxyName::as_str).collect::<Vec<_>>().join(" and ");
        match (self.holders.as_slice(), self.hearers.as_slice()) {
            (holders, []) => write!(f, "{} hold it at the same time", names(holders)),
            ([], hearers) => write!(f, "{} hears another that holds it too", names(hearers)),
            (holders, hearers) => {
                write!(f, "{} hold it at the same time; {} hears another", names(holders), names(hearers))
            }
        }
    }
}

/// What the regions of one service may do.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// One for each member, at its [`MemberId`].
    pub standings: Vec<Standing>,
}

impl ServiceView {
    /// The standing of `member`.
    pub fn standing(&self, member: MemberId) -> &Standing {
        &self.standings[usize::from(member.0)]
    }

    /// Whether some member does not fully serve, so that answers carry `ttl_degraded`.
    pub fn is_degraded(&self) -> bool {
        self.standings.iter().any(|standing| standing.verdict != Verdict::Serving)
    }
}

/// What one region may do for one service, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What it may do.
    pub verdict: Verdict,
    /// Share of its own clients that it takes.
    pub share: Share,
    /// Whether an operator or its own proxies took it out; as last resort it comes after others in the same health.
    pub is_taken_out: bool,
    /// Why, in one line.
    pub reason: Arc<str>,
    /// When the verdict was reached.
    pub since: Moment,
}

impl Default for Standing {
    /// Nothing is known: it may not serve.
    fn default() -> Self {
        Self {
            verdict: Verdict::Down,
            share: Share::NONE,
            is_taken_out: false,
            reason: "not probed yet".into(),
            since: Moment::START,
        }
    }
}

/// What a region may do for a service.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Takes all its clients.
    Serving,
    /// Back after a fall: takes a growing share of its clients.
    Ramping,
    /// Healthy but taken out by an operator: takes no new clients.
    Draining,
    /// Healthy again, but not yet trusted.
    Recovering,
    /// Unfit to serve.
    Down,
}

impl Verdict {
    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Ramping => "ramping",
            Self::Draining => "draining",
            Self::Recovering => "recovering",
            Self::Down => "down",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A share of clients: 0 to 100 percent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Share(u8);

/// A share above 100 percent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{percent} is not a share: expected 0 to 100 percent")]
pub struct ShareTooLarge {
    percent: u8,
}

impl Share {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(100);

    /// `percent`, at most 100.
    pub fn from_percent(percent: u8) -> Self {
        Self(percent.min(100))
    }

    /// 0 to 100.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// Whether the client with this `hash` belongs to the share. Who belongs to a share belongs to every larger one.
    pub fn admits(self, hash: u64) -> bool {
        // The top 32 bits as a fraction of 100, so that 0 admits nobody and 100 everybody.
        (hash >> 32) * 100 < u64::from(self.0) << 32
    }
}

impl TryFrom<u8> for Share {
    type Error = ShareTooLarge;

    fn try_from(percent: u8) -> Result<Self, ShareTooLarge> {
        if percent <= Self::ALL.0 { Ok(Self(percent)) } else { Err(ShareTooLarge { percent }) }
    }
}

impl From<Share> for u8 {
    fn from(share: Share) -> Self {
        share.0
    }
}
