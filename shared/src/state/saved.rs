//! What survives a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::name::{OwnerName, RegionName};
use crate::snapshot::{Share, Verdict};

use super::event::{Action, Override};

/// Verdicts and overrides of a process, for the next one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Saved {
    /// One for each region of each service that had been probed.
    pub verdicts: Vec<SavedVerdict>,
    /// The overrides in force.
    pub overrides: Vec<SavedOverride>,
}

/// The verdict on one region for one service.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedVerdict {
    /// The service.
    pub service: OwnerName,
    /// The region.
    pub region: RegionName,
    /// The verdict, without overrides.
    pub verdict: Verdict,
    /// While ramping: the share.
    pub share: Share,
    /// While ramping or recovering: milliseconds to the next change; `None`: an operator's word is needed.
    pub remaining_ms: Option<u64>,
    /// Why.
    pub reason: String,
    /// The flap penalty.
    pub penalty: u32,
}

/// An override in force.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedOverride {
    /// The region.
    pub region: RegionName,
    /// Only this service; `None`: all.
    pub service: Option<OwnerName>,
    /// What was decided.
    pub action: Action,
    /// Who decided.
    pub who: String,
    /// Why.
    pub why: String,
    /// Milliseconds until it ends.
    pub remaining_ms: u64,
}

impl SavedOverride {
    pub(super) fn of(order: &Override, now: Moment) -> Self {
        Self {
            region: order.region.clone(),
            service: order.service.clone(),
            action: order.action,
            who: order.who.clone(),
            why: order.why.clone(),
            remaining_ms: order.expires.since(now).as_millis() as u64,
        }
    }

    /// `None` when it has ended in the `elapsed` time, or was none to be kept.
    pub(super) fn restored(self, elapsed: Duration, now: Moment) -> Option<Override> {
        if self.action == Action::Resume {
            return None;
        }
        let remaining = Duration::from_millis(self.remaining_ms).checked_sub(elapsed)?;
        Some(Override {
            region: self.region,
            service: self.service,
            action: self.action,
            who: self.who,
            why: self.why,
            expires: now + remaining,
        })
    }
}
