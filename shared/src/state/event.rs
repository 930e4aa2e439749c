//! What happens to a [`super::State`], and what follows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::name::{OwnerName, ProxyName, RegionName};
use crate::published::Status;
use crate::settings::show_duration;
use crate::snapshot::{Share, Standing, Verdict};
use crate::topology::{Service, Topology};

use super::saved::Saved;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The settings changed; health and verdicts go on by name.
    Reload(Arc<Topology>),
    /// A proxy was asked for its status.
    Probed {
        /// Its region.
        region: RegionName,
        /// Its name.
        proxy: ProxyName,
        /// What it said, or why that does not count.
        outcome: Result<Status, ProbeFailure>,
    },
    /// An operator decides; replaces an earlier override of the same region and service.
    Override(Override),
    /// An operator takes an override back.
    Clear {
        /// Its region.
        region: RegionName,
        /// Its service; `None`: the override of the whole region.
        service: Option<OwnerName>,
    },
    /// Verdicts of the process before; probes go on from there.
    Restore {
        /// What it saved.
        saved: Saved,
        /// Time since then.
        elapsed: Duration,
    },
    /// Time has passed; due at [`super::State::next_tick`].
    Tick,
}

/// Why a probe of a proxy failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProbeFailure {
    /// No connection, or it broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer within this time.
    #[error("no answer within {}", show_duration(*.0))]
    Late(Duration),
    /// More octets than this.
    #[error("answer longer than {0} octets")]
    TooLarge(usize),
    /// Another HTTP status than 200.
    #[error("HTTP status {0}, expected 200")]
    BadStatus(u16),
    /// Not the JSON of [`Status`].
    #[error("not a status: {0}")]
    NotJson(String),
    /// A proxy of another region answered.
    #[error("answer from region {0}")]
    WrongRegion(RegionName),
    /// Another proxy of the region answered.
    #[error("answer from proxy {0}")]
    WrongProxy(ProxyName),
}

impl ProbeFailure {
    /// Whether nobody answered, so that it may as well be this node's own fault.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Late(_))
    }
}

/// What an operator decides about a region.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The region.
    pub region: RegionName,
    /// Only this service; `None`: all.
    pub service: Option<OwnerName>,
    /// What shall be.
    pub action: Action,
    /// Who decided.
    pub who: String,
    /// Why.
    pub why: String,
    /// When it ends by itself.
    pub expires: Moment,
}

/// What an operator can decide.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Takes no new clients; comes back by a ramp.
    Drain,
    /// Counts as down, whatever its health; comes back as after a fall.
    Down,
    /// Counts as serving, whatever its health.
    Up,
    /// Ends its recovery: it starts to ramp. Happens once and is not kept.
    Resume,
}

impl Action {
    /// The word in commands and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Down => "down",
            Self::Up => "up",
            Self::Resume => "resume",
        }
    }
}

/// Why an operator's event was not done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// No such region.
    #[error("{region} is not a region")]
    UnknownRegion {
        /// The name given.
        region: RegionName,
    },
    /// No such service in that region.
    #[error("{service} is not a service of {region}")]
    UnknownService {
        /// The service given.
        service: OwnerName,
        /// The region given.
        region: RegionName,
    },
    /// It would have ended before it began.
    #[error("the override has expired already")]
    AlreadyExpired,
    /// Nothing there waits for an operator.
    #[error("nothing of {region} is recovering")]
    NothingToResume {
        /// The region given.
        region: RegionName,
    },
    /// There is none to take back.
    #[error("{region} has no such override")]
    NoOverride {
        /// The region given.
        region: RegionName,
    },
}

/// What an event changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Every verdict or share that is another now.
    pub verdicts: Vec<Change>,
    /// Whether the [`crate::snapshot::View`] is another now, if only in a reason.
    pub is_view_changed: bool,
    /// Whether this node began or ended to doubt itself.
    pub doubt: Option<Doubt>,
    /// What became of VIPs that proxies hold in turn.
    pub vips: Vec<VipChange>,
}

/// What became of one VIP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VipChange {
    /// Its region.
    pub region: RegionName,
    /// The VIP.
    pub vip: IpAddr,
    /// What became of it.
    pub news: VipNews,
}

/// What can become of a VIP that proxies hold in turn.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VipNews {
    /// Another proxy holds it than the last that did.
    ChangedHands {
        /// That one; `None`: nobody had been seen to hold it.
        from: Option<ProxyName>,
        /// The one that holds it now.
        to: ProxyName,
    },
    /// Alarm: two hold it at the same time. Told once, however long that lasts.
    TwoActives {
        /// Those that say so; empty where only one of them is a proxy of the region.
        holders: Vec<ProxyName>,
        /// Those that hear another one.
        hearers: Vec<ProxyName>,
    },
    /// The end of that alarm.
    OneActive {
        /// Who holds it, or did last.
        holder: Option<ProxyName>,
        /// When the alarm began.
        since: Moment,
    },
}

/// One verdict that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The service.
    pub service: OwnerName,
    /// The region.
    pub region: RegionName,
    /// What the region might do before.
    pub from: Verdict,
    /// What it may do now; equal to `from` when only the share changed.
    pub to: Verdict,
    /// Share of its clients that it takes now.
    pub share: Share,
    /// Why.
    pub reason: Arc<str>,
    /// Since when it had been `from`.
    pub previous_since: Moment,
}

impl Change {
    pub(super) fn new(service: &Service, region: &RegionName, before: &Standing, after: &Standing) -> Self {
        Self {
            service: service.name.clone(),
            region: region.clone(),
            from: before.verdict,
            to: after.verdict,
            share: after.share,
            reason: Arc::clone(&after.reason),
            previous_since: before.since,
        }
    }
}

/// All regions unreachable at once: this node's own fault until shown otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Doubt {
    /// From now on verdicts are frozen.
    Began,
    /// Some region answers again.
    Ended,
}
