//! What operators and `gslb-dns` are told of virtual routers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::published::VirtualRouterStatus;

use crate::vrrp::packet::Refusal;

/// One virtual router at one time.
#[derive(Clone, Debug)]
pub struct RouterReport {
    /// What `gslb-dns` is told.
    pub status: VirtualRouterStatus,
    /// What it counted.
    pub figures: Figures,
    /// All that it tracks.
    pub tracked: Vec<TrackedReport>,
}

/// One thing that a virtual router tracks.
#[derive(Clone, Debug)]
pub struct TrackedReport {
    /// Of what kind it is, in one word.
    pub kind: &'static str,
    /// Which one; empty where there is but one of its kind.
    pub name: String,
    /// Whether it is as it should be.
    pub is_well: bool,
}

/// What a virtual router counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements of others for it.
    pub received: u64,
    /// Those from addresses that are not among its peers, or not to the group.
    pub strangers: u64,
    /// By [`Refusal::index`].
    pub refused: [u64; Refusal::NAMES.len()],
    /// How often it took the VIPs.
    pub takeovers: u64,
    /// How often it began to hear another that held them too.
    pub two_actives: u64,
}

/// All virtual routers of a proxy; the thread that runs them writes, without ever waiting for who reads.
#[derive(Debug, Default)]
pub struct Reports {
    routers: ArcSwap<Vec<RouterReport>>,
}

impl Reports {
    /// Replaces what is told.
    pub fn publish(&self, routers: Vec<RouterReport>) {
        self.routers.store(Arc::new(routers));
    }

    /// Whether there are virtual routers.
    pub fn has_any(&self) -> bool {
        !self.routers.load().is_empty()
    }

    /// What is told at this moment.
    pub fn load(&self) -> Arc<Vec<RouterReport>> {
        self.routers.load_full()
    }

    /// What `gslb-dns` is told.
    pub fn statuses(&self) -> Vec<VirtualRouterStatus> {
        self.routers.load().iter().map(|router| router.status.clone()).collect()
    }
}
