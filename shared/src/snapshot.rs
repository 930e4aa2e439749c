//! The health of everything at one moment, as answers need it: immutable, published whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::topology::{MemberId, ServiceId, Topology};

/// What every region may do for every service at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The topology that ids refer to.
    pub topology: Arc<Topology>,
    /// A standing sheet for each service, at its [`ServiceId`].
    pub services: Vec<ServiceView>,
    /// Since when all regions are unreachable at once, which is taken for this node's own fault: verdicts are frozen.
    pub doubts_itself_since: Option<Moment>,
}

impl View {
    /// The standings of `service`.
    pub fn service(&self, service: ServiceId) -> &ServiceView {
        &self.services[service.0 as usize]
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
